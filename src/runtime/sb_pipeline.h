/*
 * sb_pipeline.h: one pipeline at work: source rows go in, panes come out, the cells between.
 *
 * The life of a row: filter, windows, key, cell, accumulators; at the end of the bundle the touched cells are asked whether they
 * fire, the watermark moves, timers fire, result and state are written. Rows whose cell may be in the table but is not in memory,
 * and all rows of merging windows, are put aside and taken together (sb_pipeline_defer.c).
 *
 * TRANSACTIONS. All of it happens within a transaction of the caller's, SPI connected, as the extension's owner; it switches to the
 * pipeline's owner by itself. After each (sub)transaction the caller says keep or rollback.
 */
#ifndef SB_PIPELINE_H
#define SB_PIPELINE_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "engine/sb_reduce.h"
#include "query/sb_query.h"
#include "runtime/sb_intake.h"
#include "sink/sb_result.h"
#include "state/sb_cells.h"

typedef struct SbPipeline
{
	MemoryContext context; /* of the pipeline: all of this */
	MemoryContext bundle;  /* of a bundle: live states, rows put aside */
	MemoryContext element; /* of a few rows or panes: what is made on the way */
	SbPipelineRow *row;    /* as last read; its progress is as of the last keep */
	SbProgress progress;   /* as of the running transaction */
	SbPlan *plan;
	SbQuery *query;
	SbStrategy strategy;
	SbClocks clocks;
	SbClocks kept_clocks; /* as of the last keep */
	SbCells *cells;
	SbResult *result;
	Datum *out_values; /* of one result row */
	bool *out_nulls;
	struct SbDeferred *deferred; /* rows put aside */
	TimestampTz last_row_at;     /* processing time: when it last had a row */
	TimestampTz max_event_time;
	bool changed;         /* the bundle has something to write for it */
	XLogRecPtr persisted; /* the position that is in the catalog */
	const SbRow *current; /* the row being worked on, for the error context */
} SbPipeline;

/* Opens a pipeline from its catalog row (copied). Errors say why it cannot run. Needs a transaction and SPI. */
extern SbPipeline *sb_pipeline_open(const SbPipelineRow *row);
/* Error if it could not be opened as it is now. In the current context, which is to be short-lived. */
extern void sb_pipeline_verify(SbPipeline *pipeline);
extern void sb_pipeline_close(SbPipeline *pipeline);

extern void sb_pipeline_begin_bundle(SbPipeline *pipeline, TimestampTz now);
/* Rows lo..hi-1, those of other tables and those at or below its position skipped. */
extern void sb_pipeline_rows(SbPipeline *pipeline, SbRow *rows, int lo, int hi);
/* Fires what the rows so far have made ready, and writes results: a bundle can be cut anywhere. */
extern void sb_pipeline_flush(SbPipeline *pipeline);
/* Flush; watermark; timers; results; state; progress. `idle`: the source is at rest, the watermark follows the clock. */
extern void sb_pipeline_end_bundle(SbPipeline *pipeline, XLogRecPtr position, TimestampTz commit_time, bool idle);
/* State only: makes what is done so far safe from a rollback to here. */
extern void sb_pipeline_write_state(SbPipeline *pipeline);
extern void sb_pipeline_keep(SbPipeline *pipeline);
extern void sb_pipeline_rollback(SbPipeline *pipeline);

/* When it wants an (empty) bundle next: processing time, DT_NOEND: not before a row comes. */
extern TimestampTz sb_pipeline_next_wake(SbPipeline *pipeline, bool caught_up);

/* ---- for the files of the pipeline ---- */

typedef struct SbSavedRole
{
	Oid user;
	int context;
	int guc_level; /* settings that change from here on are undone */
} SbSavedRole;

extern void sb_pipeline_as_owner(SbPipeline *pipeline, SbSavedRole *saved);
/* back to the extension's owner, for the tables of state */
extern void sb_role_as_worker(SbSavedRole *saved);
extern void sb_role_restore(const SbSavedRole *saved);
/* The tuple of a row, pointing into its frame. */
extern void sb_row_tuple(const SbRow *row, HeapTuple tuple);
/* Adds the current row of the query to a cell that is neither expired nor closed. */
extern void sb_pipeline_add(SbPipeline *pipeline, SbEntry *entry, TimestampTz event_time);
extern void sb_pipeline_late(SbPipeline *pipeline, const SbRow *row, TimestampTz event_time, SbWindow window, bool closed);
/* Puts the current row aside, for one window. */
extern void sb_pipeline_defer(SbPipeline *pipeline, const SbRow *row, uint64 key_hash, TimestampTz event_time, SbWindow window);
extern void sb_pipeline_resolve(SbPipeline *pipeline);
/* Between rows only: afterwards others are the current row of the query. */
extern void sb_pipeline_resolve_if_many(SbPipeline *pipeline);
extern void sb_pipeline_forget_deferred(SbPipeline *pipeline);

/* md5-like identity of a view's definition: the same as long as the query means the same */
extern char *sb_view_fingerprint(Query *query);

#endif
