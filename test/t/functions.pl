# Functions of a query: which may be in it, and what happens when they are replaced.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('main');

# What the C source lists, by the names of fmgroids.h.
sub listed
{
	my $source = slurp_file("$FindBin::RealBin/../../src/query/plan/sb_plan_stable.c");
	my ($lists) = $source =~ /^(static const Oid of_settings.*?)^static bool/ms;
	my ($dir) = run_command([ $ENV{PG_CONFIG} // 'pg_config', '--includedir-server' ]);
	my %oids = slurp_file("$dir/utils/fmgroids.h") =~ /^#define (F_\w+) (\d+)$/mg;

	return map { $oids{$_} // die "$_ is no function" } $lists =~ /\b(F_\w+)/g;
}

# Is such a call refused?
sub refused
{
	my ($expression) = @_;
	my (undef, undef, $error) = $node->psql('postgres', "SELECT beam.create_pipeline('r', \$\$SELECT id, $expression AS x FROM src\$\$)");

	return $error =~ /is not allowed in a pipeline's query/ ? 1 : 0;
}

{
	my @oids = listed();

	is($node->safe_psql('postgres',
			'SELECT oid::regprocedure FROM pg_proc RIGHT JOIN unnest(ARRAY[' . join(',', @oids) . "]) AS l (l) ON oid = l WHERE provolatile IS DISTINCT FROM 's'"),
		'', 'stable_functions_that_are_let_through_are_there_and_stable');
	is(scalar(@oids), scalar(keys %{ { map { $_ => 1 } @oids } }), 'each_is_listed_once');
	$node->safe_psql('postgres', 'CREATE TABLE src (id int PRIMARY KEY, t text, at timestamptz); ALTER TABLE src REPLICA IDENTITY FULL');
	# every other one of the catalog without arguments, and those of one text
	my @others = split /\n/, $node->safe_psql('postgres', q{SELECT format('%s%s::text', proname, CASE pronargs WHEN 0 THEN '()' ELSE '(t)' END)
		FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND provolatile = 's' AND NOT proretset AND prokind = 'f'
		AND prorettype <> ALL (ARRAY['trigger', 'event_trigger', 'internal']::regtype[])
		AND (pronargs = 0 OR proargtypes[0] = 'text'::regtype AND pronargs = 1) AND proname <> ALL (ARRAY['current_user', 'session_user', 'current_catalog'])
		AND oid <> ALL (ARRAY[} . join(',', @oids) . q{]::oid[]) ORDER BY 1});
	cmp_ok(scalar(@others), '>', 15, 'the catalog has others');
	is(join(' ', grep { !refused($_) } @others), '', 'every_other_stable_function_of_the_catalog_is_refused');
}

# ---- what a query computes with is replaced, altered or dropped ----

sub run { return $node->safe_psql('postgres', $_[0]) }

sub version { return run("SELECT version FROM beam.pipeline WHERE name = '$_[0]' AND stage = 'current'") }

# The statements are run; the result is that of the batch view, by another version, or by the same.
sub replaces
{
	my ($pipeline, $sql, $again, $test) = @_;
	my $before = version($pipeline);

	run($sql);
	run("DELETE FROM fx WHERE id = (SELECT min(id) FROM fx); INSERT INTO fx SELECT max(id) + 1, max(id) % 7, 'a' FROM fx");
	equal_to_batch($node, $pipeline, $test);
	is(version($pipeline) > $before ? 1 : 0, $again, "$test, " . ($again ? 'rebuilt' : 'not rebuilt'));
}

run(q{
	CREATE TYPE mood AS ENUM ('a', 'c');
	CREATE TABLE fx (id int PRIMARY KEY, v int, m mood);
	ALTER TABLE fx REPLICA IDENTITY FULL;
	INSERT INTO fx SELECT i, i % 5, 'a' FROM generate_series(1, 20) i;
	CREATE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 2; END';
	CREATE FUNCTION inner_one(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v + 1';
	CREATE FUNCTION outer_one(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT inner_one(v) * 2';
	CREATE FUNCTION of_operator(a int, b int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a + b; END';
	CREATE OPERATOR <+> (LEFTARG = int, RIGHTARG = int, FUNCTION = of_operator);
	CREATE FUNCTION of_aggregate(a bigint, b int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a + b; END';
	CREATE AGGREGATE total(int) (SFUNC = of_aggregate, STYPE = bigint, INITCOND = '0');
	CREATE DOMAIN small AS int CHECK (VALUE < 1000);
	SELECT beam.create_pipeline('pf', 'SELECT sum(tar(v)) AS s, count(*) AS n FROM fx');
	SELECT beam.create_pipeline('pi', 'SELECT v, sum(outer_one(v)) AS s FROM fx GROUP BY v');
	SELECT beam.create_pipeline('po', 'SELECT sum(v <+> 1) AS s FROM fx');
	SELECT beam.create_pipeline('pa', 'SELECT v, total(id) AS s FROM fx GROUP BY v');
	SELECT beam.create_pipeline('pd', 'SELECT v::small AS k, count(*) AS n FROM fx GROUP BY 1');
	SELECT beam.create_pipeline('pm', 'SELECT m, m::text AS t, count(*) AS n, max(m) AS most FROM fx GROUP BY m')});
equal_to_batch($node, $_, "$_ begins") for qw(pf pi po pa pd pm);

replaces('pf', q{CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 10; END'}, 1, 'replaced_function_is_noticed');
replaces('pf', q{CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 10; END'}, 0, 'replaced_by_the_same');
replaces('pf', q{ALTER FUNCTION tar COST 7; ALTER FUNCTION tar OWNER TO pg_database_owner; ALTER FUNCTION tar PARALLEL SAFE}, 0, 'harmless_alterations');
replaces('pf', q{ALTER FUNCTION tar SET extra_float_digits = 0}, 1, 'altered_function_is_noticed');
replaces('pf', q{BEGIN; CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 0; END'; ROLLBACK}, 0, 'rolled_back');
replaces('pf', q{ALTER FUNCTION tar RENAME TO gudron; ALTER FUNCTION gudron RENAME TO tar}, 0, 'renamed');
replaces('pi', q{CREATE OR REPLACE FUNCTION inner_one(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v + 100'}, 1, 'inlined_function_is_noticed');
replaces('po', q{DO $$BEGIN CREATE OR REPLACE FUNCTION of_operator(a int, b int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a * 3 + b; END'; END$$}, 1, 'function_of_an_operator_is_noticed');
replaces('pa', q{CREATE OR REPLACE FUNCTION of_aggregate(a bigint, b int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN a + 2 * b; END'}, 1, 'function_of_an_aggregate_is_noticed');
replaces('pa', q{CREATE OR REPLACE AGGREGATE total(int) (SFUNC = of_aggregate, STYPE = bigint, INITCOND = '5')}, 1, 'replaced_aggregate_is_noticed');
replaces('pd', q{ALTER DOMAIN small ADD CONSTRAINT nonnegative CHECK (VALUE >= 0)}, 1, 'constraint_of_a_domain_is_noticed');
replaces('pd', q{ALTER DOMAIN small DROP CONSTRAINT nonnegative}, 1, 'dropped_constraint_is_noticed');
replaces('pm', q{ALTER TYPE mood ADD VALUE 'b' BEFORE 'c'}, 0, 'value_of_an_enum_added');
replaces('pm', q{ALTER TYPE mood RENAME VALUE 'a' TO 'aa'; ALTER TYPE mood ADD VALUE 'a'}, 1, 'renamed_value_is_noticed');

{
	# rows before the replacing commit that have not been read, and a reader of the result downstream
	run(q{SELECT beam.create_pipeline('down', 'SELECT count(*) AS n, sum(s) AS s FROM pf');
		UPDATE fx SET v = v + 1;
		CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 11; END';
		UPDATE fx SET v = v + 1});
	equal_to_batch($node, 'pf', 'rows_on_either_side_of_the_replacement');
	equal_to_batch($node, 'down', 'downstream_pipelines_are_rebuilt_with_it');
	run(q{SELECT beam.drop_pipeline('down')});

	# what cannot be rebuilt says why
	run(q{CREATE TABLE log (v int); SELECT beam.create_pipeline('pl', 'SELECT sum(tar(v)) AS s FROM log', source_mode => 'append_only'); INSERT INTO log VALUES (1)});
	wait_for($node, 'pl');
	run(q{DELETE FROM log; CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 12; END'});
	is(run(q{SELECT state, error_message FROM beam.pipelines WHERE name = 'pl'}), 'failed|function public.tar(integer) has been replaced or altered', 'append_only_pipeline_says_what_has_changed');
	run(q{INSERT INTO log VALUES (10); SELECT beam.resume_pipeline('pl')});
	wait_for($node, 'pl');
	is(run('TABLE pl'), '131', 'resumed_it_goes_on_with_the_new_function');

	# one that does not run is not set going
	equal_to_batch($node, 'pf', 'before the pause');
	run(q{SELECT beam.pause_pipeline('pf'); CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * 13; END'});
	is(run(q{SELECT state FROM beam.pipelines WHERE name = 'pf'}), 'needs_resync', 'paused_pipeline_waits_for_a_resync');
	run(q{SELECT beam.resync_pipeline('pf')});
	equal_to_batch($node, 'pf', 'resynced');

	# an inlined function can be dropped under the query
	run(q{DROP FUNCTION inner_one(int)});
	my (undef, undef, $error) = $node->psql('postgres', q{CALL beam.wait_for('pi')});
	like($error, qr/inner_one/, 'dropped_function_stops_the_pipeline');
	run(q{CREATE FUNCTION inner_one(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v + 3'});
	# The version that was to replace it has failed, or could not be made; or the runner is just making one, which may fail yet.
	for (1 .. 10)
	{
		$node->psql('postgres', q{SELECT beam.cancel_alter('pi')});
		$node->psql('postgres', q{SELECT beam.resync_pipeline('pi')});
		last if ($node->psql('postgres', q{CALL beam.wait_for('pi')}))[0] == 0;
	}
	equal_to_batch($node, 'pi', 'made_again_it_is_resynced');
}

# ---- under load, with kills ----
for my $round (1 .. 6)
{
	my $load = start_load($node, q{INSERT INTO fx SELECT (SELECT max(id) FROM fx) + i, i % 9, 'c' FROM generate_series(1, 5) i ON CONFLICT DO NOTHING;
		UPDATE fx SET v = (v + 1) % 20 WHERE id % 30 = :client_id;
		DELETE FROM fx WHERE id % 40 = :client_id;});

	for my $factor (1 .. 3)
	{
		my $rows = run(q{SELECT sum(n_tup_ins) FROM pg_stat_all_tables WHERE relname = 'fx'});

		wait_until($node, "SELECT sum(n_tup_ins) > $rows + 50 FROM pg_stat_all_tables WHERE relname = 'fx'");
		run(sprintf q{CREATE OR REPLACE FUNCTION tar(v int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN v * %d; END';
			CREATE OR REPLACE FUNCTION inner_one(v int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT v + %d'}, 10 * $round + $factor, 10 * $round + $factor);
	}
	kill9($node, $round % 2 ? 'runner' : 'reader') if $round > 2;
	finish_load($load);
	equal_to_batch($node, 'pf', "function_replaced_under_load, round $round");
	equal_to_batch($node, 'pi', "inlined_function_replaced_under_load, round $round");
}

done_testing();
