/*
 * sb_postponed.c: pipelines that cannot be looked at for now; see sb_postponed.h.
 */
#include "postgres.h"

#include "base/sb_error.h"
#include "base/sb_transaction.h"
#include "nodes/pg_list.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "worker/sb_limit.h"
#include "worker/sb_postponed.h"
#include "worker/sb_worker.h"

/*
 * For a lock, the first time of a look; once one was not to be had in it; and how long until the
 * next look: in all, waiting takes a small share of the time.
 */
#define SB_POSTPONED_WAIT_MS 200
#define SB_POSTPONED_SHORT_WAIT_MS 10
#define SB_POSTPONED_RETRY_MS 1000
#define SB_POSTPONED_SHARE 20

/* The current look at all pipelines. */
static struct
{
	List *closed_ids;   /* in TopMemoryContext */
	List *previous_ids; /* of the look before */
	bool any;
	int waited_ms;                /* for locks that were not to be had */
	pg_atomic_uint32 *generation; /* of the catalog ... */
	uint32 seen;                  /* ... when it began */
	TimestampTz least_until;      /* of sb_postponed_until() */
	TimestampTz next;             /* when to look again */
} look = {.next = DT_NOEND};

typedef struct SbAttempt
{
	void (*fn)(void *arg);
	void *arg;
} SbAttempt;

void
sb_postponed_begin(pg_atomic_uint32 *generation)
{
	look.generation = generation;
	look.seen = pg_atomic_read_u32(look.generation);
	list_free(look.previous_ids);
	look.previous_ids = look.closed_ids;
	look.closed_ids = NIL;
	look.any = false;
	look.waited_ms = 0;
	look.least_until = DT_NOEND;
	sb_limit_begin_whole();
}

static int
postponed_wait(void)
{
	return look.waited_ms == 0 ? SB_POSTPONED_WAIT_MS : SB_POSTPONED_SHORT_WAIT_MS;
}

static void
postponed_attempt(void *arg)
{
	SbAttempt *attempt = arg;
	int level = NewGUCNestLevel();
	char timeout[32];

	snprintf(timeout, sizeof(timeout), "%d", postponed_wait());
	(void) set_config_option("lock_timeout", timeout, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
	                         true, 0, false);
	attempt->fn(attempt->arg);
	AtEOXact_GUC(true, level);
}

bool
sb_postponed_try(void (*fn)(void *arg), void *arg, ErrorData **error)
{
	SbAttempt attempt = {.fn = fn, .arg = arg};

	bool begun = sb_limit_begin();
	bool done = sb_try(postponed_attempt, &attempt, error);

	if (!done && (*error)->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		look.waited_ms += postponed_wait();
	sb_limit_end(begun);
	return done;
}

static void
postponed_close(int32 pipeline)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	look.closed_ids = lappend_int(look.closed_ids, pipeline);
	MemoryContextSwitchTo(old);
}

void
sb_postponed_add(int32 pipeline, bool closed)
{
	look.any = true;
	if (closed)
		postponed_close(pipeline);
}

bool
sb_postponed_try_or_add(void (*fn)(void *arg), void *arg, int32 pipeline, bool closed)
{
	ErrorData *error;

	if (sb_postponed_try(fn, arg, &error))
		return true;
	if (!sb_error_is_transient(error->sqlerrcode))
		ReThrowError(error);
	FreeErrorData(error);
	sb_postponed_add(pipeline, closed);
	return false;
}

void
sb_postponed_until(int32 pipeline, TimestampTz at)
{
	postponed_close(pipeline);
	look.least_until = Min(look.least_until, at);
}

bool
sb_postponed_is_stale(void)
{
	return pg_atomic_read_u32(look.generation) != look.seen;
}

bool
sb_postponed_was(int32 pipeline)
{
	return list_member_int(look.previous_ids, pipeline);
}

void
sb_postponed_end(SbDatabase *db)
{
	ListCell *lc;

	look.next = look.any
	                ? Min(look.least_until,
	                      TimestampTzPlusMilliseconds(sb_clock_now(),
	                                                  Max(SB_POSTPONED_RETRY_MS,
	                                                      look.waited_ms * SB_POSTPONED_SHARE)))
	                : look.least_until;
	if (db == NULL || (look.closed_ids == NIL && look.previous_ids == NIL))
		return;
	LWLockAcquire(sb_registry->lock, LW_EXCLUSIVE);
	db->npostponed = 0;
	foreach (lc, look.closed_ids)
	{
		if (db->npostponed < SB_MAX_POSTPONED)
			db->postponed[db->npostponed] = lfirst_int(lc);
		db->npostponed++;
	}
	LWLockRelease(sb_registry->lock);
}

TimestampTz
sb_postponed_next(void)
{
	return look.next;
}
