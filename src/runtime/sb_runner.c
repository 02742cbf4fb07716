/*
 * sb_runner.c: the process that computes: keeps the pipelines of its database, runs their bundles, and says what the slot may
 * forget.
 *
 * STATE. The list of open pipelines, as of a generation of the catalog (bumped by each committed change of pipelines). A pipeline
 * is attached when the frames that come are complete for it: its position is not below the start of the reader's session. Where it is
 * (a resumed one, or any after this process started), a rewind is asked for.
 *
 * CONFIRMATION. After a bundle the least position of all pipelines, running or not, is what the slot may forget, once the bundle's
 * own commit is flushed: the bundle commits asynchronously.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "runtime/sb_aside.h"
#include "runtime/sb_bundle.h"
#include "runtime/sb_command.h"
#include "runtime/sb_guard.h"
#include "runtime/sb_history.h"
#include "runtime/sb_hooks.h"
#include "runtime/sb_housekeeping.h"
#include "runtime/sb_limit.h"
#include "runtime/sb_opening.h"
#include "runtime/sb_postponed.h"
#include "runtime/sb_suspects.h"
#include "runtime/sb_version.h"
#include "runtime/sb_void.h"
#include "runtime/sb_work.h"
#include "runtime/sb_worker.h"
#include "sb_guc.h"
#include "sb_kill_point.h"
#include "sb_statement.h"
#include "storage/ipc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* A position is written without any rows when so much WAL could be given back. */
#define SB_PERSIST_BYTES (16 * 1024 * 1024)
/* The same while the slot retains that much: at most so often. */
#define SB_PERSIST_INTERVAL_MS 10000
/* After a bundle its flush is awaited so long, to confirm it without a further wake-up. */
#define SB_FLUSH_RETRY_MS 500
#define SB_FLUSH_RETRIES 6
/* A version that could not take its place tries again after so long. */
#define SB_SWAP_RETRY_MS 500

static SbDatabase *db;
static SbIntake *intake;
static MemoryContext pipelines_context;
static List *pipelines;           /* of SbPipeline: the running ones */
static XLogRecPtr detached_least; /* the least position of the others, InvalidXLogRecPtr: none */
static uint64 epoch;              /* of the session that frames are taken from */
static bool awaiting_reset;
static XLogRecPtr session_start;
static Oid extension;
static int32 fed;               /* the pipeline that had the last chunk of its history */
static bool fed_last;           /* since the last bundle of the ring */
static uint32 chain_generation; /* as of the reading of the catalog */
static List *exchanged;         /* ids of versions closed to be opened anew, with nothing missed */
static TimestampTz next_swap;   /* not before: a lock was not to be had ... */
static int32 tried_swap;        /* ... by this version */

/* what may be confirmed once the commit is flushed */
static XLogRecPtr pending_commit;
static XLogRecPtr pending_position;
static int flush_retries;
static TimestampTz persisted_at; /* when positions were last written without rows */

/* ---- confirmation ---- */

static XLogRecPtr
runner_least_position(void)
{
	XLogRecPtr least = detached_least != InvalidXLogRecPtr ? detached_least : PG_UINT64_MAX;
	ListCell *lc;

	/* one that reads another's result needs nothing of the WAL */
	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (pipeline->row->upstream == 0)
			least = Min(least, pipeline->persisted);
	}
	return least == PG_UINT64_MAX ? intake->position : least;
}

static void
runner_confirm(XLogRecPtr position)
{
	/* under the lock that a creation takes to fix its start */
	LWLockAcquire(sb_registry->lock, LW_SHARED);
	if (db->pins > 0)
		position = Min(position, db->pin_lsn);
	/* one has been made that is not on the list yet: it is not asked */
	if (pg_atomic_read_u32(&db->generation) != intake->seen_generation)
		position = InvalidXLogRecPtr;
	if (position > pg_atomic_read_u64(&db->confirmable))
		pg_atomic_write_u64(&db->confirmable, position);
	LWLockRelease(sb_registry->lock);
}

