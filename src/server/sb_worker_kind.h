/*
 * sb_worker_kind.h: the background workers of a database.
 */
#ifndef SB_WORKER_KIND_H
#define SB_WORKER_KIND_H

#include "postgres.h"
#include "worker/sb_shmem.h"

typedef struct SbWorkerKind
{
	const char *type; /* in pg_stat_activity */
	const char *main; /* the function of the library that it runs */
	/* Is it to run, the database being in this state? */
	bool (*wanted)(const SbDatabase *db);
} SbWorkerKind;

/* By role; of the launcher (sb_launcher.c), which looks again at whatever wakes it. */
extern const SbWorkerKind sb_worker_kinds[SB_NROLES];

#endif
