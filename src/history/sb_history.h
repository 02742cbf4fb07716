/*
 * sb_history.h: the rows that a table had before its pipeline: read in chunks, between bundles,
 * while the stream goes on.
 *
 * Each source row has a *part value*: its event time, or a column of an index. A chunk is the rows
 * of a range of part values, read under a snapshot of its own, from the highest part value down. So
 * at any time the part values are in three regions:
 *
 *   settled   what the chunks before the last one have read: each change of the stream is applied
 *   the last  a change is applied unless its transaction is visible in the chunk's snapshot, whose
 *             rows have it already
 *   ahead     a change is left out: a later chunk's snapshot sees it, or the chunk is not taken
 *
 * The next chunk is read only when the stream has come to the end of the last one's cut: by then
 * the last region is settled, so there is one cut at most. A TRUNCATE starts it all from nothing.
 *
 * CRASH SAFETY. What the chunk has done to cells and result, the regions and the cut commit in one
 * transaction. The stream's position is not moved by a chunk.
 */
#ifndef SB_HISTORY_H
#define SB_HISTORY_H

#include "postgres.h"
#include "history/sb_scan.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_row_source.h"
#include "source/sb_cut.h"

/*
 * For a pipeline that is being opened: where it has a history, and is not through with it, that is
 * a gate. Before the stream moves past the pipeline's position.
 */
extern void sb_history_attach(SbPipeline *pipeline);
/* Has it one, and is not through with it? */
extern bool sb_history_is_read(const SbPipeline *pipeline);

/*
 * When the next chunk may be read, the stream being at `position`; DT_NOEND: not before that has
 * moved.
 */
extern TimestampTz sb_history_next(const SbPipeline *pipeline, XLogRecPtr position);
/* The next chunk, as a row source that is good for one bundle. */
extern SbRowSource sb_history_rows(SbPipeline *pipeline);
/* The end of the last chunk's cut: what the stream has to come to before the next one. */
extern XLogRecPtr sb_history_awaits(const SbPipeline *pipeline);

#endif
