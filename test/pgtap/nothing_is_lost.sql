-- A row that cannot be counted is not lost: it is kept, with the reason, and the others are counted.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SELECT plan(14);

CREATE TABLE payment (at timestamptz, customer text, cents text);
ALTER TABLE payment REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('per_minute', $$SELECT customer, sum(cents::int) AS cents FROM payment, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end, customer$$,
    watermark => '0', allowed_lateness => '1 minute', idle_timeout => NULL);

-- ---- late rows ----
INSERT INTO payment VALUES ('2024-05-01 12:00:10', 'anna', '100');
CALL beam.wait_for('per_minute');
INSERT INTO payment VALUES ('2024-05-01 12:01:59', 'anna', '200');
CALL beam.wait_for('per_minute');
INSERT INTO payment VALUES ('2024-05-01 12:00:20', 'anna', '1');
CALL beam.wait_for('per_minute');
SELECT results_eq($$SELECT cents FROM per_minute ORDER BY window_start$$, ARRAY[101, 200]::bigint[], 'a row within the allowed lateness is counted');
INSERT INTO payment VALUES ('2024-05-01 12:02:00.000001', 'anna', '300');
CALL beam.wait_for('per_minute');
INSERT INTO payment VALUES ('2024-05-01 12:00:30', 'anna', '9999'), ('2024-05-01 12:02:30', 'anna', '30');
CALL beam.wait_for('per_minute');
SELECT results_eq($$SELECT cents FROM per_minute ORDER BY window_start$$, ARRAY[101, 200, 330]::bigint[], 'a row that comes after it does not change the result');
SELECT is(count(*), 1::bigint, 'but is kept') FROM beam.late_events;
SELECT results_eq($$SELECT pipeline, event_time, window_start, window_end, reason, watermark FROM beam.late_events$$,
    $$VALUES ('per_minute', '2024-05-01 12:00:30+00'::timestamptz, '2024-05-01 12:00+00'::timestamptz, '2024-05-01 12:01+00'::timestamptz, 'expired', '2024-05-01 12:02:00.000001+00'::timestamptz)$$,
    'with its window, and the watermark that made it late');
SELECT is(data, '{"at": "2024-05-01T12:00:30+00:00", "customer": "anna", "cents": "9999"}', 'and all its columns') FROM beam.late_events;
SELECT is(late_events, 1::bigint, 'it is counted as late') FROM beam.stat_pipelines;

-- ---- rows that fail ----
INSERT INTO payment VALUES ('2024-05-01 12:02:31', 'bert', '1'), ('2024-05-01 12:02:32', 'bert', 'ten'), ('2024-05-01 12:02:33', 'bert', '2'),
                           ('2024-05-01 12:02:34', 'cleo', '99999999999'), ('2024-05-01 12:02:35', 'cleo', '3');
CALL beam.wait_for('per_minute');
SELECT results_eq($$SELECT customer, cents FROM per_minute WHERE customer <> 'anna' ORDER BY customer$$, $$VALUES ('bert', 3::bigint), ('cleo', 3)$$,
    'rows beside one that fails are counted');
SELECT results_eq($$SELECT pipeline, sqlstate, data ->> 'cents' FROM beam.dead_letters ORDER BY id$$,
    $$VALUES ('per_minute', '22P02', 'ten'), ('per_minute', '22003', '99999999999')$$, 'those that fail are kept, with their error');
SELECT is(message, 'invalid input syntax for type integer: "ten"', 'and its message') FROM beam.dead_letters ORDER BY id LIMIT 1;
SELECT is(dead_letters, 2::bigint, 'they are counted, too') FROM beam.stat_pipelines;
SELECT is(state, 'running', 'the pipeline goes on') FROM beam.pipelines;
INSERT INTO payment VALUES ('2024-05-01 12:02:36', 'bert', '4');
CALL beam.wait_for('per_minute');
SELECT results_eq($$SELECT cents FROM per_minute WHERE customer = 'bert'$$, ARRAY[7::bigint], 'and counts what comes next');
SELECT is((SELECT rows_in FROM beam.stat_pipelines), (SELECT count(*) FROM payment), 'each row of the source has been seen once');
SELECT is((SELECT sum(cents) FROM per_minute), (SELECT sum(cents::numeric) FROM payment WHERE cents <> 'ten' AND length(cents) < 10) - 9999,
    'result, late events and dead letters together are the source');
SELECT * FROM finish();
