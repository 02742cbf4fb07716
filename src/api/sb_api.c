/*
 * sb_api.c: what the SQL functions share.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "api/sb_api.h"
#include "catalog/namespace.h"
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

static SbPipelineRow *
api_get(const char *name, bool lock)
{
	return lock ? sb_catalog_lock(name) : sb_catalog_find(name);
}

SbPipelineRow *
sb_api_lookup(const char *name, bool lock)
{
	SbPipelineRow *row = api_get(name, lock);
	const char *schema;
	List *names;

	if (row || !SplitIdentifierString(pstrdup(name), '.', &names) || names == NIL || list_length(names) > 2)
		return row;
	row = api_get(llast(names), lock);
	if (row == NULL || list_length(names) == 1)
		return row;
	schema = get_namespace_name(get_rel_namespace(row->result));
	return schema && strcmp(schema, linitial(names)) == 0 ? row : NULL;
}

SbPipelineRow *
sb_api_find(const char *name, Oid user, bool lock)
{
	SbPipelineRow *row = sb_api_lookup(name, lock);

	if (row == NULL)
		sb_api_raise_missing(name);
	if (!has_privs_of_role(user, row->owner))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE), errmsg("must be owner of pipeline \"%s\"", name)));
	return row;
}

SbDatabase *
sb_api_require_server(void)
{
	SbDatabase *db = sb_my_database();

	if (RecoveryInProgress())
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("pipelines cannot be changed during recovery"),
		         errhint("Call this function on the primary.")));
	if (wal_level < WAL_LEVEL_LOGICAL)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("pipelines need wal_level = logical"),
		         errhint("Set wal_level to logical and restart the server. SELECT * FROM beam.check() shows all that is needed.")));
	return db;
}
