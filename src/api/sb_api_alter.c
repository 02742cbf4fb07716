/*
 * sb_api_alter.c: a pipeline gets another version: alter, roll back, resync, give up.
 *
 * What is asked for here is begun in the caller's transaction: the new version's relations and its
 * catalog row. The runner builds it and lets it take the current one's place
 * (version/sb_version.h).
 */
#include "postgres.h"

#include "api/sb_api.h"
#include "api/sb_creation.h"
#include "catalog/sb_option.h"
#include "miscadmin.h"
#include "query/sb_query.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"

static const char *
alter_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
		                errmsg("the name of a pipeline must not be null")));
	return text_to_cstring(PG_GETARG_TEXT_PP(0));
}

/* The current version, locked with all the others, for its owner; in the caller's context. */
static SbPipelineRow *
alter_lock(const char *name, Oid user)
{
	SbPipelineRow *row = sb_api_lock(name, user, true);

	sb_version_check_result(row);
	if (sb_catalog_building(row->name))
		sb_version_refuse_second(row->name);
	return row;
}

/*
 * The definition: a new query makes a view of its own, otherwise it is the view that there is. As
 * the pipeline's owner.
 */
static void
alter_define(SbCreation *creation, const SbPipelineRow *current)
{
	SbPipelineRow *row = &creation->row;
	const SbSettings session = {0};
	SbBracket saved, owner;

	/* names in a new query are those of the session that gives it */
	sb_bracket_enter_owner(&owner, current->owner, &session);
	creation->namespace = get_rel_namespace(current->result);
	creation->schema = get_namespace_name(creation->namespace);
	if (creation->text)
		sb_creation_plan(creation);
	else
	{
		creation->plan = sb_version_plan(row, &row->fingerprint);
		sb_query_close(sb_query_open(creation->plan, CurrentMemoryContext, CurrentMemoryContext,
		                             row->retractable));
	}
	sb_creation_check_source(creation);
	sb_api_enter(&saved);
	sb_version_check_cycle(current->name, row->upstream);
	sb_api_leave(&saved);
	if (creation->text)
	{
		SbPipelineRow named = {.name = current->name, .version = row->version};

		sb_creation_view(creation, sb_version_view_name(&named, creation->namespace));
		sb_creation_record_settings(row);
	}
	sb_bracket_leave(&owner);
}

PG_FUNCTION_INFO_V1(stream_beam_alter_pipeline);

/* alter_pipeline(name, query, ...): the others are options */
PGDLLEXPORT Datum
stream_beam_alter_pipeline(PG_FUNCTION_ARGS)
{
	const char *name = alter_name(fcinfo);
	SbDatabase *db = sb_api_require_server();
	SbCreation creation = {0};
	SbPipelineRow *current;
	SbBracket saved;

	sb_creation_await_slot(db);
	sb_api_enter(&saved);
	current = alter_lock(name, saved.user);
	creation.row = *current;
	creation.row.version =
	    ((SbPipelineRow *) llast(sb_catalog_versions(current->name)))->version + 1;
	sb_version_lock_downstream(current, true);
	sb_api_leave(&saved);
	if (current->state == SB_PIPELINE_PAUSED)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("pipeline \"%s\" is paused and cannot be altered", current->name),
		                errhint("Call beam.resume_pipeline() first.")));

	creation.name = current->name;
	creation.text = PG_ARGISNULL(1) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(1));
	sb_options_take(fcinfo, SB_CALL_ALTER, &creation.row);
	creation.row.reason = creation.row.rebuild = NULL;
	creation.row.keep_until = DT_NOEND;
	alter_define(&creation, current);

	sb_api_enter(&saved);
	sb_version_check_shape(current, &creation.row);
	sb_version_begin(&creation.row, creation.plan);
	sb_api_leave(&saved);
	PG_RETURN_INT32(creation.row.version);
}

PG_FUNCTION_INFO_V1(stream_beam_resync_pipeline);

/* resync_pipeline(name): the same definition, rebuilt from the table; works in any state */
PGDLLEXPORT Datum
stream_beam_resync_pipeline(PG_FUNCTION_ARGS)
{
	const char *name = alter_name(fcinfo);
	SbDatabase *db = sb_api_require_server();
	SbPipelineRow *current, *row;
	SbBracket saved;
	SbPlan *plan;

	sb_creation_await_slot(db);
	/* out of a dump it is only a definition */
	(void) sb_api_adopt(name);
	sb_api_enter(&saved);
	current = alter_lock(name, saved.user);
	sb_version_lock_downstream(current, false);
	row = sb_version_same(current, "resync_pipeline()", &plan);
	sb_version_check_shape(current, row);
	sb_version_begin(row, plan);
	sb_api_leave(&saved);
	PG_RETURN_INT32(row->version);
}

