/*
 * sb_launcher.c: one process for the server: starts reader and runner where they are wanted,
 * restarts them with a back-off, stops them, and drops the slot of a database that no longer has
 * the extension.
 *
 * It decides from the registry alone: sb_database_move() says what is wanted of a database, the
 * workers say themselves whether they run. So it can be restarted at any time without losing its
 * children.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "base/sb_kill_point.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "replication/slot.h"
#include "server/sb_guard.h"
#include "server/sb_worker_kind.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "tcop/tcopprot.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/sb_lane.h"
#include "worker/sb_slot.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/* A worker that lived this long is well: its back-off starts again. */
#define SB_WELL_AFTER_MS 60000
#define SB_BACKOFF_FIRST_MS 500
#define SB_BACKOFF_MOST_MS 60000
/*
 * A worker that the postmaster was asked for but that has not reported; a launcher that restarted
 * has no handle to ask.
 */
#define SB_START_TIMEOUT_MS 10000

/* handles of the workers asked for, [database * SB_NROLES + role]; NULL: none */
static BackgroundWorkerHandle **handles;
static MemoryContext scan_context;
static TimestampTz warned_at; /* that no background worker is free */

void
sb_launcher_register(void)
{
	BackgroundWorker worker;

	sb_worker_describe(&worker, "stream_beam_launcher_main", "stream_beam launcher");
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
}

/*
 * WAL of a lower level is not complete for decoding, also when it is raised later: no slot may
 * begin in it.
 */
static bool
reader_wanted(const SbDatabase *db)
{
	return db->state == SB_DB_RUN && wal_level >= WAL_LEVEL_LOGICAL;
}

static bool
runner_wanted(const SbDatabase *db)
{
	return db->state == SB_DB_PROBE || db->state == SB_DB_RUN;
}

static bool
late_runner_wanted(const SbDatabase *db)
{
	return db->state == SB_DB_RUN && db->nlaggards > 0;
}

static bool
late_reader_wanted(const SbDatabase *db)
{
	if (!reader_wanted(db) || db->nlaggards == 0)
		return false;
	/*
	 * where there are but queues to be taken none is needed; but a runner that has begun to take
	 * its frames waits for their end
	 */
	if (sb_lane_least(db) == InvalidXLogRecPtr &&
	    db->workers[SB_ROLE_LATE_READER].started_at < db->workers[SB_ROLE_LATE_RUNNER].started_at)
		return false;
	/* the runner makes the ring, as it does in the first lane before there is a reader */
	return db->lanes[SB_LANE_LATE].ring != 0;
}

static bool
guard_wanted(const SbDatabase *db)
{
	return db->guard_wanted && (db->state == SB_DB_PROBE || db->state == SB_DB_RUN);
}

const SbWorkerKind sb_worker_kinds[SB_NROLES] = {
    [SB_ROLE_READER] = {.type = "stream_beam reader",
                        .main = "stream_beam_reader_main",
                        .wanted = reader_wanted},
    [SB_ROLE_RUNNER] = {.type = "stream_beam runner",
                        .main = "stream_beam_runner_main",
                        .wanted = runner_wanted},
    [SB_ROLE_LATE_READER] = {.type = "stream_beam late reader",
                             .main = "stream_beam_reader_main",
                             .wanted = late_reader_wanted},
    [SB_ROLE_LATE_RUNNER] = {.type = "stream_beam late runner",
                             .main = "stream_beam_runner_main",
                             .wanted = late_runner_wanted},
    [SB_ROLE_GUARD] = {.type = "stream_beam guard",
                       .main = "stream_beam_guard_main",
                       .wanted = guard_wanted},
};

/*
 * Called once for each end of a worker that was running or starting, and for what a crash of the
 * server has left.
 */
