/*
 * sb_cells_range.c: all cells of a range of windows at once; see sb_cells.h.
 */
#include "postgres.h"

#include "state/sb_cells_private.h"

void
sb_cells_clear(SbCells *cells, const SbWindowRange *range, bool inside)
{
	dlist_mutable_iter iter;

	if (sb_window_range_is_all(range) && !inside)
		return;
	(void) sb_cells_take_touched(cells);
	dlist_foreach_modify(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (sb_window_range_has(range, sb_cells_cell(cells, entry)->window) == inside)
			sb_entry_unlink(cells, entry);
	}
	sb_stored_forget(cells);
	if (!cells->in_memory)
		sb_state_clear(cells, range, inside);
	/* counted anew where something may be left */
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
	HASH_SEQ_STATUS scan;
	SbStoredWindow *stored;
	dlist_iter iter;

	sb_cells_know_stored(cells);
	dlist_foreach(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (sb_window_range_has(range, sb_cells_cell(cells, entry)->window))
			sb_entry_hasten(cells, entry, SB_TIME_MIN);
	}
	hash_seq_init(&scan, cells->stored);
	while ((stored = hash_seq_search(&scan)) != NULL)
	{
		if (sb_window_range_has(range, stored->window))
			sb_stored_add(cells, stored->window, 0, SB_TIME_MIN, SB_TIME_MAX, SB_TIME_MAX);
	}
}
