/*
 * sb_queue.h: the rows that wait for a pipeline which reads another's result: what has been written
 * there while it did not run (sb_pipeline_chain.c).
 *
 * A reader that is opened with a queue of some length is `draining`: what it reads goes on queueing
 * for it, and it takes its queue in *chunks*, as it would a history (sb_history.h): each is a
 * bundle of it and of those that read its result, bounded in rows and time, in which the rows go. A
 * chunk that has come to the queue's end ends that: it is linked to what it reads, and what has
 * been queued since comes first in the next bundle.
 *
 * WATERMARK. It is that of what the reader reads, which is beyond rows that are in the queue. So it
 * stands while there are any; at the queue's end it moves to where it was before the last look into
 * the queue.
 *
 * WHAT WAS THERE BEFORE. Who makes a reader keeps nobody from writing to the result. What reads it
 * queues for the reader from the next reading of the catalog on, and the rows of the result come
 * into the queue later (beam.history has it), before the reader takes any: those that one snapshot
 * sees, in the place of what it sees queued. A queue is written in the transactions that write the
 * result, so that is all of it, once. Of a pipeline that starts from now it is those alone that
 * were written since it was made; what a writer was about at that time counts as that.
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
 * So many rows a chunk has at most: the reader of the first lane goes through what it writes within
 * a few milliseconds.
 */
#define SB_QUEUE_CHUNK_ROWS 10000

/* A look through a queue, within one transaction. */
typedef struct SbQueueScan
{
	SbPipeline *reader;
	MemoryContext context; /* of the rows of a batch */
	SbLayout *layout;      /* of the reader's source */
	int64 taken;           /* what is up to here has been read */
	bool ended;            /* there is no more */

	/* of a chunk */
	int rows;
	TimestampTz until;
	TimestampTz watermark; /* of what the reader reads, as it was before the first row was read */
} SbQueueScan;

/*
 * Those rows that the result had when the reader was made go into the queue, if they have not yet.
 * Not in a bundle of what the reader reads.
 */
extern void sb_queue_fill(SbPipeline *reader);
/* From the first row on. */
extern void sb_queue_begin(SbQueueScan *scan, SbPipeline *reader);
/* The next rows, good until the next call. 0: there are none. */
extern int sb_queue_next(SbQueueScan *scan, SbMessage **messages);
/* Those that were read go. */
extern void sb_queue_end(SbQueueScan *scan);
/* The reader takes all that there is. */
extern void sb_queue_take(SbPipeline *reader);

/* A chunk of the queue, as a row source for one bundle; the scan outlives it. */
extern SbRowSource sb_queue_rows(SbPipeline *reader, SbQueueScan *scan);
/* Is it too long for one bundle, or can that not be told at once? */
extern bool sb_queue_is_long(const SbPipelineRow *reader, const SbPipelineRow *upstream);

#endif
