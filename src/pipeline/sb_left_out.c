/*
 * sb_left_out.c: which rows a pipeline has left out; see sb_left_out.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/sb_bracket.h"
#include "catalog/sb_left_out_row.h"
#include "common/hashfn.h"
#include "pipeline/sb_left_out.h"
#include "pipeline/sb_pipeline.h"
#include "sink/sb_row_hash.h"
#include "utils/memutils.h"

typedef struct SbLeftOutKey
{
	uint64 hash;
	SbWindow window;
} SbLeftOutKey;

typedef struct SbLeftOutEntry
{
	SbLeftOutKey key;
	int64 n;     /* as of now */
	int64 added; /* of these, what is not written; may be negative */
	char status;
} SbLeftOutEntry;

#define SH_PREFIX left_out
#define SH_ELEMENT_TYPE SbLeftOutEntry
#define SH_KEY_TYPE SbLeftOutKey
#define SH_KEY key
#define SH_HASH_KEY(table, key) \
	hash_bytes((const unsigned char *) &(key), (int) sizeof(SbLeftOutKey))
#define SH_EQUAL(table, a, b) (memcmp(&(a), &(b), sizeof(SbLeftOutKey)) == 0)
#define SH_SCOPE static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

struct SbLeftOut
{
	MemoryContext context;
	left_out_hash *entries; /* NULL: none are in memory */
	bool any;               /* there may be some, here or in the catalog */
	bool dirty;
};

void
sb_left_out_attach(SbPipeline *pipeline)
{
	SbLeftOut *left_out;

	/* or the library has been replaced, and the extension is yet to be updated */
	if (!pipeline->retractable || !(pipeline->in_memory || sb_catalog_has("left_out")))
		return;
	left_out = MemoryContextAllocZero(pipeline->context, sizeof(SbLeftOut));
	left_out->context =
	    AllocSetContextCreate(pipeline->context, "stream_beam left out", ALLOCSET_SMALL_SIZES);
	left_out->any = !pipeline->in_memory && sb_catalog_has_left_out(pipeline->row->id);
	pipeline->left_out = left_out;
}

bool
sb_left_out_any(const SbPipeline *pipeline)
{
	return pipeline->left_out != NULL && pipeline->left_out->any;
}

uint64
sb_left_out_hash(const SbPipeline *pipeline, const SbRow *row)
{
	HeapTupleData tuple = {.t_len = row->length, .t_data = row->tuple};
	TupleDesc desc = row->layout->desc;
	uint64 hash = 0;
	int attno = -1;

	while ((attno = bms_next_member(pipeline->plan->columns, attno)) >= 0)
	{
		bool isnull = true;
		Datum value = attno > desc->natts ? (Datum) 0 : heap_getattr(&tuple, attno, desc, &isnull);
		Form_pg_attribute att = isnull ? NULL : TupleDescAttr(desc, attno - 1);

		hash = att ? sb_row_hash_value(value, att->attlen, att->attbyval, hash + 2)
		           : hash_combine64(hash, 1);
	}
	return hash != 0 ? hash : 1;
}

/* Made where it is not there. */
static SbLeftOutEntry *
left_out_entry(SbLeftOut *left_out, uint64 hash, SbWindow window)
{
	SbLeftOutKey key = {.hash = hash, .window = window};
	SbLeftOutEntry *entry;
	bool found;

	if (left_out->entries == NULL)
		left_out->entries = left_out_create(left_out->context, 64, NULL);
	entry = left_out_insert(left_out->entries, key, &found);
	if (!found)
		entry->n = entry->added = 0;
	return entry;
}

static void
left_out_change(SbPipeline *pipeline, uint64 hash, SbWindow window, int64 n)
{
	SbLeftOutEntry *entry = left_out_entry(pipeline->left_out, hash, window);

	entry->n += n;
	entry->added += n;
	pipeline->left_out->any = pipeline->left_out->dirty = true;
}

void
sb_left_out_put(SbPipeline *pipeline, uint64 hash, SbWindow window)
{
	if (pipeline->left_out != NULL)
		left_out_change(pipeline, hash, window, 1);
}

