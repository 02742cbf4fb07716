/*
 * sb_aggregate_firing.h: panes that may fail (sb_aggregate_firing.c).
 */
#ifndef SB_AGGREGATE_FIRING_H
#define SB_AGGREGATE_FIRING_H

#include "pipeline/sb_aggregate_private.h"

typedef struct SbFiring SbFiring;

/* On the caller's stack; in the bracket of the pipeline's owner from the first to the last call. */
typedef struct SbFirings
{
	SbPipeline *pipeline;
	MemoryContext context; /* NULL: nothing has been added */
	SbFiring *at;
	int n;
	int lo, hi; /* of them: what is being tried */
} SbFirings;

/* Is the cell's pane to be computed and written so that it may fail? */
static inline bool
sb_firings_want(const SbPipeline *pipeline, const SbEntry *entry)
{
	return unlikely(pipeline->guard > 0) || unlikely(entry->failed) || pipeline->in_memory;
}

/* The cell as it is before it is asked. */
extern SbCell *sb_firings_copy(SbFirings *firings, SbEntry *entry);
/*
 * The cell has been asked and is to have a pane; *pane and `action` (SB_TIMER_*) as it has said.
 * What follows from the pane is done with it, later: until then the cell has no timers.
 */
extern void sb_firings_add(SbFirings *firings, SbEntry *entry, SbCell *before, const SbPane *pane,
                           int action);
/* Computes, writes and finishes all that has been added. */
extern void sb_firings_run(SbFirings *firings);

/* The cell goes, or is well again: it is no failed group any more. */
extern void sb_aggregate_forget_failed(SbPipeline *pipeline, SbEntry *entry);
/* The failed groups are asked again with this flush, if it is time. */
extern void sb_aggregate_retry(SbPipeline *pipeline);

#endif
