# Chained pipelines when something goes wrong: every level equals its definition, whatever dies, fails or is paused, and whenever it was made.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('chained', conf => "stream_beam.max_dead_letters = 50\nstream_beam.bundle_time = '20ms'\nstream_beam.ring_size = '1MB'\n");
my $late = q{allowed_lateness => '10000 days'};
my $script = q{
\set t random(0, 36000)
INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + (:t + i) * interval '1 s', i % 3, '' FROM generate_series(1, 10) i;
};

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# A source `e_NAME`, over it `u_NAME`, over that `d_NAME` with this query, and `o_NAME`, which must never notice
sub setup
{
	my ($name, $query) = @_;

	make_source($node, "e_$name");
	create_pipeline($node, "u_$name", tumble("e_$name"));
	create_pipeline($node, "d_$name", $query =~ s/UPSTREAM/u_$name/gr);
	create_pipeline($node, "o_$name", sums("u_$name"));
}

sub sums
{
	my ($upstream) = @_;

	return qq{SELECT w.window_start, w.window_end, sum(u.n) AS n, sum(u.s) AS s, max(u.s) AS most, count(DISTINCT u.n) AS different
		FROM $upstream u, beam.tumble(u.window_start, '1 hour') w GROUP BY 1, 2};
}

sub queued
{
	my ($name) = @_;

	return run("SELECT count(*) FROM beam_state.queue_" . run("SELECT id FROM beam.pipeline WHERE name = '$name'"));
}

my @levels = qw(c_minutes c_hours c_days);

sub all_levels
{
	my ($name) = @_;

	equal_to_batch($node, $_, "$name: $_") for @levels;
	is(run(q{SELECT string_agg(name || ' ' || error_message, ',') FROM beam.pipelines WHERE name LIKE 'c\_%' AND state <> 'running'}), '', "$name: all are running");
}

promise 'chain_is_made_while_its_upstream_has_just_been_made_and_is_written' => sub {
	for my $round (1 .. 5)
	{
		make_source($node, "ev_$round");
		# writes from the moment on in which the upstream is there
		my $load = start_load($node, "INSERT INTO ev_$round SELECT i, '2026-01-01', i, '' FROM generate_series(1, 10) i WHERE to_regclass('m_$round') IS NOT NULL",
			undef, qw(-c 2 -T 600));
		create_pipeline($node, "m_$round", tumble("ev_$round"));
		my ($rc, $out, $err) = $node->psql('postgres', "SELECT beam.create_pipeline('h_$round', \$q\$" . sums("m_$round") . "\$q\$, $late)");
		wait_until($node, "SELECT count(*) > 1000 FROM ev_$round");
		finish_load($load);
		equal_to_batch($node, "m_$round", "upstream in round $round");
		like($err, qr/source table "m_$round" has rows already/, "round $round: refused, since rows were there already") if $rc != 0;
		equal_to_batch($node, "h_$round", "downstream pipeline in round $round") if $rc == 0;
		run("SELECT beam.drop_pipeline('h_$round')") if $rc == 0;
		run("SELECT beam.drop_pipeline('m_$round')");
	}
};

promise 'every_level_survives_whatever_dies' => sub {
	make_source($node, 'ev');
	create_pipeline($node, 'c_minutes', tumble('ev'));
	create_pipeline($node, 'c_hours', sums('c_minutes'));
	create_pipeline($node, 'c_days', q{SELECT w.window_start, w.window_end, sum(h.n) AS n, string_agg(h.s::text, ' ' ORDER BY h.window_start) AS list
		FROM c_hours h, beam.tumble(h.window_start, '1 day') w GROUP BY 1, 2});
	my $load = start_load($node, $script);
	wait_until($node, 'SELECT count(*) > 500 FROM ev');
	for my $round (1 .. 3)
	{
		my $pid = wait_for_worker($node, 'runner');
		run("SELECT pg_terminate_backend($pid)");
		wait_until($node, "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND pid <> $pid");
		my $before = run('SELECT count(*) FROM ev');
		wait_until($node, "SELECT count(*) > $before + 300 FROM ev");
	}
	finish_load($load);
	all_levels('the runner is terminated');
	for my $round (1 .. 3)
	{
		$load = start_load($node, $script);
		my $before = run('SELECT count(*) FROM ev');
		wait_until($node, "SELECT count(*) > $before + 300 FROM ev");
		kill9($node, 'runner');
		finish_load($load);
		run(q{INSERT INTO ev VALUES (1, '2026-01-01 05:00', 1, '')});
		all_levels("round $round, the runner is killed");
	}
	run("INSERT INTO ev SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, '' FROM generate_series(1, 30000) i");
	crash_and_start($node);
	all_levels('the server crashes');
};

