-- The catalog. Only the workers and the API's functions touch these tables; everybody reads the views below.

CREATE TABLE beam.pipeline (
    id               int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text NOT NULL UNIQUE,
    owner            oid NOT NULL,
    source           oid NOT NULL,
    view             oid NOT NULL,
    result           oid NOT NULL,
    state_table      oid NOT NULL,
    fingerprint      text NOT NULL,          -- of the stored view's tree: a replaced view is noticed
    watermark_delay  int8 NOT NULL,          -- microseconds
    allowed_lateness int8 NOT NULL,          -- microseconds
    idle_timeout     int8,                   -- microseconds; NULL: an idle source does not move the watermark
    trigger          beam.trigger NOT NULL,
    accumulation     text NOT NULL,
    timestamp_combiner text NOT NULL,
    on_time          text NOT NULL,
    closing          text NOT NULL,
    settings         text[] NOT NULL,        -- name, value, name, value ...: those of the creating session that expressions depend on
    state            text NOT NULL CHECK (state IN ('running', 'paused', 'failed')),
    error_code       text,
    error_message    text,
    error_at         timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now(),
    upstream         int4 NOT NULL DEFAULT 0, -- the pipeline whose result it reads; 0: a table
    retractable      boolean NOT NULL DEFAULT false, -- rows it reads may be taken back
    revision         int8 NOT NULL DEFAULT 1 -- grows with each change that the runner has to see
);

-- What a bundle moves, one narrow row a pipeline, so that its updates stay on their page.
CREATE TABLE beam.progress (
    pipeline         int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    position         pg_lsn NOT NULL,        -- every source transaction that committed up to here is in the result
    input_watermark  timestamptz NOT NULL,
    output_watermark timestamptz NOT NULL,
    max_event_time   timestamptz NOT NULL,
    commit_time      timestamptz,            -- of the last source transaction applied
    rows_in          int8 NOT NULL DEFAULT 0,
    bundles          int8 NOT NULL DEFAULT 0,
    panes            int8 NOT NULL DEFAULT 0,
    late             int8 NOT NULL DEFAULT 0,
    dead             int8 NOT NULL DEFAULT 0,
    cells            int8 NOT NULL DEFAULT 0,
    updated_at       timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 20, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);

CREATE TABLE beam.late_event (
    id           int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline     int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    position     pg_lsn NOT NULL,
    event_time   timestamptz NOT NULL,
    window_start timestamptz NOT NULL,
    window_end   timestamptz NOT NULL,
    op           text NOT NULL CHECK (op IN ('insert', 'delete')), -- the row was to be added, or taken back
    reason       text NOT NULL CHECK (reason IN ('expired', 'closed')),
    watermark    timestamptz NOT NULL,
    data         jsonb NOT NULL,
    at           timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON beam.late_event (pipeline, id);

CREATE TABLE beam.dead_letter (
    id       int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    position pg_lsn NOT NULL,
    op       text NOT NULL CHECK (op IN ('insert', 'delete', 'update', 'truncate')),
    data     jsonb,                          -- NULL: the row is not known
    sqlstate text NOT NULL,
    message  text NOT NULL,
    context  text,
    at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON beam.dead_letter (pipeline, id);

REVOKE ALL ON beam.pipeline, beam.progress, beam.late_event, beam.dead_letter FROM PUBLIC;

-- Each role sees the pipelines it owns (or whose owner it is a member of).
CREATE VIEW beam.pipelines WITH (security_barrier) AS
SELECT p.name,
       p.state,
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
       p.watermark_delay * interval '1 microsecond' AS watermark,
       p.allowed_lateness * interval '1 microsecond' AS allowed_lateness,
       p.idle_timeout * interval '1 microsecond' AS idle_timeout,
       g.position,
       p.error_code,
       p.error_message,
       p.error_at,
       p.created_at
  FROM beam.pipeline p
  LEFT JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.pipelines IS 'the pipelines that the current role may see: definition, state and last error';

CREATE VIEW beam.stat_pipelines WITH (security_barrier) AS
SELECT p.name,
       p.state,
       g.rows_in,
       g.bundles,
       g.panes,
       g.late AS late_events,
       g.dead AS dead_letters,
       g.cells,
       g.position,
       pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), g.position) AS lag_bytes,
       g.commit_time,
       g.updated_at
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.stat_pipelines IS 'what each pipeline has done: source rows, bundles, panes, late events, dead letters, live cells, and how much WAL it has still to read';

CREATE VIEW beam.watermarks WITH (security_barrier) AS
SELECT p.name,
       g.input_watermark,
       g.output_watermark,
       g.max_event_time,
       CASE WHEN pg_catalog.isfinite(g.input_watermark) THEN pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) g.input_watermark END AS lag
  FROM beam.pipeline p
  JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.watermarks IS 'input and output watermark of each pipeline, the highest event time seen, and how far the input watermark is behind the clock';

CREATE VIEW beam.late_events WITH (security_barrier) AS
SELECT l.id, p.name AS pipeline, l.position, l.event_time, l.window_start, l.window_end, l.op, l.reason, l.watermark, l.data, l.at
  FROM beam.late_event l
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) l.pipeline
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.late_events IS 'source rows that came after their window had expired (or its trigger had finished): row, window, reason';

CREATE VIEW beam.dead_letters WITH (security_barrier) AS
SELECT d.id, p.name AS pipeline, d.position, d.op, d.data, d.sqlstate, d.message, d.context, d.at
  FROM beam.dead_letter d
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) d.pipeline
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.dead_letters IS 'source rows that raised an error: row, sqlstate, message, context';

GRANT SELECT ON beam.pipelines, beam.stat_pipelines, beam.watermarks, beam.late_events, beam.dead_letters TO PUBLIC;

-- None of this is dumped: positions and OIDs mean nothing in another database. Result tables and batch views are.
