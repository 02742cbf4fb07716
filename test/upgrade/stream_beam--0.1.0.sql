\echo Use "CREATE EXTENSION stream_beam" to load this file. \quit

-- Whoever owns the schema could put objects of his own in the place of ours, now or later.
DO $$
BEGIN
    IF (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'beam')
       OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER) THEN
        RAISE EXCEPTION 'schema "beam" belongs to another role than the one that creates extension "stream_beam"'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Drop or rename that schema: CREATE EXTENSION makes one.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                AND d.refobjid OPERATOR(pg_catalog.=) 'beam'::pg_catalog.regnamespace AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass) THEN
        RAISE EXCEPTION 'schema "beam" is not empty'
            USING ERRCODE = 'duplicate_object', HINT = 'Move what is in it to another schema, or drop it.';
    END IF;
END $$;

-- Everything the user calls is in schema beam; what the workers keep is in schema beam_state.
GRANT USAGE ON SCHEMA beam TO PUBLIC;

CREATE SCHEMA beam_state;
COMMENT ON SCHEMA beam_state IS 'state of stream_beam''s pipelines, one table each; written by its workers only';
-- The type beam.trigger: when a window's result is written. Stored as its canonical text. Always named with its schema: without
-- it, "trigger" is the pseudo-type of trigger functions.
CREATE TYPE beam.trigger;

CREATE FUNCTION beam.trigger_in(pg_catalog.cstring) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_trigger_in';
CREATE FUNCTION beam.trigger_out(beam.trigger) RETURNS pg_catalog.cstring
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_trigger_out';

CREATE TYPE beam.trigger (
	INPUT = beam.trigger_in,
	OUTPUT = beam.trigger_out,
	INTERNALLENGTH = VARIABLE,
	STORAGE = extended
);

COMMENT ON TYPE beam.trigger IS
'When a window''s result is written, as text: after_watermark(early => after_count(100), late => after_count(1)).
Made by the functions beam.continuous, default_trigger, after_watermark, after_count, after_processing_time, repeatedly, after_each,
after_all, after_any, or_finally and never, or from its text. Wrong text is error 22P02, with the position.';
COMMENT ON FUNCTION beam.trigger_in(pg_catalog.cstring) IS 'input function of beam.trigger';
COMMENT ON FUNCTION beam.trigger_out(beam.trigger) IS 'output function of beam.trigger';
REVOKE ALL ON FUNCTION beam.trigger_in(pg_catalog.cstring), beam.trigger_out(beam.trigger) FROM PUBLIC;

CREATE FUNCTION beam.continuous() RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_continuous';
COMMENT ON FUNCTION beam.continuous() IS
'A trigger: writes a window with every bundle that changes it, and once more when it is final. The default.';

CREATE FUNCTION beam.default_trigger() RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_default_trigger';
COMMENT ON FUNCTION beam.default_trigger() IS
'A trigger: writes a window when the watermark passes its end, and then with every bundle that has late elements for it.';

CREATE FUNCTION beam.never() RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_never';
COMMENT ON FUNCTION beam.never() IS
'A trigger: is never ready by itself; only a last pane is written, when the window expires.';

CREATE FUNCTION beam.after_watermark(early beam.trigger DEFAULT NULL, late beam.trigger DEFAULT NULL) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_after_watermark';
COMMENT ON FUNCTION beam.after_watermark(beam.trigger, beam.trigger) IS
'A trigger: writes a window when the watermark passes its end; before that whenever "early" is ready, after it whenever "late" is.
Without "late" it is finished at the end of the window.
Example: beam.after_watermark(early => beam.after_processing_time(''5 s''), late => beam.after_count(1))';

CREATE FUNCTION beam.after_count(n pg_catalog.int8) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_after_count';
COMMENT ON FUNCTION beam.after_count(pg_catalog.int8) IS
'A trigger: ready once when n elements have come, n > 0 (else error 22P02). Example: beam.repeatedly(beam.after_count(100))';

CREATE FUNCTION beam.after_processing_time(delay pg_catalog.interval, align pg_catalog.interval DEFAULT NULL) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_after_processing_time';
COMMENT ON FUNCTION beam.after_processing_time(pg_catalog.interval, pg_catalog.interval) IS
'A trigger: ready once when "delay" of wall-clock time has passed since the first element, moved up to the next multiple of "align"
where that is given. Both positive, without months (else error 22P02). Example: beam.after_processing_time(''5 s'', align => ''1 min'')';

CREATE FUNCTION beam.repeatedly(t beam.trigger) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_repeatedly';
COMMENT ON FUNCTION beam.repeatedly(beam.trigger) IS
'A trigger: the given one, again and again. Example: beam.repeatedly(beam.after_count(100))';

CREATE FUNCTION beam.after_each(VARIADIC triggers beam.trigger[]) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_after_each';
COMMENT ON FUNCTION beam.after_each(beam.trigger[]) IS
'A trigger: the given ones, one after the other, each until it finishes. At least one, none null (error 22004).
Example: beam.after_each(beam.after_count(1), beam.after_watermark())';

CREATE FUNCTION beam.after_all(VARIADIC triggers beam.trigger[]) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_after_all';
COMMENT ON FUNCTION beam.after_all(beam.trigger[]) IS
'A trigger: ready once when all the given ones are. At least one, none null (error 22004).
Example: beam.after_all(beam.after_count(10), beam.after_processing_time(''1 min''))';

CREATE FUNCTION beam.after_any(VARIADIC triggers beam.trigger[]) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_after_any';
COMMENT ON FUNCTION beam.after_any(beam.trigger[]) IS
'A trigger: ready once when one of the given ones is. At least one, none null (error 22004).
Example: beam.repeatedly(beam.after_any(beam.after_count(1000), beam.after_processing_time(''1 s'')))';

CREATE FUNCTION beam.or_finally(main beam.trigger, until beam.trigger) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_or_finally';
COMMENT ON FUNCTION beam.or_finally(beam.trigger, beam.trigger) IS
'A trigger: "main" until "until" is ready, which is its last pane.
Example: beam.or_finally(beam.repeatedly(beam.after_count(10)), beam.after_watermark())';

-- The same in JSON. The cast from jsonb is implicit, so that JSON can stand wherever a trigger is wanted.
CREATE FUNCTION beam.trigger_from_json(pg_catalog.jsonb) RETURNS beam.trigger
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_trigger_from_json';
COMMENT ON FUNCTION beam.trigger_from_json(pg_catalog.jsonb) IS
'A trigger from JSON, with the names of its text form: {"after_watermark": {"early": {"after_count": 100}, "late": {"after_count": 1}}}.
Wrong JSON is error 22023, with the path. It is also the cast from jsonb, which is implicit.';
CREATE FUNCTION beam.trigger_to_json(beam.trigger) RETURNS pg_catalog.jsonb
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_trigger_to_json';
COMMENT ON FUNCTION beam.trigger_to_json(beam.trigger) IS
'A trigger as JSON, which beam.trigger_from_json reads. It is also the cast to jsonb, which is explicit.
Example: SELECT beam.after_count(100)::jsonb gives {"after_count": 100}';

CREATE CAST (pg_catalog.jsonb AS beam.trigger) WITH FUNCTION beam.trigger_from_json(pg_catalog.jsonb) AS IMPLICIT;
CREATE CAST (beam.trigger AS pg_catalog.jsonb) WITH FUNCTION beam.trigger_to_json(beam.trigger);
-- Window functions. Each is an SQL function over scalar C functions, without STRICT and without SET, so that the planner dissolves
-- it into the query; its WHERE is what makes a null argument give no row. BEGIN ATOMIC binds every name here and now.

-- ---- the scalar functions beneath ----
CREATE FUNCTION beam.tumble_start(ts pg_catalog.timestamptz, size pg_catalog.interval, "offset" pg_catalog.interval) RETURNS pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_tumble_start';
COMMENT ON FUNCTION beam.tumble_start(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval) IS 'internal: start of the window of beam.tumble';

CREATE FUNCTION beam.tumble_end(ts pg_catalog.timestamptz, size pg_catalog.interval, "offset" pg_catalog.interval) RETURNS pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_tumble_end';
COMMENT ON FUNCTION beam.tumble_end(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval) IS 'internal: end of the window of beam.tumble';

CREATE FUNCTION beam.window_end(window_start pg_catalog.timestamptz, size pg_catalog.interval) RETURNS pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_window_end';
COMMENT ON FUNCTION beam.window_end(pg_catalog.timestamptz, pg_catalog.interval) IS 'internal: end of a window of fixed length';

