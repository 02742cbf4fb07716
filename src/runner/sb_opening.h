/*
 * sb_opening.h: the runner opens pipelines, and looks whether those that run may go on. One that
 * cannot be had now is put aside, or postponed; one that cannot be had at all is failed.
 */
#ifndef SB_OPENING_H
#define SB_OPENING_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

/*
 * Opens a pipeline that is to run, in this context. NULL: it cannot be now, or is set to failed. In
 * a transaction.
 */
extern SbPipeline *sb_opening_open(const SbPipelineRow *row, MemoryContext context);
/*
 * The catalog may have changed under a running pipeline in a way that lets it see no more changes,
 * or that it may not see: a source made unlogged, row security switched on, a view replaced. False:
 * it is put aside, or set to failed.
 */
extern bool sb_opening_verify(SbPipeline *pipeline);

#endif
