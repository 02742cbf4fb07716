/*
 * sb_aside.c: pipelines put aside; see sb_aside.h.
 */
#include "postgres.h"

#include "base/sb_error.h"
#include "base/sb_guc.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "pipeline/sb_queue.h"
#include "runner/sb_aside.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"
#include "worker/sb_postponed.h"
#include "worker/sb_worker.h"

#define SB_ASIDE_STRICT 3
#define SB_ASIDE_FIRST_MS 1000
#define SB_ASIDE_MOST_MS 60000

typedef struct SbAside
{
	int32 pipeline;
	int tries;
	TimestampTz retry_at;
	XLogRecPtr position; /* where it failed, or beyond */
	int64 bundles;       /* that it had then */
	int64 rows_in;       /* beyond what failed, where that was in its queue */
	bool open;           /* it is being tried */
} SbAside;

static List *asides;

static SbAside *
aside_find(int32 pipeline)
{
	ListCell *lc;

	foreach (lc, asides)
	{
		SbAside *aside = lfirst(lc);

		if (aside->pipeline == pipeline)
			return aside;
	}
	return NULL;
}

static SbAside *
aside_make(int32 pipeline)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	SbAside *aside = palloc0(sizeof(SbAside));

	aside->pipeline = pipeline;
	asides = lappend(asides, aside);
	MemoryContextSwitchTo(old);
	return aside;
}

/* Those of this runner that it does not know yet. */
static void
aside_load(const List *mine)
{
	if (!sb_catalog_has("retry"))
		return;
	sb_sql_run("SELECT pipeline, tries, position, retry_at FROM beam.retry", 0, NULL, NULL, NULL,
	           SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;
		int32 pipeline = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
		SbAside *aside;

		if (!list_member_int(mine, pipeline) || aside_find(pipeline))
			continue;
		aside = aside_make(pipeline);
		aside->tries = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
		aside->position = DatumGetLSN(SPI_getbinval(tuple, desc, 3, &isnull));
		aside->rows_in = PG_INT64_MAX;
		/* the clock may have been set back since */
		aside->retry_at = Min(DatumGetTimestampTz(SPI_getbinval(tuple, desc, 4, &isnull)),
		                      TimestampTzPlusMilliseconds(sb_clock_now(), SB_ASIDE_MOST_MS));
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
aside_delete_row(void *arg)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(((const SbAside *) arg)->pipeline)};

	if (!sb_catalog_has("retry"))
		return;
	sb_sql_run("DELETE FROM beam.retry WHERE pipeline OPERATOR(pg_catalog.=) $1", lengthof(types),
	           types, values, NULL, SPI_OK_DELETE);
}

typedef struct SbAsideRow
{
	const SbAside *aside;
	const ErrorData *error;
} SbAsideRow;

static void
aside_put_row(void *arg)
{
	const SbAsideRow *row = arg;
	Oid types[] = {INT4OID, INT4OID, LSNOID, TIMESTAMPTZOID, TEXTOID, TEXTOID};
	Datum values[] = {Int32GetDatum(row->aside->pipeline),
	                  Int32GetDatum(row->aside->tries),
	                  LSNGetDatum(row->aside->position),
	                  TimestampTzGetDatum(row->aside->retry_at),
	                  CStringGetTextDatum(unpack_sql_state(row->error->sqlerrcode)),
	                  sb_sql_error_text(row->error->message)};

	if (!sb_catalog_has("retry"))
		return;
	sb_sql_run(
	    "INSERT INTO beam.retry (pipeline, tries, position, retry_at, error_code, error_message) VALUES ($1, $2, $3, $4, $5, $6)"
	    " ON CONFLICT (pipeline) DO UPDATE SET tries = $2, position = $3, retry_at = $4, error_code = $5, error_message = $6, error_at = pg_catalog.now()",
	    lengthof(types), types, values, NULL, SPI_OK_INSERT);
}

