/*
 * sb_decode.c: the output plugin's callbacks: decoded changes become frames.
 *
 * Layout ids are never reused within a process, so a ROW always names the layout of its own time.
 * SCHEMA frames go into the ring as soon as a layout is seen, wherever its rows go.
 *
 * A transaction without a row for us writes nothing: its BEGIN frame is written with its first row.
 *
 * LARGE TRANSACTIONS. One that outgrows decoding_work_mem comes in parts while it is still in
 * progress (the stream callbacks). Its frames go to a spool of its own (sb_frame_spool.c) and into
 * the ring with its commit. Which relations are wanted is asked when a part is decoded, and counts
 * from the commit: where a source was added in between, the session is begun again.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "replication/origin.h"
#include "replication/output_plugin.h"
#include "replication/reorderbuffer.h"
#include "source/sb_decode.h"
#include "source/sb_decode_source.h"
#include "source/sb_frame_spool.h"
#include "source/sb_rebuild_note.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "worker/sb_lane.h"

static SbDecoder *decoder = NULL;
static MemoryContext row_context; /* of one change: flattened tuples, split rows */
static uint32 wanted_version;
static uint32 next_layout = 1;
static bool begin_written; /* of the transaction being replayed */
static List *truncated;    /* of SbTruncated */

/* A partition that a transaction truncates, with rows in it: what its backend has said before. */
typedef struct SbTruncated
{
	TransactionId xid;
	Oid partition;
} SbTruncated;

/* Where frames of the transaction being decoded go: NULL: into the ring. */
static SbFrameSpool *spool;
static TransactionId spool_subxid; /* whose change it is */

void
sb_decode_init(SbDecoder *which)
{
	Assert(decoder == NULL);
	decoder = which;
	row_context =
	    AllocSetContextCreate(TopMemoryContext, "stream_beam element", ALLOCSET_DEFAULT_SIZES);
	sb_source_rels_init(decoder->wanted);
}

void
sb_decode_start_session(void)
{
	sb_frame_spool_free_all();
	spool = NULL;
	sb_source_rels_forget_layouts();
	begin_written = false;
	decoder->start_over = false;
	list_free_deep(truncated);
	truncated = NIL;
}

/* ---- what is known of a transaction beside its frames ---- */

static void
decode_note_truncated(TransactionId xid, Oid partition)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	SbTruncated *note = palloc(sizeof(SbTruncated));

	*note = (SbTruncated){.xid = xid, .partition = partition};
	truncated = lappend(truncated, note);
	MemoryContextSwitchTo(old);
}

static bool
decode_had_rows(TransactionId xid, Oid partition)
{
	ListCell *lc;

	foreach (lc, truncated)
	{
		const SbTruncated *note = lfirst(lc);

		if (note->xid == xid && note->partition == partition)
			return true;
	}
	return false;
}

static void
decode_forget_transaction(TransactionId xid)
{
	ListCell *lc;

	foreach (lc, truncated)
	{
		SbTruncated *note = lfirst(lc);

		if (note->xid != xid)
			continue;
		truncated = foreach_delete_current(truncated, lc);
		pfree(note);
	}
}

/* ---- frames ---- */

static Size
decode_max_frame(void)
{
	Size most = sb_ring_max_frame(decoder->writer->ring);

	return spool ? Min(most, SB_SPOOL_MAX_FRAME) : most;
}

/* Room for a frame of the transaction being decoded. */
static void *
decode_reserve(SbFrameType type, Size size)
{
	return spool ? sb_frame_spool_reserve(spool, spool_subxid, type, size)
	             : sb_ring_reserve(decoder->writer, type, size);
}

static void
decode_append(const void *frame)
{
	if (spool)
		sb_frame_spool_append(spool, frame);
	else
		sb_ring_append(decoder->writer, frame);
}

void
sb_decode_write_reset(uint64 epoch, XLogRecPtr start, XLogRecPtr reach)
{
	SbResetFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_RESET, sizeof(SbResetFrame));

	frame->epoch = epoch;
	frame->start = start;
	frame->reach = reach;
	sb_ring_append(decoder->writer, frame);
	sb_ring_publish(decoder->writer);
}

