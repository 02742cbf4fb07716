/*
 * sb_aggregate_merge.h: rows of merging windows, put aside, find their windows.
 */
#ifndef SB_AGGREGATE_MERGE_H
#define SB_AGGREGATE_MERGE_H

#include "pipeline/sb_pipeline.h"

/* A row put aside, for one window. */
typedef struct SbDeferredRow
{
	SbRow row; /* its tuple is a copy */
	uint64 key_hash;
	TimestampTz event_time;
	SbWindow window; /* of a merging window: the element's own */
	int order;       /* in which it came: a retraction has to stay behind what it takes back */
	bool done;
} SbDeferredRow;

/* Makes it the query's current row again; its keys are evaluated anew. */
extern void sb_deferred_set_row(SbPipeline *pipeline, SbDeferredRow *deferred, const Datum **keys,
                                const bool **nulls);

/*
 * Rows sorted by hash of the key, window, order. The key's cells are in memory. Runs as the
 * pipeline's owner, in a context that is dropped soon.
 */
extern void sb_merge_rows(SbPipeline *pipeline, SbDeferredRow *rows, int n);

#endif
