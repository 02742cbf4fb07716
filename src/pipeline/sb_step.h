/*
 * sb_step.h: what a pipeline does with its rows.
 *
 * A pipeline finds the windows of a row and hands the row to its step, for each of them. The step
 * puts rows into the sinks: at once, at a flush, or when a timer is due. Aggregate
 * (sb_step_aggregate.c) and map (sb_step_map.c) are steps; the plan says which a query wants.
 *
 * AS WHOM. open, add and after_row run as the pipeline's owner; the others enter the owner's
 * bracket where they need it.
 */
#ifndef SB_STEP_H
#define SB_STEP_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

/* Where a row belongs. Good until the query has another row. */
typedef struct SbPlace
{
	TimestampTz event_time;
	SbWindow *windows;
	int nwindows;
	uint64 hash; /* of the keys, where the step groups by them */
	const Datum *keys;
	const bool *nulls;
} SbPlace;

/* Any function may be missing, but for open, add and flush. */
typedef struct SbStepKind
{
	const char *name;
	/*
	 * What it retains, in the current context, which goes with the pipeline. `state_table`: NULL:
	 * there is none, all is to stay in memory.
	 */
	void *(*open)(SbPipeline *pipeline, const char *state_table);
	/* The pipeline is to run: what it needs of the catalog. SPI connected. */
	void (*attach)(SbPipeline *pipeline);
	/* What has failed may be well now: it is tried again with the next bundle. */
	void (*retry_failed)(SbPipeline *pipeline);
	/* Rows come. SPI connected. */
	void (*begin_rows)(SbPipeline *pipeline);
	/*
	 * The row, which is the query's current one, for one of its windows: of merging windows it is
	 * the row's own.
	 */
	void (*add)(SbPipeline *pipeline, const SbRow *row, const SbPlace *place, SbWindow window);
	/*
	 * Between two rows; the query may have another one afterwards. True: make_room has to be called
	 * before the next.
	 */
	bool (*after_row)(SbPipeline *pipeline, int nrows);
	void (*make_room)(SbPipeline *pipeline);
	void (*end_rows)(SbPipeline *pipeline);
	/* What the rows so far have made ready goes into the sinks. */
	void (*flush)(SbPipeline *pipeline);
	/* Likewise what the clocks have made ready; what is put is written, too. */
	void (*timers)(SbPipeline *pipeline);
	/* The pipeline begins, and its source is empty. */
	void (*begin_empty)(SbPipeline *pipeline);
	/*
	 * All of the windows in the range, or (`inside` false) of all others, is forgotten. Nothing may
	 * be dirty.
	 */
	void (*clear)(SbPipeline *pipeline, const SbWindowRange *range, bool inside);
	/* The windows of the range have been computed anew: they are asked when timers are next. */
	void (*hasten)(SbPipeline *pipeline, const SbWindowRange *range);

	/* The earliest hold on the output watermark; the next timers of either clock. */
	TimestampTz (*hold)(SbPipeline *pipeline);
	TimestampTz (*next_event)(SbPipeline *pipeline);
	TimestampTz (*next_processing)(SbPipeline *pipeline);

	/* Its part in a transaction (sb_txn_part.h). */
	void (*write)(SbPipeline *pipeline);
	void (*accept)(SbPipeline *pipeline);
	void (*rollback)(SbPipeline *pipeline);

	/* How many cells it has, stored ones included; the memory that they use; less of it. */
	int64 (*count)(SbPipeline *pipeline);
	Size (*bytes)(const SbPipeline *pipeline);
	void (*evict)(SbPipeline *pipeline, Size bytes);
} SbStepKind;

extern const SbStepKind sb_step_aggregate;
extern const SbStepKind sb_step_map;

/* The cells of a pipeline that aggregates; NULL: it does not. */
extern struct SbCells *sb_step_cells(const SbPipeline *pipeline);

static inline TimestampTz
sb_step_hold(SbPipeline *pipeline)
{
	return pipeline->step->hold ? pipeline->step->hold(pipeline) : SB_TIME_MAX;
}

static inline TimestampTz
sb_step_next_event(SbPipeline *pipeline)
{
	return pipeline->step->next_event ? pipeline->step->next_event(pipeline) : SB_TIME_MAX;
}

static inline TimestampTz
sb_step_next_processing(SbPipeline *pipeline)
{
	return pipeline->step->next_processing ? pipeline->step->next_processing(pipeline)
	                                       : SB_TIME_MAX;
}

static inline int64
sb_step_count(SbPipeline *pipeline)
{
	return pipeline->step->count ? pipeline->step->count(pipeline) : 0;
}

static inline Size
sb_step_bytes(const SbPipeline *pipeline)
{
	return pipeline->step->bytes ? pipeline->step->bytes(pipeline) : 0;
}

/* Some of it leaves memory, so that this part of it is left. */
static inline void
sb_step_evict(SbPipeline *pipeline, double part)
{
	if (pipeline->step->evict)
		pipeline->step->evict(pipeline, (Size) (sb_step_bytes(pipeline) * part));
}

#endif
