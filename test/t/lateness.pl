# However late a row is, in changes mode the result is the batch view; and windows at rest cost neither memory nor time when a pipeline is opened.
use strict;
use warnings;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('lateness', conf => "stream_beam.bundle_time = '20ms'\nstream_beam.state_memory = '1MB'\nautovacuum = off\n");
# of the default, and of each kind of window and trigger
my %arguments = (
	old_tumble => q{watermark => '10 s'},
	old_hop => q{watermark => '10 s'},
	old_session => q{watermark => '10 s'},
	old_values => q{watermark => '10 s'},
	old_late => q{watermark => '10 s', trigger => 'after_watermark(late => after_count(1))'},
	old_clock => q{watermark => '10 s', trigger => 'repeatedly(after_processing_time(''50 ms''))'},
	old_earliest => q{watermark => '10 s', timestamp_combiner => 'earliest', trigger => 'after_watermark(early => after_count(3), late => after_count(1))'});
my %query = (
	old_hop => q{SELECT w.window_start, w.window_end, count(*) AS n, sum(e.id) AS s FROM old e, beam.hop(e.ts, '3 minutes', '1 minute') w GROUP BY 1, 2},
	old_session => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.id) AS s FROM old e, beam.session(e.ts, '40 s') w GROUP BY 1, 2, 3},
	old_values => q{SELECT w.window_start, w.window_end, max(e.id) AS most, count(DISTINCT e.v) AS d, string_agg(e.v, ',' ORDER BY e.id) AS vs
		FROM old e, beam.tumble(e.ts, '10 minutes') w GROUP BY 1, 2});
my @all = sort keys %arguments;

sub run { return $node->safe_psql('postgres', $_[0]) }

# A test: the windows that have ended are those of the batch view. The trigger may have said nothing of the others yet.
sub ended_equal
{
	my ($pipeline, $name) = @_;
	my $ended = "WHERE window_end <= (SELECT output_watermark FROM beam.watermarks WHERE name = '$pipeline')";

	wait_for($node, $pipeline);
	return is(run(qq{SELECT concat_ws(' ', count(*), min(window_start)) FROM
			((SELECT * FROM $pipeline $ended EXCEPT ALL SELECT * FROM ${pipeline}_batch $ended) UNION ALL
			(SELECT * FROM ${pipeline}_batch $ended EXCEPT ALL SELECT * FROM $pipeline $ended)) d}),
		'0', $name . ' (' . run("SELECT count(*) FROM $pipeline $ended") . ' rows)');
}

sub all_equal
{
	my ($name) = @_;

	for my $pipeline (@all)
	{
		# what waits for the clock comes by itself
		wait_for($node, $pipeline);
		wait_until($node, "SELECT NOT EXISTS ((TABLE $pipeline EXCEPT ALL TABLE ${pipeline}_batch) UNION ALL (TABLE ${pipeline}_batch EXCEPT ALL TABLE $pipeline))")
			if $pipeline eq 'old_clock';
		$pipeline =~ /late|earliest/ ? ended_equal($pipeline, "$name: $pipeline") : equal_to_batch($node, $pipeline, "$name: $pipeline");
	}
	is(run('SELECT count(*) FROM beam.late_events'), 0, "$name: no row was late");
}

