/*
 * sb_pipeline_emitted.c: what a cell has said, and takes back with its next pane.
 *
 * Where rows are retracted (accumulation retracting, or a reader over an accumulating result) a
 * cell keeps the rows of its panes, packed, and those of the windows that were merged into it. Of
 * an accumulating merging window it keeps which windows have rows that it takes the place of.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "pipeline/sb_chain.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_pipeline_private.h"
#include "query/expr/sb_bytes.h"

/* They stand one behind the other, not aligned. */
bytea *
sb_pipeline_next_emitted(const SbEntry *entry, const char **at)
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
sb_pipeline_retract(SbPipeline *pipeline, SbEntry *entry, const SbPane *pane)
{
	bytea *packed;

	for (const char *at = NULL; (packed = sb_pipeline_next_emitted(entry, &at)) != NULL;)
	{
		sb_result_unpack(pipeline->result, packed, pipeline->out_values, pipeline->out_nulls);
		sb_pipeline_put(pipeline, entry, pane, -1);
	}
	sb_cells_clear_emitted_rows(pipeline->cells, entry);
}

static void
pipeline_recall_row(SbPipeline *pipeline, SbEntry *entry, SbWindow window)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(pipeline->cells, entry, &nulls);
	bytea *packed = sb_result_find(pipeline->result, window, keys, nulls);

	if (packed)
		sb_cells_add_emitted_rows(pipeline->cells, entry, (char *) packed, VARSIZE(packed));
}

void
sb_pipeline_recall(SbPipeline *pipeline, SbEntry *entry)
{
	bool stands = entry->emitted ||
	              (!pipeline->plan->grouped && pipeline->plan->window_kind == SB_WINDOW_GLOBAL);
	SbSession *session = sb_cells_session(pipeline->cells, entry);

	if (entry->emitted_rows != NULL || !sb_chain_wants_retractions(pipeline))
		return;
	if (stands)
		pipeline_recall_row(pipeline, entry, sb_cells_cell(pipeline->cells, entry)->window);
	for (int i = 0; session && i < session->nremoved; i++)
		pipeline_recall_row(pipeline, entry, session->removed[i]);
}

void
sb_pipeline_remove_rows(SbPipeline *pipeline, SbEntry *entry)
{
	SbSession *session = sb_cells_session(pipeline->cells, entry);
	const bool *nulls;
	Datum *keys = sb_cells_keys(pipeline->cells, entry, &nulls);

	if (session == NULL || session->removed == NULL)
		return;
	for (int i = 0; i < session->nremoved; i++)
		sb_pipeline_remove_row(pipeline, session->removed[i], keys, nulls);
	sb_cells_clear_removed(pipeline->cells, entry);
}
