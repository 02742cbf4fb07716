# Attacks by what hangs on tables: checks, defaults, triggers, rules, indexes, policies and statistics of a result or a source; by what a function
# leaves behind in a worker; and by what belongs to whom.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;
use SbAttack;

my $node = attack_server('attacks_tables');

admin('GRANT alice TO bob');
wait_as('alice', evil_function('alice.f', 'int', 'int', '$1') . evil_function('alice.yes', 'int', 'boolean', 'true') . evil_function('alice.v', '', 'int', '1', 'alice', 'code', 'VOLATILE')
  . evil_function('alice.in_index', 'int', 'int', '$1', 'alice', 'code', 'IMMUTABLE', 'act_in_index') . evil_function('alice.any_yes', 'anyelement', 'boolean', 'true') . q{
	CREATE DOMAIN alice.small AS int CHECK (alice.yes(VALUE));
	CREATE DOMAIN alice.big AS int8 CHECK (alice.any_yes(VALUE));
	CREATE FUNCTION alice.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM evil.act('code', 'alice'); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END$$;
	CREATE TABLE alice.notes (k int);
	CREATE TABLE alice.deferred (k int);
	CREATE CONSTRAINT TRIGGER late AFTER INSERT ON alice.deferred DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.fires();
});
wait_as('mallory', q{CREATE FUNCTION mallory.fires() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM evil.act('code', 'mallory,alice'); RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END; END$$;});

sub make_table
{
	my ($name) = @_;

	wait_as('alice', "CREATE TABLE alice.s_$name (id int, ts timestamptz, k int); ALTER TABLE alice.s_$name REPLICA IDENTITY FULL;");
}

sub query_of
{
	my ($name, $key) = @_;

	$key //= 'e.k';
	return "SELECT w.window_start, w.window_end, $key AS k, count(*) AS n, sum(e.id) AS s FROM alice.s_$name e, beam.tumble(e.ts, '1 minute') w GROUP BY w.window_start, w.window_end, $key";
}

sub make_pipeline
{
	my ($name, $key) = @_;

	return strike('alice', "SELECT beam.create_pipeline('alice.p_$name', \$q\$" . query_of($name, $key) . "\$q\$, watermark => '0 s', allowed_lateness => '10000 days', idle_timeout => NULL)");
}

sub rows_into
{
	my ($name, $from) = @_;

	return "INSERT INTO alice.s_$name SELECT i, '2026-01-01'::timestamptz + i * interval '3 s', i % 3 FROM generate_series($from, $from + 19) i;";
}

# ---- on a result ----------------------------------------------------------------------------------------------------------------

