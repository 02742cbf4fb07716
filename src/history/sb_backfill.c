/*
 * sb_backfill.c: windows are computed anew; see sb_backfill.h.
 *
 * WHAT FIRES. Nothing while the rows come: a pane in the middle could finish a window. Then each
 * cell gets a timer that is due, so its trigger decides; but a window that had a row in the result
 * has one again at once. Windows past gc_time have their last pane then and are collected. Where
 * there is no watermark yet no window can be finished by it, and panes go as in any bundle.
 *
 * MEMORY. The pipeline's budget, as for any bundle: cells that do not fit are written, leave, and
 * come back with their timers. The windows that had rows are retained for the time of the step.
 */
#include "postgres.h"

#include "access/relation.h"
#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "base/sb_partition.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "history/sb_backfill.h"
#include "pipeline/sb_queue.h"
#include "pipeline/sb_step.h"
#include "replication/message.h"
#include "source/sb_decode.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/sb_lane.h"
#include "worker/sb_worker.h"

/* Rows read at a time. */
#define SB_BACKFILL_ROWS 8192
/*
 * A snapshot that sees all that the stream has gone past is waited for so long before the stream
 * goes on without it.
 */
#define SB_BACKFILL_SNAPSHOT_MS 100

/* ---- the cut of the last step ---- */

static TimestampTz
backfill_column_time(int column)
{
	bool isnull;

	return DatumGetTimestampTz(
	    SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, &isnull));
}

/* What a step has left behind: all windows of its range have what its snapshot has seen. */
typedef struct SbBackfilled
{
	SbWindowRange range;
	SbCut *cut;
} SbBackfilled;

static bool
backfilled_saw(const SbBackfilled *backfilled, TransactionId xid, XLogRecPtr position)
{
	return TransactionIdIsValid(xid) && sb_cut_hides(backfilled->cut, xid, position);
}

static bool
backfilled_leaves_out_of(const void *gate, const SbRow *row, SbWindow window)
{
	const SbBackfilled *backfilled = gate;

	return sb_window_range_has(&backfilled->range, window) &&
	       backfilled_saw(backfilled, row->xid, row->position);
}

static bool
backfilled_spares(const void *gate, const SbMessage *truncate, SbWindowRange *range)
{
	const SbBackfilled *backfilled = gate;

	if (!backfilled_saw(backfilled, truncate->xid, truncate->position))
		return false;
	*range = backfilled->range;
	return true;
}

static const SbGateKind backfilled_gate = {.name = "backfill",
                                           .leaves_out_of = backfilled_leaves_out_of,
                                           .spares = backfilled_spares};

/* The cut is in the pipeline's context. */
static void
backfilled_add(SbPipeline *pipeline, const SbWindowRange *range, SbCut *cut)
{
	SbBackfilled *backfilled = MemoryContextAlloc(pipeline->context, sizeof(SbBackfilled));

	*backfilled = (SbBackfilled){.range = *range, .cut = cut};
	sb_gate_add(pipeline, &backfilled_gate, backfilled);
}

void
sb_backfill_attach(SbPipeline *pipeline)
{
	Oid types[] = {INT4OID, PG_LSNOID};
	Datum values[] = {Int32GetDatum(pipeline->row->id),
	                  LSNGetDatum(pipeline->row->progress.position)};

	if (sb_sql_run("SELECT from_time, lo, hi, snapshot::pg_catalog.text, until FROM beam.cut"
	               " WHERE pipeline OPERATOR(pg_catalog.=) $1 AND until OPERATOR(pg_catalog.>) $2",
	               lengthof(types), types, values, NULL, SPI_OK_SELECT) > 0)
	{
		char *snapshot = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 4);
		SbWindowRange range = {.from = backfill_column_time(1),
		                       .lo = backfill_column_time(2),
		                       .hi = backfill_column_time(3)};
		MemoryContext old = MemoryContextSwitchTo(pipeline->context);
		bool isnull;

		backfilled_add(pipeline, &range,
		               sb_cut_parse(snapshot,
		                            DatumGetLSN(SPI_getbinval(SPI_tuptable->vals[0],
		                                                      SPI_tuptable->tupdesc, 5, &isnull))));
		MemoryContextSwitchTo(old);
	}
	SPI_freetuptable(SPI_tuptable);
}

