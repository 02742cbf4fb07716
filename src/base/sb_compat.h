/*
 * sb_compat.h: differences between PostgreSQL versions, as wrappers with the newest signature.
 * Nowhere else is a version asked for.
 */
#ifndef SB_COMPAT_H
#define SB_COMPAT_H

#include "postgres.h"
#include "access/htup_details.h"
#include "access/stratnum.h"
#include "catalog/pg_database.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "replication/message.h"
#include "replication/reorderbuffer.h"
#include "replication/slot.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"

#if PG_VERSION_NUM < 150000
#error "stream_beam needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "utils/guc_hooks.h"
#include "varatt.h"
#endif

/* ---- lists ---- */

#if PG_VERSION_NUM < 170000
/* The outer loop runs once: it is there for the index. */
#define foreach_ptr(type, var, lst) \
	for (int var##__i = 0; var##__i >= 0; var##__i = -1) \
		for (type *var = NULL; \
		     var##__i < list_length(lst) && (var = list_nth(lst, var##__i)) != NULL; var##__i++)
#endif

/* ---- assertions ---- */

/*
 * 16 took the second argument away from ExceptionalCondition(). A test that defines it puts this in
 * front of the file's name.
 */
#if PG_VERSION_NUM >= 160000
#define SB_ASSERTION_TYPE
#else
#define SB_ASSERTION_TYPE const char *type,
#endif

/* ---- expressions ---- */

/* The type to which JSON_VALUE() and its like convert what they find; InvalidOid: it is none. */
static inline Oid
sb_json_returning_type(const Node *node)
{
#if PG_VERSION_NUM >= 170000
	if (IsA(node, JsonExpr) && ((const JsonExpr *) node)->returning)
		return ((const JsonExpr *) node)->returning->typid;
#endif
	return InvalidOid;
}

/* ---- tuples ---- */

/*
 * heap_form_tuple() makes composite values. Newer minor releases mark them as such, and check
 * wherever one is taken apart that its columns are those that its type has now. A row of another
 * time has others.
 */
static inline void
sb_tuple_is_no_datum(HeapTupleHeader header)
{
#ifdef HEAP_IS_DATUM
	header->t_infomask &= ~HEAP_IS_DATUM;
#endif
}

#if PG_VERSION_NUM < 180000
#define heap_form_minimal_tuple(desc, values, isnull, extra) \
	heap_form_minimal_tuple(desc, values, isnull)

/* Whoever has set an attribute's fields himself says so. */
static inline void
populate_compact_attribute(TupleDesc desc, int attnum)
{
	TupleDescAttr(desc, attnum)->attcacheoff = -1;
}
#endif

/* What decoding hands out: 17 took away what was around the tuple. */
#if PG_VERSION_NUM >= 170000
static inline HeapTuple
sb_decoded_tuple(HeapTuple tuple)
{
	return tuple;
}
#else
static inline HeapTuple
sb_decoded_tuple(ReorderBufferTupleBuf *buffer)
{
	return buffer ? &buffer->tuple : NULL;
}
#endif

/* ---- relations ---- */

/* 18 added whether a deferrable one will do. Before, it did not. */
#if PG_VERSION_NUM < 180000
#define RelationGetPrimaryKeyIndex(relation, deferrable_ok) RelationGetPrimaryKeyIndex(relation)
#endif

/* ---- rights ---- */

#if PG_VERSION_NUM < 160000
/* 16 made one function of all the pg_*_aclcheck() */
static inline AclResult
object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	if (classid == ProcedureRelationId)
		return pg_proc_aclcheck(objectid, roleid, mode);
	if (classid == NamespaceRelationId)
		return pg_namespace_aclcheck(objectid, roleid, mode);
	elog(ERROR, "object_aclcheck: class %u is not mapped", classid);
}
#endif

static inline bool
sb_database_ownercheck(Oid dbid, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(DatabaseRelationId, dbid, roleid);
#else
	return pg_database_ownercheck(dbid, roleid);
#endif
}

/* ---- queries ---- */

/* Runs a started query for up to `count` more rows, 0: to its end. */
static inline void
sb_executor_run(QueryDesc *desc, uint64 count)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, count);
#else
	ExecutorRun(desc, ForwardScanDirection, count, count == 0);
#endif
}

#if PG_VERSION_NUM < 160000
#define flatten_join_alias_vars(root, query, node) flatten_join_alias_vars(query, node)
#endif

/*
 * Since 18, group keys stand in a range table entry of their own, and what is above the grouping
 * refers to that. This undoes it, as the planner does. The references have no location. For error
 * messages they get that of the expression they are in, else of the key.
 */
#if PG_VERSION_NUM >= 180000
typedef struct SbGroupReferences
{
	Query *query;
	int location; /* of the expression around, or -1 */
} SbGroupReferences;

