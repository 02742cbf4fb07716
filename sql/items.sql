-- Aggregates that keep the values of their rows: as many as make a tree of them, changed in every way, beside the batch view.
SET client_min_messages = warning;
SET timezone = 'UTC';
\pset format unaligned
\pset tuples_only on
CREATE TABLE kept (id int PRIMARY KEY, k int, at timestamptz, v numeric, f float8, t text, j json);
ALTER TABLE kept REPLICA IDENTITY FULL;
CREATE FUNCTION fill(first int, last int) RETURNS void LANGUAGE sql AS $$
INSERT INTO kept SELECT i, i % 3, '2026-01-01'::timestamptz + i * 7919 % 400 * interval '1 s', (i * 31 % 50 || CASE WHEN i % 2 = 0 THEN '.0' ELSE '.00' END)::numeric,
    CASE WHEN i % 40 = 0 THEN 0 WHEN i % 41 = 0 THEN -0.0::float8 WHEN i % 43 = 0 THEN 'NaN' ELSE i * 17 % 300 END,
    CASE WHEN i % 11 = 0 THEN NULL ELSE 'x' || i % 37 END, json_build_object('i', i % 5) FROM generate_series(first, last) i $$;
CREATE FUNCTION different(pipeline text) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL TABLE %2$I) UNION ALL (TABLE %2$I EXCEPT ALL TABLE %1$I)) d', pipeline, pipeline || '_batch') INTO n;
    RETURN n;
END $$;

-- ---- rows that come, change and go ----
SELECT beam.create_pipeline('extremes', 'SELECT k, max(v) AS maxv, min(v) AS minv, max(t) AS maxt, min(f) AS minf, max(f) AS maxf, max(at) AS maxat, max(id) FILTER (WHERE v > 20) AS few FROM kept GROUP BY k');
SELECT beam.create_pipeline('counts', 'SELECT k, count(DISTINCT v) AS v, count(DISTINCT t) AS t, count(DISTINCT f) AS f, count(DISTINCT at) AS at, count(DISTINCT ARRAY[v, k]) AS r, sum(DISTINCT v) AS s, string_agg(DISTINCT t, '','') AS ts FROM kept GROUP BY k');
SELECT beam.create_pipeline('ordered', $$SELECT k, percentile_cont(0.3) WITHIN GROUP (ORDER BY f) AS c, percentile_cont(0.95) WITHIN GROUP (ORDER BY v DESC) AS cd,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY id) AS d, percentile_disc(0.7) WITHIN GROUP (ORDER BY at DESC) AS dd, percentile_disc(0.5) WITHIN GROUP (ORDER BY t) AS dt,
    percentile_cont(ARRAY[0.1, 0.9]) WITHIN GROUP (ORDER BY f) AS many, mode() WITHIN GROUP (ORDER BY v) AS m, mode() WITHIN GROUP (ORDER BY t) AS mt FROM kept GROUP BY k$$);
SELECT beam.create_pipeline('latest', 'SELECT k, beam.first(v, at) AS f, beam.last(t, at) AS l, beam.last(id, at) AS li, beam.top(3, id, v) AS top, beam.top(2, t, at) AS nulls, beam.last(v, t) AS by_text, beam.last(j, id)::text AS j FROM kept GROUP BY k');
SELECT beam.create_pipeline('arrays', 'SELECT k, array_agg(v ORDER BY at, id) AS a, (array_agg(t ORDER BY at DESC, id))[1] AS one, string_agg(t, '','' ORDER BY id) AS s FROM kept GROUP BY k');
SELECT fill(1, 6000);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT name, different(name) FROM beam.pipelines ORDER BY name;
DELETE FROM kept WHERE k <> 2 AND id % 7 < 5;
UPDATE kept SET v = v + 1, t = 'y' || id % 100, at = at + interval '1 day' WHERE id % 5 = 1;
SELECT fill(6001, 6010);
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT name, different(name) FROM beam.pipelines ORDER BY name;
-- one by one from the top
DO $$ BEGIN
    FOR i IN 1 .. 50 LOOP
        DELETE FROM kept WHERE id = (SELECT id FROM kept WHERE k = 2 ORDER BY v DESC, at DESC LIMIT 1);
        COMMIT;
    END LOOP;
