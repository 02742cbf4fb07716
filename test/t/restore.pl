# Backups, standbys, dumps and copies: what cannot go on there says so, and nothing goes on that should not.
use strict;
use warnings;
use FindBin;
use lib $FindBin::RealBin;
use File::Copy qw(copy);
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $node = new_node('main');
$node->enable_archiving;
$node->restart;

# A pipeline over a table of its own, and one downstream of it
sub setup
{
	my ($on, $name, $db) = @_;

	$on->safe_psql($db // 'postgres', "CREATE TABLE t_$name (k int, v int); ALTER TABLE t_$name REPLICA IDENTITY FULL");
	create_pipeline($on, $name, "SELECT k, sum(v) AS v FROM t_$name GROUP BY k", undef, $db);
	insert($on, $name, $db);
	equal_to_batch($on, $name, undef, $db);
}

sub insert { $_[0]->safe_psql($_[2] // 'postgres', "INSERT INTO t_$_[1] SELECT i % 7, i FROM generate_series(1, 100) i") }

# A test: made anew, it has what its batch view has
sub resync
{
	my ($on, $name, $db, $result) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$result //= $name;
	$on->safe_psql($db // 'postgres', "SELECT beam.resync_pipeline('$name')");
	$on->safe_psql($db // 'postgres', "CALL beam.wait_for_alter('$name')");
	$on->safe_psql($db // 'postgres', "CALL beam.wait_for('$name')");
	return is(differences($on, $result, $db), '', "$name is made anew");
}

# Tests: it needs a resync for this reason, nothing else can be done with it, and a new one runs
sub is_void
{
	my ($on, $name, $reason, $db) = @_;

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	state_is($on, $name, 'needs_resync', $reason, $db);
	refuses($on, "SELECT beam.resume_pipeline('$name')", qr/HINT:  Call beam\.resync_pipeline\(\)/, 'it cannot be resumed', $db);
	refuses($on, "CALL beam.wait_for('$name')", qr/HINT:  Call beam\.resync_pipeline\(\)/, 'wait_for says so', $db);
	setup($on, 'fresh', $db);
	return resync($on, $name, $db);
}

# A server made of a backup of the first one
sub restored
{
	my ($name, $backup, %options) = @_;
	my $copy = PostgreSQL::Test::Cluster->new($name);

	$copy->init_from_backup($node, $backup, %options);
	return $copy;
}

setup($node, 'totals');
$node->safe_psql('postgres', q{SELECT beam.create_pipeline('of_totals', 'SELECT count(*) AS n FROM totals')});
$node->safe_psql('postgres', q{CREATE TABLE t_paused (n int); ALTER TABLE t_paused REPLICA IDENTITY FULL;
	SELECT beam.create_pipeline('paused', 'SELECT sum(n) AS s FROM t_paused')});
wait_for($node, 'of_totals');
$node->safe_psql('postgres', q{SELECT beam.pause_pipeline('paused')});
$node->backup('backup');

promise 'promoted_standby_says_that_changes_may_be_missing' => sub {
	my $standby = restored('standby', 'backup', has_streaming => 1);
	$standby->start;
	insert($node, 'totals');
	wait_for($node, 'totals');
	$node->wait_for_catchup($standby, 'replay');
	is($standby->safe_psql('postgres', 'SELECT sum(v) FROM totals'), 2 * 5050, 'the result is on the standby');
	$standby->promote;
	insert($standby, 'totals');
	state_is($standby, 'paused', 'needs_resync', qr/^the server has been promoted or restored from a backup \(timeline 2, was 1\)/);
	is_void($standby, 'paused', qr/timeline/);
	state_is($standby, 'totals', 'needs_resync', qr/timeline/);
	refuses($standby, q{CALL beam.wait_for('of_totals')}, qr/is downstream of "totals", which needs a resync/, 'a downstream pipeline says so');
	$standby->restart;
	is($standby->safe_psql('postgres', q{SELECT state FROM beam.pipelines WHERE name = 'fresh'}), 'running', 'a restart later is none of that');
	equal_to_batch($standby, 'fresh');
	$standby->stop;
	equal_to_batch($node, 'totals', 'the first server goes on');
};

promise 'backup_restored_to_a_point_in_time_says_so_even_with_its_slots' => sub {
	my $copy = restored('in_time', 'backup', has_restoring => 1, standby => 0);
	my $slot = $node->safe_psql('postgres', q{SELECT slot_name FROM pg_replication_slots WHERE slot_name LIKE 'stream%'});
	# a backup that was taken file by file, slots included, which PostgreSQL's own tools leave out
	mkdir($copy->data_dir . "/pg_replslot/$slot") or die $!;
	copy($node->data_dir . "/pg_replslot/$slot/state", $copy->data_dir . "/pg_replslot/$slot/state") or die $!;
	$copy->append_conf('postgresql.conf', "recovery_target = 'immediate'\nrecovery_target_action = 'promote'");
	$copy->start;
	$copy->poll_query_until('postgres', 'SELECT NOT pg_is_in_recovery()');
	insert($copy, 'totals');
	state_is($copy, 'totals', 'needs_resync', qr/timeline/);
	is_void($copy, 'paused', qr/timeline/);
	like(slurp_file($copy->logfile), qr/dropping replication slot "$slot"/, 'that slot is not trusted');
	$copy->stop;
};

promise 'backup_that_is_just_started_says_so' => sub {
	# no recovery.signal: it stays on the timeline, as the original does
	my $copy = restored('started', 'backup');
	$copy->start;
	state_is($copy, 'totals', 'needs_resync', qr/are lost: the replication slot does not reach back/);
	is_void($copy, 'paused', qr/are lost/);
	$copy->stop;
};

promise 'stopped_server_that_is_copied_goes_on' => sub {
	my $copy;

	insert($node, 'totals');
	$node->stop;
	PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir, $node->backup_dir . '/whole');
	$node->start;
	$copy = restored('copied', 'whole');
	$copy->append_conf('postgresql.conf', 'archive_mode = off');
	$copy->start;
	insert($copy, 'totals');
	equal_to_batch($copy, 'totals', 'slots, WAL and all');
	$copy->stop;
	equal_to_batch($node, 'totals', 'and so does the original');
};

promise 'copied_database_knows_that_it_is_one' => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE original');
	create_extension($node, 'original');
	setup($node, 'sums', 'original');
	$node->safe_psql('postgres', 'CREATE DATABASE copied TEMPLATE original');
	insert($node, 'sums', 'copied');
	is_void($node, 'sums', qr/^this database is a copy of another one/, 'copied');
	insert($node, 'sums', 'original');
	equal_to_batch($node, 'sums', 'the original goes on', 'original');
	$node->safe_psql('postgres', 'DROP DATABASE copied');
	$node->safe_psql('postgres', 'DROP DATABASE original');
};

# The database, dumped and restored into another one
sub dump_and_restore
{
	my ($from, $to, @options) = @_;
	my $file = $node->backup_dir . "/$to.sql";

	$node->safe_psql('postgres', "CREATE DATABASE $to");
	$node->command_ok([ 'pg_dump', @options, '-f', $file, '-d', $node->connstr($from) ], "$from is dumped");
	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', $file, '-d', $node->connstr($to) ], "$to is restored");
}

promise 'definitions_survive_pg_dump' => sub {
	$node->safe_psql('postgres', 'CREATE DATABASE source');
	create_extension($node, 'source');
	$node->safe_psql('source', 'CREATE ROLE keeper; CREATE SCHEMA "my schema"; GRANT CREATE ON SCHEMA public TO keeper');
	setup($node, 'sums', 'source');
	create_pipeline($node, '"my schema"."my sums"', 'SELECT k, count(*) AS n FROM t_sums GROUP BY k',
		q{allowed_lateness => '3 hours', trigger => 'after_watermark(early => after_count(1), late => after_count(1))', idle_timeout => NULL}, 'source');
	$node->safe_psql('source', 'ALTER TABLE "my schema"."my sums" OWNER TO keeper; ALTER VIEW "my schema"."my sums_batch" OWNER TO keeper; CREATE VIEW on_sums AS SELECT * FROM sums');
	$node->safe_psql('source', q{SELECT beam.create_pipeline('gone', 'SELECT count(*) AS n FROM t_sums')});
	# what is renamed is dumped under the name that it has
	$node->safe_psql('source', q{ALTER TABLE sums RENAME TO sums2; ALTER VIEW sums_batch RENAME TO sums2_batch; SELECT beam.drop_pipeline('gone')});
	is($node->safe_psql('source', 'SELECT string_agg(name, \',\' ORDER BY name) FROM beam.definition'), 'my sums,sums', 'kept in step');
	my $columns = q{name, owner, result, batch_view, watermark, allowed_lateness, idle_timeout, trigger, accumulation, source_mode, timestamp_combiner, on_time, closing};
	wait_until($node, q{SELECT owner = 'keeper' FROM beam.pipelines WHERE name = 'my sums'}, 't', 'source');
	my $before = $node->safe_psql('source', "SELECT $columns FROM beam.pipelines ORDER BY name");

	dump_and_restore('source', 'target');
	is($node->safe_psql('target', "SELECT $columns FROM beam.pipelines ORDER BY name"), $before, 'all of them are there, as they were');
	is($node->safe_psql('target', q{SELECT string_agg(DISTINCT state, ',') FROM beam.pipelines}), 'needs_resync', 'and need a resync');
	is($node->safe_psql('target', q{SELECT NOT ok AND value LIKE '%2 needing a resync' FROM beam.check() WHERE item = 'pipelines'}), 't', 'beam.check() counts them');
	refuses($node, q{CALL beam.wait_for('sums')}, qr/needs a resync.*restored from a dump.*HINT:  Call beam\.resync_pipeline\(\)/s, 'wait_for says so', 'target');
	refuses($node, q{SELECT beam.create_pipeline('sums', 'SELECT 1')}, qr/already exists.*restored from a dump/s, 'the name is taken', 'target');
	is($node->safe_psql('target', 'SELECT count(*) FROM on_sums'), 7, 'the result can be read');
	is($node->safe_psql('target', 'SET ROLE keeper; SELECT string_agg(name, \',\') FROM beam.pipelines'), 'my sums', 'each role sees its own');
	refuses($node, q{SET ROLE keeper; SELECT beam.drop_pipeline('sums')}, qr/must be owner of pipeline "sums"/, 'and has no power over others', 'target');
	# a second generation
	my $oid = $node->safe_psql('target', q{SELECT 'sums2'::regclass::oid});
	dump_and_restore('target', 'target2');
	is($node->safe_psql('target2', "SELECT $columns FROM beam.pipelines ORDER BY name"), $before, 'a dump of what was never resynced is the same');
	insert($node, 'sums', 'target');
	resync($node, 'sums', 'target', 'sums2');
	is($node->safe_psql('target', q{SELECT 'sums2'::regclass::oid}), $oid, 'it is the restored table');
	is($node->safe_psql('target', 'SELECT sum(v) FROM on_sums'), 2 * 5050, 'a view on it is as it was, and sees the new rows');
	refuses($node, q{SET ROLE keeper; SELECT beam.resync_pipeline('my sums')}, qr/permission denied/, 'the owner has to be able to read the source', 'target');
	$node->safe_psql('target', 'GRANT SELECT ON t_sums TO keeper; GRANT CREATE, USAGE ON SCHEMA "my schema" TO keeper');
	$node->safe_psql('target', q{SELECT beam.resync_pipeline('my sums')});
	$node->safe_psql('target', q{CALL beam.wait_for_alter('my sums')});
	is($node->safe_psql('target', q{SELECT sum(n), string_agg(DISTINCT state, ',') FROM "my schema"."my sums", beam.pipelines}), 2 * 200 . '|running', 'all of them run');
	is($node->safe_psql('target', 'SELECT string_agg(name, \',\' ORDER BY name) FROM beam.definition'), 'my sums,sums', 'and would survive the next dump');
	$node->safe_psql('target2', q{DROP VIEW on_sums; SELECT beam.drop_pipeline('sums')});
	is($node->safe_psql('target2', q{SELECT count(*) FROM pg_class WHERE relname LIKE 'sums%'}), 0, 'it can be dropped, with its tables');
	is($node->safe_psql('target2', q{SELECT name FROM beam.pipelines}), 'my sums', 'and is gone then');
};

promise 'settings_that_are_dumped_are_all_there_are' => sub {
	is($node->safe_psql('source', q{
		SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'beam.pipeline'::regclass AND attnum > 0 AND NOT attisdropped
		   AND attname NOT IN (SELECT jsonb_object_keys(settings) FROM beam.definition)}),
		'created_at error_at error_code error_message fingerprint id keep keep_until name owner reason rebuild result revision signature source source_columns stage state state_table upstream version view',
		'a new column of beam.pipeline is an option of the definition, or here');
};

promise 'role_that_may_read_all_data_can_dump' => sub {
	$node->safe_psql('source', 'CREATE ROLE dumper LOGIN; GRANT USAGE ON SCHEMA "my schema" TO dumper; GRANT SELECT ON ALL TABLES IN SCHEMA public, "my schema" TO dumper');
	my @dump = ('pg_dump', '-U', 'dumper', '-f', $node->backup_dir . '/dumper.sql', '-d', $node->connstr('source'));
	$node->command_fails_like(\@dump, qr/permission denied for table definition/, 'who may read the tables only does not read the definitions of all');
	$node->safe_psql('source', 'GRANT pg_read_all_data TO dumper');
	$node->command_ok(\@dump, 'beam.definition is no obstacle');
};

done_testing();
