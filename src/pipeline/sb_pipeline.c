/*
 * sb_pipeline.c: one pipeline at work; see sb_pipeline.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_compat.h"
#include "base/sb_error.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/sb_option.h"
#include "catalog/sb_owner.h"
#include "catalog/sb_pipeline_names.h"
#include "catalog/sb_view.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_left_out.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_pipeline_private.h"
#include "pipeline/sb_split.h"
#include "pipeline/sb_step.h"
#include "rewrite/rewriteHandler.h"
#include "sink/sb_letters.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/* ---- opening ---- */

static char *
pipeline_relation_name(const SbPipelineRow *row, Oid relation, const char *what)
{
	if (get_rel_relkind(relation) != RELKIND_RELATION)
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("the %s of pipeline \"%s\" is gone", what, row->name),
		         errhint("Drop the pipeline with beam.drop_pipeline() and create it again.")));
	return sb_sql_relation(relation);
}

/*
 * A copy in the current context, which lives as long as the pipeline is open. Error and signature
 * are left out: they are taken from the catalog's row.
 */
static SbPipelineRow *
pipeline_copy_row(const SbPipelineRow *row)
{
	SbPipelineRow *copy = palloc(sizeof(SbPipelineRow));

	*copy = *row;
	copy->name = pstrdup(row->name);
	copy->fingerprint = pstrdup(row->fingerprint);
	sb_options_copy(copy);
	copy->error_code = copy->error_message = NULL;
	copy->nsignature = 0;
	copy->signature = NULL;
	copy->settings = palloc(sizeof(char *) * (row->nsettings + 1));
	for (int i = 0; i < row->nsettings; i++)
		copy->settings[i] = pstrdup(row->settings[i]);
	return copy;
}

SbStrategy
sb_pipeline_strategy(const SbPipelineRow *row)
{
	int64 lateness = row->allowed_lateness_us;

	return (SbStrategy){.trigger = sb_trigger_parse(row->trigger),
	                    .allowed_lateness_us =
	                        lateness == SB_LATENESS_NO_LIMIT ? SB_LATE_FOR_EVER : lateness,
	                    .accumulation = sb_accumulation_of_name(row->accumulation),
	                    .combiner = sb_combiner_of_name(row->timestamp_combiner),
	                    .on_time_always = strcmp(row->on_time, SB_FIRE_ALWAYS) == 0,
	                    .closing_always = strcmp(row->closing, SB_FIRE_ALWAYS) == 0};
}

static void
pipeline_set_progress(SbPipeline *pipeline)
{
	if (pipeline->in_memory)
		pipeline->row->progress = (SbProgress){.pipeline = pipeline->row->id,
		                                       .input_watermark = SB_TIME_MIN,
		                                       .output_watermark = SB_TIME_MIN,
		                                       .max_event_time = SB_TIME_MIN};
	pipeline->progress = pipeline->row->progress;
	pipeline->persisted = pipeline->progress.position;
	pipeline->clocks.input_watermark = pipeline->progress.input_watermark;
	pipeline->clocks.output_watermark = pipeline->progress.output_watermark;
	pipeline->clocks.processing_time = pipeline->in_memory ? 0 : sb_clock_now();
	pipeline->accepted_clocks = pipeline->clocks;
}

/* Rows are told apart as they were when the state was made, whose signature it is. */
static SbPlan *
pipeline_plan(const SbPipelineRow *row, int nsignature, char *const *signature)
{
	SbPlan *plan = sb_plan_build(sb_view_definition(row, NULL));

	sb_signature_fix_identity(plan, nsignature, signature);
	return plan;
}

