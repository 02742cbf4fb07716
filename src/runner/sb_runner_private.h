/*
 * sb_runner_private.h: what the parts of the runner share: sb_runner.c (the loop, bundles,
 * confirmation), sb_runner_list.c (which pipelines are open), sb_runner_join.c (laggards that come
 * back).
 */
#ifndef SB_RUNNER_PRIVATE_H
#define SB_RUNNER_PRIVATE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"
#include "runner/sb_intake.h"
#include "worker/sb_shmem.h"

typedef struct SbRunner
{
	SbDatabase *db;
	SbLane *lane; /* that it is the runner of ... */
	SbLaneKind lane_kind;
	SbIntake *intake;
	Oid extension;
	MemoryContext context;     /* of the pipelines, and of the lists */
	List *pipelines;           /* of SbPipeline: the running ones */
	XLogRecPtr detached_least; /* the least position of the others, InvalidXLogRecPtr: none */
	List *exchanged;           /* ids of versions closed to be opened anew, with nothing missed */
	/* of ids: those that go to the second lane with the next reading of the catalog */
	List *slow;
	List *laggards; /* ids: of the second lane, as of the reading of the catalog */
	bool gave;      /* in the current look */
	/* ids: those that this process has made so, and that have not come back */
	List *given;

	uint64 epoch; /* of the session that frames are taken from */
	bool awaiting_reset;
	XLogRecPtr session_start;
	XLogRecPtr session_reach; /* where it could have begun */

	/* what may be confirmed once the commit is flushed */
	XLogRecPtr pending_commit;
	XLogRecPtr pending_position;
	int flush_retries;
	TimestampTz persisted_at; /* when positions were last written without rows */

	int32 fed;             /* the pipeline that had the last chunk of its history, or queue */
	bool fed_last;         /* since the last bundle of the ring */
	TimestampTz next_swap; /* not before: a lock was not to be had ... */
	int32 tried_swap;      /* ... by this version */
	TimestampTz next_join; /* a laggard is not waited for before */
} SbRunner;

/* What a runner may have to do in a turn. */
typedef struct SbActivity
{
	const char *name;
	bool lanes[SB_NLANES]; /* whose it is */
	bool without_session;  /* also while there is no session of the reader to take frames from */
	/*
	 * When it is to be run, as far as can be told; DT_NOBEGIN: now, DT_NOEND: not until something
	 * happens.
	 */
	TimestampTz (*due)(void);
	/*
	 * True: the turn is over. False: there was nothing to do, or the rest of the turn goes on with
	 * it.
	 */
	bool (*run)(void);
} SbActivity;

/* The one of this process. */
extern SbRunner sb_the_runner;

/* ---- sb_runner.c ---- */
/* The least position of the pipelines that are open; PG_UINT64_MAX: none needs any. */
extern XLogRecPtr sb_runner_least_open(void);
/* That of all, laggards and those that do not run included. */
extern XLogRecPtr sb_runner_least_position(void);
/* Positions that have moved without rows are written now and then, so that the slot can move on. */
extern void sb_runner_persist_positions(void);
/*
 * What is committed by all that are open; nothing is known to be while one is yet to take the rest
 * of its queue, which is in the next bundle.
 */
extern void sb_runner_publish_applied(void);
/* The extension is gone, or is another one: the launcher decides what comes next. */
extern _Noreturn void sb_runner_leave(void);

/* ---- sb_runner_list.c ---- */
/* Reads the catalog: pipelines are closed and opened as it says. */
extern void sb_runner_reload(void);
/*
 * Another session of the reader, which reaches back to the least position of those that are open.
 */
extern void sb_runner_request_rewind(void);

/* ---- sb_runner_join.c ---- */
/* Its queue has been taken to the end: it is linked to its upstream, here or in the first lane. */
extern void sb_runner_drained(SbPipeline *downstream);
/* A laggard is as good as here, and may be waited for now: DT_NOBEGIN; else DT_NOEND. */
extern TimestampTz sb_runner_joiner_due(void);
/* It may come to this place while nothing further is taken. True: it has. */
extern bool sb_runner_waits_for_joiner(void);
/*
 * For the second lane, which waits for its reader: where there can be none, all pipelines are given
 * back to the first lane, with their positions, and it goes back for them.
 */
extern void sb_runner_give_back(void);
/* Where the first lane is, this one is too: the laggard goes back to it. True: one has. */
/* When one may come back; or is to be looked at. */
extern TimestampTz sb_runner_join_due(void);
extern bool sb_runner_join(void);

#endif
