-- Output errors are of the group, not of a row: its rows stay counted, it has no row in the result and one in beam.failed_groups until it can be
-- computed and written again.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA failing;
SET search_path = failing;
CREATE VIEW failures AS SELECT pipeline, window_start::time, window_end::time, key, sqlstate, message FROM beam.failed_groups ORDER BY 1, 2, 3, key::text;
-- the rows in which a result and its batch view differ
CREATE FUNCTION differs(pipeline text) RETURNS TABLE (side text, difference text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT ''only result'', x::text FROM (TABLE %1$I EXCEPT ALL TABLE %2$I) x UNION ALL
                                 SELECT ''only batch'', x::text FROM (TABLE %2$I EXCEPT ALL TABLE %1$I) x', pipeline, pipeline || '_batch');
END $$;
-- waits until a pipeline has no failed group
CREATE PROCEDURE mended(name text) LANGUAGE plpgsql AS $$
BEGIN
    WHILE EXISTS (SELECT FROM beam.failed_groups WHERE pipeline = name) LOOP COMMIT; CALL beam.wait_for(name); END LOOP;
END $$;

-- ---- select list and HAVING ----
CREATE TABLE event (id int PRIMARY KEY, k text, a int, b int);
ALTER TABLE event REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('ratio', 'SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM event GROUP BY k');
SELECT beam.create_pipeline('chosen', 'SELECT k, count(*) AS n, max(a) AS most FROM event GROUP BY k HAVING sum(a) / sum(b) >= 0');
SELECT beam.create_pipeline('narrow', 'SELECT k, (sum(a) * 10000)::int2 AS s, string_agg(a::text, '','' ORDER BY id)::varchar(20) AS l FROM event GROUP BY k');
-- of one that fails nothing comes to those downstream
SELECT beam.create_pipeline('total', 'SELECT sum(q) AS q, sum(n) AS n, count(*) AS groups FROM ratio');
DO $$ DECLARE one text; BEGIN FOR one IN SELECT name FROM beam.pipelines LOOP CALL beam.wait_for(one); END LOOP; END $$;
\pset tuples_only off
-- in one transaction, and in two
INSERT INTO event VALUES (1, 'one', 1, 0), (2, 'one', 9, 5);
CALL beam.wait_for('total');
INSERT INTO event VALUES (3, 'two', 1, 0), (4, 'three', 4, 2);
CALL beam.wait_for('total');
SELECT * FROM ratio ORDER BY k;
SELECT * FROM chosen ORDER BY k;
SELECT * FROM narrow ORDER BY k;
SELECT * FROM total;
SELECT * FROM failures;
INSERT INTO event VALUES (5, 'two', 9, 5);
CALL beam.wait_for('total');
SELECT * FROM ratio ORDER BY k;
SELECT * FROM chosen ORDER BY k;
SELECT * FROM total;
SELECT * FROM failures;
-- what is in the result leaves it when it cannot be computed any more, and comes back
UPDATE event SET b = 0 WHERE k = 'one';
CALL beam.wait_for('total');
SELECT * FROM ratio ORDER BY k;
SELECT * FROM total;
SELECT * FROM failures WHERE pipeline = 'ratio';
UPDATE event SET b = 1 WHERE k = 'one';
CALL beam.wait_for('total');
SELECT * FROM ratio ORDER BY k;
SELECT * FROM total;
-- a group that fails and goes leaves nothing
INSERT INTO event VALUES (6, 'four', 1, 0);
CALL beam.wait_for('total');
SELECT key FROM failures WHERE pipeline = 'ratio';
DELETE FROM event WHERE k = 'four';
CALL beam.wait_for('total');
SELECT key FROM failures WHERE pipeline = 'ratio';
-- so does one that is emptied with all others, and the rest of a failed one is still there after a restart of the pipeline
INSERT INTO event VALUES (7, 'five', 1, 0);
CALL beam.wait_for('total');
SELECT beam.pause_pipeline('ratio');
SELECT beam.resume_pipeline('ratio');
INSERT INTO event VALUES (8, 'five', 5, 2);
CALL beam.wait_for('total');
SELECT * FROM ratio WHERE k = 'five';
INSERT INTO event VALUES (9, 'six', 1, 0);
CALL beam.wait_for('total');
TRUNCATE event;
CALL beam.wait_for('total');
SELECT * FROM failures;
SELECT * FROM ratio;
SELECT * FROM total;
SELECT count(*) FROM beam.dead_letters WHERE pipeline IN ('ratio', 'chosen', 'narrow', 'total', 'amounts', 'overall');

-- ---- the result refuses rows ----
CREATE TABLE item (id int PRIMARY KEY, k int, v int);
ALTER TABLE item REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('amounts', 'SELECT k, sum(v) AS v, count(*) AS n FROM item GROUP BY k');
SELECT beam.create_pipeline('overall', 'SELECT sum(v) AS v, sum(n) AS n, count(*) AS groups FROM amounts');
CALL beam.wait_for('overall');
\pset tuples_only off
CREATE TABLE known (v bigint PRIMARY KEY);
INSERT INTO known SELECT generate_series(0, 1000);
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.v = 77 THEN RAISE EXCEPTION 'no 77 here'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON amounts FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE amounts ADD CONSTRAINT small CHECK (v < 100), ALTER v SET NOT NULL, ADD CONSTRAINT no_two UNIQUE (v),
    ADD CONSTRAINT of_known FOREIGN KEY (v) REFERENCES known;
-- one that is refused among many that are not
INSERT INTO item SELECT i, i, CASE i WHEN 7 THEN 500 WHEN 8 THEN 77 WHEN 9 THEN NULL WHEN 10 THEN -1 WHEN 11 THEN 1 ELSE i END FROM generate_series(1, 20) i;
CALL beam.wait_for('overall');
SELECT string_agg(k || ':' || v, ' ' ORDER BY k) FROM amounts;
SELECT key, sqlstate FROM failures WHERE pipeline = 'amounts' ORDER BY (key->>'k')::int;
SELECT * FROM overall;
-- their rows are counted: the next ones make them right
INSERT INTO item VALUES (108, 8, 1), (109, 9, 40), (110, 10, 31), (111, 11, 31);
CALL beam.wait_for('overall');
SELECT string_agg(k || ':' || v, ' ' ORDER BY k) FROM amounts;
SELECT key, sqlstate, message FROM failures WHERE pipeline = 'amounts';
SELECT * FROM overall;
-- one that is there is taken out when it has become what the table refuses
UPDATE item SET v = 600 WHERE k = 6;
CALL beam.wait_for('overall');
SELECT string_agg(k || ':' || v, ' ' ORDER BY k) FROM amounts;
SELECT * FROM overall;
-- without the constraint they come by themselves
ALTER TABLE amounts DROP CONSTRAINT small;
CALL mended('amounts');
SELECT string_agg(k || ':' || v, ' ' ORDER BY k) FROM amounts;
CALL beam.wait_for('overall');
SELECT * FROM overall;
SELECT * FROM failures;
-- a row that may not be taken out stays, though the group has gone; the group says so
CREATE FUNCTION refuse_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'nothing leaves'; END $$;
CREATE TRIGGER nothing_leaves BEFORE DELETE ON amounts FOR EACH ROW EXECUTE FUNCTION refuse_all();
DELETE FROM item WHERE k = 1;
CALL beam.wait_for('overall');
SELECT k, v FROM amounts WHERE k = 1;
SELECT key, sqlstate, message FROM failures WHERE pipeline = 'amounts';
SELECT * FROM overall;
DROP TRIGGER nothing_leaves ON amounts;
CALL mended('amounts');
SELECT k, v FROM amounts WHERE k = 1;
CALL beam.wait_for('overall');
SELECT * FROM overall;
SELECT count(*) FROM beam.dead_letters WHERE pipeline IN ('ratio', 'chosen', 'narrow', 'total', 'amounts', 'overall');
SELECT name, d.* FROM beam.pipelines, differs(name) d WHERE name IN ('amounts', 'overall');
-- what is no fault of the group's fails the pipeline, as ever
CREATE FUNCTION wrong() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 FROM nothing_there; RETURN NEW; END $$;
CREATE TRIGGER wrong BEFORE INSERT OR UPDATE ON amounts FOR EACH ROW EXECUTE FUNCTION wrong();
INSERT INTO item VALUES (200, 2, 60);
CALL beam.wait_for('amounts');
SELECT state, error_code FROM beam.pipelines WHERE name = 'amounts';
DROP TRIGGER wrong ON amounts;
SELECT beam.resume_pipeline('amounts');
CALL beam.wait_for('amounts');
SELECT k, v FROM amounts WHERE k = 2;

-- ---- windows, and what panes say ----
CREATE TABLE tick (id int PRIMARY KEY, at timestamptz, k text, a int, b int);
ALTER TABLE tick REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('early', $$SELECT k, sum(a) / sum(b) AS q, count(*) AS n, beam.pane_timing() AS timing, beam.pane_index() AS i
    FROM tick t, beam.tumble(t.at, '1 minute') w GROUP BY w.window_start, w.window_end, k$$, accumulation => 'discarding', source_mode => 'append_only',
    trigger => beam.after_watermark(early => beam.repeatedly(beam.after_count(1)), late => beam.repeatedly(beam.after_count(1))));
SELECT beam.create_pipeline('taken_back', $$SELECT k, sum(a) / sum(b) AS q, count(*) AS n
    FROM tick t, beam.tumble(t.at, '1 minute') w GROUP BY w.window_start, w.window_end, k$$, accumulation => 'retracting',
    trigger => beam.after_watermark(early => beam.repeatedly(beam.after_count(1)), late => beam.repeatedly(beam.after_count(1))));
SELECT beam.create_pipeline('visit', $$SELECT k, sum(a) / sum(b) AS q, count(*) AS n FROM tick t, beam.session(t.at, '1 minute') w
    GROUP BY w.window_start, w.window_end, k$$);
DO $$ DECLARE one text; BEGIN FOREACH one IN ARRAY '{early,taken_back,visit}'::text[] LOOP CALL beam.wait_for(one); END LOOP; END $$;
\pset tuples_only off
INSERT INTO tick VALUES (1, '2026-03-01 10:00:10', 'x', 10, 5);
CALL beam.wait_for('visit');
INSERT INTO tick VALUES (2, '2026-03-01 10:00:20', 'x', 8, -5), (3, '2026-03-01 10:02:00', 'x', 1, 0);
CALL beam.wait_for('visit');
INSERT INTO tick VALUES (4, '2026-03-01 10:00:30', 'x', 6, 0);
CALL beam.wait_for('visit');
SELECT window_start::time, q, n, timing, i FROM early ORDER BY 1, i;
SELECT window_start::time, q, n, op FROM taken_back ORDER BY 1, ctid;
SELECT window_start::time, window_end::time, q, n FROM visit ORDER BY 1;
SELECT * FROM failures WHERE pipeline IN ('early', 'taken_back', 'visit');
-- what failed is said with the next pane; sessions that fail are merged with one that joins them
INSERT INTO tick VALUES (5, '2026-03-01 10:00:40', 'x', 6, 3), (6, '2026-03-01 10:01:20', 'x', 1, 1);
CALL beam.wait_for('visit');
SELECT window_start::time, q, n, timing, i FROM early ORDER BY 1, i;
SELECT window_start::time, q, n, op FROM taken_back ORDER BY 1, ctid;
SELECT window_start::time, window_end::time, q, n FROM visit ORDER BY 1;
SELECT * FROM failures WHERE pipeline IN ('early', 'taken_back', 'visit');

-- ---- the one group of a query without GROUP BY ----
CREATE TABLE lone (id int PRIMARY KEY, v int);
ALTER TABLE lone REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('mean', 'SELECT 12 / count(*) AS q, count(*) AS n FROM lone');
SELECT beam.create_pipeline('mean_log', 'SELECT 12 / count(*) AS q, count(*) AS n FROM lone', accumulation => 'retracting');
CALL beam.wait_for('mean_log');
TABLE mean;
SELECT * FROM failures WHERE pipeline LIKE 'mean%';
INSERT INTO lone VALUES (1, 4), (2, 6);
CALL beam.wait_for('mean_log');
TABLE mean;
DELETE FROM lone;
CALL beam.wait_for('mean_log');
TABLE mean;
SELECT q, n, sum(op) FROM mean_log GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM failures WHERE pipeline LIKE 'mean%';
INSERT INTO lone VALUES (3, 5);
CALL beam.wait_for('mean_log');
TABLE mean;
-- what is known of it is in its table
SELECT beam.pause_pipeline('mean_log');
SELECT beam.resume_pipeline('mean_log');
TRUNCATE lone;
CALL beam.wait_for('mean_log');
TABLE mean;
SELECT * FROM failures WHERE pipeline LIKE 'mean%';
INSERT INTO lone VALUES (4, 3);
CALL beam.wait_for('mean_log');
TABLE mean;
SELECT q, n, sum(op) FROM mean_log GROUP BY 1, 2 ORDER BY 1, 2;
SELECT count(*) FROM beam.failed_groups WHERE pipeline LIKE 'mean%';

DO $$ DECLARE one text; BEGIN FOREACH one IN ARRAY '{mean,mean_log,total,overall,chosen,narrow,ratio,amounts,early,taken_back,visit}'::text[] LOOP PERFORM beam.drop_pipeline(one); END LOOP; END $$;
SELECT count(*) FROM beam.failed_groups;
DROP SCHEMA failing CASCADE;
