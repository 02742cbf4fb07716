/*
 * sb_api_check.c: beam.check(): what the set-up needs, a row a thing; and the call that the install
 * script ends with.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "api/sb_api.h"
#include "base/sb_compat.h"
#include "base/sb_guc.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/sb_definition.h"
#include "catalog/sb_dependency.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "postmaster/bgworker_internals.h"
#include "replication/slot.h"
#include "server/sb_guard.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/guc.h"
#include "utils/syscache.h"
#include "worker/sb_slot.h"
#include "worker/sb_worker.h"

static void
check_put(ReturnSetInfo *result, const char *item, bool ok, const char *value, const char *hint)
{
	Datum values[] = {CStringGetTextDatum(item), BoolGetDatum(ok), CStringGetTextDatum(value),
	                  CStringGetTextDatum(hint)};
	bool nulls[] = {false, false, false, ok};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
check_worker(ReturnSetInfo *result, const char *item, pid_t pid, const char *hint)
{
	check_put(result, item, pid != 0, pid != 0 ? psprintf("pid %d", (int) pid) : "not running",
	          hint);
}

static void
check_slot(ReturnSetInfo *result)
{
	char name[NAMEDATALEN];
	ReplicationSlot *slot;

	sb_slot_name(MyDatabaseId, name);
	slot = SearchNamedReplicationSlot(name, true);
	check_put(
	    result, "replication slot", slot != NULL, slot ? name : "missing",
	    "the reader makes it when it starts; it waits for transactions that are older: see pg_stat_activity");
}

/* How much WAL the slot retains, and whether anything bounds that. */
static void
check_retained(ReturnSetInfo *result)
{
	XLogRecPtr restart = sb_slot_restart_lsn(MyDatabaseId);
	uint64 retained =
	    restart == InvalidXLogRecPtr || RecoveryInProgress() ? 0 : GetXLogInsertRecPtr() - restart;
	bool unbounded = sb_guc_max_retained_wal_mb < 0;

	check_put(
	    result, "retained WAL",
	    unbounded || retained <= (uint64) sb_guc_max_retained_wal_mb * 1024 * 1024,
	    psprintf("%s of %s",
	             text_to_cstring(DatumGetTextPP(
	                 DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) retained)))),
	             unbounded ? "any amount"
	                       : GetConfigOption("stream_beam.max_retained_wal", false, false)),
	    "held_by in beam.stat_pipelines says what holds it; pipelines are given up for it, transactions have to be ended");
}

/* Of all roles: a number is no secret. */
static void
check_pipelines(ReturnSetInfo *result)
{
	int states[SB_PIPELINE_NEEDS_RESYNC + 1] = {0};
	SbBracket saved;
	ListCell *lc;

	sb_api_enter(&saved);
	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->stage == SB_STAGE_CURRENT)
			states[row->state]++;
	}
	states[SB_PIPELINE_NEEDS_RESYNC] += sb_definition_count_restored();
	sb_api_leave(&saved);
	check_put(result, "pipelines",
	          states[SB_PIPELINE_FAILED] == 0 && states[SB_PIPELINE_NEEDS_RESYNC] == 0,
	          psprintf("%d running, %d paused, %d failed, %d needing a resync",
	                   states[SB_PIPELINE_RUNNING], states[SB_PIPELINE_PAUSED],
	                   states[SB_PIPELINE_FAILED], states[SB_PIPELINE_NEEDS_RESYNC]),
	          "see error_message in beam.pipelines; beam.resume_pipeline() or beam.resync_pipeline()");
}

