/*
 * sb_frame_spool.c: frames of a large transaction in progress; see sb_frame_spool.h.
 *
 * The file is a sequence of frames as they are to stand in the ring. Writing goes through a buffer;
 * reading uses the same one, since a spool is read once, after its last frame. temp_file_limit
 * counts here as for other temporary files.
 */
#include "postgres.h"

#include "access/transam.h"
#include "lib/ilist.h"
#include "pgstat.h"
#include "source/sb_frame_spool.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

/* Frames of one transaction, at the top or below, that stand one behind the other. */
typedef struct SbSpoolRun
{
	TransactionId xid;
	off_t start;
} SbSpoolRun;

struct SbFrameSpool
{
	TransactionId xid; /* of the transaction at the top */
	dlist_node node;   /* in `spools` */
	MemoryContext context;
	File file; /* -1: not yet made, everything is in the buffer */
	off_t written;
	Size used; /* bytes in the buffer, to be written behind `written` */
	char *buffer;
	SbSpoolRun *runs;
	int nruns, max_runs;
	HTAB *left_out;
	Oid last_left_out;
};

static dlist_head spools = DLIST_STATIC_INIT(spools);

SbFrameSpool *
sb_frame_spool_create(TransactionId xid)
{
	MemoryContext context =
	    AllocSetContextCreate(TopMemoryContext, "stream_beam spool", ALLOCSET_SMALL_SIZES);
	SbFrameSpool *spool = MemoryContextAllocZero(context, sizeof(SbFrameSpool));
	HASHCTL ctl = {.keysize = sizeof(Oid), .entrysize = sizeof(Oid), .hcxt = context};

	spool->xid = xid;
	spool->context = context;
	spool->file = -1;
	spool->buffer = MemoryContextAlloc(context, SB_SPOOL_MAX_FRAME);
	spool->left_out = hash_create("stream_beam relations left out", 16, &ctl,
	                              HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	dlist_push_tail(&spools, &spool->node);
	return spool;
}

SbFrameSpool *
sb_frame_spool_find(TransactionId xid)
{
	dlist_iter iter;

	dlist_foreach(iter, &spools)
	{
		SbFrameSpool *spool = dlist_container(SbFrameSpool, node, iter.cur);

		if (spool->xid == xid)
			return spool;
	}
	return NULL;
}

void
sb_frame_spool_free(SbFrameSpool *spool)
{
	dlist_delete(&spool->node);
	if (spool->file >= 0)
		FileClose(spool->file);
	MemoryContextDelete(spool->context);
}

void
sb_frame_spool_free_all(void)
{
	while (!dlist_is_empty(&spools))
		sb_frame_spool_free(dlist_head_element(SbFrameSpool, node, &spools));
}

/* ---- writing ---- */

/*
 * Makes room in the buffer. The file is made here: a transaction whose frames fit into the buffer
 * needs none.
 */
static void
spool_flush(SbFrameSpool *spool)
{
	Size done = 0;

	/* across transactions: each part of the transaction is decoded in one of its own */
	if (spool->file < 0)
		spool->file = OpenTemporaryFile(true);
	while (done < spool->used)
	{
		int n = FileWrite(spool->file, spool->buffer + done, (int) (spool->used - done),
		                  spool->written, WAIT_EVENT_BUFFILE_WRITE);

		if (n <= 0)
			ereport(ERROR, (errcode_for_file_access(),
			                errmsg("could not write to temporary file \"%s\": %m",
			                       FilePathName(spool->file))));
		done += n;
		spool->written += n;
	}
	spool->used = 0;
}

/* Here begin frames of this one. */
static void
spool_begin_run(SbFrameSpool *spool, TransactionId xid)
{
	if (spool->nruns == spool->max_runs)
	{
		spool->max_runs = Max(16, spool->max_runs * 2);
		if (spool->runs)
			spool->runs = repalloc_huge(spool->runs, sizeof(SbSpoolRun) * spool->max_runs);
		else
			spool->runs = MemoryContextAlloc(spool->context, sizeof(SbSpoolRun) * spool->max_runs);
	}
	spool->runs[spool->nruns++] = (SbSpoolRun){.xid = xid, .start = spool->written + spool->used};
}

void *
sb_frame_spool_reserve(SbFrameSpool *spool, TransactionId subxid, SbFrameType type, Size size)
{
	Size length = MAXALIGN(size);
	SbFrame *frame;

	Assert(length <= SB_SPOOL_MAX_FRAME);
	if (spool->used + length > SB_SPOOL_MAX_FRAME)
		spool_flush(spool);
	if (spool->nruns == 0 || spool->runs[spool->nruns - 1].xid != subxid)
		spool_begin_run(spool, subxid);
	frame = (SbFrame *) (spool->buffer + spool->used);
	frame->length = length;
	frame->type = type;
	frame->flags = 0;
	return frame;
}

void
sb_frame_spool_append(SbFrameSpool *spool, const void *frame)
{
	spool->used += ((const SbFrame *) frame)->length;
}

/* From its first frame on all is its own, or its children's. */
void
sb_frame_spool_abort_subxact(SbFrameSpool *spool, TransactionId subxid)
{
	for (int i = 0; i < spool->nruns; i++)
	{
		off_t start = spool->runs[i].start;

		if (spool->runs[i].xid != subxid)
			continue;
		spool->nruns = i;
		spool->used = start > spool->written ? start - spool->written : 0;
		spool->written = Min(spool->written, start);
		return;
	}
}

/* ---- at the commit ---- */

bool
sb_frame_spool_is_empty(const SbFrameSpool *spool)
{
	return spool->written + spool->used == 0;
}

/* Where copying is, and whether what stands there goes along. */
typedef struct SbSpoolCopy
{
	SbRingWriter *writer;
	const TransactionId *committed; /* subtransactions, sorted */
	int ncommitted;
	int run;
	bool left_out;
} SbSpoolCopy;

static void
spool_enter_runs(const SbFrameSpool *spool, SbSpoolCopy *copy, off_t at)
{
	while (copy->run + 1 < spool->nruns && spool->runs[copy->run + 1].start <= at)
	{
		TransactionId xid = spool->runs[++copy->run].xid;

		copy->left_out = xid != spool->xid && bsearch(&xid, copy->committed, copy->ncommitted,
		                                              sizeof(TransactionId), xidComparator) == NULL;
	}
}

/*
 * Copies the whole frames among the buffer's `used` bytes, which begin at `start`; returns how many
 * bytes they are.
 */
static Size
spool_copy_buffer(SbFrameSpool *spool, SbSpoolCopy *state, off_t start)
{
	Size at = 0;

	while (spool->used - at >= sizeof(SbFrame))
	{
		const SbFrame *frame = (const SbFrame *) (spool->buffer + at);
		SbFrame *copy;

		if (frame->length > spool->used - at)
			break;
		spool_enter_runs(spool, state, start + at);
		at += frame->length;
		if (state->left_out)
			continue;
		copy = sb_ring_reserve(state->writer, frame->type, frame->length);
		memcpy(copy, frame, frame->length);
		sb_ring_append(state->writer, copy);
	}
	return at;
}

void
sb_frame_spool_copy(SbFrameSpool *spool, SbRingWriter *writer, TransactionId *committed,
                    int ncommitted)
{
	SbSpoolCopy copy = {.writer = writer,
	                    .committed = committed,
	                    .ncommitted = ncommitted,
	                    .run = -1};
	off_t at = 0;

	qsort(committed, ncommitted, sizeof(TransactionId), xidComparator);
	if (spool->written == 0)
	{
		(void) spool_copy_buffer(spool, &copy, 0);
		return;
	}
	spool_flush(spool);
	while (at < spool->written)
	{
		int want = (int) Min((off_t) SB_SPOOL_MAX_FRAME, spool->written - at);
		int n = FileRead(spool->file, spool->buffer, want, at, WAIT_EVENT_BUFFILE_READ);
		Size taken;

		if (n < 0)
			ereport(ERROR, (errcode_for_file_access(),
			                errmsg("could not read from temporary file \"%s\": %m",
			                       FilePathName(spool->file))));
		spool->used = n;
		taken = spool_copy_buffer(spool, &copy, at);
		if (taken == 0)
			ereport(ERROR,
			        (errcode(ERRCODE_DATA_CORRUPTED),
			         errmsg("temporary file \"%s\" ends too early", FilePathName(spool->file))));
		at += taken;
	}
	spool->used = 0;
}

/* ---- relations left out ---- */

void
sb_frame_spool_left_out(SbFrameSpool *spool, Oid relation)
{
	if (relation == spool->last_left_out)
		return;
	(void) hash_search(spool->left_out, &relation, HASH_ENTER, NULL);
	spool->last_left_out = relation;
}

bool
sb_frame_spool_any_left_out(SbFrameSpool *spool, bool (*test)(Oid relation))
{
	HASH_SEQ_STATUS scan;
	Oid *relation;

	hash_seq_init(&scan, spool->left_out);
	while ((relation = hash_seq_search(&scan)) != NULL)
	{
		if (test(*relation))
		{
			hash_seq_term(&scan);
			return true;
		}
	}
	return false;
}
