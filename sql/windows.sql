-- Window functions as a batch: which windows a timestamp is in.
SET timezone = 'UTC';
SET datestyle = 'ISO';
SET intervalstyle = 'postgres';

-- tumble: before and at the epoch, offsets of either sign, sizes that do not divide a day
SELECT t, w.* FROM unnest(ARRAY['1969-12-31 23:59:59.999999', '1970-01-01', '1970-01-01 00:06:59.999999',
	'1970-01-01 00:07', '0044-03-15 12:00 BC', '2024-02-29 12:34:56.789']::timestamptz[]) t, beam.tumble(t, '7 minutes') w;
SELECT w.* FROM beam.tumble('2024-02-29 12:34', '1 hour', '15 minutes') w;
SELECT w.* FROM beam.tumble('2024-02-29 12:34', '1 hour', '-15 minutes') w;
SELECT w.* FROM beam.tumble('2024-02-29 12:34', '1 hour', '10 days 45 minutes') w;
SELECT w.* FROM beam.tumble('1960-02-29 12:34', size => '1 day', "offset" => '-12 hours') w;
SELECT w.* FROM beam.tumble(date '2024-02-29', '2 microseconds') w;
-- a null argument gives no row, inlined or not
SELECT count(*) FROM (VALUES (NULL::timestamptz), ('2024-01-01')) v(t), beam.tumble(t, '1 day') w;
SELECT count(*) FROM beam.tumble(now(), NULL) w;
SELECT count(*) FROM (VALUES (NULL::timestamptz), ('2024-01-01')) v(t), beam.tumble((SELECT t), '1 day') w;
-- against date_bin, over random instants of four thousand years
SELECT count(*), count(*) FILTER (WHERE w.window_start <> date_bin(size, t, 'epoch'::timestamptz) OR w.window_end <> w.window_start + size) AS wrong
  FROM (SELECT timestamptz '2000-01-01' + (4000 * 365.25 * (random() - 0.5)) * interval '1 day' AS t,
			   make_interval(secs => (1 + random() * 100000)::int) AS size FROM generate_series(1, 2000)) v, beam.tumble(t, size) w;
-- errors
\set VERBOSITY sqlstate
SELECT * FROM beam.tumble(now(), '0');
SELECT * FROM beam.tumble('infinity', '1 day');
SELECT * FROM beam.hop(now(), '1 day', '1 second');
SELECT * FROM beam.calendar(now(), 'day', 1, 'Mars/Olympus');
SELECT beam.pane_timestamp();
\set VERBOSITY default
SELECT * FROM beam.tumble(now(), '0');
SELECT * FROM beam.tumble(now(), '-1 minute');
SELECT * FROM beam.tumble(now(), '1 month');
SELECT * FROM beam.tumble(now(), '1 day', '1 year');
SELECT * FROM beam.tumble(now(), '2000000000 days');
SELECT * FROM beam.tumble('infinity', '1 day');
SELECT * FROM beam.tumble('-infinity', '1 day');
SELECT * FROM beam.tumble('294276-12-31 23:59:59', '100000000 days');
SELECT * FROM beam.tumble('4714-11-24 BC', '100 days');
SELECT w.* FROM (VALUES (now(), '-1 s'::interval)) v(t, i), beam.tumble(t, i) w;

-- hop
SELECT w.* FROM beam.hop('2024-02-29 12:34', '1 hour', '20 minutes') w;
SELECT w.* FROM beam.hop('2024-02-29 12:40', '50 minutes', '20 minutes') w;
SELECT w.* FROM beam.hop('2024-02-29 12:34', '1 hour', '20 minutes', '-5 minutes') w;
-- a slide longer than the size leaves gaps
SELECT t::time, w.* FROM generate_series('1969-12-31 23:45'::timestamptz, '1970-01-01 00:20', '5 minutes') t
  LEFT JOIN LATERAL beam.hop(t, '10 minutes', '15 minutes') w ON true;
