-- Queries that a pipeline cannot run: each is refused at its creation, saying what, where, and what to write instead.
SET client_min_messages = warning;
CREATE SCHEMA refused;
SET search_path = refused;
CREATE TABLE orders (id bigint PRIMARY KEY, created_at timestamptz NOT NULL, local_time timestamp, region text, status text,
                     amount numeric, spot point, price money, note text, tags text[]);
ALTER TABLE orders REPLICA IDENTITY FULL;
CREATE TABLE regions (region text PRIMARY KEY, name text);
ALTER TABLE regions REPLICA IDENTITY FULL;
CREATE VIEW orders_view AS SELECT * FROM orders;
CREATE MATERIALIZED VIEW orders_matview AS SELECT * FROM orders;
CREATE TABLE parent (id bigint, created_at timestamptz, region text);
ALTER TABLE parent REPLICA IDENTITY FULL;
CREATE TABLE child () INHERITS (parent);
ALTER TABLE child REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE unlogged_orders (id bigint, created_at timestamptz);
CREATE TEMP TABLE temp_orders (id bigint, created_at timestamptz);
CREATE SEQUENCE order_ids;
CREATE FOREIGN DATA WRAPPER refused_fdw;
CREATE SERVER refused_server FOREIGN DATA WRAPPER refused_fdw;
CREATE FOREIGN TABLE foreign_orders (id bigint, created_at timestamptz) SERVER refused_server;
CREATE FUNCTION wild(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1 + 1';
CREATE FUNCTION hidden_clock(timestamptz) RETURNS interval LANGUAGE sql STABLE AS 'SELECT now() - $1';
CREATE FUNCTION wild_window(timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz)
    LANGUAGE sql VOLATILE AS 'SELECT $1, $1';
CREATE FUNCTION text_window(text) RETURNS TABLE (window_start timestamptz, window_end timestamptz)
    LANGUAGE sql IMMUTABLE AS 'SELECT $1::timestamptz, $1::timestamptz';
CREATE FUNCTION wide_window(timestamptz) RETURNS TABLE (window_start timestamptz, window_end timestamptz, n int)
    LANGUAGE sql IMMUTABLE AS 'SELECT $1, $1, 1';
CREATE FUNCTION bare_window(timestamptz) RETURNS SETOF record LANGUAGE sql IMMUTABLE AS 'SELECT $1, $1';
CREATE FUNCTION odd_window(timestamptz) RETURNS TABLE (window_start timestamp, window_end timestamp)
    LANGUAGE sql IMMUTABLE AS 'SELECT $1::timestamp, $1::timestamp';

SELECT beam.create_pipeline('p', $$INSERT INTO regions VALUES ('a')$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) INTO other FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$VALUES (1), (2)$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*)$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM no_such_table$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$WITH x AS (SELECT * FROM orders) SELECT count(*) FROM x$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders UNION ALL SELECT count(*) FROM regions$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT DISTINCT count(*) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT DISTINCT ON (region) region, count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY region ORDER BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY region LIMIT 10$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY region OFFSET 10$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY region FOR UPDATE$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, sum(count(*)) OVER () FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY ROLLUP (region)$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY GROUPING SETS ((region), ())$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, grouping(region), count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*), generate_series(1, 3) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*), beam.tumble(max(created_at), '1 minute') FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*), (SELECT max(name) FROM regions) AS name FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE region IN (SELECT region FROM regions)$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT sum(sum(amount)) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE amount > $1$$); \echo :SQLSTATE

SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders_view$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders_matview$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM parent$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM child$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM unlogged_orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM temp_orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM order_ids$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM foreign_orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT relkind, count(*) FROM pg_class GROUP BY relkind$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM information_schema.sql_features$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT o.region, count(*) FROM orders o, regions r WHERE o.region = r.region GROUP BY o.region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT o.region, r.name, count(*) FROM orders o JOIN regions r USING (region) GROUP BY o.region, r.name$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT s.region, count(*) FROM (SELECT * FROM orders) s GROUP BY s.region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT v.a, count(*) FROM (VALUES (1), (2)) v(a) GROUP BY v.a$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders TABLESAMPLE SYSTEM (10)$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT x.a, count(*) FROM XMLTABLE('/r' PASSING (xmlparse(document '<r/>')) COLUMNS a int) x GROUP BY x.a$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(o) FROM orders o$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT tableoid, count(*) FROM orders GROUP BY tableoid$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE xmin IS NOT NULL$$); \echo :SQLSTATE

SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT o.region, count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY o.region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY w.window_start$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY w.window_start$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT date_trunc('hour', w.window_start) AS hour, count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY 1, w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w WHERE w.window_start > '2020-01-01' GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT max(o.created_at - w.window_start) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(w) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o LEFT JOIN LATERAL beam.tumble(o.created_at, '1 minute') w ON true GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') WITH ORDINALITY w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, ROWS FROM (beam.tumble(o.created_at, '1 minute'), generate_series(1, 2)) w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT v.window_start, v.window_end, count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') v, beam.tumble(o.created_at, '1 hour') w GROUP BY v.window_start, v.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.region, '1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble('2020-01-01', '1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.created_at, o.amount * interval '1 s') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(now(), '1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, beam.tumble(o.created_at, '-1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM beam.tumble('2020-01-01', '1 minute') w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT g, count(*) FROM orders o, generate_series(1, 3) g GROUP BY g$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, odd_window(o.created_at) w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, bare_window(o.created_at) w(window_start timestamptz, window_end timestamptz) GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, wild_window(o.created_at) w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders o, text_window(o.region) w GROUP BY w.window_start, w.window_end$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT w.n, count(*) FROM orders o, wide_window(o.created_at) w GROUP BY w.window_start, w.window_end, w.n$$); \echo :SQLSTATE

SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT upper(region), count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT price, count(*) FROM orders GROUP BY price$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders GROUP BY spot$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT id, region, count(*) FROM orders GROUP BY id$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT id, count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, upper(region) AS region, count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*), count(amount) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) AS op FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) AS xmin FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT ROW(count(*), sum(amount)) AS pair FROM orders$$); \echo :SQLSTATE

SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE random() < 0.5$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT 'größe' AS größe, sum(wild(id::int)) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, nextval('order_ids') AS n, count(*) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE created_at > now() - interval '1 day'$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE created_at > current_timestamp$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT created_at::date = current_date AS today, count(*) FROM orders GROUP BY 1$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY region HAVING count(*) > 1 AND localtime > '12:00'$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT max(age(created_at)) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FILTER (WHERE region = current_user) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*), current_setting('work_mem') FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*), txid_current() FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE hidden_clock(created_at) < '1 hour'$$); \echo :SQLSTATE
-- a function that reads a table is not a function of its arguments, wherever it stands
CREATE FUNCTION looked_up(text) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT count(*) FROM regions WHERE $1 IS NOT NULL';
CREATE FUNCTION stable_add(numeric, numeric) RETURNS numeric LANGUAGE sql STABLE AS 'SELECT $1 + $2';
CREATE AGGREGATE stable_sum(numeric) (SFUNC = stable_add, STYPE = numeric, INITCOND = '0');
SELECT beam.create_pipeline('p', $$SELECT sum(id * looked_up(region)) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, count(*) FROM orders GROUP BY region HAVING looked_up(region) > 0$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT stable_sum(id) FROM orders$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, '1 minute') w GROUP BY 1, 2$$, watermark_by => 'looked_up(region)'); \echo :SQLSTATE
-- text knows now and today; the catalogs change; the types in arrays and rows are looked at
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE region::date > '2026-01-01'$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE region::timestamptz[] IS NOT NULL$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE region::regclass = 'orders'::regclass$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT concat(region, max(id)::int::regtype) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE has_table_privilege('orders', region)$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE table_to_xml('orders', true, true, region) IS NULL$$); \echo :SQLSTATE
-- settings are kept with the pipeline
SELECT beam.create_pipeline('allowed', $$SELECT created_at::date AS day, date_trunc('day', created_at) AS hour, to_char(created_at, 'Day') AS name, (created_at + '1 day')::text AS next,
    max(to_timestamp(region, 'YYYY')) AS year, json_agg(created_at) AS list, max(format('%s', created_at::date)) AS text, max(extract(epoch FROM created_at)) AS epoch FROM orders GROUP BY 1, 2, 3, 4$$);
SELECT beam.drop_pipeline('allowed');

SELECT beam.create_pipeline('p', $$SELECT count(*) FROM orders WHERE beam.is_last_pane()$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT beam.pane_index(), count(*) FROM orders GROUP BY 1$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT max(beam.pane_index()) FROM orders$$); \echo :SQLSTATE

SELECT count(*) AS pipelines FROM beam.pipelines;

CREATE ROLE refused_reader;
GRANT USAGE, CREATE ON SCHEMA refused TO refused_reader;
GRANT EXECUTE ON FUNCTION beam.create_pipeline TO refused_reader;
CREATE TABLE guarded (id bigint, owner text);
ALTER TABLE guarded REPLICA IDENTITY FULL;
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON guarded USING (owner = current_user);
GRANT SELECT ON guarded TO refused_reader;
GRANT SELECT (id, region) ON orders TO refused_reader;
CREATE FUNCTION secret_sum_step(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE AGGREGATE secret_sum(numeric) (SFUNC = secret_sum_step, STYPE = numeric);
REVOKE EXECUTE ON FUNCTION secret_sum(numeric) FROM PUBLIC;
SET ROLE refused_reader;
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM guarded$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT count(*) FROM regions$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, sum(amount) FROM orders GROUP BY region$$); \echo :SQLSTATE
SELECT beam.create_pipeline('p', $$SELECT region, secret_sum(id) FROM orders GROUP BY region$$); \echo :SQLSTATE
RESET ROLE;

DROP FOREIGN DATA WRAPPER refused_fdw CASCADE;
DROP SCHEMA refused CASCADE;
DROP OWNED BY refused_reader;
DROP ROLE refused_reader;
