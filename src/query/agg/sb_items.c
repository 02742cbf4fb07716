/*
 * sb_items.c: see sb_items.h.
 *
 * THE DIRECTORY is the places of the leaves' first items, in one array to be searched, and the
 * leaves in another. A place may be before that of the first item, when that is gone. Where places
 * are the same the leaves' first items decide. It is read when the tree is first asked for more
 * than what stands in the accumulator.
 *
 * A leaf that is too long is cut in halves; one that is the last and grows at its end keeps what it
 * has. A leaf that has become short is joined with a neighbour, an empty one goes. All leaves that
 * have been changed are written together: so what is in the table is as of one moment.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "miscadmin.h"
#include "query/agg/sb_items_private.h"
#include "query/expr/sb_bytes.h"

/* ---- memory ---- */

SbItems *
sb_items_make(SbItemSpace *space)
{
	SbItems *items = sb_items_alloc(space, NULL, sizeof(SbItems));

	memset(items, 0, sizeof(SbItems));
	items->known = true;
	items->logs = true;
	dlist_init(&items->changed);
	return items;
}

static void
leaf_free(SbItemSpace *space, SbItems *items, SbLeaf *leaf)
{
	if (leaf->changed)
	{
		dlist_delete(&leaf->node);
		items->nchanged--;
	}
	sb_leaf_unload(space, leaf);
	sb_items_release(space, leaf);
}

void
sb_items_free(SbItemSpace *space, SbItems *items)
{
	for (int i = 0; i < items->nleaves; i++)
		leaf_free(space, items, items->leaves[i]);
	sb_items_release(space, items->leaves);
	sb_items_release(space, items->places);
	sb_items_release(space, items->gone);
	sb_leaf_unload(space, &items->heap);
	sb_leaf_unload(space, &items->log);
	sb_items_release(space, items);
}

void
sb_items_drop(SbItemSpace *space, SbItems *items)
{
	if (items->tree != 0)
		space->store->drop_tree(space->store->arg, items->tree);
	sb_items_free(space, items);
}

void
sb_items_unload(SbItemSpace *space, SbItems *items)
{
	if (items->heap.n == 0)
		sb_leaf_unload(space, &items->heap);
	if (items->log.n == 0)
		sb_leaf_unload(space, &items->log);
	if (items->tree == 0)
		return;
	for (int i = 0; i < items->nleaves; i++)
	{
		SbLeaf *leaf = items->leaves[i];

		if (leaf->data && leaf->stored && !leaf->changed)
			sb_leaf_unload(space, leaf);
	}
}

int64
sb_items_rows(const SbItems *items)
{
	return items->rows;
}

uint64
sb_items_next_arrival(SbItems *items)
{
	return items->next_arrival++;
}

int64
sb_items_tree(const SbItems *items)
{
	return items->tree;
}

/* ---- the directory ---- */

/* A leaf without items, which is to stand here. */
SbLeaf *
sb_items_add_leaf(SbItemSpace *space, SbItems *items, int at, uint64 place)
{
	SbLeaf *leaf;

	if (items->nleaves == items->max)
	{
		int max = items->max == 0 ? 1 : items->max * 2;

		items->places = sb_items_alloc(space, items->places, sizeof(uint64) * max);
		items->leaves = sb_items_alloc(space, items->leaves, sizeof(SbLeaf *) * max);
		items->max = max;
	}
	leaf = sb_items_alloc(space, NULL, sizeof(SbLeaf));
	memset(leaf, 0, sizeof(SbLeaf));
	leaf->id = items->next_leaf++;
	memmove(items->places + at + 1, items->places + at, sizeof(uint64) * (items->nleaves - at));
	memmove(items->leaves + at + 1, items->leaves + at, sizeof(SbLeaf *) * (items->nleaves - at));
	items->places[at] = place;
	items->leaves[at] = leaf;
	items->nleaves++;
	return leaf;
}

