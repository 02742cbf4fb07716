-- beam.check() says whether a server is ready, and everything a user calls is there, described, and not open to everybody.
\set ON_ERROR_STOP on
SELECT plan(11);

SELECT bag_has('SELECT item FROM beam.check()',
    $$VALUES ('shared_preload_libraries'), ('wal_level'), ('max_replication_slots'), ('max_worker_processes'), ('privilege to create pipelines'),
             ('launcher'), ('reader'), ('runner'), ('replication slot')$$, 'beam.check() looks at all that is needed');
-- the workers have just been started: creating a pipeline waits for them
CREATE TABLE ev (n int);
ALTER TABLE ev REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('total', 'SELECT sum(n) FROM ev');
CALL beam.wait_for('total');
SELECT is_empty('SELECT * FROM beam.check() WHERE NOT ok', 'all is well here');
SELECT is_empty('SELECT * FROM beam.check() WHERE ok AND hint IS NOT NULL', 'where all is well there is nothing to do');
CREATE ROLE check_user;
GRANT USAGE ON SCHEMA public TO check_user;
SET ROLE check_user;
SELECT results_eq('SELECT item FROM beam.check() WHERE NOT ok', ARRAY['privilege to create pipelines'], 'what is missing is named');
SELECT isnt(hint, NULL, 'with what to do about it') FROM beam.check() WHERE NOT ok;
SELECT throws_ok($$SELECT beam.create_pipeline('p', 'SELECT sum(n) FROM ev')$$, '42501', NULL, 'not everybody may create pipelines');
SELECT is_empty('SELECT * FROM beam.pipelines', 'nor see those of others');
RESET ROLE;

SELECT views_are('beam', ARRAY['_restored_definition', 'pipelines', 'stat_pipelines', 'watermarks', 'inputs', 'late_events', 'dead_letters', 'failed_groups', 'stat_backfill', 'pipeline_versions', 'scheduled_backfills'], 'the views');
SELECT is_empty($$SELECT p.oid::regprocedure FROM pg_proc p WHERE pronamespace = 'beam'::regnamespace AND proname !~ '^_' AND obj_description(p.oid, 'pg_proc') IS NULL$$,
    'each function says what it is for');
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace = 'beam'::regnamespace AND relkind = 'v' AND relname !~ '^_' AND obj_description(c.oid, 'pg_class') IS NULL$$,
    'and so does each view');
-- one is read by everybody's pg_dump
SELECT is_empty($$SELECT c.oid::regclass FROM pg_class c WHERE relnamespace IN ('beam'::regnamespace, 'beam_state'::regnamespace) AND relkind = 'r'
                     AND has_table_privilege('check_user', c.oid, CASE c.oid::regclass::text WHEN 'beam.definition' THEN '' ELSE 'SELECT, ' END || 'INSERT, UPDATE, DELETE, TRUNCATE')$$, 'the tables beneath are nobody''s to touch');
DROP OWNED BY check_user;
DROP ROLE check_user;
SELECT * FROM finish();
