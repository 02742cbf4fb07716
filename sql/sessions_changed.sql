-- Sessions over rows that are changed and deleted: split, joined, shrunk, moved, emptied, as the batch view says.
SET client_min_messages = warning;
\set SHOW_CONTEXT never
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA sessions_changed;
SET search_path = sessions_changed;
CREATE TABLE click (id int PRIMARY KEY, at timestamptz, visitor text, page text, took float8);
ALTER TABLE click REPLICA IDENTITY FULL;
CREATE FUNCTION differs(pipeline text) RETURNS TABLE (side text, difference text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT ''only result'', x::text FROM (TABLE %1$I EXCEPT ALL TABLE %2$I) x UNION ALL
                                 SELECT ''only batch'', x::text FROM (TABLE %2$I EXCEPT ALL TABLE %1$I) x', pipeline, pipeline || '_batch');
END $$;
\pset tuples_only on
SELECT beam.create_pipeline('visits', $$SELECT to_char(w.window_start, 'HH24:MI') AS starts, to_char(w.window_end, 'HH24:MI') AS ends, visitor, count(*) AS clicks, sum(took) AS took,
    max(took) AS longest, count(*) FILTER (WHERE page = 'home') AS homes, string_agg(page, '>' ORDER BY at, id) AS path, count(DISTINCT page) AS pages,
    w.window_start, w.window_end FROM click c, beam.session(c.at, '10 minutes') w GROUP BY w.window_start, w.window_end, visitor$$, allowed_lateness => '1 day');
-- its rows are added and taken back: this one reads it
SELECT beam.create_pipeline('long_visits', $$SELECT v.clicks, count(*) AS visits, max(v.took) AS longest FROM visits v WHERE v.clicks > 1 GROUP BY v.clicks$$);
-- and so do sessions of sessions
SELECT beam.create_pipeline('busy', $$SELECT count(*) AS visits, sum(v.clicks) AS clicks, string_agg(v.path, ' ' ORDER BY v.window_start, v.visitor) AS paths
    FROM visits v, beam.session(v.window_end, '30 minutes') w GROUP BY w.window_start, w.window_end$$, allowed_lateness => '2 days');
SELECT beam.create_pipeline('told', $$SELECT visitor, count(*) AS clicks, sum(took) AS took FROM click c, beam.session(c.at, '10 minutes') w
    GROUP BY w.window_start, w.window_end, visitor$$, allowed_lateness => '1 day', accumulation => 'retracting');
\pset tuples_only off
CREATE PROCEDURE apply() LANGUAGE plpgsql AS $$ BEGIN CALL beam.wait_for('busy'); CALL beam.wait_for('long_visits'); CALL beam.wait_for('told'); END $$;
CREATE VIEW shown AS SELECT visitor, starts, ends, clicks, took, longest, homes, path, pages FROM visits ORDER BY visitor, starts;
CREATE VIEW wrong AS SELECT p, d.* FROM unnest('{visits,long_visits,busy}'::text[]) p, differs(p) d
    UNION ALL SELECT 'told', '', x::text FROM (SELECT window_start, window_end, visitor, clicks, took, sum(op) AS n FROM told GROUP BY 1, 2, 3, 4, 5 HAVING sum(op) <> 0
        EXCEPT ALL SELECT window_start, window_end, visitor, clicks, took, 1 FROM told_batch) x
    UNION ALL SELECT 'told', 'missing', x::text FROM (SELECT window_start, window_end, visitor, clicks, took, 1 FROM told_batch
        EXCEPT ALL SELECT window_start, window_end, visitor, clicks, took, sum(op) AS n FROM told GROUP BY 1, 2, 3, 4, 5 HAVING sum(op) <> 0) x;

INSERT INTO click VALUES (1, '2026-03-01 10:00', 'a', 'home', 1.5), (2, '2026-03-01 10:08', 'a', 'cart', 2), (3, '2026-03-01 10:16', 'a', 'pay', 0.1), (4, '2026-03-01 10:20', 'a', NULL, NULL),
    (5, '2026-03-01 10:00', 'b', 'home', 1), (6, '2026-03-01 10:30', 'b', 'home', 1);
CALL apply();
SELECT * FROM shown;
SELECT * FROM busy;
-- the click that held it together goes: two sessions
DELETE FROM click WHERE id = 2;
CALL apply();
SELECT * FROM shown;
SELECT * FROM long_visits;
SELECT * FROM busy;
SELECT * FROM wrong;
-- an UPDATE moves one between two, and joins them
UPDATE click SET at = '2026-03-01 10:09', visitor = 'b', page = 'help' WHERE id = 4;
INSERT INTO click VALUES (7, '2026-03-01 10:18', 'b', 'help', 4);
UPDATE click SET at = '2026-03-01 10:26' WHERE id = 7;
UPDATE click SET at = '2026-03-01 10:18' WHERE id = 7;
CALL apply();
SELECT * FROM shown;
SELECT * FROM wrong;
UPDATE click SET at = '2026-03-01 10:22' WHERE id = 6;
CALL apply();
SELECT * FROM shown;
SELECT * FROM wrong;
-- the first and the last go: it shrinks at both ends; then nothing is left
DELETE FROM click WHERE id IN (5, 6);
CALL apply();
SELECT * FROM shown;
DELETE FROM click WHERE visitor = 'b';
CALL apply();
SELECT * FROM shown;
SELECT * FROM long_visits;
SELECT * FROM wrong;
-- values only: the window stays
UPDATE click SET took = took + 0.25, page = 'list' WHERE visitor = 'a';
CALL apply();
SELECT * FROM shown;
-- several clicks that are the same, one of which goes; and one transaction that adds and takes away what joins
INSERT INTO click SELECT i, '2026-03-01 10:08', 'a', 'again', 1 FROM generate_series(10, 13) i;
DELETE FROM click WHERE id = 11;
CALL apply();
SELECT * FROM shown;
BEGIN;
DELETE FROM click WHERE id IN (10, 12);
INSERT INTO click VALUES (20, '2026-03-01 10:22', 'a', 'x', 1), (21, '2026-03-01 10:30', 'a', 'y', 1);
DELETE FROM click WHERE id IN (13, 20);
UPDATE click SET visitor = 'c' WHERE id = 21;
COMMIT;
CALL apply();
SELECT * FROM shown;
SELECT * FROM wrong;
-- the key is a group, not its bytes; and a row whose value was never counted takes nothing away
BEGIN;
INSERT INTO click VALUES (30, '2026-03-01 12:00', 'd', 'home', 'infinity'), (31, '2026-03-01 12:05', 'd', 'home', '-infinity'), (32, '2026-03-01 12:10', 'd', 'home', 1);
DELETE FROM click WHERE id = 31;
COMMIT;
CALL apply();
SELECT * FROM shown WHERE visitor = 'd';
TRUNCATE click;
CALL apply();
SELECT * FROM shown;
INSERT INTO click VALUES (1, '2026-03-01 10:00', 'a', 'home', 1);
CALL apply();
SELECT * FROM shown;
SELECT * FROM wrong;

-- ---- late: the element's own window is tested, and a row that was late is not there to be taken back ----
CREATE TABLE tick (at timestamptz, n int);
ALTER TABLE tick REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('ticks', $$SELECT count(*) AS c, sum(100 / n) AS s FROM tick t, beam.session(t.at, '10 minutes') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '10 minutes');
\pset tuples_only off
INSERT INTO tick VALUES ('2026-03-01 10:00', 1), ('2026-03-01 10:08', 2), ('2026-03-01 10:16', 4), ('2026-03-01 10:24', 5), ('2026-03-01 10:24', 0);
CALL beam.wait_for('ticks');
-- too late for the first two, not for the third: the session shrinks in the middle, and what is left of the beginning has expired itself
INSERT INTO tick VALUES ('2026-03-01 10:30', 10);
CALL beam.wait_for('ticks');
INSERT INTO tick VALUES ('2026-03-01 10:09', 7);
DELETE FROM tick WHERE n IN (1, 7);
DELETE FROM tick WHERE n = 4;
DELETE FROM tick WHERE n = 0;
CALL beam.wait_for('ticks');
SELECT to_char(window_start, 'HH24:MI') AS starts, to_char(window_end, 'HH24:MI') AS ends, c, s FROM ticks ORDER BY window_start;
SELECT event_time::time, op, reason, data->>'n' AS n FROM beam.late_events WHERE pipeline = 'ticks' ORDER BY id;
SELECT op, sqlstate, data->>'n' AS n FROM beam.dead_letters WHERE pipeline = 'ticks' ORDER BY id;

-- ---- panes ----
CREATE TABLE tock (at timestamptz, n int);
ALTER TABLE tock REPLICA IDENTITY FULL;
CREATE FUNCTION run(pipeline text, events jsonb, OUT step int, OUT kind text, OUT w text, OUT timing text, OUT index bigint, OUT elements bigint, OUT data jsonb) RETURNS SETOF record LANGUAGE sql AS $$
SELECT step, kind, to_char(window_start, 'HH24:MI-') || to_char(window_end, 'HH24:MI'), timing, index, elements, data - '{window_start,window_end}'::text[]
  FROM beam.test_stream(pipeline, events) ORDER BY step, window_start, kind = 'pane' $$;
\pset tuples_only on
SELECT beam.create_pipeline('early', $$SELECT count(*) AS c, sum(n) AS s FROM tock t, beam.session(t.at, '10 minutes') w GROUP BY w.window_start, w.window_end$$,
    allowed_lateness => '1 day', trigger => beam.after_watermark(early => beam.after_count(2), late => beam.after_count(1)));
SELECT beam.create_pipeline('early_told', $$SELECT count(*) AS c, sum(n) AS s FROM tock t, beam.session(t.at, '10 minutes') w GROUP BY w.window_start, w.window_end$$,
    allowed_lateness => '1 day', trigger => beam.after_watermark(early => beam.after_count(2), late => beam.after_count(1)), accumulation => 'retracting');
\pset tuples_only off
\set rows '{"rows": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:05", "n": 2}, {"at": "2026-03-01 10:12", "n": 3}, {"at": "2026-03-01 10:18", "n": 4}]}'
-- taken apart: the first piece takes the old row away with its early pane, the second one has too few rows for one
SELECT * FROM run('early', format('[%s, {"delete": [{"at": "2026-03-01 10:12", "n": 3}]}, "end"]', :'rows')::jsonb);
SELECT * FROM run('early_told', format('[%s, {"delete": [{"at": "2026-03-01 10:12", "n": 3}]}, "end"]', :'rows')::jsonb);
-- a row that moves: the old one leaves a session, the new one makes it longer; and one that says nothing new
SELECT * FROM run('early', format('[%s, {"update": {"old": [{"at": "2026-03-01 10:00", "n": 1}], "new": [{"at": "2026-03-01 10:20", "n": 9}]}},
    {"update": {"old": [{"at": "2026-03-01 10:20", "n": 9}], "new": [{"at": "2026-03-01 10:20", "n": 9}]}}, "end"]', :'rows')::jsonb);
-- emptied: its row goes at once, and nothing is left
SELECT * FROM run('early', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:05", "n": 2}]}, {"delete": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:05", "n": 2}]}, "end"]');
SELECT * FROM run('early_told', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:05", "n": 2}]}, {"delete": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:05", "n": 2}]}, "end"]');
SELECT beam.no_state_left('early', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}]}, {"delete": [{"at": "2026-03-01 10:00", "n": 1}]}]');
-- merged: the smaller ones stay until the trigger fires for the larger one
SELECT * FROM run('early', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:00", "n": 2}, {"at": "2026-03-01 10:15", "n": 3}, {"at": "2026-03-01 10:15", "n": 4}]},
    {"rows": [{"at": "2026-03-01 10:08", "n": 5}]}, {"rows": [{"at": "2026-03-01 10:08", "n": 6}]}, "end"]');
