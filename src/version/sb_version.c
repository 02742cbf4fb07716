/*
 * sb_version.c: making the next version of a pipeline; see sb_version.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/sb_error.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/sb_lock.h"
#include "catalog/sb_option.h"
#include "catalog/sb_owner.h"
#include "catalog/sb_pipeline_names.h"
#include "executor/spi.h"
#include "pipeline/sb_source.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "version/sb_version.h"
#include "worker/sb_at_commit.h"
#include "worker/sb_postponed.h"

void
sb_version_refuse_second(const char *name)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	     errmsg("a new version of pipeline \"%s\" is being built already", name),
	     errhint(
	         "Wait for it with CALL beam.wait_for_alter(), or give it up with beam.cancel_alter().")));
}

void
sb_version_check_result(const SbPipelineRow *current)
{
	sb_lock_relation(current->result, AccessShareLock);
	if (get_rel_relkind(current->result) != RELKIND_RELATION)
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("the result table of pipeline \"%s\" is gone", current->name),
		         errhint("Drop the pipeline with beam.drop_pipeline() and create it again.")));
}

void
sb_version_check_accumulation(const SbPipelineRow *row, const SbPlan *plan)
{
	if (row->retractable && sb_accumulation_of_name(row->accumulation) == SB_DISCARDING &&
	    (sb_catalog_reads_wal(row) || sb_plan_merges(plan) || plan->maps))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		     errmsg(
		         "a discarding pipeline cannot take rows back: it has forgotten them with its last pane"),
		     errhint(
		         "Use accumulation => 'retracting', or, over a table, source_mode => 'append_only'.")));
}

/* The result table beside the current version's, owned alike, that refuses the same rows. */
static void
version_make_result(SbPipelineRow *row, const SbPlan *plan, Oid current)
{
	Oid namespace = get_rel_namespace(current);
	SbBracket saved;

	sb_owner_enter(row, &saved);
	row->result = sb_version_make_result(plan, sb_accumulation_of_name(row->accumulation),
	                                     namespace, sb_version_table_name(row, namespace));
	sb_version_copy_constraints(plan, current, row->result);
	sb_bracket_leave(&saved);
}

static void
version_fix_start(SbPipelineRow *row)
{
	(void) sb_pin_until_end();
	sb_source_of(row)->begin(row);
	row->progress = (SbProgress){.input_watermark = SB_TIME_MIN,
	                             .output_watermark = SB_TIME_MIN,
	                             .max_event_time = SB_TIME_MIN};
	row->progress.position = sb_pin_until_end();
}

/* Where its upstream is being rebuilt itself, it reads the version that is to come. */
static void
version_join(SbPipelineRow *row)
{
	SbPipelineRow *upstream = sb_catalog_find_by_id(row->upstream);
	SbPipelineRow *building =
	    upstream->stage == SB_STAGE_CURRENT ? sb_catalog_building(upstream->name) : NULL;

	if (building == NULL)
		return;
	row->upstream = building->id;
	row->retractable = sb_accumulation_of_name(building->accumulation) == SB_ACCUMULATING;
	row->keep_us = building->keep_us;
}

void
sb_version_begin(SbPipelineRow *row, const SbPlan *plan)
{
	List *versions = sb_catalog_versions(row->name);
	SbPipelineRow *current = sb_catalog_row_of_stage(versions, row->name, SB_STAGE_CURRENT);

	if (sb_catalog_row_of_stage(versions, row->name, SB_STAGE_BUILDING))
		sb_version_refuse_second(row->name);
	if (!sb_catalog_reads_wal(row))
		version_join(row);
	sb_version_check_cycle(row->name, row->upstream);
	sb_version_check_result(current);
	row->version = ((SbPipelineRow *) llast(versions))->version + 1;
	row->stage = SB_STAGE_BUILDING;
	version_make_result(row, plan, current->result);
	version_fix_start(row);
	sb_catalog_insert(row);
	sb_version_make_state(row, plan, true);
	sb_version_begin_downstream(current, row, row->reason);
	sb_at_commit_tell_runner();
}

SbPipelineRow *
sb_version_same(const SbPipelineRow *current, const char *reason, SbPlan **plan)
{
	SbPipelineRow *row = palloc(sizeof(SbPipelineRow));

	*row = *current;
	sb_options_begin(row, SB_CALL_NONE);
	row->keep_until = DT_NOEND;
	row->reason = reason ? pstrdup(reason) : NULL;
	row->rebuild = NULL;
	*plan = sb_version_plan(row, &row->fingerprint);
	row->source = (*plan)->source;
	/* whose result it reads follows from its source: the view may have been replaced */
	(void) sb_source_find(row, false);
	return row;
}

