# Beam's own cases, test/unit/conformance, through beam.test_stream(): the transcripts and the trigger cases.
use strict;
use warnings;
use JSON::PP qw(decode_json encode_json);
use Test::More;
use SbTest;
use SbConform;

my $node = new_node('conformance');

$node->safe_psql('postgres', 'CREATE TABLE el (t text, k text, ts timestamptz, v text); ALTER TABLE el REPLICA IDENTITY FULL');

# Seconds since 2000 of a time as jsonb has it, rounded down, and the microsecond within the second
sub seconds_of
{
	my ($time) = @_;
	my ($day, $hour, $minute, $second, $fraction) = $time =~ /^2000-01-(\d+)T(\d+):(\d+):(\d+)(?:\.(\d+))?\+00:00$/ or die "what is $time";

	return ((($day - 1) * 24 + $hour) * 60 + $minute) * 60 + $second;
}

# The rows of test_stream(), a hash each
sub test_stream
{
	my ($pipeline, $events) = @_;
	my $sql = sprintf('SELECT coalesce(json_agg(s), \'[]\') FROM beam.test_stream(%s, %s) s', quote($pipeline), quote(encode_json($events)));

	return @{ decode_json($node->safe_psql('postgres', $sql)) };
}

sub rows_event
{
	return { rows => [ map { { ts => at_second($_->[0]), v => $_->[1] } } @_ ] };
}

# ---- transcripts ----

sub event_of
{
	my ($step) = @_;

	return { watermark => at_second($step->{second}) } if $step->{kind} eq 'watermark';
	return rows_event(map { [ $_, $_ ] } @{ $step->{seconds} });
}

sub pane_of
{
	my ($row) = @_;
	my $global = $row->{window_start} eq '-infinity';

	return {
		window => $global ? 'global' : seconds_of($row->{window_start}) . ',' . (seconds_of($row->{window_end}) - 1),
		values => $row->{data}{vs} // [],
		timestamp => $global ? 'global' : seconds_of($row->{pane_timestamp}),
		index => $row->{index},
		nonspeculative_index => $row->{nonspeculative_index},
		early => $row->{timing} eq 'EARLY' ? 'true' : 'false',
		late => $row->{timing} eq 'LATE' ? 'true' : 'false',
		final => $row->{is_last} ? 'true' : 'false'
	};
}

my ($passed, $skipped, $rejected, $why, $number) = (0, 0, 0, '', 0);

for my $transcript (read_blocks('transcripts'))
{
	my $name = 'p_' . ++$number;
	my @panes;

	if ($transcript->{skip})
	{
		$skipped++;
		$why = $transcript->{skip};
		next;
	}
	$node->safe_psql('postgres', create_sql($name, $transcript));
	for my $row (test_stream($name, [ map { event_of($_) } @{ $transcript->{steps} } ]))
	{
		push @{ $panes[ $row->{step} - 1 ] }, pane_of($row) if $row->{kind} eq 'pane';
	}
	my $problem = check_transcript($transcript, \@panes);
	my $title = "transcript $transcript->{name}" . ($transcript->{error} ? " is rejected: $transcript->{error}" : '');

	if (is($problem, $transcript->{error}, $title))
	{
		$transcript->{error} ? $rejected++ : $passed++;
	}
}
is("$passed $skipped $rejected", '12 1 5', 'all transcripts are there');
diag("transcripts: $passed passed, $skipped skipped ($why), $rejected rejected as they must");

# ---- trigger cases ----

# The elements of a case as bundles; a negative size turns their order round
sub bundles_of
{
	my ($elements, $size) = @_;
	my @left = $size < 0 ? reverse @$elements : @$elements;
	my @events;

	push @events, rows_event(splice @left, 0, abs $size) while @left;
	return @events;
}

# The panes in the order in which they came, as text: window, values (as a set), timestamp
sub came
{
	my ($name, $case, $size) = @_;
	# all windows have ended, and none has expired as it would with the end of the input
	my $ended = { watermark => '200000-01-01' };
	my @events = (bundles_of($case->{input}, $size), $ended, map { ($_, $ended) } bundles_of($case->{late}, $size));
	my %panes;

	for my $row (test_stream($name, \@events))
	{
		next unless $row->{kind} eq 'pane';
		my $pane = pane_of($row);
		my %values = map { $_ => 1 } @{ $pane->{values} };

		push @{ $panes{ $pane->{window} } }, join(' ', sort keys %values) . " at $pane->{timestamp}";
	}
	return \%panes;
}

sub expected
{
	my ($case) = @_;

	return { map { my ($start, $end) = ($_->{window}[0], $_->{window}[1] - 1); ("$start,$end" => [ map { "$_ at $end" } @{ $_->{panes} } ]) }
		  @{ $case->{results} } };
}

my ($cases, $runs, $right) = (0, 0, 0);

for my $case (read_blocks('cases'))
{
	my $name = 'p_' . ++$number;

	$cases++;
	$node->safe_psql('postgres', create_sql($name, $case, lateness => $longest_interval));
	for my $size (@{ $case->{bundles} })
	{
		$runs++;
		$right++ if is_deeply(came($name, $case, $size), expected($case), "case $case->{name}, bundles of $size");
	}
}
is("$cases $runs", '20 49', 'all trigger cases are there');
diag("trigger cases: $cases cases, $right of $runs runs passed; allowed_lateness => '$longest_interval', which for windows after 2000 is for ever");

# ---- what the cases do not show ----

promise 'hold_of_a_window_that_has_not_fired_keeps_its_pane_on_time' => sub {
	my $definition = { window => 'tumble 10', trigger => 'repeatedly(after_count(2))', lateness => 100 };
	my @events = (rows_event([ 1, 'a' ]), { watermark => at_second(20) }, rows_event([ 2, 'b' ]));

	$node->safe_psql('postgres', create_sql('p_hold', $definition));
	is(join(' ', map { "$_->{step} $_->{timing} $_->{elements}" } test_stream('p_hold', \@events)), '3 ON_TIME 2', 'after the end of the window, with the second element');
};
done_testing();