CREATE FUNCTION beam.window_max_timestamp(window_end pg_catalog.timestamptz) RETURNS pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_window_max_timestamp';
COMMENT ON FUNCTION beam.window_max_timestamp(pg_catalog.timestamptz) IS 'internal: the last instant of a window, a microsecond before its end';

CREATE FUNCTION beam.window_rows(pg_catalog.internal) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_window_rows';
COMMENT ON FUNCTION beam.window_rows(pg_catalog.internal) IS 'internal: planner support, how many windows a row has';
REVOKE ALL ON FUNCTION beam.window_rows(pg_catalog.internal) FROM PUBLIC;

CREATE FUNCTION beam.hop_starts(ts pg_catalog.timestamptz, size pg_catalog.interval, slide pg_catalog.interval, "offset" pg_catalog.interval) RETURNS SETOF pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 10 SUPPORT beam.window_rows AS 'MODULE_PATHNAME', 'stream_beam_hop_starts';
COMMENT ON FUNCTION beam.hop_starts(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval, pg_catalog.interval) IS 'internal: starts of the windows of beam.hop';

CREATE FUNCTION beam.cumulate_ends(ts pg_catalog.timestamptz, max_size pg_catalog.interval, step pg_catalog.interval, "offset" pg_catalog.interval) RETURNS SETOF pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE ROWS 10 SUPPORT beam.window_rows AS 'MODULE_PATHNAME', 'stream_beam_cumulate_ends';
COMMENT ON FUNCTION beam.cumulate_ends(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval, pg_catalog.interval) IS 'internal: ends of the windows of beam.cumulate';

CREATE FUNCTION beam.calendar_start(ts pg_catalog.timestamptz, unit pg_catalog.text, n pg_catalog.int4, time_zone pg_catalog.text) RETURNS pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'stream_beam_calendar_start';
COMMENT ON FUNCTION beam.calendar_start(pg_catalog.timestamptz, pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS 'internal: start of the window of beam.calendar';

CREATE FUNCTION beam.calendar_end(ts pg_catalog.timestamptz, unit pg_catalog.text, n pg_catalog.int4, time_zone pg_catalog.text) RETURNS pg_catalog.timestamptz
	LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE COST 10 AS 'MODULE_PATHNAME', 'stream_beam_calendar_end';
COMMENT ON FUNCTION beam.calendar_end(pg_catalog.timestamptz, pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS 'internal: end of the window of beam.calendar';

CREATE FUNCTION beam.session_start(ts pg_catalog.timestamptz, gap pg_catalog.interval) RETURNS pg_catalog.timestamptz
	LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_session_start';
COMMENT ON FUNCTION beam.session_start(pg_catalog.timestamptz, pg_catalog.interval) IS
'start of the merged session of a row. Example: beam.session_start(ts, ''5 min'') OVER (PARTITION BY key ORDER BY ts)';

CREATE FUNCTION beam.session_end(ts pg_catalog.timestamptz, gap pg_catalog.interval) RETURNS pg_catalog.timestamptz
	LANGUAGE C WINDOW IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_session_end';
COMMENT ON FUNCTION beam.session_end(pg_catalog.timestamptz, pg_catalog.interval) IS
'end of the merged session of a row. Example: beam.session_end(ts, ''5 min'') OVER (PARTITION BY key ORDER BY ts)';

-- ---- the window functions ----
CREATE FUNCTION beam.tumble(ts pg_catalog.timestamptz, size pg_catalog.interval, "offset" pg_catalog.interval DEFAULT '0')
	RETURNS TABLE (window_start pg_catalog.timestamptz, window_end pg_catalog.timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT beam.tumble_start(ts, size, "offset"), beam.tumble_end(ts, size, "offset")
	 WHERE ts IS NOT NULL AND size IS NOT NULL AND "offset" IS NOT NULL;
END;
COMMENT ON FUNCTION beam.tumble(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval) IS
'Window function: windows of one size, one after the other, counted from 1970-01-01 00:00 UTC plus the offset.
ts: the event time; null gives no window. size: positive, without months (a day is 24 hours). offset: any sign, without months.
Errors: 22023 size or offset; 22008 infinite ts, or window out of range.
Example: SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, ''1 minute'') w GROUP BY 1, 2';

CREATE FUNCTION beam.hop(ts pg_catalog.timestamptz, size pg_catalog.interval, slide pg_catalog.interval, "offset" pg_catalog.interval DEFAULT '0')
	RETURNS TABLE (window_start pg_catalog.timestamptz, window_end pg_catalog.timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 10
BEGIN ATOMIC
	SELECT s.window_start, beam.window_end(s.window_start, size)
	  FROM (SELECT beam.hop_starts(ts, size, slide, "offset") AS window_start) s
	 WHERE ts IS NOT NULL AND size IS NOT NULL AND slide IS NOT NULL AND "offset" IS NOT NULL;
END;
COMMENT ON FUNCTION beam.hop(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval, pg_catalog.interval) IS
'Window function: windows of one size that start every "slide", counted from 1970-01-01 00:00 UTC plus the offset. An element is in
all that hold it; with a slide longer than the size there are gaps, and an element may be in none.
ts: the event time; null gives no window. size, slide: positive, without months; at most 10,000 windows an element.
Errors: 22023 size, slide or offset; 22008 infinite ts, or window out of range.
Example: SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.hop(o.created_at, ''1 hour'', ''10 min'') w GROUP BY 1, 2';

CREATE FUNCTION beam.cumulate(ts pg_catalog.timestamptz, max_size pg_catalog.interval, step pg_catalog.interval, "offset" pg_catalog.interval DEFAULT '0')
	RETURNS TABLE (window_start pg_catalog.timestamptz, window_end pg_catalog.timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 10
BEGIN ATOMIC
	-- the start from the end, not from ts: so the step is checked first, and errors name the right function
	SELECT beam.tumble_start(beam.window_max_timestamp(s.window_end), max_size, "offset"), s.window_end
	  FROM (SELECT beam.cumulate_ends(ts, max_size, step, "offset") AS window_end) s
	 WHERE ts IS NOT NULL AND max_size IS NOT NULL AND step IS NOT NULL AND "offset" IS NOT NULL;
END;
COMMENT ON FUNCTION beam.cumulate(pg_catalog.timestamptz, pg_catalog.interval, pg_catalog.interval, pg_catalog.interval) IS
'Window function: windows that share a start and end one, two, ... steps after it, up to max_size; then the next start.
ts: the event time; null gives no window. max_size, step: positive, without months; the step divides max_size, at most 10,000 times.
Errors: 22023 max_size, step or offset; 22008 infinite ts, or window out of range.
Example: SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.cumulate(o.created_at, ''1 day'', ''1 hour'') w GROUP BY 1, 2';

CREATE FUNCTION beam.session(ts pg_catalog.timestamptz, gap pg_catalog.interval)
	RETURNS TABLE (window_start pg_catalog.timestamptz, window_end pg_catalog.timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT ts, beam.window_end(ts, gap)
	 WHERE ts IS NOT NULL AND gap IS NOT NULL;
END;
COMMENT ON FUNCTION beam.session(pg_catalog.timestamptz, pg_catalog.interval) IS
'Window function: sessions of activity, ended by a gap. Each element opens [ts, ts + gap); those of one key that overlap are one
window. Windows that only touch stay apart.
Windows are merged where the query groups by window_start or window_end; the other group keys are the key. Conditions in WHERE on the
window''s columns are applied to merged windows. In a query that does not group by them (also in SELECT DISTINCT, and in an SQL
function that is inlined), the function gives the unmerged window of each row.
ts: the event time; null gives no window. gap: positive, without months.
Errors: 22023 gap; 22008 infinite ts, or window out of range; 0A000 grouped in a way that is not supported (outer join, grouping sets).
Example: SELECT w.window_start, w.window_end, c.visitor, count(*) FROM clicks c, beam.session(c.at, ''30 min'') w GROUP BY 1, 2, 3';

CREATE FUNCTION beam.calendar(ts pg_catalog.timestamptz, unit pg_catalog.text, n pg_catalog.int4 DEFAULT 1, time_zone pg_catalog.text DEFAULT 'UTC')
	RETURNS TABLE (window_start pg_catalog.timestamptz, window_end pg_catalog.timestamptz)
	LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
BEGIN ATOMIC
	SELECT beam.calendar_start(ts, unit, n, time_zone), beam.calendar_end(ts, unit, n, time_zone)
	 WHERE ts IS NOT NULL AND unit IS NOT NULL AND n IS NOT NULL AND time_zone IS NOT NULL;
END;
COMMENT ON FUNCTION beam.calendar(pg_catalog.timestamptz, pg_catalog.text, pg_catalog.int4, pg_catalog.text) IS
'Window function: windows of n days, weeks, months, quarters or years in a time zone. They start at local midnight, so days have 23
or 25 hours where clocks are changed. Weeks start on Monday. Windows of several units are counted from 1970-01-01, weeks from
Monday 1969-12-29.
ts: the event time; null gives no window. unit: day, week, month, quarter or year. n: 1 to 10000. time_zone: a full name.
Errors: 22023 unit, n or zone; 22008 infinite ts, or window out of range.
Example: SELECT w.window_start, w.window_end, sum(o.amount) FROM orders o, beam.calendar(o.created_at, ''month'', 1, ''Europe/Berlin'') w GROUP BY 1, 2';

-- ---- panes ----
-- STABLE, so that they are not folded to constants before a pipeline sees them.
CREATE FUNCTION beam.pane_timing() RETURNS pg_catalog.text
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_pane_timing';
COMMENT ON FUNCTION beam.pane_timing() IS
'EARLY, ON_TIME or LATE: when the pane was written, for the select list of a pipeline. As a batch: ON_TIME.';

CREATE FUNCTION beam.pane_index() RETURNS pg_catalog.int8
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_pane_index';
COMMENT ON FUNCTION beam.pane_index() IS
'The number of the pane in its window, from 0, for the select list of a pipeline. As a batch: 0.';

CREATE FUNCTION beam.is_last_pane() RETURNS pg_catalog.bool
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_is_last_pane';
COMMENT ON FUNCTION beam.is_last_pane() IS
'Whether the pane is the last of its window, for the select list of a pipeline. As a batch: true.';

CREATE FUNCTION beam.pane_timestamp() RETURNS pg_catalog.timestamptz
	LANGUAGE C STABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_pane_timestamp';
COMMENT ON FUNCTION beam.pane_timestamp() IS
'The event time of the pane, for the select list of a pipeline. As a batch: the last instant of the window.
Error 55000 in a query that does not group by a window function.';
-- The catalog. Only the workers and the API's functions touch these tables; everybody reads the views below.

CREATE TABLE beam.pipeline (
    id               pg_catalog.int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             pg_catalog.text NOT NULL,          -- of all its versions
    owner            pg_catalog.oid NOT NULL,
    source           pg_catalog.oid NOT NULL,
    view             pg_catalog.oid NOT NULL,
    result           pg_catalog.oid NOT NULL,
    state_table      pg_catalog.oid NOT NULL,
    fingerprint      pg_catalog.text NOT NULL,          -- of the stored view's tree: a replaced view is noticed
    watermark_delay  pg_catalog.int8 NOT NULL,          -- microseconds
    allowed_lateness pg_catalog.int8 NOT NULL,          -- microseconds
    idle_timeout     pg_catalog.int8,                   -- microseconds; NULL: an idle source does not move the watermark
    trigger          beam.trigger NOT NULL,
    accumulation     pg_catalog.text NOT NULL,
    timestamp_combiner pg_catalog.text NOT NULL,
    on_time          pg_catalog.text NOT NULL,
    closing          pg_catalog.text NOT NULL,
    signature        pg_catalog.text[] NOT NULL DEFAULT '{}', -- of keys, aggregates and result columns: what state was written with
    source_columns   pg_catalog.int2[] NOT NULL DEFAULT '{}', -- numbers of those that the query uses
    settings         pg_catalog.text[] NOT NULL,        -- name, value, name, value ...: those of the creating session that expressions depend on
    state            pg_catalog.text NOT NULL CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'paused', 'failed', 'needs_resync'])),
    error_code       pg_catalog.text,
    error_message    pg_catalog.text,
    error_at         pg_catalog.timestamptz,
    created_at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    upstream         pg_catalog.int4 NOT NULL DEFAULT 0, -- the pipeline whose result it reads; 0: a table
    retractable      pg_catalog.bool NOT NULL DEFAULT false, -- rows it reads may be taken back
    revision         pg_catalog.int8 NOT NULL DEFAULT 1, -- grows with each change that the runner has to see
    version          pg_catalog.int4 NOT NULL DEFAULT 1,
    stage            pg_catalog.text NOT NULL DEFAULT 'current' CHECK (stage OPERATOR(pg_catalog.=) ANY (ARRAY['current', 'building', 'kept'])),
    keep             pg_catalog.int8,                   -- microseconds, of a building one: how long the version that it replaces is kept; NULL: not at all
    keep_until       pg_catalog.timestamptz,            -- of a kept one
    reason           pg_catalog.text,                   -- why the version was made, other than by a user's alteration
    rebuild          pg_catalog.text,                   -- why it has to be made anew from its source
    UNIQUE (name, version)
);
-- Functions and views mean the current version by a pipeline's name.
CREATE UNIQUE INDEX ON beam.pipeline (name) WHERE stage OPERATOR(pg_catalog.=) 'current';
CREATE UNIQUE INDEX ON beam.pipeline (name) WHERE stage OPERATOR(pg_catalog.=) 'building';

-- Whom the positions belong to, one row: those of a copied, restored or promoted database are void (runtime/sb_void.c).
CREATE TABLE beam.home (
    system           pg_catalog.int8 NOT NULL,          -- system identifier of the server
    timeline         pg_catalog.int4 NOT NULL,
    database         pg_catalog.oid NOT NULL
);

-- What of a pipeline pg_dump takes along: names and settings. Result table and batch view are dumped as what they are; where they are restored
-- without a row in beam.pipeline, beam.resync_pipeline() makes the pipeline over them. pg_dump locks what it dumps, so everybody may read
-- it: nothing is in it that pg_class and pg_views do not show. A table that has been dropped would be dumped as a bare number.
CREATE TABLE beam.definition (
    name             pg_catalog.text PRIMARY KEY,
    result           pg_catalog.regclass NOT NULL,      -- dumped as a name: it has the owner, and follows a rename
    view             pg_catalog.regclass NOT NULL,
    settings         pg_catalog.jsonb NOT NULL          -- columns of beam.pipeline, as named below
);
SELECT pg_catalog.pg_extension_config_dump('beam.definition',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) result) AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) view)');

