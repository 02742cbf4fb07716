/*
 * sb_step_aggregate.c: the step that groups rows by window and key, and aggregates them.
 *
 * A row finds its cell, whose accumulators take it. Rows whose cell may be in the table but is not
 * in memory, and all rows of merging windows, are put aside and taken together
 * (sb_aggregate_defer.c). At the end of the bundle the touched cells are asked whether they fire
 * (sb_aggregate_pane.c).
 *
 * MEMORY. The cells of all pipelines of a process have stream_beam.state_memory; see
 * sb_aggregate_budget().
 */
#include "postgres.h"

#include "base/sb_guc.h"
#include "base/sb_statement.h"
#include "pipeline/sb_aggregate_firing.h"
#include "sink/sb_failed_groups.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- opening ---- */

static void *
aggregate_open(SbPipeline *pipeline, const char *state_table)
{
	SbAggregate *aggregate = palloc0(sizeof(SbAggregate));
	Oid items = state_table ? sb_items_table_relid(pipeline->row->id) : InvalidOid;

	aggregate->merging = sb_plan_merges(pipeline->plan);
	aggregate->cells =
	    sb_cells_create(pipeline->query, pipeline->plan, &pipeline->strategy, &pipeline->clocks,
	                    state_table, OidIsValid(items) ? sb_sql_relation(items) : NULL,
	                    AllocSetContextCreate(pipeline->context, "stream_beam cells",
	                                          ALLOCSET_DEFAULT_SIZES));
	sb_cells_set_count(aggregate->cells, pipeline->progress.cells);
	pipeline->step_state = aggregate;
	sb_aggregate_forget_deferred(pipeline);
	return aggregate;
}

struct SbCells *
sb_step_cells(const SbPipeline *pipeline)
{
	return pipeline->step == &sb_step_aggregate ? sb_aggregate_cells(pipeline) : NULL;
}

/* ---- memory ---- */

/*
 * What all cells may use in the middle of a bundle: a part of the budget is left for what is being
 * written.
 */
static Size
aggregate_whole_budget(void)
{
	return (Size) sb_guc_state_memory_kb * 1024 / 4 * 3;
}

/*
 * A pipeline has room for some cells whatever the others have: theirs may be waiting to be written.
 */
#define SB_BUDGET_SHARE 8

Size
sb_aggregate_budget(const SbPipeline *pipeline)
{
	Size whole = aggregate_whole_budget();
	Size others = sb_cells_bytes_of_all() - sb_cells_bytes(sb_aggregate_cells(pipeline));

	return others + whole / SB_BUDGET_SHARE > whole ? whole / SB_BUDGET_SHARE : whole - others;
}

/*
 * What is known of windows in the table that hold the output watermark cannot leave memory, and is
 * little: it may have some where the budget is small.
 */
#define SB_STORED_SLACK ((Size) 32 * 1024 * 1024)

/* Its cells fire, are written, and leave until they use no more than this. */
static void
aggregate_shrink(SbPipeline *pipeline, Size bytes)
{
	SbCells *cells = sb_aggregate_cells(pipeline);

	if (pipeline->in_memory)
		ereport(ERROR,
		        (errcode(ERRCODE_OUT_OF_MEMORY),
		         errmsg("the cells of pipeline \"%s\" need more memory than stream_beam.state_memory",
		                pipeline->row->name),
		         errdetail("There is no table that they could be written to."),
		         errhint("Test with fewer rows, keys or windows.")));
	sb_pipeline_flush(pipeline);
	sb_pipeline_write_state(pipeline);
	sb_cells_evict(cells, bytes);
	if (sb_cells_stored_bytes(cells) > aggregate_whole_budget() + SB_STORED_SLACK)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("the windows of pipeline \"%s\" that hold its output watermark are more than stream_beam.state_memory has room for",
		            pipeline->row->name),
		     errdetail("There are " INT64_FORMAT " cells.", sb_cells_count(cells)),
		     errhint(
		         "Use longer windows, a longer slide or timestamp_combiner => 'end_of_window', or raise stream_beam.state_memory.")));
	/* all states are parked */
	if (sb_aggregate(pipeline)->deferred == NULL)
		MemoryContextReset(pipeline->bundle);
}

static void
aggregate_make_room(SbPipeline *pipeline)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);

	aggregate_shrink(pipeline, aggregate->budget / 2);
	/* what has left is remembered */
	aggregate->budget = sb_aggregate_budget(pipeline);
}

static Size
aggregate_bytes(const SbPipeline *pipeline)
{
	return sb_cells_bytes(sb_aggregate_cells(pipeline));
}

