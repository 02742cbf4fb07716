CREATE FUNCTION beam.create_pipeline(
    name                 text,
    query                text,
    watermark            interval DEFAULT '10 seconds',
    allowed_lateness     interval DEFAULT '1 hour',
    trigger              beam.trigger DEFAULT 'continuous()',
    accumulation         text DEFAULT 'accumulating',
    idle_timeout         interval DEFAULT '1 minute',
    timestamp_combiner   text DEFAULT 'end_of_window',
    on_time              text DEFAULT 'fire_always',
    closing              text DEFAULT 'fire_if_non_empty',
    allow_unsafe_trigger boolean DEFAULT false,
    source_mode          text DEFAULT 'changes',
    history              boolean DEFAULT true)
RETURNS regclass LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_create_pipeline';
COMMENT ON FUNCTION beam.create_pipeline(text, text, interval, interval, beam.trigger, text, interval, text, text, text, boolean, text, boolean) IS
'defines a pipeline: a query over a table whose result table, named like the pipeline, is kept up to date; watermark is the out-of-orderness of the event time, allowed_lateness how long a window takes late rows, trigger when panes are emitted, accumulation accumulating, discarding or retracting, idle_timeout after how long a resting source lets the watermark follow the clock (null: never), timestamp_combiner (end_of_window, earliest, latest) which timestamp a pane has, on_time and closing (fire_always, fire_if_non_empty) whether empty on-time and last panes are emitted, source_mode changes (UPDATE, DELETE and TRUNCATE of the source take rows back; the WAL must have the old values: REPLICA IDENTITY FULL, or an identity that covers the query) or append_only (they become dead letters), history whether the rows that the source has already are taken in, too. Returns the result table. Errors name what in the query cannot be run. Example: SELECT beam.create_pipeline(''per_minute'', $$SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, ''1 minute'') w GROUP BY 1, 2$$)';
REVOKE ALL ON FUNCTION beam.create_pipeline(text, text, interval, interval, beam.trigger, text, interval, text, text, text, boolean, text, boolean) FROM PUBLIC;

CREATE FUNCTION beam.pause_pipeline(name text) RETURNS void LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_pause_pipeline';
COMMENT ON FUNCTION beam.pause_pipeline(text) IS
'stops a pipeline after its current bundle; its position is kept, and the WAL from there on, until it is resumed or dropped';

CREATE FUNCTION beam.resume_pipeline(name text) RETURNS void LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_resume_pipeline';
COMMENT ON FUNCTION beam.resume_pipeline(text) IS
'sets a paused or failed pipeline running again, exactly at its position';

CREATE FUNCTION beam.drop_pipeline(name text, keep_result boolean DEFAULT false) RETURNS void LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_drop_pipeline';
COMMENT ON FUNCTION beam.drop_pipeline(text, boolean) IS
'drops a pipeline with its state and its batch view, and with its result table unless keep_result; error where other objects depend on them';

CREATE FUNCTION beam.explain_pipeline(name text) RETURNS SETOF text LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_explain_pipeline';
COMMENT ON FUNCTION beam.explain_pipeline(text) IS 'the plan of a pipeline as a tree, a line a row';

CREATE PROCEDURE beam.wait_for(name text, timeout interval DEFAULT NULL, watermark timestamptz DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_wait_for';
COMMENT ON PROCEDURE beam.wait_for(text, interval, timestamptz) IS
'returns when all that was committed at the call is in the result of the pipeline, or, with watermark, when the output watermark has come to it, so that windows that end up to there have had their on-time pane; error when the pipeline is not running, or after timeout';

CREATE FUNCTION beam.test_stream(
    pipeline text, events jsonb,
    OUT step int, OUT kind text, OUT window_start timestamptz, OUT window_end timestamptz, OUT timing text,
    OUT index bigint, OUT nonspeculative_index bigint, OUT is_first boolean, OUT is_last boolean,
    OUT pane_timestamp timestamptz, OUT elements bigint, OUT data jsonb, OUT reason text)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'stream_beam_test_stream';
COMMENT ON FUNCTION beam.test_stream(text, jsonb) IS
'runs a pipeline''s query and time model over a scripted input, from nothing, without touching a table: events is an array of {"rows": [...]} (one bundle), {"delete": [...]}, {"update": {"old": [...], "new": [...]}}, {"watermark": timestamp}, {"processing_time": interval} and "end"; returns every pane (kind pane; retraction; none where HAVING is not true; removal of the row of a session that is no more) with the row it would write, and what was dropped (kind late) and why';

CREATE FUNCTION beam.test_stream_state(
    pipeline text, events jsonb,
    OUT window_start timestamptz, OUT window_end timestamptz, OUT key jsonb, OUT closed boolean, OUT elements bigint,
    OUT event_timer timestamptz, OUT processing_timer timestamptz, OUT hold timestamptz,
    OUT input_watermark timestamptz, OUT output_watermark timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'stream_beam_test_stream_state';
COMMENT ON FUNCTION beam.test_stream_state(text, jsonb) IS
'the cells that beam.test_stream() leaves behind: window, key, timers, hold, whether its trigger has finished, and the watermarks';

CREATE FUNCTION beam.check(OUT item text, OUT ok boolean, OUT value text, OUT hint text) RETURNS SETOF record
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'stream_beam_check';
COMMENT ON FUNCTION beam.check() IS 'what stream_beam needs of the server: a row for each thing, whether it is so, and what to do where it is not';

CREATE FUNCTION beam._installed() RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_installed';
REVOKE ALL ON FUNCTION beam._installed() FROM PUBLIC;
SELECT beam._installed();
