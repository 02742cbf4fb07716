-- Chained pipelines: one reads the result of another as a stream, and each level equals its own definition.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA chained;
SET search_path = chained;
-- the rows in which a result and its batch view differ
CREATE FUNCTION differs(pipeline text) RETURNS TABLE (side text, difference text) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT ''only result'', x::text FROM (TABLE %1$I EXCEPT ALL TABLE %2$I) x UNION ALL
                                 SELECT ''only batch'', x::text FROM (TABLE %2$I EXCEPT ALL TABLE %1$I) x', pipeline, pipeline || '_batch');
END $$;

-- ---- a sum of sums, three levels ----
CREATE TABLE sale (at timestamptz, shop text, amount int);
ALTER TABLE sale REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('minutely', $$SELECT shop, sum(amount) AS amount, count(*) AS n, max(at) AS latest FROM sale s, beam.tumble(s.at, '1 minute') w
    GROUP BY w.window_start, w.window_end, shop$$);
SELECT beam.create_pipeline('hourly', $$SELECT sum(m.amount) AS amount, sum(m.n) AS n, count(*) AS minutes, min(m.amount) AS least, max(m.amount) AS most,
    count(DISTINCT m.amount) AS different, string_agg(m.shop || m.amount, ' ' ORDER BY m.shop, m.window_start) AS list, avg(m.amount) AS mean
    FROM minutely m, beam.tumble(m.window_start, '1 hour') w GROUP BY w.window_start, w.window_end$$);
SELECT beam.create_pipeline('daily', $$SELECT sum(h.amount) AS amount, max(h.most) AS most, string_agg(h.list, ' / ' ORDER BY h.window_start) AS list
    FROM hourly h, beam.tumble(h.window_start, '1 day') w GROUP BY w.window_start, w.window_end$$);
-- the same groups by what an upstream pane says: groups move and become empty
SELECT beam.create_pipeline('sizes', $$SELECT m.n, count(*) AS minutes, sum(m.amount) AS amount FROM minutely m GROUP BY m.n$$);
SELECT beam.create_pipeline('large', $$SELECT shop, sum(amount) AS amount FROM sale s, beam.tumble(s.at, '1 minute') w
    GROUP BY w.window_start, w.window_end, shop HAVING sum(amount) > 10$$);
SELECT beam.create_pipeline('large_shops', $$SELECT l.shop, count(*) AS minutes, sum(l.amount) AS amount, max(l.amount) AS most FROM large l GROUP BY l.shop$$);
SELECT beam.create_pipeline('large_all', $$SELECT count(*) AS minutes, sum(l.amount) AS amount FROM large l$$);
-- one that has just been made may take what was there before on its own
DO $$ DECLARE one text; BEGIN FOR one IN SELECT name FROM beam.pipelines LOOP CALL beam.wait_for(one); END LOOP; END $$;
\pset tuples_only off
SELECT beam.explain_pipeline('hourly');
SELECT * FROM large_all;
INSERT INTO sale VALUES ('2026-03-01 10:00:10', 'a', 5), ('2026-03-01 10:00:20', 'b', 3), ('2026-03-01 10:01:00', 'a', 7);
CALL beam.wait_for('daily');
SELECT window_start::time, amount, n, minutes, least, most, different, list, mean::numeric(8, 2) FROM hourly ORDER BY 1;
SELECT window_start::date, amount, most, list FROM daily;
SELECT * FROM sizes ORDER BY n;
SELECT * FROM large_shops;
-- panes that are out are replaced, a maximum goes away, an hour is new
INSERT INTO sale VALUES ('2026-03-01 10:01:10', 'a', -4), ('2026-03-01 10:00:30', 'b', 20), ('2026-03-01 11:00:00', 'b', 1);
CALL beam.wait_for('daily');
SELECT window_start::time, amount, n, minutes, least, most, different, list, mean::numeric(8, 2) FROM hourly ORDER BY 1;
SELECT window_start::date, amount, most, list FROM daily;
SELECT * FROM sizes ORDER BY n;
SELECT * FROM large_shops;
SELECT name, d.* FROM beam.pipelines, differs(name) d;

