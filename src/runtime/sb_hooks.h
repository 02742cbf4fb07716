/*
 * sb_hooks.h: what stream_beam does in the backends of others.
 */
#ifndef SB_HOOKS_H
#define SB_HOOKS_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "runtime/sb_shmem.h"

extern void sb_hooks_install(void);

/* The registry's entry of this database; error with a hint when the library is not preloaded or the entry cannot be had. */
extern SbDatabase *sb_my_database(void);
/* This transaction changes pipelines: when it commits, the runner is told. */
extern void sb_at_commit_tell_runner(void);
/* This transaction makes or drops the extension: when it commits, the launcher looks again. */
extern void sb_at_commit_probe(void);
/* Pins the slot's confirmation until the end of this transaction; returns the present end of the WAL. */
extern XLogRecPtr sb_pin_until_end(void);

#endif
