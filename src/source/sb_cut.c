/*
 * sb_cut.c: where the rows of a snapshot meet the stream; see sb_cut.h.
 *
 * WHAT A SNAPSHOT MAY NOT SEE. A transaction commits in this order: it says that it is about to
 * (delayChkptFlags), inserts its commit record, flushes it, marks itself committed in clog, takes
 * the flag down, waits for a standby, and leaves the array of running transactions; only then new
 * snapshots see it. The stream has it from the flush on. So of the transactions that the stream had
 * gone past when an account is opened, those not yet visible are (1) the ones that have the flag up
 * just then, which is over soon, and after that (2) the ones that are committed in clog but still
 * in the array. Both sets are fixed then: new transactions are not waited for, so a busy server
 * does not keep a snapshot away. Those that go past later are told by their ids.
 */
#include "postgres.h"

#include "access/subtrans.h"
#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "lib/stringinfo.h"
#include "source/sb_cut.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/sb_worker.h"

/* So many are retained before those that all can see are looked for. */
#define SB_UNSEEN_MANY 4096
#define SB_UNSEEN_POLL_MS 2

struct SbUnseen
{
	MemoryContext context;
	/* in the middle of their commit when the account was opened */
	VirtualTransactionId *committing;
	int ncommitting;
	/* those that had committed by then, and are not yet visible, are among the xids */
	bool settled;
	TransactionId *xids;
	int n, max;
	int look_at; /* the next time it is this long, it is looked through */
};

/* ---- cuts ---- */

static int
cut_compare(const void *a, const void *b)
{
	TransactionId x = *(const TransactionId *) a;
	TransactionId y = *(const TransactionId *) b;

	return x < y ? -1 : x > y;
}

bool
sb_cut_hides(const SbCut *cut, TransactionId xid, XLogRecPtr position)
{
	if (position > cut->end)
		return false;
	if (TransactionIdPrecedes(xid, cut->xmin))
		return true;
	if (!TransactionIdPrecedes(xid, cut->xmax))
		return false;
	return bsearch(&xid, cut->xip, cut->nxip, sizeof(TransactionId), cut_compare) == NULL;
}

static SbCut *
cut_make(int nxip)
{
	SbCut *cut = palloc0(offsetof(SbCut, xip) + sizeof(TransactionId) * nxip);

	cut->nxip = nxip;
	return cut;
}

SbCut *
sb_cut_of_snapshot(Snapshot snapshot)
{
	SbCut *cut = cut_make(snapshot->xcnt);

	cut->xmin = snapshot->xmin;
	cut->xmax = snapshot->xmax;
	memcpy(cut->xip, snapshot->xip, sizeof(TransactionId) * snapshot->xcnt);
	qsort(cut->xip, cut->nxip, sizeof(TransactionId), cut_compare);
	cut->end = GetXLogInsertRecPtr();
	return cut;
}

/* Ids of a recent snapshot are not more than half a turn behind the next one. */
static uint64
cut_widen(TransactionId xid)
{
	FullTransactionId next = ReadNextFullTransactionId();
	uint32 epoch = EpochFromFullTransactionId(next);

	if (xid > XidFromFullTransactionId(next))
		epoch--;
	return U64FromFullTransactionId(FullTransactionIdFromEpochAndXid(epoch, xid));
}

