/*
 * sb_chain.h: chained pipelines: what one writes to its result is handed to its downstream
 * pipelines in the same bundle (sb_pipeline_chain.c).
 */
#ifndef SB_CHAIN_H
#define SB_CHAIN_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"

typedef struct SbDownstream
{
	Oid source;      /* that they are planned over */
	List *running;   /* of SbPipeline */
	List *waiting;   /* ids of those that do not run */
	bool misses_one; /* one that is being built to read the result does not run */
} SbDownstream;

/* Says which pipelines are downstream of this one (copied). Needs a transaction. */
extern void sb_chain_set_downstream(SbPipeline *pipeline, const SbDownstream *downstream);
extern bool sb_chain_misses_one(const SbPipeline *pipeline);
extern bool sb_chain_wants_retractions(const SbPipeline *pipeline);
extern void sb_chain_put(SbPipeline *pipeline, const Datum *values, const bool *nulls, int op);
/* Gives the rows so far to the downstream pipelines, or (`all` false) only when there are many. */
extern void sb_chain_hand_on(SbPipeline *pipeline, bool all);
/*
 * In a careful run, until sb_chain_finish_held(): rows are held. The downstream pipelines take them
 * one by one; what is not taken then is queued.
 */
extern void sb_chain_hold(SbPipeline *pipeline);
extern void sb_chain_messages(SbPipeline *pipeline, SbMessage **messages, int *n);
extern void sb_chain_finish_held(SbPipeline *pipeline);
extern void sb_chain_accept(SbPipeline *pipeline);
extern void sb_chain_rollback(SbPipeline *pipeline);
/*
 * The pipeline has failed: its rows of this bundle are void. Nor have those downstream anything
 * else from it, its watermark included.
 */
extern void sb_chain_forget(SbPipeline *pipeline);
/* The downstream pipeline with this id has failed: the rows held are queued for it. */
extern void sb_chain_downstream_failed(SbPipeline *pipeline, int32 downstream);
/*
 * The next timer that waits for the watermark: its own, or one of a downstream pipeline, which has
 * no other watermark.
 */
extern TimestampTz sb_chain_next_event(const SbPipeline *pipeline, TimestampTz watermark);

#endif
