# Properties of the time model on random input, through beam.test_stream(): any trigger to a depth of three, any kind of window, mode,
# timestamp combiner, behaviour, bundling.
#
#   SEED=7 ROUNDS=200 ./scripts/test tap=properties
#
# A round is one random definition, made as an accumulating, a retracting and a discarding pipeline, and SCRIPTS scripts of rows and
# clocks for them that end with a watermark at infinity. A failure prints the definition and the script.
#
# Half of the scripts change and delete rows too; those are not for the discarding pipeline, which is append-only.
#
# What is not asked: a trigger that is not safe closes windows before all rows are in, so its last panes depend on the bundling and are
# not the batch answer. Hops that dropped rows have no batch to compare with, nor have sessions with a short lateness: one that has
# expired merges no more.
use strict;
use warnings;
use Test::More;
use SbTest;
use SbConform;

use constant SCRIPTS => 40;
use constant STATES => 4;    # of a round's scripts, those whose state is looked at after every step
use constant SECOND => 1_000_000;    # microseconds

my $seed = $ENV{SEED} // time % 1_000_000;
my $rounds = $ENV{ROUNDS} // 50;
my $node = new_node('properties', conf => "log_statement = none\nlog_min_duration_statement = -1\n");
my (%checked, %failed);
my %titles = (
	order => 'panes are EARLY*, at most one ON_TIME, LATE*, numbered without gap, none after the last',
	modes => 'the three modes have the same panes',
	discarding => 'discarding panes add up to the accumulating ones',
	retracting => 'at every step the rows of a retracting pipeline add up to the accumulating result',
	bundling => 'bundling does not change the last pane of a window',
	batch => 'at infinity the result is the batch view over the same rows',
	collected => 'no state is left once all windows have expired',
	state => 'no timer is overdue, no expired window is kept',
	watermark => 'the output watermark never goes back, and passes neither the input watermark nor a hold');

diag("properties: SEED=$seed ROUNDS=$rounds");
srand($seed);

sub failure
{
	my ($property, $case, $what) = @_;

	return if $failed{$property}++ >= 2;
	diag("$titles{$property}: $what\n$case->{definition}\n$case->{events}");
}

sub below { return int(rand($_[0])); }
sub any { return $_[ below(scalar @_) ]; }

# ---- the server's side ----

