/*
 * sb_input.h: what a pipeline reads: its inputs, one for each source (sb_source.h).
 *
 * An input knows how far the time of its source has come, what of its rows is left out for now
 * (sb_gate.h), and, of a downstream pipeline, where its rows come from. A pipeline has
 * one input; what asks for it by sb_input() will have to ask for the one it means.
 *
 * MEMORY. Inputs are in the pipeline's memory. Part of its transactions: what has come of the
 * time, and whether rows are queued, stands with the bundle or is undone.
 */
#ifndef SB_INPUT_H
#define SB_INPUT_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/pg_list.h"
#include "pipeline/sb_source.h"
#include "source/sb_change.h"

struct SbPipeline;
struct SbSplits;

typedef struct SbInput
{
	const SbSourceKind *kind;
	Oid source;                          /* the relation */
	TimestampTz max_event_time;          /* SB_TIME_MIN: it has had no row */
	TimestampTz accepted_max_event_time; /* as of the last accept */
	struct SbSplits *splits;             /* NULL: its watermark is not split (sb_split.h) */

	/* ---- at rest ---- */
	/* microseconds that have passed since it was opened while all that is committed was read */
	int64 clock;
	TimestampTz clock_at; /* processing time: the beginning of the last bundle ... */
	bool has_read_all;    /* ... and whether all was read at its end: the clock goes on */
	int64 last_row;       /* by that clock: when it last had a row */
	/* by that clock: up to here its watermark has gone on while it was at rest */
	int64 rested;
	int64 accepted_rested; /* as of the last accept */

	List *gates; /* of SbGate */

	const SbLayout *checked_layout; /* the last that a change came with ... */
	bool old_is_known; /* ... and whether its old tuples have all that the query uses */

	/* ---- of a result ---- */
	/* the pipeline whose it is; NULL: it does not run */
	struct SbPipeline *upstream;
	bool accepted_queue_pending; /* as of the last accept */
	bool queue_pending;          /* rows may have been queued while this pipeline did not run */
	TimestampTz drain_at;        /* the next chunk of the queue is not taken before */
	/*
	 * so many that they are taken in chunks first (sb_queue.h): it has nothing from its upstream
	 * until then
	 */
	bool draining;
	int64 queue_floor; /* of the queue nothing is left up to here */
	/* as of when all before had been taken from the queue; SB_TIME_MIN: it is not known to be */
	TimestampTz queue_watermark;
} SbInput;

/* In the current context: the input that a pipeline begins with. */
extern SbInput *sb_input_create(struct SbPipeline *pipeline);
/*
 * Its watermark, no less than `watermark`: by its rows, or what its source says. `delay`: how far
 * rows may be out of order.
 */
extern TimestampTz sb_input_watermark(const SbInput *input, TimestampTz watermark, int64 delay);
/* A bundle begins at this processing time: what has passed since the last one may be rest. */
extern void sb_input_begin_bundle(SbInput *input, TimestampTz now);
/*
 * It ends, had rows or not; is all that is committed read by now? Splits that have come to rest are
 * forgotten.
 */
extern void sb_input_end_bundle(SbInput *input, bool had_rows, bool has_read_all,
                                int64 idle_timeout);
/*
 * It is at rest when it has had no row for the idle timeout, counted while all was read. Then its
 * watermark goes on by so much, counted in the same way; 0: it is not at rest. `rested`: that the
 * watermark has.
 */
extern int64 sb_input_rest(const SbInput *input, int64 idle_timeout);
extern void sb_input_rested(SbInput *input);
/*
 * The processing time at which sb_input_rest() will be `rest`, if nothing comes; there is an idle
 * timeout.
 */
extern TimestampTz sb_input_rests_at(const SbInput *input, int64 idle_timeout, int64 rest);
/* Do rows wait to be taken, though nothing comes? */
extern bool sb_input_has_rows(const SbInput *input);
/* The parts of a pipeline in a transaction (sb_txn_part.h). */
extern void sb_input_write(struct SbPipeline *pipeline);
extern void sb_input_accept(struct SbPipeline *pipeline);
extern void sb_input_rollback(struct SbPipeline *pipeline);

#endif
