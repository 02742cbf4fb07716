/*
 * sb_lock.h: the locks that pipelines take, and their order.
 *
 * Whoever has more than one lock of ours takes them in this order, so that of two of us nobody
 * waits for the other and is waited for:
 *
 *   1. Names. A command that changes what a pipeline is has the name to itself, to the end of its
 *      transaction, and the names of all downstream of it, those first. An advisory lock of its own
 *      kind: neither bundles nor queries, VACUUM or DDL are in its way. A downstream pipeline that
 *      is made afterwards is left to the runner where its name is somebody else's.
 *   2. Rows of beam.pipeline, of one name in the order of versions (sb_catalog_lock()).
 *   3. Of each version, in the order of ids: result table, state table. Its queue is written to by
 *      the bundles of its upstream, taken by its own, and dropped by the runner once the pipeline
 *      is gone: nobody else locks it.
 *   4. Sources, then batch views.
 *   5. Rows of definition, history, progress, retry, command.
 *
 * A bundle has 3 of a pipeline before it does anything with it (sb_pipeline_lock()), and 5 after
 * that; where it has to write to 2, what is locked is left for another time, as is done by the hook
 * that follows ALTER TABLE ... OWNER TO. It takes the pipelines in the order of ids as far as it
 * can know it; and what users lock in one statement or one transaction has an order of their own.
 * So a worker is the one that gives way: it looks for a deadlock at once (SB_LIMIT_DEADLOCK_MS),
 * and does not wait longer than others wait before they look (stream_beam.lock_timeout).
 *
 * One pair is no deadlock of ours and cannot be told by its order: CREATE INDEX CONCURRENTLY and
 * its like wait for whoever has a snapshot, and a function of SQL has one. sb_lock_relation() does
 * not wait for them.
 */
#ifndef SB_LOCK_H
#define SB_LOCK_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "storage/lockdefs.h"

/*
 * On a result, while a downstream pipeline, or a version of one, is made: it stays the result of
 * its pipeline (exchange of versions, drop), and bundles go on writing to it.
 */
#define SB_LOCK_READ RowExclusiveLock

/* The name, whether there is a pipeline of it or not. */
extern void sb_lock_name(const char *name);
/* False: another transaction has it. */
extern bool sb_lock_name_now(const char *name);
/*
 * A pipeline that is to be changed: its name, and (`tree`) those of all that read from any version
 * of it, directly or not, then the rows of its versions; the current one is returned, as it is
 * then. NULL: it is gone. SPI connected, as the extension's owner.
 */
extern SbPipelineRow *sb_lock_pipeline(const char *name, bool tree);
/*
 * The same with the tree, by a worker, which may have more than that already: error 55P03 where a
 * name is somebody else's.
 */
extern SbPipelineRow *sb_lock_pipeline_now(const char *name);
/*
 * The relation, which may be gone. Error 55P03 where an index is being made or rebuilt on it
 * concurrently. SPI connected.
 */
extern void sb_lock_relation(Oid relation, LOCKMODE mode);

#endif
