# Attacks by what a function leaves behind in a worker or in the session of who calls something, and by what belongs to whom.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;
use SbAttack;

my $node = attack_server('attacks_owners');

hang_on_tables();

# ---- what a function leaves behind ----------------------------------------------------------------------------------------------

# What a function does in a worker, or in the session of a superuser who calls something for the pipeline, that would take effect when the owner's rights
# are no longer in force
my %left = (
	deferred_trigger => q{INSERT INTO alice.deferred VALUES (1)},
	constraints_that_are_set_deferred => q{SET CONSTRAINTS ALL DEFERRED},
	cursor_with_hold => q{DECLARE c CURSOR WITH HOLD FOR SELECT alice.f(1)},
	temporary_table => q{CREATE TEMP TABLE pg_class (oid int DEFAULT alice.f(1)) ON COMMIT DROP},
	temporary_view => q{CREATE TEMP VIEW pg_attribute AS SELECT alice.f(1) AS attrelid},
	temporary_domain => q{CREATE DOMAIN pg_temp.text AS pg_catalog.text CHECK (alice.any_yes(VALUE))},
	temporary_table_with_a_deferred_trigger => q{CREATE TEMP TABLE x (a int); CREATE CONSTRAINT TRIGGER t AFTER INSERT ON x DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.fires(); INSERT INTO x VALUES (1)},
	search_path => q{SET search_path = alice, pg_catalog},
	search_path_of_the_transaction => q{SET LOCAL search_path = alice, pg_catalog},
	role => qq{SET ROLE ${\superuser()}},
	reset_of_the_role => q{RESET ROLE},
	session_authorization => qq{SET SESSION AUTHORIZATION ${\superuser()}},
	reset_of_everything => q{DISCARD ALL; RESET ALL; RESET SESSION AUTHORIZATION},
	right_to_be_superuser => q{ALTER ROLE alice SUPERUSER},
	listen => q{LISTEN x; NOTIFY x},
	prepared_statement => q{PREPARE p AS SELECT alice.f(1); EXECUTE p; DEALLOCATE ALL},
	end_of_the_transaction => q{COMMIT},
	abort_of_the_transaction => q{ROLLBACK},
	replica_role => q{SET session_replication_role = replica},
	event_trigger => q{CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION alice.fires()},
	function_of_another => q{CREATE OR REPLACE FUNCTION beam.check(OUT item text) RETURNS SETOF text LANGUAGE sql AS 'SELECT 1::text'},
	tables_of_the_extension => q{UPDATE beam.pipeline SET owner = 10},
	file => q{COPY (SELECT 1) TO PROGRAM 'true'},
	pipeline_within_a_pipeline => q{SELECT beam.create_pipeline('alice.inner', 'SELECT alice.f(k) AS x, count(*) AS n FROM alice.quiet GROUP BY 1')},
	pipeline_that_is_dropped_within => q{SELECT beam.drop_pipeline('p_l_pipeline_that_is_dropped_within')},
	owner_that_changes_within => q{ALTER TABLE alice.p_l_owner_that_changes_within OWNER TO bob},
	view_that_changes_within => q{CREATE OR REPLACE VIEW alice.notes_v AS SELECT alice.f(k) AS k FROM alice.notes},
);

# Minor releases of 2026 do not let a restricted operation make a type in pg_temp; what runs in a maintenance command is in one, as in our bracket.
# Before, the type stays until the session of a superuser ends whose call it was made in.
my ($failed) = $node->psql('postgres', q{CREATE FUNCTION evil.probe() RETURNS int LANGUAGE plpgsql AS $$BEGIN CREATE DOMAIN pg_temp.probe AS int; RETURN 1; END$$;
	CREATE MATERIALIZED VIEW evil.probed AS SELECT evil.probe() WITH NO DATA; REFRESH MATERIALIZED VIEW evil.probed}, on_error_stop => 1);
unless ($failed)
{
	note 'this minor release of PostgreSQL lets a function make types in the temporary schema of a session that calls it';
	delete $left{temporary_domain};
}
admin('DROP MATERIALIZED VIEW evil.probed; DROP FUNCTION evil.probe()');

