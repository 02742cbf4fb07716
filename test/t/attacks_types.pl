# Attacks by what a query, or a column of its source, is made of: casts, operators, functions, domains, aggregates, keys with hash functions of their
# own. They run as the pipeline's owner: in the workers, and whoever calls a function of the extension for the pipeline.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;
use SbAttack;

my $node = attack_server('attacks_types');

admin('GRANT alice TO bob');

# ---- what alice makes -----------------------------------------------------------------------------------------------------------

# Types, casts and the like; what of them acts says so with evil.act, and is right otherwise
wait_as('alice', evil_function('alice.f', 'int', 'int', '$1') . evil_function('alice.g', 'int', 'int', '$1', 'alice', 'code', 'IMMUTABLE')
  . evil_function('alice.is_good', 'anyelement', 'boolean', 'true') . evil_function('alice.add', 'int, int', 'int', '$1 + $2')
  . evil_function('alice.equal', 'int, int', 'boolean', '$1 = $2')
  . q{
	CREATE OPERATOR alice.|+| (LEFTARG = int, RIGHTARG = int, FUNCTION = alice.add);
	CREATE OPERATOR alice.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = alice.equal);
	CREATE DOMAIN alice.small AS int CHECK (alice.is_good(VALUE));
	CREATE DOMAIN alice.moment AS timestamptz CHECK (alice.is_good(VALUE));
	CREATE DOMAIN alice.word AS text CHECK (alice.is_good(VALUE));
	CREATE TYPE alice.mood AS ENUM ('good', 'bad');
	CREATE TYPE alice.box AS (a int, b alice.small);
	CREATE TYPE alice.pair AS (a int, b int);
	CREATE TYPE alice.span AS RANGE (SUBTYPE = int);
  } . evil_function('alice.mood_json', 'alice.mood', 'json', q{'1'::json}) . evil_function('alice.mood_jsonb', 'alice.mood', 'jsonb', q{'1'::jsonb})
  . evil_function('alice.mood_text', 'alice.mood', 'text', q{'1'::text}) . evil_function('alice.mood_int', 'alice.mood', 'int', '1')
  . evil_function('alice.pair_json', 'alice.pair', 'json', q{'1'::json}) . evil_function('alice.pair_text', 'alice.pair', 'text', q{'1'::text})
  . evil_function('alice.pair_int', 'alice.pair', 'int', '($1).a') . evil_function('alice.int_pair', 'int', 'alice.pair', 'ROW($1, 1)::alice.pair')
  . q{
	CREATE CAST (alice.mood AS json) WITH FUNCTION alice.mood_json(alice.mood);
	CREATE CAST (alice.mood AS jsonb) WITH FUNCTION alice.mood_jsonb(alice.mood) AS IMPLICIT;
	CREATE CAST (alice.mood AS text) WITH FUNCTION alice.mood_text(alice.mood) AS IMPLICIT;
	CREATE CAST (alice.mood AS int) WITH FUNCTION alice.mood_int(alice.mood) AS IMPLICIT;
	CREATE CAST (alice.pair AS json) WITH FUNCTION alice.pair_json(alice.pair);
	CREATE CAST (alice.pair AS text) WITH FUNCTION alice.pair_text(alice.pair) AS ASSIGNMENT;
	CREATE CAST (alice.pair AS int) WITH FUNCTION alice.pair_int(alice.pair) AS IMPLICIT;
	CREATE CAST (int AS alice.pair) WITH FUNCTION alice.int_pair(int);
  } . evil_function('alice.step', 'int8, int', 'int8', '$1 + coalesce($2, 0)') . evil_function('alice.unstep', 'int8, int', 'int8', '$1 - coalesce($2, 0)')
  . evil_function('alice.combine', 'int8, int8', 'int8', '$1 + $2') . evil_function('alice.final', 'int8', 'int8', '$1')
  . evil_function('alice.small_step', 'alice.small, int', 'alice.small', '$1 + coalesce($2, 0)')
  . evil_function('alice.least_of', 'int, int', 'int', 'least($1, $2)') . q{
	CREATE AGGREGATE alice.total(int) (SFUNC = alice.step, STYPE = int8, FINALFUNC = alice.final, INITCOND = '0');
	CREATE AGGREGATE alice.total_combined(int) (SFUNC = alice.step, STYPE = int8, COMBINEFUNC = alice.combine, FINALFUNC = alice.final, INITCOND = '0', PARALLEL = SAFE);
	CREATE AGGREGATE alice.total_moving(int) (SFUNC = alice.step, STYPE = int8, INITCOND = '0', MSFUNC = alice.step, MINVFUNC = alice.unstep, MSTYPE = int8,
		MFINALFUNC = alice.final, MINITCOND = '0');
	CREATE AGGREGATE alice.total_small(int) (SFUNC = alice.small_step, STYPE = alice.small, INITCOND = '0');
	CREATE FUNCTION alice.inlined(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT alice.f($1)';
	CREATE FUNCTION alice.with_default(a int, b int DEFAULT alice.f(1)) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
	CREATE FUNCTION alice.windows(ts timestamptz, n int) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE plpgsql IMMUTABLE AS
		$$BEGIN PERFORM evil.act('code', 'alice'); RETURN QUERY SELECT w.window_start, w.window_end FROM beam.tumble(ts, '1 minute') w; END$$;
  } . (has_icu($node) ? q{CREATE COLLATION alice."C" (provider = icu, locale = 'und-u-ks-level2', deterministic = false);} : ''));
