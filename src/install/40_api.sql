-- Not a time that could be given. How late rows may be follows from source_mode then.
CREATE FUNCTION beam._lateness_by_mode() RETURNS pg_catalog.interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT '-178956970 years -8 mons'::pg_catalog.interval;
END;
COMMENT ON FUNCTION beam._lateness_by_mode() IS 'internal: what allowed_lateness is where it is not given';

CREATE FUNCTION beam.create_pipeline(
    name                 pg_catalog.text,
    query                pg_catalog.text,
    watermark            pg_catalog.interval DEFAULT '10 seconds',
    allowed_lateness     pg_catalog.interval DEFAULT beam._lateness_by_mode(),
    trigger              beam.trigger DEFAULT 'continuous()',
    accumulation         pg_catalog.text DEFAULT 'accumulating',
    idle_timeout         pg_catalog.interval DEFAULT '1 minute',
    timestamp_combiner   pg_catalog.text DEFAULT 'end_of_window',
    on_time              pg_catalog.text DEFAULT 'fire_always',
    closing              pg_catalog.text DEFAULT 'fire_if_non_empty',
    allow_unsafe_trigger pg_catalog.bool DEFAULT false,
    source_mode          pg_catalog.text DEFAULT 'changes',
    history              pg_catalog.bool DEFAULT true,
    watermark_by         pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.regclass LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_create_pipeline';
COMMENT ON FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool, pg_catalog.text) IS
'defines a pipeline: a query over a table whose result table, named like the pipeline, is kept up to date; watermark is the out-of-orderness of the event time, allowed_lateness how long a window takes late rows (null: without limit, which is the default of source_mode changes; of append_only it is an hour), trigger when panes are emitted, accumulation accumulating, discarding or retracting, idle_timeout after how long a resting source lets the watermark follow the clock (null: never), timestamp_combiner (end_of_window, earliest, latest) which timestamp a pane has, on_time and closing (fire_always, fire_if_non_empty) whether empty on-time and last panes are emitted, source_mode changes (UPDATE, DELETE and TRUNCATE of the source take rows back; the WAL must have the old values: REPLICA IDENTITY FULL, or an identity that covers the query) or append_only (they become dead letters), history whether the rows that the source has already are taken in, too, watermark_by an expression over the source (a device, a partition) whose values each have a watermark: that of the pipeline is the least of those that are not at rest. Returns the result table. Errors name what in the query cannot be run. Example: SELECT beam.create_pipeline(''per_minute'', $$SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, ''1 minute'') w GROUP BY 1, 2$$)';
REVOKE ALL ON FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool, pg_catalog.text) FROM PUBLIC;

-- In the index by which rows of a result that nothing identifies are found again. Every owner of a result inserts there, so everybody may call it.
CREATE FUNCTION beam._row_hash(VARIADIC "any") RETURNS pg_catalog.int8 LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stream_beam_row_hash';
COMMENT ON FUNCTION beam._row_hash("any") IS 'internal: a hash of values by their bytes';

-- In the index of a result with group keys that are too large for an index. Every owner of a result inserts there, so everybody may call it.
CREATE FUNCTION beam._key_hash(VARIADIC "any") RETURNS pg_catalog.int8 LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stream_beam_key_hash';
COMMENT ON FUNCTION beam._key_hash("any") IS 'internal: a hash of values by the equality of their types';

CREATE FUNCTION beam.pause_pipeline(name pg_catalog.text) RETURNS pg_catalog.void LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_pause_pipeline';
COMMENT ON FUNCTION beam.pause_pipeline(pg_catalog.text) IS
'stops a pipeline after its current bundle; its position is kept, and the WAL from there on, until it is resumed or dropped';

CREATE FUNCTION beam.resume_pipeline(name pg_catalog.text) RETURNS pg_catalog.void LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_resume_pipeline';
COMMENT ON FUNCTION beam.resume_pipeline(pg_catalog.text) IS
'sets a paused or failed pipeline running again, exactly at its position';

