/*
 * sb_pipeline_defer.c: rows put aside: those whose cell may be in the table, and all rows of merging windows.
 *
 * They are resolved together: one query brings in the cells that are missed; for merging windows the windows of a key's elements are
 * merged with its active ones first (SEMANTICS 4.1), then the elements are added. That is once a bundle, or earlier when many are put
 * aside: the bundle is then cut as if it were two, which changes no last pane.
 *
 * MEMORY. The copies of the rows live in the pipeline's bundle context; live accumulators of the same bundle do too, so the context
 * is not reset here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "runtime/sb_pipeline.h"
#include "sb_guc.h"
#include "utils/memutils.h"

/* Copies of rows put aside at a time: not much of the budget, since each may make a cell when it is resolved. */
static Size
defer_limit(void)
{
	return Min((Size) 32 * 1024 * 1024, (Size) sb_guc_state_memory_kb * 1024 / 16);
}

typedef struct SbDeferredRow
{
	SbRow row; /* its frame is a copy */
	uint64 key_hash;
	TimestampTz event_time;
	SbWindow window;
	int order; /* in which it came: a retraction has to stay behind what it takes back */
	bool done;
} SbDeferredRow;

typedef struct SbDeferred
{
	MemoryContext context; /* child of the bundle's: the copies */
	SbDeferredRow *rows;
	int n, max;
	Size bytes;
} SbDeferred;

void
sb_pipeline_forget_deferred(SbPipeline *pipeline)
{
	/* its memory went with the bundle's */
	pipeline->deferred = NULL;
}

static SbDeferred *
defer_start(SbPipeline *pipeline)
{
	MemoryContext context = AllocSetContextCreate(pipeline->bundle, "stream_beam deferred rows", ALLOCSET_DEFAULT_SIZES);
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
			deferred->rows = MemoryContextAlloc(deferred->context, sizeof(SbDeferredRow) * deferred->max);
	}
	return &deferred->rows[deferred->n++];
}

void
sb_pipeline_defer(SbPipeline *pipeline, const SbRow *row, uint64 key_hash, TimestampTz event_time, SbWindow window)
{
	Size size = offsetof(SbRowFrame, data) + MAXALIGN(row->frame->new_length) + row->frame->old_length;
	SbDeferredRow *slot;
	char *copy;

	if (pipeline->deferred == NULL)
		pipeline->deferred = defer_start(pipeline);
	copy = MemoryContextAllocHuge(pipeline->deferred->context, size);
	memcpy(copy, row->frame, size);
	slot = defer_slot(pipeline->deferred);
	*slot = (SbDeferredRow){.row = *row, .key_hash = key_hash, .event_time = event_time, .window = window, .order = pipeline->deferred->n};
	slot->row.frame = (const SbRowFrame *) copy;
	pipeline->deferred->bytes += size + sizeof(SbDeferredRow);
}

void
sb_pipeline_resolve_if_many(SbPipeline *pipeline)
{
	if (pipeline->deferred && pipeline->deferred->bytes > defer_limit())
		sb_pipeline_resolve(pipeline);
}

/* Makes it the query's current row again; its keys are evaluated anew. */
static void
defer_set_row(SbPipeline *pipeline, SbDeferredRow *deferred, const Datum **keys, const bool **nulls)
{
	/* the query keeps a pointer to the tuple until the next row */
	static HeapTupleData tuple;

	pipeline->current = &deferred->row;
	sb_row_tuple(&deferred->row, &tuple);
	sb_query_set_row(pipeline->query, &tuple, deferred->row.layout);
	(void) sb_query_keys(pipeline->query, keys, nulls);
}

