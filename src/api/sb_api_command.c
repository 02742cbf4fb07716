/*
 * sb_api_command.c: what is asked of the runner and waited for: beam.backfill(),
 * beam.replay_dead_letters(), beam.replay_late_events().
 *
 * These are procedures: what they ask for is committed before it is waited for, or the runner could
 * not see it.
 */
#include "postgres.h"

#include "api/sb_api.h"
#include "api/sb_api_range.h"
#include "catalog/pg_type.h"
#include "command/sb_command.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "history/sb_backfill.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/elog.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"

/* The state is looked at so often, for a pipeline that stops while the command waits. */
#define SB_ASK_CHECK_MS 500
/* A command that takes long says so often how far it is. */
#define SB_ASK_NOTICE_MS 2000

typedef struct SbAsk
{
	SbDatabase *db;
	char *name;
	Oid user;
	SbCommand command;
	TimestampTz noticed_at;
} SbAsk;

/*
 * The pipeline's name is the first argument; the caller is its owner, and it runs. Returns its row.
 */
static SbPipelineRow *
ask_begin(FunctionCallInfo fcinfo, SbAsk *ask, const char *procedure)
{
	SbPipelineRow *row;
	SbBracket saved;

	if (!IsA(fcinfo->context, CallContext) || ((CallContext *) fcinfo->context)->atomic)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
		     errmsg("%s() cannot be called inside a transaction", procedure),
		     errdetail(
		         "The runner could not see what is asked of it before that transaction has ended."),
		     errhint(
		         "CALL it outside of BEGIN ... COMMIT, not from a function, and not from a procedure that has a SET clause.")));
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
		                errmsg("the name of a pipeline must not be null")));
	ask->db = sb_api_require_server();
	ask->name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ask->user = GetUserId();
	ask->noticed_at = GetCurrentTimestamp();
	sb_api_enter(&saved);
	row = sb_api_find(ask->name, ask->user);
	sb_api_leave(&saved);
	sb_api_check_running(ask->name, ask->user);
	ask->command.pipeline = row->id;
	return row;
}

/* Says how far it is, now and then. SPI connected, as the extension's owner. */
static void
ask_notice(SbAsk *ask)
{
	TimestampTz now = GetCurrentTimestamp();
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(ask->command.pipeline)};

	if (TimestampDifferenceMilliseconds(ask->noticed_at, now) < SB_ASK_NOTICE_MS)
		return;
	ask->noticed_at = now;
	/* as of now, also in a transaction that has one snapshot for all its life */
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_with_args(
	        "SELECT b.percent, b.rows, COALESCE(', ' OPERATOR(pg_catalog.||) b.time_left OPERATOR(pg_catalog.||) ' left', '')"
	        " FROM beam.stat_backfill b JOIN beam.pipeline p ON p.name OPERATOR(pg_catalog.=) b.pipeline"
	        " WHERE p.id OPERATOR(pg_catalog.=) $1 AND b.kind OPERATOR(pg_catalog.=) 'backfill' AND b.finished_at IS NULL AND b.started_at IS NOT NULL ORDER BY b.started_at",
	        lengthof(types), types, values, NULL, true, 1) == SPI_OK_SELECT &&
	    SPI_processed > 0)
		ereport(NOTICE,
		        (errmsg("backfill of pipeline \"%s\": %s %% done, %s rows read%s", ask->name,
		                SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1),
		                SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2),
		                SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 3))));
	PopActiveSnapshot();
}

static void
ask_raise(const SbAsk *ask)
{
	const SbCommand *command = &ask->command;
	const char *state = command->sqlstate;

	ereport(ERROR,
	        (errcode(MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4])),
	         errmsg("%s", command->message), command->detail ? errdetail("%s", command->detail) : 0,
	         command->hint ? errhint("%s", command->hint) : 0,
	         errcontext("%s of pipeline \"%s\"", command->kind, ask->name)));
}

static void
ask_raise_dropped(const SbAsk *ask)
{
	ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
	                errmsg("pipeline \"%s\" has been dropped meanwhile", ask->name)));
}

/* True: it has been done. */
static bool
ask_look(SbAsk *ask)
{
	SbBracket saved;
	bool found;

	sb_api_enter(&saved);
	found = sb_command_read(ask->command.id, &ask->command);
	if (found && strcmp(ask->command.kind, SB_COMMAND_REPLAY) != 0)
		ask_notice(ask);
	sb_api_leave(&saved);
	if (!found)
		ask_raise_dropped(ask);
	if (strcmp(ask->command.state, SB_COMMAND_FAILED) == 0)
		ask_raise(ask);
	return strcmp(ask->command.state, SB_COMMAND_DONE) == 0;
}

static void
ask_leave(int code, Datum command)
{
	sb_command_leave((SbCommand *) DatumGetPointer(command));
}

static void
ask_wait(SbAsk *ask)
{
	MemoryContext scratch =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam wait", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);

	/* on the list before the first look, so that no change is missed in between */
	ConditionVariablePrepareToSleep(&ask->db->changed);
	while (!ask_look(ask))
	{
		if (ConditionVariableTimedSleep(&ask->db->changed, SB_ASK_CHECK_MS, PG_WAIT_EXTENSION))
			sb_api_check_running(ask->name, ask->user);
		MemoryContextReset(scratch);
	}
	ConditionVariableCancelSleep();
	MemoryContextSwitchTo(old);
}

/*
 * It is done. What is left behind after an error, or is to be seen in beam.stat_backfill, the
 * runner tidies up.
 */