static void
runner_try_confirm(void)
{
	if (pending_position == InvalidXLogRecPtr)
		return;
	if (pending_commit > GetFlushRecPtr(NULL))
		return;
	SB_KILL_POINT("before_confirmable");
	runner_confirm(pending_position);
	SB_KILL_POINT("after_confirmable");
	pending_position = InvalidXLogRecPtr;
}

static void
runner_after_bundle(XLogRecPtr commit)
{
	runner_try_confirm();
	if (pending_position == InvalidXLogRecPtr)
	{
		XLogRecPtr least = runner_least_position();

		if (least > pg_atomic_read_u64(&db->confirmable))
		{
			pending_position = least;
			pending_commit = XactLastCommitEnd;
			flush_retries = SB_FLUSH_RETRIES;
			runner_try_confirm();
		}
	}
	if (commit != InvalidXLogRecPtr)
		sb_work_goes_well();
	pg_atomic_write_u64(&db->applied, intake->position);
	ConditionVariableBroadcast(&db->changed);
}

/* ---- the list of pipelines ---- */

static void
runner_request_rewind(void)
{
	epoch = pg_atomic_add_fetch_u64(&db->rewind_wanted, 1);
	awaiting_reset = true;
	/* until the new session has come as far, nothing is known to be applied */
	pg_atomic_write_u64(&db->applied, InvalidXLogRecPtr);
	intake->position = InvalidXLogRecPtr;
	sb_wake_worker(db, SB_ROLE_READER);
}

/* Closes what is no longer to run, or was changed. */
static void
runner_close_stale(List *rows)
{
	ListCell *lc;
	List *kept = NIL;

	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		bool keep = false;
		ListCell *lc2;

		foreach (lc2, rows)
		{
			SbPipelineRow *row = lfirst(lc2);

			if (row->id == pipeline->row->id)
			{
				keep = row->state == SB_PIPELINE_RUNNING && row->revision == pipeline->row->revision && sb_aside_until(row->id) == 0;
				/* to be rolled back to, or no longer: that changes nothing in how it runs */
				pipeline->row->stage = row->stage;
			}
		}
		if (keep && !sb_pipeline_result_moved(pipeline) && sb_opening_verify(pipeline))
			kept = lappend(kept, pipeline);
		else
			sb_pipeline_close(pipeline);
	}
	list_free(pipelines);
	pipelines = kept;
}

static int
runner_compare(const ListCell *a, const ListCell *b)
{
	/* they are positive */
	return ((SbPipeline *) lfirst(a))->row->id - ((SbPipeline *) lfirst(b))->row->id;
}

/* Who reads whose result. A reader was made after what it reads, so the order of the ids is that of the work. */
static void
runner_link(List *rows)
{
	ListCell *lc, *lc2;

	list_sort(pipelines, runner_compare);
	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		List *running = NIL;
		List *waiting = NIL;
		Oid source = InvalidOid;

		pipeline->misses_reader = false;
		foreach (lc2, rows)
		{
			SbPipelineRow *row = lfirst(lc2);
			SbPipeline *reader = row->upstream == pipeline->row->id ? sb_pipeline_find(pipelines, row->id) : NULL;

			if (reader)
				running = lappend(running, reader);
			/* one that has to be made anew never asks for what it has missed */
			else if (row->upstream == pipeline->row->id && row->state != SB_PIPELINE_NEEDS_RESYNC)
				waiting = lappend_int(waiting, row->id);
			if (row->upstream == pipeline->row->id)
				source = row->source;
			/* a kept one that has failed is not waited for */
			if (row->upstream == pipeline->row->id && reader == NULL && row->stage == SB_STAGE_BUILDING)
				pipeline->misses_reader = true;
		}
		sb_chain_set_readers(pipeline, source, running, waiting);
		list_free(running);
		list_free(waiting);
		pipeline->upstream = pipeline->row->upstream ? sb_pipeline_find(pipelines, pipeline->row->upstream) : NULL;
	}
}

