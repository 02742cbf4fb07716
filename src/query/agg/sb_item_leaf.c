/*
 * sb_item_leaf.c: a leaf of items; see sb_items.c.
 *
 * In memory it is one growing chunk, laid out like a page. As written, an item is its size, its
 * count and its bytes, the numbers in as few bytes as they need: a place follows from the bytes, or
 * from where the item stands.
 */
#include "postgres.h"

#include "query/agg/sb_items_private.h"
#include "query/expr/sb_bytes.h"
#include "utils/memutils.h"

void *
sb_items_alloc(SbItemSpace *space, void *old, Size size)
{
	Size before = old ? GetMemoryChunkSpace(old) : 0;

	old = old ? repalloc(old, size) : MemoryContextAlloc(space->context, size);
	space->bytes += GetMemoryChunkSpace(old) - before;
	return old;
}

void
sb_items_release(SbItemSpace *space, void *chunk)
{
	if (chunk == NULL)
		return;
	space->bytes -= GetMemoryChunkSpace(chunk);
	pfree(chunk);
}

void
sb_leaf_unload(SbItemSpace *space, SbLeaf *leaf)
{
	sb_items_release(space, leaf->data);
	leaf->data = NULL;
	leaf->bytes = leaf->dead = leaf->capacity = 0;
}

void
sb_leaf_change(SbItems *items, SbLeaf *leaf)
{
	if (leaf->changed)
		return;
	leaf->changed = true;
	items->nchanged++;
	dlist_push_tail(&items->changed, &leaf->node);
}

/* The bytes of items that are no more go. */
static void
leaf_squeeze(SbLeaf *leaf)
{
	Size size = leaf->bytes - leaf->dead;
	char *bytes = palloc(Max(size, 1));
	uint32 offset = 0;

	for (int i = 0; i < leaf->n; i++)
	{
		SbItemSlot *slot = sb_leaf_slots(leaf) + i;
		const char *data = sb_leaf_item(leaf, i).data;

		offset += slot->size;
		memcpy(bytes + size - offset, data, slot->size);
		slot->offset = offset;
	}
	memcpy(leaf->data + leaf->capacity - size, bytes, size);
	pfree(bytes);
	leaf->bytes = size;
	leaf->dead = 0;
}

void
sb_leaf_reserve(SbItemSpace *space, SbLeaf *leaf, Size more)
{
	Size wanted = sizeof(SbItemSlot) * leaf->n + leaf->bytes + more;
	Size before = leaf->capacity;

	if (wanted <= leaf->capacity)
		return;
	if (leaf->dead > 0)
	{
		leaf_squeeze(leaf);
		sb_leaf_reserve(space, leaf, more);
		return;
	}
	wanted = Max(wanted, Min(before * 2, SB_LEAF_CHUNK));
	wanted = MAXALIGN(Max(wanted, SB_LEAF_FIRST_CHUNK));
	/* this may fail: then the leaf is as it was */
	leaf->data = sb_items_alloc(space, leaf->data, wanted);
	leaf->capacity = wanted;
	memmove(leaf->data + leaf->capacity - leaf->bytes, leaf->data + before - leaf->bytes,
	        leaf->bytes);
}

void
sb_leaf_insert(SbItemSpace *space, SbLeaf *leaf, int at, const SbItem *item)
{
	SbItemSlot *slot;

	sb_leaf_reserve(space, leaf, sb_item_length(item));
	slot = sb_leaf_slots(leaf) + at;
	memmove(slot + 1, slot, sizeof(SbItemSlot) * (leaf->n - at));
	leaf->bytes += item->size;
	*slot = (SbItemSlot){.place = item->place,
	                     .count = item->count,
	                     .offset = leaf->bytes,
	                     .size = item->size};
	memcpy(leaf->data + leaf->capacity - leaf->bytes, item->data, item->size);
	leaf->n++;
	leaf->rows += item->count;
}

void
sb_leaf_append(SbItemSpace *space, SbLeaf *leaf, const SbItem *item)
{
	Size used = sb_leaf_used(leaf);

	if (used + sb_item_length(item) > leaf->capacity)
		sb_leaf_reserve(space, leaf, Max(sb_item_length(item), used));
	sb_leaf_insert(space, leaf, leaf->n, item);
}

void
sb_leaf_remove(SbLeaf *leaf, int at)
{
	SbItemSlot *slot = sb_leaf_slots(leaf) + at;

	leaf->rows -= slot->count;
	leaf->dead += slot->size;
	leaf->n--;
	memmove(slot, slot + 1, sizeof(SbItemSlot) * (leaf->n - at));
}

void
sb_leaf_count(SbLeaf *leaf, int at, int64 more)
{
	sb_leaf_slots(leaf)[at].count += more;
	leaf->rows += more;
}

/* The number in as few bytes as it needs. */
void
sb_leaf_put_number(StringInfo out, uint64 number)
{
	while (number >= 0x80)
	{
		appendStringInfoCharMacro(out, (char) (number | 0x80));
		number >>= 7;
	}
	appendStringInfoCharMacro(out, (char) number);
}

uint64
sb_leaf_take_number(const char **data, const char *end)
{
	uint64 number = 0;

	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8 byte = (uint8) *sb_bytes_take(data, end, 1);

		number |= (uint64) (byte & 0x7F) << shift;
		if ((byte & 0x80) == 0)
			return number;
	}
	sb_bytes_corrupted("A number of an item is too long.");
}

void
sb_leaf_encode(const SbLeaf *leaf, StringInfo out)
{
	for (int i = 0; i < leaf->n; i++)
	{
		SbItem item = sb_leaf_item(leaf, i);

		sb_leaf_put_number(out, item.size);
		sb_leaf_put_number(out, item.count);
		appendBinaryStringInfo(out, item.data, item.size);
	}
}

Size
sb_leaf_check(const SbItemOrder *order, const char *data, const char *end)
{
	Size length = 0;

	while (data < end)
	{
		uint64 size = sb_leaf_take_number(&data, end);
		const char *bytes;

		if (sb_leaf_take_number(&data, end) == 0)
			sb_bytes_corrupted("There is no row of an item.");
		bytes = sb_bytes_take(&data, end, size);
		order->skip(order->arg, &bytes, data);
		if (bytes != data)
			sb_bytes_corrupted("An item is longer than it should be.");
		length += sizeof(SbItemSlot) + size;
	}
	return length;
}

/* The next item of bytes that have been checked; in the order of arrival it is the nth. */
SbItem
sb_leaf_take_item(const SbItemOrder *order, uint64 nth, const char **data, const char *end)
{
	SbItem item;

	item.size = sb_leaf_take_number(data, end);
	item.count = sb_leaf_take_number(data, end);
	item.data = sb_bytes_take(data, end, item.size);
	item.place = order->place ? order->place(order->arg, item.data, item.size) : nth;
	return item;
}

/* Of a leaf without items; looks at the bytes before it allocates. */
void
sb_leaf_decode(SbItemSpace *space, const SbItemOrder *order, SbLeaf *leaf, uint64 place,
               const char *data, const char *end)
{
	Size length = sb_leaf_check(order, data, end);

	leaf->n = 0;
	leaf->rows = 0;
	sb_leaf_reserve(space, leaf, length);
	while (data < end)
	{
		SbItem item = sb_leaf_take_item(order, place + leaf->n, &data, end);

		sb_leaf_insert(space, leaf, leaf->n, &item);
	}
}
