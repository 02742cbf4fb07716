\echo Use "ALTER EXTENSION stream_beam UPDATE TO '0.2.0'" to load this file. \quit

-- The watermark can be split by an expression over the source. Before the views that have all columns.
ALTER TABLE beam.pipeline ADD COLUMN watermark_by pg_catalog.text;

-- Rows may be as late as they are. Pipelines keep the limit that they have.
ALTER TABLE beam.pipeline ALTER COLUMN allowed_lateness DROP NOT NULL;

-- Pipelines that were put aside, to be tried again; written by the runner alone, and by nobody that could have it locked (runner/sb_aside.c).
CREATE TABLE beam.retry (
    pipeline         pg_catalog.int4 PRIMARY KEY,
    tries            pg_catalog.int4 NOT NULL,
    position         pg_catalog.pg_lsn NOT NULL,        -- it failed at it, or before
    retry_at         pg_catalog.timestamptz NOT NULL,
    error_code       pg_catalog.text NOT NULL,
    error_message    pg_catalog.text NOT NULL,
    error_at         pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON beam.retry FROM PUBLIC;

-- What is retrying says so.
CREATE OR REPLACE VIEW beam.pipelines WITH (security_barrier) AS
SELECT p.name,
       CASE WHEN r.pipeline IS NOT NULL AND p.state OPERATOR(pg_catalog.=) 'running' THEN 'retrying' ELSE p.state END AS state,
       p.source::pg_catalog.regclass AS source,
       p.result::pg_catalog.regclass AS result,
       p.view::pg_catalog.regclass AS batch_view,
       pg_catalog.pg_get_userbyid(p.owner) AS owner,
       p.trigger,
       p.accumulation,
       CASE WHEN p.retractable THEN 'changes' ELSE 'append_only' END AS source_mode,
       p.timestamp_combiner,
       p.on_time,
       p.closing,
       p.watermark_delay OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval AS watermark,
       p.allowed_lateness OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval AS allowed_lateness,
       p.idle_timeout OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval AS idle_timeout,
       g.position,
       COALESCE(p.error_code, r.error_code) AS error_code,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN COALESCE(p.error_message, r.error_message) END AS error_message,
       COALESCE(p.error_at, r.error_at) AS error_at,
       p.created_at,
       p.version,
       n.version AS next_version,
       CASE WHEN nr.pipeline IS NOT NULL AND n.state OPERATOR(pg_catalog.=) 'running' THEN 'retrying' ELSE n.state END AS next_state,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN COALESCE(n.error_message, nr.error_message) END AS next_error_message
  FROM beam.pipeline p
  LEFT JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
  LEFT JOIN beam.pipeline n ON n.name OPERATOR(pg_catalog.=) p.name AND n.stage OPERATOR(pg_catalog.=) 'building'
  LEFT JOIN beam.retry r ON r.pipeline OPERATOR(pg_catalog.=) p.id
  LEFT JOIN beam.retry nr ON nr.pipeline OPERATOR(pg_catalog.=) n.id
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND beam._may_see(p.owner, p.result)
UNION ALL
SELECT d.name,
       'needs_resync',
       NULL,
       d.result,
       d.view,
       pg_catalog.pg_get_userbyid(d.owner),
       p.trigger,
       p.accumulation,
       CASE WHEN p.retractable THEN 'changes' ELSE 'append_only' END,
       p.timestamp_combiner,
       p.on_time,
       p.closing,
       p.watermark_delay OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,
       p.allowed_lateness OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,
       p.idle_timeout OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval,
       NULL,
       '55000',
       'it was restored from a dump: its result is as of the dump, its state is to be made from the source',
       NULL,
       NULL,
       NULL,
       NULL,
       NULL,
       NULL
  FROM beam._restored_definition d
 CROSS JOIN LATERAL pg_catalog.jsonb_populate_record(NULL::beam.pipeline, d.settings) p
 WHERE beam._may_see(d.owner, d.result);

CREATE OR REPLACE VIEW beam.stat_pipelines WITH (security_barrier) AS
SELECT p.name,
       CASE WHEN r.pipeline IS NOT NULL AND p.state OPERATOR(pg_catalog.=) 'running' THEN 'retrying' ELSE p.state END AS state,
       g.rows_in,
       g.bundles,
       g.panes,
       g.late AS late_events,
       g.dead AS dead_letters,
       g.cells,
       g.position,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), g.position) AS lag_bytes,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.decoded_lsn) AS reader_lag_bytes,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), s.restart_lsn) AS retained_bytes,
       CASE WHEN s.transaction_lsn OPERATOR(pg_catalog.<) COALESCE(least.position, s.decoded_lsn) THEN s.held_by
            WHEN least.id OPERATOR(pg_catalog.=) p.id THEN 'this pipeline'
            WHEN beam._may_see(least.owner, least.result) THEN pg_catalog.format('pipeline %I', least.name)
            WHEN least.id IS NOT NULL THEN 'a pipeline of another role'
       END AS held_by,
       g.commit_time,
       g.updated_at
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 CROSS JOIN beam._slot() s
  LEFT JOIN beam.retry r ON r.pipeline OPERATOR(pg_catalog.=) p.id
  LEFT JOIN (SELECT l.id, l.name, l.owner, l.result, k.position
               FROM beam.pipeline l
               JOIN beam.progress k ON k.pipeline OPERATOR(pg_catalog.=) l.id
              WHERE l.upstream OPERATOR(pg_catalog.=) 0 AND l.state OPERATOR(pg_catalog.<>) 'needs_resync'
              ORDER BY k.position, l.id LIMIT 1) least ON true
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND beam._may_see(p.owner, p.result);

