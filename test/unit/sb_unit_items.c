/*
 * sb_unit_items.c: items in order, with a table that is an array, against a list that is kept
 * without any wit.
 */
#include "postgres.h"
#include "base/sb_compat.h"
#include "query/agg/sb_items.h"
#include "query/expr/sb_bytes.h"
#include "sb_unit.h"
#include "utils/memutils.h"

#define MAX_NAIVE 4000
#define MAX_LEAVES 4000

static uint64 random_state;

static uint64
random_next(void)
{
	random_state =
	    random_state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return random_state >> 11;
}

/* ---- the table ---- */

typedef struct Leaf
{
	bool there;
	int64 tree;
	SbLeafRow row;
	char *data; /* of whoever writes it anew */
	uint32 size;
} Leaf;

static Leaf leaves[MAX_LEAVES];
static int64 last_tree;
static int written; /* leaves since it was last set to 0 */

static Leaf *
leaf_of(int64 tree, int32 number)
{
	Leaf *free_one = NULL;

	for (int i = 0; i < MAX_LEAVES; i++)
	{
		if (!leaves[i].there)
			free_one = free_one ? free_one : &leaves[i];
		else if (leaves[i].tree == tree && leaves[i].row.leaf == number)
			return &leaves[i];
	}
	return free_one;
}

static int64
table_new_tree(void *arg)
{
	return ++last_tree;
}

static int
table_read_tree(void *arg, int64 tree, SbLeafRow **rows)
{
	int n = 0;

	*rows = palloc(sizeof(SbLeafRow) * MAX_LEAVES);
	for (int i = 0; i < MAX_LEAVES; i++)
	{
		if (leaves[i].there && leaves[i].tree == tree)
			(*rows)[n++] = leaves[i].row;
	}
	return n;
}

static bytea *
bytes_of(const Leaf *leaf)
{
	bytea *bytes = palloc(VARHDRSZ + leaf->size);

	SET_VARSIZE(bytes, VARHDRSZ + leaf->size);
	memcpy(VARDATA(bytes), leaf->data, leaf->size);
	return bytes;
}

static bytea *
table_read_leaf(void *arg, int64 tree, int32 number)
{
	return bytes_of(leaf_of(tree, number));
}

static void
table_read_leaves(void *arg, int64 tree, void (*take)(void *to, int32 leaf, const bytea *bytes),
                  void *to)
{
	for (int i = 0; i < MAX_LEAVES; i++)
	{
		bytea *bytes;

		if (!leaves[i].there || leaves[i].tree != tree)
			continue;
		bytes = bytes_of(&leaves[i]);
		take(to, leaves[i].row.leaf, bytes);
		pfree(bytes);
	}
}

static void
table_write_leaf(void *arg, int64 tree, const SbLeafRow *row, const StringInfo bytes, bool stored)
{
	Leaf *leaf = leaf_of(tree, row->leaf);

	unit_must(leaf->there == stored, "a leaf is inserted once and updated then");
	if (leaf->data)
		pfree(leaf->data);
	*leaf = (Leaf){.there = true, .tree = tree, .row = *row, .size = bytes->len - VARHDRSZ};
	leaf->data = palloc(Max(leaf->size, 1));
	memcpy(leaf->data, bytes->data + VARHDRSZ, leaf->size);
	written++;
}

static void
table_delete_leaf(void *arg, int64 tree, int32 number)
{
	Leaf *leaf = leaf_of(tree, number);

	unit_must(leaf->there, "a leaf that is deleted is there");
	leaf->there = false;
}

static void
table_drop_tree(void *arg, int64 tree)
{
	for (int i = 0; i < MAX_LEAVES; i++)
		leaves[i].there = leaves[i].there && leaves[i].tree != tree;
}

