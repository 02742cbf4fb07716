\echo Use "CREATE EXTENSION stream_beam" to load this file. \quit

-- Everything the user calls is in schema beam; what the workers keep is in schema beam_state.
GRANT USAGE ON SCHEMA beam TO PUBLIC;

CREATE SCHEMA beam_state;
COMMENT ON SCHEMA beam_state IS 'state of stream_beam''s pipelines, one table each; written by its workers only';
