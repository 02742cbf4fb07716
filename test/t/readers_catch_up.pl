# A downstream pipeline that was put aside or paused alone takes what was queued for it beside the others, which do not notice; whatever is done to it
# on the way, and whatever dies.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time);
use SbTest;

my $rows = $ENV{SB_FULL} ? 500_000 : 120_000;
my $node = new_node('readers_catch_up', conf => "stream_beam.bundle_time = '20ms'\nstream_beam.max_retries = 60\nmax_wal_size = '4GB'\nautovacuum = off\n");
my $written = 0;

sub run { return $node->safe_psql('postgres', $_[0], timeout => 180) }
sub setting { run("ALTER SYSTEM SET stream_beam.$_[0]; SELECT pg_reload_conf()") }
sub rows_in { return run("SELECT rows_in FROM beam.stat_pipelines WHERE name = '$_[0]'") }
sub queue_of { return 'beam_state.queue_' . run("SELECT id FROM beam.pipeline WHERE name = '$_[0]' AND stage = 'current'") }
sub nobody_lags { wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam late%'}) }

# So many rows of the source, an hour of event time for each hundred, each a row of the result
sub write_rows
{
	my ($n) = @_;

	run("INSERT INTO src SELECT i, i % 7, 1, '2026-01-01'::timestamptz + i * interval '36 s' FROM generate_series($written + 1, $written + $n) i");
	$written += $n;
}

# A test: a row of another table is in its result at once, again and again, until the condition is true; meanwhile the upstream goes on
sub others_are_fresh
{
	my ($condition, $most) = @_;
	my $session = $node->background_psql('postgres', on_error_stop => 1);
	my @took;

	for my $i (1 .. 20000)
	{
		my $at = time;
		$session->query_safe(q{INSERT INTO calm VALUES (1, 1); CALL beam.wait_for('calm_sum', '20 s')});
		push @took, time - $at;
		write_rows(1) if $i % 20 == 10;
		last if $i % 20 == 0 && run("SELECT $condition") eq 't';
	}
	$session->quit;
	@took = sort { $a <=> $b } @took;
	ok(run("SELECT $condition") eq 't', 'it comes to its end');
	cmp_ok($took[-1], '<', $most, sprintf('the others are fresh meanwhile: %d rows, %.1f ms in the middle, %.1f ms p99, %.1f ms at most', scalar @took, map { 1000 * $_ } @took[ @took / 2, @took * 0.99, -1 ]));
}

sub all_equal
{
	my ($name) = @_;

	equal_to_batch($node, $_, "$name: $_") for qw(base reader over over_over sibling timely calm_sum);
	is(run('SELECT count(*) FROM ' . queue_of($_)), 0, "$name: nothing is left in the queue of $_") for qw(reader over over_over);
	is(run(q{SELECT (SELECT count(*) FROM beam.late_events) + (SELECT count(*) FROM beam.dead_letters)}), 0, "$name: no row was late, none failed");
	is(run(q{SELECT string_agg(name || ' ' || state, ',') FROM beam.pipelines WHERE state <> 'running'}), '', "$name: all are running");
}

# The downstream pipeline, and what was queued for it meanwhile
sub pause_with_queue
{
	my ($n, @downstream) = @_;

	run("SELECT beam.pause_pipeline('$_')") for @downstream;
	write_rows($n);
	wait_for($node, $_) for qw(base calm_sum);
}

# A function that takes a millisecond while it is told to
run(q{CREATE TABLE hold (on_ boolean); INSERT INTO hold VALUES (false);
	CREATE FUNCTION naps_now() RETURNS void LANGUAGE plpgsql VOLATILE AS 'BEGIN IF (SELECT on_ FROM hold) THEN PERFORM pg_sleep(0.001); END IF; END'; -- # sleeps: as it is told
	CREATE FUNCTION naps(k int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM naps_now(); RETURN k; END';
	CREATE TABLE calm (id int, k int); ALTER TABLE calm REPLICA IDENTITY FULL; SELECT beam.create_pipeline('calm_sum', 'SELECT k, count(*) AS n, sum(id) AS s FROM calm GROUP BY k');
	CREATE TABLE src (id int, k int, v int, ts timestamptz); ALTER TABLE src REPLICA IDENTITY FULL});
create_pipeline($node, 'base', q{SELECT e.id, e.k, w.window_start, w.window_end, sum(e.v) AS v FROM src e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3, 4});
create_pipeline($node, 'reader', 'SELECT naps(b.k) AS k, count(*) AS n, sum(b.v) AS v, max(b.id) AS most FROM base b GROUP BY 1');
create_pipeline($node, 'over', 'SELECT r.k % 2 AS k, count(*) AS keys, sum(r.n) AS n FROM reader r GROUP BY 1');
create_pipeline($node, 'over_over', 'SELECT count(*) AS keys, sum(o.n) AS n FROM over o');
create_pipeline($node, 'sibling', 'SELECT b.k, sum(b.v) AS v FROM base b GROUP BY 1');
# whose windows end with the watermark of what it reads: rows that come after that are late
create_pipeline($node, 'timely', q{SELECT w.window_start, w.window_end, count(*) AS n FROM base b, beam.tumble(b.window_start, '1 day') w GROUP BY 1, 2}, q{allowed_lateness => '0'});
write_rows(100);
all_equal('at first');

promise 'resumed_reader_takes_its_queue_beside_the_others' => sub {
	my $from = -s $node->logfile;

	pause_with_queue($rows, 'reader', 'timely');
	run(q{SELECT beam.resume_pipeline('reader'); SELECT beam.resume_pipeline('timely')});
	others_are_fresh("(SELECT sum(n) FROM reader) > $rows AND (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam late%') = 0", 0.5);
	all_equal('resumed');
	unlike(slurp_file($node->logfile, $from), qr/starting logical decoding/, 'nobody has read the WAL again for it');
};

promise 'reader_is_made_over_many_rows_beside_the_others' => sub {
	create_pipeline($node, 'born', 'SELECT b.k, count(*) AS n FROM base b GROUP BY 1');
	others_are_fresh("(SELECT sum(n) FROM born) > $rows AND (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam late%') = 0", 0.5);
	equal_to_batch($node, 'born');
	run(q{SELECT beam.drop_pipeline('born')});
	# an empty result has its row, though rows have come
	create_pipeline($node, 'born', 'SELECT count(*) AS n FROM base b WHERE b.k = 1000', q{accumulation => 'retracting'});
	wait_for($node, 'born');
	is(run('SELECT n, op FROM born'), '0|1', 'one that finds none of them for it says so, once');
	run(q{SELECT beam.drop_pipeline('born')});
};

promise 'slow_reader_takes_its_queue_beside_the_others' => sub {
	pause_with_queue(2000, 'reader');
	run(q{UPDATE hold SET on_ = true; SELECT beam.resume_pipeline('reader')});
	others_are_fresh("(SELECT sum(n) FROM reader) > $written - 100 AND (SELECT count(*) FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam late%') = 0", 0.5);
	run('UPDATE hold SET on_ = false');
	all_equal('slow');
};

promise 'reader_whose_result_is_locked_is_tried_beside_the_others' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	$session->query_safe('BEGIN; LOCK TABLE reader IN SHARE MODE');
	write_rows(10);
	wait_until($node, 'SELECT tries >= 2 FROM beam.retry');
	# twice it waits for its second
	others_are_fresh(q{(SELECT tries >= 3 FROM beam.retry)}, 0.5);
	$session->query_safe('ROLLBACK');
	$session->quit;
	all_equal('released');
	nobody_lags();
};

promise 'reader_that_fails_again_and_again_is_failed_and_goes_on_exactly_once' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	setting('lock_timeout = 200');
	setting('max_retries = 2');
	pause_with_queue(3000, 'reader');
	$session->query_safe('BEGIN; LOCK TABLE reader IN SHARE MODE');
	run(q{SELECT beam.resume_pipeline('reader')});
	state_is($node, 'reader', 'failed', qr/lock timeout/);
	is(run('SELECT count(*) FROM ' . queue_of('reader')), 3000, 'its queue is as it was');
	wait_for($node, $_) for qw(base sibling calm_sum);
	$session->query_safe('ROLLBACK');
	$session->quit;
	run(q{SELECT beam.resume_pipeline('reader')});
	setting('max_retries = 60');
	setting('lock_timeout = 1000');
	all_equal('resumed');
};

