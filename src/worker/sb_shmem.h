/*
 * sb_shmem.h: the registry in shared memory: which databases have the extension, their workers, and
 * what these tell each other.
 *
 * LOCKING. `sb_registry->lock` guards the allocation of entries and all plain fields of an entry.
 * Atomics are read without it; who writes each is said beside it. Latches of workers may be set by
 * anyone who holds the lock, or who read the pointer while its `pid` was not zero: PGPROC latches
 * are never freed.
 *
 * LIFETIME. From server start to its stop; a crash of any process that had it attached makes the
 * postmaster start all anew.
 */
#ifndef SB_SHMEM_H
#define SB_SHMEM_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define SB_MAX_SOURCES 1024 /* source tables in one database */
/* pipelines known by id of those that cannot be looked at; more stand for all */
#define SB_MAX_POSTPONED 64

typedef enum SbRole
{
	SB_ROLE_READER,
	SB_ROLE_RUNNER,
	SB_ROLE_LATE_READER, /* of the second lane, while there are laggards (sb_lane.h) */
	SB_ROLE_LATE_RUNNER,
	SB_ROLE_GUARD /* runs when it is asked for (sb_guard.c) */
} SbRole;

#define SB_NROLES 5

/*
 * A reader, a ring and a runner. Pipelines that are behind the others are in the second one until
 * they have come to where these are.
 */
typedef enum SbLaneKind
{
	SB_LANE_MAIN,
	SB_LANE_LATE
} SbLaneKind;

#define SB_NLANES 2

static inline SbRole
sb_lane_reader(SbLaneKind lane)
{
	return lane == SB_LANE_MAIN ? SB_ROLE_READER : SB_ROLE_LATE_READER;
}

static inline SbRole
sb_lane_runner(SbLaneKind lane)
{
	return lane == SB_LANE_MAIN ? SB_ROLE_RUNNER : SB_ROLE_LATE_RUNNER;
}

static inline SbLaneKind
sb_lane_of_role(SbRole role)
{
	return role == SB_ROLE_LATE_READER || role == SB_ROLE_LATE_RUNNER ? SB_LANE_LATE : SB_LANE_MAIN;
}

/* What the launcher is to have running for a database. Moves: the table in sb_registry.c. */
typedef enum SbDbState
{
	SB_DB_NONE,   /* nothing; the entry can be reused */
	SB_DB_PROBE,  /* a runner looks whether the extension is there */
	SB_DB_RUN,    /* reader and runner */
	SB_DB_CLEAN,  /* the extension is gone: no workers, then the launcher drops the slot */
	SB_DB_BLOCKED /* a command needs the database for itself: no workers */
} SbDbState;

typedef enum SbDbEvent
{
	/* the extension may be there: server start, CREATE EXTENSION, DROP EXTENSION */
	SB_EVENT_PROBE,
	SB_EVENT_FOUND,   /* the runner has found the extension */
	SB_EVENT_MISSING, /* the runner has not */
	SB_EVENT_CLEANED, /* the slot is dropped */
	SB_EVENT_BLOCK,
	SB_EVENT_UNBLOCK
} SbDbEvent;

typedef enum SbWorkerState
{
	SB_WORKER_STOPPED,
	SB_WORKER_STARTING, /* asked of the postmaster */
	SB_WORKER_RUNNING   /* has reported; reports again when it exits */
} SbWorkerState;

typedef struct SbWorker
{
	SbWorkerState state;
	pid_t pid;
	Latch *latch;
	TimestampTz started_at;
	TimestampTz restart_at; /* not before; set by the launcher */
	bool dismissed;         /* by the launcher: it is to end, which is no failure of its own */
} SbWorker;

typedef struct SbLane
{
	/*
	 * 0: not yet made; by the first runner, pinned until server stop; of the second lane until its
	 * runner ends
	 */
	dsm_handle ring;
	pg_atomic_uint64 rewind_wanted;   /* by the runner: sessions of the reader it asked for */
	pg_atomic_uint64 start_from;      /* by the runner: what is before it has had */
	pg_atomic_uint32 reader_sleeping; /* by the reader: commits are to wake it */
	pg_atomic_uint32 slot_ready;      /* by the reader: the slot exists and decoding has begun */
	/*
	 * by the reader: where decoding has to begin for the oldest transaction that it has seen no end
	 * of
	 */
	pg_atomic_uint64 open_lsn;
	pg_atomic_uint32 open_xid; /* by the reader: that transaction; 0: none */
	/* by the runner, without one by the guard: flushed by all pipelines up to here */
	pg_atomic_uint64 confirmable;
	pg_atomic_uint64 confirmed; /* by the reader: told to the slot */
	pg_atomic_uint64 applied;   /* by the runner: committed (not always flushed) up to here */
	pg_atomic_uint64 decoded;   /* by the reader: read the WAL up to here */
} SbLane;

/* A pipeline that is behind, with all downstream of it (sb_lane.h). */
typedef struct SbLaggard
{
	int32 pipeline;
	/*
	 * flushed: what the slot has to retain; invalid: it needs none of the WAL, but what is in its
	 * queue
	 */
	XLogRecPtr position;
	TimestampTz until; /* it stays in the second lane; 0: it need not */
	XLogRecPtr from;   /* from here on the first lane has its source's rows too */
	/*
	 * the first lane is to open it, and takes it off the list then; where it has not come there,
	 * that one goes back for it
	 */
	bool returned;
	bool drained;      /* returned with a queue that had been taken to its end ... */
	int64 queue_floor; /* ... of which nothing is left up to here */
} SbLaggard;

#define SB_MAX_LAGGARDS 128 /* beyond this the first lane goes back for them */