void
sb_decode_write_heartbeat(XLogRecPtr position, bool caught_up)
{
	SbHeartbeatFrame *frame =
	    sb_ring_reserve(decoder->writer, SB_FRAME_HEARTBEAT, sizeof(SbHeartbeatFrame));

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

/*
 * Gives the target a new layout id, which the rows that follow name. The frame goes into the ring
 * at once, also where those rows go to a spool: they come into the ring later.
 */
static void
decode_write_schema(SbTarget *target)
{
	TupleDesc desc = target->desc;
	Size size = offsetof(SbSchemaFrame, columns) + sizeof(SbSchemaColumn) * desc->natts;
	SbSchemaFrame *frame;

	target->layout = next_layout++;
	frame = sb_ring_reserve(decoder->writer, SB_FRAME_SCHEMA, size);
	frame->relation = target->source;
	frame->layout = target->layout;
	frame->ncolumns = desc->natts;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		frame->columns[i] = (SbSchemaColumn){.type = att->atttypid,
		                                     .typmod = att->atttypmod,
		                                     .length = att->attlen,
		                                     .by_value = att->attbyval,
		                                     .dropped = att->attisdropped,
		                                     .in_old = target->in_old[i],
		                                     .align = att->attalign};
	}
	sb_ring_append(decoder->writer, frame);
}

/* The next frame belongs to this transaction. */
static void
decode_begin_frames(ReorderBufferTXN *txn)
{
	if (spool == NULL && !begin_written)
		decode_write_begin(txn);
}

/*
 * A tuple as long as its relation is wide, with all that is known of its values in it. Of a toasted
 * column, the value stands beside the tuple, in memory of the reorder buffer; one that an UPDATE
 * has not changed is in the old tuple, if that has it. What still is a pointer to disk then becomes
 * null: nobody can follow it, and no query uses a column that the old tuple lacks. Columns added
 * after the tuple was written have the value they were added with.
 */
static HeapTuple
decode_complete(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(tuple, desc, values, nulls);
	for (int i = 0; i < desc->natts; i++)
	{
		struct varlena *value = (struct varlena *) DatumGetPointer(values[i]);

		if (nulls[i] || TupleDescAttr(desc, i)->attlen != -1 || !VARATT_IS_EXTERNAL(value))
			continue;
		if (TupleDescAttr(desc, i)->attisdropped)
			nulls[i] = true;
		else if (VARATT_IS_EXTERNAL_INDIRECT(value))
			values[i] = PointerGetDatum(detoast_external_attr(value));
		else if (VARATT_IS_EXTERNAL_ONDISK(value))
		{
			nulls[i] = true;
			if (old)
				values[i] = heap_getattr(old, i + 1, desc, &nulls[i]);
		}
	}
	return heap_form_tuple(desc, values, nulls);
}

static void
decode_write_split(const char *payload, Size size)
{
	Size most = (decode_max_frame() - sizeof(SbFrame)) & ~(Size) 7;

	while (size > 0)
	{
		Size part = Min(size, most);
		SbFrame *frame = decode_reserve(SB_FRAME_ROW, sizeof(SbFrame) + part);

		memcpy((char *) frame + sizeof(SbFrame), payload, part);
		payload += part;
		size -= part;
		frame->flags = size > 0 ? SB_FRAME_MORE : 0;
		decode_append(frame);
	}
}

/* What is to be sent of a change, as rows of the relation that it was made in. */
typedef struct SbDecoded
{
	SbChangeOp op;
	Oid partition;
	HeapTuple new;
	HeapTuple old;
} SbDecoded;

static void
decode_put_tuple(char *to, HeapTuple tuple)
{
	memcpy(to, tuple->t_data, tuple->t_len);
	sb_tuple_is_no_datum((HeapTupleHeader) to);
}

static void
decode_fill_row(SbRowFrame *row, const SbTarget *target, const SbDecoded *change)
{
	row->relation = target->source;
	row->layout = target->layout;
	row->new_length = change->new ? change->new->t_len : 0;
	row->old_length = change->old ? change->old->t_len : 0;
	row->op = change->op;
	row->partition = change->partition;
	if (change->new)
		decode_put_tuple(row->data, change->new);
	if (change->old)
		decode_put_tuple(row->data + MAXALIGN(row->new_length), change->old);
}

/*
 * The layout of the target has been written before. A row that is too large for one frame comes in
 * parts.
 */