for my $kind (sort keys %left)
{
	my $name = "l_$kind";

	wait_as('alice', "CREATE FUNCTION alice.do_$name() RETURNS void LANGUAGE plpgsql AS \$\$BEGIN " . join(' ', map { "EXECUTE \$s\$$_\$s\$;" } split /;\s*/, $left{$kind}) . " END\$\$;
		CREATE FUNCTION alice.leave_$name(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$BEGIN PERFORM alice.do_$name(); PERFORM evil.act('code', 'alice'); RETURN n;
			EXCEPTION WHEN insufficient_privilege THEN PERFORM evil.act('code', 'alice'); RETURN n; END\$\$");
	make_table($name);
	forget();
	make_pipeline($name, "alice.leave_$name(e.k)");
	settle('honest');
	wait_as('alice', rows_into($name, 1));
	settle('honest');
	settle("p_$name") if state_of("p_$name") ne '';
	wait_as('alice', "INSERT INTO alice.quiet VALUES (1000, '2026-01-01', 3)");
	settle('honest');
	harmless("${kind}_that_a_function_leaves_in_a_worker_runs_as_nobody_else");
	# in one transaction each, and something after it that would be taken in by it
	strike(superuser(), "BEGIN; SELECT * FROM beam.test_stream('p_$name', '[{\"rows\": [{\"id\": 1, \"ts\": \"2026-01-01\", \"k\": 1}]}, \"end\"]'); SELECT oid::regclass::text FROM pg_class LIMIT 1; COMMIT;
		BEGIN; SELECT * FROM beam.explain_pipeline('p_$name'); SELECT 'x'::text; COMMIT; BEGIN; SELECT * FROM beam.verify('p_$name'); SELECT 'x'::text; COMMIT; SELECT count(*) FROM pg_attribute");
	harmless("${kind}_that_a_function_leaves_in_a_session_of_a_superuser_runs_as_nobody_else");
	is(admin(q{SELECT count(*) FROM pg_class WHERE relpersistence = 't'}), 0, "${kind}: nothing temporary is left") if $kind =~ /temporary/;
	strike('alice', "SELECT beam.drop_pipeline('p_$name'); DROP TABLE alice.s_$name CASCADE");
	settle('honest');
}
is(admin(q{SELECT count(*) FROM pg_event_trigger}) . admin(q{SELECT count(*) FROM beam.pipelines WHERE owner = 10::oid::regrole::name}), '00', 'no_function_has_made_what_its_owner_may_not');

# ---- who owns what --------------------------------------------------------------------------------------------------------------

make_table('o_view');
wait_as('alice', rows_into('o_view', 1));
make_pipeline('o_view');
settle('p_o_view');
forget();
wait_as('alice', q{CREATE OR REPLACE VIEW alice.p_o_view_batch AS } . query_over('o_view', 'alice.f(e.k)'));
my $said = strike(superuser(), q{\set VERBOSITY verbose
SELECT beam.resync_pipeline('p_o_view')});
like($said, qr/55000/, 'replaced_batch_view_in_resync_pipeline_is_refused');
settle('honest');
harmless('replaced_batch_view_in_resync_pipeline_is_not_run');
for (([ 'verify', q{SELECT * FROM beam.verify('p_o_view')} ], [ 'explain_pipeline', q{SELECT * FROM beam.explain_pipeline('p_o_view')} ],
	[ 'test_stream', q{SELECT * FROM beam.test_stream('p_o_view', '[{"rows": [{"id": 1, "ts": "2026-01-01", "k": 1}]}, "end"]')} ],
	[ 'backfill', q{CALL beam.backfill('p_o_view')} ], [ 'alter_pipeline', q{SELECT beam.alter_pipeline('p_o_view', watermark => '1 s'); CALL beam.wait_for_alter('p_o_view', '5 s')} ],
	[ 'drop_pipeline', q{SELECT beam.drop_pipeline('p_o_view')} ]))
{
	strike(superuser(), $_->[1]);
	settle('honest');
	harmless("replaced_batch_view_in_$_->[0]_that_a_superuser_calls_runs_as_the_owner");
}

# The workers build it anew by themselves, as a partition with rows comes
wait_as('alice', q{CREATE TABLE alice.s_o_auto (id int, ts timestamptz, k int) PARTITION BY RANGE (k); CREATE TABLE alice.part_o (LIKE alice.s_o_auto); ALTER TABLE alice.part_o REPLICA IDENTITY FULL;
	ALTER TABLE alice.s_o_auto REPLICA IDENTITY FULL;
	INSERT INTO alice.part_o VALUES (1, '2026-01-01', 3)});
make_pipeline('o_auto');
settle('p_o_auto');
forget();
wait_as('alice', q{CREATE OR REPLACE VIEW alice.p_o_auto_batch AS } . query_over('o_auto', 'alice.f(e.k)') . q{; ALTER TABLE alice.s_o_auto ATTACH PARTITION alice.part_o FOR VALUES FROM (0) TO (9)});
settle('honest');
strike(superuser(), q{CALL beam.wait_for('p_o_auto', '3 s')});
is(state_of('p_o_auto'), 'failed', 'replaced_batch_view_in_a_rebuild_by_the_workers_is_not_the_definition');
harmless('replaced_batch_view_in_a_rebuild_by_the_workers_is_not_run_as_somebody_else');
strike('alice', q{SELECT beam.drop_pipeline('p_o_auto'); DROP TABLE alice.s_o_auto CASCADE});

# What a pipeline is given away with waits until the new owner agrees
sub given
{
	my ($name, $allowed) = @_;

	wait_as('alice', evil_function("alice.given_$name", 'int', 'int', '$1', $allowed));
	make_table($name);
	admin("GRANT SELECT ON alice.s_$name TO bob; GRANT USAGE, CREATE ON SCHEMA alice TO bob");
	make_pipeline($name, "alice.given_$name(e.k)");
	wait_as('alice', rows_into($name, 1));
	settle("p_$name");
	forget();
}

admin('REVOKE alice FROM bob');
for my $how (qw(alter_owner reassign_owned))
{
	my $name = "g_$how";

	given($name, 'alice');
	admin($how eq 'alter_owner' ? "ALTER TABLE alice.p_$name OWNER TO bob; ALTER VIEW alice.p_${name}_batch OWNER TO bob"
		: "ALTER TABLE alice.quiet OWNER TO ${\superuser()}; ALTER TABLE alice.honest OWNER TO ${\superuser()}; ALTER VIEW alice.honest_batch OWNER TO ${\superuser()};
			REASSIGN OWNED BY alice TO bob");
	if ($how eq 'reassign_owned')
	{
		# all is as before, but for the pipeline
		admin(q{REASSIGN OWNED BY bob TO alice; ALTER SCHEMA bob OWNER TO bob});
		admin("ALTER TABLE alice.honest OWNER TO alice; ALTER VIEW alice.honest_batch OWNER TO alice; ALTER TABLE alice.quiet OWNER TO alice;
			ALTER TABLE alice.p_$name OWNER TO bob; ALTER VIEW alice.p_${name}_batch OWNER TO bob; GRANT SELECT ON alice.s_$name TO bob");
		strike(superuser(), q{SELECT beam.resume_pipeline('honest')});
	}
	is(state_of("p_$name"), 'paused', "${how}_pauses_the_pipeline");
	is(admin("SELECT owner FROM beam.pipelines WHERE name = 'p_$name'"), 'bob', "${how}_gives_the_pipeline");
	strike('alice', rows_into($name, 21));
	settle('honest');
	harmless("${how}_does_not_run_the_old_owners_functions_as_the_new_one");
	like(strike('alice', "SELECT beam.resume_pipeline('p_$name')"), qr/ERROR/, "${how}_leaves_the_old_owner_no_right_to_resume");
	harmless("${how}_does_not_run_the_old_owners_functions_when_he_resumes_it");
	wait_as('alice', "CREATE OR REPLACE FUNCTION alice.given_$name(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS \$\$BEGIN PERFORM evil.act('code', 'bob'); RETURN \$1; END\$\$");
	# it is another function now: what it has computed is void, and it still waits for him
	is(state_of("p_$name"), 'needs_resync', "${how}_and_a_replaced_function_do_not_set_it_going");
	harmless("${how}_and_a_replaced_function_run_nothing");
	# a version is made beside the result; the schema has changed hands meanwhile
	admin('GRANT USAGE, CREATE ON SCHEMA alice TO bob');
	strike('bob', "SELECT beam.resync_pipeline('p_$name')");
	strike('alice', rows_into($name, 41));
	settle("p_$name");
	harmless_and_ran("${how}_and_resync_pipeline_run_it_as_the_new_owner");
	is(state_of("p_$name"), 'running', "${how}: the new owner has set it going");
	strike('bob', "SELECT beam.drop_pipeline('p_$name')");
}

given('g_apart', 'alice');
admin('ALTER TABLE alice.p_g_apart OWNER TO bob');
settle('honest');
strike('alice', rows_into('g_apart', 21));
$said = strike('bob', q{SELECT beam.resume_pipeline('p_g_apart')});
ok($said =~ /ERROR/ || do { settle('p_g_apart'); state_of('p_g_apart') eq 'failed' }, 'result_and_batch_view_of_two_owners_do_not_run');
harmless('result_and_batch_view_of_two_owners_run_nothing_as_the_new_one');
given('g_view', 'alice');
admin('ALTER VIEW alice.p_g_view_batch OWNER TO bob');
wait_as('bob', q{CREATE OR REPLACE VIEW alice.p_g_view_batch AS } . query_over('g_view', 'bob.g(e.k)')) if wait_as('bob', evil_function('bob.g', 'int', 'int', '$1', 'bob') . 'SELECT 1');
forget();
strike(superuser(), q{SELECT beam.resync_pipeline('p_g_view'); CALL beam.wait_for('p_g_view', '3 s')});
settle('honest');
harmless('batch_view_of_another_in_resync_pipeline_runs_nothing_as_the_owner');
strike(superuser(), q{SELECT * FROM beam.verify('p_g_view'); SELECT * FROM beam.explain_pipeline('p_g_view')});
harmless('batch_view_of_another_in_verify_and_explain_pipeline_runs_nothing_as_the_owner');
strike(superuser(), "SELECT beam.drop_pipeline('$_')") for qw(p_g_apart p_g_view);

# The owner of a database makes the schema first
admin('CREATE DATABASE mallorys OWNER mallory');
$node->safe_psql('mallorys', 'CREATE SCHEMA beam', extra_params => [ '-U', 'mallory' ]);
my ($rc, $out, $err) = $node->psql('mallorys', 'CREATE EXTENSION stream_beam');
isnt($rc, 0, 'schema_beam_of_another_in_create_extension_is_refused');
like($err, qr/schema "beam" belongs to another role/, 'schema_beam_of_another: the error says so');
$node->psql('mallorys', q{CREATE SCHEMA beam_state}, extra_params => [ '-U', 'mallory' ]);
$node->psql('mallorys', q{DROP SCHEMA IF EXISTS beam}, extra_params => [ '-U', 'mallory' ]);
($rc, $out, $err) = $node->psql('mallorys', 'CREATE EXTENSION stream_beam');
isnt($rc, 0, 'schema_beam_state_of_another_in_create_extension_is_refused');
$node->psql('mallorys', 'DROP EXTENSION IF EXISTS stream_beam CASCADE');
$node->psql('mallorys', 'DROP SCHEMA IF EXISTS beam_state, beam CASCADE');
# or takes it away later: the workers run nothing in it that is not the extension's
$node->psql('mallorys', 'CREATE EXTENSION stream_beam; CREATE TABLE public.t (k int)');
$node->psql('mallorys', q{ALTER SCHEMA beam RENAME TO beam_away}, extra_params => [ '-U', 'mallory' ]);
$node->psql('mallorys', q{ALTER SCHEMA beam OWNER TO mallory}, extra_params => [ '-U', 'mallory' ]);
is($node->safe_psql('mallorys', q{SELECT nspowner = 10 FROM pg_namespace WHERE nspname = 'beam'}), 't', 'owner_of_a_database_can_neither_rename_nor_take_the_schema');
$node->psql('mallorys', 'DROP EXTENSION stream_beam CASCADE');

nothing_is_broken();
done_testing();
