/*
 * sb_cells.c: the cells of one pipeline in memory; see sb_cells.h. The table is sb_state_table.c's.
 */
#include "postgres.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "common/hashfn.h"
#include "miscadmin.h"
#include "state/sb_cells_private.h"
#include "utils/datum.h"
#include "utils/memutils.h"

static inline uint32 cells_hash(const SbCells *cells, uint64 key_hash, SbWindow window);
static bool cells_match(const SbCells *cells, SbEntry *entry);

/*
 * A lookup has no key (NULL): it compares with cells->probe. An insertion's key is the new entry,
 * equal to none.
 */
#define SH_PREFIX sb_cellhash
#define SH_ELEMENT_TYPE SbSlotOfHash
#define SH_KEY_TYPE SbEntry *
#define SH_KEY entry
#define SH_HASH_KEY(tb, key) ((key)->hash)
#define SH_EQUAL(tb, a, b) ((b) == NULL ? cells_match((tb)->private_data, (a)) : (a) == (b))
#define SH_SCOPE static inline
#define SH_STORE_HASH
#define SH_GET_HASH(tb, slot) ((slot)->hash)
#define SH_DECLARE
#define SH_DEFINE
#include "lib/simplehash.h"

static Datum *
entry_keys(const SbCells *cells, SbEntry *entry)
{
	return (Datum *) ((char *) entry + cells->keys_offset);
}

Datum *
sb_cells_keys(const SbCells *cells, SbEntry *entry, const bool **nulls)
{
	*nulls = (bool *) ((char *) entry + cells->nulls_offset);
	return entry_keys(cells, entry);
}

SbAcc *
sb_cells_accs(const SbCells *cells, SbEntry *entry)
{
	return (SbAcc *) ((char *) entry + cells->accs_offset);
}

SbCell *
sb_cells_cell(const SbCells *cells, SbEntry *entry)
{
	return (SbCell *) ((char *) entry + cells->cell_offset);
}

/*
 * Windows come in few, keys in many: the key's hash is good already, the window only has to spread
 * it.
 */
static inline uint32
cells_hash(const SbCells *cells, uint64 key_hash, SbWindow window)
{
	uint64 h = key_hash;

	if (!cells->merging)
		h ^= (uint64) hash_combine64((uint64) window.start * UINT64CONST(0x9E3779B97F4A7C15),
		                             (uint64) window.end * UINT64CONST(0xC2B2AE3D27D4EB4F));
	return (uint32) (h ^ (h >> 32));
}

static bool
cells_match(const SbCells *cells, SbEntry *entry)
{
	const SbProbe *probe = cells->probe;
	const bool *nulls;
	Datum *keys = sb_cells_keys(cells, entry, &nulls);

	if (entry->key_hash != probe->key_hash)
		return false;
	if (!cells->merging && !sb_window_equal(sb_cells_cell(cells, entry)->window, probe->window))
		return false;
	if (probe->by_seq)
		return entry->seq == probe->seq;
	return cells->nkeys == 0 ||
	       sb_query_keys_equal(cells->query, keys, nulls, probe->keys, probe->nulls);
}

/*
 * The order of a heap whose first is what has the earliest time: a pairing heap gives the greatest.
 */
#define CELLS_EARLIEST_FIRST(function, type, node, time) \
	static int function(const pairingheap_node *a, const pairingheap_node *b, void *arg) \
	{ \
		TimestampTz x = pairingheap_const_container(type, node, a)->time; \
		TimestampTz y = pairingheap_const_container(type, node, b)->time; \
\
		return (x < y) - (x > y); \
	}

CELLS_EARLIEST_FIRST(cells_compare_event, SbEntry, event_node, event_timer)
CELLS_EARLIEST_FIRST(cells_compare_processing, SbEntry, processing_node, processing_timer)
CELLS_EARLIEST_FIRST(cells_compare_hold, SbEntry, hold_node, hold)

