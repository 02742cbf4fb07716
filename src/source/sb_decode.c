/*
 * sb_decode.c: the output plugin's callbacks: decoded changes become frames.
 *
 * STATE. One hash of relations, in the reader's memory: is it a source, and which layout the consumer was last told. An entry is
 * looked at again after a relcache invalidation for it, and all are when the set of sources changed. Layout ids are never reused
 * within a process, so a ROW always names the layout of its own time.
 *
 * A transaction without a row for us writes nothing: its BEGIN frame is written with its first row.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "replication/output_plugin.h"
#include "replication/reorderbuffer.h"
#include "source/sb_decode.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

typedef struct SbSourceRel
{
	Oid relation; /* hash key */
	bool valid;   /* false: ask again */
	bool wanted;
	uint32 layout;  /* 0: the consumer has not been told */
	TupleDesc told; /* what it was told, to send a schema only when it differs; attislocal as in the frame */
} SbSourceRel;

static SbDecoder *decoder = NULL;
static MemoryContext row_context; /* of one change: flattened tuples, split rows */
static HTAB *relations = NULL;
static SbSourceRel *last_relation = NULL; /* rows of one relation come in runs */
static uint32 wanted_version;
static uint32 next_layout = 1;
static bool begin_written; /* of the transaction being replayed */

static void
decode_invalidate(Datum arg, Oid relation)
{
	HASH_SEQ_STATUS scan;
	SbSourceRel *rel;

	last_relation = NULL;
	if (relations == NULL)
		return;
	if (OidIsValid(relation))
	{
		rel = hash_search(relations, &relation, HASH_FIND, NULL);
		if (rel)
			rel->valid = false;
		return;
	}
	hash_seq_init(&scan, relations);
	while ((rel = hash_seq_search(&scan)) != NULL)
		rel->valid = false;
}

void
sb_decode_init(SbDecoder *which)
{
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(SbSourceRel), .hcxt = TopMemoryContext};

	Assert(decoder == NULL);
	decoder = which;
	row_context = AllocSetContextCreate(TopMemoryContext, "stream_beam element", ALLOCSET_DEFAULT_SIZES);
	relations = hash_create("stream_beam sources", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(decode_invalidate, (Datum) 0);
}

void
sb_decode_start_session(void)
{
	HASH_SEQ_STATUS scan;
	SbSourceRel *rel;

	decode_invalidate((Datum) 0, InvalidOid);
	hash_seq_init(&scan, relations);
	while ((rel = hash_seq_search(&scan)) != NULL)
		rel->layout = 0;
	begin_written = false;
}

void
sb_decode_write_reset(uint64 epoch, XLogRecPtr start)
{
	SbResetFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_RESET, sizeof(SbResetFrame));

	frame->epoch = epoch;
	frame->start = start;
	sb_ring_append(decoder->writer, frame);
	sb_ring_publish(decoder->writer);
}

void
sb_decode_write_heartbeat(XLogRecPtr position, bool caught_up)
{
	SbHeartbeatFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_HEARTBEAT, sizeof(SbHeartbeatFrame));

	frame->position = position;
	frame->at = GetCurrentTimestamp();
	frame->caught_up = caught_up;
	sb_ring_append(decoder->writer, frame);
	sb_ring_publish(decoder->writer);
}

static void
decode_write_begin(ReorderBufferTXN *txn)
{
	SbBeginFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_BEGIN, sizeof(SbBeginFrame));

	frame->position = txn->end_lsn;
	frame->commit_time = txn->xact_time.commit_time;
	frame->xid = txn->xid;
	sb_ring_append(decoder->writer, frame);
	begin_written = true;
}

/* The layout of a relation now; attislocal says that old tuples have the column. In the current context. */
static TupleDesc
decode_layout(Relation relation)
{
	TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(relation));
	bool full = relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	Bitmapset *identity = full ? NULL : RelationGetIdentityKeyBitmap(relation);

	for (int i = 0; i < desc->natts; i++)
		TupleDescAttr(desc, i)->attislocal = full || bms_is_member(i + 1 - FirstLowInvalidHeapAttributeNumber, identity);
	return desc;
}