static void
aggregate_evict(SbPipeline *pipeline, Size bytes)
{
	sb_cells_evict(sb_aggregate_cells(pipeline), bytes);
}

/* ---- rows ---- */

static void
aggregate_begin_rows(SbPipeline *pipeline)
{
	sb_aggregate(pipeline)->budget = sb_aggregate_budget(pipeline);
	sb_cells_know_stored(sb_aggregate_cells(pipeline));
}

void
sb_aggregate_add(SbPipeline *pipeline, SbEntry *entry, const SbRow *row, TimestampTz event_time)
{
	SbCells *cells = sb_aggregate_cells(pipeline);
	bool old = row->weight < 0;

	if (old && entry->rows == 0)
		ereport(ERROR,
		        (errcode(ERRCODE_DATA_EXCEPTION),
		         errmsg("a row is to be taken back that pipeline \"%s\" has never counted",
		                pipeline->row->name),
		         errdetail("When it was new it was a dead letter, or older than the pipeline.")));
	/* first: an error in the middle leaves a cell that has to be forgotten */
	sb_cells_touch(cells, entry);
	sb_aggregate_reduce(pipeline, sb_cells_cell(cells, entry), event_time);
	if (old)
		sb_query_acc_retract(pipeline->query, sb_cells_accs(cells, entry));
	else
		sb_query_acc_add(pipeline->query, sb_cells_accs(cells, entry));
	entry->rows += row->weight;
}

/* Of merging windows the window is the row's own, before any merging: those are all put aside. */
static void
aggregate_add(SbPipeline *pipeline, const SbRow *row, const SbPlace *place, SbWindow window)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);
	SbEntry *entry;

	/* nothing is late that is computed anew */
	if (sb_reduce_expired(&pipeline->strategy, &pipeline->clocks, window) &&
	    pipeline->recompute == NULL)
	{
		sb_pipeline_late(pipeline, row, place->event_time, window, window, false);
		return;
	}
	entry = aggregate->merging
	            ? NULL
	            : sb_cells_find(aggregate->cells, place->hash, place->keys, place->nulls, window);
	if (entry == NULL)
	{
		if (aggregate->merging || sb_cells_maybe_stored(aggregate->cells, window))
		{
			sb_aggregate_defer(pipeline, row, place->hash, place->event_time, window);
			return;
		}
		entry = sb_cells_insert(aggregate->cells, place->hash, place->keys, place->nulls, window);
	}
	if (sb_reduce_closed(sb_cells_cell(aggregate->cells, entry)))
		sb_pipeline_late(pipeline, row, place->event_time, window, window, true);
	else
		sb_aggregate_add(pipeline, entry, row, place->event_time);
}

/*
 * States that live in the memory of the bundle are looked at after so many rows: there may be a
 * context for each.
 */
#define SB_LOOK_ROWS 256

/* Rows are resolved between rows: that makes others the query's current row. */
static bool
aggregate_after_row(SbPipeline *pipeline, int nrows)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);

	if (aggregate->deferred)
		sb_aggregate_resolve_if_many(pipeline);
	return sb_cells_bytes(aggregate->cells) > aggregate->budget ||
	       (nrows % SB_LOOK_ROWS == 0 &&
	        MemoryContextMemAllocated(pipeline->bundle, true) > aggregate->budget);
}

/* Each pipeline has what it may have, and together they may have too much. */
static void
aggregate_end_rows(SbPipeline *pipeline)
{
	if (sb_cells_bytes_of_all() > aggregate_whole_budget() && !pipeline->in_memory)
		aggregate_shrink(pipeline, sb_cells_bytes(sb_aggregate_cells(pipeline)) / 2);
}

/* ---- an aggregate over nothing ---- */

/*
 * Its cell knows that the row stands, and takes it back with the next pane. What was put before is
 * written with it.
 */
void
sb_pipeline_put_empty(SbPipeline *pipeline)
{
	SbCells *cells = sb_aggregate_cells(pipeline);
	SbFirings firings = {.pipeline = pipeline};
	SbWindow global = {.start = SB_TIME_MIN, .end = SB_TIME_MAX};
	SbPane pane = {.timing = SB_PANE_ON_TIME,
	               .is_last = true,
	               .is_first = true,
	               .timestamp = SB_TIME_MAX,
	               .elements = 1};
	SbBracket saved;
	SbEntry *entry;

	sb_pipeline_as_owner(pipeline, &saved);
	entry =
	    sb_cells_insert(cells, sb_query_keys_hash(pipeline->query, NULL, NULL), NULL, NULL, global);
	sb_firings_add(&firings, entry, sb_firings_copy(&firings, entry), &pane, 0);
	sb_firings_run(&firings);
	sb_bracket_leave(&saved);
}

