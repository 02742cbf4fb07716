/*
 * sb_queue.h: the rows that wait for a downstream pipeline: what its upstream has written while it
 * did not run (sb_pipeline_chain.c).
 *
 * A downstream pipeline that is opened with a long queue is `draining`. Its upstream goes on
 * queueing for it, and it takes its queue in *chunks*, as it would a history (sb_history.h). Each
 * chunk is a bundle of it and of those downstream of it, bounded in rows and time, which deletes
 * the rows that it has taken. The chunk that comes to the queue's end is the last one. Then the
 * pipeline is linked to its upstream, and what has been queued since comes first in the next
 * bundle.
 *
 * WATERMARK. It is that of the upstream, which is beyond rows that are in the queue. So it does not
 * move while there are any. At the queue's end it moves to where the upstream's was before the last
 * look into the queue.
 *
 * WHAT WAS THERE BEFORE. Creating a downstream pipeline does not stop anybody from writing to the
 * result. The upstream queues for it from the next reading of the catalog on. The rows that the
 * result had are put into the queue later (beam.history says whether), before the downstream
 * pipeline takes any: those that one snapshot sees, in place of what it sees queued. A queue is
 * written in the transactions that write the result, so each row is there once. A pipeline that
 * starts from now gets only those that were written since it was made, and those of writers that
 * were at work at that time.
 *
 * CRASH SAFETY. What the rows of a chunk have done to cells and result commits in the transaction
 * that deletes them.
 */
#ifndef SB_QUEUE_H
#define SB_QUEUE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_row_source.h"

/*
 * Rows of a chunk at most: the reader of the first lane skips what it writes within a few
 * milliseconds.
 */
#define SB_QUEUE_CHUNK_ROWS 10000

/* A look through a queue, within one transaction. */
typedef struct SbQueueScan
{
	SbPipeline *downstream;
	MemoryContext context; /* of the rows of a batch */
	SbLayout *layout;      /* of the downstream pipeline's source */
	int64 taken;           /* what is up to here has been read */
	bool ended;            /* there is no more */

	/* of a chunk */
	int rows;
	TimestampTz until;
	TimestampTz watermark; /* of the upstream, as it was before the first row was read */
} SbQueueScan;

/*
 * Puts the rows that the result had when the downstream pipeline was made into the queue, if that
 * has not been done. Not in a bundle of the upstream.
 */
extern void sb_queue_fill(SbPipeline *downstream);
/* From the first row on. */
extern void sb_queue_begin(SbQueueScan *scan, SbPipeline *downstream);
/* The next rows, good until the next call. 0: there are none. */
extern int sb_queue_next(SbQueueScan *scan, SbMessage **messages);
/* Deletes those that were read. */
extern void sb_queue_end(SbQueueScan *scan);
/* The downstream pipeline takes all that there is. */
extern void sb_queue_take(SbPipeline *downstream);

/* A chunk of the queue, as a row source for one bundle; the scan outlives it. */
extern SbRowSource sb_queue_rows(SbPipeline *downstream, SbQueueScan *scan);
/* Is it too long for one bundle, or can that not be told at once? */
extern bool sb_queue_is_long(const SbPipelineRow *downstream, const SbPipelineRow *upstream);

#endif