static const SbItemStore table = {.new_tree = table_new_tree,
                                  .read_tree = table_read_tree,
                                  .read_leaf = table_read_leaf,
                                  .read_leaves = table_read_leaves,
                                  .write_leaf = table_write_leaf,
                                  .delete_leaf = table_delete_leaf,
                                  .drop_tree = table_drop_tree};

static int
table_count(void)
{
	int n = 0;

	for (int i = 0; i < MAX_LEAVES; i++)
		n += leaves[i].there;
	return n;
}

/* ---- the list ---- */

typedef struct Naive
{
	char data[24];
	uint32 size;
} Naive;

static Naive naive[MAX_NAIVE];
static int nnaive;

static int fails_in; /* so many comparisons; 0: none does */

/* Of the type of these items the first byte says nothing: "a1" and "b1" are the same. */
static int
compare_types(void *arg, const SbItem *a, const SbItem *b)
{
	int result = memcmp(a->data + 1, b->data + 1, Min(a->size, b->size) - 1);

	if (fails_in > 0 && --fails_in == 0)
		ereport(ERROR, (errmsg("a comparison fails")));
	return result != 0 ? result : (int) a->size - (int) b->size;
}

/* Few places, so that leaves have the same one. */
static uint64
place_by_length(void *arg, const char *data, uint32 size)
{
	return size / 8;
}

static uint64
place_by_hash(void *arg, const char *data, uint32 size)
{
	uint64 hash = 1469598103934665603;

	for (uint32 i = 0; i < size; i++)
		hash = (hash ^ (uint8) data[i]) * 1099511628211;
	return hash;
}

static void
skip_item(void *arg, const char **data, const char *end)
{
	*data = end;
}

static const SbItemOrder by_type = {.place = place_by_length,
                                    .compare = compare_types,
                                    .skip = skip_item};
static const SbItemOrder by_hash = {.place = place_by_hash, .skip = skip_item};
static const SbItemOrder by_arrival = {.skip = skip_item};

static SbItem
item_of(const SbItemOrder *order, const Naive *one)
{
	return (SbItem){.place = order->place ? order->place(NULL, one->data, one->size) : 0,
	                .data = one->data,
	                .size = one->size};
}

static const SbItemOrder *naive_order;

static int
naive_compare(const void *a, const void *b)
{
	SbItem x = item_of(naive_order, a);
	SbItem y = item_of(naive_order, b);
	int result = x.place < y.place ? -1 : x.place > y.place;

	if (result == 0 && naive_order->compare)
		result = naive_order->compare(NULL, &x, &y);
	if (result == 0)
		result = memcmp(x.data, y.data, Min(x.size, y.size));
	return result != 0 ? result : (int) x.size - (int) y.size;
}

static bool
naive_same(const SbItemOrder *order, const Naive *a, const Naive *b)
{
	SbItem x = item_of(order, a);
	SbItem y = item_of(order, b);

	if (order->compare)
		return x.place == y.place && order->compare(NULL, &x, &y) == 0;
	return x.size == y.size && memcmp(x.data, y.data, x.size) == 0;
}

static void
naive_make(Naive *one, int values)
{
	int value = random_next() % values;

	snprintf(one->data, sizeof(one->data), "%c%0*d", 'a' + (int) (random_next() % 2),
	         3 + value % 15, value);
	one->size = strlen(one->data);
}

