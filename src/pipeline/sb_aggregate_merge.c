/*
 * sb_aggregate_merge.c: rows of merging windows find their windows, key by key.
 *
 * ADDING (SEMANTICS 4.1). The own windows of a key's elements are merged with its active ones
 * first, then the elements are added. A window that has grown is a new window; the cells it is made
 * of are merged into its cell.
 *
 * TAKING BACK. Where rows can be taken back, each cell retains its elements (sb_elements.h). What
 * rows make together with the active windows is an upper bound: the elements that are there in the
 * end, removed ones left out, say which windows there are. As long as they fill the bound, all is
 * as in adding. Otherwise a session has lost what held it together: it is taken apart. What is left
 * of it are new windows, to which the elements that are left come as if they came now:
 * accumulators, trigger and pane numbers begin anew. A window without elements is gone at once. An
 * element that is not there was never added (a dead letter, or a late event): there is nothing to
 * be taken back.
 *
 * RESULT. The row of a window that is no more is removed from the result with the first pane of the
 * window that has taken its place, the first one of several, so that a query always finds one of
 * them; where nothing has taken its place, at once. Windows of a key that are active never overlap,
 * and a row yet to be removed belongs to a cell whose window overlaps it: so it is never that of
 * another cell.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "miscadmin.h"
#include "pipeline/sb_aggregate_firing.h"
#include "pipeline/sb_aggregate_merge.h"
#include "state/sb_elements.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* One key at work. */
typedef struct SbMerge
{
	SbPipeline *pipeline;
	uint64 key_hash;
	const Datum *keys;
	const bool *nulls;
	SbDeferredRow **rows; /* by their own windows */
	int n;
	SbElementChange *changes; /* one for each row, in the same order; NULL: none are retained */
} SbMerge;

/* What a window is made of: active cells and rows. */
typedef struct SbMergeParts
{
	SbWindow window;
	SbEntry **sources;
	int nsources;
	int lo, hi; /* rows */
} SbMergeParts;

static inline SbCell *
merge_cell(const SbMerge *merge, SbEntry *entry)
{
	return sb_cells_cell(sb_aggregate_cells(merge->pipeline), entry);
}

static inline bool
merge_overlap(SbWindow a, SbWindow b)
{
	return a.start < b.end && b.start < a.end;
}

/* ---- rows of windows that are no more ---- */

/* Will the cell make a pane that takes the place of what was said of this window? */
static inline bool
merge_takes_place(SbMerge *merge, SbEntry *entry, SbWindow window)
{
	return entry->touched && merge_overlap(merge_cell(merge, entry)->window, window);
}

/*
 * The row of `window` makes room for that of the first of these cells which takes its place, or for
 * none.
 */
static void
merge_replace_row(SbMerge *merge, SbWindow window, SbEntry **into, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (!merge_takes_place(merge, into[i], window))
			continue;
		/* its own row is there already */
		if (sb_window_equal(merge_cell(merge, into[i])->window, window))
			into[i]->emitted = true;
		else
			sb_cells_add_removed(sb_aggregate_cells(merge->pipeline), into[i], window);
		return;
	}
	sb_pipeline_remove_row(merge->pipeline, window, merge->keys, merge->nulls, SB_ALL_SINKS);
}

/*
 * The rows to be retracted with the source's next pane, of its own window and of earlier ones: each
 * by its window, as merge_replace_row() does it.
 */
static void
merge_replace_emitted(SbMerge *merge, SbEntry *source, SbEntry **into, int n)
{
	SbPipeline *pipeline = merge->pipeline;
	StringInfoData rest;
	bytea *packed;

	initStringInfo(&rest);
	for (const char *at = NULL; (packed = sb_aggregate_next_emitted(source, &at)) != NULL;)
	{
		SbWindow window;
		int i = 0;

		sb_result_unpack(pipeline->result, packed, pipeline->out_values, pipeline->out_nulls);
		window = sb_plan_row_window(pipeline->plan, pipeline->out_values, (SbWindow){0});
		while (i < n && !merge_takes_place(merge, into[i], window))
			i++;
		if (i < n)
			sb_cells_add_emitted_rows(sb_aggregate_cells(pipeline), into[i], (char *) packed,
			                          VARSIZE(packed));
		else
			appendBinaryStringInfo(&rest, (char *) packed, VARSIZE(packed));
	}
	sb_cells_clear_emitted_rows(sb_aggregate_cells(pipeline), source);
	if (rest.len == 0)
		return;
	sb_cells_add_emitted_rows(sb_aggregate_cells(pipeline), source, rest.data, rest.len);
	sb_aggregate_retract(pipeline, source, NULL);
}

