/*
 * sb_partition.c: see sb_partition.h.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "base/sb_partition.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

List *
sb_partition_tree(Oid relation, LOCKMODE mode)
{
	if (get_rel_relkind(relation) == RELKIND_PARTITIONED_TABLE)
		return find_all_inheritors(relation, mode, NULL);
	LockRelationOid(relation, mode);
	return list_make1_oid(relation);
}

List *
sb_partition_ancestors(Oid relation)
{
	return get_rel_relispartition(relation) ? get_partition_ancestors(relation) : NIL;
}

bool
sb_partition_knows_all(Oid relation)
{
	ListCell *lc;

	if (get_rel_relkind(relation) != RELKIND_PARTITIONED_TABLE)
		return true;
	/* this takes in what others have told, too */
	if (!ConditionalLockRelationOid(relation, ShareUpdateExclusiveLock))
		return false;
	UnlockRelationOid(relation, ShareUpdateExclusiveLock);
	foreach (lc, find_inheritance_children(relation, NoLock))
	{
		if (!sb_partition_knows_all(lfirst_oid(lc)))
			return false;
	}
	return true;
}

bool
sb_partition_old_has(Relation rel, const char *column)
{
	AttrNumber attno = get_attnum(RelationGetRelid(rel), column);

	return rel->rd_rel->relreplident == REPLICA_IDENTITY_FULL ||
	       bms_is_member(attno - FirstLowInvalidHeapAttributeNumber,
	                     RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_IDENTITY_KEY));
}

bool
sb_partition_all_old_have(Oid relation, const char *column)
{
	bool all = true;
	ListCell *lc;

	foreach (lc, sb_partition_tree(relation, AccessShareLock))
	{
		Relation rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
			all = all && sb_partition_old_has(rel, column);
		table_close(rel, NoLock);
	}
	return all;
}

static bool
partition_table_has_rows(Relation rel)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	bool found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	return found;
}

bool
sb_partition_has_rows(Oid relation)
{
	bool found = false;
	ListCell *lc;

	foreach (lc, sb_partition_tree(relation, ShareLock))
	{
		Relation rel = table_open(lfirst_oid(lc), NoLock);

		/* a foreign table's rows have never been ours */
		if (!found && RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind))
			found = partition_table_has_rows(rel);
		table_close(rel, NoLock);
	}
	return found;
}