$node->safe_psql(
	'postgres', q{
CREATE TABLE el (id int, k text, ts timestamptz, v int);
ALTER TABLE el REPLICA IDENTITY FULL;

CREATE FUNCTION us(t timestamptz) RETURNS text LANGUAGE sql AS
	$$ SELECT CASE WHEN isfinite(t) THEN ((extract(epoch FROM t) - 946684800) * 1000000)::bigint::text ELSE t::text END $$;

-- true: the trigger is safe
CREATE FUNCTION make(name text, query text, lateness interval, trigger text, combiner text, on_time text, closing text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
	mode text;
	safe boolean := true;
BEGIN
	FOREACH mode IN ARRAY '{accumulating,retracting,discarding}'::text[] LOOP
		BEGIN
			PERFORM beam.create_pipeline(name || '_' || mode, query, '0', lateness, trigger::beam.trigger, mode, NULL, combiner, on_time, closing,
				source_mode => CASE mode WHEN 'discarding' THEN 'append_only' ELSE 'changes' END);
		EXCEPTION WHEN invalid_parameter_value THEN
			IF SQLERRM !~ 'could lose data' THEN RAISE; END IF;
			safe := false;
			PERFORM beam.create_pipeline(name || '_' || mode, query, '0', lateness, trigger::beam.trigger, mode, NULL, combiner, on_time, closing, true,
				CASE mode WHEN 'discarding' THEN 'append_only' ELSE 'changes' END);
		END;
	END LOOP;
	RETURN safe;
END $$;

-- a result row as text: its window, its key, what is computed
CREATE FUNCTION content(d jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT concat_ws('/', us((d->>'window_start')::timestamptz), us((d->>'window_end')::timestamptz), d->>'k', d->>'n', coalesce(d->>'s', '-'),
		coalesce(d->>'lo', '-'), coalesce(d->>'hi', '-')) $$;

CREATE FUNCTION run(p text, events jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws('|', step, kind, us(window_start), us(window_end), coalesce(timing, '-'), coalesce(index, -9), coalesce(nonspeculative_index, -9),
		coalesce(is_first::int, -9), coalesce(is_last::int, -9), coalesce(us(pane_timestamp), '-'), coalesce(elements, -9),
		CASE WHEN kind IN ('pane', 'retraction') THEN content(data) WHEN kind = 'removal' THEN data ->> 'k' ELSE '-' END), ' ' ORDER BY n)
	  FROM beam.test_stream(p, events) WITH ORDINALITY r(step, kind, window_start, window_end, timing, index, nonspeculative_index, is_first, is_last, pane_timestamp,
		elements, data, reason, n) $$;

CREATE FUNCTION state(p text, events jsonb) RETURNS text LANGUAGE sql AS $$
	SELECT string_agg(concat_ws('|', us(window_end), coalesce(us(event_timer), 'infinity'), coalesce(us(hold), 'infinity'), us(input_watermark), us(output_watermark)), ' ')
	  FROM beam.test_stream_state(p, events) $$;
});

# ---- random definitions and scripts ----

sub random_trigger
{
	my ($depth) = @_;
	my $kind = below($depth > 0 ? 12 : 6);

	return (qw(default_trigger() continuous() never() after_watermark()))[$kind] if $kind < 4;
	return 'after_count(' . (1 + below(4)) . ')' if $kind == 4;
	return "after_processing_time('" . (1 + below(9)) . " s'" . any('', ", align => '4 s'") . ')' if $kind == 5;
	return (qw(after_any after_all after_each))[ $kind - 6 ] . '(' . random_trigger($depth - 1) . ', ' . random_trigger($depth - 1) . ')' if $kind < 9;
	return 'or_finally(' . random_trigger($depth - 1) . ', ' . random_trigger($depth - 1) . ')' if $kind == 9;
	return 'repeatedly(' . random_trigger($depth - 1) . ')' if $kind == 11;
	return 'after_watermark(early => ' . random_trigger($depth - 1) . any('', ', late => ' . random_trigger($depth - 1)) . ')';
}

sub random_definition
{
	my ($name) = @_;
	my $kind = any(qw(tumble hop session session global));
	my $size = 5 + below(6);
	my $lateness = any(0, 1 + below(12), 1000, 1000);
	my @combiners = ('end_of_window', $kind eq 'global' ? () : qw(earliest latest));
	my $having = below(4) == 0;
	my %from = (
		tumble => ", beam.tumble(e.ts, '$size s') w",
		hop => ", beam.hop(e.ts, '$size s', '3 s') w",
		session => ", beam.session(e.ts, '$size s') w",
		global => '');
	my $window = $kind eq 'global' ? '' : 'w.window_start, w.window_end, ';
	my $query = "SELECT ${window}e.k, count(*) AS n, sum(e.v) AS s, min(e.v) AS lo, max(e.v) AS hi, max(e.id) AS top FROM el e$from{$kind} GROUP BY ${window}e.k"
	  . ($having ? ' HAVING sum(e.v) > 5' : '');

	# a pane without a row does not say of which key it is
	return {
		name => $name, kind => $kind, lateness => $lateness, having => $having, keys => $having ? ['a'] : [qw(a b)],
		sql => 'SELECT make('
		  . join(', ', map { quote($_) } $name, $query, "$lateness s", random_trigger(3), any(@combiners), any(qw(fire_always fire_if_non_empty)),
			any(qw(fire_always fire_if_non_empty))) . ')'
	};
}

# Times near the watermark, many of them at the edges of windows
sub random_row
{
	my ($script, $v) = @_;
	my $us = ($script->{watermark} - 14 + below(40)) * SECOND + below(3) - 1;

	return sprintf('{"id":%d,"k":"%s","ts":"%s","v":%d}', ++$script->{id}, any(@{ $script->{keys} }), time_text($us), $v // below(26) - 5);
}

sub random_rows
{
	my ($script) = @_;
	my @rows = map { random_row($script) } 1 .. 1 + below(6);

	push @{ $script->{live} }, @rows;
	return \@rows;
}

# Some of the rows that are there
sub take_rows
{
	my ($script) = @_;
	my @taken;

	push @taken, splice(@{ $script->{live} }, below(scalar @{ $script->{live} }), 1) while @{ $script->{live} } && @taken < 4 && (!@taken || below(3));
	push @{ $script->{gone} }, @taken;
	return @taken;
}

# Rows that go. Of a session also one that was never there: no other row has this value.
sub random_delete
{
	my ($script) = @_;
	my @rows = take_rows($script);

	push @rows, random_row($script, -99) if $script->{session} && below(4) == 0;
	return '{"delete":[' . join(',', @rows) . ']}';
}

# Rows that become others, some at the same time: another value, since an UPDATE of what the query does not use is none
sub random_update
{
	my ($script) = @_;
	my @old = take_rows($script);
	my @new;

	for my $old (@old)
	{
		my $same_time = below(3) == 0;
		my $row = random_row($script, $same_time ? 21 + $script->{id} : undef);

		$row =~ s/"ts":"[^"]*"/($old =~ m{("ts":"[^"]*")})[0]/e if $same_time;
		push @new, $row;
	}
	push @{ $script->{live} }, @new;
	return '{"update":{"old":[' . join(',', @old) . '],"new":[' . join(',', @new) . ']}}';
}

