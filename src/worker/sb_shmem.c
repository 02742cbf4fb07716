/*
 * sb_shmem.c: the registry in shared memory; see sb_shmem.h.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/sb_compat.h"
#include "base/sb_guc.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/sb_shmem.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

SbRegistry *sb_registry = NULL;

static shmem_request_hook_type previous_request = NULL;
static shmem_startup_hook_type previous_startup = NULL;

static Size
shmem_size(void)
{
	return add_size(offsetof(SbRegistry, databases),
	                mul_size(sizeof(SbDatabase), sb_guc_max_databases));
}

static void
shmem_request(void)
{
	if (previous_request)
		previous_request();
	RequestAddinShmemSpace(shmem_size());
	RequestNamedLWLockTranche("stream_beam", 1);
}

static void
shmem_lane_init(SbLane *lane)
{
	pg_atomic_init_u64(&lane->rewind_wanted, 0);
	pg_atomic_init_u64(&lane->start_from, InvalidXLogRecPtr);
	pg_atomic_init_u32(&lane->reader_sleeping, 0);
	pg_atomic_init_u32(&lane->slot_ready, 0);
	pg_atomic_init_u64(&lane->open_lsn, InvalidXLogRecPtr);
	pg_atomic_init_u32(&lane->open_xid, InvalidTransactionId);
	pg_atomic_init_u64(&lane->confirmable, InvalidXLogRecPtr);
	pg_atomic_init_u64(&lane->confirmed, InvalidXLogRecPtr);
	pg_atomic_init_u64(&lane->applied, InvalidXLogRecPtr);
	pg_atomic_init_u64(&lane->decoded, InvalidXLogRecPtr);
}

static void
shmem_database_init(SbDatabase *db)
{
	pg_atomic_init_u32(&db->sources_version, 0);
	pg_atomic_init_u32(&db->generation, 0);
	pg_atomic_init_u32(&db->creations, 0);
	pg_atomic_init_u32(&db->slot_discard, 0);
	pg_atomic_init_u32(&db->watermark_waiters, 0);
	pg_atomic_init_u32(&db->commands, 0);
	for (int i = 0; i < SB_NLANES; i++)
		shmem_lane_init(&db->lanes[i]);
	ConditionVariableInit(&db->changed);
}

/*
 * After a crash the registry is made anew, and nothing in it is missed. What must outlive a crash
 * is in the file that is mapped here.
 */
static void
shmem_startup(void)
{
	bool found;

	if (previous_startup)
		previous_startup();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	sb_registry = ShmemInitStruct("stream_beam registry", shmem_size(), &found);
	if (!found)
	{
		memset(sb_registry, 0, shmem_size());
		sb_registry->lock = &GetNamedLWLockTranche("stream_beam")->lock;
		sb_registry->ndatabases = sb_guc_max_databases;
		pg_atomic_init_u64(&sb_registry->clock_last, 0);
		pg_atomic_init_u64(&sb_registry->clock_ahead, 0);
		for (int i = 0; i < sb_guc_max_databases; i++)
			shmem_database_init(&sb_registry->databases[i]);
	}
	LWLockRelease(AddinShmemInitLock);
	sb_work_map();
}

