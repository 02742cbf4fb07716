/*
 * sb_pane.c: a pane's timing and numbers, and whether it is emitted.
 *
 * RULES. For each window EARLY* ON_TIME? LATE*, numbered without gaps: a pane that is not emitted
 * does not count.
 */
#include "postgres.h"
#include "engine/sb_pane.h"

static SbPaneTiming
sb_pane_timing(const SbClocks *clocks, const SbCell *cell, bool past_end)
{
	/*
	 * Downstream the pane is late if the output watermark has passed all timestamps that it could
	 * have.
	 */
	bool late_downstream = clocks->output_watermark > sb_window_max_timestamp(cell->window);
	bool only_early_so_far = cell->last_ns_index < 0;

	if (late_downstream || !only_early_so_far || past_end)
		return SB_PANE_LATE;
	return sb_cell_end_reached(clocks, cell) ? SB_PANE_ON_TIME : SB_PANE_EARLY;
}

void
sb_pane_next(const SbClocks *clocks, const SbCell *cell, bool is_last, bool past_end, SbPane *pane)
{
	pane->timing = sb_pane_timing(clocks, cell, past_end);
	pane->index = cell->last_index + 1;
	pane->nonspeculative_index = pane->timing == SB_PANE_EARLY ? -1 : cell->last_ns_index + 1;
	pane->is_first = cell->last_index < 0;
	pane->is_last = is_last;
	pane->elements = cell->pane_elements;
}

bool
sb_pane_is_emitted(const SbStrategy *strategy, const SbPane *pane)
{
	if (pane->elements > 0)
		return true;
	if (pane->timing == SB_PANE_ON_TIME && strategy->on_time_always)
		return true;
	return pane->is_last && strategy->closing_always;
}
