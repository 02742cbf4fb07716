/*
 * sb_items_private.h: what the files of items share: leaves (sb_item_leaf.c), the tree
 * (sb_items.c), its heap (sb_items_heap.c) and log (sb_items_log.c), bytes (sb_items_bytes.c).
 */
#ifndef SB_ITEMS_PRIVATE_H
#define SB_ITEMS_PRIVATE_H

#include "postgres.h"
#include "lib/ilist.h"
#include "query/agg/sb_items.h"
#include "query/expr/sb_bytes.h"

/* With more bytes a leaf is cut. Its chunk has room for one small item more. */
#define SB_LEAF_ROOM 992
#define SB_LEAF_CHUNK 1024
#define SB_LEAF_FIRST_CHUNK 128
/* With fewer it is joined with a neighbour. */
#define SB_LEAF_SHORT (SB_LEAF_ROOM / 8)
/* So many leaves that are missing are read in one go. */
#define SB_LEAVES_AT_ONCE 16
/* With so many bytes a heap is put in its place, and a log given up. */
#define SB_HEAP_BYTES (16 * 1024 * 1024)

typedef struct SbLeaf
{
	dlist_node node; /* of those that have changed */
	char *data;      /* NULL: not in memory */
	uint32 capacity;
	uint32 bytes; /* at the end of the chunk, dead ones included */
	uint32 dead;  /* bytes of items that are no more */
	int32 id;
	int32 n;
	int64 rows;
	bool changed; /* is on the list */
	bool stored;  /* has a row */
} SbLeaf;

struct SbItems
{
	int64 tree; /* 0: none */
	int64 rows;
	int64 groups;
	uint64 next_arrival;
	int32 next_leaf; /* numbers from here on have not been used */
	bool known;      /* the directory is in memory */
	int nleaves, max;
	uint64 *places;
	SbLeaf **leaves;
	dlist_head changed;
	int ngone, max_gone;
	int32 *gone; /* numbers of leaves that have a row and are no more */
	/* a heap of items that are yet to be put in their places; counted in `rows` */
	SbLeaf heap;
	/* what has come (count > 0) and gone since the last write, in this order */
	SbLeaf log;
	bool logs;       /* that is all of it */
	int nchanged;    /* leaves on the list */
	int nchunks;     /* rows of the table with what came and went since leaves were written */
	int64 in_chunks; /* how many items they have */
};

/* The numbers of such rows are negative, so that they are not those of leaves. */
static inline int32
sb_items_chunk(int n)
{
	return -(n + 1);
}

/* A leaf is laid out like a page: these from its beginning, the bytes of items from its end. */
typedef struct SbItemSlot
{
	uint64 place;
	int64 count;
	uint32 offset; /* from the end */
	uint32 size;
} SbItemSlot;

static inline SbItemSlot *
sb_leaf_slots(const SbLeaf *leaf)
{
	return (SbItemSlot *) leaf->data;
}

static inline SbItem
sb_leaf_item(const SbLeaf *leaf, int at)
{
	const SbItemSlot *slot = sb_leaf_slots(leaf) + at;

	return (SbItem){.place = slot->place,
	                .count = slot->count,
	                .data = leaf->data + leaf->capacity - slot->offset,
	                .size = slot->size};
}

static inline Size
sb_item_length(const SbItem *item)
{
	return sizeof(SbItemSlot) + item->size;
}

/* What its items need. */
static inline Size
sb_leaf_used(const SbLeaf *leaf)
{
	return sizeof(SbItemSlot) * leaf->n + leaf->bytes - leaf->dead;
}

/* What their type says; 0: the same. */
static inline int
sb_items_compare_type(const SbItemOrder *order, const SbItem *a, const SbItem *b)
{
	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
	return order->compare ? order->compare(order->arg, a, b) : 0;
}

static inline int
sb_items_compare(const SbItemOrder *order, const SbItem *a, const SbItem *b)
{
	int result = sb_items_compare_type(order, a, b);

	return result != 0 || order->place == NULL
	           ? result
	           : sb_bytes_compare(a->data, a->size, b->data, b->size);
}

