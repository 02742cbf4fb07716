/*
 * sb_bundle.c: one bundle; see sb_bundle.h.
 *
 * CRASH SAFETY. Results, state, watermarks, positions, late events and dead letters of a bundle
 * commit together, asynchronously: what a crash loses of it, the slot replays, since it is
 * confirmed only up to flushed positions (sb_runner.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/sb_compat.h"
#include "base/sb_error.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_queue.h"
#include "runner/sb_aside.h"
#include "runner/sb_bundle.h"
#include "sink/sb_letters.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/sb_limit.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/* ---- the plain run ---- */

static bool
bundle_should_end(SbIntake *intake, TimestampTz started)
{
	return intake->total >= sb_guc_bundle_rows || sb_intake_is_large(intake) ||
	       TimestampDifferenceExceeds(started, sb_clock_now(), sb_guc_bundle_time_ms);
}

/* Waits, within a source transaction, for more of its frames. */
static void
bundle_wait(void)
{
	sb_worker_check();
	sb_worker_sleep(1000);
}

typedef struct SbBundleRun
{
	SbIntake *intake;
	List *pipelines;
	SbRowSource *row_source; /* NULL: rows come from the ring */
	bool refused;            /* it could not be opened */
	TimestampTz started;
	SbIntakeStop stop;
	bool wrote;
	/* what ended the plain run at a limit: that pipeline is left out of the careful one; 0: none */
	int32 culprit;
	ErrorData *error;
} SbBundleRun;

/*
 * Feeds the pipelines from the ring up to the end of a source transaction at which the bundle may
 * end, or up to a RESET in the midst of one: what it has fed is void then.
 */
static void
bundle_take(SbBundleRun *run)
{
	SbIntake *intake = run->intake;

	for (;;)
	{
		int done = intake->n;
		ListCell *lc;

		run->stop = sb_intake_take(intake);
		if (run->stop == SB_INTAKE_RESET && intake->in_transaction)
			return;
		foreach (lc, run->pipelines)
		{
			sb_pipeline_at_work(lfirst(lc), false);
			sb_pipeline_take(lfirst(lc), intake->messages, done, intake->n);
		}
		sb_pipeline_rests();
		if (intake->n > done)
			SB_KILL_POINT("after_rows");
		if (run->stop == SB_INTAKE_WAIT || run->stop == SB_INTAKE_CHUNK)
		{
			if (sb_intake_is_full(intake))
				sb_intake_spool(intake);
			else if (run->stop == SB_INTAKE_WAIT)
				bundle_wait();
			sb_worker_check();
			continue;
		}
		if (run->stop != SB_INTAKE_COMMIT || bundle_should_end(intake, run->started))
			return;
	}
}

/*
 * The same with rows that do not come through the ring. Sets run->refused where the source cannot
 * be opened now: nothing has been fed then.
 */
static void
bundle_take_rows_of(SbBundleRun *run)
{
	SbRowSource *row_source = run->row_source;
	SbMessage *messages;
	int n;

	sb_pipeline_at_work(row_source->pipeline, true);
	run->refused = !row_source->open(row_source);
	if (run->refused)
		return;
	while ((n = row_source->next(row_source, &messages)) > 0)
	{
		/* it is limited by its size */
		sb_pipeline_at_work(row_source->pipeline, true);
		sb_pipeline_take(row_source->pipeline, messages, 0, n);
		sb_worker_check();
	}
	row_source->close(row_source);
}

/*
 * All that was done is void: half a transaction, whose rest comes again from its beginning, or no
 * row to be had.
 */
static void
bundle_give_up(SbBundleRun *run)
{
	ListCell *lc;

	SPI_finish();
	AbortCurrentTransaction();
	sb_statements_abort();
	foreach (lc, run->pipelines)
		sb_pipeline_rollback(lfirst(lc));
}

/*
 * All pipelines in one transaction. When it returns, that is committed and accepted in memory, or
 * it was given up: no row could be had, or a RESET came in the midst of a source transaction. What
 * an error leaves, the caller rolls back.
 */
