/*
 * sb_guard.h: the bound on the WAL that a slot retains (stream_beam.max_retained_wal).
 *
 * The launcher, which is there as long as the server is, looks; what has to be done needs the
 * catalog, so it starts a short-lived worker in that database: it runs whether or not reader and
 * runner are able to, and is the only one who gives pipelines up.
 */
#ifndef SB_GUARD_H
#define SB_GUARD_H

#include "postgres.h"
#include "worker/sb_shmem.h"

/*
 * Asks for the worker where it is needed; for the launcher, in each turn. Returns when it has to be
 * called again, or DT_NOEND.
 */
extern TimestampTz sb_guard_look(TimestampTz now);

#endif
