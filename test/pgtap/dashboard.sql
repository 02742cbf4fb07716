-- A pipeline with nothing but a name and a query is right for a dashboard.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SELECT plan(13);

CREATE TABLE orders (id bigserial, created_at timestamptz NOT NULL, region text, amount numeric, status text DEFAULT 'paid');
ALTER TABLE orders REPLICA IDENTITY FULL;
SELECT lives_ok($$SELECT beam.create_pipeline('revenue_per_minute', $q$
    SELECT w.window_start, w.window_end, o.region, count(*) AS orders, sum(o.amount) AS revenue
      FROM orders o, beam.tumble(o.created_at, '1 minute') w
     WHERE o.status <> 'test'
     GROUP BY w.window_start, w.window_end, o.region $q$)$$, 'one call makes a pipeline');

SELECT has_table('revenue_per_minute', 'its result is an ordinary table');
SELECT columns_are('revenue_per_minute', ARRAY['window_start', 'window_end', 'region', 'orders', 'revenue'], 'with the columns of the query');
SELECT col_type_is('revenue_per_minute', 'revenue', 'numeric', 'and their types');
SELECT has_view('revenue_per_minute_batch', 'its definition is a view');
SELECT results_eq($$SELECT trigger::text, accumulation, watermark, allowed_lateness FROM beam.pipelines WHERE name = 'revenue_per_minute'$$,
    $$VALUES ('continuous()', 'accumulating', interval '10 seconds', NULL::interval)$$,
    'a window is written with each change; rows may be ten seconds out of order and come however late');

INSERT INTO orders (created_at, region, amount) VALUES ('2024-05-01 12:00:01', 'north', 10), ('2024-05-01 12:00:59', 'north', 5), ('2024-05-01 12:00:30', 'south', 7);
CALL beam.wait_for('revenue_per_minute');
SELECT results_eq($$SELECT region, orders, revenue FROM revenue_per_minute ORDER BY region$$,
    $$VALUES ('north', 2::bigint, 15::numeric), ('south', 1, 7)$$, 'the open window is there at once');

INSERT INTO orders (created_at, region, amount) VALUES ('2024-05-01 12:00:20', 'south', 100);
INSERT INTO orders (created_at, region, amount, status) VALUES ('2024-05-01 12:00:20', 'south', 1000, 'test');
CALL beam.wait_for('revenue_per_minute');
SELECT results_eq($$SELECT revenue FROM revenue_per_minute WHERE region = 'south'$$, ARRAY[107::numeric], 'and changes in place');
SELECT is(count(*), 2::bigint, 'there is one row for each window and key') FROM revenue_per_minute;

-- half an hour later
INSERT INTO orders (created_at, region, amount) VALUES ('2024-05-01 12:30:00', 'north', 1);
CALL beam.wait_for('revenue_per_minute');
INSERT INTO orders (created_at, region, amount) VALUES ('2024-05-01 12:00:40', 'north', 85);
CALL beam.wait_for('revenue_per_minute');
SELECT results_eq($$SELECT revenue FROM revenue_per_minute WHERE region = 'north' AND window_start = '2024-05-01 12:00'$$, ARRAY[100::numeric],
    'a row that is half an hour late is counted where it belongs');
SELECT is_empty('SELECT * FROM beam.late_events', 'and is not taken for lost');
SELECT bag_eq('TABLE revenue_per_minute', 'TABLE revenue_per_minute_batch', 'the result is what the query says');

SELECT beam.drop_pipeline('revenue_per_minute');
SELECT is_empty('SELECT * FROM beam.pipelines', 'one call removes it');
SELECT * FROM finish();