-- The frontier is for who may read it.
CREATE OR REPLACE VIEW beam.stat_backfill WITH (security_barrier) AS
SELECT b.pipeline,
       b.kind,
       b.state,
       b.range_from,
       b.range_to,
       b.rows,
       b.estimated_rows,
       CASE WHEN b.share OPERATOR(pg_catalog.>=) 1 THEN 100
            ELSE LEAST(99, pg_catalog.round((100 OPERATOR(pg_catalog.*) b.share)::pg_catalog.numeric, 1)) END AS percent,
       pg_catalog.round((b.rows OPERATOR(pg_catalog./) b.seconds)::pg_catalog.numeric) AS rows_per_second,
       CASE WHEN b.share OPERATOR(pg_catalog.>=) 1 THEN '0'::pg_catalog.interval
            WHEN b.share OPERATOR(pg_catalog.>) 0 AND b.finished_at IS NULL
            THEN pg_catalog.date_trunc('second', b.seconds OPERATOR(pg_catalog.*) (1 OPERATOR(pg_catalog.-) b.share) OPERATOR(pg_catalog./) b.share OPERATOR(pg_catalog.*) '1 second'::pg_catalog.interval) END AS time_left,
       b.by,
       b.frontier,
       b.chunks,
       b.started_at,
       b.finished_at
  FROM (SELECT p.owner,
               p.result,
               p.name AS pipeline,
               CASE WHEN p.reason OPERATOR(pg_catalog.=) 'backfill()' THEN 'backfill' ELSE 'history' END AS kind,
               CASE WHEN h.finished_at IS NOT NULL THEN 'done'
                    WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
                    WHEN h.scanned THEN 'catching up'
                    WHEN h.begun THEN 'scanning'
                    ELSE 'waiting' END AS state,
               NULL::pg_catalog.timestamptz AS range_from,
               NULL::pg_catalog.timestamptz AS range_to,
               h.rows,
               GREATEST(h.estimated_rows, h.rows) AS estimated_rows,
               CASE WHEN h.scanned THEN 1 ELSE LEAST(0.99, h.rows::pg_catalog.float8 OPERATOR(pg_catalog./) GREATEST(h.estimated_rows, 1)) END AS share,
               GREATEST(EXTRACT(epoch FROM h.updated_at OPERATOR(pg_catalog.-) h.started_at)::pg_catalog.float8, 0.001) AS seconds,
               CASE WHEN h.part OPERATOR(pg_catalog.=) 0 THEN 'event time'
                    WHEN h.part OPERATOR(pg_catalog.>) 0
                    THEN (SELECT a.attname FROM pg_catalog.pg_attribute a
                           WHERE a.attrelid OPERATOR(pg_catalog.=) p.source AND a.attnum OPERATOR(pg_catalog.=) h.part)::pg_catalog.text END AS by,
               -- a value of a column is for who may read it
               CASE WHEN h.part OPERATOR(pg_catalog.=) 0 OR pg_catalog.pg_has_role(p.owner, 'USAGE') THEN h.lower_bound END AS frontier,
               h.chunks,
               h.started_at,
               h.finished_at
          FROM beam.history h
          JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) h.pipeline
         UNION ALL
        SELECT p.owner,
               p.result,
               p.name,
               'backfill',
               CASE WHEN c.state OPERATOR(pg_catalog.<>) 'waiting' THEN c.state
                    WHEN p.state OPERATOR(pg_catalog.<>) 'running' THEN p.state
                    WHEN c.first IS NOT NULL THEN 'scanning'
                    ELSE 'waiting' END,
               CASE WHEN c.range_from OPERATOR(pg_catalog.<>) '-infinity' THEN c.range_from END,
               CASE WHEN c.range_to OPERATOR(pg_catalog.<>) 'infinity' THEN c.range_to END,
               c.rows,
               NULL,
               CASE WHEN c.state OPERATOR(pg_catalog.=) 'done' THEN 1
                    WHEN pg_catalog.isfinite(c.first) AND pg_catalog.isfinite(c.hi) AND c.hi OPERATOR(pg_catalog.>) c.first
                    THEN EXTRACT(epoch FROM c.lo OPERATOR(pg_catalog.-) c.first)::pg_catalog.float8 OPERATOR(pg_catalog./) EXTRACT(epoch FROM c.hi OPERATOR(pg_catalog.-) c.first)::pg_catalog.float8
                    ELSE 0 END,
               GREATEST(EXTRACT(epoch FROM c.updated_at OPERATOR(pg_catalog.-) c.started_at)::pg_catalog.float8, 0.001),
               CASE WHEN pg_catalog.isfinite(c.first) THEN 'event time' END,
               CASE WHEN pg_catalog.isfinite(c.lo) THEN c.lo::pg_catalog.text END,
               NULL,
               c.started_at,
               CASE WHEN c.state OPERATOR(pg_catalog.<>) 'waiting' THEN c.updated_at END
          FROM beam.command c
          JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) c.pipeline
         WHERE c.kind OPERATOR(pg_catalog.<>) 'replay'
           -- one that is handed over to a version is seen as that
           AND c.state OPERATOR(pg_catalog.<>) 'building' AND (c.state OPERATOR(pg_catalog.<>) 'done' OR c.first IS NOT NULL)) b
 WHERE beam._may_see(b.owner, b.result);