static void
defer_load(SbPipeline *pipeline, SbDeferred *deferred)
{
	SbMiss *misses = MemoryContextAllocHuge(deferred->context, sizeof(SbMiss) * deferred->n);
	int n = 0;

	/* the rows are sorted: equal ones stand together */
	for (int i = 0; i < deferred->n; i++)
	{
		SbMiss miss = {.key_hash = deferred->rows[i].key_hash, .window = deferred->rows[i].window};

		if (!sb_cells_maybe_stored(pipeline->cells, miss.window))
			continue;
		if (n > 0 && misses[n - 1].key_hash == miss.key_hash && sb_window_equal(misses[n - 1].window, miss.window))
			continue;
		misses[n++] = miss;
	}
	sb_cells_load(pipeline->cells, misses, n);
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

/* Adds a row to the cell of a window, or says that it is late. The row is the query's current one. */
static void
defer_add(SbPipeline *pipeline, SbDeferredRow *deferred, SbWindow window, const Datum *keys, const bool *nulls)
{
	SbEntry *entry = sb_cells_find(pipeline->cells, deferred->key_hash, keys, nulls, window);

	if (entry == NULL)
		entry = sb_cells_insert(pipeline->cells, deferred->key_hash, keys, nulls, window);
	if (sb_reduce_closed(sb_cells_cell(pipeline->cells, entry)))
		sb_pipeline_late(pipeline, &deferred->row, deferred->event_time, window, true);
	else
		sb_pipeline_add(pipeline, entry, &deferred->row, deferred->event_time);
}

/* ---- merging windows ---- */

static int
merge_compare(const void *a, const void *b, void *arg)
{
	SbPipeline *pipeline = arg;
	TimestampTz x = sb_cells_cell(pipeline->cells, *(SbEntry *const *) a)->window.start;
	TimestampTz y = sb_cells_cell(pipeline->cells, *(SbEntry *const *) b)->window.start;

	return x < y ? -1 : x > y ? 1
	                          : 0;
}

/* The active cells of a key, by the start of their windows. Closed ones take no part. */
static int
merge_sources(SbPipeline *pipeline, SbEntry *first, SbEntry ***sources)
{
	int n = 0;
	int max = 8;

	*sources = palloc(sizeof(SbEntry *) * max);
	for (SbEntry *entry = first; entry; entry = entry->next_of_key)
	{
		if (sb_reduce_closed(sb_cells_cell(pipeline->cells, entry)))
			continue;
		if (n == max)
			*sources = repalloc(*sources, sizeof(SbEntry *) * (max *= 2));
		(*sources)[n++] = entry;
	}
	qsort_arg(*sources, n, sizeof(SbEntry *), merge_compare, pipeline);
	return n;
}

/* Several cells, or one whose window grew, become the cell of `window`. */
static void
merge_cells(SbPipeline *pipeline, uint64 key_hash, const Datum *keys, const bool *nulls, SbWindow window, SbEntry **sources, int n)
{
	SbCell **cells = palloc(sizeof(SbCell *) * n);
	SbEntry *closed = sb_cells_find(pipeline->cells, key_hash, keys, nulls, window);
	SbEntry *into;

	/* a closed cell of just this window gives way; an active one is among the sources */
	if (closed && sb_reduce_closed(sb_cells_cell(pipeline->cells, closed)))
		sb_cells_remove(pipeline->cells, closed);
	into = sb_cells_insert(pipeline->cells, key_hash, keys, nulls, window);

	for (int i = 0; i < n; i++)
	{
		cells[i] = sb_cells_cell(pipeline->cells, sources[i]);
		/* an error in the middle leaves it half merged */
		sb_cells_change(pipeline->cells, sources[i]);
	}
	sb_reduce_merge(&pipeline->strategy, &pipeline->clocks, sb_cells_cell(pipeline->cells, into), window, cells, n);
	for (int i = 0; i < n; i++)
	{
		into->rows += sources[i]->rows;
		sb_query_acc_merge(pipeline->query, sb_cells_accs(pipeline->cells, into), sb_cells_accs(pipeline->cells, sources[i]));
		/* retracted with the merged window's first pane, so that no reader sees a hole */
		if (sources[i]->emitted_rows)
			sb_cells_add_emitted_rows(pipeline->cells, into, VARDATA(sources[i]->emitted_rows), VARSIZE(sources[i]->emitted_rows) - VARHDRSZ);
		/* the smaller windows are no longer part of the answer */
		if (sources[i]->emitted && pipeline->strategy.accumulation == SB_ACCUMULATING && pipeline->observer == NULL)
			sb_result_remove(pipeline->result, cells[i]->window, keys, nulls);
		sb_cells_remove(pipeline->cells, sources[i]);
	}
	sb_cells_touch(pipeline->cells, into);
	pfree(cells);
}

/* Brings the key's cells to the windows that its active ones and these rows' make together. Returns the merged windows. */
static int
merge_key(SbPipeline *pipeline, SbDeferredRow **rows, int n, const Datum *keys, const bool *nulls, SbWindow **windows)
{
	SbEntry *first = sb_cells_of_key(pipeline->cells, rows[0]->key_hash, keys, nulls);
	SbEntry **sources;
	int count = 0;
	int active = merge_sources(pipeline, first, &sources);
	int from = 0;

	*windows = palloc(sizeof(SbWindow) * (n + active));
	for (int i = 0; i < n; i++)
		(*windows)[count++] = rows[i]->window;
	for (int i = 0; i < active; i++)
		(*windows)[count++] = sb_cells_cell(pipeline->cells, sources[i])->window;
	count = sb_window_merge(*windows, count);
	for (int i = 0; i < count; i++)
	{
		SbWindow window = (*windows)[i];
		int to = from;

		/* both are sorted, and each active window lies in one of the merged ones */
		while (to < active && sb_cells_cell(pipeline->cells, sources[to])->window.start < window.end)
			to++;
		if (to - from > 1 || (to - from == 1 && !sb_window_equal(sb_cells_cell(pipeline->cells, sources[from])->window, window)))
			merge_cells(pipeline, rows[0]->key_hash, keys, nulls, window, &sources[from], to - from);
		from = to;
	}
	Assert(from == active);
	pfree(sources);
	return count;
}

/* All rows of one key: windows first, elements then. */
static void
merge_rows_of_key(SbPipeline *pipeline, SbDeferredRow **rows, int n)
{
	const Datum *keys;
	const bool *nulls;
	SbWindow *windows;
	int count;
	int w = 0;

	defer_set_row(pipeline, rows[0], &keys, &nulls);
	count = merge_key(pipeline, rows, n, keys, nulls, &windows);
	/* rows are sorted by the start of their windows, as the merged ones are */
	for (int i = 0; i < n; i++)
	{
		while (w + 1 < count && windows[w + 1].start <= rows[i]->window.start)
			w++;
		defer_set_row(pipeline, rows[i], &keys, &nulls);
		defer_add(pipeline, rows[i], windows[w], keys, nulls);
	}
	pfree(windows);
}

/* Rows with one hash: usually one key; where not, key by key. */
static void
merge_rows_of_hash(SbPipeline *pipeline, SbDeferredRow *rows, int n)
{
	SbDeferredRow **mine = palloc(sizeof(SbDeferredRow *) * n);
	int left = n;

	while (left > 0)
	{
		SbDeferredRow *pivot = NULL;
		bytea *pivot_key = NULL;
		Datum *pivot_keys = palloc(sizeof(Datum) * (pipeline->plan->nkeys + 1));
		bool *pivot_nulls = palloc(sizeof(bool) * (pipeline->plan->nkeys + 1));
		int count = 0;

		for (int i = 0; i < n; i++)
		{
			const Datum *keys;
			const bool *nulls;

			if (rows[i].done)
				continue;
			if (pivot == NULL)
			{
				pivot = &rows[i];
				defer_set_row(pipeline, pivot, &keys, &nulls);
				pivot_key = sb_query_keys_encode(pipeline->query, keys, nulls);
				sb_query_keys_decode(pipeline->query, pivot_key, pivot_keys, pivot_nulls);
			}
			else
			{
				defer_set_row(pipeline, &rows[i], &keys, &nulls);
				if (!sb_query_keys_equal(pipeline->query, keys, nulls, pivot_keys, pivot_nulls))
					continue;
			}
			rows[i].done = true;
			mine[count++] = &rows[i];
		}
		merge_rows_of_key(pipeline, mine, count);
		left -= count;
		pfree(pivot_key);
		pfree(pivot_keys);
		pfree(pivot_nulls);
	}
	pfree(mine);
}

static void
defer_apply_all(SbPipeline *pipeline, SbDeferred *deferred)
{
	for (int i = 0; i < deferred->n;)
	{
		int end = i + 1;

		if (pipeline->merging)
		{
			while (end < deferred->n && deferred->rows[end].key_hash == deferred->rows[i].key_hash)
				end++;
			merge_rows_of_hash(pipeline, &deferred->rows[i], end - i);
		}
		else
		{
			const Datum *keys;
			const bool *nulls;

			defer_set_row(pipeline, &deferred->rows[i], &keys, &nulls);
			defer_add(pipeline, &deferred->rows[i], deferred->rows[i].window, keys, nulls);
		}
		i = end;
	}
}

void
sb_pipeline_resolve(SbPipeline *pipeline)
{
	SbDeferred *deferred = pipeline->deferred;
	SbSavedRole saved;
	MemoryContext old;

	if (deferred == NULL || deferred->n == 0)
		return;
	qsort(deferred->rows, deferred->n, sizeof(SbDeferredRow), defer_compare);
	old = MemoryContextSwitchTo(deferred->context);
	sb_role_as_worker(&saved);
	defer_load(pipeline, deferred);
	sb_role_restore(&saved);
	sb_pipeline_as_owner(pipeline, &saved);
	defer_apply_all(pipeline, deferred);
	sb_role_restore(&saved);
	MemoryContextSwitchTo(old);
	pipeline->current = NULL;
	MemoryContextDelete(deferred->context);
	pipeline->deferred = NULL;
}
