/*
 * sb_input.c: what a pipeline reads, and the kinds of sources; see sb_input.h.
 */
#include "postgres.h"

#include "pipeline/sb_gate.h"
#include "pipeline/sb_input.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_split.h"
#include "worker/sb_worker.h"

/* ---- the WAL of a table ---- */

static bool
table_timed_by_rows(const SbInput *input)
{
	return true;
}

static bool
table_has_begun(SbPipeline *pipeline, SbInput *input, XLogRecPtr position)
{
	if (sb_gates_are_open(pipeline))
		return false;
	sb_gates_reached(pipeline, position);
	return sb_gates_are_open(pipeline);
}

const SbSourceKind sb_table_source = {.name = "table",
                                      .timed_by_rows = table_timed_by_rows,
                                      .has_begun = table_has_begun};

/* ---- the result of an upstream ---- */

/* Has the output watermark of a pipeline anything to follow? */
static bool
result_has_time(const SbPipeline *pipeline)
{
	const SbInput *input = sb_input(pipeline);

	if (pipeline->plan->event_time == NULL && input->kind->timed_by_rows(input))
		return false;
	return pipeline->plan->event_time != NULL || input->upstream == NULL ||
	       result_has_time(input->upstream);
}

/* What has no event time says nothing of the time: then the rows do, as those of a table. */
static bool
result_timed_by_rows(const SbInput *input)
{
	return input->upstream && !result_has_time(input->upstream);
}

static TimestampTz
result_watermark(const SbInput *input)
{
	return input->upstream ? input->upstream->clocks.output_watermark : input->queue_watermark;
}

static bool
result_has_rows(const SbInput *input)
{
	return input->queue_pending && input->upstream;
}

static bool
result_has_begun(SbPipeline *pipeline, SbInput *input, XLogRecPtr position)
{
	return pipeline->progress.bundles == 0 && (!input->queue_pending || input->draining);
}

const SbSourceKind sb_result_source = {.name = "result",
                                       .timed_by_rows = result_timed_by_rows,
                                       .watermark = result_watermark,
                                       .has_rows = result_has_rows,
                                       .has_begun = result_has_begun};

/* ---- the input ---- */

SbInput *
sb_input_create(SbPipeline *pipeline)
{
	SbInput *input = palloc0(sizeof(SbInput));
	bool chained = pipeline->row->upstream != 0;

	input->kind = chained ? &sb_result_source : &sb_table_source;
	input->source = pipeline->plan->source;
	input->max_event_time = pipeline->progress.max_event_time;
	input->last_row_at = pipeline->clocks.processing_time;
	input->queue_pending = input->accepted_queue_pending = chained && !pipeline->in_memory;
	input->queue_watermark = SB_TIME_MIN;
	return input;
}

bool
sb_input_has_rows(const SbInput *input)
{
	return input->kind->has_rows && input->kind->has_rows(input);
}

TimestampTz
sb_input_watermark(const SbInput *input, TimestampTz watermark, int64 delay)
{
	TimestampTz time;

	if (!input->kind->timed_by_rows(input))
		return Max(watermark, input->kind->watermark(input));
	time = input->splits ? sb_splits_time(input->splits, input->max_event_time)
	                     : input->max_event_time;
	return time == SB_TIME_MIN ? watermark : Max(watermark, time - delay);
}

void
sb_input_write(SbPipeline *pipeline)
{
	if (sb_input(pipeline)->splits)
		sb_splits_write(pipeline, sb_input(pipeline)->splits);
}

void
sb_input_accept(SbPipeline *pipeline)
{
	SbInput *input = sb_input(pipeline);

	if (input->splits)
		sb_splits_accept(input->splits);
	input->accepted_queue_pending = input->queue_pending;
}

void
sb_input_rollback(SbPipeline *pipeline)
{
	SbInput *input = sb_input(pipeline);

	if (input->splits)
		sb_splits_rollback(input->splits);
	input->max_event_time = pipeline->row->progress.max_event_time;
	input->queue_pending = input->accepted_queue_pending;
	input->queue_watermark = SB_TIME_MIN;
}