END $$;
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT name, different(name) FROM beam.pipelines ORDER BY name;
SELECT k, minv, few FROM extremes ORDER BY k;
SELECT k, v, t FROM counts ORDER BY k;
SELECT k, l, li, top FROM latest ORDER BY k;
-- what is kept is told
SELECT e FROM beam.explain_pipeline('latest') e WHERE e ~ 'is kept as';

-- ---- an alteration, a resync, and a backfill begin with other trees, and nothing stays of the old ones ----
SELECT beam.alter_pipeline('extremes', 'SELECT k, max(v) AS maxv, min(v) AS minv, max(t) AS maxt, min(f) AS minf, max(f) AS maxf, max(at) AS maxat, count(DISTINCT at) AS few FROM kept GROUP BY k', keep => NULL);
CALL beam.wait_for_alter('extremes');
SELECT beam.resync_pipeline('counts');
CALL beam.backfill('ordered');
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT name, different(name) FROM beam.pipelines ORDER BY name;
-- trees are those that cells say they have
CREATE FUNCTION strays() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    id int;
    strays bigint;
    n bigint := 0;
BEGIN
    FOR id IN SELECT p.id FROM beam.pipeline p LOOP
        EXECUTE format('SELECT count(*) FROM beam_state.items_%1$s i WHERE NOT EXISTS (SELECT FROM beam_state.cells_%1$s c WHERE i.tree = ANY (c.items))', id) INTO strays;
        n := n + strays;
    END LOOP;
    RETURN n;
END $$;
SELECT strays();
SELECT count(*) > 0 FROM beam.pipeline p WHERE pg_relation_size(format('beam_state.items_%s', p.id)::regclass) > 0;

-- ---- all rows go ----
DELETE FROM kept;
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT (SELECT count(*) FROM extremes), (SELECT count(*) FROM counts), (SELECT count(*) FROM ordered), (SELECT count(*) FROM latest), (SELECT count(*) FROM arrays);
SELECT strays();
SELECT beam.drop_pipeline(name) FROM beam.pipelines ORDER BY name;
SELECT count(*) FROM pg_class WHERE relnamespace = 'beam_state'::regnamespace AND relname LIKE 'items%';

-- ---- rows that only come; windows end, and sessions merge, and their trees go ----
CREATE TABLE log (id int, k int, at timestamptz NOT NULL, v numeric, t text);
SELECT beam.create_pipeline('appended', $$SELECT w.window_start, w.window_end, k, count(DISTINCT v) AS n, string_agg(t, ',' ORDER BY id) AS s, beam.last(t, id) AS l, beam.top(2, id, v) AS top, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS c
    FROM log, beam.tumble(at, '1 hour') w GROUP BY 1, 2, 3$$, source_mode => 'append_only', allowed_lateness => '0', watermark => '1 day');
SELECT beam.create_pipeline('in_sessions', $$SELECT w.window_start, w.window_end, k, count(DISTINCT v) AS n, array_agg(id ORDER BY id) AS a, beam.first(t, id) AS f
    FROM log, beam.session(at, '10 s') w GROUP BY 1, 2, 3$$, source_mode => 'append_only', allowed_lateness => '0', watermark => '1 day');
SELECT beam.create_pipeline('said', $$SELECT w.window_start, w.window_end, k, count(DISTINCT v) AS n, array_agg(id) AS a
    FROM log, beam.tumble(at, '1 hour') w GROUP BY 1, 2, 3$$, source_mode => 'append_only', accumulation => 'discarding', trigger => 'repeatedly(after_count(1500))', allow_unsafe_trigger => true, watermark => '0');
INSERT INTO log SELECT i, i % 2, '2026-01-01'::timestamptz + i * interval '1 s' + i / 500 * interval '30 s', i * 7 % 900, 't' || i FROM generate_series(1, 3000) i;
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT different('appended'), different('in_sessions'), (SELECT count(*) FROM in_sessions), strays();
-- between two sessions of several leaves, for both keys
INSERT INTO log SELECT i * 1000 + j, i % 2, '2026-01-01'::timestamptz + i * interval '1 s' + j * interval '6 s' + (i / 500 - 1) * interval '30 s', i, 'b' || i || j FROM generate_series(500, 2501, 500) i, generate_series(0, 6) j;
INSERT INTO log SELECT i * 1000 + 500 + j, (i + 1) % 2, '2026-01-01'::timestamptz + i * interval '1 s' + j * interval '6 s' + (i / 500 - 1) * interval '30 s', i, 'b' || i || j FROM generate_series(500, 2501, 500) i, generate_series(0, 6) j;
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT different('appended'), different('in_sessions'), (SELECT count(*) FROM in_sessions), strays();
SELECT k, n, array_length(a, 1) FROM said ORDER BY k;
-- a day later
INSERT INTO log VALUES (0, 0, '2026-01-03', 0, 'end');
SELECT format('CALL beam.wait_for(%L)', name) FROM beam.pipelines ORDER BY name \gexec
SELECT different('appended'), different('in_sessions'), strays();
SELECT p.name, c.cells FROM beam.pipeline p JOIN beam.stat_pipelines c USING (name) ORDER BY 1;

