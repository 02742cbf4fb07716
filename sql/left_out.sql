-- What was never added takes nothing with it when it changes or goes, while its group lives on: rows that became dead letters, and late rows.
SET client_min_messages = error;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA left_out;
SET search_path = left_out;
CREATE FUNCTION remembered(name text) RETURNS bigint LANGUAGE sql AS
    $$SELECT COALESCE(sum(l.n), 0)::bigint FROM beam.left_out l JOIN beam.pipeline p ON p.id = l.pipeline WHERE p.name = $1$$;
\pset tuples_only on
-- ---- a row fails when it comes, and could be computed when it goes ----
CREATE TABLE room (most int);
INSERT INTO room VALUES (100);
CREATE FUNCTION fits(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
    $$BEGIN IF x > (SELECT most FROM left_out.room) THEN RAISE 'no room for %', x USING ERRCODE = '22003'; END IF; RETURN x; END$$;
CREATE TABLE t (id int PRIMARY KEY, x int, note text);
ALTER TABLE t REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('total', 'SELECT sum(fits(x)) AS s, count(*) AS n FROM t');
INSERT INTO t VALUES (1, 60);
CALL beam.wait_for('total');
UPDATE room SET most = 50;
INSERT INTO t VALUES (2, 60);
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
UPDATE room SET most = 100;
-- of equal rows it makes no difference which one is in the group
DELETE FROM t WHERE id = 1;
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
DELETE FROM t WHERE id = 2;
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
-- the letter of a row that is gone adds nothing
CALL beam.replay_dead_letters('total');
SELECT s, n, remembered('total'), (SELECT count(*) FROM beam.dead_letters) FROM total;
-- what the query does not use may change; and the row may change into one that can be added
INSERT INTO t VALUES (1, 60), (3, 1);
CALL beam.wait_for('total');
UPDATE room SET most = 65;
INSERT INTO t VALUES (2, 70);
CALL beam.wait_for('total');
UPDATE t SET note = 'seen' WHERE id = 2;
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
UPDATE t SET x = 5 WHERE id = 2;
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
-- into one that cannot, and back, within a transaction and without
UPDATE t SET x = 80 WHERE id = 2;
CALL beam.wait_for('total');
SELECT n, remembered('total') FROM total;
BEGIN;
UPDATE t SET x = 2 WHERE id = 2;
UPDATE t SET x = 90 WHERE id = 2;
UPDATE t SET x = 3 WHERE id = 2;
COMMIT;
CALL beam.wait_for('total');
SELECT n, remembered('total') FROM total;
-- letters are no memory: their readers may delete them
UPDATE t SET x = 80 WHERE id = 2;
CALL beam.wait_for('total');
DELETE FROM beam.dead_letter;
DELETE FROM t WHERE id = 2;
CALL beam.wait_for('total');
SELECT n, remembered('total') FROM total;
-- a letter of a row that is there still is added once there is room for it; replayed twice, it fails again meanwhile
INSERT INTO t VALUES (2, 80);
CALL beam.wait_for('total');
CALL beam.replay_dead_letters('total');
SELECT n, remembered('total'), (SELECT count(*) FROM beam.dead_letters) FROM total;
UPDATE room SET most = 100;
DELETE FROM t WHERE id = 1;
CALL beam.wait_for('total');
CALL beam.replay_dead_letters('total');
SELECT s, n, remembered('total'), (SELECT count(*) FROM beam.dead_letters) FROM total;
DELETE FROM t WHERE id = 2;
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
-- TRUNCATE and resync begin anew
UPDATE room SET most = 65;
INSERT INTO t VALUES (1, 60), (2, 80);
CALL beam.wait_for('total');
SELECT n, remembered('total') FROM total;
TRUNCATE t;
CALL beam.wait_for('total');
SELECT n, remembered('total') FROM total;
INSERT INTO t VALUES (1, 60);
CALL beam.wait_for('total');
INSERT INTO t VALUES (2, 80);
CALL beam.wait_for('total');
SELECT beam.resync_pipeline('total');
CALL beam.wait_for('total');
SELECT n FROM total;
DELETE FROM t;
CALL beam.wait_for('total');
SELECT s, n, remembered('total') FROM total;
SELECT beam.drop_pipeline('total');
SELECT count(*) FROM beam.left_out;

-- ---- of windows: a row is added to all of its windows or to none; a backfill computes some of them anew ----
CREATE TABLE w (id int PRIMARY KEY, at timestamptz, x int);
ALTER TABLE w REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('hops', $$SELECT sum(fits(x)) AS s, count(*) AS n FROM w, beam.hop(at, '2 minutes', '1 minute') h GROUP BY h.window_start, h.window_end$$,
                            allowed_lateness => '100000 days');
INSERT INTO w VALUES (1, '2026-01-01 00:00:30+00', 60);
CALL beam.wait_for('hops');
INSERT INTO w VALUES (2, '2026-01-01 00:01:30+00', 90);
CALL beam.wait_for('hops');
SELECT h.*, remembered('hops') FROM hops h ORDER BY 1, 2;
DELETE FROM w WHERE id = 1;
CALL beam.wait_for('hops');
SELECT h.*, remembered('hops') FROM hops h ORDER BY 1, 2;
UPDATE room SET most = 100;
CALL beam.backfill('hops', '2026-01-01 00:02:00+00', '2026-01-01 00:03:00+00');
SELECT h.*, remembered('hops') FROM hops h ORDER BY 1, 2;
-- out of the window that it has come into; of the other one it is left out
DELETE FROM w WHERE id = 2;
CALL beam.wait_for('hops');
SELECT h.*, remembered('hops') FROM hops h ORDER BY 1, 2;
TABLE hops_batch;
SELECT beam.drop_pipeline('hops');

-- ---- rows without a window, since they fail before ----
CREATE TABLE m (id int PRIMARY KEY, x int);
ALTER TABLE m REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('kept', 'SELECT id, 10 / x AS y FROM m');
SELECT beam.create_pipeline('summed', 'SELECT sum(10 / x) AS s, count(*) AS n FROM m');
INSERT INTO m VALUES (1, 1), (2, 0), (3, 2);
CALL beam.wait_for('kept');
CALL beam.wait_for('summed');
SELECT pipeline, op, message FROM beam.dead_letters ORDER BY 1;
UPDATE m SET x = 5 WHERE id = 2;
DELETE FROM m WHERE id = 1;
CALL beam.wait_for('kept');
CALL beam.wait_for('summed');
SELECT * FROM kept ORDER BY id;
SELECT s, n, remembered('kept'), remembered('summed') FROM summed;
SELECT pipeline, op, message FROM beam.dead_letters ORDER BY 1;
SELECT beam.drop_pipeline('kept'), beam.drop_pipeline('summed');

-- ---- late rows: when lateness is raised afterwards ----
CREATE TABLE l (id int PRIMARY KEY, at timestamptz, x int);
ALTER TABLE l REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('late', $$SELECT sum(x) AS s, count(*) AS n FROM l, beam.tumble(at, '1 minute') w GROUP BY w.window_start, w.window_end$$,
                            allowed_lateness => '0');
INSERT INTO l VALUES (1, '2026-01-01 00:00:30+00', 1), (2, '2026-01-01 00:10:00+00', 2);
CALL beam.wait_for('late');
INSERT INTO l VALUES (3, '2026-01-01 00:00:40+00', 4);
CALL beam.wait_for('late');
SELECT l.*, remembered('late') FROM late l ORDER BY 1;
SELECT beam.alter_pipeline('late', allowed_lateness => '10000 days');
CALL beam.wait_for_alter('late');
DELETE FROM l WHERE id = 3;
CALL beam.wait_for('late');
SELECT l.*, remembered('late') FROM late l ORDER BY 1;
TABLE late_batch;
SELECT beam.drop_pipeline('late');
DROP SCHEMA left_out CASCADE;
