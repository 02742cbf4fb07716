/*
 * sb_bundle.h: one bundle: what the ring has, applied to all pipelines in one transaction.
 *
 * First it is run plainly, without subtransactions and without a per-row cost. If that fails, all is rolled back and the same rows are
 * run again pipeline by pipeline, each in a subtransaction, in halves where a half fails, until the row is found that does: it goes to
 * beam.dead_letter. A pipeline that cannot go on is set to failed, with its position as before the bundle; the others commit.
 */
#ifndef SB_BUNDLE_H
#define SB_BUNDLE_H

#include "postgres.h"
#include "runtime/sb_intake.h"
#include "runtime/sb_pipeline.h"

typedef enum SbBundleEnd
{
	SB_BUNDLE_DONE,
	SB_BUNDLE_RELOAD,  /* done, and the pipelines have changed */
	SB_BUNDLE_RESET,   /* a RESET frame is next; an unfinished transaction was rolled back */
	SB_BUNDLE_NOTHING, /* of a feed that could not be opened: rolled back */
	SB_BUNDLE_FAILED   /* done, and a pipeline was set to failed */
} SbBundleEnd;

/*
 * Runs a bundle over what the intake has, waiting for the end of a transaction once it has begun. `pipelines`: each after the one
 * whose result it reads. Error if *chain_generation is not what was seen when they were opened. *commit_lsn: of its own transaction,
 * InvalidXLogRecPtr if it wrote nothing.
 */
extern SbBundleEnd sb_bundle_run(SbIntake *intake, List *pipelines, pg_atomic_uint32 *chain_generation, uint32 seen_chain_generation,
                                 XLogRecPtr *commit_lsn);

/*
 * Rows that do not come through the ring, for one pipeline (and those that read its result): they make a bundle of their own, between
 * two of the ring's. Where one fails, all is opened and read anew in the careful run.
 */
typedef struct SbFeed
{
	SbPipeline *pipeline;
	bool asked_for; /* by somebody who waits to be told of an error */
	void *arg;
	/* In the bundle's transaction, before the first row. False: nothing can be done now; the transaction is given up. */
	bool (*open)(struct SbFeed *feed);
	/* The next rows, good until the next call. 0: there are none. */
	int (*next)(struct SbFeed *feed, SbRow **rows);
	/* The rows are in the cells; what is written now commits with them. */
	void (*close)(struct SbFeed *feed);
} SbFeed;

/* The same for a bundle of these rows. SB_BUNDLE_NOTHING: it could not be opened. */
extern SbBundleEnd sb_bundle_feed(SbIntake *intake, List *pipelines, SbFeed *feed, pg_atomic_uint32 *chain_generation,
                                  uint32 seen_chain_generation, XLogRecPtr *commit_lsn);

#endif
