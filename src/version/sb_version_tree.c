/*
 * sb_version_tree.c: a version and those downstream of it; see sb_version.h.
 *
 * A downstream pipeline is correct for one result only, that of its upstream. So the next version
 * of a pipeline has a tree of its own: for each pipeline downstream of the current version a
 * version downstream of the next one, and so on. They are versions like any other, with the rows of
 * the building results for input, and take their places with it, in one transaction. The tree that
 * they replace is kept or dropped as a whole.
 *
 * RULES. A version that is to take the place of the current one while its upstream is another one
 * than the current one's *follows*: it does so together with its upstream. It is planned over the
 * result table of the current version, as all versions of a downstream pipeline are: what it uses
 * of it has to be there afterwards, too (sb_version_check_shape()).
 */
#include "postgres.h"

#include "catalog/sb_lock.h"
#include "catalog/sb_option.h"
#include "catalog/sb_pipeline_names.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "version/sb_version.h"
#include "worker/sb_at_commit.h"
#include "worker/sb_postponed.h"

SbPipelineRow *
sb_version_leader(List *rows, const SbPipelineRow *row)
{
	SbPipelineRow *upstream = row->upstream != 0 ? sb_catalog_row_of_id(rows, row->upstream) : NULL;

	return row->stage == SB_STAGE_BUILDING && upstream && upstream->stage == SB_STAGE_BUILDING
	           ? upstream
	           : NULL;
}

List *
sb_version_tree(List *rows, const SbPipelineRow *building)
{
	List *tree = NIL;
	SbPipelineRow *root = sb_catalog_row_of_id(rows, building->id);
	SbPipelineRow *leader;
	ListCell *lc;

	if (root == NULL)
		return NIL;
	while ((leader = sb_version_leader(rows, root)) != NULL)
		root = leader;
	/* the id of a downstream pipeline is above that of its upstream */
	foreach (lc, rows)
	{
		SbPipelineRow *row = lfirst(lc);

		leader = sb_version_leader(rows, row);
		if (row == root || (leader && list_member_ptr(tree, leader)))
			tree = lappend(tree, row);
	}
	return tree;
}

/* ---- beginning the versions of downstream pipelines ---- */

static bool
tree_same_settings(const SbPipelineRow *a, const SbPipelineRow *b)
{
	if (a->nsettings != b->nsettings)
		return false;
	for (int i = 0; i < a->nsettings; i++)
	{
		if (strcmp(a->settings[i], b->settings[i]) != 0)
			return false;
	}
	return true;
}

static bool
tree_same_definition(const SbPipelineRow *a, const SbPipelineRow *b)
{
	return a->view == b->view && strcmp(a->fingerprint, b->fingerprint) == 0 &&
	       sb_options_same(a, b) && tree_same_settings(a, b);
}

/*
 * Of the downstream pipeline's kept versions the one that reads this version, and has the
 * definition of the current one; NULL: there is none.
 */
static SbPipelineRow *
tree_find_kept(const SbPipelineRow *downstream, const SbPipelineRow *next)
{
	SbPipelineRow *found = NULL;
	ListCell *lc;

	foreach (lc, sb_catalog_versions(downstream->name))
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->stage == SB_STAGE_KEPT && row->upstream == next->id &&
		    row->state == SB_PIPELINE_RUNNING && row->rebuild == NULL &&
		    tree_same_definition(row, downstream))
			found = row;
	}
	return found;
}

/*
 * A version with this definition, over the next version of its upstream. `altered`: it replaces
 * this one, which is dropped together with those downstream of it.
 *
 * The definition is planned, and run over nothing, as its owner. In the session of somebody who is
 * not that owner its functions could be made to find this one's temporary tables: then it is left
 * to the runner (sb_version_complete_trees()).
 */
