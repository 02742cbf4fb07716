/*
 * sb_api_pipeline.c: the life of a pipeline after its creation: pause, resume, drop, explain, wait.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/sb_api.h"
#include "base/sb_compat.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "catalog/sb_history_row.h"
#include "catalog/sb_option.h"
#include "catalog/sb_owner.h"
#include "catalog/sb_view.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "query/sb_query.h"
#include "query/sb_signature.h"
#include "replication/message.h"
#include "source/sb_decode.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"
#include "worker/sb_lane.h"

/* What to do about a pipeline that does not run. */
static const char *
api_state_hint(SbPipelineState state)
{
	switch (state)
	{
		case SB_PIPELINE_NEEDS_RESYNC:
			return "Call beam.resync_pipeline(): it makes the result anew from the source.";
		case SB_PIPELINE_FAILED:
			return "Mend the cause, then call beam.resume_pipeline(), or beam.resync_pipeline().";
		default:
			return "Call beam.resume_pipeline().";
	}
}

static const char *
api_state_words(SbPipelineState state)
{
	return state == SB_PIPELINE_NEEDS_RESYNC ? "needs a resync"
	                                         : psprintf("is %s", sb_pipeline_state_name(state));
}

/*
 * Pauses or resumes. Not an error where it is so already; in a state that this cannot change it is,
 * with a hint what to call.
 */
static void
api_set_state(FunctionCallInfo fcinfo, SbPipelineState from, SbPipelineState from2,
              SbPipelineState to, const char *what)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SbPipelineRow *row;
	SbBracket saved;
	ListCell *lc;

	sb_api_require_server();
	sb_api_enter(&saved);
	row = sb_api_lock(name, saved.user, false);
	if (row->state != to)
	{
		if (row->state != from && row->state != from2)
			ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			                errmsg("pipeline \"%s\" %s and cannot be %s", name,
			                       api_state_words(row->state), what),
			                row->error_message ? errdetail("%s", row->error_message) : 0,
			                errhint("%s", api_state_hint(row->state))));
	}
	if (to == SB_PIPELINE_RUNNING)
		sb_owner_check(row);
	/* its other versions stand and run with it, but for those that belong to somebody else */
	foreach (lc, sb_catalog_versions(row->name))
	{
		SbPipelineRow *version = lfirst(lc);

		if ((version->state != from && version->state != from2) || version->owner != row->owner ||
		    !sb_owner_is_one(version))
			continue;
		sb_catalog_set_state(version->id, to, NULL);
		sb_at_commit_tell_runner();
	}
	sb_api_leave(&saved);
}

PG_FUNCTION_INFO_V1(stream_beam_pause_pipeline);

/*
 * pause_pipeline(name): it stops after the current bundle; its position is kept and holds back the
 * slot
 */
PGDLLEXPORT Datum
stream_beam_pause_pipeline(PG_FUNCTION_ARGS)
{
	api_set_state(fcinfo, SB_PIPELINE_RUNNING, SB_PIPELINE_RUNNING, SB_PIPELINE_PAUSED, "paused");
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(stream_beam_resume_pipeline);

/* resume_pipeline(name): goes on exactly at its position */
PGDLLEXPORT Datum
stream_beam_resume_pipeline(PG_FUNCTION_ARGS)
{
	api_set_state(fcinfo, SB_PIPELINE_PAUSED, SB_PIPELINE_FAILED, SB_PIPELINE_RUNNING, "resumed");
	PG_RETURN_VOID();
}

/*
 * With keep_result nothing else would object, and a downstream pipeline would never see a row
 * again.
 */
static void
drop_check_downstream(const List *versions)
{
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *downstream = lfirst(lc);
		SbPipelineRow *row =
		    downstream->upstream != 0 ? sb_catalog_row_of_id(versions, downstream->upstream) : NULL;

		if (row)
			ereport(ERROR,
			        (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
			         errmsg("pipeline \"%s\" cannot be dropped: it has the downstream pipeline \"%s\"",
			                row->name, downstream->name),
			         errhint("Drop that one first.")));
	}
}

static int
drop_keep(const SbPipelineRow *version, bool keep_result)
{
	return keep_result && version->stage == SB_STAGE_CURRENT ? SB_KEEP_RESULT : 0;
}

PG_FUNCTION_INFO_V1(stream_beam_drop_pipeline);