sub time_text
{
	my ($us) = @_;

	return at_second(int($us / SECOND)) =~ s/\+00$/sprintf('.%06d+00', $us % SECOND)/er;
}

# Steps: a list of rows, or the text of another event. A script also says which rows it has put in, and taken out again.
sub random_script
{
	my ($definition) = @_;
	my $changes = below(2);
	my $session = $definition->{kind} eq 'session';
	# a group that has become empty has a pane without a row, which does not say of which key it is; a session just goes
	my %script = (watermark => 1000 + below(30), id => 0, live => [], gone => [], changes => $changes, session => $session,
		keys => $changes && !$session ? ['a'] : $definition->{keys});
	my @steps;

	for (1 .. 8 + below(10))
	{
		my $what = below($changes ? 10 : 6);

		if ($what == 0)
		{
			$script{watermark} += below(9);
			push @steps, sprintf('{"watermark":"%s"}', time_text($script{watermark} * SECOND));
		}
		elsif ($what == 1) { push @steps, sprintf('{"processing_time":"%d.000001 s"}', below(9)); }
		elsif ($what == 6 || $what == 7) { push @steps, random_delete(\%script); }
		elsif ($what == 8) { push @steps, random_update(\%script); }
		else { push @steps, random_rows(\%script); }
	}
	return (\%script, @steps, '"end"');
}

# The same rows in other, smaller bundles
sub split_bundles
{
	my @split;

	for my $step (@_)
	{
		if (!ref $step) { push @split, $step; next; }
		my @left = @$step;

		push @split, [ splice @left, 0, 1 + below(3) ] while @left;
	}
	return @split;
}

sub events_text { return '[' . join(',', map { ref $_ ? '{"rows":[' . join(',', @$_) . ']}' : $_ } @_) . ']'; }

# ---- running ----

