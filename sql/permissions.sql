-- Who may do what; and what a pipeline's owner can make the workers do: nothing but what he may do himself.
SET client_min_messages = warning;
CREATE ROLE beam_alice;
CREATE ROLE beam_bob;
CREATE ROLE beam_team;
CREATE ROLE beam_carol IN ROLE beam_team;
CREATE SCHEMA alice AUTHORIZATION beam_alice;
CREATE SCHEMA bob AUTHORIZATION beam_bob;
CREATE SCHEMA team AUTHORIZATION beam_team;
CREATE SCHEMA common;
GRANT USAGE ON SCHEMA common TO PUBLIC;
CREATE TABLE common.secret (v text);
ALTER TABLE common.secret REPLICA IDENTITY FULL;
INSERT INTO common.secret VALUES ('do not tell');
CREATE TABLE common.orders (id int, region text, at timestamptz);
ALTER TABLE common.orders REPLICA IDENTITY FULL;
GRANT SELECT, INSERT ON common.orders TO beam_alice;

-- ---- creation needs the right to the function, to the source, and to the schema ----
SET ROLE beam_alice;
SET search_path = alice;
SELECT beam.create_pipeline('p', 'SELECT region, count(*) FROM common.orders GROUP BY region'); \echo :SQLSTATE
SELECT ok, hint FROM beam.check() WHERE item = 'privilege to create pipelines';
RESET ROLE;
GRANT EXECUTE ON FUNCTION beam.create_pipeline TO beam_alice, beam_bob, beam_team;
SET ROLE beam_alice;
SELECT ok, hint FROM beam.check() WHERE item = 'privilege to create pipelines';
SELECT beam.create_pipeline('p', 'SELECT count(*) FROM common.secret'); \echo :SQLSTATE
SELECT beam.create_pipeline('common.p', 'SELECT region, count(*) FROM common.orders GROUP BY region'); \echo :SQLSTATE
SELECT beam.create_pipeline('bob.p', 'SELECT region, count(*) FROM common.orders GROUP BY region'); \echo :SQLSTATE
SELECT beam.create_pipeline('p', 'SELECT region, count(*) FROM common.orders GROUP BY region');
INSERT INTO common.orders VALUES (1, 'north', '2024-01-01');
CALL beam.wait_for('p');
SELECT * FROM p;
-- what was made is hers
SELECT c.relname, c.relkind, pg_get_userbyid(c.relowner) AS owner FROM pg_class c WHERE relnamespace = 'alice'::regnamespace ORDER BY 1;
-- the extension's own tables are nobody's to touch
SELECT * FROM beam.pipeline; \echo :SQLSTATE
UPDATE beam.progress SET rows_in = 0; \echo :SQLSTATE
SELECT * FROM beam_state.cells_1; \echo :SQLSTATE
SELECT beam._installed(); \echo :SQLSTATE
SELECT name, owner FROM beam.pipelines;

-- ---- others ----
SET ROLE beam_bob;
SET search_path = bob;
SELECT count(*) FROM beam.pipelines;
SELECT count(*) FROM beam.stat_pipelines;
SELECT count(*) FROM beam.watermarks;
SELECT beam.pause_pipeline('p'); \echo :SQLSTATE
SELECT beam.resume_pipeline('p'); \echo :SQLSTATE
SELECT beam.drop_pipeline('p'); \echo :SQLSTATE
SELECT beam.explain_pipeline('p'); \echo :SQLSTATE
CALL beam.wait_for('p'); \echo :SQLSTATE
SELECT beam.create_pipeline('q', 'SELECT region, count(*) FROM common.orders GROUP BY region'); \echo :SQLSTATE
-- who may read the result may wait for it
SET ROLE beam_alice;
GRANT USAGE ON SCHEMA alice TO beam_bob;
GRANT SELECT ON alice.p TO beam_bob;
SET ROLE beam_bob;
CALL beam.wait_for('p');
SELECT * FROM alice.p;
-- a member of the owning role may do what the role may
SET ROLE beam_team;
CREATE TABLE team.ev (n int);
ALTER TABLE team.ev REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('team.sums', 'SELECT sum(n) FROM team.ev');
SET ROLE beam_carol;
SELECT name FROM beam.pipelines;
SELECT beam.pause_pipeline('sums');
SELECT beam.resume_pipeline('sums');
RESET ROLE;
SELECT beam.drop_pipeline('sums');