static bool
decode_same_layout(TupleDesc a, TupleDesc b)
{
	if (a == NULL || a->natts != b->natts)
		return false;
	for (int i = 0; i < a->natts; i++)
	{
		Form_pg_attribute x = TupleDescAttr(a, i);
		Form_pg_attribute y = TupleDescAttr(b, i);

		if (x->atttypid != y->atttypid || x->atttypmod != y->atttypmod || x->attlen != y->attlen ||
		    x->attbyval != y->attbyval || x->attalign != y->attalign || x->attisdropped != y->attisdropped ||
		    x->attislocal != y->attislocal)
			return false;
	}
	return true;
}

static void
decode_write_schema(SbSourceRel *rel, TupleDesc desc)
{
	Size size = offsetof(SbSchemaFrame, columns) + sizeof(SbSchemaColumn) * desc->natts;
	SbSchemaFrame *frame;

	rel->layout = next_layout++;
	frame = sb_ring_reserve(decoder->writer, SB_FRAME_SCHEMA, size);
	frame->relation = rel->relation;
	frame->layout = rel->layout;
	frame->ncolumns = desc->natts;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		frame->columns[i] = (SbSchemaColumn){.type = att->atttypid, .typmod = att->atttypmod, .length = att->attlen, .by_value = att->attbyval, .dropped = att->attisdropped, .in_old = att->attislocal, .align = att->attalign};
	}
	sb_ring_append(decoder->writer, frame);

	if (rel->told)
		FreeTupleDesc(rel->told);
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		rel->told = CreateTupleDescCopy(desc);
		MemoryContextSwitchTo(old);
	}
}

/* The entry of a relation, brought up to date; a schema frame is written where the consumer needs one. */
static SbSourceRel *
decode_relation(ReorderBufferTXN *txn, Relation relation)
{
	Oid oid = RelationGetRelid(relation);
	SbSourceRel *rel = last_relation;
	TupleDesc layout = NULL;
	bool found;

	if (rel == NULL || rel->relation != oid || !rel->valid)
	{
		rel = hash_search(relations, &oid, HASH_ENTER, &found);
		if (!found)
		{
			rel->valid = false;
			rel->layout = 0;
			rel->told = NULL;
		}
		if (!rel->valid)
		{
			rel->wanted = decoder->wanted(oid);
			if (rel->wanted)
				layout = decode_layout(relation);
			if (rel->layout != 0 && layout && !decode_same_layout(rel->told, layout))
				rel->layout = 0;
			rel->valid = true;
		}
		last_relation = rel;
	}
	if (!rel->wanted)
		return rel;
	if (!begin_written)
		decode_write_begin(txn);
	if (rel->layout == 0)
		decode_write_schema(rel, layout ? layout : decode_layout(relation));
	return rel;
}

/* Values of a toasted column stand beside the tuple, in memory of the reorder buffer: takes them into the tuple. */
static HeapTuple
decode_flatten(HeapTuple tuple, TupleDesc desc)
{
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		struct varlena *value = (struct varlena *) DatumGetPointer(values[i]);

		if (nulls[i] || TupleDescAttr(desc, i)->attlen != -1 || TupleDescAttr(desc, i)->attisdropped)
			continue;
		/* a value still on disk is an unchanged one of an UPDATE: it stays a pointer, the old tuple may have it */
		if (VARATT_IS_EXTERNAL_INDIRECT(value))
			values[i] = PointerGetDatum(detoast_external_attr(value));
	}
	return heap_form_tuple(desc, values, nulls);
}

static void
decode_write_split(const char *payload, Size size)
{
	Size most = (sb_ring_max_frame(decoder->writer->ring) - sizeof(SbFrame)) & ~(Size) 7;

	while (size > 0)
	{
		Size part = Min(size, most);
		SbFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_ROW, sizeof(SbFrame) + part);

		memcpy((char *) frame + sizeof(SbFrame), payload, part);
		payload += part;
		size -= part;
		frame->flags = size > 0 ? SB_FRAME_MORE : 0;
		sb_ring_append(decoder->writer, frame);
	}
}

static void
decode_fill_row(SbRowFrame *row, SbSourceRel *rel, SbRowKind kind, HeapTuple new, HeapTuple old)
{
	row->relation = rel->relation;
	row->layout = rel->layout;
	row->new_length = new ? new->t_len : 0;
	row->old_length = old ? old->t_len : 0;
	row->kind = kind;
	row->unused = 0;
	if (new)
		memcpy(row->data, new->t_data, new->t_len);
	if (old)
		memcpy(row->data + MAXALIGN(row->new_length), old->t_data, old->t_len);
}

