# Extension and database come and go, committed and rolled back, at rest and under load; the server stops and starts.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time);
use SbTest;

my $node = new_node('lifecycle', conf => "stream_beam.max_databases = 4\nstream_beam.ring_size = '1MB'\n");

sub insert_rows
{
	my ($table, $count, $db) = @_;

	$node->safe_psql($db // 'postgres',
		"INSERT INTO $table SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7 FROM generate_series(1, $count) i");
}

# A database with the extension and a pipeline `sums` over table `ev` that has some rows
sub make_database
{
	my ($db) = @_;

	$node->safe_psql('postgres', "CREATE DATABASE $db");
	create_extension($node, $db);
	make_source($node, 'ev', $db);
	create_pipeline($node, 'sums', tumble('ev'), undef, $db);
	insert_rows('ev', 1000, $db);
	wait_for($node, 'sums', $db);
}

promise 'create_extension_starts_the_workers' => sub {
	ok(wait_for_worker($node, 'reader'), 'a reader');
	ok(wait_for_worker($node, 'runner'), 'a runner');
	wait_until($node, 'SELECT bool_and(ok) FROM beam.check()');
	pass('beam.check() finds nothing missing');
	is(slot_count($node), 1, 'one slot');
};

promise 'create_extension_rolled_back_starts_nothing' => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE bare');
	$node->safe_psql('bare', 'BEGIN; CREATE EXTENSION stream_beam; ROLLBACK');
	create_extension($node, 'bare');
	wait_for_worker($node, 'reader', 'bare');
	$node->safe_psql('bare', 'DROP EXTENSION stream_beam');
	wait_for_no_worker($node, 'runner', 'bare');
	is($node->safe_psql('bare', "SELECT count(*) FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'beam%')"),
		0, 'nothing of it is left');
};

promise 'drop_extension_rolled_back_changes_nothing' => sub {
	make_source($node, 'ev');
	create_pipeline($node, 'sums', tumble('ev'));
	insert_rows('ev', 1000);
	wait_for($node, 'sums');
	$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION stream_beam CASCADE; ROLLBACK');
	insert_rows('ev', 1000);
	equal_to_batch($node, 'sums');
	$node->safe_psql('postgres', 'BEGIN; SAVEPOINT a; DROP EXTENSION stream_beam CASCADE; ROLLBACK TO a; INSERT INTO ev VALUES (1, now(), 1); COMMIT');
	equal_to_batch($node, 'sums', 'also to a savepoint');
};

promise 'drop_extension_under_load_takes_workers_and_slot' => sub {
	my $load = start_load($node, q{INSERT INTO ev VALUES (1, '2026-01-02', 1)});

	wait_until($node, q{SELECT count(*) > 100 FROM ev WHERE ts = '2026-01-02'});
	$node->safe_psql('postgres', "SET statement_timeout = '20s'; DROP EXTENSION stream_beam CASCADE");
	wait_for_no_worker($node, 'reader');
	wait_for_no_worker($node, 'runner');
	wait_until($node, "SELECT count(*) = 0 FROM pg_replication_slots");
	my $before = $node->safe_psql('postgres', 'SELECT count(*) FROM ev');
	wait_until($node, "SELECT count(*) > $before FROM ev");
	pass('the writers go on');
	finish_load($load);
	is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname IN ('sums_batch') OR relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'beam%')"),
		0, 'the views and the state went with it');
	$node->safe_psql('postgres', 'DROP TABLE IF EXISTS sums');
};

promise 'create_drop_create_in_one_transaction_ends_with_running_workers' => sub {
	$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION stream_beam; DROP EXTENSION stream_beam; CREATE EXTENSION stream_beam; COMMIT; TRUNCATE ev');
	create_pipeline($node, 'sums', tumble('ev'));
	insert_rows('ev', 1000);
	equal_to_batch($node, 'sums');
};

promise 'drop_and_create_again_in_one_transaction_is_a_new_extension' => sub {
	$node->safe_psql('postgres', 'BEGIN; DROP EXTENSION stream_beam CASCADE; DROP TABLE sums; CREATE EXTENSION stream_beam; COMMIT; TRUNCATE ev');
	create_pipeline($node, 'sums', tumble('ev'));
	insert_rows('ev', 1000);
	equal_to_batch($node, 'sums');
};

promise 'create_then_drop_in_one_transaction_leaves_nothing' => sub {
	$node->safe_psql('postgres', 'DROP EXTENSION stream_beam CASCADE; DROP TABLE sums');
	$node->safe_psql('postgres', 'BEGIN; CREATE EXTENSION stream_beam; DROP EXTENSION stream_beam; COMMIT');
	wait_for_no_worker($node, 'reader');
	wait_for_no_worker($node, 'runner');
	wait_until($node, "SELECT count(*) = 0 FROM pg_replication_slots");
	create_extension($node);
	pass('and it can be created again');
};

