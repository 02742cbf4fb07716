/*
 * sb_items_bytes.c: items as bytes, with their accumulator; see sb_items.c.
 */
#include "postgres.h"

#include "query/agg/sb_items_private.h"
#include "query/expr/sb_bytes.h"

typedef enum SbItemsForm
{
	SB_ITEMS_INLINE, /* the leaves follow */
	SB_ITEMS_TREE    /* the leaves are in the table */
} SbItemsForm;

typedef struct SbItemsBytes
{
	int64 rows;
	int64 groups;
	uint64 next_arrival;
	/* with a tree, else not written: */
	int64 tree;
	int64 next_leaf;
	int64 nchunks;
	int64 in_chunks;
} SbItemsBytes;

/* Hands what has changed to the store. */
static void
items_write_leaves(SbItemSpace *space, SbItems *items)
{
	const SbItemStore *store = space->store;
	StringInfoData bytes;

	initStringInfo(&bytes);
	while (!dlist_is_empty(&items->changed))
	{
		SbLeaf *leaf = dlist_head_element(SbLeaf, node, &items->changed);
		SbLeafRow row = {.leaf = leaf->id, .items = leaf->n, .rows = leaf->rows};
		SbItem first = sb_leaf_item(leaf, 0);

		row.place = first.place;
		resetStringInfo(&bytes);
		appendStringInfoSpaces(&bytes, VARHDRSZ);
		sb_leaf_encode(leaf, &bytes);
		store->write_leaf(store->arg, items->tree, &row, &bytes, leaf->stored);
		leaf->stored = true;
		leaf->changed = false;
		dlist_delete(&leaf->node);
	}
	items->nchanged = 0;
	pfree(bytes.data);
	for (int i = 0; i < items->ngone; i++)
		store->delete_leaf(store->arg, items->tree, items->gone[i]);
	items->ngone = 0;
	sb_items_delete_chunks(space, items);
}

void
sb_items_encode(SbItemSpace *space, const SbItemOrder *order, SbItems *items, StringInfo out)
{
	SbItemsBytes head = {.rows = items->rows, .next_arrival = items->next_arrival};

	head.groups = sb_items_groups(space, order, items);
	if (items->tree == 0 && (items->nleaves == 1 || space->store == NULL))
	{
		uint32 size;
		int at;

		appendStringInfoCharMacro(out, SB_ITEMS_INLINE);
		appendBinaryStringInfo(out, (char *) &head, offsetof(SbItemsBytes, tree));
		at = out->len;
		appendStringInfoSpaces(out, sizeof(uint32));
		for (int i = 0; i < items->nleaves; i++)
			sb_leaf_encode(items->leaves[i], out);
		size = out->len - at - sizeof(uint32);
		memcpy(out->data + at, &size, sizeof(size));
		return;
	}
	if (items->tree == 0)
		items->tree = space->store->new_tree(space->store->arg);
	if (sb_items_log_is_cheaper(items))
		sb_items_write_log(space, items);
	else if (items->nchanged + items->ngone > 0)
		items_write_leaves(space, items);
	sb_items_clear_log(items);
	head.tree = items->tree;
	head.next_leaf = items->next_leaf;
	head.nchunks = items->nchunks;
	head.in_chunks = items->in_chunks;
	appendStringInfoCharMacro(out, SB_ITEMS_TREE);
	appendBinaryStringInfo(out, (char *) &head, sizeof(head));
}

/* Bytes that have been checked become leaves: of one, as they are; of more, none is written yet. */
static void
items_fill_inline(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const char *data,
                  const char *end)
{
	SbLeaf *leaf = NULL;
	uint64 nth = 0;

	while (data < end)
	{
		SbItem item = sb_leaf_take_item(order, nth++, &data, end);

		if (leaf == NULL || sb_leaf_used(leaf) + sb_item_length(&item) > SB_LEAF_CHUNK)
			leaf = sb_items_add_leaf(space, items, items->nleaves, item.place);
		sb_leaf_insert(space, leaf, leaf->n, &item);
		items->rows += item.count;
	}
	for (int i = 0; i < items->nleaves && items->nleaves > 1; i++)
		sb_leaf_change(items, items->leaves[i]);
}

SbItems *
sb_items_decode(SbItemSpace *space, const SbItemOrder *order, const char **data, const char *end)
{
	uint8 form = (uint8) *sb_bytes_take(data, end, 1);
	SbItemsBytes head = {0};
	const char *bytes = NULL;
	uint32 size = 0;
	SbItems *items;

	/* all is looked at before anything is made, so that an error leaves nothing behind */
	if (form != SB_ITEMS_INLINE && form != SB_ITEMS_TREE)
		sb_bytes_corrupted("Items have an unknown form.");
	if (form == SB_ITEMS_INLINE)
	{
		memcpy(&head, sb_bytes_take(data, end, offsetof(SbItemsBytes, tree)),
		       offsetof(SbItemsBytes, tree));
		bytes = sb_bytes_take_sized(data, end, &size);
		if (sb_leaf_check(order, bytes, bytes + size) == 0)
			sb_bytes_corrupted("There are no items.");
	}
	else
	{
		memcpy(&head, sb_bytes_take(data, end, sizeof(head)), sizeof(head));
		if (head.tree == 0 || head.rows <= 0 || head.next_leaf <= 0 ||
		    head.next_leaf > PG_INT32_MAX || head.nchunks < 0 || head.nchunks > PG_INT16_MAX)
			sb_bytes_corrupted("A tree of items has no leaves.");
		if (space->store == NULL)
			sb_bytes_corrupted("A tree of items is read where there is no table of items.");
	}
	items = sb_items_make(space);
	items->groups = head.groups;
	items->next_arrival = head.next_arrival;
	if (form == SB_ITEMS_INLINE)
	{
		items_fill_inline(space, order, items, bytes, bytes + size);
		return items;
	}
	items->known = false;
	items->tree = head.tree;
	items->next_leaf = head.next_leaf;
	items->nchunks = head.nchunks;
	items->in_chunks = head.in_chunks;
	items->rows = head.rows;
	return items;
}
