-- beam.backfill(), beam.replay_dead_letters(), beam.replay_late_events(): what they do, and their errors
SET timezone = 'UTC';
\set SHOW_CONTEXT never
CREATE TABLE rs (ts timestamptz, k int, v int);
ALTER TABLE rs REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('repaired', $$SELECT w.window_start, w.window_end, e.k, count(*) AS n, sum(100 / e.v) AS s
  FROM rs e, beam.tumble(e.ts, '1 hour') w GROUP BY 1, 2, 3$$, allowed_lateness => '1 hour');
INSERT INTO rs SELECT '2024-05-01'::timestamptz + i * interval '10 min', i % 2, 1 FROM generate_series(0, 35) i;
CALL beam.wait_for('repaired');

-- a range of windows, open and closed ones, among them a row that nobody has written
UPDATE repaired SET n = 100;
INSERT INTO repaired VALUES ('2024-05-01 01:00', '2024-05-01 02:00', 99, 1, 1);
CALL beam.backfill('repaired', '2024-05-01 01:30', '2024-05-01 03:00');
SELECT window_start, k, n FROM repaired ORDER BY 1, 2;
CALL beam.backfill('repaired', NULL, '2024-05-01 00:30');
SELECT count(*) FROM beam.verify('repaired', NULL, '2024-05-01 03:00');
CALL beam.backfill('repaired');
SELECT * FROM beam.verify('repaired');

-- a group that is gone from the table goes from the result
INSERT INTO repaired VALUES ('2030-01-01 01:00', '2030-01-01 02:00', 7, 1, 1);
CALL beam.backfill('repaired');
SELECT * FROM beam.verify('repaired');

-- late events: the table has their rows
INSERT INTO rs VALUES ('2024-05-01 00:05', 1, 2), ('2024-05-01 01:05', 5, 2), ('2024-05-01 03:05', 5, 2);
CALL beam.wait_for('repaired');
SELECT window_start, op, reason FROM beam.late_events ORDER BY 1;
CALL beam.replay_late_events('repaired');
SELECT count(*) FROM beam.late_events;
SELECT * FROM beam.verify('repaired');

-- dead letters: those that still fail stay, with the new message
INSERT INTO rs VALUES ('2024-05-01 05:05', 3, 0), ('2024-05-01 05:05', 4, 0);
CALL beam.wait_for('repaired');
SELECT op, data ->> 'k' AS k, message FROM beam.dead_letters ORDER BY id;
CALL beam.replay_dead_letters('repaired');
SELECT op, data ->> 'k' AS k, message FROM beam.dead_letters ORDER BY id;
-- what was in the way is mended
UPDATE beam.dead_letter SET data = data || '{"v": 1}' WHERE data ->> 'k' = '3';
UPDATE beam.dead_letter SET data = data || '{"v": "x"}' WHERE data ->> 'k' = '4';
CALL beam.replay_dead_letters('repaired');
SELECT k, n, s FROM repaired WHERE window_start = '2024-05-01 05:00' AND k > 1;
SELECT op, data ->> 'k' AS k, message FROM beam.dead_letters ORDER BY id;
CALL beam.replay_dead_letters('repaired', ARRAY[-1]);
-- an old row that is taken back
INSERT INTO beam.dead_letter (pipeline, position, op, data, sqlstate, message)
  SELECT id, '0/0', 'delete', '{"ts": "2024-05-01 05:05+00", "k": 3, "v": 1}', '22000', 'by hand' FROM beam.pipeline WHERE name = 'repaired';
UPDATE beam.dead_letter SET data = data || '{"v": 5}' WHERE data ->> 'k' = '4';
CALL beam.replay_dead_letters('repaired');
SELECT k, n, s FROM repaired WHERE window_start = '2024-05-01 05:00' AND k > 1;
SELECT count(*) FROM beam.dead_letters;

-- one group over all, with and without rows
SELECT beam.create_pipeline('repaired_one', 'SELECT count(*) AS n FROM rs WHERE v > 10');
CALL beam.wait_for('repaired_one');
DELETE FROM repaired_one;
CALL beam.backfill('repaired_one');
SELECT * FROM repaired_one;
INSERT INTO rs VALUES ('2024-05-01 05:05', 3, 20);
CALL beam.wait_for('repaired_one');
UPDATE repaired_one SET n = 5;
CALL beam.backfill('repaired_one');
SELECT * FROM repaired_one;

-- retracting: what stands too much is taken back
SELECT beam.create_pipeline('repaired_net', $$SELECT e.k, count(*) AS n FROM rs e GROUP BY e.k$$, accumulation => 'retracting');
CALL beam.wait_for('repaired_net');
INSERT INTO repaired_net VALUES (77, 1, 1), (77, 1, 1), (78, 1, -1);
CALL beam.backfill('repaired_net');
SELECT * FROM beam.verify('repaired_net');

-- sessions, most of them expired
SELECT beam.create_pipeline('repaired_session', $$SELECT w.window_start, w.window_end, e.k, count(*) AS n
  FROM rs e, beam.session(e.ts, '15 min') w GROUP BY 1, 2, 3$$, allowed_lateness => '0');
INSERT INTO rs VALUES ('2024-05-01 12:00', 1, 1);
CALL beam.wait_for('repaired_session');
DELETE FROM repaired_session WHERE k = 1;
UPDATE repaired_session SET n = 77;
CALL beam.backfill('repaired_session');
SELECT * FROM beam.verify('repaired_session');

-- errors
CALL beam.backfill(NULL);
CALL beam.backfill('nobody');
CALL beam.backfill('repaired', '2024-05-02', '2024-05-01');
BEGIN;
CALL beam.backfill('repaired');
ROLLBACK;
CALL beam.replay_dead_letters(NULL);
CALL beam.replay_late_events('nobody');
SELECT beam.create_pipeline('repaired_parts', 'SELECT e.k, count(*) AS n FROM rs e GROUP BY 1', accumulation => 'discarding', source_mode => 'append_only');
CALL beam.wait_for('repaired_parts');
SELECT beam.create_pipeline('repaired_whole', 'SELECT count(*) AS n FROM repaired_parts p', source_mode => 'append_only');
CALL beam.backfill('repaired_parts');
SELECT beam.drop_pipeline('repaired_whole');
SELECT beam.pause_pipeline('repaired');
CALL beam.backfill('repaired');
SELECT beam.resume_pipeline('repaired');
CREATE ROLE sb_repairer;
SET ROLE sb_repairer;
CALL beam.backfill('repaired');
CALL beam.replay_dead_letters('repaired');
CALL beam.replay_late_events('repaired');
SELECT * FROM beam.command;
SELECT * FROM beam.cut;
SELECT * FROM beam.schedule;
RESET ROLE;
SELECT beam.schedule_backfill('repaired', '* * * * *', '1 day');
SELECT beam.unschedule_backfill('repaired');
SELECT * FROM beam.scheduled_backfills;

SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'repaired%' ORDER BY name;
DROP TABLE rs;
DROP ROLE sb_repairer;
