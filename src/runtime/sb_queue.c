/*
 * sb_queue.c: rows that wait for a reader are taken; see sb_queue.h.
 *
 * One process writes to a queue, that which has open what the reader reads; so the order of the numbers is that of the commits, and what a statement sees is the
 * queue up to some number.
 *
 * LOCKING. The queue comes after result and state (sb_lock.h): who drops the pipeline waits for a chunk at the result, and so has nobody who writes to the queue wait behind it.
 *
 * Rows are read by number from where nothing is left: those deleted before stay in the table and its index until a VACUUM, and are not gone through again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_error.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "runtime/sb_postponed.h"
#include "runtime/sb_queue.h"
#include "runtime/sb_worker.h"
#include "sink/sb_queue_table.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* Read and handed to the reader at a time; each time is a part of its own, as far as limits are concerned (sb_limit.h). */
#define SB_QUEUE_ROWS 256
/* A table of so many blocks, a thousand rows or two, is taken within a few milliseconds. */
#define SB_QUEUE_SHORT_BLOCKS 16

/* The places of number and op in a queue; behind them are the columns. */
#define SB_QUEUE_SEQ 1
#define SB_QUEUE_OP 2

/* The columns of the reader's source, as they are now, by their place in the queue; error where one that the query uses is another one now. */
static int *
queue_columns(const SbPipeline *reader, TupleDesc layout, TupleDesc queue)
{
	int *places = palloc0(sizeof(int) * layout->natts);

	for (int i = 0; i < queue->natts; i++)
	{
		AttrNumber attno = sb_queue_table_attno(TupleDescAttr(queue, i));

		if (attno != InvalidAttrNumber && attno <= layout->natts && TupleDescAttr(layout, attno - 1)->atttypid == TupleDescAttr(queue, i)->atttypid)
			places[attno - 1] = i + 1;
	}
	for (int attno = -1; (attno = bms_next_member(reader->plan->columns, attno)) >= 0;)
	{
		if (attno <= layout->natts && places[attno - 1] != 0)
			continue;
		ereport(ERROR,
		        (errcode(ERRCODE_DATATYPE_MISMATCH),
		         errmsg("column %d of \"%s\" is of another type than the rows that wait for pipeline \"%s\"", attno, get_rel_name(reader->plan->source), reader->row->name),
		         errhint("beam.resync_pipeline() makes the result anew.")));
	}
	return places;
}

void
sb_queue_begin(SbQueueScan *scan, SbPipeline *reader)
{
	MemoryContext old;
	Relation rel;

	sb_pipeline_lock(reader);
	rel = table_open(reader->plan->source, AccessShareLock);
	/* rows that the pipeline puts aside keep it until the bundle ends */
	old = MemoryContextSwitchTo(TopTransactionContext);
	*scan = (SbQueueScan){.reader = reader, .taken = reader->queue_floor, .layout = CreateTupleDescCopy(RelationGetDescr(rel))};
	MemoryContextSwitchTo(old);
	/* who waits for it has the writer of the table wait, too */
	table_close(rel, AccessShareLock);
	scan->context = AllocSetContextCreate(CurrentMemoryContext, "stream_beam queue", ALLOCSET_DEFAULT_SIZES);
}

/* Rows laid out as the source, in the current context. */
static SbRow *
queue_rows(SbQueueScan *scan)
{
	TupleDesc queue = SPI_tuptable->tupdesc;
	TupleDesc layout = scan->layout;
	SbRow *rows = palloc(sizeof(SbRow) * SB_QUEUE_ROWS);
	Datum *values = palloc(sizeof(Datum) * layout->natts);
	bool *nulls = palloc(sizeof(bool) * layout->natts);
	int *places = queue_columns(scan->reader, layout, queue);
	bool isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];

		for (int c = 0; c < layout->natts; c++)
		{
			nulls[c] = true;
			values[c] = places[c] == 0 ? (Datum) 0 : SPI_getbinval(tuple, queue, places[c], &nulls[c]);
			if (!nulls[c] && TupleDescAttr(layout, c)->attlen == -1)
				values[c] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[c]));
		}
		rows[i] = sb_chain_make_row(heap_form_tuple(layout, values, nulls), layout, scan->reader->plan->source, DatumGetInt16(SPI_getbinval(tuple, queue, SB_QUEUE_OP, &isnull)));
		scan->taken = DatumGetInt64(SPI_getbinval(tuple, queue, SB_QUEUE_SEQ, &isnull));
	}
	return rows;
}