-- ---- rights that are taken away ----
SELECT beam.pause_pipeline('p');
REVOKE SELECT ON common.orders FROM beam_alice;
INSERT INTO common.orders VALUES (2, 'north', '2024-01-01');
SET ROLE beam_alice;
SELECT beam.resume_pipeline('p');
CALL beam.wait_for('p'); \echo :SQLSTATE
SELECT state, error_code, error_message FROM beam.pipelines;
SELECT * FROM alice.p;
RESET ROLE;
GRANT SELECT ON common.orders TO beam_alice;
SET ROLE beam_alice;
SELECT beam.resume_pipeline('p');
CALL beam.wait_for('p');
SELECT * FROM alice.p;
SELECT beam.drop_pipeline('p');

-- of a running pipeline too, whichever right it is: the table's, a function's, a role's that had it
RESET ROLE;
CREATE FUNCTION common.twice(n int) RETURNS int LANGUAGE sql IMMUTABLE STRICT RETURN n * 2;
REVOKE ALL ON FUNCTION common.twice FROM PUBLIC;
CREATE ROLE beam_readers;
GRANT SELECT ON common.orders TO beam_readers;
GRANT EXECUTE ON FUNCTION common.twice TO beam_alice;
GRANT beam_readers TO beam_alice;
TRUNCATE common.orders;
SET search_path = alice;
SET ROLE beam_alice;
SELECT beam.create_pipeline('p', 'SELECT common.twice(id) AS k, count(*) FROM common.orders GROUP BY 1');
CALL beam.wait_for('p');
RESET ROLE;
CREATE PROCEDURE wait_failed() LANGUAGE plpgsql AS $$BEGIN
    LOOP
        CALL beam.wait_for('p', '10 s');
    END LOOP;
EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
END$$;
REVOKE EXECUTE ON FUNCTION common.twice FROM beam_alice;
CALL wait_failed();
SELECT state, error_code, error_message FROM beam.pipelines;
GRANT EXECUTE ON FUNCTION common.twice TO beam_alice;
REVOKE SELECT ON common.orders FROM beam_alice;
SELECT beam.resume_pipeline('p');
CALL beam.wait_for('p');
REVOKE beam_readers FROM beam_alice;
CALL wait_failed();
SELECT state, error_code, error_message FROM beam.pipelines;
INSERT INTO common.orders VALUES (3, 'north', '2024-01-01');
SELECT count(*) FROM alice.p WHERE k = 6;
GRANT SELECT ON common.orders TO beam_alice;
SELECT beam.resume_pipeline('p');
CALL beam.wait_for('p');
-- nor may a pipeline see the rows of a table that shows each role its own
ALTER TABLE common.orders ENABLE ROW LEVEL SECURITY;
CALL wait_failed();
SELECT state, error_code, error_message FROM beam.pipelines;
INSERT INTO common.orders VALUES (4, 'north', '2024-01-01');
ALTER TABLE common.orders DISABLE ROW LEVEL SECURITY;
SELECT beam.resume_pipeline('p');
CALL beam.wait_for('p');
SELECT * FROM alice.p ORDER BY k;
SELECT beam.drop_pipeline('p');
DROP PROCEDURE wait_failed;
DROP FUNCTION common.twice;
DROP OWNED BY beam_readers;
DROP ROLE beam_readers;
SET ROLE beam_alice;

-- ---- a schema that is called like that of pg_cron ----
RESET ROLE;
CREATE SCHEMA cron AUTHORIZATION beam_bob;
SET ROLE beam_bob;
SET search_path = bob;
CREATE TABLE bob.mine (n int);
ALTER TABLE bob.mine REPLICA IDENTITY FULL;
CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql RETURN 1;
SELECT beam.create_pipeline('bobs', 'SELECT sum(n) FROM bob.mine');
SELECT beam.schedule_backfill('bobs', '* * * * *', '1 day'); \echo :SQLSTATE
SELECT beam.drop_pipeline('bobs');
RESET ROLE;
DROP SCHEMA cron CASCADE;
SET ROLE beam_alice;

