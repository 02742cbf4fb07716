-- Queries without groups and aggregates: the result follows the table row by row.
SET client_min_messages = warning;
SET timezone = 'UTC';
SET datestyle = 'ISO';
CREATE SCHEMA map;
SET search_path = map;
CREATE TABLE item (id int PRIMARY KEY, name text, amount int, at timestamptz, extra json);
ALTER TABLE item REPLICA IDENTITY FULL;
INSERT INTO item SELECT i, 'n' || i % 3, i * 10, '2026-01-01'::timestamptz + i * interval '20 s', '{"a": 1}' FROM generate_series(1, 6) i;
\pset tuples_only on
-- with the primary key; without, so that rows are equal; with windows; appended; with retractions
SELECT beam.create_pipeline('keyed', $$SELECT id, upper(name) AS name FROM item WHERE amount > 10$$);
SELECT beam.create_pipeline('bag', $$SELECT upper(name) AS name, amount > 30 AS large, extra FROM item WHERE amount > 10$$);
SELECT beam.create_pipeline('windowed', $$SELECT w.window_start, w.window_end, i.id, i.amount FROM item i, beam.hop(i.at, '2 minutes', '1 minute') w$$);
SELECT beam.create_pipeline('changelog', $$SELECT id, amount / 10 AS t FROM item$$, accumulation => 'retracting');
SELECT beam.create_pipeline('per_name', $$SELECT name, count(*) AS n, min(id) AS least FROM keyed GROUP BY name$$);
SELECT beam.create_pipeline('of_bag', $$SELECT name, large FROM bag WHERE large$$);
DO $$ DECLARE one text; BEGIN FOR one IN SELECT name FROM beam.pipelines LOOP CALL beam.wait_for(one); END LOOP; END $$;
\pset tuples_only off
SELECT beam.explain_pipeline('keyed');
SELECT beam.explain_pipeline('bag');
SELECT beam.explain_pipeline('windowed');
\d keyed
\d bag
SELECT * FROM keyed ORDER BY id;
SELECT * FROM bag ORDER BY name, large, extra::text;
SELECT * FROM windowed ORDER BY window_start, id;
SELECT * FROM per_name ORDER BY name;
CREATE PROCEDURE settle() LANGUAGE plpgsql AS $$
DECLARE one text;
BEGIN
    FOR one IN SELECT name FROM beam.pipelines WHERE result::text LIKE ANY ('{keyed,bag,windowed,changelog,per_name,of_bag,appended}') ORDER BY name LOOP
        CALL beam.wait_for(one);
    END LOOP;
END $$;
CREATE FUNCTION differences() RETURNS TABLE (pipeline text, kind text, result jsonb, batch jsonb) LANGUAGE sql AS $$
    SELECT p.name, v.kind, v.result, v.batch FROM beam.pipelines p, beam.verify(p.name) v
     WHERE p.result::text LIKE ANY ('{keyed,bag,windowed,changelog,per_name,of_bag,appended}') ORDER BY 1, 2, 3, 4
$$;
SELECT * FROM differences();

-- into the condition, out of it, another key, another window, back and forth in one transaction
UPDATE item SET amount = 5 WHERE id = 2;
UPDATE item SET amount = 15, name = 'x' WHERE id = 1;
UPDATE item SET id = 100, at = at + interval '5 minutes' WHERE id = 3;
BEGIN;
DELETE FROM item WHERE id = 4;
INSERT INTO item VALUES (4, 'again', 44, '2026-01-01 00:00:30', NULL);
UPDATE item SET name = 'y' WHERE id = 5;
UPDATE item SET name = 'n2' WHERE id = 5;
COMMIT;
INSERT INTO item SELECT i, 'same', 50, '2026-01-01', '[1]' FROM generate_series(20, 24) i;
DELETE FROM item WHERE id IN (20, 22);
CALL settle();
SELECT * FROM keyed ORDER BY id;
SELECT * FROM bag ORDER BY name, large, extra::text;
SELECT * FROM windowed ORDER BY window_start, id;
SELECT * FROM per_name ORDER BY name;
SELECT id, t, sum(op) FROM changelog GROUP BY id, t HAVING sum(op) <> 0 ORDER BY id;
SELECT name, large, count(*) FROM of_bag GROUP BY 1, 2 ORDER BY 1;
SELECT * FROM differences();

-- what is different is said, row by row
INSERT INTO bag SELECT * FROM bag WHERE name = 'Y' OR name = 'SAME' LIMIT 1;
DELETE FROM bag WHERE name = 'N0';
UPDATE keyed SET name = 'other' WHERE id = 5;
SELECT * FROM differences();
SELECT beam.resync_pipeline('bag');
CALL beam.wait_for_alter('bag');
SELECT beam.resync_pipeline('keyed');
CALL beam.wait_for_alter('keyed');
SELECT * FROM differences();

