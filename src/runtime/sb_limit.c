/*
 * sb_limit.c: limits of time and of waiting for locks; see sb_limit.h.
 *
 * A timer ticks while a bundle is run, ten times within the limit. Each tick looks whether the same part is at work as at the last one: so that
 * a part costs a count, and a bundle two calls of the timer.
 */
#include "postgres.h"

#include "base/sb_guc.h"
#include "miscadmin.h"
#include "runtime/sb_limit.h"
#include "runtime/sb_lock.h"
#include "runtime/sb_work.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#define SB_TICKS 10
/* After the limit, of code that does not end when it is cancelled. */
#define SB_LAST_CANCELS 3
#define SB_LAST_CANCEL_MS 1000

#define SB_NOT_CANCELLED "it took longer than stream_beam.pipeline_timeout, and could not be cancelled"

static TimeoutId timer;
static int lock_timeout_ms = -1;
static volatile sig_atomic_t running;
static volatile sig_atomic_t exceeded;
static volatile uint32 part; /* at work at the last tick */
static volatile int ticks;   /* since it is */
static volatile int cancels; /* since it was cancelled first */
static volatile int tick_ms;

static void
limit_cancel(void)
{
	exceeded = true;
	InterruptPending = true;
	if (++cancels > SB_LAST_CANCELS)
	{
		/* of a signal handler: no more than stores */
		memcpy(sb_work->text, SB_NOT_CANCELLED, sizeof(SB_NOT_CANCELLED));
		sb_work->failed = true;
		ProcDiePending = true;
	}
	else
		QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
limit_tick(void)
{
	if (!running || !sb_work_is_of_pipeline(sb_work->kind) || part != sb_work->part)
	{
		part = sb_work->part;
		ticks = cancels = 0;
		return;
	}
	if (++ticks < SB_TICKS)
		return;
	/* at the limit, and then every second or so */
	if ((ticks - SB_TICKS) % Max(1, SB_LAST_CANCEL_MS / Max(tick_ms, 1)) == 0)
		limit_cancel();
}

void
sb_limit_install(void)
{
	char value[32];

	timer = RegisterTimeout(USER_TIMEOUT, limit_tick);
	snprintf(value, sizeof(value), "%d", SB_LOCK_DEADLOCK_MS);
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

bool
sb_limit_begin(void)
{
	if (sb_guc_pipeline_timeout_ms == 0 || running)
		return false;
	exceeded = false;
	tick_ms = Max(1, sb_guc_pipeline_timeout_ms / SB_TICKS);
	part = sb_work->part;
	ticks = cancels = 0;
	running = true;
	enable_timeout_every(timer, TimestampTzPlusMilliseconds(GetCurrentTimestamp(), tick_ms), tick_ms);
	return true;
}

void
sb_limit_end(bool begun)
{
	if (!begun)
		return;
	running = false;
	disable_timeout(timer, false);
}

bool
sb_limit_is_cause(const ErrorData *error)
{
	bool timed_out = exceeded && error->sqlerrcode == ERRCODE_QUERY_CANCELED;

	exceeded = false;
	/* a function of the user's may raise this code, or say NOWAIT: that is its own affair */
	return timed_out || (error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE && error->funcname && strcmp(error->funcname, "ProcessInterrupts") == 0);
}
