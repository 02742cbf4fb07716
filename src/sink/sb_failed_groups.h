/*
 * sb_failed_groups.h: beam.failed_group: groups that count rows and cannot say what they count.
 *
 * There is a row for each cell that is marked as failed in the state (state/sb_cells.h), written in
 * the same transaction.
 */
#ifndef SB_FAILED_GROUPS_H
#define SB_FAILED_GROUPS_H

#include "postgres.h"
#include "sink/sb_sink.h"

/* Collected until sb_failed_groups_write(). `error` NULL: it had failed, and is well again. */
extern void sb_failed_groups_put(const SbFailedGroup *group, const ErrorData *error);

/*
 * The others want SPI connected, and nothing collected. Those of windows in the range, or of all
 * others, are forgotten.
 */
extern void sb_failed_groups_clear(int32 pipeline, const SbWindowRange *range, bool inside);
extern int64 sb_failed_groups_count(int32 pipeline);
/* In the current context, without their keys. */
extern int sb_failed_groups_read(int32 pipeline, SbFailedGroup **groups);
extern void sb_failed_groups_write(void);

#endif
