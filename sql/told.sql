-- What is said when a pipeline is made, and what wait_for() says of one that the transaction has just made
\set VERBOSITY default
CREATE TABLE td (ts timestamptz, f float8, v int);

-- count(*) uses no column, but a DELETE has to be seen all the same
SELECT beam.create_pipeline('told_default', 'SELECT count(*) AS n FROM td');
ALTER TABLE td REPLICA IDENTITY NOTHING;
SELECT beam.create_pipeline('told_nothing', 'SELECT count(*) AS n FROM td');
SELECT beam.create_pipeline('told_append', 'SELECT count(*) AS n FROM td', source_mode => 'append_only');
CREATE TABLE td_parts (k int) PARTITION BY LIST (k);
CREATE TABLE td_part1 PARTITION OF td_parts FOR VALUES IN (1);
CREATE TABLE td_part2 PARTITION OF td_parts FOR VALUES IN (2);
SELECT beam.create_pipeline('told_parts', 'SELECT count(*) AS n FROM td_parts');
ALTER TABLE td REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('told_full', 'SELECT count(*) AS n FROM td');
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'told%' ORDER BY name;

-- groups of a time that never end
SELECT beam.create_pipeline('told_days', $$SELECT date_trunc('day', ts) AS d, count(*) AS n FROM td GROUP BY 1$$);
SELECT beam.create_pipeline('told_dates', $$SELECT v, ts::date AS d, count(*) AS n FROM td GROUP BY 1, 2$$);
SELECT beam.create_pipeline('told_hours', $$SELECT extract(hour FROM ts) AS h, count(*) AS n FROM td GROUP BY 1$$);
SELECT beam.create_pipeline('told_windows', $$SELECT ts::date AS d, count(*) AS n FROM td, beam.tumble(ts, '1 day') w GROUP BY w.window_start, w.window_end, 1$$);

-- zero and its negative are one group
SELECT beam.create_pipeline('told_zero', 'SELECT f, count(*) AS n, min(f) AS lo, max(f) AS hi FROM td GROUP BY f');
INSERT INTO td VALUES ('2024-05-01', '-0', 1), ('2024-05-01', 0, 2), ('2024-05-01', '-0', 3);
CALL beam.wait_for('told_zero');
SELECT f, n, lo = 0 AS lo, hi = 0 AS hi FROM told_zero;
DELETE FROM td WHERE v = 1;
CALL beam.wait_for('told_zero');
SELECT n, lo = 0 AS lo, hi = 0 AS hi FROM told_zero;

-- the workers see what a transaction has done when it has committed
\set VERBOSITY terse
BEGIN;
SELECT beam.create_pipeline('told_now', 'SELECT count(*) AS n FROM td');
CALL beam.wait_for('told_now');
ROLLBACK;
SELECT beam.create_pipeline('told_now', 'SELECT count(*) AS n FROM td');
CALL beam.wait_for('told_now');
TABLE told_now;
SELECT beam.create_pipeline('told_chain', 'SELECT sum(n) AS n FROM told_now');
CALL beam.wait_for('told_chain');
TABLE told_chain;
SELECT beam.pause_pipeline('told_now');
BEGIN;
SELECT beam.resume_pipeline('told_now');
CALL beam.wait_for('told_chain');
ROLLBACK;
BEGIN;
SAVEPOINT s;
SELECT beam.resume_pipeline('told_now');
ROLLBACK TO s;
CALL beam.wait_for('told_now');
ROLLBACK;
SELECT beam.resume_pipeline('told_now');
BEGIN;
SELECT beam.resync_pipeline('told_now');
CALL beam.wait_for_alter('told_now');
ROLLBACK;
CALL beam.wait_for('told_chain');

-- an aggregate that no row can be taken out of
CREATE AGGREGATE told_product(numeric) (SFUNC = numeric_mul, STYPE = numeric, INITCOND = '1');
SELECT beam.create_pipeline('told_sketch', 'SELECT told_product(v::numeric) AS p FROM td');
SELECT beam.drop_pipeline('told_sketch');
SELECT beam.create_pipeline('told_sketch', 'SELECT told_product(v::numeric) AS p FROM td', source_mode => 'append_only');

SELECT beam.drop_pipeline('told_chain');
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'told%' ORDER BY name;
DROP TABLE td, td_parts;
DROP AGGREGATE told_product(numeric);
