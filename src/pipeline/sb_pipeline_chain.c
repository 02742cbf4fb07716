/*
 * sb_pipeline_chain.c: chained pipelines: a downstream pipeline reads the result of another, its
 * upstream, as a stream, in the same bundle.
 *
 * The rows that a pipeline writes to its result are retained, while the bundle runs, for those
 * downstream of it. These take them after it in the same transaction, and have its output
 * watermark. Rows of an accumulating pipeline replace each other: the old one is retracted first,
 * so that a sum of sums stays right. Discarding and retracting results are appended to: those
 * downstream see rows added.
 *
 * For a downstream pipeline that does not run here (paused, failed, behind) the rows are queued in
 * a table, in the same transaction. It takes them from there when it runs again (sb_queue.h).
 *
 * MEMORY. The rows for the downstream pipelines are in the context `chain` of the upstream, which
 * is reset when all have taken them.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_compat.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_pipeline_private.h"
#include "pipeline/sb_queue.h"
#include "pipeline/sb_step.h"
#include "sink/sb_queue_table.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Rows handed on at a time, while a large bundle runs. */
#define SB_CHAIN_ROWS 20000

struct SbChain
{
	MemoryContext rows_context;
	SbMessage *messages;
	int n, max;
	int accepted; /* of them, those that a rollback leaves */
	/*
	 * what the downstream pipelines are planned over: the result table, or of a version that is not
	 * current that of the current one
	 */
	Oid source;
	SbLayout *layout; /* of it */
	/* of each of the plan's columns in it; of op behind them; none where it has no such column */
	AttrNumber *attno;
	List *running;  /* of SbPipeline */
	int32 *waiting; /* ids of the downstream pipelines that do not run */
	int nwaiting;
	SbQueueTable **queue; /* for each of them */
	bool misses_one;
	bool held; /* rows are not handed on as they come: a careful run */
};

/* False: it is gone, which is seen at the next look at the pipelines. */
static bool
chain_lay_out(SbPipeline *pipeline, SbChain *chain, Oid source)
{
	const SbPlan *plan = pipeline->plan;
	Relation rel = try_table_open(source, AccessShareLock);

	/* dropped by hand: those downstream do not run */
	if (rel == NULL)
		rel = try_table_open(pipeline->row->result, AccessShareLock);
	if (rel == NULL)
		return false;
	chain->source = source;
	chain->layout = sb_layout_create(RelationGetDescr(rel));
	table_close(rel, AccessShareLock);
	/*
	 * one that is gone fails the pipeline when it writes its result, one of a version nobody reads
	 */
	chain->attno = palloc(sizeof(AttrNumber) * (plan->ncolumns + 1));
	for (int i = 0; i < plan->ncolumns; i++)
		chain->attno[i] = sb_column_number(chain->layout->desc, plan->columns_out[i].name,
		                                   plan->columns_out[i].type);
	chain->attno[plan->ncolumns] = sb_column_number(chain->layout->desc, "op", INT2OID);
	return true;
}

static void
chain_add_waiting(SbChain *chain, int32 downstream)
{
	SbQueueTable *queue = sb_queue_table_open(downstream, false);

	if (queue == NULL)
		return;
	chain->waiting[chain->nwaiting] = downstream;
	chain->queue[chain->nwaiting++] = queue;
}

static void
chain_sink_put(void *sink, const SbSinkRow *row)
{
	for (int64 n = 0; n < sb_sink_row_count(row); n++)
		sb_chain_put(sink, row->values, row->nulls, row->op > 0 ? 1 : -1);
}

static const SbSinkKind chain_sink = {.name = "chain", .put = chain_sink_put};

