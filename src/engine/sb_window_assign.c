/*
 * sb_window_assign.c: which fixed-length windows an instant belongs to.
 *
 * No sum or difference below is formed before it is known to fit: instants near both ends of int64
 * are ordinary input here, because a window's size is not bounded by anything.
 */
#include "postgres.h"

#include "engine/sb_window_assign.h"

/* a mod n in [0, n), for n > 0 */
static inline int64
floor_mod(int64 a, int64 n)
{
	int64 rest = a % n;

	return rest < 0 ? rest + n : rest;
}

/* How far the instant lies behind the grid's last point: in [0, length). */
static inline int64
since_grid(TimestampTz timestamp, int64 length, int64 origin)
{
	int64 rest = floor_mod(timestamp, length) - floor_mod(origin, length);

	return rest < 0 ? rest + length : rest;
}

/*
 * *start = the last instant <= timestamp that is a whole number of lengths from the origin. False:
 * it lies below int64.
 */
static bool
window_floor(TimestampTz timestamp, int64 length_us, int64 origin, TimestampTz *start)
{
	int64 since = since_grid(timestamp, length_us, origin);

	if (timestamp < PG_INT64_MIN + since)
		return false;
	*start = timestamp - since;
	return true;
}

bool
sb_window_end(TimestampTz start, int64 length_us, TimestampTz *end)
{
	if (start > PG_INT64_MAX - length_us)
		return false;
	*end = start + length_us;
	return true;
}

bool
sb_window_tumble(TimestampTz timestamp, int64 size_us, int64 origin, SbWindow *window)
{
	return window_floor(timestamp, size_us, origin, &window->start) &&
	       sb_window_end(window->start, size_us, &window->end);
}

int64
sb_window_hop_most(int64 size_us, int64 slide_us)
{
	return (size_us - 1) / slide_us + 1;
}

int
sb_window_hop(TimestampTz timestamp, int64 size_us, int64 slide_us, int64 origin, SbWindow *windows)
{
	int64 since = since_grid(timestamp, slide_us, origin);
	int64 count;
	int64 oldest;

	if (since >= size_us)
		return 0;
	count = (size_us - 1 - since) / slide_us + 1;
	/* at most size - 1, so it cannot overflow */
	oldest = since + (count - 1) * slide_us;
	if (timestamp < PG_INT64_MIN + oldest || timestamp - since > PG_INT64_MAX - size_us)
		return -1;
	for (int64 i = 0; i < count; i++)
	{
		windows[i].start = timestamp - oldest + i * slide_us;
		windows[i].end = windows[i].start + size_us;
	}
	return (int) count;
}

int
sb_window_cumulate(TimestampTz timestamp, int64 size_us, int64 step_us, int64 origin,
                   SbWindow *windows)
{
	SbWindow whole;
	int64 first;
	int64 count;

	if (!sb_window_tumble(timestamp, size_us, origin, &whole))
		return -1;
	first = (timestamp - whole.start) / step_us;
	count = size_us / step_us - first;
	for (int64 i = 0; i < count; i++)
	{
		windows[i].start = whole.start;
		windows[i].end = whole.start + (first + i + 1) * step_us;
	}
	return (int) count;
}
