/*
 * sb_hooks_partition.c: notes into the WAL when rows come to a table, or leave it, without a change of their own.
 *
 * ATTACH, DETACH, DROP and TRUNCATE of a partition that has rows, and SET LOGGED, write a note (source/sb_rebuild_note.h) into the same
 * transaction; the reader turns it into a request to rebuild the pipelines over the tables above. An empty partition costs a look.
 *
 * RULES. Whether a pipeline reads the table is not asked here: one that is being created in another session would be missed. Where
 * nobody does, the reader passes the note by.
 *
 * LOCKING. The commands have locked the partition against all others by the time they ask us, but for TRUNCATE, which asks before it does:
 * we take that lock for it, if the user may truncate.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "runtime/sb_hooks_partition.h"
#include "runtime/sb_shmem.h"
#include "sb_partition.h"
#include "source/sb_rebuild_note.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"

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
	SbRebuildCause cause = get_rel_relispartition(partition) ? SB_REBUILD_DETACH : SB_REBUILD_ATTACH;

	if (get_rel_relkind(parent) != RELKIND_PARTITIONED_TABLE || get_rel_persistence(parent) == RELPERSISTENCE_TEMP)
		return;
	if (sb_partition_has_rows(partition))
		sb_rebuild_note_write(cause, partition, lcons_oid(parent, sb_partition_ancestors(parent)));
}

static void
partition_dropped(Oid partition)
{
	if (get_rel_relkind(partition) == RELKIND_RELATION && partition_is_ours(partition) && sb_partition_has_rows(partition))
		sb_rebuild_note_write(SB_REBUILD_DROP, partition, sb_partition_ancestors(partition));
}

static void
partition_truncated(Oid partition)
{
	if (!partition_is_ours(partition) || pg_class_aclcheck(partition, GetUserId(), ACL_TRUNCATE) != ACLCHECK_OK)
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
	return OidIsValid(relation) && get_rel_persistence(relation) == RELPERSISTENCE_UNLOGGED ? relation : InvalidOid;
}

void
sb_partition_after_set_logged(Oid relation)
{
	if (get_rel_persistence(relation) == RELPERSISTENCE_PERMANENT)
		sb_rebuild_note_write(SB_REBUILD_LOGGED, relation, lcons_oid(relation, sb_partition_ancestors(relation)));
}