/* drop_pipeline(name, keep_result): all its versions */
PGDLLEXPORT Datum
stream_beam_drop_pipeline(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool keep_result = PG_GETARG_BOOL(1);
	SbPipelineRow *row;
	SbBracket saved;
	List *versions;
	ListCell *lc;

	sb_my_database();
	if (sb_api_drop_restored(name, keep_result))
		PG_RETURN_VOID();
	sb_api_enter(&saved);
	row = sb_api_lock(name, saved.user, false);
	versions = sb_catalog_versions(row->name);
	drop_check_downstream(versions);
	foreach (lc, versions)
		sb_version_lock_relations(lfirst(lc), drop_keep(lfirst(lc), keep_result));
	/* again: a downstream pipeline that is being made has the result locked until it is there */
	drop_check_downstream(versions);
	foreach (lc, versions)
		sb_version_drop(lfirst(lc), drop_keep(lfirst(lc), keep_result));
	sb_api_leave(&saved);
	PG_RETURN_VOID();
}

/* ---- explain ---- */

static void
explain_put(ReturnSetInfo *result, char *text)
{
	char *line;

	while ((line = strsep(&text, "\n")) != NULL)
	{
		Datum value = CStringGetTextDatum(line);
		bool isnull = false;

		if (*line)
			tuplestore_putvalues(result->setResult, result->setDesc, &value, &isnull);
	}
}

static void
explain_settings(ReturnSetInfo *result, const SbPipelineRow *row)
{
	explain_put(result,
	            psprintf("Pipeline %s (%s)", row->name, sb_pipeline_state_name(row->state)));
	explain_put(result, sb_options_explain(row));
}

PG_FUNCTION_INFO_V1(stream_beam_explain_pipeline);

/* explain_pipeline(name): the plan as a tree, a line a row */
PGDLLEXPORT Datum
stream_beam_explain_pipeline(PG_FUNCTION_ARGS)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SbPipelineRow *row;
	SbBracket saved;
	SbPlan *plan;
	SbQuery *query;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	sb_api_enter(&saved);
	row = sb_api_find(name, saved.user);
	sb_api_leave(&saved);
	explain_settings(result, row);
	sb_owner_enter(row, &saved);
	plan = sb_plan_build(sb_view_definition(row, NULL));
	sb_signature_fix_identity(plan, row->nsignature, row->signature);
	explain_put(result, sb_plan_explain(plan));
	query = sb_query_open(plan, CurrentMemoryContext, CurrentMemoryContext, row->retractable);
	for (int i = 0; i < plan->naggs - plan->nspelled; i++)
	{
		const char *reads = sb_query_agg_reads(query, i);

		explain_put(result, psprintf("  Aggregate %d is kept as: %s%s%s", i + 1,
		                             sb_query_agg_method(query, i),
		                             reads ? ", the values of its rows; a pane reads " : "",
		                             reads ? reads : ""));
	}
	sb_query_close(query);
	sb_bracket_leave(&saved);
	return (Datum) 0;
}

/* ---- wait ---- */

/* The pipeline waited for, or an upstream of it, does not run. */
static void
wait_check_running(const SbPipelineRow *row, const SbPipelineRow *needed)
{
	if (needed->state == SB_PIPELINE_RUNNING)
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	         needed == row
	             ? errmsg("pipeline \"%s\" %s: its result does not move", row->name,
	                      api_state_words(row->state))
	             : errmsg("pipeline \"%s\" is downstream of \"%s\", which %s: its result does not move",
	                      row->name, needed->name, api_state_words(needed->state)),
	         needed->error_message ? errdetail("%s", needed->error_message) : 0,
	         errhint("%s", api_state_hint(needed->state))));
}

/*
 * The version that is being built, which has to run, and those that take their places with it: the
 * old ones may be dead. True: there is one, or one will be begun.
 */
static bool
wait_check_building(List *rows, const SbPipelineRow *row, bool altered)
{
	SbPipelineRow *building = sb_catalog_row_of_stage(rows, row->name, SB_STAGE_BUILDING);
	ListCell *lc;

	if (building == NULL ||
	    (!altered && (building->reason == NULL || sb_catalog_is_of_backfill(building))))
		return row->rebuild != NULL && row->state != SB_PIPELINE_FAILED;
	foreach (lc, sb_version_tree(rows, building))
	{
		SbPipelineRow *version = lfirst(lc);

		if (version->state != SB_PIPELINE_RUNNING)
			ereport(
			    ERROR,
			    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			     errmsg("version %d of pipeline \"%s\", which is being built, is %s",
			            version->version, version->name, sb_pipeline_state_name(version->state)),
			     version->error_message ? errdetail("%s", version->error_message) : 0,
			     errhint(
			         "Mend the cause and call beam.resume_pipeline(), or give it up with beam.cancel_alter().")));
	}
	/*
	 * nor does it come to its end where its upstream stands still, unless that is rebuilt as well
	 */
	for (const SbPipelineRow *needed = sb_catalog_row_of_id(rows, building->upstream); needed;
	     needed = sb_catalog_row_of_id(rows, needed->upstream))
	{
		if (needed->rebuild == NULL)
			wait_check_running(row, needed);
	}
	return true;
}

