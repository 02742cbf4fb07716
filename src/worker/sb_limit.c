/*
 * sb_limit.c: limits of time and of waiting for locks; see sb_limit.h.
 *
 * A timer ticks while a bundle is run, twenty times within the limit, and looks how long the part
 * at work takes: so a part costs two looks at the clock, and a bundle two calls of the timer.
 */
#include "postgres.h"

#include "base/sb_guc.h"
#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "worker/sb_limit.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/* deadlock_timeout: a worker gives way (sb_lock.h) */
#define SB_LIMIT_DEADLOCK_MS 10
#define SB_LIMIT_TICKS 20
/* What a row may take, of a part that has many. */
#define SB_LIMIT_ROW_US 10
/* Of the limit, whatever the owner's other pipelines have had. */
#define SB_LIMIT_LEAST 20
/* Of the limit: less is no stall. Of the time that passes: by so much stalls are forgotten. */
#define SB_LIMIT_STALL 20
/* In the second lane for so long, for each time the limit beyond the second. */
#define SB_LIMIT_STAY_MS 10000
#define SB_LIMIT_STAY_MOST 6
/* After the limit, of code that does not end when it is cancelled. */
#define SB_LAST_CANCELS 3
#define SB_LAST_CANCEL_US USECS_PER_SEC

#define SB_NOT_CANCELLED \
	"it took longer than stream_beam.pipeline_timeout, and could not be cancelled"

struct SbLimitAccount
{
	Oid owner;
	uint32 bundle;     /* that these are about: */
	int64 overtime_us; /* of all its pipelines */
	int64 waited_ms;   /* for locks that were not to be had */
	int64 stalls_us;   /* that are not forgotten ... */
	TimestampTz at;    /* ... as of then */
};

/* One that stalls the others again and again. */
typedef struct SbLimitStay
{
	int32 pipeline;
	TimestampTz until;
} SbLimitStay;

static TimeoutId timer_id;
static int lock_timeout_ms = -1;

static struct
{
	bool shared;    /* the time is for all parts of a bundle together */
	uint32 bundle;  /* counts them, and looks */
	List *accounts; /* in TopMemoryContext, as what is next */
	List *stays;
	SbLimitShare *current; /* whose part it is; NULL: nobody's */
	bool alone;            /* ... which has the limit to itself */
} limits;

/* What the timer looks at: of the part that is at work. */
static struct
{
	volatile sig_atomic_t running;
	volatile sig_atomic_t exceeded;
	volatile uint32 part; /* whose numbers these are (sb_work.h) */
	volatile TimestampTz part_at;
	volatile int64 part_rows;
	volatile int64 had_us;     /* before this part */
	volatile int64 allowed_us; /* with it */
	volatile int cancels;
	volatile TimestampTz cancelled_at;
} timer;

static int64
limit_us(void)
{
	return (int64) sb_guc_pipeline_timeout_ms * 1000;
}

/* ---- the timer ---- */

static void
limit_cancel(void)
{
	timer.exceeded = true;
	InterruptPending = true;
	if (++timer.cancels > SB_LAST_CANCELS)
	{
		/* of a signal handler: no more than stores */
		memcpy(sb_work->text, SB_NOT_CANCELLED, sizeof(SB_NOT_CANCELLED));
		sb_work->failed = sb_work->stubborn = true;
		ProcDiePending = true;
	}
	else
		QueryCancelPending = true;
	SetLatch(MyLatch);
}

static int64
limit_overtime(TimestampTz now)
{
	return Max(0, now - timer.part_at - timer.part_rows * SB_LIMIT_ROW_US);
}

static void
limit_tick(void)
{
	TimestampTz now;

	if (!timer.running || !sb_work_is_of_pipeline(sb_work->kind) || timer.part != sb_work->part)
		return;
	now = GetCurrentTimestamp();
	if (timer.had_us + limit_overtime(now) < timer.allowed_us ||
	    (timer.cancels > 0 && now - timer.cancelled_at < SB_LAST_CANCEL_US))
		return;
	timer.cancelled_at = now;
	limit_cancel();
}

void
sb_limit_install(bool first_lane)
{
	char value[32];

	limits.shared = first_lane;

	timer_id = RegisterTimeout(USER_TIMEOUT, limit_tick);
	snprintf(value, sizeof(value), "%d", SB_LIMIT_DEADLOCK_MS);
	SetConfigOption("deadlock_timeout", value, PGC_SUSET, PGC_S_SESSION);
	sb_limit_refresh();
}

void
sb_limit_refresh(void)
{
	char value[32];

	if (lock_timeout_ms == sb_guc_lock_timeout_ms)
		return;
	lock_timeout_ms = sb_guc_lock_timeout_ms;
	snprintf(value, sizeof(value), "%d", lock_timeout_ms);
	SetConfigOption("lock_timeout", value, PGC_SUSET, PGC_S_SESSION);
}

/* ---- accounts ---- */

