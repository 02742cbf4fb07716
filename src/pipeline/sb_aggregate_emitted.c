/*
 * sb_aggregate_emitted.c: what a cell has said, and takes back with its next pane.
 *
 * Where rows are retracted (accumulation retracting, or accumulating with a downstream pipeline) a
 * cell retains the rows of its panes, packed, and those of the windows that were merged into it. Of
 * an accumulating merging window it retains which windows have rows that it takes the place of.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "pipeline/sb_aggregate_private.h"
#include "pipeline/sb_chain.h"
#include "query/expr/sb_bytes.h"

/* They stand one behind the other, not aligned. */
bytea *
sb_aggregate_next_emitted(const SbEntry *entry, const char **at)
{
	const char *end;
	const char *from;
	bytea *packed;
	Size size;

	if (*at == NULL && entry->emitted_rows)
		*at = VARDATA(entry->emitted_rows);
	if (*at == NULL)
		return NULL;
	end = (char *) entry->emitted_rows + VARSIZE(entry->emitted_rows);
	if (*at >= end)
		return NULL;
	size = sb_bytes_varlena_size(*at, end, false);
	from = sb_bytes_take(at, end, size);
	if (VARATT_IS_1B(from))
		sb_bytes_corrupted("A row to be retracted has a bad length.");
	packed = palloc(size);
	memcpy(packed, from, size);
	return packed;
}

void
sb_aggregate_retract(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	bytea *packed;

	for (const char *at = NULL; (packed = sb_aggregate_next_emitted(entry, &at)) != NULL;)
	{
		sb_result_unpack(pipeline->result, packed, pipeline->out_values, pipeline->out_nulls);
		sb_pipeline_put(pipeline, sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window, pane,
		                -1);
	}
	sb_cells_clear_emitted_rows(sb_aggregate_cells(pipeline), entry);
}

static void
pipeline_recall_row(SbPipeline *pipeline, SbEntry *entry, SbWindow window)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(sb_aggregate_cells(pipeline), entry, &nulls);
	bytea *packed = sb_result_find(pipeline->result, window, keys, nulls);

	if (packed)
		sb_cells_add_emitted_rows(sb_aggregate_cells(pipeline), entry, (char *) packed,
		                          VARSIZE(packed));
}

void
sb_aggregate_recall(SbPipeline *pipeline, SbEntry *entry)
{
	bool stands = entry->emitted || sb_plan_stands_empty(pipeline->plan);
	SbSession *session = sb_cells_session(sb_aggregate_cells(pipeline), entry);

	if (entry->emitted_rows != NULL || !sb_chain_wants_retractions(pipeline))
		return;
	if (stands)
		pipeline_recall_row(pipeline, entry,
		                    sb_cells_cell(sb_aggregate_cells(pipeline), entry)->window);
	for (int i = 0; session && i < session->nremoved; i++)
		pipeline_recall_row(pipeline, entry, session->removed[i]);
}

void
sb_aggregate_remove_rows(SbPipeline *pipeline, SbEntry *entry)
{
	SbSession *session = sb_cells_session(sb_aggregate_cells(pipeline), entry);
	const bool *nulls;
	Datum *keys = sb_cells_keys(sb_aggregate_cells(pipeline), entry, &nulls);

	if (session == NULL || session->removed == NULL)
		return;
	for (int i = 0; i < session->nremoved; i++)
		sb_pipeline_remove_row(pipeline, session->removed[i], keys, nulls, SB_ALL_SINKS);
	sb_cells_clear_removed(sb_aggregate_cells(pipeline), entry);
}
