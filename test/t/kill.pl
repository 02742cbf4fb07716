# Workers, launcher, backends and the postmaster die at any moment, under load: nothing is lost, nothing is counted twice.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time usleep);
use SbTest;

my $node = new_node('kill', conf => "stream_beam.ring_size = '1MB'\nstream_beam.bundle_time = '20ms'\n");
my $seed = $ENV{SB_SEED} // int(time) % 100000;
my $late = q{allowed_lateness => '10000 days'};

# Times spread over some minutes, so that sessions come into being, grow and merge
my $script = q{
\set k random(1, 5)
\set t random(0, 3600)
BEGIN;
INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + (:t + i * 7 % 60) * interval '1 s', :k, 'v' || (:t % 97) FROM generate_series(1, 20) i;
SAVEPOINT a;
INSERT INTO ev VALUES (1000000, '2026-01-01', 0);
ROLLBACK TO a;
COMMIT;
};

diag("SB_SEED=$seed");
srand($seed);
make_source($node, 'ev');
create_pipeline($node, 'p_tumble', tumble('ev'), $late);
create_pipeline($node, 'p_hop', q{SELECT w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s
	FROM ev e, beam.hop(e.ts, '5 minutes', '1 minute') w GROUP BY 1, 2}, $late);
create_pipeline($node, 'p_session', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, min(e.ts) AS first
	FROM ev e, beam.session(e.ts, '20 seconds') w GROUP BY 1, 2, 3}, $late);
create_pipeline($node, 'p_distinct', q{SELECT w.window_start, w.window_end, count(DISTINCT e.v) AS n, string_agg(DISTINCT e.v, ',' ORDER BY e.v) AS vs
	FROM ev e, beam.tumble(e.ts, '10 minutes') w GROUP BY 1, 2}, $late);
create_pipeline($node, 'p_global', 'SELECT count(*) AS n, sum(id) AS s FROM ev', $late);
create_pipeline($node, 'p_discard', q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s
	FROM ev e, beam.tumble(e.ts, '1 minute') w GROUP BY 1, 2, 3},
	"$late, accumulation => 'discarding', source_mode => 'append_only', trigger => 'repeatedly(after_any(after_count(7), continuous()))', allow_unsafe_trigger => true");

my @accumulating = qw(p_tumble p_hop p_session p_distinct p_global);

sub all_right
{
	my ($name) = @_;

	equal_to_batch($node, $_, "$name: $_") for @accumulating;
	wait_for($node, 'p_discard');
	is( $node->safe_psql('postgres', q{
		SELECT count(*) FROM (
			(SELECT window_start, k, sum(n) AS n, sum(s) AS s FROM p_discard GROUP BY 1, 2 EXCEPT ALL SELECT window_start, k, n, s FROM p_discard_batch)
			UNION ALL
			(SELECT window_start, k, n, s FROM p_discard_batch EXCEPT ALL SELECT window_start, k, sum(n), sum(s) FROM p_discard GROUP BY 1, 2)) x}),
		0, "$name: p_discard, the sums of its panes");
	is($node->safe_psql('postgres', q{SELECT string_agg(name || ' ' || error_message, ',') FROM beam.pipelines WHERE state <> 'running'}), '', "$name: all are running");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM beam.late_events'), 0, "$name: no late event") if $name =~ /end/;
}

# Rows in the source, or undef while the server is coming back
sub rows_now
{
	my ($rc, $out) = $node->psql('postgres', q{SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE (SELECT count(*) FROM ev) END});

	return $rc == 0 ? $out : undef;
}

sub await_rows
{
	my ($more) = @_;
	my $before = rows_now();

	wait_until($node, "SELECT count(*) >= $before + $more FROM ev");
}

for my $kind (qw(reader runner launcher))
{
	promise "terminated_${kind}_comes_back_and_nothing_is_lost" => sub {
		my $load = start_load($node, $script);

		await_rows(2000);
		my $pid = wait_for_worker($node, $kind);
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		my $others = $kind eq 'launcher' ? '' : "AND datname = 'postgres'";
		wait_until($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam $kind' AND pid <> $pid");
		pass('another one is there');
		await_rows(1000);
		finish_load($load);
		all_right("after the $kind was terminated");
	};
}

promise 'a_worker_that_keeps_dying_is_restarted_with_back_off' => sub {
	my @starts;

	# the end of a life is followed by its successor at once, then after half a second, a second, two
	for my $round (1 .. 4)
	{
		my $pid = wait_for_worker($node, 'runner');
		my $killed = time;
		$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
		wait_until($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND pid <> $pid");
		push @starts, time - $killed;
	}
	cmp_ok($starts[-1], '>', 0.9, "the fourth start waits (@starts)");
	all_right('after the back-off');
};

for my $kind (qw(reader runner launcher))
{
	promise "killed_${kind}_restarts_the_server_and_nothing_is_lost" => sub {
		my $load = start_load($node, $script);

		await_rows(2000);
		kill9($node, $kind);
		finish_load($load);
		all_right("after the $kind was killed");
		$node->safe_psql('postgres', q{INSERT INTO ev SELECT i, '2026-01-01', 1 FROM generate_series(1, 100) i});
		all_right('and goes on');
	};
}

promise 'killed_postmaster_loses_nothing' => sub {
	my $load = start_load($node, $script);
	my @pids = map { wait_for_worker($node, $_) } qw(launcher reader runner);

	await_rows(2000);
	$node->kill9;
	finish_load($load);
	# nobody may hold the old shared memory
	my $until = time + 20;
	usleep(20000) while time < $until && grep { kill 0, $_ } @pids; # sleeps: between two looks
	is(scalar(grep { kill 0, $_ } @pids), 0, 'the workers end with their postmaster');
	$node->start;
	all_right('after the postmaster was killed');
};

promise 'random_kills_under_mixed_load_lose_nothing' => sub {
	my $end = time + 45;
	my ($round, %killed) = (0);

	while ($round < 25 && time < $end)
	{
		my $load = start_load($node, $script, 'postgres', qw(-c 3 -T 600 -R 400));
		my $kind = (qw(runner reader runner launcher backend))[ int(rand(5)) ];
		my $hard = rand() < 0.4;
		my $type = $kind eq 'backend' ? 'client backend' : "stream_beam $kind";

		usleep(int(rand(500000))); # sleeps: a moment that nobody has chosen
		my ($rc, $pid) = $node->psql('postgres', "SELECT min(pid) FROM pg_stat_activity WHERE backend_type = '$type' AND pid <> pg_backend_pid() AND datname IS NOT DISTINCT FROM "
			. ($kind eq 'launcher' ? 'NULL' : q{'postgres'}));
		if ($rc == 0 && $pid)
		{
			kill($hard ? 'KILL' : 'TERM', $pid);
			$killed{ $kind . ($hard ? ' hard' : '') }++;
		}
		usleep(int(rand(200000))); # sleeps: a moment that nobody has chosen
		finish_load($load);
		wait_until($node, 'SELECT NOT pg_is_in_recovery()');
		$round++;
	}
	note("$round rounds: " . join(', ', map { "$_ $killed{$_}" } sort keys %killed));
	cmp_ok($round, '>', 5, 'some rounds');
	all_right("in the end");
};

$node->stop;
done_testing();