static void
tree_begin_version(const SbPipelineRow *definition, const SbPipelineRow *altered,
                   const SbPipelineRow *next, const char *reason)
{
	SbPipelineRow *row;
	SbPlan *plan;

	if (!has_privs_of_role(GetOuterUserId(), definition->owner))
	{
		sb_at_commit_tell_runner();
		return;
	}
	row = sb_version_same(definition, reason, &plan);
	if (altered)
		sb_version_drop(altered, definition == altered ? SB_KEEP_VIEW : 0);
	/* its view may have been replaced, and read something else: then it is built on its own */
	if (row->upstream != 0 && strcmp(sb_catalog_find_by_id(row->upstream)->name, next->name) == 0)
	{
		row->keep_us = next->keep_us;
		row->upstream = next->id;
		row->retractable = sb_accumulation_of_name(next->accumulation) == SB_ACCUMULATING;
	}
	sb_version_check_accumulation(row, plan);
	sb_version_begin(row, plan);
	if (altered)
		sb_version_move_downstream(altered->id, row, reason);
}

/*
 * The names of downstream pipelines are locked with that of their upstream. One that has come since
 * is somebody else's for now, who does not know of the next version either: the runner completes
 * the tree when both are there. Returns the current version, as it is; NULL: not now, or gone.
 */
static SbPipelineRow *
tree_lock_downstream(const SbPipelineRow *downstream)
{
	if (sb_lock_name_now(downstream->name))
		return sb_catalog_find(downstream->name);
	sb_at_commit_tell_runner();
	return NULL;
}

/*
 * A pipeline downstream of the current version gets a version downstream of the next one: the one
 * that is being built already, one that was kept, or a new one. Where none can be begun now, the
 * exchange waits for it.
 */
static void
tree_begin_downstream(SbPipelineRow *downstream, const SbPipelineRow *current,
                      const SbPipelineRow *next, const char *reason)
{
	SbPipelineRow *building, *kept;

	downstream = tree_lock_downstream(downstream);
	if (downstream == NULL || downstream->upstream != current->id)
		return;
	building = sb_catalog_building(downstream->name);

	/*
	 * one that is paused stands still, and so does its upstream's exchange, unless it is rebuilt;
	 * one that has changed hands in any case
	 */
	if (building == NULL && (sb_catalog_is_held(downstream) ||
	                         (downstream->state == SB_PIPELINE_PAUSED && reason == NULL)))
		return;
	/* it is going to read something else: until it does, this waits */
	if (building && building->source != current->result)
		return;
	if (building && building->upstream == next->id)
		sb_version_begin_downstream(downstream, building, reason);
	else if (building && building->upstream == current->id && reason == NULL)
		sb_version_refuse_second(downstream->name);
	else if (building == NULL && (kept = tree_find_kept(downstream, next)) != NULL)
	{
		kept->stage = SB_STAGE_BUILDING;
		kept->keep_us = next->keep_us;
		sb_catalog_put_version(kept);
		sb_version_begin_downstream(downstream, kept, reason);
	}
	else
		tree_begin_version(building && building->state == SB_PIPELINE_RUNNING ? building
		                                                                      : downstream,
		                   building, next, reason);
}

/*
 * Something else is being altered to read the current version: it begins again, to read the next
 * one.
 */
static void
tree_move_version(const SbPipelineRow *building, const SbPipelineRow *current,
                  const SbPipelineRow *next, const char *reason)
{
	SbPipelineRow *other = tree_lock_downstream(building);

	/* one downstream of the current version is dealt with as such */
	if (other && other->upstream != current->id)
		tree_begin_version(building, building, next, reason);
}

static void
tree_error_context(void *arg)
{
	const SbPipelineRow *downstream = arg;

	errcontext("new version of downstream pipeline \"%s\"", downstream->name);
}

void
sb_version_begin_downstream(const SbPipelineRow *current, const SbPipelineRow *next,
                            const char *reason)
{
	ErrorContextCallback context = {.callback = tree_error_context,
	                                .previous = error_context_stack};
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *downstream = lfirst(lc);

		if (downstream->upstream != current->id || downstream->stage == SB_STAGE_KEPT)
			continue;
		context.arg = downstream;
		error_context_stack = &context;
		if (downstream->stage == SB_STAGE_CURRENT)
			tree_begin_downstream(downstream, current, next, reason);
		else
			tree_move_version(downstream, current, next, reason);
		error_context_stack = context.previous;
	}
}

