-- How to test a pipeline of your own with pgTAP. Rows have to be committed before a pipeline sees them, so a test cannot run in a
-- transaction that is rolled back: it has a database of its own, or cleans up after itself. Three steps, again and again: insert, CALL
-- beam.wait_for, compare. The watermark follows the event times that you insert; without an idle_timeout nothing else moves it.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SELECT plan(6);

CREATE TABLE click (at timestamptz, visitor text, page text);
ALTER TABLE click REPLICA IDENTITY FULL;
SELECT lives_ok($$SELECT beam.create_pipeline('visits', $q$
    SELECT visitor, count(*) AS pages, max(page) FILTER (WHERE page LIKE '/buy%') AS bought, beam.pane_timing() AS timing
      FROM click, beam.session(at, '30 minutes') w
     GROUP BY w.window_start, w.window_end, visitor $q$,
    watermark => '1 minute', allowed_lateness => '1 hour', idle_timeout => NULL)$$, 'the pipeline is accepted');

-- a visit begins
INSERT INTO click VALUES ('2024-05-01 12:00', 'anna', '/'), ('2024-05-01 12:10', 'anna', '/shoes');
CALL beam.wait_for('visits');
SELECT results_eq('SELECT visitor, pages, bought, timing FROM visits', $$VALUES ('anna', 2::bigint, NULL::text, 'EARLY')$$, 'a visit is shown while it lasts');

-- time goes by: to close the window, let a later row come
INSERT INTO click VALUES ('2024-05-01 12:50', 'bert', '/');
CALL beam.wait_for('visits');
SELECT results_eq($$SELECT pages, timing FROM visits WHERE visitor = 'anna'$$, $$VALUES (2::bigint, 'ON_TIME')$$, 'half an hour after the last click it is over');

-- a late row
INSERT INTO click VALUES ('2024-05-01 12:39:59', 'anna', '/buy/shoes');
CALL beam.wait_for('visits');
SELECT results_eq($$SELECT pages, bought, timing FROM visits WHERE visitor = 'anna'$$, $$VALUES (3::bigint, '/buy/shoes', 'EARLY')$$, 'a late click makes the visit longer');

-- the definition is a view: the same query over all rows is the oracle. Columns about panes are not the same there.
SELECT bag_eq('SELECT window_start, window_end, visitor, pages, bought FROM visits', 'SELECT window_start, window_end, visitor, pages, bought FROM visits_batch',
    'the result is that of the query');
SELECT is_empty($$SELECT * FROM beam.late_events UNION ALL SELECT * FROM beam.late_events$$, 'no click was too late');

SELECT beam.drop_pipeline('visits');
DROP TABLE click;
SELECT * FROM finish();