void
sb_chain_set_downstream(SbPipeline *pipeline, const SbDownstream *downstream)
{
	MemoryContext context =
	    AllocSetContextCreate(pipeline->context, "stream_beam chain", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SbChain *chain = NULL;
	ListCell *lc;

	if (pipeline->chain)
		MemoryContextDelete(MemoryContextGetParent(pipeline->chain->rows_context));
	pipeline->chain = NULL;
	if (downstream->running != NIL || downstream->waiting != NIL)
	{
		chain = palloc0(sizeof(SbChain));
		chain->rows_context =
		    AllocSetContextCreate(context, "stream_beam chain rows", ALLOCSET_DEFAULT_SIZES);
		if (!chain_lay_out(pipeline, chain, downstream->source))
			chain = NULL;
	}
	pipeline->chain = chain;
	sb_pipeline_remove_sink(pipeline, &chain_sink);
	if (chain)
	{
		int nwaiting = list_length(downstream->waiting);

		sb_pipeline_add_sink(pipeline, &chain_sink, pipeline);
		chain->running = list_copy(downstream->running);
		chain->misses_one = downstream->misses_one;
		chain->waiting = palloc(sizeof(int32) * (nwaiting + 1));
		chain->queue = palloc(sizeof(SbQueueTable *) * (nwaiting + 1));
		foreach (lc, downstream->waiting)
			chain_add_waiting(chain, lfirst_int(lc));
	}
	MemoryContextSwitchTo(old);
	if (chain == NULL)
		MemoryContextDelete(context);
}

bool
sb_chain_wants_retractions(const SbPipeline *pipeline)
{
	return pipeline->chain != NULL && pipeline->strategy.accumulation == SB_ACCUMULATING;
}

static void
chain_append(SbChain *chain, HeapTuple tuple, int weight)
{
	if (chain->n == chain->max)
	{
		chain->max = chain->max ? chain->max * 2 : 1024;
		chain->messages = chain->messages
		                      ? repalloc_huge(chain->messages, sizeof(SbMessage) * chain->max)
		                      : palloc(sizeof(SbMessage) * chain->max);
	}
	chain->messages[chain->n++] = sb_message_of_tuple(chain->source, chain->layout, tuple, weight);
}

void
sb_chain_put(SbPipeline *pipeline, const Datum *values, const bool *nulls, int op)
{
	SbChain *chain = pipeline->chain;
	MemoryContext old = MemoryContextSwitchTo(chain->rows_context);
	Datum *row = palloc0(sizeof(Datum) * chain->layout->desc->natts);
	bool *isnull = palloc(sizeof(bool) * chain->layout->desc->natts);
	bool appended = pipeline->strategy.accumulation == SB_RETRACTING;

	memset(isnull, true, sizeof(bool) * chain->layout->desc->natts);
	for (int i = 0; i < pipeline->plan->ncolumns; i++)
	{
		if (chain->attno[i] == InvalidAttrNumber)
			continue;
		row[chain->attno[i] - 1] = values[i];
		isnull[chain->attno[i] - 1] = nulls[i];
	}
	if (appended && chain->attno[pipeline->plan->ncolumns] != InvalidAttrNumber)
	{
		row[chain->attno[pipeline->plan->ncolumns] - 1] = Int16GetDatum(op);
		isnull[chain->attno[pipeline->plan->ncolumns] - 1] = false;
	}
	chain_append(chain, heap_form_tuple(chain->layout->desc, row, isnull), appended ? 1 : op);
	pfree(row);
	pfree(isnull);
	MemoryContextSwitchTo(old);
}

/* Rows for downstream pipelines that do not run: into their queues. */
static void
chain_queue_rows(SbChain *chain)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "stream_beam queue rows",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int w = 0; w < chain->nwaiting; w++)
	{
		if (chain->n == 0 || !sb_queue_table_is_there(chain->queue[w]))
			continue;
		for (int i = 0; i < chain->n; i++)
		{
			const SbChange *change = &chain->messages[i].change;
			bool insert = change->op == SB_CHANGE_INSERT;
			HeapTupleData tuple = {.t_len = insert ? change->new_length : change->old_length,
			                       .t_data = insert ? change->new : change->old};

			sb_queue_table_put(chain->queue[w], &tuple, chain->layout->desc, insert ? 1 : -1);
			MemoryContextReset(context);
		}
		sb_queue_table_write(chain->queue[w]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

static void
chain_forget_rows(SbChain *chain)
{
	chain->messages = NULL;
	chain->n = chain->max = chain->accepted = 0;
	MemoryContextReset(chain->rows_context);
}

void
sb_chain_hand_on(SbPipeline *pipeline, bool all)
{
	SbChain *chain = pipeline->chain;
	ListCell *lc;

	if (chain == NULL || chain->n == 0 || chain->held || (!all && chain->n < SB_CHAIN_ROWS))
		return;
	foreach (lc, chain->running)
	{
		SbPipeline *downstream = lfirst(lc);

		sb_pipeline_at_work(downstream, false);
		if (sb_input(downstream)->queue_pending)
			sb_queue_take(downstream);
		sb_pipeline_take(downstream, chain->messages, 0, chain->n);
	}
	sb_pipeline_at_work(pipeline, false);
	chain_queue_rows(chain);
	chain_forget_rows(chain);
}

void
sb_chain_hold(SbPipeline *pipeline)
{
	if (pipeline->chain)
		pipeline->chain->held = true;
}

bool
sb_chain_misses_one(const SbPipeline *pipeline)
{
	return pipeline->chain && pipeline->chain->misses_one;
}

void
sb_chain_messages(SbPipeline *pipeline, SbMessage **messages, int *n)
{
	*messages = pipeline->chain ? pipeline->chain->messages : NULL;
	*n = pipeline->chain ? pipeline->chain->n : 0;
}

void
sb_chain_finish_held(SbPipeline *pipeline)
{
	if (pipeline->chain == NULL)
		return;
	chain_queue_rows(pipeline->chain);
	chain_forget_rows(pipeline->chain);
	pipeline->chain->held = false;
}

void
sb_chain_accept(SbPipeline *pipeline)
{
	if (pipeline->chain)
		pipeline->chain->accepted = pipeline->chain->n;
}

void
sb_chain_rollback(SbPipeline *pipeline)
{
	if (pipeline->chain)
		pipeline->chain->n = pipeline->chain->accepted;
}

void
sb_chain_forget(SbPipeline *pipeline)
{
	if (pipeline->chain == NULL)
		return;
	chain_forget_rows(pipeline->chain);
	foreach_ptr(SbPipeline, downstream, pipeline->chain->running) sb_input(downstream)->upstream =
	    NULL;
}

void
sb_chain_downstream_failed(SbPipeline *pipeline, int32 downstream)
{
	SbChain *chain = pipeline->chain;
	MemoryContext old = MemoryContextSwitchTo(MemoryContextGetParent(chain->rows_context));

	chain->waiting = repalloc(chain->waiting, sizeof(int32) * (chain->nwaiting + 1));
	chain->queue = repalloc(chain->queue, sizeof(SbQueueTable *) * (chain->nwaiting + 1));
	chain_add_waiting(chain, downstream);
	MemoryContextSwitchTo(old);
}

TimestampTz
sb_chain_next_event(const SbPipeline *pipeline, TimestampTz watermark)
{
	TimestampTz event = sb_step_next_event(unconstify(SbPipeline *, pipeline));

	if (pipeline->chain == NULL)
		return event;
	foreach_ptr(SbPipeline, downstream, pipeline->chain->running)
	{
		TimestampTz next = sb_chain_next_event(downstream, watermark);

		/* behind it, it waits for something that is held, not for the clock */
		if (next >= watermark)
			event = Min(event, next);
	}
	return event;
}