SbPipeline *
sb_pipeline_open(const SbPipelineRow *row, const SbSinkKind *instead, void *sink)
{
	/* an error on the way frees what has been made */
	MemoryContext context = AllocSetContextCreate(CurTransactionContext, "stream_beam pipeline",
	                                              ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SbPipeline *pipeline = palloc0(sizeof(SbPipeline));
	SbBracket saved;
	char *state_name;

	pipeline->context = context;
	pipeline->bundle = AllocSetContextCreate(context, "stream_beam bundle", ALLOCSET_DEFAULT_SIZES);
	pipeline->element =
	    AllocSetContextCreate(context, "stream_beam element", ALLOCSET_DEFAULT_SIZES);
	pipeline->row = pipeline_copy_row(row);
	sb_owner_check(row);
	(void) pipeline_relation_name(row, row->result, "result table");
	state_name = instead ? NULL : pipeline_relation_name(row, row->state_table, "state table");
	pipeline->in_memory = instead != NULL;
	if (instead == NULL)
		pipeline->limit.account = sb_limit_account(row->owner);
	pipeline->retractable = row->retractable;
	pipeline->strategy = sb_pipeline_strategy(pipeline->row);
	pipeline_set_progress(pipeline);

	sb_left_out_attach(pipeline);
	/* expressions are folded at planning */
	sb_pipeline_as_owner(pipeline, &saved);
	pipeline->plan = pipeline_plan(row, row->nsignature, row->signature);
	pipeline->strategy.merging = sb_plan_merges(pipeline->plan);
	pipeline->inputs = sb_input_create(pipeline);
	pipeline->query =
	    sb_query_open(pipeline->plan,
	                  AllocSetContextCreate(context, "stream_beam cells", ALLOCSET_DEFAULT_SIZES),
	                  pipeline->bundle, pipeline->retractable);
	if (instead == NULL)
	{
		pipeline->signature = sb_signature_of(pipeline->query);
		sb_signature_check(pipeline->query, pipeline->signature, row->nsignature, row->signature,
		                   row->name);
		sb_result_check(pipeline->plan, row->result, pipeline->strategy.accumulation, row->name);
		sb_result_identify_if_free(row->result, row->owner);
	}
	pipeline->step = pipeline->plan->maps ? &sb_step_map : &sb_step_aggregate;
	pipeline->step_state = pipeline->step->open(pipeline, state_name);
	pipeline->result = sb_result_open(pipeline->plan, row->result, pipeline->strategy.accumulation);
	if (instead)
		sb_pipeline_add_sink(pipeline, instead, sink);
	else
		sb_pipeline_add_sink(pipeline, &sb_result_sink, pipeline->result);
	sb_bracket_leave(&saved);
	pipeline->out_values = palloc(sizeof(Datum) * pipeline->plan->ncolumns);
	pipeline->out_nulls = palloc(sizeof(bool) * pipeline->plan->ncolumns);
	MemoryContextSwitchTo(old);
	return pipeline;
}

void
sb_pipeline_retain(SbPipeline *pipeline, MemoryContext context)
{
	MemoryContextSetParent(pipeline->context, context);
}

void
sb_pipeline_verify(SbPipeline *pipeline)
{
	const SbPipelineRow *row = pipeline->row;
	const SbSignature *signature = pipeline->signature;
	SbBracket saved;
	SbPlan *plan;
	SbQuery *query;

	(void) pipeline_relation_name(row, row->result, "result table");
	(void) pipeline_relation_name(row, row->state_table, "state table");
	sb_owner_check(row);
	sb_pipeline_as_owner(pipeline, &saved);
	plan = pipeline_plan(row, signature->n, signature->texts);
	/* compiling them asks for the rights to the functions */
	query = sb_query_open(plan, CurrentMemoryContext, CurrentMemoryContext, pipeline->retractable);
	sb_signature_check(query, sb_signature_of(query), signature->n, signature->texts, row->name);
	sb_result_check(pipeline->plan, row->result, pipeline->strategy.accumulation, row->name);
	if (sb_input(pipeline)->splits)
		(void) sb_plan_split(plan, row->watermark_by);
	sb_query_close(query);
	sb_bracket_leave(&saved);
}

bool
sb_pipeline_is_outgrown(const SbPipelineRow *row)
{
	SbBracket saved;
	SbPlan *plan;
	SbQuery *query;
	bool outgrown;

	sb_owner_enter(row, &saved);
	plan = pipeline_plan(row, row->nsignature, row->signature);
	query = sb_query_open(plan, CurrentMemoryContext, CurrentMemoryContext, row->retractable);
	outgrown = sb_signature_has_other_types(query, sb_signature_of(query), row->nsignature,
	                                        row->signature);
	sb_query_close(query);
	sb_bracket_leave(&saved);
	return outgrown;
}

bool
sb_pipeline_result_moved(const SbPipeline *pipeline)
{
	return sb_result_has_moved(pipeline->result, pipeline->row->owner);
}

bool
sb_pipeline_result_altered(const SbPipeline *pipeline)
{
	return sb_result_is_altered(pipeline->result);
}

void
sb_pipeline_close(SbPipeline *pipeline)
{
	sb_query_close(pipeline->query);
	MemoryContextDelete(pipeline->context);
}

void
sb_pipeline_at_work(SbPipeline *pipeline, bool fed)
{
	if (fed)
		sb_work_on(SB_WORK_ROWS, pipeline->row->id, pipeline->row->progress.bundles);
	else
		sb_work_on(SB_WORK_STREAM, pipeline->row->id, pipeline->persisted);
	sb_limit_part(&pipeline->limit, fed);
}

void
sb_pipeline_rests(void)
{
	sb_limit_rest();
	sb_work_on_other();
}

SbPipeline *
sb_pipeline_find(List *pipelines, int32 id)
{
	ListCell *lc;

	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (pipeline->row->id == id)
			return pipeline;
	}
	return NULL;
}

