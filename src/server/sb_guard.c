/*
 * sb_guard.c: the bound on the WAL that a slot retains; see sb_guard.h.
 *
 * WHO IS GIVEN UP. A slot retains WAL for the pipeline with the least position, or for a
 * transaction that is older still: decoding has to begin where the oldest running transaction
 * began. A pipeline is given up when more than the limit lies behind its own position, unless a
 * running transaction would retain that WAL all the same; then the log names the transaction
 * instead, and the pipeline is looked at again when that has ended. Workers at rest read what other
 * databases have written every ten seconds only: they are woken first, and waited for, so that none
 * is given up that is behind for no other reason.
 *
 * A SLOT THAT NOBODY NEEDS. With no pipeline left that needs it, a slot that does not move, since
 * its reader or the runner is stuck, dead or still waiting for old transactions, is dropped; the
 * reader makes another one. So the bound holds also where a runner waits for a lock for days.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xlog.h"
#include "base/sb_bracket.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_transaction.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/slot.h"
#include "runner/sb_void.h"
#include "server/sb_guard.h"
#include "storage/ipc.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/sb_slot.h"
#include "worker/sb_worker.h"

/* How often the launcher looks. */
#define SB_GUARD_INTERVAL_MS 10000
/* What only a user can mend is logged so often. */
#define SB_GUARD_REPEAT_MS 60000
/* A session may have locked the row of a pipeline; the launcher asks again. */
#define SB_GUARD_LOCK_TIMEOUT "5s"
/* Workers that are well read what there is, and write their positions, within this. */
#define SB_GUARD_CATCH_UP_MS 5000

static uint64
guard_limit(void)
{
	return (uint64) sb_guc_max_retained_wal_mb * 1024 * 1024;
}

static const char *
guard_size(uint64 bytes)
{
	return text_to_cstring(
	    DatumGetTextPP(DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) bytes))));
}

/* ---- the launcher's part ---- */

TimestampTz
sb_guard_look(TimestampTz now)
{
	XLogRecPtr insert = GetXLogInsertRecPtr();
	bool any = false;

	if (sb_guc_max_retained_wal_mb < 0)
		return DT_NOEND;
	for (int i = 0; i < sb_registry->ndatabases; i++)
	{
		SbDatabase *db = &sb_registry->databases[i];
		XLogRecPtr restart;

		if (!OidIsValid(db->dbid) || (db->state != SB_DB_RUN && db->state != SB_DB_PROBE))
			continue;
		any = true;
		restart = sb_slot_restart_lsn(db->dbid);
		if (restart == InvalidXLogRecPtr || insert - restart <= guard_limit() || db->guard_at > now)
			continue;
		LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
		db->guard_wanted = true;
		db->guard_at = TimestampTzPlusMilliseconds(now, SB_GUARD_INTERVAL_MS);
		LWLockRelease(sb_registry->lock);
	}
	return any ? TimestampTzPlusMilliseconds(now, SB_GUARD_INTERVAL_MS) : DT_NOEND;
}

/* ---- the worker ---- */

typedef struct SbGuard
{
	SbDatabase *db;
	uint32 generation; /* before the catalog was read */
	XLogRecPtr insert; /* before the workers were given their chance */
	/* from where on a running transaction holds the slot; invalid: none does */
	XLogRecPtr held;
	TransactionId held_by; /* which */
	int given_up;
	int remaining;    /* pipelines that still need the slot */
	XLogRecPtr least; /* of those */
} SbGuard;

/*
 * Marks the pipelines that are given up. What it counts of the others says what the slot has to
 * keep for them, or that nobody needs it. SPI connected.
 */
static void
guard_judge(SbGuard *guard)
{
	ListCell *lc;

	guard->least = guard->insert;
	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *row = lfirst(lc);
		XLogRecPtr position = row->progress.position;
		bool useless = guard->held != InvalidXLogRecPtr && guard->held < position;

		if (!sb_void_holds(row))
			continue;
		if (position < guard->insert && guard->insert - position > guard_limit() && !useless)
		{
			sb_void_mark(row, ERRCODE_CONFIGURATION_LIMIT_EXCEEDED,
			             psprintf("it held back %s of WAL, more than stream_beam.max_retained_wal (%s)",
			                      guard_size(guard->insert - position), guard_size(guard_limit())));
			guard->given_up++;
			continue;
		}
		guard->remaining++;
		guard->least = Min(guard->least, position);
	}
}

/*
 * Where no runner says what the slot may forget, this does. A creation that is under way has a pin;
 * one that has committed since the catalog was read has bumped the generation. What was read is
 * flushed: marking has flushed our commit, which came after.
 */
static void
guard_confirm(SbGuard *guard)
{
	SbDatabase *db = guard->db;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	if (db->workers[SB_ROLE_RUNNER].pid == 0 &&
	    pg_atomic_read_u32(&db->generation) == guard->generation)
	{
		XLogRecPtr position = db->pins > 0 ? Min(guard->least, db->pin_lsn) : guard->least;

		if (position > pg_atomic_read_u64(&db->lanes[SB_LANE_MAIN].confirmable))
			pg_atomic_write_u64(&db->lanes[SB_LANE_MAIN].confirmable, position);
	}
	pg_atomic_fetch_add_u32(&db->generation, 1);
	LWLockRelease(sb_registry->lock);
	sb_wake_worker(db, SB_ROLE_RUNNER);
	sb_wake_worker(db, SB_ROLE_READER);
}