static inline bool
sb_locate_group_references(Node *node, void *context)
{
	SbGroupReferences inner = *(SbGroupReferences *) context;

	if (node == NULL)
		return false;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0 && ((Var *) node)->location < 0)
	{
		Var *var = (Var *) node;
		RangeTblEntry *rte = rt_fetch(var->varno, inner.query->rtable);

		if (rte->rtekind == RTE_GROUP)
			var->location =
			    inner.location >= 0
			        ? inner.location
			        : exprLocation((Node *) list_nth(rte->groupexprs, var->varattno - 1));
		return false;
	}
	if (!IsA(node, List) && !IsA(node, TargetEntry) && exprLocation(node) >= 0)
		inner.location = exprLocation(node);
	return expression_tree_walker(node, sb_locate_group_references, &inner);
}
#endif

static inline void
sb_flatten_groups(Query *query)
{
#if PG_VERSION_NUM >= 180000
	SbGroupReferences references = {.query = query, .location = -1};
	ListCell *cell;

	if (!query->hasGroupRTE)
		return;
	sb_locate_group_references((Node *) query->targetList, &references);
	sb_locate_group_references(query->havingQual, &references);
	query->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) query->targetList);
	query->havingQual = flatten_group_exprs(NULL, query, query->havingQual);
	query->hasGroupRTE = false;
	foreach (cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, cell);

		if (rte->rtekind != RTE_GROUP)
			continue;
		rte->rtekind = RTE_RESULT;
		rte->groupexprs = NIL;
	}
#endif
}

/*
 * As whom a query's relations are read; before 16 it stands in the range table entries, as all that
 * is about permissions.
 */
static inline void
sb_query_check_as(Query *query, Oid role)
{
	ListCell *cell;

#if PG_VERSION_NUM >= 160000
	foreach (cell, query->rteperminfos)
		lfirst_node(RTEPermissionInfo, cell)->checkAsUser = role;
#else
	foreach (cell, query->rtable)
		lfirst_node(RangeTblEntry, cell)->checkAsUser = role;
#endif
}

/* Moves the permission checks of a query's tables to another one that gets its range table. */
static inline void
sb_query_move_permissions(Query *from, Query *to)
{
#if PG_VERSION_NUM >= 160000
	to->rteperminfos = from->rteperminfos;
	from->rteperminfos = NIL;
#endif
}

/* ---- WAL and slots ---- */

/* A logical message; returns the end of its record. */
static inline XLogRecPtr
sb_log_message(const char *prefix, const char *message, Size size, bool transactional)
{
#if PG_VERSION_NUM >= 170000
	return LogLogicalMessage(prefix, message, size, transactional, false);
#else
	return LogLogicalMessage(prefix, message, size, transactional);
#endif
}

/* 17 gave ReplicationSlotAcquire an argument about invalidated slots */
static inline void
sb_slot_acquire(const char *name, bool nowait)
{
#if PG_VERSION_NUM >= 180000
	ReplicationSlotAcquire(name, nowait, true);
#else
	ReplicationSlotAcquire(name, nowait);
#endif
}

/* The slot's WAL, or what else decoding needs, has been taken away. */
static inline bool
sb_slot_is_invalidated(const ReplicationSlot *slot)
{
#if PG_VERSION_NUM >= 160000
	if (slot->data.invalidated != RS_INVAL_NONE)
		return true;
#endif
	return slot->data.restart_lsn == InvalidXLogRecPtr;
}

/* Temporary slots of this process go. */
static inline void
sb_slots_cleanup(void)
{
#if PG_VERSION_NUM >= 170000
	ReplicationSlotCleanup(false);
#else
	ReplicationSlotCleanup();
#endif
}

/*
 * A slot made and kept for our reader: logical, ephemeral until it has found its starting point;
 * standbys may synchronize it.
 */
static inline void
sb_slot_create(const char *name)
{
#if PG_VERSION_NUM >= 170000
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false, true, false);
#else
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false);
#endif
}

/*
 * The btree family of an operator that sorts, the type that it is declared for, and whether it
 * sorts backwards. False: it is none.
 */
static inline bool
sb_ordering_operator(Oid sortop, Oid *family, Oid *type, bool *backwards)
{
#if PG_VERSION_NUM >= 180000
	CompareType kind;
	bool found = get_ordering_op_properties(sortop, family, type, &kind);

	*backwards = kind == COMPARE_GT;
#else
	int16 strategy = BTLessStrategyNumber;
	bool found = get_ordering_op_properties(sortop, family, type, &strategy);

	*backwards = strategy == BTGreaterStrategyNumber;
#endif
	return found;
}

/* Has it come from the server that this one was a standby of? */
static inline bool
sb_slot_is_synced(const ReplicationSlot *slot)
{
#if PG_VERSION_NUM >= 170000
	return slot->data.synced;
#else
	return false;
#endif
}

/*
 * Have the standbys that logical slots are not to get ahead of this place in the WAL? Where none
 * are named, they have.
 */
static inline bool
sb_standbys_have(XLogRecPtr lsn)
{
#if PG_VERSION_NUM >= 170000
	return StandbySlotsHaveCaughtup(lsn, DEBUG1);
#else
	return true;
#endif
}

#endif
