# SbFuzzGen.pm: random inputs, most of them nearly right. What it makes depends on the dice (srand) only, never on a database or a clock.
#
#   trigger_text()              the text of a trigger, valid or spoiled
#   trigger_json()              the same as JSON
#   pipeline_arguments(...)     arguments of create_pipeline and alter_pipeline, as SQL
#   script($pipeline)           a script of test_stream, as JSON
#   damage($bytes)              bytes with some of them changed
#
# JSON is a tree here: a hash or an array reference, a string, or a reference to a token that is written as it is: \'null'. Nothing here walks
# over a hash but in the order of its sorted keys.
package SbFuzzGen;

use strict;
use warnings;
no warnings 'recursion';

# ---- dice ----

sub chance { return rand() < $_[0] }
sub between { return $_[0] + int(rand($_[1] - $_[0] + 1)) }
sub pick { return $_[ int(rand(@_)) ] }

# ---- JSON ----

sub json_string
{
	my ($text) = @_;

	$text =~ s/([\\"])/\\$1/g;
	$text =~ s/([\x00-\x1f])/sprintf('\\u%04x', ord($1))/ge;
	return "\"$text\"";
}

sub json
{
	my ($tree) = @_;

	return 'null' unless defined $tree;
	return '{' . join(', ', map { json_string($_) . ': ' . json($tree->{$_}) } sort keys %$tree) . '}' if ref $tree eq 'HASH';
	return '[' . join(', ', map { json($_) } @$tree) . ']' if ref $tree eq 'ARRAY';
	return $$tree if ref $tree;
	return json_string($tree);
}

my @NUMBERS = map { my $n = $_; \$n } qw(0 -0 1 -1 2 1.5 1e3 1e-3 2147483647 2147483648 -2147483649 9223372036854775807 9223372036854775808 -9223372036854775808
	99999999999999999999999999 1e1000 -1e1000 1e-1000);
my @TIMES = ('infinity', '-infinity', '4714-11-24 00:00:00+00 BC', '4714-11-23 23:59:59.999999+00 BC', '0044-03-15 12:00+00 BC', '294276-12-31 23:59:59.999999+00',
	'294277-01-01 00:00+00', '1999-12-31 23:59:59.999999Z', '2000-01-01 00:00:00Z', '1970-01-01 00:00Z', '2026-03-01 12:00:00.000001Z', '2026-03-01 11:59:59.999999Z',
	'2026-03-01 12:00', 'epoch', 'now', 'yesterday', '2026-02-30', '2026-03-01 12:00 Nowhere/Land', '2026-03-01 12:00:60Z', '');
my @INTERVALS = ('0', '1 us', '-1 us', '1 s', '10 s', '1 min', '90 s', '1 hour', '-1 hour', '1 day', '36 hours', '1 month', '-1 month', '1 year', '1 month -30 days',
	'1000000 days', '106751991 days', '106751992 days', '2147483647 days', '178000000 years', '2562047788:00:54.775807', '-2562047788:00:54.775808', 'P1D', '0.0000001 s', 'infinity',
	'1 fortnight', '');

sub nasty
{
	my $depth = between(1, 60);

	return pick(
		sub { pick(@NUMBERS) }, sub { pick(@TIMES) }, sub { pick(@INTERVALS) }, sub { \'null' }, sub { \pick('true', 'false') }, sub { {} }, sub { [] },
		sub { 'x' x pick(1, 40, 64, 1000, 20000) }, sub { pick("\x{00}", "\x01", "'", '"', '\\', 'größe', '%s%n', "a\nb") },
		sub { my $t = []; $t = [$t] for 1 .. $depth; $t }, sub { my $t = {}; $t = { rows => $t } for 1 .. $depth; $t },
		sub { \(('[' x 3000) . (']' x 3000)) })->();
}

# All places of a tree, each a reference to where a subtree stands
sub places
{
	my ($place) = @_;
	my @all = ($place);

	if (ref $$place eq 'HASH') { push @all, places(\$$place->{$_}) for sort keys %{$$place} }
	if (ref $$place eq 'ARRAY') { push @all, places(\$_) for @{$$place} }
	return @all;
}

sub copy
{
	my ($tree) = @_;

	return { map { $_ => copy($tree->{$_}) } keys %$tree } if ref $tree eq 'HASH';
	return [ map { copy($_) } @$tree ] if ref $tree eq 'ARRAY';
	return $tree;
}

sub spoil_json
{
	my ($tree) = @_;

	for (1 .. pick(1, 1, 1, 2, 4))
	{
		my @places = places(\$tree);
		my $place = pick(@places);
		my @keys = ref $$place eq 'HASH' ? sort keys %{$$place} : ();
		my $way = between(0, 6);

		if ($way <= 1) { $$place = nasty() }
		elsif ($way == 2 && @keys) { delete $$place->{ pick(@keys) } }
		elsif ($way == 3 && @keys) { $$place->{ pick('rows', 'late', 'early', 'delay', 'nonsense', '', 'watermark') } = delete $$place->{ pick(@keys) } }
		elsif ($way == 4) { $$place = copy(${ pick(@places) }) }
		elsif ($way == 5) { $$place = [ copy($$place) ] }
		elsif (ref $$place eq 'ARRAY' && @{$$place})
		{
			if (chance(0.5)) { splice(@{$$place}, between(0, $#{$$place}), 1) }
			else { splice(@{$$place}, between(0, $#{$$place}), 0, copy(pick(@{$$place}))) }
		}
		else { $$place = nasty() }
	}
	return $tree;
}

# ---- text ----

sub tokens { return $_[0] =~ /(\w+|'[^']*'|\s+|=>|.)/gs }

sub spoil_tokens
{
	my ($text, @others) = @_;
	my @tokens = tokens($text);

	for (1 .. pick(1, 1, 1, 2, 3))
	{
		next unless @tokens;
		my ($a, $b) = map { between(0, $#tokens) } 1, 2;
		my $way = between(0, 3);

		if ($way == 0) { splice(@tokens, $a, 1) }
		elsif ($way == 1) { @tokens[ $a, $b ] = @tokens[ $b, $a ] }
		elsif ($way == 2) { splice(@tokens, $a, 0, ' ', $tokens[$b], ' ') }
		else { splice(@tokens, $a, chance(0.5) ? 1 : 0, ' ', pick(@others), ' ') }
	}
	return join('', @tokens);
}

sub spoil_bytes
{
	my ($text) = @_;

	for (1 .. pick(1, 1, 2, 5))
	{
		my $at = between(0, length($text));
		my $way = between(0, 3);

		if ($way == 0) { $text = substr($text, 0, $at) . pick(map { chr } 1 .. 255) . substr($text, $at) }
		elsif ($way == 1 && length($text)) { substr($text, $at - 1, 1) = pick(map { chr } 1 .. 255) if $at > 0 }
		elsif ($way == 2) { $text = substr($text, 0, $at) }
		else { $text .= substr($text, $at) }
	}
	return substr($text, 0, 100_000);
}

# ---- triggers ----

my @UNITS = qw(us ms s min h d);

sub delay { return chance(0.9) ? between(1, 2000) . ' ' . pick(@UNITS) : pick(@INTERVALS) }
sub count_text { return chance(0.9) ? between(1, 1000) : pick('0', '-1', '9223372036854775807', '9223372036854775808', '010', '1e3', '1.0') }

# As a tree: [name, arguments ...]; an argument is a tree, or [name => ...] by a reference to a pair
sub trigger_tree
{
	my ($depth) = @_;

	return [pick('continuous', 'default_trigger', 'never', 'after_watermark')] if $depth <= 0 && chance(0.4);
	if ($depth <= 0)
	{
		return ['after_count', \count_text()] if chance(0.5);
		return ['after_processing_time', \("'" . delay() . "'"), chance(0.4) ? { align => \("'" . delay() . "'") } : ()];
	}
	my $kind = between(0, 5);
	return ['repeatedly', trigger_tree($depth - 1)] if $kind == 0;
	return ['or_finally', trigger_tree($depth - 1), trigger_tree($depth - 1)] if $kind == 1;
	return ['after_watermark', map { { $_ => trigger_tree($depth - 1) } } pick(['early'], ['late'], [ 'early', 'late' ], [ 'late', 'early' ])->@*] if $kind == 2;
	return [pick('after_any', 'after_all', 'after_each'), map { trigger_tree($depth - between(1, 3)) } 1 .. between(1, 4)];
}

sub trigger_as_text
{
	my ($tree) = @_;

	return $$tree if ref $tree eq 'SCALAR' || ref $tree eq 'REF';
	return join(', ', map { "$_ => " . trigger_as_text($tree->{$_}) } sort keys %$tree) if ref $tree eq 'HASH';
	my ($name, @arguments) = @$tree;
	$name = uc $name if chance(0.02);
	my $space = chance(0.05) ? pick(' ', "\n", "\t") : '';
	return $name . $space . '(' . join(", $space", map { trigger_as_text($_) } @arguments) . ')';
}

sub trigger_as_json
{
	my ($tree) = @_;
	my ($name, @arguments) = @$tree;

	return chance(0.8) ? $name : { $name => {} } unless @arguments;
	return { $name => \${ $arguments[0] } } if $name eq 'after_count';
	if ($name eq 'after_processing_time')
	{
		my ($delay, $align) = map { ref $_ eq 'HASH' ? ${ $_->{align} } =~ s/'//gr : $$_ =~ s/'//gr } @arguments;
		return { $name => defined $align || chance(0.3) ? { delay => $delay, defined $align ? (align => $align) : () } : $delay };
	}
	return { $name => { map { my ($k) = keys %$_; ($k => trigger_as_json($_->{$k})) } @arguments } } if $name eq 'after_watermark';
	return { $name => trigger_as_json($arguments[0]) } if $name eq 'repeatedly';
	return { $name => [ map { trigger_as_json($_) } @arguments ] };
}

my @TRIGGER_WORDS = split / /, q{continuous default never after_watermark early late => ( ) , 0 99999999999999999999 '5_s' '' ' after_count align repeatedly or_finally after_any é};
my @QUERY_WORDS = split / /, q{SELECT FROM WHERE GROUP BY count(*) now() random() $1 , ( ) NULL * LIMIT ORDER UNION WITH DISTINCT OVER fuzz.f_a w.window_start beam.session LATERAL ROLLUP
	FILTER ; -- ::text ::record ARRAY[ ROW( CASE 'x' 1};

sub trigger_depth { return chance(0.05) ? between(5, 12) : between(0, 3) }

sub trigger_text
{
	my $text = chance(0.03) ? ('repeatedly(' x 3000) . ')' x pick(0, 2999, 3000) : trigger_as_text(trigger_tree(trigger_depth()));

	return $text if chance(0.4);
	return spoil_tokens($text, @TRIGGER_WORDS) if chance(0.5);
	return spoil_bytes($text);
}

sub trigger_json
{
	my $tree = trigger_as_json(trigger_tree(trigger_depth()));

	return json($tree) if chance(0.4);
	return json(spoil_json($tree)) if chance(0.9);
	return spoil_bytes(json($tree));
}

# ---- pipelines ----

my %COLUMNS = (
	'fuzz.f_a' => { time => ['ts'], keys => [qw(k v n), 'lower(k)', 'v % 3', 'x', 'ts::date'], numbers => [qw(v n x id)], any => [qw(k ts v n x)] },
	'fuzz.f_b' => { time => [ 'at', 'day', 'at AT TIME ZONE \'UTC\'' ], keys => [qw(c a u b day), '(c).p', 'a[1]'], numbers => ['a[1]', '(c).p'], any => [qw(c a j u b at)] },
	'fuzz.f_part' => { time => ['ts'], keys => [qw(k v)], numbers => ['v'], any => [qw(k ts v)] });

sub window_text
{
	my ($time) = @_;
	my $w = sub { chance(0.9) ? pick('1 min', '10 s', '1 hour', '1 day', '7 min') : pick(@INTERVALS) };

	return pick(
		sub { "beam.tumble($time, '" . $w->() . "')" },
		sub { "beam.tumble($time, '" . $w->() . "', '" . $w->() . "')" },
		sub { "beam.hop($time, '" . $w->() . "', '" . $w->() . "')" },
		sub { "beam.cumulate($time, '1 hour', '" . $w->() . "')" },
		sub { "beam.session($time, '" . $w->() . "')" },
		sub { "beam.calendar($time, '" . pick('day', 'week', 'month', 'quarter', 'year', 'hour', '') . "', " . pick(1, 1, 2, 0, -1, 10000, 10001) . ", '" . pick('UTC', 'Europe/Berlin', 'Nowhere', '') . "')" },
		sub { "fuzz.windows($time)" })->();
}

sub aggregate_text
{
	my ($columns) = @_;
	my $number = pick(@{ $columns->{numbers} });
	my $any = pick(@{ $columns->{any} });
	my $text = pick('count(*)', "count($any)", "count(DISTINCT $any)", "sum($number)", "avg($number)", "min($number)", "max($any)", "array_agg($any ORDER BY $number)",
		"stddev($number)", "percentile_cont(0.5) WITHIN GROUP (ORDER BY $number)", "mode() WITHIN GROUP (ORDER BY $any)", "bool_and($number > 0)", "jsonb_agg($any)", "string_agg(${any}::text, ',')",
		"fuzz.last($any)", "count(*) + sum($number)", "beam.pane_timing()", 'beam.pane_index()');

	$text .= " FILTER (WHERE $number > 0)" if chance(0.15) && $text !~ /\+|pane/;
	return $text;
}

sub query_text
{
	my $table = chance(0.97) ? pick(sort keys %COLUMNS) : pick('fuzz.f_view', 'pg_class', 'fuzz.nothing', 'fuzz.f_unlogged', 'ONLY fuzz.f_part');
	my $columns = $COLUMNS{$table} || $COLUMNS{'fuzz.f_a'};
	my @keys = map { pick(@{ $columns->{keys} }) } 1 .. pick(0, 1, 1, 2);
	my $window = chance(0.75) ? window_text(pick(@{ $columns->{time} })) : undef;
	my @list = ((defined $window ? ('w.window_start', 'w.window_end') : ()), (map { "$keys[$_] AS g$_" } 0 .. $#keys));
	my @group = ((defined $window ? ('w.window_start', 'w.window_end') : ()), @keys);
	my $aggregates = between(1, 3);

	push @list, map { aggregate_text($columns) . " AS r$_" } 1 .. $aggregates;
	my $query = 'SELECT ' . join(', ', @list) . " FROM $table" . (defined $window ? ", $window w" : '');
	$query .= ' WHERE ' . pick(@{ $columns->{numbers} }) . ' ' . pick('> 0', 'IS NOT NULL', '<> 3', '/ 0 > 1') if chance(0.2);
	$query .= ' GROUP BY ' . join(', ', @group) if @group;
	$query .= ' HAVING count(*) > ' . pick(0, 1, 2) if chance(0.1);
	return $query if chance(0.6);
	return spoil_tokens($query, @QUERY_WORDS) if chance(0.85);
	return spoil_bytes($query);
}

# SQL for a string, whatever its bytes
sub sql_text
{
	my ($text) = @_;

	return "'$text'" if $text =~ /^[\x20-\x7e]*$/ && $text !~ /['\\]/;
	return "convert_from(decode('" . unpack('H*', $text) . "', 'hex'), 'UTF8')";
}

sub interval_sql { my ($good) = @_; return sql_text(chance(0.85) ? pick(@$good) : pick(@INTERVALS)) . '::interval' }
sub word_sql { my ($good) = @_; return sql_text(chance(0.88) ? pick(@$good) : pick('', 'nonsense', 'ACCUMULATING', 'x' x 2000, "\xff", 'é')) }
sub bool_sql { return pick('true', 'false') }

sub trigger_sql
{
	my $text = chance(0.9) ? trigger_as_text(trigger_tree(between(0, 2))) : trigger_text();

	return sql_text(length($text) > 5000 ? 'never()' : $text) . '::beam.trigger';
}

my %ARGUMENT = (
	watermark => sub { interval_sql([ '0', '1 s', '10 seconds', '1 hour' ]) },
	allowed_lateness => sub { interval_sql([ '0', '1 s', '1 hour', '10000 days' ]) },
	trigger => \&trigger_sql,
	accumulation => sub { word_sql([ 'accumulating', 'discarding', 'retracting' ]) },
	idle_timeout => sub { interval_sql([ '1 s', '1 minute', '0' ]) },
	timestamp_combiner => sub { word_sql([ 'end_of_window', 'earliest', 'latest' ]) },
	on_time => sub { word_sql([ 'fire_always', 'fire_if_non_empty' ]) },
	closing => sub { word_sql([ 'fire_always', 'fire_if_non_empty' ]) },
	allow_unsafe_trigger => \&bool_sql,
	source_mode => sub { word_sql([ 'changes', 'append_only' ]) },
	history => \&bool_sql);

sub settings_sql
{
	my ($likely) = @_;
	my @list;

	for my $name (sort keys %ARGUMENT)
	{
		next unless chance($likely);
		push @list, "$name => " . (chance(0.03) ? 'NULL' : $ARGUMENT{$name}->());
	}
	return @list;
}

my @NAMES = ('', ' ', '.', 'a.b.c', 'fuzz.', '.fz', 'fuzz.f_a', 'pg_catalog.fz', 'pg_toast.fz', 'nowhere.fz', 'beam.fz', 'x' x 57, 'x' x 58, 'x' x 64, 'x' x 5000, '"', '"fz', '"Fz p"', "fz\xc3\xa9", "\xff", "'", ';',
	'fz_batch', 'op', 'fz\\', '-- ', 'ctid', 'pg_temp.fz', 'beam_state.fz', 'é' x 28, 'é' x 29);

sub create_sql
{
	my $name = chance(0.85) ? pick('fz', 'fz', 'fuzz.fz', 'fuzz."Fz"') : pick(@NAMES);
	my @list = ('name => ' . (chance(0.01) ? 'NULL' : sql_text($name)), 'query => ' . (chance(0.01) ? 'NULL' : sql_text(query_text())), settings_sql(0.2));

	# a trigger that may finish is refused, mostly
	push @list, 'allow_unsafe_trigger => true' if chance(0.5) && !grep { /^allow_unsafe/ } @list;
	return 'SELECT beam.create_pipeline(' . join(', ', @list) . ')';
}

sub alter_sql
{
	my ($name) = @_;
	my @list = ('name => ' . sql_text($name), (chance(0.4) ? 'query => ' . sql_text(query_text()) : ()), settings_sql(0.15));

	push @list, 'keep => ' . (chance(0.3) ? 'NULL' : interval_sql([ '0', '1 day', '1 s' ])) if chance(0.6);
	return 'SELECT beam.alter_pipeline(' . join(', ', @list) . ')';
}

# ---- scripts of test_stream ----

my $BASE = 1772366400; # 2026-03-01 12:00 UTC
my @KEYS = ('a', 'b', '', 'größe', 'A', "it's");

sub time_value
{
	my ($spread) = @_;
	my ($sec, $min, $hour, $day, $month, $year) = gmtime($BASE + between(-$spread, $spread));

	return pick(@TIMES) if chance(0.03);
	return sprintf('%04d-%02d-%02d %02d:%02d:%02d%s+00', $year + 1900, $month + 1, $day, $hour, $min, $sec, pick('', '', '.5', '.999999', '.000001'));
}

sub row
{
	my ($id) = @_;

	return { id => \$id, ts => time_value(pick(30, 300, 7200)), k => pick(@KEYS), n => chance(0.1) ? 'NaN' : \pick('1', '1.0', '2.50', '0', '-1e20'), v => \between(-3, 3),
		x => \pick('0', '-0', '1.5', '1e300'), c => { p => \between(0, 2), q => pick(@KEYS) } };
}

sub script
{
	my @steps;
	my @there;
	my $id = 0;

	for (1 .. between(1, 10))
	{
		my $way = rand();

		if ($way < 0.5)
		{
			my @rows = map { row($id++) } 1 .. between(1, 6);
			push @there, @rows;
			push @steps, { rows => \@rows };
		}
		elsif ($way < 0.57 && @there) { push @steps, { delete => [ splice(@there, between(0, $#there), 1) ] } }
		elsif ($way < 0.64 && @there)
		{
			my $new = row($id++);
			push @steps, { update => { old => [ splice(@there, between(0, $#there), 1) ], new => [$new] } };
			push @there, $new;
		}
		elsif ($way < 0.82) { push @steps, { watermark => time_value(7200) } }
		elsif ($way < 0.95) { push @steps, { processing_time => chance(0.95) ? delay() : pick(@INTERVALS) } }
		else { push @steps, 'end' }
	}
	return json(\@steps) if chance(0.35);
	return json(spoil_json(\@steps)) if chance(0.97);
	return spoil_bytes(json(\@steps));
}

# ---- bytes ----

sub damage
{
	my ($bytes) = @_;

	for (1 .. pick(1, 1, 1, 2, 4))
	{
		my $length = length($bytes);
		my $at = $length ? between(0, $length - 1) : 0;
		my $way = between(0, 7);

		if ($way == 0 || $length == 0) { $bytes = substr($bytes, 0, $at) . join('', map { chr(between(0, 255)) } 1 .. between(1, 9)) . substr($bytes, $at) }
		elsif ($way <= 2) { substr($bytes, $at, 1) = chr(ord(substr($bytes, $at, 1)) ^ 1 << between(0, 7)) }
		elsif ($way == 3) { $bytes = substr($bytes, 0, $at) }
		elsif ($way == 4) { substr($bytes, $at, between(1, 8)) = pick("\xff\xff\xff\xff", "\x00\x00\x00\x00", "\xff\xff\xff\x7f", "\x00\x00\x00\x80", "\x03", "\xff" x 8, "\x80" x 10) }
		elsif ($way == 5) { my $range = substr($bytes, $at, between(1, 24)); $bytes = substr($bytes, 0, $at) . $range . substr($bytes, $at) }
		elsif ($way == 6) { substr($bytes, $at, between(1, 16)) = '' }
		else { substr($bytes, $at, 1) = chr(between(0, 255)) }
	}
	return $bytes;
}

1;