typedef struct SbDatabase
{
	Oid dbid; /* InvalidOid: a free entry */
	SbDbState state;
	bool probe_again; /* an event came while it could not be handled */
	int blockers;     /* commands that want the workers gone */
	SbWorker workers[SB_NROLES];

	/* the bound on retained WAL */
	bool guard_wanted;           /* by the launcher, cleared when the guard has done its work */
	TimestampTz guard_at;        /* not to be asked for before; by the launcher */
	TimestampTz guard_blamed_at; /* when it has last named a transaction; by the guard */

	/*
	 * creation of pipelines: transactions that have fixed a start position but not ended hold back
	 * the confirmation
	 */
	int pins;
	XLogRecPtr pin_lsn; /* the least of them, while pins > 0 */

	/*
	 * the sources, written by creators (add) and the runner (set); others take the lock and copy
	 */
	int nsources;
	Oid sources[SB_MAX_SOURCES];
	pg_atomic_uint32 sources_version;
	/*
	 * the result tables, written by the runner: one that is renamed or given away is looked at;
	 * where there is no room for all, any relation is
	 */
	int nresults;
	Oid results[SB_MAX_SOURCES];
	bool results_left_out;

	SbLane lanes[SB_NLANES];
	/*
	 * the pipelines of the second lane: added by the first lane's runner, removed by the second's
	 */
	int nlaggards;
	SbLaggard laggards[SB_MAX_LAGGARDS];
	/* by launcher and late reader: there was no worker or no slot to be had for the second lane */
	TimestampTz late_refused_at;
	bool joining; /* by the second lane's runner: one is as good as there */
	/* by the first lane's: it waits here for it; invalid: it does not */
	XLogRecPtr join_at;

	/*
	 * by the runner: pipelines that are to run and do not, since somebody has their tables locked
	 */
	int npostponed;
	int32 postponed[SB_MAX_POSTPONED];

	pg_atomic_uint32 generation; /* bumped by each committed change of pipelines */
	/* by creators: those that are committing, until the generation is bumped; nothing is taken */
	pg_atomic_uint32 creations;
	/* by guard and reader: the slot is to be made anew; cleared by the reader when it is */
	pg_atomic_uint32 slot_discard;
	pg_atomic_uint32 watermark_waiters; /* by those who wait for a watermark: how many they are */
	/* by those who ask for something (sb_command.h), after they have committed it */
	pg_atomic_uint32 commands;
	ConditionVariable changed; /* applied, slot_ready or a worker's state has changed */
} SbDatabase;

typedef struct SbRegistry
{
	LWLock *lock;
	pid_t launcher_pid;
	Latch *launcher_latch;
	int ndatabases;              /* = stream_beam.max_databases */
	pg_atomic_uint64 clock_last; /* by all workers: the latest that sb_clock_now() has said */
	/* by all workers: microseconds that it is ahead of the wall clock */
	pg_atomic_uint64 clock_ahead;
	SbDatabase databases[FLEXIBLE_ARRAY_MEMBER];
} SbRegistry;

extern SbRegistry *sb_registry; /* NULL: the library was not preloaded */

extern void sb_shmem_install(void);

/* The entry of a database, or NULL. Lock-free: for the commit callback. */
extern SbDatabase *sb_database_find(Oid dbid);
/* Makes one if there is room (NULL: all stream_beam.max_databases are in use). Takes the lock. */
extern SbDatabase *sb_database_get(Oid dbid);
/* Applies an event to a database's state, and wakes the launcher. Takes the lock. */
extern void sb_database_event(SbDatabase *db, SbDbEvent event);
/* The same with the lock held exclusively. */
extern void sb_database_move(SbDatabase *db, SbDbEvent event);

/* None of its workers runs. */
extern bool sb_database_is_left(const SbDatabase *db);
extern void sb_wake_worker(SbDatabase *db, SbRole role);
extern void sb_wake_launcher(void);

/* For a worker: reports that it runs, and arranges that its exit is reported too. */
extern void sb_worker_attach(SbDatabase *db, SbRole role);

/*
 * Holds the confirmation of the slot at the present position until sb_pin_release(); returns that
 * position.
 */
extern XLogRecPtr sb_pin_acquire(SbDatabase *db);
/*
 * Ends the pin. `changed`: the transaction committed a change of pipelines: the runner is told in
 * the same instant.
 */
extern void sb_pin_release(SbDatabase *db, bool pinned, bool changed);
/* Something has changed that pipelines of every database may have to see: all runners reload. */
extern void sb_tell_all_runners(void);
extern void sb_tell_runner(SbDatabase *db);
/*
 * Is the pipeline not where the first lane is: does it wait for somebody who has its tables locked,
 * or lag behind? Takes the lock.
 */
extern bool sb_database_has_postponed(SbDatabase *db, int32 pipeline);
/*
 * Adds a relation to the sources, effective for every transaction that commits from now on. Error
 * when there are too many.
 */
extern void sb_source_add(SbDatabase *db, Oid relation);
/*
 * Makes these the sources, as of a reading of the catalog at `generation`. While a creation is
 * under way, or has been committed since, nothing is taken away.
 */
extern void sb_sources_set(SbDatabase *db, uint32 generation, const List *relations);
/* Makes these the result tables. */
extern void sb_results_set(SbDatabase *db, const List *relations);
/* Is it one of the result tables? Takes the lock. */
extern bool sb_is_result(const SbDatabase *db, Oid relation);
/* Is it one of the sources or result tables? Takes the lock. */
extern bool sb_is_watched(const SbDatabase *db, Oid relation);
/* Copies the sources into out[SB_MAX_SOURCES]; returns how many. */
extern int sb_sources_get(SbDatabase *db, Oid *out);

#endif