# An operator class is a superuser's to make; its functions are alice's
my @comparisons = ([ 'eq', '=' ], [ 'lt', '<' ], [ 'le', '<=' ], [ 'gt', '>' ], [ 'ge', '>=' ]);

# An index calls them with a page locked, where no subtransaction may be
my @held = ('alice', 'code', 'IMMUTABLE', 'act_in_index');

wait_as('alice', join('', map { evil_function("alice.pair_$_->[0]", 'alice.pair, alice.pair', 'boolean', "(\$1).a $_->[1] (\$2).a", @held) } @comparisons)
  . evil_function('alice.pair_cmp', 'alice.pair, alice.pair', 'int', 'btint4cmp(($1).a, ($2).a)', @held)
  . evil_function('alice.pair_hash', 'alice.pair', 'int', 'hashint4(($1).a)', @held)
  . evil_function('alice.pair_hash_extended', 'alice.pair, int8', 'int8', 'hashint4extended(($1).a, $2)', @held)
  . join('', map { my ($name, $operator) = @$_; "CREATE OPERATOR alice.$operator (LEFTARG = alice.pair, RIGHTARG = alice.pair, FUNCTION = alice.pair_$name"
	. ($operator eq '=' ? ', HASHES, MERGES' : '') . ");\n" } @comparisons));
admin(q{SET search_path = alice, public;
	CREATE OPERATOR CLASS alice.pair_by_hash DEFAULT FOR TYPE alice.pair USING hash AS OPERATOR 1 alice.=, FUNCTION 1 alice.pair_hash(alice.pair),
		FUNCTION 2 alice.pair_hash_extended(alice.pair, int8);
	CREATE OPERATOR CLASS alice.pair_by_order DEFAULT FOR TYPE alice.pair USING btree AS OPERATOR 1 alice.<, OPERATOR 2 alice.<=, OPERATOR 3 alice.=,
		OPERATOR 4 alice.>=, OPERATOR 5 alice.>, FUNCTION 1 alice.pair_cmp(alice.pair, alice.pair)});

# ---- the queries ----------------------------------------------------------------------------------------------------------------

