# SbModelGen.pm: random tables, pipelines and loads. What it makes depends on the seed only, never on a database or a clock.
#
#   my $round = SbModelGen::round($seed, icu => 1);
#     tables     => [{name, columns, ddl}]
#     pipelines  => [{name, mode, table, query pieces, arguments ...}]
#     steps      => [[kind, arguments ...]]: what to run, in this order
#   SbModelGen::query($pipeline, %options) gives the text of a pipeline's query
#
# MODES. What a pipeline promises, and so what it is compared with:
#   now      accumulating, nothing is late: the result is the batch answer at any moment
#   late     accumulating, some rows are late: the batch answer over what is not in late_events
#   final    accumulating, any trigger: likewise, once the watermark has passed everything
#   panes    discarding, any trigger: the sum over the panes, likewise; and the panes of a window are in order
#   dead     accumulating, some rows raise errors: the batch answer over what is not in dead_letters
# Rows of some tables change: `ver` then tells apart what has stood under the same id, each statement that changes rows has a new one. Such a
# table is read with source_mode 'changes' only. Where it is truncated too, what has been late before says nothing about the rest, so none of
# its pipelines has late rows.
#
# WHAT CHANGES. Functions are replaced, types altered and values of an enum added between the statements of the writers. Pipelines that are
# `moving` compute with them: they are of the mode now, over tables that change, so that they can be made anew. The constraints that a result of that
# mode gets and loses refuse rows that were not refused before.
#
# WRITERS. Two hold transactions open at once, driven by one program, so neither may ever wait for the other: each has ids of its own
# parity, and touches these only.
#
# In pieces of queries `@.` stands for the source's alias, `#s` and `#e` for the window's columns.
package SbModelGen;

use strict;
use warnings;
use POSIX qw(strftime floor);

my @GOOD_TIMES = (1, 60, 3600, 6 * 3600);    # seconds: the size of a typical window
my $BASE = 1711670400;                       # 2024-03-29 UTC: Europe's clocks change two days later

# ---- what a round's pipelines compute with, and what becomes of it ----

my @colors; # so far

sub objects_sql
{
	return (
		q{CREATE TYPE model_color AS ENUM ('red', 'green', 'blue'); CREATE TYPE model_pair AS (a int, b int); CREATE DOMAIN model_domain AS int},
		scaled_sql(1), inlined_sql(1), step_sql(1), q{CREATE AGGREGATE model_stepped(int) (SFUNC = model_step, STYPE = bigint, INITCOND = '0')});
}

sub drop_objects_sql
{
	return q{DROP AGGREGATE IF EXISTS model_stepped(int); DROP FUNCTION IF EXISTS model_step, model_inlined, model_scaled; DROP DOMAIN IF EXISTS model_domain; DROP TYPE IF EXISTS model_pair, model_color};
}

sub scaled_sql { return "CREATE OR REPLACE FUNCTION model_scaled(v int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v::bigint * $_[0]; END'" }
sub inlined_sql { return "CREATE OR REPLACE FUNCTION model_inlined(v int) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT v::bigint % 7 + $_[0]'" }
sub step_sql { return "CREATE OR REPLACE FUNCTION model_step(s bigint, v int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN s + coalesce(v, 0)::bigint * $_[0]; END'" }

# One statement that alters one of them
sub alteration_sql
{
	my ($round) = @_;
	my $attributes = $round->{attributes} //= [];
	my $dice = rand();

	return pick(\&scaled_sql, \&inlined_sql, \&step_sql)->(between(1, 4)) if $dice < 0.5;
	if ($dice < 0.65)
	{
		my $near = pick(@colors);

		push @colors, 'color' . @colors;
		return "ALTER TYPE model_color ADD VALUE '$colors[-1]' " . pick('BEFORE', 'AFTER') . " '$near'";
	}
	if ($dice < 0.85)
	{
		return 'ALTER TYPE model_pair DROP ATTRIBUTE ' . shift @$attributes if @$attributes && chance(0.5);
		push @$attributes, 'c' . ++$round->{attribute};
		return "ALTER TYPE model_pair ADD ATTRIBUTE $attributes->[-1] " . pick('int', 'text', 'numeric');
	}
	$round->{limited} = !$round->{limited};
	return 'ALTER DOMAIN model_domain ' . ($round->{limited} ? 'ADD CONSTRAINT limited CHECK (VALUE IS NULL OR VALUE::bigint * 2 < 10000000000)' : 'DROP CONSTRAINT limited');
}

my @MOVING_KEYS = (
	'@.k_pair', '@.k_pair::text', 'ARRAY[@.k_pair]', '(@.k_pair).a', 'model_scaled(@.v_int) % 5', 'model_inlined(@.k_int)', 'to_jsonb(@.k_pair)', '@.k_enum', 'abs(@.v_small::int)::model_domain');
my @MOVING_AGGREGATES = (
	'sum(model_scaled(@.v_int))', 'max(model_inlined(@.v_small))', 'model_stepped(@.v_int)', 'string_agg(@.k_pair::text, \',\' ORDER BY @.id)', 'max(ARRAY[@.k_pair])', 'array_agg(@.k_enum ORDER BY @.k_enum, @.id)',
	'count(*) FILTER (WHERE model_scaled(@.v_int) > 30)', 'max(@.v_int::model_domain)', 'jsonb_agg(@.k_pair ORDER BY @.id)', 'count(DISTINCT @.k_pair)', 'string_agg(model_inlined(@.v_int)::text, \'+\' ORDER BY model_inlined(@.v_int))');

