/*
 * sb_letters.h: rows that do not reach a result: late events and dead letters, kept as jsonb.
 */
#ifndef SB_LETTERS_H
#define SB_LETTERS_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "access/xlogdefs.h"
#include "engine/sb_window.h"
#include "query/plan/sb_plan.h"

typedef struct SbLateEvent
{
	int32 pipeline;
	XLogRecPtr position;
	TimestampTz event_time;
	SbWindow window;
	const char *op; /* insert, delete: whether the row was to be added or taken back */
	bool closed;    /* the window's trigger had finished; otherwise the window had expired */
	TimestampTz watermark;
} SbLateEvent;

/*
 * A source row, with its layout, as JSON text: the columns that the query uses, with the names that
 * the relation has now. In the current context. In the bracket of the pipeline's owner: types have
 * output functions.
 */
extern char *sb_row_to_json(const SbPlan *plan, HeapTupleHeader tuple, uint32 length,
                            TupleDesc layout);

/* Collected; written by sb_letters_write() (SPI connected). */
extern void sb_letters_put_late(const SbLateEvent *event, const char *json);
/*
 * `json` NULL: the row is not known. `op`: insert, delete, update, truncate. `left_out`: what it is
 * known by, of the rows left out; 0: it is not among them.
 */
extern void sb_letters_put_dead(int32 pipeline, XLogRecPtr position, const char *op,
                                const char *json, uint64 left_out, const ErrorData *error);
extern void sb_letters_write(void);

#endif
