/*
 * sb_aside.h: pipelines put aside: they have exceeded a limit, or failed with what may pass, and
 * are tried again a little later, so that the others go on.
 *
 * Each time is later than the one before. One that fails with what may pass is tried strictly from
 * the third time on: what fails then is its row's fault. After stream_beam.max_retries it is
 * failed.
 *
 * The list is the runner's own; beam.retry has it for those who look, and for the next runner. It
 * is not written where somebody has it locked.
 */
#ifndef SB_ASIDE_H
#define SB_ASIDE_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "nodes/pg_list.h"

/*
 * With each reading of the catalog, by id: pipelines that run, and those of them that are this
 * runner's. What another runner has left is on the list then, and those that are not to run, or
 * another's, are not. SPI connected.
 */
extern void sb_aside_read(const List *running, const List *mine);
/* It is another runner's from now on. */
extern void sb_aside_leave(int32 pipeline);
extern bool sb_aside_has(int32 pipeline);
/* It is not to be opened before the time given; 0: at once. */
extern TimestampTz sb_aside_until(int32 pipeline);
/* It is opened. True: it had been put aside. */
extern bool sb_aside_try(int32 pipeline);
/* Is everything that fails its row's fault? */
extern bool sb_aside_is_strict(int32 pipeline);
/* Puts it aside, until it has come to `position`. False: it was the last time. SPI connected. */
extern bool sb_aside_put(const SbPipelineRow *row, const ErrorData *error, XLogRecPtr position);
/*
 * Sets it to failed. False: somebody has its row locked, or it is being dropped; it is put aside
 * then, and tried again if it is there still. SPI connected.
 */
extern bool sb_aside_fail(const SbPipelineRow *row, const ErrorData *error, XLogRecPtr position);
/* What is open (SbPipeline) and has come further is put aside no more. Not in a transaction. */
extern void sb_aside_look(const List *pipelines);

#endif
