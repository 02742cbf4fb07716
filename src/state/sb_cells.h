/*
 * sb_cells.h: the cells of one pipeline: a cache in memory over its state table.
 *
 * A cell is what a pipeline retains for one (key, window). In memory it is one chunk: links and
 * timers, the decoded key, the accumulators, and the engine's part. The state table holds the truth
 * of the last commit, the cache what the running transaction has made of it.
 *
 * MEMORY. Everything is in the context "stream_beam cells" of the pipeline; sb_cells_bytes() says
 * how much the cells in memory use, and sb_cells_evict() makes room: clean cells leave, the least
 * recently used first. Of what has left nothing is remembered that grows with its number
 * (sb_stored.c): so a window at rest costs no memory, and opening reads what is due only.
 *
 * ROLES. Keys and accumulators are the user's types: what compares, loads, writes or merges cells
 * is called in the bracket of the pipeline's owner. The statements about the table run as the
 * extension's owner by themselves.
 *
 * TRANSACTIONS. A cell that is changed, or has come in from the table (where it may be as this
 * transaction has written it), is on the list `changed` until sb_cells_accept() (the transaction,
 * or the subtransaction, is committed) or sb_cells_rollback() (it is not: these cells leave the
 * memory, and the table is looked at anew). All others are as of the last commit.
 */
#ifndef SB_CELLS_H
#define SB_CELLS_H

#include "postgres.h"
#include "engine/sb_reduce.h"
#include "lib/ilist.h"
#include "lib/pairingheap.h"
#include "query/sb_query.h"

/*
 * A cell as this layer keeps it; behind it, in the same chunk: keys, key nulls, accumulators, an
 * SbSession, the engine's cell.
 */
typedef struct SbEntry
{
	uint64 key_hash;
	/* in memory: of key and window; for merging windows of the key alone */
	uint32 hash;
	int16 seq; /* tells apart different keys with one hash in one window */
	/* there is a row in the state table, as of the running transaction */
	bool stored;
	bool dirty;   /* differs from its row */
	bool touched; /* got elements since the last fire; on the list `touched` */
	/* its row is in the result table (accumulating); stored with the cell */
	bool emitted;
	/*
	 * its last pane could not be computed or written: it counts as if it had not fired, and stays
	 * when it has expired; stored with the cell. A merge leaves it behind
	 */
	bool failed;
	bool changed; /* on the list `changed`: a rollback forgets it */
	int64 rows;   /* added and not taken back */
	/*
	 * retracting: packed rows of the panes not yet retracted, of merged-away windows too; NULL:
	 * none; owned
	 */
	bytea *emitted_rows;
	Size acc_bytes;              /* by-reference bytes of key and accumulators, as last counted */
	struct SbEntry *next_of_key; /* merging windows: the next window of this key, in their order */
	struct SbEntry *prev_of_key; /* likewise; NULL: the first, which the hash leads to */
	struct SbEntry *next_touched;
	dlist_node lru_node; /* least recently used first */
	dlist_node changed_node;
	pairingheap_node event_node;
	pairingheap_node processing_node;
	pairingheap_node hold_node;
	TimestampTz hold;             /* as in the heap; SB_TIME_MAX: not in it */
	TimestampTz event_timer;      /* SB_TIME_MAX: not in the heap */
	TimestampTz processing_timer; /* likewise */
} SbEntry;

/* What a cell of a merging window retains beyond others, in the same chunk. */
typedef struct SbSession
{
	/*
	 * where rows can be taken back: what is in it (sb_elements.h); NULL: closed, or not retained;
	 * owned
	 */
	bytea *elements;
	/*
	 * accumulating: windows it took the place of, whose rows leave the result with its next pane;
	 * NULL: none; owned
	 */
	SbWindow *removed;
	int nremoved;
} SbSession;

typedef struct SbCells SbCells;

/* What is needed to find a cell that may be in the table. */
typedef struct SbMiss
{
	uint64 key_hash;
	SbWindow window;
} SbMiss;

/*
 * All of it goes with the context. state_table NULL: the cells live in memory only, and writing
 * them is nothing. items_table NULL: what aggregates retain is in the cells.
 */
extern SbCells *sb_cells_create(SbQuery *query, const SbPlan *plan, const SbStrategy *strategy,
                                const SbClocks *clocks, const char *state_table,
                                const char *items_table, MemoryContext context);
/* the parts of a cell */
extern Datum *sb_cells_keys(const SbCells *cells, SbEntry *entry, const bool **nulls);
extern SbAcc *sb_cells_accs(const SbCells *cells, SbEntry *entry);
extern SbCell *sb_cells_cell(const SbCells *cells, SbEntry *entry);
/* NULL: windows do not merge */
extern SbSession *sb_cells_session(const SbCells *cells, SbEntry *entry);

/* In memory only. */
extern SbEntry *sb_cells_find(SbCells *cells, uint64 key_hash, const Datum *keys, const bool *nulls,
                              SbWindow window);
/*
 * Merging windows: the last of the key's cells that starts at or before `start`; none does: its
 * first; NULL: it has none.
 */
extern SbEntry *sb_cells_of_key(SbCells *cells, uint64 key_hash, const Datum *keys,
                                const bool *nulls, TimestampTz start);