/* What has been said of a source, which is about to go, is taken back with what takes its place. */
static void
merge_replace_rows(SbMerge *merge, SbEntry *source, SbEntry **into, int n)
{
	SbPipeline *pipeline = merge->pipeline;
	SbWindow window = merge_cell(merge, source)->window;
	SbSession *session = sb_cells_session(sb_aggregate_cells(pipeline), source);

	if (pipeline->strategy.accumulation == SB_ACCUMULATING)
	{
		for (int i = 0; i < session->nremoved; i++)
			merge_replace_row(merge, session->removed[i], into, n);
		if (source->emitted)
			merge_replace_row(merge, window, into, n);
	}
	sb_aggregate_recall(pipeline, source);
	if (source->emitted_rows)
		merge_replace_emitted(merge, source, into, n);
}

/* ---- the cells of windows ---- */

/* A new cell; a closed one of just this window gives way. */
static SbEntry *
merge_make(SbMerge *merge, SbWindow window)
{
	SbCells *cells = sb_aggregate_cells(merge->pipeline);
	SbEntry *closed = sb_cells_find(cells, merge->key_hash, merge->keys, merge->nulls, window);

	if (closed)
	{
		Assert(sb_reduce_closed(merge_cell(merge, closed)));
		sb_cells_remove(cells, closed);
	}
	return sb_cells_insert(cells, merge->key_hash, merge->keys, merge->nulls, window);
}

/* Several cells, or one whose window grew, become the cell of the window. */
static SbEntry *
merge_cells(SbMerge *merge, const SbMergeParts *parts)
{
	SbPipeline *pipeline = merge->pipeline;
	SbCell **from = palloc(sizeof(SbCell *) * parts->nsources);
	SbEntry *into = merge_make(merge, parts->window);

	for (int i = 0; i < parts->nsources; i++)
	{
		from[i] = merge_cell(merge, parts->sources[i]);
		/* an error in the middle leaves it half merged */
		sb_cells_change(sb_aggregate_cells(pipeline), parts->sources[i]);
	}
	sb_reduce_merge(&pipeline->strategy, &pipeline->clocks, merge_cell(merge, into), parts->window,
	                from, parts->nsources);
	sb_cells_touch(sb_aggregate_cells(pipeline), into);
	for (int i = 0; i < parts->nsources; i++)
	{
		SbEntry *source = parts->sources[i];

		into->rows += source->rows;
		sb_query_acc_merge(pipeline->query, sb_cells_accs(sb_aggregate_cells(pipeline), into),
		                   sb_cells_accs(sb_aggregate_cells(pipeline), source));
		merge_replace_rows(merge, source, &into, 1);
		sb_aggregate_forget_failed(pipeline, source);
		sb_cells_remove(sb_aggregate_cells(pipeline), source);
	}
	pfree(from);
	return into;
}

/* The cell of a window that all its parts make together: it may be a closed one. */
static SbEntry *
merge_into_one(SbMerge *merge, const SbMergeParts *parts)
{
	SbCells *cells = sb_aggregate_cells(merge->pipeline);
	SbEntry *entry;

	if (parts->nsources == 1 &&
	    sb_window_equal(merge_cell(merge, parts->sources[0])->window, parts->window))
		return parts->sources[0];
	if (parts->nsources > 0)
		return merge_cells(merge, parts);
	entry = sb_cells_find(cells, merge->key_hash, merge->keys, merge->nulls, parts->window);
	return entry
	           ? entry
	           : sb_cells_insert(cells, merge->key_hash, merge->keys, merge->nulls, parts->window);
}