static void
items_remove_leaf(SbItemSpace *space, SbItems *items, int at)
{
	SbLeaf *leaf = items->leaves[at];

	if (leaf->stored)
	{
		if (items->ngone == items->max_gone)
		{
			items->max_gone = Max(8, items->max_gone * 2);
			items->gone = sb_items_alloc(space, items->gone, sizeof(int32) * items->max_gone);
		}
		items->gone[items->ngone++] = leaf->id;
	}
	leaf_free(space, items, leaf);
	items->nleaves--;
	memmove(items->places + at, items->places + at + 1, sizeof(uint64) * (items->nleaves - at));
	memmove(items->leaves + at, items->leaves + at + 1, sizeof(SbLeaf *) * (items->nleaves - at));
}

static void
items_fill(SbItemSpace *space, const SbItemOrder *order, SbItems *items, int at, const bytea *bytes)
{
	SbLeaf *leaf = items->leaves[at];
	int32 n = leaf->n;
	int64 rows = leaf->rows;

	sb_leaf_decode(space, order, leaf, items->places[at], VARDATA_ANY(bytes),
	               VARDATA_ANY(bytes) + VARSIZE_ANY_EXHDR(bytes));
	if (leaf->n == n && leaf->rows == rows)
		return;
	sb_leaf_unload(space, leaf);
	leaf->n = n;
	leaf->rows = rows;
	sb_bytes_corrupted("A leaf has other items than its row says.");
}

static SbLeaf *
items_leaf(SbItemSpace *space, const SbItemOrder *order, SbItems *items, int at)
{
	SbLeaf *leaf = items->leaves[at];

	if (leaf->data == NULL)
		items_fill(space, order, items, at,
		           space->store->read_leaf(space->store->arg, items->tree, leaf->id));
	return leaf;
}

/* While a directory is being read: where leaves of one place stand is what their items say. */
typedef struct SbDirectory
{
	SbItemSpace *space;
	const SbItemOrder *order;
	SbItems *items;
	int *index; /* of each number of a leaf: where it stands; -1: nowhere */
} SbDirectory;

static void
directory_index(SbDirectory *directory)
{
	SbItems *items = directory->items;

	directory->index = palloc(sizeof(int) * Max(items->next_leaf, 1));
	memset(directory->index, -1, sizeof(int) * Max(items->next_leaf, 1));
	for (int i = 0; i < items->nleaves; i++)
		directory->index[items->leaves[i]->id] = i;
}

static void
directory_take(void *to, int32 leaf, const bytea *bytes)
{
	SbDirectory *directory = to;
	SbItems *items = directory->items;
	int at = leaf >= 0 && leaf < items->next_leaf ? directory->index[leaf] : -1;

	if (at >= 0 && items->leaves[at]->data == NULL)
		items_fill(directory->space, directory->order, items, at, bytes);
}

/* All leaves come into memory. */
static void
items_load(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	SbDirectory directory = {.space = space, .order = order, .items = items};
	int missing = 0;

	for (int i = 0; i < items->nleaves; i++)
		missing += items->leaves[i]->data == NULL;
	if (missing < SB_LEAVES_AT_ONCE)
		return;
	directory_index(&directory);
	space->store->read_leaves(space->store->arg, items->tree, directory_take, &directory);
	pfree(directory.index);
}

static int
directory_compare_rows(const void *a, const void *b)
{
	const SbLeafRow *x = a;
	const SbLeafRow *y = b;

	if (x->place != y->place)
		return x->place < y->place ? -1 : 1;
	return x->leaf < y->leaf ? -1 : x->leaf > y->leaf;
}

static int
directory_compare_leaves(const void *a, const void *b, void *arg)
{
	SbDirectory *directory = arg;
	SbItem x = sb_leaf_item(*(SbLeaf *const *) a, 0);
	SbItem y = sb_leaf_item(*(SbLeaf *const *) b, 0);

	return sb_items_compare(directory->order, &x, &y);
}

