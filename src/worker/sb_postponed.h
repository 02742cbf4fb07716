/*
 * sb_postponed.h: pipelines that cannot be looked at for now, since somebody has their source or
 * their tables locked.
 *
 * An ALTER TABLE or VACUUM FULL that takes an hour, or a prepared transaction that nobody ends,
 * must hold up no other pipeline. What cannot be locked within a moment is postponed and looked at
 * again a little later; a running pipeline that cannot be checked runs on.
 */
#ifndef SB_POSTPONED_H
#define SB_POSTPONED_H

#include "postgres.h"
#include "utils/timestamp.h"
#include "worker/sb_shmem.h"

/*
 * A look at all pipelines begins, as of now in the generations of the catalog: what was postponed
 * before is in sb_postponed_was() until the next one.
 */
extern void sb_postponed_begin(pg_atomic_uint32 *generation);
/*
 * The catalog has changed since the look began: what is not as it says is not the pipelines' fault.
 */
extern bool sb_postponed_is_stale(void);
/* sb_try() that waits for no lock for long: then the error is 55P03. */
extern bool sb_postponed_try(void (*fn)(void *arg), void *arg, ErrorData **error);
/*
 * Likewise; where something is in the way that may pass, the pipeline is postponed, as by
 * sb_postponed_add(): then false. Other errors go up.
 */
extern bool sb_postponed_try_or_add(void (*fn)(void *arg), void *arg, int32 pipeline, bool closed);
/* It is to be looked at again; `closed`: it does not run meanwhile. */
extern void sb_postponed_add(int32 pipeline, bool closed);
/* It does not run, and is to be looked at then. */
extern void sb_postponed_until(int32 pipeline, TimestampTz at);
extern bool sb_postponed_was(int32 pipeline);
/* Tells those who wait for a pipeline (db NULL: they know), and fixes when to look again. */
extern void sb_postponed_end(SbDatabase *db);
/* When to look again; DT_NOEND: there is nothing. */
extern TimestampTz sb_postponed_next(void);

#endif
