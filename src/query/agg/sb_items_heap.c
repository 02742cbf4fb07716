/*
 * sb_items_heap.c: items that have come and are yet to be put in their places.
 *
 * A tree of some size does not fit into the processor's cache beside those of the other groups, and
 * an item that is put into it at once waits for memory several times. So items that come are
 * collected, and put in their places when they are a part of the tree, in their order. Whoever asks
 * anything of the tree has that done first.
 */
#include "postgres.h"

#include "query/agg/sb_items_private.h"

/* An empty heap with a chunk larger than this gives it back. */
#define SB_HEAP_KEPT 8192

/* The heap's items are sorted by their slots. */
typedef struct SbHeapOrder
{
	const SbItemOrder *order;
	const SbLeaf *heap;
} SbHeapOrder;

static inline int
items_compare_slots(const SbItemSlot *a, const SbItemSlot *b, const SbHeapOrder *heap)
{
	const SbItemSlot *slots = sb_leaf_slots(heap->heap);
	SbItem x;
	SbItem y;

	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
	x = sb_leaf_item(heap->heap, a - slots);
	y = sb_leaf_item(heap->heap, b - slots);
	return sb_items_compare(heap->order, &x, &y);
}

#define ST_SORT items_sort_slots
#define ST_ELEMENT_TYPE SbItemSlot
#define ST_COMPARE(a, b, arg) items_compare_slots(a, b, arg)
#define ST_COMPARE_ARG_TYPE const SbHeapOrder
#define ST_SCOPE static
#define ST_DEFINE
#include "lib/sort_template.h"

/* The first ones have come to their places. */
static void
heap_forget(SbLeaf *heap, int placed)
{
	for (int i = 0; i < placed; i++)
		heap->rows -= sb_leaf_slots(heap)[i].count;
	heap->n -= placed;
	if (heap->n == 0)
		heap->bytes = 0;
	else
		memmove(sb_leaf_slots(heap), sb_leaf_slots(heap) + placed, sizeof(SbItemSlot) * heap->n);
}

void
sb_items_settle(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	SbLeaf heap = items->heap;
	SbHeapOrder by = {.order = order, .heap = &heap};
	volatile int placed = 0;

	sb_items_know(space, order, items);
	if (heap.n == 0)
		return;
	/* comparing may fail, and the bundle go on: none is lost, none comes twice */
	items_sort_slots(sb_leaf_slots(&heap), heap.n, &by);
	PG_TRY();
	{
		while (placed < heap.n)
		{
			SbItem item = sb_leaf_item(&heap, placed);

			sb_items_place(space, order, items, &item);
			placed++;
		}
	}
	PG_CATCH();
	{
		heap_forget(&items->heap, placed);
		PG_RE_THROW();
	}
	PG_END_TRY();
	heap_forget(&items->heap, placed);
	if (items->heap.capacity > SB_HEAP_KEPT)
		sb_leaf_unload(space, &items->heap);
}