CREATE FUNCTION beam._keep_definition() RETURNS pg_catalog.trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_keep_definition';
REVOKE ALL ON FUNCTION beam._keep_definition() FROM PUBLIC;
-- The settings are those columns that mean the same in another database.
CREATE TRIGGER keep_definition AFTER INSERT OR UPDATE OR DELETE ON beam.pipeline FOR EACH ROW EXECUTE FUNCTION beam._keep_definition(
    'watermark_delay', 'allowed_lateness', 'idle_timeout', 'trigger', 'accumulation', 'timestamp_combiner', 'on_time', 'closing', 'settings',
    'retractable');

-- Restored, and not yet made a pipeline. Its owner is that of the result table.
CREATE VIEW beam._restored_definition AS
SELECT d.name, c.relowner AS owner, d.result, d.view, d.settings
  FROM beam.definition d
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.result
 WHERE NOT EXISTS (SELECT FROM beam.pipeline p WHERE p.name OPERATOR(pg_catalog.=) d.name);

-- What a bundle moves, one narrow row a pipeline, so that its updates stay on their page.
CREATE TABLE beam.progress (
    pipeline         pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    position         pg_catalog.pg_lsn NOT NULL,        -- every source transaction that committed up to here is in the result
    input_watermark  pg_catalog.timestamptz NOT NULL,
    output_watermark pg_catalog.timestamptz NOT NULL,
    max_event_time   pg_catalog.timestamptz NOT NULL,
    commit_time      pg_catalog.timestamptz,            -- of the last source transaction applied
    rows_in          pg_catalog.int8 NOT NULL DEFAULT 0,
    bundles          pg_catalog.int8 NOT NULL DEFAULT 0,
    panes            pg_catalog.int8 NOT NULL DEFAULT 0,
    late             pg_catalog.int8 NOT NULL DEFAULT 0,
    dead             pg_catalog.int8 NOT NULL DEFAULT 0,
    cells            pg_catalog.int8 NOT NULL DEFAULT 0,
    updated_at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE beam.late_event (
    id           pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline     pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    position     pg_catalog.pg_lsn NOT NULL,
    event_time   pg_catalog.timestamptz NOT NULL,
    window_start pg_catalog.timestamptz NOT NULL,
    window_end   pg_catalog.timestamptz NOT NULL,
    op           pg_catalog.text NOT NULL CHECK (op OPERATOR(pg_catalog.=) ANY (ARRAY['insert', 'delete'])), -- the row was to be added, or taken back
    reason       pg_catalog.text NOT NULL CHECK (reason OPERATOR(pg_catalog.=) ANY (ARRAY['expired', 'closed'])),
    watermark    pg_catalog.timestamptz NOT NULL,
    data         pg_catalog.jsonb NOT NULL,
    at           pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX ON beam.late_event (pipeline, id);

CREATE TABLE beam.dead_letter (
    id       pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    position pg_catalog.pg_lsn NOT NULL,
    op       pg_catalog.text NOT NULL CHECK (op OPERATOR(pg_catalog.=) ANY (ARRAY['insert', 'delete', 'update', 'truncate'])),
    data     pg_catalog.jsonb,                          -- NULL: the row is not known
    sqlstate pg_catalog.text NOT NULL,
    message  pg_catalog.text NOT NULL,
    context  pg_catalog.text,
    at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX ON beam.dead_letter (pipeline, id);

-- How far a pipeline has come in the rows that its source had before it (sb_history.h). Pipelines that start from now have none.
CREATE TABLE beam.history (
    pipeline       pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    part           pg_catalog.int2 NOT NULL,            -- what the rows are cut into chunks by: a column's number; 0: the event time; -1: one chunk
    part_type      pg_catalog.oid NOT NULL,             -- 0: none
    begun          pg_catalog.bool NOT NULL DEFAULT false,
    scanned        pg_catalog.bool NOT NULL DEFAULT false,
    lower_bound    pg_catalog.text,                     -- of the last chunk, which holds it; NULL: it went down to the end
    upper_bound    pg_catalog.text,                     -- of the last chunk, which does not hold it; NULL: it was the first
    snapshot       pg_catalog.pg_snapshot,              -- of the last chunk
    cut_end        pg_catalog.pg_lsn NOT NULL DEFAULT '0/0', -- the end of the WAL just after that
    rows           pg_catalog.int8 NOT NULL DEFAULT 0,
    chunks         pg_catalog.int8 NOT NULL DEFAULT 0,
    estimated_rows pg_catalog.int8 NOT NULL,
    started_at     pg_catalog.timestamptz,
    updated_at     pg_catalog.timestamptz,
    finished_at    pg_catalog.timestamptz
) WITH (fillfactor = 20);

-- pg_dump reads it, as the database's owner or somebody who may read all.
GRANT SELECT ON beam.definition TO pg_database_owner, pg_read_all_data;
REVOKE ALL ON beam._restored_definition, beam.home, beam.pipeline, beam.progress, beam.late_event, beam.dead_letter, beam.history FROM PUBLIC;

-- Whose pipelines a role sees: those it owns (or whose owner it is a member of); without definition, errors and row data those whose result it can
-- read, and a member of pg_monitor all.
CREATE FUNCTION beam._may_see(owner pg_catalog.oid, result pg_catalog.oid) RETURNS pg_catalog.bool LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.pg_has_role(owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
        OR COALESCE(pg_catalog.has_table_privilege(result, 'SELECT'), false);
END;
COMMENT ON FUNCTION beam._may_see(pg_catalog.oid, pg_catalog.oid) IS
'internal: may the current role see state and statistics of a pipeline with this owner and this result?';

-- Letters hold values of the source: who has been given a pipeline, or has lost a right, is not shown what he may not read.
CREATE FUNCTION beam._may_read(owner pg_catalog.oid, source pg_catalog.oid, columns pg_catalog.int2[]) RETURNS pg_catalog.bool
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'stream_beam_may_read';
COMMENT ON FUNCTION beam._may_read(pg_catalog.oid, pg_catalog.oid, pg_catalog.int2[]) IS
'internal: may the role read these columns of the table, all of its rows?';

CREATE VIEW beam.pipelines WITH (security_barrier) AS
SELECT p.name,
       p.state,
       p.source::pg_catalog.regclass AS source,
       p.result::pg_catalog.regclass AS result,
       p.view::pg_catalog.regclass AS batch_view,
       pg_catalog.pg_get_userbyid(p.owner) AS owner,
       p.trigger,
       p.accumulation,
       CASE WHEN p.retractable THEN 'changes' ELSE 'append_only' END AS source_mode,
       p.timestamp_combiner,
       p.on_time,
       p.closing,
       p.watermark_delay OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval AS watermark,
       p.allowed_lateness OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval AS allowed_lateness,
       p.idle_timeout OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval AS idle_timeout,
       g.position,
       p.error_code,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN p.error_message END AS error_message,
       p.error_at,
       p.created_at,
       p.version,
       n.version AS next_version,
       n.state AS next_state,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN n.error_message END AS next_error_message
  FROM beam.pipeline p
  LEFT JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
  LEFT JOIN beam.pipeline n ON n.name OPERATOR(pg_catalog.=) p.name AND n.stage OPERATOR(pg_catalog.=) 'building'
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND beam._may_see(p.owner, p.result)
UNION ALL
SELECT d.name,
       'needs_resync',
       NULL,
       d.result,
       d.view,
       pg_catalog.pg_get_userbyid(d.owner),
       p.trigger,
       p.accumulation,
       CASE WHEN p.retractable THEN 'changes' ELSE 'append_only' END,
       p.timestamp_combiner,
       p.on_time,
       p.closing,
       p.watermark_delay OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,
       p.allowed_lateness OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,
       p.idle_timeout OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,
       NULL,
       '55000',
       'it was restored from a dump: its result is as of the dump, its state is to be made from the source',
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL
  FROM beam._restored_definition d
 CROSS JOIN LATERAL pg_catalog.jsonb_populate_record(NULL::beam.pipeline, d.settings) p
 WHERE beam._may_see(d.owner, d.result);
COMMENT ON VIEW beam.pipelines IS 'the pipelines that the current role may see: definition, state and last error; and the version that is being built to take its place';

CREATE FUNCTION beam._slot(OUT restart_lsn pg_catalog.pg_lsn, OUT decoded_lsn pg_catalog.pg_lsn, OUT transaction_lsn pg_catalog.pg_lsn, OUT held_by pg_catalog.text) RETURNS pg_catalog.record
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'stream_beam_slot';
COMMENT ON FUNCTION beam._slot() IS
'for beam.stat_pipelines: from where on the slot of this database retains WAL, how far its reader is, and from where on which running transaction keeps the slot from moving';

CREATE VIEW beam.stat_pipelines WITH (security_barrier) AS
SELECT p.name,
       p.state,
       g.rows_in,
       g.bundles,
       g.panes,
       g.late AS late_events,
       g.dead AS dead_letters,
       g.cells,
       g.position,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), g.position) AS lag_bytes,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.decoded_lsn) AS reader_lag_bytes,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn) AS retained_bytes,
       CASE WHEN s.transaction_lsn OPERATOR(pg_catalog.<) COALESCE(least.position, s.decoded_lsn) THEN s.held_by
            WHEN least.id OPERATOR(pg_catalog.=) p.id THEN 'this pipeline'
            WHEN beam._may_see(least.owner, least.result) THEN pg_catalog.format('pipeline %I', least.name)
            WHEN least.id IS NOT NULL THEN 'a pipeline of another role'
       END AS held_by,
       g.commit_time,
       g.updated_at
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 CROSS JOIN beam._slot() s
  LEFT JOIN (SELECT l.id, l.name, l.owner, l.result, k.position
               FROM beam.pipeline l
               JOIN beam.progress k ON k.pipeline OPERATOR(pg_catalog.=) l.id
              WHERE l.upstream OPERATOR(pg_catalog.=) 0 AND l.state OPERATOR(pg_catalog.<>) 'needs_resync'
              ORDER BY k.position, l.id LIMIT 1) least ON true
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND beam._may_see(p.owner, p.result);
COMMENT ON VIEW beam.stat_pipelines IS 'what each pipeline has done: source rows, bundles, panes, late events, dead letters, live cells; how much WAL it has still to read, how much the reader has, how much the replication slot retains, and what holds that back';

