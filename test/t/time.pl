# Late rows, sources at rest, clocks and state: across restarts, and with more state than memory.
use strict;
use warnings;
use Test::More;
use Time::HiRes qw(time usleep);
use SbTest;

my $node = new_node('time', conf => "stream_beam.bundle_time = '20ms'\n");
my $late = q{allowed_lateness => '10000 days'};

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# Rows of minute $minute, each in a transaction and a bundle of its own, so that the watermark moves between them
sub at_minute
{
	my ($source, $pipeline, @minutes) = @_;

	for my $minute (@minutes)
	{
		run("INSERT INTO $source VALUES ($minute, '2026-01-01'::timestamptz + $minute * interval '1 min', 1, 'x')");
		wait_for($node, $pipeline);
	}
}

promise 'late_row_reaches_late_events' => sub {
	make_source($node, 'l');
	create_pipeline($node, 'of_l', tumble('l'), q{watermark => '0', allowed_lateness => '5 min'});
	create_pipeline($node, 'patient', tumble('l'), $late);
	at_minute('l', 'of_l', 0, 10, 20, 3, 16);
	is(run(q{SELECT string_agg(concat_ws(' ', pipeline, data->>'id', reason, window_end - window_start, event_time = window_start, watermark = '2026-01-01 00:20'), ',') FROM beam.late_events}),
		'of_l 3 expired 00:01:00 t t', 'the row of an expired window, with window and reason');
	is(run('SELECT string_agg(s::text, $$ $$ ORDER BY window_start) FROM of_l'), '0 10 16 20', 'late within the allowed lateness is no late event');
	is(run(q{SELECT late_events FROM beam.stat_pipelines WHERE name = 'of_l'}), 1, 'and it is counted');
	equal_to_batch($node, 'patient', 'the other pipeline has them all');
	$node->restart;
	at_minute('l', 'of_l', 4);
	is(run('SELECT count(*) FROM beam.late_events'), 2, 'after a restart the watermark stands where it stood');
	crash_and_start($node);
	at_minute('l', 'of_l', 5, 18);
	is(run('SELECT count(*) FROM beam.late_events'), 3, 'after a crash too, and nothing is reported twice');
};

promise 'row_of_a_finished_window_is_closed_not_lost' => sub {
	make_source($node, 'fin');
	create_pipeline($node, 'of_fin', tumble('fin'), q{watermark => '0', allowed_lateness => '1 hour', trigger => beam.after_watermark(), allow_unsafe_trigger => true});
	at_minute('fin', 'of_fin', 0, 10, 0);
	$node->restart;
	at_minute('fin', 'of_fin', 0, 11);
	is(run(q{SELECT string_agg(reason, ',') FROM beam.late_events WHERE pipeline = 'of_fin'}), 'closed,closed', 'closed, also after a restart');
	is(run('SELECT count(*) || $$ $$ || max(n) FROM of_fin'), '2 1', 'the window was written once');
};

# Is waited for: the clock goes on so far
sub let_pass
{
	my ($seconds) = @_;
	my $later = run("SELECT clock_timestamp() + interval '$seconds s'");

	wait_until($node, "SELECT clock_timestamp() > '$later'");
}

# Windows of a second over $source: a source at rest ends one within a second
sub seconds
{
	my ($source) = @_;

	return tumble($source) =~ s/1 minute/1 second/r;
}

my $at_end = q{watermark => '0', trigger => beam.after_watermark(late => beam.after_count(1))};

promise 'source_at_rest_closes_its_last_window' => sub {
	make_source($node, 'idle');
	create_pipeline($node, 'of_idle', seconds('idle'), "idle_timeout => '300 ms', $at_end");
	create_pipeline($node, 'never_idle', seconds('idle'), "idle_timeout => NULL, $at_end");
	at_minute('idle', 'of_idle', 0);
	wait_until($node, 'SELECT count(*) = 1 FROM of_idle');
	pass('its pane comes without another row');
	is(run('SELECT count(*) FROM never_idle'), 0, 'without an idle timeout it waits');
	at_minute('idle', 'never_idle', 10);
	is(run('SELECT count(*) FROM never_idle'), 1, 'until a row moves the watermark');
};

promise 'source_at_rest_closes_its_last_window_after_a_restart' => sub {
	make_source($node, 'rest');
	create_pipeline($node, 'of_rest', seconds('rest'), "idle_timeout => '2 s', $at_end");
	at_minute('rest', 'of_rest', 0);
	$node->restart;
	wait_until($node, 'SELECT count(*) = 1 FROM of_rest');
	pass('its pane comes without another row');
};

