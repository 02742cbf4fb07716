/*
 * sb_void.h: pipelines whose position means nothing any more.
 *
 * Such a pipeline is set to needs_resync: it holds back no WAL, cannot be resumed, and is rebuilt
 * from its source by beam.resync_pipeline(). All functions that mark want a transaction with SPI;
 * they log a warning for each pipeline.
 */
#ifndef SB_VOID_H
#define SB_VOID_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "worker/sb_shmem.h"

/* Its position is in the WAL of its database, and holds the slot back. */
extern bool sb_void_holds(const SbPipelineRow *row);
/*
 * Marks one; `message` says why (palloc'd or constant). A version that is being built is to begin
 * again instead, at the next reload.
 */
extern void sb_void_mark(const SbPipelineRow *row, int sqlerrcode, const char *message);
/*
 * Marks those whose position is not within [start, end of the WAL]: what lies between will not
 * come. True: there were any.
 */
extern bool sb_void_gapped(XLogRecPtr start);
/*
 * Can what the catalog says of pipelines still be true? Positions that belong to another server,
 * database or timeline are void, and so is a table that a crash has emptied. Outside a transaction;
 * before the reader starts.
 */
extern void sb_void_check(SbDatabase *db);

#endif