CREATE VIEW beam.watermarks WITH (security_barrier) AS
SELECT p.name,
       g.input_watermark,
       g.output_watermark,
       g.max_event_time,
       CASE WHEN pg_catalog.isfinite(g.input_watermark) THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) g.input_watermark END AS lag
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND beam._may_see(p.owner, p.result);
COMMENT ON VIEW beam.watermarks IS 'input and output watermark of each pipeline, the highest event time seen, and how far the input watermark is behind the clock';

CREATE VIEW beam.late_events WITH (security_barrier) AS
SELECT l.id, p.name AS pipeline, l.position, l.event_time, l.window_start, l.window_end, l.op, l.reason, l.watermark,
       CASE WHEN beam._may_read(p.owner, p.source, p.source_columns) THEN l.data END AS data,
       l.at, p.version
  FROM beam.late_event l
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) l.pipeline
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.late_events IS 'source rows that came after their window had expired (or its trigger had finished): row, window, reason';

CREATE VIEW beam.dead_letters WITH (security_barrier) AS
SELECT d.id, p.name AS pipeline, d.position, d.op,
       CASE WHEN r.may THEN d.data END AS data,
       d.sqlstate,
       CASE WHEN r.may THEN d.message END AS message,
       CASE WHEN r.may THEN d.context END AS context,
       d.at, p.version
  FROM beam.dead_letter d
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) d.pipeline
 CROSS JOIN LATERAL (SELECT beam._may_read(p.owner, p.source, p.source_columns) AS may) r
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.dead_letters IS 'source rows that raised an error: row, sqlstate, message, context';

