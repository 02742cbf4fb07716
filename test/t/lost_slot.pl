# The WAL that a paused pipeline needs is taken away by max_slot_wal_keep_size: it fails and says so, and others can be made.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use PostgreSQL::Test::Cluster;
use Test::More;
use SbTest;

my $node = new_node('main', conf => "max_slot_wal_keep_size = '1MB'\nmin_wal_size = '32MB'\nmax_wal_size = '32MB'\n");

$node->safe_psql('postgres', "CREATE TABLE t (k int); ALTER TABLE t REPLICA IDENTITY FULL; SELECT beam.create_pipeline('p', 'SELECT count(*) FROM t')");
$node->safe_psql('postgres', 'INSERT INTO t VALUES (1)');
wait_for($node, 'p');
$node->safe_psql('postgres', "SELECT beam.pause_pipeline('p')");
$node->safe_psql('postgres', 'INSERT INTO t VALUES (2)');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->safe_psql('postgres', 'CREATE TABLE filler AS SELECT 1');
$node->safe_psql('postgres', 'SELECT pg_switch_wal()');
$node->safe_psql('postgres', 'CREATE TABLE filler2 AS SELECT 1; CHECKPOINT');
$node->safe_psql('postgres', "SELECT beam.resume_pipeline('p')");
wait_until($node, "SELECT state || ' ' || error_code FROM beam.pipelines WHERE name = 'p'", 'failed 55000');
pass('lost_wal_fails_the_pipeline');
like($node->safe_psql('postgres', "SELECT error_message FROM beam.pipelines"), qr/are lost$/, 'error_says_what_is_lost');

$node->safe_psql('postgres', "CREATE TABLE u (k int); ALTER TABLE u REPLICA IDENTITY FULL; SELECT beam.create_pipeline('q', 'SELECT count(*) FROM u')");
$node->safe_psql('postgres', 'INSERT INTO u VALUES (1)');
equal_to_batch($node, 'q', 'a_new_pipeline_runs_after_a_lost_slot');
done_testing();
