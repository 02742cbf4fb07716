/*
 * sb_pipeline_private.h: what the files of a pipeline have of each other.
 */
#ifndef SB_PIPELINE_PRIVATE_H
#define SB_PIPELINE_PRIVATE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

/* ---- changes (sb_pipeline_change.c) ---- */

/*
 * A message other than an INSERT: has it rows to be added and taken back? False: it has been dealt
 * with. *stays: both rows are in the same groups.
 */
extern bool sb_pipeline_change_counts(SbPipeline *pipeline, const SbMessage *message, bool *stays);
/* The row is too late for its window, which is in `window`. */
extern void sb_pipeline_late(SbPipeline *pipeline, const SbRow *row, TimestampTz event_time,
                             SbWindow own, SbWindow window, bool closed);

/* ---- rows (sb_pipeline.c) ---- */

/* The row has failed: it is in none of its windows. Returns what it is known by from now on. */
extern uint64 sb_pipeline_leave_out(SbPipeline *pipeline, const SbRow *row);

/* ---- sinks (sb_pipeline_sink.c) ---- */

extern void sb_pipeline_add_sink(SbPipeline *pipeline, const SbSinkKind *kind, void *sink);
extern void sb_pipeline_remove_sink(SbPipeline *pipeline, const SbSinkKind *kind);
/* Which of them a row goes to. */
typedef enum SbSinkSet
{
	SB_ALL_SINKS,
	SB_SINKS_THAT_REFUSE, /* they may (sb_sink.h) */
	SB_OTHER_SINKS
} SbSinkSet;

/* The row in out_values, or (op 0) that the window's pane has none. */
extern void sb_pipeline_put(SbPipeline *pipeline, SbWindow window, const SbPane *pane, int op);
/* A row of a query without groups. */
extern void sb_pipeline_put_row(SbPipeline *pipeline, const SbSinkRow *row, SbSinkSet which);
extern void sb_pipeline_remove_row(SbPipeline *pipeline, SbWindow window, const Datum *keys,
                                   const bool *nulls, SbSinkSet which);
/* Are there rows to be written, or to vanish? */
extern bool sb_pipeline_has_rows(const SbPipeline *pipeline);
extern void sb_pipeline_write_rows(SbPipeline *pipeline);
extern void sb_pipeline_put_late(SbPipeline *pipeline, const SbLateEvent *event, const char *json);

#endif
