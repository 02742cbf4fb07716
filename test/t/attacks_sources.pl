# Attacks by what hangs on the source of a pipeline: indexes, checks, defaults, triggers, rules, policies, statistics, partitions.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;
use SbAttack;

my $node = attack_server('attacks_sources');

hang_on_tables();

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
		[ 'alter_pipeline', "SELECT beam.alter_pipeline('p_$name', \$q\$" . query_over($name, '(e.k + 1)') . "\$q\$); CALL beam.wait_for_alter('p_$name', '5 s')" ],
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

nothing_is_broken();
done_testing();