static void
runner_publish_sources(uint32 generation)
{
	List *sources = NIL;
	ListCell *lc;

	foreach (lc, pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		if (pipeline->row->upstream == 0)
			sources = list_append_unique_oid(sources, pipeline->plan->source);
	}
	sb_sources_set(db, generation, sources);
	list_free(sources);
}

/* What is watched beside sources: results of all pipelines, since those that do not run have owners and names, too; batch views, and the row types in state. */
static void
runner_publish_results(List *rows)
{
	List *watched = NIL;
	ListCell *lc;

	foreach (lc, rows)
		watched = lappend_oid(watched, ((SbPipelineRow *) lfirst(lc))->result);
	foreach (lc, pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		watched = lappend_oid(watched, pipeline->row->view);
		watched = list_concat_unique_oid(watched, pipeline->signature->row_types);
	}
	sb_results_set(db, watched);
	list_free(watched);
}

/* The extension is gone, or is another one: the launcher decides what comes next. */
static void
runner_leave(void)
{
	sb_database_event(db, SB_EVENT_MISSING);
	proc_exit(0);
}

static void
runner_follow_one(void *arg)
{
	sb_catalog_follow_owners();
}

/* One whose row somebody has locked belongs to whom it belonged to, for a little longer. */
static void
runner_follow_owners(void)
{
	ErrorData *error;

	if (sb_postponed_try(runner_follow_one, NULL, &error))
		return;
	if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
	sb_postponed_add(0, false);
}

static void
runner_reload(void)
{
	uint32 generation = pg_atomic_read_u32(&db->generation);
	uint32 chains = pg_atomic_read_u32(&db->chain_generation);
	MemoryContext scratch = AllocSetContextCreate(TopMemoryContext, "stream_beam reload", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	Oid now;
	bool rewind = false;
	List *rows;
	List *suspects;
	ListCell *lc;

	sb_transaction_begin();
	now = get_extension_oid("stream_beam", true);
	if (!OidIsValid(now) || (OidIsValid(extension) && now != extension))
	{
		sb_transaction_commit();
		if (OidIsValid(now))
			proc_exit(1); /* dropped and made again: start anew */
		runner_leave();
	}
	extension = now;
	old = MemoryContextSwitchTo(scratch);
	sb_postponed_begin();
	runner_follow_owners();
	rows = sb_catalog_pipelines();
	suspects = sb_suspects_fail(db->dbid, &rows);
	MemoryContextSwitchTo(pipelines_context);
	sb_aside_read(rows);
	runner_close_stale(rows);
	detached_least = InvalidXLogRecPtr;
	foreach (lc, rows)
	{
		SbPipelineRow *row = lfirst(lc);
		SbPipeline *pipeline = row->state == SB_PIPELINE_RUNNING ? sb_pipeline_find(pipelines, row->id) : NULL;

		if (row->state == SB_PIPELINE_RUNNING && pipeline == NULL)
		{
			pipeline = sb_opening_open(row, pipelines_context);
			if (pipeline)
			{
				pipelines = lappend(pipelines, pipeline);
				(void) sb_aside_try(row->id);
				/*
				 * What a resumed one needs has passed by, or the reader has left it out and not said yet how far it is. A new one
				 * starts here: what has passed by is in the rows of its history.
				 */
				rewind = rewind || (row->revision > 1 && row->upstream == 0 && !list_member_int(exchanged, row->id)) ||
				         (sb_postponed_was(row->id) && row->upstream == 0);
				if (row->revision == 1 && !sb_postponed_was(row->id))
					sb_pipeline_start_at(pipeline, intake->position);
			}
		}
		if (pipeline == NULL && sb_void_holds(row))
			detached_least = detached_least == InvalidXLogRecPtr ? row->progress.position : Min(detached_least, row->progress.position);
	}
	/* whatever was current while they were opened */
	Assert(pipelines == NIL || GetMemoryChunkContext(pipelines) == pipelines_context);
	SB_KILL_POINT("reload");
	runner_link(rows);
	runner_publish_sources(generation);
	runner_publish_results(rows);
	MemoryContextSwitchTo(scratch);
	sb_version_rebuild_marked(rows);
	sb_version_complete_trees();
	MemoryContextSwitchTo(old);
	sb_transaction_commit();
	sb_suspects_forgive(db->dbid, suspects);
	MemoryContextDelete(scratch);
	intake->seen_generation = generation;
	chain_generation = chains;
	/* what was to be confirmed knew nothing of those that are new */
	if (pending_position != InvalidXLogRecPtr)
		pending_position = Min(pending_position, runner_least_position());
	list_free(exchanged);
	exchanged = NIL;
	sb_housekeeping_ask();
	/* also where one is awaited: that session may have begun without these sources */
	if (rewind)
		runner_request_rewind();
	/* who waits for one that is opened has to see first that nothing is known to be applied */
	sb_postponed_end(db);
}

/* ---- versions ---- */

/* All versions of the pipelines are to be opened anew, from what the exchange has made of them. */
static void
runner_close_versions(List *names)
{
	List *kept = NIL;
	ListCell *lc, *lc2;

	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		bool close = false;

		foreach (lc2, names)
			close = close || strcmp(pipeline->row->name, lfirst(lc2)) == 0;
		if (!close)
		{
			kept = lappend(kept, pipeline);
			continue;
		}
		exchanged = lappend_int(exchanged, pipeline->row->id);
		sb_pipeline_close(pipeline);
	}
	list_free(pipelines);
	pipelines = kept;
}

