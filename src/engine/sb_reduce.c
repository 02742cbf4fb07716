/*
 * sb_reduce.c: the life of a cell: elements come, panes go, windows merge, and in the end all is
 * collected.
 *
 * STATE. A cell is open, then closed (its trigger has finished; only the finished bits count from
 * there on), then collected. Either step may be left out. Panes are emitted, and cells closed, in
 * sb_reduce_emit() alone.
 */
#include "postgres.h"
#include "engine/sb_cell.h"
#include "engine/sb_hold.h"
#include "engine/sb_pane.h"
#include "engine/sb_trigger_node.h"

static inline SbTriggerRun
sb_reduce_run(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell)
{
	return (SbTriggerRun){
	    .trigger = strategy->trigger,
	    .state = &cell->trigger,
	    .merging = strategy->merging,
	    .end_reached = sb_cell_end_reached(clocks, cell),
	    .now = clocks->processing_time,
	};
}

void
sb_cell_init(const SbStrategy *strategy, SbCell *cell, SbWindow window)
{
	cell->window = window;
	cell->pane_elements = 0;
	cell->last_index = -1;
	cell->last_ns_index = -1;
	cell->hold = SB_TIME_MAX;
	cell->flags = 0;
	sb_trigger_state_init(strategy->trigger, &cell->trigger);
}

bool
sb_reduce_closed(const SbCell *cell)
{
	return (cell->flags & SB_CELL_CLOSED) != 0;
}

void
sb_reduce_add(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
              TimestampTz timestamp)
{
	Assert(!sb_reduce_expired(strategy, clocks, cell->window));
	sb_reduce_move(strategy, clocks, cell, timestamp);
}

void
sb_reduce_move(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
               TimestampTz timestamp)
{
	SbTriggerRun run = sb_reduce_run(strategy, clocks, cell);

	Assert(!sb_reduce_closed(cell));
	cell->pane_elements++;
	sb_hold_add(strategy, clocks, cell, timestamp);
	sb_trigger_on_element(&run, 0);
}

/* From here on the cell only remembers that it has finished. */
static void
sb_reduce_close(const SbTriggerRun *run, SbCell *cell)
{
	sb_trigger_clear(run, 0);
	cell->last_index = -1;
	cell->last_ns_index = -1;
	cell->flags |= SB_CELL_CLOSED;
}

/*
 * The pane is over: describes it in *pane and starts the next one. True: it is to be emitted.
 * `collecting`: the window has expired; this is its last pane, and the trigger does not fire. Where
 * nothing waits and nothing fires at the end, however far the watermark has moved at once, the end
 * has passed without an ON_TIME pane, and this one is LATE.
 */
static bool
sb_reduce_emit(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell, bool collecting,
               SbPane *pane)
{
	SbTriggerRun run = sb_reduce_run(strategy, clocks, cell);
	bool emitted;
	bool is_last = collecting;
	/* the end of the window has passed without a pane, or does so with this one */
	bool past_end = collecting && cell->pane_elements == 0 && !sb_trigger_ready(&run, 0);

	if (!collecting)
	{
		sb_trigger_fire(&run, 0);
		is_last = sb_trigger_is_finished(run.state, 0);
	}
	sb_pane_next(clocks, cell, is_last, past_end, pane);
	pane->timestamp = sb_hold_release(strategy, cell);
	cell->pane_elements = 0;
	emitted = sb_pane_is_emitted(strategy, pane);
	if (is_last)
		sb_reduce_close(&run, cell);
	else
	{
		if (emitted)
		{
			cell->last_index = pane->index;
			cell->last_ns_index = pane->nonspeculative_index;
		}
		if (strategy->closing_always)
			sb_hold_add_gc(strategy, clocks, cell);
	}
	return emitted;
}

static bool
sb_reduce_wants_pane(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell)
{
	SbTriggerRun run = sb_reduce_run(strategy, clocks, cell);

	return !sb_reduce_closed(cell) && sb_trigger_ready(&run, 0);
}

bool
sb_reduce_fire(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell, SbPane *pane)
{
	return sb_reduce_wants_pane(strategy, clocks, cell) &&
	       sb_reduce_emit(strategy, clocks, cell, false, pane);
}

int
sb_reduce_timer(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell, SbPane *pane)
{
	SbTriggerRun run = sb_reduce_run(strategy, clocks, cell);
	bool emitted;

	if (sb_reduce_expired(strategy, clocks, cell->window))
	{
		emitted = !sb_reduce_closed(cell) && sb_reduce_emit(strategy, clocks, cell, true, pane);
		return SB_TIMER_COLLECT | (emitted ? SB_TIMER_EMIT : 0);
	}
	emitted = sb_reduce_fire(strategy, clocks, cell, pane);
	sb_trigger_processing_timers_done(&run);
	return emitted ? SB_TIMER_EMIT : 0;
}

TimestampTz
sb_reduce_event_timer(const SbStrategy *strategy, const SbClocks *clocks, const SbCell *cell)
{
	/* Nothing happens to a closed cell at the end of its window. */
	if (!sb_reduce_closed(cell) && !sb_cell_end_reached(clocks, cell))
		return sb_window_max_timestamp(cell->window);
	return sb_window_gc_time(cell->window, strategy->allowed_lateness_us);
}

TimestampTz
sb_reduce_processing_timer(const SbStrategy *strategy, const SbCell *cell)
{
	return sb_trigger_processing_timer(strategy->trigger, &cell->trigger);
}

void
sb_reduce_merge(const SbStrategy *strategy, const SbClocks *clocks, SbCell *into, SbWindow window,
                SbCell *const *from, int n)
{
	SbTriggerRun run;
	const SbTriggerState **states;

	Assert(n >= 1);
	if (n == 1 && sb_window_equal(from[0]->window, window))
	{
		/* Not a new window: it has taken in proto-windows that lay within it. */
		memcpy(into, from[0], sb_cell_size(strategy));
		return;
	}
	sb_cell_init(strategy, into, window);
	states = palloc(sizeof(SbTriggerState *) * n);
	for (int i = 0; i < n; i++)
	{
		Assert(!sb_reduce_closed(from[i]));
		into->pane_elements += from[i]->pane_elements;
		states[i] = &from[i]->trigger;
	}
	run = sb_reduce_run(strategy, clocks, into);
	sb_trigger_merge(&run, 0, states, n);
	sb_hold_merge(strategy, clocks, into, from, n);
	pfree(states);
	/*
	 * `finished if any was` can finish nothing at the top: a finished root is a closed cell, and
	 * those do not take part.
	 */
	Assert(!sb_trigger_is_finished(run.state, 0));
}
