/*
 * sb_split.h: the watermark of an input, split by an expression (watermark_by).
 *
 * Each value of the expression is a split, which has a time of its own: the highest event time of
 * its rows. The input's time is the least of those that are not at rest; one is at rest when it has
 * had no row for the idle timeout, counted while all that is committed had been read. If all are at
 * rest it is the highest of all. So a slow device holds the watermark, and one that is gone does
 * not hold it for ever.
 *
 * What is at rest is forgotten: when it has a row again it is a split like a new one. The others
 * are in beam.input, written with the bundle.
 */
#ifndef SB_SPLIT_H
#define SB_SPLIT_H

#include "postgres.h"
#include "datatype/timestamp.h"

struct SbPipeline;
typedef struct SbSplits SbSplits;

/*
 * For a pipeline that is being opened: if its watermark is split, its input gets the splits that
 * the catalog has, in the current context. As the extension's owner, SPI connected; the expression
 * is planned as the pipeline's owner.
 */
extern void sb_splits_attach(struct SbPipeline *pipeline);
/* The query's current row has this event time. Error 54000: there are too many splits. */
extern void sb_splits_row(struct SbPipeline *pipeline, SbSplits *splits, TimestampTz event_time);
/* A bundle ends at this time of the input's clock: splits that are at rest now are forgotten. */
extern void sb_splits_end_bundle(SbSplits *splits, int64 clock, int64 idle_timeout);
/* The time of the input; `highest`: that of all rows that it has ever had. */
extern TimestampTz sb_splits_time(const SbSplits *splits, TimestampTz highest);
/*
 * How long it takes, by the input's clock, until the one that holds the watermark comes to rest, if
 * nothing comes; PG_INT64_MAX: all are at rest.
 */
extern int64 sb_splits_next_rest(const SbSplits *splits, int64 idle_timeout);

/* Their part in a transaction (sb_txn_part.h). */
extern void sb_splits_write(struct SbPipeline *pipeline, SbSplits *splits);
extern void sb_splits_accept(SbSplits *splits);
extern void sb_splits_rollback(SbSplits *splits);

#endif