/* Versions that are as far take the current ones' places, or try so again later. */
static void
runner_swap(List *exchanges)
{
	List *names = NIL;
	ListCell *lc;

	foreach (lc, exchanges)
		names = lappend(names, pstrdup(((SbExchange *) lfirst(lc))->building->row->name));
	next_swap = TimestampTzPlusMilliseconds(sb_clock_now(), SB_SWAP_RETRY_MS);
	tried_swap = ((SbExchange *) linitial(exchanges))->building->row->id;
	if (sb_version_try_swap(exchanges))
	{
		SB_KILL_POINT("after_swap");
		runner_close_versions(names);
		runner_reload();
		ConditionVariableBroadcast(&db->changed);
	}
	list_free_deep(names);
	list_free_deep(exchanges);
}

/* ---- the loop ---- */

/*
 * What the slot retains moves on when it is confirmed beyond a record that told of no older transaction. Positions that hardly move would
 * make it wait for that, with all the WAL of a transaction that has long ended.
 */
static bool
runner_slot_waits(void)
{
	XLogRecPtr restart;

	if (!TimestampDifferenceExceeds(persisted_at, GetCurrentTimestamp(), SB_PERSIST_INTERVAL_MS))
		return false;
	restart = sb_slot_restart_lsn(db->dbid);
	return restart != InvalidXLogRecPtr && intake->position > restart && intake->position - restart > SB_PERSIST_BYTES;
}

static bool
runner_persist_due(void)
{
	bool waits = runner_slot_waits();
	ListCell *lc;

	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (intake->position > pipeline->persisted && (waits || intake->position - pipeline->persisted > SB_PERSIST_BYTES))
			return true;
	}
	return false;
}

static void
runner_persist_one(void *arg)
{
	sb_catalog_put_progress(arg);
}

/* Positions that have moved without rows are written now and then, so that the slot can move on. */
static void
runner_persist_positions(void)
{
	ListCell *lc;

	sb_transaction_begin();
	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		ErrorData *error;

		pipeline->progress.position = Max(pipeline->progress.position, intake->position);
		pipeline->changed = true;
		if (sb_postponed_try(runner_persist_one, &pipeline->progress, &error))
			continue;
		/* it is being dropped */
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
			ReThrowError(error);
		pipeline->progress = pipeline->row->progress;
		pipeline->changed = false;
	}
	sb_transaction_commit();
	foreach (lc, pipelines)
		sb_pipeline_keep(lfirst(lc));
	persisted_at = GetCurrentTimestamp();
}

