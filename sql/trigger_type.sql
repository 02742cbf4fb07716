-- beam.trigger: its text in and out, its constructors, its errors.
SELECT t::beam.trigger FROM unnest(ARRAY['continuous()', ' CONTINUOUS ', 'default_trigger()', 'never()', 'after_watermark', 'after_watermark( )',
	'after_watermark(late=>after_count(1),early=>after_count( 100 ))', 'after_processing_time(''1 minute'')',
	'after_processing_time(''90 s'', align => ''1 hour'')', 'repeatedly(after_any(after_count(3),after_processing_time(''1.5 s'')))']) t;
SELECT 'repeatedly(after_count(2))'::beam.trigger::text;

SELECT beam.continuous(), beam.default_trigger(), beam.never();
SELECT beam.after_watermark(), beam.after_watermark(early => beam.after_count(100)), beam.after_watermark(late => 'after_count(1)');
SELECT beam.after_watermark(early => beam.after_processing_time('5 s'), late => beam.after_count(1));
SELECT beam.after_count(7), beam.after_processing_time('1 day 2 hours'), beam.after_processing_time('5 s', align => '1 min');
SELECT beam.repeatedly(beam.after_all(beam.after_count(10), beam.after_processing_time('1 ms')));
SELECT beam.after_each(beam.after_count(1), beam.after_watermark()), beam.after_any('after_count(2)', 'never()');
SELECT beam.or_finally(beam.repeatedly(beam.after_count(10)), beam.after_watermark());
-- settings do not show in the text
SET intervalstyle = 'iso_8601';
SELECT beam.after_processing_time('1 day 00:00:01.000001');
RESET intervalstyle;
-- null where it is not an option left out
SELECT beam.after_count(NULL), beam.after_processing_time(NULL), beam.repeatedly(NULL);

-- stored and read back
CREATE TABLE settings (t beam.trigger, all_of_them beam.trigger[]);
INSERT INTO settings VALUES (beam.after_count(3), ARRAY[beam.never(), 'after_watermark(late => after_count(1))']::beam.trigger[]);
SELECT * FROM settings;
SELECT beam.after_any(VARIADIC all_of_them) FROM settings;
DROP TABLE settings;

-- errors, with positions
SELECT 'after_moon()'::beam.trigger;
SELECT 'after_count(0)'::beam.trigger;
SELECT 'after_count(ten)'::beam.trigger;
SELECT 'after_count(3'::beam.trigger;
SELECT 'after_count(3))'::beam.trigger;
SELECT 'after_watermark(soon => after_count(1))'::beam.trigger;
SELECT 'after_processing_time(5)'::beam.trigger;
SELECT 'after_processing_time(''soon'')'::beam.trigger;
SELECT ''::beam.trigger;
SELECT beam.after_count(-1);
SELECT beam.after_processing_time('-1 s');
SELECT beam.after_processing_time('1 month');
SELECT beam.after_processing_time('1 s', '0');
SELECT beam.after_all(beam.after_count(1), NULL);
SELECT beam.after_any(VARIADIC '{}');