SELECT count(*) FROM (VALUES (NULL::timestamptz), ('2024-01-01')) v(t), beam.hop(t, '1 day', '6 hours') w;
-- sizes and slides that differ by row, and a row's set that is given up half-way
SELECT v.n, w.window_start::time, w.window_end::time FROM (VALUES (1, '10 min'::interval, '5 min'::interval), (2, '1 h', '30 min')) v(n, size, slide),
	LATERAL (SELECT * FROM beam.hop('2024-02-29 12:34', size, slide)) w ORDER BY 1, 2;
SELECT n, w.* FROM generate_series(1, 3) n, LATERAL (SELECT * FROM beam.hop('2024-01-01', '1 hour', n * interval '20 minutes') LIMIT 1) w;
SELECT * FROM beam.hop(now(), '1 hour', '0');
SELECT * FROM beam.hop(now(), '-1 hour', '1 hour');
SELECT * FROM beam.hop(now(), '1 hour', '1 month');
SELECT * FROM beam.hop(now(), '1 day', '1 second');
SELECT * FROM beam.hop('infinity', '1 day', '1 hour');

-- cumulate: one start, growing ends
SELECT w.* FROM beam.cumulate('2024-02-29 17:59:59.999999', '1 day', '6 hours') w;
SELECT w.* FROM beam.cumulate('2024-02-29 18:00', '1 day', '6 hours') w;
SELECT w.* FROM beam.cumulate('2024-02-29 00:00', '1 day', '6 hours', '3 hours') w;
SELECT w.* FROM beam.cumulate('1969-12-31 23:59', '1 day', '12 hours') w;
SELECT * FROM beam.cumulate(now(), '1 day', '7 hours');
SELECT * FROM beam.cumulate(now(), '1 hour', '1 day');
SELECT * FROM beam.cumulate(now(), '1 day', '-1 hour');
SELECT * FROM beam.cumulate(now(), '1 day', '1 second');
SELECT * FROM beam.cumulate('2024-01-01', '1 month', '1 day');
SELECT * FROM beam.cumulate('-infinity', '1 day', '1 hour');

-- calendar: days of 23 and 25 hours
SELECT zone, t, w.window_start, w.window_end - w.window_start AS length
  FROM (VALUES ('Europe/Berlin', '2024-03-31 12:00+02'::timestamptz), ('Europe/Berlin', '2024-10-27 12:00+01'), ('Europe/Berlin', '2024-10-28 12:00+01'),
			   ('America/New_York', '2024-03-10 12:00-04'), ('America/New_York', '2024-11-03 12:00-05'),
			   ('Asia/Kathmandu', '2024-02-29 00:00+00'), ('UTC', '2024-02-29 00:00+00')) v(zone, t),
	   beam.calendar(t, 'day', 1, zone) w;