static void
decode_write_row(SbSourceRel *rel, SbRowKind kind, HeapTuple new, HeapTuple old)
{
	Size size = offsetof(SbRowFrame, data) + (new ? MAXALIGN(new->t_len) : 0) + (old ? MAXALIGN(old->t_len) : 0);

	if (sizeof(SbFrame) + size <= sb_ring_max_frame(decoder->writer->ring))
	{
		SbFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_ROW, sizeof(SbFrame) + size);

		decode_fill_row((SbRowFrame *) (frame + 1), rel, kind, new, old);
		sb_ring_append(decoder->writer, frame);
	}
	else
	{
		SbRowFrame *row = MemoryContextAllocHuge(CurrentMemoryContext, size);

		decode_fill_row(row, rel, kind, new, old);
		decode_write_split((char *) row, size);
		pfree(row);
	}
	decoder->rows++;
}

static HeapTuple
decode_tuple(ReorderBufferTupleBuf *buffer, TupleDesc desc)
{
	if (buffer == NULL)
		return NULL;
	return HeapTupleHasExternal(&buffer->tuple) ? decode_flatten(&buffer->tuple, desc) : &buffer->tuple;
}

static void
decode_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation, ReorderBufferChange *change)
{
	SbSourceRel *rel;
	MemoryContext old;
	TupleDesc desc = RelationGetDescr(relation);
	SbRowKind kind;

	if (last_relation && last_relation->relation == RelationGetRelid(relation) && last_relation->valid && !last_relation->wanted)
		return;
	switch (change->action)
	{
		case REORDER_BUFFER_CHANGE_INSERT:
			kind = SB_ROW_INSERT;
			break;
		case REORDER_BUFFER_CHANGE_UPDATE:
			kind = SB_ROW_UPDATE;
			break;
		case REORDER_BUFFER_CHANGE_DELETE:
			kind = SB_ROW_DELETE;
			break;
		default:
			return;
	}
	rel = decode_relation(txn, relation);
	if (!rel->wanted)
		return;
	old = MemoryContextSwitchTo(row_context);
	decode_write_row(rel, kind, decode_tuple(change->data.tp.newtuple, desc), decode_tuple(change->data.tp.oldtuple, desc));
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);
}

static void
decode_truncate(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations, Relation relations_array[],
                ReorderBufferChange *change)
{
	for (int i = 0; i < nrelations; i++)
	{
		SbSourceRel *rel = decode_relation(txn, relations_array[i]);

		if (rel->wanted)
		{
			SbTruncateFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_TRUNCATE, sizeof(SbTruncateFrame));

			frame->relation = rel->relation;
			sb_ring_append(decoder->writer, frame);
		}
	}
}

static void
decode_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	uint32 version = pg_atomic_read_u32(decoder->wanted_version);

	begin_written = false;
	if (version != wanted_version)
	{
		wanted_version = version;
		pg_read_barrier();
		decode_invalidate((Datum) 0, InvalidOid);
	}
}

static void
decode_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	SbCommitFrame *frame;

	if (!begin_written)
		return;
	frame = sb_ring_reserve(decoder->writer, SB_FRAME_COMMIT, sizeof(SbCommitFrame));
	frame->position = txn->end_lsn;
	sb_ring_append(decoder->writer, frame);
	sb_ring_publish(decoder->writer);
	begin_written = false;
}

static void
decode_message(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr lsn, bool transactional, const char *prefix,
               Size size, const char *message)
{
	/* `lsn` is where the record starts; who wrote it waits for its end */
	if (!transactional && strcmp(prefix, SB_MARKER_PREFIX) == 0)
		sb_decode_write_heartbeat(ctx->reader->EndRecPtr, false);
}

static void
decode_startup(LogicalDecodingContext *ctx, OutputPluginOptions *options, bool is_init)
{
	if (decoder == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("the output plugin \"stream_beam\" serves only stream_beam's own reader"),
		         errhint("Use another plugin, such as pgoutput or test_decoding.")));
	options->output_type = OUTPUT_PLUGIN_BINARY_OUTPUT;
	options->receive_rewrites = false;
}

void
sb_decode_plugin_callbacks(OutputPluginCallbacks *callbacks)
{
	callbacks->startup_cb = decode_startup;
	callbacks->begin_cb = decode_begin;
	callbacks->change_cb = decode_change;
	callbacks->truncate_cb = decode_truncate;
	callbacks->commit_cb = decode_commit;
	callbacks->message_cb = decode_message;
}
