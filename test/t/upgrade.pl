# pg_upgrade: the data comes along, positions mean nothing any more, and one call makes each pipeline go on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use SbTest;

my $old = new_node('old');
my $new = new_node('new', start => 0);

sub on_old { return $old->safe_psql('postgres', $_[0]) }
sub on_new { return $new->safe_psql('postgres', $_[0]) }

# What a user has of them
my %seen = (
	'results' => 'SELECT (SELECT string_agg(x::text, $$,$$ ORDER BY x::text) FROM totals x), (SELECT n FROM of_totals), (SELECT sum(n) FROM of_days), (SELECT count(*) FROM altered)',
	'dead letters' => 'SELECT pipeline, sqlstate, message, data FROM beam.dead_letters',
	'late events' => 'SELECT pipeline, window_start, reason, data FROM beam.late_events',
	'definitions' => 'SELECT name, result, batch_view, watermark, allowed_lateness, trigger, accumulation, source_mode FROM beam.pipelines ORDER BY name',
	'versions' => 'SELECT name, version, stage FROM beam.pipeline_versions ORDER BY 1, 2');

on_old(q{
	CREATE TABLE t (ts timestamptz, k int, v int) PARTITION BY LIST (k);
	CREATE TABLE t_even PARTITION OF t FOR VALUES IN (0, 2, 4);
	CREATE TABLE t_odd PARTITION OF t FOR VALUES IN (1, 3);
	ALTER TABLE t_even REPLICA IDENTITY FULL;
	ALTER TABLE t_odd REPLICA IDENTITY FULL;
	INSERT INTO t SELECT '2026-01-01'::timestamptz + i * interval '1 h', i % 5, i FROM generate_series(1, 100) i;
	SELECT beam.create_pipeline('totals', 'SELECT k, sum(v) AS v FROM t GROUP BY k');
	SELECT beam.create_pipeline('of_totals', 'SELECT count(*) AS n FROM totals');
	SELECT beam.create_pipeline('inverse', 'SELECT sum(1000 / v) AS s FROM t');
	SELECT beam.create_pipeline('of_days', $$SELECT w.window_start, w.window_end, count(*) AS n FROM t, beam.tumble(t.ts, '1 day') w GROUP BY 1, 2$$,
		allowed_lateness => '0');
	SELECT beam.create_pipeline('paused', 'SELECT count(*) AS n FROM t');
	SELECT beam.create_pipeline('altered', 'SELECT k, count(*) AS n FROM t GROUP BY k')});
wait_for($old, 'of_days');
on_old(q{INSERT INTO t VALUES ('2026-01-05', 1, 0), ('2026-01-01', 1, 1)});
wait_for($old, $_) for qw(of_totals inverse of_days altered);
on_old(q{SELECT beam.pause_pipeline('paused'); SELECT beam.alter_pipeline('altered', 'SELECT k, count(*) AS n, max(v) AS most FROM t GROUP BY k')});
on_old(q{CALL beam.wait_for_alter('altered')});
on_old(q{INSERT INTO t VALUES ('2026-01-05', 1, 7)});
wait_for($old, $_) for qw(of_totals inverse of_days altered);
my %before = map { $_ => on_old($seen{$_}) } keys %seen;

# Since 17, pg_upgrade takes logical slots along and refuses one with changes ahead of it, as ours has by the runner's own commits. It is of no use after that.
sub drop_slot
{
	$old->append_conf('postgresql.conf', "shared_preload_libraries = ''");
	$old->start;
	on_old(q{SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots});
	$old->stop;
}

promise 'pg_upgrade_takes_the_data_and_no_position' => sub {
	my $bin = $old->config_data('--bindir');

	like($before{'dead letters'}, qr/inverse.*division by zero/, 'there is a dead letter');
	like($before{'late events'}, qr/of_days/, 'and a late event');
	$old->stop;
	drop_slot() if $old->pg_version >= 17;
	# it writes where it is called
	chdir $PostgreSQL::Test::Utils::tmp_check or die $!;
	command_ok([ 'pg_upgrade', '--no-sync', '-d', $old->data_dir, '-D', $new->data_dir, '-b', $bin, '-B', $bin, '-s', $new->host,
			'-p', $old->port, '-P', $new->port ], 'pg_upgrade');
	$new->start;
	# a position of the other server that is in this one's WAL, too
	on_new(q{SELECT pg_logical_emit_message(false, '', repeat('x', 1000000)) FROM generate_series(1, 32)});
	for my $name (qw(totals inverse of_days paused altered))
	{
		state_is($new, $name, 'needs_resync', qr/^it was made on another server: this one has been made anew \(pg_upgrade, initdb\)/);
	}
	on_new("INSERT INTO t VALUES ('2026-01-05', 1, 8)");
	is(on_new($seen{$_}), $before{$_}, "$_ are what they were") for sort keys %seen;
	refuses($new, q{SELECT beam.resume_pipeline('totals')}, qr/HINT:  Call beam\.resync_pipeline\(\)/, 'it cannot be resumed');
	refuses($new, q{CALL beam.wait_for('of_totals')}, qr/pipeline "of_totals" needs a resync/, 'what reads its result stops, too');
};

promise 'one_call_makes_each_go_on' => sub {
	# a downstream pipeline goes with its upstream
	for my $name (qw(totals inverse of_days paused altered))
	{
		on_new("SELECT beam.resync_pipeline('$name')");
		on_new("CALL beam.wait_for_alter('$name')");
		is(on_new("SELECT state FROM beam.pipelines WHERE name = '$name'"), 'running', "$name runs");
	}
	# what failed fails again, and what was late is no more: the history has no late rows
	is(on_new(q{SELECT count(*) FROM beam.dead_letters}), 1, 'the row that cannot be computed');
	is(on_new(q{SELECT count(*) FROM beam.late_events}), 0, 'nothing is late in a history');
	is(on_new(q{SELECT state FROM beam.pipelines WHERE name = 'of_totals'}), 'running', 'of_totals runs');
	on_new(q{DELETE FROM t WHERE v = 0;
		INSERT INTO t VALUES ('2026-01-06', 2, 9), ('2026-01-06', 1, 10); UPDATE t SET v = v + 1 WHERE k = 3});
	equal_to_batch($new, $_) for qw(totals of_totals inverse of_days paused altered);
	crash_and_start($new);
	on_new(q{INSERT INTO t VALUES ('2026-01-07', 2, 11)});
	equal_to_batch($new, $_) for qw(totals of_totals inverse of_days paused altered);
	unlike(slurp_file($new->logfile), qr/PANIC|was terminated by signal/, 'nothing has crashed');
};

done_testing();
