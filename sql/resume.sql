-- A pipeline whose cells are in its table only, since it was opened anew, goes on with them.
SET client_min_messages = warning;
CREATE TABLE resume_source (k int, v int);
ALTER TABLE resume_source REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('resume', 'SELECT k, sum(v) AS v FROM resume_source GROUP BY k');
INSERT INTO resume_source VALUES (1, 1), (2, 2);
CALL beam.wait_for('resume');
SELECT beam.pause_pipeline('resume');
INSERT INTO resume_source VALUES (1, 10), (3, 3);
CALL beam.wait_for('resume');
SELECT beam.resume_pipeline('resume');
CALL beam.wait_for('resume');
SELECT * FROM resume ORDER BY k;

-- What the result table refuses is a failed group; the next bundle is none the worse for it.
ALTER TABLE resume ADD CHECK (v < 100);
INSERT INTO resume_source VALUES (2, 1000), (2, 20);
CALL beam.wait_for('resume');
SELECT * FROM resume ORDER BY k;
SELECT key, sqlstate FROM beam.failed_groups WHERE pipeline = 'resume';
INSERT INTO resume_source VALUES (3, 30);
CALL beam.wait_for('resume');
SELECT * FROM resume ORDER BY k;

SELECT beam.drop_pipeline('resume');
DROP TABLE resume_source;

-- a procedure is called with nulls too
CALL beam.wait_for(NULL);
