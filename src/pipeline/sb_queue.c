/*
 * sb_queue.c: rows that wait for a downstream pipeline are taken; see sb_queue.h.
 *
 * One process writes to a queue, the one that has the upstream open. So the order of the numbers is
 * that of the commits, and what a statement sees is the queue up to some number.
 *
 * LOCKING. The queue comes after result and state (sb_lock.h). Who drops the pipeline does not lock
 * it.
 *
 * Rows are read by number from where nothing is left: those deleted before stay in the table and
 * its index until a VACUUM, and are not gone through again.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "base/sb_bracket.h"
#include "base/sb_error.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "catalog/sb_history_row.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_queue.h"
#include "sink/sb_queue_table.h"
#include "source/sb_cut.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/sb_postponed.h"
#include "worker/sb_worker.h"

/*
 * Rows read and handed to the downstream pipeline at a time. Each time is a part of its own, as far
 * as limits are concerned (sb_limit.h).
 */
#define SB_QUEUE_ROWS 256
/* A table of so many blocks, a thousand rows or two, is taken within a few milliseconds. */
#define SB_QUEUE_SHORT_BLOCKS 16

/* The places of number and op in a queue; behind them are the columns. */
#define SB_QUEUE_SEQ 1
#define SB_QUEUE_OP 2

/*
 * The columns of the downstream pipeline's source, as they are now, by their place in the queue;
 * error where one that the query uses is another one now.
 */
static int *
queue_columns(const SbPipeline *downstream, TupleDesc layout, TupleDesc queue)
{
	int *places = palloc0(sizeof(int) * layout->natts);

	for (int i = 0; i < queue->natts; i++)
	{
		AttrNumber attno = sb_queue_table_attno(TupleDescAttr(queue, i));

		if (attno != InvalidAttrNumber && attno <= layout->natts &&
		    TupleDescAttr(layout, attno - 1)->atttypid == TupleDescAttr(queue, i)->atttypid)
			places[attno - 1] = i + 1;
	}
	for (int attno = -1; (attno = bms_next_member(downstream->plan->columns, attno)) >= 0;)
	{
		if (attno <= layout->natts && places[attno - 1] != 0)
			continue;
		ereport(ERROR,
		        (errcode(ERRCODE_DATATYPE_MISMATCH),
		         errmsg("column %d of \"%s\" is of another type than the rows that wait for pipeline \"%s\"",
		                attno, get_rel_name(downstream->plan->source), downstream->row->name),
		         errhint("beam.resync_pipeline() makes the result anew.")));
	}
	return places;
}

/* ---- what its source had when the downstream pipeline was made ---- */

/* A statement takes so many rows at a time; each time is a part of its own. */
#define SB_QUEUE_FILL_ROWS 20000

/* NULL: it has those rows. */
static SbHistoryRow *
queue_wanting(int32 downstream)
{
	SbHistoryRow *history;
	SbBracket saved;

	sb_bracket_enter_extension(&saved);
	history = sb_catalog_history(downstream);
	sb_bracket_leave(&saved);
	return history && !history->done ? history : NULL;
}

/* A row of one relation as one of another: columns go by name and type. In the current context. */
static HeapTuple
queue_convert(HeapTuple tuple, TupleDesc from, TupleDesc to)
{
	Datum *values = palloc0(sizeof(Datum) * to->natts);
	bool *nulls = palloc(sizeof(bool) * to->natts);

	memset(nulls, true, sizeof(bool) * to->natts);
	for (int i = 0; i < to->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(to, i);
		AttrNumber attno = column->attisdropped
		                       ? InvalidAttrNumber
		                       : sb_column_number(from, NameStr(column->attname), column->atttypid);

		if (attno != InvalidAttrNumber)
			values[i] = heap_getattr(tuple, attno, from, &nulls[i]);
	}
	return heap_form_tuple(to, values, nulls);
}

/* What was queued, as this snapshot sees it, has been done to the result, as it sees that. */
static void
queue_empty(int32 downstream, Snapshot snapshot)
{
	char *table = psprintf("beam_state.%s", sb_queue_table_name(downstream));
	Oid types[] = {INT8OID};
	Datum last;
	SbBracket saved;
	bool isnull;

	sb_bracket_enter_extension(&saved);
	PushActiveSnapshot(snapshot);
	if (SPI_execute(psprintf("SELECT pg_catalog.max(seq) FROM %s", table), true, 0) !=
	    SPI_OK_SELECT)
		elog(ERROR, "could not look into the queue of pipeline %d", downstream);
	PopActiveSnapshot();
	last = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		sb_sql_run(psprintf("DELETE FROM %s WHERE seq OPERATOR(pg_catalog.<=) $1", table),
		           lengthof(types), types, &last, NULL, SPI_OK_DELETE);
	sb_bracket_leave(&saved);
}

