/*
 * sb_runner.c: the process that computes: keeps the pipelines of its database, runs their bundles,
 * and says what the slot may forget.
 *
 * STATE. The list of open pipelines, as of a generation of the catalog (bumped by each committed
 * change of pipelines). A pipeline is attached when the frames that come are complete for it: its
 * position is not below the start of the reader's session. Where it is (a resumed one, or any after
 * this process started), a rewind is asked for.
 *
 * CONFIRMATION. After a bundle the least position of all pipelines, running or not, is what the
 * slot may forget, once the bundle's own commit is flushed: the bundle commits asynchronously.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "base/sb_compat.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "command/sb_command.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "history/sb_history.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "pipeline/sb_queue.h"
#include "pipeline/sb_step.h"
#include "runner/sb_aside.h"
#include "runner/sb_bundle.h"
#include "runner/sb_housekeeping.h"
#include "runner/sb_opening.h"
#include "runner/sb_runner_private.h"
#include "runner/sb_suspects.h"
#include "runner/sb_void.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"
#include "worker/sb_lane.h"
#include "worker/sb_limit.h"
#include "worker/sb_postponed.h"
#include "worker/sb_slot.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/* A position is written without any rows when so much WAL could be given back. */
#define SB_PERSIST_BYTES (16 * 1024 * 1024)
/* The same while the slot retains that much: at most so often. */
#define SB_PERSIST_INTERVAL_MS 10000
/* After a bundle its flush is awaited so long, to confirm it without a further wake-up. */
#define SB_FLUSH_RETRY_MS 500
#define SB_FLUSH_RETRIES 6
/* One that stays in the second lane, with its queue taken, looks again after so long. */
#define SB_DRAIN_REST_MS 100
/* A version that could not take its place tries again after so long. */
#define SB_SWAP_RETRY_MS 500

SbRunner sb_the_runner;
static SbRunner *const runner = &sb_the_runner;

/* ---- confirmation ---- */

XLogRecPtr
sb_runner_least_open(void)
{
	XLogRecPtr least = PG_UINT64_MAX;
	ListCell *lc;

	/* a downstream pipeline needs nothing of the WAL */
	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (sb_catalog_reads_wal(pipeline->row))
			least = Min(least, pipeline->persisted);
	}
	return least;
}

XLogRecPtr
sb_runner_least_position(void)
{
	XLogRecPtr least = sb_runner_least_open();
	XLogRecPtr of_laggards =
	    runner->lane_kind == SB_LANE_MAIN ? sb_lane_least(runner->db) : InvalidXLogRecPtr;

	if (runner->detached_least != InvalidXLogRecPtr)
		least = Min(least, runner->detached_least);
	if (of_laggards != InvalidXLogRecPtr)
		least = Min(least, of_laggards);
	return least == PG_UINT64_MAX ? runner->intake->position : least;
}

/* What this lane needs no longer, the slot need not retain for it. */
static void
runner_advance_laggards(XLogRecPtr position)
{
	ListCell *lc;

	foreach (lc, runner->pipelines)
		sb_lane_advance(runner->db, ((SbPipeline *) lfirst(lc))->row->id, position);
}

static void
runner_confirm(XLogRecPtr position)
{
	/* under the lock that a creation takes to fix its start */
	LWLockAcquire(sb_registry->lock, LW_SHARED);
	if (runner->db->pins > 0)
		position = Min(position, runner->db->pin_lsn);
	/* one has been made that is not on the list yet: it is not asked */
	if (sb_intake_is_stale(runner->intake))
		position = InvalidXLogRecPtr;
	if (position > pg_atomic_read_u64(&runner->lane->confirmable))
		pg_atomic_write_u64(&runner->lane->confirmable, position);
	LWLockRelease(sb_registry->lock);
	if (runner->lane_kind == SB_LANE_LATE && position != InvalidXLogRecPtr)
		runner_advance_laggards(position);
}

