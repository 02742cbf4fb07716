/*
 * sb_command.c: commands; see sb_command.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/sb_error.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/pg_type.h"
#include "command/sb_command.h"
#include "executor/spi.h"
#include "history/sb_backfill.h"
#include "history/sb_history.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"
#include "worker/sb_worker.h"

/*
 * A step is to take between these: other pipelines wait for it, and each costs a turn of its own.
 */
#define SB_STEP_SHORT_MS 100
#define SB_STEP_LONG_MS 500
/*
 * A step that could not be taken (the source is locked, no snapshot can be had) is tried again
 * after this.
 */
#define SB_COMMAND_RETRY_MS 100
/*
 * While a version is built for a command it is looked so often whether somebody waits for it still.
 */
#define SB_COMMAND_WATCH_MS 1000

/* ---- those that are under way, and those that nobody waits for ---- */

typedef struct SbCommands
{
	List *waiting; /* of SbCommand, by id */
	List *building;
	List *last; /* pipelines of which a backfill has ended */
} SbCommands;

static bool
command_is(const SbCommand *command, const char *state)
{
	return strcmp(command->state, state) == 0;
}

static bool
command_is_backfill(const SbCommand *command)
{
	return strcmp(command->kind, SB_COMMAND_REPLAY) != 0;
}

static void
command_drop_version(void *arg)
{
	SbPipelineRow *version = sb_backfill_version(((SbCommand *) arg)->pipeline);

	if (version)
		sb_backfill_drop_version(version);
}

/* False: somebody has it locked just now. */
static bool
command_give_up_version(SbCommand *command)
{
	ErrorData *error;

	if (sb_try(command_drop_version, command, &error))
		return true;
	if (!sb_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	return false;
}

/* Nobody waits for it any more. */
static void
command_tidy(SbCommands *commands, SbCommand *command)
{
	bool stays =
	    command_is_backfill(command) && !list_member_int(commands->last, command->pipeline);

	if (command_is(command, SB_COMMAND_BUILDING) && !command_give_up_version(command))
	{
		commands->building = lcons(command, commands->building);
		return;
	}
	if (!stays)
	{
		sb_command_delete(command->id);
		return;
	}
	if (command_is(command, SB_COMMAND_WAITING) || command_is(command, SB_COMMAND_BUILDING))
	{
		command->state = SB_COMMAND_CANCELLED;
		sb_command_put(command);
	}
	commands->last = lappend_int(commands->last, command->pipeline);
}

/* Reads them all; rows that are of no use to anyone are deleted. In the context of the steps. */
static SbCommands
command_read_all(void)
{
	SbCommands commands = {0};
	List *all = NIL;
	ListCell *lc;

	sb_sql_run("SELECT " SB_COMMAND_COLUMNS " FROM beam.command ORDER BY id DESC", 0, NULL, NULL,
	           NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		SbCommand *command = palloc(sizeof(SbCommand));

		*command = sb_command_of_tuple(SPI_tuptable->vals[i]);
		all = lappend(all, command);
	}
	SPI_freetuptable(SPI_tuptable);
	foreach (lc, all)
	{
		SbCommand *command = lfirst(lc);

		if (sb_command_is_left(command->id))
			command_tidy(&commands, command);
		else if (command_is(command, SB_COMMAND_WAITING))
			commands.waiting = lcons(command, commands.waiting);
		else if (command_is(command, SB_COMMAND_BUILDING))
			commands.building = lcons(command, commands.building);
	}
	return commands;
}

/*
 * The version that is built for it, or the one of those that are to take their places with it that
 * cannot go on; NULL: it has been given up.
 */
static SbPipelineRow *
command_find_failed(const SbCommand *command)
{
	SbPipelineRow *version = sb_backfill_version(command->pipeline);
	ListCell *lc;

	if (version == NULL)
		return NULL;
	foreach (lc, sb_version_tree(sb_catalog_pipelines(), version))
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->state == SB_PIPELINE_FAILED || row->state == SB_PIPELINE_NEEDS_RESYNC)
			return row;
	}
	return version;
}