static bool
wait_history_is_done(const SbPipelineRow *row)
{
	const SbHistoryRow *history = sb_catalog_history(row->id);

	return history == NULL || history->done;
}

typedef struct SbWaitSeen
{
	TimestampTz watermark; /* the output watermark */
	bool history_done;     /* of the pipeline, and of those upstream of it */
	bool building;         /* a version is yet to take its place */
} SbWaitSeen;

/*
 * Must be running, and stay so while it is waited for; unless it is waited for that another version
 * takes its place.
 */
static SbWaitSeen
wait_check(const char *name, Oid user, bool altered)
{
	SbWaitSeen seen = {.history_done = true};
	SbBracket saved;
	SbPipelineRow *row;
	List *rows;

	sb_api_enter(&saved);
	row = sb_api_lookup(name);
	/* all that follows is of one reading: versions may take their places at any time */
	rows = sb_catalog_pipelines();
	row = row ? sb_catalog_row_of_stage(rows, row->name, SB_STAGE_CURRENT) : NULL;
	if (row == NULL)
		sb_api_raise_missing(name);
	if (!has_privs_of_role(user, row->owner) &&
	    pg_class_aclcheck(row->result, user, ACL_SELECT) != ACLCHECK_OK)
		ereport(ERROR,
		        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		         errmsg("must be owner of pipeline \"%s\" or able to read its result", name)));
	seen.watermark = row->progress.output_watermark;
	seen.building = wait_check_building(rows, row, altered);
	/* a pipeline moves when all those upstream of it do */
	for (const SbPipelineRow *needed = row; needed && !altered && !seen.building;
	     needed = sb_catalog_row_of_id(rows, needed->upstream))
	{
		wait_check_running(row, needed);
		seen.history_done = seen.history_done && wait_history_is_done(needed) &&
		                    !sb_database_has_postponed(sb_my_database(), needed->id) &&
		                    !sb_catalog_is_retried(needed->id);
	}
	sb_api_leave(&saved);
	return seen;
}

void
sb_api_check_running(const char *name, Oid user)
{
	(void) wait_check(name, user, false);
}

/*
 * A marker in the WAL: what was committed before is before it, and the reader, when it comes to it,
 * says so with a heartbeat. Flushed, since only flushed WAL is decoded.
 */
static XLogRecPtr
wait_write_marker(SbDatabase *db)
{
	XLogRecPtr marker = sb_log_message(SB_MARKER_PREFIX, "", 0, false);

	XLogFlush(marker);
	sb_wake_worker(db, SB_ROLE_READER);
	return marker;
}

/* The state is looked at so often, for a pipeline that fails while it is waited for. */
#define SB_WAIT_CHECK_MS 500

typedef struct SbWait
{
	SbDatabase *db;
	const char *name;
	Oid user;
	XLogRecPtr marker;     /* until this is applied ... */
	TimestampTz watermark; /* ... or the output watermark is here; DT_NOBEGIN: not asked for */
	TimestampTz deadline;
	bool altered;          /* only until no version is being built any more */
	MemoryContext scratch; /* of one look */
} SbWait;

static SbWaitSeen
wait_look(SbWait *wait)
{
	MemoryContext old = MemoryContextSwitchTo(wait->scratch);
	SbWaitSeen seen = wait_check(wait->name, wait->user, wait->altered);

	MemoryContextSwitchTo(old);
	MemoryContextReset(wait->scratch);
	return seen;
}

static bool
wait_is_applied(const SbWait *wait)
{
	return wait->watermark != DT_NOBEGIN ||
	       pg_atomic_read_u64(&wait->db->lanes[SB_LANE_MAIN].applied) >= wait->marker;
}

static bool
wait_is_over(SbWait *wait)
{
	SbWaitSeen seen;

	if (!wait_is_applied(wait))
		return false;
	seen = wait_look(wait);
	/* one that has just been opened was not among those that have applied it */
	return wait_is_applied(wait) && !seen.building && seen.history_done &&
	       (wait->watermark == DT_NOBEGIN || seen.watermark >= wait->watermark);
}

/* Sleeps until something has changed; error at the deadline. */
static void
wait_sleep(SbWait *wait)
{
	long timeout = SB_WAIT_CHECK_MS;

	if (wait->deadline != DT_NOEND)
		timeout =
		    Min(timeout, TimestampDifferenceMilliseconds(GetCurrentTimestamp(), wait->deadline));
	if (timeout <= 0)
		ereport(ERROR,
		        (errcode(ERRCODE_QUERY_CANCELED),
		         errmsg("pipeline \"%s\" has not come to the place waited for within the timeout",
		                wait->name),
		         errhint("beam.stat_pipelines and beam.watermarks show how far it is.")));
	if (ConditionVariableTimedSleep(&wait->db->changed, timeout, PG_WAIT_EXTENSION))
		(void) wait_look(wait);
}

