/*
 * sb_slot.h: the replication slot of a database.
 */
#ifndef SB_SLOT_H
#define SB_SLOT_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "worker/sb_shmem.h"

/* Its name; out has NAMEDATALEN bytes. */
extern void sb_slot_name(Oid dbid, char *out);
/*
 * From where on the slot of a database retains WAL; invalid: there is none, or it has lost its WAL.
 */
extern XLogRecPtr sb_slot_restart_lsn(Oid dbid);
/*
 * The transaction that keeps the slot from moving on, as far as the reader knows, and from where
 * on; invalid: none that still runs.
 */
extern XLogRecPtr sb_slot_held_by(SbDatabase *db, TransactionId *xid);

#endif
