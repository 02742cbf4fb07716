/*
 * sb_backfill_version.c: a backfill of all windows at once, by a version of the pipeline; see
 * sb_backfill.h.
 *
 * The windows of sessions, the global window and those of a user's function have nothing by which a
 * part of the table could be told that holds all rows of some of them and none of others. What
 * reads a table in chunks all the same is the history of a new version: the same definition, beside
 * the running one, which then takes its place in one transaction (sb_version.h). A version that is
 * given up half-way has changed nothing.
 *
 * RULES. Only what an exchange of all rows leaves as a step would have left it: an accumulating
 * result. The others are logs, of which downstream pipelines take what is added. A pipeline that
 * has downstream pipelines cannot be exchanged, and a downstream pipeline has no chunks.
 *
 * LOCKING. Nobody is waited for longer than SB_BACKFILL_LOCK_MS, since all pipelines wait as well.
 */
#include "postgres.h"

#include "catalog/sb_lock.h"
#include "history/sb_backfill.h"
#include "utils/guc.h"
#include "version/sb_version.h"

#define SB_BACKFILL_LOCK_MS "200"

bool
sb_backfill_wants_version(const SbPipeline *pipeline)
{
	return !sb_backfill_has_parts(pipeline->plan) &&
	       pipeline->strategy.accumulation == SB_ACCUMULATING &&
	       sb_catalog_reads_wal(pipeline->row) && pipeline->chain == NULL;
}

static int
version_wait_briefly(void)
{
	int level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", SB_BACKFILL_LOCK_MS, PGC_USERSET, PGC_S_SESSION,
	                         GUC_ACTION_SAVE, true, 0, false);
	return level;
}

void
sb_backfill_begin_version(const SbPipeline *pipeline)
{
	int level = version_wait_briefly();
	SbPipelineRow *current = sb_lock_pipeline_now(pipeline->row->name);
	SbPipelineRow *row;
	SbPlan *plan;

	/* it has been exchanged or dropped: it will be opened anew */
	if (current == NULL || current->id != pipeline->row->id)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
		                errmsg("pipeline \"%s\" has been changed meanwhile", pipeline->row->name)));
	row = sb_version_same(current, SB_REASON_BACKFILL, &plan);
	sb_version_begin(row, plan);
	AtEOXact_GUC(false, level);
}

SbPipelineRow *
sb_backfill_version(int32 pipeline)
{
	SbPipelineRow *building = sb_catalog_building(sb_catalog_find_by_id(pipeline)->name);

	return building && sb_catalog_is_of_backfill(building) ? building : NULL;
}

void
sb_backfill_drop_version(const SbPipelineRow *row)
{
	int level = version_wait_briefly();

	sb_version_drop_tree(row, 0);
	AtEOXact_GUC(false, level);
}