promise 'levels_are_paused_and_resumed_under_load' => sub {
	my $load = start_load($node, $script);
	for my $level (qw(c_hours c_days c_minutes c_hours c_days))
	{
		run("SELECT beam.pause_pipeline('$level')");
		my $before = run('SELECT count(*) FROM ev');
		wait_until($node, "SELECT count(*) > $before + 300 FROM ev");
		run("SELECT beam.resume_pipeline('$level')");
	}
	finish_load($load);
	all_levels('resumed');
	is(queued($_), 0, "nothing is left in the queue of $_") for qw(c_hours c_days);
};

promise 'queue_is_taken_without_a_further_row_after_a_restart_too' => sub {
	run("SELECT beam.pause_pipeline('c_hours')");
	run(q{INSERT INTO ev VALUES (1, '2026-01-01 07:00', 1, '')});
	wait_for($node, 'c_minutes');
	cmp_ok(queued('c_hours'), '>', 0, 'the rows are queued');
	crash_and_start($node);
	cmp_ok(queued('c_hours'), '>', 0, 'they are there after a crash');
	run("SELECT beam.resume_pipeline('c_hours')");
	wait_until($node, 'SELECT count(*) = 0 FROM beam_state.queue_' . run(q{SELECT id FROM beam.pipeline WHERE name = 'c_hours'}));
	all_levels('taken');
};

promise 'row_that_fails_in_a_reader_is_its_dead_letter_only' => sub {
	setup('dead', 'SELECT 100 / (u.s - 50) AS q, count(*) AS n FROM UPSTREAM u GROUP BY 1');
	my $without = 'SELECT 100 / (s - 50) AS q, count(*) AS n FROM (SELECT * FROM u_dead WHERE s <> 50 OFFSET 0) u GROUP BY 1';
	my $equal = sub {
		my ($letters, $name) = @_;

		wait_for($node, 'd_dead');
		is(run("SELECT count(*) FROM ((TABLE d_dead EXCEPT ALL ($without)) UNION ALL (($without) EXCEPT ALL TABLE d_dead)) x"), 0, "$name: the rest is applied");
		is(run("SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'd_dead'"), $letters, "$name: dead letters");
		is(run("SELECT count(*) FROM beam.dead_letters WHERE pipeline <> 'd_dead'"), 0, "$name: of this pipeline only");
		is(run(q{SELECT string_agg(name, ',') FROM beam.pipelines WHERE name LIKE '%\_dead' AND state <> 'running'}), '', "$name: all are running");
		equal_to_batch($node, $_, "$name: $_") for qw(u_dead o_dead);
	};
	run(q{INSERT INTO e_dead VALUES (50, '2026-01-01', 1, ''), (1, '2026-01-01', 2, ''), (2, '2026-01-01', 3, '')});
	$equal->(1, 'inserted');
	# the failing row is taken back, which fails like it, and the new one is applied
	run(q{INSERT INTO e_dead VALUES (5, '2026-01-01', 1, ''), (5, '2026-01-01', 2, '')});
	$equal->(2, 'replaced');
	run(q{SELECT beam.pause_pipeline('d_dead')});
	run(q{INSERT INTO e_dead VALUES (44, '2026-01-01', 2, ''), (7, '2026-01-01', 4, '')});
	wait_for($node, 'u_dead');
	run(q{SELECT beam.resume_pipeline('d_dead')});
	$equal->(3, 'from the queue');
};