promise 'row_that_fails_in_a_queue_is_a_dead_letter' => sub {
	create_pipeline($node, 'divides', 'SELECT 100 / (b.id % 1000) AS q, count(*) AS n FROM base b GROUP BY 1');
	wait_for($node, 'divides');
	my $without = 'SELECT 100 / (id % 1000) AS q, count(*) AS n FROM (SELECT * FROM base WHERE id % 1000 <> 0 OFFSET 0) b GROUP BY 1';
	is(run("SELECT count(*) FROM ((TABLE divides EXCEPT ALL ($without)) UNION ALL (($without) EXCEPT ALL TABLE divides)) x"), 0, 'the rest is applied');
	is(run(q{SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'divides'}), int($written / 1000), 'and no other');
	run(q{SELECT beam.drop_pipeline('divides')});
	is(run(q{SELECT state FROM beam.pipelines WHERE name = 'base'}), 'running', 'what it reads goes on');
};

# The downstream pipeline is in the middle of its queue
sub in_the_middle
{
	my $before = rows_in('reader');

	run('UPDATE hold SET on_ = true');
	pause_with_queue(4000, 'reader');
	run(q{SELECT beam.resume_pipeline('reader')});
	wait_until($node, "SELECT rows_in > $before + 500 FROM beam.stat_pipelines WHERE name = 'reader'");
	cmp_ok(run('SELECT count(*) FROM ' . queue_of('reader')), '>', 0, 'there is more to come');
}

