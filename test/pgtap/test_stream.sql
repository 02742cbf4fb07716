-- A pipeline is tested with pgTAP, without rows, workers or waiting: what it writes, what it drops, and that it forgets.
\set ON_ERROR_STOP on
SET timezone = 'UTC';
SELECT plan(26);

CREATE TABLE orders (created_at timestamptz NOT NULL, region text, amount numeric);
ALTER TABLE orders REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('per_minute', $$
    SELECT w.window_start, w.window_end, o.region, sum(o.amount) AS revenue
      FROM orders o, beam.tumble(o.created_at, '1 minute') w
     GROUP BY w.window_start, w.window_end, o.region $$,
    allowed_lateness => '1 hour', accumulation => 'retracting',
    trigger => jsonb '{"after_watermark": {"early": {"after_count": 2}, "late": {"after_count": 1}}}');

\set script '[{"rows": [{"created_at": "2026-03-01 12:00:05", "region": "asia", "amount": 10}, {"created_at": "2026-03-01 12:00:07", "region": "asia", "amount": 5}]}, {"watermark": "2026-03-01 12:01"}, {"rows": [{"created_at": "2026-03-01 12:00:30", "region": "asia", "amount": 1}]}, "end"]'

-- green
SELECT beam.panes_are('per_minute', :'script', '[
    {"timing": "EARLY", "index": 0, "is_first": true, "data": {"region": "asia", "revenue": 15}},
    {"kind": "retraction", "data": {"revenue": 15}},
    {"timing": "ON_TIME", "index": 1, "nonspeculative_index": 0, "window_end": "2026-03-01 12:01", "data": {"revenue": 15}},
    {"kind": "retraction", "data": {"revenue": 15}},
    {"timing": "LATE", "index": 2, "nonspeculative_index": 1, "data": {"revenue": 16}}]', 'a late order corrects the revenue of its minute');
SELECT beam.panes_are('per_minute', '["end"]', '[]');
SELECT beam.no_state_left('per_minute', :'script', 'a minute is forgotten after its hour');
SELECT beam.dropped_are('per_minute', '[{"watermark": "2026-03-01 14:00"}, {"rows": [{"created_at": "2026-03-01 12:00:05", "region": "asia"}]}]',
    '[{"reason": "expired", "data": {"region": "asia"}}]', 'and its orders are late events then');
SELECT is((SELECT sum((CASE kind WHEN 'pane' THEN 1 ELSE -1 END) * (data ->> 'revenue')::numeric) FROM beam.test_stream('per_minute', :'script')), 16.0, 'retractions leave the right sum');

-- red
SELECT check_test(beam.panes_are('per_minute', '[{"rows": [{"created_at": "2026-03-01 12:00:05", "region": "asia", "amount": 10}]}, "end"]',
        '[{"timing": "LATE"}]', 'wrong on purpose'), false, 'a wrong expectation', 'wrong on purpose',
    E'missing: {"kind": "pane", "timing": "LATE"}\nunexpected: {"data": {"region": "asia", "revenue": 10, "window_end": "2026-03-01T12:01:00+00:00", "window_start": "2026-03-01T12:00:00+00:00"}, "kind": "pane", "step": 2, "index": 0, "timing": "ON_TIME", "is_last": true, "elements": 1, "is_first": true, "window_end": "2026-03-01T12:01:00+00:00", "window_start": "2026-03-01T12:00:00+00:00", "pane_timestamp": "2026-03-01T12:00:59.999999+00:00", "nonspeculative_index": 0}');
SELECT check_test(beam.panes_are('per_minute', '[]', '[{}]'), false, 'a missing pane', 'panes of pipeline "per_minute"', 'missing: {"kind": "pane"}');
SELECT check_test(beam.panes_are('per_minute', :'script', '[]'), false, 'panes too many');
SELECT check_test(beam.dropped_are('per_minute', '[]', '[{"reason": "closed"}]'), false, 'a missing drop', 'dropped rows of pipeline "per_minute"', 'missing: {"kind": "late", "reason": "closed"}');
SELECT check_test(beam.dropped_are('per_minute', '["end", {"rows": [{"created_at": "2026-03-01"}]}]', '[]'), false, 'a drop too many');
SELECT check_test(beam.no_state_left('per_minute', '[{"rows": [{"created_at": "2026-03-01"}]}]'), false, 'state that is left');
SELECT check_test(beam.panes_are('per_minute', '["end"]', '[]'), true, 'a right one', 'panes of pipeline "per_minute"', '');
SELECT check_test(beam.no_state_left('per_minute', '["end"]'), true, 'nothing left', 'no state of pipeline "per_minute" is left', '');

-- an error is an error, whoever asks
SELECT throws_ok($$SELECT beam.panes_are('moon', '[]', '[]')$$, '42704');
SELECT throws_ok($$SELECT beam.panes_are('per_minute', '[]', '[{"time": 1}]')$$, '22023', 'expectation 1 has the unknown key "time"');
SELECT is_empty('SELECT * FROM per_minute', 'nothing was written');
SELECT * FROM finish();