-- a row that was changed by hand goes with its source row all the same
UPDATE keyed SET name = 'by hand' WHERE id = 21;
DELETE FROM item WHERE id = 21;
CALL settle();
SELECT * FROM keyed WHERE id = 21;
SELECT count(*) FROM differences() WHERE pipeline = 'keyed';

-- a TRUNCATE empties them
TRUNCATE item;
CALL settle();
SELECT (SELECT count(*) FROM keyed), (SELECT count(*) FROM bag), (SELECT count(*) FROM windowed), (SELECT sum(op) FROM changelog), (SELECT count(*) FROM per_name);
SELECT * FROM differences();

-- appended: no index, and no other changes
CREATE TABLE event (n int, t text);
INSERT INTO event SELECT i, 'old' FROM generate_series(1, 3) i;
\pset tuples_only on
SELECT beam.create_pipeline('appended', $$SELECT n * 2 AS double, t FROM event WHERE n <> 2$$, source_mode => 'append_only', accumulation => 'discarding');
\pset tuples_only off
CALL beam.wait_for('appended');
INSERT INTO event VALUES (7, 'new'), (7, 'new'), (NULL, 'none');
CALL beam.wait_for('appended');
\d appended
SELECT * FROM appended ORDER BY 1, 2;
SELECT * FROM differences();

-- dead letters, each side of a change by itself; a letter that comes again does not replace what has come since
CREATE TABLE part (id int PRIMARY KEY, divisor int);
ALTER TABLE part REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('quotient', $$SELECT id, 100 / divisor AS q FROM part$$);
SELECT beam.create_pipeline('quotients', $$SELECT 100 / divisor AS q FROM part$$);
\pset tuples_only off
-- what is in the history does not fail when it has been mended
CALL beam.wait_for('quotient');
CALL beam.wait_for('quotients');
INSERT INTO part VALUES (1, 5), (2, 0), (3, 10);
UPDATE part SET divisor = 0 WHERE id = 1;
UPDATE part SET divisor = 20 WHERE id = 2;
DELETE FROM part WHERE id = 1;
CALL beam.wait_for('quotient');
CALL beam.wait_for('quotients');
SELECT * FROM quotient ORDER BY id;
SELECT * FROM quotients ORDER BY q;
SELECT pipeline, op, data, sqlstate FROM beam.dead_letters WHERE pipeline LIKE 'quotient%' ORDER BY pipeline, id;
SELECT kind, result, batch FROM beam.verify('quotient');