promise 'reader_is_paused_and_resumed_on_the_way' => sub {
	for (1 .. 2)
	{
		in_the_middle();
		run(q{SELECT beam.pause_pipeline('reader')});
		write_rows(100);
		wait_for($node, 'base');
		run(q{UPDATE hold SET on_ = false; SELECT beam.resume_pipeline('reader')});
		all_equal('paused on the way');
	}
	in_the_middle();
	run(q{UPDATE hold SET on_ = false; SELECT beam.pause_pipeline('reader'); SELECT beam.resume_pipeline('reader')});
	all_equal('and at once resumed');
};

promise 'reader_is_dropped_or_altered_on_the_way' => sub {
	in_the_middle();
	run(q{SELECT beam.drop_pipeline('over_over'); SELECT beam.drop_pipeline('over'); SELECT beam.drop_pipeline('reader'); UPDATE hold SET on_ = false});
	equal_to_batch($node, $_, "dropped: $_") for qw(base sibling calm_sum);
	nobody_lags();
	create_pipeline($node, 'reader', 'SELECT naps(b.k) AS k, count(*) AS n, sum(b.v) AS v, max(b.id) AS most FROM base b GROUP BY 1');
	create_pipeline($node, 'over', 'SELECT r.k % 2 AS k, count(*) AS keys, sum(r.n) AS n FROM reader r GROUP BY 1');
	create_pipeline($node, 'over_over', 'SELECT count(*) AS keys, sum(o.n) AS n FROM over o');
	all_equal('made again');
	in_the_middle();
	run(q{SELECT beam.alter_pipeline('reader', query => 'SELECT naps(b.k) AS k, count(*) AS n, sum(b.v) AS v, max(b.id) AS most, min(b.id) AS least FROM base b GROUP BY 1', keep => NULL); UPDATE hold SET on_ = false; CALL beam.wait_for_alter('reader')});
	all_equal('altered');
};

promise 'readers_of_readers_each_from_where_it_was' => sub {
	for my $paused ([qw(over)], [qw(over_over over)], [qw(reader over_over)], [qw(over reader)], [qw(over_over over reader timely)], [qw(over base)], [qw(base reader)])
	{
		run("SELECT beam.pause_pipeline('$_')") for @$paused;
		write_rows(3000);
		wait_for($node, 'calm_sum');
		for my $one (@$paused)
		{
			run("SELECT beam.resume_pipeline('$one')");
			write_rows(100);
		}
		all_equal("@$paused");
	}
	nobody_lags();
};

