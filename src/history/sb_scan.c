/*
 * sb_scan.c: rows of a pipeline's source out of the table; see sb_scan.h.
 *
 * An ordinary SELECT, planned and run a piece at a time by the executor, whose slots are copied
 * into frames. Where the plan hands on the table's own tuples they are copied as bytes; else (a
 * projection, values stored elsewhere, columns added since) a tuple is formed.
 *
 * MEMORY. The scan's own context holds the plan and the executor's state; the rows are in one that
 * each call resets. Their layout lives as long as the transaction.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_compat.h"
#include "base/sb_statement.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "history/sb_scan.h"
#include "nodes/params.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

typedef struct SbScanReceiver
{
	DestReceiver base; /* so that the executor takes it for one */
	SbScan *scan;
} SbScanReceiver;

struct SbScan
{
	SbPipeline *pipeline;
	MemoryContext context;
	MemoryContext rows_context;
	SbLayout *layout;
	QueryDesc *desc;
	SbScanReceiver receiver;
	XLogRecPtr position;
	SbMessage *messages;
	int n, max;
	bool done;
};

/* ---- a row ---- */

/* The tuple is in the memory of the rows. */
static void
scan_put_tuple(SbScan *scan, HeapTuple tuple)
{
	SbMessage *message = &scan->messages[scan->n++];

	*message = sb_message_of_tuple(scan->pipeline->plan->source, scan->layout, tuple, 1);
	message->position = scan->position;
}

static void
scan_put_copy(SbScan *scan, HeapTuple tuple)
{
	HeapTupleData copy = *tuple;

	copy.t_data = MemoryContextAllocHuge(scan->rows_context, tuple->t_len);
	memcpy(copy.t_data, tuple->t_data, tuple->t_len);
	scan_put_tuple(scan, &copy);
}

/* All values in one tuple of the layout. */
static void
scan_put_values(SbScan *scan, TupleTableSlot *slot)
{
	int natts = scan->layout->desc->natts;
	MemoryContext old = MemoryContextSwitchTo(scan->rows_context);
	Datum *values = palloc(sizeof(Datum) * natts);
	bool *nulls = palloc(sizeof(bool) * natts);

	slot_getallattrs(slot);
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(scan->layout->desc, i);

		values[i] = slot->tts_values[i];
		nulls[i] = slot->tts_isnull[i] || att->attisdropped;
		if (!nulls[i] && att->attlen == -1 && VARATT_IS_EXTERNAL(DatumGetPointer(values[i])))
			values[i] = PointerGetDatum(
			    detoast_external_attr((struct varlena *) DatumGetPointer(values[i])));
	}
	scan_put_tuple(scan, heap_form_tuple(scan->layout->desc, values, nulls));
	MemoryContextSwitchTo(old);
}

static bool
scan_receive(TupleTableSlot *slot, DestReceiver *self)
{
	SbScan *scan = ((SbScanReceiver *) self)->scan;
	HeapTuple tuple = TTS_IS_HEAPTUPLE(slot) || TTS_IS_BUFFERTUPLE(slot)
	                      ? ((HeapTupleTableSlot *) slot)->tuple
	                      : NULL;

	Assert(scan->n < scan->max);
	if (tuple && HeapTupleHeaderGetNatts(tuple->t_data) == scan->layout->desc->natts &&
	    !HeapTupleHasExternal(tuple))
		scan_put_copy(scan, tuple);
	else
		scan_put_values(scan, slot);
	return true;
}

static void
scan_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
scan_no_op(DestReceiver *self)
{
}

/* ---- the query ---- */

/* All columns in their places: a row is read by the numbers of its columns. */
static char *
scan_sql(const SbPlan *plan, TupleDesc layout, const SbScanQuery *query)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < layout->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(layout, i);

		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
		                 att->attisdropped ? "NULL::pg_catalog.int4"
		                                   : quote_identifier(NameStr(att->attname)));
	}
	appendStringInfo(&sql, " FROM %s", sb_sql_relation(plan->source));
	if (query->condition)
		appendStringInfo(&sql, " WHERE %s", query->condition);
	return sql.data;
}