/* Has the version that is built for it come to grief? */
static void
command_watch(SbCommand *command)
{
	SbPipelineRow *version = command_find_failed(command);
	ErrorData error = {.sqlerrcode = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE};

	if (version && version->state != SB_PIPELINE_FAILED &&
	    version->state != SB_PIPELINE_NEEDS_RESYNC)
		return;
	if (version == NULL)
	{
		error.message = "the version that was built for the backfill has been given up";
		error.hint = "Call beam.backfill() again.";
	}
	else
	{
		const char *code = version->error_code;

		if (code)
			error.sqlerrcode = MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4]);
		error.message = version->error_message;
	}
	if (command_give_up_version(command))
		sb_command_put_error(command, &error);
}

/* ---- steps ---- */

/* The steps that this process takes. */
static struct
{
	uint32 seen;           /* db->commands, when the table was last read */
	bool waiting;          /* it had some that wait, or has not been read yet */
	TimestampTz retry_at;  /* not before; 0: at once */
	XLogRecPtr tried_at;   /* the stream's position then: when it has moved on, a cut may be over */
	int64 current;         /* the backfill that steps are taken of ... */
	int64 step_length;     /* ... and how far one goes */
	MemoryContext context; /* of a call of sb_commands_step() */
} steps = {.waiting = true};

TimestampTz
sb_commands_next(SbDatabase *db, XLogRecPtr position)
{
	if (pg_atomic_read_u32(&db->commands) != steps.seen ||
	    (steps.waiting && position != steps.tried_at))
		return 0;
	return steps.retry_at;
}

/* Is a version being built for a backfill of the same pipeline? */
static bool
command_is_behind(const SbCommands *commands, const SbCommand *command)
{
	ListCell *lc;

	foreach (lc, commands->building)
	{
		if (((SbCommand *) lfirst(lc))->pipeline == command->pipeline)
			return command_is_backfill(command);
	}
	return false;
}

/* The first that can be gone on with now. */
static SbCommand *
command_choose(const SbCommands *commands, List *pipelines, XLogRecPtr position)
{
	ListCell *lc;

	foreach (lc, commands->waiting)
	{
		SbCommand *command = lfirst(lc);
		SbPipeline *pipeline = sb_pipeline_find(pipelines, command->pipeline);

		if (pipeline && (sb_catalog_reads_wal(pipeline->row) || sb_input(pipeline)->upstream) &&
		    !command_is_behind(commands, command) &&
		    sb_backfill_may_step(pipeline, Max(position, pipeline->progress.position)))
			return command;
	}
	return NULL;
}

typedef struct SbCommandRun
{
	SbCommand *command;
	SbPipeline *pipeline;
	const SbRowRunner *runner;
	List *pipelines;
	SbDatabase *db;
	XLogRecPtr *commit;
} SbCommandRun;

static void
backfill_check(const SbPipeline *pipeline)
{
	if (sb_history_is_read(pipeline))
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("pipeline \"%s\" is still taking in the rows that its table had",
		                pipeline->row->name),
		         errhint("CALL beam.wait_for() first; beam.stat_backfill shows how far it is.")));
	if (pipeline->strategy.accumulation == SB_DISCARDING && pipeline->chain)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("windows of the discarding pipeline \"%s\" cannot be computed anew: it has downstream pipelines",
		                pipeline->row->name),
		         errdetail(
		             "These take rows that are added, and could not take back those that go."),
		         errhint(
		             "Drop these with beam.drop_pipeline(), and create them again afterwards.")));
}

/* Finds out which windows it is about, or hands it over to a version; in a subtransaction. */
static void
backfill_begin(void *arg)
{
	SbCommandRun *run = arg;
	SbCommand *command = run->command;
	SbWindowRange range;

	backfill_check(run->pipeline);
	if (sb_backfill_wants_version(run->pipeline))
	{
		sb_backfill_begin_version(run->pipeline);
		command->state = SB_COMMAND_BUILDING;
	}
	/* all pipelines would wait with this one */
	else if (!ConditionalLockRelationOid(run->pipeline->plan->source, AccessShareLock))
		return;
	else if (sb_backfill_bounds(run->pipeline, command->from, command->to, &range))
	{
		command->lo = range.lo;
		command->hi = range.hi;
	}
	else
	{
		command->lo = command->hi = SB_TIME_MIN;
		command->state = SB_COMMAND_DONE;
	}
	sb_command_put(command);
}

