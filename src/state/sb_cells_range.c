/*
 * sb_cells_range.c: all cells of a range of windows at once; see sb_cells.h.
 */
#include "postgres.h"

#include "state/sb_cells_private.h"

void
sb_cells_clear(SbCells *cells, const SbWindowRange *range, bool inside)
{
	dlist_mutable_iter iter;
	int64 n = 0;

	if (sb_window_range_is_all(range) && !inside)
		return;
	(void) sb_cells_take_touched(cells);
	dlist_foreach_modify(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (sb_window_range_has(range, sb_cells_cell(cells, entry)->window) != inside)
			continue;
		sb_entry_unlink(cells, entry);
		n++;
	}
	sb_stored_forget(cells);
	/* all of them are written */
	if (!cells->in_memory)
		n = sb_state_clear(cells, range, inside);
	cells->count -= n;
	cells->evicted = false;
	/* looked at where something may be left */
	cells->stored_known = cells->in_memory || sb_window_range_is_all(range);
	sb_cells_know_stored(cells);
}

void
sb_cells_untouch(SbCells *cells)
{
	for (SbEntry *entry = sb_cells_take_touched(cells); entry; entry = entry->next_touched)
		sb_cells_set_timers(cells, entry, false);
}

void
sb_cells_hasten(SbCells *cells, const SbWindowRange *range)
{
	dlist_iter iter;

	sb_cells_know_stored(cells);
	dlist_foreach(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (sb_window_range_has(range, sb_cells_cell(cells, entry)->window))
			sb_entry_hasten(cells, entry, SB_TIME_MIN);
	}
	sb_stored_hasten(cells, range);
}
