/*
 * sb_command.h: what a user's backend asks of the runner: a row in beam.command.
 *
 * The backend inserts the row, commits, and waits (sb_command_wait). The runner does it between
 * bundles, step by step; a step's effects, how far the command has come and, at the end, that it is
 * done commit in one transaction, so each step is done once, whatever dies.
 *
 * WITHDRAWAL. From before that commit on the backend holds a lock that stands for the command.
 * Where nobody holds it, nobody waits: cancelled, gone, or through with it. The runner then takes
 * no further step, gives up the version that it builds for the command, and deletes the row; but a
 * pipeline's last backfill, which is cancelled then, stays for beam.stat_backfill until there is
 * another.
 */
#ifndef SB_COMMAND_H
#define SB_COMMAND_H

#include "postgres.h"
#include "catalog/sb_command_row.h"
#include "pipeline/sb_row_source.h"
#include "worker/sb_shmem.h"

/*
 * When there may be a step to take, the stream being at `position`: 0 at once, DT_NOEND not before
 * it moves or somebody asks.
 */
extern TimestampTz sb_commands_next(SbDatabase *db, XLogRecPtr position);
/* Takes one step of one command, as a bundle. SB_BUNDLE_NOTHING: there was none to take. */
extern SbBundleEnd sb_commands_step(SbDatabase *db, const SbRowRunner *runner, List *pipelines,
                                    XLogRecPtr *commit);

/* ---- sb_replay.c ---- */

/*
 * The next dead letters of a command, as a row source for one bundle. All of them are deleted;
 * those that fail again are new letters. `done` is called in the bundle's transaction, with the
 * command brought up to date.
 */
extern SbRowSource sb_replay_rows(SbPipeline *pipeline, SbCommand *command,
                                  void (*done)(SbCommand *command));

#endif
