/*
 * sb_row.h: a row of the stream: a change of the source, as pipelines see it.
 *
 * MEMORY. The frame is the ring's, or of whoever made the row; a row is good as long as that.
 */
#ifndef SB_ROW_H
#define SB_ROW_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "source/sb_frame.h"

/*
 * Which tuple of a change is meant. An UPDATE is two: the old one is taken back, then the new one
 * is added.
 */
typedef enum SbSide
{
	SB_SIDE_ALL, /* all that the change has */
	SB_SIDE_OLD,
	SB_SIDE_NEW
} SbSide;

typedef struct SbRow
{
	const SbRowFrame *frame;
	/* of the row's time, see intake_learn_layout(); NULL for what has no row: TRUNCATE, REBUILD */
	TupleDesc layout;
	XLogRecPtr position; /* of its transaction */
	TimestampTz commit_time;
	/* of its transaction, the top one; invalid: the row has not come through the ring */
	TransactionId xid;
	SbSide side;
} SbRow;

/* Is the old tuple meant: is the row taken back? */
static inline bool
sb_row_is_old(const SbRow *row)
{
	return row->side == SB_SIDE_OLD ||
	       (row->side == SB_SIDE_ALL && row->frame->kind == SB_ROW_DELETE);
}

extern bool sb_row_has_side(const SbRow *row, SbSide side);
/* The tuple meant, pointing into its frame. */
extern void sb_row_tuple(const SbRow *row, HeapTuple tuple);

#endif