static void
cells_lay_out(SbCells *cells)
{
	const SbPlan *plan = cells->plan;

	cells->nkeys = plan->nkeys;
	cells->naggs = plan->naggs;
	cells->key_length = palloc(sizeof(int16) * (plan->nkeys + 1));
	cells->key_by_value = palloc(sizeof(bool) * (plan->nkeys + 1));
	for (int i = 0; i < plan->nkeys; i++)
		get_typlenbyval(plan->keys[i].type, &cells->key_length[i], &cells->key_by_value[i]);
	cells->keys_offset = MAXALIGN(sizeof(SbEntry));
	cells->accs_offset = cells->keys_offset + sizeof(Datum) * plan->nkeys;
	cells->session_offset = MAXALIGN(cells->accs_offset + sizeof(SbAcc) * plan->naggs);
	cells->cell_offset = cells->session_offset + (cells->merging ? MAXALIGN(sizeof(SbSession)) : 0);
	cells->nulls_offset = cells->cell_offset + sb_cell_size(cells->strategy);
	cells->entry_size = MAXALIGN(cells->nulls_offset + sizeof(bool) * plan->nkeys);
}

static dlist_head all_cells = DLIST_STATIC_INIT(all_cells);

static void
cells_forget(void *arg)
{
	dlist_delete(&((SbCells *) arg)->node);
}

bool
sb_cells_hold(const SbStrategy *strategy)
{
	return strategy->combiner != SB_COMBINE_END_OF_WINDOW ||
	       !sb_trigger_fires_at_end(strategy->trigger);
}

SbCells *
sb_cells_create(SbQuery *query, const SbPlan *plan, const SbStrategy *strategy,
                const SbClocks *clocks, const char *state_table, const char *items_table,
                MemoryContext context)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	SbCells *cells = palloc0(sizeof(SbCells));
	HASHCTL ctl = {.keysize = sizeof(SbWindow),
	               .entrysize = sizeof(SbHoldingWindow),
	               .hcxt = context};

	cells->query = query;
	cells->plan = plan;
	cells->strategy = strategy;
	cells->clocks = clocks;
	cells->merging = sb_plan_merges(plan);
	cells->context = context;
	cells_lay_out(cells);
	cells->entries =
	    SlabContextCreate(context, "stream_beam entries", 64 * 1024, cells->entry_size);
	cells->values = context;
	cells->scratch =
	    AllocSetContextCreate(context, "stream_beam state scratch", ALLOCSET_DEFAULT_SIZES);
	cells->hash = sb_cellhash_create(context, 1024, cells);
	dlist_init(&cells->lru);
	dlist_init(&cells->changed);
	cells->event_heap = pairingheap_allocate(cells_compare_event, NULL);
	cells->processing_heap = pairingheap_allocate(cells_compare_processing, NULL);
	cells->hold_heap = pairingheap_allocate(cells_compare_hold, NULL);
	cells->holds = sb_cells_hold(strategy);
	cells->in_memory = cells->stored_known = state_table == NULL;
	cells->asked_watermark = clocks->input_watermark;
	cells->processing = sb_trigger_uses_processing_time(strategy->trigger);
	cells->holding = hash_create("stream_beam holding windows", 256, &ctl,
	                             HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	sb_stored_forget(cells);
	if (items_table)
	{
		cells->items = sb_items_table_open(items_table, state_table, context);
		sb_query_set_items(query, sb_items_table_store(cells->items));
	}
	if (state_table)
		sb_state_prepare(cells, state_table);
	dlist_push_tail(&all_cells, &cells->node);
	cells->callback.func = cells_forget;
	cells->callback.arg = cells;
	MemoryContextRegisterResetCallback(context, &cells->callback);
	MemoryContextSwitchTo(old);
	return cells;
}

/* ---- finding and making ---- */

static SbEntry *
cells_probe(SbCells *cells, const SbProbe *probe)
{
	SbSlotOfHash *slot;

	cells->probe = probe;
	slot = sb_cellhash_lookup_hash(cells->hash, NULL,
	                               cells_hash(cells, probe->key_hash, probe->window));
	return slot ? slot->entry : NULL;
}

SbEntry *
sb_cells_first_of_key(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls)
{
	SbProbe probe = {.key_hash = key_hash, .keys = keys, .nulls = nulls};

	Assert(cells->merging);
	return cells_probe(cells, &probe);
}

SbEntry *
sb_cells_find(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls,
              SbWindow window)
{
	SbProbe probe = {.key_hash = key_hash, .keys = keys, .nulls = nulls, .window = window};
	SbEntry *entry = cells_probe(cells, &probe);

	if (!cells->merging || entry == NULL)
		return entry;
	entry = sb_list_seek(cells, entry, window);
	return entry && sb_window_equal(sb_cells_cell(cells, entry)->window, window) ? entry : NULL;
}