static void
merge_late(SbMerge *merge, SbDeferredRow *deferred, SbWindow window)
{
	sb_pipeline_late(merge->pipeline, &deferred->row, deferred->event_time, deferred->window,
	                 window, true);
}

/* ---- adding ---- */

static void
merge_add(SbMerge *merge, const SbMergeParts *parts)
{
	SbEntry *entry = merge_into_one(merge, parts);
	bool closed = sb_reduce_closed(merge_cell(merge, entry));

	for (int i = parts->lo; i < parts->hi; i++)
	{
		const Datum *keys;
		const bool *nulls;

		sb_deferred_set_row(merge->pipeline, merge->rows[i], &keys, &nulls);
		if (closed)
			merge_late(merge, merge->rows[i], parts->window);
		else
			sb_aggregate_add(merge->pipeline, entry, &merge->rows[i]->row,
			                 merge->rows[i]->event_time);
	}
}

/* ---- adding and taking back ---- */

static SbDeferredRow *
merge_row_of(const SbMerge *merge, const SbElementChange *change)
{
	return merge->rows[change->order];
}

/* Nothing to be taken back: unless the row is in a window that has closed, it was never added. */
static void
merge_missing(SbMerge *merge, SbDeferredRow *deferred)
{
	SbEntry *entry = sb_cells_of_key(sb_aggregate_cells(merge->pipeline), merge->key_hash,
	                                 merge->keys, merge->nulls, deferred->window.start);

	/* windows that have closed may lie in each other */
	for (; entry; entry = entry->prev_of_key)
	{
		SbWindow window = merge_cell(merge, entry)->window;

		if (sb_reduce_closed(merge_cell(merge, entry)) && window.start <= deferred->window.start &&
		    window.end >= deferred->window.end)
		{
			merge_late(merge, deferred, window);
			return;
		}
	}
}

static void
merge_missing_of(SbMerge *merge, int lo, int hi)
{
	for (int i = lo; i < hi; i++)
	{
		if (merge->changes[i].missing)
			merge_missing(merge, merge_row_of(merge, &merge->changes[i]));
	}
}

/* The window has closed. What was missing in it has been told already. */
static void
merge_all_late(SbMerge *merge, int lo, int hi, SbWindow window)
{
	for (int i = lo; i < hi; i++)
	{
		if (!merge->changes[i].missing)
			merge_late(merge, merge_row_of(merge, &merge->changes[i]), window);
	}
}

/* Changes the cell as the rows at [lo, hi) say, and gives it its new elements. */
static void
merge_apply(SbMerge *merge, SbEntry *entry, int lo, int hi, const bytea *elements)
{
	SbPipeline *pipeline = merge->pipeline;
	SbAcc *accs = sb_cells_accs(sb_aggregate_cells(pipeline), entry);

	sb_cells_touch(sb_aggregate_cells(pipeline), entry);
	for (int i = lo; i < hi; i++)
	{
		const SbElementChange *change = &merge->changes[i];

		if (change->missing)
			continue;
		pipeline->current = merge_row_of(merge, change)->row.position;
		sb_aggregate_reduce(pipeline, merge_cell(merge, entry), change->element.time);
		sb_query_element_set(pipeline->query, change->element.data, change->element.size);
		if (change->removes)
			sb_query_acc_retract(pipeline->query, accs);
		else
			sb_query_acc_add(pipeline->query, accs);
		entry->rows += change->removes ? -1 : 1;
	}
	sb_cells_set_elements(sb_aggregate_cells(pipeline), entry, elements);
}

