/*
 * sb_aggregate_defer.c: rows put aside: those whose cell may be in the table, and all rows of
 * merging windows.
 *
 * They are resolved together: one query brings in the cells that are missed; rows of merging
 * windows find their windows together (sb_aggregate_merge.c). That is once a bundle, or earlier
 * when many are put aside: the bundle is then cut as if it were two, which changes no last pane.
 *
 * MEMORY. The copies of the rows live in the pipeline's bundle context; live accumulators of the
 * same bundle do too, so the context is not reset here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/sb_guc.h"
#include "miscadmin.h"
#include "pipeline/sb_aggregate_merge.h"
#include "pipeline/sb_aggregate_private.h"
#include "utils/memutils.h"

/*
 * So many rows are put aside in a bundle, then twice as many, and so on. Soon, since the cells that
 * they miss are likely to be those of the rows that follow, which then need not be copied and
 * sorted; seldom, for a query costs as much as hundreds of rows.
 */
#define SB_DEFER_FIRST_ROWS 1024

/*
 * Copies of rows put aside at a time: not much of the budget, since each may make a cell when it is
 * resolved.
 */
static Size
defer_limit(void)
{
	return Min((Size) 32 * 1024 * 1024, (Size) sb_guc_state_memory_kb * 1024 / 16);
}

typedef struct SbDeferred
{
	MemoryContext context; /* child of the bundle's: the copies */
	SbDeferredRow *rows;
	int n, max;
	Size bytes;
} SbDeferred;

void
sb_aggregate_forget_deferred(SbPipeline *pipeline)
{
	/* its memory went with the bundle's */
	sb_aggregate(pipeline)->deferred = NULL;
	sb_aggregate(pipeline)->defer_rows = SB_DEFER_FIRST_ROWS;
}

static SbDeferred *
defer_start(SbPipeline *pipeline)
{
	MemoryContext context = AllocSetContextCreate(pipeline->bundle, "stream_beam deferred rows",
	                                              ALLOCSET_DEFAULT_SIZES);
	SbDeferred *deferred = MemoryContextAllocZero(pipeline->bundle, sizeof(SbDeferred));

	deferred->context = context;
	return deferred;
}

static SbDeferredRow *
defer_slot(SbDeferred *deferred)
{
	if (deferred->n == deferred->max)
	{
		deferred->max = deferred->max ? deferred->max * 2 : 256;
		if (deferred->rows)
			deferred->rows = repalloc_huge(deferred->rows, sizeof(SbDeferredRow) * deferred->max);
		else
			deferred->rows =
			    MemoryContextAlloc(deferred->context, sizeof(SbDeferredRow) * deferred->max);
	}
	return &deferred->rows[deferred->n++];
}

void
sb_aggregate_defer(SbPipeline *pipeline, const SbRow *row, uint64 key_hash, TimestampTz event_time,
                   SbWindow window)
{
	SbDeferredRow *slot;
	char *copy;

	if (sb_aggregate(pipeline)->deferred == NULL)
		sb_aggregate(pipeline)->deferred = defer_start(pipeline);
	copy = MemoryContextAllocHuge(sb_aggregate(pipeline)->deferred->context, row->length);
	memcpy(copy, row->tuple, row->length);
	slot = defer_slot(sb_aggregate(pipeline)->deferred);
	*slot = (SbDeferredRow){.row = *row,
	                        .key_hash = key_hash,
	                        .event_time = event_time,
	                        .window = window,
	                        .order = sb_aggregate(pipeline)->deferred->n};
	slot->row.tuple = (HeapTupleHeader) copy;
	sb_aggregate(pipeline)->deferred->bytes += row->length + sizeof(SbDeferredRow);
}

void
sb_aggregate_resolve_if_many(SbPipeline *pipeline)
{
	const SbDeferred *deferred = sb_aggregate(pipeline)->deferred;

	if (deferred == NULL)
		return;
	/* sessions put all rows aside, whatever is in memory */
	if (deferred->bytes > defer_limit() ||
	    (!sb_aggregate(pipeline)->merging && deferred->n >= sb_aggregate(pipeline)->defer_rows))
	{
		sb_aggregate_resolve(pipeline);
		sb_aggregate(pipeline)->defer_rows =
		    Min(sb_aggregate(pipeline)->defer_rows * 2, PG_INT32_MAX / 2);
	}
}