bool
sb_left_out_take(SbPipeline *pipeline, uint64 hash, SbWindow window)
{
	SbLeftOut *left_out = pipeline->left_out;
	SbLeftOutKey key = {.hash = hash, .window = window};
	SbLeftOutEntry *entry =
	    left_out && left_out->entries ? left_out_lookup(left_out->entries, key) : NULL;

	if (entry == NULL || entry->n <= 0)
		return false;
	left_out_change(pipeline, hash, window, -1);
	return true;
}

/* Those that are in memory already have what is not written on top. */
static void
left_out_learn(SbPipeline *pipeline, const uint64 *hashes, int nhashes)
{
	SbLeftOutRow *rows;
	int n = sb_catalog_left_out(pipeline->row->id, hashes, nhashes, &rows);

	for (int i = 0; i < n; i++)
	{
		SbLeftOutEntry *entry = left_out_entry(pipeline->left_out, rows[i].hash, rows[i].window);

		entry->n = rows[i].n + entry->added;
	}
}

void
sb_left_out_read(SbPipeline *pipeline, const SbMessage *messages, int lo, int hi)
{
	Oid source = sb_input(pipeline)->source;
	MemoryContext context, old;
	uint64 *hashes;
	int n = 0;

	if (!sb_left_out_any(pipeline) || pipeline->in_memory)
		return;
	context = AllocSetContextCreate(CurrentMemoryContext, "stream_beam left out, asked for",
	                                ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	hashes = MemoryContextAllocHuge(context, sizeof(uint64) * (hi - lo));
	for (int i = lo; i < hi; i++)
	{
		const SbMessage *message = &messages[i];

		if (message->source != source || message->control)
			continue;
		if (message->letter && *message->letter != 0)
			hashes[n++] = *message->letter;
		else if (message->change.old)
		{
			SbRow row = sb_message_old_row(message);

			hashes[n++] = sb_left_out_hash(pipeline, &row);
		}
	}
	if (n > 0)
		left_out_learn(pipeline, hashes, n);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

void
sb_left_out_write(SbPipeline *pipeline)
{
	SbLeftOut *left_out = pipeline->left_out;
	SbLeftOutRow *rows;
	left_out_iterator iterator;
	SbLeftOutEntry *entry;
	SbBracket saved;
	int n = 0;

	if (left_out == NULL || !left_out->dirty || pipeline->in_memory)
		return;
	rows =
	    MemoryContextAllocHuge(pipeline->bundle, sizeof(SbLeftOutRow) * left_out->entries->members);
	left_out_start_iterate(left_out->entries, &iterator);
	while ((entry = left_out_iterate(left_out->entries, &iterator)) != NULL)
	{
		if (entry->added == 0)
			continue;
		rows[n] =
		    (SbLeftOutRow){.hash = entry->key.hash, .window = entry->key.window, .n = entry->added};
		n++;
		entry->added = 0;
	}
	if (n > 0)
	{
		sb_bracket_enter_extension(&saved);
		sb_catalog_add_left_out(pipeline->row->id, rows, n);
		sb_bracket_leave(&saved);
	}
	pfree(rows);
	left_out->dirty = false;
}

void
sb_left_out_forget(SbPipeline *pipeline)
{
	SbLeftOut *left_out = pipeline->left_out;

	/* of what is in memory only, nothing is ever undone */
	if (left_out == NULL || left_out->entries == NULL || pipeline->in_memory)
		return;
	left_out->entries = NULL;
	left_out->dirty = false;
	MemoryContextReset(left_out->context);
}

void
sb_left_out_clear(SbPipeline *pipeline, const SbWindowRange *range, bool inside)
{
	SbBracket saved;

	if (!sb_left_out_any(pipeline))
		return;
	if (pipeline->in_memory)
	{
		pipeline->left_out->entries = NULL;
		MemoryContextReset(pipeline->left_out->context);
		return;
	}
	sb_left_out_write(pipeline);
	sb_bracket_enter_extension(&saved);
	sb_catalog_clear_left_out(pipeline->row->id, range, inside);
	sb_bracket_leave(&saved);
	sb_left_out_forget(pipeline);
}
