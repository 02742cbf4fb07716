/*
 * sb_api.c: what the SQL functions share.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/sb_api.h"
#include "catalog/namespace.h"
#include "catalog/sb_lock.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

void
sb_api_enter(SbBracket *saved)
{
	MemoryContext context = CurrentMemoryContext;

	sb_bracket_enter_extension(saved);
	SPI_connect();
	/* what is made in SPI's own context is gone with sb_api_leave() */
	MemoryContextSwitchTo(context);
}

void
sb_api_leave(const SbBracket *saved)
{
	SPI_finish();
	sb_bracket_leave(saved);
}

SbPipelineRow *
sb_api_lookup(const char *name)
{
	SbPipelineRow *row = sb_catalog_find(name);
	const char *schema;
	List *names;

	if (row || !SplitIdentifierString(pstrdup(name), '.', &names) || names == NIL ||
	    list_length(names) > 2)
		return row;
	row = sb_catalog_find(llast(names));
	if (row == NULL || list_length(names) == 1)
		return row;
	schema = get_namespace_name(get_rel_namespace(row->result));
	return schema && strcmp(schema, linitial(names)) == 0 ? row : NULL;
}

static void
api_check_owner(const char *name, const SbPipelineRow *row, Oid user)
{
	if (row == NULL)
		sb_api_raise_missing(name);
	if (!has_privs_of_role(user, row->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		                errmsg("must be owner of pipeline \"%s\"", name)));
}

SbPipelineRow *
sb_api_find(const char *name, Oid user)
{
	SbPipelineRow *row = sb_api_lookup(name);

	api_check_owner(name, row, user);
	return row;
}

SbPipelineRow *
sb_api_lock(const char *name, Oid user, bool tree)
{
	SbPipelineRow *row = sb_api_find(name, user);

	/* it may have been dropped, or given away, while we waited */
	row = sb_lock_pipeline(row->name, tree);
	api_check_owner(name, row, user);
	return row;
}

SbDatabase *
sb_api_require_server(void)
{
	SbDatabase *db = sb_my_database();

	if (RecoveryInProgress())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		                errmsg("pipelines cannot be changed during recovery"),
		                errhint("Call this function on the primary.")));
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("pipelines need wal_level = logical"),
		     errhint(
		         "Set wal_level to logical and restart the server. SELECT * FROM beam.check() shows all that is needed.")));
	return db;
}
