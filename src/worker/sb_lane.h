/*
 * sb_lane.h: pipelines that are behind catch up in a lane of their own, beside the others.
 *
 * THE SECOND LANE has a reader on a temporary copy of the slot, a ring and a runner of its own;
 * they live while there are laggards. A laggard, with all pipelines downstream of it, belongs to
 * that runner alone. The first lane's runner makes laggards: of a pipeline that was resumed, put
 * aside, or was far behind when the runner started.
 *
 * COMING BACK. When a laggard is as good as where the first lane is, the second runner asks for it
 * (`joining`). The first one stops between two bundles and says where it is (`join_at`), for a few
 * milliseconds. If the laggard comes to that place meanwhile, it leaves the list, and the
 * generation of the catalog is bumped in the same instant: so the first runner opens it before it
 * takes anything further. Nothing is missed: from `from` on the first lane has had the rows of its
 * source too, and what it has had of them the laggard's position says.
 *
 * QUEUES. A downstream pipeline that is put aside or paused alone finds what it has missed in its
 * queue (sb_queue.h). It is a laggard of its own, while its upstream goes on in the first lane, and
 * takes the queue here a chunk at a time. When a chunk has come to the queue's end it is returned,
 * and the first lane takes what has been queued since in its next bundle.
 *
 * CRASHES. A server that starts has no laggards; the first runner then makes them anew. All that
 * counts is in the catalog, in the transaction of each bundle.
 *
 * ONE OWNER. A pipeline is to be open in one of the two runners. Where it is in both all the same
 * (resumed, while the other one is in a bundle of it that is not committed yet), the second to
 * write finds another number of bundles in the catalog than it knows (sb_catalog_put_progress()),
 * and opens it anew.
 *
 * LOCKING. The list is read and written with the registry's lock. Adding to it is for the first
 * lane's runner, removing for the second's, and for the first's where the pipeline is not to run
 * any more.
 */
#ifndef SB_LANE_H
#define SB_LANE_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "worker/sb_shmem.h"

/* Prefix of the logical messages that ask for a heartbeat at their place in the WAL. */
#define SB_MARKER_PREFIX "stream_beam"

/*
 * There was no worker or no slot to be had for the second lane: for a minute there is none, and its
 * pipelines go back to the first.
 */
extern void sb_lane_refuse(SbDatabase *db);
extern bool sb_lane_is_refused(const SbDatabase *db);
/*
 * Makes it a laggard, at this position; invalid: it has a queue. It does not come back before
 * `until`; 0: as soon as it can. False: there are too many, or there is no second lane. The runners
 * are to be told.
 */
extern bool sb_lane_give(SbDatabase *db, int32 pipeline, XLogRecPtr position, TimestampTz until);
/* DT_NOBEGIN: it is no laggard by itself, or may come back. */
extern TimestampTz sb_lane_stays_until(SbDatabase *db, int32 pipeline);
/* The sources of all laggards are published now. Writes a marker. */
extern void sb_lane_published(SbDatabase *db);
/* Their ids, without those that were returned; in the current context. */
extern List *sb_lane_laggards(SbDatabase *db);
/* It is none any more, wherever it is. */
extern void sb_lane_forget(SbDatabase *db, int32 pipeline);
/*
 * They are not the second lane's any more, and not yet where the first is: those who wait for them
 * go on waiting until they are forgotten.
 */
extern void sb_lane_return_all(SbDatabase *db);
/*
 * It has taken its queue: nothing is left of that up to `floor`. False: it is no laggard by itself.
 * The runners are to be told.
 */
extern bool sb_lane_return_drained(SbDatabase *db, int32 pipeline, int64 floor);
/* Has it come back so? */
extern bool sb_lane_has_drained(SbDatabase *db, int32 pipeline, int64 *floor);
/*
 * For the first lane's runner, which has them open, or goes back for them; not of these ids, which
 * were still the second lane's when it looked.
 */
extern void sb_lane_forget_returned(SbDatabase *db, const List *still);
/* What the slot has to retain for them; invalid: there are none. */
extern XLogRecPtr sb_lane_least(const SbDatabase *db);
/* What it needs no longer is flushed. */
extern void sb_lane_advance(SbDatabase *db, int32 pipeline, XLogRecPtr position);

/* For the first lane's runner, between two bundles: it is here. */
extern void sb_lane_hold(SbDatabase *db, XLogRecPtr position);
extern void sb_lane_go_on(SbDatabase *db);
/* For the second's: one is as good as there; or none is. */
extern void sb_lane_ask(SbDatabase *db, bool joining);
/* Where the first lane waits, from where on it can take this laggard; invalid: it does not wait. */
extern XLogRecPtr sb_lane_join_at(SbDatabase *db, int32 pipeline);
/*
 * The laggard, whose transaction has been committed, has come to this position: true: the first
 * lane has it from now on.
 */
extern bool sb_lane_join(SbDatabase *db, int32 pipeline, XLogRecPtr position);

#endif