-- merged, and taken apart again before that: what stands is right, and is said anew
SELECT * FROM run('early', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}, {"at": "2026-03-01 10:00", "n": 2}, {"at": "2026-03-01 10:15", "n": 3}, {"at": "2026-03-01 10:15", "n": 4}]},
    {"rows": [{"at": "2026-03-01 10:08", "n": 5}]}, {"delete": [{"at": "2026-03-01 10:08", "n": 5}]}, "end"]');
-- what was never there is not taken back
SELECT * FROM run('early', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}]}, {"delete": [{"at": "2026-03-01 10:00", "n": 7}, {"at": "2026-03-01 09:00", "n": 1}]}, "end"]');
-- taken apart when the end has passed: the first part is late, and is said at once
SELECT * FROM run('early', format('[%s, {"watermark": "2026-03-01 10:40"}, {"delete": [{"at": "2026-03-01 10:12", "n": 3}]}, "end"]', :'rows')::jsonb);
-- in a window that has closed: each side is late, once
\pset tuples_only on
SELECT beam.create_pipeline('closes', 'SELECT w.window_start, w.window_end, sum(t.n) AS n FROM tock t, beam.session(t.at, ''10 minutes'') w GROUP BY 1, 2', allowed_lateness => '1 day',
    trigger => 'after_watermark()', allow_unsafe_trigger => true);