/* ---- what was asked for ---- */

/* As it is now, locked; NULL: it is no more, or need not be rebuilt any longer. */
static SbPipelineRow *
version_lock_marked(const SbPipelineRow *found)
{
	ListCell *lc;

	if (sb_lock_pipeline_now(found->name) == NULL)
		return NULL;
	foreach (lc, sb_catalog_versions(found->name))
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->id == found->id)
			return row->rebuild ? row : NULL;
	}
	return NULL;
}

/*
 * Does what the mark asks for: a current version gets a next one, one that is being built begins
 * again, a kept one goes. Nobody is waited for: a lock that is not free is an error.
 */
static void
version_rebuild_one(void *arg)
{
	const SbPipelineRow *marked = version_lock_marked(arg);
	SbPipelineRow *row;
	SbPlan *plan;

	if (marked == NULL)
		return;
	/* under way: the mark stays until the new version is there */
	if (marked->stage == SB_STAGE_CURRENT && sb_catalog_building(marked->name))
		return;
	/* what was kept to go back to is no longer worth it */
	if (marked->stage == SB_STAGE_KEPT)
	{
		sb_version_drop_tree(marked, 0);
		return;
	}
	row = sb_version_same(marked, marked->rebuild, &plan);
	if (marked->stage == SB_STAGE_CURRENT)
	{
		sb_version_begin(row, plan);
		return;
	}
	/* it begins again, and so do those that follow it */
	row->keep_us = marked->keep_us;
	row->reason = marked->reason;
	sb_version_drop(marked, SB_KEEP_VIEW);
	sb_version_begin(row, plan);
	sb_version_move_downstream(marked->id, row, row->reason);
}

void
sb_version_begin_failed(const SbPipelineRow *row, ErrorData *error)
{
	if (sb_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	/* what stands still since its query means something else goes on standing still */
	if (row->state == SB_PIPELINE_NEEDS_RESYNC)
		sb_catalog_forget_rebuild(row->id);
	(void) sb_catalog_set_state(row->id,
	                            row->state == SB_PIPELINE_NEEDS_RESYNC ? SB_PIPELINE_NEEDS_RESYNC
	                                                                   : SB_PIPELINE_FAILED,
	                            error);
	ereport(WARNING, (errcode(error->sqlerrcode),
	                  errmsg("pipeline \"%s\" cannot be built anew: %s", row->name, error->message),
	                  error->detail ? errdetail("%s", error->detail) : 0,
	                  error->hint ? errhint("%s", error->hint) : 0));
	sb_at_commit_tell_runner();
}

void
sb_version_rebuild_marked(List *rows)
{
	ListCell *lc;

	foreach (lc, rows)
	{
		SbPipelineRow *row = lfirst(lc);
		ErrorData *error;

		if (row->rebuild == NULL || row->state == SB_PIPELINE_FAILED || sb_catalog_is_held(row))
			continue;
		if (sb_postponed_try(version_rebuild_one, row, &error))
			continue;
		if (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
			sb_postponed_add(row->id, false);
		else
			sb_version_begin_failed(row, error);
	}
}

/* ---- what is kept no longer ---- */

static void
version_expire_one(void *arg)
{
	const SbPipelineRow *found = arg;
	ListCell *lc;

	/* it may have been rolled back to meanwhile, or dropped with its upstream */
	(void) sb_lock_pipeline_now(found->name);
	foreach (lc, sb_catalog_versions(found->name))
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->id == found->id && row->stage == SB_STAGE_KEPT)
			sb_version_drop_tree(row, 0);
	}
}

TimestampTz
sb_version_expire(TimestampTz now)
{
	TimestampTz next = DT_NOEND;
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *row = lfirst(lc);
		ErrorData *error;

		if (row->stage != SB_STAGE_KEPT)
			continue;
		if (row->keep_until > now)
			next = Min(next, row->keep_until);
		else if (!sb_postponed_try(version_expire_one, row, &error))
		{
			/* whoever reads it is not waited for: it has its turn again */
			if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
				ReThrowError(error);
			next = now;
		}
	}
	return next;
}
