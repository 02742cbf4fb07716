-- The catalog. Only the workers and the API's functions touch these tables; everybody reads the views below.

CREATE TABLE beam.pipeline (
    id               pg_catalog.int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             pg_catalog.text NOT NULL,          -- of all its versions
    owner            pg_catalog.oid NOT NULL,
    source           pg_catalog.oid NOT NULL,
    view             pg_catalog.oid NOT NULL,
    result           pg_catalog.oid NOT NULL,
    state_table      pg_catalog.oid NOT NULL,
    fingerprint      pg_catalog.text NOT NULL,          -- of the stored view's tree: a replaced view is noticed
    watermark_delay  pg_catalog.int8 NOT NULL,          -- microseconds
    allowed_lateness pg_catalog.int8,                   -- microseconds; NULL: no limit
    idle_timeout     pg_catalog.int8,                   -- microseconds; NULL: an idle source does not move the watermark
    trigger          beam.trigger NOT NULL,
    accumulation     pg_catalog.text NOT NULL,
    timestamp_combiner pg_catalog.text NOT NULL,
    on_time          pg_catalog.text NOT NULL,
    closing          pg_catalog.text NOT NULL,
    signature        pg_catalog.text[] NOT NULL DEFAULT '{}', -- of keys, aggregates and result columns: what state was written with
    source_columns   pg_catalog.int2[] NOT NULL DEFAULT '{}', -- numbers of those that the query uses
    settings         pg_catalog.text[] NOT NULL,        -- name, value, name, value ...: those of the creating session that expressions depend on
    state            pg_catalog.text NOT NULL CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'paused', 'failed', 'needs_resync'])),
    error_code       pg_catalog.text,
    error_message    pg_catalog.text,
    error_at         pg_catalog.timestamptz,
    created_at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    upstream         pg_catalog.int4 NOT NULL DEFAULT 0, -- the version whose result it reads; 0: its source is a table
    retractable      pg_catalog.bool NOT NULL DEFAULT false, -- rows it reads may be taken back
    revision         pg_catalog.int8 NOT NULL DEFAULT 1, -- grows with each change that the runner has to see
    version          pg_catalog.int4 NOT NULL DEFAULT 1,
    stage            pg_catalog.text NOT NULL DEFAULT 'current' CHECK (stage OPERATOR(pg_catalog.=) ANY (ARRAY['current', 'building', 'kept'])),
    keep             pg_catalog.int8,                   -- microseconds, of a building one: how long the version that it replaces is kept; NULL: not at all
    keep_until       pg_catalog.timestamptz,            -- of a kept one
    reason           pg_catalog.text,                   -- why the version was made, other than by a user's alteration
    rebuild          pg_catalog.text,                   -- why it has to be rebuilt from its source
    watermark_by     pg_catalog.text,                   -- an expression over the source: its watermark is the least of those of its values
    UNIQUE (name, version)
);
-- Functions and views mean the current version by a pipeline's name.
CREATE UNIQUE INDEX ON beam.pipeline (name) WHERE stage OPERATOR(pg_catalog.=) 'current';
CREATE UNIQUE INDEX ON beam.pipeline (name) WHERE stage OPERATOR(pg_catalog.=) 'building';

-- Whom the positions belong to, one row: those of a copied, restored or promoted database are void (runner/sb_void.c).
CREATE TABLE beam.home (
    system           pg_catalog.int8 PRIMARY KEY,       -- system identifier of the server
    timeline         pg_catalog.int4 NOT NULL,
    database         pg_catalog.oid NOT NULL
);

-- One row, while no crash has emptied it: then tables that users have made unlogged are as empty (runner/sb_void.c).
CREATE UNLOGGED TABLE beam.intact (
    since_crash      pg_catalog.bool PRIMARY KEY
);

-- What of a pipeline pg_dump takes along: names and settings. Result table and batch view are dumped as what they are; where they are restored
-- without a row in beam.pipeline, beam.resync_pipeline() makes the pipeline over them. pg_dump locks what it dumps, so everybody may read
-- it: nothing is in it that pg_class and pg_views do not show. A table that has been dropped would be dumped as a bare number.
CREATE TABLE beam.definition (
    name             pg_catalog.text PRIMARY KEY,
    result           pg_catalog.regclass NOT NULL,      -- dumped as a name: it has the owner, and follows a rename
    view             pg_catalog.regclass NOT NULL,
    settings         pg_catalog.jsonb NOT NULL          -- columns of beam.pipeline: catalog/sb_option.c says which
);
SELECT pg_catalog.pg_extension_config_dump('beam.definition',
    'WHERE EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) result) AND EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) view)');

