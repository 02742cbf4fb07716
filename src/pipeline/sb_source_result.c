/*
 * sb_source_result.c: the result of another pipeline, the upstream, as a source; see sb_source.h.
 */
#include "postgres.h"

#include "catalog/sb_lock.h"
#include "catalog/sb_pipeline_names.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_source.h"

/* ---- while a pipeline is made ---- */

static SbPipelineRow *
result_find_upstream(Oid relation)
{
	SbPipelineRow *upstream = sb_catalog_find_by_result(relation);

	if (upstream && upstream->stage != SB_STAGE_CURRENT)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("the result of a version of pipeline \"%s\" that is not the current one cannot be read by a pipeline",
		                upstream->name),
		         errhint("Read the pipeline's result table.")));
	return upstream;
}

static bool
result_accepts(SbPipelineRow *row, bool hold)
{
	SbPipelineRow *upstream = result_find_upstream(row->source);

	if (upstream && hold)
	{
		sb_lock_relation(row->source, SB_LOCK_READ);
		/* it may have been dropped, its result kept, until we have the lock */
		upstream = result_find_upstream(row->source);
	}
	if (upstream == NULL)
		return false;
	row->upstream = upstream->id;
	row->retractable = sb_accumulation_of_name(upstream->accumulation) == SB_ACCUMULATING;
	return true;
}

static void
result_begin(const SbPipelineRow *row)
{
	sb_lock_relation(sb_catalog_find_by_id(row->upstream)->result, SB_LOCK_READ);
}

static void
result_check(const SbPipelineRow *row, const SbPlan *plan)
{
	if (row->watermark_by)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("watermark_by means nothing for a downstream pipeline"),
		                errdetail("Its watermark is that of its upstream.")));
}

/* ---- at work ---- */

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
                                       .accepts = result_accepts,
                                       .begin = result_begin,
                                       .check = result_check,
                                       .timed_by_rows = result_timed_by_rows,
                                       .watermark = result_watermark,
                                       .has_rows = result_has_rows,
                                       .has_begun = result_has_begun};