void
sb_deferred_set_row(SbPipeline *pipeline, SbDeferredRow *deferred, const Datum **keys,
                    const bool **nulls)
{
	pipeline->current = deferred->row.position;
	sb_query_set_row(pipeline->query, deferred->row.tuple, deferred->row.layout->desc);
	(void) sb_query_keys(pipeline->query, keys, nulls);
}

/*
 * Brings in what is stored of the cells that the rows may need: what is not in memory afterwards
 * does not exist. The rows must be sorted.
 */
static void
defer_load(SbPipeline *pipeline, SbDeferred *deferred)
{
	SbMiss *misses = MemoryContextAllocHuge(deferred->context, sizeof(SbMiss) * deferred->n);
	int n = 0;

	/* the rows are sorted: equal ones stand together */
	for (int i = 0; i < deferred->n; i++)
	{
		SbMiss miss = {.key_hash = deferred->rows[i].key_hash, .window = deferred->rows[i].window};

		if (!sb_cells_maybe_stored(sb_aggregate_cells(pipeline), miss.window))
			continue;
		if (n > 0 && misses[n - 1].key_hash == miss.key_hash &&
		    sb_window_equal(misses[n - 1].window, miss.window))
			continue;
		misses[n++] = miss;
	}
	sb_cells_load(sb_aggregate_cells(pipeline), misses, n);
}

static int
defer_compare(const void *a, const void *b)
{
	const SbDeferredRow *x = a;
	const SbDeferredRow *y = b;

	if (x->key_hash != y->key_hash)
		return x->key_hash < y->key_hash ? -1 : 1;
	if (x->window.start != y->window.start)
		return x->window.start < y->window.start ? -1 : 1;
	if (x->window.end != y->window.end)
		return x->window.end < y->window.end ? -1 : 1;
	return x->order < y->order ? -1 : x->order > y->order;
}

/*
 * Adds a row to the cell of a window, or says that it is late. The row is the query's current one.
 */
static void
defer_add(SbPipeline *pipeline, SbDeferredRow *deferred, SbWindow window, const Datum *keys,
          const bool *nulls)
{
	SbEntry *entry =
	    sb_cells_find(sb_aggregate_cells(pipeline), deferred->key_hash, keys, nulls, window);

	if (entry == NULL)
		entry =
		    sb_cells_insert(sb_aggregate_cells(pipeline), deferred->key_hash, keys, nulls, window);
	if (sb_reduce_closed(sb_cells_cell(sb_aggregate_cells(pipeline), entry)))
		sb_pipeline_late(pipeline, &deferred->row, deferred->event_time, window, window, true);
	else
		sb_aggregate_add(pipeline, entry, &deferred->row, deferred->event_time);
}

static void
defer_apply_all(SbPipeline *pipeline, SbDeferred *deferred)
{
	for (int i = 0; i < deferred->n; i++)
	{
		const Datum *keys;
		const bool *nulls;

		CHECK_FOR_INTERRUPTS();
		sb_deferred_set_row(pipeline, &deferred->rows[i], &keys, &nulls);
		defer_add(pipeline, &deferred->rows[i], deferred->rows[i].window, keys, nulls);
	}
}

void
sb_aggregate_resolve(SbPipeline *pipeline)
{
	SbDeferred *deferred = sb_aggregate(pipeline)->deferred;
	SbBracket saved;
	MemoryContext old;

	if (deferred == NULL || deferred->n == 0)
		return;
	qsort(deferred->rows, deferred->n, sizeof(SbDeferredRow), defer_compare);
	old = MemoryContextSwitchTo(deferred->context);
	sb_pipeline_as_owner(pipeline, &saved);
	defer_load(pipeline, deferred);
	if (sb_aggregate(pipeline)->merging)
		sb_merge_rows(pipeline, deferred->rows, deferred->n);
	else
		defer_apply_all(pipeline, deferred);
	sb_bracket_leave(&saved);
	MemoryContextSwitchTo(old);
	pipeline->current = InvalidXLogRecPtr;
	MemoryContextDelete(deferred->context);
	sb_aggregate(pipeline)->deferred = NULL;
}
