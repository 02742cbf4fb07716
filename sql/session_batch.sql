-- beam.session as a batch: the planner hook merges sessions where a query groups by them.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';
CREATE TABLE clicks (at timestamptz, visitor text, page text, amount int, tags text[]);
ALTER TABLE clicks REPLICA IDENTITY FULL;
INSERT INTO clicks SELECT '2024-01-01'::timestamptz + s * interval '1 minute', v, p, a, ARRAY['t' || a % 2] FROM (VALUES
	(0, 'ann', '/', 1), (3, 'ann', '/a', 2), (7, 'ann', '/a', 3), (12, 'ann', '/b', 4), (30, 'ann', '/', 5),
	(0, 'bob', '/', 10), (5, 'bob', '/', 20), (9, 'bob', '/c', 30), (9, 'bob', '/c', 40), (1, NULL, '/', 100), (2, NULL, '/', 200)) v(s, v, p, a);
INSERT INTO clicks VALUES (NULL, 'ann', '/null', 1000);

-- windows that touch stay apart (ann at 7 and 12, bob at 0 and 5); rows without a time are in none; null is a key
SELECT w.window_start::time, w.window_end::time, visitor, count(*), sum(amount), count(DISTINCT page) AS pages,
	   string_agg(page, ',' ORDER BY at, amount), count(*) FILTER (WHERE page = '/') AS home
  FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, visitor ORDER BY visitor, 1;
-- another key, other sessions: all visitors together; keys that are expressions; HAVING; a filter that splits a session
SELECT w.window_start::time, w.window_end::time, count(*) FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end ORDER BY 1;
SELECT w.window_start::time, w.window_end::time, upper(left(visitor, 1)) || '!' AS who, max(visitor)
  FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, upper(left(visitor, 1)) HAVING count(*) > 1 ORDER BY 3, 1;
SELECT w.window_start::time, w.window_end::time, visitor, count(*) FROM clicks, beam.session(at, '5 min') w
 WHERE amount <> 2 AND visitor IS NOT NULL GROUP BY w.window_start, w.window_end, visitor ORDER BY 3, 1;
-- conditions on the window see merged sessions
SELECT w.window_start::time, w.window_end::time, visitor FROM clicks, beam.session(at, '5 min') w
 WHERE w.window_end - w.window_start > '5 min' GROUP BY w.window_start, w.window_end, visitor ORDER BY 3, 1;
-- other ways to write it
SELECT w.window_start::time, count(*), max(w.window_end)::time, beam.pane_timestamp()::time FROM clicks c CROSS JOIN LATERAL beam.session(gap => '5 min', ts => c.at) w
 WHERE c.visitor = 'bob' GROUP BY w.window_start ORDER BY 1;
SELECT f.s::time, f.e::time, f.visitor, count(*) FROM (clicks JOIN LATERAL beam.session(at, '5 min') w(s, e) ON visitor = 'ann') f
 GROUP BY f.s, f.e, f.visitor ORDER BY 1;
SELECT w.window_start::time, w.window_end - w.window_start AS length, v.name, count(clicks) FROM clicks JOIN (VALUES ('ann', 'Ann'), ('bob', 'Bob')) v(visitor, name) USING (visitor),
	   beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, v.name ORDER BY 3, 1;
SELECT min(w::text) AS w, count(w) FROM clicks, beam.session(at, '5 min') w WHERE visitor = 'ann' GROUP BY w.window_start, w.window_end ORDER BY w.window_start;
WITH c AS (SELECT * FROM clicks WHERE visitor IS NOT NULL), d AS MATERIALIZED (SELECT 'bob' AS name)
SELECT w.window_start::time, w.window_end::time, (SELECT count(*) FROM c c2 WHERE c2.visitor = c.visitor AND c2.at >= w.window_start AND c2.at < w.window_end) AS again, count(*)
  FROM c, beam.session(at, '5 min') w WHERE visitor IN (SELECT name FROM d) GROUP BY w.window_start, w.window_end, c.visitor ORDER BY 1;
-- in a subquery that refers to the query around it
SELECT v.visitor, (SELECT count(*) FROM (SELECT 1 FROM clicks, beam.session(at, v.gap) w WHERE clicks.visitor = v.visitor GROUP BY w.window_start, w.window_end) s) AS sessions
  FROM (VALUES ('ann', interval '5 min'), ('ann', '5 min 1 us'), ('bob', '5 min'), ('bob', '1 h')) v(visitor, gap);