static void
runner_try_confirm(void)
{
	if (runner->pending_position == InvalidXLogRecPtr)
		return;
	if (runner->pending_commit > GetFlushRecPtr(NULL))
		return;
	/* one that is promoted goes on from what it has of the slot and of the catalog */
	if (!sb_standbys_have(runner->pending_commit))
		return;
	SB_KILL_POINT("before_confirmable");
	runner_confirm(runner->pending_position);
	SB_KILL_POINT("after_confirmable");
	runner->pending_position = InvalidXLogRecPtr;
}

void
sb_runner_publish_applied(void)
{
	XLogRecPtr applied = runner->intake->position;
	ListCell *lc;

	foreach (lc, runner->pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		if (sb_input_has_rows(sb_input(pipeline)))
			applied = InvalidXLogRecPtr;
	}
	pg_atomic_write_u64(&runner->lane->applied, applied);
}

/* Once the commit is flushed, the slot may forget what all pipelines have gone past. */
static void
runner_after_bundle(XLogRecPtr commit)
{
	runner_try_confirm();
	if (runner->pending_position == InvalidXLogRecPtr)
	{
		XLogRecPtr least = sb_runner_least_position();

		if (least > pg_atomic_read_u64(&runner->lane->confirmable))
		{
			runner->pending_position = least;
			runner->pending_commit = XactLastCommitEnd;
			runner->flush_retries = SB_FLUSH_RETRIES;
			runner_try_confirm();
		}
	}
	if (commit != InvalidXLogRecPtr)
		sb_work_goes_well();
	sb_runner_publish_applied();
	ConditionVariableBroadcast(&runner->db->changed);
}

/* The extension is gone, or is another one: the launcher decides what comes next. */
void
sb_runner_leave(void)
{
	sb_database_event(runner->db, SB_EVENT_MISSING);
	proc_exit(0);
}

/* ---- versions ---- */

/* All versions of the pipelines are to be opened anew, from what the exchange has made of them. */
static void
runner_close_versions(List *names)
{
	List *remaining = NIL;
	ListCell *lc, *lc2;

	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		bool close = false;

		foreach (lc2, names)
			close = close || strcmp(pipeline->row->name, lfirst(lc2)) == 0;
		if (!close)
		{
			remaining = lappend(remaining, pipeline);
			continue;
		}
		runner->exchanged = lappend_int(runner->exchanged, pipeline->row->id);
		sb_pipeline_close(pipeline);
	}
	list_free(runner->pipelines);
	runner->pipelines = remaining;
}

/* Versions that are as far take the current ones' places, or try so again later. */
static void
runner_swap(List *exchanges)
{
	List *names = NIL;
	ListCell *lc;

	foreach (lc, exchanges)
		names = lappend(names, pstrdup(((SbExchange *) lfirst(lc))->building->row->name));
	runner->next_swap = TimestampTzPlusMilliseconds(sb_clock_now(), SB_SWAP_RETRY_MS);
	runner->tried_swap = ((SbExchange *) linitial(exchanges))->building->row->id;
	if (sb_version_try_swap(exchanges))
	{
		SB_KILL_POINT("after_swap");
		runner_close_versions(names);
		sb_runner_reload();
		ConditionVariableBroadcast(&runner->db->changed);
	}
	list_free_deep(names);
	list_free_deep(exchanges);
}

/* ---- the loop ---- */

/*
 * What the slot retains moves on when it is confirmed beyond a record that told of no older
 * transaction. Positions that hardly move would make it wait for that, with all the WAL of a
 * transaction that has long ended.
 */
static bool
runner_slot_waits(void)
{
	XLogRecPtr restart;

	if (!TimestampDifferenceExceeds(runner->persisted_at, GetCurrentTimestamp(),
	                                SB_PERSIST_INTERVAL_MS))
		return false;
	restart = sb_slot_restart_lsn(runner->db->dbid);
	return restart != InvalidXLogRecPtr && runner->intake->position > restart &&
	       runner->intake->position - restart > SB_PERSIST_BYTES;
}

