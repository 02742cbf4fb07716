-- Aggregates that a pipeline keeps at little cost (sb_latest.c).

CREATE FUNCTION beam._first_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_first_step';
COMMENT ON FUNCTION beam._first_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: transition function of beam.first';

CREATE FUNCTION beam._last_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_last_step';
COMMENT ON FUNCTION beam._last_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: transition function of beam.last';

CREATE FUNCTION beam._top_step(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_top_step';
COMMENT ON FUNCTION beam._top_step(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: transition function of beam.top';

CREATE FUNCTION beam._latest_final(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.anyelement
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_latest_final';
COMMENT ON FUNCTION beam._latest_final(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: final function of beam.first and beam.last';

CREATE FUNCTION beam._top_final(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.anyarray
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_top_final';
COMMENT ON FUNCTION beam._top_final(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: final function of beam.top';

CREATE AGGREGATE beam.first(value pg_catalog.anyelement, at pg_catalog.anycompatible) (
	SFUNC = beam._first_step, STYPE = pg_catalog.internal, FINALFUNC = beam._latest_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE beam.first(pg_catalog.anyelement, pg_catalog.anycompatible) IS
'the value of the row with the least `at`, of several such rows the least value (a null is less than any); rows whose `at` is null are ignored; null where there is none. In a pipeline a row that comes or goes costs the same however many there are. Error: 42883 where the type of `at` has no order. Example: SELECT device, beam.first(reading, at) FROM readings GROUP BY device';

CREATE AGGREGATE beam.last(value pg_catalog.anyelement, at pg_catalog.anycompatible) (
	SFUNC = beam._last_step, STYPE = pg_catalog.internal, FINALFUNC = beam._latest_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE beam.last(pg_catalog.anyelement, pg_catalog.anycompatible) IS
'the value of the row with the greatest `at`, of several such rows the greatest value (a null is less than any); rows whose `at` is null are ignored; null where there is none. In a pipeline a row that comes or goes costs the same however many there are. Error: 42883 where the type of `at` has no order. Example: SELECT device, beam.last(reading, at) FROM readings GROUP BY device';

CREATE AGGREGATE beam.top(n pg_catalog.int4, value pg_catalog.anyelement, at pg_catalog.anycompatible) (
	SFUNC = beam._top_step, STYPE = pg_catalog.internal, FINALFUNC = beam._top_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE beam.top(pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) IS
'an array of the values of the `n` rows with the greatest `at`, the greatest first; rows with the same `at` by their values. Rows whose `at` is null are ignored; null where there is none. Errors: 22023 where n is null, not between 1 and 10000 or not the same in all rows, 42883 where the type of `at` has no order. Example: SELECT player, beam.top(3, game, score) FROM results GROUP BY player';