/*
 * Do reader and runner get along? Then the slot moves on by itself, with the next checkpoint or
 * running-transactions record.
 */
static bool
guard_slot_moves(const SbGuard *guard)
{
	XLogRecPtr confirmed = pg_atomic_read_u64(&guard->db->lanes[SB_LANE_MAIN].confirmed);

	return guard->db->workers[SB_ROLE_READER].pid != 0 &&
	       pg_atomic_read_u32(&guard->db->lanes[SB_LANE_MAIN].slot_ready) &&
	       guard->insert < confirmed + guard_limit();
}

/*
 * Drops the slot, or has the reader make it anew. Not where a pipeline may have come since the
 * catalog was read: then there is a pin, or another generation.
 */
static void
guard_discard_slot(const SbGuard *guard)
{
	SbDatabase *db = guard->db;
	char name[NAMEDATALEN];
	bool unneeded;
	pid_t reader;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	unneeded = db->pins == 0 && pg_atomic_read_u32(&db->generation) == guard->generation;
	reader = db->workers[SB_ROLE_READER].pid;
	if (unneeded)
	{
		pg_atomic_write_u32(&db->slot_discard, 1);
		pg_atomic_write_u32(&db->lanes[SB_LANE_MAIN].slot_ready, 0);
	}
	LWLockRelease(sb_registry->lock);
	if (!unneeded)
		return;
	sb_slot_name(db->dbid, name);
	ereport(LOG,
	        (errmsg("stream_beam: replication slot \"%s\" is dropped: it retains more WAL than stream_beam.max_retained_wal, and no pipeline needs it",
	                name)));
	/* the reader has it, and makes another one when it comes back */
	if (reader != 0)
		kill(reader, SIGTERM);
	else if (SearchNamedReplicationSlot(name, true) != NULL)
		ReplicationSlotDrop(name, true);
}

/* Nothing of ours would help. */
static void
guard_blame_transaction(const SbGuard *guard)
{
	TimestampTz now = GetCurrentTimestamp();
	int pid = BackendXidGetPid(guard->held_by);

	if (!TimestampDifferenceExceeds(guard->db->guard_blamed_at, now, SB_GUARD_REPEAT_MS))
		return;
	guard->db->guard_blamed_at = now;

	ereport(WARNING,
	        (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
	         errmsg("the replication slot of database %u retains %s of WAL, more than stream_beam.max_retained_wal (%s)",
	                guard->db->dbid,
	                guard_size(guard->insert - sb_slot_restart_lsn(guard->db->dbid)),
	                guard_size(guard_limit())),
	         pid != 0 ? errdetail("It is held by transaction %u of process %d, not by a pipeline.",
	                              guard->held_by, pid)
	                  : errdetail("It is held by the prepared transaction %u, not by a pipeline.",
	                              guard->held_by),
	         errhint("End that transaction.")));
}

/* Until all that is flushed now is applied, or it is clear that this takes long. */
static void
guard_let_catch_up(SbDatabase *db)
{
	XLogRecPtr flushed = GetFlushRecPtr(NULL);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SB_GUARD_CATCH_UP_MS);

	if (db->workers[SB_ROLE_READER].pid == 0 || db->workers[SB_ROLE_RUNNER].pid == 0)
		return;
	sb_wake_worker(db, SB_ROLE_READER);
	ConditionVariablePrepareToSleep(&db->changed);
	while (pg_atomic_read_u64(&db->lanes[SB_LANE_MAIN].applied) < flushed)
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		if (left <= 0 || ConditionVariableTimedSleep(&db->changed, left, PG_WAIT_EXTENSION))
			break;
	}
	ConditionVariableCancelSleep();
}

/*
 * One look at the database. Pipelines are given up in a transaction that is committed and flushed
 * before the slot may move on.
 */
static void
guard_run(SbGuard *guard)
{
	guard->insert = GetXLogInsertRecPtr();
	guard_let_catch_up(guard->db);
	guard->generation = pg_atomic_read_u32(&guard->db->generation);
	sb_transaction_begin();
	if (!OidIsValid(get_extension_oid("stream_beam", true)))
	{
		sb_transaction_commit();
		return;
	}
	sb_bracket_check_schemas();
	guard->held = sb_slot_held_by(guard->db, &guard->held_by);
	guard_judge(guard);
	if (guard->given_up > 0)
		SB_KILL_POINT("before_give_up");
	sb_transaction_commit();
	if (guard->given_up > 0)
		SB_KILL_POINT("after_give_up");
	if (guard->given_up > 0)
		guard_confirm(guard);
	else if (guard->remaining == 0 && !guard_slot_moves(guard))
		guard_discard_slot(guard);
	else if (guard->held != InvalidXLogRecPtr && guard->insert - guard->held > guard_limit())
		guard_blame_transaction(guard);
}

void
stream_beam_guard_main(Datum arg)
{
	SbRole role;
	SbGuard guard = {.db = sb_worker_begin(arg, &role)};

	MemoryContextSwitchTo(
	    AllocSetContextCreate(TopMemoryContext, "stream_beam worker", ALLOCSET_DEFAULT_SIZES));
	SetConfigOption("synchronous_commit", "on", PGC_USERSET, PGC_S_SESSION);
	SetConfigOption("lock_timeout", SB_GUARD_LOCK_TIMEOUT, PGC_USERSET, PGC_S_SESSION);
	guard_run(&guard);
	proc_exit(0);
}