-- a gap that differs by row
SELECT w.window_start::time, w.window_end::time, visitor, count(*) FROM clicks, beam.session(at, amount * interval '1 min') w
 WHERE visitor = 'ann' GROUP BY w.window_start, w.window_end, visitor ORDER BY 1;
-- window functions and DISTINCT over the groups
SELECT DISTINCT visitor, row_number() OVER (PARTITION BY visitor ORDER BY w.window_start) AS n FROM clicks, beam.session(at, '5 min') w
 GROUP BY w.window_start, w.window_end, visitor ORDER BY 1, 2;

-- views, prepared statements, INSERT ... SELECT
CREATE VIEW sessions AS SELECT w.window_start, w.window_end, visitor, count(*) AS n FROM clicks, beam.session(at, '5 min') w
 GROUP BY w.window_start, w.window_end, visitor;
SELECT window_start::time, window_end::time, n FROM sessions WHERE visitor = 'ann' ORDER BY 1;
PREPARE sessions_of(text, interval) AS SELECT w.window_start::time, count(*) FROM clicks, beam.session(at, $2) w WHERE visitor = $1
 GROUP BY w.window_start, w.window_end ORDER BY 1;
SET plan_cache_mode = force_generic_plan;
EXECUTE sessions_of('ann', '5 min');
EXECUTE sessions_of('ann', '1 day');
RESET plan_cache_mode;
CREATE TABLE kept AS SELECT * FROM sessions;
INSERT INTO kept SELECT * FROM sessions;
SELECT count(*), count(DISTINCT kept) FROM kept;

-- permissions are those of the tables, row-level security applies
CREATE ROLE session_reader;
SET ROLE session_reader;
SELECT count(*) FROM (SELECT 1 FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end) s;
RESET ROLE;
GRANT SELECT (at, visitor) ON clicks TO session_reader;
SET ROLE session_reader;
SELECT count(*) FROM (SELECT 1 FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, visitor) s;
SELECT count(*) FROM (SELECT 1 FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, page) s;
RESET ROLE;
ALTER TABLE clicks ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON clicks TO session_reader USING (visitor IN (SELECT 'bob'));
SET ROLE session_reader;
SELECT w.window_start::time, visitor, count(*) FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, visitor ORDER BY 1;
RESET ROLE;
ALTER TABLE clicks DISABLE ROW LEVEL SECURITY;
CREATE VIEW fenced WITH (security_barrier) AS SELECT at, visitor FROM clicks WHERE visitor = 'ann';
SELECT w.window_start::time, count(*) FROM fenced, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end ORDER BY 1;

-- the plan; versions differ in how they name the window of a window function
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'Scan|Group Key|WindowAgg|Sort' THEN
			RETURN NEXT regexp_replace(ltrim(line, ' ->'), 'OVER (\(\?\)|w1)', 'OVER w', 'g');
		END IF;
	END LOOP;
END $$;
SELECT plan_of($$SELECT w.window_start, w.window_end, visitor, count(*) FROM clicks, beam.session(at, '5 min') w
 GROUP BY w.window_start, w.window_end, visitor$$);
DROP FUNCTION plan_of;
-- without that GROUP BY the function gives each row's own window
SELECT count(*) FROM clicks, beam.session(at, '5 min') w WHERE visitor = 'ann';

-- a condition in a join, a table between, an outer join of other tables
SELECT w.window_start::time, v.name, count(*) FROM (VALUES ('ann', 'Ann'), ('cat', 'Cat')) v(visitor, name) LEFT JOIN clicks c USING (visitor)
	   JOIN LATERAL beam.session(c.at, '5 min') w ON w.window_end - w.window_start > '5 min' GROUP BY w.window_start, w.window_end, v.name ORDER BY 1;
-- columns that depend on a primary key
CREATE TABLE visitors (visitor text PRIMARY KEY, name text);
ALTER TABLE visitors REPLICA IDENTITY FULL;
INSERT INTO visitors VALUES ('ann', 'Ann'), ('bob', 'Bob');
SELECT w.window_start::time, v.name, count(*) FROM visitors v JOIN clicks c USING (visitor), beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, v.visitor ORDER BY v.visitor, 1;
DROP TABLE visitors;
-- UNION, EXISTS, LATERAL, a recursive WITH around it
SELECT 'day' AS gap, count(*) FROM (SELECT 1 FROM clicks, beam.session(at, '1 day') w GROUP BY w.window_start, w.window_end) a
 UNION ALL SELECT 'minute', count(*) FROM (SELECT 1 FROM clicks, beam.session(at, '1 min') w GROUP BY w.window_start, w.window_end) b ORDER BY 1;
