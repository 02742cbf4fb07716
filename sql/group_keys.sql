-- Group keys: whatever happens to their type, and types that cannot be keys
\set VERBOSITY default
CREATE TYPE gk_address AS (street text, number int);
CREATE TABLE gk_row (a int, b text);
CREATE TYPE gk_colour AS ENUM ('blue', 'red');
CREATE TABLE gk (id int PRIMARY KEY, a gk_address, list gk_address[], r gk_row, e gk_colour, v int);
ALTER TABLE gk REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('by_type', 'SELECT a, count(*) AS n, sum(v) AS s FROM gk GROUP BY a');
SELECT beam.create_pipeline('by_array', 'SELECT list, count(*) AS n FROM gk GROUP BY list');
SELECT beam.create_pipeline('by_row', 'SELECT r, count(*) AS n FROM gk GROUP BY r');
SELECT beam.create_pipeline('by_enum', 'SELECT e, count(*) AS n FROM gk GROUP BY e');
SELECT beam.create_pipeline('by_type_rows', 'SELECT count(*) AS keys, sum(n) AS n FROM by_type');
INSERT INTO gk SELECT i, ROW('x', 1)::gk_address, ARRAY[ROW('x', 1)::gk_address], ROW(1, 'b')::gk_row, 'red'::gk_colour, i FROM generate_series(1, 3) i;
CALL beam.wait_for('by_type');

-- it gains an attribute: equal keys have one group
ALTER TYPE gk_address ADD ATTRIBUTE town text;
ALTER TABLE gk_row ADD COLUMN c int;
ALTER TYPE gk_colour ADD VALUE 'green' BEFORE 'red';
INSERT INTO gk VALUES (4, ('x', 1, NULL), ARRAY[('x', 1, NULL)::gk_address], (1, 'b', NULL), 'green', 4), (5, ('x', 1, 'y'), NULL, (1, 'b', 2), 'red', 5);
CALL beam.wait_for('by_type');
CALL beam.wait_for('by_array');
CALL beam.wait_for('by_row');
CALL beam.wait_for('by_enum');
CALL beam.wait_for('by_type_rows');
SELECT * FROM by_type ORDER BY a;
SELECT * FROM by_array ORDER BY list;
SELECT * FROM by_row ORDER BY r;
SELECT * FROM by_enum ORDER BY e;
SELECT * FROM by_type_rows;

-- it loses one: keys that differed in it are equal
ALTER TYPE gk_address DROP ATTRIBUTE town;
ALTER TABLE gk_row DROP COLUMN c;
DELETE FROM gk WHERE id = 1;
CALL beam.wait_for('by_type');
CALL beam.wait_for('by_row');
CALL beam.wait_for('by_type_rows');
SELECT * FROM by_type ORDER BY a;
SELECT * FROM by_row ORDER BY r;
SELECT * FROM by_type_rows;
SELECT name, state FROM beam.pipelines WHERE name LIKE 'by\_%' ORDER BY name;
SELECT beam.drop_pipeline('by_type_rows');
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'by\_%' ORDER BY name;

-- the key shown is that of a row which is in the group
CREATE TABLE gk3 (id int PRIMARY KEY, n numeric, f float8, a numeric[], at timestamptz);
ALTER TABLE gk3 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('by_n', 'SELECT n, f, count(*) AS c FROM gk3 GROUP BY n, f');
SELECT beam.create_pipeline('by_a', 'SELECT a FROM gk3 GROUP BY a');
SELECT beam.create_pipeline('by_s', $$SELECT w.window_start, w.window_end, n, count(*) AS c FROM gk3, beam.session(at, '1 hour') w GROUP BY 1, 2, 3$$);
SELECT beam.create_pipeline('by_n_rows', 'SELECT n, sum(c) AS c FROM by_n GROUP BY n');
INSERT INTO gk3 VALUES (1, 1.0, '-0', '{1.0}', '2026-01-01'), (2, 1.00, 0, '{1.00}', '2026-01-01'), (3, 1.00, 0, '{1.00}', '2026-01-01');
CALL beam.wait_for('by_n');
CALL beam.wait_for('by_a');
SELECT n, f, c, a FROM by_n, by_a;
DELETE FROM gk3 WHERE id = 1;
CALL beam.wait_for('by_n');
CALL beam.wait_for('by_a');
CALL beam.wait_for('by_s');
CALL beam.wait_for('by_n_rows');
SELECT n, f, c, a, (SELECT n FROM by_s) AS s, (SELECT n FROM by_n_rows) AS r FROM by_n, by_a;
UPDATE gk3 SET n = 1, a = '{1}', f = '-0';
CALL beam.wait_for('by_n');
CALL beam.wait_for('by_a');
CALL beam.wait_for('by_s');
CALL beam.wait_for('by_n_rows');
SELECT n, f, c, a, (SELECT n FROM by_s) AS s, (SELECT n FROM by_n_rows) AS r FROM by_n, by_a;
SELECT beam.drop_pipeline('by_n_rows');
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'by\_%' ORDER BY name;

-- types that have no hash or no order, also within others
CREATE TYPE gk_xid AS (x xid);
CREATE TABLE gk2 (x xid, xs xid[], cx gk_xid, m money, v int, at timestamptz);
ALTER TABLE gk2 REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('refused', 'SELECT x, count(*) AS n FROM gk2 GROUP BY x');
SELECT beam.create_pipeline('refused', 'SELECT xs, count(*) AS n FROM gk2 GROUP BY xs');
SELECT beam.create_pipeline('refused', 'SELECT cx, count(*) AS n FROM gk2 GROUP BY cx');
SELECT beam.create_pipeline('refused', 'SELECT m, count(*) AS n FROM gk2 GROUP BY m');
SELECT beam.create_pipeline('refused', 'SELECT (v, v) AS r, count(*) AS n FROM gk2 GROUP BY 1');
\set VERBOSITY terse
SELECT format('SELECT %s, count(*) AS n FROM gk2 GROUP BY %s', string_agg('v + ' || i || ' AS k' || i, ', '), string_agg(i::text, ', ')) AS query FROM generate_series(1, 33) i \gset
SELECT beam.create_pipeline('refused', :'query');
SELECT format('SELECT w.window_start, w.window_end, %s, count(*) AS n FROM gk2, beam.tumble(at, ''1 hour'') w GROUP BY 1, 2, %s', string_agg('v + ' || i || ' AS k' || i, ', '), string_agg((i + 2)::text, ', ')) AS query FROM generate_series(1, 31) i \gset
SELECT beam.create_pipeline('refused', :'query');

-- as many as PostgreSQL can have in an index; and none, in words
SELECT format('SELECT %s, count(*) AS n FROM gk2 GROUP BY %s', string_agg('v + ' || i || ' AS k' || i, ', '), string_agg(i::text, ', ')) AS query FROM generate_series(1, 32) i \gset
SELECT beam.create_pipeline('gk_most', :'query');
SELECT beam.create_pipeline('gk_none', 'SELECT count(*) AS n, sum(v) AS s FROM gk2 GROUP BY ()');
TABLE gk_none;
INSERT INTO gk2 (v) VALUES (1), (1), (2);
CALL beam.wait_for('gk_none');
TABLE gk_none;
SELECT k1, k32, n FROM gk_most ORDER BY k1;
SELECT beam.drop_pipeline(name) FROM beam.pipelines WHERE name LIKE 'gk%' ORDER BY name;
DROP TABLE gk, gk2, gk3, gk_row;
DROP TYPE gk_address, gk_colour, gk_xid;
