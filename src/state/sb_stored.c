/*
 * sb_stored.c: what is known of the cells that are only in the table; see sb_cells_private.h.
 *
 * MEMORY. It does not grow with the number of stored cells: the least and the greatest end of a
 * window in the table, a filter of fixed size, the next timer of each kind. When a stored cell
 * wants to be asked follows from the end of its window, by which the table is sorted, or is in an
 * index of its own. Only windows that hold the output watermark are remembered one by one.
 *
 * RULES. A cell that is in the table and not in memory has a window whose end is within
 * [stored_low, stored_high], or the filter has its window. The bounds are those of the table when
 * it was last looked at. What has come into the table since is in memory, or has left it through
 * sb_stored_left().
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "common/int.h"
#include "state/sb_cells_private.h"
#include "utils/memutils.h"

/* ---- the filter ---- */

/* With so many windows one of fifty others is taken for one of them. */
#define SB_FILTER_BITS (1 << 19)
#define SB_FILTER_WINDOWS (SB_FILTER_BITS / 8)

struct SbStoredFilter
{
	int64 windows; /* added */
	TimestampTz low, high;
	uint8 bits[SB_FILTER_BITS / 8];
};

/* Two of its bits. */
static void
filter_places(SbWindow window, uint32 places[2])
{
	uint64 hash = hash_bytes_extended((unsigned char *) &window, sizeof(window), 0);

	places[0] = (uint32) hash % SB_FILTER_BITS;
	places[1] = (uint32) (hash >> 32) % SB_FILTER_BITS;
}

static bool
filter_has(const SbStoredFilter *filter, SbWindow window)
{
	uint32 places[2];

	filter_places(window, places);
	return (filter->bits[places[0] / 8] >> places[0] % 8 & 1) &&
	       (filter->bits[places[1] / 8] >> places[1] % 8 & 1);
}

/* A full one is emptied: all between its windows may be stored from now on. */
static void
filter_add(SbCells *cells, SbWindow window)
{
	SbStoredFilter *filter = cells->filter;
	uint32 places[2];

	if (filter && filter->windows >= SB_FILTER_WINDOWS)
	{
		cells->stored_low = Min(cells->stored_low, filter->low);
		cells->stored_high = Max(cells->stored_high, filter->high);
		pfree(filter);
		filter = cells->filter = NULL;
	}
	if (filter == NULL)
	{
		filter = cells->filter = MemoryContextAllocZero(cells->context, sizeof(SbStoredFilter));
		filter->low = filter->high = window.end;
	}
	if (filter_has(filter, window))
		return;
	filter_places(window, places);
	filter->bits[places[0] / 8] |= 1 << places[0] % 8;
	filter->bits[places[1] / 8] |= 1 << places[1] % 8;
	filter->low = Min(filter->low, window.end);
	filter->high = Max(filter->high, window.end);
	filter->windows++;
}

/* ---- windows that hold the output watermark ---- */

void
sb_stored_add_hold(SbCells *cells, SbWindow window, int64 count, TimestampTz hold)
{
	bool found;
	SbHoldingWindow *holding = hash_search(cells->holding, &window, HASH_ENTER, &found);

	if (!found)
	{
		holding->count = 0;
		holding->hold = SB_TIME_MAX;
	}
	holding->count += count;
	holding->hold = Min(holding->hold, hold);
}

static void
stored_subtract_hold(SbCells *cells, SbWindow window)
{
	SbHoldingWindow *holding = hash_search(cells->holding, &window, HASH_FIND, NULL);

	if (holding && --holding->count <= 0)
		hash_search(cells->holding, &window, HASH_REMOVE, NULL);
}

TimestampTz
sb_stored_earliest_hold(SbCells *cells)
{
	TimestampTz hold = SB_TIME_MAX;
	HASH_SEQ_STATUS scan;
	SbHoldingWindow *holding;

	hash_seq_init(&scan, cells->holding);
	while ((holding = hash_seq_search(&scan)) != NULL)
		hold = Min(hold, holding->hold);
	return hold;
}

/* ---- cells leave memory, and come back ---- */

void
sb_stored_left(SbCells *cells, const SbEntry *entry, SbWindow window)
{
	TimestampTz max = sb_window_max_timestamp(window);

	cells->evicted = true;
	if (window.end < cells->stored_low || window.end > cells->stored_high)
		filter_add(cells, window);
	cells->stored_last = Max(cells->stored_last, window.end);
	if (max >= cells->clocks->input_watermark)
		cells->ends.next = Min(cells->ends.next, max);
	cells->expiries.next = Min(cells->expiries.next, max);
	if (entry->processing_timer != SB_TIME_MAX)
	{
		cells->stored_processing = Min(cells->stored_processing, entry->processing_timer);
		cells->stored_processing_last = Max(cells->stored_processing_last, entry->processing_timer);
	}
	if (entry->hold != SB_TIME_MAX)
		sb_stored_add_hold(cells, window, 1, entry->hold);
}

