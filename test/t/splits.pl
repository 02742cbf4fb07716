# Split watermarks: that of a pipeline is the least of those of its devices, as long as these are not at rest.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('splits', conf => "stream_beam.bundle_time = '20ms'\n");

sub run
{
	return $node->safe_psql('postgres', $_[0]);
}

# A row of device `v` at that minute, in a transaction and a bundle of its own
sub row
{
	my ($source, $pipeline, $device, $minute) = @_;

	run("INSERT INTO $source VALUES ($minute, '2026-01-01'::timestamptz + $minute * interval '1 min', 1, " . (defined $device ? "'$device'" : 'NULL') . ')');
	wait_for($node, $pipeline);
}

sub watermark
{
	return run("SELECT input_watermark AT TIME ZONE 'UTC' FROM beam.watermarks WHERE name = '$_[0]'");
}

sub late
{
	return run("SELECT coalesce(string_agg(data ->> 'id', ' ' ORDER BY id), '') FROM beam.late_events WHERE pipeline = '$_[0]'");
}

my $strict = q{watermark => '0', allowed_lateness => '0'};

run(q{ALTER DATABASE postgres SET timezone = 'UTC'});

promise 'slow_device_does_not_make_its_rows_late' => sub {
	make_source($node, 's');
	create_pipeline($node, 'whole', tumble('s'), "$strict, idle_timeout => NULL");
	create_pipeline($node, 'split', tumble('s'), "$strict, idle_timeout => NULL, watermark_by => 'v'");
	for ([ 'fast', 0 ], [ 'slow', 0 ], [ 'fast', 30 ], [ 'slow', 1 ], [ 'fast', 40 ], [ 'slow', 2 ])
	{
		row('s', 'whole', @$_);
		wait_for($node, 'split');
	}
	is(late('whole'), '1 2', 'by its own rows the fast one makes the slow one late');
	is(late('split'), '', 'split, nobody is late');
	equal_to_batch($node, 'split');
	is(watermark('split'), '2026-01-01 00:02:00', 'the slow one holds the watermark');
	is(run(q{SELECT string_agg(split || ' ' || (max_event_time AT TIME ZONE 'UTC')::time, ', ' ORDER BY split) FROM beam.inputs WHERE pipeline = 'split'}), 'fast 00:40:00, slow 00:02:00', 'and it is shown');
	row('s', 'split', 'slow', 35);
	is(watermark('split'), '2026-01-01 00:35:00', 'until it has come up');
	row('s', 'split', 'slow', 3);
	is(late('split'), '3', 'behind the watermark a row is late, whose it is');
	row('s', 'split', undef, 36);
	row('s', 'split', 'slow', 50);
	row('s', 'split', 'fast', 50);
	is(watermark('split'), '2026-01-01 00:36:00', 'no device is one, too');
};

promise 'splits_survive_whatever_dies' => sub {
	make_source($node, 'd');
	create_pipeline($node, 'of_d', tumble('d'), "$strict, idle_timeout => NULL, watermark_by => 'upper(v)'");
	row('d', 'of_d', 'a', 0);
	row('d', 'of_d', 'b', 0);
	row('d', 'of_d', 'a', 30);
	$node->restart;
	row('d', 'of_d', 'a', 40);
	kill9($node, 'runner');
	row('d', 'of_d', 'a', 41);
	crash_and_start($node);
	row('d', 'of_d', 'A', 42);
	row('d', 'of_d', 'b', 1);
	is(late('of_d'), '', 'what a silent device has last said is not forgotten');
	is(watermark('of_d'), '2026-01-01 00:01:00', 'and holds the watermark');
	equal_to_batch($node, 'of_d');
};

promise 'device_at_rest_lets_go' => sub {
	make_source($node, 'r');
	create_pipeline($node, 'of_r', tumble('r') =~ s/1 minute/2 seconds/r, q{watermark => '0', allowed_lateness => '10000 days', idle_timeout => '500 ms', watermark_by => 'v', trigger => beam.after_watermark(late => beam.after_count(1))});
	my $load = start_load($node, q{INSERT INTO r VALUES (1, '2026-01-01 00:30Z', 2, 'busy')});
	wait_until($node, q{SELECT count(*) = 1 FROM beam.inputs WHERE pipeline = 'of_r'});
	row('r', 'of_r', 'gone', 0);
	wait_until($node, q{SELECT count(*) = 1 FROM of_r WHERE window_start = '2026-01-01 00:00Z'});
	pass('its window ends while another one goes on writing');
	wait_until($node, q{SELECT string_agg(split, ' ') = 'busy' FROM beam.inputs WHERE pipeline = 'of_r'});
	is(watermark('of_r'), '2026-01-01 00:30:00', 'the watermark is that of those that are left');
	finish_load($load);
	wait_until($node, q{SELECT count(*) = 1 FROM of_r WHERE window_start = '2026-01-01 00:30Z'});
	pass('with all at rest it goes on from the highest');
	row('r', 'of_r', 'gone', 5);
	equal_to_batch($node, 'of_r', 'one that comes back');
};

