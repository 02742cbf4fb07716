/*
 * sb_runner_list.c: which pipelines a runner has open, as of a reading of the catalog; see
 * sb_runner.c and sb_lane.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "base/sb_transaction.h"
#include "catalog/sb_dependency.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_queue.h"
#include "runner/sb_aside.h"
#include "runner/sb_housekeeping.h"
#include "runner/sb_opening.h"
#include "runner/sb_runner_private.h"
#include "runner/sb_suspects.h"
#include "runner/sb_void.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"
#include "worker/sb_lane.h"
#include "worker/sb_limit.h"
#include "worker/sb_postponed.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

static SbRunner *const runner = &sb_the_runner;

void
sb_runner_request_rewind(void)
{
	XLogRecPtr least = sb_runner_least_open();

	/* no session need begin before it */
	pg_atomic_write_u64(&runner->lane->start_from,
	                    least == PG_UINT64_MAX ? InvalidXLogRecPtr : least);
	pg_write_barrier();
	runner->epoch = pg_atomic_add_fetch_u64(&runner->lane->rewind_wanted, 1);
	runner->awaiting_reset = true;
	/* until the new session has come as far, nothing is known to be applied */
	pg_atomic_write_u64(&runner->lane->applied, InvalidXLogRecPtr);
	runner->intake->position = InvalidXLogRecPtr;
	sb_wake_worker(runner->db, sb_lane_reader(runner->lane_kind));
}

/* Is it this lane's? Pipelines go with the one that they read from. */
static bool
runner_is_mine(const List *rows, const SbPipelineRow *row)
{
	bool late = false;

	for (const SbPipelineRow *next = row; next != NULL && !late;
	     next = next->upstream != 0 ? sb_catalog_row_of_id(rows, next->upstream) : NULL)
		late = list_member_int(runner->laggards, next->id);
	return late == (runner->lane_kind == SB_LANE_LATE);
}

/* The list as it is; laggards that are not to run any more are taken off it. */
static void
runner_read_laggards(const List *rows)
{
	bool abandoned = runner->lane_kind == SB_LANE_MAIN && sb_lane_is_refused(runner->db) &&
	                 runner->db->workers[SB_ROLE_LATE_RUNNER].state == SB_WORKER_STOPPED;
	ListCell *lc;

	if (abandoned)
	{
		sb_lane_return_all(runner->db);
		list_free(runner->laggards);
		runner->laggards = NIL;
	}
	foreach (lc, runner->laggards)
	{
		const SbPipelineRow *row = sb_catalog_row_of_id(rows, lfirst_int(lc));

		if (row == NULL || row->state != SB_PIPELINE_RUNNING)
		{
			sb_lane_forget(runner->db, lfirst_int(lc));
			runner->laggards = foreach_delete_current(runner->laggards, lc);
		}
		/* whoever has made it one: it comes back */
		else if (runner->lane_kind == SB_LANE_MAIN)
			runner->given = list_append_unique_int(runner->given, lfirst_int(lc));
	}
}

/*
 * A pipeline that is so far behind the others when they are all opened is a laggard from the start.
 */
#define SB_LAG_BYTES (16 * 1024 * 1024)

static XLogRecPtr
runner_foremost(const List *rows)
{
	XLogRecPtr most = InvalidXLogRecPtr;
	ListCell *lc;

	foreach (lc, rows)
	{
		const SbPipelineRow *row = lfirst(lc);

		if (sb_catalog_reads_wal(row) && row->state == SB_PIPELINE_RUNNING &&
		    runner_is_mine(rows, row))
			most = Max(most, row->progress.position);
	}
	return most;
}

/* Has it been away, while what it needs came by? A new one starts here. */
static bool
runner_was_away(const SbPipelineRow *row)
{
	return (row->revision > 1 && !list_member_int(runner->exchanged, row->id)) ||
	       sb_postponed_was(row->id) || sb_aside_until(row->id) != 0;
}

/*
 * What a resumed one needs has gone past, or the reader has left it out and not said yet how far it
 * is. One that comes back from the second lane has had it there; of a new one what has passed by is
 * in the rows of its history.
 */
