-- Pipelines do not disturb each other, nor those who write to their source.
\set ON_ERROR_STOP on
SELECT plan(15);

CREATE TABLE ev (n int, kind text);
ALTER TABLE ev REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('steady', 'SELECT count(*), sum(n) FROM ev');
SELECT beam.create_pipeline('resting', 'SELECT kind, count(*) FROM ev GROUP BY kind');
SELECT beam.create_pipeline('doomed', 'SELECT kind, sum(n) FROM ev GROUP BY kind');
INSERT INTO ev VALUES (1, 'a'), (2, 'b');
CALL beam.wait_for('steady');
SELECT row_eq('SELECT count, sum FROM steady', ROW(2::bigint, 3::bigint), 'all of them read the same table');

-- one is paused
SELECT beam.pause_pipeline('resting');
INSERT INTO ev VALUES (3, 'a');
CALL beam.wait_for('steady');
SELECT row_eq('SELECT count, sum FROM steady', ROW(3::bigint, 6::bigint), 'others go on while one is paused');
SELECT results_eq('SELECT count FROM resting ORDER BY kind', ARRAY[1, 1]::bigint[], 'the paused one keeps its result');
SELECT throws_ok($$CALL beam.wait_for('resting')$$, '55000', NULL, 'who waits for it is told that it is paused');

-- one fails: its result table is spoilt
ALTER TABLE doomed RENAME COLUMN sum TO total;
INSERT INTO ev VALUES (4, 'b');
CALL beam.wait_for('steady');
SELECT row_eq('SELECT count, sum FROM steady', ROW(4::bigint, 10::bigint), 'others go on when one fails');
SELECT throws_ok($$CALL beam.wait_for('doomed')$$, '55000', NULL, 'who waits for that one is told that it has failed');
SELECT is(state, 'failed', 'it is shown as failed') FROM beam.pipelines WHERE name = 'doomed';
SELECT is(error_code, '42703', 'with the error') FROM beam.pipelines WHERE name = 'doomed';
SELECT isnt(error_message, NULL, 'and its message') FROM beam.pipelines WHERE name = 'doomed';

-- and all of them come back to where they were
ALTER TABLE doomed RENAME COLUMN total TO sum;
SELECT beam.resume_pipeline('doomed');
SELECT beam.resume_pipeline('resting');
CALL beam.wait_for('doomed');
CALL beam.wait_for('resting');
SELECT bag_eq('TABLE doomed', 'TABLE doomed_batch', 'a failed pipeline is resumed where it stopped');
SELECT bag_eq('TABLE resting', 'TABLE resting_batch', 'and so is a paused one');
SELECT is(error_code, NULL, 'its error is forgotten') FROM beam.pipelines WHERE name = 'doomed';

-- one is dropped
SELECT beam.drop_pipeline('doomed');
INSERT INTO ev VALUES (5, 'c');
CALL beam.wait_for('resting');
SELECT row_eq('SELECT count, sum FROM steady', ROW(5::bigint, 15::bigint), 'others go on when one is dropped');

-- they are one consistent cut: results that were written together tell of the same rows
SELECT is((SELECT sum(count) FROM resting), (SELECT count::numeric FROM steady), 'what is seen of two pipelines is of one moment');

-- a source may be changed in a way that pipelines cannot follow: the writer is not stopped
SELECT lives_ok($$DELETE FROM ev WHERE n = 5$$, 'a writer is never refused');
SELECT * FROM finish();