CREATE VIEW beam.pipeline_versions WITH (security_barrier) AS
SELECT p.name,
       p.version,
       p.stage,
       p.state,
       p.result::pg_catalog.regclass AS result,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN pg_catalog.pg_get_viewdef(p.view) END AS query,
       p.created_at,
       p.keep_until,
       COALESCE(p.rebuild, p.reason) AS reason,
       g.position,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), g.position) AS lag_bytes,
       g.rows_in,
       p.error_code,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN p.error_message END AS error_message,
       p.error_at
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE beam._may_see(p.owner, p.result);
COMMENT ON VIEW beam.pipeline_versions IS 'all versions of each pipeline: the current one, one that is being built to take its place, those kept to go back to; with query, result table, progress and last error';

GRANT SELECT ON beam.pipelines, beam.pipeline_versions, beam.stat_pipelines, beam.watermarks, beam.late_events, beam.dead_letters TO PUBLIC;

CREATE FUNCTION beam.create_pipeline(
    name                 pg_catalog.text,
    query                pg_catalog.text,
    watermark            pg_catalog.interval DEFAULT '10 seconds',
    allowed_lateness     pg_catalog.interval DEFAULT '1 hour',
    trigger              beam.trigger DEFAULT 'continuous()',
    accumulation         pg_catalog.text DEFAULT 'accumulating',
    idle_timeout         pg_catalog.interval DEFAULT '1 minute',
    timestamp_combiner   pg_catalog.text DEFAULT 'end_of_window',
    on_time              pg_catalog.text DEFAULT 'fire_always',
    closing              pg_catalog.text DEFAULT 'fire_if_non_empty',
    allow_unsafe_trigger pg_catalog.bool DEFAULT false,
    source_mode          pg_catalog.text DEFAULT 'changes',
    history              pg_catalog.bool DEFAULT true)
RETURNS pg_catalog.regclass LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_create_pipeline';
COMMENT ON FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool) IS
'defines a pipeline: a query over a table whose result table, named like the pipeline, is kept up to date; watermark is the out-of-orderness of the event time, allowed_lateness how long a window takes late rows, trigger when panes are emitted, accumulation accumulating, discarding or retracting, idle_timeout after how long a resting source lets the watermark follow the clock (null: never), timestamp_combiner (end_of_window, earliest, latest) which timestamp a pane has, on_time and closing (fire_always, fire_if_non_empty) whether empty on-time and last panes are emitted, source_mode changes (UPDATE, DELETE and TRUNCATE of the source take rows back; the WAL must have the old values: REPLICA IDENTITY FULL, or an identity that covers the query) or append_only (they become dead letters), history whether the rows that the source has already are taken in, too. Returns the result table. Errors name what in the query cannot be run. Example: SELECT beam.create_pipeline(''per_minute'', $$SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, ''1 minute'') w GROUP BY 1, 2$$)';
REVOKE ALL ON FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool) FROM PUBLIC;

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
-- Versions of a pipeline.
CREATE FUNCTION beam.alter_pipeline(
    name                 pg_catalog.text,
    query                pg_catalog.text DEFAULT NULL,
    watermark            pg_catalog.interval DEFAULT NULL,
    allowed_lateness     pg_catalog.interval DEFAULT NULL,
    trigger              beam.trigger DEFAULT NULL,
    accumulation         pg_catalog.text DEFAULT NULL,
    idle_timeout         pg_catalog.interval DEFAULT NULL,
    timestamp_combiner   pg_catalog.text DEFAULT NULL,
    on_time              pg_catalog.text DEFAULT NULL,
    closing              pg_catalog.text DEFAULT NULL,
    allow_unsafe_trigger pg_catalog.bool DEFAULT NULL,
    source_mode          pg_catalog.text DEFAULT NULL,
    keep                 pg_catalog.interval DEFAULT '1 day')
RETURNS pg_catalog.int4 LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_alter_pipeline';
COMMENT ON FUNCTION beam.alter_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.interval) IS
'builds a new version of a pipeline beside the running one, from the history of its source; when it is as far it takes the place of the old one in one transaction: same result table, same rights, dependent views keep working. What is null stays as it is. The old version runs on for the time keep, to go back to with beam.rollback_pipeline() (null: it is dropped). Returns the number of the version; CALL beam.wait_for_alter() waits until it is in place. Example: SELECT beam.alter_pipeline(''per_minute'', allowed_lateness => ''2 hours'')';

CREATE FUNCTION beam.rollback_pipeline(name pg_catalog.text, version pg_catalog.int4 DEFAULT NULL, keep pg_catalog.interval DEFAULT '1 day') RETURNS pg_catalog.int4 LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stream_beam_rollback_pipeline';
COMMENT ON FUNCTION beam.rollback_pipeline(pg_catalog.text, pg_catalog.int4, pg_catalog.interval) IS
'a version of the pipeline that is still kept (the newest, or the one with this number) takes its place again; it has run on, so it is up to date. The version that goes is kept in turn, for the time keep (null: it is dropped). Returns the number of the version; CALL beam.wait_for_alter() waits until it is in place';

CREATE FUNCTION beam.resync_pipeline(name pg_catalog.text) RETURNS pg_catalog.int4 LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stream_beam_resync_pipeline';
COMMENT ON FUNCTION beam.resync_pipeline(pg_catalog.text) IS
'builds a pipeline anew from its table, whatever its state: after a lost slot, a failure, a restored backup. Until it is as far the result stays as it is; then the new version takes its place in one transaction, and the old one is dropped. Returns the number of the version; CALL beam.wait_for() waits for it too';

CREATE FUNCTION beam.cancel_alter(name pg_catalog.text) RETURNS pg_catalog.void LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stream_beam_cancel_alter';
COMMENT ON FUNCTION beam.cancel_alter(pg_catalog.text) IS
'gives up the version that beam.alter_pipeline(), resync_pipeline() or rollback_pipeline() is preparing; the current one goes on';