static void
launcher_set_backoff(SbDatabase *db, SbRole role, TimestampTz now)
{
	SbWork *work = sb_work_place(db->dbid, role);
	SbWorker *worker = &db->workers[role];
	bool crashed = sb_work_judge(db->dbid, role);
	int failures = 1;
	int delay_ms;

	if (worker->dismissed && !crashed)
	{
		worker->restart_at = now;
		return;
	}
	if (work)
	{
		if (work->started_at != 0 &&
		    (work->started_at > now ||
		     TimestampDifferenceExceeds(work->started_at, now, SB_WELL_AFTER_MS)))
			work->failures = 0;
		failures = ++work->failures;
	}
	/* the first restart comes at once: one kill is an accident */
	delay_ms =
	    failures == 1 ? 0 : Min(SB_BACKOFF_FIRST_MS << Min(failures - 2, 16), SB_BACKOFF_MOST_MS);
	worker->restart_at = TimestampTzPlusMilliseconds(now, delay_ms);
	if (sb_work_is_hopeless(db->dbid, role))
		ereport(
		    WARNING,
		    (errmsg("stream_beam: the %s of database %u has crashed %d times without coming further, and is not started again",
		            sb_worker_kinds[role].type, db->dbid, SB_CRASHES_OF_OURS),
		     errhint(
		         "Look above for what ended it. After mending the cause call pg_reload_conf().")));
}

/*
 * Asks the postmaster for a worker, which has been marked as starting before that: it may report
 * before the call returns. Where none is free, it is tried again after the back-off.
 */
static void
launcher_start_worker(int index, SbRole role, TimestampTz now)
{
	SbDatabase *db = &sb_registry->databases[index];
	SbWorker *worker = &db->workers[role];
	SbWork *work = sb_work_place(db->dbid, role);
	BackgroundWorkerHandle **handle = &handles[index * SB_NROLES + role];
	BackgroundWorker description;

	sb_worker_describe(&description, sb_worker_kinds[role].main, sb_worker_kinds[role].type);
	snprintf(description.bgw_name, sizeof(description.bgw_name), "%s for database %u",
	         sb_worker_kinds[role].type, db->dbid);
	description.bgw_main_arg = Int32GetDatum(index * SB_NROLES + role);
	description.bgw_notify_pid = MyProcPid;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	worker->state = SB_WORKER_STARTING;
	worker->started_at = now;
	if (work)
		work->started_at = now;
	worker->restart_at = 0; /* its end is to be counted, also if it comes before the next look */
	worker->dismissed = false;
	LWLockRelease(sb_registry->lock);
	if (*handle)
		pfree(*handle);
	*handle = NULL;
	if (RegisterDynamicBackgroundWorker(&description, handle))
		return;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	worker->state = SB_WORKER_STOPPED;
	LWLockRelease(sb_registry->lock);
	launcher_set_backoff(db, role, now);
	if (sb_lane_of_role(role) == SB_LANE_LATE)
		sb_lane_refuse(db);
	if (warned_at == 0 || TimestampDifferenceExceeds(warned_at, now, SB_WELL_AFTER_MS))
	{
		warned_at = now;
		ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		                  errmsg("could not start a %s: no background worker is free",
		                         sb_worker_kinds[role].type),
		                  errhint("Raise max_worker_processes and restart the server.")));
	}
}

