/*
 * sb_pipeline_change.c: what a change of the source does: rows are added and taken back, a TRUNCATE
 * empties all, and what cannot be applied becomes a letter.
 *
 * RULES. An UPDATE is its two sides, each judged by itself: by its own window, its own lateness,
 * its own errors. In an append-only pipeline everything but an INSERT is a dead letter.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/spi.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_left_out.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_pipeline_private.h"
#include "pipeline/sb_step.h"
#include "sink/sb_letters.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/sb_at_commit.h"

/* A tuple as JSON; NULL: there is none. In the current context. */
static char *
change_json(SbPipeline *pipeline, HeapTupleHeader tuple, uint32 length, const SbLayout *layout)
{
	SbBracket saved;
	char *json;

	if (tuple == NULL)
		return NULL;
	/* types have output functions */
	sb_pipeline_as_owner(pipeline, &saved);
	json = sb_row_to_json(pipeline->plan, tuple, length, layout->desc);
	sb_bracket_leave(&saved);
	return json;
}

/* To tell of a row or message, which may have none of its own. */
static XLogRecPtr
change_position(const SbPipeline *pipeline, XLogRecPtr position)
{
	return XLogRecPtrIsInvalid(position) ? pipeline->progress.position : position;
}

/* Of a row that was to be added: what it is known by from now on, or has been before. */
static uint64
change_leave_out(SbPipeline *pipeline, const SbMessage *message)
{
	SbRow row;

	if (pipeline->left_out == NULL || message->change.op != SB_CHANGE_INSERT)
		return 0;
	/* it has failed again: what has been taken out for it is undone */
	if (message->letter && *message->letter != 0)
		return *message->letter;
	row = sb_message_new_row(message);
	return sb_pipeline_leave_out(pipeline, &row);
}

void
sb_pipeline_put_dead(SbPipeline *pipeline, const SbMessage *message, const ErrorData *error)
{
	static const char *const names[] = {"truncate", "insert", "update", "delete"};
	const SbChange *change = &message->change;
	char *json = change->op == SB_CHANGE_DELETE
	                 ? change_json(pipeline, change->old, change->old_length, change->layout)
	                 : change_json(pipeline, change->new, change->new_length, change->layout);

	sb_letters_put_dead(pipeline->row->id, change_position(pipeline, message->position),
	                    names[change->op], json, change_leave_out(pipeline, message), error);
	pipeline->progress.dead++;
}

void
sb_pipeline_late(SbPipeline *pipeline, const SbRow *row, TimestampTz event_time, SbWindow own,
                 SbWindow window, bool closed)
{
	SbLateEvent event = {.pipeline = pipeline->row->id,
	                     .position = change_position(pipeline, row->position),
	                     .event_time = event_time,
	                     .window = window,
	                     .op = row->weight < 0 ? "delete" : "insert",
	                     .closed = closed,
	                     .watermark = pipeline->clocks.input_watermark};
	MemoryContext old = MemoryContextSwitchTo(pipeline->element);
	char *json = change_json(pipeline, row->tuple, row->length, row->layout);

	sb_pipeline_put_late(pipeline, &event, json);
	if (row->weight > 0 && pipeline->left_out)
		sb_left_out_put(pipeline, sb_left_out_hash(pipeline, row), own);
	pipeline->progress.late++;
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
}

/* ---- changes other than an INSERT ---- */

/* How a partition's rows have come or gone, for the beginning of a message. */
static char *
change_rebuild_cause(const SbControl *rebuild)
{
	const char *name = rebuild->text;

	switch (rebuild->cause)
	{
		case SB_REBUILD_ATTACH:
			return psprintf("table \"%s\" was attached as a partition with rows in it", name);
		case SB_REBUILD_DETACH:
			return psprintf("partition \"%s\" was detached with rows in it", name);
		case SB_REBUILD_DROP:
			return psprintf("partition \"%s\" was dropped with rows in it", name);
		case SB_REBUILD_TRUNCATE:
			return psprintf("partition \"%s\" was truncated by itself, with rows in it", name);
		case SB_REBUILD_LOGGED:
			return psprintf("table \"%s\" was unlogged for some time, with its changes not in the WAL",
			                name);
	}
	pg_unreachable();
}