# How far the watermark has come since 2026-01-01, in seconds; -1: there is none
sub watermark_at
{
	return run("SELECT CASE WHEN isfinite(input_watermark) THEN extract(epoch FROM input_watermark - '2026-01-01') ELSE -1 END FROM beam.watermarks WHERE name = '$_[0]'");
}

promise 'old_rows_typed_by_hand_are_not_late_since_time_has_passed' => sub {
	make_source($node, 'hand');
	create_pipeline($node, 'of_hand', tumble('hand'), q{watermark => '0', allowed_lateness => '0', idle_timeout => '100 ms'});
	create_pipeline($node, 'of_none', tumble('hand'), q{watermark => '0', allowed_lateness => '0', idle_timeout => '100 ms'});
	run(q{INSERT INTO hand VALUES (1, '2026-01-01 00:00:05', 1, '')});
	my $from = time;
	wait_until($node, q{SELECT input_watermark >= '2026-01-01 00:00:08' FROM beam.watermarks WHERE name = 'of_hand'});
	run(q{INSERT INTO hand VALUES (2, '2026-01-01 00:00:06', 1, '')});
	wait_for($node, 'of_hand');
	cmp_ok(watermark_at('of_hand'), '<=', 5 + time - $from, 'at rest the watermark goes on no faster than the clock');
	is(run('SELECT count(*) FROM beam.late_events WHERE pipeline = $$of_hand$$'), 0, 'nothing is late');
	equal_to_batch($node, 'of_hand');
};

promise 'rows_that_wait_to_be_read_are_not_late' => sub {
	my $launcher = wait_for_worker($node, 'launcher');

	make_source($node, 'unread');
	create_pipeline($node, 'of_unread', tumble('unread') =~ s/1 minute/6 seconds/r, "idle_timeout => '100 ms', allowed_lateness => '0', $at_end");
	at_minute('unread', 'of_unread', 0);
	wait_until($node, q{SELECT input_watermark >= '2026-01-01 00:00:01' FROM beam.watermarks WHERE name = 'of_unread'});
	# no reader: it is not started again
	kill STOP => $launcher;
	run(q{SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'stream_beam reader'});
	wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'stream_beam reader'});
	run(q{INSERT INTO unread VALUES (2, '2026-01-01 00:00:03', 1, '')});
	let_pass(7);
	is(run('SELECT count(*) FROM of_unread'), 0, 'its window does not end meanwhile');
	kill CONT => $launcher;
	wait_until($node, 'SELECT count(*) = 1 FROM of_unread');
	is(run('SELECT n FROM of_unread'), 2, 'it is counted');
	is(run('SELECT count(*) FROM beam.late_events WHERE pipeline = $$of_unread$$'), 0, 'nothing is late');
};

promise 'source_that_never_had_a_row_has_no_watermark' => sub {
	make_source($node, 'empty');
	create_pipeline($node, 'of_empty', seconds('empty'), "idle_timeout => '100 ms', allowed_lateness => '0', $at_end");
	# another one comes to rest, and its window ends, meanwhile
	make_source($node, 'clocked');
	create_pipeline($node, 'of_clocked', seconds('clocked'), "idle_timeout => '300 ms', $at_end");
	at_minute('clocked', 'of_clocked', 0);
	wait_until($node, 'SELECT count(*) = 1 FROM of_clocked');
	is(watermark_at('of_empty'), -1, 'however long it has been at rest');
	at_minute('empty', 'of_empty', 0);
	wait_until($node, 'SELECT count(*) = 1 FROM of_empty');
	is(run('SELECT count(*) FROM beam.late_events WHERE pipeline = $$of_empty$$'), 0, 'so its first row is not late');
};

promise 'last_window_of_a_history_closes_without_a_writer' => sub {
	make_source($node, 'hist');
	run(q{INSERT INTO hist SELECT i, '2026-01-01'::timestamptz + i * interval '100 ms', 1, '' FROM generate_series(0, 99) i});
	my $from = time;
	create_pipeline($node, 'of_hist', tumble('hist') =~ s/1 minute/4 seconds/r, "idle_timeout => '100 ms', $at_end");
	wait_until($node, 'SELECT count(*) = 3 FROM of_hist');
	cmp_ok(time - $from, '>=', 2.1, 'the last one after what was left of it');
	is(run('SELECT count(*) FROM beam.late_events WHERE pipeline = $$of_hist$$'), 0, 'and no row of the history is late');
};

promise 'rows_of_now_end_with_the_clock_and_not_before' => sub {
	make_source($node, 'ahead');
	create_pipeline($node, 'of_ahead', seconds('ahead'), "idle_timeout => '100 ms', $at_end");
	run(q{INSERT INTO ahead VALUES (1, clock_timestamp() + interval '3 s', 1, '')});
	wait_until($node, 'SELECT count(*) = 1 FROM of_ahead');
	is(run('SELECT window_end <= clock_timestamp() FROM of_ahead'), 't', 'at rest the watermark does not pass the clock');
};

