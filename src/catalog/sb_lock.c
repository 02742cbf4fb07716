/*
 * sb_lock.c: the locks of pipelines; see sb_lock.h.
 */
#include "postgres.h"

#include "base/sb_statement.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "catalog/sb_lock.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "storage/lmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"

/* ---- names ---- */

/*
 * Two names may be the same one here: they wait for each other, no more. DDL on extensions has 0 as
 * the last number.
 */
static LOCKTAG
name_tag(const char *name)
{
	LOCKTAG tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, ExtensionRelationId,
	                   hash_bytes((const unsigned char *) name, strlen(name)), 1);
	return tag;
}

static bool
name_lock(const char *name, bool wait)
{
	LOCKTAG tag = name_tag(name);
	bool locked = LockAcquire(&tag, ExclusiveLock, false, !wait) != LOCKACQUIRE_NOT_AVAIL;

	/* what was done under it is to be seen */
	AcceptInvalidationMessages();
	return locked;
}

void
sb_lock_name(const char *name)
{
	(void) name_lock(name, true);
}

bool
sb_lock_name_now(const char *name)
{
	return name_lock(name, false);
}

static int
names_compare(const ListCell *a, const ListCell *b)
{
	return strcmp(strVal(lfirst(a)), strVal(lfirst(b)));
}

/*
 * Of those downstream of any version of it, in an order that does not change with their versions.
 */
static List *
names_of_downstream(const List *rows, const char *name)
{
	List *names = NIL;
	ListCell *lc;

	foreach (lc, rows)
	{
		const SbPipelineRow *downstream = lfirst(lc);
		const SbPipelineRow *upstream =
		    downstream->upstream != 0 ? sb_catalog_row_of_id(rows, downstream->upstream) : NULL;

		if (upstream && strcmp(upstream->name, name) == 0)
			names = lappend(names, makeString(downstream->name));
	}
	list_sort(names, names_compare);
	return names;
}

/* Downstream pipelines first; `seen` has those that are on the way, too. */
static void
names_collect(const List *rows, String *name, List **seen, List **names)
{
	ListCell *lc;

	check_stack_depth();
	if (list_member(*seen, name))
		return;
	*seen = lappend(*seen, name);
	foreach (lc, names_of_downstream(rows, strVal(name)))
		names_collect(rows, lfirst(lc), seen, names);
	*names = lappend(*names, name);
}

static List *
names_of_tree(const char *name)
{
	List *seen = NIL;
	List *names = NIL;

	names_collect(sb_catalog_pipelines(), makeString(pstrdup(name)), &seen, &names);
	return names;
}

/*
 * Locks the names of a pipeline and of all downstream of it, those first. When it returns, that is
 * the tree as it is then. Without `wait` a name that is not free is an error, 55P03.
 */
static void
names_lock(const char *name, bool wait)
{
	List *held = NIL;
	List *names = names_of_tree(name);
	ListCell *lc;

	/* downstream pipelines may have come or gone while we waited: another order, perhaps */
	while (!equal(names, held))
	{
		foreach (lc, held)
		{
			LOCKTAG tag = name_tag(strVal(lfirst(lc)));

			(void) LockRelease(&tag, ExclusiveLock, false);
		}
		foreach (lc, names)
		{
			if (!name_lock(strVal(lfirst(lc)), wait))
				ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
				                errmsg("pipeline \"%s\" is being changed by somebody else",
				                       strVal(lfirst(lc)))));
		}
		held = names;
		names = names_of_tree(name);
	}
}

SbPipelineRow *
sb_lock_pipeline(const char *name, bool tree)
{
	if (tree)
		names_lock(name, true);
	else
		sb_lock_name(name);
	return sb_catalog_lock(name);
}

SbPipelineRow *
sb_lock_pipeline_now(const char *name)
{
	names_lock(name, false);
	return sb_catalog_lock(name);
}

/* ---- relations ---- */

/*
 * Is an index being made on it by somebody who waits, or is going to, for all who have a snapshot?
 */
static bool
relation_is_indexed_concurrently(Oid relation)
{
	Oid types[] = {OIDOID, OIDOID};
	Datum values[] = {ObjectIdGetDatum(MyDatabaseId), ObjectIdGetDatum(relation)};

	return sb_sql_run("SELECT FROM pg_catalog.pg_stat_progress_create_index WHERE datid OPERATOR(pg_catalog.=) $1 AND relid OPERATOR(pg_catalog.=) $2"
	                  " AND command OPERATOR(pg_catalog.~~) '%CONCURRENTLY'",
	                  lengthof(types), types, values, NULL, SPI_OK_SELECT) > 0;
}

void
sb_lock_relation(Oid relation, LOCKMODE mode)
{
	if (!OidIsValid(relation) || ConditionalLockRelationOid(relation, mode))
		return;
	if (relation_is_indexed_concurrently(relation))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
		     errmsg("an index is being built concurrently on table \"%s\"", get_rel_name(relation)),
		     errdetail("It would wait for this transaction, and this transaction for it."),
		     errhint(
		         "Wait until it is built (pg_stat_progress_create_index), then call the function again.")));
	LockRelationOid(relation, mode);
}