/*
 * The number that no other key with this hash (in this window) has. All those that are stored are
 * in memory when it is asked.
 */
static int16
cells_free_seq(SbCells *cells, uint64 key_hash, SbWindow window)
{
	SbProbe probe = {.key_hash = key_hash, .window = window, .by_seq = true};

	for (probe.seq = 0;; probe.seq++)
	{
		if (cells_probe(cells, &probe) == NULL)
			return probe.seq;
		if (probe.seq == PG_INT16_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			                errmsg("too many group keys have the same hash")));
	}
}

SbEntry *
sb_entry_make(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls,
              SbWindow window)
{
	SbEntry *entry = MemoryContextAllocZero(cells->entries, cells->entry_size);
	Datum *own = entry_keys(cells, entry);
	bool *own_nulls = (bool *) ((char *) entry + cells->nulls_offset);
	MemoryContext old = MemoryContextSwitchTo(cells->values);

	entry->key_hash = key_hash;
	entry->hash = cells_hash(cells, key_hash, window);
	entry->event_timer = entry->processing_timer = entry->hold = SB_TIME_MAX;
	for (int i = 0; i < cells->nkeys; i++)
	{
		own_nulls[i] = nulls[i];
		own[i] =
		    nulls[i] ? (Datum) 0 : datumCopy(keys[i], cells->key_by_value[i], cells->key_length[i]);
	}
	sb_query_acc_init(cells->query, sb_cells_accs(cells, entry));
	sb_cell_init(cells->strategy, sb_cells_cell(cells, entry), window);
	MemoryContextSwitchTo(old);
	return entry;
}

/* Into the hash, the list, and the count of bytes. */
void
sb_entry_link(SbCells *cells, SbEntry *entry)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(cells, entry, &nulls);
	SbEntry *first =
	    cells->merging ? sb_cells_first_of_key(cells, entry->key_hash, keys, nulls) : NULL;

	if (first)
	{
		if (sb_list_add(cells, first, entry))
			sb_cellhash_lookup_hash(cells->hash, first, first->hash)->entry = entry;
	}
	else
	{
		bool found;
		SbSlotOfHash *slot = sb_cellhash_insert_hash(cells->hash, entry, entry->hash, &found);

		Assert(!found);
		slot->entry = entry;
	}
	dlist_push_tail(&cells->lru, &entry->lru_node);
	cells->nentries++;
	cells->bytes += cells->entry_size;
	sb_entry_count_bytes(cells, entry);
}

void
sb_entry_count_bytes(SbCells *cells, SbEntry *entry)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(cells, entry, &nulls);
	Size bytes = sb_query_acc_bytes(cells->query, sb_cells_accs(cells, entry));

	if (entry->emitted_rows)
		bytes += sb_cells_chunk_bytes(VARSIZE(entry->emitted_rows));
	if (cells->merging)
		bytes += sb_session_bytes(sb_cells_session(cells, entry));
	for (int i = 0; i < cells->nkeys; i++)
	{
		if (!nulls[i] && !cells->key_by_value[i])
			bytes += sb_cells_chunk_bytes(datumGetSize(keys[i], false, cells->key_length[i]));
	}
	cells->bytes += bytes;
	cells->bytes -= entry->acc_bytes;
	entry->acc_bytes = bytes;
}

static void
entry_unlink_from_hash(SbCells *cells, SbEntry *entry)
{
	SbSlotOfHash *slot;

	sb_list_remove(cells, entry);
	if (entry->prev_of_key)
		return;
	slot = sb_cellhash_lookup_hash(cells->hash, entry, entry->hash);
	if (entry->next_of_key)
		slot->entry = entry->next_of_key;
	else
		sb_cellhash_delete_item(cells->hash, slot);
}

/* Moves a cell within a heap: to `to`, SB_TIME_MAX: out of it. */
static void
entry_place(pairingheap *heap, pairingheap_node *node, TimestampTz *at, TimestampTz to)
{
	if (*at == to)
		return;
	if (*at != SB_TIME_MAX)
		pairingheap_remove(heap, node);
	*at = to;
	if (to != SB_TIME_MAX)
		pairingheap_add(heap, node);
}

