/*
 * sb_version_ready.c: which versions that are being built can take their places now; see
 * sb_version.h.
 */
#include "postgres.h"

#include "history/sb_history.h"
#include "pipeline/sb_chain.h"
#include "version/sb_version.h"

static SbPipeline *
ready_current(List *pipelines, const SbPipeline *version)
{
	ListCell *lc;

	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);

		if (pipeline->row->stage == SB_STAGE_CURRENT &&
		    strcmp(pipeline->row->name, version->row->name) == 0)
			return pipeline;
	}
	return NULL;
}

/* Does it take its place together with its upstream? */
static bool
ready_follows(const SbPipeline *building)
{
	return building->row->stage == SB_STAGE_BUILDING && sb_input(building)->upstream &&
	       sb_input(building)->upstream->row->stage == SB_STAGE_BUILDING;
}

static bool
ready_is(const SbPipeline *building, const SbPipeline *current)
{
	return (sb_catalog_reads_wal(building->row) || sb_input(building)->upstream) &&
	       !sb_history_is_read(building) && !sb_input(building)->queue_pending &&
	       !sb_chain_misses_one(building) &&
	       (current == NULL || building->progress.position == current->progress.position);
}

/* The version and those that follow it; NIL: one of them is not as far. */
static List *
ready_tree(List *pipelines, SbPipeline *root)
{
	List *tree = NIL;
	List *exchanges = NIL;
	ListCell *lc;

	/* each is behind its upstream */
	foreach (lc, pipelines)
	{
		SbPipeline *building = lfirst(lc);
		SbExchange *exchange;

		if (building != root &&
		    !(ready_follows(building) && list_member_ptr(tree, sb_input(building)->upstream)))
			continue;
		exchange = palloc(sizeof(SbExchange));
		*exchange =
		    (SbExchange){.building = building, .current = ready_current(pipelines, building)};
		tree = lappend(tree, building);
		exchanges = lappend(exchanges, exchange);
		if (ready_is(building, exchange->current))
			continue;
		list_free_deep(exchanges);
		exchanges = NIL;
		break;
	}
	list_free(tree);
	return exchanges;
}

List *
sb_version_ready(List *pipelines, int32 after)
{
	List *first = NIL;
	ListCell *lc;

	foreach (lc, pipelines)
	{
		SbPipeline *pipeline = lfirst(lc);
		List *exchanges = NIL;

		if (pipeline->row->stage == SB_STAGE_BUILDING && !ready_follows(pipeline) &&
		    (first == NIL || pipeline->row->id > after))
			exchanges = ready_tree(pipelines, pipeline);
		if (exchanges == NIL)
			continue;
		list_free_deep(first);
		first = exchanges;
		if (pipeline->row->id > after)
			break;
	}
	return first;
}
