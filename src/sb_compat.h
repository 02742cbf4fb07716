/*
 * sb_compat.h: differences between PostgreSQL versions, as wrappers with the newest signature. Nowhere else is a version asked for.
 */
#ifndef SB_COMPAT_H
#define SB_COMPAT_H

#include "postgres.h"
#include "access/htup_details.h"
#include "executor/executor.h"
#include "replication/message.h"
#include "replication/slot.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/guc.h"

#if PG_VERSION_NUM < 150000
#error "stream_beam needs PostgreSQL 15 or later"
#endif

#if PG_VERSION_NUM >= 160000
#include "utils/guc_hooks.h"
#endif

/*
 * heap_form_tuple() makes composite values. Newer minor releases mark them as such, and check wherever one is taken apart that its columns
 * are those that its type has now. A row of another time has others.
 */
static inline void
sb_tuple_is_no_datum(HeapTupleHeader header)
{
#ifdef HEAP_IS_DATUM
	header->t_infomask &= ~HEAP_IS_DATUM;
#endif
}

#if PG_VERSION_NUM < 160000
/* 16 made one function of all the pg_*_aclcheck() */
static inline AclResult
object_aclcheck(Oid classid, Oid objectid, Oid roleid, AclMode mode)
{
	if (classid == 1255) /* ProcedureRelationId */
		return pg_proc_aclcheck(objectid, roleid, mode);
	if (classid == 2615) /* NamespaceRelationId */
		return pg_namespace_aclcheck(objectid, roleid, mode);
	elog(ERROR, "object_aclcheck: class %u is not mapped", classid);
}
#endif

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

static inline bool
sb_database_ownercheck(Oid dbid, Oid roleid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(1262, dbid, roleid); /* DatabaseRelationId */
#else
	return pg_database_ownercheck(dbid, roleid);
#endif
}

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

/* A slot made and kept for our reader: logical, ephemeral until it has found its starting point. */
static inline void
sb_slot_create(const char *name)
{
#if PG_VERSION_NUM >= 170000
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false, false, false);
#else
	ReplicationSlotCreate(name, true, RS_EPHEMERAL, false);
#endif
}

#endif
