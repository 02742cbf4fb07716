/*
 * sb_api_restore.c: pipelines that came out of a dump: a definition, a result table and a batch
 * view, and nothing else.
 *
 * beam.resync_pipeline() adopts such a one first: from then on it is a pipeline like any other that
 * needs a resync. Its result, as of the dump, can be read meanwhile, and what depends on it stays.
 */
#include "postgres.h"

#include "api/sb_api.h"
#include "catalog/pg_class.h"
#include "catalog/sb_definition.h"
#include "catalog/sb_lock.h"
#include "pipeline/sb_source.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"
#include "version/sb_version.h"

static SbDefinition *
restore_find(const char *name)
{
	SbDefinition *definition = sb_definition_find_restored(name);
	List *names;

	if (definition || !SplitIdentifierString(pstrdup(name), '.', &names) || names == NIL ||
	    list_length(names) > 2)
		return definition;
	return sb_definition_find_restored(llast(names));
}

/* The one of this name, for its owner only, with the name locked; NULL: there is none. */
static SbDefinition *
restore_lock(const char *name, Oid user)
{
	SbDefinition *definition = restore_find(name);

	if (definition == NULL)
		return NULL;
	if (!has_privs_of_role(user, definition->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		                errmsg("must be owner of pipeline \"%s\"", definition->name)));
	sb_lock_name(definition->name);
	/* of two who adopt it the second finds it adopted */
	return sb_definition_find_restored(definition->name);
}

/* The dump may have been restored in part, or what it names may be something else by now. */
static void
restore_check_relations(const SbDefinition *definition)
{
	if (get_rel_relkind(definition->result) == RELKIND_RELATION &&
	    get_rel_relkind(definition->view) == RELKIND_VIEW)
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_UNDEFINED_TABLE),
	         errmsg("result table or batch view of the restored pipeline \"%s\" is gone",
	                definition->name),
	         errhint("Remove the rest with beam.drop_pipeline(), and create the pipeline again.")));
}

static void
restore_check_columns(const SbDefinition *definition, const SbPlan *plan)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		AttrNumber attno = get_attnum(definition->result, plan->columns_out[i].name);

		if (attno == InvalidAttrNumber ||
		    get_atttype(definition->result, attno) != plan->columns_out[i].type)
			ereport(
			    ERROR,
			    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			     errmsg("table \"%s\" is not the result of pipeline \"%s\": column \"%s\" is missing or has another type",
			            get_rel_name(definition->result), definition->name,
			            plan->columns_out[i].name),
			     errhint(
			         "Remove the rest with beam.drop_pipeline(), and create the pipeline again.")));
	}
}

/* Its source may be the result of a pipeline, which has to be one first. */
static int32
restore_upstream(const SbDefinition *definition, Oid source)
{
	SbPipelineRow row = {.source = source};
	SbDefinition *restored = sb_source_find(&row, false) == &sb_table_source
	                             ? sb_definition_find_restored_by_result(source)
	                             : NULL;

	if (restored)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("pipeline \"%s\" is downstream of pipeline \"%s\", which needs a resync itself",
		                definition->name, restored->name),
		         errhint("Call beam.resync_pipeline() for that one first.")));
	return row.upstream;
}

bool
sb_api_adopt(const char *name)
{
	SbDefinition *definition;
	SbBracket saved;
	SbPlan *plan;

	sb_api_require_server();
	sb_api_enter(&saved);
	definition = restore_lock(name, saved.user);
	if (definition)
	{
		restore_check_relations(definition);
		plan = sb_version_plan(&(SbPipelineRow){.name = definition->name,
		                                        .owner = definition->owner,
		                                        .view = definition->view,
		                                        .result = definition->result,
		                                        .fingerprint = ""},
		                       NULL);
		restore_check_columns(definition, plan);
		(void) sb_definition_adopt(definition, plan->source,
		                           restore_upstream(definition, plan->source), SB_RESTORED_REASON);
	}
	sb_api_leave(&saved);
	return definition != NULL;
}

bool
sb_api_drop_restored(const char *name, bool keep_result)
{
	SbDefinition *definition;
	SbBracket saved;

	sb_api_enter(&saved);
	definition = restore_lock(name, saved.user);
	if (definition)
	{
		if (!keep_result)
			sb_version_drop_relation(definition->result, RELKIND_RELATION);
		sb_version_drop_relation(definition->view, RELKIND_VIEW);
		sb_definition_delete(definition->name);
	}
	sb_api_leave(&saved);
	return definition != NULL;
}

void
sb_api_raise_missing(const char *name)
{
	if (restore_find(name))
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("pipeline \"%s\" needs a resync", name), errdetail(SB_RESTORED_REASON),
		         errhint(
		             "Call beam.resync_pipeline(): it makes the result anew from the source.")));
	ereport(ERROR,
	        (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("pipeline \"%s\" does not exist", name),
	         errhint("SELECT name FROM beam.pipelines lists those that you own.")));
}