/*
 * The workers see what this transaction does to a pipeline when it has committed: whoever waited
 * for that within it would wait for ever, or not at all.
 */
static void
wait_refuse_own(const SbWait *wait)
{
	SbBracket saved;
	SbPipelineRow *row;

	sb_api_enter(&saved);
	row = sb_api_lookup(wait->name);
	for (; row; row = row->upstream != 0 ? sb_catalog_find_by_id(row->upstream) : NULL)
	{
		if (sb_catalog_is_changed_here(row->name))
			ereport(ERROR,
			        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			         errmsg("pipeline \"%s\" has been created or changed by this transaction",
			                row->name),
			         errdetail("The workers see that when the transaction has committed."),
			         errhint("Commit, and call the procedure then.")));
	}
	sb_api_leave(&saved);
}

static void
wait_stop(int code, Datum db)
{
	pg_atomic_fetch_sub_u32(&((SbDatabase *) DatumGetPointer(db))->watermark_waiters, 1);
}

static void
wait_loop(SbWait *wait)
{
	wait->scratch =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam wait", ALLOCSET_DEFAULT_SIZES);
	/* on the list before the first look, so that no change is missed in between */
	ConditionVariablePrepareToSleep(&wait->db->changed);
	while (!wait_is_over(wait))
		wait_sleep(wait);
	ConditionVariableCancelSleep();
}

static void
wait_arguments(FunctionCallInfo fcinfo, SbWait *wait)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
		                errmsg("the name of a pipeline must not be null")));
	wait->name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	if (!PG_ARGISNULL(1))
		wait->deadline = DatumGetTimestampTz(
		    DirectFunctionCall2(timestamptz_pl_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
		                        PG_GETARG_DATUM(1)));
}

PG_FUNCTION_INFO_V1(stream_beam_wait_for_alter);

/* wait_for_alter(name, timeout) */
PGDLLEXPORT Datum
stream_beam_wait_for_alter(PG_FUNCTION_ARGS)
{
	SbWait wait = {.db = sb_api_require_server(),
	               .user = GetUserId(),
	               .watermark = DT_NOBEGIN,
	               .deadline = DT_NOEND,
	               .altered = true};

	wait_arguments(fcinfo, &wait);
	wait_refuse_own(&wait);
	wait_loop(&wait);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(stream_beam_wait_for);

/* wait_for(name, timeout, watermark) */
PGDLLEXPORT Datum
stream_beam_wait_for(PG_FUNCTION_ARGS)
{
	SbWait wait = {.db = sb_api_require_server(),
	               .user = GetUserId(),
	               .watermark = DT_NOBEGIN,
	               .deadline = DT_NOEND};

	wait_arguments(fcinfo, &wait);
	if (!PG_ARGISNULL(2))
		wait.watermark = PG_GETARG_TIMESTAMPTZ(2);
	wait_refuse_own(&wait);
	(void) wait_check(wait.name, wait.user, false);
	if (wait.watermark == DT_NOBEGIN)
	{
		wait.marker = wait_write_marker(wait.db);
		wait_loop(&wait);
		PG_RETURN_VOID();
	}
	/* a resting source moves its watermark for those who wait for it */
	pg_atomic_fetch_add_u32(&wait.db->watermark_waiters, 1);
	PG_ENSURE_ERROR_CLEANUP(wait_stop, PointerGetDatum(wait.db));
	{
		sb_wake_worker(wait.db, SB_ROLE_RUNNER);
		wait_loop(&wait);
	}
	PG_END_ENSURE_ERROR_CLEANUP(wait_stop, PointerGetDatum(wait.db));
	wait_stop(0, PointerGetDatum(wait.db));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(stream_beam_may_read);

/* _may_read(owner, source, columns): may the role read these columns of all rows? */
PGDLLEXPORT Datum
stream_beam_may_read(PG_FUNCTION_ARGS)
{
	Oid role = PG_GETARG_OID(0);
	Oid relation = PG_GETARG_OID(1);
	Datum *columns;
	int n;

	if (get_rel_name(relation) == NULL || check_enable_rls(relation, role, true) == RLS_ENABLED)
		PG_RETURN_BOOL(false);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(2), INT2OID, sizeof(int16), true, TYPALIGN_SHORT,
	                  &columns, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		AttrNumber attno = DatumGetInt16(columns[i]);

		if (pg_class_aclcheck(relation, role, ACL_SELECT) == ACLCHECK_OK)
			continue;
		if (get_attname(relation, attno, true) == NULL ||
		    pg_attribute_aclcheck(relation, attno, role, ACL_SELECT) != ACLCHECK_OK)
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}
