/*
 * sb_query_row.c: the current source row as a slot that the executor's expressions read.
 *
 * The slot is a virtual one whose values are filled when they are first asked for. The executor brings tuples of its own kinds
 * only, and a heap slot would have to copy the tuple or trust its descriptor; the layout here is the one of the tuple's time.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "query/sb_query_private.h"

/* Virtual slots' operations with our getsomeattrs; filled at first use. */
static TupleTableSlotOps sb_row_ops;

SbRowSlot *
sb_row_create(TupleDesc desc, Oid relation)
{
	SbRowSlot *row;

	sb_row_ops = TTSOpsVirtual;
	sb_row_ops.base_slot_size = sizeof(SbRowSlot);
	sb_row_ops.getsomeattrs = sb_row_deform;
	row = (SbRowSlot *) MakeTupleTableSlot(desc, &sb_row_ops);
	row->base.base.tts_tableOid = relation;
	row->base.base.tts_flags &= ~TTS_FLAG_EMPTY;
	return row;
}

/*
 * Goes on where the last call stopped. Attributes that the layout has dropped, and those that the tuple or the layout have not yet,
 * are null.
 */
void
sb_row_deform(TupleTableSlot *slot, int natts)
{
	SbRowSlot *row = (SbRowSlot *) slot;
	Datum *values = slot->tts_values;
	bool *isnull = slot->tts_isnull;
	HeapTupleHeader header = row->header;
	char *data = (char *) header + header->t_hoff;
	bits8 *nulls = (header->t_infomask & HEAP_HASNULL) ? header->t_bits : NULL;
	uint32 offset = row->offset;
	int i = slot->tts_nvalid;
	int stored;

	natts = Max(natts, row->ahead);
	stored = Min(natts, row->stored);
	for (; i < stored; i++)
	{
		Form_pg_attribute att = TupleDescAttr(row->layout, i);

		if (nulls != NULL && att_isnull(i, nulls))
		{
			values[i] = (Datum) 0;
			isnull[i] = true;
			continue;
		}
		offset = att_align_pointer(offset, att->attalign, att->attlen, data + offset);
		values[i] = fetchatt(att, data + offset);
		isnull[i] = att->attisdropped;
		offset = att_addlength_pointer(offset, att->attlen, data + offset);
	}
	row->offset = offset;
	for (; i < natts; i++)
	{
		values[i] = (Datum) 0;
		isnull[i] = true;
	}
	slot->tts_nvalid = natts;
}

void
sb_query_set_row(SbQuery *query, HeapTuple tuple, TupleDesc layout)
{
	SbRowSlot *row = (SbRowSlot *) query->slot;

	ResetExprContext(query->econtext);
	row->header = tuple->t_data;
	row->layout = layout;
	row->offset = 0;
	row->stored = Min(HeapTupleHeaderGetNatts(tuple->t_data), layout->natts);
	row->ahead = 0;
	row->base.base.tts_nvalid = 0;
	query->args_ready = false;
}

/* True: the row passes. What comes after a passed filter deforms to the last column used at once. */
bool
sb_query_filter(SbQuery *query)
{
	if (query->filter_false)
		return false;
	if (query->filter != NULL && !ExecQual(query->filter, query->econtext))
		return false;
	((SbRowSlot *) query->slot)->ahead = query->plan->max_attno;
	return true;
}
