/*
 * sb_hooks_partition.c: what is noted of partitions that come and go; see sb_hooks_partition.h.
 *
 * ATTACH, DETACH, DROP and TRUNCATE of a partition that has rows, and SET LOGGED, write a note
 * (source/sb_rebuild_note.h) into the same transaction; the reader turns it into a request to
 * rebuild the pipelines over the tables above. An empty partition costs a look.
 *
 * RULES. Whether a pipeline reads the table is not asked here: one that is being created in another
 * session would be missed. Where nobody does, the reader skips the note.
 *
 * A partition has a replica identity of its own, and its first UPDATE or DELETE would stop the
 * pipelines that need old values it does not give. So the statement that attaches it warns, once it
 * is done: before, its indexes are not there yet. Only where a pipeline reads a table above.
 *
 * LOCKING. The commands have locked the partition against all others by the time they ask us, but
 * for TRUNCATE, which asks before it does: we take that lock for it, if the user may truncate.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xlog.h"
#include "base/sb_partition.h"
#include "base/sb_statement.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "server/sb_hooks_partition.h"
#include "source/sb_rebuild_note.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "worker/sb_shmem.h"

/* Does anybody read this database's WAL for us? */
static bool
partition_notes_wanted(void)
{
	return XLogLogicalInfoActive() && sb_database_find(MyDatabaseId) != NULL;
}

static bool
partition_is_ours(Oid relation)
{
	return get_rel_relispartition(relation) && get_rel_persistence(relation) != RELPERSISTENCE_TEMP;
}

/* A partition has just got, or lost, its parent. */
static void
partition_moved(Oid partition, Oid parent)
{
	/* of ATTACH and CREATE TABLE this is said later, of DETACH it is taken back later */
	SbRebuildCause cause =
	    get_rel_relispartition(partition) ? SB_REBUILD_DETACH : SB_REBUILD_ATTACH;

	if (get_rel_relkind(parent) != RELKIND_PARTITIONED_TABLE ||
	    get_rel_persistence(parent) == RELPERSISTENCE_TEMP)
		return;
	if (sb_partition_has_rows(partition))
		sb_rebuild_note_write(cause, partition, lcons_oid(parent, sb_partition_ancestors(parent)));
}

static void
partition_dropped(Oid partition)
{
	if (get_rel_relkind(partition) == RELKIND_RELATION && partition_is_ours(partition) &&
	    sb_partition_has_rows(partition))
		sb_rebuild_note_write(SB_REBUILD_DROP, partition, sb_partition_ancestors(partition));
}

static void
partition_truncated(Oid partition)
{
	if (!partition_is_ours(partition) ||
	    pg_class_aclcheck(partition, GetUserId(), ACL_TRUNCATE) != ACLCHECK_OK)
		return;
	LockRelationOid(partition, AccessExclusiveLock);
	if (get_rel_relkind(partition) == RELKIND_RELATION && sb_partition_has_rows(partition))
		sb_rebuild_note_write(SB_REBUILD_TRUNCATE, partition, NIL);
}

void
sb_partition_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (class != InheritsRelationId && class != RelationRelationId)
		return;
	if (!partition_notes_wanted())
		return;
	if (access == OAT_POST_ALTER && class == InheritsRelationId)
		partition_moved(object, ((ObjectAccessPostAlter *) arg)->auxiliary_id);
	else if (access == OAT_DROP && class == RelationRelationId && sub == 0)
		partition_dropped(object);
	else if (access == OAT_TRUNCATE)
		partition_truncated(object);
}

/* ---- the replica identity of a new partition ---- */

/* by the running statement; one that has failed may leave what is gone */
static Oid attached = InvalidOid;

void
sb_partition_note_attached(Oid partition)
{
	attached = partition;
}

bool
sb_partition_is_attached(void)
{
	return OidIsValid(attached);
}

/*
 * Whose rows are taken back, over one of these tables: name and each column that the batch view
 * uses.
 */