static TimestampTz
runner_next_wake(void)
{
	TimestampTz wake = DT_NOEND;
	bool awaited = pg_atomic_read_u32(&db->watermark_waiters) > 0;
	ListCell *lc;

	foreach (lc, pipelines)
		wake = Min(wake, sb_pipeline_next_wake(lfirst(lc), intake->caught_up, awaited));
	return wake;
}

static void
runner_evict(void)
{
	Size budget = (Size) sb_guc_state_memory_kb * 1024;
	Size total = 0;
	ListCell *lc;

	foreach (lc, pipelines)
		total += sb_cells_bytes(((SbPipeline *) lfirst(lc))->cells);
	if (total <= budget)
		return;
	sb_transaction_begin();
	/* each gives back its share */
	foreach (lc, pipelines)
	{
		SbCells *cells = ((SbPipeline *) lfirst(lc))->cells;

		sb_cells_evict(cells, (Size) (sb_cells_bytes(cells) * 0.75 * budget / total));
	}
	sb_transaction_commit();
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
		awaiting_reset = true;
		return;
	}
	if (end != SB_BUNDLE_FAILED && runner_persist_due())
		runner_persist_positions();
	if (end != SB_BUNDLE_FAILED)
		sb_aside_look(pipelines);
	runner_after_bundle(commit);
	/* there may be letters that are too many */
	sb_housekeeping_ask();
	if (end == SB_BUNDLE_FAILED)
		pg_atomic_fetch_add_u32(&db->generation, 1);
}

/* A step of what a user asks for. False: there is none to take now. */
static bool
runner_command(void)
{
	XLogRecPtr commit;
	SbBundleEnd end;

	if (sb_commands_next(db, intake->position) > sb_clock_now())
		return false;
	end = sb_commands_step(db, intake, pipelines, chain_generation, &commit);
	/* it may have begun a version, or given one up */
	if (end == SB_BUNDLE_NOTHING)
		return pg_atomic_read_u32(&db->generation) != intake->seen_generation;
	runner_end_bundle(end, commit);
	return true;
}

static void
runner_bundle(void)
{
	XLogRecPtr commit;
	SbBundleEnd end = sb_bundle_run(intake, pipelines, &db->chain_generation, chain_generation, &commit);

	runner_end_bundle(end, commit);
}

/* The pipeline whose turn it is to have a chunk of its history read, or will be at *at; NULL: none. */
static SbPipeline *
runner_next_history(TimestampTz now, TimestampTz *at)
{
	SbPipeline *first = NULL;
	SbPipeline *next = NULL;
	ListCell *lc;

	*at = DT_NOEND;
	/* they are in the order of their ids */
	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		TimestampTz due = sb_history_next(pipeline, intake->position);

		*at = Min(*at, due);
		if (due > now)
			continue;
		first = first ? first : pipeline;
		if (next == NULL && pipeline->row->id > fed)
			next = pipeline;
	}
	return next ? next : first;
}

/* A chunk of a history. The next one waits until the stream has come to where this one's snapshot was taken. */
static void
runner_history(SbPipeline *pipeline)
{
	SbFeed feed = sb_history_feed(pipeline);
	XLogRecPtr commit;
	SbBundleEnd end;

	fed = pipeline->row->id;
	end = sb_bundle_feed(intake, pipelines, &feed, &db->chain_generation, chain_generation, &commit);
	runner_end_bundle(end, commit);
	if (end == SB_BUNDLE_DONE)
	{
		XLogFlush(sb_history_awaits(pipeline));
		sb_wake_worker(db, SB_ROLE_READER);
	}
}

