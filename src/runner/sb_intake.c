/*
 * sb_intake.c: the runner's end of the ring; see sb_intake.h.
 *
 * MEMORY. `keep`: layouts, the arrays. `context` (reset with each bundle): split rows, and one part
 * read back from the spool.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "catalog/pg_type.h"
#include "runner/sb_intake.h"
#include "storage/buffile.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

/* Rows taken at once: still in the processor's cache when the second pipeline reads them. */
#define SB_CHUNK_ROWS 8192

typedef struct SbLayout
{
	uint32 id; /* hash key */
	TupleDesc desc;
} SbLayout;

typedef struct SbLayoutMap
{
	HTAB *hash;
	uint32 last_id;
	TupleDesc last;
} SbLayoutMap;

/*
 * Rows that were taken out of the ring: a temporary file that survives an aborted transaction, with
 * the size of each part.
 */
typedef struct SbSpool
{
	BufFile *file;
	int nparts;
	int *part_rows;
} SbSpool;

/* how a row stands in the spool, before its frame's bytes */
typedef struct SbSpooledRow
{
	TupleDesc layout;
	XLogRecPtr position;
	TimestampTz commit_time;
	TransactionId xid;
	Size size;
} SbSpooledRow;

SbIntake *
sb_intake_create(SbRing *ring, pg_atomic_uint32 *generation, pg_atomic_uint32 *creations,
                 MemoryContext keep)
{
	MemoryContext old = MemoryContextSwitchTo(keep);
	SbIntake *intake = palloc0(sizeof(SbIntake));
	HASHCTL ctl = {.keysize = sizeof(uint32), .entrysize = sizeof(SbLayout), .hcxt = keep};

	intake->ring = ring;
	intake->generation = generation;
	intake->creations = creations;
	intake->read = pg_atomic_read_u64(&ring->freed);
	intake->keep = keep;
	intake->context = AllocSetContextCreate(keep, "stream_beam intake", ALLOCSET_DEFAULT_SIZES);
	intake->part = AllocSetContextCreate(keep, "stream_beam spooled rows", ALLOCSET_DEFAULT_SIZES);
	intake->layouts = palloc0(sizeof(SbLayoutMap));
	intake->layouts->hash =
	    hash_create("stream_beam layouts", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	intake->max_rows = SB_CHUNK_ROWS;
	intake->rows = palloc(sizeof(SbRow) * intake->max_rows);
	MemoryContextSwitchTo(old);
	return intake;
}

static TupleDesc
intake_layout(SbIntake *intake, uint32 id)
{
	SbLayoutMap *map = intake->layouts;
	SbLayout *layout;

	if (id == map->last_id && map->last)
		return map->last;
	layout = hash_search(map->hash, &id, HASH_FIND, NULL);
	if (layout == NULL)
		elog(ERROR, "layout %u of a row is not known", id);
	map->last_id = id;
	map->last = layout->desc;
	return layout->desc;
}

/*
 * Layouts are few and small; they stay until the process ends, since rows of a bundle may name any.
 * attislocal says that old tuples have the column: it is of the replica identity.
 */
static void
intake_learn_layout(SbIntake *intake, const SbSchemaFrame *frame)
{
	MemoryContext old = MemoryContextSwitchTo(intake->keep);
	TupleDesc desc = CreateTemplateTupleDesc(frame->ncolumns);
	SbLayout *layout;

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
		att->attislocal = column->in_old;
		att->attnum = i + 1;
		populate_compact_attribute(desc, i);
	}
	layout = hash_search(intake->layouts->hash, &frame->layout, HASH_ENTER, NULL);
	layout->desc = desc;
	intake->layouts->last = NULL;
	MemoryContextSwitchTo(old);
}