static void
bundle_run_plainly(SbBundleRun *run)
{
	SbIntake *intake = run->intake;
	ListCell *lc;

	sb_transaction_begin();
	foreach (lc, run->pipelines)
		sb_pipeline_begin_bundle(lfirst(lc), run->started);
	if (run->row_source)
		bundle_take_rows_of(run);
	else
		bundle_take(run);
	if (run->refused || (run->stop == SB_INTAKE_RESET && intake->in_transaction))
	{
		bundle_give_up(run);
		return;
	}
	foreach (lc, run->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		/* what was fed to it is in its cells, and comes to an end here */
		sb_pipeline_at_work(pipeline, run->row_source && run->row_source->pipeline == pipeline);
		if (sb_input_has_rows(sb_input(pipeline)))
			sb_queue_take(pipeline);
		sb_pipeline_end_bundle(pipeline, intake->position,
		                       run->row_source ? pipeline->progress.commit_time
		                                       : intake->last_commit_time,
		                       sb_intake_has_read_all(intake));
		/* those downstream come later in the list */
		sb_chain_hand_on(pipeline, true);
	}
	sb_pipeline_rests();
	sb_letters_write();
	run->wrote = GetTopTransactionIdIfAny() != InvalidTransactionId;
	SB_KILL_POINT("before_commit");
	sb_transaction_commit();
	SB_KILL_POINT("after_commit");
	foreach (lc, run->pipelines)
		sb_pipeline_accept(lfirst(lc));
}

/* ---- the careful run ---- */

typedef struct SbCareful
{
	SbIntake *intake;
	SbPipeline *pipeline;
	SbRowSource *row_source; /* NULL: it has none */
	bool refused;
	SbMessage *messages;
	int lo, hi;
	int64 dead;
} SbCareful;

static void
careful_range(void *arg)
{
	SbCareful *careful = arg;

	sb_pipeline_take(careful->pipeline, careful->messages, careful->lo, careful->hi);
	sb_pipeline_flush(careful->pipeline);
	sb_pipeline_write_state(careful->pipeline);
	sb_letters_write();
}

/*
 * The row becomes a dead letter, and counts as taken in. More of them than
 * stream_beam.max_dead_letters in one bundle are an error of the whole pipeline.
 */
static void
careful_bury(SbCareful *careful, const SbMessage *message, const ErrorData *error)
{
	SbPipeline *pipeline = careful->pipeline;

	if (++careful->dead > sb_guc_max_dead_letters)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
		     errmsg("more than %d rows of a bundle fail, the last with: %s",
		            sb_guc_max_dead_letters, error->message),
		     errhint(
		         "Mend what makes them fail, or raise stream_beam.max_dead_letters; then call beam.resume_pipeline().")));
	/* the letter locks the pipeline's row */
	sb_pipeline_lock(pipeline);
	sb_pipeline_put_dead(pipeline, message, error);
	sb_letters_write();
	pipeline->progress.rows_in++;
	pipeline->changed = true;
	pipeline->row->progress = pipeline->progress;
}

static void careful_rows(SbCareful *careful, int lo, int hi);

/*
 * The sides of an UPDATE that fails as a whole. A value that cannot be computed was not added when
 * it was new, so each side stands for itself: what remains is the answer over all rows that can be
 * computed.
 */
static void
careful_sides(SbCareful *careful, const SbMessage *update)
{
	SbMessage *messages = careful->messages;
	SbMessage sides[2] = {*update, *update};

	sides[0].change.op = SB_CHANGE_DELETE;
	sides[0].change.new = NULL;
	sides[1].change.op = SB_CHANGE_INSERT;
	sides[1].change.old = NULL;
	careful->messages = sides;
	careful_rows(careful, 0, 1);
	careful_rows(careful, 1, 2);
	careful->messages = messages;
}

