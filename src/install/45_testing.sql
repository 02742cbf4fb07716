-- Assertions over beam.test_stream(). After plan() of pgTAP they are tests of it; else they return ok, or raise an exception.

-- Does this expectation describe this row of test_stream()? Only the keys it has count, and of data only the columns it has.
CREATE FUNCTION beam._describes(expected jsonb, actual jsonb) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog, pg_temp
AS $$
SELECT coalesce(bool_and(CASE WHEN key = 'data' AND jsonb_typeof(value) = 'object' THEN
           jsonb_typeof(actual -> 'data') = 'object' AND (SELECT coalesce(bool_and((actual -> 'data' -> c.key) IS NOT DISTINCT FROM c.value), true) FROM jsonb_each(value) c)
       ELSE (actual -> key) IS NOT DISTINCT FROM value END), true)
  FROM jsonb_each(expected)
$$;

-- Checks the keys of the expectations; timestamps get the form they have in JSON, and the kind its default.
CREATE FUNCTION beam._expectations(expected jsonb, known text[], default_kind text) RETURNS jsonb[] LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	result jsonb[] := '{}';
	one jsonb;
	name text;
	n int := 0;
BEGIN
	IF jsonb_typeof(expected) IS DISTINCT FROM 'array' THEN
		RAISE EXCEPTION 'what is expected is not an array' USING ERRCODE = 'invalid_parameter_value',
			HINT = 'Give an array of objects, for example [{"timing": "ON_TIME", "data": {"n": 3}}]; [] for nothing.';
	END IF;
	FOR one IN SELECT * FROM jsonb_array_elements(expected) LOOP
		n := n + 1;
		IF jsonb_typeof(one) <> 'object' THEN
			RAISE EXCEPTION 'expectation % is not an object', n USING ERRCODE = 'invalid_parameter_value',
				HINT = format('Its keys may be %s.', array_to_string(known, ', '));
		END IF;
		FOR name IN SELECT * FROM jsonb_object_keys(one) LOOP
			IF name <> ALL (known) THEN
				RAISE EXCEPTION 'expectation % has the unknown key "%"', n, name USING ERRCODE = 'invalid_parameter_value',
					HINT = format('Its keys may be %s.', array_to_string(known, ', '));
			END IF;
			IF name IN ('window_start', 'window_end', 'pane_timestamp') AND jsonb_typeof(one -> name) = 'string' THEN
				one := one || jsonb_build_object(name, (one ->> name)::timestamptz);
			END IF;
		END LOOP;
		result := result || (jsonb_build_object('kind', default_kind) || one);
	END LOOP;
	RETURN result;
END $$;

-- Finds a row for expectation e, if need be by giving one that is taken already to its expectation's next choice (Kuhn's algorithm), so
-- that a match is found whenever there is one. takes: what each expectation describes; takers: who has each row, 0 nobody.
CREATE FUNCTION beam._assign(e int, takes jsonb, INOUT takers int[], INOUT seen boolean[], OUT placed boolean) LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	a int;
BEGIN
	placed := false;
	FOR a IN SELECT value::int FROM jsonb_array_elements_text(takes -> (e - 1)) LOOP
		CONTINUE WHEN seen[a];
		seen[a] := true;
		IF takers[a] = 0 THEN
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
CREATE FUNCTION beam._differences(expected jsonb[], actual jsonb[]) RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	takes jsonb := '[]';
	takers int[] := array_fill(0, ARRAY[cardinality(actual)]);
	placed boolean;
	result text;
BEGIN
	FOR e IN 1 .. cardinality(expected) LOOP
		takes := takes || jsonb_build_array((SELECT coalesce(jsonb_agg(a), '[]') FROM generate_subscripts(actual, 1) a WHERE beam._describes(expected[e], actual[a])));
	END LOOP;
	FOR e IN 1 .. cardinality(expected) LOOP
		SELECT r.takers, r.placed INTO takers, placed FROM beam._assign(e, takes, takers, array_fill(false, ARRAY[cardinality(actual)])) r;
		IF NOT placed THEN
			result := concat_ws(E'\n', result, format('missing: %s', expected[e]));
		END IF;
	END LOOP;
	-- a pane that HAVING keeps back writes nothing, and what a session takes the place of goes with it: both may be expected, but need not be
	RETURN concat_ws(E'\n', result, (SELECT string_agg(format('unexpected: %s', actual[a]), E'\n' ORDER BY a) FROM generate_subscripts(actual, 1) a
		WHERE takers[a] = 0 AND actual[a] ->> 'kind' NOT IN ('none', 'removal')));
END $$;

