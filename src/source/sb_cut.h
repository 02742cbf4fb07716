/*
 * sb_cut.h: where the rows of a snapshot meet the stream of transactions.
 *
 * A *cut* is a snapshot and the end of the WAL as of just after it was taken. What is visible in
 * the snapshot was committed below that end; a transaction of the stream that is visible is in the
 * rows that were read with it already (sb_cut_hides), all others are still to be applied.
 *
 * That is the whole of it only if the snapshot sees every transaction that the stream has gone
 * past. It need not: a transaction is decoded when its commit record is flushed, and is visible a
 * little later, or much later where it waits for a standby. SbUnseen is the account of those: it is
 * opened at some position of the stream, is told what goes past from then on, and gives a snapshot
 * only when that sees them all.
 */
#ifndef SB_CUT_H
#define SB_CUT_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "utils/snapshot.h"
#include "worker/sb_shmem.h"

typedef struct SbCut
{
	TransactionId xmin, xmax;
	/*
	 * all that is visible was committed below; when the stream has come here the cut has done its
	 * work
	 */
	XLogRecPtr end;
	int nxip;
	/* those that ran, without subtransactions, sorted as numbers */
	TransactionId xip[FLEXIBLE_ARRAY_MEMBER];
} SbCut;

typedef struct SbUnseen SbUnseen;

/*
 * Is the transaction (its top-level id), which the stream has at this position, among those that
 * the snapshot saw?
 */
extern bool sb_cut_hides(const SbCut *cut, TransactionId xid, XLogRecPtr position);
/* Of a snapshot that has just been taken. In the current context. */
extern SbCut *sb_cut_of_snapshot(Snapshot snapshot);
/*
 * For what the runners of a database write: what they are about now, and all that comes, is not
 * before it (sb_cut_is_before()). Each writes one transaction after the other, so it is an id. In
 * the current context.
 */
extern SbCut *sb_cut_of_workers(const SbDatabase *db);
/* Of a row that a runner has written: the id in its header, of a subtransaction too. */
extern bool sb_cut_is_before(const SbCut *cut, TransactionId xid);
/* As a pg_snapshot in text, and back. In the current context. */
extern char *sb_cut_format(const SbCut *cut);
extern SbCut *sb_cut_parse(const char *snapshot, XLogRecPtr end);

/* All that the stream has gone past by now has to be seen. Lives in the current context. */
extern SbUnseen *sb_unseen_create(void);
/*
 * The stream goes past this one, too, and its rows are left for a later snapshot. Cheap when called
 * row after row.
 */
extern void sb_unseen_add(SbUnseen *unseen, TransactionId xid);
/*
 * A snapshot that sees them all, registered with the current resource owner; NULL: try again, it
 * takes until some transactions that have committed are visible, for which it waits so long. Needs
 * a transaction, and gives it an id. Lock what is to be read before, since what rewrites a table
 * does not care for snapshots.
 */
extern Snapshot sb_unseen_await_snapshot(SbUnseen *unseen, long timeout_ms);

#endif
