/*
 * sb_runner_join.c: laggards come back to the first lane; see sb_lane.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "runner/sb_aside.h"
#include "runner/sb_runner_private.h"
#include "utils/timestamp.h"
#include "worker/sb_lane.h"
#include "worker/sb_worker.h"

static SbRunner *const runner = &sb_the_runner;

/* So long the first lane stops for one, and so often. */
#define SB_JOIN_WAIT_MS 5
#define SB_JOIN_INTERVAL_MS 50
/* One that is so near is as good as there. */
#define SB_JOIN_BYTES (256 * 1024)

TimestampTz
sb_runner_joiner_due(void)
{
	/* again, where the other one was not fast enough: nobody else may wake this runner meanwhile */
	return runner->db->joining ? runner->next_join : DT_NOEND;
}

bool
sb_runner_waits_for_joiner(void)
{
	TimestampTz now = sb_clock_now();
	TimestampTz until = TimestampTzPlusMilliseconds(now, SB_JOIN_WAIT_MS);

	sb_lane_hold(runner->db, runner->intake->position);
	while (!sb_intake_is_stale(runner->intake) && now < until)
	{
		sb_worker_sleep(1);
		sb_worker_check();
		now = sb_clock_now();
	}
	sb_lane_go_on(runner->db);
	runner->next_join = TimestampTzPlusMilliseconds(now, SB_JOIN_INTERVAL_MS);
	return sb_intake_is_stale(runner->intake);
}

/* It is the first lane's now, with all downstream of it. */
static void
runner_close_tree(int32 root)
{
	List *ids = list_make1_int(root);
	List *remaining = NIL;
	ListCell *lc;

	/* each is behind its upstream */
	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (pipeline->row->id != root && !list_member_int(ids, pipeline->row->upstream))
		{
			remaining = lappend(remaining, pipeline);
			continue;
		}
		ids = lappend_int(ids, pipeline->row->id);
		sb_pipeline_close(pipeline);
	}
	list_free(runner->pipelines);
	list_free(ids);
	runner->pipelines = remaining;
}

void
sb_runner_give_back(void)
{
	List *ids = sb_lane_laggards(runner->db);
	ListCell *lc;

	if (ids == NIL || !sb_lane_is_refused(runner->db))
		return;
	foreach (lc, runner->pipelines)
		sb_pipeline_close(lfirst(lc));
	list_free(runner->pipelines);
	runner->pipelines = NIL;
	list_free(ids);
	sb_lane_return_all(runner->db);
	sb_tell_runner(runner->db);
}

void
sb_runner_drained(SbPipeline *downstream)
{
	int32 id = downstream->row->id;

	sb_input(downstream)->draining = false;
	if (runner->lane_kind == SB_LANE_LATE &&
	    sb_lane_return_drained(runner->db, id, sb_input(downstream)->queue_floor))
	{
		SB_KILL_POINT("after_join");
		ereport(DEBUG1,
		        (errmsg_internal("pipeline \"%s\" has taken its queue", downstream->row->name)));
		runner_close_tree(id);
	}
	sb_tell_runner(runner->db);
}

TimestampTz
sb_runner_join_due(void)
{
	TimestampTz due = DT_NOEND;

	foreach_ptr(SbPipeline, pipeline, runner->pipelines) { due = Min(due, pipeline->stays_until); }
	return runner->pipelines == NIL ? DT_NOBEGIN : due;
}

/* Where the first lane is, this one is too: the laggard goes back to it. True: one has. */
bool
sb_runner_join(void)
{
	XLogRecPtr there = pg_atomic_read_u64(&runner->db->lanes[SB_LANE_MAIN].applied);
	TimestampTz now = sb_clock_now();
	bool near = false;
	ListCell *lc;

	foreach (lc, runner->pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		XLogRecPtr at;

		if (!sb_catalog_reads_wal(pipeline->row) || sb_aside_has(pipeline->row->id) ||
		    pipeline->progress.position == InvalidXLogRecPtr || pipeline->stays_until > now)
			continue;
		near = near || there == InvalidXLogRecPtr ||
		       pipeline->progress.position + SB_JOIN_BYTES >= there;
		at = sb_lane_join_at(runner->db, pipeline->row->id);
		if (at == InvalidXLogRecPtr || pipeline->progress.position < at)
			continue;
		if (pipeline->persisted < at)
			sb_runner_persist_positions();
		if (!sb_lane_join(runner->db, pipeline->row->id, pipeline->persisted))
			continue;
		SB_KILL_POINT("after_join");
		ereport(DEBUG1,
		        (errmsg_internal("pipeline \"%s\" has caught up at %X/%X", pipeline->row->name,
		                         LSN_FORMAT_ARGS(pipeline->persisted))));
		runner_close_tree(pipeline->row->id);
		return true;
	}
	sb_lane_ask(runner->db, near && !runner->awaiting_reset);
	return false;
}