promise 'drop_database_with_running_pipelines_succeeds_at_once' => sub {
	make_database('d1');
	my $load = start_load($node, q{INSERT INTO ev VALUES (1, '2026-01-02', 1)}, 'd1', qw(-c 1 -t 200));
	finish_load($load, 0);
	my $start = time;
	my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE d1');
	is($rc, 0, "DROP DATABASE succeeds $err");
	cmp_ok(time - $start, '<', 5, 'at once');
	wait_until($node, 'SELECT count(*) <= 1 FROM pg_replication_slots');
	pass('its slot is gone');
};

promise 'drop_database_force_succeeds' => sub {
	make_database('d2');
	my $load = start_load($node, q{INSERT INTO ev VALUES (1, '2026-01-02', 1)}, 'd2');
	wait_until($node, q{SELECT count(*) > 20 FROM ev WHERE ts = '2026-01-02'}, 't', 'd2');
	my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE d2 WITH (FORCE)');
	is($rc, 0, "DROP DATABASE WITH (FORCE) $err");
	finish_load($load);
	wait_until($node, 'SELECT count(*) <= 1 FROM pg_replication_slots');
	pass('its slot is gone');
};

promise 'drop_database_whose_slot_waits_for_old_transactions_succeeds_at_once' => sub {
	my $session = $node->background_psql('postgres');

	$session->query_safe('BEGIN; SELECT pg_current_xact_id()');
	$node->safe_psql('postgres', 'CREATE DATABASE waiting');
	create_extension($node, 'waiting');
	make_source($node, 'ev', 'waiting');
	refuses($node, "SET stream_beam.start_timeout = '200ms'; SELECT beam.create_pipeline('x', 'SELECT count(*) FROM ev')",
		qr/have not started within stream_beam.start_timeout.*running when it was begun/s, 'a creation says what it waits for', 'waiting');
	my $start = time;
	my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE waiting');
	is($rc, 0, "DROP DATABASE succeeds $err");
	cmp_ok(time - $start, '<', 5, 'at once');
	$session->query_safe('COMMIT');
	$session->quit;
	wait_until($node, 'SELECT count(*) <= 1 FROM pg_replication_slots');
	pass('no slot is left');
};

promise 'failed_drop_database_brings_the_workers_back' => sub {
	make_database('d3');
	my $session = $node->background_psql('d3', on_error_stop => 0);
	$session->query_safe('SELECT 1');
	my ($rc, $out, $err) = $node->psql('postgres', 'DROP DATABASE d3');
	isnt($rc, 0, 'it fails while a session is there');
	like($err, qr/is being accessed by other users/, 'and says why');
	$session->quit;
	wait_for_worker($node, 'runner', 'd3');
	insert_rows('ev', 1000, 'd3');
	equal_to_batch($node, 'sums', 'nothing is lost', 'd3');
};

promise 'renamed_database_goes_on' => sub {
	$node->safe_psql('postgres', 'ALTER DATABASE d3 RENAME TO d4');
	wait_for_worker($node, 'runner', 'd4');
	insert_rows('ev', 1000, 'd4');
	equal_to_batch($node, 'sums', 'nothing is lost', 'd4');
};

promise 'pipelines_of_a_copied_database_need_a_resync_and_the_original_goes_on' => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE d5 TEMPLATE d4');
	wait_for_worker($node, 'runner', 'd4');
	insert_rows('ev', 1000, 'd4');
	equal_to_batch($node, 'sums', 'the original', 'd4');
	insert_rows('ev', 1000, 'd5');
	state_is($node, 'sums', 'needs_resync', qr/this database is a copy/, 'd5');
	$node->restart;
	refuses($node, q{CALL beam.wait_for('sums')}, qr/pipeline "sums" needs a resync/, 'wait_for says so', 'd5');
	insert_rows('ev', 1000, 'd4');
	equal_to_batch($node, 'sums', 'the original after a restart', 'd4');
	$node->safe_psql('d5', q{SELECT beam.drop_pipeline('sums'); TRUNCATE ev});
	create_pipeline($node, 'sums', tumble('ev'), undef, 'd5');
	insert_rows('ev', 1000, 'd5');
	equal_to_batch($node, 'sums', 'created again in the copy', 'd5');
};

promise 'databases_do_not_see_each_other' => sub {
	insert_rows('ev', 500, 'd4');
	equal_to_batch($node, 'sums', 'd4', 'd4');
	equal_to_batch($node, 'sums', 'd5', 'd5');
	$node->safe_psql('postgres', 'DROP DATABASE d5');
	insert_rows('ev', 500, 'd4');
	equal_to_batch($node, 'sums', 'd4 after the end of d5', 'd4');
};

promise 'more_databases_than_allowed_are_refused_with_a_hint' => sub {
	# in use: postgres, d4
	make_database('m1');
	make_database('m2');
	$node->safe_psql('postgres', 'CREATE DATABASE m3');
	refuses($node, 'CREATE EXTENSION stream_beam', qr/all 4 databases that stream_beam may serve are in use.*stream_beam\.max_databases/s, 'a fifth', 'm3');
	$node->safe_psql('postgres', 'DROP DATABASE m1');
	wait_until($node, 'SELECT count(*) = 3 FROM pg_replication_slots');
	create_extension($node, 'm3');
	make_source($node, 'ev', 'm3');
	create_pipeline($node, 'sums', tumble('ev'), undef, 'm3');
	insert_rows('ev', 1000, 'm3');
	equal_to_batch($node, 'sums', 'after one was dropped there is room', 'm3');
	$node->safe_psql('postgres', 'DROP DATABASE m2');
	$node->safe_psql('postgres', 'DROP DATABASE m3');
};