static bool
runner_needs_rewind(const SbPipelineRow *row)
{
	if (!sb_catalog_reads_wal(row))
		return false;
	if (runner->lane_kind == SB_LANE_LATE)
		return true;
	if (list_member_int(runner->given, row->id) && runner->intake->position != InvalidXLogRecPtr &&
	    row->progress.position >= runner->intake->position)
		return false;
	return runner_was_away(row);
}

/*
 * Has a downstream pipeline that is not open so much in its queue that it is taken first? One that
 * has just been exchanged was linked.
 */
static bool
runner_has_queue(const List *rows, const SbPipelineRow *row)
{
	return !sb_catalog_reads_wal(row) && !list_member_int(runner->exchanged, row->id) &&
	       sb_queue_is_long(row, sb_catalog_row_of_id(rows, row->upstream));
}

static bool
runner_is_behind(const List *rows, const SbPipelineRow *row, XLogRecPtr foremost)
{
	bool begins = runner->intake->position == InvalidXLogRecPtr && !runner->awaiting_reset;
	int64 floor;

	if (!sb_catalog_reads_wal(row) && sb_lane_has_drained(runner->db, row->id, &floor))
		return false;
	/* also one with little, that may fail again, or have others wait for a lock */
	if (!sb_catalog_reads_wal(row))
		return (begins ? sb_aside_until(row->id) != 0 : runner_was_away(row)) ||
		       runner_has_queue(rows, row);
	if (row->progress.position == InvalidXLogRecPtr)
		return false;
	return begins ? row->progress.position + SB_LAG_BYTES < foremost
	              : runner->pipelines != NIL && runner_needs_rewind(row);
}

/*
 * One that is put aside is open until it is closed with this reading: it may be time to try it
 * again already.
 */
static bool
runner_may_give(const SbPipelineRow *row)
{
	return sb_pipeline_find(runner->pipelines, row->id) == NULL || sb_aside_until(row->id) != 0 ||
	       list_member_int(runner->slow, row->id);
}

/*
 * Makes this one, which is to be opened, a laggard if it needs what has gone past here: it is not
 * to hold up those that are open.
 */
static void
runner_give(const List *rows, const SbPipelineRow *row, XLogRecPtr foremost)
{
	bool slow = list_member_int(runner->slow, row->id);

	if (runner->lane_kind == SB_LANE_LATE || !(slow || runner_is_behind(rows, row, foremost)) ||
	    !sb_lane_give(runner->db, row->id,
	                  sb_catalog_reads_wal(row) ? row->progress.position : InvalidXLogRecPtr,
	                  sb_limit_stays_until(row->id)))
		return;
	if (slow)
		ereport(LOG, (errmsg("pipeline \"%s\" has kept the others waiting, and goes on beside them",
		                     row->name)));
	runner->laggards = lappend_int(runner->laggards, row->id);
	runner->given = list_append_unique_int(runner->given, row->id);
	runner->gave = true;
	sb_aside_leave(row->id);
}

/* First: those downstream go with them. */
static void
runner_give_all(const List *rows)
{
	XLogRecPtr foremost = runner_foremost(rows);
	ListCell *lc;

	foreach (lc, rows)
	{
		const SbPipelineRow *row = lfirst(lc);

		if (row->state == SB_PIPELINE_RUNNING && runner_is_mine(rows, row) && runner_may_give(row))
			runner_give(rows, row, foremost);
	}
}

/* Closes what is no longer to run, or was changed. */
static void
runner_close_stale(List *rows)
{
	ListCell *lc;
	List *remaining = NIL;

	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		const SbPipelineRow *row = sb_catalog_row_of_id(rows, pipeline->row->id);
		bool runs_on = row && row->state == SB_PIPELINE_RUNNING &&
		               row->revision == pipeline->row->revision && sb_aside_until(row->id) == 0 &&
		               runner_is_mine(rows, row);

		/* to be rolled back to, or no longer: that changes nothing in how it runs */
		if (row)
			pipeline->row->stage = row->stage;
		if (runs_on && !sb_pipeline_result_moved(pipeline) && sb_opening_verify(pipeline))
		{
			sb_pipeline_retry_failed(pipeline);
			remaining = lappend(remaining, pipeline);
		}
		else
			sb_pipeline_close(pipeline);
	}
	list_free(runner->pipelines);
	runner->pipelines = remaining;
}

