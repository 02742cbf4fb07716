/*
 * sb_work.h: who is at work on what, and how often that ended in a crash, kept where no crash of
 * the server reaches it.
 *
 * A crash of any process makes the postmaster start shared memory anew, and what brought the crash
 * comes again from the WAL. So each worker notes in a small file of the data directory, by plain
 * stores into a mapping of it, what it is about to work on. When a worker is gone, the launcher
 * judges its note: a worker that said goodbye, rested, or was told to quit because of another
 * process, is innocent; else what it was at work on is blamed. A pipeline, or a change that cannot
 * be decoded, which is blamed three times without having come further is left out from then on: the
 * pipeline is failed, and the others go on.
 *
 * LOCKING. A place is written by its worker while it lives, and by the launcher otherwise. Blames
 * are written by the launcher, and by the runner of that database (sb_work_forgive()). None is
 * locked: it is one word at a time, and what is torn by a crash of the machine is a blame too few
 * or too many.
 *
 * LIFETIME. The file is mapped by the postmaster and inherited by all processes; it outlives the
 * server. Where it cannot be made, memory that the postmaster shares takes its place, which a stop
 * of the server forgets.
 */
#ifndef SB_WORK_H
#define SB_WORK_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "worker/sb_shmem.h"

/* So many crashes without progress are no accident. */
#define SB_CRASHES 3
/* Of what nobody has made, which can only be given up as a whole. */
#define SB_CRASHES_OF_OURS 5

#define SB_WORK_TEXT 256

typedef enum SbWorkKind
{
	SB_WORK_NONE, /* it rests */
	/*
	 * on nothing that somebody made; `at`: its turns, of a reader the place in the WAL that it
	 * reads
	 */
	SB_WORK_OTHER,
	SB_WORK_STREAM, /* on what comes to a pipeline; `at`: the pipeline's position */
	SB_WORK_ROWS,   /* on rows that a pipeline reads from tables; `at`: the pipeline's bundles */
	SB_WORK_CHANGE  /* on a change of a relation; `at`: its place in the WAL */
} SbWorkKind;

/* Is it a pipeline that is at work, or blamed? */
static inline bool
sb_work_is_of_pipeline(int32 kind)
{
	return kind == SB_WORK_STREAM || kind == SB_WORK_ROWS;
}

/* The worker's place in the file. */
typedef struct SbWork
{
	volatile int32 kind;  /* SbWorkKind */
	volatile uint32 what; /* pipeline, relation, or 0 */
	volatile uint64 at;
	volatile uint64 turns; /* that it has completed */
	volatile uint32 part;  /* counts what it has begun to work on */
	volatile int32 innocent;
	/* ends in a row: the back-off; by the launcher, cleared by the worker */
	volatile int32 failures;
	volatile TimestampTz started_at; /* by the launcher */
	volatile bool failed;            /* it ends with an error, which is as a crash */
	volatile bool stubborn;          /* ... and would do so again: once is enough */
	char text[SB_WORK_TEXT];         /* of that error */
} SbWork;

extern SbWork *sb_work; /* of this process; one that nobody looks at where it is no worker */

static inline void
sb_work_on(SbWorkKind kind, uint32 what, uint64 at)
{
	sb_work->kind = SB_WORK_NONE;
	sb_work->what = what;
	sb_work->at = at;
	sb_work->part++;
	sb_work->kind = kind;
}

static inline void
sb_work_on_other(void)
{
	sb_work_on(SB_WORK_OTHER, 0, sb_work->turns);
}

static inline void
sb_work_rest(void)
{
	sb_work->kind = SB_WORK_NONE;
}

static inline void
sb_work_completed(void)
{
	sb_work->turns++;
}

/* Called by the postmaster before it starts any process. */
extern void sb_work_map(void);

/* For the launcher: takes its own place, and says how often in a row it has crashed at its work. */
extern int sb_work_begin_launcher(void);
/* For the launcher: it has lived for some time. */
extern void sb_work_launcher_is_well(void);
/* For the launcher: the place of a worker, made where there is none. NULL: no room. */
extern SbWork *sb_work_place(Oid dbid, SbRole role);
/*
 * For the launcher: its worker is gone. True: it crashed, and what it was at work on has been
 * blamed.
 */
extern bool sb_work_judge(Oid dbid, SbRole role);
/* For the launcher: a worker that crashes at what nobody has made is not started again ... */
extern bool sb_work_is_hopeless(Oid dbid, SbRole role);
/* ... before somebody reloads the configuration. */
extern void sb_work_hope_again(void);

/* For a worker: takes its place, until it exits. */
extern void sb_work_begin(Oid dbid, SbRole role);
/* It has come further: what ends it next is an accident again. */
extern void sb_work_goes_well(void);
/*
 * The pipelines of this database that were blamed too often: a list of ids, in the current context.
 */
extern List *sb_work_suspects(Oid dbid);
/* How it ended last, in words, in the current context; NULL: in a crash. */
extern char *sb_work_blame_text(Oid dbid, int32 pipeline);
/* Of a pipeline: no longer. */
extern void sb_work_forgive(Oid dbid, int32 pipeline);
/* It ends with this error, at what it is at work on: that counts as a crash. */
extern void sb_work_fail(const char *text);
/*
 * Has decoding this change ended badly too often? Says how, in the current context; NULL: it has
 * not.
 */
extern const char *sb_work_bad_change(Oid relation, XLogRecPtr lsn);
/* Is there any such change? */
extern bool sb_work_has_bad_changes(void);

#endif
