# Sessions over a table whose rows come, change and go, live: whatever the runner does in between, each result is the batch answer.
#
#   SEED=7 ROUNDS=30 ./scripts/test tap=sessions
#
# Sums of fractions are compared with ones that PostgreSQL rounds: they are of quarters. With so little memory that cells leave it between bundles, runners that are killed in the middle, and values of every kind of
# aggregate. Times lie in a few clusters, so that sessions merge and are taken apart all the time; some keys have many sessions.
use strict;
use warnings;
use Test::More;
use SbTest;

my $seed = $ENV{SEED} // time % 1_000_000;
my $rounds = $ENV{ROUNDS} // 12;
my $node = new_node('sessions', conf => "stream_beam.state_memory = '1MB'\nstream_beam.bundle_time = '20ms'\nstream_beam.ring_size = '1MB'\n");
my $late = q{allowed_lateness => '10000 days'};
my %pipelines = (
	plain => [ 'count(*) AS n, sum(v) AS s, max(note) AS last', '2 minutes', $late ],
	kept => [ q{count(DISTINCT v) AS n, array_agg(v ORDER BY v, id) AS all_of, avg(x) AS mean, sum(x) FILTER (WHERE v > 5) AS large, string_agg(note, ',' ORDER BY note, id) AS notes},
		'5 minutes', $late ],
	few => [ 'count(*) AS n, min(x) AS lo', '20 seconds', "$late, trigger => beam.repeatedly(beam.after_count(1))" ],
	whole => [ 'count(*) AS n, sum(x) AS s', '1 hour', "$late, trigger => beam.continuous()" ],
	told => [ 'count(*) AS n, sum(v) AS s', '1 minute', "$late, accumulation => 'retracting'" ]);

diag("sessions: SEED=$seed ROUNDS=$rounds");
srand($seed);

sub run { return $node->safe_psql('postgres', $_[0]); }
sub below { return int rand $_[0]; }

# Of a retracting result what adds up, in the place of the table
sub right
{
	my ($name) = @_;

	for my $p (sort keys %pipelines)
	{
		next if $p eq 'told';
		equal_to_batch($node, "s_$p", "$name: $p");
	}
	equal_to_batch($node, 's_over', "$name: sessions of sessions");
	equal_to_batch($node, 's_sum', "$name: a sum over sessions");
	wait_for($node, 's_told');
	is(run(q{SELECT count(*) FROM ((SELECT k, window_start, window_end, n, s FROM s_told GROUP BY 1, 2, 3, 4, 5 HAVING sum(op) <> 0 EXCEPT ALL SELECT k, window_start, window_end, n, s FROM s_told_batch)
		UNION ALL (SELECT k, window_start, window_end, n, s FROM s_told_batch EXCEPT ALL SELECT k, window_start, window_end, n, s FROM s_told GROUP BY 1, 2, 3, 4, 5 HAVING sum(op) = 1)) x}), 0, "$name: what is told adds up");
	is(run(q{SELECT string_agg(name || ' ' || coalesce(error_message, ''), ', ') FROM beam.pipelines WHERE state <> 'running'}), '', "$name: all are running");
	is(run('SELECT count(*) FROM beam.dead_letters') + run('SELECT count(*) FROM beam.late_events'), 0, "$name: no row is late or dead");
}