# RESULT: the result table. ran: whether it has to run in a worker
my %on_result = (
	check => { sql => 'ALTER TABLE RESULT ADD CHECK (alice.yes(k))', ran => 1 },
	check_of_a_constant => { sql => 'ALTER TABLE RESULT ADD CHECK (alice.yes(1))', ran => 0 },
	default => { sql => 'ALTER TABLE RESULT ADD COLUMN more int; ALTER TABLE RESULT ALTER COLUMN more SET DEFAULT alice.v()', ran => 0 },
	default_of_an_identity_of_ours => { sql => 'ALTER TABLE RESULT ADD COLUMN more int; ALTER TABLE RESULT ALTER COLUMN more SET DEFAULT alice.f(alice.v())', ran => 0 },
	generated_column => { sql => 'ALTER TABLE RESULT ADD COLUMN more int GENERATED ALWAYS AS (alice.f(k)) STORED', ran => 1 },
	trigger_before => { sql => 'CREATE TRIGGER fires BEFORE INSERT OR UPDATE OR DELETE ON RESULT FOR EACH ROW EXECUTE FUNCTION alice.fires()', ran => 1 },
	trigger_after => { sql => 'CREATE TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON RESULT FOR EACH ROW EXECUTE FUNCTION alice.fires()', ran => 1 },
	trigger_of_a_statement => { sql => 'CREATE TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON RESULT EXECUTE FUNCTION alice.fires()', ran => 0 },
	trigger_of_truncate => { sql => 'CREATE TRIGGER fires BEFORE TRUNCATE ON RESULT EXECUTE FUNCTION alice.fires()', ran => 0 },
	condition_of_a_trigger => { sql => 'CREATE TRIGGER fires BEFORE INSERT OR UPDATE ON RESULT FOR EACH ROW WHEN (alice.yes(NEW.k)) EXECUTE FUNCTION alice.fires()', ran => 1 },
	trigger_always => { sql => 'CREATE TRIGGER fires AFTER INSERT OR UPDATE ON RESULT FOR EACH ROW EXECUTE FUNCTION alice.fires(); ALTER TABLE RESULT ENABLE ALWAYS TRIGGER fires', ran => 1 },
	deferred_trigger => { sql => 'CREATE CONSTRAINT TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON RESULT DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.fires()', ran => 0 },
	deferrable_trigger => { sql => 'CREATE CONSTRAINT TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON RESULT DEFERRABLE FOR EACH ROW EXECUTE FUNCTION alice.fires()', ran => 1 },
	trigger_that_writes_where_one_is_deferred => { sql => q{CREATE FUNCTION alice.writes_NAME() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.deferred VALUES (1); RETURN NEW; END$$;
		CREATE TRIGGER fires AFTER INSERT OR UPDATE ON RESULT FOR EACH ROW EXECUTE FUNCTION alice.writes_NAME()}, ran => 0 },
	rule => { sql => 'CREATE RULE more AS ON INSERT TO RESULT DO ALSO INSERT INTO alice.notes SELECT alice.f(NEW.k)', ran => 0 },
	rule_of_an_update => { sql => 'CREATE RULE more AS ON UPDATE TO RESULT DO ALSO INSERT INTO alice.notes SELECT alice.f(NEW.k)', ran => 0 },
	rule_instead_of_delete => { sql => 'CREATE RULE more AS ON DELETE TO RESULT DO INSTEAD INSERT INTO alice.notes SELECT alice.f(OLD.k)', ran => 0 },
	index_expression => { sql => 'CREATE INDEX ON RESULT (alice.f(k))', ran => 1 },
	index_predicate => { sql => 'CREATE INDEX ON RESULT (k) WHERE alice.yes(k)', ran => 1 },
	predicate_of_a_constant => { sql => 'CREATE INDEX ON RESULT (k) WHERE alice.yes(1)', ran => 0 },
	unique_index_expression => { sql => 'CREATE UNIQUE INDEX ON RESULT (window_start, window_end, k, alice.f(k))', ran => 1 },
	exclusion_constraint => { sql => 'ALTER TABLE RESULT ADD EXCLUDE USING btree ((alice.f(k)) WITH =, window_start WITH =, k WITH =)', ran => 1 },
	deferred_exclusion_constraint => { sql => 'ALTER TABLE RESULT ADD EXCLUDE USING btree ((alice.f(k)) WITH =, window_start WITH =, k WITH =) DEFERRABLE INITIALLY DEFERRED', ran => 0 },
	statistics => { sql => 'CREATE STATISTICS alice.st_NAME ON (alice.f(1) + k) FROM RESULT; ANALYZE RESULT', ran => 0 },
	domain => { sql => 'ALTER TABLE RESULT ALTER COLUMN k TYPE alice.small', ran => 0 },
	domain_over_an_aggregate => { sql => 'ALTER TABLE RESULT ALTER COLUMN n TYPE alice.big', ran => 0 },
	row_level_security => { sql => 'CREATE POLICY mine ON RESULT USING (alice.yes(k)) WITH CHECK (alice.yes(k)); ALTER TABLE RESULT ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', ran => 0 },
	foreign_key_with_a_trigger => { sql => 'CREATE TABLE alice.keys_NAME (k int PRIMARY KEY); INSERT INTO alice.keys_NAME SELECT generate_series(-10, 10);
		CREATE TRIGGER fires BEFORE UPDATE ON alice.keys_NAME FOR EACH ROW EXECUTE FUNCTION alice.fires();
		ALTER TABLE RESULT ADD FOREIGN KEY (k) REFERENCES alice.keys_NAME DEFERRABLE INITIALLY DEFERRED', ran => 0 },
	child_table => { sql => 'CREATE TABLE alice.child_NAME (CHECK (alice.yes(k))) INHERITS (RESULT); CREATE INDEX ON alice.child_NAME (k) WHERE alice.yes(1)', ran => 0 },
	child_table_of_another => { sql => 'ALTER TABLE RESULT ADD UNIQUE (window_start, window_end, k); GRANT REFERENCES ON RESULT TO mallory', ran => 0,
		mallory => 'CREATE TABLE mallory.child_NAME (a timestamptz, b timestamptz, c int, FOREIGN KEY (a, b, c) REFERENCES RESULT (window_start, window_end, k) ON DELETE CASCADE ON UPDATE CASCADE DEFERRABLE INITIALLY DEFERRED);
			CREATE TRIGGER fires AFTER UPDATE OR DELETE ON mallory.child_NAME FOR EACH STATEMENT EXECUTE FUNCTION mallory.fires()' },
	batch_view_with_a_rule => { sql => 'CREATE RULE more AS ON INSERT TO RESULT_batch DO INSTEAD INSERT INTO alice.notes SELECT alice.f(NEW.k)', ran => 0 },
);

for my $kind (sort keys %on_result)
{
	my $name = "r_$kind";
	my $result = "alice.p_$name";
	my $attack = $on_result{$kind};
	my $change = sub { my $sql = $_[0]; $sql =~ s/RESULT/$result/g; $sql =~ s/NAME/$name/g; return $sql };

	make_table($name);
	make_pipeline($name);
	wait_as('alice', rows_into($name, 1));
	settle("p_$name");
	my $said = strike('alice', $change->($attack->{sql}));
	unlike($said, qr/ERROR/, "${kind}_on_a_result: made");
	strike('mallory', $change->($attack->{mallory})) if $attack->{mallory};
	forget();
	# those that add keys, change rows, and take rows away
	wait_as('alice', rows_into($name, 11) . "UPDATE alice.s_$name SET k = -1 WHERE id = 3; DELETE FROM alice.s_$name WHERE k = 2");
	settle("p_$name");
	($attack->{ran} ? \&harmless_and_ran : \&harmless)->("${kind}_on_a_result_in_a_worker_runs_as_the_owner");
	for (([ 'verify', "SELECT * FROM beam.verify('p_$name')" ], [ 'explain_and_test_stream', "SELECT * FROM beam.explain_pipeline('p_$name'); SELECT * FROM beam.test_stream('p_$name', '[{\"rows\": [{\"k\": 1}]}, \"end\"]')" ],
		[ 'backfill', "CALL beam.backfill('p_$name')" ],
		[ 'alter_and_rollback', "SELECT beam.alter_pipeline('p_$name', \$q\$" . query_of($name, '(e.k + 1)') . "\$q\$); CALL beam.wait_for_alter('p_$name', '5 s');
			SELECT beam.rollback_pipeline('p_$name'); CALL beam.wait_for_alter('p_$name', '5 s')" ],
		[ 'resync_pipeline', "SELECT beam.resync_pipeline('p_$name'); CALL beam.wait_for('p_$name', '5 s')" ]))
	{
		my ($entry, $sql) = @$_;

		# so that there is something to mend
		strike('alice', "UPDATE alice.p_$name SET s = 0 WHERE k = 1") if $entry eq 'backfill';
		strike(superuser(), $sql);
		settle('honest') unless $entry =~ /^(verify|explain)/;
		harmless("${kind}_on_a_result_in_${entry}_that_a_superuser_calls_runs_as_the_owner");
	}
	wait_as('alice', "TRUNCATE alice.s_$name");
	settle("p_$name");
	harmless("${kind}_on_a_result_when_the_source_is_truncated_runs_as_the_owner");
	strike(superuser(), "SELECT beam.drop_pipeline('p_$name')");
	settle('honest');
	harmless("${kind}_on_a_result_in_drop_pipeline_runs_as_the_owner");
	strike('alice', "DROP TABLE alice.s_$name CASCADE");
}

# ---- on a source ----------------------------------------------------------------------------------------------------------------

# SOURCE: the table, and its partition PART where the query is over a partitioned one
my %on_source = (
	index_expression => { sql => 'CREATE INDEX ON SOURCE (alice.f(k)); CREATE INDEX ON SOURCE (ts, alice.f(k))' },
	index_expression_of_a_constant => { sql => 'CREATE INDEX ON SOURCE (ts, (alice.f(1) + k))' },
	index_predicate => { sql => 'CREATE INDEX ON SOURCE (ts) WHERE alice.yes(k)' },
	index_predicate_of_a_constant => { sql => 'CREATE INDEX ON SOURCE (ts) WHERE alice.yes(1)' },
	primary_key_beside_a_predicate => { sql => 'ALTER TABLE SOURCE ADD PRIMARY KEY (id); CREATE UNIQUE INDEX ON SOURCE (id) WHERE alice.yes(2)' },
	check => { sql => 'ALTER TABLE SOURCE ADD CHECK (alice.yes(k))' },
	check_of_a_constant => { sql => 'ALTER TABLE SOURCE ADD CHECK (alice.yes(1))' },
	default => { sql => 'ALTER TABLE SOURCE ADD COLUMN more int DEFAULT alice.f(1)' },
	generated_column => { sql => 'ALTER TABLE SOURCE ADD COLUMN more int GENERATED ALWAYS AS (alice.f(k)) STORED', key => 'e.more' },
	domain => { sql => 'ALTER TABLE SOURCE ALTER COLUMN k TYPE alice.small' },
	domain_with_a_default => { sql => 'ALTER TABLE SOURCE ADD COLUMN more alice.small DEFAULT 1', key => 'e.more' },
	trigger => { sql => 'CREATE TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON SOURCE FOR EACH ROW EXECUTE FUNCTION alice.fires()' },
	deferred_trigger => { sql => 'CREATE CONSTRAINT TRIGGER fires AFTER INSERT OR UPDATE OR DELETE ON SOURCE DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION alice.fires()' },
	trigger_of_truncate => { sql => 'CREATE TRIGGER fires BEFORE TRUNCATE ON SOURCE EXECUTE FUNCTION alice.fires()' },
	rule => { sql => 'CREATE RULE more AS ON UPDATE TO SOURCE DO ALSO INSERT INTO alice.notes SELECT alice.f(NEW.k)' },
	statistics => { sql => 'CREATE STATISTICS alice.st_NAME ON (alice.f(k)) FROM SOURCE' },
	statistics_of_a_constant => { sql => 'CREATE STATISTICS alice.st_NAME ON (alice.f(1) + k) FROM SOURCE' },
	row_level_security => { sql => 'CREATE POLICY mine ON SOURCE USING (alice.yes(k)); ALTER TABLE SOURCE ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY' },
	row_level_security_that_is_switched_on_later => { sql => 'CREATE POLICY mine ON SOURCE USING (alice.yes(k))', later => 'ALTER TABLE SOURCE ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY' },
	index_that_is_made_later => { sql => '', later => 'CREATE INDEX ON SOURCE (ts) WHERE alice.yes(1); CREATE INDEX ON SOURCE (ts, (alice.f(1) + k)); CREATE STATISTICS alice.st_NAME ON (alice.f(1) + k) FROM SOURCE' },
	partition_key => { partitioned => 'RANGE (alice.f(k))', sql => 'CREATE TABLE PART PARTITION OF SOURCE FOR VALUES FROM (-100) TO (100); ALTER TABLE PART REPLICA IDENTITY FULL' },
	check_of_a_partition => { partitioned => 'RANGE (k)', sql => 'CREATE TABLE PART PARTITION OF SOURCE (CHECK (alice.yes(1)), CHECK (alice.yes(k))) FOR VALUES FROM (-100) TO (100); ALTER TABLE PART REPLICA IDENTITY FULL' },
	index_of_a_partition => { partitioned => 'RANGE (k)', sql => 'CREATE TABLE PART PARTITION OF SOURCE FOR VALUES FROM (-100) TO (100); ALTER TABLE PART REPLICA IDENTITY FULL;
		CREATE INDEX ON PART (ts) WHERE alice.yes(1); CREATE STATISTICS alice.st_NAME ON (alice.f(1) + k) FROM PART' },
	partition_that_is_attached_later => { partitioned => 'RANGE (k)', sql => 'CREATE TABLE PART PARTITION OF SOURCE FOR VALUES FROM (-100) TO (100); ALTER TABLE PART REPLICA IDENTITY FULL',
		later => q{CREATE TABLE PART_b (LIKE SOURCE, CHECK (alice.yes(1)), CHECK (alice.yes(k))); ALTER TABLE PART_b REPLICA IDENTITY FULL; CREATE INDEX ON PART_b (ts) WHERE alice.yes(1);
			INSERT INTO PART_b VALUES (1, '2026-01-01', 200); ALTER TABLE SOURCE ATTACH PARTITION PART_b FOR VALUES FROM (100) TO (300); TRUNCATE PART_b} },
);

for my $kind (sort keys %on_source)
{
	my $name = "s_$kind";
	my $attack = $on_source{$kind};
	my $change = sub { my $sql = $_[0]; $sql =~ s/SOURCE/alice.s_$name/g; $sql =~ s/PART(?!ITION)/alice.part_$name/g; $sql =~ s/NAME/$name/g; return $sql };

	wait_as('alice', "CREATE TABLE alice.s_$name (id int, ts timestamptz, k int) " . ($attack->{partitioned} ? "PARTITION BY $attack->{partitioned}" : '') . "; ALTER TABLE alice.s_$name REPLICA IDENTITY FULL");
	my $said = strike('alice', $change->($attack->{sql}));
	unlike($said, qr/ERROR/, "${kind}_on_a_source: made");
	strike('alice', "INSERT INTO alice.s_$name SELECT i, '2026-01-01'::timestamptz + i * interval '3 s', i % 3 FROM generate_series(1, 20) i");
	forget();
	make_pipeline($name, $attack->{key});
	settle('honest');
	settle("p_$name") if state_of("p_$name") ne '';
	harmless("${kind}_on_a_source_in_create_pipeline_and_the_history_runs_as_the_owner");
	strike('alice', rows_into($name, 21) . "UPDATE alice.s_$name SET k = 4 WHERE id = 3; DELETE FROM alice.s_$name WHERE id = 4");
	strike('alice', $change->($attack->{later})) if $attack->{later};
	settle('honest');
	settle("p_$name") if state_of("p_$name") ne '';
	harmless("${kind}_on_a_source_in_a_worker_runs_as_the_owner");
	for (([ 'verify', "SELECT * FROM beam.verify('p_$name'); SELECT * FROM beam.verify('p_$name', '2026-01-01', '2026-01-02')" ],
		[ 'explain_and_test_stream', "SELECT * FROM beam.explain_pipeline('p_$name'); SELECT * FROM beam.test_stream('p_$name', '[{\"rows\": [{\"id\": 1, \"ts\": \"2026-01-01\", \"k\": 1}]}, \"end\"]')" ],
		[ 'backfill', "CALL beam.backfill('p_$name'); CALL beam.backfill('p_$name', '2026-01-01', '2026-01-02')" ],
		[ 'alter_pipeline', "SELECT beam.alter_pipeline('p_$name', \$q\$" . query_of($name, '(e.k + 1)') . "\$q\$); CALL beam.wait_for_alter('p_$name', '5 s')" ],
		[ 'resync_pipeline', "SELECT beam.resync_pipeline('p_$name'); CALL beam.wait_for('p_$name', '5 s')" ]))
	{
		my ($entry, $sql) = @$_;

		strike(superuser(), $sql);
		settle('honest') unless $entry =~ /^(verify|explain)/;
		harmless("${kind}_on_a_source_in_${entry}_that_a_superuser_calls_runs_as_the_owner");
	}
	strike('alice', "TRUNCATE alice.s_$name");
	settle('honest');
	harmless("${kind}_on_a_source_in_truncate_runs_as_the_owner");
	strike('alice', "DROP TABLE alice.s_$name CASCADE");
	strike(superuser(), "SELECT beam.drop_pipeline('p_$name')");
	settle('honest');
	harmless("${kind}_on_a_source_when_it_is_dropped_runs_as_the_owner");
}

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
wait_as('alice', q{CREATE OR REPLACE VIEW alice.p_o_view_batch AS } . query_of('o_view', 'alice.f(e.k)'));
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
wait_as('alice', q{CREATE OR REPLACE VIEW alice.p_o_auto_batch AS } . query_of('o_auto', 'alice.f(e.k)') . q{; ALTER TABLE alice.s_o_auto ATTACH PARTITION alice.part_o FOR VALUES FROM (0) TO (9)});
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
	strike('bob', "SELECT beam.resume_pipeline('p_$name')");
	strike('alice', rows_into($name, 41));
	settle("p_$name");
	harmless_and_ran("${how}_and_resume_pipeline_run_it_as_the_new_owner");
	is(state_of("p_$name"), 'running', "${how}: the new owner has resumed it");
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
wait_as('bob', q{CREATE OR REPLACE VIEW alice.p_g_view_batch AS } . query_of('g_view', 'bob.g(e.k)')) if wait_as('bob', evil_function('bob.g', 'int', 'int', '$1', 'bob') . 'SELECT 1');
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
