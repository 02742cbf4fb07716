/*
 * sb_command_row.h: beam.command: what a user's backend asks of the runner (sb_command.h).
 */
#ifndef SB_COMMAND_ROW_H
#define SB_COMMAND_ROW_H

#include "postgres.h"
#include "access/htup.h"
#include "datatype/timestamp.h"
#include "utils/array.h"

#define SB_COMMAND_BACKFILL "backfill"
#define SB_COMMAND_LATE \
	"late" /* a backfill that deletes the late events of its windows with each step */
#define SB_COMMAND_REPLAY "replay"

#define SB_COMMAND_WAITING "waiting" /* for a step to be taken */
#define SB_COMMAND_BUILDING \
	"building" /* backfill: for the version that is built for it to take its place */
#define SB_COMMAND_DONE "done"
#define SB_COMMAND_FAILED "failed"
#define SB_COMMAND_CANCELLED "cancelled"

typedef struct SbCommand
{
	int64 id;
	int32 pipeline;
	char *kind;
	/* backfill: the windows that overlap this; DT_NOBEGIN, DT_NOEND: no bound */
	TimestampTz from, to;
	/* of them, those that start in [lo, hi) are to be done yet; lo DT_NOEND: not known yet */
	TimestampTz lo, hi;
	ArrayType *ids; /* replay: of the dead letters; NULL: all */
	int64 last_id;  /* replay: those up to here are done ... */
	int64 max_id;   /* ... and those up to here are to be; 0: not known yet */
	char *state;    /* one of the following */
	int64 rows;     /* read so far */
	int64 failed;   /* replay: dead letters that failed again */
	int64 events;   /* late: events deleted */
	char *sqlstate, *message, *detail, *hint;
} SbCommand;

/* ---- in the backend that asks ---- */

/*
 * Inserts it, fills in the id, and takes the lock, which outlasts transactions; false: the pipeline
 * has been dropped. SPI connected, as the extension's owner.
 */
extern bool sb_command_ask(SbCommand *command);
/* Ends the lock. Also after an error. */
extern void sb_command_leave(const SbCommand *command);
/*
 * Reads it as it is now; false: the pipeline has been dropped. SPI connected, as the extension's
 * owner. In the current context.
 */
extern bool sb_command_read(int64 id, SbCommand *command);
extern void sb_command_delete(int64 id);

/* ---- in the runner ---- */

/* Nobody waits for it: the row is of no use to anyone. */
extern bool sb_command_is_left(int64 id);
/* What is read of a row, in SQL. */
#define SB_COMMAND_COLUMNS \
	"id, pipeline, kind, range_from, range_to, lo, hi, ids, state, rows, failed, sqlstate, message, detail, hint, last_id, max_id, events"
/* Of a row with SB_COMMAND_COLUMNS, in the current context. */
extern SbCommand sb_command_of_tuple(HeapTuple tuple);
extern void sb_command_put(const SbCommand *command);
extern void sb_command_put_error(const SbCommand *command, const ErrorData *error);
/*
 * A version of a pipeline has taken another one's place: what is asked of that is asked of this
 * now. `backfilled`: it was built for a backfill, which is done with it. In the transaction of the
 * exchange, SPI connected.
 */
extern void sb_commands_follow(int32 before, int32 next, bool backfilled);

#endif
