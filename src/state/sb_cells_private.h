/*
 * sb_cells_private.h: what sb_cells.c (memory) and sb_state_table.c (table) share.
 */
#ifndef SB_CELLS_PRIVATE_H
#define SB_CELLS_PRIVATE_H

#include "base/sb_compat.h"
#include "base/sb_statement.h"
#include "port/pg_bitutils.h"
#include "query/expr/sb_bytes.h"
#include "state/sb_cells.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"

/* the columns of a state table, in order */
enum
{
	SB_STATE_WINDOW_END,
	SB_STATE_WINDOW_START,
	SB_STATE_KEY_HASH,
	SB_STATE_KEY_SEQ,
	SB_STATE_PROCESSING_TIMER,
	SB_STATE_HOLD,
	SB_STATE_KEY,
	SB_STATE_STATE,
	SB_STATE_NCOLUMNS
};

typedef struct SbSlotOfHash
{
	SbEntry *entry;
	uint32 hash;
	char status;
} SbSlotOfHash;

typedef struct SbProbe
{
	uint64 key_hash;
	const Datum *keys;
	const bool *nulls;
	SbWindow window;
	bool by_seq; /* looks for the number `seq` instead of the keys */
	int16 seq;
} SbProbe;

/*
 * In the first byte of a state: what is there beyond the cell and the accumulators, in this order.
 */
#define SB_STATE_EMITTED 1
#define SB_STATE_EMITTED_ROWS 2
#define SB_STATE_REMOVED 4
#define SB_STATE_ELEMENTS 8
#define SB_STATE_FAILED 16
#define SB_STATE_ALL_FLAGS 31

/* Cells of a window that are in the table and not in memory. */
typedef struct SbStoredWindow
{
	SbWindow window; /* hash key */
	int64 count;
	TimestampTz event_timer;      /* the least */
	TimestampTz processing_timer; /* the least, SB_TIME_MAX: none */
	TimestampTz hold;             /* the least, SB_TIME_MAX: none */
	pairingheap_node event_node;  /* in the heap while in the hash */
	/* its cells are coming in by batches, in the order of (hash, seq) */
	bool scanning;
	int64 scan_hash; /* the last that has come */
	int16 scan_seq;
} SbStoredWindow;

struct SbCells
{
	dlist_node node;                /* of all cells of this process */
	MemoryContextCallback callback; /* takes it off that list when its context goes */
	SbQuery *query;
	const SbPlan *plan;
	const SbStrategy *strategy;
	const SbClocks *clocks; /* the pipeline's: moved by it */
	bool merging;
	int nkeys, naggs;
	int16 *key_length;
	bool *key_by_value;

	MemoryContext context; /* parent of all below */
	MemoryContext entries; /* slab of entries */
	MemoryContext values;  /* by-reference keys and accumulators */
	MemoryContext scratch; /* of one call */
	Size entry_size, keys_offset, nulls_offset, accs_offset, session_offset, cell_offset;
	Size bytes; /* used by entries and their values */
	int64 nentries;

	struct sb_cellhash_hash *hash;
	const SbProbe *probe; /* what the hash is being asked for */
	SbEntry *last_seek;   /* merging windows: where the last search in a list ended, or NULL */
	dlist_head lru;
	dlist_head changed;
	SbEntry *touched;
	pairingheap *event_heap;
	pairingheap *processing_heap;
	/*
	 * used where a hold can lie before the input watermark: not for end_of_window, if the trigger
	 * fires at the end in any case
	 */
	pairingheap *hold_heap;
	bool holds;
	bool in_memory; /* there is no table */

	bool stored_known; /* false: `stored` has to be counted first */
	int64 nstored;
	HTAB *stored;
	pairingheap *stored_heap;
	TimestampTz stored_processing; /* a lower bound of the stored windows' processing timers */

	SbStatement *insert; /* cells that have no row yet */
	SbStatement *update; /* those that have */
	SbStatement *delete;
	SbStatement *load_missed;
	SbStatement *load_window;
	SbStatement *load_processing;
	SbStatement *count_windows;
	SbStatement *clear_all;
	SbStatement *clear_inside;
	SbStatement *clear_outside;
};

/* ---- sb_cells.c ---- */
extern SbEntry *sb_entry_make(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls,
                              SbWindow window);
extern void sb_entry_link(SbCells *cells, SbEntry *entry);
extern void sb_entry_unlink(SbCells *cells, SbEntry *entry);
/*
 * It has come in from the table, where it may be as this transaction has made it: a rollback
 * forgets it like one that was changed.
 */
extern void sb_entry_came(SbCells *cells, SbEntry *entry);
extern void sb_entry_count_bytes(SbCells *cells, SbEntry *entry);
extern SbEntry *sb_cells_first_of_key(SbCells *cells, uint64 key_hash, const Datum *keys,
                                      const bool *nulls);

/* 16: a chunk's header; its size is rounded up to a power of two */
static inline Size
sb_cells_chunk_bytes(Size size)
{
	return 16 + pg_nextpower2_size_t(Max(size, 8));
}

/* The cell was stored with this event timer, which the watermark may have passed since. */
extern void sb_entry_hasten(SbCells *cells, SbEntry *entry, TimestampTz event_timer);

/* ---- sb_stored.c ---- */
extern void sb_stored_add(SbCells *cells, SbWindow window, int64 count, TimestampTz event_timer,
                          TimestampTz processing_timer, TimestampTz hold);
extern TimestampTz sb_stored_event_timer(const SbCells *cells, SbWindow window);
/* Nothing is known of what is stored. */
extern void sb_stored_forget(SbCells *cells);
extern void sb_stored_subtract(SbCells *cells, SbWindow window, int64 count);
/* No stored cell has a processing timer before this any more: sets the bounds anew. */
extern void sb_stored_raise_processing(SbCells *cells, TimestampTz clock);

/* ---- sb_sessions.c ---- */
/*
 * The last cell of the list that begins with `first` whose window is at or before this one; NULL:
 * all are behind it.
 */
extern SbEntry *sb_list_seek(SbCells *cells, SbEntry *first, SbWindow window);
/* True: it has become the first. */
extern bool sb_list_add(SbCells *cells, SbEntry *first, SbEntry *entry);
extern void sb_list_remove(SbCells *cells, SbEntry *entry);
extern Size sb_session_bytes(const SbSession *session);
extern void sb_session_free(SbCells *cells, SbEntry *entry);
extern int sb_session_flags(const SbSession *session);
extern void sb_session_encode(const SbSession *session, StringInfo out);
extern void sb_session_decode(SbCells *cells, SbEntry *entry, int flags, const char **data,
                              const char *end);

/* ---- sb_state_table.c ---- */
extern void sb_state_prepare(SbCells *cells, const char *state_table);
extern void sb_state_count(SbCells *cells);
/* the next batch of a stored window's cells; false: no more */
extern bool sb_state_load_window(SbCells *cells, SbStoredWindow *stored);
/* all cells with a processing timer that is due */
extern void sb_state_load_processing(SbCells *cells);
extern void sb_state_delete(SbCells *cells, SbEntry *entry);
extern void sb_state_clear(SbCells *cells, const SbWindowRange *range, bool inside);

#endif
