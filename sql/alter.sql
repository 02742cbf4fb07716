-- Another version of a pipeline: arguments, errors, what is made and what is left.
SET client_min_messages = warning;
CREATE TABLE ev (ts timestamptz, k int, v int);
ALTER TABLE ev REPLICA IDENTITY FULL;
INSERT INTO ev SELECT '2024-01-01'::timestamptz + i * interval '1 min', i % 3, i FROM generate_series(1, 300) i;
SELECT beam.create_pipeline('p', 'SELECT k, count(*) AS n FROM ev GROUP BY k', allowed_lateness => '10000 days');
CALL beam.wait_for('p');

-- ---- errors ----
SELECT beam.alter_pipeline(NULL); \echo :SQLSTATE
SELECT beam.alter_pipeline('nobody'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', 'SELECT k, nonsense FROM ev'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', 'SELECT k, count(*) AS n FROM p GROUP BY k'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', watermark => '1 month'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', accumulation => 'piling up'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', accumulation => 'discarding'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', trigger => 'after_count(1)'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', source_mode => 'sometimes'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', keep => '-1 s'); \echo :SQLSTATE
SELECT beam.rollback_pipeline('p'); \echo :SQLSTATE
SELECT beam.rollback_pipeline('p', 7); \echo :SQLSTATE
SELECT beam.rollback_pipeline(NULL); \echo :SQLSTATE
SELECT beam.resync_pipeline('nobody'); \echo :SQLSTATE
SELECT beam.cancel_alter('p'); \echo :SQLSTATE
SELECT beam.cancel_alter(NULL); \echo :SQLSTATE
CALL beam.wait_for_alter(NULL); \echo :SQLSTATE
CALL beam.wait_for_alter('nobody'); \echo :SQLSTATE
ALTER TABLE p ADD COLUMN mine int;
SELECT beam.alter_pipeline('p', 'SELECT k, count(*) AS n, sum(v) AS mine FROM ev GROUP BY k'); \echo :SQLSTATE
CREATE VIEW over_p AS SELECT n FROM p;
SELECT beam.alter_pipeline('p', 'SELECT k, count(*) AS m FROM ev GROUP BY k'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', 'SELECT k, count(*)::int AS n FROM ev GROUP BY k'); \echo :SQLSTATE
CREATE VIEW over_batch AS SELECT k FROM p_batch;
SELECT beam.alter_pipeline('p', 'SELECT count(*) AS n, k FROM ev GROUP BY k'); \echo :SQLSTATE
DROP VIEW over_batch;
-- nothing of them is left
SELECT version, stage FROM beam.pipeline_versions;
SELECT relname FROM pg_class WHERE relname LIKE 'p\_%' AND relnamespace = current_schema::regnamespace AND relkind IN ('r', 'v');

-- ---- settings alone: the view stays, and so does what the user has added ----
-- seen in its transaction: it may be built at once
BEGIN;
SELECT beam.alter_pipeline('p', watermark => '1 hour', allowed_lateness => '2 days', idle_timeout => '0', keep => '1 hour');
SELECT version, stage, result, keep_until FROM beam.pipeline_versions WHERE stage = 'current';
COMMIT;
CALL beam.wait_for_alter('p');
SELECT watermark, allowed_lateness, idle_timeout, batch_view, version, next_version FROM beam.pipelines;
SELECT version, stage, state, result, keep_until > now() + interval '59 minutes' AS kept, reason FROM beam.pipeline_versions ORDER BY version;
SELECT * FROM p ORDER BY k;
SELECT * FROM p_v1 ORDER BY k;
-- a version that is not the current one is no source
SELECT beam.create_pipeline('q', 'SELECT count(*) FROM p_v1'); \echo :SQLSTATE

-- ---- a query; both kept ----
SELECT beam.alter_pipeline('p', 'SELECT k, count(*) AS n, sum(v) AS s FROM ev GROUP BY k', keep => '1 hour');
CALL beam.wait_for_alter('p', '1 minute');
-- before 16, a view's text has each column with its table
SELECT version, stage, result, regexp_replace(query, '\mev\.', '', 'g') AS query FROM beam.pipeline_versions ORDER BY version;
INSERT INTO ev VALUES ('2024-01-01', 0, 1000);
CALL beam.wait_for('p');
SELECT * FROM p ORDER BY k;
SELECT * FROM p_v1 ORDER BY k;
SELECT * FROM p_v2 ORDER BY k;
SELECT beam.rollback_pipeline('p', 1, keep => NULL);
CALL beam.wait_for_alter('p');
SELECT version, stage, result FROM beam.pipeline_versions ORDER BY version;
SELECT * FROM p ORDER BY k;
-- all stand and go together
SELECT beam.pause_pipeline('p');
SELECT version, state FROM beam.pipeline_versions ORDER BY version;
SELECT beam.alter_pipeline('p'); \echo :SQLSTATE
SELECT beam.rollback_pipeline('p'); \echo :SQLSTATE
SELECT beam.resume_pipeline('p');
SELECT version, state FROM beam.pipeline_versions ORDER BY version;

-- ---- made anew ----
SELECT beam.resync_pipeline('p');
CALL beam.wait_for('p');
SELECT version, stage, reason FROM beam.pipeline_versions ORDER BY version;
SELECT * FROM p ORDER BY k;

-- ---- one that another reads ----
SELECT beam.create_pipeline('r', 'SELECT sum(n) AS n FROM p');
CALL beam.wait_for('r');
-- what it uses has to stay
SELECT beam.alter_pipeline('p', 'SELECT k, sum(v) AS n2 FROM ev GROUP BY k'); \echo :SQLSTATE
SELECT beam.alter_pipeline('p', 'SELECT 1 AS k, sum(n) AS n FROM r GROUP BY 1'); \echo :SQLSTATE
-- it gets a new version too
BEGIN;
SELECT beam.alter_pipeline('p', 'SELECT k, count(*) * 2 AS n FROM ev GROUP BY k');
SAVEPOINT s;
SELECT beam.alter_pipeline('r'); \echo :SQLSTATE
ROLLBACK TO s;
SELECT beam.cancel_alter('r'); \echo :SQLSTATE
ROLLBACK TO s;
COMMIT;
CALL beam.wait_for_alter('r');
SELECT name, version, stage FROM beam.pipeline_versions WHERE name = 'r' OR stage = 'current' ORDER BY 1, 2;
SELECT * FROM r;
SELECT beam.pause_pipeline('r');
SELECT beam.alter_pipeline('p'); \echo :SQLSTATE
SELECT beam.rollback_pipeline('p'); \echo :SQLSTATE
SELECT beam.resume_pipeline('r');
-- back, with what reads it
SELECT beam.rollback_pipeline('p', keep => NULL);
CALL beam.wait_for_alter('p');
SELECT name, version, stage FROM beam.pipeline_versions WHERE name = 'r' OR stage = 'current' ORDER BY 1, 2;
SELECT * FROM r;
-- the downstream pipeline itself can be altered
SELECT beam.alter_pipeline('r', 'SELECT sum(n) AS n, count(*) AS groups FROM p', keep => NULL);
CALL beam.wait_for_alter('r');
SELECT * FROM r;
INSERT INTO ev VALUES ('2024-01-01', 7, 1);
CALL beam.wait_for('r');
SELECT * FROM r;
-- alone it goes back to what reads the same
SELECT beam.alter_pipeline('r', 'SELECT sum(n) AS n FROM p');
CALL beam.wait_for_alter('r');
SELECT beam.alter_pipeline('p');
CALL beam.wait_for_alter('p');
SELECT beam.rollback_pipeline('r', version => 2); \echo :SQLSTATE
SELECT beam.drop_pipeline('r');

-- ---- for the owner only ----
CREATE ROLE beam_stranger;
SET ROLE beam_stranger;
SELECT beam.alter_pipeline('p'); \echo :SQLSTATE
SELECT beam.resync_pipeline('p'); \echo :SQLSTATE
SELECT beam.rollback_pipeline('p'); \echo :SQLSTATE
SELECT beam.cancel_alter('p'); \echo :SQLSTATE
CALL beam.wait_for_alter('p'); \echo :SQLSTATE
SELECT count(*) FROM beam.pipeline_versions;
RESET ROLE;
DROP ROLE beam_stranger;
DROP VIEW over_p;
SELECT beam.drop_pipeline('p');
SELECT relname FROM pg_class WHERE relname LIKE 'p\_%' AND relnamespace = current_schema::regnamespace AND relkind IN ('r', 'v');
SELECT relname FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relkind = 'r';
DROP TABLE ev;
