-- The result is exactly what the same query says as a batch, whatever the windows and aggregates, and however the rows come in.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SELECT plan(14);

CREATE TABLE reading (at timestamptz, sensor int, place text, value numeric, load float8);
ALTER TABLE reading REPLICA IDENTITY FULL;
CREATE TABLE wanted (name text, query text);
ALTER TABLE wanted REPLICA IDENTITY FULL;
INSERT INTO wanted VALUES
('minutes', $$SELECT sensor, count(*), sum(value), avg(value), min(value), max(load) FROM reading, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end, sensor$$),
('overlapping', $$SELECT place, count(*), sum(value) FROM reading, beam.hop(at, '10 minutes', '1 minute') w GROUP BY w.window_start, w.window_end, place$$),
('so_far', $$SELECT count(*), count(DISTINCT sensor) AS sensors FROM reading, beam.cumulate(at, '1 hour', '10 minutes') w GROUP BY w.window_start, w.window_end$$),
('visits', $$SELECT sensor, place, count(*), min(at) AS first, max(at) AS last FROM reading, beam.session(at, '20 seconds') w GROUP BY w.window_start, w.window_end, sensor, place$$),
('days', $$SELECT count(*), stddev(value) FROM reading, beam.calendar(at, 'day', 1, 'America/New_York') w GROUP BY w.window_start, w.window_end$$),
('ever', $$SELECT place, count(*), sum(value), string_agg(DISTINCT sensor::text, ',') AS sensors FROM reading GROUP BY place$$),
('total', $$SELECT count(*), sum(value), max(at) FROM reading$$),
('alarms', $$SELECT sensor, max(value) AS peak, percentile_disc(0.9) WITHIN GROUP (ORDER BY value) AS p90 FROM reading, beam.tumble(at, '5 minutes') w
            WHERE place IS NOT NULL GROUP BY w.window_start, w.window_end, sensor HAVING max(value) > 90 AND count(*) > 3$$),
('parity', $$SELECT sensor % 2 = 0 AS even, upper(place) AS place, count(*) FILTER (WHERE value > 50) AS high, sum(value) / nullif(count(value), 0) AS mean
            FROM reading, beam.tumble(at, '15 minutes', "offset" => '5 minutes') w GROUP BY w.window_start, w.window_end, sensor % 2 = 0, upper(place)$$);
SELECT beam.create_pipeline(name, query, watermark => '1 day') FROM wanted;

-- rows in no order at all, in many transactions, some of them rolled back in parts; nulls in every column
SELECT setseed(0.42);
CREATE FUNCTION readings(n int) RETURNS SETOF reading LANGUAGE sql VOLATILE AS $$
    SELECT '2024-03-09 20:00'::timestamptz + floor(random() * 7200000) * interval '1 ms',
           CASE WHEN random() < 0.95 THEN (random() * 10)::int END, (ARRAY['roof', 'cellar', 'Garden', NULL])[1 + floor(random() * 4)],
           CASE WHEN random() < 0.95 THEN round((random() * 100)::numeric, 2) END, round(random() * 1000)
      FROM generate_series(1, n)
$$;
DO $$
BEGIN
    FOR i IN 1 .. 30 LOOP
        INSERT INTO reading SELECT * FROM readings(50);
        BEGIN
            INSERT INTO reading SELECT * FROM readings(50);
            RAISE EXCEPTION 'undone';
        EXCEPTION WHEN raise_exception THEN NULL;
        END;
        INSERT INTO reading SELECT * FROM readings(1);
        COMMIT;
    END LOOP;
    INSERT INTO reading VALUES (NULL, 1, 'roof', 1, 1);
    COMMIT;
END $$;
SELECT is(count(*), 1531::bigint, 'there is something to compare') FROM reading;
DO $$ DECLARE one text; BEGIN FOR one IN SELECT name FROM wanted LOOP CALL beam.wait_for(one); END LOOP; END $$;
SELECT bag_eq('TABLE ' || name, 'TABLE ' || name || '_batch', name || ' is equal to its batch view') FROM wanted ORDER BY name;
SELECT cmp_ok(count(*), '>', 100::bigint, 'and there were rows in them') FROM minutes;

-- one large transaction
INSERT INTO reading SELECT * FROM readings(5000);
CALL beam.wait_for('minutes');
SELECT is((SELECT string_agg(name, ' ') FROM wanted WHERE NOT (SELECT state = 'running' FROM beam.pipelines p WHERE p.name = wanted.name)), NULL, 'all of them run');
SELECT bag_eq('TABLE visits', 'TABLE visits_batch', 'sessions are equal after a large transaction');
SELECT bag_eq('TABLE alarms', 'TABLE alarms_batch', 'and so is what HAVING lets through');
SELECT * FROM finish();