# What is in the select list and in GROUP BY, an aggregate, WHERE, HAVING, the window function. It has to be known that it runs, where `ran` does not say otherwise.
my %kinds = (
	function => { key => 'alice.f(e.k)' },
	stable_function => { key => 'alice.g(e.k)' },
	constant_function => { aggregate => 'sum(e.k + alice.f(1))' },
	inlined_sql_function => { key => 'alice.inlined(e.k)' },
	default_of_an_argument => { key => 'alice.with_default(e.k)', ran => 0 },
	function_in_where => { where => 'alice.f(e.k) >= 0' },
	constant_function_in_where => { where => 'alice.f(1) = 1' },
	function_in_having => { having => 'alice.f(count(*)::int) > 0' },
	function_over_a_result => { aggregate => 'alice.f(max(e.k))' },
	operator => { key => 'e.k OPERATOR(alice.|+|) 1' },
	operator_in_where => { where => 'e.k OPERATOR(alice.===) e.k' },
	operator_in_having => { having => 'count(*)::int OPERATOR(alice.|+|) 1 > 0' },
	cast => { key => '(e.p)::int' },
	cast_to_a_composite => { aggregate => 'max((e.k::alice.pair).a)' },
	implicit_cast => { aggregate => 'sum(e.p + 1)' },
	cast_to_text => { key => 'e.m::text' },
	cast_of_an_enum_to_json => { aggregate => 'jsonb_agg(e.m)' },
	cast_of_an_enum_within_a_row_to_json => { aggregate => 'max(to_json(ROW(e.m, e.p))::text)' },
	domain => { key => 'e.d', ran => 0 },
	domain_in_a_cast => { key => 'e.k::alice.small' },
	domain_over_text => { key => q{e.v::alice.word} },
	domain_of_the_event_time => { window => "beam.tumble((e.ts::alice.moment)::timestamptz, '1 minute')" },
	domain_within_a_composite => { aggregate => 'max((ROW(e.k, e.k)::alice.box).b)' },
	domain_within_an_array => { aggregate => 'array_agg(e.d)', ran => 0 },
	composite_with_a_domain_as_result => { aggregate => '(array_agg(ROW(e.k, e.k)::alice.box))[1]' },
	aggregate => { aggregate => 'alice.total(e.k)' },
	aggregate_that_combines => { aggregate => 'alice.total_combined(e.k)' },
	aggregate_that_goes_back => { aggregate => 'alice.total_moving(e.k)' },
	aggregate_with_a_domain_as_state => { aggregate => 'alice.total_small(e.k)' },
	aggregate_with_order => { aggregate => 'alice.total(e.k ORDER BY alice.f(e.k))' },
	aggregate_with_filter => { aggregate => 'count(*) FILTER (WHERE alice.f(e.k) > 0)' },
	hash_function_of_a_key => { key => 'e.p' },
	equality_of_a_distinct_aggregate => { aggregate => 'count(DISTINCT e.p)' },
	comparison_of_an_ordered_aggregate => { aggregate => '(array_agg(e.k ORDER BY e.p))[1]' },
	hash_function_within_an_array => { key => 'ARRAY[e.p]' },
	window_function => { window => 'alice.windows(e.ts, 1)' },
	session_with_a_function => { window => q{beam.session(e.ts, '1 minute')}, key => 'alice.f(e.k)' },
	session_of_a_hashed_key => { window => q{beam.session(e.ts, '1 minute')}, key => 'e.p' },
	collation => { key => 'e.v COLLATE alice."C"', ran => 0 },
	column_that_is_not_used => { key => 'e.k', ran => 0 },
);
delete $kinds{collation} unless has_icu($node);
# those whose whole life is gone through as superuser and as a member; for the others it is the workers, and what is called for all
my %whole = map { $_ => 1 } qw(function constant_function operator cast cast_of_an_enum_to_json domain aggregate_that_goes_back hash_function_of_a_key
  hash_function_within_an_array window_function session_of_a_hashed_key function_in_having);

sub query_of
{
	my ($kind, $more) = @_;
	my $k = $kinds{$kind};
	my $key = $k->{key} // 'e.k';
	my $window = $k->{window} // q{beam.tumble(e.ts, '1 minute')};
	my $aggregate = $k->{aggregate} ? ", $k->{aggregate} AS agg" : '';
	my $where = $k->{where} ? "AND $k->{where}" : '';
	my $having = $k->{having} ? "HAVING $k->{having}" : '';

	return "SELECT w.window_start, w.window_end, $key AS grp, count(*) AS n$aggregate" . ($more // '')
	  . " FROM alice.s_$kind e, $window w WHERE 10 / e.id <> 77 $where GROUP BY w.window_start, w.window_end, $key $having";
}

sub rows_of
{
	my ($kind, $from, $n) = @_;

	return qq{INSERT INTO alice.s_$kind SELECT i, '2026-01-01'::timestamptz + i * interval '3 s', i % 3, 'w' || i % 3, CASE i % 2 WHEN 0 THEN 'good' ELSE 'bad' END::alice.mood,
		ROW(i % 3, 1)::alice.pair, i % 3, ROW(1, 2)::alice.box FROM generate_series($from, $from + $n - 1) i;};
}

my $stream = q{'[{"rows": [{"id": 1, "ts": "2026-01-01 00:00:01+00", "k": 1, "v": "a", "m": "good", "p": "(1,2)", "d": 1, "b": "(1,2)"},
	{"id": 0, "ts": "2026-01-01 00:00:01+00", "k": 1, "v": "a", "m": "good", "p": "(1,2)", "d": 1, "b": "(1,2)"}]},
	{"watermark": "2026-01-02"}, {"rows": [{"id": 1, "ts": "2026-01-01", "k": 2, "m": "bad", "d": 4}]}, "end"]'};

