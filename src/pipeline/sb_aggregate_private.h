/*
 * sb_aggregate_private.h: what the files of the step that aggregates have of each other.
 */
#ifndef SB_AGGREGATE_PRIVATE_H
#define SB_AGGREGATE_PRIVATE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_pipeline_private.h"
#include "pipeline/sb_step.h"
#include "state/sb_cells.h"

struct SbDeferred;

typedef struct SbAggregate
{
	SbCells *cells;
	bool merging;                /* its windows are sessions */
	struct SbDeferred *deferred; /* rows put aside */
	/* when there are so many they are resolved, though the bundle goes on */
	int defer_rows;
	Size budget; /* that cells may use while rows come */
	/* failed groups, as beam.failed_group has them; as of the last accept */
	int64 nfailed, accepted_failed;
	TimestampTz retry_at; /* they are asked again, not before; DT_NOBEGIN: at once */
	bool retried;         /* in this transaction */
} SbAggregate;

static inline SbAggregate *
sb_aggregate(const SbPipeline *pipeline)
{
	return pipeline->step_state;
}

static inline SbCells *
sb_aggregate_cells(const SbPipeline *pipeline)
{
	return sb_aggregate(pipeline)->cells;
}

/* What its cells may use in the middle of a bundle, as far as the others leave it. */
extern Size sb_aggregate_budget(const SbPipeline *pipeline);

/*
 * An element comes to a cell that is not closed; where windows are computed anew they may have
 * expired.
 */
static inline void
sb_aggregate_reduce(SbPipeline *pipeline, SbCell *cell, TimestampTz event_time)
{
	if (unlikely(pipeline->recompute != NULL))
		sb_reduce_move(&pipeline->strategy, &pipeline->clocks, cell, event_time);
	else
		sb_reduce_add(&pipeline->strategy, &pipeline->clocks, cell, event_time);
}

/*
 * Adds the current row of the query to a cell that is neither expired nor closed, or takes it out,
 * by the row's weight.
 */
extern void sb_aggregate_add(SbPipeline *pipeline, SbEntry *entry, const SbRow *row,
                             TimestampTz event_time);

/* ---- rows put aside (sb_aggregate_defer.c) ---- */

/* Puts the current row aside, for one window. */
extern void sb_aggregate_defer(SbPipeline *pipeline, const SbRow *row, uint64 key_hash,
                               TimestampTz event_time, SbWindow window);
extern void sb_aggregate_resolve(SbPipeline *pipeline);
/* Between rows only: afterwards others are the current row of the query. */
extern void sb_aggregate_resolve_if_many(SbPipeline *pipeline);
extern void sb_aggregate_forget_deferred(SbPipeline *pipeline);

/* ---- panes (sb_aggregate_pane.c) ---- */

/* All run as the owner. The pane's row goes into out_values. False: it has none. */
extern bool sb_aggregate_output(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane);
/* Does the pane say anything that does not stand already? */
extern bool sb_aggregate_says_anew(const SbPipeline *pipeline, const SbPane *pane);
/* Does a row of the group's own window stand in the result, which is accumulating? */
extern bool sb_aggregate_stands(const SbPipeline *pipeline, const SbEntry *entry);
/* The cell's row, packed, has been put. */
extern void sb_aggregate_note_emitted(SbPipeline *pipeline, SbEntry *entry, const bytea *packed);
extern void sb_aggregate_forget_accumulators(SbPipeline *pipeline, SbEntry *entry);
/* After its pane, or without one; `action`: SB_TIMER_*, with SB_TIMER_COLLECT the cell goes. */
extern void sb_aggregate_finish(SbPipeline *pipeline, SbEntry *entry, int action);
extern void sb_aggregate_flush(SbPipeline *pipeline);
/* Asks the cells whose timers are due, in their order, and writes what they say. */
extern void sb_aggregate_timers(SbPipeline *pipeline);

/* ---- what cells have said (sb_aggregate_emitted.c) ---- */

/* Takes the rows of windows out of the result whose place the cell has taken. */
extern void sb_aggregate_remove_rows(SbPipeline *pipeline, SbEntry *entry);
/*
 * Retracts what was emitted for the cell and for the windows merged into it. `pane`: what a
 * retraction says nothing of, for sinks that want panes.
 */
extern void sb_aggregate_retract(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane);
/*
 * Its result has downstream pipelines now, and the row that stands for the cell is retracted there:
 * where it was written before they came, it is looked up.
 */
extern void sb_aggregate_recall(SbPipeline *pipeline, SbEntry *entry);
/* The next packed row to be retracted, a copy; *at starts as NULL. NULL: no more. */
extern bytea *sb_aggregate_next_emitted(const SbEntry *entry, const char **at);

#endif
