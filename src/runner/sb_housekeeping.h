/*
 * sb_housekeeping.h: what the runner does now and then, between bundles: a table of jobs
 * (sb_housekeeping.c).
 */
#ifndef SB_HOUSEKEEPING_H
#define SB_HOUSEKEEPING_H

#include "postgres.h"
#include "datatype/timestamp.h"

/*
 * A job does what is due and returns when there will be more: DT_NOEND if not before pipelines
 * change. In a subtransaction of its own, SPI connected, with the extension owner's rights. An
 * error is a warning in the log, and the job has its turn again after the interval.
 */
typedef TimestampTz (*SbHousekeepingJob)(TimestampTz now);

/*
 * Does what is due. The jobs are also asked after a change of pipelines, which
 * sb_housekeeping_ask() says.
 */
extern void sb_housekeeping_run(TimestampTz now);
extern void sb_housekeeping_ask(void);
/*
 * When sb_housekeeping_run() has something to do; never sooner than
 * stream_beam.housekeeping_interval after the last time.
 */
extern TimestampTz sb_housekeeping_next(void);

#endif