static void
intake_add_row(SbIntake *intake, const SbRowFrame *frame)
{
	SbRow *row;

	if (intake->nrows == intake->max_rows)
	{
		intake->max_rows *= 2;
		intake->rows = repalloc_huge(intake->rows, sizeof(SbRow) * intake->max_rows);
	}
	row = &intake->rows[intake->nrows++];
	row->frame = frame;
	row->layout = frame->layout == 0 ? NULL : intake_layout(intake, frame->layout);
	row->position = intake->transaction;
	row->commit_time = intake->commit_time;
	row->xid = intake->xid;
	row->side = SB_SIDE_ALL;
	intake->total_rows++;
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

static void
intake_add_truncate(SbIntake *intake, const SbTruncateFrame *frame)
{
	SbRowFrame *row = MemoryContextAllocZero(intake->context, offsetof(SbRowFrame, data));

	row->relation = frame->relation;
	row->kind = SB_ROW_TRUNCATE;
	intake_add_row(intake, row);
}

static void
intake_add_rebuild(SbIntake *intake, const SbRebuildFrame *frame)
{
	SbRowFrame *row =
	    MemoryContextAllocZero(intake->context, offsetof(SbRowFrame, data) + sizeof(NameData));

	row->relation = frame->relation;
	row->kind = SB_ROW_REBUILD;
	row->cause = frame->cause;
	row->partition = frame->partition;
	row->new_length = sizeof(NameData);
	memcpy(row->data, &frame->name, sizeof(NameData));
	intake_add_row(intake, row);
}

static void
intake_add_unreadable(SbIntake *intake, const SbUnreadableFrame *frame)
{
	SbRowFrame *row =
	    MemoryContextAllocZero(intake->context, offsetof(SbRowFrame, data) + frame->length);

	row->relation = frame->relation;
	row->kind = SB_ROW_UNREADABLE;
	row->new_length = frame->length;
	memcpy(row->data, frame->text, frame->length);
	intake_add_row(intake, row);
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

SbIntakeStop
sb_intake_take(SbIntake *intake)
{
	uint64 end = pg_atomic_read_u64(&intake->ring->written);
	int start = intake->nrows;
	const SbFrame *frame;

	pg_read_barrier();
	while ((frame = sb_ring_frame(intake->ring, &intake->read, end)) != NULL)
	{
		if (intake->nrows - start == SB_CHUNK_ROWS)
			return intake->in_transaction ? SB_INTAKE_CHUNK : SB_INTAKE_COMMIT;
		if (frame->type == SB_FRAME_RESET)
			return SB_INTAKE_RESET;
		if (!intake->in_transaction && intake_must_wait(intake))
			return SB_INTAKE_EMPTY;
		if (!intake->in_transaction && sb_intake_is_stale(intake))
			return SB_INTAKE_RELOAD;
		intake->caught_up = false;
		switch (frame->type)
		{
			case SB_FRAME_BEGIN:
				intake->in_transaction = true;
				intake->transaction = ((const SbBeginFrame *) frame)->position;
				intake->commit_time = ((const SbBeginFrame *) frame)->commit_time;
				intake->xid = ((const SbBeginFrame *) frame)->xid;
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
			case SB_FRAME_TRUNCATE:
				intake_add_truncate(intake, (const SbTruncateFrame *) frame);
				break;
			case SB_FRAME_REBUILD:
				intake_add_rebuild(intake, (const SbRebuildFrame *) frame);
				break;
			case SB_FRAME_UNREADABLE:
				intake_add_unreadable(intake, (const SbUnreadableFrame *) frame);
				break;
			case SB_FRAME_COMMIT:
				intake->in_transaction = false;
				intake->position = Max(intake->position, ((const SbCommitFrame *) frame)->position);
				intake->last_commit_time = intake->commit_time;
				break;
			case SB_FRAME_HEARTBEAT:
				intake->position =
				    Max(intake->position, ((const SbHeartbeatFrame *) frame)->position);
				intake->caught_up = ((const SbHeartbeatFrame *) frame)->caught_up;
				break;
			default:
				elog(ERROR, "unknown frame type %d in the ring", frame->type);
		}
		intake->read += frame->length;
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

/* Pointers to rows in memory: narrow rows make many of them. */
#define SB_MAX_ROWS (256 * 1024)

/*
 * Half: the reader fills the other half while the bundle is being finished. Also well before it is
 * full of rows: what makes it full within a transaction is spooled, and a bundle of small
 * transactions never need be.
 */
bool
sb_intake_is_large(const SbIntake *intake)
{
	return intake_held(intake) > intake->ring->size / 2 || intake->nrows >= SB_MAX_ROWS / 4 * 3;
}

/* Three quarters: what is left is room for the largest frame, with the padding before it. */
bool
sb_intake_is_full(const SbIntake *intake)
{
	return intake_held(intake) > intake->ring->size / 4 * 3 || intake->nrows >= SB_MAX_ROWS;
}

static Size
intake_row_size(const SbRowFrame *frame)
{
	return offsetof(SbRowFrame, data) + MAXALIGN((Size) frame->new_length) +
	       (Size) frame->old_length;
}

void
sb_intake_spool(SbIntake *intake)
{
	SbSpool *spool = intake->spool;
	MemoryContext old = MemoryContextSwitchTo(intake->keep);

	if (spool == NULL)
	{
		spool = intake->spool = palloc0(sizeof(SbSpool));
		spool->file = BufFileCreateTemp(true);
		spool->part_rows = palloc(sizeof(int));
	}
	spool->part_rows = repalloc(spool->part_rows, sizeof(int) * (spool->nparts + 1));
	spool->part_rows[spool->nparts++] = intake->nrows;
	for (int i = 0; i < intake->nrows; i++)
	{
		SbRow *row = &intake->rows[i];
		SbSpooledRow head = {.layout = row->layout,
		                     .position = row->position,
		                     .commit_time = row->commit_time,
		                     .xid = row->xid,
		                     .size = intake_row_size(row->frame)};

		BufFileWrite(spool->file, &head, sizeof(head));
		BufFileWrite(spool->file, unconstify(SbRowFrame *, row->frame), head.size);
	}
	MemoryContextSwitchTo(old);
	SB_KILL_POINT("after_spool");
	intake->nrows = 0;
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
		pfree(intake->spool->part_rows);
		pfree(intake->spool);
		intake->spool = NULL;
	}
	intake->nrows = 0;
	intake->total_rows = 0;
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

/* The rows read back live in a context of their own, which the next part resets. */
static void
intake_read_part(SbIntake *intake, int nrows, SbRow **rows)
{
	MemoryContext old;

	MemoryContextReset(intake->part);
	old = MemoryContextSwitchTo(intake->part);
	*rows = MemoryContextAllocHuge(intake->part, sizeof(SbRow) * (nrows + 1));
	for (int i = 0; i < nrows; i++)
	{
		SbSpooledRow head;
		SbRowFrame *frame;

		intake_read(intake->spool->file, &head, sizeof(head));
		frame = MemoryContextAllocHuge(intake->part, head.size);
		intake_read(intake->spool->file, frame, head.size);
		(*rows)[i] = (SbRow){.frame = frame,
		                     .layout = head.layout,
		                     .position = head.position,
		                     .commit_time = head.commit_time,
		                     .xid = head.xid};
	}
	MemoryContextSwitchTo(old);
}

bool
sb_intake_replay(SbIntake *intake, int *part, SbRow **rows, int *nrows)
{
	int nparts = intake->spool ? intake->spool->nparts : 0;

	if (*part > nparts)
		return false;
	if (*part == nparts)
	{
		*rows = intake->rows;
		*nrows = intake->nrows;
	}
	else
	{
		if (*part == 0 && BufFileSeek(intake->spool->file, 0, 0, SEEK_SET) != 0)
			ereport(ERROR,
			        (errcode_for_file_access(), errmsg("could not rewind the spooled rows: %m")));
		*nrows = intake->spool->part_rows[*part];
		intake_read_part(intake, *nrows, rows);
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