static int
runner_compare(const ListCell *a, const ListCell *b)
{
	/* they are positive */
	return ((SbPipeline *) lfirst(a))->row->id - ((SbPipeline *) lfirst(b))->row->id;
}

typedef struct SbLink
{
	SbPipeline *pipeline;
	SbDownstream downstream;
} SbLink;

static void
runner_link_downstream(void *arg)
{
	const SbLink *link = arg;

	sb_chain_set_downstream(link->pipeline, &link->downstream);
}

/* Who is downstream of this pipeline, and does it run? */
static void
runner_find_downstream(const List *rows, SbLink *link)
{
	SbDownstream *downstream = &link->downstream;

	foreach_ptr(SbPipelineRow, row, unconstify(List *, rows))
	{
		SbPipeline *pipeline;

		if (row->upstream != link->pipeline->row->id)
			continue;
		downstream->source = row->source;
		pipeline = sb_pipeline_find(runner->pipelines, row->id);
		if (pipeline && !sb_input(pipeline)->draining)
		{
			downstream->running = lappend(downstream->running, pipeline);
			continue;
		}
		/* one that has to be rebuilt never asks for what it has missed */
		if (row->state != SB_PIPELINE_NEEDS_RESYNC)
			downstream->waiting = lappend_int(downstream->waiting, row->id);
		/* a kept one that has failed is not waited for */
		if (row->stage == SB_STAGE_BUILDING)
			downstream->misses_one = true;
	}
}

/* Those upstream of it have been linked. */
static void
runner_link_upstream(SbPipeline *pipeline)
{
	SbInput *input = sb_input(pipeline);

	input->upstream =
	    input->draining ? NULL : sb_pipeline_find(runner->pipelines, pipeline->row->upstream);
	/* its result has been dropped by hand */
	if (input->upstream && input->upstream->chain == NULL)
		input->upstream = NULL;
}

/* False: one has been closed, which those before it are linked to. */
static bool
runner_link_all(const List *rows)
{
	ListCell *lc;

	foreach (lc, runner->pipelines)
	{
		SbLink link = {.pipeline = lfirst(lc)};
		bool linked;

		runner_find_downstream(rows, &link);
		/* its result, which those downstream are planned over, may be locked for now */
		linked =
		    sb_postponed_try_or_add(runner_link_downstream, &link, link.pipeline->row->id, true);
		list_free(link.downstream.running);
		list_free(link.downstream.waiting);
		if (!linked)
		{
			runner->pipelines = foreach_delete_current(runner->pipelines, lc);
			sb_pipeline_close(link.pipeline);
			return false;
		}
		runner_link_upstream(link.pipeline);
	}
	return true;
}

/*
 * Links each pipeline with those downstream of it. A pipeline was made after its upstream, so the
 * order of the ids is that of the work.
 */
static void
runner_link(const List *rows)
{
	list_sort(runner->pipelines, runner_compare);
	while (!runner_link_all(rows))
		;
}

/* Those of the laggards too: they come back. */
static void
runner_publish_sources(const List *rows, uint32 generation)
{
	List *sources = NIL;
	ListCell *lc;

	foreach (lc, rows)
	{
		const SbPipelineRow *row = lfirst(lc);

		if (sb_catalog_reads_wal(row) && list_member_int(runner->laggards, row->id))
			sources = list_append_unique_oid(sources, row->source);
	}

	foreach (lc, runner->pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		if (sb_catalog_reads_wal(pipeline->row))
			sources = list_append_unique_oid(sources, pipeline->plan->source);
	}
	sb_sources_set(runner->db, generation, sources);
	sb_lane_published(runner->db);
	list_free(sources);
}

/*
 * What is watched beside sources: results of all pipelines, since those that do not run have owners
 * and names, too; batch views, and the row types in state.
 */
static void
runner_publish_results(List *rows)
{
	List *watched = NIL;
	ListCell *lc;

	foreach (lc, rows)
		watched = lappend_oid(watched, ((SbPipelineRow *) lfirst(lc))->result);
	foreach (lc, runner->pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		watched = lappend_oid(watched, pipeline->row->view);
		watched = list_concat_unique_oid(watched, pipeline->signature->row_types);
	}
	sb_results_set(runner->db, watched);
	list_free(watched);
}

static void
runner_fill_queue(void *arg)
{
	sb_pipeline_at_work(arg, true);
	sb_queue_fill(arg);
}