SbLimitAccount *
sb_limit_account(Oid owner)
{
	MemoryContext old;
	SbLimitAccount *account;
	ListCell *lc;

	foreach (lc, limits.accounts)
	{
		account = lfirst(lc);
		if (account->owner == owner)
			return account;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	account = palloc0(sizeof(SbLimitAccount));
	account->owner = owner;
	limits.accounts = lappend(limits.accounts, account);
	MemoryContextSwitchTo(old);
	return account;
}

/* As of this bundle. */
static SbLimitAccount *
limit_look_up(SbLimitShare *share)
{
	SbLimitAccount *account = share->account;

	if (share->bundle != limits.bundle)
		*share = (SbLimitShare){.account = account, .bundle = limits.bundle};
	if (account->bundle != limits.bundle)
	{
		account->bundle = limits.bundle;
		account->overtime_us = account->waited_ms = 0;
	}
	return account;
}

/* ---- parts ---- */

void
sb_limit_begin_whole(void)
{
	limits.bundle++;
}

bool
sb_limit_begin(void)
{
	int tick_ms = Max(1, sb_guc_pipeline_timeout_ms / SB_LIMIT_TICKS);

	if (sb_guc_pipeline_timeout_ms == 0 || timer.running)
		return false;
	limits.current = NULL;
	timer.part = sb_work->part - 1;
	timer.exceeded = false;
	timer.running = true;
	enable_timeout_every(timer_id, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), tick_ms),
	                     tick_ms);
	return true;
}

void
sb_limit_end(bool begun)
{
	if (!begun)
		return;
	sb_limit_rest();
	timer.running = false;
	disable_timeout(timer_id, false);
}

/*
 * The plain variable: the setting is undone by aborts, and this is not. What is tried for a moment
 * (sb_postponed.h) has set less.
 */
static void
limit_set_lock_timeout(const SbLimitAccount *account)
{
	if (lock_timeout_ms > 0)
		LockTimeout = Min(LockTimeout, Max(lock_timeout_ms - account->waited_ms,
		                                   Max(1, lock_timeout_ms / SB_LIMIT_LEAST)));
}

void
sb_limit_rest(void)
{
	SbLimitAccount *account;
	int64 overtime;

	if (limits.current == NULL)
		return;
	account = limit_look_up(limits.current);
	overtime = limits.alone ? 0 : limit_overtime(GetCurrentTimestamp());
	limits.current->run_us += overtime;
	limits.current->bundle_us += overtime;
	account->overtime_us += overtime;
	if (lock_timeout_ms > 0)
		LockTimeout = lock_timeout_ms;
	limits.current = NULL;
}

void
sb_limit_part(SbLimitShare *share, bool alone)
{
	SbLimitAccount *account;

	if (!timer.running)
		return;
	sb_limit_rest();
	account = limit_look_up(share);
	limits.current = share;
	limits.alone = alone || !limits.shared;
	timer.part_at = GetCurrentTimestamp();
	timer.part_rows = 0;
	timer.had_us = limits.alone ? 0 : share->run_us;
	timer.allowed_us = limits.alone ? limit_us()
	                                : Max(limit_us() - (account->overtime_us - share->run_us),
	                                      limit_us() / SB_LIMIT_LEAST);
	timer.cancels = 0;
	timer.part = sb_work->part;
	limit_set_lock_timeout(account);
}

void
sb_limit_again(SbLimitShare *share)
{
	(void) limit_look_up(share);
	share->run_us = 0;
}

void
sb_limit_rows(int n)
{
	timer.part_rows += n;
}

/* A function of the user's may say NOWAIT: that is its own affair. */
static bool
limit_is_of_lock(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && error->funcname &&
	       strcmp(error->funcname, "ProcessInterrupts") == 0;
}

bool
sb_limit_is_cause(const ErrorData *error)
{
	bool timed_out = timer.exceeded && error->sqlerrcode == ERRCODE_QUERY_CANCELED;

	timer.exceeded = false;
	return timed_out || limit_is_of_lock(error);
}

void
sb_limit_waited(const ErrorData *error)
{
	if (limits.current && limit_is_of_lock(error))
		limit_look_up(limits.current)->waited_ms += LockTimeout;
}

/* ---- stalls ---- */

static void
limit_forget_stays(int32 pipeline, TimestampTz now)
{
	ListCell *lc;

	foreach (lc, limits.stays)
	{
		SbLimitStay *stay = lfirst(lc);

		if (stay->pipeline != pipeline && stay->until > now)
			continue;
		limits.stays = foreach_delete_current(limits.stays, lc);
		pfree(stay);
	}
}

static void
limit_add_stay(int32 pipeline, TimestampTz now, TimestampTz until)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	SbLimitStay *stay = palloc(sizeof(SbLimitStay));

	limit_forget_stays(pipeline, now);
	*stay = (SbLimitStay){.pipeline = pipeline, .until = until};
	limits.stays = lappend(limits.stays, stay);
	MemoryContextSwitchTo(old);
}

bool
sb_limit_settle(SbLimitShare *share, int32 pipeline)
{
	SbLimitAccount *account = share->account;
	TimestampTz now;
	double times;

	if (share->bundle != limits.bundle || limit_us() == 0 ||
	    share->bundle_us < limit_us() / SB_LIMIT_STALL)
		return false;
	now = sb_clock_now();
	account->stalls_us =
	    Max(0, account->stalls_us - (now - account->at) / SB_LIMIT_STALL) + share->bundle_us;
	account->at = now;
	times = Min((double) account->stalls_us / limit_us() - 2, SB_LIMIT_STAY_MOST);
	if (times > 0)
		limit_add_stay(pipeline, now,
		               TimestampTzPlusMilliseconds(now, (int) (times * SB_LIMIT_STAY_MS)));
	return account->stalls_us > limit_us();
}

TimestampTz
sb_limit_stays_until(int32 pipeline)
{
	ListCell *lc;

	foreach (lc, limits.stays)
	{
		const SbLimitStay *stay = lfirst(lc);

		if (stay->pipeline == pipeline)
			return stay->until;
	}
	return 0;
}
