/*
 * sb_worker.h: what all background workers share.
 */
#ifndef SB_WORKER_H
#define SB_WORKER_H

#include "postgres.h"
#include "postmaster/bgworker.h"
#include "worker/sb_shmem.h"

/* Fills in what is the same for all: flags, library; `function` is the entry point. */
extern void sb_worker_describe(BackgroundWorker *worker, const char *function, const char *type);
/*
 * The clock for delays. It goes with the wall clock, but not back with it: then it goes on from
 * where it was, at the same pace. For workers.
 */
extern TimestampTz sb_clock_now(void);
/* By how much it is ahead of the wall clock. */
extern int64 sb_clock_ahead(void);
/*
 * Signal handlers, connection, attachment, for the entry points of a database's workers. The
 * argument says which database and role.
 */
extern SbDatabase *sb_worker_begin(Datum arg, SbRole *role);
/* Interrupts and configuration reload: once in each turn of a worker's loop. */
extern void sb_worker_check(void);
/* Sleeps until the latch is set, or timeout_ms (-1: none) has passed. */
extern void sb_worker_sleep(long timeout_ms);

extern PGDLLEXPORT void stream_beam_launcher_main(Datum arg);
extern PGDLLEXPORT void stream_beam_reader_main(Datum arg);
extern PGDLLEXPORT void stream_beam_runner_main(Datum arg);
extern PGDLLEXPORT void stream_beam_guard_main(Datum arg);

extern void sb_launcher_register(void);

#endif
