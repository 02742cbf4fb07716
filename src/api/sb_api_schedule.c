/*
 * sb_api_schedule.c: backfills at times that pg_cron keeps: beam.schedule_backfill(),
 * beam.unschedule_backfill().
 *
 * The job is made as the caller, and is his: pg_cron runs it with his rights, and beam.backfill()
 * asks whether he owns the pipeline. What is ours is a row in beam.schedule; when it goes, with the
 * pipeline or by itself, a trigger takes the job away, as the role that it belongs to.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "api/sb_api.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

typedef struct SbCronJob
{
	int64 id;
	Oid role;
} SbCronJob;

static void
schedule_require_cron(void)
{
	const char *database = GetConfigOption("cron.database_name", true, false);

	if (OidIsValid(get_extension_oid("pg_cron", true)))
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	     errmsg("pg_cron is not installed in this database"),
	     database ? errdetail("The server has loaded it for database \"%s\".", database)
	              : errdetail("The server has not loaded it."),
	     errhint(
	         "Add pg_cron to shared_preload_libraries, set cron.database_name to this database, restart the server, and run CREATE EXTENSION pg_cron.")));
}

/* pg_cron runs a job in a session of its role. */
static void
schedule_require_login(void)
{
	HeapTuple tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	bool can_login = HeapTupleIsValid(tuple) && ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	if (!can_login)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_INVALID_AUTHORIZATION_SPECIFICATION),
		     errmsg("role \"%s\" cannot log in, so pg_cron could not run its jobs",
		            GetUserNameFromId(GetUserId(), false)),
		     errhint(
		         "Call beam.schedule_backfill() as a role that can log in and is a member of the pipeline's owner.")));
}

static SbPipelineRow *
schedule_find(FunctionCallInfo fcinfo)
{
	SbPipelineRow *row;
	SbBracket saved;

	sb_api_enter(&saved);
	row = sb_api_lock(text_to_cstring(PG_GETARG_TEXT_PP(0)), saved.user, false);
	sb_api_leave(&saved);
	return row;
}

/* False: there was none. */
static bool
schedule_delete(int32 pipeline)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	SbBracket saved;
	bool found;

	sb_api_enter(&saved);
	found = sb_sql_run("DELETE FROM beam.schedule WHERE pipeline OPERATOR(pg_catalog.=) $1",
	                   lengthof(types), types, values, NULL, SPI_OK_DELETE) > 0;
	sb_api_leave(&saved);
	return found;
}

static void
schedule_insert(int32 pipeline, int64 job, Datum schedule, Datum range, Oid user)
{
	Oid types[] = {INT4OID, INT8OID, TEXTOID, INTERVALOID, OIDOID};
	Datum values[] = {Int32GetDatum(pipeline), Int64GetDatum(job), schedule, range,
	                  ObjectIdGetDatum(user)};
	SbBracket saved;

	sb_api_enter(&saved);
	sb_sql_run(
	    "INSERT INTO beam.schedule (pipeline, job, schedule, range, role) VALUES ($1, $2, $3, $4, $5)",
	    lengthof(types), types, values, NULL, SPI_OK_INSERT);
	sb_api_leave(&saved);
}

PG_FUNCTION_INFO_V1(stream_beam_schedule_backfill);

/* schedule_backfill(pipeline, schedule, range): returns the number of pg_cron's job */
PGDLLEXPORT Datum
stream_beam_schedule_backfill(PG_FUNCTION_ARGS)
{
	Interval *range = PG_GETARG_INTERVAL_P(2);
	char *range_text = DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(range)));
	Oid types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum values[] = {(Datum) 0, PG_GETARG_DATUM(1), (Datum) 0};
	SbPipelineRow *row;
	bool isnull;
	int64 job;

	if (DatumGetBool(DirectFunctionCall2(interval_le, IntervalPGetDatum(range),
	                                     IntervalPGetDatum(palloc0(sizeof(Interval))))))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		     errmsg("the range of a scheduled backfill must be positive"),
		     errhint(
		         "It says how far back from the time of each run windows are computed anew: '2 days'.")));
	schedule_require_cron();
	schedule_require_login();
	row = schedule_find(fcinfo);
	(void) schedule_delete(row->id);
	values[0] = CStringGetTextDatum(psprintf("stream_beam backfill %d", row->id));
	values[2] = CStringGetTextDatum(psprintf(
	    "CALL beam.backfill(%s, pg_catalog.now() OPERATOR(pg_catalog.-) %s::pg_catalog.interval)",
	    quote_literal_cstr(row->name), quote_literal_cstr(range_text)));
	SPI_connect();
	sb_sql_run("SELECT cron.schedule($1, $2, $3)", lengthof(types), types, values, NULL,
	           SPI_OK_SELECT);
	job = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	schedule_insert(row->id, job, PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), GetUserId());
	PG_RETURN_INT64(job);
}

PG_FUNCTION_INFO_V1(stream_beam_unschedule_backfill);

/* unschedule_backfill(pipeline): was there one? */
PGDLLEXPORT Datum
stream_beam_unschedule_backfill(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(schedule_delete(schedule_find(fcinfo)->id));
}

/* ---- the trigger on beam.schedule ---- */

/* pg_cron's own function: a schema of that name could be anybody's. */
static bool
schedule_cron_is_there(void)
{
	Oid types[] = {INT8OID};
	Oid function = LookupFuncName(list_make2(makeString("cron"), makeString("unschedule")),
	                              lengthof(types), types, true);

	return OidIsValid(function) && getExtensionOfObject(ProcedureRelationId, function) ==
	                                   get_extension_oid("pg_cron", true);
}

/* As whom it was made, whose it is. One that he has removed by hand is gone already. */
static void
schedule_remove_job(void *arg)
{
	const SbCronJob *job = arg;
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(job->id)};
	SbBracket saved;

	sb_bracket_enter_owner(&saved, job->role, NULL);
	sb_sql_run("SELECT cron.unschedule(jobid) FROM cron.job WHERE jobid OPERATOR(pg_catalog.=) $1",
	           lengthof(types), types, values, NULL, SPI_OK_SELECT);
	sb_bracket_leave(&saved);
}

PG_FUNCTION_INFO_V1(stream_beam_unschedule);

/*
 * When a row of beam.schedule goes, with its pipeline or by itself, so does the job. One that
 * cannot be removed does no harm: it fails.
 */
PGDLLEXPORT Datum
stream_beam_unschedule(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	SbCronJob job;
	ErrorData *error = NULL;
	TupleDesc desc;
	bool isnull;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
		                errmsg("this function is called by a trigger only")));
	desc = RelationGetDescr(data->tg_relation);
	job.id =
	    DatumGetInt64(SPI_getbinval(data->tg_trigtuple, desc, SPI_fnumber(desc, "job"), &isnull));
	job.role = DatumGetObjectId(
	    SPI_getbinval(data->tg_trigtuple, desc, SPI_fnumber(desc, "role"), &isnull));
	if (!schedule_cron_is_there())
		return PointerGetDatum(NULL);
	SPI_connect();
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(job.role)) ||
	    !sb_try(schedule_remove_job, &job, &error))
		ereport(WARNING, (errcode(error ? error->sqlerrcode : ERRCODE_UNDEFINED_OBJECT),
		                  errmsg("job " INT64_FORMAT " of pg_cron could not be removed: %s", job.id,
		                         error ? error->message : "its role is gone"),
		                  errhint("SELECT cron.unschedule(" INT64_FORMAT ");", job.id)));
	SPI_finish();
	return PointerGetDatum(NULL);
}
