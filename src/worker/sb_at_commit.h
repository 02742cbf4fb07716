/*
 * sb_at_commit.h: what the end of a transaction, of any backend or worker, has to do for it: the
 * runner is told, the slot's pin goes.
 */
#ifndef SB_AT_COMMIT_H
#define SB_AT_COMMIT_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "worker/sb_shmem.h"

/*
 * The registry's entry of this database; error with a hint when the library is not preloaded or the
 * entry cannot be had.
 */
extern SbDatabase *sb_my_database(void);
/* This transaction changes pipelines: when it commits, the runner is told. */
extern void sb_at_commit_tell_runner(void);
/* This transaction makes or drops the extension: when it commits, the launcher looks again. */
extern void sb_at_commit_probe(void);
/*
 * Pins the slot's confirmation until the end of this transaction; returns the present end of the
 * WAL.
 */
extern XLogRecPtr sb_pin_until_end(void);

/* ---- for the callbacks of transactions (sb_hooks.c) ---- */

/* Something is to be done: it cannot be left to somebody else's COMMIT PREPARED. */
extern bool sb_at_commit_is_asked(void);
/* Before the commit. */
extern void sb_at_commit_begin(void);
extern void sb_at_commit_end(bool committed);

#endif