promise 'reader_that_fails_goes_on_exactly_once_resumed' => sub {
	run('CREATE ROLE reader LOGIN');
	run('GRANT CREATE, USAGE ON SCHEMA public TO reader; GRANT USAGE ON SCHEMA beam TO reader; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA beam TO reader');
	run('CREATE FUNCTION twice(numeric) RETURNS numeric LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN $1 * 2; END$$; REVOKE ALL ON FUNCTION twice(numeric) FROM PUBLIC; GRANT EXECUTE ON FUNCTION twice(numeric) TO reader');
	make_source($node, 'e_right');
	create_pipeline($node, 'u_right', tumble('e_right'));
	run('GRANT SELECT ON u_right TO reader');
	run('SET ROLE reader; SELECT beam.create_pipeline($$d_right$$, $$SELECT u.k, sum(twice(u.s)) AS s, max(u.n) AS n FROM u_right u GROUP BY u.k$$)');
	create_pipeline($node, 'o_right', sums('u_right'));
	run(q{INSERT INTO e_right SELECT i, '2026-01-01', i % 3, '' FROM generate_series(1, 100) i});
	equal_to_batch($node, 'd_right', 'before');
	my $was = run('SELECT md5(string_agg(x::text, $$ $$ ORDER BY x)) FROM d_right x');
	run('REVOKE EXECUTE ON FUNCTION twice(numeric) FROM reader');
	# what is planned already is checked when it is planned anew
	my $pid = wait_for_worker($node, 'runner');
	run("SELECT pg_terminate_backend($pid)");
	run(q{INSERT INTO e_right SELECT i, '2026-01-01', i % 4, '' FROM generate_series(1, 100) i});
	state_is($node, 'd_right', 'failed', qr/permission denied for function twice/);
	equal_to_batch($node, $_, "$_ goes on") for qw(u_right o_right);
	run(q{INSERT INTO e_right SELECT i, '2026-01-01 01:00', i % 4, '' FROM generate_series(1, 100) i});
	equal_to_batch($node, $_, "$_ goes on") for qw(u_right o_right);
	is(run('SELECT md5(string_agg(x::text, $$ $$ ORDER BY x)) FROM d_right x'), $was, 'its result is as of before');
	cmp_ok(queued('d_right'), '>', 0, 'its rows are queued');
	run('GRANT EXECUTE ON FUNCTION twice(numeric) TO reader');
	run("SELECT beam.resume_pipeline('d_right')");
	equal_to_batch($node, 'd_right', 'resumed');
	is(queued('d_right'), 0, 'and the queue is empty');
};

promise 'longer_windows_of_a_reader_end_when_the_source_is_at_rest' => sub {
	make_source($node, 'e_rest');
	create_pipeline($node, 'u_rest', tumble('e_rest') =~ s/1 minute/1 second/r, q{allowed_lateness => '0', idle_timeout => '300 ms'});
	create_pipeline($node, 'd_rest', q{SELECT w.window_start, w.window_end, sum(u.n) AS n FROM u_rest u, beam.tumble(u.window_start, '5 seconds') w GROUP BY 1, 2},
		q{allowed_lateness => '0', trigger => 'after_watermark()'});
	create_pipeline($node, 'dd_rest', q{SELECT count(*) AS n FROM d_rest d, beam.tumble(d.window_start, '5 seconds') w GROUP BY w.window_start, w.window_end},
		q{allowed_lateness => '0', trigger => 'after_watermark()'});
	run(q{INSERT INTO e_rest VALUES (1, date_bin('5 seconds', now(), '2026-01-01'), 1, '')});
	wait_until($node, 'SELECT count(*) = 1 FROM dd_rest');
	is(run('SELECT n FROM d_rest'), 1, 'its pane comes without another row');
};

done_testing();
