/*
 * sb_reduce.h: the life of a cell, which is what a pipeline retains for one (key, window).
 *
 * The engine knows windows, triggers, panes, holds and timers. It knows no rows, no accumulators,
 * no tables and no clock: the caller keeps the accumulators beside the cell and clears, combines or
 * emits them when told so here.
 *
 * RULES (SEMANTICS 4). For one bundle the caller
 *   1. for merging windows: collects the proto-windows of all elements and the active windows of
 *      the key, asks sb_window_merge() for the result and calls sb_reduce_merge() where several
 *      active cells become one;
 *   2. for each element and window: if sb_reduce_expired() the pair is late ("expired"); if
 *      sb_reduce_closed() it is late ("closed"); otherwise sb_reduce_add(), and the caller adds to
 *      the accumulators;
 *   3. after the bundle: sb_reduce_fire() once for each cell touched;
 *   4. when clocks moved: sb_reduce_timer() for each cell whose timer is due (strictly: timer <
 *      clock), in the order of the timers, then sb_clocks_advance_output(). A cell's event timer
 *      depends on the clocks: it is asked for whenever the cell was touched, with the clocks of
 *      that moment, and retained until it is due.
 */
#ifndef SB_REDUCE_H
#define SB_REDUCE_H

#include "postgres.h"
#include "engine/sb_trigger.h"
#include "engine/sb_window.h"
#include "lib/stringinfo.h"

typedef enum SbAccumulation
{
	SB_ACCUMULATING,
	SB_DISCARDING,
	SB_RETRACTING
} SbAccumulation;

typedef enum SbTimestampCombiner
{
	SB_COMBINE_END_OF_WINDOW,
	SB_COMBINE_EARLIEST,
	SB_COMBINE_LATEST
} SbTimestampCombiner;

typedef enum SbPaneTiming
{
	SB_PANE_EARLY,
	SB_PANE_ON_TIME,
	SB_PANE_LATE
} SbPaneTiming;

/* How a pipeline windows: immutable after creation. */
typedef struct SbStrategy
{
	const SbTrigger *trigger;
	bool merging;              /* its windows merge */
	int64 allowed_lateness_us; /* >= 0; SB_LATE_FOR_EVER: no limit */
	SbAccumulation accumulation;
	SbTimestampCombiner combiner;
	bool on_time_always; /* an ON_TIME pane is emitted even if empty (Beam's default: true) */
	bool closing_always; /* a last pane is emitted even if empty (Beam's default: false) */
} SbStrategy;

typedef struct SbClocks
{
	TimestampTz input_watermark;  /* never goes back */
	TimestampTz output_watermark; /* never goes back, never passes a hold */
	TimestampTz processing_time;
} SbClocks;

typedef struct SbPane
{
	SbPaneTiming timing;
	int64 index;
	int64 nonspeculative_index; /* -1 while EARLY */
	bool is_first;
	bool is_last;
	TimestampTz timestamp;
	int64 elements; /* elements added since the previous pane */
} SbPane;

/*
 * The engine's part of a cell. Size: sb_cell_size(). Plain memory: may be copied, moved, and freed
 * without a call.
 */
typedef struct SbCell
{
	SbWindow window;
	int64 pane_elements; /* since the last pane; a merge sums it */
	/* of the last pane emitted; -1: none. A merged window starts again at none. */
	int64 last_index;
	int64 last_ns_index;    /* nonspeculative index of the last pane; -1: none */
	TimestampTz hold;       /* element hold, or SB_TIME_MAX: none; cleared when a pane fires */
	uint8 flags;            /* SB_CELL_*, private to the engine */
	SbTriggerState trigger; /* last: variable size */
} SbCell;

static inline Size
sb_cell_size(const SbStrategy *strategy)
{
	return offsetof(SbCell, trigger) + offsetof(SbTriggerState, slots) +
	       sizeof(int64) * sb_trigger_slots(strategy->trigger);
}

extern void sb_cell_init(const SbStrategy *strategy, SbCell *cell, SbWindow window);
/*
 * Compact, versioned and portable bytes for the state table. The window is not in them: the table
 * has it in columns.
 */
extern void sb_cell_encode(const SbStrategy *strategy, const SbCell *cell, StringInfo out);
/*
 * Reads what encode wrote from *data, moves *data on; never reads past `end` (error
 * ERRCODE_DATA_CORRUPTED).
 */
extern void sb_cell_decode(const SbStrategy *strategy, SbCell *cell, SbWindow window,
                           const char **data, const char *end);

static inline bool
sb_reduce_expired(const SbStrategy *strategy, const SbClocks *clocks, SbWindow window)
{
	return sb_window_gc_time(window, strategy->allowed_lateness_us) < clocks->input_watermark;
}

extern bool sb_reduce_closed(const SbCell *cell);
/* Precondition: neither expired nor closed. Per element: this is the hot path. */
extern void sb_reduce_add(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
                          TimestampTz timestamp);
/*
 * An element of a window that was taken apart comes into what is left of it, or of one that is
 * computed anew into its new cell, as if it had come now, also where the window has expired.
 * Precondition: not closed. The window may have expired, which the larger one had not: then the
 * next timer collects it, with its pane.
 */
extern void sb_reduce_move(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
                           TimestampTz timestamp);
/*
 * End of bundle: true: a pane is to be emitted, *pane says which. With SB_DISCARDING the caller
 * clears its accumulators then.
 */
/* False, too, if an empty pane was left out; the cell may be closed then. */
extern bool sb_reduce_fire(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
                           SbPane *pane);

#define SB_TIMER_EMIT 1    /* emit *pane (and clear, when discarding) */
#define SB_TIMER_COLLECT 2 /* the window is past gc_time: forget the cell, all of it */
/* Changes the cell also where it says 0: a timer that is done is not due again. */
extern int sb_reduce_timer(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
                           SbPane *pane);

/*
 * When the cell next wants sb_reduce_timer(): fires when the clock is strictly greater.
 * SB_TIME_MAX: never.
 */
extern TimestampTz sb_reduce_event_timer(const SbStrategy *strategy, const SbClocks *clocks,
                                         const SbCell *cell);
extern TimestampTz sb_reduce_processing_timer(const SbStrategy *strategy, const SbCell *cell);
/* the earliest hold of the cell on the output watermark, or SB_TIME_MAX */
extern TimestampTz sb_reduce_hold(const SbStrategy *strategy, const SbCell *cell);

/*
 * Makes `into` (uninitialised memory of sb_cell_size) the merge of n >= 1 active cells, for the
 * window `window`. The caller combines the accumulators and forgets the sources.
 */
extern void sb_reduce_merge(const SbStrategy *strategy, const SbClocks *clocks, SbCell *into,
                            SbWindow window, SbCell *const *from, int n);

/*
 * output = max(itself, min(input watermark, earliest hold)): call after all due timers have fired
 */
extern void sb_clocks_advance_output(SbClocks *clocks, TimestampTz earliest_hold);

/*
 * Merging (session) windows: sorts windows[0..n) by start and joins those that strictly overlap
 * (a.end > b.start); touching ones stay apart. Returns how many are left at the front of the array.
 */
extern int sb_window_merge(SbWindow *windows, int n);

#endif