promise 'what_it_reads_lags_too_on_the_way' => sub {
	in_the_middle();
	run(q{SELECT beam.pause_pipeline('base')});
	write_rows(3000);
	run(q{SELECT beam.resume_pipeline('base')});
	write_rows(100);
	run(q{UPDATE hold SET on_ = false});
	all_equal('both');
	nobody_lags();
};

promise 'killed_at_any_point_nothing_is_lost_and_nothing_is_taken_twice' => sub {
	for my $point ('before_queue_commit', 'before_queue_commit:3', 'before_commit:4', 'after_commit:4', 'before_state:3', 'after_state:5', 'after_join')
	{
		my $from = -s $node->logfile;

		pause_with_queue(4000, 'reader', 'over');
		kill_at($node, $point);
		# the server may be gone before it has answered
		eval { run("SELECT beam.resume_pipeline('$_')") } for qw(reader over);
		wait_until($node, 'SELECT true') until slurp_file($node->logfile, $from) =~ /kills itself at/;
		kill_at($node, undef);
		wait_until($node, 'SELECT true');
		until (eval { run("SELECT beam.resume_pipeline('$_')") for qw(reader over); 1 }) { wait_until($node, 'SELECT true') }
		until (eval { write_rows(10); 1 }) { wait_until($node, 'SELECT true') }
		all_equal("killed at $point");
	}
	for my $who ('late runner', 'runner')
	{
		in_the_middle();
		kill9($node, $who);
		write_rows(10);
		run('UPDATE hold SET on_ = false');
		all_equal("the $who is killed");
	}
	in_the_middle();
	run(q{UPDATE hold SET on_ = false});
	crash_and_start($node);
	write_rows(10);
	all_equal('the server crashes');
};

# Rows of the result that are there, are written meanwhile, and are written again; few and many are put into the queue in the first and in the second lane
promise 'reader_that_is_made_while_the_result_is_written_has_each_row_once_whatever_dies' => sub {
	my @made = ([ 'made_few', 'SELECT k % 3 AS k, count(*) AS keys, sum(n) AS n, max(v) AS v FROM few_sums GROUP BY 1' ], [ 'made_many', 'SELECT id % 10 AS k, count(*) AS keys, sum(n) AS n, max(v) AS v FROM many_sums GROUP BY 1' ]);
	my $script = q{INSERT INTO few SELECT i, i % 50, i FROM generate_series(1, 5) i; UPDATE few SET v = v + 1 WHERE ctid = (SELECT ctid FROM few LIMIT 1); DELETE FROM few WHERE ctid = (SELECT ctid FROM few OFFSET 20 LIMIT 1);
		INSERT INTO many SELECT random() * 20000, 0, i FROM generate_series(1, 5) i};
	my $load;

	run("CREATE TABLE $_ (id int, k int, v int); ALTER TABLE $_ REPLICA IDENTITY FULL") for qw(few many);
	create_pipeline($node, 'few_sums', 'SELECT k, count(*) AS n, sum(v) AS v FROM few GROUP BY k');
	create_pipeline($node, 'many_sums', 'SELECT id, count(*) AS n, sum(v) AS v FROM many GROUP BY id');
	run('INSERT INTO many SELECT i, 0, i FROM generate_series(1, 20000) i');
	for my $point (undef, 'after_queue_fill', 'before_queue_commit', 'after_commit:3')
	{
		my $name = $point ? "killed at $point" : 'nobody dies';
		my $from = -s $node->logfile;

		$load = start_load($node, $script, undef, qw(-c 2 -T 900 -R 100));
		wait_until($node, 'SELECT count(*) > 100 FROM few_sums, few');
		kill_at($node, $point) if $point;
		for (@made)
		{
			until (eval { create_pipeline($node, @$_); 1 }) { wait_until($node, 'SELECT true') }
		}
		if ($point)
		{
			wait_until($node, 'SELECT true') until slurp_file($node->logfile, $from) =~ /kills itself at/;
			kill_at($node, undef);
			finish_load($load);
			wait_until($node, 'SELECT true');
			$load = start_load($node, $script, undef, qw(-c 2 -T 900 -R 100));
		}
		my $written = run('SELECT count(*) FROM few');
		wait_until($node, "SELECT count(*) > $written + 100 FROM few");
		finish_load($load);
		equal_to_batch($node, $_->[0], "$name: $_->[0]") for @made;
		is(run(q{SELECT count(*) FROM beam.stat_backfill WHERE pipeline LIKE 'made%' AND state = 'done' AND rows > 0}), 2, "$name: what was there before is in");
		run("SELECT beam.drop_pipeline('$_->[0]')") for @made;
	}
	run("SELECT beam.drop_pipeline('$_')") for qw(few_sums many_sums);
};

