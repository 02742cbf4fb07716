# Attacks by what hangs on the result of a pipeline: checks, defaults, triggers, rules, indexes, policies, statistics, other tables.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;
use SbAttack;

my $node = attack_server('attacks_results');

hang_on_tables();

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
		[ 'alter_and_rollback', "SELECT beam.alter_pipeline('p_$name', \$q\$" . query_over($name, '(e.k + 1)') . "\$q\$); CALL beam.wait_for_alter('p_$name', '5 s');
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

nothing_is_broken();
done_testing();
