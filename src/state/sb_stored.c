/*
 * sb_stored.c: what is known of the cells that are only in the table: per window, how many and when
 * they are due; see sb_cells_private.h.
 */
#include "postgres.h"

#include "state/sb_cells_private.h"

/* When the window's cells are due, if they have been asked at the present watermark. */
TimestampTz
sb_stored_event_timer(const SbCells *cells, SbWindow window)
{
	TimestampTz max = sb_window_max_timestamp(window);

	return max >= cells->clocks->input_watermark
	           ? max
	           : sb_window_gc_time(window, cells->strategy->allowed_lateness_us);
}

void
sb_stored_add(SbCells *cells, SbWindow window, int64 count, TimestampTz event_timer,
              TimestampTz processing_timer, TimestampTz hold)
{
	bool found;
	SbStoredWindow *stored = hash_search(cells->stored, &window, HASH_ENTER, &found);

	if (!found)
	{
		stored->count = 0;
		stored->scanning = false;
		stored->event_timer = event_timer;
		stored->processing_timer = stored->hold = SB_TIME_MAX;
		pairingheap_add(cells->stored_heap, &stored->event_node);
	}
	else if (event_timer < stored->event_timer)
	{
		pairingheap_remove(cells->stored_heap, &stored->event_node);
		stored->event_timer = event_timer;
		pairingheap_add(cells->stored_heap, &stored->event_node);
	}
	stored->count += count;
	stored->processing_timer = Min(stored->processing_timer, processing_timer);
	stored->hold = Min(stored->hold, hold);
	cells->nstored += count;
	cells->stored_processing = Min(cells->stored_processing, processing_timer);
}

void
sb_stored_subtract(SbCells *cells, SbWindow window, int64 count)
{
	SbStoredWindow *stored = hash_search(cells->stored, &window, HASH_FIND, NULL);

	if (stored == NULL)
		return;
	stored->count -= count;
	cells->nstored -= count;
	if (stored->count <= 0 && !stored->scanning)
	{
		pairingheap_remove(cells->stored_heap, &stored->event_node);
		hash_search(cells->stored, &window, HASH_REMOVE, NULL);
	}
}

void
sb_stored_raise_processing(SbCells *cells, TimestampTz clock)
{
	HASH_SEQ_STATUS scan;
	SbStoredWindow *stored;

	cells->stored_processing = SB_TIME_MAX;
	hash_seq_init(&scan, cells->stored);
	while ((stored = hash_seq_search(&scan)) != NULL)
	{
		/*
		 * which of the window's later timers is the least is not known: it is looked for again a
		 * second later, while there is one
		 */
		if (stored->processing_timer < clock)
			stored->processing_timer = clock + USECS_PER_SEC;
		cells->stored_processing = Min(cells->stored_processing, stored->processing_timer);
	}
}

void
sb_cells_know_stored(SbCells *cells)
{
	if (cells->stored_known)
		return;
	sb_state_count(cells);
	cells->stored_known = true;
}

bool
sb_cells_maybe_stored(SbCells *cells, SbWindow window)
{
	Assert(cells->stored_known);
	if (cells->nstored == 0)
		return false;
	return cells->merging || hash_search(cells->stored, &window, HASH_FIND, NULL) != NULL;
}

void
sb_stored_forget(SbCells *cells)
{
	HASH_SEQ_STATUS scan;
	SbStoredWindow *stored;

	hash_seq_init(&scan, cells->stored);
	while ((stored = hash_seq_search(&scan)) != NULL)
		hash_search(cells->stored, &stored->window, HASH_REMOVE, NULL);
	pairingheap_reset(cells->stored_heap);
	cells->nstored = 0;
	cells->stored_processing = SB_TIME_MAX;
}

/* An element of the hash, its header, and its share of the buckets. */
#define SB_STORED_BYTES (MAXALIGN(sizeof(SbStoredWindow)) + 32)

Size
sb_cells_stored_bytes(const SbCells *cells)
{
	return hash_get_num_entries(cells->stored) * SB_STORED_BYTES;
}
