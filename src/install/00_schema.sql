\echo Use "CREATE EXTENSION stream_beam" to load this file. \quit

-- Whoever owns the schema could put objects of his own in the place of ours, now or later.
DO $$
BEGIN
    IF (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'beam')
       OPERATOR(pg_catalog.<>) (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER) THEN
        RAISE EXCEPTION 'schema "beam" belongs to another role than the one that creates extension "stream_beam"'
            USING ERRCODE = 'insufficient_privilege', HINT = 'Drop or rename that schema: CREATE EXTENSION makes one.';
    END IF;
    IF EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
                AND d.refobjid OPERATOR(pg_catalog.=) 'beam'::pg_catalog.regnamespace AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass) THEN
        RAISE EXCEPTION 'schema "beam" is not empty'
            USING ERRCODE = 'duplicate_object', HINT = 'Move what is in it to another schema, or drop it.';
    END IF;
END $$;

-- Everything the user calls is in schema beam; what the workers keep is in schema beam_state.
GRANT USAGE ON SCHEMA beam TO PUBLIC;

CREATE SCHEMA beam_state;
COMMENT ON SCHEMA beam_state IS 'state of stream_beam''s pipelines, one table each; written by its workers only';
