-- Each kind of window and of trigger at work: rows go in in several transactions, and the result is what is expected, and the batch answer.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA windows_stream;
SET search_path = windows_stream;
-- the rows in which a result and its batch view differ
CREATE FUNCTION differs(pipeline text) RETURNS TABLE (side text, difference text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT ''only result'', x::text FROM (TABLE %1$I EXCEPT ALL TABLE %2$I) x UNION ALL
                                 SELECT ''only batch'', x::text FROM (TABLE %2$I EXCEPT ALL TABLE %1$I) x', pipeline, pipeline || '_batch');
END $$;

-- ---- one table, a pipeline for each kind of window ----
CREATE TABLE ev (at timestamptz, key text, amount int);
ALTER TABLE ev REPLICA IDENTITY FULL;
CREATE FUNCTION pair(at timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE sql IMMUTABLE
    AS $$SELECT date_trunc('hour', at), date_trunc('hour', at) + '1 hour' WHERE at IS NOT NULL
    UNION ALL SELECT date_trunc('day', at), date_trunc('day', at) + '1 day' WHERE at IS NOT NULL$$;
\pset tuples_only on
SELECT beam.create_pipeline('tumble', $$SELECT key, count(*), sum(amount) FROM ev, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end, key$$);
SELECT beam.create_pipeline('hop', $$SELECT key, count(*), sum(amount) FROM ev, beam.hop(at, '2 minutes', '1 minute') w GROUP BY w.window_start, w.window_end, key$$);
SELECT beam.create_pipeline('gaps', $$SELECT count(*) FROM ev, beam.hop(at, '1 minute', '2 minutes') w GROUP BY w.window_start, w.window_end$$);
SELECT beam.create_pipeline('cumulate', $$SELECT count(*), sum(amount) FROM ev, beam.cumulate(at, '3 minutes', '1 minute') w GROUP BY w.window_start, w.window_end$$);
SELECT beam.create_pipeline('calendar', $$SELECT key, count(*) FROM ev, beam.calendar(at, 'day', 1, 'Europe/Berlin') w GROUP BY w.window_start, w.window_end, key$$);
SELECT beam.create_pipeline('session', $$SELECT key, count(*), sum(amount) FROM ev, beam.session(at, '1 minute') w GROUP BY w.window_start, w.window_end, key$$);
SELECT beam.create_pipeline('custom', $$SELECT count(*), max(amount) FROM ev, pair(at) w GROUP BY w.window_start, w.window_end$$);
SELECT beam.create_pipeline('whole', $$SELECT count(*), sum(amount), max(at) FROM ev$$);
SELECT beam.create_pipeline('few', $$SELECT count(*) FROM ev HAVING count(*) < 3$$);
SELECT beam.create_pipeline('whole_by_key', $$SELECT key, count(*), sum(amount) FROM ev GROUP BY key$$);
SELECT beam.create_pipeline('keys_only', $$SELECT key FROM ev GROUP BY key$$);
SELECT beam.create_pipeline('big', $$SELECT key, sum(amount) FROM ev, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end, key HAVING sum(amount) > 10$$);
\pset tuples_only off
-- without GROUP BY there is a row before the first one of the source, as in a query
TABLE whole;
TABLE few;
TABLE whole_by_key;
-- null event times are in no window; one session's rows come in two bundles
INSERT INTO ev VALUES ('2024-03-31 00:00:05+00', 'a', 1), ('2024-03-31 00:00:59.999999+00', 'a', 2), ('2024-03-31 00:01:00+00', 'b', 3), (NULL, 'a', 100);
INSERT INTO ev VALUES ('2024-03-31 00:00:30+00', NULL, 20), ('2024-03-31 00:02:10+00', 'b', 5), ('2024-03-31 00:01:30+00', 'a', NULL);
INSERT INTO ev VALUES ('2024-03-31 00:00:31+00', NULL, -15), ('2024-03-30 23:59:59+00', 'b', 7);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, window_end::time, key, count, sum FROM tumble ORDER BY 1, 3;
SELECT window_start::time, window_end::time, key, count, sum FROM hop ORDER BY 1, 3;
SELECT window_start::time, window_end::time, count FROM gaps ORDER BY 1;
SELECT window_start::time, window_end::time, count, sum FROM cumulate ORDER BY 1, 2;
-- the day on which the clocks are changed has 23 hours
SELECT window_start, window_end, key, count FROM calendar ORDER BY 1, 3;
SELECT window_start::time, window_end::time, key, count, sum FROM session ORDER BY key, 1;
SELECT * FROM custom ORDER BY 1, 2;
TABLE whole;
TABLE few;
SELECT * FROM whole_by_key ORDER BY key;
SELECT * FROM keys_only ORDER BY key;
-- a row that HAVING let in and lets in no longer: NULL's 20 - 15
SELECT * FROM big;
SELECT name, d.* FROM beam.pipelines, differs(name) d;

-- ---- HAVING, false and true again ----
INSERT INTO ev VALUES ('2024-03-31 00:00:32+00', NULL, 10);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, key, sum FROM big;
INSERT INTO ev VALUES ('2024-03-31 00:00:33+00', NULL, -10);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, key, sum FROM big;
-- in and out within a transaction
INSERT INTO ev VALUES ('2024-03-31 00:00:34+00', NULL, 100), ('2024-03-31 00:00:34+00', NULL, -100);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, key, sum FROM big;
SELECT name, d.* FROM beam.pipelines, differs(name) d;
DO $$DECLARE name text; BEGIN FOR name IN SELECT p.name FROM beam.pipelines p LOOP PERFORM beam.drop_pipeline(name); END LOOP; END$$;

-- ---- sessions: old windows vanish ----
CREATE TABLE click (at timestamptz, visitor int);
ALTER TABLE click REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('visits', $$SELECT visitor, count(*), min(at)::time AS first FROM click, beam.session(at, '10 minutes') w GROUP BY w.window_start, w.window_end, visitor$$,
                            watermark => '1 day');
-- merged within one bundle
INSERT INTO click VALUES ('2024-01-01 10:00', 1), ('2024-01-01 10:05', 1), ('2024-01-01 10:20', 1), ('2024-01-01 10:00', 2);
CALL beam.wait_for('visits');
SELECT window_start::time, window_end::time, visitor, count, first FROM visits ORDER BY 3, 1;
-- longer at its end, over bundles; windows that touch stay apart
INSERT INTO click VALUES ('2024-01-01 10:09', 2);
CALL beam.wait_for('visits');
INSERT INTO click VALUES ('2024-01-01 10:19', 2);
CALL beam.wait_for('visits');
SELECT window_start::time, window_end::time, visitor, count, first FROM visits ORDER BY 3, 1;
-- longer at its start
INSERT INTO click VALUES ('2024-01-01 09:55', 2);
CALL beam.wait_for('visits');
SELECT window_start::time, window_end::time, visitor, count, first FROM visits ORDER BY 3, 1;
-- a click between two old sessions makes one of them
INSERT INTO click VALUES ('2024-01-01 10:12', 1);
CALL beam.wait_for('visits');
SELECT window_start::time, window_end::time, visitor, count, first FROM visits ORDER BY 3, 1;
SELECT * FROM differs('visits');
-- within: nothing moves
INSERT INTO click VALUES ('2024-01-01 10:13', 1), ('2024-01-01 10:13', 1);
CALL beam.wait_for('visits');
SELECT window_start::time, window_end::time, visitor, count, first FROM visits ORDER BY 3, 1;
SELECT * FROM differs('visits');
SELECT cells FROM beam.stat_pipelines;
SELECT beam.drop_pipeline('visits');

-- ---- panes and triggers ----
CREATE TABLE tick (at timestamptz, n int);
ALTER TABLE tick REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('live', $$SELECT count(*), beam.pane_timing() AS timing, beam.pane_index() AS pane, beam.is_last_pane() AS last FROM tick, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '2 minutes', idle_timeout => NULL);
SELECT beam.create_pipeline('final', $$SELECT count(*), beam.pane_timing() AS timing, beam.pane_index() AS pane, beam.pane_timestamp()::time AS stamp FROM tick, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '0', trigger => beam.after_watermark(), idle_timeout => NULL);
SELECT beam.create_pipeline('early_late', $$SELECT count(*), beam.pane_timing() AS timing, beam.pane_index() AS pane FROM tick, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '2 minutes', trigger => beam.after_watermark(early => beam.after_count(2), late => beam.after_count(1)), idle_timeout => NULL);
SELECT beam.create_pipeline('by_two', $$SELECT count(*), sum(n), beam.pane_index() AS pane FROM tick$$, trigger => beam.repeatedly(beam.after_count(2)), accumulation => 'discarding', source_mode => 'append_only');
SELECT beam.create_pipeline('parts', $$SELECT count(*), sum(n), beam.pane_timing() AS timing, beam.pane_index() AS pane FROM tick, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '2 minutes', accumulation => 'discarding', source_mode => 'append_only', idle_timeout => NULL);
SELECT beam.create_pipeline('at_last', $$SELECT count(*), beam.pane_timing() AS timing, beam.is_last_pane() AS last FROM tick, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '2 minutes', trigger => 'never()', idle_timeout => NULL);
SELECT beam.create_pipeline('first_two', $$SELECT count(*) FROM tick, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '2 minutes', trigger => beam.after_count(2), allow_unsafe_trigger => true, idle_timeout => NULL);
\pset tuples_only off
-- before the end of the window
INSERT INTO tick VALUES ('2024-01-01 10:00:10', 1);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, count, timing, pane, last FROM live;
TABLE final;
TABLE early_late;
INSERT INTO tick VALUES ('2024-01-01 10:00:20', 2);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, count, timing, pane, last FROM live;
SELECT window_start::time, count, timing, pane FROM early_late;
INSERT INTO tick VALUES ('2024-01-01 10:00:30', 3);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
-- at its end
INSERT INTO tick VALUES ('2024-01-01 10:01:00', 4);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, count, timing, pane, last FROM live ORDER BY 1;
SELECT window_start::time, count, timing, pane, stamp FROM final;
SELECT window_start::time, count, timing, pane FROM early_late ORDER BY 1;
SELECT name, input_watermark, output_watermark, max_event_time FROM beam.watermarks ORDER BY name;
-- late, but allowed: not for final
INSERT INTO tick VALUES ('2024-01-01 10:00:40', 5);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, count, timing, pane, last FROM live ORDER BY 1;
SELECT window_start::time, count, timing, pane FROM final;
SELECT window_start::time, count, timing, pane FROM early_late ORDER BY 1;
SELECT pipeline, event_time, window_start::time, window_end::time, reason, watermark, data FROM beam.late_events ORDER BY pipeline;
TABLE at_last;
-- two minutes after its end the window is gone, and rows for it are late for all
INSERT INTO tick VALUES ('2024-01-01 10:03:00', 6);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
INSERT INTO tick VALUES ('2024-01-01 10:00:50', 7);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT window_start::time, count, timing, pane, last FROM live ORDER BY 1;
SELECT window_start::time, count, timing, pane FROM final ORDER BY 1;
SELECT window_start::time, count, timing, pane FROM early_late ORDER BY 1;
SELECT window_start::time, count, timing, last FROM at_last ORDER BY 1;
SELECT window_start::time, count FROM first_two ORDER BY 1;
SELECT pipeline, event_time::time, window_start::time, reason, data FROM beam.late_events ORDER BY id, pipeline;
-- discarding: the parts add up
SELECT count, sum, pane FROM by_two ORDER BY pane;
SELECT window_start::time, count, sum, timing, pane FROM parts ORDER BY 1, pane;
SELECT window_start::time, sum(count) AS count, sum(sum) AS sum FROM parts GROUP BY 1 ORDER BY 1;
SELECT name, rows_in, late_events, cells FROM beam.stat_pipelines ORDER BY name;

DO $$DECLARE name text; BEGIN FOR name IN SELECT p.name FROM beam.pipelines p LOOP PERFORM beam.drop_pipeline(name); END LOOP; END$$;
SELECT name, state FROM beam.pipelines;
SELECT count(*) FROM beam.late_events;

-- ---- a row without an event time: of ours it is in no window, a window function of one's own is asked ----
CREATE TABLE lot (at timestamptz, n int);
ALTER TABLE lot REPLICA IDENTITY FULL;
CREATE FUNCTION bins(at timestamptz, n int) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE sql IMMUTABLE AS $$
SELECT CASE WHEN n <> 0 THEN date_bin('1 hour', coalesce(at, '2000-01-01 00:30+00'), '2024-01-01+00') END,
       date_bin('1 hour', coalesce(at, '2000-01-01 00:30+00'), '2024-01-01+00') + CASE WHEN n > 0 THEN interval '1 hour' ELSE interval '0' END $$;
CREATE FUNCTION strict_bins(at timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE sql IMMUTABLE STRICT AS $$
SELECT at, at + interval '1 hour' $$;
SELECT beam.create_pipeline('binned', $$SELECT count(*), sum(n), beam.pane_timestamp() = w.window_end - interval '1 microsecond' AS at_end FROM lot, bins(at, n) w GROUP BY w.window_start, w.window_end$$,
    watermark => '0', allowed_lateness => '1000000 days', timestamp_combiner => 'earliest', idle_timeout => NULL);
SELECT beam.create_pipeline('strictly', $$SELECT count(*) FROM lot, strict_bins(at) w GROUP BY w.window_start, w.window_end$$);
SELECT beam.create_pipeline('ours', $$SELECT count(*) FROM lot, beam.tumble(at, '1 hour') w GROUP BY w.window_start, w.window_end$$);
INSERT INTO lot VALUES (NULL, 1), (NULL, 2), ('2024-01-01 10:10+00', 4), ('infinity', NULL);
CALL beam.wait_for('binned'); CALL beam.wait_for('strictly'); CALL beam.wait_for('ours');
SELECT window_start, count, sum, at_end FROM binned ORDER BY 1;
SELECT window_start, count FROM strictly ORDER BY 1;
SELECT window_start, count FROM ours ORDER BY 1;
SELECT pipeline, sqlstate, message FROM beam.dead_letters ORDER BY 1, 2;
-- bounds that are null, or not in order, are the row's error
INSERT INTO lot VALUES (NULL, 0), ('2024-01-01 10:10+00', 0), (NULL, -1), (NULL, 8);
CALL beam.wait_for('binned');
SELECT window_start, count, sum FROM binned ORDER BY 1;
SELECT sqlstate, message, count(*) FROM beam.dead_letters WHERE pipeline = 'binned' GROUP BY 1, 2 ORDER BY 2;
SELECT input_watermark FROM beam.watermarks WHERE name = 'binned';
-- and it is taken back
DELETE FROM lot WHERE n IN (1, 0, -1);
CALL beam.wait_for('binned');
SELECT window_start, count, sum FROM binned ORDER BY 1;
DO $$DECLARE name text; BEGIN FOR name IN SELECT p.name FROM beam.pipelines p LOOP PERFORM beam.drop_pipeline(name); END LOOP; END$$;
DROP SCHEMA windows_stream CASCADE;