void
sb_stored_came(SbCells *cells, const SbEntry *entry, SbWindow window)
{
	if (entry->hold != SB_TIME_MAX)
		stored_subtract_hold(cells, window);
}

void
sb_cells_know_stored(SbCells *cells)
{
	if (cells->stored_known)
		return;
	sb_state_look(cells);
	cells->stored_known = true;
}

bool
sb_cells_maybe_stored(SbCells *cells, SbWindow window)
{
	Assert(cells->stored_known);
	/* all cells are in memory */
	if (cells->nentries == cells->count)
		return false;
	/* a session is looked for by its key, whatever window it has become */
	if (cells->merging)
		return cells->filter != NULL || cells->stored_low <= cells->stored_high;
	return (window.end >= cells->stored_low && window.end <= cells->stored_high) ||
	       (cells->filter != NULL && filter_has(cells->filter, window));
}

void
sb_stored_forget(SbCells *cells)
{
	HASH_SEQ_STATUS scan;
	SbHoldingWindow *holding;

	if (cells->filter)
		pfree(cells->filter);
	cells->filter = NULL;
	cells->stored_low = SB_TIME_MAX;
	cells->stored_high = cells->stored_last = SB_TIME_MIN;
	cells->stored_processing = SB_TIME_MAX;
	cells->stored_processing_last = SB_TIME_MIN;
	cells->ends = cells->expiries = cells->hastened = (SbStoredScan){.next = SB_TIME_MAX};
	hash_seq_init(&scan, cells->holding);
	while ((holding = hash_seq_search(&scan)) != NULL)
		hash_search(cells->holding, &holding->window, HASH_REMOVE, NULL);
}

Size
sb_cells_stored_bytes(const SbCells *cells)
{
	/* an element of the hash, its header, and its share of the buckets */
	return hash_get_num_entries(cells->holding) * (MAXALIGN(sizeof(SbHoldingWindow)) + 32) +
	       (cells->filter ? sizeof(SbStoredFilter) : 0);
}

/* ---- timers ---- */

void
sb_stored_hasten(SbCells *cells, const SbWindowRange *range)
{
	/* the range was cleared before it was computed anew: what is stored of it has left since */
	if (!cells->evicted)
		return;
	cells->hastened = (SbStoredScan){.next = SB_TIME_MIN};
	cells->hastened_range = *range;
}

/* The greatest end of a window that has expired. */
static TimestampTz
stored_last_expired(const SbCells *cells)
{
	TimestampTz watermark = cells->clocks->input_watermark;
	TimestampTz end;

	/* at the end of the input all have */
	if (watermark == SB_TIME_MAX)
		return SB_TIME_MAX;
	if (pg_sub_s64_overflow(watermark, cells->strategy->allowed_lateness_us, &end))
		return SB_TIME_MIN;
	return end;
}

static TimestampTz
stored_first_expiry(const SbCells *cells)
{
	SbWindow window = {.start = SB_TIME_MIN, .end = cells->expiries.next};

	if (cells->expiries.next == SB_TIME_MAX)
		return SB_TIME_MAX;
	window.end++;
	return sb_window_gc_time(window, cells->strategy->allowed_lateness_us);
}

TimestampTz
sb_stored_first_event(const SbCells *cells)
{
	TimestampTz first = Min(cells->ends.next, stored_first_expiry(cells));

	return Min(cells->hastened.next, first);
}

/* A batch of cells comes in; after the last one `next` is that of the windows that end later. */
static void
stored_bring(SbCells *cells, SbStoredScan *scan, const SbWindowRange *range, TimestampTz last_end,
             SbArrival arrival)
{
	if (!scan->begun)
	{
		TimestampTz from = scan == &cells->hastened ? range->from : scan->next;

		scan->begun = true;
		scan->window = (SbWindow){.start = SB_TIME_MIN, .end = from + 1};
		scan->hash = PG_INT64_MIN;
		scan->seq = -1;
	}
	if (sb_state_load_ended(cells, scan, range, last_end, arrival))
	{
		if (scan != &cells->hastened)
			scan->next = sb_window_max_timestamp(scan->window);
		return;
	}
	scan->begun = false;
	scan->next = SB_TIME_MAX;
	if (scan != &cells->hastened && last_end < cells->stored_last)
		scan->next = sb_state_next_end(cells, last_end);
}

void
sb_stored_bring_due(SbCells *cells)
{
	SbWindowRange all = SB_ALL_WINDOWS;

	if (cells->hastened.next != SB_TIME_MAX)
		stored_bring(cells, &cells->hastened, &cells->hastened_range, SB_TIME_MAX, SB_HASTENED);
	else if (cells->ends.next <= stored_first_expiry(cells))
		stored_bring(cells, &cells->ends, &all, cells->clocks->input_watermark, SB_AT_ITS_END);
	else
		stored_bring(cells, &cells->expiries, &all, stored_last_expired(cells), SB_MISSED);
}
