/*
 * sb_window_assign.h: which fixed-length windows an instant belongs to. Pure integer arithmetic.
 *
 * RULES. Lengths are in microseconds and positive; `origin` is an instant at which a window starts,
 * anywhere in time. All of it is right before the origin (floor, not truncation) and for every
 * int64: a window that int64 cannot hold is reported, never wrapped around.
 */
#ifndef SB_WINDOW_ASSIGN_H
#define SB_WINDOW_ASSIGN_H

#include "engine/sb_window.h"

/* 1970-01-01 00:00 UTC: what has no origin of its own is counted from there, as in Beam. */
#define SB_UNIX_EPOCH_US (-(int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* [start, start + size) with start <= timestamp. False: not representable. */
extern bool sb_window_tumble(TimestampTz timestamp, int64 size_us, int64 origin, SbWindow *window);

/* how many hopping windows an instant can be in */
extern int64 sb_window_hop_most(int64 size_us, int64 slide_us);

/*
 * All windows with start on the slide's grid and start <= timestamp < start + size, earliest first,
 * into windows[], which has room for sb_window_hop_most() of them. Returns how many (0: the instant
 * lies in a gap), or -1 if one is not representable.
 */
extern int sb_window_hop(TimestampTz timestamp, int64 size_us, int64 slide_us, int64 origin,
                         SbWindow *windows);

/*
 * The windows that share the start of the instant's tumbling window of `size` and end one, two, ...
 * steps after it, up to the size, and hold the instant; shortest first. `step` divides `size`;
 * windows[] has room for size / step. Returns as sb_window_hop.
 */
extern int sb_window_cumulate(TimestampTz timestamp, int64 size_us, int64 step_us, int64 origin,
                              SbWindow *windows);

/* *end = start + length; false: not representable */
extern bool sb_window_end(TimestampTz start, int64 length_us, TimestampTz *end);

#endif
