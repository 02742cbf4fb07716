# Bytes are read with the types they were written with, or not at all: whatever a pipeline's owner makes of the columns of a result, of his aggregates
# and of his types, once there is state, a row in the result, a row in a queue, elements of a session. The pipeline is failed, says what has
# changed and what to call, and that brings the right values again. No process crashes.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('bytes', conf => "stream_beam.bundle_time = '20ms'\nautovacuum = off\n");

sub admin { return $node->safe_psql('postgres', $_[0]) }

sub alice
{
	return $node->safe_psql('postgres', "SET search_path = alice; SET client_min_messages = warning; $_[0]", extra_params => [ '-U', 'alice' ], timeout => 60);
}

admin(q{CREATE ROLE alice LOGIN; CREATE SCHEMA alice AUTHORIZATION alice; GRANT EXECUTE ON FUNCTION beam.create_pipeline TO alice;
	ALTER DATABASE postgres SET search_path = public, alice});
my $started = admin('SELECT pg_postmaster_start_time()');

# A table of its own for each pipeline, so that none is failed for another's change
sub source
{
	my ($name) = @_;

	alice("CREATE TABLE s_$name (id int, ts timestamptz, k int, v numeric, f float8); ALTER TABLE s_$name REPLICA IDENTITY FULL; " . rows_into($name, 1));
}

# Twenty rows; floats that are no pointers, should they be read as such
sub rows_into
{
	my ($name, $from) = @_;

	return "INSERT INTO s_$name SELECT i, '2026-01-01'::timestamptz + i * interval '10 s', i % 3, i + 0.5, 6.9e-310 * i FROM generate_series($from, $from + 19) i;";
}

