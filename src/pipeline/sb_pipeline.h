/*
 * sb_pipeline.h: one pipeline at work: source rows go in, panes come out, the cells between.
 *
 * The life of a row: filter, windows, key, cell, accumulators; at the end of the bundle the touched
 * cells are asked whether they fire, the watermark moves, timers fire, result and state are
 * written. Rows whose cell may be in the table but is not in memory, and all rows of merging
 * windows, are put aside and taken together (sb_aggregate_defer.c).
 *
 * TRANSACTIONS. All of it happens within a transaction of the caller's, SPI connected, elevated; it
 * enters the bracket of the pipeline's owner by itself. After each (sub)transaction the caller says
 * accept or rollback.
 */
#ifndef SB_PIPELINE_H
#define SB_PIPELINE_H

#include "postgres.h"
#include "base/sb_bracket.h"
#include "catalog/sb_owner.h"
#include "catalog/sb_pipeline_row.h"
#include "engine/sb_reduce.h"
#include "pipeline/sb_gate.h"
#include "pipeline/sb_input.h"
#include "query/sb_query.h"
#include "query/sb_signature.h"
#include "sink/sb_result.h"
#include "source/sb_change.h"
#include "worker/sb_limit.h"

typedef struct SbChain SbChain;
typedef struct SbLeftOut SbLeftOut;

/*
 * While windows are computed anew from the table (sb_backfill.h): the rows that come are those of
 * the table.
 */
typedef struct SbRecompute
{
	SbWindowRange range; /* of the windows; the others have the rows */
	bool feeding;        /* rows come: nothing fires yet */
	/* Had the window a row in the result? */
	bool (*showed)(const struct SbRecompute *recompute, SbWindow window);
} SbRecompute;

typedef struct SbPipeline
{
	MemoryContext context; /* of the pipeline: all of this */
	MemoryContext bundle;  /* of a bundle: live states, rows put aside */
	MemoryContext element; /* of a few rows or panes: what is made on the way */
	SbPipelineRow *row;    /* as last read; its progress is as of the last accept */
	SbProgress progress;   /* as of the running transaction */
	SbPlan *plan;
	SbQuery *query;
	SbStrategy strategy;
	SbClocks clocks;
	SbClocks accepted_clocks;      /* as of the last accept */
	SbInput *inputs;               /* in the order of the plan's sources; one */
	const struct SbStepKind *step; /* sb_step.h */
	void *step_state;
	SbResult *result;
	SbSignature *signature; /* as it was opened */
	/* it has no tables: its cells are in memory only, and nothing is written */
	bool in_memory;
	/* its rows may be taken back; false: what is no INSERT is a dead letter */
	bool retractable;
	List *sinks;                  /* of SbSink */
	bool wants_panes;             /* one of them does */
	SbChain *chain;               /* those downstream, and rows for them; NULL: there are none */
	SbLeftOut *left_out;          /* rows that were never added (sb_left_out.h); NULL: not kept */
	const SbRecompute *recompute; /* NULL: nothing is computed anew */
	Datum *out_values;            /* of one result row */
	bool *out_nulls;
	bool changed;         /* the bundle has something to write for it */
	bool locked;          /* sb_pipeline_lock() has been called */
	XLogRecPtr persisted; /* the position that is in the catalog */
	XLogRecPtr current;   /* of the row being worked on, for the error context */

	/* ---- how the runner treats it ---- */
	SbLimitShare limit; /* of its time */
	bool slow;          /* the last bundle has stalled the others for it, again */
	/* it has been put aside again and again: what fails is its row's fault */
	bool strict;
	/* so many bundles expect panes to fail, this one among them (sb_aggregate_firing.c) */
	int guard;
	/* in the second lane: it does not come back before; DT_NOBEGIN: it may */
	TimestampTz stays_until;
} SbPipeline;

/* The only one. */
static inline SbInput *
sb_input(const SbPipeline *pipeline)
{
	return &pipeline->inputs[0];
}

/* What its options say to the engine, but for the plan; the trigger is in the current context. */
extern SbStrategy sb_pipeline_strategy(const SbPipelineRow *row);
/*
 * Opens a pipeline from its catalog row (copied). Errors say why it cannot run. Needs a transaction
 * and SPI. With a sink that stands for its tables it starts from nothing, at processing time
 * 2000-01-01 UTC.
 */
extern SbPipeline *sb_pipeline_open(const SbPipelineRow *row, const SbSinkKind *instead,
                                    void *sink);
/*
 * Error if it could not be opened as it is now. In the current context, which is to be short-lived.
 */