/* A new cell of what is left: its elements come as if they came now. */
static SbEntry *
merge_rebuild(SbMerge *merge, SbWindow window, const SbElement *elements, int64 n)
{
	SbPipeline *pipeline = merge->pipeline;
	SbEntry *entry = merge_make(merge, window);

	for (int64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		sb_query_element_set(pipeline->query, elements[i].data, elements[i].size);
		for (int64 one = 0; one < elements[i].count; one++)
		{
			sb_reduce_move(&pipeline->strategy, &pipeline->clocks, merge_cell(merge, entry),
			               elements[i].time);
			sb_query_acc_add(pipeline->query, sb_cells_accs(sb_aggregate_cells(pipeline), entry));
		}
		entry->rows += elements[i].count;
	}
	sb_cells_touch(sb_aggregate_cells(pipeline), entry);
	sb_cells_set_elements(sb_aggregate_cells(pipeline), entry, sb_elements_pack(elements, n));
	return entry;
}

/*
 * The changes at [lo, hi) whose elements lie in the window: sorted by time, as they are. *lo is
 * moved behind them.
 */
static int
merge_changes_in(const SbMerge *merge, SbWindow window, int *lo, int hi)
{
	int first;

	while (*lo < hi && merge->changes[*lo].element.time < window.start)
		(*lo)++;
	first = *lo;
	while (*lo < hi && merge->changes[*lo].element.time < window.end)
		(*lo)++;
	return first;
}

static bool
merge_any_made(const SbMerge *merge, int lo, int hi)
{
	for (int i = lo; i < hi; i++)
	{
		if (!merge->changes[i].missing)
			return true;
	}
	return false;
}

/*
 * A window that is there in the end: the source that has it already, or a new cell. NULL: it has
 * closed.
 */
static SbEntry *
merge_remain(SbMerge *merge, const SbMergeParts *parts, SbWindow window, const SbElement *elements,
             int64 n, int *lo)
{
	int first = merge_changes_in(merge, window, lo, parts->hi);

	for (int i = 0; i < parts->nsources; i++)
	{
		if (!sb_window_equal(merge_cell(merge, parts->sources[i])->window, window))
			continue;
		if (merge_any_made(merge, first, *lo))
			merge_apply(merge, parts->sources[i], first, *lo, sb_elements_pack(elements, n));
		return parts->sources[i];
	}
	if (parts->nsources == 0 && sb_cells_find(sb_aggregate_cells(merge->pipeline), merge->key_hash,
	                                          merge->keys, merge->nulls, window))
	{
		merge_all_late(merge, first, *lo, window);
		return NULL;
	}
	return merge_rebuild(merge, window, elements, n);
}

/* The parts do not make one window: the sources are taken apart. */
static void
merge_take_apart(SbMerge *merge, const SbMergeParts *parts, const SbElementList *elements,
                 const SbWindow *windows, int n)
{
	SbCells *cells = sb_aggregate_cells(merge->pipeline);
	SbEntry **remain = palloc(sizeof(SbEntry *) * (n + 1));
	int nremain = 0;
	int lo = parts->lo;
	int64 at = 0;

	for (int i = 0; i < n; i++)
	{
		int64 first = at;
		SbEntry *entry;

		while (at < elements->n && elements->at[at].time < windows[i].end)
			at++;
		entry = merge_remain(merge, parts, windows[i], &elements->at[first], at - first, &lo);
		if (entry)
			remain[nremain++] = entry;
	}
	for (int i = 0; i < parts->nsources; i++)
	{
		SbEntry *source = parts->sources[i];
		bool stays = false;

		for (int j = 0; j < nremain; j++)
			stays = stays || remain[j] == source;
		if (stays)
			continue;
		sb_cells_change(cells, source);
		merge_replace_rows(merge, source, remain, nremain);
		sb_aggregate_forget_failed(merge->pipeline, source);
		sb_cells_remove(cells, source);
	}
}

/* The windows of these elements, in the current context. */
static int
merge_windows_of(SbPipeline *pipeline, const SbElementList *elements, SbWindow **windows)
{
	int n = 0;

	*windows = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SbWindow) * (elements->n + 1));
	for (int64 i = 0; i < elements->n; i++)
	{
		SbWindow *own;

		if (i > 0 && elements->at[i].time == elements->at[i - 1].time)
			continue;
		(void) sb_window_fn_assign(pipeline->plan->window_fn, elements->at[i].time, &own);
		(*windows)[n++] = own[0];
	}
	return sb_window_merge(*windows, n);
}

