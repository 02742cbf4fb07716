-- allowed_lateness: its default follows from what the source does; null is no limit
\set SHOW_CONTEXT never
CREATE TABLE lt (at timestamptz, k int, v int);
ALTER TABLE lt REPLICA IDENTITY FULL;
\set q '''SELECT w.window_start, w.window_end, k, count(*) AS n FROM lt, beam.tumble(at, ''''1 minute'''') w GROUP BY w.window_start, w.window_end, k'''
\set chained '''SELECT w.window_start, w.window_end, sum(n) AS n FROM %s u, beam.tumble(u.window_start, ''''1 hour'''') w GROUP BY w.window_start, w.window_end'''

SELECT beam.create_pipeline('changes', :q);
SELECT beam.create_pipeline('changes_hour', :q, allowed_lateness => '1 hour');
SELECT beam.create_pipeline('changes_null', :q, allowed_lateness => NULL);
SELECT beam.create_pipeline('append', :q, source_mode => 'append_only');
SELECT beam.create_pipeline('append_null', :q, source_mode => 'append_only', allowed_lateness => NULL);
SELECT beam.create_pipeline('append_day', :q, source_mode => 'append_only', allowed_lateness => '1 day');
SELECT beam.create_pipeline('retracting', :q, accumulation => 'retracting');
-- downstream: rows of an accumulating result change, those of others are only added
SELECT beam.create_pipeline('of_changes', format(:chained, 'changes'));
SELECT beam.create_pipeline('of_retracting', format(:chained, 'retracting'));
SELECT name, source_mode, allowed_lateness FROM beam.pipelines ORDER BY name;
-- a dump has it, and gives it back
SELECT name, settings -> 'allowed_lateness' AS allowed_lateness FROM beam.definition ORDER BY name;
SELECT l FROM beam.explain_pipeline('changes') l WHERE l ~ 'lateness';
SELECT l FROM beam.explain_pipeline('append') l WHERE l ~ 'lateness';

-- alter: null leaves it as it is, whatever the mode; a negative one is no limit
SELECT beam.alter_pipeline('append', watermark => '5 s', keep => NULL);
CALL beam.wait_for_alter('append');
SELECT beam.alter_pipeline('append_day', allowed_lateness => '-1', keep => NULL);
CALL beam.wait_for_alter('append_day');
SELECT beam.alter_pipeline('changes_null', allowed_lateness => '0', keep => NULL);
CALL beam.wait_for_alter('changes_null');
SELECT name, source_mode, allowed_lateness FROM beam.pipelines WHERE name IN ('append', 'append_day', 'changes_null') ORDER BY name;
SELECT beam.create_pipeline('p', :q, allowed_lateness => '-1'); \echo :SQLSTATE

-- a trigger that finishes with the window
SELECT beam.create_pipeline('p', :q, trigger => beam.after_watermark()); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => beam.after_watermark(), source_mode => 'append_only'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', :q, trigger => beam.after_watermark(), allowed_lateness => '0');
SELECT beam.alter_pipeline('p', allowed_lateness => '-1'); \echo :SQLSTATE
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', :q, trigger => beam.after_watermark(late => beam.after_count(1)));
SELECT beam.drop_pipeline('p');

-- what keeps values of rows keeps them as long as there are windows
SELECT beam.create_pipeline('p', 'SELECT w.window_start, w.window_end, count(*), max(v) FROM lt, beam.tumble(at, ''1 minute'') w GROUP BY 1, 2');
SELECT beam.alter_pipeline('p', allowed_lateness => '7 days', keep => NULL);
CALL beam.wait_for_alter('p');
SELECT beam.alter_pipeline('p', allowed_lateness => '-1', keep => NULL);
CALL beam.wait_for_alter('p');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', 'SELECT w.window_start, w.window_end, string_agg(k::text, '','') FROM lt, beam.tumble(at, ''1 minute'') w GROUP BY 1, 2');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', 'SELECT w.window_start, w.window_end, count(*) FROM lt, beam.session(at, ''1 minute'') w GROUP BY 1, 2');
SELECT beam.drop_pipeline('p');
-- here not: a sum of a fixed size, windows that expire, the one window that never does
SELECT beam.create_pipeline('p', 'SELECT w.window_start, w.window_end, sum(v::float8), avg(v::numeric) FROM lt, beam.tumble(at, ''1 minute'') w GROUP BY 1, 2');
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', 'SELECT w.window_start, w.window_end, max(v) FROM lt, beam.tumble(at, ''1 minute'') w GROUP BY 1, 2', source_mode => 'append_only', allowed_lateness => NULL);
SELECT beam.drop_pipeline('p');
SELECT beam.create_pipeline('p', 'SELECT k, max(v) FROM lt GROUP BY k');
SELECT beam.drop_pipeline('p');

-- rows of a year ago come, change and go
INSERT INTO lt SELECT '2026-03-01 00:00+00'::timestamptz + i * interval '1 minute', i % 2, i FROM generate_series(1, 300) i;
CALL beam.wait_for('changes');
INSERT INTO lt VALUES ('2025-03-01 00:00:10+00', 1, 1), ('2025-03-01 00:00:20+00', 1, 2), ('2025-03-01 00:00:30+00', 2, 3);
UPDATE lt SET k = 3 WHERE v = 3 AND at < '2026-01-01';
UPDATE lt SET at = at - interval '3 months' WHERE v = 7;
DELETE FROM lt WHERE v = 1 AND at < '2026-01-01';
DELETE FROM lt WHERE at < '2026-03-01 00:05+00' AND at > '2026-01-01';
CALL beam.wait_for('changes');
CALL beam.wait_for('of_changes');
SELECT window_start AT TIME ZONE 'UTC' AS at, k, n FROM changes WHERE window_start < '2026-02-01' ORDER BY 1, 2;
SELECT (SELECT count(*) FROM (TABLE changes EXCEPT ALL TABLE changes_batch) a) + (SELECT count(*) FROM (TABLE changes_batch EXCEPT ALL TABLE changes) b) AS different;
SELECT (SELECT count(*) FROM (TABLE of_changes EXCEPT ALL TABLE of_changes_batch) a) + (SELECT count(*) FROM (TABLE of_changes_batch EXCEPT ALL TABLE of_changes) b) AS different;
SELECT pipeline FROM beam.late_events WHERE pipeline IN ('changes', 'of_changes');
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name ~ '^of_' ORDER BY name;
SELECT beam.drop_pipeline(name) FROM beam.pipelines ORDER BY name;
DROP TABLE lt;
