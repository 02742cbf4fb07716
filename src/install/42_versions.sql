-- Versions of a pipeline.
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

CREATE FUNCTION beam.rollback_pipeline(name pg_catalog.text, version pg_catalog.int4 DEFAULT NULL, keep pg_catalog.interval DEFAULT '1 day') RETURNS pg_catalog.int4 LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stream_beam_rollback_pipeline';
COMMENT ON FUNCTION beam.rollback_pipeline(pg_catalog.text, pg_catalog.int4, pg_catalog.interval) IS
'a version of the pipeline that is still kept (the newest, or the one with this number) takes its place again; it has run on, so it is up to date. The version that goes is kept in turn, for the time keep (null: it is dropped). Returns the number of the version; CALL beam.wait_for_alter() waits until it is in place';

CREATE FUNCTION beam.resync_pipeline(name pg_catalog.text) RETURNS pg_catalog.int4 LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stream_beam_resync_pipeline';
COMMENT ON FUNCTION beam.resync_pipeline(pg_catalog.text) IS
'builds a pipeline anew from its table, whatever its state: after a lost slot, a failure, a restored backup. Until it is as far the result stays as it is; then the new version takes its place in one transaction, and the old one is dropped. Returns the number of the version; CALL beam.wait_for() waits for it too';

CREATE FUNCTION beam.cancel_alter(name pg_catalog.text) RETURNS pg_catalog.void LANGUAGE c VOLATILE
AS 'MODULE_PATHNAME', 'stream_beam_cancel_alter';
COMMENT ON FUNCTION beam.cancel_alter(pg_catalog.text) IS
'gives up the version that beam.alter_pipeline(), resync_pipeline() or rollback_pipeline() is preparing; the current one goes on';

CREATE PROCEDURE beam.wait_for_alter(name pg_catalog.text, timeout pg_catalog.interval DEFAULT NULL) LANGUAGE c
AS 'MODULE_PATHNAME', 'stream_beam_wait_for_alter';
COMMENT ON PROCEDURE beam.wait_for_alter(pg_catalog.text, pg_catalog.interval) IS
'returns when no new version of the pipeline is being built any more: it has taken its place, or was given up; error when it does not run, or after timeout';
