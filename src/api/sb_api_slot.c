/*
 * sb_api_slot.c: what the slot of this database retains WAL for, for beam.stat_pipelines and
 * beam.check().
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "api/sb_api.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "server/sb_guard.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"
#include "worker/sb_slot.h"

static char *
slot_transaction_name(TransactionId xid)
{
	int pid = BackendXidGetPid(xid);

	return pid != 0 ? psprintf("transaction %u of process %d", xid, pid)
	                : psprintf("prepared transaction %u", xid);
}

PG_FUNCTION_INFO_V1(stream_beam_slot);

/* _slot(): restart_lsn, decoded_lsn, transaction_lsn, held_by; each null where there is none */
PGDLLEXPORT Datum
stream_beam_slot(PG_FUNCTION_ARGS)
{
	SbDatabase *db = sb_database_find(MyDatabaseId);
	XLogRecPtr lsns[3] = {InvalidXLogRecPtr, InvalidXLogRecPtr, InvalidXLogRecPtr};
	TransactionId xid;
	Datum values[4] = {0};
	bool nulls[4];
	TupleDesc desc;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (db)
	{
		lsns[0] = sb_slot_restart_lsn(MyDatabaseId);
		lsns[1] = pg_atomic_read_u64(&db->lanes[SB_LANE_MAIN].decoded);
		lsns[2] = sb_slot_held_by(db, &xid);
	}
	for (int i = 0; i < lengthof(lsns); i++)
	{
		values[i] = LSNGetDatum(lsns[i]);
		nulls[i] = lsns[i] == InvalidXLogRecPtr;
	}
	nulls[3] = nulls[2];
	if (!nulls[3])
		values[3] = CStringGetTextDatum(slot_transaction_name(xid));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
