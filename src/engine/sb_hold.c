/*
 * sb_hold.c: holds on the output watermark, and the timestamp of a pane, which comes out of them.
 *
 * STATE. SbCell.hold is the element hold, SB_CELL_GC_HOLD the one at gc_time. Both are cleared when
 * a pane fires.
 */
#include "postgres.h"
#include "engine/sb_hold.h"

static TimestampTz
sb_hold_of_element(const SbStrategy *strategy, const SbCell *cell, TimestampTz timestamp)
{
	if (strategy->combiner == SB_COMBINE_END_OF_WINDOW)
		return sb_window_max_timestamp(cell->window);
	return timestamp;
}

/* Under the end_of_window combiner both are the same. */
static TimestampTz
sb_hold_combine(const SbStrategy *strategy, TimestampTz a, TimestampTz b)
{
	if (a == SB_TIME_MAX)
		return b;
	if (b == SB_TIME_MAX)
		return a;
	return strategy->combiner == SB_COMBINE_LATEST ? Max(a, b) : Min(a, b);
}

void
sb_hold_add_gc(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell)
{
	if (!sb_reduce_expired(strategy, clocks, cell->window))
		cell->flags |= SB_CELL_GC_HOLD;
}

/*
 * A hold where the output watermark has been already, or for a window that has ended, could hold
 * nothing; nor does an element without an event time (SB_TIME_MIN).
 */
void
sb_hold_add(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell, TimestampTz timestamp)
{
	TimestampTz hold = sb_hold_of_element(strategy, cell, timestamp);

	if (hold == SB_TIME_MIN || hold < clocks->output_watermark || sb_cell_end_reached(clocks, cell))
		sb_hold_add_gc(strategy, clocks, cell);
	else
		cell->hold = sb_hold_combine(strategy, cell->hold, hold);
}

TimestampTz
sb_hold_release(const SbStrategy *strategy, SbCell *cell)
{
	TimestampTz earliest = sb_reduce_hold(strategy, cell);

	cell->hold = SB_TIME_MAX;
	cell->flags &= ~SB_CELL_GC_HOLD;
	return Min(earliest, sb_window_max_timestamp(cell->window));
}

void
sb_hold_merge(const SbStrategy *strategy, const SbClocks *clocks, SbCell *into, SbCell *const *from,
              int n)
{
	TimestampTz hold = SB_TIME_MAX;
	uint8 flags = 0;

	for (int i = 0; i < n; i++)
	{
		hold = sb_hold_combine(strategy, hold, from[i]->hold);
		flags |= from[i]->flags;
	}
	if (strategy->combiner != SB_COMBINE_END_OF_WINDOW)
	{
		into->hold = hold;
		if (flags & SB_CELL_GC_HOLD)
			sb_hold_add_gc(strategy, clocks, into);
	}
	else if (hold != SB_TIME_MAX || (flags & SB_CELL_GC_HOLD))
	{
		/* The merged window ends later: what was late may be on time again. */
		sb_hold_add(strategy, clocks, into, into->window.start);
	}
}

TimestampTz
sb_reduce_hold(const SbStrategy *strategy, const SbCell *cell)
{
	TimestampTz gc_time;

	if (!(cell->flags & SB_CELL_GC_HOLD))
		return cell->hold;
	gc_time = sb_window_gc_time(cell->window, strategy->allowed_lateness_us);
	return Min(cell->hold, gc_time);
}
