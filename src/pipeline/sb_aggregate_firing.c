/*
 * sb_aggregate_firing.c: panes that may fail: the select list or HAVING cannot be computed, or the
 * result table refuses the row. That is of the group, not of a row of the source: its rows stay
 * counted, and the pane counts as if it had not fired.
 *
 * HOW. The panes of some cells are taken together: each is computed, the rows are written, and only
 * then what follows from a pane is done to its cell: accumulators are cleared, downstream pipelines
 * are told, an expired cell goes. So a cell whose pane has failed is as it was before it was asked,
 * by a copy of the engine's part. Computing and writing are tried in subtransactions, for all cells
 * at once, then for halves of those that fail. Cells that have failed before are tried one by one:
 * there may be many, and they would spoil the others' tries.
 *
 * WHEN. Only where it is to be expected that panes fail, since a subtransaction costs and the rows
 * have to be retained: in a careful run, in some bundles after a group has failed that had not
 * failed before, and always for cells that have. Else an error ends the plain run of the bundle.
 *
 * WHAT A FAILED PANE SAYS. Accumulating: the group's row leaves the result. Retracting: the last
 * pane is retracted. Downstream pipelines are told either. Discarding: nothing, the next pane has
 * it all. Where the table refuses that as well, what it says of the group stays.
 *
 * AGAIN. With the next element; when the pipeline is opened; when the catalog is read, since
 * something that pipelines are made of was altered; and each half minute. The window's expiry does
 * not take the cell away: what it counts is not lost.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "base/sb_transaction.h"
#include "miscadmin.h"
#include "pipeline/sb_aggregate_firing.h"
#include "pipeline/sb_chain.h"
#include "query/sb_json.h"
#include "sink/sb_failed_groups.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

typedef enum SbOutcome
{
	SB_PANE_NONE,   /* it has no row: HAVING is not true, or the group is empty */
	SB_PANE_ROW,    /* it has one */
	SB_PANE_FAILED, /* it has none, since it failed */
	SB_PANE_STUCK   /* nor can what was said before be taken back */
} SbOutcome;

struct SbFiring
{
	SbEntry *entry;
	SbCell *before;
	SbPane pane;
	int action;
	SbOutcome outcome;
	bytea *row;       /* packed */
	ErrorData *error; /* the first */
};

/* Cells that are taken together. */
#define SB_FIRINGS 1000

/* After a group has failed that had not before, so many bundles expect others to do so. */
#define SB_GUARD_BUNDLES 100

/* A group that has failed is asked again after so long, where nothing else happens. */
#define SB_RETRY_US (30 * USECS_PER_SEC)

SbCell *
sb_firings_copy(SbFirings *firings, SbEntry *entry)
{
	SbPipeline *pipeline = firings->pipeline;
	Size size = sb_cell_size(&pipeline->strategy);
	SbCell *copy;

	if (firings->context == NULL)
	{
		firings->context =
		    AllocSetContextCreate(pipeline->bundle, "stream_beam firings", ALLOCSET_DEFAULT_SIZES);
		firings->at = MemoryContextAlloc(firings->context, sizeof(SbFiring) * SB_FIRINGS);
	}
	copy = MemoryContextAlloc(firings->context, size);
	memcpy(copy, sb_cells_cell(sb_aggregate_cells(pipeline), entry), size);
	return copy;
}

void
sb_firings_add(SbFirings *firings, SbEntry *entry, SbCell *before, const SbPane *pane, int action)
{
	SbPipeline *pipeline = firings->pipeline;

	if (!entry->failed && !sb_aggregate_says_anew(pipeline, pane))
	{
		pipeline->progress.panes++;
		sb_aggregate_finish(pipeline, entry, action);
		pfree(before);
		return;
	}
	sb_cells_unset_timers(sb_aggregate_cells(pipeline), entry);
	firings->at[firings->n++] =
	    (SbFiring){.entry = entry, .before = before, .pane = *pane, .action = action};
	if (firings->n == SB_FIRINGS)
		sb_firings_run(firings);
}

/* ---- trying ---- */