CREATE FUNCTION beam._keep_definition() RETURNS pg_catalog.trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_keep_definition';
REVOKE ALL ON FUNCTION beam._keep_definition() FROM PUBLIC;
CREATE TRIGGER keep_definition AFTER INSERT OR UPDATE OR DELETE ON beam.pipeline FOR EACH ROW EXECUTE FUNCTION beam._keep_definition();

-- Restored, and not yet made a pipeline. Its owner is that of the result table.
CREATE VIEW beam._restored_definition AS
SELECT d.name, c.relowner AS owner, d.result, d.view, d.settings
  FROM beam.definition d
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.result
 WHERE NOT EXISTS (SELECT FROM beam.pipeline p WHERE p.name OPERATOR(pg_catalog.=) d.name);

-- What a bundle moves, one narrow row a pipeline, so that its updates stay on their page.
CREATE TABLE beam.progress (
    pipeline         pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    position         pg_catalog.pg_lsn NOT NULL,        -- every source transaction that committed up to here is in the result
    input_watermark  pg_catalog.timestamptz NOT NULL,
    output_watermark pg_catalog.timestamptz NOT NULL,
    max_event_time   pg_catalog.timestamptz NOT NULL,
    commit_time      pg_catalog.timestamptz,            -- of the last source transaction applied
    rows_in          pg_catalog.int8 NOT NULL DEFAULT 0,
    bundles          pg_catalog.int8 NOT NULL DEFAULT 0,
    panes            pg_catalog.int8 NOT NULL DEFAULT 0,
    late             pg_catalog.int8 NOT NULL DEFAULT 0,
    dead             pg_catalog.int8 NOT NULL DEFAULT 0,
    cells            pg_catalog.int8 NOT NULL DEFAULT 0,
    updated_at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE beam.late_event (
    id           pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline     pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    position     pg_catalog.pg_lsn NOT NULL,
    event_time   pg_catalog.timestamptz NOT NULL,
    window_start pg_catalog.timestamptz NOT NULL,
    window_end   pg_catalog.timestamptz NOT NULL,
    op           pg_catalog.text NOT NULL CHECK (op OPERATOR(pg_catalog.=) ANY (ARRAY['insert', 'delete'])), -- the row was to be added, or taken back
    reason       pg_catalog.text NOT NULL CHECK (reason OPERATOR(pg_catalog.=) ANY (ARRAY['expired', 'closed'])),
    watermark    pg_catalog.timestamptz NOT NULL,
    data         pg_catalog.jsonb NOT NULL,
    at           pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX ON beam.late_event (pipeline, id);

CREATE TABLE beam.dead_letter (
    id       pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    position pg_catalog.pg_lsn NOT NULL,
    op       pg_catalog.text NOT NULL CHECK (op OPERATOR(pg_catalog.=) ANY (ARRAY['insert', 'delete', 'update', 'truncate'])),
    data     pg_catalog.jsonb,                          -- NULL: the row is not known
    sqlstate pg_catalog.text NOT NULL,
    message  pg_catalog.text NOT NULL,
    context  pg_catalog.text,
    at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    left_out pg_catalog.int8                            -- of a row that was not added: its hash in beam.left_out
);
CREATE INDEX ON beam.dead_letter (pipeline, id);

-- Which rows a pipeline has left out of which windows, and how often (pipeline/sb_left_out.h). Both bounds -infinity: of all.
CREATE TABLE beam.left_out (
    pipeline     pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    hash         pg_catalog.int8 NOT NULL,              -- of the columns that the query uses
    window_start pg_catalog.timestamptz NOT NULL,
    window_end   pg_catalog.timestamptz NOT NULL,
    n            pg_catalog.int8 NOT NULL,
    PRIMARY KEY (pipeline, hash, window_start, window_end)
);

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

-- Of a pipeline whose watermark is split (watermark_by): the values that are not at rest, and the highest event time of each.
CREATE TABLE beam.input (
    pipeline         pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    split            pg_catalog.text COLLATE pg_catalog."C" NOT NULL,
    max_event_time   pg_catalog.timestamptz NOT NULL,
    PRIMARY KEY (pipeline, split)
);

-- How far a pipeline has come in the rows that its source had before it (sb_history.h). Pipelines over tables that start from now have none. Of a downstream
-- pipeline: whether they are in its queue (sb_queue.h).
CREATE TABLE beam.history (
    pipeline       pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    part           pg_catalog.int2 NOT NULL,            -- what the rows are cut into chunks by: a column's number; 0: the event time; -1: one chunk
    part_type      pg_catalog.oid NOT NULL,             -- 0: none
    begun          pg_catalog.bool NOT NULL DEFAULT false,
    scanned        pg_catalog.bool NOT NULL DEFAULT false,
    lower_bound    pg_catalog.text,                     -- of the last chunk, which holds it; NULL: it went down to the end
    upper_bound    pg_catalog.text,                     -- of the last chunk, which does not hold it; NULL: it was the first
    snapshot       pg_catalog.pg_snapshot,              -- of the last chunk
    cut_end        pg_catalog.pg_lsn NOT NULL DEFAULT '0/0', -- the end of the WAL just after that
    rows           pg_catalog.int8 NOT NULL DEFAULT 0,
    chunks         pg_catalog.int8 NOT NULL DEFAULT 0,
    estimated_rows pg_catalog.int8 NOT NULL,
    started_at     pg_catalog.timestamptz,
    updated_at     pg_catalog.timestamptz,
    finished_at    pg_catalog.timestamptz
) WITH (fillfactor = 20);

-- What the query of a pipeline computes with, as it was when the version was made (catalog/sb_dependency.h).
CREATE TABLE beam.dependency (
    pipeline pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    classid  pg_catalog.oid NOT NULL,
    objid    pg_catalog.oid NOT NULL,
    name     pg_catalog.text NOT NULL,                          -- as it was told then
    content  pg_catalog.text,                                   -- of what it consists; NULL: it was gone
    PRIMARY KEY (pipeline, classid, objid)
);

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

-- pg_dump reads it, as the database's owner or somebody who may read all.
GRANT SELECT ON beam.definition TO pg_database_owner, pg_read_all_data;
REVOKE ALL ON beam._restored_definition, beam.home, beam.intact, beam.pipeline, beam.progress, beam.late_event, beam.dead_letter, beam.failed_group, beam.history, beam.input, beam.left_out, beam.dependency, beam.retry FROM PUBLIC;

-- Whose pipelines a role sees: those it owns (or whose owner it is a member of); without definition, errors and row data those whose result it can
-- read, and a member of pg_monitor all.
CREATE FUNCTION beam._may_see(owner pg_catalog.oid, result pg_catalog.oid) RETURNS pg_catalog.bool LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT pg_catalog.pg_has_role(owner, 'USAGE') OR pg_catalog.pg_has_role('pg_monitor', 'USAGE')
        OR COALESCE(pg_catalog.has_table_privilege(result, 'SELECT'), false);
END;
COMMENT ON FUNCTION beam._may_see(pg_catalog.oid, pg_catalog.oid) IS
'internal: may the current role see state and statistics of a pipeline with this owner and this result?';

-- Letters hold values of the source: who has been given a pipeline, or has lost a right, is not shown what he may not read.
CREATE FUNCTION beam._may_read(owner pg_catalog.oid, source pg_catalog.oid, columns pg_catalog.int2[]) RETURNS pg_catalog.bool
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'stream_beam_may_read';
COMMENT ON FUNCTION beam._may_read(pg_catalog.oid, pg_catalog.oid, pg_catalog.int2[]) IS
'internal: may the role read these columns of the table, all of its rows?';

CREATE VIEW beam.pipelines WITH (security_barrier) AS
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
COMMENT ON VIEW beam.pipelines IS 'the pipelines that the current role may see: definition, state and last error; and the version that is being built to take its place';

CREATE FUNCTION beam._slot(OUT restart_lsn pg_catalog.pg_lsn, OUT decoded_lsn pg_catalog.pg_lsn, OUT transaction_lsn pg_catalog.pg_lsn, OUT held_by pg_catalog.text) RETURNS pg_catalog.record
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'stream_beam_slot';
COMMENT ON FUNCTION beam._slot() IS
'for beam.stat_pipelines: from where on the slot of this database retains WAL, how far its reader is, and from where on which running transaction keeps the slot from moving';

CREATE VIEW beam.stat_pipelines WITH (security_barrier) AS
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
COMMENT ON VIEW beam.stat_pipelines IS 'what each pipeline has done: source rows, bundles, panes, late events, dead letters, live cells; how much WAL it has still to read, how much the reader has, how much the replication slot retains, and what holds that back';

CREATE VIEW beam.watermarks WITH (security_barrier) AS
SELECT p.name,
       g.input_watermark,
       g.output_watermark,
       g.max_event_time,
       CASE WHEN pg_catalog.isfinite(g.input_watermark) THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) g.input_watermark END AS lag
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND beam._may_see(p.owner, p.result);
COMMENT ON VIEW beam.watermarks IS 'input and output watermark of each pipeline, the highest event time seen, and how far the input watermark is behind the clock';

CREATE VIEW beam.inputs WITH (security_barrier) AS
SELECT p.name AS pipeline, i.split, i.max_event_time,
       i.max_event_time OPERATOR(pg_catalog.-) (p.watermark_delay OPERATOR(pg_catalog.*) '1 microsecond'::pg_catalog.interval) AS watermark
  FROM beam.input i
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) i.pipeline
 WHERE p.stage OPERATOR(pg_catalog.=) 'current' AND pg_catalog.pg_has_role(p.owner, 'USAGE') AND beam._may_read(p.owner, p.source, p.source_columns);