static bool
runner_persist_due(void)
{
	bool waits = runner_slot_waits();
	ListCell *lc;

	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (!sb_input(pipeline)->draining && runner->intake->position > pipeline->persisted &&
		    (waits || runner->intake->position - pipeline->persisted > SB_PERSIST_BYTES))
			return true;
	}
	return false;
}

static void
runner_persist_one(void *arg)
{
	const SbProgress *progress = arg;

	sb_catalog_put_progress(progress, progress->bundles);
}

/* Positions that have moved without rows are written now and then, so that the slot can move on. */
void
sb_runner_persist_positions(void)
{
	ListCell *lc;

	sb_transaction_begin();
	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		ErrorData *error;

		if (sb_input(pipeline)->draining)
			continue;
		pipeline->progress.position = Max(pipeline->progress.position, runner->intake->position);
		pipeline->changed = true;
		if (sb_postponed_try(runner_persist_one, &pipeline->progress, &error))
			continue;
		/* it is being dropped, or has just been, which is seen at the next reading */
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
		    sb_catalog_row_of_id(sb_catalog_pipelines(), pipeline->row->id) != NULL)
			ReThrowError(error);
		pipeline->progress = pipeline->row->progress;
		pipeline->changed = false;
	}
	sb_transaction_commit();
	foreach (lc, runner->pipelines)
		sb_pipeline_accept(lfirst(lc));
	runner->persisted_at = GetCurrentTimestamp();
}

static TimestampTz
runner_next_wake(void)
{
	TimestampTz wake = DT_NOEND;
	bool awaited = pg_atomic_read_u32(&runner->db->watermark_waiters) > 0;
	bool has_read_all = sb_intake_has_read_all(runner->intake);
	ListCell *lc;

	foreach (lc, runner->pipelines)
		wake = Min(wake, sb_pipeline_next_wake(lfirst(lc), has_read_all, awaited));
	return wake;
}

/* Between bundles, cells beyond stream_beam.state_memory leave, of each pipeline a share. */
static void
runner_evict(void)
{
	Size budget = (Size) sb_guc_state_memory_kb * 1024;
	Size total = 0;
	ListCell *lc;

	foreach (lc, runner->pipelines)
		total += sb_step_bytes(lfirst(lc));
	if (total <= budget)
		return;
	sb_transaction_begin();
	/* each gives back its share */
	foreach (lc, runner->pipelines)
	{
		sb_step_evict(lfirst(lc), 0.75 * budget / total);
	}
	sb_transaction_commit();
}

/* Those that others have waited for go on in the second lane. True: there are any. */
static bool
runner_find_slow(void)
{
	ListCell *lc;

	if (runner->lane_kind == SB_LANE_LATE || list_length(runner->pipelines) == 1)
		return false;
	foreach (lc, runner->pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		if (pipeline->slow && !sb_input(pipeline)->draining)
			runner->slow = list_append_unique_int(runner->slow, pipeline->row->id);
	}
	return runner->slow != NIL;
}

/* What comes after a bundle of either kind. */
static void
runner_end_bundle(SbBundleEnd end, XLogRecPtr commit)
{
	/* of a pipeline that has failed the memory is void until the reload, and its position stays */
	if (end != SB_BUNDLE_FAILED)
		runner_evict();
	if (end == SB_BUNDLE_RESET)
	{
		/* the reader has started anew by itself: what it sends now begins at the slot's position */
		runner->awaiting_reset = true;
		return;
	}
	if (end != SB_BUNDLE_FAILED && runner_persist_due())
		sb_runner_persist_positions();
	if (end != SB_BUNDLE_FAILED)
		sb_aside_look(runner->pipelines);
	runner_after_bundle(commit);
	/* there may be letters that are too many */
	sb_housekeeping_ask();
	if (end == SB_BUNDLE_FAILED || runner_find_slow())
		pg_atomic_fetch_add_u32(&runner->db->generation, 1);
}