/* Something that can be done to several of them at once. */
typedef struct SbAttempt
{
	/* False: rolled back, and *error says why. */
	bool (*fn)(SbFirings *firings, ErrorData **error);
	void (*failed)(SbFirings *firings, int i, ErrorData *error);
} SbAttempt;

/* Tries a range, then the halves of what fails; of a single one it is said that it has. */
static void
firings_try(SbFirings *firings, int lo, int hi, const SbAttempt *attempt)
{
	int middle = lo + (hi - lo) / 2;
	ErrorData *error;

	if (lo == hi)
		return;
	CHECK_FOR_INTERRUPTS();
	firings->lo = lo;
	firings->hi = hi;
	if (attempt->fn(firings, &error))
		return;
	if (!sb_pipeline_may_bear(firings->pipeline, error))
		ReThrowError(error);
	if (hi - lo == 1)
	{
		attempt->failed(firings, lo, error);
		return;
	}
	FreeErrorData(error);
	firings_try(firings, lo, middle, attempt);
	firings_try(firings, middle, hi, attempt);
}

/* Those that have failed before come last: what stood in their way may have gone. */
static void
firings_try_all(SbFirings *firings, const SbAttempt *attempt)
{
	int i = 0;

	while (i < firings->n && !firings->at[i].entry->failed)
		i++;
	firings_try(firings, 0, i, attempt);
	for (; i < firings->n; i++)
		firings_try(firings, i, i + 1, attempt);
}

static int
firing_compare(const void *a, const void *b)
{
	return ((const SbFiring *) a)->entry->failed - ((const SbFiring *) b)->entry->failed;
}

/* ---- computing ---- */

static void
firings_compute_range(void *arg)
{
	SbFirings *firings = arg;
	SbPipeline *pipeline = firings->pipeline;

	for (int i = firings->lo; i < firings->hi; i++)
	{
		SbFiring *firing = &firings->at[i];

		firing->outcome = SB_PANE_NONE;
		if (!sb_aggregate_output(pipeline, firing->entry, &firing->pane))
			continue;
		firing->outcome = SB_PANE_ROW;
		firing->row = sb_result_pack(pipeline->result, pipeline->out_values, pipeline->out_nulls);
	}
}

static bool
firings_compute(SbFirings *firings, ErrorData **error)
{
	return sb_try_part(firings_compute_range, firings, error);
}

static void
firings_not_computed(SbFirings *firings, int i, ErrorData *error)
{
	firings->at[i].outcome = SB_PANE_FAILED;
	firings->at[i].error = error;
}

/* ---- saying ---- */

/* The row in out_values. */
static void
firing_put(SbPipeline *pipeline, const SbFiring *firing, int op, SbSinkSet which)
{
	SbSinkRow row = {.pane = &firing->pane,
	                 .window = sb_cells_cell(sb_aggregate_cells(pipeline), firing->entry)->window,
	                 .values = pipeline->out_values,
	                 .nulls = pipeline->out_nulls,
	                 .op = op};

	sb_pipeline_put_row(pipeline, &row, which);
}

static void
firing_remove(SbPipeline *pipeline, const SbFiring *firing, SbWindow window, SbSinkSet which)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(sb_aggregate_cells(pipeline), firing->entry, &nulls);

	sb_pipeline_remove_row(pipeline, window, keys, nulls, which);
}

/* The group has no row now, or none of its own. */
static void
firing_say_none(SbPipeline *pipeline, const SbFiring *firing, SbSinkSet which)
{
	if (pipeline->wants_panes && firing->outcome == SB_PANE_NONE)
		firing_put(pipeline, firing, 0, which);
	else if (!pipeline->wants_panes && sb_aggregate_stands(pipeline, firing->entry))
		firing_remove(pipeline, firing,
		              sb_cells_cell(sb_aggregate_cells(pipeline), firing->entry)->window, which);
}

