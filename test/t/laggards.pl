# A pipeline that is behind catches up beside the others, which do not notice: resumed after a pause, put aside, behind when the server started; several at once, with what
# reads their results, dropped, altered or killed on the way.
use strict;
use warnings;
use Test::More;
use PostgreSQL::Test::Utils;
use Time::HiRes qw(time usleep);
use SbTest;

my $mb = $ENV{SB_FULL} ? 2000 : 60;
my $node = new_node('laggards', conf => "stream_beam.bundle_time = '20ms'\nmax_wal_size = '4GB'\nautovacuum = off\n");

sub run { return $node->safe_psql('postgres', $_[0], timeout => 180) }

# Rows of the laggards' sources, and of nobody's, so much
sub write_wal
{
	my ($megabytes, @tables) = @_;

	for (1 .. 10)
	{
		run("INSERT INTO $_ SELECT i, i % 7, '2026-01-01'::timestamptz + i * interval '1 s' FROM generate_series(1, 2000) i; UPDATE $_ SET id = id + 1 WHERE k = 3 AND id % 50 = 0; DELETE FROM $_ WHERE id % 97 = 1") for @tables;
		run("INSERT INTO filler SELECT repeat(md5(i::text), 30) FROM generate_series(1, " . int($megabytes * 100) . ') i');
	}
	run('TRUNCATE filler');
}

# How often the slot of the first lane has been begun to read
sub sessions { my $log = slurp_file($node->logfile, $_[0]); my $n = () = $log =~ /starting logical decoding for slot "stream_beam_\d+"/g; return $n }

