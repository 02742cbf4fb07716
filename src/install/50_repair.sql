-- Looking whether a result is right, and mending it.

CREATE FUNCTION beam._row_to_jsonb(pg_catalog.record) RETURNS pg_catalog.jsonb LANGUAGE c STABLE STRICT PARALLEL SAFE
AS 'MODULE_PATHNAME', 'stream_beam_row_to_jsonb';
COMMENT ON FUNCTION beam._row_to_jsonb(pg_catalog.record) IS 'internal: a row as to_jsonb() writes it, but without casts to json that users have made';

CREATE FUNCTION beam.verify(
    pipeline pg_catalog.text, "from" pg_catalog.timestamptz DEFAULT NULL, "to" pg_catalog.timestamptz DEFAULT NULL,
    OUT kind pg_catalog.text, OUT window_start pg_catalog.timestamptz, OUT window_end pg_catalog.timestamptz, OUT key pg_catalog.jsonb, OUT result pg_catalog.jsonb, OUT batch pg_catalog.jsonb)
RETURNS SETOF pg_catalog.record LANGUAGE c STABLE SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_verify';
COMMENT ON FUNCTION beam.verify(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'compares the result of a pipeline with its batch view, in one snapshot and with the settings of the pipeline, for the windows that overlap from..to (null: no bound), and lists the differences: kind is missing (the batch view has the row, the result has not), unexpected (the other way round) or different. Rounding errors of floating-point sums are no differences. A NOTICE says what was compared and what was left out. Call beam.wait_for() first, else what has just been committed counts as missing; so do windows that the trigger has not let out yet. Needs the right to read both. Errors: 42704, 42501, 22023 empty range, 0A000 for a discarding pipeline. Example: SELECT * FROM beam.verify(''per_minute'', ''2024-05-01'', ''2024-05-02'')';

-- What is asked of the runner (sb_command.h): a row lives as long as who asked waits for it; a pipeline's last backfill until the next one.
CREATE TABLE beam.command (
    id         pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pipeline   pg_catalog.int4 NOT NULL REFERENCES beam.pipeline ON DELETE CASCADE,
    kind       pg_catalog.text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['backfill', 'late', 'replay'])),
    range_from pg_catalog.timestamptz NOT NULL,        -- backfill, late: the windows that overlap this
    range_to   pg_catalog.timestamptz NOT NULL,
    lo         pg_catalog.timestamptz,                 -- of them, those that start from here ...
    hi         pg_catalog.timestamptz,                 -- ... to here are still to be done; NULL: not begun
    ids        pg_catalog.int8[],                      -- replay: of the dead letters; NULL: all
    last_id    pg_catalog.int8 NOT NULL DEFAULT 0,     -- of them, those after this ...
    max_id     pg_catalog.int8 NOT NULL DEFAULT 0,     -- ... and up to this are still to be done; 0: not begun
    first      pg_catalog.timestamptz,                 -- where it began
    state      pg_catalog.text NOT NULL DEFAULT 'waiting' CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['waiting', 'building', 'done', 'failed', 'cancelled'])),
    rows       pg_catalog.int8 NOT NULL DEFAULT 0,
    failed     pg_catalog.int8 NOT NULL DEFAULT 0,
    events     pg_catalog.int8 NOT NULL DEFAULT 0,     -- late: those that are deleted, since the windows have their rows
    sqlstate   pg_catalog.text,
    message    pg_catalog.text,
    detail     pg_catalog.text,
    hint       pg_catalog.text,
    asked_by   pg_catalog.oid NOT NULL,
    at         pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now(),
    started_at pg_catalog.timestamptz,
    updated_at pg_catalog.timestamptz
);

-- Where the last step of a backfill meets the stream (sb_backfill.h).
CREATE TABLE beam.cut (
    pipeline  pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    from_time pg_catalog.timestamptz NOT NULL,         -- windows that end after this ...
    lo        pg_catalog.timestamptz NOT NULL,         -- ... and start here or later ...
    hi        pg_catalog.timestamptz NOT NULL,         -- ... and before this
    snapshot  pg_catalog.pg_snapshot NOT NULL,         -- have all that this has seen
    until     pg_catalog.pg_lsn NOT NULL               -- the stream's position at which the rest begins
);
REVOKE ALL ON beam.command, beam.cut FROM PUBLIC;

-- How far rows are read from a table: histories (also those of versions that are built for a backfill), and backfills that go step by step.
CREATE VIEW beam.stat_backfill WITH (security_barrier) AS
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
COMMENT ON VIEW beam.stat_backfill IS 'how far each pipeline has come in the rows of its table: those that this had before it (kind history), and its running and last backfill (kind backfill): rows, percent, speed, time left, and frontier: the event time (or the column named in by) down to which a history, and up to which a backfill that goes step by step, is in the result';
GRANT SELECT ON beam.stat_backfill TO PUBLIC;