static uint64
partition_columns_in_use(List *tables)
{
	Oid types[] = {OIDARRAYOID};
	Datum *oids = palloc(sizeof(Datum) * list_length(tables));
	Datum values[1];
	ListCell *lc;

	foreach (lc, tables)
		oids[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	values[0] = PointerGetDatum(
	    construct_array(oids, list_length(tables), OIDOID, sizeof(Oid), true, TYPALIGN_INT));
	return sb_sql_run(
	    "SELECT DISTINCT p.name, a.attname::pg_catalog.text FROM beam.pipeline p"
	    " JOIN pg_catalog.pg_rewrite r ON r.ev_class OPERATOR(pg_catalog.=) p.view"
	    " JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass"
	    " AND d.objid OPERATOR(pg_catalog.=) r.oid AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
	    " AND d.refobjid OPERATOR(pg_catalog.=) p.source"
	    " JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) p.source AND a.attnum OPERATOR(pg_catalog.=) d.refobjsubid"
	    " WHERE p.source OPERATOR(pg_catalog.=) ANY ($1) AND p.retractable AND p.upstream OPERATOR(pg_catalog.=) 0 ORDER BY 1, 2",
	    lengthof(types), types, values, NULL, SPI_OK_SELECT);
}

/* Once for each pipeline. */
static void
partition_warn_of(Relation rel, const SPITupleTable *used, uint64 n)
{
	const char *name = RelationGetRelationName(rel);
	const char *warned = "";

	for (uint64 i = 0; i < n; i++)
	{
		const char *pipeline = SPI_getvalue(used->vals[i], used->tupdesc, 1);
		const char *column = SPI_getvalue(used->vals[i], used->tupdesc, 2);

		if (strcmp(pipeline, warned) == 0 || sb_partition_old_has(rel, column))
			continue;
		warned = pipeline;
		ereport(WARNING,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("an UPDATE or DELETE in partition \"%s\" would stop pipeline \"%s\"", name,
		                pipeline),
		         errdetail(
		             "The query uses column \"%s\", which is not of the partition's replica identity: the WAL would not have its old values.",
		             column),
		         errhint("ALTER TABLE %s REPLICA IDENTITY FULL;",
		                 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
		                                            name))));
	}
}

void
sb_partition_warn_attached(void)
{
	List *above = sb_partition_ancestors(attached);
	uint64 n = above ? partition_columns_in_use(above) : 0;
	SPITupleTable *used = SPI_tuptable;
	ListCell *lc;

	/* locked by the statement already */
	foreach (lc, n > 0 ? sb_partition_tree(attached, AccessShareLock) : NIL)
	{
		Relation rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			partition_warn_of(rel, used, n);
		table_close(rel, NoLock);
	}
	attached = InvalidOid;
}

/* ---- SET LOGGED: what has been changed before is not in the WAL ---- */

Oid
sb_partition_before_set_logged(const Node *statement)
{
	const AlterTableStmt *alter = (const AlterTableStmt *) statement;
	bool logged = false;
	ListCell *lc;
	Oid relation;

	if (!IsA(statement, AlterTableStmt) || !partition_notes_wanted())
		return InvalidOid;
	foreach (lc, alter->cmds)
		logged |= lfirst_node(AlterTableCmd, lc)->subtype == AT_SetLogged;
	if (!logged)
		return InvalidOid;
	relation = RangeVarGetRelid(alter->relation, NoLock, true);
	return OidIsValid(relation) && get_rel_persistence(relation) == RELPERSISTENCE_UNLOGGED
	           ? relation
	           : InvalidOid;
}

void
sb_partition_after_set_logged(Oid relation)
{
	if (get_rel_persistence(relation) == RELPERSISTENCE_PERMANENT)
		sb_rebuild_note_write(SB_REBUILD_LOGGED, relation,
		                      lcons_oid(relation, sb_partition_ancestors(relation)));
}
