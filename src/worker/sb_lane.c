/*
 * sb_lane.c: the list of pipelines that are behind; see sb_lane.h.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/sb_compat.h"
#include "utils/timestamp.h"
#include "worker/sb_lane.h"

/* With the lock held. NULL: it is none. */
static SbLaggard *
lane_find(SbDatabase *db, int32 pipeline)
{
	for (int i = 0; i < db->nlaggards; i++)
	{
		if (db->laggards[i].pipeline == pipeline)
			return &db->laggards[i];
	}
	return NULL;
}

static void
lane_remove(SbDatabase *db, SbLaggard *laggard)
{
	*laggard = db->laggards[--db->nlaggards];
}

#define SB_LANE_REFUSED_MS 60000

void
sb_lane_refuse(SbDatabase *db)
{
	db->late_refused_at = GetCurrentTimestamp();
	sb_tell_runner(db);
}

bool
sb_lane_is_refused(const SbDatabase *db)
{
	return db->late_refused_at != 0 &&
	       !TimestampDifferenceExceeds(db->late_refused_at, GetCurrentTimestamp(),
	                                   SB_LANE_REFUSED_MS);
}

bool
sb_lane_give(SbDatabase *db, int32 pipeline, XLogRecPtr position, TimestampTz until)
{
	bool given;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	given = db->nlaggards < SB_MAX_LAGGARDS && !sb_lane_is_refused(db) &&
	        lane_find(db, pipeline) == NULL;
	if (given)
		db->laggards[db->nlaggards++] =
		    (SbLaggard){.pipeline = pipeline, .position = position, .until = until};
	LWLockRelease(sb_registry->lock);
	sb_wake_launcher();
	return given;
}

TimestampTz
sb_lane_stays_until(SbDatabase *db, int32 pipeline)
{
	const SbLaggard *laggard;
	TimestampTz until;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	laggard = lane_find(db, pipeline);
	until = laggard && laggard->until != 0 ? laggard->until : DT_NOBEGIN;
	LWLockRelease(sb_registry->lock);
	return until;
}

static bool
lane_awaits_source(const SbLaggard *laggard)
{
	return laggard->position != InvalidXLogRecPtr && laggard->from == InvalidXLogRecPtr;
}

void
sb_lane_published(SbDatabase *db)
{
	bool any = false;
	XLogRecPtr now;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	for (int i = 0; i < db->nlaggards; i++)
		any = any || lane_awaits_source(&db->laggards[i]);
	LWLockRelease(sb_registry->lock);
	if (!any)
		return;
	/* a place that both readers come to at once, where nobody writes anything either */
	now = sb_log_message(SB_MARKER_PREFIX, "", 0, false);
	XLogFlush(now);
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < db->nlaggards; i++)
	{
		if (lane_awaits_source(&db->laggards[i]))
			db->laggards[i].from = now;
	}
	LWLockRelease(sb_registry->lock);
	sb_wake_worker(db, SB_ROLE_READER);
	sb_wake_worker(db, SB_ROLE_LATE_READER);
	sb_wake_launcher();
}

List *
sb_lane_laggards(SbDatabase *db)
{
	int32 ids[SB_MAX_LAGGARDS];
	List *result = NIL;
	int n;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	for (int i = n = 0; i < db->nlaggards; i++)
	{
		if (!db->laggards[i].returned)
			ids[n++] = db->laggards[i].pipeline;
	}
	LWLockRelease(sb_registry->lock);
	for (int i = 0; i < n; i++)
		result = lappend_int(result, ids[i]);
	return result;
}

void
sb_lane_forget(SbDatabase *db, int32 pipeline)
{
	SbLaggard *laggard;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	laggard = lane_find(db, pipeline);
	if (laggard)
		lane_remove(db, laggard);
	LWLockRelease(sb_registry->lock);
	sb_wake_launcher();
}

void
sb_lane_return_all(SbDatabase *db)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	for (int i = 0; i < db->nlaggards; i++)
		db->laggards[i].returned = true;
	LWLockRelease(sb_registry->lock);
}