/* What an append-only pipeline cannot apply. */
static void
change_refuse(SbPipeline *pipeline, const SbMessage *message)
{
	static const char *const names[] = {"TRUNCATE", "INSERT", "UPDATE", "DELETE"};
	MemoryContext old = MemoryContextSwitchTo(pipeline->element);
	ErrorData error = {.sqlerrcode = ERRCODE_FEATURE_NOT_SUPPORTED};

	if (message->control && message->control->kind == SB_CONTROL_REBUILD)
		error.message = change_rebuild_cause(message->control);
	else
		error.message =
		    psprintf("%s of the source of an append-only pipeline", names[message->change.op]);
	sb_pipeline_put_dead(pipeline, message, &error);
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
}

/* Have old tuples of this layout all columns that the query uses? */
static bool
change_old_is_known(SbPipeline *pipeline, const SbLayout *layout)
{
	int attno = -1;

	if (layout == sb_input(pipeline)->checked_layout)
		return sb_input(pipeline)->old_is_known;
	sb_input(pipeline)->checked_layout = layout;
	sb_input(pipeline)->old_is_known = true;
	while ((attno = bms_next_member(pipeline->plan->columns, attno)) >= 0)
		sb_input(pipeline)->old_is_known = sb_input(pipeline)->old_is_known &&
		                                   attno <= layout->desc->natts &&
		                                   (layout->in_old == NULL || layout->in_old[attno - 1]);
	return sb_input(pipeline)->old_is_known;
}

static void
change_check_old(SbPipeline *pipeline, const SbChange *change)
{
	const char *table;

	if (change_old_is_known(pipeline, change->layout) &&
	    (change->old || change->op == SB_CHANGE_UPDATE))
		return;
	/* the partition has the identity; where it is gone, the source is what can be named */
	table = get_rel_name(change->table);
	if (table == NULL)
		table = get_rel_name(pipeline->plan->source);
	ereport(ERROR,
	        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	         errmsg("the old values of a changed row of table \"%s\" are not in the WAL, pipeline \"%s\" cannot take them back",
	                table, pipeline->row->name),
	         errhint("ALTER TABLE %s REPLICA IDENTITY FULL, then call beam.resync_pipeline().",
	                 quote_identifier(table))));
}

static void change_truncate(SbPipeline *pipeline, const SbMessage *truncate);

/*
 * Rows have come without an INSERT, or left without a DELETE. In an append-only pipeline those that
 * leave stay counted. While the history is being read, it is read again from the beginning.
 */
static void
change_rebuild(SbPipeline *pipeline, const SbMessage *rebuild)
{
	SbRebuildCause cause = rebuild->control->cause;
	SbBracket saved;

	if (!pipeline->retractable && cause != SB_REBUILD_ATTACH && cause != SB_REBUILD_LOGGED)
	{
		change_refuse(pipeline, rebuild);
		return;
	}
	sb_bracket_enter_extension(&saved);
	if (sb_catalog_mark_rebuild(pipeline->row->id, change_rebuild_cause(rebuild->control)))
		sb_at_commit_tell_runner();
	sb_bracket_leave(&saved);
}

/* What is said of the source as a whole; an error where the pipeline cannot go on. */
static void
change_control(SbPipeline *pipeline, const SbMessage *message)
{
	switch (message->control->kind)
	{
		case SB_CONTROL_UNREADABLE:
			ereport(
			    ERROR,
			    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			     errmsg("a change of the source of pipeline \"%s\" cannot be read from the WAL: %s",
			            pipeline->row->name, message->control->text),
			     errhint(
			         "Call beam.resync_pipeline(): it makes the result anew from the source, without that change.")));
			break;
		case SB_CONTROL_REBUILD:
			change_rebuild(pipeline, message);
			break;
		case SB_CONTROL_TRUNCATE:
			if (!pipeline->retractable)
			{
				change_refuse(pipeline, message);
				return;
			}
			change_truncate(pipeline, message);
			sb_gates_emptied(pipeline, message);
			break;
	}
}