/* The two halves of what failed as a whole; a single row is the one that fails. */
static void
careful_halves(SbCareful *careful, int lo, int hi, ErrorData *error)
{
	int middle = lo + (hi - lo) / 2;

	if (!sb_pipeline_may_bear(careful->pipeline, error))
		ReThrowError(error);
	if (hi - lo == 1 && careful->messages[lo].change.op == SB_CHANGE_UPDATE)
	{
		FreeErrorData(error);
		careful_sides(careful, &careful->messages[lo]);
		return;
	}
	if (hi - lo == 1)
	{
		SB_KILL_POINT("before_dead_letter");
		careful_bury(careful, &careful->messages[lo], error);
		FreeErrorData(error);
		return;
	}
	FreeErrorData(error);
	careful_rows(careful, lo, middle);
	careful_rows(careful, middle, hi);
}

/*
 * Applies a range in a subtransaction; what fails is rolled back, in memory too, and tried in
 * halves. When it returns, each row is in the cells or is a dead letter. Errors that are no row's
 * fault go up.
 */
static void
careful_rows(SbCareful *careful, int lo, int hi)
{
	SbPipeline *pipeline = careful->pipeline;
	bool changed = pipeline->changed;
	ErrorData *error;

	if (lo == hi)
		return;
	CHECK_FOR_INTERRUPTS();
	sb_pipeline_at_work(pipeline, careful->row_source != NULL);
	careful->lo = lo;
	careful->hi = hi;
	if (sb_try(careful_range, careful, &error))
	{
		sb_pipeline_accept(pipeline);
		return;
	}
	sb_pipeline_rollback(pipeline);
	pipeline->changed = changed;
	careful_halves(careful, lo, hi, error);
}

static void
careful_rows_of(SbCareful *careful)
{
	SbRowSource *row_source = careful->row_source;
	int nrows;

	careful->refused = !row_source->open(row_source);
	if (careful->refused)
		return;
	while ((nrows = row_source->next(row_source, &careful->messages)) > 0)
		careful_rows(careful, 0, nrows);
	row_source->close(row_source);
}

/* What was queued while it did not run comes before what is new. */
static void
careful_queue(SbCareful *careful)
{
	SbQueueScan scan;
	int nrows;

	sb_queue_begin(&scan, careful->pipeline);
	while ((nrows = sb_queue_next(&scan, &careful->messages)) > 0)
		careful_rows(careful, 0, nrows);
	sb_queue_end(&scan);
	sb_input(careful->pipeline)->queue_pending = false;
	sb_pipeline_accept(careful->pipeline);
}

/* The whole bundle for one pipeline. */
static void
careful_pipeline(void *arg)
{
	SbCareful *careful = arg;
	SbPipeline *pipeline = careful->pipeline;
	SbIntake *intake = careful->intake;
	int part = 0;
	int nrows;

	if (careful->row_source)
		careful_rows_of(careful);
	else if (sb_input(pipeline)->upstream)
	{
		if (sb_input(pipeline)->queue_pending)
			careful_queue(careful);
		sb_chain_messages(sb_input(pipeline)->upstream, &careful->messages, &nrows);
		careful_rows(careful, 0, nrows);
	}
	else
	{
		while (sb_intake_replay(intake, &part, &careful->messages, &nrows))
			careful_rows(careful, 0, nrows);
	}
	sb_pipeline_end_bundle(pipeline, intake->position,
	                       careful->row_source ? pipeline->progress.commit_time
	                                           : intake->last_commit_time,
	                       sb_intake_has_read_all(intake));
	sb_letters_write();
}

/* What failed in the middle of a source transaction needs its rest. */
static bool
careful_take_rest(SbIntake *intake, SbIntakeStop *stop)
{
	while (intake->in_transaction)
	{
		*stop = sb_intake_take(intake);
		if (*stop == SB_INTAKE_RESET)
			return false;
		if (sb_intake_is_full(intake) && intake->in_transaction)
			sb_intake_spool(intake);
		else if (*stop == SB_INTAKE_WAIT)
			bundle_wait();
		sb_worker_check();
	}
	return true;
}

