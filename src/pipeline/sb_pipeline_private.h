/*
 * sb_pipeline_private.h: what the files of a pipeline have of each other.
 */
#ifndef SB_PIPELINE_PRIVATE_H
#define SB_PIPELINE_PRIVATE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

/* What its cells may use in the middle of a bundle, as far as the others leave it. */
extern Size sb_pipeline_budget(const SbPipeline *pipeline);
/* Asks the cells whose timers are due, in their order, and writes what they say. */
extern void sb_pipeline_timers(SbPipeline *pipeline);

/* ---- changes (sb_pipeline_change.c) ---- */

/*
 * A message other than an INSERT: has it rows to be added and taken back? False: it has been dealt
 * with. *stays: both rows are in the same groups.
 */
extern bool sb_pipeline_change_counts(SbPipeline *pipeline, const SbMessage *message, bool *stays);
/*
 * The same where all rows that were there before have come in, if there were none, and the result
 * is of the kind that takes its rows back: to others it is given when they are made.
 */
extern void sb_pipeline_begin_empty(SbPipeline *pipeline);
/*
 * An element comes to a cell that is not closed; where windows are computed anew they may have
 * expired.
 */
static inline void
sb_pipeline_reduce(SbPipeline *pipeline, SbCell *cell, TimestampTz event_time)
{
	if (unlikely(pipeline->recompute != NULL))
		sb_reduce_move(&pipeline->strategy, &pipeline->clocks, cell, event_time);
	else
		sb_reduce_add(&pipeline->strategy, &pipeline->clocks, cell, event_time);
}

/*
 * Adds the current row of the query to a cell that is neither expired nor closed, or takes it out,
 * by the side meant.
 */
extern void sb_pipeline_add(SbPipeline *pipeline, SbEntry *entry, const SbRow *row,
                            TimestampTz event_time);
extern void sb_pipeline_late(SbPipeline *pipeline, const SbRow *row, TimestampTz event_time,
                             SbWindow window, bool closed);
/* A pane of the cell with the row in out_values. Runs as the owner. */
extern void sb_pipeline_emit_row(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane);
/* Puts the current row aside, for one window. */
extern void sb_pipeline_defer(SbPipeline *pipeline, const SbRow *row, uint64 key_hash,
                              TimestampTz event_time, SbWindow window);
extern void sb_pipeline_resolve(SbPipeline *pipeline);
/* Between rows only: afterwards others are the current row of the query. */
extern void sb_pipeline_resolve_if_many(SbPipeline *pipeline);
extern void sb_pipeline_forget_deferred(SbPipeline *pipeline);

/* ---- sinks (sb_pipeline_sink.c) ---- */

extern void sb_pipeline_add_sink(SbPipeline *pipeline, const SbSinkKind *kind, void *sink);
extern void sb_pipeline_remove_sink(SbPipeline *pipeline, const SbSinkKind *kind);
/* The row in out_values, or (op 0) that there is none. */
extern void sb_pipeline_put(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane, int op);
extern void sb_pipeline_remove_row(SbPipeline *pipeline, SbWindow window, const Datum *keys,
                                   const bool *nulls);
/* Are there rows to be written, or to vanish? */
extern bool sb_pipeline_has_rows(const SbPipeline *pipeline);
extern void sb_pipeline_write_rows(SbPipeline *pipeline);
extern void sb_pipeline_put_late(SbPipeline *pipeline, const SbLateEvent *event, const char *json);

/* ---- what cells have said (sb_pipeline_emitted.c) ---- */

/* Takes the rows of windows out of the result whose place the cell has taken. */
extern void sb_pipeline_remove_rows(SbPipeline *pipeline, SbEntry *entry);
/*
 * Retracts what was emitted for the cell and for the windows merged into it. `pane`: what a
 * retraction says nothing of, for sinks that want panes.
 */
extern void sb_pipeline_retract(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane);
/*
 * Its result has readers now, who are to be told that the row which stands for the cell goes: where
 * that was written before they came, it is looked up.
 */
extern void sb_pipeline_recall(SbPipeline *pipeline, SbEntry *entry);
/* The next packed row to be retracted, a copy; *at starts as NULL. NULL: no more. */
extern bytea *sb_pipeline_next_emitted(const SbEntry *entry, const char **at);

#endif