# A constraint on the result of a pipeline, or that it goes: [condition or undef, statement]
sub constraint
{
	my ($p) = @_;
	my @names = map { $_->{name} } grep { $_->{name} =~ /^a\d/ } @{ $p->{items} };
	my @conditions = ($p->{counted} ? ('n % 3 <> 1', 'n < 4', 'n > 1') : (), map { "$_ IS NOT NULL" } @names);
	my $drop = "ALTER TABLE $p->{name} DROP CONSTRAINT IF EXISTS model_refuses";
	my $condition;

	return [ undef, $drop ] if !@conditions || chance(0.4);
	$condition = pick(@conditions);
	return [ $condition, "$drop, ADD CONSTRAINT model_refuses CHECK ($condition) NOT VALID" ];
}

# ---- dice ----

sub chance { return rand() < $_[0] }
sub between { return $_[0] + int(rand($_[1] - $_[0] + 1)) }
sub pick { return $_[ int(rand(@_)) ] }

sub shuffle
{
	my @list = @_;

	for (my $i = $#list; $i > 0; $i--)
	{
		my $j = int(rand($i + 1));
		@list[ $i, $j ] = @list[ $j, $i ];
	}
	return @list;
}

# ---- values, as text; undef is NULL ----

# microseconds since 1970 as timestamptz
sub time_text
{
	my ($us) = @_;
	my $seconds = floor($us / 1e6);

	return sprintf('%s.%06d+00', strftime('%Y-%m-%d %H:%M:%S', gmtime($seconds)), $us - $seconds * 1e6);
}

sub word { return join '', map { pick('a' .. 'e') } 1 .. between(1, $_[0]) }

my %value = (
	k_text => sub { pick('eu', 'us', 'asia', '', ' eu', 'EU', "it's", '"', '\\', 'größe', 'NULL', 'n/a') },
	k_ci => sub { pick('Ab', 'aB', 'ab', 'AB', 'cd', 'CD', 'Cd', 'x', 'X') },
	k_num => sub { pick('1', '1.0', '1.00', '2.50', '2.5', '0', '0.000', '-0', 'NaN', '1e20', '100000000000000000000', '-3.10') },
	k_date => sub { sprintf('2024-%02d-%02d', between(1, 3), between(1, 5)) },
	k_int => sub { pick(-2147483648, 2147483647, 0, 1, 2, 3, 4, 5) },
	k_arr => sub { pick('{}', '{1}', '{1,2}', '{2,1}', '{NULL}', '{1,NULL}', '[0:1]={1,2}', '{{1},{2}}') },
	k_bool => sub { pick('t', 'f') },
	k_ts => sub { pick('2024-01-01 00:00:00+00', '2024-01-01 01:00:00+01', 'infinity', '1969-12-31 23:59:59.999999+00') },
	k_float => sub { pick('0', '-0', 'NaN', '1.5', '1e300', 'Infinity') },
	k_uuid => sub { '00000000-0000-0000-0000-00000000000' . between(1, 4) },
	k_char => sub { pick('a', 'a  ', 'b', 'ab ', '') },
	k_enum => sub { pick(@colors) },
	k_iv => sub { pick('1 day', '24:00:00', '1 mon', '30 days', '-1 us') },
	k_json => sub { pick('1', '1.0', '{"a": 1}', '[]', 'null', '"x"') },
	v_int => sub { chance(0.02) ? pick(2147483647, -2147483648) : between(-20, 50) },
	v_small => sub { chance(0.02) ? pick(32767, -32768) : between(-9, 9) },
	v_big => sub { chance(0.05) ? pick('9223372036854775807', '-9223372036854775808') : between(-1000000, 1000000) },
	v_num => sub { chance(0.01) ? pick('NaN', 'Infinity', '1e40', '-1e-40') : sprintf('%.*f', between(0, 4), rand(200) - 100) },
	v_float => sub { chance(0.005) ? pick('NaN', '-Infinity') : between(-1000, 1000) },
	v_text => sub { chance(0.02) ? long_text() : word(4) },
	v_ts => sub { time_text(($BASE + between(-100000, 100000)) * 1e6 + between(0, 999999)) },
	v_bool => sub { pick('t', 'f') },
	v_iv => sub { between(-100, 100) . ' seconds' },
	v_json => sub { sprintf('{"a": %d, "b": "%s"}', between(0, 3), word(2)) });

my %type = (
	k_text => 'text', k_ci => 'text COLLATE model_ci', k_num => 'numeric', k_date => 'date', k_int => 'int', k_arr => 'int[]',
	k_bool => 'boolean', k_ts => 'timestamptz', k_float => 'float8', k_uuid => 'uuid', k_char => 'char(4)', k_enum => 'model_color',
	k_iv => 'interval', k_json => 'jsonb', v_int => 'int', v_small => 'smallint', v_big => 'bigint', v_num => 'numeric',
	v_float => 'float8', v_text => 'text', v_ts => 'timestamptz', v_bool => 'boolean', v_iv => 'interval', v_json => 'jsonb');

# long enough for TOAST, compressible or not
sub long_text
{
	return word(5) x between(600, 3000) if chance(0.5);
	return join '', map { chr(between(48, 122)) } 1 .. between(1500, 9000);
}

# ---- tables ----

sub table
{
	my ($n, $round) = @_;
	my @names = shuffle(sort keys %type);
	my %nulls;
	my @columns;

	@names = grep { $_ ne 'k_ci' } @names unless $round->{icu};
	$nulls{$_} = pick(0, 0, 0.1, 0.5) for @names;
	@columns = shuffle([ 'id', 'bigint' ], [ 'ver', 'int' ], [ 'ts', 'timestamptz' ], [ 'junk', pick('text', 'int', 'bool') ], map { [ $_, $type{$_} ] } @names);
	return {
		name => "model_src$n",
		columns => [ grep { $_ ne 'junk' } map { $_->[0] } @columns ],
		ddl => sprintf('CREATE TABLE model_src%d (%s); ALTER TABLE model_src%1$d REPLICA IDENTITY FULL', $n, join(', ', (map { "$_->[0] $_->[1]" . ($_->[0] eq 'id' ? ' UNIQUE' : '') } @columns), 'k_pair model_pair GENERATED ALWAYS AS (ROW(k_int, v_small::int % 3)::model_pair) STORED')),
		nulls => \%nulls,
		early_drop => chance(0.3),
		changes => chance(0.6),
		truncates => chance(0.4),
		now_us => $BASE * 1e6 + between(0, 3 * 86400) * 1e6,
		junk => 1,
		late_share => pick(0, 0.02, 0.1),
		jitter => pick(0, 1, 3, 20),
		extreme => chance(0.15),
		speed => pick(0.02, 0.1, 0.5, 3),
		variety => pick(1, 1, 3) };
}

# An event time: forward in steps, with jitter, sometimes very late, far ahead, on a window's border, or NULL.
sub event_time
{
	my ($table, $scale) = @_;
	my $us;

	return undef if chance(0.02);
	return time_text(pick(-30000000000 * 1e6, 253370764800 * 1e6, -1)) if $table->{extreme} && chance(0.01);
	$table->{now_us} += floor(rand() * 2 * $scale * $table->{speed} * 1e6);
	$table->{now_us} += floor(rand() * 30 * $scale * 1e6) if chance(0.003);
	$us = $table->{now_us} - floor(rand() * $table->{jitter} * $scale * 1e6);
	$us -= floor(rand() * 60 * $scale * 1e6) if chance($table->{late_share});
	$us = floor($us / ($scale * 1e6)) * $scale * 1e6 + pick(0, 0, -1, 1) if chance(0.1);
	return time_text($us);
}

# A value that is not null. As JSON, which is how a late row is kept, arrays have no bounds, and null is none of jsonb's.
sub value
{
	my ($table, $column) = @_;
	my $text = $value{$column}->();

	return $text unless $table->{changes};
	return $text eq 'null' && $column eq 'k_json' ? '1' : $text =~ s/^\[\d:\d\]=//r;
}

sub next_id
{
	my ($round, $writer) = @_;

	$round->{last_id}++;
	$round->{last_id}++ if $round->{last_id} % 2 != $writer;
	return $round->{last_id};
}

sub row
{
	my ($table, $round, $writer) = @_;
	my @row;

	for my $column (@{ $table->{columns} })
	{
		if ($column eq 'id') { push @row, next_id($round, $writer) }
		elsif ($column eq 'ver') { push @row, 0 }
		elsif ($column eq 'ts') { push @row, event_time($table, $round->{scale}) }
		elsif (chance($table->{nulls}{$column})) { push @row, undef }
		else { push @row, value($table, $column) }
	}
	return \@row;
}

# ---- windows ----

sub interval_text { return sprintf('%d milliseconds', $_[0] * 1000) }

sub window
{
	my ($scale, $mode) = @_;
	my $kind = pick(qw(none tumble tumble hop hop cumulate session session calendar custom));
	my $shift = chance(0.3) ? sprintf(", '%s'", interval_text($scale * (rand() * 8 - 4))) : '';

	return undef if $kind eq 'none' && $mode =~ /^(?:now|dead|panes)$/;
	$kind = 'tumble' if $kind eq 'none';
	return { kind => $kind, call => sprintf("beam.tumble(@.ts, '%s'%s)", interval_text($scale * pick(0.5, 1, 2, 7)), $shift) } if $kind eq 'tumble';
	if ($kind eq 'hop')
	{
		my $slide = $scale * pick(0.5, 1, 1.5);

		return { kind => $kind, call => sprintf("beam.hop(@.ts, '%s', '%s'%s)", interval_text($slide * pick(0.5, 1, 2, 3.5, 8)), interval_text($slide), $shift) };
	}
	if ($kind eq 'cumulate')
	{
		my $step = $scale * pick(0.5, 1, 2);

		return { kind => $kind, call => sprintf("beam.cumulate(@.ts, '%s', '%s'%s)", interval_text($step * pick(1, 3, 6)), interval_text($step), $shift) };
	}
	return { kind => $kind, call => sprintf("beam.session(@.ts, '%s')", interval_text($scale * pick(0.05, 0.3, 1, 4))) } if $kind eq 'session';
	return { kind => $kind, call => sprintf("beam.calendar(@.ts, '%s', %d, '%s')", pick(qw(day week month quarter year)), pick(1, 1, 2, 3), pick('UTC', 'Europe/Berlin', 'America/New_York', 'Asia/Kathmandu')) }
	  if $kind eq 'calendar';
	return { kind => $kind, call => sprintf("%s(@.ts, '%s')", pick('model_windows', 'model_windows_plpgsql'), interval_text($scale * pick(1, 2))) };
}

# ---- keys ----

my @KEYS = (
	map({ "\@.$_" } grep { /^k_/ } sort keys %type), map({ "\@.$_" } qw(k_text k_num k_num k_date k_int)),
	'@.v_int % 3', 'upper(@.k_text)', 'coalesce(@.k_text, @.k_char::text)', '@.k_date + 1', 'ARRAY[@.k_int, @.v_int % 2]', '@.k_num IS NULL',
	'(@.v_json ->> \'a\')::int', 'substr(@.v_text, 1, 1)', 'CASE WHEN @.v_bool THEN @.k_num ELSE 1.00 END', 'round(@.v_num, 0) > 0',
	'date_trunc(\'day\', @.v_ts, \'UTC\')', 'ARRAY[@.k_text]', '@.k_int::text', '@.v_big % 2 = 0', '@.k_date::timestamp');

# ---- aggregates ----

my @AGGREGATES = (
	'count(*)', map({ "count(\@.$_)" } qw(v_int v_text k_arr k_bool v_json)), map({ "count(DISTINCT \@.$_)" } qw(v_int k_num k_text k_arr v_bool)),
	map({ ("sum(\@.$_)", "avg(\@.$_)", "min(\@.$_)", "max(\@.$_)") } qw(v_int v_small v_big v_num v_float v_iv)),
	map({ ("min(\@.$_)", "max(\@.$_)") } qw(v_ts v_text k_date k_ts k_enum k_arr)),
	map({ "sum(\@.$_)" } qw(v_int v_big v_num v_float)), 'sum(@.v_int::bigint + @.v_small)', 'sum(@.v_int::numeric * @.v_num)', 'max(@.v_int % 7)', 'avg(@.v_num * 2)',
	'sum(@.v_int::float8)', 'sum(@.v_small::float4)', 'max(@.v_float::float4)', 'min(@.k_char)', 'max(length(@.v_text))',
	'sum(DISTINCT @.v_int)', 'sum(DISTINCT @.v_num)', 'avg(DISTINCT @.v_small)', 'min(DISTINCT @.v_text)',
	'string_agg(@.v_text, \',\' ORDER BY @.id)', 'string_agg(@.v_text, @.k_text ORDER BY @.v_text, @.id DESC)', 'string_agg(DISTINCT @.v_text, \'-\')',
	'array_agg(@.v_int ORDER BY @.id)', 'array_agg(@.v_text ORDER BY @.v_int DESC NULLS LAST, @.id)', 'array_agg(DISTINCT @.v_small ORDER BY @.v_small)',
	'array_agg(@.v_num ORDER BY @.v_num NULLS FIRST)', 'array_agg(ARRAY[@.v_int, 1] ORDER BY @.id)', 'jsonb_agg(@.v_json ORDER BY @.id)', 'jsonb_object_agg(@.id::text, @.v_int)',
	'percentile_cont(0.5) WITHIN GROUP (ORDER BY @.v_float)', 'percentile_cont(ARRAY[0, 0.25, 1]) WITHIN GROUP (ORDER BY @.v_int)',
	'percentile_disc(0.9) WITHIN GROUP (ORDER BY @.v_int DESC)', 'percentile_disc(0.3) WITHIN GROUP (ORDER BY @.v_text)', 'mode() WITHIN GROUP (ORDER BY @.v_small)',
	'rank(5) WITHIN GROUP (ORDER BY @.v_int)', 'dense_rank(\'b\') WITHIN GROUP (ORDER BY @.v_text)',
	'stddev(@.v_int)', 'variance(@.v_small)', 'stddev_pop(@.v_num)', 'var_samp(@.v_big)', map({ near($_) } 'stddev(@.v_float)', 'var_pop(@.v_float)', 'covar_pop(@.v_float, @.v_small)', 'regr_slope(@.v_float, @.v_small)'),
	'regr_count(@.v_int, @.v_small)', 'bool_and(@.v_bool)', 'bool_or(@.v_int > 40)', 'every(@.k_bool)', 'bit_or(@.v_int)', 'bit_and(@.v_small)', 'bit_xor(@.v_int)',
	'range_agg(int4range(@.v_small, @.v_small + 1))', 'model_wsum(@.v_int, @.v_small)', 'model_gcd(@.v_int::bigint)', 'model_largest(@.v_text)', 'model_largest(@.v_num)',
	'model_list(@.v_int ORDER BY @.id)', 'model_join(@.v_text ORDER BY @.id)', 'model_mean(@.v_num)', 'model_mean(DISTINCT @.v_small::numeric)');

# Floating point sums depend on the order; the odd factor keeps what is exact off the borders of rounding.
sub near { return "round(($_[0] * 1.000001234)::numeric, 4)" }

my @FILTERS = ('@.v_int > 10', '@.v_bool', '@.k_text IS NULL', '@.v_small % 2 = 0', '@.k_num = 1', 'false', '@.v_text < \'c\'');

sub aggregate
{
	my $text = pick(@AGGREGATES);

	# a FILTER stands behind the call, and these calls are wrapped
	return $text if $text =~ /^round/ || !chance(0.25);
	return sprintf('%s FILTER (WHERE %s)', $text, pick(@FILTERS));
}

my @OVER_AGGREGATES = (
	'sum(@.v_int) / nullif(count(*), 0)', 'coalesce(max(@.v_text), \'-\')', 'max(@.v_ts) - min(@.v_ts)', 'count(*) > 3 AND bool_or(@.v_bool)',
	'(array_agg(@.v_int ORDER BY @.id))[1]', 'CASE WHEN count(*) > 2 THEN sum(@.v_num) END', 'count(*)::text || \'/\' || count(@.v_int)', 'least(min(@.v_int), max(@.v_small))',
	'sum(@.v_int) FILTER (WHERE @.v_bool) - coalesce(sum(@.v_int) FILTER (WHERE NOT @.v_bool), 0)', 'ARRAY[min(@.v_int), max(@.v_int)]',
	'greatest(count(*), count(@.v_text)) * 2', 'max(@.v_ts)::text', '42', '\'constant\'::text', 'to_char(max(@.v_ts), \'Day HH24:MI TZ\')', 'max(@.v_iv)::text',
	'jsonb_build_object(\'n\', count(*), \'s\', sum(@.v_int))', 'min(@.k_date)::text', 'string_agg(@.v_int::text, \'+\' ORDER BY @.v_int, @.id) IS NOT NULL');
my @OVER_WINDOW = ('#e - #s', '#e - max(@.ts)', 'to_char(#s, \'YYYY-MM-DD HH24:MI:SS TZ\')', 'min(@.ts) >= #s', 'extract(epoch FROM #e) + count(*)', '#s::date');

my @WHERES = (
	'@.v_int > 0', '@.v_int % 3 <> 0', '@.k_text IS NOT NULL', '@.v_bool', '@.v_text LIKE \'a%\'', '@.v_int IN (1, 2, 3, 5, 8, 13, 21, 34)', '@.v_json @> \'{"a": 1}\'',
	'@.v_num BETWEEN -50 AND 50', 'NOT (@.k_num = 1.0)', '@.k_text || @.v_text <> \'eua\'', '@.v_small = ANY (ARRAY[1, 2, 3, -1])', 'coalesce(@.v_bool, true) OR @.k_int IS NULL',
	'@.k_char = \'a\' OR @.v_int < 30', 'length(@.v_text) < 5');

my @HAVINGS = (
	'count(*) > 1', 'count(*) < 4', 'sum(@.v_int) > 0', 'sum(@.v_int) % 2 = 0', 'bool_or(@.v_bool)', 'max(@.v_text) < \'d\' OR count(*) > 5', 'avg(@.v_small) IS NOT NULL',
	'count(DISTINCT @.v_small) % 2 = 1');

# ---- triggers ----

sub trigger_early
{
	return pick(
		sprintf('after_count(%d)', between(1, 5)), sprintf('after_processing_time(\'%d ms\')', between(1, 60)), 'repeatedly(after_count(2))',
		'after_any(after_count(4), after_processing_time(\'20 ms\'))', 'after_all(after_count(2), after_processing_time(\'5 ms\'))');
}

sub trigger_final
{
	my ($windowed) = @_;

	return pick('continuous()', 'repeatedly(after_count(1))') unless $windowed;
	return pick(
		'continuous()', 'default_trigger()', sprintf('after_watermark(early => %s, late => %s)', trigger_early(), trigger_early()),
		sprintf('after_watermark(late => %s)', trigger_early()), sprintf('repeatedly(%s)', trigger_early()), 'never()', 'after_watermark()',
		sprintf('after_watermark(early => %s)', trigger_early()), sprintf('after_count(%d)', between(1, 4)),
		sprintf('repeatedly(after_each(after_count(2), %s))', trigger_early()), sprintf('or_finally(repeatedly(%s), after_count(7))', trigger_early()),
		sprintf('repeatedly(or_finally(repeatedly(%s), after_watermark()))', trigger_early()));
}

# ---- pipelines ----

sub source_alias { return pick('o', 'src', 'e', '"Odd name"') }

sub select_list
{
	my ($p) = @_;
	my @items;
	my $n = 0;

	push @items, { text => pick(@MOVING_AGGREGATES), name => 'moving' } if $p->{moving};
	for my $i (0 .. $#{ $p->{keys} })
	{
		push @items, { text => $p->{keys}[$i], name => "k$i", group => 1 };
	}
	push @items, { text => 'count(*)', name => 'n' } if $p->{counted};
	if ($p->{mode} eq 'panes')
	{
		push @items, { text => 'sum(@.v_int)', name => 's' };
		push @items, { text => 'beam.pane_index()', name => 'pane' }, { text => 'beam.pane_timing()', name => 'timing' }, { text => 'beam.is_last_pane()', name => 'last' } if $p->{window};
	}
	else
	{
		for (1 .. between($p->{counted} || @items ? 0 : 1, 5))
		{
			push @items, { text => $p->{window} && chance(0.15) ? pick(@OVER_WINDOW) : chance(0.3) ? pick(@OVER_AGGREGATES) : aggregate(), name => 'a' . $n++ };
		}
		push @items, { text => "($p->{keys}[0])::text || '!'", name => 'over_key' } if @{ $p->{keys} } && $p->{keys}[0] =~ /k_date|k_int|% 3/ && chance(0.3);
		push @items, { text => $p->{error_item}, name => 'erring' } if $p->{error_item};
	}
	# letters have the columns that the query uses: by these two rows are told apart
	push @items, { text => 'count(@.id + @.ver)', name => 'told' } if $p->{mode} ne 'now';
	@items = shuffle(@items);
	$p->{window_shown} = $p->{window} && chance(0.7);
	if ($p->{window_shown})
	{
		@items = ({ text => '#s', name => chance(0.5) ? 'window_start' : 'ws', group => 1, start => 1 }, { text => '#e', name => chance(0.5) ? 'window_end' : 'we', group => 1, end => 1 }, @items);
		@items = shuffle(@items) if chance(0.3);
	}
	return \@items;
}

sub group_by
{
	my ($p) = @_;
	my @parts;
	my $at = 0;

	for my $item (@{ $p->{items} })
	{
		$at++;
		push @parts, pick($item->{text}, $item->{text}, $at, $item->{name} =~ /^k\d$/ ? $item->{name} : $at) if $item->{group};
	}
	push @parts, '#s', '#e' if $p->{window} && !$p->{window_shown};
	return [ shuffle(@parts) ];
}

sub name_columns
{
	my ($p) = @_;

	$p->{key_names} = [ map { $_->{name} } grep { $_->{group} && !$_->{start} && !$_->{end} } @{ $p->{items} } ];
	return unless $p->{window};
	($p->{start_name}, $p->{end_name}) = window_columns($p);
	return unless $p->{window_shown};
	($p->{start_name}) = map { $_->{name} } grep { $_->{start} } @{ $p->{items} };
	($p->{end_name}) = map { $_->{name} } grep { $_->{end} } @{ $p->{items} };
}

sub pipeline
{
	my ($n, $round, $table) = @_;
	my $mode = pick(qw(now now now late late final final panes panes dead));
	my $p = { name => "model_p$n", table => $table };
	my @keys = grep { $round->{icu} || !/k_ci/ } @KEYS;

	$mode = 'now' if $table->{changes} && ($mode eq 'panes' || ($table->{truncates} && $mode =~ /late|final/));
	$p->{mode} = $mode;
	$p->{window} = window($round->{scale}, $mode);
	$p->{session} = $p->{window} && $p->{window}{kind} eq 'session';
	$p->{keys} = [ (shuffle(@keys))[ 0 .. pick(-1, 0, 0, 1, 2) ] ];
	my %seen;
	$p->{keys} = [ grep { !$seen{$_}++ } @{ $p->{keys} } ];
	$p->{moving} = $mode eq 'now' && $table->{changes} && chance(0.6);
	push @{ $p->{keys} }, pick(@MOVING_KEYS) if $p->{moving} && chance(0.4);
	$p->{where} = chance(0.4) ? pick(@WHERES) : undef;
	$p->{where} = 'model_scaled(@.v_int) % 4 <> 1' if $p->{moving} && chance(0.2);
	$p->{exact} = !($p->{session} && $mode =~ /late|final/);
	$p->{counted} = $mode eq 'panes' || !$p->{exact} || chance(0.5);
	if ($mode eq 'dead')
	{
		my $error = pick('100 / @.v_small', 'sqrt(@.v_int + 19)');

		if (chance(0.5)) { $p->{error_item} = $error =~ /sqrt/ ? "count($error)" : "sum($error)" }
		elsif (chance(0.5)) { $p->{where} = "$error <> 7" }
		else { $p->{keys} = [ @{ $p->{keys} }, $error =~ /sqrt/ ? "($error)::int" : "$error" ] }
	}
	# groups that cannot be computed come and go
	if ($mode eq 'now' && chance(0.3))
	{
		my $divisor = pick('count(*) % 3', 'sum(@.v_small) % 5');

		$p->{error_item} = "100 / ($divisor)";
		$p->{computable} = "($divisor <> 0) IS NOT FALSE";
	}
	# an UPDATE that leaves what the query uses as it was is none: to tell which row was late, each has to be one
	$p->{where} = join(' AND ', (map { "($_)" } grep { defined } $p->{where}), '@.ver >= 0') if $table->{changes} && $mode ne 'now';
	$p->{source_alias} = source_alias();
	$p->{window_alias} = pick('w', 'win', 'w(from_, to_)');
	$p->{items} = select_list($p);
	$p->{having} = $mode ne 'panes' && $p->{exact} && chance(0.2) ? pick(@HAVINGS) : undef;
	$p->{group} = group_by($p);
	name_columns($p);
	$p->{from} = pick('%s, %s', '%s CROSS JOIN LATERAL %s', '%s, LATERAL %s', '%s JOIN %s ON true');
	$p->{settings} = chance(0.4) ? sprintf("SET TimeZone = '%s'; SET DateStyle = '%s'; SET IntervalStyle = '%s';", pick('UTC', 'Asia/Tokyo', 'America/St_Johns'), pick('ISO, DMY', 'German', 'SQL, MDY'), pick(qw(postgres iso_8601)))
	  : "SET TimeZone = 'UTC'; SET DateStyle = 'ISO, MDY'; SET IntervalStyle = 'postgres';";
	arguments($p, $round);
	return $p;
}

sub arguments
{
	my ($p, $round) = @_;
	my $scale = $round->{scale};
	my %argument;

	$argument{watermark} = interval_text($scale * pick(0, 0.1, 1, 5));
	# undef: no limit
	$argument{allowed_lateness} = $p->{mode} =~ /now|dead/ ? undef : interval_text($scale * pick(0, 0, 0.5, 2, 20));
	$argument{trigger} = 'continuous()';
	$argument{trigger} = pick('continuous()', 'continuous()', 'repeatedly(after_count(1))', 'repeatedly(after_processing_time(\'30 ms\'))') if $p->{mode} eq 'now';
	$argument{trigger} = trigger_final($p->{window}) if $p->{mode} =~ /final|panes/;
	$argument{accumulation} = $p->{mode} eq 'panes' ? 'discarding' : 'accumulating';
	$argument{source_mode} = $p->{table}{changes} ? 'changes' : $p->{mode} eq 'panes' || $p->{session} ? 'append_only' : pick('append_only', 'changes');
	$argument{idle_timeout} = pick(undef, undef, undef, '1 minute', '100 ms');
	$p->{argument} = \%argument;
	$p->{eventually} = $argument{trigger} =~ /processing_time/;
}

# What the window's columns are called in the query
sub window_columns { return $_[0]{window_alias} =~ /\((\w+), (\w+)\)/ ? ($1, $2) : ('window_start', 'window_end') }

# The text of a pipeline's query; options: where => a further condition, from => what stands for the table
sub query
{
	my ($p, %options) = @_;
	my ($start, $end) = window_columns($p);
	my ($alias) = $p->{window_alias} =~ /^(\w+)/;
	my @conditions = map { "($_)" } grep { defined } $p->{where}, $options{where};
	my $from = sprintf('%s %s', $options{from} // $p->{table}{name}, $p->{source_alias});
	my $text;

	$from = sprintf($p->{from}, $from, "$p->{window}{call} AS $p->{window_alias}") if $p->{window};
	$text = sprintf('SELECT %s FROM %s', join(', ', map { "$_->{text} AS $_->{name}" } @{ $p->{items} }), $from);
	$text .= ' WHERE ' . join(' AND ', @conditions) if @conditions;
	$text .= ' GROUP BY ' . join(', ', @{ $p->{group} }) if @{ $p->{group} };
	my @havings = map { "($_)" } grep { defined } $p->{having}, $options{having};
	$text .= ' HAVING ' . join(' AND ', @havings) if @havings;
	$text =~ s/\@\./$p->{source_alias}./g;
	$text =~ s/#s/$alias.$start/g;
	$text =~ s/#e/$alias.$end/g;
	return $text;
}

# The same with the window's columns in front where the pipeline puts them there itself, without groups that cannot be computed
sub batch_query
{
	my ($p, %options) = @_;

	$options{having} = $p->{computable};
	my $text = query($p, %options);

	return $text unless $p->{window} && !$p->{window_shown};
	my $shown = { %$p, items => [ { text => '#s', name => $p->{start_name} }, { text => '#e', name => $p->{end_name} }, @{ $p->{items} } ] };
	# positions in GROUP BY count from the list as it was written
	$shown->{group} = [ map { /^\d+$/ ? $p->{items}[ $_ - 1 ]{text} : $_ } @{ $p->{group} } ];
	return query($shown, %options);
}

sub quote { return defined $_[0] ? "'" . ($_[0] =~ s/'/''/gr) . "'" : 'NULL' }

sub create_sql
{
	my ($p) = @_;
	my %argument = %{ $p->{argument} };

	return sprintf(
		q{SELECT beam.create_pipeline('%s', $pipeline$%s$pipeline$, watermark => '%s', allowed_lateness => %s, trigger => $trigger$%s$trigger$, accumulation => '%s', idle_timeout => %s, source_mode => '%s', allow_unsafe_trigger => true)},
		$p->{name}, query($p), $argument{watermark}, quote($argument{allowed_lateness}), @argument{qw(trigger accumulation)}, quote($argument{idle_timeout}), $argument{source_mode});
}

# ---- loads ----

sub insert_sql
{
	my ($table, $rows) = @_;

	return sprintf('INSERT INTO %s (%s) VALUES %s%s', $table->{name}, join(', ', @{ $table->{columns} }),
		join(', ', map { '(' . join(', ', map { quote($_) } @$_) . ')' } @$rows), chance(0.1) ? ' ON CONFLICT DO NOTHING' : '');
}

sub copy_text
{
	my ($text) = @_;

	return '\N' unless defined $text;
	$text =~ s/\\/\\\\/g;
	$text =~ s/\n/\\n/g;
	$text =~ s/\t/\\t/g;
	return $text;
}

sub copy_sql
{
	my ($table, $rows) = @_;

	return sprintf("COPY %s (%s) FROM STDIN;\n%s\\.\n", $table->{name}, join(', ', @{ $table->{columns} }), join('', map { join("\t", map { copy_text($_) } @$_) . "\n" } @$rows));
}

sub write_sql
{
	my ($round, $writer, $max) = @_;
	my $table = pick(@{ $round->{tables} });
	my $n = chance(0.4) ? 1 : between(1, $max);

	return change_sql($table, $round, $writer) if $table->{changes} && $round->{last_id} && chance(0.4);
	my $rows = [ map { row($table, $round, $writer) } 1 .. $n ];

	$round->{rows} += $n;
	return chance(0.4) ? copy_sql($table, $rows) : insert_sql($table, $rows);
}

# Some of the writer's rows, seldom all
sub some_rows
{
	my ($round, $writer) = @_;
	my $id = between(1, $round->{last_id});

	return pick("id % 2 = $writer AND id BETWEEN $id AND $id + " . pick(0, 3, 20), sprintf('id %% %d = %d AND id %% 2 = %d', 2 * pick(3, 7, 20), between(0, 5), $writer), chance(0.1) ? "id % 2 = $writer" : "id % 2 = $writer AND id < $id - 50");
}

sub assignments
{
	my ($table, $round) = @_;
	my @columns = grep { !/^(?:id|ts|ver)$/ } @{ $table->{columns} };
	my @set = ('ver = ' . ++$round->{version});

	push @set, 'ts = ' . quote(event_time($table, $round->{scale})) if chance(0.4);
	push @set, map { "$_ = " . (chance(0.15) ? 'NULL' : quote(value($table, $_))) } (shuffle(@columns))[ 0 .. pick(0, 0, 1, 5) ];
	return join(', ', @set);
}

# A statement that changes rows
sub change_sql
{
	my ($table, $round, $writer) = @_;
	my $name = $table->{name};
	my $where = some_rows($round, $writer);
	my $dice = rand();

	return "DELETE FROM $name WHERE $where" if $dice < 0.3;
	return "UPDATE $name SET " . assignments($table, $round) . " WHERE $where" if $dice < 0.8;
	return sprintf('MERGE INTO %s USING (SELECT id, v_int FROM %s WHERE %s) s ON s.id = %s.id WHEN MATCHED AND s.v_int < 10 THEN DELETE WHEN MATCHED THEN UPDATE SET %s',
		$name, $name, $where, $name, assignments($table, $round))
	  if $dice < 0.9;
	my $row = row($table, $round, $writer);
	my $old = between(1, $round->{last_id});

	for my $i (0 .. $#$row)
	{
		$row->[$i] = $old - $old % 2 + $writer if $table->{columns}[$i] eq 'id';
		$row->[$i] = ++$round->{version} if $table->{columns}[$i] eq 'ver';
	}
	return insert_sql($table, [$row]) =~ s/ ON CONFLICT DO NOTHING$//r . ' ON CONFLICT (id) DO UPDATE SET ' . assignments($table, $round);
}

# One transaction as a list of statements: savepoints, some rolled back; sometimes it is rolled back as a whole
sub transaction
{
	my ($round, $writer) = @_;
	my $max = pick(2, 10, 60, 200);
	my @sql = ('BEGIN');
	my $depth = 0;

	return write_sql($round, $writer, $max) if chance(0.5);
	push @sql, 'SET LOCAL synchronous_commit = off' if chance(0.2);
	for (1 .. between(1, 6))
	{
		if (chance(0.3))
		{
			push @sql, 'SAVEPOINT s' . ++$depth;
		}
		elsif ($depth && chance(0.3))
		{
			push @sql, pick('ROLLBACK TO', 'RELEASE') . ' s' . between(1, $depth);
			if ($sql[-1] =~ /RELEASE s(\d+)/) { $depth = $1 - 1 }
			elsif ($sql[-1] =~ /s(\d+)$/) { $depth = $1 }
		}
		push @sql, write_sql($round, $writer, $max);
	}
	push @sql, chance(0.1) ? 'ROLLBACK' : 'COMMIT';
	return @sql;
}

sub table_change
{
	my ($round) = @_;
	my $table = pick(@{ $round->{tables} });
	my $n = ++$round->{extra};

	if ($table->{junk} && chance(0.2))
	{
		$table->{junk} = 0;
		return "ALTER TABLE $table->{name} DROP COLUMN junk";
	}
	return 'BEGIN; ' . insert_sql($table, [ row($table, $round, 0) ]) . "; TRUNCATE $table->{name}; " . insert_sql($table, [ row($table, $round, 1) ]) . '; ' . pick('COMMIT', 'ROLLBACK')
	  if $table->{changes} && $table->{truncates} && chance(0.2);
	return "TRUNCATE $table->{name}" if $table->{changes} && $table->{truncates} && chance(0.1);
	return pick(
		"CLUSTER $table->{name} USING $table->{name}_id_key", "ALTER TABLE $table->{name} RENAME TO model_other; ALTER TABLE model_other RENAME TO $table->{name}",
		"ALTER TABLE $table->{name} ADD COLUMN extra$n int; ALTER TABLE $table->{name} ALTER extra$n TYPE text; ALTER TABLE $table->{name} RENAME extra$n TO other$n",
		"ALTER TABLE $table->{name} ADD COLUMN extra$n text DEFAULT 'x'; ALTER TABLE $table->{name} DROP COLUMN extra$n",
		"ALTER TABLE $table->{name} ADD COLUMN extra$n int DEFAULT 7", "ALTER TABLE $table->{name} ADD COLUMN extra$n float8 DEFAULT random()", "VACUUM $table->{name}",
		"VACUUM FULL $table->{name}", "CREATE INDEX ON $table->{name} (ts)", "ANALYZE $table->{name}", 'CHECKPOINT', 'SELECT pg_switch_wal()');
}

my %SETTINGS = (
	'stream_beam.bundle_rows' => [ '1', '2', '17', '200', '1000000' ],
	'stream_beam.bundle_time' => [ '1ms', '5ms', '200ms' ],
	'stream_beam.state_memory' => [ '1MB', '1MB', '512MB' ],
	'stream_beam.decoding_work_mem' => [ '64kB', '256MB' ]);

sub disturb
{
	my ($round) = @_;
	my $dice = rand();

	return [ 'pause', between(1, 30) ] if $dice < 0.4;
	if ($dice < 0.6)
	{
		my $name = pick(sort keys %SETTINGS);

		return [ 'setting', $name, pick(@{ $SETTINGS{$name} }) ];
	}
	return [ 'kill', $dice < 0.75 ? 'runner' : 'reader' ] if $dice < 0.8;
	if ($dice < 0.87)
	{
		# who is built anew cannot be paused
		my @still = grep { !$_->{moving} } @{ $round->{pipelines} };

		return @still ? [ 'stop and go', pick(@still)->{name} ] : [ 'check' ];
	}
	return [ 'check' ] if $dice < 0.93;
	return [ 'change', table_change($round) ];
}

# Two writers whose transactions overlap, with disturbances between their statements
sub steps
{
	my ($round) = @_;
	my @open = ([], []);
	my @steps;

	push @steps, [ 'setting', $_, pick(@{ $SETTINGS{$_} }) ] for sort keys %SETTINGS;
	while ($round->{rows} < $round->{want_rows} || @{ $open[0] } || @{ $open[1] })
	{
		my $writer = between(0, 1);

		push @steps, [ 'alter', alteration_sql($round) ] if $round->{moves} && chance(0.02);
		push @steps, [ 'constrain', $_, @{ constraint($_) } ] for chance(0.02) ? grep { $_->{mode} eq 'now' } pick(@{ $round->{pipelines} }) : ();
		if (chance(0.08))
		{
			my $step = disturb($round);

			# changes of tables wait for open transactions
			push @steps, $step unless $step->[0] eq 'change' && (@{ $open[0] } || @{ $open[1] });
		}
		if (!@{ $open[$writer] })
		{
			next if $round->{rows} >= $round->{want_rows};
			$open[$writer] = [ transaction($round, $writer) ];
		}
		push @steps, [ 'write', $writer, shift @{ $open[$writer] } ];
	}
	return [ @steps, ['check'], ['flush'], ['check'] ];
}

sub round
{
	my ($seed, %options) = @_;
	my $round = { seed => $seed, icu => $options{icu}, last_id => 0, version => 0, rows => 0, extra => 0 };

	srand($seed);
	@colors = qw(red green blue);
	$round->{moves} = chance(0.7);
	$round->{scale} = pick(@GOOD_TIMES);
	$round->{want_rows} = pick(100, 400, 1000, 2500);
	$round->{tables} = [ map { table($_, $round) } 1 .. pick(1, 2, 2, 3) ];
	$round->{pipelines} = [ map { pipeline($_, $round, pick(@{ $round->{tables} })) } 1 .. between(4, 8) ];
	$round->{steps} = steps($round);
	return $round;
}

1;