# One psql for many queries of one row with one column, which has no line break
sub query_all
{
	my @queries = @_;
	my ($out) = $node->safe_psql('postgres', join('', map { "$_;\n" } @queries));
	my @lines = split /\n/, $out, -1;

	die scalar(@queries) . ' queries, but ' . scalar(@lines) . " answers\n" unless @lines == @queries;
	return @lines;
}

sub parse
{
	my ($text) = @_;
	my @names = qw(step kind start end timing index ns first last at elements content);
	my @rows;

	for (split / /, $text)
	{
		my %row;

		@row{@names} = split /\|/;
		push @rows, \%row;
	}
	return @rows;
}

sub panes { return grep { $_->{kind} eq 'pane' || $_->{kind} eq 'none' } @_; }
sub key_of { return $_[0]{kind} eq 'none' ? 'a' : $_[0]{kind} eq 'removal' ? $_[0]{content} : (split /\//, $_[0]{content})[-5]; }

# ---- the properties ----

my %rank = (EARLY => 0, ON_TIME => 1, LATE => 2);

sub check_order
{
	my ($case, @panes) = @_;
	my %last;

	for my $pane (@panes)
	{
		my $id = join(' ', $pane->{start}, $pane->{end}, key_of($pane));
		my $before = $last{$id};

		$before = undef if $before && $pane->{index} == 0 && $case->{kind} eq 'session';
		my $right =
			 $pane->{index} == ($before ? $before->{index} + 1 : 0)
		  && $pane->{first} == ($pane->{index} == 0)
		  && !($before && $before->{last})
		  && (!$before || $rank{ $pane->{timing} } >= $rank{ $before->{timing} })
		  && !($before && $pane->{timing} eq 'ON_TIME' && $before->{timing} eq 'ON_TIME')
		  && $pane->{ns} == ($pane->{timing} eq 'EARLY' ? -1 : ($before ? $before->{ns} : -1) + 1);
		failure('order', $case, "step $pane->{step}, window and key $id: $pane->{timing}, index $pane->{index}, nonspeculative $pane->{ns}") unless $right;
		$last{$id} = $pane;
	}
	$checked{order}++;
}

# Panes as text, those of one step sorted: windows of one step have no order among them that means anything
sub pane_list
{
	my ($with_content, @panes) = @_;

	return join("\n", sort map { sprintf('%03d ', $_->{step}) . join(' ', @$_{qw(start end timing index ns first last at elements)}, key_of($_), $with_content ? $_->{content} : ()) } @panes);
}

# What a table would hold that is kept by accumulating panes, by window and key
sub accumulate
{
	my ($table, $row) = @_;

	return if $row->{kind} eq 'late';
	my $id = join(' ', $row->{start}, $row->{end}, key_of($row));

	delete $table->{$id};
	$table->{$id} = $row if $row->{kind} eq 'pane';
}

sub add_signed
{
	my ($net, $row) = @_;

	return if $row->{kind} eq 'none' || $row->{kind} eq 'late';
	$net->{ $row->{content} } += $row->{kind} eq 'pane' ? 1 : -1;
	delete $net->{ $row->{content} } if $net->{ $row->{content} } == 0;
}

sub net_text { my ($net) = @_; return join(' ', sort map { $net->{$_} == 1 ? $_ : "$net->{$_}*$_" } keys %$net); }
sub table_text { my ($table) = @_; return join(' ', sort map { $_->{content} } values %$table); }

sub net_of
{
	my %net;

	add_signed(\%net, $_) for @_;
	return net_text(\%net);
}

sub table_of
{
	my %table;

	accumulate(\%table, $_) for @_;
	return table_text(\%table);
}

sub check_retracting
{
	my ($case, $accumulating, $retracting) = @_;
	my (%net, %table);
	my @panes = @$accumulating;
	my @rows = @$retracting;

	# a closed session gives way to a new one with the same bounds: the table has one row of them, the other result both
	return if $case->{kind} eq 'session' && !$case->{safe};
	for my $step (1 .. $case->{steps})
	{
		accumulate(\%table, shift @panes) while @panes && $panes[0]{step} == $step;
		add_signed(\%net, shift @rows) while @rows && $rows[0]{step} == $step;
		next if net_text(\%net) eq table_text(\%table);
		failure('retracting', $case, "step $step adds up to " . net_text(\%net) . "\nbut accumulating is " . table_text(\%table));
		last;
	}
	$checked{retracting}++;
}

sub check_discarding
{
	my ($case, $accumulating, $discarding) = @_;
	my (%sum, %last);

	return if $case->{kind} eq 'session' || $case->{having} || $case->{changes};
	for my $pane (panes(@$discarding))
	{
		my @content = split /\//, $pane->{content};
		my $id = join(' ', $pane->{start}, $pane->{end}, $content[-5]);

		$sum{$id}[0] += $content[-4];
		$sum{$id}[1] += $content[-3] eq '-' ? 0 : $content[-3];
	}
	for my $pane (panes(@$accumulating))
	{
		my @content = split /\//, $pane->{content};

		$last{ join(' ', $pane->{start}, $pane->{end}, $content[-5]) } = [ @content[ -4, -3 ] ];
	}
	my ($was, $want) = map { my $by = $_; join("\n", map { "$_: @{ $by->{$_} }" } sort keys %$by) } \%sum, \%last;

	failure('discarding', $case, "they add up to\n$was\nbut the last accumulating ones are\n$want") unless $was eq $want;
	$checked{discarding}++;
}

sub check_bundling
{
	my ($case, $rows, $split) = @_;

	return unless $case->{safe};
	my ($was, $now) = (net_of(@$rows), net_of(@$split));

	failure('bundling', $case, "was $was\nwith $case->{split_events}\nit is $now") unless $was eq $now;
	$checked{bundling}++;
}

sub check_batch
{
	my ($case, $accumulating, $batch) = @_;
	my $late = grep { $_->{kind} eq 'late' } @$accumulating;

	return if !$case->{safe} || ($late && $case->{kind} eq 'hop') || ($case->{kind} eq 'session' && $case->{lateness} < 1000);
	my $result = table_of(@$accumulating);

	failure('batch', $case, "the result is $result\nthe batch view $batch") unless $result eq $batch;
	$checked{batch}++;
}

sub check_states
{
	my ($case, @states) = @_;
	my $before = '-infinity';
	my $number = sub { $_[0] eq 'infinity' ? 9e18 : $_[0] eq '-infinity' ? -9e18 : $_[0] };

	for my $step (0 .. $#states)
	{
		for (split / /, $states[$step])
		{
			my ($end, $timer, $hold, $input, $output) = map { $number->($_) } split /\|/;

			failure('watermark', $case, "after step " . ($step + 1) . ": output $output, was $before, input $input, hold $hold")
			  if $output < $number->($before) || $output > $input || $output > $hold;
			failure('state', $case, "after step " . ($step + 1) . ": window that ends at $end, timer $timer, input watermark $input")
			  if $timer < $input || ($case->{kind} ne 'global' && $end - 1 + $case->{lateness} * SECOND < $input);
			$before = $output;
		}
	}
	$checked{$_}++ for qw(state watermark);
}

# A row that came late was never there, and takes nothing with it; one that went late is still there.
sub batch_query
{
	my ($name, $script, $events) = @_;
	my ($live, $gone) = map { '[' . join(',', @$_) . ']' } @$script{qw(live gone)};

	return "BEGIN; WITH events AS (SELECT '$events'::jsonb AS all_of_them), late AS (SELECT DISTINCT ((data->>'id')::int) AS id, "
	  . "coalesce(e.all_of_them->(step - 1)->'delete', e.all_of_them->(step - 1)->'update'->'old', '[]') \@> jsonb_build_array(jsonb_build_object('id', data->'id')) AS went "
	  . "FROM events e, beam.test_stream('${name}_accumulating', e.all_of_them) WHERE kind = 'late') "
	  . "INSERT INTO el SELECT r.* FROM jsonb_populate_recordset(NULL::el, '$live') r LEFT JOIN late l USING (id) WHERE l.id IS NULL "
	  . "UNION ALL SELECT r.* FROM jsonb_populate_recordset(NULL::el, '$gone') r JOIN late l USING (id) WHERE l.went; "
	  . "SELECT string_agg(content(to_jsonb(b)), ' ' ORDER BY content(to_jsonb(b)) COLLATE \"C\") FROM ${name}_accumulating_batch b; ROLLBACK";
}

# ---- rounds ----

sub run_round
{
	my ($definition) = @_;
	my $name = $definition->{name};
	my (@cases, @queries);

	for my $number (1 .. SCRIPTS)
	{
		my ($script, @steps) = random_script($definition);
		my @split = split_bundles(@steps);
		my $case = { %$definition, changes => $script->{changes}, definition => $definition->{sql}, steps => scalar @steps, events => events_text(@steps), split_events => events_text(@split) };

		push @queries, map { "SELECT run('${name}_$_', '$case->{events}')" } qw(accumulating retracting);
		push @queries, $script->{changes} ? "SELECT ''" : "SELECT run('${name}_discarding', '$case->{events}')";
		push @queries, "SELECT run('${name}_retracting', '$case->{split_events}')", batch_query($name, $script, $case->{events}), "SELECT state('${name}_" . any(qw(accumulating retracting)) . "', '$case->{events}')";
		if ($number <= STATES)
		{
			$case->{prefixes} = @steps - 1;
			push @queries, map { "SELECT state('${name}_accumulating', '" . events_text(@steps[ 0 .. $_ ]) . "')" } 0 .. @steps - 2;
		}
		push @cases, $case;
	}
	my ($safe, @answers) = query_all("$definition->{sql}", @queries);

	query_all(map { "SELECT beam.drop_pipeline('${name}_$_')" } qw(accumulating retracting discarding));
	for my $case (@cases)
	{
		$case->{safe} = $safe eq 't';
		check_case($case, splice @answers, 0, 6 + ($case->{prefixes} // 0));
	}
}

sub check_case
{
	my ($case, $accumulating, $retracting, $discarding, $split, $batch, $left, @states) = @_;
	my @accumulating = parse($accumulating);
	my @retracting = parse($retracting);
	my @discarding = parse($discarding);
	my @lists = (pane_list(1, panes(@accumulating)), pane_list(1, panes(@retracting)), pane_list(0, panes(@accumulating)), pane_list(0, panes(@discarding)));

	check_order($case, panes(@accumulating));
	failure('modes', $case, "accumulating:\n$lists[0]\nretracting:\n$lists[1]") if $lists[0] ne $lists[1];
	failure('modes', $case, "accumulating:\n$lists[2]\ndiscarding:\n$lists[3]") if !$case->{having} && !$case->{changes} && $lists[2] ne $lists[3];
	$checked{modes}++;
	check_retracting($case, \@accumulating, \@retracting);
	check_discarding($case, \@accumulating, \@discarding);
	check_bundling($case, \@retracting, [ parse($split) ]);
	check_batch($case, \@accumulating, $batch);
	failure('collected', $case, "left are: $left") if $left ne '';
	$checked{collected}++;
	check_states($case, @states) if $case->{prefixes};
}

run_round(random_definition("p$_")) for 1 .. $rounds;
for my $property (qw(order modes discarding retracting bundling batch collected state watermark))
{
	ok($checked{$property} && !$failed{$property}, "$titles{$property} (" . ($checked{$property} // 0) . ' cases, seed ' . "$seed)")
	  or diag(($failed{$property} // 0) . ' failures');
}
diag('properties: ' . $rounds * SCRIPTS . ' cases');
done_testing();