-- The library knows which columns a definition has.
CREATE OR REPLACE TRIGGER keep_definition AFTER INSERT OR UPDATE OR DELETE ON beam.pipeline FOR EACH ROW EXECUTE FUNCTION beam._keep_definition();

-- Who may call the functions that take watermark_by, still may.
-- Of a pipeline whose watermark is split (watermark_by): the values that are not at rest, and the highest event time of each.
CREATE TABLE beam.input (
    pipeline         pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    split            pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    max_event_time   pg_catalog.timestamptz NOT NULL,
    PRIMARY KEY (pipeline, split)
);

REVOKE ALL ON beam.input FROM PUBLIC;

ALTER TABLE beam.dead_letter ADD COLUMN left_out pg_catalog.int8;

CREATE TABLE beam.left_out (
    pipeline     pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    hash         pg_catalog.int8 NOT NULL,
    window_start pg_catalog.timestamptz NOT NULL,
    window_end   pg_catalog.timestamptz NOT NULL,
    n            pg_catalog.int8 NOT NULL,
    PRIMARY KEY (pipeline, hash, window_start, window_end)
);

REVOKE ALL ON beam.left_out FROM PUBLIC;

CREATE TABLE beam.dependency (
    pipeline pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    classid  pg_catalog.oid NOT NULL,
    objid    pg_catalog.oid NOT NULL,
    name     pg_catalog.text NOT NULL,
    content  pg_catalog.text,
    PRIMARY KEY (pipeline, classid, objid)
);

REVOKE ALL ON beam.dependency FROM PUBLIC;

CREATE VIEW beam.inputs WITH (security_barrier) AS
SELECT p.name AS pipeline, i.split, i.max_event_time,
       i.max_event_time OPERATOR(pg_catalog.-) (p.watermark_delay OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval) AS watermark
  FROM beam.input i
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) i.pipeline
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND pg_catalog.pg_has_role(p.owner, 'USAGE') AND beam._may_read(p.owner, p.source, p.source_columns);
COMMENT ON VIEW beam.inputs IS 'of pipelines with watermark_by: the values that are not at rest, with the highest event time and the watermark of each; the least of them is the pipeline''s';