-- midnight skipped (Beirut), midnight twice (Havana), a stretch of the day before repeated (St John's), a day skipped (Apia)
SELECT zone, t AT TIME ZONE zone AS local, w.window_start, w.window_end - w.window_start AS length
  FROM (VALUES ('Asia/Beirut', '2022-03-27 12:00+03'::timestamptz), ('America/Havana', '2023-11-05 00:30-04'), ('America/Havana', '2023-11-05 00:30-05'),
			   ('America/St_Johns', '2010-11-07 02:15+00'), ('America/St_Johns', '2010-11-07 02:31:30+00'), ('America/St_Johns', '2010-11-07 03:00+00'),
			   ('Pacific/Apia', '2011-12-30 09:59+00'), ('Pacific/Apia', '2011-12-30 10:00+00')) v(zone, t),
	   beam.calendar(t, 'day', 1, zone) w;
SELECT unit, n, w.* FROM (VALUES ('day', 1), ('day', 10), ('week', 1), ('week', 2), ('Month', 1), ('month', 5), ('quarter', 1), ('year', 1), ('year', 4), ('year', 10)) v(unit, n),
	   beam.calendar('2024-02-29 23:30', unit, n) w;
SELECT w.* FROM beam.calendar('1970-01-01', 'week') w;
SELECT w.* FROM beam.calendar('0001-12-31 12:00 BC', 'year') w;
SELECT w.* FROM beam.calendar('1968-02-29', 'month', time_zone => 'Europe/Berlin') w;
-- every instant is in the window it gets, and windows follow each other without gap
SELECT zone, unit, count(*) FILTER (WHERE NOT (w.window_start <= t AND t < w.window_end)) AS outside,
	   count(*) FILTER (WHERE next.window_start <> w.window_end) AS gaps
  FROM unnest(ARRAY['America/St_Johns', 'America/Havana', 'Asia/Beirut', 'America/Sao_Paulo', 'Pacific/Apia']) zone, unnest(ARRAY['day', 'week', 'month']) unit,
	   generate_series('2008-01-01'::timestamptz, '2012-06-01', '7 hours 13 minutes') t,
	   beam.calendar(t, unit, 1, zone) w, beam.calendar(w.window_end, unit, 1, zone) next GROUP BY 1, 2 ORDER BY 1, 2;
-- the same as date_trunc where midnight is unambiguous
SELECT unit, count(*) FILTER (WHERE w.window_start <> date_trunc(unit, t, 'Europe/Berlin')) AS wrong
  FROM unnest(ARRAY['day', 'week', 'month', 'quarter', 'year']) unit, generate_series('1950-01-01'::timestamptz, '2040-01-01', '50 days 7 hours') t,
	   beam.calendar(t, unit, 1, 'Europe/Berlin') w GROUP BY 1 ORDER BY 1;
SELECT * FROM beam.calendar(now(), 'fortnight');
SELECT * FROM beam.calendar(now(), 'day', 0);
SELECT * FROM beam.calendar(now(), 'day', 10001);
SELECT * FROM beam.calendar(now(), 'day', 1, 'Mars/Olympus');
SELECT * FROM beam.calendar('infinity', 'day');
SELECT * FROM beam.calendar('294276-12-31 12:00', 'year');

-- The planner dissolves them: no function scan. How it joins what is left differs between versions.
CREATE FUNCTION plan_of(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
	line text;
BEGIN
	FOR line IN EXECUTE 'EXPLAIN (COSTS OFF) ' || query LOOP
		IF line ~ 'Scan|ProjectSet|Group Key' THEN
			RETURN NEXT ltrim(line, ' ->');
		END IF;
	END LOOP;
END $$;
CREATE TABLE ev (ts timestamptz, key int, amount float8);
ALTER TABLE ev REPLICA IDENTITY FULL;
SELECT plan_of($$SELECT w.window_start, w.window_end, key, count(*) FROM ev, beam.tumble(ts, '1 minute') w GROUP BY 1, 2, 3$$);
SELECT plan_of($$SELECT w.window_start, w.window_end, count(*) FROM ev, beam.hop(ts, '1 minute', '10 s') w GROUP BY 1, 2$$);
SELECT plan_of($$SELECT w.window_start, w.window_end, count(*) FROM ev, beam.cumulate(ts, '1 minute', '10 s') w GROUP BY 1, 2$$);
SELECT plan_of($$SELECT w.window_start, w.window_end, count(*) FROM ev, beam.calendar(ts, 'day') w GROUP BY 1, 2$$);
DROP FUNCTION plan_of;

-- panes as a batch
INSERT INTO ev SELECT '2024-01-01'::timestamptz + n * interval '20 seconds', n % 2, n FROM generate_series(0, 5) n;
SELECT w.window_start, beam.pane_timing(), beam.pane_index(), beam.is_last_pane(), beam.pane_timestamp(), count(*)
  FROM ev, beam.tumble(ts, '1 minute') w GROUP BY w.window_start, w.window_end HAVING beam.pane_timestamp() IS NOT NULL ORDER BY 1;
SELECT beam.pane_timestamp();
SELECT beam.pane_timestamp(), count(*) FROM ev;
-- a window function of one's own has panes too
CREATE FUNCTION halves(t timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE sql IMMUTABLE
	AS $$ SELECT date_trunc('day', t), date_trunc('day', t) + interval '12 hours' $$;
SELECT w.window_end, beam.pane_timestamp(), count(*) FROM ev, halves(ts) w GROUP BY w.window_start, w.window_end;
DROP FUNCTION halves;
DROP TABLE ev;
