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
	SB_STATE_ITEMS, /* only where there is a table of items */
	SB_STATE_NCOLUMNS
};

/* from, lo, hi of an SbWindowRange */
#define SB_STATE_IN_RANGE \
	"window_end OPERATOR(pg_catalog.>) $1 AND window_start OPERATOR(pg_catalog.>=) $2 AND window_start OPERATOR(pg_catalog.<) $3"

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

/* A window with cells that are in the table, not in memory, and hold the output watermark. */
typedef struct SbHoldingWindow
{
	SbWindow window; /* hash key */
	int64 count;
	TimestampTz hold; /* the least */
} SbHoldingWindow;

/* Windows cells of which may be in the table and not in memory (sb_stored.c). */
typedef struct SbStoredFilter SbStoredFilter;

/* Cells with one kind of timer that come in when it is due, by the ends of their windows. */
typedef struct SbStoredScan
{
	/* max_timestamp: no window with such a cell has an earlier one; SB_TIME_MAX: there is none */
	TimestampTz next;
	bool begun; /* they are coming in by batches; below is the last that has come */
	SbWindow window;
	int64 hash;
	int16 seq;
} SbStoredScan;

/* Why cells come in from the table. */
typedef enum SbArrival
{
	SB_MISSED,     /* they are needed, or are due by their own timers */
	SB_AT_ITS_END, /* the watermark has just passed the end of their window */
	SB_HASTENED    /* they are to be asked, whatever their timers say */
} SbArrival;

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
	pairingheap *hold_heap; /* used where `holds` */
	bool holds;
	bool in_memory; /* there is no table */

	/* live cells, stored ones included: now, and as of the last commit */
	int64 count, accepted_count;

	/* of cells that are in the table and not in memory: all belong to sb_stored.c */
	bool stored_known; /* false: the table has to be looked at first */
	/* some may have left memory since cells of a range were cleared */
	bool evicted;
	/* as of the last commit: all cells whose timers it has passed have been asked */
	TimestampTz asked_watermark;
	/* windows that end here or between may have some; low > high: none has */
	TimestampTz stored_low, stored_high;
	SbStoredFilter *filter;  /* other windows that may; NULL: none */
	TimestampTz stored_last; /* no such window ends later */
	SbStoredScan ends;       /* those whose windows end */
	SbStoredScan expiries;   /* those whose windows expire */
	SbStoredScan hastened;   /* those of a range that was computed anew; next: SB_TIME_MIN or MAX */
	SbWindowRange hastened_range;
	bool processing; /* cells can have processing timers */
	/* bounds of those timers; low > last: there is none */
	TimestampTz stored_processing, stored_processing_last;
	HTAB *holding; /* SbHoldingWindow */

	struct SbItemsTable *items; /* NULL: there is none */
	SbStatement *insert;        /* cells that have no row yet */
	SbStatement *update;        /* those that have */
	SbStatement *delete;
	SbStatement *load_missed;
	SbStatement *load_ended;
	SbStatement *load_processing;
	SbStatement *bounds;
	SbStatement *next_end;
	SbStatement *next_processing;
	SbStatement *holds_of_windows;
	SbStatement *clear_all;
	SbStatement *clear_inside;
	SbStatement *clear_outside;
};

/* ---- sb_items_table.c ---- */

typedef struct SbItemsTable SbItemsTable;

/* In the current context; what it allocates later is in `context`. */
extern SbItemsTable *sb_items_table_open(const char *name, const char *state_table,
                                         MemoryContext context);
extern const SbItemStore *sb_items_table_store(const SbItemsTable *table);
/* Trees that are over leave the table (SPI connected); or it has never been said that they are. */
extern void sb_items_table_drop(SbItemsTable *table);
extern void sb_items_table_forget_dropped(SbItemsTable *table);
/* Writes the leaves that are left of those that the store has been given. SPI connected. */
extern void sb_items_table_write(SbItemsTable *table);
/* Those of stored cells in the range, or outside. */
extern void sb_items_table_clear(SbItemsTable *table, const SbWindowRange *range, bool inside);

/* ---- sb_cells.c ---- */
/*
 * Can a hold lie before the input watermark? Not for end_of_window, if the trigger fires at the end
 * in any case.
 */
extern bool sb_cells_hold(const SbStrategy *strategy);
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

/* It is asked when this timer is due, if its own is later. */
extern void sb_entry_hasten(SbCells *cells, SbEntry *entry, TimestampTz event_timer);

/* ---- sb_stored.c ---- */
/* A stored cell is about to leave memory, or has come in. */
extern void sb_stored_left(SbCells *cells, const SbEntry *entry, SbWindow window);
extern void sb_stored_came(SbCells *cells, const SbEntry *entry, SbWindow window);
extern void sb_stored_add_hold(SbCells *cells, SbWindow window, int64 count, TimestampTz hold);
extern TimestampTz sb_stored_earliest_hold(SbCells *cells);
/* Nothing is known of what is stored. */
extern void sb_stored_forget(SbCells *cells);
extern void sb_stored_hasten(SbCells *cells, const SbWindowRange *range);
/* No stored cell has an earlier event timer. */
extern TimestampTz sb_stored_first_event(const SbCells *cells);
/* Cells with that timer, which is due, come in. */
extern void sb_stored_bring_due(SbCells *cells);

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
/* What has to be known of stored cells. */
extern void sb_state_look(SbCells *cells);
/* The max_timestamp of the next window that ends later; SB_TIME_MAX: there is none. */
extern TimestampTz sb_state_next_end(SbCells *cells, TimestampTz end);
/* the next batch of the cells of windows that start in the range and end by then; false: no more */
extern bool sb_state_load_ended(SbCells *cells, SbStoredScan *scan, const SbWindowRange *range,
                                TimestampTz last_end, SbArrival arrival);
/* all cells with a processing timer that is due */
extern void sb_state_load_processing(SbCells *cells);
extern void sb_state_delete(SbCells *cells, SbEntry *entry);
/* Returns how many there were. */
extern int64 sb_state_clear(SbCells *cells, const SbWindowRange *range, bool inside);

#endif