GRANT SELECT ON beam.inputs TO PUBLIC;

SELECT pg_catalog.set_config('beam_upgrade.granted',
    (SELECT COALESCE(pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('function', p.proname, 'to', a.grantee::pg_catalog.int8, 'option', a.is_grantable)), '[]')
       FROM pg_catalog.pg_proc p, pg_catalog.aclexplode(COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
      WHERE p.oid OPERATOR(pg_catalog.=) ANY (ARRAY['beam.create_pipeline'::pg_catalog.regproc::pg_catalog.oid, 'beam.alter_pipeline'::pg_catalog.regproc::pg_catalog.oid])
        AND a.grantee OPERATOR(pg_catalog.<>) p.proowner)::pg_catalog.text, true);
DROP FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool);
DROP FUNCTION beam.alter_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.interval);

-- Not a time that could be given. How late rows may be follows from source_mode then.
CREATE FUNCTION beam._lateness_by_mode() RETURNS pg_catalog.interval LANGUAGE sql IMMUTABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT '-178956970 years -8 mons'::pg_catalog.interval;
END;
COMMENT ON FUNCTION beam._lateness_by_mode() IS 'internal: what allowed_lateness is where it is not given';

CREATE FUNCTION beam.create_pipeline(
    name                 pg_catalog.text,
    query                pg_catalog.text,
    watermark            pg_catalog.interval DEFAULT '10 seconds',
    allowed_lateness     pg_catalog.interval DEFAULT beam._lateness_by_mode(),
    trigger              beam.trigger DEFAULT 'continuous()',
    accumulation         pg_catalog.text DEFAULT 'accumulating',
    idle_timeout         pg_catalog.interval DEFAULT '1 minute',
    timestamp_combiner   pg_catalog.text DEFAULT 'end_of_window',
    on_time              pg_catalog.text DEFAULT 'fire_always',
    closing              pg_catalog.text DEFAULT 'fire_if_non_empty',
    allow_unsafe_trigger pg_catalog.bool DEFAULT false,
    source_mode          pg_catalog.text DEFAULT 'changes',
    history              pg_catalog.bool DEFAULT true,
    watermark_by         pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.regclass LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_create_pipeline';
COMMENT ON FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool, pg_catalog.text) IS
'defines a pipeline: a query over a table whose result table, named like the pipeline, is kept up to date; watermark is the out-of-orderness of the event time, allowed_lateness how long a window takes late rows (null: without limit, which is the default of source_mode changes; of append_only it is an hour), trigger when panes are emitted, accumulation accumulating, discarding or retracting, idle_timeout after how long a resting source lets the watermark follow the clock (null: never), timestamp_combiner (end_of_window, earliest, latest) which timestamp a pane has, on_time and closing (fire_always, fire_if_non_empty) whether empty on-time and last panes are emitted, source_mode changes (UPDATE, DELETE and TRUNCATE of the source take rows back; the WAL must have the old values: REPLICA IDENTITY FULL, or an identity that covers the query) or append_only (they become dead letters), history whether the rows that the source has already are taken in, too, watermark_by an expression over the source (a device, a partition) whose values each have a watermark: that of the pipeline is the least of those that are not at rest. Returns the result table. Errors name what in the query cannot be run. Example: SELECT beam.create_pipeline(''per_minute'', $$SELECT w.window_start, w.window_end, count(*) FROM orders o, beam.tumble(o.created_at, ''1 minute'') w GROUP BY 1, 2$$)';
REVOKE ALL ON FUNCTION beam.create_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.bool, pg_catalog.text) FROM PUBLIC;