CREATE FUNCTION beam._report(differences text, description text) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	pgtap text := (SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pgtap');
	result text;
BEGIN
	differences := nullif(differences, '');
	-- pgTAP keeps its plan there
	IF pgtap IS NOT NULL AND to_regclass('pg_temp.__tcache__') IS NOT NULL THEN
		PERFORM set_config('search_path', format('pg_catalog, %I, pg_temp', pgtap), true);
		EXECUTE format('SELECT %I.ok($1, $2)', pgtap) INTO result USING differences IS NULL, description;
		IF differences IS NOT NULL THEN
			EXECUTE format('SELECT $1 || E''\n'' || %I.diag($2)', pgtap) INTO result USING result, differences;
		END IF;
		RETURN result;
	END IF;
	IF differences IS NOT NULL THEN
		RAISE EXCEPTION 'not ok: %', description USING ERRCODE = 'assert_failure', DETAIL = differences;
	END IF;
	RETURN 'ok';
END $$;

-- A test of nothing is none: beam.test_stream() itself is strict.
CREATE FUNCTION beam._refuse_null(pipeline text, events jsonb) RETURNS void LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	IF pipeline IS NULL OR events IS NULL THEN
		RAISE EXCEPTION 'pipeline and events must not be null' USING ERRCODE = 'null_value_not_allowed';
	END IF;
END $$;

CREATE FUNCTION beam.panes_are(pipeline text, events jsonb, expected jsonb, description text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted jsonb[] := beam._expectations(expected, ARRAY['step', 'kind', 'window_start', 'window_end', 'timing', 'index', 'nonspeculative_index',
		'is_first', 'is_last', 'pane_timestamp', 'elements', 'data'], 'pane');
	panes jsonb[];
BEGIN
	PERFORM beam._refuse_null(pipeline, events);
	panes := coalesce((SELECT array_agg(to_jsonb(t) - 'reason') FROM beam.test_stream(pipeline, events) t WHERE t.kind <> 'late'), '{}');
	RETURN beam._report(beam._differences(wanted, panes), coalesce(description, format('panes of pipeline "%s"', pipeline)));
END $$;
COMMENT ON FUNCTION beam.panes_are(text, jsonb, jsonb, text) IS
'tests that beam.test_stream() gives these panes, in any order, and no others: expected is an array of objects, each compared on the keys it has, of data on the columns it has; kind is pane where it is not said. After plan() a test of pgTAP; else returns ok, or error P0004 with what is missing and unexpected. Example: SELECT beam.panes_are(''per_minute'', ''[{"rows": [...]}, "end"]'', ''[{"timing": "ON_TIME", "data": {"orders": 2}}]'')';

CREATE FUNCTION beam.dropped_are(pipeline text, events jsonb, expected jsonb, description text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
	wanted jsonb[] := beam._expectations(expected, ARRAY['step', 'window_start', 'window_end', 'reason', 'data'], 'late');
	dropped jsonb[];
BEGIN
	PERFORM beam._refuse_null(pipeline, events);
	dropped := coalesce((SELECT array_agg(jsonb_build_object('step', t.step, 'kind', t.kind, 'window_start', t.window_start, 'window_end', t.window_end,
		'reason', t.reason, 'data', t.data)) FROM beam.test_stream(pipeline, events) t WHERE t.kind = 'late'), '{}');
	RETURN beam._report(beam._differences(wanted, dropped), coalesce(description, format('dropped rows of pipeline "%s"', pipeline)));
END $$;
COMMENT ON FUNCTION beam.dropped_are(text, jsonb, jsonb, text) IS
'tests that beam.test_stream() drops these rows, and no others: like beam.panes_are(), with the keys step, window_start, window_end, reason (expired, closed) and data. Example: SELECT beam.dropped_are(''per_minute'', ''[{"watermark": "2026-01-02"}, {"rows": [...]}]'', ''[{"reason": "expired", "data": {"id": 7}}]'')';

CREATE FUNCTION beam.no_state_left(pipeline text, events jsonb, description text DEFAULT NULL) RETURNS text LANGUAGE plpgsql VOLATILE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
	PERFORM beam._refuse_null(pipeline, events);
	RETURN beam._report((SELECT string_agg(format('left: %s', to_jsonb(s)), E'\n') FROM beam.test_stream_state(pipeline, events) s),
		coalesce(description, format('no state of pipeline "%s" is left', pipeline)));
END $$;
COMMENT ON FUNCTION beam.no_state_left(text, jsonb, text) IS
'tests that after these events a pipeline keeps no cell, timer or hold. After plan() a test of pgTAP; else returns ok, or error P0004 with what is left. Example: SELECT beam.no_state_left(''per_minute'', ''[{"rows": [...]}, "end"]'')';
