# Beam's transcripts, test/unit/conformance, in pipelines with workers, undisturbed and with a crash at every step.
#
# How a transcript is expressed:
#   * an `input` is one transaction, then CALL beam.wait_for(); each transcript has pipelines of its own over one table;
#   * a pipeline's watermark is a thousand seconds behind its data, so that no element moves it past the beginning of the first window;
#     `watermark: W` is a row of another key at W + 1000 s, whose own window is left out of the comparison;
#   * panes are the rows of the result table that are new since the step before: ctid and xmin tell. Each transcript runs in its own
#     mode, accumulating ones in a retracting pipeline too, whose panes are the rows with op 1, and whose rows must add up to the
#     other one's result.
use strict;
use warnings;
use JSON::PP qw(decode_json);
use Test::More;
use SbTest;
use SbConform;

use constant DELAY => 1000;    # of the watermark, seconds

my $node = new_node('conformance_live', conf => "stream_beam.bundle_time = '20ms'\n");
my @columns = ('beam.pane_timing() AS timing', 'beam.pane_index() AS idx', 'beam.is_last_pane() AS last', 'beam.pane_timestamp() AS at');
my @transcripts = grep { !$_->{skip} } read_blocks('transcripts');
my ($steps) = sort { $b <=> $a } map { scalar @{ $_->{steps} } } @transcripts;

$node->safe_psql('postgres', q{CREATE TABLE el (t text, k text, ts timestamptz, v int); ALTER TABLE el REPLICA IDENTITY FULL});
diag('not to be seen in a result: nonspeculative_index. The query without a window (bad_output) has no event time: no row moves its '
	  . 'watermark; it is rejected before its first one. All others are expressed whole.');

# ---- pipelines ----