/* True: steps can be taken. */
static bool
backfill_try_begin(SbCommandRun *run)
{
	ErrorData *error;
	bool begun;

	sb_transaction_begin();
	MemoryContextSwitchTo(steps.context);
	begun = sb_try(backfill_begin, run, &error);
	if (!begun && error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		sb_command_put_error(run->command, error);
	sb_transaction_commit();
	MemoryContextSwitchTo(steps.context);
	return begun && run->command->lo != DT_NOEND && command_is(run->command, SB_COMMAND_WAITING);
}

/*
 * The step's snapshot saw all that the stream has brought so far, so the windows have the rows of
 * these.
 */
static int64
backfill_delete_late(const SbBackfillStep *step)
{
	Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {Int32GetDatum(step->pipeline->row->id), TimestampTzGetDatum(step->range.from),
	                  TimestampTzGetDatum(step->range.lo), TimestampTzGetDatum(step->range.hi)};

	return sb_sql_run(
	    "DELETE FROM beam.late_event WHERE pipeline OPERATOR(pg_catalog.=) $1 AND window_end OPERATOR(pg_catalog.>) $2"
	    " AND window_start OPERATOR(pg_catalog.>=) $3 AND window_start OPERATOR(pg_catalog.<) $4",
	    lengthof(types), types, values, NULL, SPI_OK_DELETE);
}

/* A step of a backfill, and the command when it began: a bundle that fails is run again. */
typedef struct SbBackfillArg
{
	SbCommand *command;
	SbCommand before;
} SbBackfillArg;

static void
backfill_done(SbBackfillStep *step)
{
	SbBackfillArg *arg = step->arg;
	SbCommand *command = arg->command;

	*command = arg->before;
	if (strcmp(command->kind, SB_COMMAND_LATE) == 0)
		command->events += backfill_delete_late(step);
	command->lo = step->range.hi;
	command->rows += step->rows;
	if (command->lo >= command->hi)
		command->state = SB_COMMAND_DONE;
	sb_command_put(command);
}

static void
replay_done(SbCommand *command)
{
	if (command->last_id >= command->max_id)
		command->state = SB_COMMAND_DONE;
	sb_command_put(command);
}

static SbBundleEnd
command_run_rows(SbCommandRun *run, SbRowSource *row_source)
{
	return run->runner->run(row_source, run->commit);
}

/* The next part of the range: so much that it takes neither too long nor too short a time. */
static SbBundleEnd
command_backfill(SbCommandRun *run)
{
	SbCommand *command = run->command;
	SbBackfillArg arg = {.command = command};
	SbBackfillStep step = {.pipeline = run->pipeline, .done = backfill_done, .arg = &arg};
	TimestampTz started = sb_clock_now();
	SbBundleEnd end;
	SbRowSource row_source;
	int64 took;

	if (command->lo == DT_NOEND && !backfill_try_begin(run))
		return SB_BUNDLE_NOTHING;
	step.range = (SbWindowRange){.from = command->from, .lo = command->lo, .hi = command->hi};
	if (command->lo == SB_TIME_MIN)
		step.range = SB_ALL_WINDOWS;
	else
	{
		if (steps.current != command->id)
			steps.step_length = sb_backfill_window_size(run->pipeline, command->lo);
		steps.current = command->id;
		if (command->hi - command->lo > steps.step_length)
			step.range.hi = command->lo + steps.step_length;
	}
	arg.before = *command;
	row_source = sb_backfill_rows(&step);
	end = command_run_rows(run, &row_source);
	sb_backfill_end(&step, end == SB_BUNDLE_DONE || end == SB_BUNDLE_RELOAD);
	took = (sb_clock_now() - started) / 1000;
	if (end != SB_BUNDLE_NOTHING && took < SB_STEP_SHORT_MS && steps.step_length < PG_INT64_MAX / 4)
		steps.step_length *= 2;
	else if (took > SB_STEP_LONG_MS)
		steps.step_length = Max(steps.step_length / 2, USECS_PER_SEC);
	return end;
}

static SbBundleEnd
command_take_step(SbCommandRun *run)
{
	SbBundleEnd end;
	SbRowSource row_source;

	if (command_is_backfill(run->command))
		return command_backfill(run);
	row_source = sb_replay_rows(run->pipeline, run->command, replay_done);
	end = command_run_rows(run, &row_source);
	SB_KILL_POINT("after_replay_commit");
	return end;
}

/*
 * It is done again, as is a bundle, where the catalog has changed since the pipelines were opened,
 * or it has given way to somebody; a function of the user's that raises such a code is another
 * thing.
 */
static bool
command_is_done_again(const SbCommandRun *run, const ErrorData *error)
{
	return run->runner->is_stale() ||
	       (error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED && error->funcname &&
	        strcmp(error->funcname, "DeadLockReport") == 0);
}

/*
 * What cannot be done is the command's error: all of it is undone, and who asked is told. What the
 * pipelines have in memory is of no use then: a careful run has accepted parts of it that are
 * now rolled back. The next runner reads what is committed.
 */
static SbBundleEnd
command_try_step(SbCommandRun *run)
{
	volatile SbBundleEnd end = SB_BUNDLE_NOTHING;

	PG_TRY();
	{
		end = command_take_step(run);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(steps.context);
		error = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		sb_statements_abort();
		if (!command_is_done_again(run, error))
		{
			sb_transaction_begin();
			sb_command_put_error(run->command, error);
			sb_transaction_commit();
		}
		ereport(LOG, (errmsg("stream_beam: the runner starts anew after a %s that failed: %s",
		                     run->command->kind, error->message)));
		proc_exit(1);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(steps.context);
	return end;
}

SbBundleEnd
sb_commands_step(SbDatabase *db, const SbRowRunner *runner, List *pipelines, XLogRecPtr *commit)
{
	MemoryContext old;
	SbCommands commands;
	ListCell *lc;
	SbCommandRun run = {.db = db, .runner = runner, .pipelines = pipelines, .commit = commit};
	SbBundleEnd end = SB_BUNDLE_NOTHING;

	*commit = InvalidXLogRecPtr;
	if (steps.context == NULL)
		steps.context =
		    AllocSetContextCreate(TopMemoryContext, "stream_beam command", ALLOCSET_DEFAULT_SIZES);
	MemoryContextReset(steps.context);
	/* first: who asks after this is seen at the next turn */
	steps.seen = pg_atomic_read_u32(&db->commands);
	steps.tried_at = runner->position;
	pg_read_barrier();
	steps.retry_at = DT_NOEND;
	/* what is current within a transaction goes with it */
	old = MemoryContextSwitchTo(steps.context);
	sb_transaction_begin();
	MemoryContextSwitchTo(steps.context);
	commands = command_read_all();
	foreach (lc, commands.building)
		command_watch(lfirst(lc));
	if (commands.building)
		steps.retry_at = TimestampTzPlusMilliseconds(sb_clock_now(), SB_COMMAND_WATCH_MS);
	steps.waiting = commands.waiting != NIL;
	run.command = command_choose(&commands, pipelines, runner->position);
	sb_transaction_commit();
	MemoryContextSwitchTo(steps.context);
	if (run.command)
	{
		run.pipeline = sb_pipeline_find(pipelines, run.command->pipeline);
		end = command_try_step(&run);
		steps.retry_at = end == SB_BUNDLE_NOTHING
		                     ? TimestampTzPlusMilliseconds(sb_clock_now(), SB_COMMAND_RETRY_MS)
		                     : 0;
	}
	MemoryContextSwitchTo(old);
	ConditionVariableBroadcast(&db->changed);
	return end;
}
