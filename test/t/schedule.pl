# Backfills that pg_cron runs.
use strict;
use warnings;
use Test::More;
use SbTest;

chomp(my $libraries = `pg_config --pkglibdir`);
plan skip_all => 'pg_cron is not installed' unless -f "$libraries/pg_cron.so";

my $node = new_node('schedule', preload => 0, start => 0, conf => q{
shared_preload_libraries = 'pg_cron,stream_beam'
cron.database_name = 'postgres'
cron.use_background_workers = on
});

$node->start;
create_extension($node);
make_source($node, 'ev');
$node->safe_psql('postgres', q{CREATE ROLE operator LOGIN; GRANT EXECUTE ON FUNCTION beam.create_pipeline TO operator; GRANT CREATE ON SCHEMA public TO operator; GRANT SELECT ON ev TO operator});
$node->safe_psql('postgres', q{SET ROLE operator; SELECT beam.create_pipeline('p', $$SELECT w.window_start, w.window_end, e.k, count(*) AS n
	FROM ev e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3$$)});

promise 'without_pg_cron_it_says_what_is_missing' => sub {
	refuses($node, q{SELECT beam.schedule_backfill('p', '* * * * *', '1 day')}, qr/pg_cron is not installed in this database.*CREATE EXTENSION pg_cron/s, 'in this database');
	is($node->safe_psql('postgres', q{SELECT beam.unschedule_backfill('p'), (SELECT count(*) FROM beam.scheduled_backfills)}), 'f|0', 'nothing is scheduled');
};

$node->safe_psql('postgres', 'CREATE EXTENSION pg_cron; GRANT USAGE ON SCHEMA cron TO operator');

promise 'schedule_runs_as_its_maker_and_mends' => sub {
	$node->safe_psql('postgres', q{INSERT INTO ev SELECT i, now() - i * interval '5 min', i % 3, '' FROM generate_series(1, 100) i});
	wait_for($node, 'p');
	$node->safe_psql('postgres', q{UPDATE p SET n = 77});
	$node->safe_psql('postgres', q{SET ROLE operator; SELECT beam.schedule_backfill('p', '* * * * *', '2 days')});
	is($node->safe_psql('postgres', q{SELECT pipeline, schedule, range, role FROM beam.scheduled_backfills}), 'p|* * * * *|2 days|operator', 'it is listed');
	is($node->safe_psql('postgres', q{SELECT username, database, command FROM cron.job}),
		q{operator|postgres|CALL beam.backfill('p', pg_catalog.now() OPERATOR(pg_catalog.-) '2 days'::pg_catalog.interval)}, 'it is the caller\'s job');
	wait_until($node, q{SELECT count(*) > 0 FROM cron.job_run_details WHERE status IN ('succeeded', 'failed')});
	is($node->safe_psql('postgres', q{SELECT DISTINCT status, return_message FROM cron.job_run_details WHERE status <> 'running'}), 'succeeded|CALL', 'it has run');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM beam.verify('p')}), 0, 'the result is mended');
};

promise 'schedule_is_replaced_and_removed' => sub {
	$node->safe_psql('postgres', q{SET ROLE operator; SELECT beam.schedule_backfill('p', '0 3 * * *', '1 day')});
	is($node->safe_psql('postgres', q{SELECT schedule FROM cron.job}), '0 3 * * *', 'one job for a pipeline');
	refuses($node, q{SET ROLE operator; SELECT beam.schedule_backfill('p', 'now and then', '1 day')}, qr/invalid schedule/, 'pg_cron judges the schedule');
	is($node->safe_psql('postgres', q{SELECT schedule FROM cron.job}), '0 3 * * *', 'what is refused changes nothing');
	is($node->safe_psql('postgres', q{SET ROLE operator; SELECT beam.unschedule_backfill('p')}), 't', 'unscheduled');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job}), 0, 'no job is left');
};

promise 'jobs_go_with_their_pipeline' => sub {
	$node->safe_psql('postgres', q{SET ROLE operator; SELECT beam.schedule_backfill('p', '0 3 * * *', '1 day')});
	$node->safe_psql('postgres', q{SET ROLE operator; SELECT beam.drop_pipeline('p')});
	is($node->safe_psql('postgres', q{SELECT (SELECT count(*) FROM cron.job), (SELECT count(*) FROM beam.scheduled_backfills)}), '0|0', 'no job is left');
};

promise 'others_may_not_schedule' => sub {
	$node->safe_psql('postgres', q{CREATE ROLE nobody LOGIN; GRANT USAGE ON SCHEMA cron TO nobody;
		SELECT beam.create_pipeline('q', 'SELECT count(*) AS n FROM ev')});
	refuses($node, q{SET ROLE nobody; SELECT beam.schedule_backfill('q', '0 3 * * *', '1 day')}, qr/must be owner of pipeline "q"/, 'a pipeline of another');
	refuses($node, q{CREATE ROLE group_only; SET ROLE group_only; SELECT beam.schedule_backfill('q', '0 3 * * *', '1 day')}, qr/role "group_only" cannot log in/, 'a role that has no sessions');
	refuses($node, q{SELECT beam.schedule_backfill('q', '0 3 * * *', '0')}, qr/must be positive/, 'an empty range');
};

promise 'jobs_that_the_extension_leaves_behind_are_found_by_name' => sub {
	$node->safe_psql('postgres', q{CREATE TABLE tick (at timestamptz); ALTER TABLE tick REPLICA IDENTITY FULL; GRANT SELECT ON tick TO operator; SET ROLE operator;
		SELECT beam.create_pipeline('r', $$SELECT w.window_start, w.window_end, count(*) AS n FROM tick, beam.tumble(at, '1 hour') w GROUP BY 1, 2$$);
		SELECT beam.schedule_backfill('r', '0 3 * * *', '1 day')});
	$node->safe_psql('postgres', 'DROP EXTENSION stream_beam CASCADE');
	is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job}), 1, 'its tables go without a word to pg_cron');
	# as docs/operations.md has it
	$node->safe_psql('postgres', q{SELECT cron.unschedule(jobid) FROM cron.job WHERE jobname LIKE 'stream_beam backfill %'});
	is($node->safe_psql('postgres', q{SELECT count(*) FROM cron.job}), 0, 'no job is left');
};

done_testing();