-- ---- HAVING upstream: false, and true again ----
INSERT INTO sale VALUES ('2026-03-01 10:00:31', 'b', -20), ('2026-03-01 10:02:00', 'a', 11);
CALL beam.wait_for('large_shops');
SELECT shop, amount FROM large;
SELECT * FROM large_shops;
SELECT * FROM large_all;
INSERT INTO sale VALUES ('2026-03-01 10:02:01', 'a', -11);
CALL beam.wait_for('large_shops');
SELECT * FROM large_shops;
SELECT * FROM large_all;
INSERT INTO sale VALUES ('2026-03-01 10:02:02', 'a', 15), ('2026-03-01 10:00:32', 'b', 30);
CALL beam.wait_for('large_shops');
SELECT * FROM large_shops ORDER BY shop;
SELECT * FROM large_all;
SELECT name, d.* FROM beam.pipelines, differs(name) d;

-- ---- the watermark is the upstream's output watermark ----
SELECT u.name, d.name, d.input_watermark = u.output_watermark AS same
  FROM (VALUES ('minutely', 'hourly'), ('hourly', 'daily')) v(up, down) JOIN beam.watermarks u ON u.name = up JOIN beam.watermarks d ON d.name = down
 ORDER BY u.name DESC;
SELECT output_watermark FROM beam.watermarks WHERE name IN ('minutely', 'hourly') ORDER BY name;

-- ---- paused and resumed: what comes meanwhile is queued, and is taken without a further row ----
SELECT beam.pause_pipeline('hourly');
INSERT INTO sale VALUES ('2026-03-01 10:00:40', 'a', 100), ('2026-03-01 10:05:00', 'c', 1);
INSERT INTO sale VALUES ('2026-03-01 10:00:41', 'a', 200);
CALL beam.wait_for('minutely');
SELECT shop, amount FROM minutely WHERE window_start = '2026-03-01 10:00' ORDER BY shop;
SELECT window_start::time, amount, list FROM hourly ORDER BY 1;
SELECT beam.resume_pipeline('hourly');
CALL beam.wait_for('daily');
SELECT window_start::time, amount, list FROM hourly ORDER BY 1;
SELECT window_start::date, amount, most, list FROM daily;
-- many changes of one row of the upstream: each is taken back after it was added
SELECT beam.pause_pipeline('hourly');
\set ECHO none
SELECT c FROM generate_series(1, 40) i, LATERAL (VALUES (format('INSERT INTO sale VALUES (''2026-03-01 10:06:00'', ''e'', %s)', i)),
    ('CALL beam.wait_for(''minutely'')')) v(c) \gexec
\set ECHO all
SELECT beam.resume_pipeline('hourly');
CALL beam.wait_for('hourly');
SELECT window_start::time, amount, most, different, list FROM hourly ORDER BY 1;
INSERT INTO sale VALUES ('2026-03-01 10:06:00', 'e', -820);
CALL beam.wait_for('hourly');
-- the last of the chain, and the middle while the last is paused
SELECT beam.pause_pipeline('daily');
SELECT beam.pause_pipeline('hourly');
INSERT INTO sale VALUES ('2026-03-01 10:00:42', 'a', -300), ('2026-03-01 12:00:00', 'd', 9);
CALL beam.wait_for('minutely');
SELECT beam.resume_pipeline('hourly');
CALL beam.wait_for('hourly');
SELECT window_start::date, amount FROM daily;
SELECT beam.resume_pipeline('daily');
CALL beam.wait_for('daily');
SELECT window_start::date, amount, most, list FROM daily;
SELECT name, d.* FROM beam.pipelines, differs(name) d;
-- the first of the chain
SELECT beam.pause_pipeline('minutely');
INSERT INTO sale VALUES ('2026-03-01 12:00:01', 'd', 1);
CALL beam.wait_for('daily');
SELECT beam.resume_pipeline('minutely');
CALL beam.wait_for('minutely');
CALL beam.wait_for('daily');
SELECT name, d.* FROM beam.pipelines, differs(name) d;