static void
backfill_store(const SbBackfillStep *step)
{
	Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, PG_LSNOID};
	Datum values[] = {Int32GetDatum(step->pipeline->row->id),
	                  TimestampTzGetDatum(step->range.from),
	                  TimestampTzGetDatum(step->range.lo),
	                  TimestampTzGetDatum(step->range.hi),
	                  CStringGetTextDatum(sb_cut_format(step->cut)),
	                  LSNGetDatum(step->cut->end)};

	sb_sql_run(
	    "INSERT INTO beam.cut VALUES ($1, $2, $3, $4, $5::pg_catalog.pg_snapshot, $6) ON CONFLICT (pipeline) DO UPDATE"
	    " SET from_time = excluded.from_time, lo = excluded.lo, hi = excluded.hi, snapshot = excluded.snapshot, until = excluded.until",
	    lengthof(types), types, values, NULL, SPI_OK_INSERT);
}

bool
sb_backfill_may_step(SbPipeline *pipeline, XLogRecPtr position)
{
	SbBackfilled *backfilled = sb_gate_of(pipeline, &backfilled_gate);

	if (backfilled == NULL)
		return true;
	if (position < backfilled->cut->end)
		return false;
	sb_gate_remove(pipeline, &backfilled_gate);
	pfree(backfilled->cut);
	pfree(backfilled);
	return true;
}

/* ---- windows ---- */