/* Is its upstream a version that is not the current one? */
static bool
rollback_is_apart(const SbPipelineRow *row)
{
	return row->upstream != 0 && sb_catalog_find_by_id(row->upstream)->stage != SB_STAGE_CURRENT;
}

/* The kept version with this number (0: the newest), or error. */
static SbPipelineRow *
rollback_find(const SbPipelineRow *current, int32 version)
{
	SbPipelineRow *found = NULL;
	SbPipelineRow *apart = NULL;
	ListCell *lc;

	foreach (lc, sb_catalog_versions(current->name))
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->stage != SB_STAGE_KEPT || (version != 0 && row->version != version))
			continue;
		if (rollback_is_apart(row))
			apart = row;
		else
			found = row;
	}
	if (found == NULL && apart)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("version %d of pipeline \"%s\" reads an earlier version of \"%s\"",
		            apart->version, apart->name, get_rel_name(apart->source)),
		     errhint(
		         "Roll that pipeline back: its downstream pipelines go with it. Or give this one the definition with beam.alter_pipeline().")));
	if (found == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         version == 0
		             ? errmsg("no earlier version of pipeline \"%s\" is kept", current->name)
		             : errmsg("version %d of pipeline \"%s\" is not kept", version, current->name),
		         errhint("SELECT * FROM beam.pipeline_versions shows those that are.")));
	if (found->state != SB_PIPELINE_RUNNING)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("version %d of pipeline \"%s\" is %s", found->version, found->name,
		                sb_pipeline_state_name(found->state)),
		         found->error_message ? errdetail("%s", found->error_message) : 0,
		         found->state == SB_PIPELINE_NEEDS_RESYNC
		             ? errhint(
		                   "Its rows cannot be trusted. Give its query, which is that of its batch view, to beam.alter_pipeline().")
		             : errhint("beam.resume_pipeline() sets all versions running again.")));
	return found;
}

PG_FUNCTION_INFO_V1(stream_beam_rollback_pipeline);

/* rollback_pipeline(name, version, keep): a kept version takes its place again */
PGDLLEXPORT Datum
stream_beam_rollback_pipeline(PG_FUNCTION_ARGS)
{
	const char *name = alter_name(fcinfo);
	SbPipelineRow *current, *row;
	SbBracket saved;

	sb_api_require_server();
	sb_api_enter(&saved);
	current = alter_lock(name, saved.user);
	sb_version_lock_downstream(current, true);
	row = rollback_find(current, PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1));
	row->stage = SB_STAGE_BUILDING;
	sb_options_take(fcinfo, SB_CALL_ROLLBACK, row);
	sb_version_check_shape(current, row);
	sb_catalog_put_version(row);
	sb_version_begin_downstream(current, row, NULL);
	sb_at_commit_tell_runner();
	sb_api_leave(&saved);
	PG_RETURN_INT32(row->version);
}

/* One that follows its upstream's is given up with that, or takes its place with it. */
static void
cancel_check_leader(List *rows, const SbPipelineRow *row)
{
	const SbPipelineRow *root = linitial(sb_version_tree(rows, row));

	if (root->id != row->id)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("the new version of pipeline \"%s\" belongs to that of pipeline \"%s\", which is upstream of it",
		                row->name, root->name),
		         errhint("Give that one up with beam.cancel_alter().")));
}

PG_FUNCTION_INFO_V1(stream_beam_cancel_alter);

/*
 * cancel_alter(name): the version that is being built is given up, with those that follow it; one
 * that was kept before is kept on
 */
PGDLLEXPORT Datum
stream_beam_cancel_alter(PG_FUNCTION_ARGS)
{
	const char *name = alter_name(fcinfo);
	SbPipelineRow *current, *row;
	SbBracket saved;
	List *rows, *tree;

	sb_api_require_server();
	sb_api_enter(&saved);
	current = sb_api_lock(name, saved.user, true);
	row = sb_catalog_building(current->name);
	if (row == NULL)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("no new version of pipeline \"%s\" is being built", current->name),
		     errhint(
		         "What has taken its place already can be taken back with beam.rollback_pipeline().")));
	if (current->rebuild)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("pipeline \"%s\" has to be built anew: %s", current->name,
		                       current->rebuild),
		                errhint("Drop the pipeline where that is not wanted.")));
	rows = sb_catalog_pipelines();
	cancel_check_leader(rows, row);
	tree = sb_version_tree(rows, row);
	for (int i = list_length(tree) - 1; i >= 0; i--)
		sb_version_cancel(list_nth(tree, i));
	sb_api_leave(&saved);
	PG_RETURN_VOID();
}
