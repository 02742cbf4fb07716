# Nothing that an expression leaves behind outlives its bundle, nothing that is set for clients reaches the workers, and no command leaves a database without them.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('leftovers', conf => "stream_beam.bundle_time = '20ms'\n");

sub run { return $node->safe_psql('postgres', $_[0], timeout => 60) }

# What a session can have left, as the process sees it that asks
my $left = q{(SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory') + (SELECT count(*) FROM pg_prepared_statements)
	+ (SELECT count(*) FROM pg_listening_channels()) + (SELECT count(*) FROM pg_class WHERE relpersistence = 't') + (SELECT count(*) FROM pg_cursors WHERE is_holdable)};

run(qq{CREATE FUNCTION left_here() RETURNS bigint LANGUAGE sql VOLATILE AS \$\$SELECT $left\$\$;
	CREATE FUNCTION look(int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN left_here(); END';
	CREATE FUNCTION mem(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN current_setting(''work_mem''); END'});

my %leaves = (
	advisory_lock => [ q{SELECT pg_advisory_lock(42), pg_advisory_lock(42)}, q{SELECT pg_advisory_lock_shared(7, 7)} ],
	advisory_lock_of_the_transaction => [q{SELECT pg_advisory_xact_lock(43)}],
	prepared_statement => [q{PREPARE left_over AS SELECT 1}],
	temporary_table => [q{CREATE TEMP TABLE left_over (a int)}],
	listener => [q{LISTEN left_over}],
	cursor => [q{DECLARE left_over CURSOR WITH HOLD FOR SELECT 1}],
	setting => [ q{SET search_path = pg_temp, public}, q{SET work_mem = '64kB'}, q{SELECT set_config('application_name', 'left', false)} ]);

for my $kind (sort keys %leaves)
{
	promise "${kind}_that_an_expression_leaves_is_gone" => sub {
		my $does = join ' ', map { "BEGIN EXECUTE \$s\$$_\$s\$; EXCEPTION WHEN OTHERS THEN NULL; END;" } @{ $leaves{$kind} };

		run(qq{CREATE FUNCTION leave_$kind(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$BEGIN IF \$1 > 0 THEN $does END IF; RETURN \$1; END\$\$});
		make_source($node, "e_$kind");
		create_pipeline($node, "l_$kind", "SELECT leave_$kind(e.k) AS k, count(*) AS n FROM e_$kind e GROUP BY 1");
		run("INSERT INTO e_$kind VALUES (1, now(), 1, ''), (2, now(), 2, '')");
		wait_for($node, "l_$kind");
		is(run(q{SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'}), 0, 'no lock is held');
		is(run(q{SELECT count(*) FROM pg_stat_activity WHERE application_name = 'left'}), 0, 'the worker has its name');
		run(qq{DROP TABLE IF EXISTS seen; CREATE TABLE seen (id int, k int); ALTER TABLE seen REPLICA IDENTITY FULL; SELECT beam.create_pipeline('l_look_$kind', 'SELECT max(look(k)) AS n, max(mem(k)) AS m FROM seen')});
		is(run(qq{INSERT INTO seen VALUES (1, 1); CALL beam.wait_for('l_look_$kind'); SELECT n, m FROM l_look_$kind}), '0|' . run('SHOW work_mem'), 'nothing is seen by the next bundle');
		run("SELECT beam.drop_pipeline('l_look_$kind'); SELECT beam.drop_pipeline('l_$kind')");
		is(run(q{SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'stream_beam runner'}), 1, 'the runner is there');
	};
}

promise 'what_is_set_for_clients_does_not_reach_the_workers' => sub {
	my %set = (synchronous_commit => 'remote_apply', statement_timeout => '20ms', lock_timeout => '20ms', idle_in_transaction_session_timeout => '20ms', row_security => 'off',
		session_replication_role => 'replica', default_transaction_isolation => 'serializable', default_transaction_read_only => 'on', search_path => 'pg_temp');
	my $super = run('SELECT rolname FROM pg_roles WHERE oid = 10');

	run(q{CREATE FUNCTION settings(int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
		PERFORM pg_sleep(0.1); -- # sleeps: longer than what is set
		RETURN (SELECT string_agg(name || '=' || setting, ' ' ORDER BY name) FROM pg_settings
		WHERE name IN ('synchronous_commit', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'row_security', 'session_replication_role')); END$$});
	make_source($node, 'e_set');
	create_pipeline($node, 'l_set', 'SELECT settings(e.k) AS s, count(*) AS n FROM e_set e GROUP BY 1');
	my $plain = "SET statement_timeout = 0; SET default_transaction_read_only = off; SET search_path = public; SET transaction_read_only = off; SET synchronous_commit = on; SET row_security = on;";
	run("$plain ALTER DATABASE postgres SET $_ = '$set{$_}'; ALTER ROLE $super SET $_ = '$set{$_}'") for sort keys %set;
	$node->restart;
	run("$plain INSERT INTO e_set VALUES (1, '2026-01-01', 1, ''), (2, '2026-01-01', 2, '')");
	run("$plain CALL beam.wait_for('l_set')");
	is(run("$plain SELECT s, n FROM l_set"),
		'idle_in_transaction_session_timeout=0 lock_timeout=1000 row_security=on session_replication_role=origin statement_timeout=0 synchronous_commit=off|2', 'the workers have their own'); # of locks: stream_beam.lock_timeout
	run("$plain ALTER DATABASE postgres RESET ALL; ALTER ROLE $super RESET ALL");
	$node->restart;
};

promise 'database_dropped_within_savepoints_keeps_its_workers' => sub {
	for my $db (qw(da db))
	{
		run("CREATE DATABASE $db");
		create_extension($node, $db);
		make_source($node, 'ev', $db);
		create_pipeline($node, 'sums', tumble('ev'), undef, $db);
		$node->safe_psql($db, q{INSERT INTO ev VALUES (1, '2026-01-01', 1, '')});
		wait_for($node, 'sums', $db);
	}
	my ($rc, $out, $err) = $node->psql('postgres', "BEGIN;\nSAVEPOINT s;\nDROP DATABASE da;\nROLLBACK TO s;\nDROP DATABASE db;\nROLLBACK TO s;\nDROP DATABASE da;\nROLLBACK;", on_error_stop => 0);
	like($err, qr/cannot run inside a transaction block/, 'it cannot be');
	for my $db (qw(da db))
	{
		$node->safe_psql($db, q{INSERT INTO ev VALUES (2, '2026-01-01', 1, '')});
		equal_to_batch($node, 'sums', "$db goes on", $db);
	}
};

$node->stop;
done_testing();