promise 'what_a_source_at_rest_has_come_to_survives_whatever_dies' => sub {
	make_source($node, 'often');
	create_pipeline($node, 'of_often', tumble('often') =~ s/1 minute/12 seconds/r, "idle_timeout => '100 ms', $at_end");
	at_minute('often', 'of_often', 0);
	my $from = time;
	# with a crash the last commit may be gone, which is a step of a second
	for ([ 2, 0, sub { $node->restart } ], [ 4, 1.5, sub { kill9($node, 'runner') } ], [ 8, 1.5, sub { crash_and_start($node) } ])
	{
		my ($reached, $less, $end) = @$_;

		wait_until($node, "SELECT input_watermark >= '2026-01-01'::timestamptz + $reached * interval '1 s' FROM beam.watermarks WHERE name = 'of_often'");
		$end->();
		cmp_ok(watermark_at('of_often'), '>=', $reached - $less, 'the watermark stands where it stood');
	}
	wait_until($node, 'SELECT count(*) = 1 FROM of_often');
	cmp_ok(time - $from, '>=', 12, 'its window ends, and not before its time');
};

promise 'time_in_which_the_server_is_down_does_not_count' => sub {
	make_source($node, 'off');
	create_pipeline($node, 'of_off', tumble('off') =~ s/1 minute/1 hour/r, "idle_timeout => '100 ms', allowed_lateness => '0', $at_end");
	at_minute('off', 'of_off', 0);
	my $from = time;
	$node->stop('immediate');
	my $stopped = time;
	usleep(4000000); # sleeps: the server has to be down for a time
	my $down = time - $stopped;
	$node->start;
	wait_until($node, q{SELECT input_watermark >= '2026-01-01 00:00:02' FROM beam.watermarks WHERE name = 'of_off'});
	cmp_ok(watermark_at('of_off'), '<', 1 + time - $from - $down, 'the watermark has only gone on while it ran');
};

promise 'watermark_of_one_source_at_rest_moves_while_another_is_busy' => sub {
	make_source($node, 'quiet');
	make_source($node, 'busy');
	create_pipeline($node, 'of_quiet', seconds('quiet'), "idle_timeout => '300 ms', $at_end");
	create_pipeline($node, 'of_busy', tumble('busy'), $late);
	at_minute('quiet', 'of_quiet', 0);
	my $load = start_load($node, q{INSERT INTO busy VALUES (1, now(), 1, '')});
	wait_until($node, 'SELECT count(*) = 1 FROM of_quiet');
	pass('its pane comes while the other source writes');
	finish_load($load);
	equal_to_batch($node, 'of_busy');
};

promise 'processing_time_trigger_fires_without_data' => sub {
	make_source($node, 'pt');
	create_pipeline($node, 'of_pt', tumble('pt'), qq{$late, idle_timeout => NULL, trigger => beam.repeatedly(beam.after_processing_time('500 ms'))});
	at_minute('pt', 'of_pt', 0, 0);
	wait_until($node, 'SELECT sum(n) = 2 FROM of_pt');
	pass('the pane comes by itself');
	at_minute('pt', 'of_pt', 0);
	wait_until($node, 'SELECT sum(n) = 3 FROM of_pt');
	pass('and again');
};

promise 'processing_time_that_passed_while_the_server_was_down' => sub {
	make_source($node, 'down');
	create_pipeline($node, 'of_down', tumble('down'), qq{$late, idle_timeout => NULL, trigger => beam.repeatedly(beam.after_processing_time('3 s'))});
	at_minute('down', 'of_down', 0);
	my $due = time + 3;
	is(run('SELECT count(*) FROM of_down'), 0, 'not yet');
	$node->stop('immediate');
	# the moment has to pass while the server is down
	usleep(50000) while time < $due; # sleeps: the clock itself is waited for
	$node->start;
	wait_until($node, 'SELECT sum(n) = 1 FROM of_down');
	pass('the pane comes after the start, without data');
};

