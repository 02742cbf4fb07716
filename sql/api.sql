-- Every function of the API: its good use, and each of its errors once, with its SQLSTATE.
SET client_min_messages = warning;
CREATE SCHEMA api;
SET search_path = api;
CREATE TABLE orders (id bigint, at timestamptz NOT NULL, region text, amount numeric);
ALTER TABLE orders REPLICA IDENTITY FULL;

-- ---- beam.check ----
-- the workers may just have been started; creating a pipeline waits for them
SELECT beam.create_pipeline('first', 'SELECT count(*) FROM orders');
SELECT beam.drop_pipeline('first');
SELECT item, ok, hint FROM beam.check();

-- ---- create: arguments ----
\set q '''SELECT region, count(*) FROM orders GROUP BY region'''
SELECT beam.create_pipeline(NULL, :q); \echo :SQLSTATE
SELECT beam.create_pipeline('p', NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, watermark => NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, allow_unsafe_trigger => NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, watermark => '-1 s'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, watermark => '1 month'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, watermark => '1 day -25 hours'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, allowed_lateness => '-1 s'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, allowed_lateness => '1 year'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, idle_timeout => '0'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, idle_timeout => '-1 s'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, watermark => '1000000000 days'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, accumulation => 'Accumulating'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, timestamp_combiner => 'middle'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, on_time => 'fire'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, closing => 'never'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, timestamp_combiner => NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, timestamp_combiner => 'earliest'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, timestamp_combiner => 'latest'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, on_time => NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, closing => NULL); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => 'after_wattermark()'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => 'repeatedly(after_count(0))'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => beam.after_count(10)); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => beam.after_watermark()); \echo :SQLSTATE
-- an argument is found by its name; an option that a function does not have has the default that beam.create_pipeline() says
CREATE FUNCTION in_another_order(name text, query text, closing text, watermark interval) RETURNS regclass LANGUAGE c AS '$libdir/stream_beam', 'stream_beam_create_pipeline';
SELECT in_another_order('p', :q, NULL, '5 s'); \echo :SQLSTATE
SELECT in_another_order('p', :q, 'fire_always', '1 month'); \echo :SQLSTATE
SELECT in_another_order('p', :q, 'fire_always', '5 s');
SELECT beam.create_pipeline('q', :q);
SELECT name, trigger, accumulation, source_mode, timestamp_combiner, on_time, closing, watermark, allowed_lateness, idle_timeout FROM beam.pipelines ORDER BY name;
SELECT beam.drop_pipeline('p'), beam.drop_pipeline('q');
DROP FUNCTION in_another_order;

