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
