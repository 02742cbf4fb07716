/*
 * sb_failed_groups.c: groups that cannot say what they count; see sb_failed_groups.h.
 */
#include "postgres.h"

#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_pipeline_row.h"
#include "executor/spi.h"
#include "sink/sb_failed_groups.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

static SbStatement *failed;
static int64 collected; /* numbers what is put: of one group the last counts */

/* The library may be newer than the catalog. */
static bool
failed_groups_are_there(void)
{
	return sb_catalog_has("failed_group");
}

#define SB_FAILED_KEY "pipeline, window_end, window_start, key_hash, key_seq"

/* What was put last of each group. */
#define SB_FAILED_LAST \
	"(SELECT DISTINCT ON (" SB_FAILED_KEY ") " SB_FAILED_KEY ", key, sqlstate, message FROM rows" \
	" ORDER BY " SB_FAILED_KEY ", n DESC) r"

/* One statement for those that fail and those that are well again: a group may be both in turn. */
static void
failed_groups_prepare(void)
{
	static const char *const names[] = {"pipeline", "window_end", "window_start",
	                                    "key_hash", "key_seq",    "key",
	                                    "sqlstate", "message",    "n"};
	static const Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID, INT2OID,
	                            TEXTOID, TEXTOID,        TEXTOID,        INT8OID};
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc desc = CreateTemplateTupleDesc(lengthof(names));

	for (int i = 0; i < lengthof(names); i++)
		TupleDescInitEntry(desc, i + 1, names[i], types[i], -1, 0);
	/* what is as it was is not written again */
	failed = sb_statement_create(
	    "WITH gone AS (DELETE FROM beam.failed_group f USING LATERAL " SB_FAILED_LAST
	    " WHERE r.sqlstate IS NULL AND f.pipeline OPERATOR(pg_catalog.=) r.pipeline"
	    " AND f.window_end OPERATOR(pg_catalog.=) r.window_end"
	    " AND f.window_start OPERATOR(pg_catalog.=) r.window_start"
	    " AND f.key_hash OPERATOR(pg_catalog.=) r.key_hash"
	    " AND f.key_seq OPERATOR(pg_catalog.=) r.key_seq)"
	    " INSERT INTO beam.failed_group AS f (" SB_FAILED_KEY ", key, sqlstate, message)"
	    " SELECT " SB_FAILED_KEY ", key::pg_catalog.jsonb, sqlstate, message FROM " SB_FAILED_LAST
	    " WHERE r.sqlstate IS NOT NULL ON CONFLICT (" SB_FAILED_KEY ")"
	    " DO UPDATE SET sqlstate = excluded.sqlstate, message = excluded.message"
	    " WHERE f.sqlstate OPERATOR(pg_catalog.<>) excluded.sqlstate"
	    " OR f.message OPERATOR(pg_catalog.<>) excluded.message",
	    desc, 0, NULL);
	sb_statement_elevate(failed);
	sb_statement_by_index(failed);
	MemoryContextSwitchTo(old);
}

void
sb_failed_groups_put(const SbFailedGroup *group, const ErrorData *error)
{
	bool nulls[9] = {false};
	Datum values[9] = {Int32GetDatum(group->pipeline), TimestampTzGetDatum(group->window.end),
	                   TimestampTzGetDatum(group->window.start),
	                   Int64GetDatum((int64) group->key_hash), Int16GetDatum(group->key_seq)};

	if (failed == NULL)
		failed_groups_prepare();
	nulls[5] = nulls[6] = nulls[7] = error == NULL;
	if (error)
	{
		values[5] = CStringGetTextDatum(group->key);
		values[6] = CStringGetTextDatum(unpack_sql_state(error->sqlerrcode));
		values[7] = sb_sql_error_text(error->message);
	}
	values[8] = Int64GetDatum(++collected);
	sb_statement_put(failed, values, nulls);
}

void
sb_failed_groups_write(void)
{
	if (failed == NULL || sb_statement_rows(failed) == 0)
		return;
	if (!failed_groups_are_there())
	{
		sb_statement_forget(failed);
		return;
	}
	SB_KILL_POINT("before_failed_groups");
	sb_statement_run(failed, NULL, NULL);
	SB_KILL_POINT("after_failed_groups");
}

void
sb_failed_groups_clear(int32 pipeline, const SbWindowRange *range, bool inside)
{
	Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, BOOLOID};
	Datum values[] = {Int32GetDatum(pipeline), TimestampTzGetDatum(range->from),
	                  TimestampTzGetDatum(range->lo), TimestampTzGetDatum(range->hi),
	                  BoolGetDatum(inside)};

	if (!failed_groups_are_there())
		return;
	if (sb_window_range_is_all(range))
		sb_sql_run("DELETE FROM beam.failed_group WHERE pipeline OPERATOR(pg_catalog.=) $1 AND $5",
		           5, types, values, NULL, SPI_OK_DELETE);
	else
		sb_sql_run("DELETE FROM beam.failed_group WHERE pipeline OPERATOR(pg_catalog.=) $1"
		           " AND (window_end OPERATOR(pg_catalog.>) $2 AND window_start OPERATOR(pg_catalog.>=) $3"
		           " AND window_start OPERATOR(pg_catalog.<) $4) OPERATOR(pg_catalog.=) $5",
		           lengthof(types), types, values, NULL, SPI_OK_DELETE);
}

int64
sb_failed_groups_count(int32 pipeline)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	int64 count;
	bool isnull;

	if (!failed_groups_are_there())
		return 0;
	sb_sql_run("SELECT pg_catalog.count(*) FROM beam.failed_group"
	           " WHERE pipeline OPERATOR(pg_catalog.=) $1",
	           lengthof(types), types, values, NULL, SPI_OK_SELECT);
	count = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return count;
}

int
sb_failed_groups_read(int32 pipeline, SbFailedGroup **groups)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	int n;

	if (!failed_groups_are_there())
		return 0;
	n = sb_sql_run("SELECT key_hash, window_start, window_end, key_seq FROM beam.failed_group"
	               " WHERE pipeline OPERATOR(pg_catalog.=) $1",
	               lengthof(types), types, values, NULL, SPI_OK_SELECT);
	*groups = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SbFailedGroup) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;

		(*groups)[i] =
		    (SbFailedGroup){.pipeline = pipeline,
		                    .key_seq = DatumGetInt16(SPI_getbinval(tuple, desc, 4, &isnull)),
		                    .key_hash =
		                        (uint64) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)),
		                    .window = {.start = DatumGetTimestampTz(
		                                   SPI_getbinval(tuple, desc, 2, &isnull)),
		                               .end = DatumGetTimestampTz(
		                                   SPI_getbinval(tuple, desc, 3, &isnull))}};
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}
