/*
 * sb_left_out.h: which rows a pipeline has left out, so that they take nothing with them when they
 * change or go: rows that became dead letters, and rows that were too late for a window.
 *
 * A row is known by the hash of the columns that the query uses, and by its window; what has failed
 * before its windows were known is left out of all (SB_NO_WINDOW). How often is counted: of equal
 * rows it makes no difference which one is in the groups. All of it is in beam.left_out, apart from
 * the letters, which their readers may delete. In memory is what the rows at hand ask for.
 *
 * Pipelines that take no row back (append-only) have none.
 *
 * MEMORY. A context of its own, child of the pipeline's. Part of its transactions: written with the
 * state; what is not written is undone by a rollback, and what is can be read again.
 */
#ifndef SB_LEFT_OUT_H
#define SB_LEFT_OUT_H

#include "postgres.h"
#include "engine/sb_window.h"
#include "source/sb_change.h"

struct SbPipeline;

/* Of a row that has failed before its windows were known. In no range of windows. */
#define SB_NO_WINDOW ((SbWindow){.start = SB_TIME_MIN, .end = SB_TIME_MIN})

/* For a pipeline that is being opened. As the extension's owner, SPI connected. */
extern void sb_left_out_attach(struct SbPipeline *pipeline);
/* Is there any? Else nothing need be asked. */
extern bool sb_left_out_any(const struct SbPipeline *pipeline);
/* Reads what these messages may ask for. */
extern void sb_left_out_read(struct SbPipeline *pipeline, const SbMessage *messages, int lo,
                             int hi);
/* What a row is known by; never 0. */
extern uint64 sb_left_out_hash(const struct SbPipeline *pipeline, const SbRow *row);
/* The row is left out of the window. */
extern void sb_left_out_put(struct SbPipeline *pipeline, uint64 hash, SbWindow window);
/* Was it left out of it? Then it is so no longer: once for each time that it was. */
extern bool sb_left_out_take(struct SbPipeline *pipeline, uint64 hash, SbWindow window);
/* Windows begin anew: rows are in them or not by what comes now. As sb_pipeline_clear(). */
extern void sb_left_out_clear(struct SbPipeline *pipeline, const SbWindowRange *range, bool inside);

extern void sb_left_out_write(struct SbPipeline *pipeline);
/* Its part in a transaction: all that is to stay has been written. */
extern void sb_left_out_forget(struct SbPipeline *pipeline);

#endif
