/*
 * sb_api.h: what the SQL functions share.
 */
#ifndef SB_API_H
#define SB_API_H

#include "postgres.h"
#include "base/sb_bracket.h"
#include "catalog/sb_pipeline_row.h"
#include "worker/sb_at_commit.h"

/*
 * From here to sb_api_leave() in the bracket of the extension's owner and SPI connected.
 * saved->user is the caller. The current context stays the caller's: what is made outlives SPI.
 */
extern void sb_api_enter(SbBracket *saved);
extern void sb_api_leave(const SbBracket *saved);

/*
 * The pipeline of this name as it is stored, or as SQL would write it: folded, quoted, with the
 * schema of its result. NULL: there is none.
 */
extern SbPipelineRow *sb_api_lookup(const char *name);
/*
 * The pipeline of this name, for its owner only: errors 42704, 42501. To be called between enter
 * and leave.
 */
extern SbPipelineRow *sb_api_find(const char *name, Oid user);
/*
 * The same, to be changed: with its name and rows locked, and (`tree`) the names of all downstream
 * of it (catalog/sb_lock.h).
 */
extern SbPipelineRow *sb_api_lock(const char *name, Oid user, bool tree);

/*
 * Error unless the pipeline, and its upstream, runs (55000), and the user owns it or can read
 * its result (42501).
 */
extern void sb_api_check_running(const char *name, Oid user);
/*
 * There is no pipeline of this name: an error that says so, 42704, or, where one was restored from
 * a dump, what to do about it.
 */
extern _Noreturn void sb_api_raise_missing(const char *name);

/*
 * ---- pipelines that came out of a dump (sb_api_restore.c); false: there is none of this name, and
 * nothing was done ----
 */

/*
 * Makes it a pipeline that needs a resync. Error where its tables are not what they have to be, or
 * the caller is not the owner.
 */
extern bool sb_api_adopt(const char *name);
extern bool sb_api_drop_restored(const char *name, bool keep_result);

/*
 * Raises an error where the server is not set up for pipelines (wal_level, preload, recovery);
 * returns this database's entry.
 */
extern SbDatabase *sb_api_require_server(void);

#endif