-- ---- names ----
SET search_path = alice;
CREATE TABLE "a ""quoted""
table; DROP TABLE notes; --" ("in ""it""
" int, "at" timestamptz);
ALTER TABLE "a ""quoted""
table; DROP TABLE notes; --" REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('"p ""of""
it; --"', $$SELECT "in ""it""
" AS "k '""
", count(*) AS "n""
;" FROM "a ""quoted""
table; DROP TABLE notes; --" t, beam.tumble(t.at, '1 minute') w GROUP BY w.window_start, w.window_end, "in ""it""
"$$, allowed_lateness => '1 hour');
INSERT INTO "a ""quoted""
table; DROP TABLE notes; --" VALUES (1, '2024-01-01'), (2, '2024-01-01');
CALL beam.wait_for(E'p "of"\nit; --');
INSERT INTO "a ""quoted""
table; DROP TABLE notes; --" VALUES (2, '2023-01-01');
UPDATE "a ""quoted""
table; DROP TABLE notes; --" SET "in ""it""
" = 3 WHERE "in ""it""
" = 1;
CALL beam.wait_for(E'p "of"\nit; --');
SELECT * FROM "p ""of""
it; --" ORDER BY 1, 3;
SELECT name, late_events FROM beam.stat_pipelines;
SELECT pipeline, data FROM beam.late_events;
-- others do not see them
SET ROLE beam_bob;
SELECT count(*) FROM beam.late_events;
SET ROLE beam_alice;
TRUNCATE "a ""quoted""
table; DROP TABLE notes; --";
CALL beam.wait_for(E'p "of"\nit; --');
SELECT count(*) FROM "p ""of""
it; --";
SELECT beam.drop_pipeline(E'p "of"\nit; --');

