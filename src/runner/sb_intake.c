/*
 * sb_intake.c: the runner's end of the ring; see sb_intake.h.
 *
 * MEMORY. `retained`: layouts, the arrays. `context` (reset with each bundle): split rows, and one
 * part read back from the spool.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "catalog/pg_type.h"
#include "runner/sb_intake.h"
#include "storage/buffile.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Messages taken at once: still in the processor's cache when the second pipeline reads them. */
#define SB_CHUNK_MESSAGES 8192

typedef struct SbKnownLayout
{
	uint32 id; /* hash key */
	SbLayout *layout;
} SbKnownLayout;

typedef struct SbLayoutMap
{
	HTAB *hash;
	uint32 last_id;
	SbLayout *last;
} SbLayoutMap;

/*
 * Rows that were taken out of the ring: a temporary file that survives an aborted transaction, with
 * the size of each part.
 */
typedef struct SbSpool
{
	BufFile *file;
	int nparts;
	int *part_messages;
} SbSpool;

/*
 * How a message stands in the spool: behind it are its new tuple, aligned, and its old one; of a
 * control message its text. The pointers to them are set again when it is read.
 */
typedef struct SbSpooled
{
	SbMessage message;
	SbControl control; /* where it is one */
	Size size;         /* of the bytes behind it */
} SbSpooled;