void
sb_cells_unset_timers(SbCells *cells, SbEntry *entry)
{
	entry_place(cells->event_heap, &entry->event_node, &entry->event_timer, SB_TIME_MAX);
	entry_place(cells->processing_heap, &entry->processing_node, &entry->processing_timer,
	            SB_TIME_MAX);
	entry_place(cells->hold_heap, &entry->hold_node, &entry->hold, SB_TIME_MAX);
}

/* Out of memory, with all that it owns. It must not be on the list of touched cells. */
void
sb_entry_unlink(SbCells *cells, SbEntry *entry)
{
	const bool *nulls;
	Datum *keys = sb_cells_keys(cells, entry, &nulls);

	Assert(!entry->touched);
	sb_cells_unset_timers(cells, entry);
	entry_unlink_from_hash(cells, entry);
	dlist_delete(&entry->lru_node);
	if (entry->changed)
		dlist_delete(&entry->changed_node);
	for (int i = 0; i < cells->nkeys; i++)
	{
		if (!nulls[i] && !cells->key_by_value[i])
			pfree(DatumGetPointer(keys[i]));
	}
	sb_query_acc_free(cells->query, sb_cells_accs(cells, entry));
	if (entry->emitted_rows)
		pfree(entry->emitted_rows);
	if (cells->merging)
		sb_session_free(cells, entry);
	cells->nentries--;
	cells->bytes -= cells->entry_size + entry->acc_bytes;
	pfree(entry);
}

SbEntry *
sb_cells_insert(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls,
                SbWindow window)
{
	SbEntry *sibling = cells->merging ? sb_cells_first_of_key(cells, key_hash, keys, nulls) : NULL;
	int16 seq = sibling ? sibling->seq : cells_free_seq(cells, key_hash, window);
	SbEntry *entry = sb_entry_make(cells, key_hash, keys, nulls, window);

	entry->seq = seq;
	cells->count++;
	sb_entry_link(cells, entry);
	/* at once: an error before it gets its first element takes it away again */
	sb_cells_change(cells, entry);
	return entry;
}

/* ---- changing ---- */

void
sb_entry_came(SbCells *cells, SbEntry *entry)
{
	entry->changed = true;
	dlist_push_tail(&cells->changed, &entry->changed_node);
}

void
sb_cells_change(SbCells *cells, SbEntry *entry)
{
	entry->dirty = true;
	if (entry->changed)
		return;
	sb_entry_came(cells, entry);
	dlist_move_tail(&cells->lru, &entry->lru_node);
}

void
sb_cells_touch(SbCells *cells, SbEntry *entry)
{
	if (entry->touched)
		return;
	entry->touched = true;
	entry->next_touched = cells->touched;
	cells->touched = entry;
	sb_cells_change(cells, entry);
}

SbEntry *
sb_cells_take_touched(SbCells *cells)
{
	SbEntry *list = cells->touched;

	for (SbEntry *entry = list; entry; entry = entry->next_touched)
		entry->touched = false;
	cells->touched = NULL;
	return list;
}

void
sb_cells_set_timers(SbCells *cells, SbEntry *entry, bool decided)
{
	SbCell *cell = sb_cells_cell(cells, entry);
	TimestampTz event = sb_reduce_event_timer(cells->strategy, cells->clocks, cell);
	TimestampTz processing = sb_reduce_processing_timer(cells->strategy, cell);
	TimestampTz hold = cells->holds ? sb_reduce_hold(cells->strategy, cell) : SB_TIME_MAX;

	if (decided && processing < cells->clocks->processing_time)
		processing = SB_TIME_MAX;
	/* nobody waits for one that cannot speak, and what it is asked again for is no timer */
	if (entry->failed)
	{
		hold = SB_TIME_MAX;
		if (event < cells->clocks->input_watermark)
			event = SB_TIME_MAX;
	}
	/* until the end of the input is no hold: all is collected before */
	if (hold >= SB_TIME_MAX - 1)
		hold = SB_TIME_MAX;
	entry_place(cells->event_heap, &entry->event_node, &entry->event_timer, event);
	entry_place(cells->processing_heap, &entry->processing_node, &entry->processing_timer,
	            processing);
	entry_place(cells->hold_heap, &entry->hold_node, &entry->hold, hold);
}