promise 'reader_from_now_has_what_is_written_after_it_is_made_and_nothing_else' => sub {
	run(q{CREATE TABLE seen (id int GENERATED ALWAYS AS IDENTITY, mark int)});
	create_pipeline($node, 'seen_rows', 'SELECT s.id, s.mark, count(*) AS n FROM seen s GROUP BY 1, 2', q{accumulation => 'discarding', source_mode => 'append_only'});
	my $load = start_load($node, 'INSERT INTO seen (mark) SELECT 0 FROM generate_series(1, 3)', undef, qw(-c 2 -T 900 -R 200));
	for my $round (1 .. 8)
	{
		my ($least, $most, $has);

		wait_until($node, "SELECT count(*) > 300 * $round FROM seen_rows");
		$most = run('SELECT count(*) FROM seen_rows');
		create_pipeline($node, 'from_now', 'SELECT mark, sum(n) AS n FROM seen_rows GROUP BY 1', 'history => false');
		run("INSERT INTO seen (mark) SELECT $round FROM generate_series(1, 10)");
		wait_for($node, 'from_now');
		is(run("SELECT n FROM from_now WHERE mark = $round"), 10, "round $round: what is written after it is made is in it");
		finish_load($load);
		wait_for($node, 'from_now');
		$has = run('SELECT sum(n) FROM from_now');
		cmp_ok($has, '<=', run('SELECT count(*) FROM seen_rows') - $most, "round $round: what was there before is not");
		cmp_ok($has, '>', 9, "round $round: $has rows");
		run(q{SELECT beam.drop_pipeline('from_now')});
		$load = start_load($node, 'INSERT INTO seen (mark) SELECT 0 FROM generate_series(1, 3)', undef, qw(-c 2 -T 900 -R 200));
	}
	finish_load($load);
	wait_for($node, 'seen_rows');
	run(q{SELECT beam.drop_pipeline('seen_rows')});
};

promise 'without_a_worker_for_the_second_lane_the_first_takes_it_in_steps' => sub {
	run('ALTER SYSTEM SET max_worker_processes = 4');
	$node->restart;
	wait_for($node, 'reader');
	pause_with_queue(30000, 'reader', 'timely');
	run(q{SELECT beam.resume_pipeline('reader'); SELECT beam.resume_pipeline('timely')});
	others_are_fresh("(SELECT sum(n) FROM reader) > $written - 100", 1);
	all_equal('in the first');
};

# The late runner is in a chunk when there turns out to be no slot: whoever resumes the downstream pipeline then has it opened by the first lane, before that chunk is committed
promise 'without_a_slot_for_the_second_lane_no_row_is_taken_twice' => sub {
	run('ALTER SYSTEM RESET max_worker_processes; ALTER SYSTEM SET max_replication_slots = 1');
	for my $round (1 .. 3)
	{
		my $from;

		$node->restart;
		wait_for($node, 'reader');
		pause_with_queue(3000, 'reader');
		# one that needs the WAL, and so the slot
		run(q{SELECT beam.pause_pipeline('calm_sum'); INSERT INTO calm VALUES (1, 1); UPDATE hold SET on_ = true});
		$from = -s $node->logfile;
		run(q{SELECT beam.resume_pipeline('reader'); SELECT beam.resume_pipeline('calm_sum')});
		$node->wait_for_log(qr/all replication slots are in use/, $from);
		run(q{SELECT beam.pause_pipeline('reader'); SELECT beam.resume_pipeline('reader')}) for 1 .. 3;
		wait_until($node, q{SELECT state = 'running' FROM beam.pipelines WHERE name = 'reader'});
		run('UPDATE hold SET on_ = false');
		all_equal("round $round");
	}
};

$node->stop;
done_testing();
