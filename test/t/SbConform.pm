# SbConform.pm: Beam's transcripts and trigger cases (test/unit/conformance), read from the line format, for the tests that go through SQL.
#
#   for my $t (read_blocks('transcripts')) { ... $t->{name}, $t->{window}, $t->{steps} ... }
#   my $sql = create_sql('p_1', $t, lateness => $longest, ...);    # SELECT beam.create_pipeline(...)
#   my $problem = check_transcript($t, \@panes_of_each_step);      # undef, or what the harness of the transcripts says
#
# A block has its settings by keyword. A transcript's steps are {kind => 'input' | 'watermark', ..., line => text, expect => [pane, ...]};
# an expected pane is a hash of strings. A pane that came is a hash with window ("start,end", inclusive end, in seconds), values (an
# array), timestamp (seconds, floored), index, nonspeculative_index, early, late, final; what it lacks is not compared.
#
# An element of value and time n seconds is a row with ts = 2000-01-01 00:00 UTC + n s and v = n.
package SbConform;

use strict;
use warnings;
use Exporter 'import';
use File::Basename qw(dirname);

our @EXPORT = qw(read_blocks window_from create_sql check_transcript at_second quote $longest_interval);

# What an interval can say at most: all of its microseconds. With it a window ending after 2000 never expires.
our $longest_interval = '9223372036854775807 microseconds';

my $dir = dirname(__FILE__) . '/../unit/conformance';
my %skipped_lines = map { $_ => 1 } qw(expect);

sub quote
{
	my ($text) = @_;

	return 'NULL' unless defined $text;
	$text =~ s/'/''/g;
	return "'$text'";
}

# The time of an element, as text for timestamptz
sub at_second
{
	my ($second) = @_;
	my $minute = int($second / 60);

	return sprintf('2000-01-%02d %02d:%02d:%02d+00', 1 + int($minute / 1440), int($minute / 60) % 24, $minute % 60, $second % 60);
}

# ---- reading ----

sub _add_line
{
	my ($block, $key, $value) = @_;
	my $steps = $block->{steps};

	if ($key eq 'input' && $block->{kind} eq 'case') { $block->{input} = [ map { [ split /:/ ] } split ' ', $value ]; }
	elsif ($key eq 'late') { $block->{late} = [ map { [ split /:/ ] } split ' ', $value ]; }
	elsif ($key eq 'bundles') { $block->{bundles} = [ split ' ', $value ]; }
	elsif ($key eq 'result') { push @{ $block->{results} }, { window => [ split ' ', $value ], panes => [] }; }
	elsif ($key eq 'pane' && $block->{kind} eq 'case') { push @{ $block->{results}[-1]{panes} }, join(' ', sort split ' ', $value); }
	elsif ($key eq 'pane') { push @{ $steps->[-1]{expect} }, { map { /^(\w+)=(.*)$/ } split / /, $value }; }
	elsif ($key eq 'input') { push @$steps, { kind => 'input', line => "input $value", seconds => [ split ' ', $value ], expect => [] }; }
	elsif ($key eq 'watermark') { push @$steps, { kind => 'watermark', line => "watermark $value", second => $value, expect => [] }; }
	elsif ($key eq 'clock') { die "a transcript moves the clock: teach the tests to\n"; }
	elsif (!$skipped_lines{$key}) { $block->{$key} = $value; }
}

# KIND: transcripts or cases
sub read_blocks
{
	my ($file) = @_;
	my @blocks;

	open my $in, '<', "$dir/$file.txt" or die "$dir/$file.txt: $!";
	while (my $line = <$in>)
	{
		chomp $line;
		next if $line =~ /^(#|$)/;
		my ($key, $value) = $line =~ /^(\w+) ?(.*)$/ or die "what is $line";
		if ($key eq 'transcript' || $key eq 'case')
		{
			push @blocks, { kind => $key, name => $value, window => 'global', trigger => 'default_trigger()', steps => [] };
		}
		else
		{
			_add_line($blocks[-1], $key, $value);
		}
	}
	return @blocks;
}

# ---- pipelines ----

# What a block's windows are in FROM, over e.ts; nothing for the global window
sub window_from
{
	my ($block) = @_;
	my ($kind, $size) = split ' ', $block->{window};

	return '' if $kind eq 'global';
	return ", beam.$kind(e.ts, '$size s') w";
}

# The statement that makes the pipeline of a block over table el (t, k, ts, v). Options: columns more, where, k (group by it),
# watermark, lateness, accumulation over the block's own.
sub create_sql
{
	my ($name, $block, %options) = @_;
	my $global = $block->{window} eq 'global';
	my @groups = ($global ? () : ('w.window_start', 'w.window_end'), $options{k} ? 'e.k' : ());
	my $query = 'SELECT ' . join(', ', @groups, 'array_agg(e.v) AS vs', @{ $options{columns} // [] }) . ' FROM el e' . window_from($block);

	$query .= " WHERE $options{where}" if $options{where};
	$query .= ' GROUP BY ' . join(', ', @groups) if @groups;
	return "SELECT beam.create_pipeline("
	  . join(', ',
		quote($name), quote($query),
		'trigger => ' . quote($block->{trigger}),
		'watermark => ' . quote($options{watermark} // '0'),
		'allowed_lateness => ' . quote($options{lateness} // ($block->{lateness} // 0) . ' s'),
		'accumulation => ' . quote($options{accumulation} // $block->{accumulation} // 'accumulating'),
		(($options{accumulation} // $block->{accumulation} // '') eq 'discarding' ? q{source_mode => 'append_only'} : ()),
		'timestamp_combiner => ' . quote($block->{combiner} // 'end_of_window'),
		'idle_timeout => NULL', 'allow_unsafe_trigger => true') . ');';
}

# ---- comparing ----

sub _field_matches
{
	my ($pane, $key, $expected) = @_;

	return 1 unless exists $pane->{$key};
	return join(',', sort { $a <=> $b } @{ $pane->{values} }) eq $expected if $key eq 'values';
	return $pane->{$key} eq $expected;
}

sub _pane_matches
{
	my ($pane, $expected) = @_;

	for my $key (keys %$expected)
	{
		die "unknown field $key of an expected pane\n" unless $key =~ /^(window|values|timestamp|index|nonspeculative_index|early|late|final)$/;
		return 0 unless _field_matches($pane, $key, $expected->{$key});
	}
	return 1;
}

# Each pane of a step is expected there, and each one expected has come: undef; else the words of Beam's harness.
sub check_transcript
{
	my ($block, $panes) = @_;

	for my $i (0 .. $#{ $block->{steps} })
	{
		my @left = @{ $panes->[$i] // [] };

		for my $expected (@{ $block->{steps}[$i]{expect} })
		{
			my ($found) = grep { _pane_matches($left[$_], $expected) } 0 .. $#left;

			return 'Unmatched output' unless defined $found;
			splice @left, $found, 1;
		}
		return 'Unexpected output' if @left;
	}
	return undef;
}

1;
