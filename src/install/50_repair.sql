-- Looking whether a result is right, and mending it.

CREATE FUNCTION beam.verify(
    pipeline text, "from" timestamptz DEFAULT NULL, "to" timestamptz DEFAULT NULL,
    OUT kind text, OUT window_start timestamptz, OUT window_end timestamptz, OUT key jsonb, OUT result jsonb, OUT batch jsonb)
RETURNS SETOF record LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_verify';
COMMENT ON FUNCTION beam.verify(text, timestamptz, timestamptz) IS
'compares the result of a pipeline with its batch view, in one snapshot, for the windows that overlap from..to (null: no bound), and lists the differences: kind is missing (the batch view has the row, the result has not), unexpected (the other way round) or different. Call beam.wait_for() first, else what has just been committed counts as missing; so do windows that the trigger has not let out yet. Needs the right to read both. Errors: 42704, 42501, 22023 empty range, 0A000 for a discarding pipeline. Example: SELECT * FROM beam.verify(''per_minute'', ''2024-05-01'', ''2024-05-02'')';