COMMENT ON VIEW beam.inputs IS 'of pipelines with watermark_by: the values that are not at rest, with the highest event time and the watermark of each; the least of them is the pipeline''s';

CREATE VIEW beam.late_events WITH (security_barrier) AS
SELECT l.id, p.name AS pipeline, l.position, l.event_time, l.window_start, l.window_end, l.op, l.reason, l.watermark,
       CASE WHEN beam._may_read(p.owner, p.source, p.source_columns) THEN l.data END AS data,
       l.at, p.version
  FROM beam.late_event l
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) l.pipeline
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.late_events IS 'source rows that came after their window had expired (or its trigger had finished): row, window, reason';

CREATE VIEW beam.dead_letters WITH (security_barrier) AS
SELECT d.id, p.name AS pipeline, d.position, d.op,
       CASE WHEN r.may THEN d.data END AS data,
       d.sqlstate,
       CASE WHEN r.may THEN d.message END AS message,
       CASE WHEN r.may THEN d.context END AS context,
       d.at, p.version
  FROM beam.dead_letter d
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) d.pipeline
 CROSS JOIN LATERAL (SELECT beam._may_read(p.owner, p.source, p.source_columns) AS may) r
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.dead_letters IS 'source rows that raised an error: row, sqlstate, message, context';

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

CREATE VIEW beam.pipeline_versions WITH (security_barrier) AS
SELECT p.name,
       p.version,
       p.stage,
       p.state,
       p.result::pg_catalog.regclass AS result,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN pg_catalog.pg_get_viewdef(p.view) END AS query,
       p.created_at,
       p.keep_until,
       COALESCE(p.rebuild, p.reason) AS reason,
       g.position,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), g.position) AS lag_bytes,
       g.rows_in,
       p.error_code,
       CASE WHEN pg_catalog.pg_has_role(p.owner, 'USAGE') THEN p.error_message END AS error_message,
       p.error_at
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE beam._may_see(p.owner, p.result);
COMMENT ON VIEW beam.pipeline_versions IS 'all versions of each pipeline: the current one, one that is being built to take its place, those kept to go back to; with query, result table, progress and last error';

GRANT SELECT ON beam.pipelines, beam.pipeline_versions, beam.stat_pipelines, beam.watermarks, beam.inputs, beam.late_events, beam.dead_letters, beam.failed_groups TO PUBLIC;