void
sb_shmem_install(void)
{
	previous_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
	previous_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

SbDatabase *
sb_database_find(Oid dbid)
{
	if (sb_registry == NULL)
		return NULL;
	for (int i = 0; i < sb_registry->ndatabases; i++)
	{
		if (sb_registry->databases[i].dbid == dbid)
			return &sb_registry->databases[i];
	}
	return NULL;
}

static void
database_clear_lane(SbLane *lane)
{
	pg_atomic_write_u32(&lane->slot_ready, 0);
	pg_atomic_write_u32(&lane->open_xid, InvalidTransactionId);
	pg_atomic_write_u64(&lane->confirmable, InvalidXLogRecPtr);
	pg_atomic_write_u64(&lane->confirmed, InvalidXLogRecPtr);
	pg_atomic_write_u64(&lane->applied, InvalidXLogRecPtr);
}

SbDatabase *
sb_database_get(Oid dbid)
{
	SbDatabase *db;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	db = sb_database_find(dbid);
	if (db == NULL)
	{
		db = sb_database_find(InvalidOid);
		if (db)
		{
			db->dbid = dbid;
			db->state = SB_DB_NONE;
			db->probe_again = false;
			db->blockers = 0;
			db->pins = 0;
			db->nsources = db->nresults = 0;
			memset(db->workers, 0, sizeof(db->workers));
			db->guard_wanted = false;
			db->guard_at = db->guard_blamed_at = 0;
			db->nlaggards = 0;
			db->late_refused_at = 0;
			db->joining = false;
			db->join_at = InvalidXLogRecPtr;
			pg_atomic_write_u32(&db->slot_discard, 0);
			for (int i = 0; i < SB_NLANES; i++)
				database_clear_lane(&db->lanes[i]);
		}
	}
	LWLockRelease(sb_registry->lock);
	return db;
}

/* The states of a database and what moves them. What is not here leaves the state as it is. */
static const struct
{
	SbDbState from;
	SbDbEvent event;
	SbDbState to;
} moves[] = {
    {SB_DB_NONE, SB_EVENT_PROBE, SB_DB_PROBE},    {SB_DB_NONE, SB_EVENT_BLOCK, SB_DB_BLOCKED},
    {SB_DB_PROBE, SB_EVENT_FOUND, SB_DB_RUN},     {SB_DB_PROBE, SB_EVENT_MISSING, SB_DB_CLEAN},
    {SB_DB_PROBE, SB_EVENT_BLOCK, SB_DB_BLOCKED}, {SB_DB_RUN, SB_EVENT_MISSING, SB_DB_CLEAN},
    {SB_DB_RUN, SB_EVENT_BLOCK, SB_DB_BLOCKED},   {SB_DB_CLEAN, SB_EVENT_CLEANED, SB_DB_NONE},
    {SB_DB_CLEAN, SB_EVENT_BLOCK, SB_DB_BLOCKED}, {SB_DB_BLOCKED, SB_EVENT_UNBLOCK, SB_DB_PROBE},
};

void
sb_database_move(SbDatabase *db, SbDbEvent event)
{
	Assert(LWLockHeldByMeInMode(sb_registry->lock, LW_EXCLUSIVE));
	if (event == SB_EVENT_BLOCK)
		db->blockers++;
	else if (event == SB_EVENT_UNBLOCK && --db->blockers > 0)
		return;
	else if (event == SB_EVENT_PROBE && db->state == SB_DB_CLEAN)
		db->probe_again = true;

	for (int i = 0; i < lengthof(moves); i++)
	{
		if (moves[i].from == db->state && moves[i].event == event)
		{
			db->state = moves[i].to;
			break;
		}
	}
	if (event == SB_EVENT_CLEANED && db->probe_again)
	{
		db->probe_again = false;
		sb_database_move(db, SB_EVENT_PROBE);
	}
}

void
sb_wake_launcher(void)
{
	Latch *latch = sb_registry->launcher_latch;

	if (latch)
		SetLatch(latch);
}

void
sb_database_event(SbDatabase *db, SbDbEvent event)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	sb_database_move(db, event);
	LWLockRelease(sb_registry->lock);
	ConditionVariableBroadcast(&db->changed);
	sb_wake_launcher();
}

bool
sb_database_is_left(const SbDatabase *db)
{
	for (int role = 0; role < SB_NROLES; role++)
	{
		if (db->workers[role].state != SB_WORKER_STOPPED)
			return false;
	}
	return true;
}

void
sb_wake_worker(SbDatabase *db, SbRole role)
{
	Latch *latch = db->workers[role].latch;

	if (latch)
		SetLatch(latch);
}

static SbDatabase *attached_database;

/*
 * The second lane's ring goes with its runner, and so does the reader, which has it mapped: memory
 * that is seldom needed.
 */
static void
detach_late_ring(SbDatabase *db)
{
	SbLane *lane = &db->lanes[SB_LANE_LATE];
	pid_t reader = db->workers[SB_ROLE_LATE_READER].pid;

	if (lane->ring == 0)
		return;
	dsm_unpin_segment(lane->ring);
	lane->ring = 0;
	if (reader != 0)
		kill(reader, SIGTERM);
}

/*
 * At the end of a worker. Who waits for it to be gone goes on as soon as the state says so; its
 * slot is released before.
 */
static void
worker_detach(int code, Datum role)
{
	SbDatabase *db = attached_database;
	SbWorker *worker = &db->workers[DatumGetInt32(role)];

	/* the server does that later; who waits for this worker to be gone needs its slot, too */
	if (MyReplicationSlot != NULL)
		ReplicationSlotRelease();
	sb_slots_cleanup();
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	worker->state = SB_WORKER_STOPPED;
	worker->pid = 0;
	worker->latch = NULL;
	if (DatumGetInt32(role) == SB_ROLE_LATE_RUNNER)
	{
		detach_late_ring(db);
		db->joining = false;
	}
	/* it waits for nobody any more */
	if (DatumGetInt32(role) == SB_ROLE_RUNNER)
		db->join_at = InvalidXLogRecPtr;
	/* one that ended with an error comes back */
	if (DatumGetInt32(role) == SB_ROLE_GUARD && code == 0)
		db->guard_wanted = false;
	LWLockRelease(sb_registry->lock);
	if (DatumGetInt32(role) == SB_ROLE_READER || DatumGetInt32(role) == SB_ROLE_LATE_READER)
	{
		SbLane *lane = &db->lanes[sb_lane_of_role(DatumGetInt32(role))];

		pg_atomic_write_u32(&lane->slot_ready, 0);
		pg_atomic_write_u32(&lane->reader_sleeping, 0);
		pg_atomic_write_u32(&lane->open_xid, InvalidTransactionId);
	}
	ConditionVariableBroadcast(&db->changed);
	sb_wake_launcher();
}