-- ---- what an expression can do ----
SET search_path = alice;
CREATE TABLE ev (n int);
ALTER TABLE ev REPLICA IDENTITY FULL;
CREATE TABLE notes (v text);
ALTER TABLE notes REPLICA IDENTITY FULL;
-- tells who runs it; declared stable, though it is not
CREATE FUNCTION who(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN current_user; END$$;
CREATE FUNCTION peek(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN (SELECT v FROM common.secret); END$$;
-- what a stable function may not do, a volatile one may that it calls
CREATE FUNCTION perform(what text) RETURNS text LANGUAGE plpgsql VOLATILE AS $$BEGIN EXECUTE what; RETURN 'done as ' || current_user; END$$;
CREATE FUNCTION become(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('SET ROLE postgres'); END$$;
CREATE FUNCTION unbecome(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('RESET ROLE'); END$$;
CREATE FUNCTION session_become(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('RESET SESSION AUTHORIZATION'); END$$;
CREATE FUNCTION config_become(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN set_config('role', 'postgres', false); END$$;
CREATE FUNCTION promote(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('ALTER ROLE beam_alice SUPERUSER'); END$$;
CREATE FUNCTION make(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('CREATE TEMP TABLE rows (region text)'); END$$;
CREATE FUNCTION leave(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('COMMIT'); END$$;
CREATE FUNCTION listen(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('LISTEN x'); END$$;
CREATE FUNCTION prepare(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('DEALLOCATE ALL'); END$$;
CREATE FUNCTION state(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN perform('UPDATE beam.progress SET rows_in = 0'); END$$;
-- the first says beam_alice, all others fail
SELECT beam.create_pipeline('as_' || f, format('SELECT %I(n) AS v, count(*) FROM ev GROUP BY 1', f))
  FROM unnest('{who,peek,become,unbecome,session_become,config_become,promote,make,leave,listen,prepare,state}'::text[]) f;
INSERT INTO ev VALUES (1);
CREATE PROCEDURE wait_all() LANGUAGE plpgsql AS $$
DECLARE name text;
BEGIN
    FOR name IN SELECT p.name FROM beam.pipelines p ORDER BY p.name LOOP
        BEGIN
            CALL beam.wait_for(name);
        EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
        END;
    END LOOP;
END $$;
CALL wait_all();
-- 16 has other words for what is not to be promoted
SELECT name, state, error_code, regexp_replace(error_message, '^must be superuser to alter .*', 'permission denied to alter role') AS error_message
  FROM beam.pipelines ORDER BY name;
SELECT pipeline, sqlstate, message FROM beam.dead_letters ORDER BY pipeline;
SELECT v FROM as_who;
RESET ROLE;
SELECT rolname, rolsuper FROM pg_roles WHERE rolname = 'beam_alice';
SET ROLE beam_alice;
SELECT beam.drop_pipeline(name) FROM (SELECT name FROM beam.pipelines ORDER BY name) p;

-- ---- the session of the runner is not the function's to change ----
RESET ROLE;
SELECT pid AS runner FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND datname = current_database() \gset
SET ROLE beam_alice;
TRUNCATE ev;
CREATE FUNCTION set_path(n int) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$BEGIN
    PERFORM set_config('search_path', 'alice, pg_catalog', false), set_config('default_transaction_read_only', 'on', false),
            set_config('timezone', 'Asia/Tokyo', false), set_config('lock_timeout', '1ms', false);
    RETURN n;
END $$;
SELECT beam.create_pipeline('changes', 'SELECT set_path(n) AS v, count(*) FROM ev GROUP BY 1');
SELECT beam.create_pipeline('reads', 'SELECT sum(n), array_agg(to_timestamp(n)::text) AS at FROM ev');
INSERT INTO ev VALUES (1);
CALL wait_all();
INSERT INTO ev VALUES (2);
CALL wait_all();
SELECT name, state, error_code, error_message FROM beam.pipelines ORDER BY name;
SELECT * FROM changes ORDER BY v;
TABLE reads;
RESET ROLE;
SELECT pid = :runner AS runner_is_the_same FROM pg_stat_activity WHERE backend_type = 'stream_beam runner' AND datname = current_database();
SET ROLE beam_alice;
SELECT beam.drop_pipeline(name) FROM (SELECT name FROM beam.pipelines ORDER BY name) p;

-- ---- names that the workers use, taken by somebody else ----
TRUNCATE ev;
SET search_path = alice, pg_catalog;
CREATE TABLE rows (n int);
ALTER TABLE rows REPLICA IDENTITY FULL;
INSERT INTO rows VALUES (666);
CREATE FUNCTION evil(a text, b text) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.notes VALUES ('evil as ' || current_user); RETURN false; END$$;
CREATE FUNCTION evil(a int, b int) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.notes VALUES ('evil as ' || current_user); RETURN false; END$$;
CREATE FUNCTION evil(a timestamptz, b timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.notes VALUES ('evil as ' || current_user); RETURN false; END$$;
CREATE OPERATOR = (LEFTARG = text, RIGHTARG = text, FUNCTION = evil);
CREATE OPERATOR = (LEFTARG = int, RIGHTARG = int, FUNCTION = evil);
CREATE OPERATOR = (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil);
CREATE OPERATOR <> (LEFTARG = int, RIGHTARG = int, FUNCTION = evil);
CREATE FUNCTION now() RETURNS timestamptz LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.notes VALUES ('now as ' || current_user); RETURN '2000-01-01'; END$$;
CREATE FUNCTION unnest(anyarray) RETURNS SETOF anyelement LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.notes VALUES ('unnest as ' || current_user); RETURN; END$$;
GRANT INSERT ON notes TO PUBLIC;
GRANT USAGE ON SCHEMA alice TO PUBLIC;
CREATE TABLE timed (at timestamptz, key int, "Key" text);
ALTER TABLE timed REPLICA IDENTITY FULL;
SELECT beam.create_pipeline('taken', 'SELECT key, "Key" AS "rows", count(*) FROM timed, beam.session(at, ''1 minute'') w GROUP BY w.window_start, w.window_end, key, "Key" HAVING count(*) OPERATOR(pg_catalog.<>) 2', allowed_lateness => '1 hour');
INSERT INTO timed VALUES ('2024-01-01 00:00:00+00', 1, 'x'), ('2024-01-01 00:02:00+00', 1, NULL);
CALL beam.wait_for('taken');
INSERT INTO timed VALUES ('2024-01-01 00:00:30+00', 1, 'x'), ('2024-01-01 00:02:30+00', NULL, NULL);
CALL beam.wait_for('taken');
INSERT INTO timed VALUES ('2024-01-01 00:00:59+00', 1, 'x'), ('2024-01-01 00:02:31+00', NULL, NULL), ('1999-01-01 00:00:00+00', NULL, NULL);
CALL beam.wait_for('taken');
SELECT key, "rows", count FROM taken ORDER BY window_start, key NULLS LAST;
SELECT pipeline, sqlstate, message FROM beam.dead_letters;
SELECT event_time FROM beam.late_events;
SELECT beam.drop_pipeline('taken');
TABLE notes;
RESET search_path;

-- ---- a result that does not let its rows in ----
SET search_path = alice;
DROP TABLE rows;
TRUNCATE ev;
SELECT beam.create_pipeline('checked', 'SELECT n, count(*), max(1 / (n - 14)) FROM ev GROUP BY n');
ALTER TABLE checked ADD CHECK (n OPERATOR(pg_catalog.<>) 13);
INSERT INTO ev SELECT * FROM generate_series(1, 20);
CALL beam.wait_for('checked');
SELECT count(*), min(n), max(n) FROM checked;
SELECT pipeline, data, sqlstate, message FROM beam.dead_letters;
SELECT pipeline, key, sqlstate, message FROM beam.failed_groups;
-- others do not see them
SET ROLE beam_bob;
SELECT count(*) FROM beam.dead_letters;
SELECT count(*) FROM beam.failed_groups;
SET ROLE beam_alice;
SELECT beam.drop_pipeline('checked');

-- ---- a trigger on the result runs as the owner, too ----
TRUNCATE ev;
DROP OPERATOR alice.= (text, text);
DROP OPERATOR alice.= (int, int);
DROP OPERATOR alice.= (timestamptz, timestamptz);
DROP OPERATOR alice.<> (int, int);
SELECT beam.create_pipeline('watched', 'SELECT n, count(*) FROM ev GROUP BY n');
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO alice.notes VALUES ('trigger as ' || current_user); RETURN NEW; END$$;
CREATE TRIGGER note AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO ev VALUES (1);
CALL beam.wait_for('watched');
TABLE notes;
SELECT beam.drop_pipeline('watched');
-- and what would wait until the end of the transaction, when the owner's rights are no longer in force, is refused
TRUNCATE ev;
TRUNCATE notes;
SELECT beam.create_pipeline('watched', 'SELECT n, count(*) FROM ev GROUP BY n');
CREATE CONSTRAINT TRIGGER note AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO ev VALUES (1);
CALL beam.wait_for('watched');
SELECT name, state, error_message FROM beam.pipelines;
TABLE notes;
SELECT beam.drop_pipeline('watched');

-- ---- SECURITY DEFINER ----
RESET ROLE;
CREATE FUNCTION common.make(name text) RETURNS regclass LANGUAGE sql SECURITY DEFINER SET search_path = alice AS
    $$SELECT beam.create_pipeline(name, 'SELECT count(*) FROM alice.ev')$$;
ALTER FUNCTION common.make OWNER TO beam_alice;
TRUNCATE alice.ev;
SET ROLE beam_bob;
SELECT common.make('by_proxy');
RESET ROLE;
SELECT name, owner FROM beam.pipelines;

-- ---- the owner goes ----
SELECT beam.pause_pipeline('by_proxy');
\set VERBOSITY terse
DROP ROLE beam_alice; \echo :SQLSTATE
\set VERBOSITY default
REASSIGN OWNED BY beam_alice TO beam_bob;
SELECT c.relname, pg_get_userbyid(c.relowner) AS owner FROM pg_class c WHERE relname ~ 'by_proxy' ORDER BY 1;
-- the pipeline goes with its result, and all of it is his now
INSERT INTO alice.ev VALUES (1);
SELECT beam.resume_pipeline('by_proxy');
CALL beam.wait_for('by_proxy'); \echo :SQLSTATE
SELECT name, owner FROM beam.pipelines;
SELECT beam.drop_pipeline('by_proxy');

DROP SCHEMA alice, bob, team, common CASCADE;
DROP OWNED BY beam_alice, beam_bob, beam_team, beam_carol;
DROP ROLE beam_alice, beam_bob, beam_team, beam_carol;
SELECT count(*) FROM beam.pipelines;