# One transaction of a few statements; some are rolled back
sub change
{
	my $spread = (60, 600, 20000)[ below(3) ];
	my $where = 'id % ' . (3 + below(40)) . ' = ' . below(3) . (below(2) ? ' AND k = ' . below(4) : '');
	my @statements = map {
		my $what = below(10);

		$what < 4 ? "INSERT INTO act SELECT nextval('ids'), i % 4, '2026-01-01'::timestamptz + random() * $spread * interval '1 s', i % 11, floor(random() * 400) / 4, repeat(chr(97 + i % 26), i % 5) FROM generate_series(1, " . (1 + below(120)) . ') i'
		  : $what == 4 ? "UPDATE act SET ts = ts + (random() - 0.5) * interval '$spread s' WHERE $where"
		  : $what == 5 ? "UPDATE act SET k = (k + 1) % 4, x = x + 1.25 WHERE $where"
		  : $what == 6 ? "UPDATE act SET v = v + 1, note = note || 'z' WHERE $where"
		  : $what == 7 ? "DELETE FROM act WHERE ts BETWEEN '2026-01-01'::timestamptz + " . below($spread) . " * interval '1 s' AND '2026-01-01'::timestamptz + " . below($spread) . " * interval '1 s'"
		  : "DELETE FROM act WHERE $where"
	} 1 .. 1 + below(3);

	return 'BEGIN; ' . join('; ', @statements) . (below(8) ? '; COMMIT;' : '; ROLLBACK;');
}

run('CREATE TABLE act (id int, k int, ts timestamptz, v int, x float8, note text); ALTER TABLE act REPLICA IDENTITY FULL; CREATE SEQUENCE ids');
for my $p (sort keys %pipelines)
{
	my ($list, $gap, $options) = @{ $pipelines{$p} };

	create_pipeline($node, "s_$p", "SELECT w.window_start, w.window_end, a.k, $list FROM act a, beam.session(a.ts, '$gap') w GROUP BY w.window_start, w.window_end, a.k", $options);
}
create_pipeline($node, 's_over', q{SELECT w.window_start, w.window_end, count(*) AS visits, sum(p.n) AS n FROM s_plain p, beam.session(p.window_start, '10 minutes') w GROUP BY 1, 2}, $late);
create_pipeline($node, 's_sum', 'SELECT p.k, count(*) AS sessions, sum(p.n) AS n, max(p.s) AS most FROM s_plain p GROUP BY 1', $late);

for my $round (1 .. $rounds)
{
	promise "round_$round" => sub {
		run(change()) for 1 .. 5 + below(15);
		kill9($node, 'runner') if $round % 4 == 0;
		run(change()) for 1 .. 5;
		if ($round % 5 == 0) { my $pid = wait_for_worker($node, 'runner'); run("SELECT pg_terminate_backend($pid)"); }
		if ($round % 6 == 0) { run('TRUNCATE act'); run(change()) for 1 .. 10; }
		right("round $round");
	};
}

# they have room here: otherwise each step reads them all from the table
promise 'many_sessions_of_one_key_come_and_go' => sub {
	run(q{ALTER SYSTEM SET stream_beam.state_memory = '256MB'});
	run('SELECT pg_reload_conf()');
	run(q{TRUNCATE act; INSERT INTO act SELECT i, 1, '2026-01-01'::timestamptz + i * interval '25 s', 1, 1, '' FROM generate_series(1, 20000) i});
	is(run(q{CALL beam.wait_for('s_few'); SELECT count(*) FROM s_few}), 20000, 'each row is a session');
	is(run(q{INSERT INTO act SELECT -i, 1, '2026-01-01'::timestamptz + i * interval '25 s' + interval '12 s', 1, 1, '' FROM generate_series(1, 20000) i; CALL beam.wait_for('s_few'); SELECT count(*) FROM s_few}), 1, 'all are one');
	is(run(q{DELETE FROM act WHERE id < 0; CALL beam.wait_for('s_few'); SELECT count(*) FROM s_few}), 20000, 'they are apart again');
	right('many');
	is(run(q{DELETE FROM act; CALL beam.wait_for('s_few'); SELECT count(*) FROM s_few}), 0, 'nothing is left');
	right('none');
	my @tables = split /\n/, run(q{SELECT format('beam_state.%I', table_name) FROM information_schema.tables t JOIN beam.pipeline p ON t.table_name = 'cells_' || p.id
		WHERE table_schema = 'beam_state' AND p.name ~ 's_(plain|kept|few|whole|told|over)'});
	is(join(', ', grep { run("SELECT count(*) FROM $_") ne '0' } @tables), '', 'and no state in ' . @tables . ' tables');
};
done_testing();