/* Names only of the caller's own pipelines. */
static void
check_collations(ReturnSetInfo *result)
{
	StringInfoData value;
	SbBracket saved;
	int others = 0;
	List *stale;

	initStringInfo(&value);
	sb_api_enter(&saved);
	stale = sb_dependency_stale(0);
	sb_api_leave(&saved);
	foreach_ptr(SbStaleCollation, one, stale)
	{
		if (has_privs_of_role(GetUserId(), one->owner))
			appendStringInfo(&value, "%s%s: %s had version %s, now %s", value.len > 0 ? "; " : "",
			                 one->pipeline, one->collation, one->version, one->now);
		else
			others++;
	}
	if (others > 0)
		appendStringInfo(&value, "%s%d of other roles", value.len > 0 ? "; " : "", others);
	check_put(
	    result, "collations", stale == NIL,
	    stale == NIL ? "as they were when pipelines were made" : value.data,
	    "min, max, comparisons and ORDER BY may have another order now. " SB_STALE_COLLATION_HINT);
}

static void
check_workers(ReturnSetInfo *result)
{
	SbDatabase *db = sb_database_find(MyDatabaseId);

	check_worker(result, "launcher", sb_registry->launcher_pid, "see the server log");
	check_worker(result, "reader", db ? db->workers[SB_ROLE_READER].pid : 0,
	             "see the server log, and raise max_worker_processes where no worker is free");
	check_worker(result, "runner", db ? db->workers[SB_ROLE_RUNNER].pid : 0,
	             "see the server log, and raise max_worker_processes where no worker is free");
	check_slot(result);
}

static bool
check_may_create(void)
{
	Oid schema = get_namespace_oid("beam", false);
	CatCList *functions = SearchSysCacheList1(PROCNAMEARGSNSP, CStringGetDatum("create_pipeline"));
	bool may = false;

	for (int i = 0; i < functions->n_members; i++)
	{
		Form_pg_proc function = (Form_pg_proc) GETSTRUCT(&functions->members[i]->tuple);

		if (function->pronamespace == schema)
			may = may || object_aclcheck(ProcedureRelationId, function->oid, GetUserId(),
			                             ACL_EXECUTE) == ACLCHECK_OK;
	}
	ReleaseSysCacheList(functions);
	return may;
}

PG_FUNCTION_INFO_V1(stream_beam_check);

/* check(): TABLE(item, ok, value, hint) */
PGDLLEXPORT Datum
stream_beam_check(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	/* what else is loaded is not for everybody */
	check_put(result, "shared_preload_libraries", sb_registry != NULL,
	          has_privs_of_role(GetUserId(), ROLE_PG_READ_ALL_SETTINGS)
	              ? GetConfigOption("shared_preload_libraries", false, false)
	          : sb_registry != NULL ? "stream_beam is there"
	                                : "stream_beam is not there",
	          "add stream_beam and restart the server");
	check_put(result, "wal_level", wal_level >= WAL_LEVEL_LOGICAL,
	          GetConfigOption("wal_level", false, false),
	          "set it to logical and restart the server");
	check_put(result, "max_replication_slots", max_replication_slots >= 1,
	          psprintf("%d", max_replication_slots),
	          "one for each database with pipelines; raise it and restart the server");
	check_put(
	    result, "max_worker_processes", max_worker_processes >= 3,
	    psprintf("%d", max_worker_processes),
	    "one for the server and two for each database with pipelines, besides those of others; raise it and restart the server");
	check_put(result, "privilege to create pipelines", check_may_create(),
	          GetUserNameFromId(GetUserId(), false),
	          "GRANT EXECUTE ON FUNCTION beam.create_pipeline TO the role");
	if (sb_registry)
	{
		check_workers(result);
		check_retained(result);
	}
	check_pipelines(result);
	check_collations(result);
	return (Datum) 0;
}

PG_FUNCTION_INFO_V1(stream_beam_installed);

/*
 * Called by the install script: when it commits, the launcher looks for the extension in this
 * database.
 */
PGDLLEXPORT Datum
stream_beam_installed(PG_FUNCTION_ARGS)
{
	if (!superuser())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		                errmsg("only the install script calls this function")));
	if (sb_registry)
	{
		(void) sb_my_database();
		sb_at_commit_probe();
	}
	else
		ereport(WARNING,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("stream_beam is not loaded by the server: pipelines will not run"),
		         errhint("Add stream_beam to shared_preload_libraries and restart the server.")));
	PG_RETURN_VOID();
}