-- ---- create: names ----
SELECT beam.create_pipeline('orders', :q); \echo :SQLSTATE
CREATE VIEW taken_batch AS SELECT 1;
SELECT beam.create_pipeline('taken', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('two words', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('"no end', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('p; DROP TABLE orders', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('a.b.c', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('a.b.c.d', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('no_such_schema.p', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('pg_temp.p', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('pg_catalog.p', :q); \echo :SQLSTATE
SELECT beam.create_pipeline('beam.p', :q); \echo :SQLSTATE
SELECT beam.create_pipeline(repeat('x', 58), :q); \echo :SQLSTATE

-- ---- create: the query ----
SELECT beam.create_pipeline('p', ''); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT count(*) FORM orders'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', E'SELECT region,\n       count(* FROM orders\n GROUP BY region'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM orders; SELECT count(*) FROM orders'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'DELETE FROM orders'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM nothing'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT count(nothing) FROM orders'); \echo :SQLSTATE

-- ---- create: the source ----
CREATE TABLE not_in_wal (id int PRIMARY KEY, at timestamptz, note text);
SELECT beam.create_pipeline('p', 'SELECT note, count(*) FROM not_in_wal GROUP BY note'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM not_in_wal', source_mode => 'sometimes'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT count(id) FROM not_in_wal', accumulation => 'discarding'); \echo :SQLSTATE
DROP TABLE not_in_wal;
CREATE TABLE with_rows (at timestamptz);
ALTER TABLE with_rows REPLICA IDENTITY FULL;
INSERT INTO with_rows VALUES ('2024-01-01');
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM with_rows', history => false); \echo :SQLSTATE
-- what was deleted is not there
DELETE FROM with_rows;
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM with_rows', history => false);
SELECT beam.drop_pipeline('p');
-- rows of the same transaction are rows, too
BEGIN;
INSERT INTO with_rows VALUES ('2024-01-01');
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM with_rows', history => false); \echo :SQLSTATE
ROLLBACK;

-- nothing has been left behind by what failed
SELECT count(*) FROM beam.pipelines;
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'api'::regnamespace AND c.relkind IN ('r', 'v') ORDER BY 1;

-- ---- create: good use ----
SELECT beam.create_pipeline('per_region', :q);
SELECT beam.create_pipeline('per_region', :q); \echo :SQLSTATE
SELECT name, state, source, result, batch_view, owner = current_user AS mine, trigger, accumulation, watermark, allowed_lateness, idle_timeout,
       error_code, error_message
  FROM beam.pipelines;
INSERT INTO orders VALUES (1, '2024-01-01', 'north', 1), (2, '2024-01-01', 'south', 2), (3, '2024-01-01', 'north', 3);
CALL beam.wait_for('per_region');
SELECT * FROM per_region ORDER BY region;
SELECT name, rows_in, panes, late_events, dead_letters, cells, lag_bytes >= 0 AS lag FROM beam.stat_pipelines;
-- a pipeline without event time has no watermark
SELECT name, input_watermark, output_watermark, max_event_time, lag FROM beam.watermarks;

-- created and rolled back
CREATE TABLE later (LIKE orders);
ALTER TABLE later REPLICA IDENTITY FULL;
BEGIN;
SELECT beam.create_pipeline('undone', 'SELECT count(*) FROM later');
ROLLBACK;
SELECT name FROM beam.pipelines;
-- and again, in a savepoint
BEGIN;
SAVEPOINT s;
SELECT beam.create_pipeline('undone', 'SELECT count(*) FROM later');
ROLLBACK TO s;
SELECT beam.create_pipeline('done', 'SELECT count(*) FROM later');
COMMIT;
INSERT INTO later VALUES (1, '2024-01-01', 'north', 1);
CALL beam.wait_for('done');
SELECT * FROM done;
SELECT beam.drop_pipeline('done');

-- all arguments, in a schema that is not on the path, with a name that needs quotes
CREATE SCHEMA "Other";
TRUNCATE later;
SELECT beam.create_pipeline('"Other"."Two ""words"', 'SELECT w.window_start, w.window_end, sum(amount) FROM later, beam.tumble(at, ''1 minute'') w GROUP BY 1, 2',
                            watermark => '90 seconds', allowed_lateness => '0', trigger => beam.after_watermark(early => beam.after_count(1)),
                            accumulation => 'discarding', source_mode => 'append_only', idle_timeout => NULL);
SELECT name, result, batch_view, trigger, accumulation, watermark, allowed_lateness, idle_timeout FROM beam.pipelines WHERE name ~ 'words';
INSERT INTO later VALUES (1, '2024-01-01 00:00:07', 'north', 1), (1, '2024-01-01 00:00:09', 'north', 2);
CALL beam.wait_for('"Other"."Two ""words"');
TABLE "Other"."Two ""words";
-- the name as it is stored does as well, and so does the name without schema
SELECT beam.pause_pipeline('Two "words');
SELECT beam.resume_pipeline('"Two ""words"');
SELECT beam.pause_pipeline('api."Two ""words"'); \echo :SQLSTATE
SELECT beam.drop_pipeline('"Other"."Two ""words"');
SELECT beam.create_pipeline('Folded', 'SELECT count(*) FROM with_rows');
SELECT beam.drop_pipeline('FOLDED');
SELECT beam.create_pipeline(E'"new\nline"', 'SELECT count(*) FROM with_rows');
SELECT beam.drop_pipeline(E'"new\nline"');

-- ---- pause and resume ----
SELECT beam.pause_pipeline('nothing'); \echo :SQLSTATE
SELECT beam.resume_pipeline('nothing'); \echo :SQLSTATE
SELECT beam.pause_pipeline(NULL);
SELECT beam.pause_pipeline('per_region');
SELECT beam.pause_pipeline('per_region');
SELECT state FROM beam.pipelines;
INSERT INTO orders VALUES (4, '2024-01-01', 'south', 4);
SELECT beam.resume_pipeline('per_region');
SELECT beam.resume_pipeline('per_region');
CALL beam.wait_for('per_region');
SELECT * FROM per_region ORDER BY region;
-- paused and resumed without anybody seeing it
BEGIN;
SELECT beam.pause_pipeline('per_region');
ROLLBACK;
INSERT INTO orders VALUES (5, '2024-01-01', 'south', 5);
CALL beam.wait_for('per_region');
SELECT * FROM per_region ORDER BY region;

-- ---- wait_for ----
CALL beam.wait_for('nothing'); \echo :SQLSTATE
CALL beam.wait_for(NULL); \echo :SQLSTATE
SELECT beam.pause_pipeline('per_region');
CALL beam.wait_for('per_region'); \echo :SQLSTATE
SELECT beam.resume_pipeline('per_region');
CALL beam.wait_for('per_region', timeout => '1 minute');
-- what is not committed is not waited for
BEGIN;
INSERT INTO orders VALUES (6, '2024-01-01', 'south', 6);
CALL beam.wait_for('per_region');
ROLLBACK;
-- too slow: the runner waits for a lock that this session has
CREATE TABLE slow (n int);
ALTER TABLE slow REPLICA IDENTITY FULL;
CREATE FUNCTION gate(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN PERFORM pg_advisory_xact_lock_shared(4711); RETURN n; END$$;
SELECT beam.create_pipeline('gated', 'SELECT gate(n) AS n, count(*) FROM slow GROUP BY 1');
SELECT pg_advisory_lock(4711);
INSERT INTO slow VALUES (1);
-- the message has a position of the WAL
\set VERBOSITY sqlstate
CALL beam.wait_for('gated', timeout => '10 ms');
CALL beam.wait_for('gated', timeout => '-1 minute');
\set VERBOSITY default
SELECT pg_advisory_unlock(4711);
CALL beam.wait_for('gated');
TABLE gated;

-- ---- failed ----
SELECT beam.explain_pipeline('gated');
ALTER TABLE slow REPLICA IDENTITY NOTHING;
UPDATE slow SET n = 2;
CALL beam.wait_for('gated'); \echo :SQLSTATE
SELECT name, state, error_code, error_message, error_at IS NOT NULL AS has_time FROM beam.pipelines ORDER BY name;
SELECT beam.pause_pipeline('gated'); \echo :SQLSTATE
-- the others never notice
INSERT INTO orders VALUES (7, '2024-01-01', 'west', 7);
CALL beam.wait_for('per_region');
SELECT * FROM per_region ORDER BY region;
-- the same again, for the cause is still there
SELECT beam.resume_pipeline('gated');
CALL beam.wait_for('gated'); \echo :SQLSTATE
SELECT beam.drop_pipeline('gated');

-- ---- drop ----
SELECT beam.drop_pipeline('nothing'); \echo :SQLSTATE
CREATE VIEW on_result AS SELECT * FROM per_region;
SELECT beam.drop_pipeline('per_region'); \echo :SQLSTATE
CREATE VIEW on_batch AS SELECT * FROM per_region_batch;
SELECT beam.drop_pipeline('per_region', keep_result => true); \echo :SQLSTATE
SELECT state FROM beam.pipelines;
DROP VIEW on_batch;
BEGIN;
SELECT beam.drop_pipeline('per_region', keep_result => true);
ROLLBACK;
INSERT INTO orders VALUES (8, '2024-01-01', 'west', 8);
CALL beam.wait_for('per_region');
SELECT beam.drop_pipeline('per_region', keep_result => true);
SELECT * FROM on_result ORDER BY region;
SELECT * FROM beam.pipelines;
SELECT relname FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace;
DROP TABLE per_region CASCADE;
-- objects dropped behind its back
TRUNCATE orders;
SELECT beam.create_pipeline('per_region', :q);
SELECT beam.pause_pipeline('per_region');
DROP TABLE per_region; \echo :SQLSTATE
INSERT INTO orders VALUES (9, '2024-01-01', 'east', 9);
SELECT beam.resume_pipeline('per_region');
CALL beam.wait_for('per_region'); \echo :SQLSTATE
SELECT state, error_code FROM beam.pipelines;
SELECT beam.drop_pipeline('per_region');
SELECT relname FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace;
TRUNCATE orders;
SELECT beam.create_pipeline('per_region', :q);
SELECT beam.pause_pipeline('per_region');
DROP VIEW per_region_batch; \echo :SQLSTATE
SELECT beam.resume_pipeline('per_region');
CALL beam.wait_for('per_region'); \echo :SQLSTATE
SELECT beam.explain_pipeline('per_region'); \echo :SQLSTATE
SELECT beam.drop_pipeline('per_region');
TRUNCATE orders;
-- another query behind its back
SELECT beam.create_pipeline('per_region', :q);
SELECT beam.pause_pipeline('per_region');
CREATE OR REPLACE VIEW per_region_batch AS SELECT region, count(*) + 1 AS count FROM orders GROUP BY region;
SELECT beam.resume_pipeline('per_region');
CALL beam.wait_for('per_region'); \echo :SQLSTATE
SELECT beam.drop_pipeline('per_region');
TRUNCATE orders;
-- the source cannot be dropped under it
SELECT beam.create_pipeline('per_region', :q);
DROP TABLE orders; \echo :SQLSTATE
ALTER TABLE orders DROP COLUMN region; \echo :SQLSTATE
ALTER TABLE orders ALTER COLUMN region TYPE varchar(10); \echo :SQLSTATE
ALTER TABLE orders RENAME TO purchases;
ALTER TABLE purchases RENAME COLUMN region TO place;
INSERT INTO purchases VALUES (9, '2024-01-01', 'east', 9);
CALL beam.wait_for('per_region');
SELECT * FROM per_region;
SELECT beam.drop_pipeline('per_region');

DROP SCHEMA api, "Other" CASCADE;
SELECT count(*) FROM beam.pipelines;
