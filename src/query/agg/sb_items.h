/*
 * sb_items.h: the values that an accumulator retains, in order: a tree of items, of which what has
 * changed is written, and what is needed is read.
 *
 * An item is some bytes and how often they are there. Items stand in leaves of about a kilobyte,
 * sorted; above the leaves is a directory in memory. Few items are one leaf, which is written with
 * the accumulator itself. More of them are a tree: each leaf is a row of a table, which this file
 * does not know: it goes through SbItemStore. So a row that comes or goes changes one leaf, however
 * many there are; and leaves that are not needed are not in memory.
 *
 * MEMORY. All chunks are in `context` of the SbItemSpace, which counts them. Functions that read
 * leave garbage in the current context.
 *
 * ROLES. `place` and `compare` of an order may be the user's functions: the caller is in the
 * bracket of the pipeline's owner. The store changes roles by itself.
 */
#ifndef SB_ITEMS_H
#define SB_ITEMS_H

#include "postgres.h"
#include "lib/stringinfo.h"

typedef struct SbItem
{
	uint64 place;
	int64 count; /* never 0 */
	const char *data;
	uint32 size;
} SbItem;

/* By place, then by `compare`, then by the bytes. */
typedef struct SbItemOrder
{
	/* NULL: in the order of arrival, each item for itself; nothing is ever taken out */
	uint64 (*place)(void *arg, const char *data, uint32 size);
	/* of items with one place; 0: the same to their type. NULL: the same if the bytes are */
	int (*compare)(void *arg, const SbItem *a, const SbItem *b);
	/* error XX001 unless these bytes are an item's; moves *data behind it */
	void (*skip)(void *arg, const char **data, const char *end);
	void *arg;
} SbItemOrder;

/* A leaf as a row of the table: all but its bytes. */
typedef struct SbLeafRow
{
	int32 leaf; /* number within the tree, never used again */
	int32 items;
	int64 rows;
	uint64 place; /* of its first item, or before it */
} SbLeafRow;

/* The table. */
typedef struct SbItemStore
{
	/* a number that no tree has had */
	int64 (*new_tree)(void *arg);
	/* the rows of a tree, in any order; returns how many */
	int (*read_tree)(void *arg, int64 tree, SbLeafRow **rows);
	/* the bytes of a leaf */
	bytea *(*read_leaf)(void *arg, int64 tree, int32 leaf);
	/* the bytes of all leaves, handed to `take` one by one */
	void (*read_leaves)(void *arg, int64 tree,
	                    void (*take)(void *to, int32 leaf, const bytea *bytes), void *to);
	/* these take effect with the next write of the cells; `stored`: there is a row */
	void (*write_leaf)(void *arg, int64 tree, const SbLeafRow *row, const StringInfo bytes,
	                   bool stored);
	void (*delete_leaf)(void *arg, int64 tree, int32 leaf);
	void (*drop_tree)(void *arg, int64 tree);
	void *arg;
} SbItemStore;

/* What the accumulators of a query share. */
typedef struct SbItemSpace
{
	MemoryContext context;
	const SbItemStore *store; /* NULL: all is in memory, and nothing is written */
	Size bytes;               /* of all chunks */
} SbItemSpace;

typedef struct SbItems SbItems;

extern SbItems *sb_items_make(SbItemSpace *space);
/* Out of memory; the table has what was written of it. */
extern void sb_items_free(SbItemSpace *space, SbItems *items);
/* Out of memory and out of the table. */
extern void sb_items_drop(SbItemSpace *space, SbItems *items);
/* Leaves that have not changed since they were written leave memory. */
extern void sb_items_unload(SbItemSpace *space, SbItems *items);

extern int64 sb_items_rows(const SbItems *items);
/* How many different ones there are, to their type. */
extern int64 sb_items_groups(SbItemSpace *space, const SbItemOrder *order, SbItems *items);
/* A number for each call, in order. */
extern uint64 sb_items_next_arrival(SbItems *items);
/* The number of the tree; 0: it has none, nothing of it is in the table. */
extern int64 sb_items_tree(const SbItems *items);

extern void sb_items_add(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                         const char *data, uint32 size, int64 count);
/*
 * Takes one out: of these bytes, else one that is the same to the type by `compare`. False: there
 * is none.
 */
extern bool sb_items_remove(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                            const char *data, uint32 size);
/* All of `from`, which is freed, comes to `into`; returns what is there then. */
extern SbItems *sb_items_merge(SbItemSpace *space, const SbItemOrder *order, SbItems *into,
                               SbItems *from);

/*
 * What is read stays good until the next call with these items. There is a first, a last, and an
 * nth row of those counted from 0.
 */
extern SbItem sb_items_first(SbItemSpace *space, const SbItemOrder *order, SbItems *items);
extern SbItem sb_items_last(SbItemSpace *space, const SbItemOrder *order, SbItems *items);
extern SbItem sb_items_nth(SbItemSpace *space, const SbItemOrder *order, SbItems *items, int64 row);

/* All in order: zeroed at first. False: no more. */
typedef struct SbItemScan
{
	int leaf;
	int at;
	bool begun;
} SbItemScan;

extern bool sb_items_next(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                          SbItemScan *scan, SbItem *item);
/* Backwards. */
extern bool sb_items_previous(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                              SbItemScan *scan, SbItem *item);

/* With the accumulator; what has changed of a tree goes to the store. */
extern void sb_items_encode(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                            StringInfo out);
/* Error XX001. */
extern SbItems *sb_items_decode(SbItemSpace *space, const SbItemOrder *order, const char **data,
                                const char *end);

#endif