# Those of a run, hashes: name, transcript, mode, panes of each step, rows seen
sub make_pipelines
{
	my ($run) = @_;
	my @made;

	for my $i (0 .. $#transcripts)
	{
		my $transcript = $transcripts[$i];
		my $mode = $transcript->{accumulation} // 'accumulating';

		for my $accumulation ($mode, $mode eq 'accumulating' ? 'retracting' : ())
		{
			push @made, { name => "${run}_${i}_$accumulation", transcript => $transcript, mode => $accumulation, panes => [], seen => {} };
		}
	}
	$node->safe_psql(
		'postgres',
		join("\n",
			map { create_sql($_->{name}, $_->{transcript}, columns => \@columns, k => 1, where => "e.t = '$_->{name}'", watermark => DELAY . ' s', accumulation => $_->{mode}) }
			  @made));
	return @made;
}

sub drop_pipelines
{
	$node->safe_psql('postgres', join("\n", map { "SELECT beam.drop_pipeline('$_->{name}');" } @_) . "\nTRUNCATE el;");
}

sub wait_for_all
{
	$node->safe_psql('postgres', join("\n", map { "CALL beam.wait_for('$_->{name}', '1 minute');" } @_));
}

# ---- a step ----

sub step_sql
{
	my ($pipeline, $step) = @_;
	my @rows;

	if ($step->{kind} eq 'watermark')
	{
		@rows = sprintf("('%s', 'w', '%s', 0)", $pipeline->{name}, at_second($step->{second} + DELAY));
	}
	else
	{
		@rows = map { sprintf("('%s', 'a', '%s', %d)", $pipeline->{name}, at_second($_), $_) } @{ $step->{seconds} };
	}
	return 'INSERT INTO el VALUES ' . join(', ', @rows) . ';';
}

# The rows of a result with what is compared of them. The windows that only move a watermark are left out.
sub result_sql
{
	my ($pipeline) = @_;
	my $op = $pipeline->{mode} eq 'retracting' ? 'op' : '1';
	my $window = q{concat(extract(epoch FROM window_start - '2000-01-01+00')::int, ',', extract(epoch FROM window_end - '2000-01-01+00')::int - 1)};
	my $at = q{floor(extract(epoch FROM at - '2000-01-01+00'))};

	($window, $at) = ("'global'", 'NULL') if $pipeline->{transcript}{window} eq 'global';
	return "SELECT '$pipeline->{name}' AS name, concat(ctid, xmin) AS id, $window AS \"window\", vs, timing, idx, last, $at AS at, $op AS op "
	  . "FROM $pipeline->{name} WHERE k = 'a'";
}

# All results as they are now: lists of rows, which are hashes, by pipeline
sub read_results
{
	my @queries = map { result_sql($_) } @_;
	my $all = $node->safe_psql('postgres', "SELECT coalesce(json_agg(x), '[]') FROM (" . join("\nUNION ALL ", @queries) . ') x');
	my %results;

	push @{ $results{ $_->{name} } }, $_ for @{ decode_json($all) };
	return \%results;
}

sub pane_of
{
	my ($row) = @_;

	return {
		window => $row->{window},
		values => $row->{vs} // [],
		timestamp => $row->{at},
		index => $row->{idx},
		early => $row->{timing} eq 'EARLY' ? 'true' : 'false',
		late => $row->{timing} eq 'LATE' ? 'true' : 'false',
		final => $row->{last} ? 'true' : 'false'
	};
}

# A row's content as text
sub content
{
	my ($row) = @_;

	return join(' ', map { "$_=" . (ref $row->{$_} eq 'ARRAY' ? join(',', sort { $a <=> $b } @{ $row->{$_} }) : $row->{$_} // '') } qw(window vs timing idx last at));
}

# What the rows of a result add up to, sorted
sub sum_of
{
	my %sum;

	$sum{ content($_) } += $_->{op} for @_;
	return join("\n", map { $sum{$_} == 1 ? $_ : "$sum{$_} times $_" } grep { $sum{$_} != 0 } sort keys %sum);
}

# The rows that came with this step are its panes
sub take_panes
{
	my ($pipelines, $results, $step) = @_;

	for my $pipeline (@$pipelines)
	{
		my @rows = @{ $results->{ $pipeline->{name} } // [] };

		$pipeline->{panes}[$step] = [ map { pane_of($_) } grep { $_->{op} > 0 && !$pipeline->{seen}{ $_->{id} } } @rows ];
		remember($pipeline, @rows);
	}
}

sub remember
{
	my ($pipeline, @rows) = @_;

	$pipeline->{seen} = { map { $_->{id} => 1 } @rows };
	$pipeline->{sum} = sum_of(@rows);
	$pipeline->{rows} = join("\n", sort map { "$_->{op} " . content($_) } @rows);
}

# After a crash everything is again as it was
sub compare_after_crash
{
	my ($pipelines, $step) = @_;
	my $results = read_results(@$pipelines);
	my $different = 0;

	for my $pipeline (@$pipelines)
	{
		my $before = $pipeline->{rows};

		remember($pipeline, @{ $results->{ $pipeline->{name} } // [] });
		next if $pipeline->{rows} eq $before;
		$different++;
		diag("$pipeline->{name} after step $step, before the crash:\n$before\nafter it:\n$pipeline->{rows}");
	}
	return $different;
}

# Once a step, of accumulating and retracting pipelines with the same transcript. Merged sessions: the accumulating one forgets the smaller
# windows at once, the retracting one with the merged window's first pane, so those are equal only when that is out.
sub sums_differ
{
	my ($pipelines, $step) = @_;
	my %other = map { $_->{name} => $_ } @$pipelines;
	my $different = 0;

	for my $retracting (grep { $_->{mode} eq 'retracting' } @$pipelines)
	{
		my $accumulating = $other{ $retracting->{name} =~ s/retracting$/accumulating/r };

		next if $retracting->{transcript}{window} =~ /session/ && !@{ $retracting->{panes}[$step] };
		next if $retracting->{sum} eq $accumulating->{sum};
		$different++;
		diag("$retracting->{name} at step $step adds up to:\n$retracting->{sum}\nbut the accumulating result is:\n$accumulating->{sum}");
	}
	return $different;
}

# ---- a run ----

# CRASH is called with the step and 'rows are in' (not waited for) or 'step is over'; false: it did nothing.
sub run_transcripts
{
	my ($run, $title, $crash) = @_;
	my @pipelines = make_pipelines($run);
	my ($crashes, $changed, $unequal, $passed, $rejected) = (0, 0, 0, 0, 0);

	for my $step (0 .. $steps - 1)
	{
		my @now = grep { $_->{transcript}{steps}[$step] } @pipelines;

		$node->safe_psql('postgres', join("\n", map { step_sql($_, $_->{transcript}{steps}[$step]) } @now));
		$crashes++ if $crash->($step, 'rows are in');
		wait_for_all(@pipelines);
		take_panes(\@pipelines, read_results(@pipelines), $step);
		$unequal += sums_differ(\@pipelines, $step);
		if ($crash->($step, 'step is over'))
		{
			$crashes++;
			wait_for_all(@pipelines);
			$changed += compare_after_crash(\@pipelines, $step);
		}
	}
	for my $pipeline (@pipelines)
	{
		my $transcript = $pipeline->{transcript};
		my $right = is(check_transcript($transcript, $pipeline->{panes}),
			$transcript->{error}, "$title: $transcript->{name}, $pipeline->{mode}" . ($transcript->{error} ? " is rejected: $transcript->{error}" : ''));

		next if !$right || $pipeline->{mode} eq 'retracting';
		$transcript->{error} ? $rejected++ : $passed++;
	}
	is($unequal, 0, "$title: at every step the rows of a retracting pipeline add up to the accumulating one's");
	is($changed, 0, "$title: each crash leaves every result as it was") if $crashes;
	is($node->safe_psql('postgres', q{SELECT string_agg(name || ': ' || error_message, ', ') FROM beam.pipelines WHERE state <> 'running'}),
		'', "$title: all pipelines are running");
	diag("$title: transcripts: $passed passed, 0 skipped, $rejected rejected as they must; $crashes crashes");
	drop_pipelines(@pipelines);
}

# A worker that ends soon is restarted at once the first time only, then more and more slowly, until the server starts anew. So the runner
# is terminated while it has rows to take, and the server restarted between the steps.
sub terminate_or_restart
{
	my ($when) = @_;

	if ($when eq 'step is over')
	{
		$node->restart;
		return 1;
	}
	my $pid = wait_for_worker($node, 'runner');

	$node->safe_psql('postgres', "SELECT pg_terminate_backend($pid)");
	wait_until($node, "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $pid");
	return 1;
}

run_transcripts('live', 'undisturbed', sub { 0 });
run_transcripts('term', 'runner terminated, then server restarted, at every step', sub { terminate_or_restart($_[1]) });
run_transcripts('kill', 'runner killed at every step', sub { my ($step, $when) = @_; $when eq 'rows are in' && kill9($node, 'runner') });
run_transcripts(
	'stop',
	'server stopped immediately at every step',
	sub {
		my ($step, $when) = @_;

		return 0 if $when eq ($step % 2 ? 'rows are in' : 'step is over');
		crash_and_start($node);
		return 1;
	});
done_testing();