CREATE FUNCTION beam.drop_pipeline(name pg_catalog.text, keep_result pg_catalog.bool DEFAULT false) RETURNS pg_catalog.void LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_drop_pipeline';
COMMENT ON FUNCTION beam.drop_pipeline(pg_catalog.text, pg_catalog.bool) IS
'drops a pipeline with its state and its batch view, and with its result table unless keep_result; error where other objects depend on them';

CREATE FUNCTION beam.explain_pipeline(name pg_catalog.text) RETURNS SETOF pg_catalog.text LANGUAGE c STABLE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_explain_pipeline';
COMMENT ON FUNCTION beam.explain_pipeline(pg_catalog.text) IS 'the plan of a pipeline as a tree, a line a row';

CREATE PROCEDURE beam.wait_for(name pg_catalog.text, timeout pg_catalog.interval DEFAULT NULL, watermark pg_catalog.timestamptz DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_wait_for';
COMMENT ON PROCEDURE beam.wait_for(pg_catalog.text, pg_catalog.interval, pg_catalog.timestamptz) IS
'returns when all that was committed at the call is in the result of the pipeline, or, with watermark, when the output watermark has come to it, so that windows that end up to there have had their on-time pane; error when the pipeline is not running, or after timeout';

CREATE FUNCTION beam.test_stream(
    pipeline pg_catalog.text, events pg_catalog.jsonb,
    OUT step pg_catalog.int4, OUT kind pg_catalog.text, OUT window_start pg_catalog.timestamptz, OUT window_end pg_catalog.timestamptz, OUT timing pg_catalog.text,
    OUT index pg_catalog.int8, OUT nonspeculative_index pg_catalog.int8, OUT is_first pg_catalog.bool, OUT is_last pg_catalog.bool,
    OUT pane_timestamp pg_catalog.timestamptz, OUT elements pg_catalog.int8, OUT data pg_catalog.jsonb, OUT reason pg_catalog.text)
RETURNS SETOF pg_catalog.record LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'stream_beam_test_stream';
COMMENT ON FUNCTION beam.test_stream(pg_catalog.text, pg_catalog.jsonb) IS
'runs a pipeline''s query and time model over a scripted input, from nothing, without touching a table: events is an array of {"rows": [...]} (one bundle), {"delete": [...]}, {"update": {"old": [...], "new": [...]}}, {"watermark": timestamp}, {"processing_time": interval} and "end"; returns every pane (kind pane; retraction; none where HAVING is not true; removal of the row of a session that is no more) with the row it would write, and what was dropped (kind late) and why';

CREATE FUNCTION beam.test_stream_state(
    pipeline pg_catalog.text, events pg_catalog.jsonb,
    OUT window_start pg_catalog.timestamptz, OUT window_end pg_catalog.timestamptz, OUT key pg_catalog.jsonb, OUT closed pg_catalog.bool, OUT elements pg_catalog.int8,
    OUT event_timer pg_catalog.timestamptz, OUT processing_timer pg_catalog.timestamptz, OUT hold pg_catalog.timestamptz,
    OUT input_watermark pg_catalog.timestamptz, OUT output_watermark pg_catalog.timestamptz)
RETURNS SETOF pg_catalog.record LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'stream_beam_test_stream_state';
COMMENT ON FUNCTION beam.test_stream_state(pg_catalog.text, pg_catalog.jsonb) IS
'the cells that beam.test_stream() leaves behind: window, key, timers, hold, whether its trigger has finished, and the watermarks';

CREATE FUNCTION beam.check(OUT item pg_catalog.text, OUT ok pg_catalog.bool, OUT value pg_catalog.text, OUT hint pg_catalog.text) RETURNS SETOF pg_catalog.record
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'stream_beam_check';
COMMENT ON FUNCTION beam.check() IS 'what stream_beam needs of the server: a row for each thing, whether it is so, and what to do where it is not';

CREATE FUNCTION beam._installed() RETURNS pg_catalog.void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_installed';
REVOKE ALL ON FUNCTION beam._installed() FROM PUBLIC;
SELECT beam._installed();
