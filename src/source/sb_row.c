/*
 * sb_row.c: a row of the stream; see sb_row.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "source/sb_row.h"

bool
sb_row_has_side(const SbRow *row, SbSide side)
{
	return side == SB_SIDE_OLD ? row->frame->old_length > 0 : row->frame->new_length > 0;
}

void
sb_row_tuple(const SbRow *row, HeapTuple tuple)
{
	char *data = unconstify(SbRowFrame *, row->frame)->data;
	bool old = sb_row_is_old(row);

	tuple->t_len = old ? row->frame->old_length : row->frame->new_length;
	tuple->t_data = (HeapTupleHeader) (old ? data + MAXALIGN(row->frame->new_length) : data);
	tuple->t_tableOid = row->frame->relation;
	ItemPointerSetInvalid(&tuple->t_self);
}