bool
sb_lane_return_drained(SbDatabase *db, int32 pipeline, int64 floor)
{
	SbLaggard *laggard;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	laggard = lane_find(db, pipeline);
	if (laggard)
	{
		laggard->returned = laggard->drained = true;
		laggard->queue_floor = floor;
	}
	LWLockRelease(sb_registry->lock);
	return laggard != NULL;
}

bool
sb_lane_has_drained(SbDatabase *db, int32 pipeline, int64 *floor)
{
	const SbLaggard *laggard;
	bool drained;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	laggard = lane_find(db, pipeline);
	drained = laggard && laggard->drained;
	if (drained)
		*floor = laggard->queue_floor;
	LWLockRelease(sb_registry->lock);
	return drained;
}

void
sb_lane_forget_returned(SbDatabase *db, const List *still)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	for (int i = db->nlaggards - 1; i >= 0; i--)
	{
		if (db->laggards[i].returned && !list_member_int(still, db->laggards[i].pipeline))
			lane_remove(db, &db->laggards[i]);
	}
	LWLockRelease(sb_registry->lock);
	sb_wake_launcher();
}

XLogRecPtr
sb_lane_least(const SbDatabase *db)
{
	XLogRecPtr least = PG_UINT64_MAX;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	for (int i = 0; i < db->nlaggards; i++)
	{
		if (db->laggards[i].position != InvalidXLogRecPtr)
			least = Min(least, db->laggards[i].position);
	}
	LWLockRelease(sb_registry->lock);
	return least == PG_UINT64_MAX ? InvalidXLogRecPtr : least;
}

void
sb_lane_advance(SbDatabase *db, int32 pipeline, XLogRecPtr position)
{
	SbLaggard *laggard;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	laggard = lane_find(db, pipeline);
	if (laggard && laggard->position != InvalidXLogRecPtr)
		laggard->position = Max(laggard->position, position);
	LWLockRelease(sb_registry->lock);
}

/* ---- coming back ---- */

void
sb_lane_hold(SbDatabase *db, XLogRecPtr position)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	db->join_at = position;
	LWLockRelease(sb_registry->lock);
	sb_wake_worker(db, SB_ROLE_LATE_RUNNER);
}

void
sb_lane_go_on(SbDatabase *db)
{
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	db->join_at = InvalidXLogRecPtr;
	LWLockRelease(sb_registry->lock);
}

void
sb_lane_ask(SbDatabase *db, bool joining)
{
	bool begun;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	begun = joining && !db->joining;
	db->joining = joining;
	LWLockRelease(sb_registry->lock);
	if (begun)
		sb_wake_worker(db, SB_ROLE_RUNNER);
}

/* With the lock held. Where the first lane waits and can take it; invalid: nowhere. */
static XLogRecPtr
lane_join_at(const SbDatabase *db, const SbLaggard *laggard)
{
	if (laggard == NULL || laggard->from == InvalidXLogRecPtr || db->join_at == InvalidXLogRecPtr)
		return InvalidXLogRecPtr;
	return Max(db->join_at, laggard->from);
}

XLogRecPtr
sb_lane_join_at(SbDatabase *db, int32 pipeline)
{
	XLogRecPtr at;

	LWLockAcquire(sb_registry->lock, LW_SHARED);
	at = lane_join_at(db, lane_find(db, pipeline));
	LWLockRelease(sb_registry->lock);
	return at;
}

bool
sb_lane_join(SbDatabase *db, int32 pipeline, XLogRecPtr position)
{
	SbLaggard *laggard;
	XLogRecPtr at;
	bool joined;

	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	laggard = lane_find(db, pipeline);
	at = lane_join_at(db, laggard);
	joined = at != InvalidXLogRecPtr && position >= at;
	if (joined)
	{
		lane_remove(db, laggard);
		db->joining = false;
		pg_atomic_fetch_add_u32(&db->generation, 1);
	}
	LWLockRelease(sb_registry->lock);
	if (joined)
	{
		sb_wake_worker(db, SB_ROLE_RUNNER);
		sb_wake_launcher();
	}
	return joined;
}
