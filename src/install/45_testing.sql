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