void
sb_pipeline_attach(SbPipeline *pipeline)
{
	if (pipeline->step->attach)
		pipeline->step->attach(pipeline);
}

void
sb_pipeline_retry_failed(SbPipeline *pipeline)
{
	if (pipeline->step->retry_failed)
		pipeline->step->retry_failed(pipeline);
}

bool
sb_pipeline_may_bear(const SbPipeline *pipeline, const ErrorData *error)
{
	return sb_error_is_of_data(error, false) ||
	       (pipeline->strict && sb_error_is_of_data(error, true) && !sb_limit_is_cause(error));
}

void
sb_pipeline_start_at(SbPipeline *pipeline, XLogRecPtr position)
{
	pipeline->progress.position = pipeline->row->progress.position =
	    Max(pipeline->progress.position, position);
}

/* ---- rows ---- */

void
sb_pipeline_begin_bundle(SbPipeline *pipeline, TimestampTz now)
{
	pipeline->clocks.processing_time = Max(pipeline->clocks.processing_time, now);
	pipeline->changed = pipeline->locked = false;
	sb_input_begin_bundle(sb_input(pipeline), pipeline->clocks.processing_time);
	pipeline->guard = Max(pipeline->guard - 1, 0);
}

/*
 * While windows are computed anew: is the window not among them? The others have the row. Else: was
 * it among them, and the row in the table then?
 */
static inline bool
pipeline_leaves_out(const SbPipeline *pipeline, const SbRow *row, SbWindow window)
{
	if (unlikely(pipeline->recompute != NULL))
		return !sb_window_range_has(&pipeline->recompute->range, window);
	return unlikely(sb_input(pipeline)->gates != NIL) &&
	       sb_gates_leave_out_of(pipeline, row, window);
}

/*
 * `left_out`: what the row may be known by, of those left out; 0: it is not asked for. What was
 * left out of a window is not taken out of it, and, out of a letter, is added to no other.
 */