int
sb_queue_next(SbQueueScan *scan, SbRow **rows)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(scan->taken)};
	MemoryContext old;
	SbBracket saved;
	int n;

	if (scan->ended)
		return 0;
	MemoryContextReset(scan->context);
	old = MemoryContextSwitchTo(scan->context);
	sb_bracket_enter_extension(&saved);
	n = (int) sb_sql_run(psprintf("SELECT * FROM beam_state.%s WHERE seq OPERATOR(pg_catalog.>) $1 ORDER BY seq LIMIT %d", sb_queue_table_name(scan->reader->row->id), SB_QUEUE_ROWS),
	                     lengthof(types), types, values, NULL, SPI_OK_SELECT);
	*rows = queue_rows(scan);
	SPI_freetuptable(SPI_tuptable);
	sb_bracket_leave(&saved);
	MemoryContextSwitchTo(old);
	scan->ended = n < SB_QUEUE_ROWS;
	scan->rows += n;
	return n;
}

void
sb_queue_end(SbQueueScan *scan)
{
	Oid types[] = {INT8OID, INT8OID};
	Datum values[] = {Int64GetDatum(scan->reader->queue_floor), Int64GetDatum(scan->taken)};
	SbBracket saved;

	sb_bracket_enter_extension(&saved);
	if (scan->rows > 0)
		sb_sql_run(psprintf("DELETE FROM beam_state.%s WHERE seq OPERATOR(pg_catalog.>) $1 AND seq OPERATOR(pg_catalog.<=) $2", sb_queue_table_name(scan->reader->row->id)),
		           lengthof(types), types, values, NULL, SPI_OK_DELETE);
	sb_bracket_leave(&saved);
	MemoryContextDelete(scan->context);
}

void
sb_queue_take(SbPipeline *reader)
{
	SbQueueScan scan;
	SbRow *rows;
	int n;

	sb_queue_begin(&scan, reader);
	while ((n = sb_queue_next(&scan, &rows)) > 0)
	{
		sb_pipeline_rows(reader, rows, 0, n);
		CHECK_FOR_INTERRUPTS();
	}
	sb_queue_end(&scan);
	/* set again by a rollback */
	reader->queue_pending = false;
}

/* ---- chunks ---- */

static bool
chunk_open(SbRowSource *row_source)
{
	SbPipeline *reader = row_source->pipeline;
	SbQueueScan *scan = row_source->arg;

	sb_queue_begin(scan, reader);
	/* before the rows: all that it has said up to this watermark is in the queue */
	scan->watermark = sb_catalog_find_by_id(reader->row->upstream)->progress.output_watermark;
	scan->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sb_guc_bundle_time_ms);
	return true;
}

static int
chunk_next(SbRowSource *row_source, SbRow **rows)
{
	SbQueueScan *scan = row_source->arg;

	if (scan->rows >= Min(sb_guc_bundle_rows, SB_QUEUE_CHUNK_ROWS) || (scan->rows > 0 && GetCurrentTimestamp() >= scan->until))
		return 0;
	sb_pipeline_at_work(row_source->pipeline, true);
	return sb_queue_next(scan, rows);
}

static void
chunk_close(SbRowSource *row_source)
{
	SbQueueScan *scan = row_source->arg;

	sb_queue_end(scan);
	if (scan->ended)
		row_source->pipeline->queue_watermark = scan->watermark;
	SB_KILL_POINT("before_queue_commit");
}

SbRowSource
sb_queue_rows(SbPipeline *reader, SbQueueScan *scan)
{
	return (SbRowSource){.pipeline = reader, .arg = scan, .open = chunk_open, .next = chunk_next, .close = chunk_close};
}

static void
queue_lock(void *arg)
{
	LockRelationOid(*(Oid *) arg, AccessShareLock);
}

/*
 * Who has made the reader has the queue locked still when its row can be seen, for a moment; who drops it has so for longer, which is seen when it is
 * opened. False: it is locked.
 */
static bool
queue_lock_soon(Oid queue)
{
	ErrorData *error;

	if (ConditionalLockRelationOid(queue, AccessShareLock) || sb_postponed_try(queue_lock, &queue, &error))
		return true;
	if (!sb_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

bool
sb_queue_is_long(int32 reader)
{
	Oid queue = sb_queue_table_relid(reader);
	Relation rel;
	bool is_long;

	if (!OidIsValid(queue) || !queue_lock_soon(queue))
		return true;
	rel = try_table_open(queue, NoLock);
	is_long = rel == NULL || RelationGetNumberOfBlocks(rel) > SB_QUEUE_SHORT_BLOCKS;
	if (rel)
		table_close(rel, NoLock);
	UnlockRelationOid(queue, AccessShareLock);
	return is_long;
}
