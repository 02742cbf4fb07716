# Transactions that outgrow the decoder's memory: they come in parts while they are in progress, and count at their commit.
use strict;
use warnings;
use Test::More;
use SbTest;

# a part is what 64 kB hold: a few hundred rows
my $node = new_node('large', conf => "stream_beam.ring_size = '16MB'\nstream_beam.decoding_work_mem = '64kB'\nmax_prepared_transactions = 10\n");
my $db = 'postgres';

make_source($node, 'ev');
make_source($node, 'other');
create_pipeline($node, 'sums', tumble('ev'));
create_pipeline($node, 'longest', 'SELECT e.k, max(length(e.v)) AS longest, sum(length(e.v)) AS bytes, count(*) AS n FROM ev e GROUP BY e.k');

sub run
{
	return $node->safe_psql($db, $_[0]);
}

sub rows
{
	my ($n, $t) = @_;

	$t //= 'ev';
	return qq{INSERT INTO $t (id, ts, k, v) SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'some text ' || i FROM generate_series(1, $n) i};
}

sub both_equal
{
	my ($name) = @_;

	equal_to_batch($node, 'sums', "$name: sums");
	equal_to_batch($node, 'longest', "$name: the second pipeline on the table");
}


# A session that stays open
sub session
{
	return $node->background_psql($db, on_error_stop => 1);
}

promise 'large_transactions_come_in_parts' => sub {
	run(rows(20000));
	both_equal('one');
	run('INSERT INTO ev VALUES (1, now(), 1)');
	both_equal('and a small one');
	wait_until($node, 'SELECT coalesce(sum(stream_count), 0) > 5 FROM pg_stat_replication_slots');
	pass('in many parts');
};

promise 'what_is_rolled_back_is_cut_out' => sub {
	my $before = run('SELECT sum(n) FROM sums');
	run('BEGIN; ' . rows(5000) . '; SAVEPOINT a; ' . rows(5000) . '; SAVEPOINT b; ' . rows(3000) . '; RELEASE b; ' . rows(10) . '; ROLLBACK TO a; '
		. rows(4000) . '; SAVEPOINT c; ' . rows(5) . '; ROLLBACK TO c; ' . rows(1) . '; SAVEPOINT d; UPDATE ev SET k = k + 1 WHERE id < 500; ROLLBACK TO d;'
		. 'SAVEPOINT e; ' . rows(2000) . '; RELEASE e; COMMIT');
	both_equal('savepoints');
	is(run('SELECT sum(n) FROM sums'), $before + 11001, 'as many as were committed');
	run('BEGIN; ' . rows(20000) . '; ROLLBACK');
	run('BEGIN; SAVEPOINT a; ' . rows(20000) . '; ROLLBACK TO a; COMMIT');
	run(q{DO $$ BEGIN FOR i IN 1 .. 200 LOOP
		BEGIN
			INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'sub' FROM generate_series(1, 60);
			IF i % 3 = 0 THEN RAISE division_by_zero; END IF;
			BEGIN
				INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 7, 'subsub' FROM generate_series(1, 60);
				IF i % 4 = 0 THEN RAISE division_by_zero; END IF;
			EXCEPTION WHEN division_by_zero THEN NULL;
			END;
		EXCEPTION WHEN division_by_zero THEN NULL;
		END; END LOOP; END $$});
	both_equal('transactions, and many subtransactions');
};

promise 'changes_of_every_kind' => sub {
	run('BEGIN; ' . rows(3000) . q{; UPDATE ev SET k = k + 1, v = v || '!' WHERE id % 3 = 0; DELETE FROM ev WHERE id % 5 = 0; } . rows(3000) . '; COMMIT');
	both_equal('UPDATE and DELETE');
	run('BEGIN; ' . rows(3000) . '; TRUNCATE ev; ' . rows(2500) . '; COMMIT');
	both_equal('TRUNCATE');
	is(run('SELECT sum(n) FROM sums'), 2500, 'what came after it');
	run('BEGIN; ' . rows(3000) . '; SAVEPOINT a; TRUNCATE ev; ROLLBACK TO a; ' . rows(500) . '; COMMIT');
	both_equal('TRUNCATE rolled back');
	is(run('SELECT sum(n) FROM sums'), 6000, 'nothing is gone');
};

promise 'rows_larger_than_a_frame' => sub {
	run(q{ALTER TABLE ev ALTER v SET STORAGE EXTERNAL});
	run('BEGIN; ' . rows(3000) . q{; INSERT INTO ev SELECT i, '2026-01-01', 3, repeat(i::text, 1500000) FROM generate_series(1, 4) i; } . rows(3000) . '; COMMIT');
	both_equal('parts of rows');
	run(q{UPDATE ev SET k = 2 WHERE length(v) > 1000000});
	both_equal('unchanged toasted values');
	run(q{DELETE FROM ev WHERE length(v) > 1000000});
	both_equal('deleted');
};