CREATE FUNCTION beam.alter_pipeline(
    name                 pg_catalog.text,
    query                pg_catalog.text DEFAULT NULL,
    watermark            pg_catalog.interval DEFAULT NULL,
    allowed_lateness     pg_catalog.interval DEFAULT NULL,
    trigger              beam.trigger DEFAULT NULL,
    accumulation         pg_catalog.text DEFAULT NULL,
    idle_timeout         pg_catalog.interval DEFAULT NULL,
    timestamp_combiner   pg_catalog.text DEFAULT NULL,
    on_time              pg_catalog.text DEFAULT NULL,
    closing              pg_catalog.text DEFAULT NULL,
    allow_unsafe_trigger pg_catalog.bool DEFAULT NULL,
    source_mode          pg_catalog.text DEFAULT NULL,
    keep                 pg_catalog.interval DEFAULT '1 day',
    watermark_by         pg_catalog.text DEFAULT NULL)
RETURNS pg_catalog.int4 LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'stream_beam_alter_pipeline';
COMMENT ON FUNCTION beam.alter_pipeline(pg_catalog.text, pg_catalog.text, pg_catalog.interval, pg_catalog.interval, beam.trigger, pg_catalog.text, pg_catalog.interval, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.bool, pg_catalog.text, pg_catalog.interval, pg_catalog.text) IS
'builds a new version of a pipeline beside the running one, from the history of its source; when it is as far it takes the place of the old one in one transaction: same result table, same rights, dependent views keep working. What is null stays as it is; a negative allowed_lateness is one without limit. The old version runs on for the time keep, to go back to with beam.rollback_pipeline() (null: it is dropped). Returns the number of the version; CALL beam.wait_for_alter() waits until it is in place. Example: SELECT beam.alter_pipeline(''per_minute'', allowed_lateness => ''2 hours'')';

DO $$
DECLARE
    granted pg_catalog.jsonb := pg_catalog.current_setting('beam_upgrade.granted');
    one pg_catalog.record;
BEGIN
    IF NOT granted OPERATOR(pg_catalog.@>) '[{"function": "alter_pipeline", "to": 0}]' THEN
        REVOKE ALL ON FUNCTION beam.alter_pipeline FROM PUBLIC;
    END IF;
    FOR one IN SELECT r."function", r."to", r."option"
                 FROM pg_catalog.jsonb_to_recordset(granted)
                   AS r ("function" pg_catalog.text, "to" pg_catalog.int8, "option" pg_catalog.bool)
                WHERE r."function" OPERATOR(pg_catalog.<>) 'alter_pipeline' OR r."to" OPERATOR(pg_catalog.<>) 0 LOOP
        EXECUTE pg_catalog.format('GRANT EXECUTE ON FUNCTION beam.%I TO %s%s', one."function",
            CASE WHEN one."to" OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(one."to"::pg_catalog.oid)) END,
            CASE WHEN one."option" THEN ' WITH GRANT OPTION' ELSE '' END);
    END LOOP;
END $$;

-- Cells that are not in memory are found by the timers of the clock, and by what holds the watermark, where a pipeline can have such (sb_state_table.c).
DO $$
DECLARE
    one pg_catalog.record;
BEGIN
    FOR one IN SELECT p.state_table::pg_catalog.regclass AS cells,
                      p.trigger::pg_catalog.text OPERATOR(pg_catalog.~) 'processing_time' AS timers,
                      p.timestamp_combiner OPERATOR(pg_catalog.<>) 'end_of_window'
                      OR p.trigger::pg_catalog.text OPERATOR(pg_catalog.!~) '^(continuous|default_trigger|after_watermark)[(]' AS holds
                 FROM beam.pipeline p
                 JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.state_table LOOP
        IF one.timers THEN
            EXECUTE pg_catalog.format('CREATE INDEX ON %s (processing_timer) WHERE processing_timer IS NOT NULL', one.cells);
        END IF;
        IF one.holds THEN
            EXECUTE pg_catalog.format('CREATE INDEX ON %s (window_end) WHERE hold IS NOT NULL', one.cells);
        END IF;
    END LOOP;
END $$;

-- Aggregates that a pipeline keeps at little cost (sb_latest.c).

CREATE FUNCTION beam._first_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_first_step';
COMMENT ON FUNCTION beam._first_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: transition function of beam.first';