CREATE PROCEDURE beam.backfill(pipeline pg_catalog.text, "from" pg_catalog.timestamptz DEFAULT NULL, "to" pg_catalog.timestamptz DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_backfill';
COMMENT ON PROCEDURE beam.backfill(pg_catalog.text, pg_catalog.timestamptz, pg_catalog.timestamptz) IS
'computes the windows that overlap from..to (null: no bound) anew from the table, also those long closed, and puts them in the place of what the result says; queries see old or new rows, writers are not held up. Sessions, the global window and windows of functions of your own are computed anew all of them, whatever the range. Cancelling the call takes back what is not done yet; beam.stat_backfill shows progress. Errors: 42704, 42501, 22023 empty range, 55000 not running or a version is being built, 0A000 discarding pipeline that has a downstream pipeline, 25001 inside a transaction. Example: CALL beam.backfill(''per_minute'', ''2024-05-01'', ''2024-05-02'')';

CREATE PROCEDURE beam.replay_dead_letters(pipeline pg_catalog.text, ids pg_catalog.int8[] DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_replay_dead_letters';
COMMENT ON PROCEDURE beam.replay_dead_letters(pg_catalog.text, pg_catalog.int8[]) IS
'feeds the dead letters of a pipeline (null: all) to it again, in their order: rows are added or taken back, by op; those that fail again are dead letters again, with the new message, the others are gone. Errors as beam.backfill(). Example: CALL beam.replay_dead_letters(''per_minute'')';

CREATE PROCEDURE beam.replay_late_events(pipeline pg_catalog.text) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_replay_late_events';
COMMENT ON PROCEDURE beam.replay_late_events(pg_catalog.text) IS
'computes the windows of a pipeline''s late events anew from the table, which has their rows, and deletes those events. Errors as beam.backfill(). Example: CALL beam.replay_late_events(''per_minute'')';

-- Backfills that pg_cron runs: one for each pipeline. A row that goes takes its job with it.
CREATE TABLE beam.schedule (
    pipeline pg_catalog.int4 PRIMARY KEY REFERENCES beam.pipeline ON DELETE CASCADE,
    job      pg_catalog.int8 NOT NULL,                 -- in cron.job
    schedule pg_catalog.text NOT NULL,
    range    pg_catalog.interval NOT NULL,
    role     pg_catalog.oid NOT NULL,                  -- who runs it
    at       pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.now()
);
REVOKE ALL ON beam.schedule FROM PUBLIC;

CREATE FUNCTION beam._unschedule() RETURNS pg_catalog.trigger LANGUAGE c SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'stream_beam_unschedule';
COMMENT ON FUNCTION beam._unschedule() IS 'internal: takes the job of pg_cron away with its row in beam.schedule';
REVOKE ALL ON FUNCTION beam._unschedule() FROM PUBLIC;
CREATE TRIGGER unschedule AFTER DELETE ON beam.schedule FOR EACH ROW EXECUTE FUNCTION beam._unschedule();

CREATE FUNCTION beam.schedule_backfill(pipeline pg_catalog.text, schedule pg_catalog.text, range pg_catalog.interval) RETURNS pg_catalog.int8 LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_schedule_backfill';
COMMENT ON FUNCTION beam.schedule_backfill(pg_catalog.text, pg_catalog.text, pg_catalog.interval) IS
'has pg_cron compute the windows of the last "range" anew, at the times that "schedule" says in cron''s form, as the caller; takes the place of an earlier schedule of the pipeline and goes with it. Returns pg_cron''s job. Errors: 0A000 pg_cron is not installed in this database, 42704, 42501, 22023 range. Example: SELECT beam.schedule_backfill(''per_minute'', ''17 3 * * *'', ''2 days'')';

CREATE FUNCTION beam.unschedule_backfill(pipeline pg_catalog.text) RETURNS pg_catalog.bool LANGUAGE c VOLATILE STRICT
AS 'MODULE_PATHNAME', 'stream_beam_unschedule_backfill';
COMMENT ON FUNCTION beam.unschedule_backfill(pg_catalog.text) IS 'takes away what beam.schedule_backfill() has made; false: there was nothing. Errors: 42704, 42501';

CREATE VIEW beam.scheduled_backfills WITH (security_barrier) AS
SELECT p.name AS pipeline, s.schedule, s.range, pg_catalog.pg_get_userbyid(s.role) AS role, s.job, s.at
  FROM beam.schedule s
  JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) s.pipeline
 WHERE pg_catalog.pg_has_role(p.owner, 'USAGE');
COMMENT ON VIEW beam.scheduled_backfills IS 'the backfills that pg_cron runs: cron schedule, how far back, as which role; cron.job_run_details has how job went';
GRANT SELECT ON beam.scheduled_backfills TO PUBLIC;