-- letters that come again, also where those who read the result cannot do with a row of it
CREATE TABLE piece (id int PRIMARY KEY, n int);
ALTER TABLE piece REPLICA IDENTITY FULL;
-- what a function reads beside its arguments is not noticed: this one fails below a number
CREATE TABLE least AS SELECT 0 AS n;
CREATE FUNCTION checked(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN IF n < (SELECT l.n FROM map.least l) THEN RAISE EXCEPTION 'too little'; END IF; RETURN n; END $$;
\pset tuples_only on
SELECT beam.create_pipeline('pieces', 'SELECT id, checked(n) AS n FROM piece');
SELECT beam.create_pipeline('piece_counts', 'SELECT 100 / (n + 3) AS part, count(*) AS n FROM pieces GROUP BY 100 / (n + 3)');
CALL beam.wait_for('pieces');
\pset tuples_only off
INSERT INTO piece VALUES (1, -1), (2, -2), (3, 3), (4, 4), (8, 8);
UPDATE piece SET n = 11 WHERE id = 1;
UPDATE piece SET n = -3 WHERE id = 3;
UPDATE piece SET n = -5 WHERE id = 4;
UPDATE piece SET n = -6 WHERE id = 4;
INSERT INTO piece VALUES (5, -50);
DELETE FROM piece WHERE id = 5;
CALL beam.wait_for('pieces');
-- the row of the result stays where what takes it back fails
UPDATE least SET n = 1000;
UPDATE piece SET n = 9 WHERE id = 8;
CALL beam.wait_for('pieces');
SELECT * FROM pieces ORDER BY id;
SELECT op, data FROM beam.dead_letters WHERE pipeline = 'pieces' ORDER BY id;
UPDATE least SET n = -1000;
SET client_min_messages = notice;
CALL beam.replay_dead_letters('pieces');
SET client_min_messages = warning;
SELECT * FROM pieces ORDER BY id;
SELECT pipeline, op, data, message FROM beam.dead_letters WHERE pipeline LIKE 'piece%' ORDER BY id;
SELECT * FROM beam.verify('pieces');
SELECT * FROM piece_counts ORDER BY part;
SELECT beam.drop_pipeline('piece_counts'), beam.drop_pipeline('pieces');

-- another definition: without the key, with groups, with other columns; rolled back
SELECT beam.drop_pipeline('per_name'), beam.drop_pipeline('of_bag');
INSERT INTO item SELECT i, 'n' || i % 2, i * 10, '2026-01-01', NULL FROM generate_series(1, 5) i;
SELECT beam.alter_pipeline('keyed', $$SELECT upper(name) AS name FROM item WHERE amount > 10$$);
CALL beam.wait_for_alter('keyed');
SELECT name, count(*) FROM keyed GROUP BY 1 ORDER BY 1;
SELECT * FROM differences();
SELECT beam.rollback_pipeline('keyed');
CALL beam.wait_for_alter('keyed');
SELECT * FROM keyed ORDER BY id;
SELECT beam.alter_pipeline('bag', $$SELECT name, count(*) AS n FROM item GROUP BY name$$);
CALL beam.wait_for_alter('bag');
SELECT * FROM bag ORDER BY name;
SELECT beam.alter_pipeline('bag', $$SELECT amount, name, id FROM item$$, keep => NULL);
CALL beam.wait_for_alter('bag');
SELECT * FROM bag ORDER BY id;
\d bag
INSERT INTO item VALUES (9, 'last', 90, '2026-01-01', NULL);
CALL settle();
SELECT * FROM differences();

-- a result without an event time says nothing of the time: the rows do
CREATE TABLE tick (id int PRIMARY KEY, at timestamptz, v int);
ALTER TABLE tick REPLICA IDENTITY FULL;
\pset tuples_only on
SELECT beam.create_pipeline('ticks', $$SELECT id, at, v * 2 AS v FROM tick WHERE v > 0$$);
SELECT beam.create_pipeline('tick_maximum', $$SELECT id, max(at) AS at FROM ticks GROUP BY id$$);
SELECT beam.create_pipeline('per_minute', $$SELECT w.window_start, w.window_end, sum(t.v) AS v FROM ticks t, beam.tumble(t.at, '1 minute') w
    GROUP BY w.window_start, w.window_end$$, trigger => 'default_trigger()', watermark => '0', idle_timeout => NULL);
SELECT beam.create_pipeline('last_per_minute', $$SELECT w.window_start, w.window_end, count(*) AS n FROM tick_maximum t, beam.tumble(t.at, '1 minute') w
    GROUP BY w.window_start, w.window_end$$, trigger => 'default_trigger()', watermark => '0', idle_timeout => NULL);
\pset tuples_only off
INSERT INTO tick VALUES (1, '2026-01-01 00:00:10', 1), (2, '2026-01-01 00:00:20', 2), (3, '2026-01-01 00:01:30', 3);
CALL beam.wait_for('per_minute');
CALL beam.wait_for('last_per_minute');
SELECT * FROM per_minute ORDER BY 1;
SELECT * FROM last_per_minute ORDER BY 1;
SELECT name, input_watermark FROM beam.watermarks WHERE name LIKE '%per_minute' ORDER BY name;

-- a result with a primary key is a source with one; rows that come through it replace each other
CREATE TABLE reading (id int PRIMARY KEY, name text);
ALTER TABLE reading REPLICA IDENTITY FULL;
INSERT INTO reading VALUES (1, 'a'), (2, 'b');
\pset tuples_only on
SELECT beam.create_pipeline('first', 'SELECT id, name FROM reading');
SELECT beam.create_pipeline('second', 'SELECT id, name FROM first');
CALL beam.wait_for('second');
ALTER TABLE first ADD PRIMARY KEY (id);
SELECT beam.create_pipeline('third', 'SELECT id, upper(name) AS name FROM first');
\pset tuples_only off
CALL beam.wait_for('third');
UPDATE reading SET name = 'c' WHERE id = 1;
CALL beam.wait_for('first');
CALL beam.wait_for('second');
CALL beam.wait_for('third');
SELECT * FROM third ORDER BY id;
-- a primary key that comes later changes nothing
SELECT name, state, error_message FROM beam.pipelines WHERE name = 'second';
SELECT * FROM second ORDER BY id;
SELECT beam.drop_pipeline('third'), beam.drop_pipeline('second'), beam.drop_pipeline('first');

-- more columns than a function has arguments
DO $$ BEGIN EXECUTE (SELECT format('CREATE TABLE wide (%s)', string_agg(format('c%s int', i), ', ')) FROM generate_series(1, 1200) i); END $$;
ALTER TABLE wide REPLICA IDENTITY FULL;
INSERT INTO wide (c1, c1200) VALUES (1, 1), (1, 1), (1, 2);
SELECT beam.create_pipeline('wide_rows', format('SELECT %s FROM wide', string_agg('c' || i, ', '))) FROM generate_series(1, 1200) i;
CALL beam.wait_for('wide_rows');
DELETE FROM wide WHERE ctid = '(0,1)';
UPDATE wide SET c1199 = 3 WHERE c1200 = 2;
CALL beam.wait_for('wide_rows');
SELECT c1, c1199, c1200 FROM wide_rows ORDER BY 1, 2, 3;
SELECT beam.drop_pipeline('wide_rows');

-- the same text for other bytes: an array that has had a null, and one that has not
CREATE TABLE list (id int, a int[]);
ALTER TABLE list REPLICA IDENTITY FULL;
INSERT INTO list VALUES (1, '{1, NULL}'), (2, '{2, NULL}');
SELECT beam.create_pipeline('lists', 'SELECT a[1:1] AS a FROM list');
CALL beam.wait_for('lists');
SELECT beam.alter_pipeline('lists', 'SELECT ARRAY[a[1]] AS a FROM list');
CALL beam.wait_for_alter('lists');
DELETE FROM list WHERE id = 2;
CALL beam.wait_for('lists');
SELECT * FROM lists;
SELECT beam.drop_pipeline('lists');

-- refused
SELECT beam.create_pipeline('no', 'SELECT FROM item');
SELECT beam.create_pipeline('no', $$SELECT id FROM item$$, trigger => 'repeatedly(after_count(2))');
SELECT beam.create_pipeline('no', $$SELECT id FROM item$$, accumulation => 'discarding');
SELECT beam.create_pipeline('no', $$SELECT id, beam.pane_index() FROM item$$);
SELECT beam.create_pipeline('no', $$SELECT id FROM item i, beam.session(i.at, '1 minute') w$$);
SELECT beam.create_pipeline('no', $$SELECT id, random() FROM item$$);

-- scripted
SELECT step, kind, window_start, data FROM beam.test_stream('windowed', '[{"rows": [{"id": 1, "amount": 2, "at": "2026-01-01 00:00:30Z"}]},
  {"update": {"old": [{"id": 1, "amount": 2, "at": "2026-01-01 00:00:30Z"}], "new": [{"id": 1, "amount": 3, "at": "2026-01-01 00:01:30Z"}]}},
  {"delete": [{"id": 1, "amount": 3, "at": "2026-01-01 00:01:30Z"}]}]');

-- the primary key goes: rows can no longer be told apart by it
ALTER TABLE part DROP CONSTRAINT part_pkey;
DO $$ BEGIN CALL beam.wait_for('quotient'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLSTATE; END $$;
SELECT name, state, error_code, error_message FROM beam.pipelines WHERE name = 'quotient';
INSERT INTO part VALUES (3, 25);
SELECT beam.resync_pipeline('quotient');
CALL beam.wait_for_alter('quotient');
SELECT * FROM quotient ORDER BY id, q;
SELECT beam.drop_pipeline(name) FROM (VALUES ('last_per_minute'), ('per_minute'), ('tick_maximum'), ('ticks')) v (name);
-- it goes and comes back: there may have been rows between which it does not tell apart
CREATE TABLE again (id int PRIMARY KEY, name text);
ALTER TABLE again REPLICA IDENTITY FULL;
INSERT INTO again VALUES (1, 'a');
SELECT beam.create_pipeline('again_keyed', 'SELECT id, name FROM again');
CALL beam.wait_for('again_keyed');
BEGIN;
ALTER TABLE again DROP CONSTRAINT again_pkey;
INSERT INTO again VALUES (1, 'b');
DELETE FROM again WHERE name = 'a';
ALTER TABLE again ADD PRIMARY KEY (id);
COMMIT;
DO $$ BEGIN CALL beam.wait_for('again_keyed'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE '%', SQLSTATE; END $$;
SELECT name, state, error_code, error_message FROM beam.pipelines WHERE name = 'again_keyed';
SELECT beam.resync_pipeline('again_keyed');
CALL beam.wait_for_alter('again_keyed');
SELECT * FROM again_keyed;
SELECT beam.drop_pipeline('again_keyed');
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE result::text ~ '^(quotient|appended)' ORDER BY name;
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE source = 'item'::regclass ORDER BY name;
SET client_min_messages = warning;
DROP SCHEMA map CASCADE;