/*
 * A downstream pipeline that is opened is told where its queue begins, and whether that is taken
 * first.
 */
static void
runner_begin_queue(const List *rows, SbPipeline *downstream)
{
	const SbPipelineRow *row = downstream->row;
	ErrorData *error;
	bool filled;

	if (sb_catalog_reads_wal(row) ||
	    (runner->lane_kind == SB_LANE_MAIN &&
	     sb_lane_has_drained(runner->db, row->id, &sb_input(downstream)->queue_floor)))
		return;
	sb_input(downstream)->draining =
	    list_member_int(runner->laggards, row->id) || runner_has_queue(rows, row);
	if (sb_input(downstream)->draining)
		return;
	filled = sb_postponed_try(runner_fill_queue, downstream, &error);
	sb_pipeline_rests();
	if (filled)
		return;
	/* what is in the way is dealt with as of a chunk */
	sb_input(downstream)->draining = true;
	FreeErrorData(error);
}

/*
 * Who waits for a pipeline with a queue waits as for one that cannot be opened; and then for the
 * bundle that takes the rest.
 */
static void
runner_publish_queues(void)
{
	ListCell *lc;

	foreach (lc, runner->pipelines)
	{
		const SbPipeline *pipeline = lfirst(lc);

		if (sb_input(pipeline)->draining)
			sb_postponed_until(pipeline->row->id, DT_NOEND);
	}
	sb_runner_publish_applied();
}

