/*
 * sb_row_source.h: rows that do not come through the ring: a chunk of a history, a step of a
 * backfill, a queue, letters that are replayed.
 */
#ifndef SB_ROW_SOURCE_H
#define SB_ROW_SOURCE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

/*
 * They are for one pipeline (and those downstream of it), and make a bundle of their own, between
 * two of the ring's. Where one fails, all is opened and read anew in the careful run.
 */
typedef struct SbRowSource
{
	SbPipeline *pipeline;
	bool asked_for; /* by somebody who waits to be told of an error */
	void *arg;
	/*
	 * In the bundle's transaction, before the first row. False: nothing can be done now; the
	 * transaction is given up.
	 */
	bool (*open)(struct SbRowSource *source);
	/* The next ones, good until the next call. 0: there are none. */
	int (*next)(struct SbRowSource *source, SbMessage **messages);
	/* The rows are in the cells; what is written now commits with them. */
	void (*close)(struct SbRowSource *source);
} SbRowSource;

/* How a bundle has ended. */
typedef enum SbBundleEnd
{
	SB_BUNDLE_DONE,
	SB_BUNDLE_RELOAD,  /* done, and the pipelines have changed */
	SB_BUNDLE_RESET,   /* a RESET frame is next; an unfinished transaction was rolled back */
	SB_BUNDLE_NOTHING, /* of a row source that could not be opened: rolled back */
	SB_BUNDLE_FAILED   /* done, and a pipeline was set to failed */
} SbBundleEnd;

/* Who runs bundles of such rows. */
typedef struct SbRowRunner
{
	XLogRecPtr position;    /* that the stream has come to */
	bool (*is_stale)(void); /* the catalog has changed since the pipelines were opened */
	SbBundleEnd (*run)(SbRowSource *row_source, XLogRecPtr *commit);
} SbRowRunner;

#endif