# Over such a table, with its first rows in the result
sub pipeline
{
	my ($name, $query, $arguments, $source) = @_;

	source($name) unless $source;
	alice("SELECT beam.create_pipeline('$name', \$q\$$query\$q\$, " . ($arguments // q{allowed_lateness => '10000 days'}) . ')');
	wait_for($node, $name);
}

# A test: it is failed, by what is said here; who waits for it is told so too, and what to call
sub fails
{
	my ($name, $message, $call) = @_;
	my ($code, $told, $error);

	wait_until($node, "SELECT state FROM beam.pipelines WHERE name = '$name'", 'failed');
	$error = admin("SELECT error_message FROM beam.pipelines WHERE name = '$name'");
	like($error, $message, "$name is failed and says what has changed");
	unlike($error, qr/cache lookup|unexpected|internal|corrupted/, "$name: not as an internal error");
	is(admin("SELECT error_code ~ '^(42|55)' FROM beam.pipelines WHERE name = '$name'"), 't', "$name: with the code of a wrong object");
	($code, undef, $told) = $node->psql('postgres', "CALL beam.wait_for('$name')");
	like($told, $message, "$name: who waits for it is told the same");
	like($told, qr/beam\.$call\(/, "$name: and to call beam.$call()");
}

# A test: it is mended by this, and more rows are right too
sub mended
{
	my ($name, $sql, $source) = @_;

	alice($sql);
	equal_to_batch($node, $name, "$name is right again");
	alice(rows_into($source // $name, 101));
	equal_to_batch($node, $name, "$name is right with more rows");
	is(admin("SELECT state FROM beam.pipelines WHERE name = '$name'"), 'running', "$name is running");
}

sub no_crash
{
	unlike(slurp_file($node->logfile), qr/was terminated by signal|TRAP: |PANIC: /, 'no process has crashed');
	is(admin('SELECT pg_postmaster_start_time()'), $started, 'the server was not restarted');
}

# ---- columns of the result ------------------------------------------------------------------------------------------------------

my $sums = 'SELECT k, sum(v) AS a, max(f) AS b, count(*) AS n FROM s_NAME GROUP BY k';

sub sums { return $sums =~ s/NAME/$_[0]/r }

promise 'renamed_column_of_a_result_fails_and_its_name_mends' => sub {
	pipeline('renamed', sums('renamed'));
	alice('ALTER TABLE renamed RENAME a TO other');
	fails('renamed', qr/result table "renamed" of pipeline "renamed" has no column "a" any more/, 'resume_pipeline');
	alice(rows_into('renamed', 21));
	mended('renamed', q{ALTER TABLE renamed RENAME other TO a; SELECT beam.resume_pipeline('renamed')});
	no_crash();
};

promise 'dropped_column_of_a_result_fails_and_the_column_and_a_resync_mend' => sub {
	pipeline('dropped', sums('dropped'));
	alice('ALTER TABLE dropped DROP a');
	fails('dropped', qr/result table "dropped" of pipeline "dropped" has no column "a" any more/, 'resume_pipeline');
	alice(rows_into('dropped', 21) . q{ALTER TABLE dropped ADD a numeric; SELECT beam.resync_pipeline('dropped')});
	wait_for($node, 'dropped');
	is(admin(q{SELECT count(*) FROM beam.verify('dropped')}), 0, 'the result is right again');
	no_crash();
};

# The next row takes one back that stands in the result: its bytes are packed as the plan says. A downstream pipeline gets them too.
promise 'columns_of_a_result_that_change_names_fail_and_do_not_crash' => sub {
	pipeline('swapped', sums('swapped'));
	pipeline('swapped_downstream', 'SELECT count(*) AS c, sum(n) AS s FROM swapped', undef, 1);
	# with rows on either side, so that the runner may come to them before it has looked at the table
	alice('BEGIN; ' . rows_into('swapped', 21) . 'ALTER TABLE swapped RENAME a TO x; ALTER TABLE swapped RENAME b TO a; ALTER TABLE swapped RENAME x TO b; '
	  . rows_into('swapped', 41) . 'DELETE FROM s_swapped WHERE id = 3; COMMIT');
	fails('swapped', qr/column "a" (of the result table "swapped" of pipeline "swapped" )?is of type double precision(, and the pipeline writes| but expression is of type) numeric/, 'resume_pipeline');
	mended('swapped', q{ALTER TABLE swapped RENAME a TO x; ALTER TABLE swapped RENAME b TO a; ALTER TABLE swapped RENAME x TO b; SELECT beam.resume_pipeline('swapped')});
	equal_to_batch($node, 'swapped_downstream', 'its downstream pipeline is right');
	no_crash();
};

for my $accumulation (qw(accumulating retracting))
{
	promise "retyped_column_of_an_${accumulation}_result_fails_and_its_type_mends" => sub {
		my $name = "retyped_$accumulation";

		source($name);
		alice("SELECT beam.create_pipeline('$name', 'SELECT w.window_start, w.window_end, k, sum(v) AS a, max(f) AS b FROM s_$name, beam.tumble(ts, ''1 minute'') w GROUP BY 1, 2, 3',
			accumulation => '$accumulation', allowed_lateness => '10000 days')");
		wait_for($node, $name);
		alice("ALTER TABLE $name ALTER b TYPE text");
		fails($name, qr/column "b" of the result table "$name" of pipeline "$name" is of type text, and the pipeline writes double precision/, 'resume_pipeline');
		alice("ALTER TABLE $name ALTER b TYPE float8 USING b::float8; SELECT beam.resume_pipeline('$name'); " . rows_into($name, 101));
		wait_for($node, $name);
		is(admin("SELECT count(*) FROM beam.verify('$name')"), 0, 'the result is right again');
		no_crash();
	};
}

promise 'retyped_column_of_a_result_is_made_the_querys_by_alter_pipeline' => sub {
	pipeline('casted', sums('casted'));
	alice('ALTER TABLE casted ALTER n TYPE text');
	fails('casted', qr/column "n" of the result table "casted" of pipeline "casted" is of type text, and the pipeline writes bigint/, 'resume_pipeline');
	alice(q{SELECT beam.alter_pipeline('casted', 'SELECT k, sum(v) AS a, max(f) AS b, count(*)::text AS n FROM s_casted GROUP BY k'); CALL beam.wait_for_alter('casted', '20 s')});
	wait_for($node, 'casted');
	is(admin(q{SELECT count(*) FROM beam.verify('casted')}), 0, 'the result is right again');
	no_crash();
};

# A column that the downstream pipeline does not use lies before one that it uses: no view holds its type
promise 'rows_in_a_queue_are_read_with_the_types_they_were_written_with' => sub {
	pipeline('up', 'SELECT k, max(f) AS b, sum(v) AS a FROM s_up GROUP BY k');
	pipeline('down', 'SELECT k, sum(a) AS n, max(a::text) AS m FROM up GROUP BY k', undef, 1);
	alice(q{SELECT beam.pause_pipeline('down')});
	alice('INSERT INTO s_up VALUES (900, now(), 2, 12345678901234567890.5, 6.9e-310); ' . rows_into('up', 21));
	wait_for($node, 'up');
	alice(q{ALTER TABLE up ALTER b TYPE text; SELECT beam.resume_pipeline('down')});
	alice(rows_into('up', 41));
	fails('up', qr/column "b" of the result table "up" of pipeline "up" is of type text/, 'resume_pipeline');
	is(admin(q{SELECT string_agg(n::text, ' ' ORDER BY k) FROM down WHERE n > 1e22 OR n < 0}), '', 'the downstream pipeline has no numbers that nobody has written');
	alice(q{ALTER TABLE up ALTER b TYPE float8 USING b::float8; SELECT beam.resume_pipeline('up')});
	mended('up', q{SELECT 1});
	equal_to_batch($node, 'down', 'the downstream pipeline is right');
	no_crash();
};

# ---- aggregates -----------------------------------------------------------------------------------------------------------------

# The state that security/05 has read as an array of a million numbers
my $as_bytes = q{CREATE FUNCTION NAME_sb(s bytea, x int) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$ SELECT '\x010000000000000017000000ffffff0f0100000041414141'::bytea $$;
	CREATE FUNCTION NAME_fb(s bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT length(s)::text $$;
	CREATE AGGREGATE NAME_agg(int) (SFUNC = NAME_sb, STYPE = bytea, INITCOND = '', FINALFUNC = NAME_fb);};
my $as_array = q{CREATE FUNCTION NAME_si(s int[], x int) RETURNS int[] LANGUAGE sql IMMUTABLE AS $$ SELECT s || x $$;
	CREATE FUNCTION NAME_fi(s int[]) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT (SELECT string_agg(x::text, ' ' ORDER BY x) FROM unnest(s) x) $$;
	CREATE OR REPLACE AGGREGATE NAME_agg(int) (SFUNC = NAME_si, STYPE = int[], INITCOND = '{}', FINALFUNC = NAME_fi);};

for my $mode (qw(append_only changes))
{
	promise "aggregate_replaced_by_one_with_another_state_fails_and_a_resync_mends_in_$mode" => sub {
		my $name = "state_$mode";

		alice($as_bytes =~ s/NAME/$name/gr);
		pipeline($name, "SELECT k, ${name}_agg(id) AS a FROM s_$name GROUP BY k", "source_mode => '$mode'");
		alice($as_array =~ s/NAME/$name/gr);
		# one that takes rows back is rebuilt by itself
		fails($name, qr/(?:aggregate|function) (alice\.)?${name}_agg\(integer\) (?:is not what the state|has been replaced or altered)/, 'resync_pipeline') if $mode ne 'changes';
		mended($name, $mode eq 'changes' ? "CALL beam.wait_for('$name')" : "SELECT beam.resync_pipeline('$name')");
		no_crash();
	};
}

promise 'aggregate_replaced_while_the_pipeline_is_paused_is_noticed' => sub {
	alice($as_bytes =~ s/NAME/paused/gr);
	pipeline('paused', 'SELECT k, paused_agg(id) AS a FROM s_paused GROUP BY k', q{source_mode => 'append_only'});
	alice(q{SELECT beam.pause_pipeline('paused')});
	alice(($as_array =~ s/NAME/paused/gr) . rows_into('paused', 21));
	alice(q{SELECT beam.resume_pipeline('paused')});
	fails('paused', qr/aggregate (alice\.)?paused_agg\(integer\) is not what the state/, 'resync_pipeline');
	mended('paused', q{SELECT beam.resync_pipeline('paused')});
	no_crash();
};

my $plus = q{CREATE FUNCTION NAME_plus(s int8, x int) RETURNS int8 LANGUAGE sql IMMUTABLE AS $$ SELECT s + x $$;
	CREATE FUNCTION NAME_times(s int8, x int) RETURNS int8 LANGUAGE sql IMMUTABLE AS $$ SELECT (s * 3 + x) % 1000 $$;
	CREATE FUNCTION NAME_minus(s int8, x int) RETURNS int8 LANGUAGE sql IMMUTABLE AS $$ SELECT s - x $$;
	CREATE AGGREGATE NAME_agg(int) (SFUNC = NAME_plus, STYPE = int8, INITCOND = '0');};
my %replaced = (
	transition_function => q{SFUNC = NAME_minus, STYPE = int8, INITCOND = '0'},
	initial_value => q{SFUNC = NAME_plus, STYPE = int8, INITCOND = '5'},
	inverse => q{SFUNC = NAME_plus, STYPE = int8, INITCOND = '0', MSFUNC = NAME_plus, MINVFUNC = NAME_minus, MSTYPE = int8, MINITCOND = '0'});

for my $what (sort keys %replaced)
{
	promise "aggregate_replaced_by_one_with_another_${what}_fails_and_a_resync_mends" => sub {
		alice($plus =~ s/NAME/$what/gr);
		pipeline($what, "SELECT k, ${what}_agg(id) AS a FROM s_$what GROUP BY k", q{source_mode => 'append_only'});
		alice("CREATE OR REPLACE AGGREGATE ${what}_agg(int) (" . ($replaced{$what} =~ s/NAME/$what/gr) . ')');
		fails($what, qr/(?:aggregate|function) (alice\.)?${what}_agg\(integer\) (?:is not what the state|has been replaced or altered)/, 'resync_pipeline');
		mended($what, "SELECT beam.resync_pipeline('$what')");
	};
}

# It cannot go while the batch view is there. With that gone, the query is to be given anew.
promise 'aggregate_dropped_and_made_anew_with_another_state' => sub {
	alice($as_bytes =~ s/NAME/anew/gr);
	pipeline('anew', 'SELECT k, anew_agg(id) AS a FROM s_anew GROUP BY k', q{source_mode => 'append_only'});
	refuses($node, 'DROP AGGREGATE alice.anew_agg(int)', qr/other objects depend on it/, 'it is not dropped alone');
	alice('DROP AGGREGATE anew_agg(int) CASCADE; ' . ($as_array =~ s/NAME/anew/gr) . rows_into('anew', 21));
	fails('anew', qr/batch view.*(gone|dropped|does not exist)|has been (replaced|dropped)/, 'resume_pipeline');
	my ($rc, $out, $err) = $node->psql('postgres', q{SELECT beam.resync_pipeline('anew')});
	like($err, qr/alter_pipeline/, 'a resync says what to call instead');
	mended('anew', q{SELECT beam.alter_pipeline('anew', 'SELECT k, anew_agg(id) AS a FROM s_anew GROUP BY k', source_mode => 'append_only'); CALL beam.wait_for_alter('anew', '20 s')});
	no_crash();
};

# ---- composite types ------------------------------------------------------------------------------------------------------------

# An aggregate whose state is such a type, one that keeps its inputs, a group key, elements of a session, a row of a retracting result
my %composites = (
	state => { query => q{SELECT k, NAME_agg(id) AS a FROM s_NAME GROUP BY k}, subject => 'aggregate (alice\.)?NAME_agg\(integer\)', mode => 'append_only' },
	elements => { query => q{SELECT w.window_start, w.window_end, k, NAME_most(ROW(id, id)::NAME_type) AS a FROM s_NAME, beam.session(ts, '15 s') w GROUP BY 1, 2, 3},
		subject => 'aggregate (alice\.)?NAME_most\((alice\.)?NAME_type\)' },
	bag => { query => q{SELECT k, NAME_most(ROW(id, id)::NAME_type) AS a FROM s_NAME GROUP BY k}, subject => 'aggregate (alice\.)?NAME_most\((alice\.)?NAME_type\)' },
	array => { query => q{SELECT k, count(DISTINCT ARRAY[ROW(id, id)::NAME_type]) AS a FROM s_NAME GROUP BY k}, subject => 'aggregate count\("?any"?\)' },
	key => { query => q{SELECT ROW(k, k)::NAME_type AS k, count(*) AS n FROM s_NAME GROUP BY 1}, subject => 'group key 1 \(type (alice\.)?NAME_type\)' },
	key_of_a_session => { query => q{SELECT w.window_start, w.window_end, ROW(k, k)::NAME_type AS c, count(*) AS n FROM s_NAME, beam.session(ts, '15 s') w
		GROUP BY 1, 2, 3}, subject => 'group key 1 \(type (alice\.)?NAME_type\)' },
	row => { query => q{SELECT w.window_start, w.window_end, k, (array_agg(ROW(id, id)::NAME_type ORDER BY id))[1] AS c FROM s_NAME, beam.tumble(ts, '1 minute') w GROUP BY 1, 2, 3},
		subject => '(aggregate array_agg\(anynonarray\)|result column "c" \(type (alice\.)?NAME_type\))', accumulation => 'retracting' });
my %alterations = (
	add => 'ALTER TYPE NAME_type ADD ATTRIBUTE c numeric',
	drop => 'ALTER TYPE NAME_type DROP ATTRIBUTE b',
	retype => 'ALTER TYPE NAME_type ALTER ATTRIBUTE b TYPE text');

for my $kind (sort keys %composites)
{
	for my $alteration (sort keys %alterations)
	{
		my $name = "c_${kind}_$alteration";
		my $composite = $composites{$kind};

		# of a type that a view or a column has PostgreSQL lets attributes come and go only
		next if $kind ne 'state' && $alteration eq 'retype';
		my $outcome = ($composite->{mode} // 'changes') eq 'changes' ? 'is_rebuilt' : 'fails_and_a_resync_mends';

		promise "composite_as_${kind}_that_is_altered_by_${alteration}_$outcome" => sub {
			my $accumulation = $composite->{accumulation} // 'accumulating';
			my $mode = $composite->{mode} // 'changes';
			my $query = $composite->{query} =~ s/NAME/$name/gr;
			my $subject = $composite->{subject} =~ s/NAME/$name/gr;

			alice(q{CREATE TYPE NAME_type AS (a int, b int);
				CREATE FUNCTION NAME_step(s NAME_type, x int) RETURNS NAME_type LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN s.a := coalesce(s.a, 0) + x; RETURN s; END $$;
				CREATE FUNCTION NAME_final(s NAME_type) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT s.a::text $$;
				CREATE FUNCTION NAME_more(s text, x NAME_type) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN greatest(s, x.a::text); END $$;
				CREATE AGGREGATE NAME_agg(int) (SFUNC = NAME_step, STYPE = NAME_type, FINALFUNC = NAME_final);
				CREATE AGGREGATE NAME_most(NAME_type) (SFUNC = NAME_more, STYPE = text);} =~ s/NAME/$name/gr);
			pipeline($name, $query, "accumulation => '$accumulation', source_mode => '$mode', allowed_lateness => '10000 days'");
			alice($alterations{$alteration} =~ s/NAME/$name/gr);
			# by the type where something computes with it, by what holds its bytes where nothing does
			my $reason = qr/$subject is not what the state of pipeline "$name" was written with|^type alice\.${name}_type has been replaced or altered$/;
			fails($name, qr/$reason|type alice\.${name}_type has been replaced or altered/, 'resync_pipeline') if $mode ne 'changes';
			alice(rows_into($name, 21) . ($mode eq 'changes' ? "DELETE FROM s_$name WHERE id IN (2, 21)" : ''));
			alice("SELECT beam.resync_pipeline('$name')") if $mode ne 'changes';
			wait_for($node, $name);
			like(admin("SELECT reason FROM beam.pipeline_versions WHERE name = '$name' AND stage = 'current' AND version > 1"),
				$mode eq 'changes' ? $reason : qr/resync_pipeline/, 'it is another version, for that reason');
			is(admin("SELECT count(*) FROM beam.verify('$name')"), 0, "$name is right again");
			alice(rows_into($name, 101));
			wait_for($node, $name);
			is(admin("SELECT count(*) FROM beam.verify('$name')"), 0, "$name is right with more rows");
		};
	}
}
no_crash();

# ---- columns of a source --------------------------------------------------------------------------------------------------------

promise 'column_of_a_source_keeps_its_type_where_the_query_uses_it_and_others_are_free' => sub {
	pipeline('retyped_source', 'SELECT k, sum(v) AS a, count(*) AS n FROM s_retyped_source GROUP BY k');
	refuses($node, 'ALTER TABLE alice.s_retyped_source ALTER v TYPE float8', qr/cannot alter type of a column used by a view/, 'a column that is used');
	# in one go with rows of before and after, and one whose place comes before those that are used
	alice(q{BEGIN; } . rows_into('retyped_source', 21) . q{ALTER TABLE s_retyped_source ALTER id TYPE text; ALTER TABLE s_retyped_source ALTER f TYPE numeric;
		INSERT INTO s_retyped_source VALUES ('a', now(), 1, 7, 3); COMMIT;
		DELETE FROM s_retyped_source WHERE id = '3'; ALTER TABLE s_retyped_source DROP f; UPDATE s_retyped_source SET k = 2 WHERE id = '4'});
	equal_to_batch($node, 'retyped_source', 'it goes on, and is right');
	no_crash();
};

no_crash();
done_testing();