/*
 * The rows of the result that this snapshot sees, but for those from before the cut, where there is
 * one. Returns how many.
 */
static int64
queue_fill_from(SbPipeline *downstream, Relation result, Snapshot snapshot, const SbCut *cut)
{
	MemoryContext rows = AllocSetContextCreate(CurrentMemoryContext, "stream_beam queue rows",
	                                           ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	SbQueueTable *queue = sb_queue_table_open(downstream->row->id, true);
	Relation planned = table_open(downstream->plan->source, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(result, NULL);
	TableScanDesc scan = table_beginscan(result, snapshot, 0, NULL);
	int64 n = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

		if (cut && sb_cut_is_before(cut, HeapTupleHeaderGetRawXmin(tuple->t_data)))
			continue;
		MemoryContextSwitchTo(rows);
		if (RelationGetRelid(result) != RelationGetRelid(planned))
			tuple = queue_convert(tuple, RelationGetDescr(result), RelationGetDescr(planned));
		sb_queue_table_put(queue, tuple, RelationGetDescr(planned), 1);
		MemoryContextSwitchTo(old);
		MemoryContextReset(rows);
		n++;
		if (sb_queue_table_rows(queue) < SB_QUEUE_FILL_ROWS)
			continue;
		sb_queue_table_write(queue);
		sb_worker_check();
		sb_pipeline_at_work(downstream, true);
	}
	sb_queue_table_write(queue);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(planned, AccessShareLock);
	return n;
}

/*
 * Rows of the result take the place of what the same snapshot sees in the queue: so each is there
 * once, and before what is queued later.
 */
static void
queue_fill(SbPipeline *downstream, SbHistoryRow *history)
{
	SbPipelineRow *upstream;
	Relation result;
	Snapshot snapshot;
	SbBracket saved;

	sb_bracket_enter_extension(&saved);
	upstream = sb_catalog_find_by_id(downstream->row->upstream);
	sb_bracket_leave(&saved);
	sb_pipeline_lock(downstream);
	result = table_open(upstream->result, AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	queue_empty(downstream->row->id, snapshot);
	history->rows =
	    queue_fill_from(downstream, result, snapshot,
	                    history->snapshot ? sb_cut_parse(history->snapshot, InvalidXLogRecPtr)
	                                      : NULL);
	UnregisterSnapshot(snapshot);
	/* who waits for it has the writer of the table wait, too */
	table_close(result, AccessShareLock);
	history->begun = history->scanned = history->done = true;
	history->chunks = 1;
	sb_bracket_enter_extension(&saved);
	sb_catalog_put_history(history);
	sb_bracket_leave(&saved);
	SB_KILL_POINT("after_queue_fill");
}

void
sb_queue_fill(SbPipeline *downstream)
{
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam queue", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SbHistoryRow *history = queue_wanting(downstream->row->id);

	if (history)
		queue_fill(downstream, history);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/* ---- a look through it ---- */

void
sb_queue_begin(SbQueueScan *scan, SbPipeline *downstream)
{
	MemoryContext old;
	Relation rel;

	sb_pipeline_lock(downstream);
	rel = table_open(downstream->plan->source, AccessShareLock);
	/* rows that the pipeline puts aside retain it until the bundle ends */
	old = MemoryContextSwitchTo(TopTransactionContext);
	*scan = (SbQueueScan){.downstream = downstream,
	                      .taken = sb_input(downstream)->queue_floor,
	                      .layout = sb_layout_create(RelationGetDescr(rel))};
	MemoryContextSwitchTo(old);
	/* who waits for it has the writer of the table wait, too */
	table_close(rel, AccessShareLock);
	scan->context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam queue", ALLOCSET_DEFAULT_SIZES);
}

/* Rows laid out as the source, in the current context. */
static SbMessage *
queue_messages(SbQueueScan *scan)
{
	TupleDesc queue = SPI_tuptable->tupdesc;
	TupleDesc layout = scan->layout->desc;
	SbMessage *messages = palloc(sizeof(SbMessage) * SB_QUEUE_ROWS);
	Datum *values = palloc(sizeof(Datum) * layout->natts);
	bool *nulls = palloc(sizeof(bool) * layout->natts);
	int *places = queue_columns(scan->downstream, layout, queue);
	bool isnull;

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];

		for (int c = 0; c < layout->natts; c++)
		{
			nulls[c] = true;
			values[c] =
			    places[c] == 0 ? (Datum) 0 : SPI_getbinval(tuple, queue, places[c], &nulls[c]);
			if (!nulls[c] && TupleDescAttr(layout, c)->attlen == -1)
				values[c] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[c]));
		}
		messages[i] =
		    sb_message_of_tuple(scan->downstream->plan->source, scan->layout,
		                        heap_form_tuple(layout, values, nulls),
		                        DatumGetInt16(SPI_getbinval(tuple, queue, SB_QUEUE_OP, &isnull)));
		scan->taken = DatumGetInt64(SPI_getbinval(tuple, queue, SB_QUEUE_SEQ, &isnull));
	}
	return messages;
}

