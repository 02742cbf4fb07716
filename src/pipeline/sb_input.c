/*
 * sb_input.c: what a pipeline reads, and the kinds of sources; see sb_input.h.
 */
#include "postgres.h"

#include "pipeline/sb_input.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_split.h"

/* ---- kinds of sources ---- */

/* In the order in which they are asked. */
static const SbSourceKind *const sb_source_kinds[] = {&sb_result_source, &sb_table_source};

const SbSourceKind *
sb_source_find(SbPipelineRow *row, bool hold)
{
	for (int i = 0; i < lengthof(sb_source_kinds); i++)
	{
		if (sb_source_kinds[i]->accepts(row, hold))
			return sb_source_kinds[i];
	}
	elog(ERROR, "relation %u is of no kind of source", row->source);
}

const SbSourceKind *
sb_source_of(const SbPipelineRow *row)
{
	return sb_catalog_reads_wal(row) ? &sb_table_source : &sb_result_source;
}

/* ---- the input ---- */

SbInput *
sb_input_create(SbPipeline *pipeline)
{
	SbInput *input = palloc0(sizeof(SbInput));

	input->kind = sb_source_of(pipeline->row);
	input->source = pipeline->plan->source;
	input->max_event_time = input->accepted_max_event_time = pipeline->progress.max_event_time;
	input->clock_at = pipeline->clocks.processing_time;
	input->queue_pending = input->accepted_queue_pending =
	    input->kind == &sb_result_source && !pipeline->in_memory;
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

/* ---- at rest ---- */

void
sb_input_begin_bundle(SbInput *input, TimestampTz now)
{
	if (input->has_read_all)
		input->clock += Max(0, now - input->clock_at);
	input->clock_at = now;
}

void
sb_input_end_bundle(SbInput *input, bool had_rows, bool has_read_all, int64 idle_timeout)
{
	input->has_read_all = has_read_all;
	if (had_rows)
		input->last_row = input->clock;
	if (input->splits)
		sb_splits_end_bundle(input->splits, input->clock, idle_timeout);
}

/* By its clock: when what it has rested began, or begins if no row comes. */
static int64
input_rest_begins(const SbInput *input, int64 idle_timeout)
{
	return Max(input->rested, input->last_row + idle_timeout);
}

int64
sb_input_rest(const SbInput *input, int64 idle_timeout)
{
	if (idle_timeout < 0 || !input->has_read_all)
		return 0;
	return Max(0, input->clock - input_rest_begins(input, idle_timeout));
}

void
sb_input_rested(SbInput *input)
{
	input->rested = input->clock;
}

TimestampTz
sb_input_rests_at(const SbInput *input, int64 idle_timeout, int64 rest)
{
	/* the clock begins with a bundle that ends when all is read */
	if (!input->has_read_all)
		return input->clock_at + USECS_PER_SEC;
	return input->clock_at + (input_rest_begins(input, idle_timeout) - input->clock) + rest;
}

/* ---- transactions ---- */

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
	input->accepted_max_event_time = input->max_event_time;
	input->accepted_rested = input->rested;
}

void
sb_input_rollback(SbPipeline *pipeline)
{
	SbInput *input = sb_input(pipeline);

	if (input->splits)
		sb_splits_rollback(input->splits);
	input->max_event_time = input->accepted_max_event_time;
	input->queue_pending = input->accepted_queue_pending;
	input->queue_watermark = SB_TIME_MIN;
	input->rested = input->accepted_rested;
}