CREATE PROCEDURE beam.wait_for_alter(name pg_catalog.text, timeout pg_catalog.interval DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_wait_for_alter';
COMMENT ON PROCEDURE beam.wait_for_alter(pg_catalog.text, pg_catalog.interval) IS
'returns when no new version of the pipeline is being built any more: it has taken its place, or was given up; error when it does not run, or after timeout';
-- Assertions over beam.test_stream(). After plan() of pgTAP they are tests of it; else they return ok, or raise an exception.

-- Does this expectation describe this row of test_stream()? Only the keys it has count, and of data only the columns it has.
CREATE FUNCTION beam._describes(expected pg_catalog.jsonb, actual pg_catalog.jsonb) RETURNS pg_catalog.bool LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT COALESCE(pg_catalog.bool_and(
           CASE WHEN e.key OPERATOR(pg_catalog.=) 'data' AND pg_catalog.jsonb_typeof(e.value) OPERATOR(pg_catalog.=) 'object'
                THEN pg_catalog.jsonb_typeof(actual OPERATOR(pg_catalog.->) 'data') OPERATOR(pg_catalog.=) 'object'
                     AND (SELECT COALESCE(pg_catalog.bool_and(COALESCE(
                                     (actual OPERATOR(pg_catalog.->) 'data' OPERATOR(pg_catalog.->) c.key) OPERATOR(pg_catalog.=) c.value, false)), true)
                            FROM pg_catalog.jsonb_each(e.value) c)
                ELSE COALESCE((actual OPERATOR(pg_catalog.->) e.key) OPERATOR(pg_catalog.=) e.value, false) END), true)
  FROM pg_catalog.jsonb_each(expected) e
$$;

-- Checks the keys of the expectations; timestamps get the form they have in JSON, and the kind its default.
CREATE FUNCTION beam._expectations(expected pg_catalog.jsonb, known pg_catalog.text[], default_kind pg_catalog.text) RETURNS pg_catalog.jsonb[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result pg_catalog.jsonb[] := '{}';
	one pg_catalog.jsonb;
	name pg_catalog.text;
	n pg_catalog.int4 := 0;
BEGIN
	IF COALESCE(pg_catalog.jsonb_typeof(expected) OPERATOR(pg_catalog.<>) 'array', true) THEN
		RAISE EXCEPTION 'what is expected is not an array' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Give an array of objects, for example [{"timing": "ON_TIME", "data": {"n": 3}}]; [] for nothing.';
	END IF;
	FOR one IN SELECT * FROM pg_catalog.jsonb_array_elements(expected) LOOP
		n := n OPERATOR(pg_catalog.+) 1;
		IF pg_catalog.jsonb_typeof(one) OPERATOR(pg_catalog.<>) 'object' THEN
			RAISE EXCEPTION 'expectation % is not an object', n USING ERRCODE = 'invalid_parameter_value',
				HINT = pg_catalog.format('Its keys may be %s.', pg_catalog.array_to_string(known, ', '));
		END IF;
		FOR name IN SELECT * FROM pg_catalog.jsonb_object_keys(one) LOOP
			IF name OPERATOR(pg_catalog.<>) ALL (known) THEN
				RAISE EXCEPTION 'expectation % has the unknown key "%"', n, name USING ERRCODE = 'invalid_parameter_value',
					HINT = pg_catalog.format('Its keys may be %s.', pg_catalog.array_to_string(known, ', '));
			END IF;
			IF name OPERATOR(pg_catalog.=) ANY (ARRAY['window_start', 'window_end', 'pane_timestamp'])
				AND pg_catalog.jsonb_typeof(one OPERATOR(pg_catalog.->) name) OPERATOR(pg_catalog.=) 'string' THEN
				one := one OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_object(name, (one OPERATOR(pg_catalog.->>) name)::pg_catalog.timestamptz);
			END IF;
		END LOOP;
		result := result OPERATOR(pg_catalog.||) (pg_catalog.jsonb_build_object('kind', default_kind) OPERATOR(pg_catalog.||) one);
	END LOOP;
	RETURN result;
END $$;

-- Finds a row for expectation e, if need be by giving one that is taken already to its expectation's next choice (Kuhn's algorithm), so
-- that a match is found whenever there is one. takes: what each expectation describes; takers: who has each row, 0 nobody.
CREATE FUNCTION beam._assign(e pg_catalog.int4, takes pg_catalog.jsonb, INOUT takers pg_catalog.int4[], INOUT seen pg_catalog.bool[], OUT placed pg_catalog.bool) LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a pg_catalog.int4;
BEGIN
	placed := false;
	FOR a IN SELECT value::pg_catalog.int4 FROM pg_catalog.jsonb_array_elements_text(takes OPERATOR(pg_catalog.->) (e OPERATOR(pg_catalog.-) 1)) LOOP
		CONTINUE WHEN seen[a];
		seen[a] := true;
		IF takers[a] OPERATOR(pg_catalog.=) 0 THEN
			placed := true;
		ELSE
			SELECT r.takers, r.seen, r.placed INTO takers, seen, placed FROM beam._assign(takers[a], takes, takers, seen) r;
		END IF;
		IF placed THEN
			takers[a] := e;
			RETURN;
		END IF;
	END LOOP;
END $$;

-- What is missing and what is unexpected, a line each; null where all is as expected.
CREATE FUNCTION beam._differences(expected pg_catalog.jsonb[], actual pg_catalog.jsonb[]) RETURNS pg_catalog.text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	takes pg_catalog.jsonb := '[]';
	takers pg_catalog.int4[] := pg_catalog.array_fill(0, ARRAY[pg_catalog.cardinality(actual)]);
	placed pg_catalog.bool;
	result pg_catalog.text;
BEGIN
	FOR e IN 1 .. pg_catalog.cardinality(expected) LOOP
		takes := takes OPERATOR(pg_catalog.||) pg_catalog.jsonb_build_array((SELECT COALESCE(pg_catalog.jsonb_agg(a), '[]')
			FROM pg_catalog.generate_subscripts(actual, 1) a WHERE beam._describes(expected[e], actual[a])));
	END LOOP;
	FOR e IN 1 .. pg_catalog.cardinality(expected) LOOP
		SELECT r.takers, r.placed INTO takers, placed FROM beam._assign(e, takes, takers, pg_catalog.array_fill(false, ARRAY[pg_catalog.cardinality(actual)])) r;
		IF NOT placed THEN
			result := pg_catalog.concat_ws(E'\n', result, pg_catalog.format('missing: %s', expected[e]));
		END IF;
	END LOOP;
	-- a pane that HAVING keeps back writes nothing, and what a session takes the place of goes with it: both may be expected, but need not be
	RETURN pg_catalog.concat_ws(E'\n', result, (SELECT pg_catalog.string_agg(pg_catalog.format('unexpected: %s', actual[a]), E'\n' ORDER BY a)
		FROM pg_catalog.generate_subscripts(actual, 1) a
		WHERE takers[a] OPERATOR(pg_catalog.=) 0 AND (actual[a] OPERATOR(pg_catalog.->>) 'kind') OPERATOR(pg_catalog.<>) ALL (ARRAY['none', 'removal'])));
END $$;

CREATE FUNCTION beam._report(differences pg_catalog.text, description pg_catalog.text) RETURNS pg_catalog.text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pgtap pg_catalog.text := (SELECT n.nspname FROM pg_catalog.pg_extension e
		JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) e.extnamespace WHERE e.extname OPERATOR(pg_catalog.=) 'pgtap');
	result pg_catalog.text;
BEGIN
	differences := CASE WHEN differences OPERATOR(pg_catalog.<>) '' THEN differences END;
	-- pgTAP keeps its plan there
	IF pgtap IS NOT NULL AND pg_catalog.to_regclass('pg_temp.__tcache__') IS NOT NULL THEN
		PERFORM pg_catalog.set_config('search_path', pg_catalog.format('pg_catalog, %I, pg_temp', pgtap), true);
		EXECUTE pg_catalog.format('SELECT %I.ok($1, $2)', pgtap) INTO result USING differences IS NULL, description;
		IF differences IS NOT NULL THEN
			EXECUTE pg_catalog.format('SELECT $1 OPERATOR(pg_catalog.||) E''\n'' OPERATOR(pg_catalog.||) %I.diag($2)', pgtap) INTO result USING result, differences;
		END IF;
		RETURN result;
	END IF;
	IF differences IS NOT NULL THEN
		RAISE EXCEPTION 'not ok: %', description USING ERRCODE = 'assert_failure', DETAIL = differences;
	END IF;
	RETURN 'ok';
END $$;

-- A test of nothing is none: beam.test_stream() itself is strict.
CREATE FUNCTION beam._refuse_null(pipeline pg_catalog.text, events pg_catalog.jsonb) RETURNS pg_catalog.void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pipeline IS NULL OR events IS NULL THEN
		RAISE EXCEPTION 'pipeline and events must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
END $$;

CREATE FUNCTION beam.panes_are(pipeline pg_catalog.text, events pg_catalog.jsonb, expected pg_catalog.jsonb, description pg_catalog.text DEFAULT NULL) RETURNS pg_catalog.text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted pg_catalog.jsonb[] := beam._expectations(expected, ARRAY['step', 'kind', 'window_start', 'window_end', 'timing', 'index', 'nonspeculative_index',
		'is_first', 'is_last', 'pane_timestamp', 'elements', 'data'], 'pane');
	panes pg_catalog.jsonb[];
