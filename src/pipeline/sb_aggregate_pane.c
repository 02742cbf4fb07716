/*
 * sb_aggregate_pane.c: cells fire: panes become rows of the result, or take rows out of it; see
 * sb_pipeline.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "miscadmin.h"
#include "pipeline/sb_aggregate_firing.h"
#include "pipeline/sb_chain.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

void
sb_aggregate_forget_accumulators(SbPipeline *pipeline, SbEntry *entry)
{
	SbAcc *accs = sb_cells_accs(sb_aggregate_cells(pipeline), entry);

	sb_query_acc_drop(pipeline->query, accs);
}

bool
sb_aggregate_says_anew(const SbPipeline *pipeline, const SbPane *pane)
{
	/* nothing came since the last pane, and the row does not tell panes apart: it stands already */
	return pane->elements > 0 || sb_query_uses_pane(pipeline->query) || pipeline->wants_panes;
}

bool
sb_aggregate_output(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	SbCells *cells = sb_aggregate_cells(pipeline);
	const bool *nulls;
	Datum *keys = sb_cells_keys(cells, entry, &nulls);

	/* a group whose rows have all been taken back is no group any more */
	if (pipeline->retractable && entry->rows == 0 && pipeline->plan->grouped)
		return false;
	return sb_query_output(pipeline->query, sb_cells_cell(cells, entry)->window, pane, keys, nulls,
	                       sb_cells_accs(cells, entry), pipeline->out_values, pipeline->out_nulls);
}

bool
sb_aggregate_stands(const SbPipeline *pipeline, const SbEntry *entry)
{
	/* the one row of a query without GROUP BY stands since the pipeline was made, without a pane */
	return pipeline->strategy.accumulation == SB_ACCUMULATING &&
	       (entry->emitted || sb_plan_stands_empty(pipeline->plan));
}

/* Is what is put retained, to be taken back? */
static bool
pipeline_retains_rows(const SbPipeline *pipeline)
{
	return pipeline->strategy.accumulation == SB_RETRACTING || sb_chain_wants_retractions(pipeline);
}

void
sb_aggregate_note_emitted(SbPipeline *pipeline, SbEntry *entry, const bytea *packed)
{
	entry->emitted = true;
	if (pipeline_retains_rows(pipeline))
		sb_cells_add_emitted_rows(sb_aggregate_cells(pipeline), entry, (const char *) packed,
		                          VARSIZE(packed));
}

static void
pipeline_emit_row(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	bytea *packed = NULL;

	sb_pipeline_put(pipeline, sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window, pane, 1);
	if (pipeline_retains_rows(pipeline))
		packed = sb_result_pack(pipeline->result, pipeline->out_values, pipeline->out_nulls);
	sb_aggregate_note_emitted(pipeline, entry, packed);
}

