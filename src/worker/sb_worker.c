/*
 * sb_worker.c: what all background workers share.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/sb_bracket.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/timestamp.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/*
 * What two processors or two looks at a clock may differ by; a clock that was set is further off.
 */
#define SB_CLOCK_JITTER_US USECS_PER_SEC

TimestampTz
sb_clock_now(void)
{
	for (;;)
	{
		uint64 last = pg_atomic_read_u64(&sb_registry->clock_last);
		uint64 ahead = pg_atomic_read_u64(&sb_registry->clock_ahead);
		TimestampTz now = GetCurrentTimestamp() + (int64) ahead;

		if (now >= (TimestampTz) last)
		{
			/* another process may have been faster: then its answer stands */
			(void) pg_atomic_compare_exchange_u64(&sb_registry->clock_last, &last, now);
			return now;
		}
		if ((TimestampTz) last - now < SB_CLOCK_JITTER_US)
			return last;
		(void) pg_atomic_compare_exchange_u64(&sb_registry->clock_ahead, &ahead,
		                                      ahead + (last - now));
	}
}

int64
sb_clock_ahead(void)
{
	return pg_atomic_read_u64(&sb_registry->clock_ahead);
}

void
sb_worker_describe(BackgroundWorker *worker, const char *function, const char *type)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker->bgw_library_name, "stream_beam", sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function, sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
	strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
}

/* What the server, the database or a role has set for clients is none of ours. */
static const struct
{
	const char *name;
	const char *value;
} worker_settings[] = {
    {"search_path", "pg_catalog, pg_temp"},
    {"default_transaction_isolation", "read committed"},
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"session_replication_role", "origin"},
    {"row_security", "on"},
    {"statement_timeout", "0"},
    {"lock_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
    {"idle_session_timeout", "0"},
    {"transaction_timeout", "0"},
};

static void
worker_set_all(void)
{
	for (int i = 0; i < lengthof(worker_settings); i++)
	{
		/* not every version has each */
		if (GetConfigOption(worker_settings[i].name, true, false) != NULL)
			SetConfigOption(worker_settings[i].name, worker_settings[i].value, PGC_SUSET,
			                PGC_S_SESSION);
	}
}

/*
 * Advisory locks of the session that a user's function has taken are gone with the transaction, as
 * all else that it might leave.
 */
static void
worker_end_of_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		LockReleaseSession(USER_LOCKMETHOD);
}

SbDatabase *
sb_worker_begin(Datum arg, SbRole *role_out)
{
	SbDatabase *db = &sb_registry->databases[DatumGetInt32(arg) / SB_NROLES];
	SbRole role = DatumGetInt32(arg) % SB_NROLES;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	/* a reload until now was for nobody */
	ConfigReloadPending = true;
	sb_bracket_begin_worker();
	sb_worker_attach(db, role);
	sb_work_begin(db->dbid, role);
	/* a slot retains WAL also for a database that lets nobody in */
	BackgroundWorkerInitializeConnectionByOid(db->dbid, InvalidOid,
	                                          role == SB_ROLE_GUARD ? BGWORKER_BYPASS_ALLOWCONN
	                                                                : 0);
	worker_set_all();
	RegisterXactCallback(worker_end_of_transaction, NULL);
	*role_out = role;
	return db;
}

void
sb_worker_check(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
sb_worker_sleep(long timeout_ms)
{
	int events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout_ms >= 0 ? WL_TIMEOUT : 0);
	int32 kind = sb_work->kind;

	sb_work_rest();
	(void) WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	sb_work->kind = kind;
}
