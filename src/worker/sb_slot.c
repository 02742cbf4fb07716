/*
 * sb_slot.c: the replication slot of a database; see sb_slot.h.
 */
#include "postgres.h"

#include "replication/slot.h"
#include "storage/procarray.h"
#include "storage/spin.h"
#include "worker/sb_slot.h"

void
sb_slot_name(Oid dbid, char *out)
{
	snprintf(out, NAMEDATALEN, "stream_beam_%u", dbid);
}

XLogRecPtr
sb_slot_restart_lsn(Oid dbid)
{
	char name[NAMEDATALEN];
	ReplicationSlot *slot;
	XLogRecPtr restart;

	sb_slot_name(dbid, name);
	slot = SearchNamedReplicationSlot(name, true);
	if (slot == NULL)
		return InvalidXLogRecPtr;
	SpinLockAcquire(&slot->mutex);
	restart = slot->data.restart_lsn;
	SpinLockRelease(&slot->mutex);
	return restart;
}

XLogRecPtr
sb_slot_held_by(SbDatabase *db, TransactionId *xid)
{
	*xid = pg_atomic_read_u32(&db->lanes[SB_LANE_MAIN].open_xid);
	if (!TransactionIdIsNormal(*xid) || !TransactionIdIsInProgress(*xid))
		return InvalidXLogRecPtr;
	return pg_atomic_read_u64(&db->lanes[SB_LANE_MAIN].open_lsn);
}
