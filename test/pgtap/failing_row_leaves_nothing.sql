-- A row that raises an error goes to dead_letters as a whole: what it did to the aggregates and sessions before the error is undone.
\set ON_ERROR_STOP on
SELECT plan(4);

CREATE TABLE ev (id int, at timestamptz, key text, n int, f float8 DEFAULT 0);
ALTER TABLE ev REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('plain', 'SELECT key, sum(id) AS ids, sum(f) AS total FROM ev GROUP BY key', source_mode => 'append_only');
SELECT beam.create_pipeline('visits', $$
    SELECT w.window_start, w.window_end, key, count(*) AS rows, sum(100 / n) AS quotients
      FROM ev, beam.session(at, '10 min') w GROUP BY w.window_start, w.window_end, key$$, allowed_lateness => '1 day');
INSERT INTO ev VALUES (1, '2024-01-01 12:00', 'a', 10, 1.7e308);
CALL beam.wait_for('plain');
CALL beam.wait_for('visits');
-- an overflow of the second sum, and divisions by zero; the first row belongs to a cell that is there, the second makes one
INSERT INTO ev VALUES (2, '2024-01-01 12:05', 'a', 0, 1.7e308), (4, '2024-01-01 12:00', 'b', 0, 0);
CALL beam.wait_for('plain');
CALL beam.wait_for('visits');
INSERT INTO ev VALUES (8, '2024-01-01 12:01', 'a', 20), (16, '2024-01-01 12:05', 'b', 20);
CALL beam.wait_for('plain');
CALL beam.wait_for('visits');
SELECT results_eq($$SELECT key, ids FROM plain ORDER BY key$$, $$VALUES ('a', 9::bigint), ('b', 20)$$,
    'a failing row leaves nothing in the aggregates before the one that failed');
SELECT results_eq($$SELECT key, window_start, window_end, rows FROM visits ORDER BY key$$,
    $$VALUES ('a', '2024-01-01 12:00'::timestamptz, '2024-01-01 12:11'::timestamptz, 2::bigint), ('b', '2024-01-01 12:05', '2024-01-01 12:15', 1)$$,
    'and does not make its session longer');
SELECT results_eq($$SELECT (data ->> 'id')::int FROM beam.dead_letters WHERE pipeline = 'plain' ORDER BY 1$$, ARRAY[2], 'it is in dead_letters');
SELECT results_eq($$SELECT data ->> 'key' FROM beam.dead_letters WHERE pipeline = 'visits' ORDER BY 1$$, ARRAY['a', 'b'], 'for each pipeline');
SELECT * FROM finish();