SELECT v.visitor FROM (VALUES ('ann'), ('bob')) v(visitor)
 WHERE EXISTS (SELECT 1 FROM clicks c, beam.session(at, '5 min') w WHERE c.visitor = v.visitor GROUP BY w.window_start, w.window_end HAVING count(*) = 3 AND min(c.page) = '/' AND v.visitor > 'b');
WITH RECURSIVE days(d) AS (SELECT 1 UNION ALL SELECT d + 1 FROM days WHERE d < 3)
SELECT d, s.n FROM days, LATERAL (WITH c AS (SELECT * FROM clicks WHERE amount > d) SELECT count(*) AS n FROM (
	SELECT 1 FROM c, beam.session(at + d * interval '1 day', '5 min') w WHERE d IN (SELECT d FROM days) GROUP BY w.window_start, w.window_end, visitor) x) s ORDER BY d;

-- errors
SELECT w.window_start FROM clicks LEFT JOIN LATERAL beam.session(at, '5 min') w ON true GROUP BY w.window_start, w.window_end;
SELECT w.window_start FROM clicks, beam.session(at, '5 min') w GROUP BY ROLLUP (w.window_start, w.window_end);
SELECT w.window_start FROM clicks, beam.session(at, '5 min') w, beam.session(at, '1 min') x GROUP BY w.window_start, w.window_end;
SELECT w.window_start FROM clicks, beam.session(at, '5 min') w, beam.tumble(w.window_start, '1 min') x GROUP BY w.window_start, w.window_end;
SELECT w.window_start FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, w.window_end - at;
SELECT w.window_start FROM clicks, beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end, unnest(tags);
SELECT w.window_start FROM clicks, beam.session(at, '-5 min') w GROUP BY w.window_start, w.window_end;
SELECT w.window_start FROM clicks, beam.session(at, '1 month') w GROUP BY w.window_start, w.window_end;
SELECT w.window_start FROM (VALUES ('infinity'::timestamptz)) v(at), beam.session(at, '5 min') w GROUP BY w.window_start, w.window_end;

-- against a sessionizer that does it the slow way
CREATE FUNCTION slow_sessions(gap interval) RETURNS TABLE (window_start timestamptz, window_end timestamptz, visitor text, n bigint, amount bigint) LANGUAGE plpgsql AS $$
DECLARE
	r record;
BEGIN
	visitor := NULL; n := 0;
	FOR r IN SELECT * FROM random_clicks c WHERE c.at IS NOT NULL ORDER BY c.visitor, c.at LOOP
		IF n > 0 AND (r.visitor IS DISTINCT FROM visitor OR r.at >= window_end) THEN
			RETURN NEXT; n := 0;
		END IF;
		IF n = 0 THEN window_start := r.at; visitor := r.visitor; amount := 0; END IF;
		window_end := r.at + gap; n := n + 1; amount := amount + r.amount;
	END LOOP;
	IF n > 0 THEN RETURN NEXT; END IF;
END $$;
SELECT setseed(0.5);
CREATE TABLE random_clicks AS SELECT CASE WHEN random() > 0.01 THEN '2024-01-01'::timestamptz + (random() * 20000)::int * interval '1 second' END AS at,
	'v' || (random() * 30)::int AS visitor, (random() * 100)::int AS amount FROM generate_series(1, 5000);
UPDATE random_clicks SET visitor = NULL WHERE visitor = 'v3';
SELECT gap, count(*) > 100 AS many, count(*) FILTER (WHERE b IS NULL OR s IS NULL) AS different
  FROM unnest(ARRAY['7 s', '1 min', '5 min']::interval[]) gap,
	   LATERAL (SELECT b, s FROM (SELECT w.window_start, w.window_end, visitor, count(*) AS n, sum(amount) AS amount FROM random_clicks, beam.session(at, gap) w
				  GROUP BY w.window_start, w.window_end, visitor) b
				FULL JOIN slow_sessions(gap) s ON b.window_start = s.window_start AND b.window_end = s.window_end AND coalesce(b.visitor, '') = coalesce(s.visitor, '')
				  AND b.n = s.n AND b.amount = s.amount) d
 GROUP BY gap ORDER BY gap;

DROP VIEW sessions;
DROP FUNCTION slow_sessions;
DROP TABLE clicks, random_clicks, kept CASCADE;
DROP ROLE session_reader;