static bool
runner_is_stale(void)
{
	return sb_intake_is_stale(runner->intake);
}

static SbBundleEnd
runner_run_rows(SbRowSource *row_source, XLogRecPtr *commit)
{
	return sb_bundle_run_rows(runner->intake, runner->pipelines, row_source, commit);
}

/* A step of what a user asks for. False: there is none to take now. */
static bool
runner_command(void)
{
	SbRowRunner row_runner = {.position = runner->intake->position,
	                          .is_stale = runner_is_stale,
	                          .run = runner_run_rows};
	XLogRecPtr commit;
	SbBundleEnd end;

	end = sb_commands_step(runner->db, &row_runner, runner->pipelines, &commit);
	/* it may have begun a version, or given one up */
	if (end == SB_BUNDLE_NOTHING)
		return sb_intake_is_stale(runner->intake);
	runner_end_bundle(end, commit);
	return true;
}

static void
runner_bundle(void)
{
	XLogRecPtr commit;
	SbBundleEnd end = sb_bundle_run(runner->intake, runner->pipelines, &commit);

	runner_end_bundle(end, commit);
}

static TimestampTz
runner_chunk_due(const SbPipeline *pipeline)
{
	if (sb_input(pipeline)->draining)
		return sb_input(pipeline)->drain_at;
	return runner->awaiting_reset ? DT_NOEND : sb_history_next(pipeline, runner->intake->position);
}

/*
 * The pipeline whose turn it is to have a chunk of its history read, or of its queue, or will be at
 * *at; NULL: none.
 */
static SbPipeline *
runner_next_chunk(TimestampTz now, TimestampTz *at)
{
	SbPipeline *first = NULL;
	SbPipeline *next = NULL;
	ListCell *lc;

	*at = DT_NOEND;
	/* they are in the order of their ids */
	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		TimestampTz due = runner_chunk_due(pipeline);

		*at = Min(*at, due);
		if (due > now)
			continue;
		first = first ? first : pipeline;
		if (next == NULL && pipeline->row->id > runner->fed)
			next = pipeline;
	}
	return next ? next : first;
}

/* A chunk of a queue, for its pipeline and those downstream of it. */
static void
runner_drain(SbPipeline *downstream)
{
	SbQueueScan scan = {0};
	SbRowSource row_source = sb_queue_rows(downstream, &scan);
	List *tree = list_make1(downstream);
	XLogRecPtr commit;
	SbBundleEnd end;
	ListCell *lc;

	/* each is behind its upstream */
	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (sb_input(pipeline)->upstream && list_member_ptr(tree, sb_input(pipeline)->upstream))
			tree = lappend(tree, pipeline);
	}
	end = sb_bundle_run_rows(runner->intake, tree, &row_source, &commit);
	list_free(tree);
	runner_end_bundle(end, commit);
	if (end != SB_BUNDLE_DONE)
		return;
	sb_input(downstream)->queue_floor = scan.taken;
	if (!scan.ended)
		return;
	if (runner->lane_kind == SB_LANE_LATE && downstream->stays_until > sb_clock_now())
		sb_input(downstream)->drain_at =
		    TimestampTzPlusMilliseconds(sb_clock_now(), SB_DRAIN_REST_MS);
	else
		sb_runner_drained(downstream);
}

/*
 * A chunk of a history. The next one waits until the stream has come to where this one's snapshot
 * was taken.
 */
static void
runner_history(SbPipeline *pipeline)
{
	SbRowSource row_source = sb_history_rows(pipeline);
	XLogRecPtr commit;
	SbBundleEnd end;

	end = sb_bundle_run_rows(runner->intake, runner->pipelines, &row_source, &commit);
	runner_end_bundle(end, commit);
	if (end == SB_BUNDLE_DONE)
	{
		XLogFlush(sb_history_awaits(pipeline));
		sb_wake_worker(runner->db, sb_lane_reader(runner->lane_kind));
	}
}

