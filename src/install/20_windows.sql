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