/*
 * Trying again would not help: the pipeline stands still until a user resumes it. Where that cannot
 * be written now, it is put aside instead.
 */
static void
careful_set_failed(SbPipeline *pipeline, const ErrorData *error, XLogRecPtr position)
{
	/*
	 * a user's command came between two looks at the catalog: the worker starts anew, and opens it
	 * as it is now
	 */
	if (sb_pipeline_result_altered(pipeline))
		ereport(ERROR,
		        (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
		         errmsg("the result table of pipeline \"%s\" was altered meanwhile: the bundle is run again",
		                pipeline->row->name)));
	if (!sb_aside_fail(pipeline->row, error, position))
		return;
	ereport(WARNING,
	        (errcode(error->sqlerrcode),
	         errmsg("pipeline \"%s\" has failed: %s", pipeline->row->name, error->message),
	         errdetail("Its position stays at %X/%X.", LSN_FORMAT_ARGS(pipeline->persisted)),
	         errhint("See beam.pipelines; after mending the cause call beam.resume_pipeline().")));
}

/*
 * What may pass, or is so since a user's command came between two looks at the catalog, is tried
 * again later; else, or if it has been too often, the pipeline is failed.
 */
static void
careful_leave_out(SbPipeline *pipeline, ErrorData *error, const SbIntake *intake)
{
	if ((sb_error_is_transient(error->sqlerrcode) || sb_intake_is_stale(intake)) &&
	    sb_aside_put(pipeline->row, error, intake->position))
		return;
	careful_set_failed(pipeline, error, intake->position);
}

/* False: half a transaction was all there is, and a RESET comes. */
static bool
bundle_run_carefully(SbBundleRun *run, bool *failed)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "stream_beam careful bundle",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	ListCell *lc;

	if (!careful_take_rest(run->intake, &run->stop))
		return false;
	sb_transaction_begin();
	old = MemoryContextSwitchTo(context);
	foreach (lc, run->pipelines)
		sb_chain_hold(lfirst(lc));
	foreach (lc, run->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		SbCareful careful = {.intake = run->intake,
		                     .pipeline = pipeline,
		                     .row_source = run->row_source && run->row_source->pipeline == pipeline
		                                       ? run->row_source
		                                       : NULL};
		ErrorData *error;

		sb_pipeline_begin_bundle(pipeline, run->started);
		pipeline->guard = Max(pipeline->guard, 1);
		sb_limit_again(&pipeline->limit);
		sb_pipeline_at_work(pipeline, careful.row_source != NULL);
		if (pipeline->row->id == run->culprit)
			error = run->error;
		else if (sb_try(careful_pipeline, &careful, &error))
		{
			sb_pipeline_accept(pipeline);
			run->refused = run->refused || careful.refused;
			continue;
		}
		sb_limit_waited(error);
		sb_pipeline_rests();
		if (sb_error_is_of_server(error))
			ReThrowError(error);
		if (careful.row_source && careful.row_source->asked_for &&
		    sb_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
		/* it is closed at the reload that this asks for; its memory is void */
		careful_leave_out(pipeline, error, run->intake);
		sb_chain_forget(pipeline);
		if (sb_input(pipeline)->upstream)
			sb_chain_downstream_failed(sb_input(pipeline)->upstream, pipeline->row->id);
		*failed = true;
	}
	sb_pipeline_rests();
	foreach (lc, run->pipelines)
		sb_chain_finish_held(lfirst(lc));
	run->wrote = true;
	MemoryContextSwitchTo(old);
	SB_KILL_POINT("before_careful_commit");
	sb_transaction_commit();
	SB_KILL_POINT("after_careful_commit");
	MemoryContextDelete(context);
	return true;
}

/*
 * True: committed. False: rolled back, to be run again carefully; an error that may pass is raised.
 */