\pset tuples_only off
SELECT * FROM beam.test_stream('closes', '[{"rows": [{"at": "2026-03-01 10:00", "n": 1}]}, {"watermark": "2026-03-01 11:00"}, {"update": {"old": [{"at": "2026-03-01 10:00", "n": 1}], "new": [{"at": "2026-03-01 10:00", "n": 2}]}}, "end"]');

-- ---- what is refused ----
SELECT beam.create_pipeline('no', $$SELECT count(*) FROM click c, beam.session(c.at, '1 hour') w GROUP BY w.window_start, w.window_end$$, accumulation => 'discarding'); \echo :SQLSTATE
SELECT beam.create_pipeline('no', $$SELECT count(*) FROM visits v, beam.session(v.window_end, '1 hour') w GROUP BY w.window_start, w.window_end$$, accumulation => 'discarding'); \echo :SQLSTATE
SELECT beam.create_pipeline('no', $$SELECT count((c.at, c.page)) FROM click c, beam.session(c.at, '1 hour') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT * FROM run('early', '[{"update": [{"n": 1}]}]'); \echo :SQLSTATE
SELECT * FROM run('early', '[{"update": {"old": [{"n": 1}], "new": []}}]'); \echo :SQLSTATE
SELECT * FROM run('early', '[{"update": {"old": [{"n": 1}], "now": []}}]'); \echo :SQLSTATE
SELECT * FROM run('early', '[{"delete": 5}]'); \echo :SQLSTATE
\pset tuples_only on
SELECT beam.create_pipeline('only_added', 'SELECT count(*) FROM tock', source_mode => 'append_only');
\pset tuples_only off
SELECT * FROM run('only_added', '[{"delete": []}]'); \echo :SQLSTATE
SELECT name, state, error_message FROM beam.pipelines WHERE state <> 'running';
DROP VIEW shown, wrong;
SELECT count(beam.drop_pipeline(name)) FROM (SELECT name FROM beam.pipelines WHERE name IN ('long_visits', 'busy')) p;
SELECT count(beam.drop_pipeline(name)) FROM beam.pipelines WHERE name IN ('visits', 'told', 'ticks', 'early', 'early_told', 'only_added', 'closes');
DROP SCHEMA sessions_changed CASCADE;