int
sb_queue_next(SbQueueScan *scan, SbMessage **messages)
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
	n = (int) sb_sql_run(
	    psprintf("SELECT * FROM beam_state.%s WHERE seq OPERATOR(pg_catalog.>) $1 ORDER BY seq LIMIT %d",
	             sb_queue_table_name(scan->downstream->row->id), SB_QUEUE_ROWS),
	    lengthof(types), types, values, NULL, SPI_OK_SELECT);
	*messages = queue_messages(scan);
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
	Datum values[] = {Int64GetDatum(sb_input(scan->downstream)->queue_floor),
	                  Int64GetDatum(scan->taken)};
	SbBracket saved;

	sb_bracket_enter_extension(&saved);
	if (scan->rows > 0)
		sb_sql_run(
		    psprintf("DELETE FROM beam_state.%s WHERE seq OPERATOR(pg_catalog.>) $1 AND seq OPERATOR(pg_catalog.<=) $2",
		             sb_queue_table_name(scan->downstream->row->id)),
		    lengthof(types), types, values, NULL, SPI_OK_DELETE);
	sb_bracket_leave(&saved);
	MemoryContextDelete(scan->context);
}

void
sb_queue_take(SbPipeline *downstream)
{
	SbQueueScan scan;
	SbMessage *messages;
	int n;

	sb_queue_begin(&scan, downstream);
	while ((n = sb_queue_next(&scan, &messages)) > 0)
	{
		sb_pipeline_take(downstream, messages, 0, n);
		CHECK_FOR_INTERRUPTS();
	}
	sb_queue_end(&scan);
	/* set again by a rollback */
	sb_input(downstream)->queue_pending = false;
}

/* ---- chunks ---- */

static bool
chunk_open(SbRowSource *row_source)
{
	SbPipeline *downstream = row_source->pipeline;
	SbQueueScan *scan = row_source->arg;

	sb_queue_begin(scan, downstream);
	/* before the rows: all that it has said up to this watermark is in the queue */
	scan->watermark = sb_catalog_find_by_id(downstream->row->upstream)->progress.output_watermark;
	sb_queue_fill(downstream);
	scan->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sb_guc_bundle_time_ms);
	return true;
}

static int
chunk_next(SbRowSource *row_source, SbMessage **messages)
{
	SbQueueScan *scan = row_source->arg;

	if (scan->rows >= Min(sb_guc_bundle_rows, SB_QUEUE_CHUNK_ROWS) ||
	    (scan->rows > 0 && GetCurrentTimestamp() >= scan->until))
		return 0;
	sb_pipeline_at_work(row_source->pipeline, true);
	return sb_queue_next(scan, messages);
}

static void
chunk_close(SbRowSource *row_source)
{
	SbQueueScan *scan = row_source->arg;

	sb_queue_end(scan);
	if (scan->ended)
		sb_input(row_source->pipeline)->queue_watermark = scan->watermark;
	SB_KILL_POINT("before_queue_commit");
}

SbRowSource
sb_queue_rows(SbPipeline *downstream, SbQueueScan *scan)
{
	return (SbRowSource){.pipeline = downstream,
	                     .arg = scan,
	                     .open = chunk_open,
	                     .next = chunk_next,
	                     .close = chunk_close};
}

static void
queue_lock(void *arg)
{
	LockRelationOid(*(Oid *) arg, AccessShareLock);
}

/*
 * A transaction that has made the downstream pipeline may have the queue locked for a moment after
 * its row can be seen. One that drops it has it locked for longer, which is seen when it is opened.
 * False: it is locked.
 */
static bool
queue_lock_soon(Oid relation)
{
	ErrorData *error;

	if (ConditionalLockRelationOid(relation, AccessShareLock) ||
	    sb_postponed_try(queue_lock, &relation, &error))
		return true;
	if (!sb_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	return false;
}

/* True: it cannot be told, since somebody has it locked; or it is gone. */
static bool
queue_is_large(Oid relation)
{
	Relation rel;
	bool is_large;

	if (!OidIsValid(relation) || !queue_lock_soon(relation))
		return true;
	rel = try_table_open(relation, NoLock);
	is_large = rel == NULL || RelationGetNumberOfBlocks(rel) > SB_QUEUE_SHORT_BLOCKS;
	if (rel)
		table_close(rel, NoLock);
	UnlockRelationOid(relation, AccessShareLock);
	return is_large;
}

bool
sb_queue_is_long(const SbPipelineRow *downstream, const SbPipelineRow *upstream)
{
	if (queue_is_large(sb_queue_table_relid(downstream->id)))
		return true;
	return queue_wanting(downstream->id) != NULL && queue_is_large(upstream->result);
}
