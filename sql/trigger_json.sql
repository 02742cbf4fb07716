-- beam.trigger and JSON: the same names, both ways; errors say where.
CREATE TABLE forms (t beam.trigger);
INSERT INTO forms SELECT t::beam.trigger FROM unnest(ARRAY['continuous()', 'default_trigger()', 'never()', 'after_watermark()',
	'after_watermark(early => after_count(100))', 'after_watermark(late => after_count(1))',
	'after_watermark(early => after_count(100), late => after_count(1))',
	'after_watermark(early => repeatedly(after_watermark(early => never())), late => after_processing_time(''1 s''))',
	'after_count(9223372036854775807)', 'after_processing_time(''5 s'')', 'after_processing_time(''5 s'', align => ''1 min'')',
	'after_any(after_count(1))', 'after_all(after_count(10), after_processing_time(''5 s'', align => ''1 min''), never())',
	'after_each(after_count(1), after_watermark())', 'or_finally(repeatedly(after_count(10)), after_watermark(late => continuous()))',
	'repeatedly(after_any(after_count(3), after_processing_time(''90061001 ms'')))']) t;
SELECT t::jsonb AS json, t::jsonb::beam.trigger::text = t::text AS "and back" FROM forms;

-- what is written otherwise than it was read
SELECT j, j::beam.trigger FROM unnest(ARRAY['"default"', '{"never": {}}', '{"after_watermark": {}}', '{"after_count": 1e3}', '{"after_count": 7.0}',
	'{"after_processing_time": {"delay": "1:00"}}', '{"after_processing_time": {"align": null, "delay": "P1D"}}',
	'{"after_watermark": {"late": {"after_count": 1}, "early": "never"}}']::jsonb[]) j;
SELECT NULL::jsonb::beam.trigger, NULL::beam.trigger::jsonb;
-- JSON can stand wherever a trigger is wanted
SELECT beam.repeatedly('{"after_count": 2}'::jsonb), beam.after_any(jsonb '"never"', beam.after_count(1));
SET intervalstyle = 'iso_8601';
SELECT beam.after_processing_time('1 day 00:00:01.000001')::jsonb;
RESET intervalstyle;

-- random triggers, text to JSON and back
CREATE FUNCTION random_trigger(depth int) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
	delay text := format('''%s %s''', 1 + floor(random() * 2000)::int, (ARRAY['us', 'ms', 's', 'min', 'h', 'd'])[1 + floor(random() * 6)]);
BEGIN
	IF depth = 0 OR random() < 0.2 THEN
		RETURN (ARRAY['continuous()', 'default_trigger()', 'never()', 'after_watermark()', format('after_count(%s)', 1 + floor(random() * 1e9)::bigint),
			format('after_processing_time(%s)', delay), format('after_processing_time(%s, align => %s)', delay, delay)])[1 + floor(random() * 7)];
	END IF;
	RETURN CASE floor(random() * 8)::int
		WHEN 0 THEN format('after_watermark(early => %s)', random_trigger(depth - 1))
		WHEN 1 THEN format('after_watermark(late => %s)', random_trigger(depth - 1))
		WHEN 2 THEN format('after_watermark(late => %s, early => %s)', random_trigger(depth - 1), random_trigger(depth - 1))
		WHEN 3 THEN format('repeatedly(%s)', random_trigger(depth - 1))
		WHEN 4 THEN format('or_finally(%s, %s)', random_trigger(depth - 1), random_trigger(depth - 1))
		ELSE format('%s(%s)', (ARRAY['after_any', 'after_all', 'after_each'])[1 + floor(random() * 3)],
			(SELECT string_agg(random_trigger(depth - 1), ', ') FROM generate_series(1, 1 + floor(random() * 3)::int)))
	END;
END $$;
SELECT count(*) FILTER (WHERE same) AS same, array_agg(t) FILTER (WHERE NOT same) AS others
  FROM (SELECT t, t::jsonb::beam.trigger::text = t::text AND t::jsonb::text::jsonb::beam.trigger::jsonb = t::jsonb AS same
          FROM (SELECT random_trigger(3)::beam.trigger AS t FROM generate_series(1, 2000)) x) y;

-- errors, with paths
CREATE FUNCTION refused(j jsonb, OUT value jsonb, OUT code text, OUT message text, OUT context text) LANGUAGE plpgsql AS $$
BEGIN
	value := j;
	PERFORM j::beam.trigger;
	message := 'accepted';
EXCEPTION WHEN OTHERS THEN
	GET STACKED DIAGNOSTICS code = RETURNED_SQLSTATE, message = MESSAGE_TEXT, context = PG_EXCEPTION_CONTEXT;
	context := substring(context FROM '^trigger in JSON.*?(?=\n)');
END $$;
SELECT r.* FROM unnest(ARRAY['null', '5', 'true', '[]', '{}', '["never"]', '"after_moon"', '"NEVER"', '""', '{"after_moon": 1}', '{"never": 1}',
	'{"after_count": 1, "never": {}}', '"after_count"', '"repeatedly"',
	'{"after_count": 0}', '{"after_count": -1}', '{"after_count": 1.5}', '{"after_count": "1"}', '{"after_count": 9223372036854775808}', '{"after_count": 1e100}',
	'{"after_processing_time": 5}', '{"after_processing_time": "soon"}', '{"after_processing_time": "-1 s"}', '{"after_processing_time": "1 month"}',
	'{"after_processing_time": "2000000000 days"}', '{"after_processing_time": {}}', '{"after_processing_time": {"delay": "1 s", "align": 1}}',
	'{"after_processing_time": {"delay": "1 s", "aligned": "1 s"}}',
	'{"after_watermark": "never"}', '{"after_watermark": {"early": null}}', '{"after_watermark": {"soon": "never"}}',
	'{"after_any": []}', '{"after_any": "never"}', '{"after_all": ["never", {"after_each": ["never", {"after_watermark": {"late": {"after_count": 0}}}]}]}',
	'{"or_finally": ["never"]}', '{"or_finally": ["never", "never", "never"]}', '{"or_finally": {"main": "never", "until": "never"}}',
	'{"repeatedly": ["never"]}']::jsonb[]) j, refused(j) r;
SELECT r.code, r.message FROM refused(jsonb_build_object('after_any', (SELECT jsonb_agg('never'::text) FROM generate_series(1, 64)))) r;
SELECT r.code, r.message FROM refused((repeat('{"repeatedly":', 1000) || '"never"' || repeat('}', 1000))::jsonb) r;
SELECT '{"after_count": 0}'::jsonb::beam.trigger;
DROP TABLE forms;
DROP FUNCTION refused, random_trigger;