for my $mode (qw(fast immediate))
{
	promise "server_stopped_${mode}_under_load_loses_nothing" => sub {
		my $before = $node->safe_psql('d4', 'SELECT count(*) FROM ev');
		my $load = start_load($node, q{INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7 FROM generate_series(1, 50) i}, 'd4');
		wait_until($node, "SELECT count(*) > $before + 2000 FROM ev", 't', 'd4');
		my $start = time;
		$node->stop($mode);
		cmp_ok(time - $start, '<', 15, 'it stops soon');
		finish_load($load);
		$node->start;
		equal_to_batch($node, 'sums', 'as it comes back', 'd4');
		insert_rows('ev', 500, 'd4');
		equal_to_batch($node, 'sums', 'and goes on', 'd4');
	};
}

promise 'restart_at_rest_loses_nothing' => sub {
	for (1 .. 3)
	{
		$node->restart;
		insert_rows('ev', 10, 'd4');
	}
	equal_to_batch($node, 'sums', undef, 'd4');
};

promise 'too_few_worker_processes_are_named_and_cured' => sub {
	# room for the launcher and one of the two workers
	my $offset = -s $node->logfile;
	$node->append_conf('postgresql.conf', "max_worker_processes = 2\nmax_parallel_workers = 0\n");
	$node->restart;
	ok($node->wait_for_log(qr/no background worker is free.*HINT:  Raise max_worker_processes/s, $offset), 'the log says what to raise');
	refuses($node, "SET stream_beam.start_timeout = '1s'; SELECT beam.create_pipeline('x', 'SELECT count(*) FROM none')", qr/./, 'a call comes back', 'd4');
	wait_until($node, "SELECT NOT ok AND hint ~ 'max_worker_processes' FROM beam.check() WHERE item = 'reader'", 't', 'd4');
	insert_rows('ev', 10, 'd4');
	$node->append_conf('postgresql.conf', 'max_worker_processes = 40');
	$node->restart;
	equal_to_batch($node, 'sums', 'nothing is lost', 'd4');
};

promise 'without_preload_calls_say_so_and_the_data_is_safe' => sub {
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$node->restart;
	insert_rows('ev', 10, 'd4');
	refuses($node, "SELECT beam.create_pipeline('x', 'SELECT count(*) FROM ev')", qr/stream_beam is not loaded by the server.*shared_preload_libraries/s, 'create_pipeline', 'd4');
	refuses($node, "CALL beam.wait_for('sums')", qr/stream_beam is not loaded by the server/, 'wait_for', 'd4');
	is($node->safe_psql('d4', q{SELECT ok FROM beam.check() WHERE item = 'shared_preload_libraries'}), 'f', 'check names it');
	$node->safe_psql('postgres', 'CREATE DATABASE unloaded');
	my ($rc, $out, $err) = $node->psql('unloaded', 'CREATE EXTENSION stream_beam');
	is($rc, 0, 'CREATE EXTENSION succeeds');
	like($err, qr/WARNING:  stream_beam is not loaded by the server: pipelines will not run/, 'with a warning');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'stream_beam'");
	$node->restart;
	equal_to_batch($node, 'sums', 'loaded again, nothing is lost', 'd4');
	make_source($node, 'ev', 'unloaded');
	create_pipeline($node, 'sums', tumble('ev'), undef, 'unloaded');
	insert_rows('ev', 100, 'unloaded');
	equal_to_batch($node, 'sums', 'and the new one runs', 'unloaded');
	$node->safe_psql('postgres', 'DROP DATABASE unloaded');
};

promise 'wal_level_replica_is_named' => sub {
	# a server with logical slots does not start with less
	$node->safe_psql('d4', 'DROP EXTENSION stream_beam CASCADE');
	$node->safe_psql('postgres', 'DROP EXTENSION stream_beam CASCADE');
	wait_until($node, 'SELECT count(*) = 0 FROM pg_replication_slots');
	$node->append_conf('postgresql.conf', 'wal_level = replica');
	$node->restart;
	create_extension($node);
	$node->safe_psql('postgres', 'TRUNCATE ev');
	refuses($node, "SELECT beam.create_pipeline('x', 'SELECT count(*) FROM ev')", qr/wal_level.*logical/s, 'create_pipeline');
	is($node->safe_psql('postgres', q{SELECT ok FROM beam.check() WHERE item = 'wal_level'}), 'f', 'check names it');
	wait_for_worker($node, 'runner');
	is(slot_count($node), 0, 'no slot begins in WAL that cannot be decoded');
	$node->append_conf('postgresql.conf', 'wal_level = logical');
	$node->restart;
	create_pipeline($node, 'sums', tumble('ev'));
	insert_rows('ev', 100);
	equal_to_batch($node, 'sums', 'mended, it runs');
};

$node->stop;
done_testing();