static int
cut_compare_wide(const void *a, const void *b)
{
	uint64 x = *(const uint64 *) a;
	uint64 y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

char *
sb_cut_format(const SbCut *cut)
{
	StringInfoData text;
	uint64 *xip = palloc(sizeof(uint64) * (cut->nxip + 1));

	for (int i = 0; i < cut->nxip; i++)
		xip[i] = cut_widen(cut->xip[i]);
	qsort(xip, cut->nxip, sizeof(uint64), cut_compare_wide);
	initStringInfo(&text);
	appendStringInfo(&text, UINT64_FORMAT ":" UINT64_FORMAT ":", cut_widen(cut->xmin),
	                 cut_widen(cut->xmax));
	for (int i = 0; i < cut->nxip; i++)
		appendStringInfo(&text, "%s" UINT64_FORMAT, i > 0 ? "," : "", xip[i]);
	pfree(xip);
	return text.data;
}

SbCut *
sb_cut_parse(const char *snapshot, XLogRecPtr end)
{
	int max = 1;
	SbCut *cut;
	char *at;

	for (const char *c = snapshot; *c; c++)
		max += *c == ',';
	cut = cut_make(max);
	cut->end = end;
	cut->xmin = (TransactionId) strtou64(snapshot, &at, 10);
	cut->xmax = (TransactionId) strtou64(at + 1, &at, 10);
	cut->nxip = 0;
	for (at++; *at; at += *at == ',')
		cut->xip[cut->nxip++] = (TransactionId) strtou64(at, &at, 10);
	qsort(cut->xip, cut->nxip, sizeof(TransactionId), cut_compare);
	return cut;
}

SbCut *
sb_cut_of_workers(const SbDatabase *db)
{
	static const SbRole writers[] = {SB_ROLE_RUNNER, SB_ROLE_LATE_RUNNER};
	SbCut *cut = cut_make(0);

	/* first: who has an id below has it in its place by now */
	cut->xmin = ReadNextTransactionId();
	for (int i = 0; i < lengthof(writers); i++)
	{
		const PGPROC *proc = BackendPidGetProc(db->workers[writers[i]].pid);
		TransactionId xid = proc ? proc->xid : InvalidTransactionId;

		if (TransactionIdIsNormal(xid) && TransactionIdPrecedes(xid, cut->xmin))
			cut->xmin = xid;
	}
	cut->xmax = cut->xmin;
	return cut;
}

bool
sb_cut_is_before(const SbCut *cut, TransactionId xid)
{
	/* ids of rows may be older than half a turn: those are frozen */
	return xid - cut->xmin >= ReadNextTransactionId() - cut->xmin;
}

/* ---- what is not seen yet ---- */

SbUnseen *
sb_unseen_create(void)
{
	SbUnseen *unseen = palloc0(sizeof(SbUnseen));

	unseen->context = CurrentMemoryContext;
	unseen->committing = GetVirtualXIDsDelayingChkpt(&unseen->ncommitting, DELAY_CHKPT_START);
	unseen->look_at = SB_UNSEEN_MANY;
	return unseen;
}

static void
unseen_put(SbUnseen *unseen, TransactionId xid)
{
	if (unseen->n == unseen->max)
	{
		unseen->max = unseen->max ? unseen->max * 2 : 64;
		unseen->xids =
		    unseen->xids ? repalloc_huge(unseen->xids, sizeof(TransactionId) * unseen->max)
		                 : MemoryContextAlloc(unseen->context, sizeof(TransactionId) * unseen->max);
	}
	unseen->xids[unseen->n++] = xid;
}

/*
 * The most recent snapshot of this process had ended ones below RecentXmin: every later one sees
 * them.
 */
static void
unseen_forget_old(SbUnseen *unseen)
{
	int n = 0;

	for (int i = 0; i < unseen->n; i++)
	{
		if (!TransactionIdPrecedes(unseen->xids[i], RecentXmin))
			unseen->xids[n++] = unseen->xids[i];
	}
	unseen->n = n;
	unseen->look_at = Max(SB_UNSEEN_MANY, n * 2);
}

void
sb_unseen_add(SbUnseen *unseen, TransactionId xid)
{
	if (unseen->n > 0 && unseen->xids[unseen->n - 1] == xid)
		return;
	if (unseen->n >= unseen->look_at)
		unseen_forget_old(unseen);
	unseen_put(unseen, xid);
}

/*
 * A snapshot does not name the running transactions above the highest that has ended. One of ours
 * that ends now is above all that have committed so far.
 */
static void
unseen_raise_xmax(void)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	(void) GetCurrentTransactionId();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

/* False: some that were committing when the account was opened still are. */
static bool
unseen_settle(SbUnseen *unseen)
{
	Snapshot snapshot;

	if (unseen->ncommitting > 0 &&
	    HaveVirtualXIDsDelayingChkpt(unseen->committing, unseen->ncommitting, DELAY_CHKPT_START))
		return false;
	unseen_raise_xmax();
	snapshot = GetLatestSnapshot();
	for (int i = 0; i < snapshot->xcnt; i++)
	{
		if (TransactionIdDidCommit(snapshot->xip[i]))
			unseen_put(unseen, snapshot->xip[i]);
	}
	unseen->settled = true;
	return true;
}

/* Without waiting. */
static Snapshot
unseen_snapshot(SbUnseen *unseen)
{
	Snapshot snapshot;
	int n = 0;

	if (!unseen->settled && !unseen_settle(unseen))
		return NULL;
	snapshot = GetLatestSnapshot();
	for (int i = 0; i < unseen->n; i++)
	{
		if (XidInMVCCSnapshot(unseen->xids[i], snapshot))
			unseen->xids[n++] = unseen->xids[i];
	}
	unseen->n = n;
	return n == 0 ? RegisterSnapshot(snapshot) : NULL;
}

Snapshot
sb_unseen_await_snapshot(SbUnseen *unseen, long timeout_ms)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);

	for (;;)
	{
		Snapshot snapshot = unseen_snapshot(unseen);

		if (snapshot || GetCurrentTimestamp() >= deadline)
			return snapshot;
		sb_worker_check();
		sb_worker_sleep(SB_UNSEEN_POLL_MS);
	}
}
