/*
 * sb_pipeline_txn.c: the parts of a pipeline in a transaction; see sb_txn_part.h.
 */
#include "postgres.h"

#include "base/sb_kill_point.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_left_out.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_pipeline_private.h"
#include "pipeline/sb_step.h"
#include "pipeline/sb_txn_part.h"
#include "utils/memutils.h"

void
sb_pipeline_write_state(SbPipeline *pipeline)
{
	SB_KILL_POINT("before_state");
	if (pipeline->step->write)
		pipeline->step->write(pipeline);
	sb_left_out_write(pipeline);
	SB_KILL_POINT("after_state");
}

static void
step_accept(SbPipeline *pipeline)
{
	if (pipeline->step->accept)
		pipeline->step->accept(pipeline);
}

static void
step_rollback(SbPipeline *pipeline)
{
	if (pipeline->step->rollback)
		pipeline->step->rollback(pipeline);
}

static void
clocks_accept(SbPipeline *pipeline)
{
	pipeline->accepted_clocks = pipeline->clocks;
}

/* Processing time goes on. */
static void
clocks_rollback(SbPipeline *pipeline)
{
	pipeline->clocks.input_watermark = pipeline->accepted_clocks.input_watermark;
	pipeline->clocks.output_watermark = pipeline->accepted_clocks.output_watermark;
}

static void
bundle_forget(SbPipeline *pipeline)
{
	MemoryContextReset(pipeline->bundle);
}

static void
progress_write(SbPipeline *pipeline)
{
	SbProgress *progress = &pipeline->progress;

	progress->input_watermark = pipeline->clocks.input_watermark;
	progress->output_watermark = pipeline->clocks.output_watermark;
	progress->max_event_time = sb_input(pipeline)->max_event_time;
	progress->cells = sb_step_count(pipeline);
	progress->bundles++;
	if (!pipeline->in_memory)
		sb_catalog_put_progress(progress, progress->bundles - 1);
}

static void
progress_accept(SbPipeline *pipeline)
{
	if (pipeline->changed)
		pipeline->persisted = pipeline->progress.position;
	pipeline->row->progress = pipeline->progress;
}

static void
progress_rollback(SbPipeline *pipeline)
{
	pipeline->progress = pipeline->row->progress;
	pipeline->current = InvalidXLogRecPtr;
	pipeline->changed = pipeline->locked = false;
}

/*
 * In the order in which they are written, which is that of the locks (sb_lock.h): the state table,
 * the rows of the gates, those of the inputs, progress.
 */
static const SbTxnPart parts[] = {
    {.name = "step",
     .write = sb_pipeline_write_state,
     .accept = step_accept,
     .rollback = step_rollback},
    {.name = "gates",
     .write = sb_gates_write,
     .accept = sb_gates_accept,
     .rollback = sb_gates_rollback},
    {.name = "clocks", .accept = clocks_accept, .rollback = clocks_rollback},
    {.name = "inputs",
     .write = sb_input_write,
     .accept = sb_input_accept,
     .rollback = sb_input_rollback},
    {.name = "left out", .accept = sb_left_out_forget, .rollback = sb_left_out_forget},
    {.name = "chain", .accept = sb_chain_accept, .rollback = sb_chain_rollback},
    {.name = "bundle", .accept = bundle_forget, .rollback = bundle_forget},
    {.name = "progress",
     .write = progress_write,
     .accept = progress_accept,
     .rollback = progress_rollback},
};

void
sb_pipeline_write(SbPipeline *pipeline)
{
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (parts[i].write)
			parts[i].write(pipeline);
	}
}

void
sb_pipeline_accept(SbPipeline *pipeline)
{
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (parts[i].accept)
			parts[i].accept(pipeline);
	}
}

void
sb_pipeline_rollback(SbPipeline *pipeline)
{
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (parts[i].rollback)
			parts[i].rollback(pipeline);
	}
}