SbIntake *
sb_intake_create(SbLane *lane, pg_atomic_uint32 *generation, pg_atomic_uint32 *creations,
                 MemoryContext retained)
{
	MemoryContext old = MemoryContextSwitchTo(retained);
	SbIntake *intake = palloc0(sizeof(SbIntake));
	HASHCTL ctl = {.keysize = sizeof(uint32), .entrysize = sizeof(SbKnownLayout), .hcxt = retained};

	intake->ring = sb_ring_attach(lane, true);
	intake->lane = lane;
	intake->generation = generation;
	intake->creations = creations;
	intake->read = pg_atomic_read_u64(&intake->ring->freed);
	intake->retained = retained;
	intake->context = AllocSetContextCreate(retained, "stream_beam intake", ALLOCSET_DEFAULT_SIZES);
	intake->part =
	    AllocSetContextCreate(retained, "stream_beam spooled rows", ALLOCSET_DEFAULT_SIZES);
	intake->layouts = palloc0(sizeof(SbLayoutMap));
	intake->layouts->hash =
	    hash_create("stream_beam layouts", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	intake->max = SB_CHUNK_MESSAGES;
	intake->messages = palloc(sizeof(SbMessage) * intake->max);
	MemoryContextSwitchTo(old);
	return intake;
}

/* A reader that is at work is behind with more than this. */
#define SB_BEHIND_BYTES (16 * 1024 * 1024)

bool
sb_intake_has_read_all(SbIntake *intake)
{
	XLogRecPtr decoded = pg_atomic_read_u64(&intake->lane->decoded);

	/* what its heartbeat has said is over with the reader */
	if (pg_atomic_read_u32(&intake->lane->slot_ready) == 0)
		intake->caught_up = false;
	if (!intake->caught_up)
		return false;
	/* commits would wake one that sleeps: what it has not read is of others */
	return pg_atomic_read_u32(&intake->lane->reader_sleeping) != 0 ||
	       GetFlushRecPtr(NULL) <= decoded + SB_BEHIND_BYTES;
}

static const SbLayout *
intake_layout(SbIntake *intake, uint32 id)
{
	SbLayoutMap *map = intake->layouts;
	SbKnownLayout *known;

	if (id == map->last_id && map->last)
		return map->last;
	known = hash_search(map->hash, &id, HASH_FIND, NULL);
	if (known == NULL)
		elog(ERROR, "layout %u of a row is not known", id);
	map->last_id = id;
	map->last = known->layout;
	return known->layout;
}

/*
 * Layouts are few and small; they stay until the process ends, since rows of a bundle may name any.
 */
static void
intake_learn_layout(SbIntake *intake, const SbSchemaFrame *frame)
{
	MemoryContext old = MemoryContextSwitchTo(intake->retained);
	TupleDesc desc = CreateTemplateTupleDesc(frame->ncolumns);
	bool *in_old = palloc(sizeof(bool) * (frame->ncolumns + 1));
	SbKnownLayout *known;

	for (int i = 0; i < frame->ncolumns; i++)
	{
		const SbSchemaColumn *column = &frame->columns[i];
		Form_pg_attribute att = TupleDescAttr(desc, i);

		memset(att, 0, ATTRIBUTE_FIXED_PART_SIZE);
		att->atttypid = column->type;
		att->atttypmod = column->typmod;
		att->attlen = column->length;
		att->attbyval = column->by_value;
		att->attalign = column->align;
		att->attstorage = TYPSTORAGE_PLAIN;
		att->attisdropped = column->dropped;
		att->attnum = i + 1;
		populate_compact_attribute(desc, i);
		in_old[i] = column->in_old;
	}
	known = hash_search(intake->layouts->hash, &frame->layout, HASH_ENTER, NULL);
	known->layout = palloc(sizeof(SbLayout));
	*known->layout = (SbLayout){.desc = desc, .in_old = in_old};
	intake->layouts->last = NULL;
	MemoryContextSwitchTo(old);
}

/* The next message, of the current transaction; what it says is the caller's to fill in. */
static SbMessage *
intake_add(SbIntake *intake, Oid source)
{
	SbMessage *message;

	if (intake->n == intake->max)
	{
		intake->max *= 2;
		intake->messages = repalloc_huge(intake->messages, sizeof(SbMessage) * intake->max);
	}
	message = &intake->messages[intake->n++];
	message->source = source;
	message->xid = intake->xid;
	message->position = intake->transaction;
	message->control = NULL;
	message->letter = NULL;
	intake->total++;
	return message;
}

static inline HeapTupleHeader
intake_tuple(const char *data, uint32 length)
{
	return length == 0 ? NULL : (HeapTupleHeader) unconstify(char *, data);
}

static void
intake_add_row(SbIntake *intake, const SbRowFrame *frame)
{
	SbMessage *message = intake_add(intake, frame->relation);

	message->change = (SbChange){.op = frame->op,
	                             .table = frame->partition,
	                             .old = intake_tuple(frame->data + MAXALIGN(frame->new_length),
	                                                 frame->old_length),
	                             .new = intake_tuple(frame->data, frame->new_length),
	                             .old_length = frame->old_length,
	                             .new_length = frame->new_length,
	                             .layout = intake_layout(intake, frame->layout)};
}

/* Part of a row too large for one frame; the last part completes it, in the bundle's memory. */
static void
intake_add_part(SbIntake *intake, const SbFrame *frame)
{
	Size size = frame->length - sizeof(SbFrame);

	if (intake->split == NULL)
	{
		const SbRowFrame *row = (const SbRowFrame *) (frame + 1);

		intake->split =
		    MemoryContextAllocHuge(intake->context,
		                           offsetof(SbRowFrame, data) + MAXALIGN((Size) row->new_length) +
		                               MAXALIGN((Size) row->old_length) + sizeof(SbFrame));
		intake->split_size = 0;
	}
	memcpy(intake->split + intake->split_size, frame + 1, size);
	intake->split_size += size;
	if (!(frame->flags & SB_FRAME_MORE))
	{
		intake_add_row(intake, (const SbRowFrame *) intake->split);
		intake->split = NULL;
	}
}

/* In the bundle's memory; the text is copied. */
static void
intake_add_control(SbIntake *intake, Oid source, SbControlKind kind, SbRebuildCause cause,
                   const char *text)
{
	SbMessage *message = intake_add(intake, source);
	SbControl *control = MemoryContextAlloc(intake->context, sizeof(SbControl));

	*control = (SbControl){.kind = kind,
	                       .cause = cause,
	                       .text = text ? MemoryContextStrdup(intake->context, text) : NULL};
	message->control = control;
	message->change = (SbChange){0};
}

bool
sb_intake_is_stale(const SbIntake *intake)
{
	return pg_atomic_read_u32(intake->generation) != intake->seen_generation;
}

/*
 * A pipeline is being committed: what is in the ring may be for it. Frames are looked at before,
 * the generation after this.
 */
static bool
intake_must_wait(const SbIntake *intake)
{
	bool wait = pg_atomic_read_u32(intake->creations) > 0;

	pg_read_barrier();
	return wait;
}

bool
sb_intake_has_frames(const SbIntake *intake)
{
	uint64 written = pg_atomic_read_u64(&intake->ring->written);

	pg_read_barrier();
	return written != intake->read && !intake_must_wait(intake);
}

/* What is no row, and is to come to the pipelines in its place among them. */
static void
intake_take_control(SbIntake *intake, const SbFrame *frame)
{
	const SbTruncateFrame *truncate = (const SbTruncateFrame *) frame;
	const SbRebuildFrame *rebuild = (const SbRebuildFrame *) frame;
	const SbUnreadableFrame *unreadable = (const SbUnreadableFrame *) frame;

	switch (frame->type)
	{
		case SB_FRAME_TRUNCATE:
			intake_add_control(intake, truncate->relation, SB_CONTROL_TRUNCATE, 0, NULL);
			break;
		case SB_FRAME_REBUILD:
			intake_add_control(intake, rebuild->relation, SB_CONTROL_REBUILD, rebuild->cause,
			                   NameStr(rebuild->name));
			break;
		case SB_FRAME_UNREADABLE:
			intake_add_control(intake, unreadable->relation, SB_CONTROL_UNREADABLE, 0,
			                   unreadable->text);
			break;
		default:
			elog(ERROR, "unknown frame type %d in the ring", frame->type);
	}
}

/* A frame of the stream: the transaction that it begins or ends, or what it brings. */
static void
intake_take_frame(SbIntake *intake, const SbFrame *frame)
{
	const SbBeginFrame *begin = (const SbBeginFrame *) frame;
	const SbHeartbeatFrame *heartbeat = (const SbHeartbeatFrame *) frame;

	intake->caught_up = false;
	switch (frame->type)
	{
		case SB_FRAME_BEGIN:
			intake->in_transaction = true;
			intake->transaction = begin->position;
			intake->commit_time = begin->commit_time;
			intake->xid = begin->xid;
			break;
		case SB_FRAME_SCHEMA:
			intake_learn_layout(intake, (const SbSchemaFrame *) frame);
			break;
		case SB_FRAME_ROW:
			if (intake->split || (frame->flags & SB_FRAME_MORE))
				intake_add_part(intake, frame);
			else
				intake_add_row(intake, (const SbRowFrame *) (frame + 1));
			break;
		case SB_FRAME_COMMIT:
			intake->in_transaction = false;
			intake->position = Max(intake->position, ((const SbCommitFrame *) frame)->position);
			intake->last_commit_time = intake->commit_time;
			break;
		case SB_FRAME_HEARTBEAT:
			intake->position = Max(intake->position, heartbeat->position);
			intake->caught_up = heartbeat->caught_up;
			break;
		default:
			intake_take_control(intake, frame);
	}
	intake->read += frame->length;
}

SbIntakeStop
sb_intake_take(SbIntake *intake)
{
	uint64 end = pg_atomic_read_u64(&intake->ring->written);
	int start = intake->n;
	const SbFrame *frame;

	pg_read_barrier();
	while ((frame = sb_ring_frame(intake->ring, &intake->read, end)) != NULL)
	{
		if (intake->n - start == SB_CHUNK_MESSAGES)
			return intake->in_transaction ? SB_INTAKE_CHUNK : SB_INTAKE_COMMIT;
		if (frame->type == SB_FRAME_RESET)
		{
			intake->caught_up = false;
			return SB_INTAKE_RESET;
		}
		if (!intake->in_transaction && intake_must_wait(intake))
			return SB_INTAKE_EMPTY;
		if (!intake->in_transaction && sb_intake_is_stale(intake))
			return SB_INTAKE_RELOAD;
		intake_take_frame(intake, frame);
		/* asked for between transactions, so that a bundle can end on time */
		if (frame->type == SB_FRAME_COMMIT && sb_intake_is_large(intake))
			return SB_INTAKE_COMMIT;
		if (frame->type == SB_FRAME_ROW && sb_intake_is_full(intake))
			return SB_INTAKE_CHUNK;
	}
	return intake->in_transaction ? SB_INTAKE_WAIT : SB_INTAKE_EMPTY;
}

static uint64
intake_held(const SbIntake *intake)
{
	return intake->read - pg_atomic_read_u64(&intake->ring->freed);
}

/* Messages in memory: narrow rows make many of them. */
#define SB_MAX_MESSAGES (256 * 1024)

/*
 * Half: the reader fills the other half while the bundle is being finished. Also well before it is
 * full of rows: what makes it full within a transaction is spooled, and a bundle of small
 * transactions never need be.
 */
bool
sb_intake_is_large(const SbIntake *intake)
{
	return intake_held(intake) > intake->ring->size / 2 || intake->n >= SB_MAX_MESSAGES / 4 * 3;
}

/* Three quarters: what is left is room for the largest frame, with the padding before it. */
bool
sb_intake_is_full(const SbIntake *intake)
{
	return intake_held(intake) > intake->ring->size / 4 * 3 || intake->n >= SB_MAX_MESSAGES;
}

static void
spool_write(BufFile *file, const void *data, Size size)
{
	if (size > 0)
		BufFileWrite(file, unconstify(void *, data), size);
}

/* In the form of SbSpooled, so that both tuples are aligned when they are read back. */
static void
intake_spool_message(BufFile *file, const SbMessage *message)
{
	static const char padding[MAXIMUM_ALIGNOF] = {0};
	const SbControl *control = message->control;
	const SbChange *change = &message->change;
	SbSpooled head = {.message = *message};

	if (control)
	{
		head.control = *control;
		head.size = control->text ? strlen(control->text) + 1 : 0;
		spool_write(file, &head, sizeof(head));
		spool_write(file, control->text, head.size);
		return;
	}
	head.size = MAXALIGN((Size) change->new_length) + change->old_length;
	spool_write(file, &head, sizeof(head));
	spool_write(file, change->new, change->new_length);
	spool_write(file, padding, MAXALIGN((Size) change->new_length) - change->new_length);
	spool_write(file, change->old, change->old_length);
}

void
sb_intake_spool(SbIntake *intake)
{
	SbSpool *spool = intake->spool;
	MemoryContext old = MemoryContextSwitchTo(intake->retained);

	if (spool == NULL)
	{
		spool = intake->spool = palloc0(sizeof(SbSpool));
		spool->file = BufFileCreateTemp(true);
		spool->part_messages = palloc(sizeof(int));
	}
	spool->part_messages = repalloc(spool->part_messages, sizeof(int) * (spool->nparts + 1));
	spool->part_messages[spool->nparts++] = intake->n;
	for (int i = 0; i < intake->n; i++)
		intake_spool_message(spool->file, &intake->messages[i]);
	MemoryContextSwitchTo(old);
	SB_KILL_POINT("after_spool");
	intake->n = 0;
	if (intake->split == NULL)
		MemoryContextReset(intake->context);
	pg_atomic_write_u64(&intake->ring->freed, intake->read);
}

void
sb_intake_release(SbIntake *intake)
{
	if (intake->spool)
	{
		BufFileClose(intake->spool->file);
		pfree(intake->spool->part_messages);
		pfree(intake->spool);
		intake->spool = NULL;
	}
	intake->n = 0;
	intake->total = 0;
	intake->split = NULL;
	intake->in_transaction = false;
	MemoryContextReset(intake->context);
	pg_atomic_write_u64(&intake->ring->freed, intake->read);
}

static void
intake_read(BufFile *file, void *to, Size size)
{
	if (BufFileRead(file, to, size) != size)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not read a spooled row: %m")));
}

/* The pointers in what was written are set to what is read, which is in the part's memory. */
static SbMessage
intake_read_message(SbIntake *intake)
{
	BufFile *file = intake->spool->file;
	SbSpooled head;
	SbMessage message;
	char *data;

	intake_read(file, &head, sizeof(head));
	data = MemoryContextAllocHuge(intake->part, head.size + 1);
	intake_read(file, data, head.size);
	message = head.message;
	if (message.control)
	{
		SbControl *control = MemoryContextAlloc(intake->part, sizeof(SbControl));

		*control = head.control;
		control->text = head.size > 0 ? data : NULL;
		message.control = control;
		return message;
	}
	message.change.new = intake_tuple(data, message.change.new_length);
	message.change.old =
	    intake_tuple(data + MAXALIGN((Size) message.change.new_length), message.change.old_length);
	return message;
}

/* The messages read back live in a context of their own, which the next part resets. */
static void
intake_read_part(SbIntake *intake, int n, SbMessage **messages)
{
	MemoryContextReset(intake->part);
	*messages = MemoryContextAllocHuge(intake->part, sizeof(SbMessage) * (n + 1));
	for (int i = 0; i < n; i++)
		(*messages)[i] = intake_read_message(intake);
}

bool
sb_intake_replay(SbIntake *intake, int *part, SbMessage **messages, int *n)
{
	int nparts = intake->spool ? intake->spool->nparts : 0;

	if (*part > nparts)
		return false;
	if (*part == nparts)
	{
		*messages = intake->messages;
		*n = intake->n;
	}
	else
	{
		if (*part == 0 && BufFileSeek(intake->spool->file, 0, 0, SEEK_SET) != 0)
			ereport(ERROR,
			        (errcode_for_file_access(), errmsg("could not rewind the spooled rows: %m")));
		*n = intake->spool->part_messages[*part];
		intake_read_part(intake, *n, messages);
	}
	(*part)++;
	return true;
}

bool
sb_intake_skip_to_reset(SbIntake *intake, uint64 epoch, XLogRecPtr *start, XLogRecPtr *reach)
{
	uint64 end = pg_atomic_read_u64(&intake->ring->written);
	const SbFrame *frame;
	bool found = false;

	pg_read_barrier();
	while (!found && (frame = sb_ring_frame(intake->ring, &intake->read, end)) != NULL)
	{
		const SbResetFrame *reset = (const SbResetFrame *) frame;

		if (frame->type == SB_FRAME_RESET && reset->epoch >= epoch)
		{
			*start = reset->start;
			*reach = reset->reach;
			found = true;
		}
		intake->read += frame->length;
	}
	intake->caught_up = false;
	sb_intake_release(intake);
	return found;
}