/*
 * The rows of one window where rows can be taken back. The elements that are left say which windows
 * there are: if that is not just this one, its cells are taken apart.
 */
static void
merge_change(SbMerge *merge, const SbMergeParts *parts)
{
	SbElementList was = {0}, is = {0};
	SbWindow *windows;
	SbEntry *entry;
	bytea *packed;
	int n, made;

	for (int i = 0; i < parts->nsources; i++)
		sb_elements_read(&was,
		                 sb_cells_session(sb_aggregate_cells(merge->pipeline), parts->sources[i])
		                     ->elements);
	sb_element_changes_sort(&merge->changes[parts->lo], parts->hi - parts->lo);
	made = sb_elements_apply(&was, &merge->changes[parts->lo], parts->hi - parts->lo, &is);
	merge_missing_of(merge, parts->lo, parts->hi);
	if (made == 0)
		return;
	n = merge_windows_of(merge->pipeline, &is, &windows);
	if (n != 1 || !sb_window_equal(windows[0], parts->window))
	{
		merge_take_apart(merge, parts, &is, windows, n);
		return;
	}
	/* before the cells go in whose bytes they are */
	packed = sb_elements_pack(is.at, is.n);
	entry = merge_into_one(merge, parts);
	if (!sb_reduce_closed(merge_cell(merge, entry)))
	{
		merge_apply(merge, entry, parts->lo, parts->hi, packed);
		return;
	}
	merge_all_late(merge, parts->lo, parts->hi, parts->window);
}

/* ---- a key ---- */

/*
 * Closed cells take no part, nor do those that have expired, and wait for their last pane since
 * they were taken apart or it has failed; but for windows that are computed anew, which may all
 * have expired.
 */
static bool
merge_is_active(const SbMerge *merge, SbEntry *entry)
{
	const SbPipeline *pipeline = merge->pipeline;
	const SbCell *cell = merge_cell(merge, entry);

	return !sb_reduce_closed(cell) &&
	       (pipeline->recompute != NULL ||
	        !sb_reduce_expired(&pipeline->strategy, &pipeline->clocks, cell->window));
}

/* The key's active cells, by window, that windows within [from, to) may overlap. */
static int
merge_active(SbMerge *merge, SbWindow range, SbEntry ***active)
{
	SbEntry *entry = sb_cells_of_key(sb_aggregate_cells(merge->pipeline), merge->key_hash,
	                                 merge->keys, merge->nulls, range.start);
	int n = 0;
	int max = 8;

	/* those before an active one that ends early enough end earlier still */
	while (entry && entry->prev_of_key &&
	       (!merge_is_active(merge, entry) || merge_cell(merge, entry)->window.end > range.start))
		entry = entry->prev_of_key;
	*active = palloc(sizeof(SbEntry *) * max);
	for (; entry && merge_cell(merge, entry)->window.start < range.end; entry = entry->next_of_key)
	{
		if (!merge_is_active(merge, entry))
			continue;
		if (n == max)
			*active = repalloc(*active, sizeof(SbEntry *) * (max *= 2));
		(*active)[n++] = entry;
	}
	return n;
}

/* The windows that the active cells and the rows that are added make together. */
static int
merge_windows(SbMerge *merge, SbEntry **active, int nactive, SbWindow **windows)
{
	int n = 0;

	*windows = palloc(sizeof(SbWindow) * (merge->n + nactive + 1));
	for (int i = 0; i < merge->n; i++)
	{
		if (merge->rows[i]->row.weight > 0)
			(*windows)[n++] = merge->rows[i]->window;
	}
	for (int i = 0; i < nactive; i++)
		(*windows)[n++] = merge_cell(merge, active[i])->window;
	return sb_window_merge(*windows, n);
}