extern void sb_pipeline_verify(SbPipeline *pipeline);
/* Was its state written with other types or aggregates than those of now? Not opened for that. */
extern bool sb_pipeline_is_outgrown(const SbPipelineRow *row);
/*
 * Has its result table been renamed, or given to another role, since it was opened? Then it has to
 * be opened again.
 */
extern bool sb_pipeline_result_moved(const SbPipeline *pipeline);
/* ... or anything else that is in its row of pg_class, be it back and forth? */
extern bool sb_pipeline_result_altered(const SbPipeline *pipeline);
/*
 * It outlives the transaction, in this context, which is its parent then; until then an error frees
 * it.
 */
extern void sb_pipeline_retain(SbPipeline *pipeline, MemoryContext context);
extern void sb_pipeline_close(SbPipeline *pipeline);
/*
 * What a crash of this process is to be blamed on from now on: it, at what is fed to it or at what
 * the stream brings.
 */
extern void sb_pipeline_at_work(SbPipeline *pipeline, bool fed);
/* On nobody's account any more. */
extern void sb_pipeline_rests(void);
/* Of the open pipelines, the one with this id, or NULL. */
extern SbPipeline *sb_pipeline_find(List *pipelines, int32 id);

/* It is to run: what it needs of the catalog. SPI connected. */
extern void sb_pipeline_attach(SbPipeline *pipeline);
/* Groups that have failed are tried again with the next bundle: something was altered. */
extern void sb_pipeline_retry_failed(SbPipeline *pipeline);
/* Is it the fault of a row, or of a group, that may go without the others? */
extern bool sb_pipeline_may_bear(const SbPipeline *pipeline, const ErrorData *error);

/* It has had nothing yet: its stream may start at this position instead of an earlier one. */
extern void sb_pipeline_start_at(SbPipeline *pipeline, XLogRecPtr position);
extern void sb_pipeline_begin_bundle(SbPipeline *pipeline, TimestampTz now);
/*
 * Its result and state table, in this order and before anything is done with them in the bundle
 * (catalog/sb_lock.h).
 */
extern void sb_pipeline_lock(SbPipeline *pipeline);
/* Messages lo..hi-1, those of other tables and those at or below its position skipped. */
extern void sb_pipeline_take(SbPipeline *pipeline, const SbMessage *messages, int lo, int hi);
/* Fires what the rows so far have made ready, and writes results: a bundle can be cut anywhere. */
extern void sb_pipeline_flush(SbPipeline *pipeline);
/*
 * Flush; watermark; timers; results; state; progress. `caught_up`: all that is committed has been
 * read: the watermark of a source that is at rest then goes on with the clock.
 */
extern void sb_pipeline_end_bundle(SbPipeline *pipeline, XLogRecPtr position,
                                   TimestampTz commit_time, bool caught_up);
/* Moves the clocks (never back) by hand and fires what is due: for a pipeline that is in memory. */
extern void sb_pipeline_move_clocks(SbPipeline *pipeline, TimestampTz watermark,
                                    TimestampTz processing_time);
/* State only: makes what is done so far safe from a rollback to here. */
extern void sb_pipeline_write_state(SbPipeline *pipeline);
/* State and all else that its tables are to have of it, with its progress. */
extern void sb_pipeline_write(SbPipeline *pipeline);
extern void sb_pipeline_accept(SbPipeline *pipeline);
extern void sb_pipeline_rollback(SbPipeline *pipeline);

/*
 * When it wants an (empty) bundle next: processing time, DT_NOEND: not before a row comes.
 * `awaited`: somebody waits for its watermark, so that it moves even where no timer is due.
 */
extern TimestampTz sb_pipeline_next_wake(SbPipeline *pipeline, bool caught_up, bool awaited);

static inline void
sb_pipeline_as_owner(SbPipeline *pipeline, SbBracket *saved)
{
	sb_owner_enter(pipeline->row, saved);
}

/*
 * Removes the cells of the windows in the range, or (`inside` false) of all others, and their rows
 * in the result, which are retracted downstream. What the rows before have made ready is written
 * first. Gives the windows that had rows (with repetitions), in the current context.
 */
extern int sb_pipeline_clear(SbPipeline *pipeline, const SbWindowRange *range, bool inside,
                             SbWindow **windows);
/* The row of an aggregate over nothing: of a pipeline that has one group, and no cell. */
extern void sb_pipeline_put_empty(SbPipeline *pipeline);
/* The message becomes a dead letter, with this error. */
extern void sb_pipeline_put_dead(SbPipeline *pipeline, const SbMessage *message,
                                 const ErrorData *error);

#endif