/* Brings one worker to what is wanted. Returns when it has to be looked at again, or DT_NOEND. */
static TimestampTz
launcher_tend_worker(int index, SbRole role, TimestampTz now)
{
	SbDatabase *db = &sb_registry->databases[index];
	SbWorker *worker = &db->workers[role];
	BackgroundWorkerHandle *handle = handles[index * SB_NROLES + role];
	bool wanted = sb_worker_kinds[role].wanted(db);
	pid_t pid;

	if (worker->state == SB_WORKER_STARTING)
	{
		bool gone = handle
		                ? GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED
		                : TimestampDifferenceExceeds(worker->started_at, now, SB_START_TIMEOUT_MS);

		if (!gone)
			return TimestampTzPlusMilliseconds(now, SB_START_TIMEOUT_MS);
		LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
		/* it may have reported between the two looks */
		if (worker->state == SB_WORKER_STARTING)
			worker->state = SB_WORKER_STOPPED;
		LWLockRelease(sb_registry->lock);
	}
	if (worker->state == SB_WORKER_RUNNING)
	{
		pid = worker->pid;
		worker->dismissed = !wanted && pid != 0;
		if (worker->dismissed)
			kill(pid, SIGTERM);
		worker->restart_at = 0; /* marks that its end is to be counted */
		return DT_NOEND;
	}
	if (!wanted)
	{
		/* not yet, after a crash of the server; or not any more, of the second lane */
		if (sb_work_judge(db->dbid, role))
		{
			worker->dismissed = false;
			launcher_set_backoff(db, role, now);
		}
		return DT_NOEND;
	}
	/* it has ended, in this life of the server or in the one before */
	if (worker->restart_at == 0 && (worker->started_at != 0 || sb_work_judge(db->dbid, role)))
		launcher_set_backoff(db, role, now);
	if (sb_work_is_hopeless(db->dbid, role))
		return DT_NOEND;
	if (worker->restart_at > now)
		return worker->restart_at;
	launcher_start_worker(index, role, now);
	return TimestampTzPlusMilliseconds(now, SB_START_TIMEOUT_MS);
}

static void
launcher_drop_slot(SbDatabase *db)
{
	char name[NAMEDATALEN];

	sb_slot_name(db->dbid, name);
	if (SearchNamedReplicationSlot(name, true) != NULL)
	{
		ereport(LOG,
		        (errmsg("stream_beam: dropping replication slot \"%s\": its database no longer has the extension",
		                name)));
		ReplicationSlotDrop(name, true);
	}
	sb_database_event(db, SB_EVENT_CLEANED);
}

/* False: it has been dropped, and its workers could not connect. */
static bool
launcher_database_exists(Oid dbid)
{
	HeapTuple tuple;
	Relation rel;
	SysScanDesc scan;
	ScanKeyData key;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_database_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(dbid));
	/* without a database of its own a process cannot open an index here */
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 1, &key);
	tuple = systable_getnext(scan);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return HeapTupleIsValid(tuple);
}

/*
 * Brings the workers of a database to what is wanted; gives the entry back where the database is
 * gone. Returns when it has to be looked at again, or DT_NOEND.
 */
static TimestampTz
launcher_tend_database(int index, TimestampTz now)
{
	SbDatabase *db = &sb_registry->databases[index];
	TimestampTz next = DT_NOEND;
	bool idle = true;

	for (int role = 0; role < SB_NROLES; role++)
	{
		SbWorker *worker = &db->workers[role];

		if (worker->state == SB_WORKER_STOPPED && sb_worker_kinds[role].wanted(db) &&
		    worker->restart_at <= now && !launcher_database_exists(db->dbid))
		{
			LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
			db->state = SB_DB_NONE;
			db->dbid = InvalidOid;
			LWLockRelease(sb_registry->lock);
			return DT_NOEND;
		}
		next = Min(next, launcher_tend_worker(index, role, now));
		idle = idle && worker->state == SB_WORKER_STOPPED;
	}
	if (db->state == SB_DB_CLEAN && idle)
		launcher_drop_slot(db);
	return next;
}

/*
 * At start: any database may have the extension; a runner looks. The databases take turns, so that
 * few workers run at a time.
 */
static List *
launcher_list_databases(void)
{
	List *result = NIL;
	Relation rel;
	TableScanDesc scan;
	HeapTuple tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!form->datallowconn)
			continue;
		old = MemoryContextSwitchTo(scan_context);
		result = lappend_oid(result, form->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	return result;
}