static void
pipeline_add_windows(SbPipeline *pipeline, const SbRow *row, const SbPlace *place, uint64 left_out)
{
	for (int i = 0; i < place->nwindows; i++)
	{
		SbWindow window = place->windows[i];

		if (pipeline_leaves_out(pipeline, row, window))
			continue;
		if (likely(left_out == 0) ||
		    sb_left_out_take(pipeline, left_out, window) == (row->weight > 0))
			pipeline->step->add(pipeline, row, place, window);
		CHECK_FOR_INTERRUPTS();
	}
}

/*
 * A row has come whose event time this is; SB_TIME_MIN: it has none. That of a user's window
 * function may be infinite, which says nothing of the time.
 */
static inline void
pipeline_tell_time(SbPipeline *pipeline, TimestampTz event_time)
{
	SbInput *input = sb_input(pipeline);

	if (unlikely(event_time == SB_TIME_MAX))
		return;

	input->max_event_time = Max(input->max_event_time, event_time);
	if (unlikely(input->splits != NULL) && event_time != SB_TIME_MIN)
		sb_splits_row(pipeline, input->splits, event_time);
}

/* Finds the groups of the row, which is the query's current one. False: there are none. */
static bool
pipeline_place(SbPipeline *pipeline, const SbRow *row, SbPlace *place)
{
	if (!sb_query_filter(pipeline->query))
		return false;
	place->nwindows = sb_query_windows(pipeline->query, &place->event_time, &place->windows);
	/*
	 * A row in a gap between windows is in none, and tells the time all the same. What is read from
	 * the table does not: the stream may have to come there yet.
	 */
	if (row->weight > 0 && pipeline->recompute == NULL)
		pipeline_tell_time(pipeline, place->event_time);
	if (place->nwindows == 0)
		return false;
	place->hash = sb_query_keys(pipeline->query, &place->keys, &place->nulls);
	return true;
}

/* What the row may be known by, of those left out; 0: that need not be asked. */
static inline uint64
pipeline_left_out(const SbPipeline *pipeline, const SbRow *row)
{
	if (row->weight > 0)
		return likely(row->letter == NULL) ? 0 : *row->letter;
	return likely(!sb_left_out_any(pipeline)) ? 0 : sb_left_out_hash(pipeline, row);
}

static void
pipeline_row(SbPipeline *pipeline, const SbRow *row)
{
	uint64 left_out = pipeline_left_out(pipeline, row);
	SbPlace place;

	sb_query_set_row(pipeline->query, row->tuple, row->layout->desc);
	if (sb_input(pipeline)->gates != NIL && sb_gates_leave_out(pipeline, row))
		return;
	if (unlikely(left_out != 0) && sb_left_out_take(pipeline, left_out, SB_NO_WINDOW))
	{
		if (row->weight < 0)
			return;
		left_out = 0;
	}
	if (pipeline_place(pipeline, row, &place))
		pipeline_add_windows(pipeline, row, &place, left_out);
}

typedef struct SbLeaving
{
	SbPipeline *pipeline;
	const SbRow *row;
	int nwindows;
	SbWindow *windows;
} SbLeaving;

static void
pipeline_find_windows(void *arg)
{
	SbLeaving *leaving = arg;
	SbPipeline *pipeline = leaving->pipeline;
	TimestampTz event_time;
	SbBracket saved;

	sb_pipeline_as_owner(pipeline, &saved);
	sb_query_set_row(pipeline->query, leaving->row->tuple, leaving->row->layout->desc);
	if (sb_query_filter(pipeline->query))
		leaving->nwindows = sb_query_windows(pipeline->query, &event_time, &leaving->windows);
	sb_bracket_leave(&saved);
}