static int
backfill_compare(const void *a, const void *b)
{
	const SbWindow *x = a;
	const SbWindow *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* The windows once each, sorted. */
static int
backfill_sort(SbWindow *windows, int n)
{
	int distinct = 0;

	qsort(windows, n, sizeof(SbWindow), backfill_compare);
	for (int i = 0; i < n; i++)
	{
		if (distinct == 0 || !sb_window_equal(windows[distinct - 1], windows[i]))
			windows[distinct++] = windows[i];
	}
	return distinct;
}

/* Of sessions those count that overlap: what is computed anew may be cut otherwise. */
static int
backfill_overlap(const void *key, const void *element)
{
	const SbWindow *window = key;
	const SbWindow *shown = element;

	return window->end <= shown->start ? -1 : window->start >= shown->end;
}

static bool
backfill_showed(const SbRecompute *recompute, SbWindow window)
{
	const SbBackfillStep *step =
	    (const SbBackfillStep *) ((const char *) recompute - offsetof(SbBackfillStep, recompute));

	return bsearch(&window, step->shown, step->nshown, sizeof(SbWindow),
	               sb_plan_merges(step->pipeline->plan) ? backfill_overlap : backfill_compare) !=
	       NULL;
}

int64
sb_backfill_window_size(SbPipeline *pipeline, TimestampTz at)
{
	int64 size = USECS_PER_SEC;
	SbWindow *windows;
	int n = sb_window_fn_assign(pipeline->plan->window_fn, at, &windows);

	for (int i = 0; i < n; i++)
		size = Max(size, windows[i].end - windows[i].start);
	return size;
}

/*
 * The least start, or the greatest end, of the windows that an element has; the time itself where
 * it is in a gap.
 */
static TimestampTz
backfill_edge(SbPipeline *pipeline, TimestampTz at, bool end)
{
	TimestampTz edge = at;
	SbWindow *windows;
	int n = sb_window_fn_assign(pipeline->plan->window_fn, at, &windows);

	for (int i = 0; i < n; i++)
		edge = end ? Max(edge, windows[i].end) : Min(edge, windows[i].start);
	return edge;
}

/* The event time as SQL over the source's columns. */
static char *
backfill_event_time(const SbPipeline *pipeline)
{
	List *context =
	    deparse_context_for(get_rel_name(pipeline->plan->source), pipeline->plan->source);

	return deparse_expression((Node *) pipeline->plan->event_time, context, false, false);
}

/* Asks for the least or greatest value of an expression; false: there is none. */
static bool
backfill_ask(const char *what, const char *expression, Oid relation, TimestampTz *value)
{
	char *sql = psprintf("SELECT %s(%s) FROM %s WHERE pg_catalog.isfinite(%s)", what, expression,
	                     sb_sql_relation(relation), expression);
	bool isnull;
	Datum datum;

	sb_sql_run(sql, 0, NULL, NULL, NULL, SPI_OK_SELECT);
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		*value = DatumGetTimestampTz(datum);
	SPI_freetuptable(SPI_tuptable);
	return !isnull;
}

/* The first start, or the last, of a window that has rows in the table or in the result. */
static bool
backfill_find_bound(SbPipeline *pipeline, bool last, TimestampTz *bound)
{
	const char *what = last ? "pg_catalog.max" : "pg_catalog.min";
	const char *column = sb_plan_window_column(pipeline->plan, SB_COLUMN_WINDOW_START);
	TimestampTz in_table, in_result;
	bool any_table, any_result;

	any_table =
	    backfill_ask(what, backfill_event_time(pipeline), pipeline->plan->source, &in_table);
	any_result = backfill_ask(what, column, pipeline->row->result, &in_result);
	if (any_table && !last)
		in_table = backfill_edge(pipeline, in_table, false);
	if (!any_table && !any_result)
		return false;
	if (!any_table)
		*bound = in_result;
	else if (!any_result)
		*bound = in_table;
	else
		*bound = last ? Max(in_table, in_result) : Min(in_table, in_result);
	return true;
}

bool
sb_backfill_bounds(SbPipeline *pipeline, TimestampTz from, TimestampTz to, SbWindowRange *range)
{
	SbBracket saved;
	bool found = true;

	*range = SB_ALL_WINDOWS;
	if (!sb_backfill_has_parts(pipeline->plan))
		return true;
	sb_pipeline_as_owner(pipeline, &saved);
	/* windows that begin before `from` and overlap it hold it */
	if (from != DT_NOBEGIN)
		*range = (SbWindowRange){.from = from, .lo = backfill_edge(pipeline, from, false)};
	else
		found = backfill_find_bound(pipeline, false, &range->lo);
	if (to != DT_NOEND)
		range->hi = to;
	else if (found && (found = backfill_find_bound(pipeline, true, &range->hi)))
		range->hi++;
	sb_bracket_leave(&saved);
	return found && range->lo < range->hi;
}

/* ---- a step ---- */

/*
 * A snapshot that sees all that the stream has gone past, and where the two meet. Nobody may
 * rewrite the table from before the snapshot on. A downstream pipeline needs none of it: what
 * is there it has taken.
 */
static bool
backfill_take_snapshot(SbBackfillStep *step)
{
	SbPipeline *pipeline = step->pipeline;

	if (!ConditionalLockRelationOid(pipeline->plan->source, AccessShareLock))
		return false;
	if (!sb_catalog_reads_wal(pipeline->row))
	{
		step->snapshot = RegisterSnapshot(GetLatestSnapshot());
		return true;
	}
	step->snapshot = sb_unseen_await_snapshot(sb_unseen_create(), SB_BACKFILL_SNAPSHOT_MS);
	if (step->snapshot == NULL)
		return false;
	if (!sb_partition_knows_all(pipeline->plan->source))
	{
		UnregisterSnapshot(step->snapshot);
		return false;
	}
	step->cut = sb_cut_of_snapshot(step->snapshot);
	/* something to decode behind it: the stream comes there even where nobody writes */
	step->cut->end = sb_log_message(SB_MARKER_PREFIX, "", 0, false);
	return true;
}

/* Reads all rows that can be in a window of the range, as the step's snapshot sees them. */
static void
backfill_start_scan(SbBackfillStep *step)
{
	SbPipeline *pipeline = step->pipeline;
	SbScanQuery query = {0};
	static const Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum *values = palloc(sizeof(Datum) * lengthof(types));

	if (!sb_window_range_is_all(&step->range))
	{
		char *event_time;
		SbBracket saved;

		sb_pipeline_as_owner(pipeline, &saved);
		event_time = backfill_event_time(pipeline);
		sb_bracket_leave(&saved);
		/*
		 * an element of a window that starts in [lo, hi) is not before lo, and before the end of
		 * those that hold hi's last instant
		 */
		values[0] = TimestampTzGetDatum(step->range.lo);
		values[1] = TimestampTzGetDatum(
		    Max(step->range.hi, backfill_edge(pipeline, step->range.hi - 1, true)));
		query =
		    (SbScanQuery){.condition = psprintf(
		                      "(%s) OPERATOR(pg_catalog.>=) $1 AND (%s) OPERATOR(pg_catalog.<) $2",
		                      event_time, event_time),
		                  .nargs = lengthof(types),
		                  .types = types,
		                  .values = values};
	}
	/* their position, for those that fail: any that the stream has not come to */
	step->scan = sb_scan_begin(pipeline, step->snapshot, &query,
	                           step->cut ? step->cut->end : InvalidXLogRecPtr);
}

/*
 * False: there is no lock or no snapshot to be had now. Else the windows of the range have lost
 * their cells and their rows in the result; those that had rows are noted, since they are to show
 * one again.
 */
static bool
backfill_open(SbRowSource *row_source)
{
	SbBackfillStep *step = row_source->arg;
	SbPipeline *pipeline = step->pipeline;
	MemoryContext old = MemoryContextSwitchTo(step->context);

	/* a plain run may have come to here before */
	pipeline->recompute = NULL;
	if (!backfill_take_snapshot(step))
	{
		MemoryContextSwitchTo(old);
		return false;
	}
	if (sb_input_has_rows(sb_input(pipeline)))
		sb_queue_take(pipeline);
	step->rows = 0;
	step->recompute =
	    (SbRecompute){.range = step->range, .feeding = true, .showed = backfill_showed};
	step->nshown = sb_pipeline_clear(pipeline, &step->range, true, &step->shown);
	step->nshown = sb_plan_merges(pipeline->plan) ? sb_window_merge(step->shown, step->nshown)
	                                              : backfill_sort(step->shown, step->nshown);
	pipeline->recompute = &step->recompute;
	pipeline->changed = true;
	SB_KILL_POINT("after_clear");
	backfill_start_scan(step);
	MemoryContextSwitchTo(old);
	return true;
}

static int
backfill_next(SbRowSource *row_source, SbMessage **messages)
{
	SbBackfillStep *step = row_source->arg;
	int n = sb_scan_next(step->scan, messages, SB_BACKFILL_ROWS);

	step->rows += n;
	return n;
}

static void
backfill_close(SbRowSource *row_source)
{
	SbBackfillStep *step = row_source->arg;

	sb_scan_end(step->scan);
	UnregisterSnapshot(step->snapshot);
	/* what is put aside is of the step, too */
	sb_pipeline_flush(step->pipeline);
	step->recompute.feeding = false;
	if (sb_plan_stands_empty(step->pipeline->plan) && sb_step_count(step->pipeline) == 0)
		sb_pipeline_put_empty(step->pipeline);
	if (step->pipeline->clocks.input_watermark != SB_TIME_MIN && step->pipeline->step->hasten)
		step->pipeline->step->hasten(step->pipeline, &step->range);
	if (step->cut)
		backfill_store(step);
	SB_KILL_POINT("after_backfill_cut");
	step->done(step);
}

SbRowSource
sb_backfill_rows(SbBackfillStep *step)
{
	step->context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam backfill", ALLOCSET_DEFAULT_SIZES);
	return (SbRowSource){.pipeline = step->pipeline,
	                     .asked_for = true,
	                     .arg = step,
	                     .open = backfill_open,
	                     .next = backfill_next,
	                     .close = backfill_close};
}

void
sb_backfill_end(SbBackfillStep *step, bool committed)
{
	SbPipeline *pipeline = step->pipeline;

	pipeline->recompute = NULL;
	if (committed)
		SB_KILL_POINT("after_backfill_commit");
	if (committed && step->cut)
	{
		Size size = offsetof(SbCut, xip) + sizeof(TransactionId) * step->cut->nxip;
		SbCut *cut = MemoryContextAlloc(pipeline->context, size);

		Assert(sb_gate_of(pipeline, &backfilled_gate) == NULL);
		memcpy(cut, step->cut, size);
		backfilled_add(pipeline, &step->range, cut);
	}
	MemoryContextDelete(step->context);
}