/*
 * Only where the result is of the kind that takes its rows back: others are given it when they are
 * made.
 */
static void
aggregate_begin_empty(SbPipeline *pipeline)
{
	SbBracket saved;

	if (pipeline->in_memory || pipeline->strategy.accumulation != SB_RETRACTING ||
	    !sb_plan_stands_empty(pipeline->plan) || sb_cells_count(sb_aggregate_cells(pipeline)) > 0)
		return;
	sb_pipeline_lock(pipeline);
	sb_pipeline_as_owner(pipeline, &saved);
	sb_pipeline_put_empty(pipeline);
	sb_pipeline_write_rows(pipeline);
	sb_bracket_leave(&saved);
	pipeline->changed = true;
}

/* ---- the rest is the cells' ---- */

static void
aggregate_clear(SbPipeline *pipeline, const SbWindowRange *range, bool inside)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);

	sb_cells_clear(aggregate->cells, range, inside);
	if (aggregate->nfailed == 0 || pipeline->in_memory)
		return;
	sb_failed_groups_clear(pipeline->row->id, range, inside);
	aggregate->nfailed = sb_failed_groups_count(pipeline->row->id);
}

static void
aggregate_hasten(SbPipeline *pipeline, const SbWindowRange *range)
{
	sb_cells_hasten(sb_aggregate_cells(pipeline), range);
}

static TimestampTz
aggregate_hold(SbPipeline *pipeline)
{
	return sb_cells_earliest_hold(sb_aggregate_cells(pipeline));
}

static TimestampTz
aggregate_next_event(SbPipeline *pipeline)
{
	return sb_cells_next_event(sb_aggregate_cells(pipeline));
}

static TimestampTz
aggregate_next_processing(SbPipeline *pipeline)
{
	const SbAggregate *aggregate = sb_aggregate(pipeline);
	TimestampTz next = sb_cells_next_processing(aggregate->cells);

	return aggregate->nfailed > 0 ? Min(next, aggregate->retry_at) : next;
}

static void
aggregate_attach(SbPipeline *pipeline)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);

	aggregate->nfailed = aggregate->accepted_failed = sb_failed_groups_count(pipeline->row->id);
	aggregate->retry_at = DT_NOBEGIN;
}

static void
aggregate_retry_failed(SbPipeline *pipeline)
{
	sb_aggregate(pipeline)->retry_at = DT_NOBEGIN;
}

/* Aggregates serialize their states: as the owner. */
static void
aggregate_write(SbPipeline *pipeline)
{
	SbBracket saved;

	sb_pipeline_as_owner(pipeline, &saved);
	sb_cells_write(sb_aggregate_cells(pipeline));
	sb_bracket_leave(&saved);
	sb_failed_groups_write();
}

static void
aggregate_accept(SbPipeline *pipeline)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);

	sb_cells_accept(aggregate->cells);
	sb_aggregate_forget_deferred(pipeline);
	aggregate->accepted_failed = aggregate->nfailed;
	aggregate->retried = false;
}

static void
aggregate_rollback(SbPipeline *pipeline)
{
	SbAggregate *aggregate = sb_aggregate(pipeline);

	sb_cells_rollback(aggregate->cells);
	sb_aggregate_forget_deferred(pipeline);
	aggregate->nfailed = aggregate->accepted_failed;
	if (aggregate->retried)
		aggregate->retry_at = DT_NOBEGIN;
	aggregate->retried = false;
}

static int64
aggregate_count(SbPipeline *pipeline)
{
	return sb_cells_count(sb_aggregate_cells(pipeline));
}

const SbStepKind sb_step_aggregate = {.name = "aggregate",
                                      .open = aggregate_open,
                                      .attach = aggregate_attach,
                                      .retry_failed = aggregate_retry_failed,
                                      .begin_rows = aggregate_begin_rows,
                                      .add = aggregate_add,
                                      .after_row = aggregate_after_row,
                                      .make_room = aggregate_make_room,
                                      .end_rows = aggregate_end_rows,
                                      .flush = sb_aggregate_flush,
                                      .timers = sb_aggregate_timers,
                                      .begin_empty = aggregate_begin_empty,
                                      .clear = aggregate_clear,
                                      .hasten = aggregate_hasten,
                                      .hold = aggregate_hold,
                                      .next_event = aggregate_next_event,
                                      .next_processing = aggregate_next_processing,
                                      .write = aggregate_write,
                                      .accept = aggregate_accept,
                                      .rollback = aggregate_rollback,
                                      .count = aggregate_count,
                                      .bytes = aggregate_bytes,
                                      .evict = aggregate_evict};