promise 'device_that_comes_back_counts_from_its_first_row' => sub {
	make_source($node, 'b');
	create_pipeline($node, 'of_b', tumble('b') =~ s/1 minute/1 hour/r, q{watermark => '0', allowed_lateness => '10000 days', idle_timeout => '3 s', watermark_by => 'v'});
	row('b', 'of_b', 'fast', 0);
	wait_until($node, q{SELECT count(*) = 0 FROM beam.inputs WHERE pipeline = 'of_b'});
	# longer than the idle timeout, in which nothing is to be done
	my $later = run(q{SELECT clock_timestamp() + interval '4 s'});
	wait_until($node, "SELECT clock_timestamp() > '$later'");
	run(q{INSERT INTO b VALUES (1, '2026-01-01 00:10Z', 2, 'fast'), (2, '2026-01-01 00:02Z', 2, 'slow')});
	wait_for($node, 'of_b');
	is(run(q{SELECT string_agg(split, ' ' ORDER BY split) FROM beam.inputs WHERE pipeline = 'of_b'}), 'fast slow', 'time without any row is not counted against them');
	is(watermark('of_b'), '2026-01-01 00:02:00', 'the slow one holds the watermark');
};

promise 'rows_that_fail_leave_the_splits_right' => sub {
	make_source($node, 'f');
	create_pipeline($node, 'of_f', tumble('f'), "$strict, idle_timeout => NULL, watermark_by => '10 / length(v)'");
	run(q{INSERT INTO f SELECT i, '2026-01-01'::timestamptz + i * interval '1 min', 1, repeat('x', i % 3) FROM generate_series(0, 30) i});
	wait_for($node, 'of_f');
	is(run(q{SELECT count(*), min(sqlstate) FROM beam.dead_letters WHERE pipeline = 'of_f'}), '11|22012', 'a value that cannot be computed is its row\'s fault');
	is(run(q{SELECT string_agg(split || ' ' || (max_event_time AT TIME ZONE 'UTC')::time, ', ' ORDER BY split) FROM beam.inputs WHERE pipeline = 'of_f'}), '10 00:28:00, 5 00:29:00', 'the others count');
	is(watermark('of_f'), '2026-01-01 00:28:00', 'for the watermark');
	$node->restart;
	row('f', 'of_f', 'x', 40);
	is(watermark('of_f'), '2026-01-01 00:29:00', 'as they were written');
};

promise 'splitting_is_part_of_the_definition' => sub {
	make_source($node, 'a');
	create_pipeline($node, 'of_a', tumble('a'), "$strict, idle_timeout => NULL");
	row('a', 'of_a', 'one', 0);
	row('a', 'of_a', 'two', 0);
	row('a', 'of_a', 'one', 30);
	run(q{SELECT beam.alter_pipeline('of_a', watermark_by => 'v'); CALL beam.wait_for_alter('of_a')});
	row('a', 'of_a', 'two', 1);
	is(watermark('of_a'), '2026-01-01 00:01:00', 'a new version has the splits of the history');
	like(run(q{SELECT beam.explain_pipeline('of_a')}), qr/, by v,/, 'it is explained');
	run(q{SELECT beam.alter_pipeline('of_a', watermark_by => ''); CALL beam.wait_for_alter('of_a')});
	is(watermark('of_a'), '2026-01-01 00:30:00', 'without it the highest time counts');
	run(q{SELECT beam.alter_pipeline('of_a', watermark_by => 'v'); CALL beam.wait_for_alter('of_a')});
	run('ALTER TABLE a RENAME v TO device');
	wait_until($node, q{SELECT state = 'failed' FROM beam.pipelines WHERE name = 'of_a'});
	like(run(q{SELECT error_message FROM beam.pipelines WHERE name = 'of_a'}), qr/column "v" does not exist/, 'a column that is not there any more is said');
	run(q{SELECT beam.alter_pipeline('of_a', watermark_by => 'device'); CALL beam.wait_for_alter('of_a')});
	state_is($node, 'of_a', 'running');
	row('a', 'of_a', 'two', 2);
	equal_to_batch($node, 'of_a');
};

promise 'what_cannot_split_is_refused' => sub {
	my $create = sub { sprintf(q{SELECT beam.create_pipeline('no', $q$%s$q$, watermark_by => $w$%s$w$)}, $_[0], $_[1]) };

	make_source($node, 'n');
	refuses($node, $create->(tumble('n'), $_), qr/must be an expression over the columns of the source|syntax error/, "refused: $_")
		for '(SELECT 1)', 'count(*)', 'v) FROM s --', 'v ORDER BY 1', 'row_number() OVER ()', 'n', 'ctid', 'v; SELECT 1';
	refuses($node, $create->(tumble('n'), 'random()'), qr/volatile function random\(\)/, 'refused: a volatile function');
	refuses($node, $create->(tumble('n'), 'nothing'), qr/column "nothing" does not exist/, 'refused: a column that is not there');
	refuses($node, $create->('SELECT count(*) FROM n', 'v'), qr/means nothing for a pipeline without an event time/, 'refused: no event time');
	refuses($node, $create->(q{SELECT w.window_start, w.window_end, sum(n) FROM split s, beam.tumble(s.window_start, '1 hour') w GROUP BY 1, 2}, 'k'), qr/means nothing for a downstream pipeline/, 'refused: over a result');
	run(q{CREATE ROLE weak; GRANT CREATE, USAGE ON SCHEMA public TO weak; GRANT USAGE ON SCHEMA beam TO weak; GRANT EXECUTE ON FUNCTION beam.create_pipeline TO weak; GRANT SELECT (id, ts, k) ON n TO weak});
	refuses($node, 'SET ROLE weak; ' . $create->(tumble('n'), 'v'), qr/permission denied for table n/, 'refused: a column that the role may not read');
};

done_testing();