-- ---- comparisons that fail while a result is computed: none of the values is lost, none comes twice ----
CREATE TYPE odd AS (i int);
CREATE SEQUENCE odd_calls;
CREATE FUNCTION odd_compare(a odd, b odd) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    call bigint := nextval('public.odd_calls');
BEGIN
    IF call BETWEEN 1000000 AND 1012000 AND call % 1100 = 0 THEN
        RAISE EXCEPTION 'a comparison fails';
    END IF;
    RETURN sign(a.i - b.i);
END $$;
CREATE FUNCTION odd_eq(a odd, b odd) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT a.i = b.i';
CREATE FUNCTION odd_lt(a odd, b odd) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT a.i < b.i';
CREATE FUNCTION odd_gt(a odd, b odd) RETURNS bool IMMUTABLE LANGUAGE sql AS 'SELECT a.i > b.i';
CREATE OPERATOR = (FUNCTION = odd_eq, LEFTARG = odd, RIGHTARG = odd);
CREATE OPERATOR < (FUNCTION = odd_lt, LEFTARG = odd, RIGHTARG = odd);
CREATE OPERATOR > (FUNCTION = odd_gt, LEFTARG = odd, RIGHTARG = odd);
CREATE OPERATOR CLASS odd_ops DEFAULT FOR TYPE odd USING btree AS OPERATOR 1 <, OPERATOR 3 =, OPERATOR 5 >, FUNCTION 1 odd_compare(odd, odd);
CREATE TABLE odds (id int PRIMARY KEY, v odd);
ALTER TABLE odds REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('oddly', 'SELECT count(DISTINCT v) AS n FROM odds');
INSERT INTO odds SELECT i, ROW(i * 7919 % 1999)::odd FROM generate_series(1, 2000) i;
CALL beam.wait_for('oddly');
SELECT * FROM oddly;
SELECT setval('odd_calls', 1000250);
INSERT INTO odds SELECT i, ROW(i * 7919 % 3001)::odd FROM generate_series(2001, 2200) i;
CALL beam.wait_for('oddly');
-- once more, should the last comparison have failed
SELECT setval('odd_calls', 2000000);
INSERT INTO odds VALUES (2201, ROW(5000));
CALL beam.wait_for('oddly');
SELECT n = (SELECT count(DISTINCT v) FROM odds) FROM oddly;
DELETE FROM odds WHERE id % 3 = 0;
CALL beam.wait_for('oddly');
SELECT n = (SELECT count(DISTINCT v) FROM odds), strays() FROM oddly;

-- ---- the aggregates by themselves ----
SELECT beam.first(v, o), beam.last(v, o), beam.top(2, v, o) FROM (VALUES (1, 3), (2, 1), (3, NULL), (NULL, 3), (5, 2)) r (v, o);
SELECT beam.first(v, o), beam.last(v, o), beam.top(3, v, o) FROM (VALUES ('a', 1.0), ('b', 1.00), (NULL, 1)) r (v, o);
SELECT beam.first(v, o), beam.last(v, o), beam.top(2, v, o) FROM (VALUES (1, 3)) r (v, o) WHERE false;
SELECT g, beam.last(ARRAY[g, i], i), beam.top(2, i::text, -i) FROM generate_series(1, 100) i, LATERAL (SELECT i % 3) x (g) GROUP BY g ORDER BY g;
\set VERBOSITY terse
SELECT beam.top(0, 1, 1);
SELECT beam.top(NULL, 1, 1);
SELECT beam.top(i, 1, 1) FROM generate_series(1, 2) i;
SELECT beam.last(1, '1'::json);
\set VERBOSITY default
SELECT beam.drop_pipeline(name) FROM beam.pipelines ORDER BY name;
DROP TABLE kept, log, odds;
DROP TYPE odd CASCADE;
DROP SEQUENCE odd_calls;
DROP FUNCTION fill, different, strays;
