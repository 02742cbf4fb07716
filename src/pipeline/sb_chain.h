/*
 * sb_chain.h: chained pipelines: what one writes to its result is handed to those that read it, in
 * the same bundle (sb_pipeline_chain.c).
 */
#ifndef SB_CHAIN_H
#define SB_CHAIN_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

/*
 * Says who reads the pipeline's result: running readers, and ids of those that do not run; and the
 * table that they are planned over. Needs a transaction.
 */
extern void sb_chain_set_readers(SbPipeline *pipeline, Oid source, List *running, List *waiting);
extern bool sb_chain_wants_retractions(const SbPipeline *pipeline);
extern void sb_chain_put(SbPipeline *pipeline, const Datum *values, const bool *nulls, int op);
/* Gives the rows so far to the readers, or (`all` false) only when there are many. */
extern void sb_chain_hand_on(SbPipeline *pipeline, bool all);
/*
 * In a careful run: the rows held; their readers take them one by one; what then is not taken is
 * queued.
 */
extern void sb_chain_messages(SbPipeline *pipeline, SbMessage **messages, int *n);
extern void sb_chain_finish_held(SbPipeline *pipeline);
extern void sb_chain_accept(SbPipeline *pipeline);
extern void sb_chain_rollback(SbPipeline *pipeline);
/* The pipeline has failed: its rows of this bundle are void. */
extern void sb_chain_forget(SbPipeline *pipeline);
/* The reader with this id has failed: the rows held are queued for it. */
extern void sb_chain_reader_failed(SbPipeline *pipeline, int32 reader);
/*
 * The next timer that waits for the watermark: its own, or one of those that read its result and
 * have no other watermark.
 */
extern TimestampTz sb_chain_next_event(const SbPipeline *pipeline, TimestampTz watermark);

#endif