promise 'layouts_within' => sub {
	run('BEGIN; ' . rows(3000) . q{; ALTER TABLE ev ADD x text DEFAULT 'x'; } . rows(3000) . '; SAVEPOINT s; ALTER TABLE ev ADD y int DEFAULT 5; ' . rows(3000)
		. '; ROLLBACK TO s; ' . rows(3000) . '; ALTER TABLE ev DROP x; UPDATE ev SET k = k + 1 WHERE id < 100; COMMIT');
	both_equal('DDL in a large transaction');
	my $open = session();
	$open->query_safe('BEGIN; ' . rows(3000) . '; CREATE TABLE made (LIKE ev); ');
	run(rows(3000, 'other'));
	run(rows(100));
	$open->query_safe(rows(3000));
	run('ALTER TABLE other ADD z int DEFAULT 7');
	$open->query_safe('COMMIT');
	$open->quit;
	both_equal('DDL of others in between');
};

promise 'several_at_once' => sub {
	my $load = start_load($node, join("\n", '\set n random(1, 400)', '\set r random(1, 3)', 'BEGIN;', (rows(':n') . ';', rows(':n') . ';') x 4,
			'\if :r = 1', 'ROLLBACK;', '\elif :r = 2', 'SAVEPOINT a;', rows(':n') . ';', 'ROLLBACK TO a;', 'COMMIT;', '\else', 'COMMIT;', '\endif'),
		$db, qw(-c 6 -t 20));
	finish_load($load, 0);
	both_equal('six clients');
	my ($x, $y, $z) = map { session() } 1 .. 3;
	$_->query_safe('BEGIN') for $x, $y, $z;
	for my $i (1 .. 5)
	{
		$_->query_safe(rows(1000)) for $x, $y, $z;
		run(rows(10));
	}
	both_equal('none of the three yet');
	$y->query_safe('ROLLBACK');
	$z->query_safe('COMMIT');
	both_equal('the last');
	$x->query_safe('COMMIT');
	both_equal('the first');
	$_->quit for $x, $y, $z;
};

promise 'prepared' => sub {
	for my $name (qw(a b c d))
	{
		run('BEGIN; ' . rows(5000) . "; PREPARE TRANSACTION '$name'");
	}
	run(rows(10));
	both_equal('prepared only');
	run("COMMIT PREPARED 'a'; ROLLBACK PREPARED 'b'");
	both_equal('committed and rolled back');
	$node->restart;
	run("COMMIT PREPARED 'c'");
	both_equal('after a restart');
	crash_and_start($node);
	run("COMMIT PREPARED 'd'");
	both_equal('after a crash');
};

promise 'workers_that_end_in_the_middle' => sub {
	my $open = session();

	$open->query_safe('BEGIN; ' . rows(10000));
	run(rows(1000));
	both_equal('an open one');
	for my $kind (qw(reader runner))
	{
		my $pid = wait_for_worker($node, $kind);
		run("SELECT pg_terminate_backend($pid)");
		$open->query_safe(rows(5000));
		run(rows(1000));
		both_equal("the $kind has ended");
	}
	$open->query_safe('COMMIT');
	$open->quit;
	both_equal('committed');
	is(run("SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'no temporary file is left');
};

promise 'source_added_after_its_rows_were_passed_by' => sub {
	make_source($node, 'young');
	my $open = session();

	$open->query_safe('BEGIN; ' . rows(2000) . '; ' . rows(5000, 'young'));
	run(rows(1000, 'other'));
	create_pipeline($node, 'of_young', tumble('young'));
	$open->query_safe(rows(300, 'young'));
	run(rows(50, 'young'));
	$open->query_safe('COMMIT');
	$open->quit;
	equal_to_batch($node, 'of_young');
	is(run('SELECT sum(n) FROM of_young'), 5350, 'all of them');
	ok($node->log_contains(qr/decoding starts over/), 'by starting over');
	both_equal('the others');
};

promise 'partitions' => sub {
	run(q{CREATE TABLE pa (id int, ts timestamptz, k int, v text) PARTITION BY LIST (k);
		CREATE TABLE pa_1 (v text, k int, ts timestamptz, id int); ALTER TABLE pa_1 REPLICA IDENTITY FULL; ALTER TABLE pa ATTACH PARTITION pa_1 FOR VALUES IN (0, 1, 2);
		CREATE TABLE pa_2 PARTITION OF pa DEFAULT; ALTER TABLE pa_2 REPLICA IDENTITY FULL});
	create_pipeline($node, 'of_pa', tumble('pa'));
	run('BEGIN; ' . rows(3000, 'pa') . q{; UPDATE pa SET k = (k + 3) % 7 WHERE id % 2 = 0; SAVEPOINT a; DROP TABLE pa_1; ROLLBACK TO a; SAVEPOINT b; TRUNCATE pa_2; ROLLBACK TO b; }
		. rows(3000, 'pa') . '; COMMIT');
	equal_to_batch($node, 'of_pa');
	run('BEGIN; ' . rows(3000, 'pa') . '; TRUNCATE pa_2; ' . rows(3000, 'pa') . '; COMMIT');
	equal_to_batch($node, 'of_pa', 'a partition truncated by itself: rebuilt');
};

$node->stop;
done_testing();
