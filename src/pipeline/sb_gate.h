/*
 * sb_gate.h: what of a source's changes is not for a pipeline now, since what was read from the
 * table has it, or will have it.
 *
 * The history of a pipeline is a gate (sb_history.h), and so is the cut that a backfill has left
 * behind (sb_backfill.h). A pipeline asks all that it has, mostly none. A gate is in the pipeline's
 * memory, and part of its transactions: what it has changed is written with the bundle, accepted or
 * rolled back.
 */
#ifndef SB_GATE_H
#define SB_GATE_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "engine/sb_window.h"

struct SbPipeline;
struct SbMessage;
struct SbRow;

/* Any function may be missing. */
typedef struct SbGateKind
{
	const char *name;
	/* Is this row, the query's current one, left out? */
	bool (*leaves_out)(struct SbPipeline *pipeline, void *gate, const struct SbRow *row);
	/* Is it for this window? */
	bool (*leaves_out_of)(const void *gate, const struct SbRow *row, SbWindow window);
	/* The source has been emptied. True: the windows of the range have seen that already. */
	bool (*spares)(const void *gate, const struct SbMessage *truncate, SbWindowRange *range);
	/* ... and the pipeline with it. */
	void (*emptied)(struct SbPipeline *pipeline, void *gate, const struct SbMessage *truncate);
	/* The stream is at `position`, in a bundle that ends. */
	void (*reached)(struct SbPipeline *pipeline, void *gate, XLogRecPtr position);
	/*
	 * Is all that it was there for in, as of the running transaction? Until then the watermark
	 * stands still.
	 */
	bool (*is_open)(const void *gate);

	void (*write)(struct SbPipeline *pipeline, void *gate);
	/* False: it is over, and has freed what it had. */
	bool (*accept)(struct SbPipeline *pipeline, void *gate);
	void (*rollback)(struct SbPipeline *pipeline, void *gate);
} SbGateKind;

typedef struct SbGate
{
	const SbGateKind *kind;
	void *gate;
} SbGate;

extern void sb_gate_add(struct SbPipeline *pipeline, const SbGateKind *kind, void *gate);
extern void sb_gate_remove(struct SbPipeline *pipeline, const SbGateKind *kind);
/* NULL: the pipeline has none of this kind. */
extern void *sb_gate_of(const struct SbPipeline *pipeline, const SbGateKind *kind);

extern bool sb_gates_leave_out(struct SbPipeline *pipeline, const struct SbRow *row);
extern bool sb_gates_leave_out_of(const struct SbPipeline *pipeline, const struct SbRow *row,
                                  SbWindow window);
extern bool sb_gates_spare(const struct SbPipeline *pipeline, const struct SbMessage *truncate,
                           SbWindowRange *range);
extern void sb_gates_emptied(struct SbPipeline *pipeline, const struct SbMessage *truncate);
extern void sb_gates_reached(struct SbPipeline *pipeline, XLogRecPtr position);
extern bool sb_gates_are_open(const struct SbPipeline *pipeline);
/* Does one judge rows by something that the query may not use? */
extern bool sb_gates_judge_rows(const struct SbPipeline *pipeline);
extern void sb_gates_write(struct SbPipeline *pipeline);
extern void sb_gates_accept(struct SbPipeline *pipeline);
extern void sb_gates_rollback(struct SbPipeline *pipeline);

#endif