/* Pipelines that the session does not reach back to can never go on, also those that do not run now. */
static void
runner_void_gapped(void)
{
	bool any;

	sb_transaction_begin();
	any = sb_void_gapped(session_start);
	sb_transaction_commit();
	if (any)
		runner_reload();
}

/* Waits for the frame that starts the session asked for. */
static bool
runner_await_reset(void)
{
	if (!sb_intake_skip_to_reset(intake, epoch, &session_start))
		return false;
	awaiting_reset = false;
	intake->position = session_start;
	runner_void_gapped();
	runner_after_bundle(InvalidXLogRecPtr);
	return !awaiting_reset;
}

static long
runner_timeout(TimestampTz wake)
{
	long timeout = -1;

	if (wake != DT_NOEND)
		timeout = Max(1, TimestampDifferenceMilliseconds(sb_clock_now(), wake));
	if (pending_position != InvalidXLogRecPtr && flush_retries > 0)
	{
		flush_retries--;
		timeout = timeout < 0 ? SB_FLUSH_RETRY_MS : Min(timeout, SB_FLUSH_RETRY_MS);
	}
	return timeout;
}

static void
runner_turn(void)
{
	TimestampTz now, wake, history_at, swap_at;
	SbPipeline *history;
	List *ready;

	if (pg_atomic_read_u32(&db->generation) != intake->seen_generation || sb_postponed_next() <= sb_clock_now())
		runner_reload();
	if (awaiting_reset && !runner_await_reset())
	{
		sb_worker_sleep(runner_timeout(sb_postponed_next()));
		return;
	}
	if (sb_housekeeping_next() <= sb_clock_now())
	{
		sb_housekeeping_run(sb_clock_now());
		return;
	}
	ready = sb_version_ready(pipelines, tried_swap);
	swap_at = ready ? next_swap : DT_NOEND;
	if (swap_at <= sb_clock_now())
	{
		runner_swap(ready);
		return;
	}
	list_free_deep(ready);
	if (runner_command())
		return;
	wake = runner_next_wake();
	now = sb_clock_now();
	history = runner_next_history(now, &history_at);
	/* by turns, where there is something in the ring all the time */
	if (history && !(fed_last && sb_intake_has_frames(intake)))
	{
		fed_last = true;
		runner_history(history);
		return;
	}
	fed_last = false;
	if (sb_intake_has_frames(intake) || wake <= now)
	{
		runner_bundle();
		return;
	}
	runner_try_confirm();
	if (pg_atomic_read_u64(&db->confirmable) > pg_atomic_read_u64(&db->confirmed))
		sb_wake_worker(db, SB_ROLE_READER);
	pgstat_report_stat(true);
	wake = Min(Min(Min(wake, history_at), sb_postponed_next()), Min(sb_housekeeping_next(), swap_at));
	sb_worker_sleep(runner_timeout(Min(wake, sb_commands_next(db, intake->position))));
}

void
stream_beam_runner_main(Datum arg)
{
	db = sb_worker_begin(arg, SB_ROLE_RUNNER);
	pipelines_context = AllocSetContextCreate(TopMemoryContext, "stream_beam worker", ALLOCSET_DEFAULT_SIZES);
	/* what a crash loses the slot has */
	SetConfigOption("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION);

	sb_limit_install();
	StartTransactionCommand();
	extension = get_extension_oid("stream_beam", true);
	if (OidIsValid(extension))
		sb_bracket_check_schemas();
	CommitTransactionCommand();
	if (!OidIsValid(extension))
		runner_leave();
	/* before there is a reader */
	sb_void_check_home(db);
	intake = sb_intake_create(sb_ring_attach(db, true), &db->generation, &db->creations, pipelines_context);
	sb_database_event(db, SB_EVENT_FOUND);
	/* first the sources, then the session: the reader drops the rows of tables that it does not know */
	runner_reload();
	runner_request_rewind();
	for (;;)
	{
		sb_worker_check();
		sb_limit_refresh();
		MemoryContextSwitchTo(pipelines_context);
		runner_turn();
		sb_work_completed();
	}
}