sub attack
{
	my ($kind) = @_;
	my $p = "p_$kind";
	my $ran = $kinds{$kind}{ran} // 1;
	my $judge = $ran ? \&harmless_and_ran : \&harmless;

	wait_as('alice', "CREATE TABLE alice.s_$kind (id int, ts timestamptz, k int, v text, m alice.mood, p alice.pair, d alice.small, b alice.box);
		ALTER TABLE alice.s_$kind REPLICA IDENTITY FULL; CREATE INDEX ON alice.s_$kind (ts);" . rows_of($kind, 1, 20));
	forget();
	my $said = strike('alice', "SELECT beam.create_pipeline('alice.$p', \$q\$" . query_of($kind) . "\$q\$, watermark => '0 s', allowed_lateness => '0 s', idle_timeout => NULL)");
	like($said, qr/\Q$p\E/, "${kind}: there is such a pipeline") or return forget();
	settle($p);
	harmless("${kind}_in_create_pipeline_and_the_history_runs_as_the_owner");

	# the rows themselves are alice's, in her session; what is counted here runs in the worker
	wait_as('alice', rows_of($kind, 21, 20));
	forget();
	wait_as('alice', "SELECT beam.pause_pipeline('$p')");
	wait_as('alice', rows_of($kind, 41, 20) . "UPDATE alice.s_$kind SET k = 7 WHERE id = 45; DELETE FROM alice.s_$kind WHERE id = 46;");
	forget();
	wait_as('alice', "SELECT beam.resume_pipeline('$p')");
	settle($p);
	$judge->("${kind}_in_a_worker_runs_as_the_owner");
	wait_as('alice', rows_of($kind, 0, 1) . "UPDATE alice.s_$kind SET ts = '2026-01-01 00:02+00' WHERE id = 0; DELETE FROM alice.s_$kind WHERE id = 0; "
	  . "INSERT INTO alice.s_$kind SELECT 3, '2025-01-01', 1, v, m, p, d, b FROM alice.s_$kind WHERE id = 1");
	settle($p);
	harmless("${kind}_of_dead_letters_and_late_events_runs_as_the_owner");

	for my $caller ($whole{$kind} ? (superuser(), 'bob') : superuser())
	{
		my $who = $caller eq 'bob' ? 'a_member' : 'a_superuser';
		my @calls = (
			[ 'explain_pipeline', "SELECT * FROM beam.explain_pipeline('$p')" ],
			[ 'verify', "SELECT * FROM beam.verify('$p'); SELECT * FROM beam.verify('$p', '2026-01-01', '2026-01-02')" ],
			[ 'test_stream', "SELECT * FROM beam.test_stream('$p', $stream)" ],
			[ 'test_stream_state', "SELECT * FROM beam.test_stream_state('$p', $stream)" ],
			[ 'backfill', "CALL beam.backfill('$p', '2026-01-01', '2026-01-02')" ],
			[ 'replay', "CALL beam.replay_dead_letters('$p'); CALL beam.replay_late_events('$p')" ],
			[ 'alter_pipeline', "SELECT beam.alter_pipeline('$p', \$q\$" . query_of($kind, ', min(e.id) AS least') . "\$q\$); CALL beam.wait_for_alter('$p', '10 s')" ],
			[ 'rollback_pipeline', "SELECT beam.rollback_pipeline('$p'); CALL beam.wait_for_alter('$p', '10 s')" ],
			[ 'resync_pipeline', "SELECT beam.resync_pipeline('$p'); CALL beam.wait_for('$p', '10 s')" ],
			[ 'pause_and_resume', "SELECT beam.pause_pipeline('$p'); SELECT beam.resume_pipeline('$p')" ],
			[ 'cancel_alter', "SELECT beam.alter_pipeline('$p', \$q\$" . query_of($kind, ', max(e.id) AS most') . "\$q\$); SELECT beam.cancel_alter('$p')" ],
			[ 'the_views', "SELECT * FROM beam.pipelines; SELECT * FROM beam.dead_letters; SELECT * FROM beam.late_events; SELECT * FROM beam.stat_backfill" ]);

		for (@calls)
		{
			my ($entry, $sql) = @$_;

			next if !$whole{$kind} && $entry !~ /^(explain_pipeline|verify|test_stream|alter_pipeline|backfill)$/;
			strike($caller, $sql);
			settle('honest') unless $entry =~ /^(explain_pipeline|verify|test_stream|the_views)/;
			harmless("${kind}_in_${entry}_that_${who}_calls_runs_as_the_owner");
		}
	}
	strike(superuser(), "SELECT beam.drop_pipeline('$p')");
	harmless("${kind}_in_drop_pipeline_that_a_superuser_calls_does_not_run_as_the_superuser");
	wait_as('alice', "DROP TABLE alice.s_$kind CASCADE");
}

attack($_) for sort keys %kinds;

# ---- rows of others --------------------------------------------------------------------------------------------------------------

# mallory has no right in the extension; his table is read by bob's pipeline
wait_as('mallory', q{CREATE TYPE mallory.en AS ENUM ('a');} . evil_function('mallory.en_json', 'mallory.en', 'json', q{'1'::json}, 'mallory,bob')
  . evil_function('mallory.en_good', 'int', 'boolean', 'true', 'mallory,bob') . q{
	CREATE CAST (mallory.en AS json) WITH FUNCTION mallory.en_json(mallory.en);
	CREATE DOMAIN mallory.checked AS int CHECK (mallory.en_good(VALUE));
	CREATE TABLE mallory.st (id int, e mallory.en, d mallory.checked, ts timestamptz);
	GRANT SELECT ON mallory.st TO bob});
wait_as('bob', q{SELECT beam.create_pipeline('bob.viam', 'SELECT 10 / id AS x, count(*) AS c FROM mallory.st GROUP BY 1', source_mode => 'append_only')});
forget();
wait_as('mallory', q{INSERT INTO mallory.st VALUES (0, 'a', NULL, now()), (1, 'a', NULL, now())});
settle('viam');
harmless('cast_of_an_enum_to_json_of_a_dead_letter_does_not_run_as_superuser');
is(admin(q{SELECT count(*) FROM beam.dead_letters WHERE pipeline = 'viam'}), 1, 'cast_of_an_enum_to_json: the row is a dead letter');
strike('mallory', q{INSERT INTO mallory.st VALUES (0, 'a', 4, now())});
settle('viam');
harmless('domain_of_a_dead_letter_does_not_run_as_superuser');
for (([ 'replay_dead_letters', q{CALL beam.replay_dead_letters('viam')} ], [ 'the_views', 'SELECT * FROM beam.dead_letters' ], [ 'verify', q{SELECT * FROM beam.verify('viam')} ],
	[ 'test_stream', q{SELECT * FROM beam.test_stream('viam', '[{"rows": [{"id": 0, "e": "a", "d": 3}, {"id": 1, "e": "a", "d": 3}]}, "end"]')} ]))
{
	strike(superuser(), $_->[1]);
	harmless("type_of_another_in_$_->[0]_that_a_superuser_calls_runs_as_the_owner");
}
wait_as('bob', q{SELECT beam.drop_pipeline('viam')});
wait_as('bob', q{SELECT beam.create_pipeline('bob.late', $$SELECT w.window_start, w.window_end, count(*) AS c FROM mallory.st s, beam.tumble(s.ts, '1 minute') w GROUP BY 1, 2$$,
	source_mode => 'append_only', watermark => '0 s', allowed_lateness => '0 s')});
forget();
wait_as('mallory', q{INSERT INTO mallory.st VALUES (1, 'a', 1, '2026-01-01')});
settle('late');
forget();
wait_as('mallory', q{INSERT INTO mallory.st VALUES (1, 'a', 1, '2025-01-01'), (1, 'a', NULL, '2025-01-02')});
settle('late');
harmless('cast_of_an_enum_to_json_of_a_late_event_does_not_run_as_superuser');
strike(superuser(), q{CALL beam.replay_late_events('late')});
harmless('cast_of_an_enum_to_json_in_replay_late_events_that_a_superuser_calls_runs_as_the_owner');

# ---- names of columns -----------------------------------------------------------------------------------------------------------

# Columns that are called like what our own SQL calls its tables and columns are read as columns
my @names = qw(x j n a b c e i l r s t v w old new result batch kind key rows src data);

wait_as('alice', 'CREATE TABLE alice.named (' . join(', ', map { "$_ int" } @names) . '); ALTER TABLE alice.named REPLICA IDENTITY FULL;');
wait_as('alice', q{SELECT beam.create_pipeline('alice.names', 'SELECT } . join(', ', @names) . q{, count(*) AS many FROM alice.named GROUP BY } . join(', ', @names) . q{')});
wait_as('alice', 'INSERT INTO alice.named VALUES (' . join(', ', map { 1 } @names) . '), (' . join(', ', map { 2 } @names) . ')');
settle('names');
is(strike('alice', q{SET client_min_messages = warning; SELECT kind FROM beam.verify('names')}), '', 'columns_named_like_those_of_our_sql_are_compared_by_verify');
wait_as('alice', 'UPDATE alice.names SET many = 7 WHERE x = 2');
is(strike('alice', q{SET client_min_messages = warning; SELECT kind, result ->> 'x' FROM beam.verify('names')}), 'different|2', 'columns_named_like_those_of_our_sql_are_told_apart_by_verify');
is(strike('alice', q{SET client_min_messages = warning; CALL beam.backfill('names'); SELECT kind FROM beam.verify('names')}), '', 'columns_named_like_those_of_our_sql_are_mended_by_backfill');

nothing_is_broken();
done_testing();