void
sb_worker_attach(SbDatabase *db, SbRole role)
{
	SbWorker *worker = &db->workers[role];

	attached_database = db;
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	worker->state = SB_WORKER_RUNNING;
	worker->pid = MyProcPid;
	worker->latch = MyLatch;
	worker->started_at = sb_clock_now();
	LWLockRelease(sb_registry->lock);
	before_shmem_exit(worker_detach, Int32GetDatum(role));
}

static void
wake_runners(SbDatabase *db)
{
	sb_wake_worker(db, SB_ROLE_RUNNER);
	sb_wake_worker(db, SB_ROLE_LATE_RUNNER);
}

XLogRecPtr
sb_pin_acquire(SbDatabase *db)
{
	XLogRecPtr lsn;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	/*
	 * under the lock: a confirmation computed before this is not beyond it, one computed after sees
	 * the pin
	 */
	lsn = GetXLogInsertRecPtr();
	if (db->pins++ == 0)
		db->pin_lsn = lsn;
	LWLockRelease(sb_registry->lock);
	return lsn;
}

void
sb_pin_release(SbDatabase *db, bool pinned, bool changed)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	Assert(!pinned || db->pins > 0);
	if (changed)
		pg_atomic_fetch_add_u32(&db->generation, 1);
	if (pinned)
		db->pins--;
	LWLockRelease(sb_registry->lock);
	if (changed)
		wake_runners(db);
}

bool
sb_database_has_postponed(SbDatabase *db, int32 pipeline)
{
	bool found;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	found = db->npostponed > SB_MAX_POSTPONED;
	for (int i = 0; i < db->npostponed && !found; i++)
		found = db->postponed[i] == pipeline;
	for (int i = 0; i < db->nlaggards && !found; i++)
		found = db->laggards[i].pipeline == pipeline;
	LWLockRelease(sb_registry->lock);
	return found;
}

void
sb_tell_runner(SbDatabase *db)
{
	pg_atomic_fetch_add_u32(&db->generation, 1);
	wake_runners(db);
}

void
sb_tell_all_runners(void)
{
	for (int i = 0; i < sb_registry->ndatabases; i++)
	{
		SbDatabase *db = &sb_registry->databases[i];

		if (OidIsValid(db->dbid))
			sb_tell_runner(db);
	}
}

static bool
is_among(Oid relation, const Oid *relations, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (relations[i] == relation)
			return true;
	}
	return false;
}

/* Adds one with the lock held; false: no room. */
static bool
source_add(SbDatabase *db, Oid relation)
{
	if (is_among(relation, db->sources, db->nsources))
		return true;
	if (db->nsources == SB_MAX_SOURCES)
		return false;
	db->sources[db->nsources++] = relation;
	return true;
}

static void
sources_changed(SbDatabase *db)
{
	pg_write_barrier();
	pg_atomic_fetch_add_u32(&db->sources_version, 1);
}

void
sb_source_add(SbDatabase *db, Oid relation)
{
	bool added;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	added = source_add(db, relation);
	sources_changed(db);
	LWLockRelease(sb_registry->lock);
	if (!added)
		ereport(ERROR,
		        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
		         errmsg("a database cannot have more than %d source tables", SB_MAX_SOURCES)));
}

void
sb_sources_set(SbDatabase *db, uint32 generation, const List *relations)
{
	ListCell *lc;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	if (db->pins == 0 && pg_atomic_read_u32(&db->generation) == generation)
		db->nsources = 0;
	foreach (lc, relations)
		(void) source_add(db, lfirst_oid(lc));
	sources_changed(db);
	LWLockRelease(sb_registry->lock);
}

void
sb_results_set(SbDatabase *db, const List *relations)
{
	ListCell *lc;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	db->results_left_out = list_length(relations) > SB_MAX_SOURCES;
	db->nresults = 0;
	foreach (lc, relations)
	{
		if (db->nresults < SB_MAX_SOURCES)
			db->results[db->nresults++] = lfirst_oid(lc);
	}
	LWLockRelease(sb_registry->lock);
}

bool
sb_is_result(const SbDatabase *db, Oid relation)
{
	bool found;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	found = db->results_left_out || is_among(relation, db->results, db->nresults);
	LWLockRelease(sb_registry->lock);
	return found;
}

bool
sb_is_watched(const SbDatabase *db, Oid relation)
{
	bool found;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	found = db->results_left_out || is_among(relation, db->sources, db->nsources) ||
	        is_among(relation, db->results, db->nresults);
	LWLockRelease(sb_registry->lock);
	return found;
}

int
sb_sources_get(SbDatabase *db, Oid *out)
{
	int n;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	n = db->nsources;
	memcpy(out, db->sources, sizeof(Oid) * n);
	LWLockRelease(sb_registry->lock);
	return n;
}
