-- A result that is wrong is found and mended, whatever made it so.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SELECT plan(12);

CREATE TABLE orders (id bigserial PRIMARY KEY, created_at timestamptz NOT NULL, region text, amount numeric);
ALTER TABLE orders REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('per_hour', $q$
    SELECT w.window_start, w.window_end, o.region, count(*) AS orders, sum(o.amount) AS revenue
      FROM orders o, beam.tumble(o.created_at, '1 hour') w GROUP BY 1, 2, 3 $q$, allowed_lateness => '1 hour');
INSERT INTO orders (created_at, region, amount)
    SELECT '2024-05-01'::timestamptz + i * interval '7 minutes', (ARRAY['north', 'south'])[i % 2 + 1], i FROM generate_series(0, 500) i;
CALL beam.wait_for('per_hour');
SELECT is_empty($$SELECT * FROM beam.verify('per_hour')$$, 'a result is what its query says');

UPDATE per_hour SET revenue = 0 WHERE window_start = '2024-05-01 03:00';
DELETE FROM per_hour WHERE window_start = '2024-05-01 04:00' AND region = 'north';
SELECT results_eq($$SELECT kind, window_start, key ->> 'region' FROM beam.verify('per_hour')$$,
    $$VALUES ('different', '2024-05-01 03:00'::timestamptz, 'north'), ('different', '2024-05-01 03:00', 'south'), ('missing', '2024-05-01 04:00', 'north')$$,
    'verify names the rows that are not');
SELECT is_empty($$SELECT * FROM beam.verify('per_hour', '2024-05-01 05:00')$$, 'and looks at the days that one asks for');

CALL beam.backfill('per_hour', '2024-05-01 03:10', '2024-05-01 03:20');
SELECT results_eq($$SELECT kind, window_start FROM beam.verify('per_hour')$$, $$VALUES ('missing', '2024-05-01 04:00'::timestamptz)$$,
    'backfill mends the windows that overlap a range');
CALL beam.backfill('per_hour');
SELECT is_empty($$SELECT * FROM beam.verify('per_hour')$$, 'or all of them');
SELECT is(cells < 10, true, 'closed windows are forgotten again') FROM beam.stat_pipelines WHERE name = 'per_hour';

INSERT INTO orders (created_at, region, amount) VALUES ('2024-05-01 00:10', 'west', 1000);
CALL beam.wait_for('per_hour');
SELECT results_eq('SELECT window_start FROM beam.late_events', ARRAY['2024-05-01 00:00'::timestamptz], 'a row that comes days late is kept');
CALL beam.replay_late_events('per_hour');
SELECT results_eq($$SELECT revenue FROM per_hour WHERE region = 'west'$$, ARRAY[1000::numeric], 'and can be counted after all');
SELECT is_empty('SELECT * FROM beam.late_events', 'once');

INSERT INTO orders (created_at, region, amount) VALUES ('2024-05-03 10:10', 'east', 5);
CALL beam.wait_for('per_hour');
SELECT results_eq($$SELECT revenue FROM per_hour WHERE region = 'east'$$, ARRAY[5::numeric], 'the stream goes on');
UPDATE orders SET amount = 7 WHERE region = 'east';
CALL beam.wait_for('per_hour');
SELECT results_eq($$SELECT revenue FROM per_hour WHERE region = 'east'$$, ARRAY[7::numeric], 'with changes too');
SELECT is_empty($$SELECT * FROM beam.verify('per_hour')$$, 'and all is as the query says');
SELECT beam.drop_pipeline('per_hour');
SELECT * FROM finish();