/* Leaves of one place are sorted by their first items. */
static void
directory_sort(SbDirectory *directory)
{
	SbItems *items = directory->items;
	int n;

	for (int from = 0; from < items->nleaves; from += n)
	{
		n = 1;
		while (from + n < items->nleaves && items->places[from + n] == items->places[from])
			n++;
		if (n == 1)
			continue;
		if (n >= SB_LEAVES_AT_ONCE)
			items_load(directory->space, directory->order, items);
		for (int i = from; i < from + n; i++)
			(void) items_leaf(directory->space, directory->order, items, i);
		qsort_arg(items->leaves + from, n, sizeof(SbLeaf *), directory_compare_leaves, directory);
	}
}

/* The rows of the leaves of a tree, without those of chunks; returns how many. */
static int
directory_leaves(SbItemSpace *space, const SbItems *items, SbLeafRow **rows)
{
	int n = space->store->read_tree(space->store->arg, items->tree, rows);
	int nleaves = 0;
	int64 total = 0;

	for (int i = 0; i < n; i++)
	{
		SbLeafRow row = (*rows)[i];

		if (row.leaf >= items->next_leaf || row.items <= 0)
			sb_bytes_corrupted("A tree of items has a leaf that it cannot have.");
		total += row.rows;
		if (row.leaf >= 0)
			(*rows)[nleaves++] = row;
	}
	if (n - nleaves != items->nchunks || total != items->rows - items->heap.rows)
		sb_bytes_corrupted("The leaves of a tree have not as many rows as the tree.");
	return nleaves;
}

/* Makes the directory from the rows of the leaves, and does what the chunks say. */
static void
items_read(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	SbDirectory directory = {.space = space, .order = order, .items = items};
	int32 next_leaf = items->next_leaf;
	SbLeafRow *rows;
	int n = directory_leaves(space, items, &rows);

	qsort(rows, n, sizeof(SbLeafRow), directory_compare_rows);
	for (int i = 0; i < n; i++)
	{
		SbLeaf *leaf = sb_items_add_leaf(space, items, i, rows[i].place);

		leaf->id = rows[i].leaf;
		leaf->n = rows[i].items;
		leaf->rows = rows[i].rows;
		leaf->stored = true;
	}
	items->next_leaf = next_leaf;
	pfree(rows);
	directory_sort(&directory);
	sb_items_replay(space, order, items);
}

/* The directory is read, unless it is there. Comparing may fail: then nothing of it is there. */
void
sb_items_know(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	int32 next_leaf = items->next_leaf;
	int64 groups = items->groups;

	if (items->known)
		return;
	PG_TRY();
	{
		items_read(space, order, items);
	}
	PG_CATCH();
	{
		while (items->nleaves > 0)
			leaf_free(space, items, items->leaves[--items->nleaves]);
		items->ngone = 0;
		items->next_leaf = next_leaf;
		items->groups = groups;
		PG_RE_THROW();
	}
	PG_END_TRY();
	items->known = true;
}

/* Is the item at or behind the first one of this leaf? */
static bool
items_reaches(SbItemSpace *space, const SbItemOrder *order, SbItems *items, int at,
              const SbItem *item)
{
	SbItem first;

	if (items->places[at] != item->place)
		return items->places[at] < item->place;
	first = sb_leaf_item(items_leaf(space, order, items, at), 0);
	return sb_items_compare(order, &first, item) <= 0;
}