/* A pane becomes a row of the result, or takes one away. An error is one of the whole bundle. */
static void
pipeline_emit(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(sb_aggregate_cells(pipeline), entry, &nulls);
	SbWindow window = sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window;
	MemoryContext old;

	pipeline->progress.panes++;
	if (!sb_aggregate_says_anew(pipeline, pane))
		return;
	old = MemoryContextSwitchTo(pipeline->element);
	sb_aggregate_recall(pipeline, entry);
	sb_aggregate_retract(pipeline, entry, pane);
	sb_aggregate_remove_rows(pipeline, entry);
	if (sb_aggregate_output(pipeline, entry, pane))
		pipeline_emit_row(pipeline, entry, pane);
	else if (pipeline->wants_panes)
		sb_pipeline_put(pipeline, window, pane, 0);
	else if (sb_aggregate_stands(pipeline, entry))
	{
		sb_pipeline_remove_row(pipeline, window, keys, nulls, SB_ALL_SINKS);
		entry->emitted = false;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
	if (pipeline->strategy.accumulation == SB_DISCARDING)
		sb_aggregate_forget_accumulators(pipeline, entry);
}

/*
 * A closed window takes no more elements and makes no more panes: only the fact is retained, until
 * gc_time.
 */
static void
pipeline_release_closed(SbPipeline *pipeline, SbEntry *entry)
{
	if (!sb_reduce_closed(sb_cells_cell(sb_aggregate_cells(pipeline), entry)))
		return;
	sb_aggregate_forget_accumulators(pipeline, entry);
	if (sb_cells_session(sb_aggregate_cells(pipeline), entry))
		sb_cells_set_elements(sb_aggregate_cells(pipeline), entry, NULL);
}

/*
 * A window whose row was taken out of the result to be computed anew has a row again, whatever its
 * trigger waits for: the pane that this is does not count for the trigger.
 */
static bool
pipeline_must_show(SbPipeline *pipeline, SbEntry *entry, SbPane *pane)
{
	SbWindow window = sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window;
	bool ended = pipeline->clocks.input_watermark > sb_window_max_timestamp(window);

	if (pipeline->recompute == NULL || entry->emitted ||
	    !pipeline->recompute->showed(pipeline->recompute, window))
		return false;
	/* what it says is not said again with the next pane */
	if (pipeline->strategy.accumulation == SB_DISCARDING)
		sb_cells_cell(sb_aggregate_cells(pipeline), entry)->pane_elements = 0;
	*pane = (SbPane){.timing = ended ? SB_PANE_ON_TIME : SB_PANE_EARLY,
	                 .nonspeculative_index = ended ? 0 : -1,
	                 .is_first = true,
	                 .timestamp = sb_window_max_timestamp(window),
	                 .elements = 1};
	return true;
}

/* The cell decides: SB_TIMER_*. */
static int
pipeline_ask(SbPipeline *pipeline, SbEntry *entry, bool by_timer, SbPane *pane)
{
	SbCell *cell = sb_cells_cell(sb_aggregate_cells(pipeline), entry);
	int action;

	if (by_timer)
		action = sb_reduce_timer(&pipeline->strategy, &pipeline->clocks, cell, pane);
	else
		action =
		    sb_reduce_fire(&pipeline->strategy, &pipeline->clocks, cell, pane) ? SB_TIMER_EMIT : 0;
	if (action == 0 && pipeline_must_show(pipeline, entry, pane))
		action = SB_TIMER_EMIT;
	return action;
}

void
sb_aggregate_finish(SbPipeline *pipeline, SbEntry *entry, int action)
{
	SbCells *cells = sb_aggregate_cells(pipeline);

	if (action & SB_TIMER_COLLECT)
	{
		sb_aggregate_forget_failed(pipeline, entry);
		sb_cells_remove(cells, entry);
		return;
	}
	pipeline_release_closed(pipeline, entry);
	sb_cells_set_timers(cells, entry, true);
}

/* Asks the cell, and does what follows: at once, or with the firings. */
static void
pipeline_fire(SbFirings *firings, SbEntry *entry, bool by_timer)
{
	SbPipeline *pipeline = firings->pipeline;
	SbCell *before = sb_firings_want(pipeline, entry) ? sb_firings_copy(firings, entry) : NULL;
	SbPane pane;
	int action = pipeline_ask(pipeline, entry, by_timer, &pane);

	if (before && (action & SB_TIMER_EMIT))
	{
		sb_firings_add(firings, entry, before, &pane, action);
		return;
	}
	if (before)
		pfree(before);
	if (action & SB_TIMER_EMIT)
		pipeline_emit(pipeline, entry, &pane);
	sb_aggregate_finish(pipeline, entry, action);
}

void
sb_aggregate_flush(SbPipeline *pipeline)
{
	SbFirings firings = {.pipeline = pipeline};
	SbBracket saved;

	sb_aggregate_retry(pipeline);
	sb_aggregate_resolve(pipeline);
	/* a pane in the middle could close a window to the rest of its rows */
	if (pipeline->recompute && pipeline->recompute->feeding &&
	    pipeline->clocks.input_watermark != SB_TIME_MIN)
	{
		sb_cells_untouch(sb_aggregate_cells(pipeline));
		return;
	}
	sb_pipeline_as_owner(pipeline, &saved);
	for (SbEntry *entry = sb_cells_take_touched(sb_aggregate_cells(pipeline)); entry;
	     entry = entry->next_touched)
	{
		pipeline_fire(&firings, entry, false);
		CHECK_FOR_INTERRUPTS();
	}
	sb_firings_run(&firings);
	sb_bracket_leave(&saved);
}

/* Rows of results and cells collected while many timers fire are written in between. */
#define SB_TIMERS_AT_ONCE 20000

/* In the midst of them: what has been put is written, and those downstream take it. */
static void
pipeline_timers_pause(SbPipeline *pipeline, SbBracket *saved)
{
	SbCells *cells = sb_aggregate_cells(pipeline);
	Size budget;

	sb_pipeline_write_rows(pipeline);
	sb_pipeline_write_state(pipeline);
	sb_bracket_leave(saved);
	sb_chain_hand_on(pipeline, false);
	sb_pipeline_as_owner(pipeline, saved);
	budget = sb_aggregate_budget(pipeline);
	if (sb_cells_bytes(cells) > budget)
		sb_cells_evict(cells, budget / 2);
}

void
sb_aggregate_timers(SbPipeline *pipeline)
{
	SbCells *cells = sb_aggregate_cells(pipeline);
	SbFirings firings = {.pipeline = pipeline};
	SbBracket saved;
	SbEntry *entry;
	int64 fired = 0;

	if (!sb_cells_may_be_due(cells))
		return;
	sb_pipeline_as_owner(pipeline, &saved);
	while ((entry = sb_cells_due(cells)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();

		sb_pipeline_lock(pipeline);
		/* first: an error on the way leaves a cell that has to be forgotten */
		sb_cells_change(cells, entry);
		pipeline->changed = true;
		pipeline_fire(&firings, entry, true);
		if (++fired % SB_TIMERS_AT_ONCE != 0)
			continue;
		sb_firings_run(&firings);
		pipeline_timers_pause(pipeline, &saved);
	}
	sb_firings_run(&firings);
	sb_pipeline_write_rows(pipeline);
	sb_bracket_leave(&saved);
}