static void
decode_write_row(const SbTarget *target, const SbDecoded *change)
{
	Size size = offsetof(SbRowFrame, data) + (change->new ? MAXALIGN(change->new->t_len) : 0) +
	            (change->old ? MAXALIGN(change->old->t_len) : 0);

	if (sizeof(SbFrame) + size <= decode_max_frame())
	{
		SbFrame *frame = decode_reserve(SB_FRAME_ROW, sizeof(SbFrame) + size);

		decode_fill_row((SbRowFrame *) (frame + 1), target, change);
		decode_append(frame);
	}
	else
	{
		SbRowFrame *row = MemoryContextAllocHuge(CurrentMemoryContext, size);

		decode_fill_row(row, target, change);
		decode_write_split((char *) row, size);
		pfree(row);
	}
}

/*
 * A complete tuple, or NULL where there is none. Its own values: `old` is where to look for what it
 * lacks, or NULL.
 */
static HeapTuple
decode_tuple(HeapTuple tuple, HeapTuple old, TupleDesc desc)
{
	if (tuple &&
	    (HeapTupleHasExternal(tuple) || HeapTupleHeaderGetNatts(tuple->t_data) < desc->natts))
		return decode_complete(tuple, old, desc);
	return tuple;
}

static void
decode_send(ReorderBufferTXN *txn, SbTarget *target, const SbDecoded *change)
{
	SbDecoded converted = *change;

	if (target->layout == 0)
		decode_write_schema(target);
	decode_begin_frames(txn);
	if (target->map)
	{
		converted.new = change->new ? execute_attr_map_tuple(change->new, target->map) : NULL;
		converted.old = change->old ? execute_attr_map_tuple(change->old, target->map) : NULL;
	}
	decode_write_row(target, &converted);
}

/*
 * Does a change of this relation concern nobody? Of a spool that is noted: it may be otherwise at
 * the commit.
 */
static bool
decode_is_unwanted(Oid relation)
{
	return spool == NULL && sb_source_rel_unwanted(relation);
}

static void
decode_note_left_out(const SbSourceRel *rel)
{
	ListCell *lc;

	if (spool == NULL)
		return;
	foreach (lc, rel->others)
		sb_frame_spool_left_out(spool, lfirst_oid(lc));
}

static void
decode_write_unreadable(ReorderBufferTXN *txn, Relation relation, const char *text)
{
	SbSourceRel *rel = sb_source_rel(relation);
	Size length = strlen(text) + 1;

	decode_note_left_out(rel);
	for (int i = 0; i < rel->ntargets; i++)
	{
		SbUnreadableFrame *frame;

		decode_begin_frames(txn);
		frame = decode_reserve(SB_FRAME_UNREADABLE, offsetof(SbUnreadableFrame, text) + length);
		frame->relation = rel->targets[i].source;
		frame->length = length;
		memcpy(frame->text, text, length);
		decode_append(frame);
	}
}

static void
decode_send_change(ReorderBufferTXN *txn, Relation relation, ReorderBufferChange *change,
                   SbDecoded *sent)
{
	TupleDesc desc = RelationGetDescr(relation);
	SbSourceRel *rel = sb_source_rel(relation);

	decode_note_left_out(rel);
	if (rel->ntargets == 0)
		return;
	SB_KILL_POINT_OF("decode_change", RelationGetRelationName(relation));
	sent->old = decode_tuple(sb_decoded_tuple(change->data.tp.oldtuple), NULL, desc);
	sent->new = decode_tuple(sb_decoded_tuple(change->data.tp.newtuple), sent->old, desc);
	for (int i = 0; i < rel->ntargets; i++)
		decode_send(txn, &rel->targets[i], sent);
}

/*
 * A change of a row. The relation is noted as being at work, so that it can be blamed where
 * decoding it ends the process; a change that has done so too often is left unread, and its frame
 * says why.
 */
