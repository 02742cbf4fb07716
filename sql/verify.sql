-- beam.verify(): the rows in which result and batch view differ
SET timezone = 'UTC';
CREATE TABLE vs (ts timestamptz, k int, v int, f float8);
ALTER TABLE vs REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('verified', $$SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(e.v) AS s, avg(e.f) AS f
  FROM vs e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3$$, allowed_lateness => '10000 days');
INSERT INTO vs SELECT '2024-05-01'::timestamptz + i * interval '20 min', CASE WHEN i % 3 < 2 THEN i % 3 END, i, i / 10.0 FROM generate_series(0, 8) i;
CALL beam.wait_for('verified');
SELECT * FROM beam.verify('verified');

-- one of each kind, with a null key among them
DELETE FROM verified WHERE window_start = '2024-05-01 00:00' AND k IS NULL;
UPDATE verified SET s = s + 1 WHERE window_start = '2024-05-01 01:00' AND k = 1;
INSERT INTO verified VALUES ('2024-05-01 02:00', '2024-05-01 03:00', 77, 1, 1, 1);
SELECT * FROM beam.verify('verified');
-- windows that overlap a range
SELECT kind, window_start FROM beam.verify('verified', '2024-05-01 01:30');
SELECT kind, window_start FROM beam.verify('verified', '2024-05-01 01:30', '2024-05-01 02:00');
SELECT kind, window_start FROM beam.verify('verified', NULL, '2024-05-01 01:00');
-- the order of additions is no difference, another number is
UPDATE verified SET f = f * (1 + 1e-15) WHERE window_start = '2024-05-01 00:00';
SELECT count(*) FROM beam.verify('verified', NULL, '2024-05-01 01:00') WHERE kind = 'different';
UPDATE verified SET f = f * 1.001 + 0.1 WHERE window_start = '2024-05-01 00:00' AND k = 0;
SELECT kind, key FROM beam.verify('verified', NULL, '2024-05-01 01:00') WHERE kind = 'different';

-- what tells panes apart is not compared; columns may be called like anything
CREATE TABLE vs2 (ts timestamptz, j int, n int);
ALTER TABLE vs2 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('"verified 2"', $$SELECT e.j, e.n, count(*) AS r, beam.pane_index() AS i1, max(e.n) AS b
  FROM vs2 e, beam.tumble(e.ts, '1 hour') w GROUP BY w.window_start, w.window_end, e.j, e.n$$, allowed_lateness => '10000 days');
INSERT INTO vs2 SELECT '2024-05-01', i, i FROM generate_series(1, 3) i;
CALL beam.wait_for('verified 2');
INSERT INTO vs2 SELECT '2024-05-01', i, i FROM generate_series(1, 2) i;
CALL beam.wait_for('verified 2');
SELECT * FROM beam.verify('verified 2');
UPDATE "verified 2" SET r = 7 WHERE j = 2;
SELECT * FROM beam.verify('verified 2');

-- retracting: what its retractions leave
CREATE TABLE vs3 (j int);
ALTER TABLE vs3 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('verified_net', $$SELECT e.j AS op2, count(*) AS n FROM vs3 e GROUP BY e.j$$, accumulation => 'retracting');
INSERT INTO vs3 VALUES (1), (2);
CALL beam.wait_for('verified_net');
INSERT INTO vs3 VALUES (1), (2), (3);
CALL beam.wait_for('verified_net');
SELECT * FROM beam.verify('verified_net');
INSERT INTO verified_net VALUES (1, 2, 1), (2, 2, -1), (3, 5, 1);
SELECT * FROM beam.verify('verified_net');

-- one group over everything
CREATE TABLE vs4 (v int);
ALTER TABLE vs4 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('verified_one', 'SELECT sum(v) AS s FROM vs4');
SELECT * FROM beam.verify('verified_one');
UPDATE verified_one SET s = 3;
SELECT * FROM beam.verify('verified_one', '2024-05-01', '2024-05-02');
DELETE FROM verified_one;
SELECT * FROM beam.verify('verified_one');

-- what real rounds away while it adds is no difference; a row too few is one, and so is another number
CREATE TABLE vs5 (k int, r real, d float8);
ALTER TABLE vs5 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('verified_reals', 'SELECT k, sum(r) AS s, avg(r) AS a, sum(d) AS sd, sum(d) / count(*) AS q FROM vs5 GROUP BY k');
SELECT beam.create_pipeline('verified_appended', 'SELECT k, sum(r) AS s, sum(d) AS sd FROM vs5 GROUP BY k', source_mode => 'append_only');
INSERT INTO vs5 SELECT 1, 0.1, 1 / 3.0 FROM generate_series(1, 100000);
INSERT INTO vs5 SELECT 2, i / 7.0, i / 7.0 FROM generate_series(-20000, 20000) i;
CALL beam.wait_for('verified_reals');
CALL beam.wait_for('verified_appended');
SELECT k, s FROM verified_reals ORDER BY k;
SELECT kind, key FROM beam.verify('verified_reals');
SELECT kind, key FROM beam.verify('verified_appended');
UPDATE verified_reals SET s = s - 0.1::real WHERE k = 1;
UPDATE verified_reals SET sd = sd + 0.01 WHERE k = 2;
SELECT kind, key, result -> 's' AS result, batch -> 's' AS batch FROM beam.verify('verified_reals');

-- with the settings of the pipeline, whatever those of the caller are
SET timezone = 'Asia/Tokyo';
SET datestyle = 'German';
SELECT beam.create_pipeline('verified_days', 'SELECT ts::date AS d, ts::text AS t, count(*) AS n FROM vs GROUP BY 1, 2');
RESET datestyle;
SET timezone = 'UTC';
CALL beam.wait_for('verified_days');
SELECT * FROM beam.verify('verified_days');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SET LOCAL extra_float_digits = 0;
SELECT * FROM beam.verify('verified_days');
COMMIT;

-- equal keys may be written in different ways
CREATE TABLE vs6 (k numeric);
ALTER TABLE vs6 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('verified_keys', 'SELECT k, count(*) AS n FROM vs6 GROUP BY k', source_mode => 'append_only');
INSERT INTO vs6 VALUES (1.0), (2);
CALL beam.wait_for('verified_keys');
UPDATE verified_keys SET k = 1.00 WHERE k = 1;
SELECT * FROM beam.verify('verified_keys');

-- errors
SELECT beam.create_pipeline('verified_parts', 'SELECT sum(v) AS s FROM vs4', accumulation => 'discarding', source_mode => 'append_only');
SELECT * FROM beam.verify('verified_parts');
SELECT * FROM beam.verify('nobody');
SELECT * FROM beam.verify(NULL);
SELECT * FROM beam.verify('verified', '2024-05-01', '2024-05-01');

-- who may read both may compare
\set SHOW_CONTEXT never
CREATE ROLE sb_verifier;
SET ROLE sb_verifier;
SELECT * FROM beam.verify('verified_one');
RESET ROLE;
GRANT SELECT ON verified_one TO sb_verifier;
SET ROLE sb_verifier;
SELECT * FROM beam.verify('verified_one');
RESET ROLE;
GRANT SELECT ON verified_one_batch TO sb_verifier;
SET ROLE sb_verifier;
SELECT kind FROM beam.verify('verified_one');
RESET ROLE;

SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'verified%' ORDER BY name;
DROP TABLE vs, vs2, vs3, vs4, vs5, vs6;
DROP ROLE sb_verifier;
