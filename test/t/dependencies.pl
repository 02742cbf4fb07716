# What a query computes with beside its functions (functions.pl): types, how their values are compared, casts, collations. Altered or replaced, its
# pipeline is rebuilt, or says what has changed, or goes on where nothing is computed in another way.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('main', conf => "stream_beam.bundle_time = '20ms'\nautovacuum = off\n");

sub run { return $node->safe_psql($_[1] // 'postgres', $_[0]) }

sub version { return run("SELECT version FROM beam.pipeline WHERE name = '$_[0]' AND stage = 'current'") }

# What is recorded of a pipeline: `type x, type y`
sub recorded
{
	my ($pipeline, $class, $db) = @_;

	return run("SELECT string_agg(d.name, ', ' ORDER BY d.name) FROM beam.dependency d JOIN beam.pipeline p ON p.id = d.pipeline AND p.stage = 'current'
		WHERE p.name = '$pipeline' AND d.classid = '$class'::regclass", $db);
}

# ---- types, casts, operator classes ---------------------------------------------------------------------------------------------

# alters(NAME, BEFORE, QUERY over src, ALTERATION, 1: rebuilt, WHY): rows change on either side of the alteration; the result is the batch view's
sub alters
{
	my ($name, $before, $query, $alteration, $again, $reason) = @_;
	my $load = sub {
		my ($id) = @_;

		return "INSERT INTO s_$name SELECT i, i % 5, '(' || i % 4 || ',' || i % 3 || ')', i % 7 FROM generate_series($id, $id + 9) i; DELETE FROM s_$name WHERE id = $id; UPDATE s_$name SET k = k + 1 WHERE id = $id + 3;";
	};

	promise $name => sub {
		run("CREATE TABLE s_$name (id int PRIMARY KEY, k int, t text, v int); ALTER TABLE s_$name REPLICA IDENTITY FULL;"
			  . ($before =~ s/(?<![A-Z])NAME/$name/gr) . $load->(1));
		create_pipeline($node, $name, $query =~ s/(?<![A-Z])NAME/$name/gr, q{source_mode => 'changes'});
		equal_to_batch($node, $name, 'it begins');
		run($load->(11) . ($alteration =~ s/(?<![A-Z])NAME/$name/gr) . '; ' . $load->(21));
		equal_to_batch($node, $name, 'it is the batch view after the alteration');
		is(version($name) > 1 ? 1 : 0, $again, $again ? 'rebuilt' : 'not rebuilt');
		like(run("SELECT reason FROM beam.pipeline_versions WHERE name = '$name' AND version = 2"), $reason, 'for that reason') if $again;
		is(run("SELECT count(*) FROM beam.dead_letters WHERE pipeline = '$name'"), 0, 'no row has failed');
	};
}

my $pair = q{CREATE TYPE NAME_pair AS (a int, b int); ALTER TABLE s_NAME ADD p NAME_pair GENERATED ALWAYS AS (ROW(k, v)::NAME_pair) STORED;};
my $ordered = q{CREATE TYPE NAME_num AS (a int);
	CREATE FUNCTION NAME_a(x NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.a; END';
	CREATE FUNCTION NAME_cmp(x NAME_num, y NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.a - y.a; END';
	CREATE FUNCTION NAME_hash(x NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN hashint4(x.a % 1000); END';}
  . join('', map { my ($name, $sign) = @$_; "CREATE FUNCTION NAME_$name(x NAME_num, y NAME_num) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.a $sign y.a; END';
		CREATE OPERATOR $sign (LEFTARG = NAME_num, RIGHTARG = NAME_num, FUNCTION = NAME_$name" . ($name eq 'eq' ? ', COMMUTATOR = =, HASHES, MERGES' : '') . ');' }
	  [ 'lt', '<' ], [ 'le', '<=' ], [ 'eq', '=' ], [ 'ge', '>=' ], [ 'gt', '>' ])
  . q{CREATE OPERATOR CLASS NAME_btree DEFAULT FOR TYPE NAME_num USING btree AS OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 NAME_cmp(NAME_num, NAME_num);
	CREATE OPERATOR CLASS NAME_hash DEFAULT FOR TYPE NAME_num USING hash AS OPERATOR 1 =, FUNCTION 1 NAME_hash(NAME_num);};
my $downwards = q{CREATE OR REPLACE FUNCTION NAME_cmp(x NAME_num, y NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN y.a - x.a; END'};
# the key: what is modulo 2 the same
my $coarse = join('; ', map { my ($name, $sign) = @$_; "CREATE OR REPLACE FUNCTION NAME_$name(x NAME_num, y NAME_num) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.a % 2 $sign y.a % 2; END'" } [ 'lt', '<' ], [ 'eq', '=' ], [ 'gt', '>' ])
  . q{; CREATE OR REPLACE FUNCTION NAME_cmp(x NAME_num, y NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.a % 2 - y.a % 2; END';
	CREATE OR REPLACE FUNCTION NAME_hash(x NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN hashint4(x.a % 2); END'};
my $io = q{CREATE TYPE NAME_io;
	CREATE FUNCTION NAME_in(cstring) RETURNS NAME_io LANGUAGE internal IMMUTABLE STRICT AS 'textin';
	CREATE FUNCTION NAME_out(NAME_io) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
	CREATE TYPE NAME_io (INPUT = NAME_in, OUTPUT = NAME_out, LIKE = text);
	CREATE CAST (text AS NAME_io) WITH INOUT; CREATE CAST (NAME_io AS text) WITH INOUT;};
my $out = q{CREATE OR REPLACE FUNCTION NAME_out(NAME_io) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'byteaout'};

alters('attribute_of_a_row_that_becomes_text', $pair, 'SELECT p::text AS k, count(*) AS n FROM s_NAME GROUP BY 1', 'ALTER TYPE NAME_pair ADD ATTRIBUTE c int', 1, qr/type public\.\w+_pair has been replaced or altered/);
alters('attribute_of_a_row_that_becomes_json', $pair, 'SELECT k, jsonb_agg(to_jsonb(p) ORDER BY id) AS j FROM s_NAME GROUP BY 1', 'ALTER TYPE NAME_pair RENAME ATTRIBUTE b TO c', 1, qr/type public\.\w+_pair has been replaced or altered/);
alters('column_of_a_table_whose_row_is_a_value', 'CREATE TABLE NAME_row (a int); ALTER TABLE s_NAME ADD p NAME_row GENERATED ALWAYS AS (ROW(k)::NAME_row) STORED;', 'SELECT p::text AS k, count(*) AS n FROM s_NAME GROUP BY 1',
	'ALTER TABLE NAME_row ADD b int', 1, qr/type public\.\w+_row has been replaced or altered/);
alters('domain_in_a_row', q{CREATE DOMAIN NAME_dom AS int CONSTRAINT few CHECK (VALUE < 1000); CREATE TYPE NAME_pair AS (a NAME_dom, b int);}, 'SELECT (t::NAME_pair).b AS k, count(*) AS n FROM s_NAME GROUP BY 1',
	'ALTER DOMAIN NAME_dom DROP CONSTRAINT few', 1, qr/type public\.\w+_dom has been/);
alters('domain_beneath_a_domain', q{CREATE DOMAIN NAME_inner AS int; CREATE DOMAIN NAME_outer AS NAME_inner CHECK (VALUE < 10000);}, 'SELECT k::NAME_outer AS k, count(*) AS n FROM s_NAME GROUP BY 1', 'ALTER DOMAIN NAME_inner ADD CHECK (VALUE < 1000)', 1, qr/type public\.\w+_inner has been/);
alters('comparison_of_sorted_arguments', $ordered, 'SELECT k, array_agg(id ORDER BY ROW(v)::NAME_num, id) AS a FROM s_NAME GROUP BY k', $downwards, 1, qr/function public\.\w+_cmp\(/);
alters('comparison_of_elements', $ordered, 'SELECT k, max(ARRAY[ROW(v)::NAME_num])::text AS a FROM s_NAME GROUP BY k', $downwards, 1, qr/function public\.\w+_cmp\(/);
alters('comparison_by_another_operator_class', q{CREATE FUNCTION NAME_lt(x int, y int) RETURNS bool LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x > y; END';
	CREATE FUNCTION NAME_cmp(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN y - x; END';
	CREATE OPERATOR <# (LEFTARG = int, RIGHTARG = int, FUNCTION = NAME_lt);
	CREATE OPERATOR CLASS NAME_class FOR TYPE int USING btree AS OPERATOR 1 <#, OPERATOR 3 =, FUNCTION 1 NAME_cmp(int, int);}, 'SELECT k, array_agg(v ORDER BY v USING <#) AS a FROM s_NAME GROUP BY k',
	q{CREATE OR REPLACE FUNCTION NAME_cmp(x int, y int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x - y; END'}, 1, qr/function public\.\w+_cmp\(/);
alters('comparison_in_a_range', $ordered . 'CREATE TYPE NAME_range AS RANGE (subtype = NAME_num, subtype_opclass = NAME_btree);', 'SELECT k, bool_or(NAME_range(ROW(2)::NAME_num, ROW(4)::NAME_num) @> ROW(v)::NAME_num) AS a FROM s_NAME GROUP BY k',
	q{CREATE OR REPLACE FUNCTION NAME_cmp(x NAME_num, y NAME_num) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.a / 4 - y.a / 4; END'}, 1, qr/function public\.\w+_cmp\(/);
alters('canonical_function_of_a_range', q{CREATE TYPE NAME_range; CREATE FUNCTION NAME_canonical(NAME_range) RETURNS NAME_range LANGUAGE internal IMMUTABLE STRICT AS 'int4range_canonical';
	CREATE TYPE NAME_range AS RANGE (subtype = int4, canonical = NAME_canonical);}, 'SELECT NAME_range(k, k + 1, $$[]$$)::text AS k, count(*) AS n FROM s_NAME GROUP BY 1',
	q{CREATE OR REPLACE FUNCTION NAME_canonical(NAME_range) RETURNS NAME_range LANGUAGE internal IMMUTABLE STRICT AS 'int8range_canonical'}, 1, qr/function public\.\w+_canonical\(/);
alters('output_function_of_a_cast_with_inout', $io, 'SELECT k, min(t::NAME_io::text) AS a FROM s_NAME GROUP BY k', $out, 1, qr/function public\.\w+_out\(/);
alters('output_function_in_an_inlined_function', $io . q{CREATE FUNCTION NAME_f(x text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT x::NAME_io::text';}, 'SELECT k, min(NAME_f(t)) AS a FROM s_NAME GROUP BY k', $out, 1, qr/function public\.\w+_out\(/);
alters('function_of_a_cast', $pair . q{CREATE FUNCTION NAME_f(x NAME_pair) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.b; END'; CREATE CAST (NAME_pair AS int) WITH FUNCTION NAME_f(NAME_pair) AS IMPLICIT;},
	'SELECT k, sum(p::int) AS a FROM s_NAME GROUP BY k', q{CREATE OR REPLACE FUNCTION NAME_f(x NAME_pair) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.b * 2; END'}, 1, qr/function public\.\w+_f\(/);
# a query has the function that the cast had when it was made, as a view has
alters('another_cast_of_the_same_types', $pair . q{CREATE FUNCTION NAME_f(x NAME_pair) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.b; END'; CREATE CAST (NAME_pair AS int) WITH FUNCTION NAME_f(NAME_pair) AS ASSIGNMENT;
	CREATE FUNCTION NAME_g(x NAME_pair) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN x.b * 2; END';}, 'SELECT k, sum(p::int) AS a FROM s_NAME GROUP BY k',
	q{DROP CAST (NAME_pair AS int); CREATE CAST (NAME_pair AS int) WITH FUNCTION NAME_g(NAME_pair) AS IMPLICIT}, 0);

# the key that is shown is one of several equal ones
promise 'equality_of_elements_of_a_key' => sub {
	my $groups = q{SELECT string_agg(n::text, ' ' ORDER BY n) FROM };

	run(q{CREATE TABLE s_equal (id int PRIMARY KEY, v int); ALTER TABLE s_equal REPLICA IDENTITY FULL; INSERT INTO s_equal SELECT i, i % 6 FROM generate_series(1, 20) i;}
		  . ($ordered =~ s/(?<![A-Z])NAME/equal/gr) . q{SELECT beam.create_pipeline('equal', 'SELECT ARRAY[ROW(v)::equal_num] AS k, count(*) AS n FROM s_equal GROUP BY 1')});
	wait_for($node, 'equal');
	is(run("$groups equal"), '3 3 3 3 4 4', 'it begins');
	run(($coarse =~ s/(?<![A-Z])NAME/equal/gr) . '; DELETE FROM s_equal WHERE id IN (1, 2, 3)');
	wait_for($node, 'equal');
	is(run("$groups equal"), '8 9', 'what has become equal is one group');
	is(run("$groups equal_batch"), '8 9', 'as in the batch view');
};

# ---- collations -----------------------------------------------------------------------------------------------------------------

# What beam.check() says of them
sub said { return run(q{SELECT ok, value, hint IS NOT NULL FROM beam.check() WHERE item = 'collations'}, $_[0]) }

# How often the log has it since this place
sub logged
{
	my ($at, $message) = @_;
	my @found = slurp_file($node->logfile, $at) =~ /$message/g;

	return scalar(@found);
}

sub begins
{
	my ($db, @pipelines) = @_;

	equal_to_batch($node, $_, "$_ begins", $db) for @pipelines;
}

my $old = q{UPDATE beam.dependency SET content = left(content, 1) || ' 0.1' WHERE classid = 'pg_collation'::regclass};

if (has_icu($node))
{
	my $icu = run(q{SELECT pg_collation_actual_version(oid) FROM pg_collation WHERE collname = 'en-x-icu'});

	promise 'another_version_of_a_nondeterministic_collation_rebuilds_or_fails' => sub {
		run(q{CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
			CREATE TABLE names (v text COLLATE ci, n int); ALTER TABLE names REPLICA IDENTITY FULL;
			INSERT INTO names VALUES ('a', 1), ('a', 2), ('b', 3);
			SELECT beam.create_pipeline('by_name', 'SELECT v, sum(n) AS s FROM names GROUP BY v');
			SELECT beam.create_pipeline('first_names', 'SELECT sum(n) FILTER (WHERE v = ''a'') AS s FROM names', source_mode => 'append_only');
			SELECT beam.create_pipeline('numbers', 'SELECT sum(n) AS s FROM names')});
		begins(undef, 'by_name', 'first_names', 'numbers');
		is(recorded($_, 'pg_collation'), 'collation public.ci', "of $_ it is recorded") for 'by_name', 'first_names';
		is(recorded('numbers', 'pg_collation'), '', 'a query without texts has none');
		is(said(), 't|as they were when pipelines were made|f', 'nothing is said');
		$node->restart;
		run(q{INSERT INTO names VALUES ('b', 4)});
		begins(undef, 'by_name');
		is(version('by_name'), 1, 'a restart by itself rebuilds nothing');
		run($old);
		$node->restart;
		wait_until($node, q{SELECT version = 2 FROM beam.pipeline WHERE name = 'by_name' AND stage = 'current'});
		is(run(q{SELECT reason FROM beam.pipeline_versions WHERE name = 'by_name' AND version = 2}), "collation public.ci has version $icu, and had 0.1", 'it is rebuilt, for that reason');
		run(q{INSERT INTO names VALUES ('C', 4)});
		begins(undef, 'by_name');
		state_is($node, 'first_names', 'failed', qr/^collation public\.ci has version \Q$icu\E, and had 0\.1$/);
		run(q{SELECT beam.resume_pipeline('first_names')});
		begins(undef, 'first_names');
	};

	promise 'another_version_of_a_deterministic_collation_is_told' => sub {
		my $stale = $old . q{; UPDATE pg_collation SET collversion = '0.1' WHERE collname = 'en-x-icu'};
		my $message = qr/WARNING:  .*pipeline "words" was computed with version 0\.1 of collation "en-x-icu", which has version \Q$icu\E now/;
		my $at;

		run(q{CREATE TABLE texts (k int, v text COLLATE "en-x-icu"); ALTER TABLE texts REPLICA IDENTITY FULL; INSERT INTO texts VALUES (1, 'b'), (1, 'B'), (2, 'c');
			CREATE ROLE other LOGIN;
			SELECT beam.create_pipeline('words', 'SELECT k, max(v) AS most FROM texts GROUP BY k')});
		begins(undef, 'words');
		is(recorded('words', 'pg_collation'), 'collation "en-x-icu"', 'it is recorded');
		run($stale);
		$at = -s $node->logfile;
		$node->restart;
		run(q{INSERT INTO texts VALUES (1, 'd')});
		begins(undef, 'words');
		is(version('words'), 1, 'it goes on as it is');
		is(logged($at, $message), 1, 'the log says it, once');
		is(said(), "f|words: collation \"en-x-icu\" had version 0.1, now $icu|t", 'beam.check() says it');
		is($node->safe_psql('postgres', q{SELECT value FROM beam.check() WHERE item = 'collations'}, extra_params => [ '-U', 'other' ]), '1 of other roles', 'others learn no names');
		run(q{SELECT beam.resync_pipeline('words')});
		wait_until($node, q{SELECT version = 2 FROM beam.pipeline WHERE name = 'words' AND stage = 'current'});
		is(said(), 't|as they were when pipelines were made|f', 'a resync clears it');
		run($stale);
		is((split /\|/, said())[0], 'f', 'once more');
		run(q{ALTER COLLATION "en-x-icu" REFRESH VERSION});
		is(said(), 't|as they were when pipelines were made|f', 'so does REFRESH VERSION');
		is(run(q{SELECT DISTINCT content FROM beam.dependency WHERE name = 'collation "en-x-icu"'}), "d $icu", 'the version is what it was found to be');
		is(version('words'), 2, 'that rebuilds nothing');
	};

	promise 'another_version_of_the_default_collation_is_told' => sub {
		my $stale = $old . q{; UPDATE pg_database SET datcollversion = '0.1' WHERE datname = 'icu'};

		run(q{CREATE DATABASE icu TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en' LOCALE 'C'});
		create_extension($node, 'icu');
		run(q{CREATE TABLE texts (k text, v int); ALTER TABLE texts REPLICA IDENTITY FULL; INSERT INTO texts VALUES ('b', 1), ('B', 2);
			SELECT beam.create_pipeline('least', 'SELECT min(k) AS k FROM texts');
			SELECT beam.create_pipeline('sums', 'SELECT k, sum(v) AS s FROM texts GROUP BY k')}, 'icu');
		begins('icu', 'least', 'sums');
		is(recorded($_, 'pg_collation', 'icu'), 'the default collation of the database', "of $_ it is recorded") for 'least', 'sums';
		run($stale, 'icu');
		my $at = -s $node->logfile;
		$node->restart;
		begins('icu', 'least', 'sums');
		is(logged($at, qr/WARNING:  .*pipeline "(?:least|sums)" was computed with version 0\.1 of the default collation of the database/), 2, 'the log says it');
		like(said('icu'), qr/^f\|least: the default collation of the database had version 0\.1, now .*; sums: /, 'beam.check() says it');
		run('ALTER DATABASE icu REFRESH COLLATION VERSION', 'icu');
		is(said('icu'), 't|as they were when pipelines were made|f', 'REFRESH COLLATION VERSION clears it');
	};
}

is(run(q{SELECT count(*) FROM beam.dependency WHERE objid = 100}), 0, 'the C locale has no versions, and is not recorded');
unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP: |PANIC: /, 'no process has crashed');
done_testing();