/*
 * Looks at the table where it is not known what is stored: at first, and after a rollback. SPI
 * connected.
 */
extern void sb_cells_know_stored(SbCells *cells);
/* Could a cell that is not in memory be in the table? What is stored must be known. */
extern bool sb_cells_maybe_stored(SbCells *cells, SbWindow window);
/* A new cell; keys are copied. Its accumulators and engine part are initialised. */
extern SbEntry *sb_cells_insert(SbCells *cells, uint64 key_hash, const Datum *keys,
                                const bool *nulls, SbWindow window);
/* Brings in what the table has of these (SPI connected). */
extern void sb_cells_load(SbCells *cells, const SbMiss *misses, int n);

/* It got elements: it is to be fired, and to be written. */
extern void sb_cells_touch(SbCells *cells, SbEntry *entry);
/* It was changed otherwise (timer, pane): it is to be written. */
extern void sb_cells_change(SbCells *cells, SbEntry *entry);
/* Adds packed rows to what is to be retracted with the cell's next pane; and forgets them. */
extern void sb_cells_add_emitted_rows(SbCells *cells, SbEntry *entry, const char *rows, Size size);
extern void sb_cells_clear_emitted_rows(SbCells *cells, SbEntry *entry);
/*
 * Merging windows: of a cell that is on the list of changed ones. `elements` is copied; NULL: none.
 */
extern void sb_cells_set_elements(SbCells *cells, SbEntry *entry, const bytea *elements);
extern void sb_cells_add_removed(SbCells *cells, SbEntry *entry, SbWindow window);
extern void sb_cells_clear_removed(SbCells *cells, SbEntry *entry);
/* Takes the list of touched cells (linked by next_touched), leaving it empty. */
extern SbEntry *sb_cells_take_touched(SbCells *cells);
/*
 * Sets the cell's timers anew from its state and the clocks. `decided`: it has just been asked at
 * these clocks, so a timer that they have passed has had its say.
 */
extern void sb_cells_set_timers(SbCells *cells, SbEntry *entry, bool decided);
/* It is being asked: its timers are set anew afterwards. */
extern void sb_cells_unset_timers(SbCells *cells, SbEntry *entry);
/* Those that have failed and are in memory are asked with the next flush, or when timers are. */
extern void sb_cells_retry_failed(SbCells *cells);
/* The cell is over: leaves memory now and the table at the next write. */
extern void sb_cells_remove(SbCells *cells, SbEntry *entry);

/* Is any? Without loading what is stored: it may be that none is after all. */
extern bool sb_cells_may_be_due(SbCells *cells);
/*
 * The cell with the earliest timer that is due (strictly before the clock), or NULL; also brings in
 * due windows that are stored.
 */
extern SbEntry *sb_cells_due(SbCells *cells);
/*
 * the earliest timers of all cells, stored ones included; SB_TIME_MIN: not known before the next
 * transaction
 */
extern TimestampTz sb_cells_next_event(SbCells *cells);
extern TimestampTz sb_cells_next_processing(SbCells *cells);
/*
 * The earliest hold of all cells on the output watermark; where cells are stored, it may be earlier
 * than their true one.
 */
extern TimestampTz sb_cells_earliest_hold(SbCells *cells);

/* Parks the accumulators of changed cells and writes dirty ones to the table (SPI connected). */
extern void sb_cells_write(SbCells *cells);
extern void sb_cells_accept(SbCells *cells);
extern void sb_cells_rollback(SbCells *cells);

/*
 * The cells of windows in the range, or (`inside` false) of all others, go out of memory and table.
 * Nothing may be dirty: write first. SPI connected.
 */
extern void sb_cells_clear(SbCells *cells, const SbWindowRange *range, bool inside);
/* The cells touched so far are not to be fired: they may be written and leave memory. */
extern void sb_cells_untouch(SbCells *cells);
/*
 * All cells of windows in the range, stored ones too, are asked when timers are next: each gets one
 * that is due.
 */
extern void sb_cells_hasten(SbCells *cells, const SbWindowRange *range);

/* All cells in memory, one after the other: NULL starts, NULL ends. */
extern SbEntry *sb_cells_next(SbCells *cells, SbEntry *entry);

extern Size sb_cells_bytes(const SbCells *cells);
/* What is remembered of cells that have left. */
extern Size sb_cells_stored_bytes(const SbCells *cells);
/* Both, of all pipelines of this process. */
extern Size sb_cells_bytes_of_all(void);
extern int64 sb_cells_count(SbCells *cells); /* live cells, stored ones included */
/* How many there are in the table, as it is opened. */
extern void sb_cells_set_count(SbCells *cells, int64 count);
/* Evicts clean cells until at most this many bytes are used, or none is left to evict. */
extern void sb_cells_evict(SbCells *cells, Size bytes);
/*
 * The SQL that makes a state table of this qualified name, for cells of this kind; `items`: with a
 * table of items beside it.
 */
extern char *sb_cells_table_sql(const char *state_table, const SbPlan *plan,
                                const SbStrategy *strategy, bool items);

/* ---- the table of items (sb_items_table.c) ---- */
extern char *sb_items_table_name(int32 pipeline);
/* InvalidOid: it has none. */
extern Oid sb_items_table_relid(int32 pipeline);
extern char *sb_items_table_sql(const char *table);

#endif