CREATE FUNCTION beam._last_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_last_step';
COMMENT ON FUNCTION beam._last_step(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: transition function of beam.last';

CREATE FUNCTION beam._top_step(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.internal
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_top_step';
COMMENT ON FUNCTION beam._top_step(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: transition function of beam.top';

CREATE FUNCTION beam._latest_final(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.anyelement
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_latest_final';
COMMENT ON FUNCTION beam._latest_final(pg_catalog.internal, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: final function of beam.first and beam.last';

CREATE FUNCTION beam._top_final(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) RETURNS pg_catalog.anyarray
	LANGUAGE C IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'stream_beam_top_final';
COMMENT ON FUNCTION beam._top_final(pg_catalog.internal, pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) IS 'internal: final function of beam.top';

CREATE AGGREGATE beam.first(value pg_catalog.anyelement, at pg_catalog.anycompatible) (
	SFUNC = beam._first_step, STYPE = pg_catalog.internal, FINALFUNC = beam._latest_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE beam.first(pg_catalog.anyelement, pg_catalog.anycompatible) IS
'the value of the row with the least `at`, of several such rows the least value (a null is less than any); rows whose `at` is null are ignored; null where there is none. In a pipeline a row that comes or goes costs the same however many there are. Error: 42883 where the type of `at` has no order. Example: SELECT device, beam.first(reading, at) FROM readings GROUP BY device';

CREATE AGGREGATE beam.last(value pg_catalog.anyelement, at pg_catalog.anycompatible) (
	SFUNC = beam._last_step, STYPE = pg_catalog.internal, FINALFUNC = beam._latest_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE beam.last(pg_catalog.anyelement, pg_catalog.anycompatible) IS
'the value of the row with the greatest `at`, of several such rows the greatest value (a null is less than any); rows whose `at` is null are ignored; null where there is none. In a pipeline a row that comes or goes costs the same however many there are. Error: 42883 where the type of `at` has no order. Example: SELECT device, beam.last(reading, at) FROM readings GROUP BY device';

CREATE AGGREGATE beam.top(n pg_catalog.int4, value pg_catalog.anyelement, at pg_catalog.anycompatible) (
	SFUNC = beam._top_step, STYPE = pg_catalog.internal, FINALFUNC = beam._top_final, FINALFUNC_EXTRA, PARALLEL = SAFE);
COMMENT ON AGGREGATE beam.top(pg_catalog.int4, pg_catalog.anyelement, pg_catalog.anycompatible) IS
'an array of the values of the `n` rows with the greatest `at`, the greatest first; rows with the same `at` by their values. Rows whose `at` is null are ignored; null where there is none. Errors: 22023 where n is null, not between 1 and 10000 or not the same in all rows, 42883 where the type of `at` has no order. Example: SELECT player, beam.top(3, game, score) FROM results GROUP BY player';

-- What aggregates keep of the rows is in a table of its own, a leaf of values a row (sb_items_table.c). What the cells have of it moves there when they change.
DO $$
DECLARE
    one pg_catalog.record;
BEGIN
    FOR one IN SELECT p.id, p.state_table::pg_catalog.regclass AS cells
                 FROM beam.pipeline p
                 JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.state_table
                WHERE EXISTS (SELECT FROM pg_catalog.unnest(p.signature) AS s (part)
                               WHERE s.part OPERATOR(pg_catalog.~) '^(bag|extreme|multiset) ')
                  AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                   WHERE a.attrelid OPERATOR(pg_catalog.=) c.oid AND a.attname OPERATOR(pg_catalog.=) 'items') LOOP
        EXECUTE pg_catalog.format('ALTER TABLE %s ADD COLUMN items pg_catalog.int8[]', one.cells);
        EXECUTE pg_catalog.format('CREATE TABLE beam_state.%I (tree pg_catalog.int8 NOT NULL, leaf pg_catalog.int4 NOT NULL, items pg_catalog.int4 NOT NULL,'
            ' rows pg_catalog.int8 NOT NULL, place pg_catalog.int8 NOT NULL, data pg_catalog.bytea NOT NULL,'
            ' PRIMARY KEY (tree, leaf)) WITH (fillfactor = 70)', 'items_' OPERATOR(pg_catalog.||) one.id::pg_catalog.text);
        EXECUTE pg_catalog.format('ALTER TABLE beam_state.%I ALTER COLUMN data SET STORAGE EXTERNAL', 'items_' OPERATOR(pg_catalog.||) one.id::pg_catalog.text);
        EXECUTE pg_catalog.format('REVOKE ALL ON beam_state.%I FROM PUBLIC', 'items_' OPERATOR(pg_catalog.||) one.id::pg_catalog.text);
    END LOOP;
END $$;

-- In the index by which rows of a result that nothing identifies are found again. Every owner of a result inserts there, so everybody may call it.
CREATE FUNCTION beam._row_hash(VARIADIC "any") RETURNS pg_catalog.int8 LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stream_beam_row_hash';
COMMENT ON FUNCTION beam._row_hash("any") IS 'internal: a hash of values by their bytes';

-- In the index of a result with group keys that are too large for an index. Every owner of a result inserts there, so everybody may call it.
CREATE FUNCTION beam._key_hash(VARIADIC "any") RETURNS pg_catalog.int8 LANGUAGE c IMMUTABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stream_beam_key_hash';
COMMENT ON FUNCTION beam._key_hash("any") IS 'internal: a hash of values by the equality of their types';

COMMENT ON PROCEDURE beam.backfill(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'computes the windows that overlap from..to (null: no bound) anew from the table, also those long closed, and puts them in the place of what the result says; queries see old or new rows, writers are not held up. Sessions, the global window and windows of functions of your own are computed anew all of them, whatever the range. Cancelling the call takes back what is not done yet; beam.stat_backfill shows progress. Errors: 42704, 42501, 22023 empty range, 55000 not running or a version is being built, 0A000 discarding pipeline that has a downstream pipeline, 25001 inside a transaction. Example: CALL beam.backfill(''per_minute'', ''2024-05-01'', ''2024-05-02'')';

COMMENT ON FUNCTION beam.verify(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'compares the result of a pipeline with its batch view, in one snapshot and with the settings of the pipeline, for the windows that overlap from..to (null: no bound), and lists the differences: kind is missing (the batch view has the row, the result has not), unexpected (the other way round) or different. Rounding errors of floating-point sums are no differences. A NOTICE says what was compared and what was left out. Call beam.wait_for() first, else what has just been committed counts as missing; so do windows that the trigger has not let out yet. Needs the right to read both. Errors: 42704, 42501, 22023 empty range, 0A000 for a discarding pipeline. Example: SELECT * FROM beam.verify(''per_minute'', ''2024-05-01'', ''2024-05-02'')';

-- Each table whose rows are updated or deleted has a replica identity: a publication may have them all.
ALTER TABLE beam.home ADD PRIMARY KEY (system);

-- Groups that count rows and cannot say what they count: select list or HAVING cannot be computed, or the result refuses the row. One for each cell
-- that is marked so in the state.
CREATE TABLE beam.failed_group (
    pipeline     pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    window_end   pg_catalog.timestamptz NOT NULL,
    window_start pg_catalog.timestamptz NOT NULL,
    key_hash     pg_catalog.int8 NOT NULL,
    key_seq      pg_catalog.int2 NOT NULL,
    key          pg_catalog.jsonb NOT NULL,
    sqlstate     pg_catalog.text NOT NULL,
    message      pg_catalog.text NOT NULL,
    since        pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    PRIMARY KEY (pipeline, window_end, window_start, key_hash, key_seq)
);
REVOKE ALL ON beam.failed_group FROM PUBLIC;

CREATE VIEW beam.failed_groups WITH (security_barrier) AS
SELECT p.name AS pipeline, p.version,
       CASE WHEN pg_catalog.isfinite(f.window_start) THEN f.window_start END AS window_start,
       CASE WHEN pg_catalog.isfinite(f.window_end) THEN f.window_end END AS window_end,
       CASE WHEN r.may THEN f.key END AS key,
       f.sqlstate,
       CASE WHEN r.may THEN f.message END AS message,
       f.since
  FROM beam.failed_group f
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) f.pipeline
 CROSS JOIN LATERAL (SELECT beam._may_read(p.owner, p.source, p.source_columns) AS may) r
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.failed_groups IS 'groups whose row is not in the result, since it cannot be computed or the result refuses it: their source rows stay counted, and it comes by itself when that is mended';
GRANT SELECT ON beam.failed_groups TO PUBLIC;

-- One row, while no crash has emptied it: then tables that users have made unlogged are as empty (runner/sb_void.c).
CREATE UNLOGGED TABLE beam.intact (
    since_crash      pg_catalog.bool PRIMARY KEY
);
REVOKE ALL ON beam.intact FROM PUBLIC;
-- No crash has been seen before.
INSERT INTO beam.intact VALUES (true);