/* Probes the next databases while few probes are under way. */
static List *
launcher_probe_some(List *databases)
{
	int probing = 0;

	for (int i = 0; i < sb_registry->ndatabases; i++)
		probing += sb_registry->databases[i].dbid != InvalidOid &&
		           sb_registry->databases[i].state == SB_DB_PROBE;
	while (databases != NIL && probing < 2)
	{
		SbDatabase *db = sb_database_get(linitial_oid(databases));

		if (db == NULL)
			break;
		if (db->state == SB_DB_NONE)
		{
			sb_database_event(db, SB_EVENT_PROBE);
			probing++;
		}
		databases = list_delete_first(databases);
	}
	return databases;
}

/* A database without the extension gives its entry back when nobody needs it. */
static void
launcher_free_entries(void)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < sb_registry->ndatabases; i++)
	{
		SbDatabase *db = &sb_registry->databases[i];

		if (OidIsValid(db->dbid) && db->state == SB_DB_NONE && db->pins == 0 && db->blockers == 0 &&
		    sb_database_is_left(db))
			db->dbid = InvalidOid;
	}
	LWLockRelease(sb_registry->lock);
}

static void
launcher_exit(int code, Datum arg)
{
	sb_registry->launcher_pid = 0;
	sb_registry->launcher_latch = NULL;
}

/*
 * One that crashes at its own work leaves the server alone until somebody reloads the
 * configuration.
 */
static void
launcher_begin(void)
{
	if (sb_work_begin_launcher() < SB_CRASHES_OF_OURS)
		return;
	ereport(WARNING,
	        (errmsg("stream_beam: the launcher has crashed %d times, and starts no workers",
	                SB_CRASHES_OF_OURS),
	         errhint(
	             "Look above for what ended it. After mending the cause call pg_reload_conf().")));
	while (!ConfigReloadPending)
	{
		CHECK_FOR_INTERRUPTS();
		sb_worker_sleep(-1);
	}
	sb_work_hope_again();
}

void
stream_beam_launcher_main(Datum arg)
{
	TimestampTz started;
	List *unprobed;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(launcher_exit, (Datum) 0);
	launcher_begin();
	sb_registry->launcher_pid = MyProcPid;
	sb_registry->launcher_latch = MyLatch;

	scan_context =
	    AllocSetContextCreate(TopMemoryContext, "stream_beam worker", ALLOCSET_DEFAULT_SIZES);
	handles = MemoryContextAllocZero(TopMemoryContext,
	                                 sizeof(*handles) * sb_registry->ndatabases * SB_NROLES);
	MemoryContextSwitchTo(TopMemoryContext);
	started = sb_clock_now();
	unprobed = launcher_list_databases();
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(LOG, (errmsg("stream_beam: pipelines need wal_level = logical"),
		              errhint("Set wal_level to logical and restart the server.")));
	for (;;)
	{
		TimestampTz now = sb_clock_now();
		TimestampTz next = DT_NOEND;

		if (ConfigReloadPending)
			sb_work_hope_again();
		if (TimestampDifferenceExceeds(started, now, SB_WELL_AFTER_MS))
			sb_work_launcher_is_well();
		sb_worker_check();
		SB_KILL_POINT("launcher_turn");
		MemoryContextSwitchTo(scan_context);
		unprobed = launcher_probe_some(unprobed);
		MemoryContextSwitchTo(TopMemoryContext);
		for (int i = 0; i < sb_registry->ndatabases; i++)
		{
			if (OidIsValid(sb_registry->databases[i].dbid))
				next = Min(next, launcher_tend_database(i, now));
		}
		launcher_free_entries();
		next = Min(next, sb_guard_look(now));
		/* an entry was freed, or a probe ended: the next database may have its turn */
		if (unprobed != NIL)
			next = Min(next, TimestampTzPlusMilliseconds(now, 100));
		sb_worker_sleep(next == DT_NOEND ? -1 : Max(1, TimestampDifferenceMilliseconds(now, next)));
	}
}
