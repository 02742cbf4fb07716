/*
 * sb_window.h: windows, and the pure part of window assignment.
 *
 * A window is [start, end) in int64 microseconds (TimestampTz). MIN and MAX are the watermark's
 * infinities.
 */
#ifndef SB_WINDOW_H
#define SB_WINDOW_H

#include "postgres.h"
#include "datatype/timestamp.h"

#define SB_TIME_MIN PG_INT64_MIN /* -infinity */
#define SB_TIME_MAX PG_INT64_MAX /* infinity */

typedef struct SbWindow
{
	TimestampTz start;
	TimestampTz end;
} SbWindow;

typedef enum SbWindowKind
{
	SB_WINDOW_GLOBAL,
	SB_WINDOW_TUMBLE,
	SB_WINDOW_HOP,
	SB_WINDOW_CUMULATE,
	SB_WINDOW_SESSION,
	SB_WINDOW_CALENDAR,
	SB_WINDOW_CUSTOM
} SbWindowKind;

/*
 * The last instant that belongs to the window. End of window is reached when the watermark is
 * strictly greater.
 */
static inline TimestampTz
sb_window_max_timestamp(SbWindow window)
{
	return window.end - 1;
}

static inline bool
sb_window_equal(SbWindow a, SbWindow b)
{
	return a.start == b.start && a.end == b.end;
}

/* The windows that start in [lo, hi) and end after `from`. */
typedef struct SbWindowRange
{
	TimestampTz from, lo, hi;
} SbWindowRange;

#define SB_ALL_WINDOWS ((SbWindowRange){.from = SB_TIME_MIN, .lo = SB_TIME_MIN, .hi = SB_TIME_MAX})

static inline bool
sb_window_range_has(const SbWindowRange *range, SbWindow window)
{
	return window.start >= range->lo && window.start < range->hi && window.end > range->from;
}

static inline bool
sb_window_range_is_all(const SbWindowRange *range)
{
	return range->lo == SB_TIME_MIN && range->hi == SB_TIME_MAX && range->from == SB_TIME_MIN;
}

/* A lateness without limit. */
#define SB_LATE_FOR_EVER PG_INT64_MAX

/*
 * min(max_timestamp + allowed_lateness, MAX - 1), without overflow: with the watermark at the end
 * of time every window has expired.
 */
static inline TimestampTz
sb_window_gc_time(SbWindow window, int64 allowed_lateness_us)
{
	TimestampTz max = sb_window_max_timestamp(window);

	if (allowed_lateness_us == SB_LATE_FOR_EVER || max >= SB_TIME_MAX - 1 - allowed_lateness_us)
		return SB_TIME_MAX - 1;
	return max + allowed_lateness_us;
}

#endif