uint64
sb_pipeline_leave_out(SbPipeline *pipeline, const SbRow *row)
{
	SbLeaving leaving = {.pipeline = pipeline, .row = row};
	uint64 hash = sb_left_out_hash(pipeline, row);
	ErrorData *error;

	if (!sb_try(pipeline_find_windows, &leaving, &error))
	{
		if (sb_error_is_of_server(error) || sb_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
		FreeErrorData(error);
		leaving.nwindows = 0;
	}
	for (int i = 0; i < leaving.nwindows; i++)
	{
		if (!pipeline_leaves_out(pipeline, row, leaving.windows[i]))
			sb_left_out_put(pipeline, hash, leaving.windows[i]);
	}
	/* windows that are computed anew are some of its windows: of the others it has been left out */
	if (leaving.nwindows == 0 &&
	    (pipeline->recompute == NULL || sb_window_range_is_all(&pipeline->recompute->range)))
		sb_left_out_put(pipeline, hash, SB_NO_WINDOW);
	sb_left_out_write(pipeline);
	return hash;
}

/* Both rows of an UPDATE that leaves the row in its groups: they are found once. */
static void
pipeline_rows_in_place(SbPipeline *pipeline, const SbMessage *update)
{
	SbRow old = sb_message_old_row(update);
	SbRow new = sb_message_new_row(update);
	SbPlace place;

	sb_query_set_row(pipeline->query, new.tuple, new.layout->desc);
	if (!pipeline_place(pipeline, &new, &place))
		return;
	sb_query_exchange_row(pipeline->query, old.tuple);
	pipeline_add_windows(pipeline, &old, &place, 0);
	sb_query_exchange_row(pipeline->query, new.tuple);
	pipeline_add_windows(pipeline, &new, &place, 0);
}

/* Takes a change apart into rows; what is no INSERT may not be for the groups at all. */
static void
pipeline_message(SbPipeline *pipeline, const SbMessage *message)
{
	SbRow row;
	bool stays = false;

	if (unlikely(message->change.op != SB_CHANGE_INSERT) &&
	    !sb_pipeline_change_counts(pipeline, message, &stays))
		return;
	if (stays && likely(!sb_left_out_any(pipeline)))
	{
		pipeline_rows_in_place(pipeline, message);
		return;
	}
	if (message->change.old)
	{
		row = sb_message_old_row(message);
		pipeline_row(pipeline, &row);
	}
	if (message->change.new)
	{
		row = sb_message_new_row(message);
		pipeline_row(pipeline, &row);
	}
}

void
sb_pipeline_take(SbPipeline *pipeline, const SbMessage *messages, int lo, int hi)
{
	const SbStepKind *step = pipeline->step;
	Oid source = sb_input(pipeline)->source;
	SbBracket saved;

	sb_limit_rows(hi - lo);
	sb_left_out_read(pipeline, messages, lo, hi);
	if (step->begin_rows)
		step->begin_rows(pipeline);
	sb_pipeline_as_owner(pipeline, &saved);
	for (int i = lo; i < hi; i++)
	{
		const SbMessage *message = &messages[i];

		if (message->source != source)
			continue;
		/* of the stream, and it has had it */
		if (TransactionIdIsValid(message->xid) &&
		    message->position <= pipeline->row->progress.position)
			continue;
		if (unlikely(!pipeline->locked))
			sb_pipeline_lock(pipeline);
		pipeline->current = message->position;
		pipeline_message(pipeline, message);
		/* what is computed anew has come in before */
		if (pipeline->recompute == NULL)
			pipeline->progress.rows_in++;
		pipeline->changed = true;
		if (likely(!step->after_row(pipeline, i - lo + 1)))
			continue;
		/* downstream pipelines get their rows: not in the owner's bracket */
		pipeline->current = InvalidXLogRecPtr;
		sb_bracket_leave(&saved);
		step->make_room(pipeline);
		sb_pipeline_as_owner(pipeline, &saved);
	}
	pipeline->current = InvalidXLogRecPtr;
	sb_bracket_leave(&saved);
	if (step->end_rows)
		step->end_rows(pipeline);
}

/* ---- ends ---- */

void
sb_pipeline_lock(SbPipeline *pipeline)
{
	if (pipeline->locked || pipeline->in_memory)
		return;
	LockRelationOid(pipeline->row->result, RowExclusiveLock);
	LockRelationOid(pipeline->row->state_table, RowExclusiveLock);
	pipeline->locked = true;
}

void
sb_pipeline_flush(SbPipeline *pipeline)
{
	SbBracket saved;

	pipeline->step->flush(pipeline);
	sb_pipeline_as_owner(pipeline, &saved);
	sb_pipeline_write_rows(pipeline);
	sb_bracket_leave(&saved);
	sb_chain_hand_on(pipeline, false);
}

/* What is due by the clocks, as they are now. */
static void
pipeline_timers(SbPipeline *pipeline)
{
	SbBracket saved;

	if (pipeline->step->timers)
		pipeline->step->timers(pipeline);
	if (!sb_pipeline_has_rows(pipeline))
		return;
	sb_pipeline_as_owner(pipeline, &saved);
	sb_pipeline_write_rows(pipeline);
	sb_bracket_leave(&saved);
}

/* How finely the watermark of a resting source goes on: each step is a write. */
#define SB_IDLE_STEP_US USECS_PER_SEC

/*
 * Where the watermark of a source at rest, which is `watermark` by its rows, has come: it goes on
 * as the wall clock does, but not beyond that, since events have their times from wall clocks. A
 * source that has never had a row has none.
 */
static TimestampTz
pipeline_rest(SbPipeline *pipeline, TimestampTz watermark)
{
	SbInput *input = sb_input(pipeline);
	int64 rest = sb_input_rest(input, pipeline->row->idle_timeout_us);
	TimestampTz wall =
	    pipeline->clocks.processing_time - sb_clock_ahead() - pipeline->row->watermark_delay_us;

	if (rest == 0 || watermark == SB_TIME_MIN || watermark >= wall)
		return watermark;
	wall = Min(wall, watermark + rest);
	/* in steps, but for a timer that waits for it */
	if (wall - watermark < SB_IDLE_STEP_US &&
	    wall <= sb_chain_next_event(pipeline, pipeline->clocks.input_watermark))
		return watermark;
	sb_input_rested(input);
	return wall;
}

/* The input watermark never goes back, and stands still until the rows from before are in. */
static void
pipeline_advance(SbPipeline *pipeline)
{
	const SbInput *input = sb_input(pipeline);
	int64 delay = pipeline->row->watermark_delay_us;
	TimestampTz watermark = pipeline->clocks.input_watermark;

	if (pipeline->in_memory)
		return;
	/* nothing is late or collected before the rows from before are in */
	if (!sb_gates_are_open(pipeline))
		return;
	if (input->kind->timed_by_rows(input) && pipeline->plan->event_time == NULL)
		return;
	watermark = sb_input_watermark(input, watermark, delay);
	if (input->kind->timed_by_rows(input))
		watermark = pipeline_rest(pipeline, watermark);
	if (watermark > pipeline->clocks.input_watermark)
	{
		pipeline->clocks.input_watermark = watermark;
		pipeline->changed = true;
	}
}

/* A new output watermark alone is worth a write: who waits for it reads it in the catalog. */
static void
pipeline_advance_output(SbPipeline *pipeline)
{
	TimestampTz before = pipeline->clocks.output_watermark;

	sb_clocks_advance_output(&pipeline->clocks, sb_step_hold(pipeline));
	if (pipeline->clocks.output_watermark != before)
		pipeline->changed = true;
}

void
sb_pipeline_move_clocks(SbPipeline *pipeline, TimestampTz watermark, TimestampTz processing_time)
{
	pipeline->clocks.input_watermark = Max(pipeline->clocks.input_watermark, watermark);
	pipeline->clocks.processing_time = Max(pipeline->clocks.processing_time, processing_time);
	pipeline_timers(pipeline);
	pipeline_advance_output(pipeline);
	sb_pipeline_write_state(pipeline);
	sb_pipeline_accept(pipeline);
}

void
sb_pipeline_end_bundle(SbPipeline *pipeline, XLogRecPtr position, TimestampTz commit_time,
                       bool caught_up)
{
	bool had_rows = pipeline->changed;
	SbProgress *progress = &pipeline->progress;
	SbInput *input = sb_input(pipeline);

	sb_input_end_bundle(input, had_rows, caught_up, pipeline->row->idle_timeout_us);
	sb_pipeline_flush(pipeline);
	if (input->kind->has_begun(pipeline, input, Max(position, progress->position)) &&
	    pipeline->step->begin_empty)
		pipeline->step->begin_empty(pipeline);
	pipeline_advance(pipeline);
	pipeline_timers(pipeline);
	pipeline_advance_output(pipeline);
	/* it is not there while rows from before are in its queue */
	if (!input->draining)
		progress->position = Max(progress->position, position);
	if (!pipeline->changed)
		return;
	if (had_rows)
		progress->commit_time = commit_time;
	sb_pipeline_write(pipeline);
}

/* No clock shows a time beyond this, and differences of times below it do not overflow. */
#define CLOCK_MOST (PG_INT64_MAX / 2)
/* At rest, the way to the next timer is gone in so many steps: a restart loses no more than one. */
#define SB_IDLE_STEPS 16

/* The next time that the watermark of a source at rest is to come to; SB_TIME_MAX: none. */
static TimestampTz
pipeline_rest_target(SbPipeline *pipeline, bool awaited)
{
	TimestampTz watermark = pipeline->clocks.input_watermark;
	TimestampTz event = sb_chain_next_event(pipeline, watermark);
	int64 way = event >= CLOCK_MOST ? SB_TIME_MAX : event > watermark ? event - watermark : 0;
	int64 step = awaited ? SB_IDLE_STEP_US : Max(SB_IDLE_STEP_US, way / SB_IDLE_STEPS);

	if (watermark == SB_TIME_MIN || (way == SB_TIME_MAX && !awaited))
		return SB_TIME_MAX;
	return watermark + Min(way, step);
}

/* When it is past that: processing time, if nothing comes; SB_TIME_MAX: it will not be. */
static TimestampTz
pipeline_rest_wake(SbPipeline *pipeline, bool awaited)
{
	const SbInput *input = sb_input(pipeline);
	TimestampTz target = pipeline_rest_target(pipeline, awaited);
	TimestampTz by_rest, by_wall, wake;
	int64 left;

	if (target == SB_TIME_MAX)
		return SB_TIME_MAX;
	by_rest = sb_input_rests_at(input, pipeline->row->idle_timeout_us,
	                            target - pipeline->clocks.input_watermark + 1);
	by_wall = target + pipeline->row->watermark_delay_us + sb_clock_ahead() + 1;
	wake = Max(by_rest, by_wall);
	if (input->splits == NULL)
		return wake;
	/* the one that holds it comes to rest, and lets it go */
	left = sb_splits_next_rest(input->splits, pipeline->row->idle_timeout_us);
	return left == PG_INT64_MAX ? wake : Min(wake, input->clock_at + left);
}

TimestampTz
sb_pipeline_next_wake(SbPipeline *pipeline, bool caught_up, bool awaited)
{
	TimestampTz wake = sb_step_next_processing(pipeline);
	const SbInput *input = sb_input(pipeline);

	/* no row need come for what waits already */
	if (sb_input_has_rows(input))
		return pipeline->clocks.processing_time;
	/* the watermark stands still */
	if (!sb_gates_are_open(pipeline))
		return wake;
	if (pipeline->plan->event_time == NULL || !input->kind->timed_by_rows(input) || !caught_up ||
	    pipeline->row->idle_timeout_us < 0)
		return wake;
	return Min(wake, pipeline_rest_wake(pipeline, awaited));
}