/* What the pane says, by its outcome. Changes nothing in the cell. */
static void
firing_say(SbPipeline *pipeline, const SbFiring *firing, SbSinkSet which)
{
	const SbSession *session = sb_cells_session(sb_aggregate_cells(pipeline), firing->entry);
	MemoryContext old;
	bytea *packed;

	if (firing->outcome == SB_PANE_STUCK)
		return;
	old = MemoryContextSwitchTo(pipeline->element);
	for (const char *at = NULL; (packed = sb_aggregate_next_emitted(firing->entry, &at)) != NULL;)
	{
		sb_result_unpack(pipeline->result, packed, pipeline->out_values, pipeline->out_nulls);
		firing_put(pipeline, firing, -1, which);
	}
	for (int i = 0; session && i < session->nremoved; i++)
		firing_remove(pipeline, firing, session->removed[i], which);
	if (firing->outcome == SB_PANE_ROW)
	{
		sb_result_unpack(pipeline->result, firing->row, pipeline->out_values, pipeline->out_nulls);
		firing_put(pipeline, firing, 1, which);
	}
	else
		firing_say_none(pipeline, firing, which);
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
}

/* ---- writing ---- */

static void
firings_write_rows(void *arg)
{
	sb_pipeline_write_rows(((SbFirings *) arg)->pipeline);
}

static bool
firings_write(SbFirings *firings, ErrorData **error)
{
	SbPipeline *pipeline = firings->pipeline;

	for (int i = firings->lo; i < firings->hi; i++)
		firing_say(pipeline, &firings->at[i], SB_SINKS_THAT_REFUSE);
	if (!sb_pipeline_has_rows(pipeline) || sb_try_part(firings_write_rows, firings, error))
		return true;
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink->kind->forget)
			sink->kind->forget(sink->sink);
	}
	return false;
}

static void firings_refused(SbFirings *firings, int i, ErrorData *error);

static const SbAttempt attempt_compute = {.fn = firings_compute, .failed = firings_not_computed};
static const SbAttempt attempt_write = {.fn = firings_write, .failed = firings_refused};

/* Without its row it is tried again: then it only takes back. */
static void
firings_refused(SbFirings *firings, int i, ErrorData *error)
{
	SbFiring *firing = &firings->at[i];
	bool had_row = firing->outcome == SB_PANE_ROW;

	if (firing->error == NULL)
		firing->error = error;
	firing->outcome = had_row ? SB_PANE_FAILED : SB_PANE_STUCK;
	if (had_row)
		firings_try(firings, i, i + 1, &attempt_write);
}

/* ---- what follows ---- */

/* Its key with the names that the result has for it, as JSON. */
static char *
firing_key(SbPipeline *pipeline, SbEntry *entry)
{
	const SbPlan *plan = pipeline->plan;
	TupleDesc desc = CreateTemplateTupleDesc(plan->nkeys);
	const bool *nulls;
	Datum *keys = sb_cells_keys(sb_aggregate_cells(pipeline), entry, &nulls);

	for (int i = 0; i < plan->nkeys; i++)
		TupleDescInitEntry(desc, i + 1, psprintf("key%d", i + 1), plan->keys[i].type,
		                   plan->keys[i].typmod, 0);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		if (column->kind == SB_COLUMN_KEY)
			TupleDescInitEntry(desc, column->key + 1, column->name, column->type, column->typmod,
			                   0);
	}
	return sb_json_of_row(desc, keys, nulls);
}

/* `error` NULL: it is well again, or gone. */
static void
aggregate_tell_failed(SbPipeline *pipeline, SbEntry *entry, const ErrorData *error)
{
	SbFailedGroup group = {.pipeline = pipeline->row->id,
	                       .window = sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window,
	                       .key_hash = entry->key_hash,
	                       .key_seq = entry->seq};

	if (error)
		group.key = firing_key(pipeline, entry);
	foreach_ptr(SbSink, sink, pipeline->sinks)
	{
		if (sink->kind->failed)
			sink->kind->failed(sink->sink, &group, error);
	}
}

void
sb_aggregate_forget_failed(SbPipeline *pipeline, SbEntry *entry)
{
	if (!entry->failed)
		return;
	aggregate_tell_failed(pipeline, entry, NULL);
	entry->failed = false;
	sb_aggregate(pipeline)->nfailed--;
}

