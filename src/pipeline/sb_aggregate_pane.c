/*
 * sb_aggregate_pane.c: cells fire: panes become rows of the result, or take rows out of it; see
 * sb_pipeline.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "miscadmin.h"
#include "pipeline/sb_aggregate_private.h"
#include "pipeline/sb_chain.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"

static void
pipeline_forget_accumulators(SbPipeline *pipeline, SbEntry *entry)
{
	SbAcc *accs = sb_cells_accs(sb_aggregate_cells(pipeline), entry);

	sb_query_acc_free(pipeline->query, accs);
	sb_query_acc_init(pipeline->query, accs);
}

void
sb_aggregate_emit_row(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	bytea *packed;

	sb_pipeline_put(pipeline, sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window, pane, 1);
	entry->emitted = true;
	if (pipeline->strategy.accumulation != SB_RETRACTING && !sb_chain_wants_retractions(pipeline))
		return;
	packed = sb_result_pack(pipeline->result, pipeline->out_values, pipeline->out_nulls);
	sb_cells_add_emitted_rows(sb_aggregate_cells(pipeline), entry, (char *) packed,
	                          VARSIZE(packed));
}

/* A pane becomes a row of the result, or takes one away. Runs as the owner. */
static void
pipeline_emit(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(sb_aggregate_cells(pipeline), entry, &nulls);
	SbWindow window = sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window;
	MemoryContext old;

	pipeline->progress.panes++;
	/* nothing came since the last pane, and the row does not tell panes apart: it stands already */
	if (pane->elements == 0 && !sb_query_uses_pane(pipeline->query) && !pipeline->wants_panes)
		return;
	old = MemoryContextSwitchTo(pipeline->element);
	sb_aggregate_recall(pipeline, entry);
	sb_aggregate_retract(pipeline, entry, pane);
	sb_aggregate_remove_rows(pipeline, entry);
	/* a group whose rows have all been taken back is no group any more */
	if ((!pipeline->retractable || entry->rows != 0 || !pipeline->plan->grouped) &&
	    sb_query_output(pipeline->query, window, pane, keys, nulls,
	                    sb_cells_accs(sb_aggregate_cells(pipeline), entry), pipeline->out_values,
	                    pipeline->out_nulls))
		sb_aggregate_emit_row(pipeline, entry, pane);
	else if (pipeline->wants_panes)
		sb_pipeline_put(pipeline, sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window, pane,
		                0);
	/* the one row of a query without GROUP BY stands since the pipeline was made, without a pane */
	else if ((entry->emitted || sb_plan_stands_empty(pipeline->plan)) &&
	         pipeline->strategy.accumulation == SB_ACCUMULATING)
	{
		sb_pipeline_remove_row(pipeline, window, keys, nulls);
		entry->emitted = false;
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
	if (pipeline->strategy.accumulation == SB_DISCARDING)
		pipeline_forget_accumulators(pipeline, entry);
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
	pipeline_forget_accumulators(pipeline, entry);
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

void
sb_aggregate_flush(SbPipeline *pipeline)
{
	SbBracket saved;
	SbPane pane;

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
		if (sb_reduce_fire(&pipeline->strategy, &pipeline->clocks,
		                   sb_cells_cell(sb_aggregate_cells(pipeline), entry), &pane) ||
		    pipeline_must_show(pipeline, entry, &pane))
			pipeline_emit(pipeline, entry, &pane);
		pipeline_release_closed(pipeline, entry);
		sb_cells_set_timers(sb_aggregate_cells(pipeline), entry, true);
		CHECK_FOR_INTERRUPTS();
	}
	sb_bracket_leave(&saved);
}

/* Rows of results and cells collected while many timers fire are written in between. */
#define SB_TIMERS_AT_ONCE 20000

void
sb_aggregate_timers(SbPipeline *pipeline)
{
	Size budget;
	SbBracket saved;
	SbEntry *entry;
	int64 fired = 0;
	SbPane pane;

	if (!sb_cells_may_be_due(sb_aggregate_cells(pipeline)))
		return;
	sb_pipeline_as_owner(pipeline, &saved);
	while ((entry = sb_cells_due(sb_aggregate_cells(pipeline))) != NULL)
	{
		int action;

		CHECK_FOR_INTERRUPTS();

		sb_pipeline_lock(pipeline);
		/* first: an error on the way leaves a cell that has to be forgotten */
		sb_cells_change(sb_aggregate_cells(pipeline), entry);
		action = sb_reduce_timer(&pipeline->strategy, &pipeline->clocks,
		                         sb_cells_cell(sb_aggregate_cells(pipeline), entry), &pane);
		pipeline->changed = true;
		if ((action & SB_TIMER_EMIT) ||
		    (!(action & SB_TIMER_COLLECT) && pipeline_must_show(pipeline, entry, &pane)))
			pipeline_emit(pipeline, entry, &pane);
		if (action & SB_TIMER_COLLECT)
			sb_cells_remove(sb_aggregate_cells(pipeline), entry);
		else
		{
			pipeline_release_closed(pipeline, entry);
			sb_cells_set_timers(sb_aggregate_cells(pipeline), entry, true);
		}
		if (++fired % SB_TIMERS_AT_ONCE != 0)
			continue;
		sb_pipeline_write_rows(pipeline);
		sb_pipeline_write_state(pipeline);
		sb_bracket_leave(&saved);
		sb_chain_hand_on(pipeline, false);
		sb_pipeline_as_owner(pipeline, &saved);
		budget = sb_aggregate_budget(pipeline);
		if (sb_cells_bytes(sb_aggregate_cells(pipeline)) > budget)
			sb_cells_evict(sb_aggregate_cells(pipeline), budget / 2);
	}
	sb_pipeline_write_rows(pipeline);
	sb_bracket_leave(&saved);
}
