/*
 * sb_scan.h: rows of a pipeline's source out of the table, as if they had come through the ring.
 *
 * The rows are whole heap tuples in the table's present layout: values stored elsewhere are
 * fetched, columns that a short tuple does not have are filled in. They have no transaction (the
 * xid is invalid) and the position that the caller gives.
 */
#ifndef SB_SCAN_H
#define SB_SCAN_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"
#include "source/sb_change.h"
#include "utils/snapshot.h"

typedef struct SbScan SbScan;

typedef struct SbScanQuery
{
	const char *condition; /* SQL over the source's columns, parameters $1 ...; NULL: all rows */
	int nargs;
	const Oid *types;
	const Datum *values; /* none is null; they are to live as long as the scan */
	bool by_index;       /* planned as a bitmap scan, whatever the planner thinks of the sizes */
} SbScanQuery;

/*
 * Begins to read the source of a pipeline under a registered snapshot, as the pipeline's owner and
 * with its settings. The table is to be locked by the caller, before the snapshot. In the current
 * context; lives within the transaction. `position`: to tell of the
 * rows; it may be invalid.
 */
extern SbScan *sb_scan_begin(SbPipeline *pipeline, Snapshot snapshot, const SbScanQuery *query,
                             XLogRecPtr position);
/*
 * Up to `max` more rows, good until the next call; 0: there are none. Other statements may be run
 * in between.
 */
extern int sb_scan_next(SbScan *scan, SbMessage **messages, int max);
/* Not after an error: the end of the transaction frees all of it. */
extern void sb_scan_end(SbScan *scan);

#endif