my %kinds = (
	tumble => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, avg(e.id) AS a FROM st e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3},
	hop => q{SELECT w.window_start, w.window_end, count(*) AS n, max(e.v) AS m FROM st e, beam.hop(e.ts, '1 hour', '10 minutes') w GROUP BY 1, 2},
	cumulate => q{SELECT w.window_start, w.window_end, count(*) AS n FROM st e, beam.cumulate(e.ts, '1 day', '2 hours') w GROUP BY 1, 2},
	session => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, min(e.id) AS m FROM st e, beam.session(e.ts, '40 seconds') w GROUP BY 1, 2, 3},
	calendar => q{SELECT w.window_start, w.window_end, e.k, stddev(e.id)::numeric(20, 6) AS d FROM st e, beam.calendar(e.ts, 'day', 1, 'Europe/Berlin') w GROUP BY 1, 2, 3},
	own => q{SELECT w.window_start, w.window_end, count(*) AS n FROM st e, st_window(e.ts) w GROUP BY 1, 2},
	global => q{SELECT e.v, count(*) AS n, array_agg(e.id ORDER BY e.id, e.ts) AS ids FROM st e GROUP BY e.v},
	bag => q{SELECT w.window_start, w.window_end, percentile_cont(0.5) WITHIN GROUP (ORDER BY e.id) AS p, count(DISTINCT e.v) AS d,
		mode() WITHIN GROUP (ORDER BY e.k) AS m FROM st e, beam.tumble(e.ts, '2 hours') w GROUP BY 1, 2},
	total => q{SELECT count(*) AS n, sum(e.id) AS s FROM st e});

sub fill_st
{
	my ($count) = @_;

	run("INSERT INTO st SELECT (random() * 1000)::int, '2026-03-28'::timestamptz + random() * interval '2 days', (random() * 5)::int, 'v' || (random() * 30)::int
		FROM generate_series(1, $count)");
}

promise 'state_of_every_kind_survives_restarts' => sub {
	make_source($node, 'st');
	run(q{CREATE FUNCTION st_window(ts timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE sql IMMUTABLE
		AS $$ SELECT date_bin('90 min', ts, '2026-01-01'), date_bin('90 min', ts, '2026-01-01') + interval '90 min' $$});
	create_pipeline($node, "st_$_", $kinds{$_}) for sort keys %kinds;
	for my $round (1 .. 4)
	{
		fill_st(500);
		$round % 2 ? $node->restart : crash_and_start($node);
		fill_st(500);
		equal_to_batch($node, "st_$_", "round $round: $_") for sort keys %kinds;
	}
};

promise 'more_state_than_memory_over_restarts' => sub {
	run("ALTER SYSTEM SET stream_beam.state_memory = '1MB'");
	$node->restart;
	make_source($node, 'big');
	create_pipeline($node, 'big_tumble', tumble('big'));
	create_pipeline($node, 'big_session', q{SELECT w.window_start, w.window_end, e.id, count(*) AS n, sum(e.k) AS s FROM big e, beam.session(e.ts, '1 minute') w GROUP BY 1, 2, 3});
	create_pipeline($node, 'big_global', q{SELECT e.id, count(*) AS n, string_agg(DISTINCT e.v, ',') AS v FROM big e GROUP BY e.id});
	for my $round (1 .. 4)
	{
		for my $part (1 .. 3)
		{
			run("INSERT INTO big SELECT i, '2026-01-01'::timestamptz + (random() * 300)::int * interval '1 s', i % 500, 'v' || (i + $round) % 3 FROM generate_series(1, 8000) i");
		}
		$round % 2 ? $node->restart : crash_and_start($node);
		equal_to_batch($node, "big_$_", "round $round: $_") for qw(tumble session global);
	}
	cmp_ok(run(q{SELECT min(cells) FROM beam.stat_pipelines WHERE name LIKE 'big%'}), '>', 2000, 'there are many cells');
	run("ALTER SYSTEM RESET stream_beam.state_memory");
	$node->restart;
	equal_to_batch($node, "big_$_", "with memory again: $_") for qw(tumble session global);
};

sub ticks
{
	my $sum = 0;

	for my $pid (@_)
	{
		my @stat = split ' ', PostgreSQL::Test::Utils::slurp_file("/proc/$pid/stat") =~ s/^.*\) //sr;
		$sum += $stat[11] + $stat[12];
	}
	return $sum;
}

promise 'at_rest_the_workers_use_no_cpu' => sub {
	# Pipelines, with state, whose timers lie in the future; the result of time passing is what is measured here
	wait_for($node, 'st_tumble');
	wait_until($node, q{SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type LIKE 'stream_beam r%' AND wait_event IS NULL});
	my @pids = map { wait_for_worker($node, $_) } qw(launcher reader runner);
	my $before = ticks(@pids);
	usleep(5000000); # sleeps: idle time is what is measured
	cmp_ok(ticks(@pids) - $before, '<=', 3, 'at most 30 ms in 5 s');
	is(join(' ', map { pid_of($node, $_) } qw(launcher reader runner)), "@pids", 'of the same processes');
};

$node->stop;
done_testing();