BEGIN
	PERFORM beam._refuse_null(pipeline, events);
	panes := COALESCE((SELECT pg_catalog.array_agg(pg_catalog.to_jsonb(t) OPERATOR(pg_catalog.-) 'reason')
		FROM beam.test_stream(pipeline, events) t WHERE t.kind OPERATOR(pg_catalog.<>) 'late'), '{}');
	RETURN beam._report(beam._differences(wanted, panes), COALESCE(description, pg_catalog.format('panes of pipeline "%s"', pipeline)));
END $$;
COMMENT ON FUNCTION beam.panes_are(pg_catalog.text, pg_catalog.jsonb, pg_catalog.jsonb, pg_catalog.text) IS
'tests that beam.test_stream() gives these panes, in any order, and no others: expected is an array of objects, each compared on the keys it has, of data on the columns it has; kind is pane where it is not said. After plan() a test of pgTAP; else returns ok, or error P0004 with what is missing and unexpected. Example: SELECT beam.panes_are(''per_minute'', ''[{"rows": [...]}, "end"]'', ''[{"timing": "ON_TIME", "data": {"orders": 2}}]'')';

CREATE FUNCTION beam.dropped_are(pipeline pg_catalog.text, events pg_catalog.jsonb, expected pg_catalog.jsonb, description pg_catalog.text DEFAULT NULL) RETURNS pg_catalog.text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted pg_catalog.jsonb[] := beam._expectations(expected, ARRAY['step', 'window_start', 'window_end', 'reason', 'data'], 'late');
	dropped pg_catalog.jsonb[];
BEGIN
	PERFORM beam._refuse_null(pipeline, events);
	dropped := COALESCE((SELECT pg_catalog.array_agg(pg_catalog.jsonb_build_object('step', t.step, 'kind', t.kind, 'window_start', t.window_start,
		'window_end', t.window_end, 'reason', t.reason, 'data', t.data))
		FROM beam.test_stream(pipeline, events) t WHERE t.kind OPERATOR(pg_catalog.=) 'late'), '{}');
	RETURN beam._report(beam._differences(wanted, dropped), COALESCE(description, pg_catalog.format('dropped rows of pipeline "%s"', pipeline)));
END $$;
COMMENT ON FUNCTION beam.dropped_are(pg_catalog.text, pg_catalog.jsonb, pg_catalog.jsonb, pg_catalog.text) IS
'tests that beam.test_stream() drops these rows, and no others: like beam.panes_are(), with the keys step, window_start, window_end, reason (expired, closed) and data. Example: SELECT beam.dropped_are(''per_minute'', ''[{"watermark": "2026-01-02"}, {"rows": [...]}]'', ''[{"reason": "expired", "data": {"id": 7}}]'')';

CREATE FUNCTION beam.no_state_left(pipeline pg_catalog.text, events pg_catalog.jsonb, description pg_catalog.text DEFAULT NULL) RETURNS pg_catalog.text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM beam._refuse_null(pipeline, events);
	RETURN beam._report((SELECT pg_catalog.string_agg(pg_catalog.format('left: %s', pg_catalog.to_jsonb(s)), E'\n') FROM beam.test_stream_state(pipeline, events) s),
		COALESCE(description, pg_catalog.format('no state of pipeline "%s" is left', pipeline)));
END $$;
COMMENT ON FUNCTION beam.no_state_left(pg_catalog.text, pg_catalog.jsonb, pg_catalog.text) IS
'tests that after these events a pipeline keeps no cell, timer or hold. After plan() a test of pgTAP; else returns ok, or error P0004 with what is left. Example: SELECT beam.no_state_left(''per_minute'', ''[{"rows": [...]}, "end"]'')';
-- Looking whether a result is right, and mending it.

CREATE FUNCTION beam._row_to_jsonb(pg_catalog.record) RETURNS pg_catalog.jsonb LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stream_beam_row_to_jsonb';
COMMENT ON FUNCTION beam._row_to_jsonb(pg_catalog.record) IS 'internal: a row as to_jsonb() writes it, but without casts to json that users have made';

CREATE FUNCTION beam.verify(
    pipeline pg_catalog.text, "from" pg_catalog.timestamptz DEFAULT NULL, "to" pg_catalog.timestamptz DEFAULT NULL,
    OUT kind pg_catalog.text, OUT window_start pg_catalog.timestamptz, OUT window_end pg_catalog.timestamptz, OUT key pg_catalog.jsonb, OUT result pg_catalog.jsonb, OUT batch pg_catalog.jsonb)
RETURNS SETOF pg_catalog.record LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_verify';
COMMENT ON FUNCTION beam.verify(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'compares the result of a pipeline with its batch view, in one snapshot, for the windows that overlap from..to (null: no bound), and lists the differences: kind is missing (the batch view has the row, the result has not), unexpected (the other way round) or different. Call beam.wait_for() first, else what has just been committed counts as missing; so do windows that the trigger has not let out yet. Needs the right to read both. Errors: 42704, 42501, 22023 empty range, 0A000 for a discarding pipeline. Example: SELECT * FROM beam.verify(''per_minute'', ''2024-05-01'', ''2024-05-02'')';

-- What is asked of the runner (sb_command.h): a row lives as long as who asked waits for it; a pipeline's last backfill until the next one.
CREATE TABLE beam.command (
    id         pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline   pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    kind       pg_catalog.text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['backfill', 'late', 'replay'])),
    range_from pg_catalog.timestamptz NOT NULL,        -- backfill, late: the windows that overlap this
    range_to   pg_catalog.timestamptz NOT NULL,
    lo         pg_catalog.timestamptz,                 -- of them, those that start from here ...
    hi         pg_catalog.timestamptz,                 -- ... to here are still to be done; NULL: not begun
    ids        pg_catalog.int8[],                      -- replay: of the dead letters; NULL: all
    last_id    pg_catalog.int8 NOT NULL DEFAULT 0,     -- of them, those after this ...
    max_id     pg_catalog.int8 NOT NULL DEFAULT 0,     -- ... and up to this are still to be done; 0: not begun
    first      pg_catalog.timestamptz,                 -- where it began
    state      pg_catalog.text NOT NULL DEFAULT 'waiting' CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['waiting', 'building', 'done', 'failed', 'cancelled'])),
    rows       pg_catalog.int8 NOT NULL DEFAULT 0,
    failed     pg_catalog.int8 NOT NULL DEFAULT 0,
    events     pg_catalog.int8 NOT NULL DEFAULT 0,     -- late: those that are deleted, since the windows have their rows
    sqlstate   pg_catalog.text,
    message    pg_catalog.text,
    detail     pg_catalog.text,
    hint       pg_catalog.text,
    asked_by   pg_catalog.oid NOT NULL,
    at         pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    started_at pg_catalog.timestamptz,
    updated_at pg_catalog.timestamptz
);

-- Where the last step of a backfill meets the stream (sb_backfill.h).
CREATE TABLE beam.cut (
    pipeline  pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    from_time pg_catalog.timestamptz NOT NULL,         -- windows that end after this ...
    lo        pg_catalog.timestamptz NOT NULL,         -- ... and start here or later ...
    hi        pg_catalog.timestamptz NOT NULL,         -- ... and before this
    snapshot  pg_catalog.pg_snapshot NOT NULL,         -- have all that this has seen
    until     pg_catalog.pg_lsn NOT NULL               -- the stream's position at which the rest begins
);
REVOKE ALL ON beam.command, beam.cut FROM PUBLIC;

