# Sums of floats that rows are added to and taken out of ten million times say what they said at first, to the last bit.
use strict;
use warnings;
use Test::More;
use SbTest;

my $node = new_node('drift');
my $rows = 10000;
my $rounds = 500; # each an UPDATE of every row: one value goes, another comes

promise 'ten_million_cancelling_changes_do_not_drift' => sub {
	$node->safe_psql('postgres', qq{CREATE TABLE f (id int, x float8, y float4) WITH (fillfactor = 40);
		ALTER TABLE f REPLICA IDENTITY FULL;
		SELECT beam.create_pipeline('sums', 'SELECT id % 10 AS k, sum(x) AS sx, avg(x) AS ax, sum(y) AS sy, count(*) AS n FROM f GROUP BY 1');
		INSERT INTO f SELECT i, i, i FROM generate_series(1, $rows) i});
	wait_for($node, 'sums');
	my $was = $node->safe_psql('postgres', 'SELECT * FROM sums ORDER BY k');

	# values of all sizes, whose own sums round at every step
	$node->safe_psql('postgres', qq{DO \$\$ BEGIN
		FOR r IN 1 .. $rounds - 1 LOOP
			UPDATE f SET x = (CASE WHEN (id + r) % 2 = 0 THEN 1 ELSE -1 END) * power(10.0::float8, (id * 7 + r) % 36 - 18) / 3, y = power(10.0, (id + r) % 12 - 6) / 7;
			COMMIT;
		END LOOP;
		UPDATE f SET x = id, y = id;
	END \$\$}, timeout => 600);
	wait_for($node, 'sums');
	is($node->safe_psql('postgres', 'SELECT * FROM sums ORDER BY k'), $was, 'after all of them the sums are as they were');
	is($node->safe_psql('postgres', q{SELECT rows_in FROM beam.stat_pipelines WHERE name = 'sums'}), $rows + $rows * $rounds, 'each change has come in');
};

$node->stop;
done_testing();
