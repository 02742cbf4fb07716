/*
 * sb_items_log.c: a tree of which many leaves change: what has come and gone is written instead.
 *
 * A bundle with many rows changes many leaves by a little each. Then what came and went is one row
 * of the table, a chunk, and the leaves are written when the chunks have as many items as the tree:
 * so each item is written about twice, and not the leaf around it with each bundle. In memory the
 * leaves are always up to date; those that differ from their rows are on the list of changed ones.
 * In the table leaves are as of one moment, and chunks are all that has happened since: whoever
 * reads a tree reads its leaves and does what the chunks say.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "query/agg/sb_items_private.h"
#include "query/expr/sb_bytes.h"

/* So few leaves are written at once. */
#define SB_LOG_LEAVES 8
#define SB_LOG_CHUNKS 32

void
sb_items_clear_log(SbItems *items)
{
	items->log.n = 0;
	items->log.rows = 0;
	items->log.bytes = 0;
	items->logs = true;
}

/* Are there more items than are ever written? */
static bool
log_is_full(const SbItems *items)
{
	return items->in_chunks + items->log.n > items->rows;
}

void
sb_items_log(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const SbItem *item,
             int64 count)
{
	SbItem entry = *item;

	/* what is not in the table yet is written as a whole; and what only grows, at its end */
	if (items->tree == 0 || order->place == NULL || !items->logs)
		return;
	if (log_is_full(items) || items->log.bytes >= SB_HEAP_BYTES)
	{
		items->logs = false;
		sb_leaf_unload(space, &items->log);
		items->log.n = 0;
		return;
	}
	entry.count = count;
	sb_leaf_append(space, &items->log, &entry);
}

bool
sb_items_log_is_cheaper(const SbItems *items)
{
	return items->logs && items->log.n > 0 && items->nchanged + items->ngone > SB_LOG_LEAVES &&
	       items->nchunks < SB_LOG_CHUNKS && !log_is_full(items);
}

void
sb_items_write_log(SbItemSpace *space, SbItems *items)
{
	SbLeafRow row = {.leaf = sb_items_chunk(items->nchunks),
	                 .items = items->log.n,
	                 .rows = items->log.rows};
	StringInfoData bytes;

	initStringInfo(&bytes);
	appendStringInfoSpaces(&bytes, VARHDRSZ);
	for (int i = 0; i < items->log.n; i++)
	{
		SbItem item = sb_leaf_item(&items->log, i);

		sb_leaf_put_number(&bytes, item.size);
		/* the sign is the lowest bit */
		sb_leaf_put_number(&bytes, item.count > 0 ? (uint64) item.count << 1
		                                          : (uint64) -item.count << 1 | 1);
		appendBinaryStringInfo(&bytes, item.data, item.size);
	}
	space->store->write_leaf(space->store->arg, items->tree, &row, &bytes, false);
	pfree(bytes.data);
	items->nchunks++;
	items->in_chunks += items->log.n;
}

void
sb_items_delete_chunks(SbItemSpace *space, SbItems *items)
{
	for (int i = 0; i < items->nchunks; i++)
		space->store->delete_leaf(space->store->arg, items->tree, sb_items_chunk(i));
	items->nchunks = 0;
	items->in_chunks = 0;
}

/* Puts the items of a chunk in their places, and takes out those that went. */
static void
log_replay_chunk(SbItemSpace *space, const SbItemOrder *order, SbItems *items, const char *data,
                 const char *end)
{
	while (data < end)
	{
		SbItem item = {.size = sb_leaf_take_number(&data, end)};
		uint64 count = sb_leaf_take_number(&data, end);
		const char *bytes;

		item.data = bytes = sb_bytes_take(&data, end, item.size);
		order->skip(order->arg, &bytes, data);
		if (bytes != data || count >> 1 == 0)
			sb_bytes_corrupted("A chunk has something that is no item.");
		item.count = count >> 1;
		item.place = order->place(order->arg, item.data, item.size);
		if ((count & 1) == 0)
			sb_items_place(space, order, items, &item);
		for (int64 n = 0; (count & 1) != 0 && n < item.count; n++)
		{
			if (!sb_items_take(space, order, items, &item))
				sb_bytes_corrupted("A chunk takes an item out of a tree that does not have it.");
		}
	}
}

void
sb_items_replay(SbItemSpace *space, const SbItemOrder *order, SbItems *items)
{
	int64 groups = items->groups;

	for (int i = 0; i < items->nchunks; i++)
	{
		bytea *bytes = space->store->read_leaf(space->store->arg, items->tree, sb_items_chunk(i));

		log_replay_chunk(space, order, items, VARDATA_ANY(bytes),
		                 VARDATA_ANY(bytes) + VARSIZE_ANY_EXHDR(bytes));
	}
	/* as they were counted when it happened */
	items->groups = groups;
}