static void
decode_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
              ReorderBufferChange *change)
{
	MemoryContext old;
	SbDecoded sent = {.partition = RelationGetRelid(relation)};
	const char *text;

	if (decode_is_unwanted(sent.partition))
		return;
	switch (change->action)
	{
		case REORDER_BUFFER_CHANGE_INSERT:
			sent.op = SB_CHANGE_INSERT;
			break;
		case REORDER_BUFFER_CHANGE_UPDATE:
			sent.op = SB_CHANGE_UPDATE;
			break;
		case REORDER_BUFFER_CHANGE_DELETE:
			sent.op = SB_CHANGE_DELETE;
			break;
		default:
			return;
	}
	decoder->at_work(sent.partition, change->lsn);
	old = MemoryContextSwitchTo(row_context);
	text = decoder->unreadable ? decoder->unreadable(sent.partition, change->lsn) : NULL;
	if (text)
		decode_write_unreadable(txn, relation, text);
	else
		decode_send_change(txn, relation, change, &sent);
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);
	decoder->at_work(InvalidOid, change->lsn);
}

static void
decode_write_truncate(ReorderBufferTXN *txn, Oid source)
{
	SbTruncateFrame *frame;

	decode_begin_frames(txn);
	frame = decode_reserve(SB_FRAME_TRUNCATE, sizeof(SbTruncateFrame));
	frame->relation = source;
	decode_append(frame);
}

static void
decode_write_rebuild(ReorderBufferTXN *txn, Oid source, SbRebuildCause cause, Oid partition,
                     const NameData *name)
{
	SbRebuildFrame *frame;

	decode_begin_frames(txn);
	frame = decode_reserve(SB_FRAME_REBUILD, sizeof(SbRebuildFrame));
	frame->relation = source;
	frame->cause = cause;
	frame->partition = partition;
	frame->name = *name;
	decode_append(frame);
}

static void
decode_truncate_one(ReorderBufferTXN *txn, Relation relation, const List *all, bool rows_left)
{
	SbSourceRel *rel = sb_source_rel(relation);

	decode_note_left_out(rel);
	for (int i = 0; i < rel->ntargets; i++)
	{
		Oid source = rel->targets[i].source;

		if (source == rel->relation)
			decode_write_truncate(txn, source);
		/* of a partitioned table that is truncated with it, nothing is left anyway */
		else if (rows_left && !list_member_oid(all, source))
			decode_write_rebuild(txn, source, SB_REBUILD_TRUNCATE, rel->relation,
			                     &relation->rd_rel->relname);
	}
}

static void
decode_truncate(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
                Relation relations_array[], ReorderBufferChange *change)
{
	MemoryContext old = MemoryContextSwitchTo(row_context);
	List *all = NIL;

	for (int i = 0; i < nrelations; i++)
		all = lappend_oid(all, RelationGetRelid(relations_array[i]));
	for (int i = 0; i < nrelations; i++)
	{
		/* a subscription truncates without asking any hook */
		bool rows_left = change->origin_id != InvalidRepOriginId ||
		                 decode_had_rows(txn->xid, RelationGetRelid(relations_array[i]));

		decode_truncate_one(txn, relations_array[i], all, rows_left);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);
}

/* Sources may have been added: which relations are wanted is asked again. */
static void
decode_refresh_sources(void)
{
	uint32 version = pg_atomic_read_u32(decoder->wanted_version);

	if (version == wanted_version)
		return;
	wanted_version = version;
	pg_read_barrier();
	sb_source_rels_invalidate();
}

static void
decode_begin(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	begin_written = false;
	decode_refresh_sources();
}

static void
decode_write_commit(ReorderBufferTXN *txn)
{
	SbCommitFrame *frame = sb_ring_reserve(decoder->writer, SB_FRAME_COMMIT, sizeof(SbCommitFrame));

	frame->position = txn->end_lsn;
	sb_ring_append(decoder->writer, frame);
	sb_ring_publish(decoder->writer);
	begin_written = false;
}

static void
decode_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	decode_forget_transaction(txn->xid);
	if (begin_written)
		decode_write_commit(txn);
}

static void
decode_rebuild_note(ReorderBufferTXN *txn, const SbRebuildNote *note)
{
	if (note->cause == SB_REBUILD_TRUNCATE)
	{
		decode_note_truncated(txn->xid, note->partition);
		return;
	}
	for (uint32 i = 0; i < note->nsources; i++)
	{
		if (decoder->wanted(note->sources[i]))
			decode_write_rebuild(txn, note->sources[i], note->cause, note->partition, &note->name);
		else if (spool)
			sb_frame_spool_left_out(spool, note->sources[i]);
	}
}

/*
 * Messages that are not ours, and notes that are forged, are ignored. A marker, which belongs to no
 * transaction, asks for a heartbeat at its place.
 */