void
sb_version_move_downstream(int32 from, const SbPipelineRow *next, const char *reason)
{
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *downstream = lfirst(lc);

		if (downstream->upstream != from)
			continue;
		if (downstream->stage == SB_STAGE_BUILDING)
			tree_begin_version(downstream, downstream, next, reason);
		else if (downstream->stage == SB_STAGE_KEPT)
			sb_version_drop_tree(downstream, 0);
	}
}

static void
tree_check_cycle(const char *name, int32 upstream, bool direct)
{
	SbPipelineRow *row, *building;

	check_stack_depth();
	if (upstream == 0)
		return;
	row = sb_catalog_find_by_id(upstream);
	if (strcmp(row->name, name) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
		                errmsg("pipeline \"%s\" cannot read its own result", name),
		                direct ? 0 : errdetail("What it is to read is made from it.")));
	tree_check_cycle(name, row->upstream, false);
	building = row->stage == SB_STAGE_CURRENT ? sb_catalog_building(row->name) : NULL;
	if (building)
		tree_check_cycle(name, building->upstream, false);
}

void
sb_version_check_cycle(const char *name, int32 upstream)
{
	tree_check_cycle(name, upstream, true);
}

static void
tree_complete_one(void *arg)
{
	const SbPipelineRow *found = arg;
	SbPipelineRow *current = sb_lock_pipeline_now(found->name);
	SbPipelineRow *building = current ? sb_catalog_building(found->name) : NULL;

	/* dropped or given up since it was found */
	if (building == NULL || building->id != found->id)
		return;
	/* the reason of one that is rolled back to is of long ago */
	sb_version_begin_downstream(current, building,
	                            building->keep_until == DT_NOEND ? building->reason : NULL);
}

void
sb_version_complete_trees(void)
{
	List *rows = sb_catalog_pipelines();
	ListCell *lc;

	foreach (lc, rows)
	{
		SbPipelineRow *row = lfirst(lc);
		ErrorData *error;

		if (row->stage != SB_STAGE_BUILDING || row->state != SB_PIPELINE_RUNNING ||
		    row->rebuild != NULL || sb_version_leader(rows, row) != NULL ||
		    sb_postponed_try(tree_complete_one, row, &error))
			continue;
		/* all pipelines wait for us: whoever is in the way is asked again later */
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			sb_postponed_add(row->id, false);
		else
			sb_version_begin_failed(row, error);
	}
}

void
sb_version_lock_downstream(const SbPipelineRow *current, bool running)
{
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *downstream = lfirst(lc);

		if (downstream->upstream != current->id || downstream->stage != SB_STAGE_CURRENT)
			continue;
		downstream = sb_catalog_lock(downstream->name);
		if (downstream == NULL)
			continue;
		if (running && downstream->state == SB_PIPELINE_PAUSED)
			ereport(ERROR,
			        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			         errmsg("downstream pipeline \"%s\" of pipeline \"%s\" is paused: it is to get a new version too",
			                downstream->name, current->name),
			         errhint("Call beam.resume_pipeline() for it first.")));
		sb_version_lock_downstream(downstream, running);
	}
}

/* ---- giving them up ---- */

void
sb_version_drop_tree(const SbPipelineRow *row, int keep)
{
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *downstream = lfirst(lc);

		if (downstream->upstream == row->id && downstream->stage != SB_STAGE_CURRENT)
			sb_version_drop_tree(downstream, 0);
	}
	sb_version_drop(row, keep);
}

void
sb_version_cancel(SbPipelineRow *row)
{
	if (row->keep_until == DT_NOEND)
	{
		sb_version_drop(row, 0);
		return;
	}
	row->stage = SB_STAGE_KEPT;
	row->keep_us = -1;
	sb_catalog_put_version(row);
	sb_at_commit_tell_runner();
}
