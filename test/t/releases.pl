# What later releases of PostgreSQL have, and what pipelines make of it. Each promise is for the releases that it says.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use SbTest;

my $node = new_node('releases');
my $major = int($node->safe_psql('postgres', 'SHOW server_version_num') / 10000);

sub since
{
	my ($release, $name, $code) = @_;

	return note("$name: from PostgreSQL $release on") if $major < $release;
	return promise($name, $code);
}

make_source($node, 'e');
create_pipeline($node, 'per_minute', tumble('e'));
wait_for($node, 'per_minute');

since 15, 'merge_is_a_writer_like_any_other' => sub {
	$node->safe_psql('postgres', q{INSERT INTO e SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 200) i});
	$node->safe_psql('postgres', q{MERGE INTO e USING (SELECT generate_series(150, 250) AS id) n ON e.id = n.id
		WHEN MATCHED AND n.id % 2 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET k = 9 WHEN NOT MATCHED THEN INSERT VALUES (n.id, '2026-01-01', 7, '')});
	equal_to_batch($node, 'per_minute');
};

since 17, 'merge_that_returns_is_a_writer_like_any_other' => sub {
	is($node->safe_psql('postgres', q{WITH m AS (MERGE INTO e USING (SELECT generate_series(300, 310) AS id) n ON e.id = n.id WHEN NOT MATCHED THEN INSERT VALUES (n.id, '2026-01-01', 5, '') RETURNING merge_action()) SELECT count(*) FROM m}), 11, 'rows are returned');
	$node->safe_psql('postgres', q{MERGE INTO e USING (SELECT generate_series(300, 305) AS id) n ON e.id = n.id WHEN NOT MATCHED BY SOURCE AND e.id % 3 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET k = 6});
	equal_to_batch($node, 'per_minute');
};

# one of a second would end a runner that waits for rows in the middle of a large transaction
since 17, 'transaction_timeout_for_everybody_does_not_reach_the_workers' => sub {
	my $pid = pid_of($node, 'runner');

	$node->safe_psql('postgres', q{ALTER SYSTEM SET transaction_timeout = '1s'; ALTER DATABASE postgres SET transaction_timeout = '500ms'; SELECT pg_reload_conf()});
	# one that begins with them
	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND pid <> $pid");
	$node->safe_psql('postgres', q{INSERT INTO e SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i});
	equal_to_batch($node, 'per_minute');
	# a pipeline with an expression that takes longer than that
	my $longer = 'SELECT i FROM pg_sleep(1.5)'; # sleeps: longer than the timeout
	$node->safe_psql('postgres', qq{CREATE FUNCTION slow(i int) RETURNS int LANGUAGE sql IMMUTABLE AS '$longer'; CREATE TABLE s (i int); ALTER TABLE s REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('slow_sum', 'SELECT sum(slow(i)) AS s FROM s', source_mode => 'append_only'); INSERT INTO s VALUES (1)});
	wait_until($node, q{SELECT s = 1 FROM slow_sum});
	is($node->safe_psql('postgres', q{SELECT state FROM beam.pipelines WHERE name = 'slow_sum'}), 'running', 'it takes its time');
	$node->safe_psql('postgres', q{ALTER SYSTEM RESET transaction_timeout; ALTER DATABASE postgres RESET transaction_timeout; SELECT pg_reload_conf()});
};

since 18, 'virtual_generated_column_is_refused_by_name_and_its_expression_is_taken' => sub {
	$node->safe_psql('postgres', q{CREATE TABLE g (id int PRIMARY KEY, a int, twice int GENERATED ALWAYS AS (a * 2) VIRTUAL, thrice int GENERATED ALWAYS AS (a * 3) STORED); ALTER TABLE g REPLICA IDENTITY FULL});
	refuses($node, q{SELECT beam.create_pipeline('g_sum', 'SELECT sum(twice) AS s FROM g')}, qr/virtual generated column "twice"/, 'one that is not stored');
	create_pipeline($node, 'g_sum', 'SELECT sum(a * 2) AS twice, sum(thrice) AS thrice FROM g');
	$node->safe_psql('postgres', q{INSERT INTO g SELECT i, i FROM generate_series(1, 10) i; UPDATE g SET a = a + 1 WHERE id < 5; DELETE FROM g WHERE id = 7});
	equal_to_batch($node, 'g_sum');
};

since 18, 'uuid_of_the_time_is_refused' => sub {
	refuses($node, q{SELECT beam.create_pipeline('u', 'SELECT count(DISTINCT uuidv7()) AS n FROM e')}, qr/volatile|VOLATILE/, 'uuidv7()');
};

# NOT NULL is a constraint with a row of its own, which is nothing that depends on the column
since 18, 'column_of_a_result_that_is_not_null_can_be_dropped_by_an_alteration' => sub {
	create_pipeline($node, 'n', 'SELECT k, count(*) AS n FROM e GROUP BY k', q{accumulation => 'retracting'});
	wait_for($node, 'n');
	$node->safe_psql('postgres', q{SELECT beam.alter_pipeline('n', accumulation => 'accumulating'); CALL beam.wait_for_alter('n')});
	equal_to_batch($node, 'n');
	$node->safe_psql('postgres', q{SELECT beam.rollback_pipeline('n')}) if $node->safe_psql('postgres', q{SELECT count(*) FROM beam.pipeline_versions WHERE name = 'n'}) > 1;
};

$node->stop;
done_testing();