-- How far rows are read from a table: histories (also those of versions that are built for a backfill), and backfills that go step by step.
CREATE VIEW beam.stat_backfill WITH (security_barrier) AS
SELECT b.pipeline,
       b.kind,
       b.state,
       b.range_from,
       b.range_to,
       b.rows,
       b.estimated_rows,
       CASE WHEN b.share OPERATOR(pg_catalog.>=) 1 THEN 100
            ELSE LEAST(99, pg_catalog.round((100 OPERATOR(pg_catalog.*) b.share)::pg_catalog.numeric, 1)) END AS percent,
       pg_catalog.round((b.rows OPERATOR(pg_catalog./) b.seconds)::pg_catalog.numeric) AS rows_per_second,
       CASE WHEN b.share OPERATOR(pg_catalog.>=) 1 THEN '0'::pg_catalog.interval
            WHEN b.share OPERATOR(pg_catalog.>) 0 AND b.finished_at IS NULL
            THEN pg_catalog.date_trunc('second', b.seconds OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.-) b.share) OPERATOR(pg_catalog./) b.share OPERATOR(pg_catalog.*) '1 second'::pg_catalog.interval) END AS time_left,
       b.by,
       b.frontier,
       b.chunks,
       b.started_at,
       b.finished_at
  FROM (SELECT p.owner,
               p.result,
               p.name AS pipeline,
               CASE WHEN p.reason OPERATOR(pg_catalog.=) 'backfill()' THEN 'backfill' ELSE 'history' END AS kind,
               CASE WHEN h.finished_at IS NOT NULL THEN 'done'
                    WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
                    WHEN h.scanned THEN 'catching up'
                    WHEN h.begun THEN 'scanning'
                    ELSE 'waiting' END AS state,
               NULL::pg_catalog.timestamptz AS range_from,
               NULL::pg_catalog.timestamptz AS range_to,
               h.rows,
               GREATEST(h.estimated_rows, h.rows) AS estimated_rows,
               CASE WHEN h.scanned THEN 1 ELSE LEAST(0.99, h.rows::pg_catalog.float8 OPERATOR(pg_catalog./) GREATEST(h.estimated_rows, 1)) END AS share,
               GREATEST(EXTRACT(epoch FROM h.updated_at OPERATOR(pg_catalog.-) h.started_at)::pg_catalog.float8, 0.001) AS seconds,
               CASE WHEN h.part OPERATOR(pg_catalog.=) 0 THEN 'event time'
                    WHEN h.part OPERATOR(pg_catalog.>) 0
                    THEN (SELECT a.attname FROM pg_catalog.pg_attribute a
                           WHERE a.attrelid OPERATOR(pg_catalog.=) p.source AND a.attnum OPERATOR(pg_catalog.=) h.part)::pg_catalog.text END AS by,
               h.lower_bound AS frontier,
               h.chunks,
               h.started_at,
               h.finished_at
          FROM beam.history h
          JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) h.pipeline
         UNION ALL
        SELECT p.owner,
               p.result,
               p.name,
               'backfill',
               CASE WHEN c.state OPERATOR(pg_catalog.<>) 'waiting' THEN c.state
                    WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
                    WHEN c.first IS NOT NULL THEN 'scanning'
                    ELSE 'waiting' END,
               CASE WHEN c.range_from OPERATOR(pg_catalog.<>) '-infinity' THEN c.range_from END,
               CASE WHEN c.range_to OPERATOR(pg_catalog.<>) 'infinity' THEN c.range_to END,
               c.rows,
               NULL,
               CASE WHEN c.state OPERATOR(pg_catalog.=) 'done' THEN 1
                    WHEN pg_catalog.isfinite(c.first) AND pg_catalog.isfinite(c.hi) AND c.hi OPERATOR(pg_catalog.>) c.first
                    THEN EXTRACT(epoch FROM c.lo OPERATOR(pg_catalog.-) c.first)::pg_catalog.float8 OPERATOR(pg_catalog./) EXTRACT(epoch FROM c.hi OPERATOR(pg_catalog.-) c.first)::pg_catalog.float8
                    ELSE 0 END,
               GREATEST(EXTRACT(epoch FROM c.updated_at OPERATOR(pg_catalog.-) c.started_at)::pg_catalog.float8, 0.001),
               CASE WHEN pg_catalog.isfinite(c.first) THEN 'event time' END,
               CASE WHEN pg_catalog.isfinite(c.lo) THEN c.lo::pg_catalog.text END,
               NULL,
               c.started_at,
               CASE WHEN c.state OPERATOR(pg_catalog.<>) 'waiting' THEN c.updated_at END
          FROM beam.command c
          JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) c.pipeline
         WHERE c.kind OPERATOR(pg_catalog.<>) 'replay'
           -- one that is handed over to a version is seen as that
           AND c.state OPERATOR(pg_catalog.<>) 'building' AND (c.state OPERATOR(pg_catalog.<>) 'done' OR c.first IS NOT NULL)) b
 WHERE beam._may_see(b.owner, b.result);
COMMENT ON VIEW beam.stat_backfill IS 'how far each pipeline has come in the rows of its table: those that this had before it (kind history), and its running and last backfill (kind backfill): rows, percent, speed, time left, and frontier: the event time (or the column named in by) down to which a history, and up to which a backfill that goes step by step, is in the result';
GRANT SELECT ON beam.stat_backfill TO PUBLIC;

CREATE PROCEDURE beam.backfill(pipeline pg_catalog.text, "from" pg_catalog.timestamptz DEFAULT NULL, "to" pg_catalog.timestamptz DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_backfill';
COMMENT ON PROCEDURE beam.backfill(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'computes the windows that overlap from..to (null: no bound) anew from the table, also those long closed, and puts them in the place of what the result says; readers see old or new rows, writers are not held up. Sessions, the global window and windows of functions of your own are computed anew all of them, whatever the range. Cancelling the call takes back what is not done yet; beam.stat_backfill shows progress. Errors: 42704, 42501, 22023 empty range, 55000 not running or a version is being built, 0A000 discarding pipeline whose result is read by another, 25001 inside a transaction. Example: CALL beam.backfill(''per_minute'', ''2024-05-01'', ''2024-05-02'')';

CREATE PROCEDURE beam.replay_dead_letters(pipeline pg_catalog.text, ids pg_catalog.int8[] DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_replay_dead_letters';
COMMENT ON PROCEDURE beam.replay_dead_letters(pg_catalog.text, pg_catalog.int8[]) IS
'feeds the dead letters of a pipeline (null: all) to it again, in their order: rows are added or taken back, by op; those that fail again are dead letters again, with the new message, the others are gone. Errors as beam.backfill(). Example: CALL beam.replay_dead_letters(''per_minute'')';

CREATE PROCEDURE beam.replay_late_events(pipeline pg_catalog.text) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_replay_late_events';
COMMENT ON PROCEDURE beam.replay_late_events(pg_catalog.text) IS
'computes the windows of a pipeline''s late events anew from the table, which has their rows, and deletes those events. Errors as beam.backfill(). Example: CALL beam.replay_late_events(''per_minute'')';

-- Backfills that pg_cron runs: one for each pipeline. A row that goes takes its job with it.
CREATE TABLE beam.schedule (
    pipeline pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    job      pg_catalog.int8 NOT NULL,                 -- in cron.job
    schedule pg_catalog.text NOT NULL,
    range    pg_catalog.interval NOT NULL,
    role     pg_catalog.oid NOT NULL,                  -- who runs it
    at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON beam.schedule FROM PUBLIC;

CREATE FUNCTION beam._unschedule() RETURNS pg_catalog.trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_unschedule';
COMMENT ON FUNCTION beam._unschedule() IS 'internal: takes the job of pg_cron away with its row in beam.schedule';
REVOKE ALL ON FUNCTION beam._unschedule() FROM PUBLIC;
CREATE TRIGGER unschedule AFTER DELETE ON beam.schedule FOR EACH ROW EXECUTE FUNCTION beam._unschedule();

CREATE FUNCTION beam.schedule_backfill(pipeline pg_catalog.text, schedule pg_catalog.text, range pg_catalog.interval) RETURNS pg_catalog.int8 LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_schedule_backfill';
COMMENT ON FUNCTION beam.schedule_backfill(pg_catalog.text, pg_catalog.text, pg_catalog.interval) IS
'has pg_cron compute the windows of the last "range" anew, at the times that "schedule" says in cron''s form, as the caller; takes the place of an earlier schedule of the pipeline and goes with it. Returns pg_cron''s job. Errors: 0A000 pg_cron is not installed in this database, 42704, 42501, 22023 range. Example: SELECT beam.schedule_backfill(''per_minute'', ''17 3 * * *'', ''2 days'')';

CREATE FUNCTION beam.unschedule_backfill(pipeline pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_unschedule_backfill';
COMMENT ON FUNCTION beam.unschedule_backfill(pg_catalog.text) IS 'takes away what beam.schedule_backfill() has made; false: there was nothing. Errors: 42704, 42501';

CREATE VIEW beam.scheduled_backfills WITH (security_barrier) AS
SELECT p.name AS pipeline, s.schedule, s.range, pg_catalog.pg_get_userbyid(s.role) AS role, s.job, s.at
  FROM beam.schedule s
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) s.pipeline
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.scheduled_backfills IS 'the backfills that pg_cron runs: cron schedule, how far back, as which role; cron.job_run_details has how job went';
GRANT SELECT ON beam.scheduled_backfills TO PUBLIC;