sub nobody_lags { wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam late%'}) }

# A test: a row of another table is in its result at once, again and again, until the condition is true
sub others_are_fresh
{
	my ($condition, $most) = @_;
	my @took;

	for (1 .. 4000)
	{
		my $at = time;
		run(q{INSERT INTO calm VALUES (1, 1); CALL beam.wait_for('calm_sum', '20 s')});
		push @took, time - $at;
		last if @took % 5 == 0 && run("SELECT $condition") eq 't';
	}
	@took = sort { $a <=> $b } @took;
	ok(run("SELECT $condition") eq 't', 'it comes to its end');
	cmp_ok($took[-1], '<', $most, sprintf('the others are fresh meanwhile: %d rows, %.0f ms in the middle, %.0f ms at most', scalar @took, 1000 * $took[@took / 2], 1000 * $took[-1]));
}

run(q{CREATE TABLE calm (id int, k int); ALTER TABLE calm REPLICA IDENTITY FULL; CREATE TABLE filler (t text);
	SELECT beam.create_pipeline('calm_sum', 'SELECT k, count(*) AS n, sum(id) AS s FROM calm GROUP BY k')});
for my $n (1 .. 3)
{
	run("CREATE TABLE e$n (id int, k int, ts timestamptz); ALTER TABLE e$n REPLICA IDENTITY FULL");
	create_pipeline($node, "p$n", "SELECT e.k, w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s FROM e$n e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3", q{allowed_lateness => '10000 days'});
	run("INSERT INTO e$n VALUES (1, 1, '2026-01-01')");
	wait_for($node, "p$n");
}
create_pipeline($node, 'over1', 'SELECT p.k, sum(p.n) AS n, count(*) AS windows FROM p1 p GROUP BY 1');
create_pipeline($node, 'over_over1', 'SELECT count(*) AS keys, sum(o.n) AS n FROM over1 o');

promise 'resumed_pipeline_catches_up_beside_the_others' => sub {
	my $from = -s $node->logfile;

	run(q{SELECT beam.pause_pipeline('p1')});
	write_wal($mb, 'e1');
	wait_for($node, 'calm_sum');
	run(q{SELECT beam.resume_pipeline('p1')});
	others_are_fresh(q{(SELECT position > pg_current_wal_insert_lsn() - 1000000 FROM beam.pipelines WHERE name = 'p1')}, 1);
	equal_to_batch($node, $_) for qw(p1 over1 over_over1 calm_sum);
	is(sessions($from), 0, 'the first lane has not gone back');
	nobody_lags();
	run(q{INSERT INTO e1 VALUES (5, 5, '2026-01-01')});
	equal_to_batch($node, $_) for qw(p1 over1 over_over1);
	is(sessions($from), 0, 'nor when it came back');
	wait_until($node, q{SELECT every(confirmed_flush_lsn > (SELECT pg_current_wal_insert_lsn() - 20000000)) FROM pg_replication_slots WHERE slot_name LIKE 'stream_beam_%'});
	is(run(q{SELECT count(*) FROM pg_replication_slots}), 1, 'one slot is left, and it has moved on');
};

promise 'second_lane_that_is_called_and_dismissed_again_and_again_comes_at_once' => sub {
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	run(q{SELECT beam.pause_pipeline('p2')});
	run(q{INSERT INTO e2 VALUES (7, 7, '2026-01-01')});
	$session->query_safe('BEGIN; LOCK TABLE p2');
	for (1 .. 8)
	{
		run(q{SELECT beam.resume_pipeline('p2')});
		wait_for_worker($node, 'late runner');
		run(q{SELECT beam.pause_pipeline('p2')});
		wait_for_no_worker($node, 'late runner');
	}
	$session->query_safe('ROLLBACK');
	$session->quit;
	my $at = time;
	run(q{SELECT beam.resume_pipeline('p2')});
	equal_to_batch($node, 'p2');
	cmp_ok(time - $at, '<', 10, sprintf('%.1f s', time - $at));
	nobody_lags();
};

promise 'several_at_once_each_from_where_it_was' => sub {
	run(q{SELECT beam.pause_pipeline('p1')});
	write_wal(5, 'e1', 'e2', 'e3');
	run(q{SELECT beam.pause_pipeline('p2')});
	write_wal(5, 'e1', 'e2', 'e3');
	run(q{SELECT beam.pause_pipeline('p3')});
	write_wal(5, 'e1', 'e2', 'e3');
	run(q{SELECT beam.resume_pipeline('p3')});
	run(q{SELECT beam.resume_pipeline('p1')});
	run(q{SELECT beam.resume_pipeline('p2')});
	write_wal(2, 'e1', 'e2', 'e3');
	equal_to_batch($node, $_) for qw(p1 p2 p3 over1 over_over1 calm_sum);
	nobody_lags();
	write_wal(1, 'e1', 'e2', 'e3');
	equal_to_batch($node, $_) for qw(p1 p2 p3 over1 over_over1);
};

promise 'laggard_is_paused_dropped_altered_on_the_way' => sub {
	run(q{SELECT beam.pause_pipeline('p1'); SELECT beam.pause_pipeline('p2'); SELECT beam.pause_pipeline('p3')});
	write_wal(20, 'e1', 'e2', 'e3');
	run(q{SELECT beam.resume_pipeline('p1'); SELECT beam.resume_pipeline('p2'); SELECT beam.resume_pipeline('p3')});
	run(q{SELECT beam.pause_pipeline('p1'); SELECT beam.alter_pipeline('p2', watermark => '1 s'); SELECT beam.drop_pipeline('p3')});
	write_wal(5, 'e1', 'e2');
	run(q{SELECT beam.resume_pipeline('p1'); CALL beam.wait_for_alter('p2')});
	equal_to_batch($node, $_) for qw(p1 p2 over1 over_over1 calm_sum);
	nobody_lags();
	create_pipeline($node, 'p3', q{SELECT e.k, w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s FROM e3 e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3}, q{allowed_lateness => '10000 days'});
	equal_to_batch($node, 'p3');
};

promise 'killed_at_any_point_nothing_is_lost' => sub {
	for my $round (1 .. ($ENV{SB_FULL} ? 60 : 8))
	{
		my $who = ('late runner', 'late reader', 'runner', 'reader')[ $round % 4 ];

		run(q{SELECT beam.pause_pipeline('p1'); SELECT beam.pause_pipeline('p2')});
		write_wal(3, 'e1', 'e2', 'e3');
		run(q{SELECT beam.resume_pipeline('p1'); SELECT beam.resume_pipeline('p2'); INSERT INTO e1 VALUES (7, 1, '2026-01-01')});
		usleep(int rand 300_000); # sleeps: somewhere on the way
		my $pid = run("SELECT min(pid) FROM pg_stat_activity WHERE backend_type = 'stream_beam $who'");
		kill($round % 8 < 4 ? 'KILL' : 'TERM', $pid) if $pid ne '';
		for (1 .. 100)
		{
			last if eval { run(q{INSERT INTO e1 VALUES (8, 1, '2026-01-01'); INSERT INTO calm VALUES (2, 2)}); 1 };
			usleep(50_000); # sleeps: between two looks
		}
		equal_to_batch($node, $_, "$who killed: $_") for qw(p1 p2 p3 over1 over_over1 calm_sum);
	}
	nobody_lags();
};

promise 'far_behind_at_the_start_of_the_server' => sub {
	run(q{SELECT beam.pause_pipeline('p1')});
	write_wal(25, 'e1', 'e2');
	wait_for($node, 'p2');
	run(q{ALTER SYSTEM SET stream_beam.max_retries = 60});
	$node->stop('immediate');
	$node->start;
	run(q{SELECT beam.resume_pipeline('p1')});
	equal_to_batch($node, $_) for qw(p1 p2 over1 over_over1 calm_sum);
	nobody_lags();
};

promise 'put_aside_it_catches_up_beside_the_others' => sub {
	my $from = -s $node->logfile;
	my $session = $node->background_psql('postgres', on_error_stop => 1);

	run(q{ALTER SYSTEM SET stream_beam.lock_timeout = '200ms'; SELECT pg_reload_conf()});
	$session->query_safe('BEGIN; LOCK TABLE p1');
	run(q{INSERT INTO e1 VALUES (9, 1, '2026-01-01')});
	wait_until($node, q{SELECT state = 'retrying' FROM beam.pipelines WHERE name = 'p1'});
	write_wal(3, 'e1', 'e2');
	others_are_fresh(q{true}, 1);
	$session->query_safe('ROLLBACK');
	$session->quit;
	equal_to_batch($node, $_) for qw(p1 p2 over1 over_over1 calm_sum);
	is(sessions($from), 0, 'the first lane has not gone back');
	nobody_lags();
};

promise 'database_and_extension_go_with_a_laggard' => sub {
	for my $how ('DROP EXTENSION stream_beam CASCADE', 'DROP DATABASE other')
	{
		run('CREATE DATABASE other') if $how =~ /EXTENSION/;
		create_extension($node, 'other') if $how =~ /EXTENSION/;
		$node->safe_psql('other', 'CREATE EXTENSION stream_beam') if $how =~ /DATABASE/;
		$node->safe_psql('other', q{DROP TABLE IF EXISTS s, l, a, b CASCADE; CREATE TABLE s (id int); ALTER TABLE s REPLICA IDENTITY FULL; CREATE TABLE l (id int); ALTER TABLE l REPLICA IDENTITY FULL;
			SELECT beam.create_pipeline('a', 'SELECT count(*) AS n FROM s'); SELECT beam.create_pipeline('b', 'SELECT count(*) AS n FROM l'); CALL beam.wait_for('b'); SELECT beam.pause_pipeline('b');
			INSERT INTO l SELECT generate_series(1, 200000); CALL beam.wait_for('a'); SELECT beam.resume_pipeline('b')});
		my $at = time;
		$how =~ /DATABASE/ ? run($how) : $node->safe_psql('other', $how);
		cmp_ok(time - $at, '<', 8, "$how");
		wait_until($node, q{SELECT count(*) = 0 FROM pg_replication_slots s JOIN pg_database d ON s.database = d.datname WHERE d.datname = 'other'});
		nobody_lags();
	}
	run(q{INSERT INTO e1 VALUES (11, 1, '2026-01-01')});
	equal_to_batch($node, $_) for qw(p1 over1);
};

for my $what ([ 'slot', 'max_replication_slots = 1' ], [ 'worker', 'max_worker_processes = 4' ])
{
	promise "without_a_$what->[0]_for_the_second_lane_the_first_goes_back" => sub {
		run("ALTER SYSTEM SET $what->[1]");
		$node->restart;
		run(q{CALL beam.wait_for('p1'); SELECT beam.pause_pipeline('p1')});
		write_wal(2, 'e1');
		run(q{SELECT beam.resume_pipeline('p1')});
		equal_to_batch($node, $_) for qw(p1 p2 over1 over_over1 calm_sum);
		run('ALTER SYSTEM RESET max_replication_slots; ALTER SYSTEM RESET max_worker_processes');
		$node->restart;
	};
}

$node->stop;
done_testing();