promise 'rows_of_a_year_ago_come_change_and_go_and_the_result_is_the_batch_view' => sub {
	make_source($node, 'old');
	create_pipeline($node, $_, $query{$_} // tumble('old'), $arguments{$_}) for @all;
	create_pipeline($node, 'of_old', q{SELECT w.window_start, w.window_end, count(*) AS n, sum(o.n) AS s FROM old_tumble o, beam.tumble(o.window_start, '1 hour') w GROUP BY 1, 2}, q{watermark => '10 s'});
	push @all, 'of_old';
	run(q{INSERT INTO old SELECT i, '2025-01-01'::timestamptz + i * interval '37 s', i % 5, 'v' || i % 3 FROM generate_series(1, 6000) i});
	run(q{INSERT INTO old SELECT 10000 + i, '2026-01-01'::timestamptz + i * interval '11 s', i % 5, 'v' || i % 3 FROM generate_series(1, 6000) i});
	all_equal('the watermark a year ahead');
	my $n = 0;
	for my $between (sub { }, sub { $node->restart }, sub { crash_and_start($node) })
	{
		$between->();
		$n++;
		# old windows get rows, change theirs, lose them, and windows in between come into being
		run(qq{INSERT INTO old SELECT 20000 * $n + i, '2025-01-01'::timestamptz + (i * 7919 % 300000) * interval '1 s', i % 7, 'w' FROM generate_series(1, 300) i;
			UPDATE old SET id = -id, v = 'u$n' WHERE abs(id) % 97 = $n;
			UPDATE old SET ts = ts - interval '200 days' WHERE abs(id) % 193 = $n;
			UPDATE old SET k = k + 1 WHERE abs(id) % 211 = $n;
			DELETE FROM old WHERE abs(id) % 53 = $n;
			DELETE FROM old WHERE ts BETWEEN '2025-01-0$n 01:00' AND '2025-01-0$n 02:00'});
		all_equal("round $n");
	}
	is(run(q{SELECT cells FROM beam.stat_pipelines WHERE name = 'old_tumble'}), run('SELECT count(*) FROM beam_state.cells_' . run(q{SELECT id FROM beam.pipeline WHERE name = 'old_tumble'})),
		'the number of cells is right, without being counted');
	run(qq{SELECT beam.drop_pipeline('$_')}) for reverse @all;
};

# Rows of the pipeline's state table that were looked at so far, and scans of all of it: what the runner has counted by its end
sub looked_at
{
	my ($pipeline) = @_;
	my $pid = wait_for_worker($node, 'runner');

	run("SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	wait_for($node, $pipeline);
	return split /\|/, run(qq{SELECT seq_scan, seq_tup_read + idx_tup_fetch FROM pg_stat_all_tables s JOIN beam.pipeline p ON p.state_table = s.relid WHERE p.name = '$pipeline'});
}

# Windows at rest, with each kind of index that finds what is due
my @rest = (
	[ rest_tumble => q{SELECT w.window_start, w.window_end, count(*) AS n FROM rest e, beam.tumble(e.ts, '1 second') w GROUP BY 1, 2}, q{watermark => '10 s'} ],
	[ rest_session => q{SELECT w.window_start, w.window_end, e.k, count(*) AS n FROM rest e, beam.session(e.ts, '400 ms') w GROUP BY 1, 2, 3}, q{watermark => '10 s'} ],
	[ rest_clock => q{SELECT w.window_start, w.window_end, count(*) AS n FROM rest e, beam.tumble(e.ts, '1 second') w GROUP BY 1, 2},
		q{trigger => 'after_watermark(early => after_processing_time(''1 s''), late => after_count(1))'} ],
	[ rest_latest => q{SELECT w.window_start, w.window_end, count(*) AS n FROM rest e, beam.tumble(e.ts, '1 second') w GROUP BY 1, 2},
		q{timestamp_combiner => 'latest', trigger => 'after_watermark(late => after_count(1))'} ]);

promise 'opening_reads_what_is_due_and_not_what_is_stored' => sub {
	for my $case (@rest)
	{
		my ($name, $query, $arguments) = @$case;

		run('DROP TABLE IF EXISTS rest');
		make_source($node, 'rest');
		create_pipeline($node, $name, $query, $arguments);
		run(q{INSERT INTO rest SELECT i, '2026-01-01'::timestamptz + i * interval '1 s', i % 3, 'x' FROM generate_series(1, 30000) i});
		run(q{INSERT INTO rest VALUES (0, '2027-01-01', 0, 'x')});
		wait_for($node, $name);
		my ($scans, $rows) = looked_at($name);
		run(qq{SELECT beam.pause_pipeline('$name')});
		run(qq{SELECT beam.resume_pipeline('$name')});
		# one of the oldest windows
		run(q{UPDATE rest SET id = -1 WHERE id = 2; INSERT INTO rest VALUES (3, '2026-01-01 00:00:02.1', 2, 'x')});
		ended_equal($name, "$name: an old row has changed");
		my ($scans_now, $rows_now) = looked_at($name);
		is($scans_now - $scans, 0, "$name: the table was never read as a whole");
		cmp_ok($rows_now - $rows, '<', 100, "$name: " . ($rows_now - $rows) . ' of its rows were read');
		run(qq{SELECT beam.drop_pipeline('$name')});
	}
};

promise 'windows_that_expire_are_gone_whatever_dies' => sub {
	make_source($node, 'gone');
	create_pipeline($node, 'expire', tumble('gone'), q{watermark => '0', allowed_lateness => '1 hour', idle_timeout => NULL, trigger => 'after_watermark(late => after_count(1))'});
	# more than the runner has memory for: they are in the table only
	run(q{INSERT INTO gone SELECT i, '2026-01-01'::timestamptz + i * interval '50 ms', i % 400, 'x' FROM generate_series(1, 40000) i});
	wait_for($node, 'expire');
	my $cells = q{(SELECT count(*) FROM beam_state.cells_} . run(q{SELECT id FROM beam.pipeline WHERE name = 'expire'}) . ')';
	my $hour = 0;
	for my $point (qw(before_state after_state), undef)
	{
		my $log = -s $node->logfile;

		$hour++;
		kill_at($node, $point) if $point;
		# the watermark passes ends and expiries of many windows at once
		run(qq{INSERT INTO gone SELECT i, '2026-01-01 00:40'::timestamptz + $hour * interval '30 min', i, 'x' FROM generate_series(1, 3) i});
		if ($point)
		{
			$node->wait_for_log(qr/was terminated by signal/, $log);
			$node->poll_query_until('postgres', 'SELECT true');
			kill_at($node, undef);
		}
		wait_for($node, 'expire');
		wait_until($node, q{SELECT input_watermark >= '2026-01-01 00:40'::timestamptz + } . $hour . q{ * interval '30 min' FROM beam.watermarks WHERE name = 'expire'});
		is(run(qq{SELECT cells = $cells AND cells = (SELECT count(*) FROM (SELECT DISTINCT date_trunc('minute', ts), k FROM gone
				WHERE date_trunc('minute', ts) + interval '1 minute' > '2025-12-31 23:40'::timestamptz + $hour * interval '30 min') d) FROM beam.stat_pipelines WHERE name = 'expire'}),
			't', 'what has expired is gone, and no more' . ($point ? ": killed $point" : ''));
		ended_equal('expire', 'each window was written once, and right');
	}
};

$node->stop;
done_testing();