/* The leaf where the item stands, or would stand. There is one. */
static int
items_find_leaf(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItem *item)
{
	int low = 0;
	int high = items->nleaves - 1;

	while (low < high)
	{
		int middle = low + (high - low + 1) / 2;

		if (items_reaches(space, order, items, middle, item))
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/* Where an item stands, or would stand. */
typedef struct SbItemSpot
{
	int leaf;
	int at; /* the first one that is not before it; n: none */
	bool found;
} SbItemSpot;

/* A search by halves, among the leaves and then in one. */
static SbItemSpot
items_find(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItem *item)
{
	SbItemSpot spot = {.leaf = items_find_leaf(space, order, items, item)};
	SbLeaf *leaf = items_leaf(space, order, items, spot.leaf);
	const SbItemSlot *slots = sb_leaf_slots(leaf);
	int high = leaf->n;

	if (order->place == NULL)
	{
		spot.at = leaf->n;
		return spot;
	}
	while (spot.at < high)
	{
		int middle = (spot.at + high) / 2;
		int result = slots[middle].place < item->place ? -1 : 1;

		if (slots[middle].place == item->place)
		{
			SbItem other = sb_leaf_item(leaf, middle);

			result = sb_items_compare(order, &other, item);
		}
		spot.found |= result == 0;
		if (result < 0)
			spot.at = middle + 1;
		else
			high = middle;
	}
	return spot;
}

/* The item before the spot. */
static bool
items_before(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItemSpot *spot,
             SbItem *item)
{
	SbLeaf *leaf = items->leaves[spot->leaf];

	if (spot->at > 0)
		*item = sb_leaf_item(leaf, spot->at - 1);
	else if (spot->leaf > 0)
	{
		leaf = items_leaf(space, order, items, spot->leaf - 1);
		*item = sb_leaf_item(leaf, leaf->n - 1);
	}
	else
		return false;
	return true;
}

/* The item at this place of the spot's leaf, or the first one of the next. */
static bool
items_after(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItemSpot *spot,
            int at, SbItem *item)
{
	if (at < items->leaves[spot->leaf]->n)
		*item = sb_leaf_item(items->leaves[spot->leaf], at);
	else if (spot->leaf + 1 < items->nleaves)
		*item = sb_leaf_item(items_leaf(space, order, items, spot->leaf + 1), 0);
	else
		return false;
	return true;
}

/* Is there another item that its type says is the same? `at`: of what stands behind it. */
static bool
items_has_same(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItemSpot *spot,
               int at, const SbItem *item)
{
	SbItem other;

	if (order->compare == NULL)
		return false;
	return (items_before(space, order, items, spot, &other) &&
	        sb_items_same(order, &other, item)) ||
	       (items_after(space, order, items, spot, at, &other) &&
	        sb_items_same(order, &other, item));
}

/* ---- adding ---- */

/* The leaf is too long: what stands from its middle on becomes a leaf of its own. */
static void
items_cut(SbItemSpace *space, SbItems *items, int at, bool grows_at_end)
{
	SbLeaf *leaf = items->leaves[at];
	Size half = sb_leaf_used(leaf) / 2;
	Size length = 0;
	int left = 0;
	SbLeaf *next;

	while (left == 0 || (left < leaf->n - 1 && (grows_at_end || length < half)))
	{
		SbItem item = sb_leaf_item(leaf, left++);

		length += sb_item_length(&item);
	}
	next = sb_items_add_leaf(space, items, at + 1, sb_leaf_slots(leaf)[left].place);
	sb_leaf_reserve(space, next, sb_leaf_used(leaf) - length);
	for (int i = left; i < leaf->n; i++)
	{
		SbItem item = sb_leaf_item(leaf, i);

		sb_leaf_insert(space, next, next->n, &item);
	}
	while (leaf->n > left)
		sb_leaf_remove(leaf, leaf->n - 1);
	sb_leaf_change(items, leaf);
	sb_leaf_change(items, next);
}

/* Puts the item into its leaf, or counts it where it is there already. */
void
sb_items_place(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItem *item)
{
	SbItemSpot spot;
	SbLeaf *leaf;
	bool at_end;

	if (items->nleaves == 0)
		sb_leaf_reserve(space, sb_items_add_leaf(space, items, 0, item->place), 1);
	spot = items_find(space, order, items, item);
	leaf = items->leaves[spot.leaf];
	at_end = spot.leaf == items->nleaves - 1 && spot.at == leaf->n;
	if (spot.found)
		sb_leaf_count(leaf, spot.at, item->count);
	else
	{
		if (!items_has_same(space, order, items, &spot, spot.at, item))
			items->groups++;
		if (spot.at == 0 && item->place < items->places[spot.leaf])
			items->places[spot.leaf] = item->place;
		sb_leaf_insert(space, leaf, spot.at, item);
	}
	sb_leaf_change(items, leaf);
	if (leaf->n > 1 && sb_leaf_used(leaf) > SB_LEAF_ROOM)
		items_cut(space, items, spot.leaf, at_end);
}

/* Fewer leaves are in the cache anyhow. */
#define SB_HEAP_LEAVES 8
/* The heap is at most this part of the tree. */
#define SB_HEAP_PART 4

void
sb_items_add(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const char *data,
             uint32 size, int64 count)
{
	SbItem item = {.count = count, .data = data, .size = size};

	item.place = order->place ? order->place(order->arg, data, size) : items->next_arrival++;
	if (order->place == NULL || (items->known && items->nleaves < SB_HEAP_LEAVES))
	{
		sb_items_know(space, order, items);
		items->rows += count;
		sb_items_log(space, order, items, &item, count);
		sb_items_place(space, order, items, &item);
		return;
	}
	items->rows += count;
	sb_items_log(space, order, items, &item, count);
	sb_leaf_append(space, &items->heap, &item);
	if (items->heap.n > items->rows / SB_HEAP_PART || items->heap.bytes >= SB_HEAP_BYTES)
		sb_items_settle(space, order, items);
}

int64
sb_items_groups(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	if (items->heap.n > 0)
		sb_items_settle(space, order, items);
	return items->groups;
}

/* ---- taking out ---- */

/* The leaf has become short: it is joined with the one behind it where both are one then. */
static void
items_join(SbItemSpace *space, const SbItemOrder *order, SbItems *items, int at)
{
	SbLeaf *leaf;
	SbLeaf *next;

	if (at == items->nleaves - 1)
		at--;
	if (at < 0)
		return;
	leaf = items_leaf(space, order, items, at);
	next = items_leaf(space, order, items, at + 1);
	if (sb_leaf_used(leaf) + sb_leaf_used(next) > SB_LEAF_ROOM * 3 / 4)
		return;
	sb_leaf_reserve(space, leaf, sb_leaf_used(next));
	for (int i = 0; i < next->n; i++)
	{
		SbItem item = sb_leaf_item(next, i);

		sb_leaf_insert(space, leaf, leaf->n, &item);
	}
	sb_leaf_change(items, leaf);
	items_remove_leaf(space, items, at + 1);
}

/* The item at the spot is the same to its type, or one beside it is: then the spot is there. */
static bool
items_move_to_same(SbItemSpace *space, const SbItemOrder *order, SbItems *items, SbItemSpot *spot,
                   const SbItem *item)
{
	SbItem other;

	if (order->compare == NULL)
		return false;
	if ((!items_after(space, order, items, spot, spot->at, &other) ||
	     !sb_items_same(order, &other, item)) &&
	    (!items_before(space, order, items, spot, &other) || !sb_items_same(order, &other, item)))
		return false;
	*spot = items_find(space, order, items, &other);
	return spot->found;
}

/* One of the item goes, and with the last one its slot, and its leaf where that is empty. */
static void
items_take_at(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItemSpot *spot)
{
	SbLeaf *leaf = items->leaves[spot->leaf];
	SbItem item = sb_leaf_item(leaf, spot->at);

	sb_leaf_change(items, leaf);
	if (item.count > 1)
	{
		sb_leaf_count(leaf, spot->at, -1);
		return;
	}
	if (!items_has_same(space, order, items, spot, spot->at + 1, &item))
		items->groups--;
	sb_leaf_remove(leaf, spot->at);
	if (leaf->n == 0)
		items_remove_leaf(space, items, spot->leaf);
	else if (items->nleaves > 1 && sb_leaf_used(leaf) < SB_LEAF_SHORT)
		items_join(space, order, items, spot->leaf);
}

bool
sb_items_take(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItem *item)
{
	SbItemSpot spot;

	if (items->nleaves == 0)
		return false;
	spot = items_find(space, order, items, item);
	if (spot.found)
		items_take_at(space, order, items, &spot);
	return spot.found;
}

bool
sb_items_remove(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const char *data,
                uint32 size)
{
	SbItem item = {.place = order->place(order->arg, data, size),
	               .count = 1,
	               .data = data,
	               .size = size};
	SbItemSpot spot;

	if (items->rows == 0)
		return false;
	sb_items_settle(space, order, items);
	spot = items_find(space, order, items, &item);
	if (!spot.found && !items_move_to_same(space, order, items, &spot, &item))
		return false;
	item = sb_leaf_item(items->leaves[spot.leaf], spot.at);
	sb_items_log(space, order, items, &item, -1);
	items->rows--;
	items_take_at(space, order, items, &spot);
	return true;
}

SbItems *
sb_items_merge(SbItemSpace *space, const SbItemOrder *order, SbItems *into, SbItems *from)
{
	SbItemScan scan = {0};
	SbItem item;

	/* the smaller one moves */
	if (from->rows > into->rows)
	{
		SbItems *larger = from;

		from = into;
		into = larger;
	}
	while (sb_items_next(space, order, from, &scan, &item))
	{
		CHECK_FOR_INTERRUPTS();
		sb_items_add(space, order, into, item.data, item.size, item.count);
	}
	sb_items_drop(space, from);
	return into;
}

/* ---- reading ---- */

SbItem
sb_items_first(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	sb_items_settle(space, order, items);
	return sb_leaf_item(items_leaf(space, order, items, 0), 0);
}

SbItem
sb_items_last(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	SbLeaf *leaf;

	sb_items_settle(space, order, items);
	leaf = items_leaf(space, order, items, items->nleaves - 1);
	return sb_leaf_item(leaf, leaf->n - 1);
}

SbItem
sb_items_nth(SbItemSpace *space, const SbItemOrder *order, SbItems *items, int64 row)
{
	int at = 0;
	SbLeaf *leaf;

	sb_items_settle(space, order, items);
	while (row >= items->leaves[at]->rows)
		row -= items->leaves[at++]->rows;
	leaf = items_leaf(space, order, items, at);
	for (at = 0; row >= sb_leaf_slots(leaf)[at].count; at++)
		row -= sb_leaf_slots(leaf)[at].count;
	return sb_leaf_item(leaf, at);
}

bool
sb_items_next(SbItemSpace *space, const SbItemOrder *order, SbItems *items, SbItemScan *scan,
              SbItem *item)
{
	SbLeaf *leaf;

	if (!scan->begun)
	{
		scan->begun = true;
		sb_items_settle(space, order, items);
		items_load(space, order, items);
	}
	if (scan->leaf >= items->nleaves)
		return false;
	leaf = items_leaf(space, order, items, scan->leaf);
	*item = sb_leaf_item(leaf, scan->at++);
	if (scan->at == leaf->n)
	{
		scan->at = 0;
		scan->leaf++;
	}
	return true;
}

bool
sb_items_previous(SbItemSpace *space, const SbItemOrder *order, SbItems *items, SbItemScan *scan,
                  SbItem *item)
{
	if (!scan->begun)
	{
		scan->begun = true;
		sb_items_settle(space, order, items);
		scan->leaf = items->nleaves;
	}
	if (scan->at == 0)
	{
		if (--scan->leaf < 0)
			return false;
		scan->at = items_leaf(space, order, items, scan->leaf)->n;
	}
	*item = sb_leaf_item(items_leaf(space, order, items, scan->leaf), --scan->at);
	return true;
}