-- ---- late rows: upstream drops its own; what upstream updates after the downstream window has expired is late there ----
CREATE TABLE tick (at timestamptz, n int);
ALTER TABLE tick REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('tick_minutes', $$SELECT sum(n) AS n FROM tick t, beam.tumble(t.at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
                            watermark => '0', allowed_lateness => '1 day');
SELECT beam.create_pipeline('tick_hours', $$SELECT sum(t.n) AS n FROM tick_minutes t, beam.tumble(t.window_start, '1 hour') w
    GROUP BY w.window_start, w.window_end$$, allowed_lateness => '0');
\pset tuples_only off
INSERT INTO tick VALUES ('2026-03-01 10:00', 1), ('2026-03-01 10:59', 2);
CALL beam.wait_for('tick_hours');
INSERT INTO tick VALUES ('2026-03-01 13:00', 4);
CALL beam.wait_for('tick_hours');
INSERT INTO tick VALUES ('2026-03-01 10:00', 8), ('2026-03-01 10:01', 16);
CALL beam.wait_for('tick_hours');
SELECT window_start::time, n FROM tick_minutes ORDER BY 1;
SELECT window_start::time, n FROM tick_hours ORDER BY 1;
SELECT pipeline, event_time::time, window_start::time, reason, data FROM beam.late_events ORDER BY event_time, data->>'n';

-- ---- sessions upstream: those that merge are taken back ----
CREATE TABLE click (at timestamptz, visitor int);
ALTER TABLE click REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('visits', $$SELECT visitor, count(*) AS clicks FROM click c, beam.session(c.at, '10 minutes') w
    GROUP BY w.window_start, w.window_end, visitor$$, watermark => '1 day');
SELECT beam.create_pipeline('visits_a_day', $$SELECT count(*) AS visits, sum(v.clicks) AS clicks, max(v.clicks) AS longest
    FROM visits v, beam.tumble(v.window_start, '1 day') w GROUP BY w.window_start, w.window_end$$);
\pset tuples_only off
INSERT INTO click VALUES ('2026-03-01 10:00', 1), ('2026-03-01 10:16', 1), ('2026-03-01 11:00', 1), ('2026-03-01 10:00', 2);
CALL beam.wait_for('visits_a_day');
SELECT visits, clicks, longest FROM visits_a_day;
-- a bridge
INSERT INTO click VALUES ('2026-03-01 10:08', 1);
CALL beam.wait_for('visits_a_day');
SELECT visits, clicks, longest FROM visits_a_day;
-- over midnight: the session's start, and with it the day, moves
INSERT INTO click VALUES ('2026-03-02 00:01', 3), ('2026-03-02 00:03', 3);
CALL beam.wait_for('visits_a_day');
INSERT INTO click VALUES ('2026-03-01 23:59', 3);
CALL beam.wait_for('visits_a_day');
SELECT window_start::date, visits, clicks, longest FROM visits_a_day ORDER BY 1;
SELECT name, d.* FROM beam.pipelines, differs(name) d WHERE name LIKE 'visits%';

-- ---- discarding and retracting results are appended to ----
CREATE TABLE piece (at timestamptz, n int);
ALTER TABLE piece REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('pieces', $$SELECT sum(n) AS n FROM piece p, beam.tumble(p.at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
                            accumulation => 'discarding', source_mode => 'append_only');
SELECT beam.create_pipeline('pieces_sum', $$SELECT sum(p.n) AS n, count(*) AS panes FROM pieces p$$);
-- a session over an append-only result is a session over a stream
SELECT beam.create_pipeline('pieces_session', $$SELECT sum(p.n) AS n, count(*) AS panes FROM pieces p, beam.session(p.window_start, '5 minutes') w
    GROUP BY w.window_start, w.window_end$$);
SELECT beam.create_pipeline('changes', $$SELECT sum(n) AS n FROM piece p, beam.tumble(p.at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
                            accumulation => 'retracting');
SELECT beam.create_pipeline('changes_sum', $$SELECT sum(c.n * c.op) AS n, count(*) FILTER (WHERE c.op < 0) AS taken_back FROM changes c$$);
DO $$ DECLARE one text; BEGIN FOR one IN SELECT name FROM beam.pipelines LOOP CALL beam.wait_for(one); END LOOP; END $$;
\pset tuples_only off
INSERT INTO piece VALUES ('2026-03-01 10:00', 1), ('2026-03-01 10:03', 2);
CALL beam.wait_for('changes_sum');
INSERT INTO piece VALUES ('2026-03-01 10:00', 10);
CALL beam.wait_for('changes_sum');
SELECT * FROM pieces_sum;
SELECT window_start::time, window_end::time, n, panes FROM pieces_session;
SELECT * FROM changes_sum;
SELECT name, d.* FROM beam.pipelines, differs(name) d WHERE name IN ('pieces_sum', 'pieces_session', 'changes_sum');

-- ---- an aggregate over nothing is a row, also where rows are taken back, and in what reads it ----
CREATE TABLE nothing (n int);
ALTER TABLE nothing REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('none', 'SELECT count(*) AS n, sum(n) AS s FROM nothing', accumulation => 'retracting');
CALL beam.wait_for('none');
SELECT beam.create_pipeline('none_sum', 'SELECT count(*) AS n, sum(n * op) AS s FROM none', accumulation => 'retracting');
SELECT beam.create_pipeline('none_none', 'SELECT count(*) AS n FROM nothing WHERE n > 10', accumulation => 'retracting', history => false);
SELECT beam.create_pipeline('none_of_it', 'SELECT count(*) AS n FROM none_none', accumulation => 'retracting');
\pset tuples_only off
CALL beam.wait_for('none_sum');
CALL beam.wait_for('none_of_it');
TABLE none;
TABLE none_sum;
TABLE none_none;
TABLE none_of_it;
INSERT INTO nothing VALUES (7);
CALL beam.wait_for('none_sum');
TABLE none;
SELECT n, s, sum(op) FROM none_sum GROUP BY n, s HAVING sum(op) <> 0;
DELETE FROM nothing;
CALL beam.wait_for('none_sum');
SELECT n, s, sum(op) FROM none GROUP BY n, s HAVING sum(op) <> 0;
\pset tuples_only on
SELECT beam.drop_pipeline(name) FROM unnest('{none_sum,none,none_of_it,none_none}'::text[]) name;
\pset tuples_only off

-- ---- what is refused ----
SELECT beam.create_pipeline('no', $$SELECT count(*) FROM minutely m, beam.session(m.window_start, '1 hour') w GROUP BY w.window_start, w.window_end$$, accumulation => 'discarding');
-- while it is read, with its result or without
SELECT beam.drop_pipeline('minutely');
SELECT beam.drop_pipeline('minutely', keep_result => true);
SELECT beam.drop_pipeline('hourly');
SELECT count(*) FROM beam.pipelines WHERE name IN ('minutely', 'hourly', 'daily');
-- from its end on
SELECT beam.drop_pipeline('daily');
SELECT beam.drop_pipeline('hourly');
INSERT INTO sale VALUES ('2026-03-01 12:00:02', 'd', 1);
CALL beam.wait_for('sizes');
SELECT name, d.* FROM beam.pipelines, differs(name) d WHERE name NOT LIKE 'tick%' AND name NOT IN ('pieces', 'changes');
SELECT beam.drop_pipeline('sizes');
SELECT beam.drop_pipeline('minutely');
SELECT name, state, error_message FROM beam.pipelines WHERE state <> 'running';
\pset tuples_only on
SELECT beam.drop_pipeline(name) FROM unnest('{large_all,large_shops,large,tick_hours,tick_minutes,visits_a_day,visits,pieces_session,pieces_sum,pieces,changes_sum,changes}'::text[]) name;
\pset tuples_only off
-- queues are left to the runner
SELECT count(*) FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relkind = 'r' AND relname NOT LIKE 'queue%';
DROP SCHEMA chained CASCADE;