static void
runner_chunk(SbPipeline *pipeline)
{
	runner->fed_last = true;
	runner->fed = pipeline->row->id;
	if (sb_input(pipeline)->draining)
		runner_drain(pipeline);
	else
		runner_history(pipeline);
}

/*
 * Pipelines that the session does not reach back to can never go on, also those that do not run
 * now.
 */
static void
runner_void_gapped(void)
{
	bool any;

	sb_transaction_begin();
	any = sb_void_gapped(runner->session_reach);
	sb_transaction_commit();
	if (any)
		sb_runner_reload();
}

/* Waits for the frame that starts the session asked for. */
static bool
runner_await_reset(void)
{
	if (!sb_intake_skip_to_reset(runner->intake, runner->epoch, &runner->session_start,
	                             &runner->session_reach))
		return false;
	runner->awaiting_reset = false;
	runner->intake->position = runner->session_start;
	if (runner->lane_kind == SB_LANE_MAIN)
		runner_void_gapped();
	runner_after_bundle(InvalidXLogRecPtr);
	return !runner->awaiting_reset;
}

static long
runner_timeout(TimestampTz wake)
{
	long timeout = -1;

	if (wake != DT_NOEND)
		timeout = Max(1, TimestampDifferenceMilliseconds(sb_clock_now(), wake));
	if (runner->pending_position != InvalidXLogRecPtr && runner->flush_retries > 0)
	{
		runner->flush_retries--;
		timeout = timeout < 0 ? SB_FLUSH_RETRY_MS : Min(timeout, SB_FLUSH_RETRY_MS);
	}
	return timeout;
}

/* ---- activities ---- */

static TimestampTz
reload_due(void)
{
	return sb_intake_is_stale(runner->intake) ? DT_NOBEGIN : sb_postponed_next();
}

static bool
reload_run(void)
{
	sb_runner_reload();
	return false;
}

static TimestampTz
session_due(void)
{
	return runner->awaiting_reset ? DT_NOBEGIN : DT_NOEND;
}

static bool
session_run(void)
{
	if (!runner_await_reset() && runner->lane_kind == SB_LANE_LATE)
		sb_runner_give_back();
	return false;
}

static bool
housekeeping_run(void)
{
	sb_housekeeping_run(sb_clock_now());
	return true;
}

static TimestampTz
swap_due(void)
{
	List *ready = sb_version_ready(runner->pipelines, runner->tried_swap);
	TimestampTz due = ready ? runner->next_swap : DT_NOEND;

	list_free_deep(ready);
	return due;
}

static bool
swap_run(void)
{
	runner_swap(sb_version_ready(runner->pipelines, runner->tried_swap));
	return true;
}

static TimestampTz
command_due(void)
{
	return sb_commands_next(runner->db, runner->intake->position);
}

static TimestampTz
chunk_due(void)
{
	TimestampTz at;

	(void) runner_next_chunk(DT_NOBEGIN, &at);
	return at;
}

/* By turns with the bundles, where there is something in the ring all the time. */
static bool
chunk_run(void)
{
	TimestampTz at;
	SbPipeline *next = runner_next_chunk(sb_clock_now(), &at);

	if (next == NULL ||
	    (!runner->awaiting_reset && runner->fed_last && sb_intake_has_frames(runner->intake)))
		return false;
	runner_chunk(next);
	return true;
}

static TimestampTz
bundle_due(void)
{
	return sb_intake_has_frames(runner->intake) ? DT_NOBEGIN : runner_next_wake();
}

static bool
bundle_run(void)
{
	runner->fed_last = false;
	runner_bundle();
	return true;
}

