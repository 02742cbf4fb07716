/*
 * sb_query_row.c: the current source row as a slot that the executor's expressions read.
 *
 * The slot is a virtual one whose values are filled when they are first asked for. The executor
 * brings tuples of its own kinds only, and a heap slot would have to copy the tuple or trust its
 * descriptor; the layout here is the one of the tuple's time.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "query/sb_query_private.h"
#include "utils/datum.h"

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
 * Goes on where the last call stopped. Attributes that the layout has dropped, and those that the
 * tuple or the layout have not yet, are null.
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
sb_query_set_row(SbQuery *query, HeapTupleHeader tuple, TupleDesc layout)
{
	SbRowSlot *row = (SbRowSlot *) query->slot;

	ResetExprContext(query->econtext);
	row->layout = layout;
	row->ahead = 0;
	sb_query_exchange_row(query, tuple);
}

void
sb_query_exchange_row(SbQuery *query, HeapTupleHeader tuple)
{
	SbRowSlot *row = (SbRowSlot *) query->slot;

	row->header = tuple;
	row->offset = 0;
	row->stored = Min(HeapTupleHeaderGetNatts(tuple), row->layout->natts);
	row->base.base.tts_nvalid = 0;
	query->args_ready = false;
}

/* ---- two tuples ---- */

/* A tuple that is gone through from the first attribute on. */
typedef struct SbRowCursor
{
	char *data;
	bits8 *nulls; /* NULL: none */
	uint32 offset;
	int stored;
} SbRowCursor;

static inline SbRowCursor
cursor_begin(HeapTupleHeader header)
{
	return (SbRowCursor){.data = (char *) header + header->t_hoff,
	                     .nulls = (header->t_infomask & HEAP_HASNULL) ? header->t_bits : NULL,
	                     .stored = HeapTupleHeaderGetNatts(header)};
}

/* The bytes of attribute i, which is the next; NULL: it is null. */
static inline char *
cursor_next(SbRowCursor *cursor, Form_pg_attribute att, int i)
{
	char *at;

	if (i >= cursor->stored || (cursor->nulls != NULL && att_isnull(i, cursor->nulls)))
		return NULL;
	cursor->offset = att_align_pointer(cursor->offset, att->attalign, att->attlen,
	                                   cursor->data + cursor->offset);
	at = cursor->data + cursor->offset;
	cursor->offset = att_addlength_pointer(cursor->offset, att->attlen, at);
	return at;
}

SbSame
sb_query_compare(const SbQuery *query, HeapTupleHeader a, HeapTupleHeader b, TupleDesc layout)
{
	SbRowCursor of_a = cursor_begin(a);
	SbRowCursor of_b = cursor_begin(b);
	int natts = Min(query->plan->max_attno, layout->natts);
	SbSame same = SB_SAME_ALL;

	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(layout, i);
		char *in_a = cursor_next(&of_a, att, i);
		char *in_b = cursor_next(&of_b, att, i);

		if (!bms_is_member(i + 1, query->plan->columns))
			continue;
		if (in_a == NULL && in_b == NULL)
			continue;
		if (in_a != NULL && in_b != NULL &&
		    datumIsEqual(fetchatt(att, in_a), fetchatt(att, in_b), att->attbyval, att->attlen))
			continue;
		if (bms_is_member(i + 1, query->plan->placing))
			return SB_SAME_NOTHING;
		same = SB_SAME_PLACE;
	}
	return same;
}

/* ---- the filter ---- */

/*
 * True: the row passes. What comes after a passed filter deforms to the last column used at once.
 */
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
