/*
 * sb_version_relations.c: the relations of a version: result table, view, state table, queue; see sb_version.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "runtime/sb_hooks.h"
#include "runtime/sb_version.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

void
sb_version_as_owner(const SbPipelineRow *row, SbSavedRole *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->context);
	saved->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(row->owner, saved->context | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
}

char *
sb_version_table_name(const SbPipelineRow *row, Oid namespace)
{
	return ChooseRelationName(row->name, NULL, psprintf("v%d", row->version), namespace, false);
}

char *
sb_version_view_name(const SbPipelineRow *row, Oid namespace)
{
	return ChooseRelationName(row->name, psprintf("v%d", row->version), "batch", namespace, false);
}

int
sb_version_run(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	int level = NewGUCNestLevel();
	int code;

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	code = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types), unconstify(Datum *, values), NULL, false, 0);
	AtEOXact_GUC(false, level);
	if (code < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(code));
	return code;
}

/* A member of the extension: it goes with it, and is not dumped, since it means nothing in another database. */
static Oid
relations_make_member(const char *name, const char *sql)
{
	Oid relation;
	ObjectAddress member, extension;

	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	relation = get_relname_relid(name, get_namespace_oid("beam_state", false));
	ObjectAddressSet(member, RelationRelationId, relation);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("stream_beam", false));
	recordDependencyOn(&member, &extension, DEPENDENCY_EXTENSION);
	return relation;
}

void
sb_version_make_state(SbPipelineRow *row, const SbPlan *plan)
{
	char *name = psprintf("cells_%d", row->id);
	bool merging = plan->window_fn && sb_window_fn_merges(plan->window_fn);

	row->state_table = relations_make_member(name, sb_cells_table_sql(quote_qualified_identifier("beam_state", name), merging));
	sb_catalog_set_state_table(row->id, row->state_table);
	name = sb_chain_queue_name(row->id);
	if (row->upstream != 0 || row->stage == SB_STAGE_BUILDING)
		(void) relations_make_member(name, sb_chain_queue_sql(quote_qualified_identifier("beam_state", name)));
}

static void
relations_drop(Oid relation, char relkind)
{
	ObjectAddress address;

	if (get_rel_relkind(relation) != relkind)
		return; /* dropped by hand */
	ObjectAddressSet(address, RelationRelationId, relation);
	performDeletion(&address, DROP_RESTRICT, 0);
}

/* It has to leave the extension first. */
static void
relations_drop_member(Oid relation)
{
	deleteDependencyRecordsForClass(RelationRelationId, relation, ExtensionRelationId, DEPENDENCY_EXTENSION);
	CommandCounterIncrement();
	relations_drop(relation, RELKIND_RELATION);
}

static bool
relations_view_is_shared(const SbPipelineRow *row)
{
	ListCell *lc;

	foreach (lc, sb_catalog_versions(row->name))
	{
		SbPipelineRow *other = lfirst(lc);

		if (other->id != row->id && other->view == row->view)
			return true;
	}
	return false;
}

/* The order is the one in which a bundle takes its locks (result, state, catalog), so that the two wait for each other and do not deadlock. */
void
sb_version_drop(const SbPipelineRow *row, int keep)
{
	Oid queue;

	if (!(keep & SB_KEEP_VIEW) && !relations_view_is_shared(row))
		relations_drop(row->view, RELKIND_VIEW);
	if (!(keep & SB_KEEP_RESULT))
		relations_drop(row->result, RELKIND_RELATION);
	relations_drop_member(row->state_table);
	queue = get_relname_relid(sb_chain_queue_name(row->id), get_namespace_oid("beam_state", false));
	if (OidIsValid(queue))
		relations_drop_member(queue);
	sb_catalog_delete(row->id);
	sb_at_commit_tell_runner();
}

SbPlan *
sb_version_plan(const SbPipelineRow *row, char **fingerprint)
{
	Relation view = try_table_open(row->view, AccessShareLock);
	SbSavedRole saved;
	Query *query;
	SbPlan *plan;

	if (view == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("the batch view of pipeline \"%s\" is gone", row->name),
		         errhint("Give the query again: beam.alter_pipeline(name, query => ...).")));
	query = copyObject(get_view_query(view));
	table_close(view, AccessShareLock);
	if (fingerprint)
		*fingerprint = sb_view_fingerprint(query);
	sb_version_as_owner(row, &saved);
	plan = sb_plan_build(query);
	sb_role_restore(&saved);
	return plan;
}