static bool
bundle_try_plainly(SbBundleRun *run)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;

	PG_TRY();
	{
		bundle_run_plainly(run);
		done = true;
	}
	PG_CATCH();
	{
		ErrorData *error;
		ListCell *lc;

		bool limited;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		limited = sb_limit_is_cause(error);
		/* the whole is tried again later */
		if (sb_error_is_of_server(error) || (sb_error_is_transient(error->sqlerrcode) && !limited &&
		                                     sb_work->kind == SB_WORK_OTHER))
			PG_RE_THROW();
		FlushErrorState();
		if (limited && sb_work->kind != SB_WORK_OTHER)
		{
			run->culprit = sb_work->what;
			run->error = error;
		}
		sb_limit_waited(error);
		sb_pipeline_rests();
		AbortCurrentTransaction();
		sb_statements_abort();
		foreach (lc, run->pipelines)
			sb_pipeline_rollback(lfirst(lc));
		ereport(sb_error_is_transient(error->sqlerrcode) ? LOG : DEBUG1,
		        (errmsg_internal("stream_beam: a bundle is run again, each pipeline by itself: %s",
		                         error->message)));
		if (run->culprit == 0)
			FreeErrorData(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return done;
}

static void
bundle_error_context(void *arg)
{
	SbBundleRun *run = arg;
	ListCell *lc;

	foreach (lc, run->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (!XLogRecPtrIsInvalid(pipeline->current))
			errcontext("pipeline \"%s\", source position %X/%X", pipeline->row->name,
			           LSN_FORMAT_ARGS(pipeline->current));
	}
}

/*
 * One bundle of either kind. When it returns, the bundle is over: its part of the ring is given
 * back. An error ends the runner.
 */
static SbBundleEnd
bundle_run(SbBundleRun *run, XLogRecPtr *commit_lsn)
{
	SbIntake *intake = run->intake;
	ErrorContextCallback context = {.callback = bundle_error_context,
	                                .arg = run,
	                                .previous = error_context_stack};
	bool failed = false;
	bool complete = true;
	bool begun;

	*commit_lsn = InvalidXLogRecPtr;
	error_context_stack = &context;
	sb_limit_begin_whole();
	begun = sb_limit_begin();
	if (!bundle_try_plainly(run))
		complete = bundle_run_carefully(run, &failed);
	sb_limit_end(begun);
	foreach_ptr(SbPipeline, pipeline, run->pipelines)
	{
		pipeline->slow = sb_limit_settle(&pipeline->limit, pipeline->row->id);
	}
	error_context_stack = context.previous;
	if (run->error)
		FreeErrorData(run->error);
	if (run->wrote)
		*commit_lsn = XactLastCommitEnd;
	complete = complete && !(run->stop == SB_INTAKE_RESET && intake->in_transaction);
	if (complete)
		pgstat_report_stat(false);
	SB_KILL_POINT("before_release");
	sb_intake_release(intake);
	SB_KILL_POINT("after_release");
	if (!complete || run->stop == SB_INTAKE_RESET)
		return SB_BUNDLE_RESET;
	if (failed)
		return SB_BUNDLE_FAILED;
	if (run->refused)
		return SB_BUNDLE_NOTHING;
	return run->stop == SB_INTAKE_RELOAD ? SB_BUNDLE_RELOAD : SB_BUNDLE_DONE;
}

SbBundleEnd
sb_bundle_run(SbIntake *intake, List *pipelines, XLogRecPtr *commit_lsn)
{
	SbBundleRun run = {.intake = intake, .pipelines = pipelines, .started = sb_clock_now()};

	return bundle_run(&run, commit_lsn);
}

SbBundleEnd
sb_bundle_run_rows(SbIntake *intake, List *pipelines, SbRowSource *row_source,
                   XLogRecPtr *commit_lsn)
{
	SbBundleRun run = {.intake = intake,
	                   .pipelines = pipelines,
	                   .row_source = row_source,
	                   .stop = SB_INTAKE_EMPTY,
	                   .started = sb_clock_now()};

	Assert(intake->n == 0 && !intake->in_transaction);
	return bundle_run(&run, commit_lsn);
}