/* Are they one group? */
static inline bool
sb_items_same(const SbItemOrder *order, const SbItem *a, const SbItem *b)
{
	return order->compare ? sb_items_compare_type(order, a, b) == 0
	                      : sb_items_compare(order, a, b) == 0;
}

/* ---- sb_item_leaf.c ---- */
extern void *sb_items_alloc(SbItemSpace *space, void *old, Size size);
/* NULL: nothing to release. */
extern void sb_items_release(SbItemSpace *space, void *chunk);
/* Its bytes leave memory. */
extern void sb_leaf_unload(SbItemSpace *space, SbLeaf *leaf);
/* It is to be written. */
extern void sb_leaf_change(SbItems *items, SbLeaf *leaf);
/* Room for items that need so many bytes. */
extern void sb_leaf_reserve(SbItemSpace *space, SbLeaf *leaf, Size more);
/* An item, which must not stand in this leaf, becomes the one with this number. */
extern void sb_leaf_insert(SbItemSpace *space, SbLeaf *leaf, int at, const SbItem *item);
/* Behind all others; for what is no leaf of a tree: its chunk doubles. */
extern void sb_leaf_append(SbItemSpace *space, SbLeaf *leaf, const SbItem *item);
extern void sb_leaf_remove(SbLeaf *leaf, int at);
/* There are so many more of it. */
extern void sb_leaf_count(SbLeaf *leaf, int at, int64 more);
extern void sb_leaf_encode(const SbLeaf *leaf, StringInfo out);
/* A number in as few bytes as it needs; and back, error XX001. */
extern void sb_leaf_put_number(StringInfo out, uint64 number);
extern uint64 sb_leaf_take_number(const char **data, const char *end);
/* Error XX001 unless items stand there. Returns the bytes that they need in memory. */
extern Size sb_leaf_check(const SbItemOrder *order, const char *data, const char *end);
/* The next item of bytes that have been checked; in the order of arrival it is the nth. */
extern SbItem sb_leaf_take_item(const SbItemOrder *order, uint64 nth, const char **data,
                                const char *end);
/* Of a leaf without items; looks at the bytes before it allocates. */
extern void sb_leaf_decode(SbItemSpace *space, const SbItemOrder *order, SbLeaf *leaf, uint64 place,
                           const char *data, const char *end);

/* ---- sb_items_heap.c ---- */
/* All items are in their places. */
extern void sb_items_settle(SbItemSpace *space, const SbItemOrder *order, SbItems *items);

/* ---- sb_items.c ---- */
/* The directory is in memory. An error leaves it out. */
extern void sb_items_know(SbItemSpace *space, const SbItemOrder *order, SbItems *items);
/* Puts the item in its place, whose count is not yet in `rows`. */
extern void sb_items_place(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                           const SbItem *item);
/* Takes one of the item out that stands there with these bytes; false: none does. */
extern bool sb_items_take(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                          const SbItem *item);
/* A leaf without items, which is to stand here. */
extern SbLeaf *sb_items_add_leaf(SbItemSpace *space, SbItems *items, int at, uint64 place);

/* ---- sb_items_log.c ---- */
/* So many of the item have come, or gone. */
extern void sb_items_log(SbItemSpace *space, const SbItemOrder *order, SbItems *items,
                         const SbItem *item, int64 count);
/* The log since the last write is not needed, or has been written. */
extern void sb_items_clear_log(SbItems *items);
/* Shall the log be written, rather than the leaves? */
extern bool sb_items_log_is_cheaper(const SbItems *items);
extern void sb_items_write_log(SbItemSpace *space, SbItems *items);
/* The leaves are written: what came and went before is in them. */
extern void sb_items_delete_chunks(SbItemSpace *space, SbItems *items);
/* Does what the chunks of the table say, to leaves as they were before. */
extern void sb_items_replay(SbItemSpace *space, const SbItemOrder *order, SbItems *items);

#endif