static void
firing_set_failed(SbPipeline *pipeline, const SbFiring *firing)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);
	SbEntry *entry = firing->entry;

	memcpy(sb_cells_cell(aggregate->cells, entry), firing->before,
	       sb_cell_size(&pipeline->strategy));
	aggregate_tell_failed(pipeline, entry, firing->error);
	if (entry->failed)
		return;
	entry->failed = true;
	pipeline->guard = SB_GUARD_BUNDLES;
	if (aggregate->nfailed++ == 0)
		aggregate->retry_at = pipeline->clocks.processing_time + SB_RETRY_US;
}

/* Those that do not refuse are told, and the cell becomes what the outcome makes of it. */
static void
firing_finish(SbPipeline *pipeline, const SbFiring *firing)
{
	SbEntry *entry = firing->entry;
	SbCells *cells = sb_aggregate_cells(pipeline);
	bool failed = firing->outcome == SB_PANE_FAILED || firing->outcome == SB_PANE_STUCK;

	firing_say(pipeline, firing, SB_OTHER_SINKS);
	if (firing->outcome != SB_PANE_STUCK)
	{
		sb_cells_clear_emitted_rows(cells, entry);
		if (sb_cells_session(cells, entry))
			sb_cells_clear_removed(cells, entry);
		if (pipeline->strategy.accumulation == SB_ACCUMULATING)
			entry->emitted = firing->outcome == SB_PANE_ROW;
	}
	if (firing->outcome == SB_PANE_ROW)
		sb_aggregate_note_emitted(pipeline, entry, firing->row);
	if (failed)
		firing_set_failed(pipeline, firing);
	else
	{
		sb_aggregate_forget_failed(pipeline, entry);
		pipeline->progress.panes += (firing->action & SB_TIMER_EMIT) != 0;
		if (pipeline->strategy.accumulation == SB_DISCARDING)
			sb_aggregate_forget_accumulators(pipeline, entry);
	}
	sb_aggregate_finish(pipeline, entry,
	                    failed ? firing->action & ~SB_TIMER_COLLECT : firing->action);
}

void
sb_firings_run(SbFirings *firings)
{
	SbPipeline *pipeline = firings->pipeline;
	MemoryContext old;

	if (firings->context == NULL)
		return;
	old = MemoryContextSwitchTo(firings->context);
	/* what was put otherwise is not to be tried with them */
	sb_pipeline_write_rows(pipeline);
	for (int i = 0; i < firings->n; i++)
		sb_aggregate_recall(pipeline, firings->at[i].entry);
	qsort(firings->at, firings->n, sizeof(SbFiring), firing_compare);
	firings_try_all(firings, &attempt_compute);
	firings_try_all(firings, &attempt_write);
	for (int i = 0; i < firings->n; i++)
		firing_finish(pipeline, &firings->at[i]);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(firings->context);
	firings->context = NULL;
	firings->n = 0;
}

/* ---- again ---- */

void
sb_aggregate_retry(SbPipeline *pipeline)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);
	MemoryContext old;
	SbFailedGroup *groups;
	SbBracket saved;
	SbMiss *misses;
	int n;

	if (aggregate->nfailed == 0 || pipeline->clocks.processing_time < aggregate->retry_at ||
	    pipeline->recompute || pipeline->in_memory)
		return;
	sb_pipeline_lock(pipeline);
	old = MemoryContextSwitchTo(pipeline->element);
	n = sb_failed_groups_read(pipeline->row->id, &groups);
	misses = MemoryContextAllocHuge(pipeline->element, sizeof(SbMiss) * (n + 1));
	for (int i = 0; i < n; i++)
		misses[i] = (SbMiss){.key_hash = groups[i].key_hash, .window = groups[i].window};
	sb_cells_know_stored(aggregate->cells);
	sb_pipeline_as_owner(pipeline, &saved);
	sb_cells_load(aggregate->cells, misses, n);
	sb_bracket_leave(&saved);
	sb_cells_retry_failed(aggregate->cells);
	aggregate->retry_at = pipeline->clocks.processing_time + SB_RETRY_US;
	aggregate->retried = pipeline->changed = true;
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
}