bool
sb_pipeline_change_counts(SbPipeline *pipeline, const SbMessage *message, bool *stays)
{
	const SbChange *change = &message->change;
	SbSame same;

	*stays = false;
	if (message->control)
	{
		change_control(pipeline, message);
		return false;
	}
	if (!pipeline->retractable)
	{
		change_refuse(pipeline, message);
		return false;
	}
	change_check_old(pipeline, change);
	if (change->op != SB_CHANGE_UPDATE)
		return true;
	/* without an old tuple it has left the identity as it was, which is all that the query uses */
	if (change->old == NULL)
		return false;
	/*
	 * a history judges each side by its part value, which the query may not use: the row may have
	 * moved to where it is read, or from there
	 */
	if (sb_gates_judge_rows(pipeline))
		return true;
	same = sb_query_compare(pipeline->query, change->old, change->new, change->layout->desc);
	*stays = same == SB_SAME_PLACE;
	/*
	 * an UPDATE of nothing that the query uses is none: no pane, and nothing late about an old row
	 */
	return same != SB_SAME_ALL;
}

/* ---- TRUNCATE ---- */

/* The window of a row that the result has lost, and the row for those who read it. */
static SbWindow
clear_row(SbPipeline *pipeline, HeapTuple tuple, TupleDesc desc)
{
	int ncolumns = pipeline->plan->ncolumns;
	Datum *values = palloc(sizeof(Datum) * (ncolumns + 1));
	bool *nulls = palloc(sizeof(bool) * (ncolumns + 1));
	SbWindow window;

	heap_deform_tuple(tuple, desc, values, nulls);
	window = sb_plan_row_window(pipeline->plan, values,
	                            (SbWindow){.start = SB_TIME_MIN, .end = SB_TIME_MAX});
	if (pipeline->chain)
		sb_chain_put(pipeline, values, nulls, DatumGetInt16(values[ncolumns]));
	pfree(values);
	pfree(nulls);
	return window;
}

int
sb_pipeline_clear(SbPipeline *pipeline, const SbWindowRange *range, bool inside, SbWindow **windows)
{
	MemoryContext context = CurrentMemoryContext;
	SbBracket saved;
	int n;

	sb_pipeline_lock(pipeline);
	/* so that nothing is pending anywhere */
	sb_pipeline_flush(pipeline);
	sb_pipeline_write_state(pipeline);
	if (pipeline->step->clear)
		pipeline->step->clear(pipeline, range, inside);
	sb_left_out_clear(pipeline, range, inside);
	if (pipeline->in_memory)
		return 0;
	sb_pipeline_as_owner(pipeline, &saved);
	n = sb_result_clear(pipeline->result, range, inside);
	*windows = MemoryContextAllocHuge(context, sizeof(SbWindow) * (n + 1));
	MemoryContextSwitchTo(pipeline->element);
	for (int i = 0; i < n; i++)
		(*windows)[i] = clear_row(pipeline, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
	SPI_freetuptable(SPI_tuptable);
	sb_bracket_leave(&saved);
	MemoryContextSwitchTo(context);
	MemoryContextReset(pipeline->element);
	return n;
}

/*
 * The source is empty: so are cells and result, whatever has become of the windows; but for those
 * that have been computed anew by a snapshot that has seen it empty.
 */
static void
change_truncate(SbPipeline *pipeline, const SbMessage *truncate)
{
	SbWindowRange range = SB_ALL_WINDOWS;
	bool spare = sb_gates_spare(pipeline, truncate, &range);
	SbWindow *windows;
	MemoryContext old;

	if (spare && sb_window_range_is_all(&range))
		return;
	old = MemoryContextSwitchTo(pipeline->bundle);
	(void) sb_pipeline_clear(pipeline, &range, !spare, &windows);
	MemoryContextSwitchTo(pipeline->element);
	if (!pipeline->in_memory && sb_plan_stands_empty(pipeline->plan))
		sb_pipeline_put_empty(pipeline);
	sb_pipeline_write_rows(pipeline);
	MemoryContextSwitchTo(old);
	MemoryContextReset(pipeline->element);
}