static void
decode_message(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr lsn,
               bool transactional, const char *prefix, Size size, const char *message)
{
	MemoryContext old;
	const SbRebuildNote *note;

	/* `lsn` is where the record starts; who wrote it waits for its end */
	if (!transactional && strcmp(prefix, SB_MARKER_PREFIX) == 0)
		sb_decode_write_heartbeat(ctx->reader->EndRecPtr, false);
	if (!transactional || strcmp(prefix, SB_REBUILD_PREFIX) != 0)
		return;
	old = MemoryContextSwitchTo(row_context);
	note = sb_rebuild_note_read(message, size, txn->xid);
	if (note)
	{
		spool_subxid = note->subxid;
		decode_rebuild_note(txn, note);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);
}

/* ---- large transactions, part by part ---- */

static void
decode_stream_start(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	decode_refresh_sources();
	spool = sb_frame_spool_find(txn->xid);
	if (spool == NULL)
		spool = sb_frame_spool_create(txn->xid);
}

/* Also called when a part ends early, since its transaction turns out to be aborted. */
static void
decode_stream_stop(LogicalDecodingContext *ctx, ReorderBufferTXN *txn)
{
	spool = NULL;
	SB_KILL_POINT("stream_part");
}

static void
decode_stream_change(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, Relation relation,
                     ReorderBufferChange *change)
{
	spool_subxid = change->txn->xid;
	decode_change(ctx, txn, relation, change);
}

static void
decode_stream_truncate(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, int nrelations,
                       Relation relations[], ReorderBufferChange *change)
{
	spool_subxid = change->txn->xid;
	decode_truncate(ctx, txn, nrelations, relations, change);
}

static void
decode_stream_abort(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr abort_lsn)
{
	SbFrameSpool *aborted = sb_frame_spool_find(txn->toptxn ? txn->toptxn->xid : txn->xid);

	if (aborted && txn->toptxn)
		sb_frame_spool_abort_subxact(aborted, txn->xid);
	else if (aborted)
		sb_frame_spool_free(aborted);
	if (txn->toptxn == NULL)
		decode_forget_transaction(txn->xid);
}

/* Subtransactions that have been aborted are no longer on the list. */
static int
decode_committed_subxacts(ReorderBufferTXN *txn, TransactionId **xids)
{
	dlist_iter iter;
	int n = 0;

	*xids = palloc(sizeof(TransactionId) * (txn->nsubtxns + 1));
	dlist_foreach(iter, &txn->subtxns)(*xids)[n++] =
	    dlist_container(ReorderBufferTXN, node, iter.cur)->xid;
	Assert(n <= txn->nsubtxns);
	return n;
}

/*
 * The frames of a large transaction come into the ring as those of any other. Where some were left
 * out of a source that was added meanwhile, nothing is written: the session is begun again, and the
 * transaction comes once more.
 */
static void
decode_stream_commit(LogicalDecodingContext *ctx, ReorderBufferTXN *txn, XLogRecPtr commit_lsn)
{
	SbFrameSpool *committed = sb_frame_spool_find(txn->xid);

	Assert(spool == NULL);
	decode_forget_transaction(txn->xid);
	if (committed == NULL)
		return;
	if (sb_frame_spool_any_left_out(committed, decoder->wanted))
	{
		ereport(
		    LOG,
		    (errmsg(
		        "stream_beam: decoding starts over, for a source that was added while a large transaction was in progress")));
		decoder->start_over = true;
	}
	else if (!sb_frame_spool_is_empty(committed))
	{
		TransactionId *subxacts;
		int n = decode_committed_subxacts(txn, &subxacts);

		decode_write_begin(txn);
		sb_frame_spool_copy(committed, decoder->writer, subxacts, n);
		pfree(subxacts);
		SB_KILL_POINT("stream_commit");
		decode_write_commit(txn);
	}
	sb_frame_spool_free(committed);
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
	callbacks->stream_start_cb = decode_stream_start;
	callbacks->stream_stop_cb = decode_stream_stop;
	callbacks->stream_abort_cb = decode_stream_abort;
	callbacks->stream_commit_cb = decode_stream_commit;
	callbacks->stream_change_cb = decode_stream_change;
	callbacks->stream_message_cb = decode_message;
	callbacks->stream_truncate_cb = decode_stream_truncate;
}