void
sb_cells_add_emitted_rows(SbCells *cells, SbEntry *entry, const char *rows, Size size)
{
	Size have = entry->emitted_rows ? VARSIZE(entry->emitted_rows) : VARHDRSZ;

	if (entry->emitted_rows)
		entry->emitted_rows = repalloc(entry->emitted_rows, have + size);
	else
		entry->emitted_rows = MemoryContextAlloc(cells->values, have + size);
	memcpy((char *) entry->emitted_rows + have, rows, size);
	SET_VARSIZE(entry->emitted_rows, have + size);
}

void
sb_cells_clear_emitted_rows(SbCells *cells, SbEntry *entry)
{
	if (entry->emitted_rows)
		pfree(entry->emitted_rows);
	entry->emitted_rows = NULL;
}

void
sb_entry_hasten(SbCells *cells, SbEntry *entry, TimestampTz event_timer)
{
	if (event_timer < entry->event_timer)
		entry_place(cells->event_heap, &entry->event_node, &entry->event_timer, event_timer);
}

void
sb_cells_retry_failed(SbCells *cells)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (!entry->failed)
			continue;
		/* what has expired is collected with its pane */
		if (sb_reduce_expired(cells->strategy, cells->clocks, sb_cells_cell(cells, entry)->window))
			sb_entry_hasten(cells, entry, SB_TIME_MIN);
		else
			sb_cells_touch(cells, entry);
	}
}

static void
cells_untouch(SbCells *cells, SbEntry *entry)
{
	SbEntry **link = &cells->touched;

	if (!entry->touched)
		return;
	while (*link != entry)
		link = &(*link)->next_touched;
	*link = entry->next_touched;
	entry->touched = false;
}

void
sb_cells_remove(SbCells *cells, SbEntry *entry)
{
	cells_untouch(cells, entry);
	if (entry->stored && !cells->in_memory)
		sb_state_delete(cells, entry);
	cells->count--;
	sb_query_acc_drop(cells->query, sb_cells_accs(cells, entry));
	sb_entry_unlink(cells, entry);
}

/* ---- timers ---- */

static TimestampTz
cells_first_event(const SbCells *cells)
{
	if (pairingheap_is_empty(cells->event_heap))
		return SB_TIME_MAX;
	return pairingheap_container(SbEntry, event_node, pairingheap_first(cells->event_heap))
	    ->event_timer;
}

static TimestampTz
cells_first_processing(const SbCells *cells)
{
	if (pairingheap_is_empty(cells->processing_heap))
		return SB_TIME_MAX;
	return pairingheap_container(SbEntry, processing_node,
	                             pairingheap_first(cells->processing_heap))
	    ->processing_timer;
}

bool
sb_cells_may_be_due(SbCells *cells)
{
	sb_cells_know_stored(cells);
	return Min(cells_first_event(cells), sb_stored_first_event(cells)) <
	           cells->clocks->input_watermark ||
	       Min(cells_first_processing(cells), cells->stored_processing) <
	           cells->clocks->processing_time;
}

SbEntry *
sb_cells_due(SbCells *cells)
{
	sb_cells_know_stored(cells);
	for (;;)
	{
		TimestampTz event = cells_first_event(cells);
		TimestampTz stored = sb_stored_first_event(cells);

		/*
		 * of equal timers those in memory first: the next batch comes in when they have been dealt
		 * with
		 */
		if (stored < cells->clocks->input_watermark && stored < event)
			sb_stored_bring_due(cells);
		else if (event < cells->clocks->input_watermark)
			return pairingheap_container(SbEntry, event_node, pairingheap_first(cells->event_heap));
		else if (cells->stored_processing < cells->clocks->processing_time)
			sb_state_load_processing(cells);
		else if (cells_first_processing(cells) < cells->clocks->processing_time)
			return pairingheap_container(SbEntry, processing_node,
			                             pairingheap_first(cells->processing_heap));
		else
			return NULL;
	}
}

TimestampTz
sb_cells_next_event(SbCells *cells)
{
	if (!cells->stored_known)
		return SB_TIME_MIN;
	return Min(cells_first_event(cells), sb_stored_first_event(cells));
}

