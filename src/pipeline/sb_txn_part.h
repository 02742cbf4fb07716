/*
 * sb_txn_part.h: what of a pipeline takes part in a transaction: it is written at the end of a
 * bundle, and then stands or is undone.
 *
 * All parts are in one table (sb_pipeline_txn.c): what is new in a pipeline and can be undone is a
 * line there.
 */
#ifndef SB_TXN_PART_H
#define SB_TXN_PART_H

struct SbPipeline;

/* Any function may be missing. */
typedef struct SbTxnPart
{
	const char *name;
	/* The pipeline has changed in this bundle: what is to be kept goes to its table. */
	void (*write)(struct SbPipeline *pipeline);
	/* The (sub)transaction is committed. */
	void (*accept)(struct SbPipeline *pipeline);
	/* All is as at the last accept. */
	void (*rollback)(struct SbPipeline *pipeline);
} SbTxnPart;

#endif
