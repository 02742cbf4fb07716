-- beam.explain_pipeline: each kind of window and each way in which an aggregate is kept.
SET client_min_messages = warning;
SET intervalstyle = postgres;
CREATE SCHEMA explain;
SET search_path = explain;
CREATE TABLE orders (id bigint, at timestamptz NOT NULL, region text, status text, amount numeric, weight float8, "Odd name" int);
ALTER TABLE orders REPLICA IDENTITY FULL;
CREATE FUNCTION half_hours(at timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz)
    LANGUAGE sql IMMUTABLE AS $$SELECT date_trunc('hour', at), date_trunc('hour', at) + interval '30 minutes'$$;
CREATE AGGREGATE product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
\pset format unaligned
\pset tuples_only on

-- windows
SELECT beam.create_pipeline('p', $$SELECT w.window_start, w.window_end, region, count(*), sum(amount) AS revenue, avg(weight)
                                     FROM orders o, beam.tumble(o.at, '1 minute') w
                                    WHERE status <> 'test' AND amount > 0
                                    GROUP BY 1, 2, 3 HAVING count(*) > 1$$,
                            watermark => '5 s', allowed_lateness => '2 hours', idle_timeout => NULL,
                            trigger => beam.after_watermark(early => beam.after_processing_time('5 s'), late => beam.after_count(1)));
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders, beam.hop(at, '1 hour', '5 minutes', "offset" => '1 minute') w GROUP BY w.window_start, w.window_end$$,
                            accumulation => 'discarding', source_mode => 'append_only');
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders, beam.cumulate(at, '1 day', '1 hour') w GROUP BY w.window_start, w.window_end$$);
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders, beam.session(at, '30 minutes') w GROUP BY w.window_start, w.window_end, region$$);
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders, beam.calendar(at, 'month', 3, 'Europe/Berlin') w GROUP BY w.window_start, w.window_end$$);
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders, half_hours(at) w GROUP BY w.window_start, w.window_end$$);
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', $$SELECT max("Odd name") AS "The max", beam.pane_timing() AS timing, beam.pane_index() FROM orders$$);
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');

-- expressions
SELECT beam.create_pipeline('p', $$SELECT extract(hour FROM w.window_start) AS hour, upper(region) AS region, sum(amount) / count(amount) AS mean,
                                          sum(amount) FILTER (WHERE status = 'new') AS fresh, sum(amount) AS again
                                     FROM orders, beam.tumble(at, '1 hour') w
                                    WHERE status IN ('new', 'paid') AND region IS NOT NULL GROUP BY w.window_start, w.window_end, upper(region)$$);
SELECT beam.explain_pipeline('p');
SELECT beam.drop_pipeline('p');

-- aggregates
SELECT beam.create_pipeline('p', $$SELECT region, count(*) AS a, sum(weight) AS b, min(id) AS c, max(at) AS d, avg(amount) AS e,
                                          bool_and(amount > 0) AS f, stddev(amount) AS g, array_agg(id) AS h, string_agg(status, ',') AS i, product(amount) AS j,
                                          count(DISTINCT status) AS k, array_agg(id ORDER BY at) AS l,
                                          percentile_cont(0.5) WITHIN GROUP (ORDER BY weight) AS m, mode() WITHIN GROUP (ORDER BY status) AS n,
                                          rank(100) WITHIN GROUP (ORDER BY amount) AS o, jsonb_agg(id) AS p
                                     FROM orders GROUP BY region$$);
SELECT beam.explain_pipeline('p');
-- its answers
INSERT INTO orders SELECT i, '2024-01-01'::timestamptz + i * interval '1 s', 'r' || i % 2, CASE WHEN i % 3 = 0 THEN 'new' ELSE 'paid' END, i, i / 2.0 FROM generate_series(1, 20) i;
CALL beam.wait_for('p');
SELECT * FROM p ORDER BY region;
-- array_agg, string_agg and jsonb_agg without ORDER BY are in the order of arrival; a batch query may sort the rows for other aggregates
SELECT region, a, b, c, d, e, f, g, j, k, l, m, n, o FROM p EXCEPT SELECT region, a, b, c, d, e, f, g, j, k, l, m, n, o FROM p_batch;
SELECT beam.drop_pipeline('p');

SELECT beam.explain_pipeline('p'); \echo :SQLSTATE
SELECT beam.explain_pipeline(NULL);
DROP SCHEMA explain CASCADE;
