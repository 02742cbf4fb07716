/*
 * sb_backfill.h: windows of a running pipeline are computed anew from its source, and take the
 * place of what the result says.
 *
 * A *step* is a bundle of its own: the cells of the windows in a range go, their rows leave the
 * result, the table's rows are fed as if they had just come, and what comes out is written, all in
 * one transaction. So a query sees the old rows or the new ones. Windows that have expired are
 * written and collected at once; the others live on, and the stream leaves out for them what the
 * step's snapshot has seen (the *cut*) until it has come to the cut's end.
 *
 * Windows that cannot be taken a part at a time (sb_backfill_has_parts) have a step for all of
 * them, during which the other pipelines wait, as long as the table is read. So where the result
 * can be exchanged as a whole they are handed over to a version of the pipeline that is built
 * beside it in chunks, and takes its place (sb_backfill_version.c).
 *
 * CRASH SAFETY. The cut is written to beam.cut in the step's transaction: what the stream sends
 * again after a crash is left out again.
 */
#ifndef SB_BACKFILL_H
#define SB_BACKFILL_H

#include "postgres.h"
#include "access/transam.h"
#include "history/sb_scan.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_row_source.h"
#include "source/sb_cut.h"

/*
 * For a pipeline that is being opened: the cut of the last step, where the pipeline's position has
 * not come to its end, is a gate. SPI connected, as the extension's owner.
 */
extern void sb_backfill_attach(SbPipeline *pipeline);

/*
 * Can its windows be taken a part at a time: are they told by the time of an element, and not
 * merging?
 */
static inline bool
sb_backfill_has_parts(const SbPlan *plan)
{
	return plan->window_fn != NULL && !sb_plan_merges(plan);
}

/*
 * The windows that overlap [from, to), to be computed anew: where no bound is given (DT_NOBEGIN,
 * DT_NOEND) it is looked for in table and result. False: there are none. Pipelines whose windows
 * cannot be told from a time give SB_ALL_WINDOWS. In a transaction, SPI connected.
 */
extern bool sb_backfill_bounds(SbPipeline *pipeline, TimestampTz from, TimestampTz to,
                               SbWindowRange *range);
/* The size of the windows at a time: how far the first step goes. */
extern int64 sb_backfill_window_size(SbPipeline *pipeline, TimestampTz at);

typedef struct SbBackfillStep
{
	SbPipeline *pipeline;
	SbWindowRange range;
	/*
	 * called in the step's transaction when all rows are in: as the extension's owner, SPI
	 * connected
	 */
	void (*done)(struct SbBackfillStep *step);
	void *arg;
	int64 rows; /* read */

	/* private */
	MemoryContext context; /* of the step */
	SbRecompute recompute;
	/*
	 * sorted: windows whose rows were taken out of the result; of sessions, those that overlap
	 * joined
	 */
	SbWindow *shown;
	int nshown;
	SbScan *scan;
	Snapshot snapshot;
	SbCut *cut; /* where the snapshot meets the stream; NULL: there is no stream */
} SbBackfillStep;

/*
 * A step as a row source for one bundle; it is refused where the source is locked, or a snapshot
 * cannot be had just now.
 */
extern SbRowSource sb_backfill_rows(SbBackfillStep *step);
/*
 * After the bundle, whatever has become of it. `committed`: the stream leaves out from now on what
 * the step has seen.
 */
extern void sb_backfill_end(SbBackfillStep *step, bool committed);
/*
 * May the next step be run, the stream being at `position`? Forgets a cut that has done its work.
 */
extern bool sb_backfill_may_step(SbPipeline *pipeline, XLogRecPtr position);

/* ---- by a version (sb_backfill_version.c): in a transaction, SPI connected ---- */

/* Is it to be backfilled by a version of its own? */
extern bool sb_backfill_wants_version(const SbPipeline *pipeline);
/*
 * Begins it. Errors: as sb_version_begin(); 55P03 somebody is in the way, who is not waited for
 * long.
 */
extern void sb_backfill_begin_version(const SbPipeline *pipeline);
/* The one that is being built for a backfill of this pipeline, or NULL. */
extern SbPipelineRow *sb_backfill_version(int32 pipeline);
/* Gives it up. Error 55P03 as above. */
extern void sb_backfill_drop_version(const SbPipelineRow *row);

#endif