/* In the order in which they are looked at. */
static const SbActivity activities[] = {
    {.name = "reload",
     .lanes = {true, true},
     .without_session = true,
     .due = reload_due,
     .run = reload_run},
    {.name = "session",
     .lanes = {true, true},
     .without_session = true,
     .due = session_due,
     .run = session_run},
    {.name = "wait for a laggard",
     .lanes = {[SB_LANE_MAIN] = true},
     .due = sb_runner_joiner_due,
     .run = sb_runner_waits_for_joiner},
    {.name = "housekeeping",
     .lanes = {[SB_LANE_MAIN] = true},
     .due = sb_housekeeping_next,
     .run = housekeeping_run},
    {.name = "exchange of versions",
     .lanes = {[SB_LANE_MAIN] = true},
     .due = swap_due,
     .run = swap_run},
    {.name = "command",
     .lanes = {[SB_LANE_MAIN] = true},
     .due = command_due,
     .run = runner_command},
    {.name = "join",
     .lanes = {[SB_LANE_LATE] = true},
     .due = sb_runner_join_due,
     .run = sb_runner_join},
    /* a queue is there without a session */
    {.name = "chunk",
     .lanes = {true, true},
     .without_session = true,
     .due = chunk_due,
     .run = chunk_run},
    {.name = "bundle", .lanes = {true, true}, .due = bundle_due, .run = bundle_run},
};

static void
runner_rest(TimestampTz wake)
{
	if (!runner->awaiting_reset)
	{
		runner->fed_last = false;
		runner_try_confirm();
		if (pg_atomic_read_u64(&runner->lane->confirmable) >
		    pg_atomic_read_u64(&runner->lane->confirmed))
			sb_wake_worker(runner->db, sb_lane_reader(runner->lane_kind));
		pgstat_report_stat(true);
	}
	/* a reload within another activity may have postponed something */
	sb_worker_sleep(runner_timeout(Min(wake, sb_postponed_next())));
}

/* Runs the first activity that has something to do, or sleeps until one may have. */
static void
runner_turn(void)
{
	TimestampTz wake = DT_NOEND;

	for (int i = 0; i < lengthof(activities); i++)
	{
		const SbActivity *activity = &activities[i];
		TimestampTz due;

		if (!activity->lanes[runner->lane_kind] ||
		    (runner->awaiting_reset && !activity->without_session))
			continue;
		due = activity->due();
		if (due <= sb_clock_now())
		{
			if (activity->run())
				return;
			due = activity->due();
		}
		if (due != DT_NOBEGIN)
			wake = Min(wake, due);
	}
	runner_rest(wake);
}

void
stream_beam_runner_main(Datum arg)
{
	SbRole role;

	runner->db = sb_worker_begin(arg, &role);
	runner->lane_kind = sb_lane_of_role(role);
	runner->lane = &runner->db->lanes[runner->lane_kind];
	runner->context =
	    AllocSetContextCreate(TopMemoryContext, "stream_beam worker", ALLOCSET_DEFAULT_SIZES);
	/* what a crash loses the slot has */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);

	sb_limit_install(runner->lane_kind == SB_LANE_MAIN);
	StartTransactionCommand();
	runner->extension = get_extension_oid("stream_beam", true);
	if (OidIsValid(runner->extension))
		sb_bracket_check_schemas();
	CommitTransactionCommand();
	if (!OidIsValid(runner->extension))
		sb_runner_leave();
	/* before there is a reader */
	if (runner->lane_kind == SB_LANE_MAIN)
		sb_void_check(runner->db);
	runner->intake = sb_intake_create(runner->lane, &runner->db->generation, &runner->db->creations,
	                                  runner->context);
	if (runner->lane_kind == SB_LANE_MAIN)
		sb_database_event(runner->db, SB_EVENT_FOUND);
	else
		sb_wake_launcher();
	/*
	 * first the sources, then the session: the reader drops the rows of tables that it does not
	 * know
	 */
	sb_runner_reload();
	sb_runner_request_rewind();
	for (;;)
	{
		sb_worker_check();
		sb_limit_refresh();
		MemoryContextSwitchTo(runner->context);
		runner_turn();
		sb_work_completed();
	}
}