/* It is for those who look: where it cannot be had it is left as it is. */
static void
aside_write(void (*fn)(void *arg), void *arg)
{
	ErrorData *error;

	if (!sb_postponed_try(fn, arg, &error) && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
}

/* Of the list and the table. */
static void
aside_forget(SbAside *aside)
{
	asides = list_delete_ptr(asides, aside);
	aside_write(aside_delete_row, aside);
	pfree(aside);
}

void
sb_aside_leave(int32 pipeline)
{
	SbAside *aside = aside_find(pipeline);

	if (aside == NULL)
		return;
	asides = list_delete_ptr(asides, aside);
	pfree(aside);
}

void
sb_aside_read(const List *running, const List *mine)
{
	List *before = list_copy(asides);
	ListCell *lc;

	foreach (lc, before)
	{
		SbAside *aside = lfirst(lc);

		if (!list_member_int(running, aside->pipeline))
			aside_forget(aside);
		else if (!list_member_int(mine, aside->pipeline))
			sb_aside_leave(aside->pipeline);
	}
	list_free(before);
	aside_load(mine);
}

bool
sb_aside_has(int32 pipeline)
{
	return aside_find(pipeline) != NULL;
}

TimestampTz
sb_aside_until(int32 pipeline)
{
	const SbAside *aside = aside_find(pipeline);

	return aside && !aside->open ? aside->retry_at : 0;
}

bool
sb_aside_try(int32 pipeline)
{
	SbAside *aside = aside_find(pipeline);

	if (aside == NULL || aside->open)
		return false;
	aside->open = true;
	return true;
}

bool
sb_aside_is_strict(int32 pipeline)
{
	const SbAside *aside = aside_find(pipeline);

	return aside && aside->tries >= SB_ASIDE_STRICT;
}

bool
sb_aside_put(const SbPipelineRow *row, const ErrorData *error, XLogRecPtr position)
{
	SbAside *aside = aside_find(row->id);
	SbAsideRow written = {.error = error};
	int delay_ms;

	if (aside == NULL)
		aside = aside_make(row->id);
	if (++aside->tries > sb_guc_max_retries && !sb_error_is_of_machine(error))
	{
		aside_forget(aside);
		return false;
	}
	delay_ms = Min(SB_ASIDE_FIRST_MS << Min(aside->tries - 1, 16), SB_ASIDE_MOST_MS);
	aside->retry_at = TimestampTzPlusMilliseconds(sb_clock_now(), delay_ms);
	aside->position = Max(aside->position, position);
	aside->bundles = row->progress.bundles;
	aside->rows_in = row->progress.rows_in + 2 * SB_QUEUE_CHUNK_ROWS;
	aside->open = false;
	written.aside = aside;
	aside_write(aside_put_row, &written);
	ereport(LOG, (errcode(error->sqlerrcode),
	              errmsg("pipeline \"%s\" is put aside, and tried again in %d s: %s", row->name,
	                     delay_ms / 1000, error->message)));
	return true;
}

bool
sb_aside_fail(const SbPipelineRow *row, const ErrorData *error, XLogRecPtr position)
{
	if (sb_catalog_set_state(row->id, SB_PIPELINE_FAILED, error))
		return true;
	(void) sb_aside_put(row, error, position);
	return false;
}

static bool
aside_has_come_further(const SbAside *aside, const SbPipeline *pipeline)
{
	/*
	 * a downstream pipeline has no place of its own in the WAL: it has had its queue, or more of
	 * that than a chunk and the batch that it ends with
	 */
	if (sb_input(pipeline)->draining)
		return pipeline->row->progress.rows_in >= aside->rows_in;
	if (!sb_catalog_reads_wal(pipeline->row))
		return pipeline->row->progress.bundles > aside->bundles &&
		       !sb_input(pipeline)->queue_pending;
	return pipeline->progress.position >= aside->position;
}

void
sb_aside_look(const List *pipelines)
{
	List *done = NIL;
	ListCell *lc;

	foreach (lc, asides)
	{
		SbAside *aside = lfirst(lc);
		const SbPipeline *pipeline =
		    aside->open ? sb_pipeline_find(unconstify(List *, pipelines), aside->pipeline) : NULL;

		if (pipeline && aside_has_come_further(aside, pipeline))
			done = lappend(done, aside);
	}
	if (done == NIL)
		return;
	sb_transaction_begin();
	foreach (lc, done)
		aside_forget(lfirst(lc));
	sb_transaction_commit();
	list_free(done);
}
