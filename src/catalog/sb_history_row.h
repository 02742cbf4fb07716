/*
 * sb_history_row.h: beam.history: how far a pipeline has come in the rows that its source had
 * before it. Of a downstream pipeline: whether they are in its queue (sb_queue.h).
 *
 * All functions want SPI connected and the rights of the extension's owner. Results are in the
 * current context.
 */
#ifndef SB_HISTORY_ROW_H
#define SB_HISTORY_ROW_H

#include "postgres.h"
#include "access/attnum.h"
#include "access/xlogdefs.h"

/* What the rows are cut into chunks by: a column of the source, or one of these. */
#define SB_PART_EVENT_TIME 0
#define SB_PART_NONE (-1) /* the table is one chunk */

typedef struct SbHistoryRow
{
	int32 pipeline;
	AttrNumber part;
	Oid type;     /* of the part value; InvalidOid where there is none */
	bool begun;   /* a chunk has been read */
	bool scanned; /* all have */
	bool done;    /* ... and the stream has come to the end of the last one's cut */
	char *lower;  /* of the last chunk: where the next one ends; NULL: it went down to the end */
	char *upper;  /* NULL: it was the first */
	/*
	 * of the last chunk; of a downstream pipeline: rows from before it are not for it; NULL: none
	 * yet
	 */
	char *snapshot;
	XLogRecPtr cut_end;
	int64 rows;
	int64 chunks;
	int64 estimated_rows;
} SbHistoryRow;

/* NULL: it has no history */
extern SbHistoryRow *sb_catalog_history(int32 pipeline);
extern void sb_catalog_insert_history(const SbHistoryRow *row);
/* Puts what changes: neither the part nor the estimate. */
extern void sb_catalog_put_history(const SbHistoryRow *row);

#endif