/* Who was put aside here, or there, and is this lane's now. */
static void
runner_read_asides(const List *rows)
{
	List *running = NIL;
	List *mine = NIL;
	ListCell *lc;

	foreach (lc, rows)
	{
		const SbPipelineRow *row = lfirst(lc);

		if (row->state != SB_PIPELINE_RUNNING)
			continue;
		running = lappend_int(running, row->id);
		if (runner_is_mine(rows, row))
			mine = lappend_int(mine, row->id);
	}
	sb_aside_read(running, mine);
	list_free(running);
	list_free(mine);
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
runner_check_dependencies(void *arg)
{
	(void) sb_dependency_check();
}

static void
runner_record_dependencies_of(void *arg)
{
	SbPipeline *pipeline = arg;

	sb_pipeline_at_work(pipeline, false);
	sb_version_record_dependencies(pipeline->row, pipeline->plan);
}

/* Of those that are older than beam.dependency: what their query computes with now. */
static void
runner_record_dependencies(void)
{
	ListCell *lc;

	foreach (lc, sb_dependency_unrecorded())
	{
		SbPipeline *pipeline = sb_pipeline_find(runner->pipelines, lfirst_int(lc));

		if (pipeline)
			(void) sb_postponed_try_or_add(runner_record_dependencies_of, pipeline, 0, false);
		sb_pipeline_rests();
	}
}

/* The extension is gone: no return; or it has been made again: this process starts anew. */
static void
runner_check_extension(void)
{
	Oid now = get_extension_oid("stream_beam", true);

	if (OidIsValid(now) && (!OidIsValid(runner->extension) || now == runner->extension))
	{
		runner->extension = now;
		return;
	}
	sb_transaction_commit();
	if (OidIsValid(now))
		proc_exit(1);
	sb_runner_leave();
}

/* True: the reader's session begins too late for it. */
static bool
runner_open(const List *rows, const SbPipelineRow *row)
{
	bool needs_rewind = runner_needs_rewind(row);
	SbPipeline *pipeline = sb_opening_open(row, runner->context);

	if (pipeline == NULL)
		return false;
	runner->pipelines = lappend(runner->pipelines, pipeline);
	pipeline->stays_until = sb_lane_stays_until(runner->db, row->id);
	runner_begin_queue(rows, pipeline);
	(void) sb_aside_try(row->id);
	runner->given = list_delete_int(runner->given, row->id);
	if (row->revision == 1 && !needs_rewind && runner->lane_kind == SB_LANE_MAIN)
		sb_pipeline_start_at(pipeline, runner->intake->position);
	return needs_rewind;
}

/* True: the reader's session begins too late for one of those opened. */
static bool
runner_open_all(const List *rows)
{
	bool rewind = false;

	runner->detached_least = InvalidXLogRecPtr;
	foreach_ptr(SbPipelineRow, row, unconstify(List *, rows))
	{
		bool runs = row->state == SB_PIPELINE_RUNNING;

		if (!runner_is_mine(rows, row))
			continue;
		if (runs && sb_pipeline_find(runner->pipelines, row->id) == NULL)
			rewind = runner_open(rows, row) || rewind;
		if (!(runs && sb_pipeline_find(runner->pipelines, row->id)) && sb_void_holds(row))
			runner->detached_least = runner->detached_least == InvalidXLogRecPtr
			                             ? row->progress.position
			                             : Min(runner->detached_least, row->progress.position);
	}
	/* whatever was current while they were opened */
	Assert(runner->pipelines == NIL || GetMemoryChunkContext(runner->pipelines) == runner->context);
	return rewind;
}

/*
 * Within the transaction; in the memory of the reading. True: the reader's session begins too late.
 */
static bool
runner_read(MemoryContext scratch, uint32 generation, List **suspects)
{
	bool is_main = runner->lane_kind == SB_LANE_MAIN;
	bool rewind;
	List *rows;

	sb_postponed_begin(&runner->db->generation);
	if (is_main)
	{
		runner_follow_owners();
		/* what nobody could know of while it was being replaced */
		(void) sb_postponed_try_or_add(runner_check_dependencies, NULL, 0, false);
	}
	/* first: who has joined meanwhile has written its position */
	MemoryContextSwitchTo(runner->context);
	list_free(runner->laggards);
	runner->laggards = sb_lane_laggards(runner->db);
	MemoryContextSwitchTo(scratch);
	rows = sb_catalog_pipelines();
	*suspects = is_main ? sb_suspects_fail(runner->db->dbid, &rows) : NIL;
	MemoryContextSwitchTo(runner->context);
	runner_read_laggards(rows);
	runner_read_asides(rows);
	runner_give_all(rows);
	runner_close_stale(rows);
	rewind = runner_open_all(rows);
	SB_KILL_POINT("reload");
	runner_link(rows);
	if (!is_main)
		return rewind;
	runner_publish_sources(rows, generation);
	runner_publish_results(rows);
	runner_publish_queues();
	MemoryContextSwitchTo(scratch);
	runner_record_dependencies();
	sb_version_rebuild_marked(rows);
	sb_version_complete_trees();
	/* one that is being read still has its turn again */
	(void) sb_postponed_try_or_add(sb_version_drop_queues, NULL, 0, false);
	return rewind;
}

/* The reading is committed. */
static void
runner_has_read(uint32 generation, bool rewind)
{
	bool is_main = runner->lane_kind == SB_LANE_MAIN;

	runner->intake->seen_generation = generation;
	/* what was to be confirmed knew nothing of those that are new */
	if (runner->pending_position != InvalidXLogRecPtr)
		runner->pending_position = Min(runner->pending_position, sb_runner_least_position());
	list_free(runner->exchanged);
	list_free(runner->slow);
	runner->exchanged = runner->slow = NIL;
	sb_housekeeping_ask();
	/* also where one is awaited: that session may have begun without these sources */
	if (rewind)
		sb_runner_request_rewind();
	/* the other one may have looked before */
	if (runner->gave)
		sb_tell_runner(runner->db);
	runner->gave = false;
	/* who waits for one that is opened has to see first that nothing is known to be applied */
	sb_postponed_end(is_main ? runner->db : NULL);
	if (is_main)
		sb_lane_forget_returned(runner->db, runner->laggards);
}

void
sb_runner_reload(void)
{
	uint32 generation = pg_atomic_read_u32(&runner->db->generation);
	MemoryContext scratch =
	    AllocSetContextCreate(TopMemoryContext, "stream_beam reload", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	bool rewind;
	List *suspects;

	sb_transaction_begin();
	runner_check_extension();
	old = MemoryContextSwitchTo(scratch);
	rewind = runner_read(scratch, generation, &suspects);
	MemoryContextSwitchTo(old);
	sb_transaction_commit();
	sb_suspects_forgive(runner->db->dbid, suspects);
	/* what ends the next one is no matter of theirs */
	if (suspects != NIL)
		sb_work_goes_well();
	MemoryContextDelete(scratch);
	runner_has_read(generation, rewind);
}