/* Everything that can be asked has the answer of the list. */
static void
compare_all(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	SbItemScan scan = {0};
	SbItem item = {0};
	int64 groups = 0;
	int at = 0;

	naive_order = order;
	if (order->place)
		qsort(naive, nnaive, sizeof(Naive), naive_compare);
	unit_must(sb_items_rows(items) == nnaive, "there are " INT64_FORMAT " rows, not %d",
	          sb_items_rows(items), nnaive);
	while (sb_items_next(space, order, items, &scan, &item))
	{
		for (int64 n = 0; n < item.count; n++, at++)
			unit_must(at < nnaive && naive[at].size == item.size &&
			              memcmp(naive[at].data, item.data, item.size) == 0,
			          "row %d is another one", at);
	}
	unit_must(at == nnaive, "%d rows were read of %d", at, nnaive);
	if (nnaive == 0)
		return;
	for (int i = 0; i < nnaive; i++)
		groups += i == 0 || order->place == NULL || !naive_same(order, &naive[i - 1], &naive[i]);
	unit_must(groups == sb_items_groups(space, order, items),
	          "there are " INT64_FORMAT " groups, not " INT64_FORMAT,
	          sb_items_groups(space, order, items), groups);
	at = random_next() % nnaive;
	item = sb_items_nth(space, order, items, at);
	unit_must(item.size == naive[at].size && memcmp(item.data, naive[at].data, item.size) == 0,
	          "row %d is found by its number", at);
	item = sb_items_first(space, order, items);
	unit_must(memcmp(item.data, naive[0].data, item.size) == 0, "the first one is the first");
	item = sb_items_last(space, order, items);
	unit_must(memcmp(item.data, naive[nnaive - 1].data, item.size) == 0,
	          "the last one is the last");
}

/* One comes, or one goes: it or one that is the same. */
static void
change_one(SbItemSpace *space, const SbItemOrder *order, SbItems *items, bool adds, int values)
{
	Naive one;
	bool removed;
	int at = 0;

	naive_make(&one, values);
	if (adds)
	{
		sb_items_add(space, order, items, one.data, one.size, 1);
		if (nnaive < MAX_NAIVE)
			naive[nnaive++] = one;
		return;
	}
	if (nnaive > 0 && random_next() % 4 != 0)
		one = naive[random_next() % nnaive];
	removed = sb_items_remove(space, order, items, one.data, one.size);
	/* the same bytes, if they are there */
	while (at < nnaive &&
	       (naive[at].size != one.size || memcmp(naive[at].data, one.data, one.size) != 0))
		at++;
	for (int i = 0; i < nnaive && at == nnaive; i++)
	{
		if (naive_same(order, &naive[i], &one))
			at = i;
	}
	unit_must(removed == (at < nnaive), "one is %sremoved that is %sthere", removed ? "" : "not ",
	          at < nnaive ? "" : "not ");
	if (removed)
		naive[at] = naive[--nnaive];
}

/* It is written, leaves memory, and is read again. */
static SbItems *
write_and_read(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	StringInfoData bytes;
	const char *data;

	initStringInfo(&bytes);
	sb_items_encode(space, order, items, &bytes);
	sb_items_free(space, items);
	unit_must(space->bytes == 0, "%zu bytes are left", space->bytes);
	data = bytes.data;
	items = sb_items_decode(space, order, &data, bytes.data + bytes.len);
	unit_must(data == bytes.data + bytes.len, "all bytes are read");
	pfree(bytes.data);
	return items;
}

/* A question whose comparisons fail changes nothing; did it? */
static bool
ask_in_vain(SbItemSpace *space, SbItems *items)
{
	bool failed;

	if (sb_items_rows(items) == 0)
		return false;
	fails_in = 1 + random_next() % 400;
	failed = UNIT_RAISES((void) sb_items_first(space, &by_type, items));
	fails_in = 0;
	return failed;
}

