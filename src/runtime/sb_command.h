/*
 * sb_command.h: what a user's backend asks of the runner: a row in beam.command.
 *
 * The backend inserts the row, commits, and waits (sb_command_wait). The runner does it between bundles, step by step; a step's effects,
 * how far the command has come and, at the end, that it is done commit in one transaction, so each step is done once, whatever dies.
 *
 * WITHDRAWAL. From before that commit on the backend holds a lock that stands for the command. Where nobody holds it, nobody waits:
 * cancelled, gone, or through with it. The runner then takes no further step, gives up the version that it builds for the command, and
 * deletes the row; but a pipeline's last backfill, which is cancelled then, stays for beam.stat_backfill until there is another.
 */
#ifndef SB_COMMAND_H
#define SB_COMMAND_H

#include "postgres.h"
#include "runtime/sb_bundle.h"
#include "runtime/sb_row_source.h"
#include "runtime/sb_shmem.h"
#include "utils/array.h"

#define SB_COMMAND_BACKFILL "backfill"
#define SB_COMMAND_LATE "late" /* a backfill that deletes the late events of its windows with each step */
#define SB_COMMAND_REPLAY "replay"

#define SB_COMMAND_WAITING "waiting"   /* for a step to be taken */
#define SB_COMMAND_BUILDING "building" /* backfill: for the version that is built for it to take its place */
#define SB_COMMAND_DONE "done"
#define SB_COMMAND_FAILED "failed"
#define SB_COMMAND_CANCELLED "cancelled"

typedef struct SbCommand
{
	int64 id;
	int32 pipeline;
	char *kind;
	TimestampTz from, to; /* backfill: the windows that overlap this; DT_NOBEGIN, DT_NOEND: no bound */
	TimestampTz lo, hi;   /* of them, those that start in [lo, hi) are to be done yet; lo DT_NOEND: not known yet */
	ArrayType *ids;       /* replay: of the dead letters; NULL: all */
	int64 last_id;        /* replay: those up to here are done ... */
	int64 max_id;         /* ... and those up to here are to be; 0: not known yet */
	char *state;          /* one of the following */
	int64 rows;           /* read so far */
	int64 failed;         /* replay: dead letters that failed again */
	int64 events;         /* late: events deleted */
	char *sqlstate, *message, *detail, *hint;
} SbCommand;

/* ---- in the backend that asks ---- */

/*
 * Inserts it, fills in the id, and takes the lock, which outlasts transactions; false: the pipeline has been dropped. SPI connected, as the
 * extension's owner.
 */
extern bool sb_command_ask(SbCommand *command);
/* Ends the lock. Also after an error. */
extern void sb_command_leave(const SbCommand *command);
/* Reads it as it is now; false: the pipeline has been dropped. SPI connected, as the extension's owner. In the current context. */
extern bool sb_command_read(int64 id, SbCommand *command);
extern void sb_command_delete(int64 id);

/* ---- in the runner ---- */

/* When there may be a step to take, the stream being at `position`: 0 at once, DT_NOEND not before it moves or somebody asks. */
extern TimestampTz sb_commands_next(SbDatabase *db, XLogRecPtr position);
/* Takes one step of one command, as a bundle. SB_BUNDLE_NOTHING: there was none to take. */
extern SbBundleEnd sb_commands_step(SbDatabase *db, SbIntake *intake, List *pipelines, XLogRecPtr *commit);

/*
 * A version of a pipeline has taken another one's place: what is asked of that is asked of this now. `backfilled`: it was built for a
 * backfill, which is done with it. In the transaction of the exchange, SPI connected.
 */
extern void sb_commands_follow(int32 before, int32 next, bool backfilled);

/* ---- sb_replay.c ---- */

/*
 * The next dead letters of a command, as a row source for one bundle. All of them are deleted; those that fail again are new letters. `done` is
 * called in the bundle's transaction, with the command brought up to date.
 */
extern SbRowSource sb_replay_rows(SbPipeline *pipeline, SbCommand *command, void (*done)(SbCommand *command));

#endif