static ParamListInfo
scan_params(const SbScanQuery *query)
{
	ParamListInfo params = makeParamList(query->nargs);

	for (int i = 0; i < query->nargs; i++)
		params->params[i] = (ParamExternData){.value = query->values[i],
		                                      .pflags = PARAM_FLAG_CONST,
		                                      .ptype = query->types[i]};
	return params;
}

/* For the time of planning; returns what ends it. */
static int
scan_force_index(void)
{
	static const char *const others[] = {"enable_seqscan", "enable_indexscan"};
	int level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(others); i++)
		(void) set_config_option(others[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
		                         true, 0, false);
	return level;
}

static PlannedStmt *
scan_plan(const char *sql, const SbScanQuery *query, ParamListInfo params)
{
	List *parsed = pg_parse_query(sql);
	List *queries = pg_analyze_and_rewrite_fixedparams(linitial_node(RawStmt, parsed), sql,
	                                                   query->types, query->nargs, NULL);
	int level = query->by_index ? scan_force_index() : 0;
	PlannedStmt *plan;

	Assert(list_length(parsed) == 1 && list_length(queries) == 1);
	plan = pg_plan_query(linitial_node(Query, queries), sql, CURSOR_OPT_NO_SCROLL, params);
	if (level > 0)
		AtEOXact_GUC(true, level);
	return plan;
}

static void
scan_start(SbScan *scan, Snapshot snapshot, const SbScanQuery *query)
{
	Relation rel = table_open(scan->pipeline->plan->source, AccessShareLock);
	ParamListInfo params = scan_params(query);
	MemoryContext old;
	char *sql;

	/* rows that the pipeline puts aside retain it until the bundle ends */
	old = MemoryContextSwitchTo(TopTransactionContext);
	scan->layout = sb_layout_create(RelationGetDescr(rel));
	MemoryContextSwitchTo(old);
	sql = scan_sql(scan->pipeline->plan, scan->layout->desc, query);
	scan->desc = CreateQueryDesc(scan_plan(sql, query, params), sql, snapshot, InvalidSnapshot,
	                             &scan->receiver.base, params, NULL, 0);
	ExecutorStart(scan->desc, 0);
	table_close(rel, NoLock);
}

SbScan *
sb_scan_begin(SbPipeline *pipeline, Snapshot snapshot, const SbScanQuery *query,
              XLogRecPtr position)
{
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam scan", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SbScan *scan = palloc0(sizeof(SbScan));
	SbBracket saved;

	scan->pipeline = pipeline;
	scan->context = context;
	scan->rows_context =
	    AllocSetContextCreate(context, "stream_beam scanned rows", ALLOCSET_DEFAULT_SIZES);
	scan->position = position;
	scan->receiver = (SbScanReceiver){.base = {.receiveSlot = scan_receive,
	                                           .rStartup = scan_startup,
	                                           .rShutdown = scan_no_op,
	                                           .rDestroy = scan_no_op,
	                                           .mydest = DestNone},
	                                  .scan = scan};
	sb_pipeline_as_owner(pipeline, &saved);
	PushActiveSnapshot(snapshot);
	scan_start(scan, snapshot, query);
	PopActiveSnapshot();
	sb_bracket_leave(&saved);
	MemoryContextSwitchTo(old);
	return scan;
}

int
sb_scan_next(SbScan *scan, SbMessage **messages, int max)
{
	MemoryContext old = MemoryContextSwitchTo(scan->context);
	SbBracket saved;

	Assert(max > 0);
	MemoryContextReset(scan->rows_context);
	scan->n = 0;
	scan->max = max;
	scan->messages = MemoryContextAllocHuge(scan->rows_context, sizeof(SbMessage) * max);
	if (!scan->done)
	{
		sb_pipeline_as_owner(scan->pipeline, &saved);
		PushActiveSnapshot(scan->desc->snapshot);
		sb_executor_run(scan->desc, max);
		PopActiveSnapshot();
		sb_bracket_leave(&saved);
	}
	/* a plan that has come to its end is not to be run again */
	scan->done = scan->done || scan->n < max;
	MemoryContextSwitchTo(old);
	*messages = scan->messages;
	return scan->n;
}

void
sb_scan_end(SbScan *scan)
{
	ExecutorFinish(scan->desc);
	ExecutorEnd(scan->desc);
	FreeQueryDesc(scan->desc);
	MemoryContextDelete(scan->context);
}