static void
test_random_items(const SbItemOrder *order, const char *name, int rounds, bool stored)
{
	SbItemSpace space = {.store = stored ? &table : NULL};
	int failed = 0;

	for (int round = 0; round < rounds; round++)
	{
		SbItems *items = sb_items_make(&space);
		int values = 1 << (random_next() % 12);

		nnaive = 0;
		for (int step = 0; step < 30; step++)
		{
			int changes = random_next() % 200;
			bool grows = order->place == NULL || random_next() % 5 < 3;

			for (int i = 0; i < changes && nnaive < MAX_NAIVE; i++)
				change_one(&space, order, items,
				           order->place == NULL || (random_next() % 10 < 8) == grows, values);
			if (nnaive == 0)
			{
				sb_items_drop(&space, items);
				items = sb_items_make(&space);
			}
			else if (random_next() % 3 == 0)
				items = write_and_read(&space, order, items);
			else if (random_next() % 3 == 0)
				sb_items_unload(&space, items);
			if (order == &by_type && random_next() % 2 == 0)
				failed += ask_in_vain(&space, items);
			if (random_next() % 4 == 0)
				compare_all(&space, order, items);
		}
		sb_items_drop(&space, items);
		unit_must(space.bytes == 0 && table_count() == 0, "something is left of a tree");
	}
	unit_ok(order != &by_type || !stored || failed > 0,
	        "items in the order %s%s, against a list: %d rounds, %d questions failed", name,
	        stored ? "" : ", without a table", rounds, failed);
}

static void
test_merge(void)
{
	SbItemSpace space = {.store = &table};
	SbItems *sides[2];

	nnaive = 0;
	for (int side = 0; side < 2; side++)
	{
		sides[side] = sb_items_make(&space);
		for (int i = 0; i < 100 + 300 * side; i++)
			change_one(&space, &by_type, sides[side], true, 500);
		sides[side] = write_and_read(&(SbItemSpace){.store = &table, .bytes = space.bytes},
		                             &by_type, sides[side]);
		space.bytes = 0;
	}
	unit_ok(true, "two trees are written");
	sides[0] = sb_items_merge(&space, &by_type, sides[0], sides[1]);
	compare_all(&space, &by_type, sides[0]);
	unit_ok(sb_items_rows(sides[0]) == 500, "two trees become one");
	sb_items_drop(&space, sides[0]);
	unit_ok(table_count() == 0, "no leaf of them is left");
}

/* However many there are, one that comes or goes writes one leaf. */
static void
test_written(void)
{
	SbItemSpace space = {.store = &table};
	SbItems *items = sb_items_make(&space);
	int most = 0;

	nnaive = 0;
	for (int i = 0; i < 3000; i++)
		change_one(&space, &by_hash, items, true, 100000);
	items = write_and_read(&space, &by_hash, items);
	unit_ok(written > 50, "3000 items are many leaves");
	for (int i = 0; i < 200; i++)
	{
		StringInfoData bytes;

		initStringInfo(&bytes);
		written = 0;
		change_one(&space, &by_hash, items, i % 2 == 0, 100000);
		sb_items_encode(&space, &by_hash, items, &bytes);
		most = Max(most, written);
		pfree(bytes.data);
	}
	unit_ok(most <= 2, "one item that comes or goes writes one leaf, or the halves of one: %d",
	        most);
	compare_all(&space, &by_hash, items);
	sb_items_drop(&space, items);
}

/* Of a tree whose leaves are not in memory few are read to answer. */
static void
test_memory(void)
{
	SbItemSpace space = {.store = &table};
	SbItems *items = sb_items_make(&space);
	Size all;

	nnaive = 0;
	for (int i = 0; i < 3000; i++)
		change_one(&space, &by_hash, items, true, 100000);
	all = space.bytes;
	items = write_and_read(&space, &by_hash, items);
	unit_ok(space.bytes < 1024, "nothing of it is in memory before it is asked for");
	(void) sb_items_last(&space, &by_hash, items);
	change_one(&space, &by_hash, items, true, 100000);
	unit_ok(space.bytes < all / 4, "a change and a look at the end bring in little: %zu of %zu",
	        space.bytes, all);
	sb_items_drop(&space, items);
}

void
unit_test_items(uint64 seed, int rounds)
{
	random_state = seed;
	test_written();
	test_memory();
	test_merge();
	test_random_items(&by_type, "of a type", rounds, true);
	test_random_items(&by_hash, "of a hash", rounds, true);
	test_random_items(&by_arrival, "of arrival", rounds, true);
	test_random_items(&by_type, "of a type", Max(rounds / 10, 1), false);
}