TimestampTz
sb_cells_next_processing(SbCells *cells)
{
	if (!cells->stored_known)
		return SB_TIME_MIN;
	return Min(cells_first_processing(cells), cells->stored_processing);
}

TimestampTz
sb_cells_earliest_hold(SbCells *cells)
{
	TimestampTz hold;

	if (!cells->holds)
		return SB_TIME_MAX;
	hold = sb_stored_earliest_hold(cells);
	if (!pairingheap_is_empty(cells->hold_heap))
		hold =
		    Min(hold, pairingheap_container(SbEntry, hold_node, pairingheap_first(cells->hold_heap))
		                  ->hold);
	return hold;
}

SbEntry *
sb_cells_next(SbCells *cells, SbEntry *entry)
{
	if (entry == NULL)
		return dlist_is_empty(&cells->lru) ? NULL
		                                   : dlist_head_element(SbEntry, lru_node, &cells->lru);
	if (!dlist_has_next(&cells->lru, &entry->lru_node))
		return NULL;
	return dlist_container(SbEntry, lru_node, dlist_next_node(&cells->lru, &entry->lru_node));
}

/* ---- transactions and memory ---- */

void
sb_cells_accept(SbCells *cells)
{
	dlist_mutable_iter iter;

	cells->accepted_count = cells->count;
	cells->asked_watermark = cells->clocks->input_watermark;
	dlist_foreach_modify(iter, &cells->changed)
	{
		SbEntry *entry = dlist_container(SbEntry, changed_node, iter.cur);

		Assert(!entry->dirty);
		entry->changed = false;
		dlist_delete(iter.cur);
	}
}

void
sb_cells_rollback(SbCells *cells)
{
	(void) sb_cells_take_touched(cells);
	while (!dlist_is_empty(&cells->changed))
		sb_entry_unlink(cells, dlist_head_element(SbEntry, changed_node, &cells->changed));
	cells->count = cells->accepted_count;
	if (cells->items)
		sb_items_table_forget_dropped(cells->items);
	cells->evicted = true;
	/* cells may have left memory, or the table, in what is undone: looked at before the next use */
	sb_stored_forget(cells);
	cells->stored_known = cells->in_memory;
}

Size
sb_cells_bytes(const SbCells *cells)
{
	return cells->bytes + sb_query_items_bytes(cells->query) +
	       cells->hash->size * sizeof(SbSlotOfHash);
}

Size
sb_cells_bytes_of_all(void)
{
	Size bytes = 0;
	dlist_iter iter;

	dlist_foreach(iter, &all_cells)
	{
		const SbCells *cells = dlist_container(SbCells, node, iter.cur);

		bytes += sb_cells_bytes(cells) + sb_cells_stored_bytes(cells);
	}
	return bytes;
}

int64
sb_cells_count(SbCells *cells)
{
	return cells->count;
}

void
sb_cells_set_count(SbCells *cells, int64 count)
{
	cells->count = cells->accepted_count = count;
}

/* Their items first: a cell that comes in again wants few of them. */
static void
cells_unload_items(SbCells *cells, Size bytes)
{
	dlist_iter iter;

	dlist_foreach(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (sb_cells_bytes(cells) <= bytes)
			break;
		CHECK_FOR_INTERRUPTS();
		sb_query_acc_unload(cells->query, sb_cells_accs(cells, entry));
	}
}

void
sb_cells_evict(SbCells *cells, Size bytes)
{
	dlist_mutable_iter iter;

	/* there they would be gone */
	if (cells->in_memory)
		return;
	sb_cells_know_stored(cells);
	if (cells->items)
		cells_unload_items(cells, bytes);
	dlist_foreach_modify(iter, &cells->lru)
	{
		SbEntry *entry = dlist_container(SbEntry, lru_node, iter.cur);

		if (sb_cells_bytes(cells) <= bytes)
			break;
		CHECK_FOR_INTERRUPTS();
		/* what is due has come in to be asked, and would not be found again */
		if (entry->dirty || entry->touched || entry->event_timer < cells->clocks->input_watermark)
			continue;
		Assert(entry->stored);
		sb_stored_left(cells, entry, sb_cells_cell(cells, entry)->window);
		sb_entry_unlink(cells, entry);
	}
#ifdef __GLIBC__
	/* the freed blocks lie between others: without this they would stay with the process */
	malloc_trim(0);
#endif
}