static SbWindow
merge_range(const SbMerge *merge)
{
	SbWindow range = merge->rows[0]->window;

	for (int i = 1; i < merge->n; i++)
		range.end = Max(range.end, merge->rows[i]->window.end);
	return range;
}

/*
 * All rows of one key, window by window, each with the active cells that it is made of. Windows
 * that no row falls into stay as they are.
 */
static void
merge_key(SbMerge *merge)
{
	SbEntry **active;
	SbWindow *windows;
	int nactive = merge_active(merge, merge_range(merge), &active);
	int n = merge_windows(merge, active, nactive, &windows);
	int from = 0;
	int row = 0;

	/*
	 * rows, active cells and windows are sorted by their start, and each of the active ones lies in
	 * one window
	 */
	for (int i = 0; i <= n; i++)
	{
		SbMergeParts parts;

		/* rows to be taken back that are in no window */
		while (row < merge->n && (i == n || merge->rows[row]->window.start < windows[i].start))
			merge_missing(merge, merge->rows[row++]);
		if (i == n)
			break;
		parts = (SbMergeParts){.window = windows[i], .sources = &active[from], .lo = row};
		while (row < merge->n && merge->rows[row]->window.start < windows[i].end)
			row++;
		parts.hi = row;
		for (; from < nactive && merge_cell(merge, active[from])->window.start < windows[i].end;
		     from++)
			parts.nsources++;
		if (parts.lo == parts.hi)
			continue;
		if (merge->changes)
			merge_change(merge, &parts);
		else
			merge_add(merge, &parts);
	}
	Assert(from == nactive);
}

/* What the accumulators see of the current row, as a change of the elements. */
static SbElementChange
merge_change_of(SbPipeline *pipeline, const SbDeferredRow *deferred, int order)
{
	StringInfoData data;

	initStringInfo(&data);
	sb_query_element_write(pipeline->query, &data);
	return (SbElementChange){.element = {.time = deferred->event_time,
	                                     .data = data.data,
	                                     .size = data.len,
	                                     .count = 1},
	                         .order = order,
	                         .removes = deferred->row.weight < 0};
}

/* Rows with one hash: usually one key; where not, key by key. */
static void
merge_hash(SbPipeline *pipeline, SbDeferredRow *rows, int n)
{
	SbMerge merge = {.pipeline = pipeline,
	                 .key_hash = rows[0].key_hash,
	                 .rows = palloc(sizeof(SbDeferredRow *) * n)};
	Datum *keys = palloc(sizeof(Datum) * (pipeline->plan->nkeys + 1));
	bool *nulls = palloc(sizeof(bool) * (pipeline->plan->nkeys + 1));

	merge.keys = keys;
	merge.nulls = nulls;
	if (pipeline->retractable)
		merge.changes = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(SbElementChange) * n);
	for (int left = n; left > 0; left -= merge.n)
	{
		merge.n = 0;
		for (int i = 0; i < n; i++)
		{
			const Datum *row_keys;
			const bool *row_nulls;

			CHECK_FOR_INTERRUPTS();
			if (rows[i].done)
				continue;
			sb_deferred_set_row(pipeline, &rows[i], &row_keys, &row_nulls);
			if (merge.n == 0)
				sb_query_keys_decode(pipeline->query,
				                     sb_query_keys_encode(pipeline->query, row_keys, row_nulls),
				                     keys, nulls);
			else if (!sb_query_keys_equal(pipeline->query, row_keys, row_nulls, keys, nulls))
				continue;
			rows[i].done = true;
			if (merge.changes)
				merge.changes[merge.n] = merge_change_of(pipeline, &rows[i], merge.n);
			merge.rows[merge.n++] = &rows[i];
		}
		merge_key(&merge);
	}
}

void
sb_merge_rows(SbPipeline *pipeline, SbDeferredRow *rows, int n)
{
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam merge", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);

	for (int i = 0; i < n;)
	{
		int end = i + 1;

		while (end < n && rows[end].key_hash == rows[i].key_hash)
			end++;
		merge_hash(pipeline, &rows[i], end - i);
		MemoryContextReset(context);
		i = end;
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