static void
ask_forget(const SbAsk *ask)
{
	SbBracket saved;

	if (strcmp(ask->command.kind, SB_COMMAND_REPLAY) != 0)
		return;
	sb_api_enter(&saved);
	sb_command_delete(ask->command.id);
	sb_api_leave(&saved);
}

/* Has the runner do it, and waits for that. */
static void
ask_run(SbAsk *ask)
{
	SbBracket saved;

	sb_api_enter(&saved);
	if (!sb_command_ask(&ask->command))
		ask_raise_dropped(ask);
	sb_api_leave(&saved);
	PG_ENSURE_ERROR_CLEANUP(ask_leave, PointerGetDatum(&ask->command));
	{
		SPI_connect_ext(SPI_OPT_NONATOMIC);
		SPI_commit();
		pg_atomic_fetch_add_u32(&ask->db->commands, 1);
		sb_wake_worker(ask->db, SB_ROLE_RUNNER);
		ask_wait(ask);
		/* before SPI_finish(), with which goes what ask_wait() has read */
		ask_forget(ask);
		SPI_finish();
	}
	PG_END_ENSURE_ERROR_CLEANUP(ask_leave, PointerGetDatum(&ask->command));
	ask_leave(0, PointerGetDatum(&ask->command));
}

PG_FUNCTION_INFO_V1(stream_beam_backfill);

/* backfill(pipeline, from, to) */
PGDLLEXPORT Datum
stream_beam_backfill(PG_FUNCTION_ARGS)
{
	SbAsk ask = {.command = {.kind = SB_COMMAND_BACKFILL}};
	SbRange range;

	(void) ask_begin(fcinfo, &ask, "beam.backfill");
	range = sb_range_get(fcinfo, 1);
	ask.command.from = range.from;
	ask.command.to = range.to;
	ask_run(&ask);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(stream_beam_replay_dead_letters);

/* replay_dead_letters(pipeline, ids) */
PGDLLEXPORT Datum
stream_beam_replay_dead_letters(PG_FUNCTION_ARGS)
{
	SbAsk ask = {.command = {.kind = SB_COMMAND_REPLAY, .from = DT_NOBEGIN, .to = DT_NOEND}};

	(void) ask_begin(fcinfo, &ask, "beam.replay_dead_letters");
	ask.command.ids = PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1);
	ask_run(&ask);
	ereport(NOTICE,
	        (errmsg("%lld dead letters of pipeline \"%s\" replayed, %lld failed again",
	                (long long) ask.command.rows, ask.name, (long long) ask.command.failed)));
	PG_RETURN_VOID();
}

/* ---- late events ---- */

/* The windows of the late events, as ranges that do not touch. In the current context. */
static int
late_ranges(const SbPipelineRow *row, SbRange **ranges)
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(row->id)};
	SbBracket saved;
	bool isnull;
	int n;

	/* all of them or none */
	if (!sb_backfill_has_parts(sb_version_plan(row, NULL)))
	{
		*ranges = palloc(sizeof(SbRange));
		**ranges = (SbRange){.from = DT_NOBEGIN, .to = DT_NOEND};
		return 1;
	}
	sb_api_enter(&saved);
	/* islands: a window that starts behind the end of all before it begins a new one */
	if (SPI_execute_with_args(
	        "SELECT pg_catalog.min(window_start), pg_catalog.max(window_end) FROM"
	        " (SELECT *, pg_catalog.count(*) FILTER (WHERE gap) OVER (ORDER BY window_start, window_end) AS island FROM"
	        " (SELECT *, window_start OPERATOR(pg_catalog.>) pg_catalog.max(window_end)"
	        " OVER (ORDER BY window_start, window_end ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS gap FROM"
	        " (SELECT DISTINCT window_start, window_end FROM beam.late_event WHERE pipeline OPERATOR(pg_catalog.=) $1) w) g) i GROUP BY island ORDER BY 1",
	        lengthof(types), types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the late events");
	n = SPI_processed;
	*ranges = MemoryContextAlloc(context, sizeof(SbRange) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;

		(*ranges)[i] =
		    (SbRange){.from = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 1, &isnull)),
		              .to = DatumGetTimestampTz(SPI_getbinval(tuple, desc, 2, &isnull))};
	}
	sb_api_leave(&saved);
	MemoryContextSwitchTo(context);
	return n;
}

PG_FUNCTION_INFO_V1(stream_beam_replay_late_events);

/*
 * replay_late_events(pipeline): their windows are computed anew from the table, which has the rows;
 * the runner deletes the events in the same transaction
 */
PGDLLEXPORT Datum
stream_beam_replay_late_events(PG_FUNCTION_ARGS)
{
	SbAsk ask = {.command = {.kind = SB_COMMAND_LATE}};
	SbPipelineRow *row = ask_begin(fcinfo, &ask, "beam.replay_late_events");
	int64 deleted = 0;
	SbRange *ranges;
	int n;

	n = late_ranges(row, &ranges);
	for (int i = 0; i < n; i++)
	{
		ask.command = (SbCommand){.kind = SB_COMMAND_LATE,
		                          .pipeline = row->id,
		                          .from = ranges[i].from,
		                          .to = ranges[i].to};
		ask_run(&ask);
		deleted += ask.command.events;
	}
	ereport(NOTICE, (errmsg("%lld late events of pipeline \"%s\" are in its result now",
	                        (long long) deleted, ask.name)));
	PG_RETURN_VOID();
}
