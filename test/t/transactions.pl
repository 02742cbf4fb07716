# What source transactions may look like: each is applied exactly once, whole, in the order of commits.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('transactions', conf => "stream_beam.ring_size = '1MB'\nmax_prepared_transactions = 10\n");
my $late = q{allowed_lateness => '10000 days'};
my $row = q{'2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'v'};

make_source($node, 'ev');
create_pipeline($node, 'sums', tumble('ev'));
create_pipeline($node, 'longest', q{SELECT e.k, max(length(e.v)) AS longest, sum(length(e.v)) AS bytes, count(*) AS n FROM ev e GROUP BY e.k});

sub both_equal
{
	my ($name) = @_;

	equal_to_batch($node, 'sums', "$name: sums");
	equal_to_batch($node, 'longest', "$name: the second pipeline on the table");
}

sub run
{
	$node->safe_psql('postgres', $_[0]);
}

promise 'rows_of_a_rolled_back_savepoint_are_not_seen' => sub {
	run(qq{BEGIN;
		INSERT INTO ev SELECT i, $row FROM generate_series(1, 100) i;
		SAVEPOINT a; INSERT INTO ev SELECT i, $row FROM generate_series(1, 1000) i;
		SAVEPOINT b; INSERT INTO ev SELECT i, $row FROM generate_series(1, 1000) i; RELEASE b;
		ROLLBACK TO a; INSERT INTO ev SELECT i, $row FROM generate_series(1, 10) i;
		COMMIT});
	both_equal('savepoints');
	is($node->safe_psql('postgres', 'SELECT sum(n) FROM sums'), 110, 'as many as were committed');
};

promise 'rows_of_an_aborted_transaction_are_not_seen' => sub {
	my $before = $node->safe_psql('postgres', 'SELECT sum(n) FROM sums');
	run(qq{BEGIN; INSERT INTO ev SELECT i, $row FROM generate_series(1, 50000) i; ROLLBACK});
	run('INSERT INTO ev VALUES (1, now(), 1)');
	both_equal('rollback');
	is($node->safe_psql('postgres', 'SELECT sum(n) FROM sums'), $before + 1, 'only the other one counts');
};

promise 'many_subtransactions_are_one_transaction' => sub {
	run(q{DO $$ BEGIN FOR i IN 1 .. 500 LOOP
		BEGIN
			INSERT INTO ev VALUES (i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'sub');
			IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END; END LOOP; END $$});
	both_equal('subtransactions with errors');
};

promise 'transaction_larger_than_the_ring' => sub {
	run(qq{INSERT INTO ev SELECT i, $row FROM generate_series(1, 200000) i});
	both_equal('200,000 rows');
};

promise 'transaction_larger_than_the_decoding_memory' => sub {
	run("ALTER SYSTEM SET stream_beam.decoding_work_mem = '64kB'");
	$node->restart;
	run(qq{INSERT INTO ev SELECT i, $row FROM generate_series(1, 50000) i});
	both_equal('spilled by the decoder');
	run('ALTER SYSTEM RESET stream_beam.decoding_work_mem');
	$node->restart;
};

# A session that begins in the middle of it goes through its first rows again, which are put aside, and gets the rest as a stream
promise 'savepoint_of_a_large_transaction_is_rolled_back_after_another_session_has_begun' => sub {
	my $writer = $node->background_psql('postgres');
	my $slot = q{SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name LIKE 'stream%' AND NOT temporary};

	run(q{ALTER SYSTEM SET stream_beam.decoding_work_mem = '64kB'; SELECT pg_reload_conf()});
	for my $again (1 .. 3)
	{
		$writer->query_safe(qq{BEGIN; INSERT INTO ev SELECT i, $row FROM generate_series(1, 10) i; SAVEPOINT s; INSERT INTO ev SELECT i, $row FROM generate_series(1, 9000) i});
		my $lsn = $node->safe_psql('postgres', 'SELECT pg_current_wal_insert_lsn()');
		# the slot moves past these rows
		until ($node->safe_psql('postgres', "SELECT ($slot) > '$lsn'") eq 't') { run(q{INSERT INTO ev VALUES (0, '2026-01-01', 0, 'w'); CALL beam.wait_for('sums')}) }
		my $pid = wait_for_worker($node, 'reader');
		run("SELECT pg_terminate_backend($pid)");
		wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'stream_beam reader' AND pid <> $pid");
		run(q{INSERT INTO ev VALUES (0, '2026-01-01', 0, 'w'); CALL beam.wait_for('sums')});
		$writer->query_safe(qq{SAVEPOINT t; INSERT INTO ev SELECT i, $row FROM generate_series(1, 2000) i; RELEASE t; INSERT INTO ev SELECT i, $row FROM generate_series(1, 20) i});
		run(q{INSERT INTO ev VALUES (0, '2026-01-01', 0, 'w'); CALL beam.wait_for('sums')});
		$writer->query_safe('ROLLBACK TO s');
		$writer->query_safe(qq{INSERT INTO ev SELECT i, $row FROM generate_series(1, 7) i; COMMIT});
		both_equal("session $again");
	}
	$writer->quit;
	run(q{ALTER SYSTEM RESET stream_beam.decoding_work_mem; SELECT pg_reload_conf()});
};

promise 'row_larger_than_the_ring' => sub {
	run(q{ALTER TABLE ev ALTER v SET STORAGE EXTERNAL});
	run(q{INSERT INTO ev VALUES (1, '2026-01-01', 3, 'small'), (2, '2026-01-01', 3, repeat('x', 5000000)), (3, '2026-01-01', 3, 'small')});
	both_equal('5 MB in one column');
	is($node->safe_psql('postgres', 'SELECT longest FROM longest WHERE k = 3'), 5000000, 'it is all there');
	run(q{ALTER TABLE ev ALTER v SET STORAGE EXTENDED; INSERT INTO ev SELECT i, '2026-01-01', 4, string_agg(md5(j::text), '') FROM generate_series(1, 3) i, generate_series(1, 100000) j GROUP BY i});
	both_equal('compressed, 3 MB each');
};

promise 'copy_is_applied' => sub {
	my $rows = join('', map { "$_\t2026-01-01 00:00:" . sprintf('%02d', $_ % 60) . "+00\t5\tcopied\n" } 1 .. 20000);
	$node->safe_psql('postgres', "COPY ev FROM stdin;\n$rows\\.\n");
	both_equal('COPY');
	run('CREATE TABLE ev_new (LIKE ev); ALTER TABLE ev_new REPLICA IDENTITY FULL; INSERT INTO ev_new SELECT * FROM ev LIMIT 1000; INSERT INTO ev SELECT * FROM ev_new; DROP TABLE ev_new');
	both_equal('INSERT ... SELECT');
};

promise 'prepared_transaction_is_applied_at_its_commit' => sub {
	my $before = $node->safe_psql('postgres', 'SELECT sum(n) FROM sums');
	run(qq{BEGIN; INSERT INTO ev SELECT i, $row FROM generate_series(1, 2000) i; PREPARE TRANSACTION 'a'});
	run(qq{BEGIN; INSERT INTO ev SELECT i, $row FROM generate_series(1, 2000) i; PREPARE TRANSACTION 'b'});
	run(qq{BEGIN; INSERT INTO ev SELECT i, $row FROM generate_series(1, 2000) i; PREPARE TRANSACTION 'c'});
	run('INSERT INTO ev VALUES (1, now(), 1)');
	both_equal('prepared only');
	is($node->safe_psql('postgres', 'SELECT sum(n) FROM sums'), $before + 1, 'not before its commit');
	run("COMMIT PREPARED 'a'; ROLLBACK PREPARED 'b'");
	both_equal('committed and rolled back');
	$node->restart;
	run('INSERT INTO ev VALUES (1, now(), 1)');
	both_equal('after a restart');
	run("COMMIT PREPARED 'c'");
	both_equal('committed after a restart');
	is($node->safe_psql('postgres', 'SELECT sum(n) FROM sums'), $before + 4002, 'both are in');
};

promise 'prepared_across_a_crash' => sub {
	run(qq{BEGIN; INSERT INTO ev SELECT i, $row FROM generate_series(1, 2000) i; PREPARE TRANSACTION 'd'});
	run(qq{INSERT INTO ev SELECT i, $row FROM generate_series(1, 100) i});
	both_equal('before the crash');
	crash_and_start($node);
	run("COMMIT PREPARED 'd'");
	both_equal('committed after the crash');
};

promise 'writers_with_asynchronous_commit_are_applied' => sub {
	run(qq{SET synchronous_commit = off; INSERT INTO ev SELECT i, $row FROM generate_series(1, 100) i});
	wait_until($node, 'SELECT (SELECT sum(n) FROM sums) = (SELECT sum(n) FROM sums_batch)');
	pass('without anybody asking for it');
	my $load = start_load($node, q{SET synchronous_commit = off;
		INSERT INTO ev VALUES (1, '2026-01-02', 1);}, 'postgres', qw(-c 4 -t 500));
	finish_load($load, 0);
	both_equal('four clients');
};

promise 'concurrent_writers_are_applied' => sub {
	my $load = start_load($node, qq{
		\\set n random(1, 30)
		BEGIN;
		INSERT INTO ev SELECT i, $row FROM generate_series(1, :n) i;
		INSERT INTO ev SELECT i, $row FROM generate_series(1, :n) i;
		END;}, 'postgres', qw(-c 8 -t 200));
	finish_load($load, 0);
	both_equal('eight clients');
};

promise 'create_pipeline_under_load_on_other_tables' => sub {
	my $load = start_load($node, qq{INSERT INTO ev SELECT i, $row FROM generate_series(1, 3) i});
	make_source($node, "t$_") for 1 .. 3;
	for my $i (1 .. 3)
	{
		create_pipeline($node, "s$i", tumble("t$i"));
		# the very next transaction counts
		run(qq{INSERT INTO t$i SELECT i, $row FROM generate_series(1, 100) i});
	}
	equal_to_batch($node, "s$_") for 1 .. 3;
	finish_load($load);
	both_equal('the load');
};

promise 'pipelines_come_and_go_under_load' => sub {
	my $load = start_load($node, qq{INSERT INTO ev SELECT i, $row FROM generate_series(1, 3) i});
	for my $i (1 .. 15)
	{
		make_source($node, "g$i");
		run(qq{INSERT INTO g$i VALUES (1, now(), 1, ''); DELETE FROM g$i});
		create_pipeline($node, "gs$i", tumble("g$i"));
		run(qq{INSERT INTO g$i SELECT i, $row FROM generate_series(1, 100) i});
		run('SELECT pg_terminate_backend(' . wait_for_worker($node, $i % 2 ? 'reader' : 'runner') . ')') if $i % 5 == 0;
		equal_to_batch($node, "gs$i") if $i % 3 == 0;
		run(qq{SELECT beam.drop_pipeline('gs$i'); UPDATE g$i SET k = 0; DROP TABLE g$i}) if $i % 2;
	}
	finish_load($load);
	equal_to_batch($node, "gs$_") for grep { $_ % 2 == 0 } 1 .. 15;
	both_equal('the load');
};

promise 'create_table_and_pipeline_and_rows_in_one_transaction' => sub {
	run(qq{BEGIN; CREATE TABLE born (id int, ts timestamptz, k int, v text);
	ALTER TABLE born REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('of_born', \$q\$@{[tumble('born')]}\$q\$, $late);
		INSERT INTO born SELECT i, $row FROM generate_series(1, 100) i;
		COMMIT});
	run(qq{INSERT INTO born SELECT i, $row FROM generate_series(1, 100) i});
	equal_to_batch($node, 'of_born');
	is($node->safe_psql('postgres', 'SELECT sum(n) FROM of_born'), 200, 'rows of the creating transaction too');
};

# the runner must not take those rows before it knows of the pipeline: a matter of microseconds, so many are tried
promise 'rows_of_the_creating_transaction_are_never_passed_by' => sub {
	my $rounds = 100;

	for my $i (1 .. $rounds)
	{
		run(qq{CREATE TABLE own$i (id int);
			BEGIN; SELECT beam.create_pipeline('of_own$i', 'SELECT count(*) FROM own$i'); INSERT INTO own$i VALUES (1); COMMIT});
	}
	wait_for($node, "of_own$rounds");
	is($node->safe_psql('postgres', join(' + ', 'SELECT 0', map { "(SELECT count FROM of_own$_)" } 1 .. $rounds)), $rounds, 'each has its row');
	run("SELECT beam.drop_pipeline('of_own$_'); DROP TABLE own$_") for 1 .. $rounds;
};

promise 'create_and_drop_in_one_transaction_leaves_nothing' => sub {
	run(qq{BEGIN; CREATE TABLE brief (id int, ts timestamptz, k int, v text);
	ALTER TABLE brief REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('of_brief', \$q\$@{[tumble('brief')]}\$q\$, $late);
		SELECT beam.drop_pipeline('of_brief');
		DROP TABLE brief; COMMIT});
	both_equal('the others');
};

promise 'rolled_back_creation_leaves_nothing' => sub {
	my $count = 'SELECT count(*) FROM pg_class WHERE relnamespace NOT IN (SELECT oid FROM pg_namespace WHERE nspname ~ \'toast\')';
	my $before = $node->safe_psql('postgres', $count);
	make_source($node, 'never');
	run(qq{BEGIN; SELECT beam.create_pipeline('of_never', \$q\$@{[tumble('never')]}\$q\$, $late); INSERT INTO never VALUES (1, now(), 1); ROLLBACK});
	run(qq{BEGIN; SAVEPOINT a; SELECT beam.create_pipeline('of_never', \$q\$@{[tumble('never')]}\$q\$, $late); ROLLBACK TO a; COMMIT});
	is($node->safe_psql('postgres', $count), $before + 1, 'no relation but the source');
	is($node->safe_psql('postgres', "SELECT count(*) FROM beam.pipelines WHERE name = 'of_never'"), 0, 'no pipeline');
	# its source is not held back, and its slot neither
	run('INSERT INTO never VALUES (1, now(), 1); UPDATE never SET k = 2; TRUNCATE never');
	both_equal('the others');
	create_pipeline($node, 'of_never', tumble('never'));
	run(qq{INSERT INTO never SELECT i, $row FROM generate_series(1, 100) i});
	equal_to_batch($node, 'of_never', 'and the name is free');
};

promise 'transaction_that_creates_pipelines_cannot_be_prepared' => sub {
	make_source($node, 'p');
	refuses($node, qq{BEGIN; SELECT beam.create_pipeline('of_p', \$q\$@{[tumble('p')]}\$q\$, $late); PREPARE TRANSACTION 'x'},
		qr/cannot PREPARE a transaction that has changed pipelines/, 'PREPARE TRANSACTION');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM pg_prepared_xacts'), 0, 'nothing is prepared');
	both_equal('the others');
};

promise 'ddl_between_rows_of_one_transaction' => sub {
	run(qq{BEGIN; INSERT INTO ev (id, ts, k, v) SELECT i, $row FROM generate_series(1, 50) i;
		ALTER TABLE ev ADD extra text DEFAULT 'e';
		INSERT INTO ev (id, ts, k, v) SELECT i, $row FROM generate_series(1, 50) i;
		ALTER TABLE ev DROP extra;
		INSERT INTO ev (id, ts, k, v) SELECT i, $row FROM generate_series(1, 50) i;
		COMMIT});
	both_equal('added and dropped');
};

promise 'two_pipelines_are_one_cut' => sub {
	# both count the same rows in the same bundle transaction: no reader may ever see them apart
	make_source($node, 'cut');
	create_pipeline($node, 'cut_a', 'SELECT count(*) AS n FROM cut');
	create_pipeline($node, 'cut_b', 'SELECT count(*) AS n FROM cut');
	# each has had its history, which is read in a bundle of its own
	wait_for($node, $_) for qw(cut_a cut_b);
	my $load = start_load($node, q{INSERT INTO cut VALUES (1, now(), 1)}, 'postgres', qw(-c 2 -t 500));
	is($node->safe_psql('postgres', q{DO $$ BEGIN FOR i IN 1 .. 3000 LOOP
		IF (SELECT a.n <> b.n FROM cut_a a, cut_b b) THEN RAISE 'apart'; END IF; END LOOP; END $$}), '', 'never apart');
	finish_load($load, 0);
	equal_to_batch($node, 'cut_a');
};

$node->stop;
done_testing();
