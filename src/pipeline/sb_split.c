/*
 * sb_split.c: the watermark of an input, split by an expression; see sb_split.h.
 *
 * MEMORY. A context of its own, child of the pipeline's.
 */
#include "postgres.h"

#include "base/sb_bracket.h"
#include "catalog/sb_input_row.h"
#include "common/hashfn.h"
#include "engine/sb_window.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_split.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* More at a time are a mistake: each is looked at with each bundle. */
#define SB_SPLITS_MAX 100000
/* It is a key of beam.input. */
#define SB_SPLIT_BYTES 1000

typedef struct SbSplit
{
	char *name;
	uint32 hash;
	char status;
	TimestampTz time;     /* SB_TIME_MIN: it is at rest, and is to be forgotten */
	TimestampTz accepted; /* as of the last accept; SB_TIME_MIN: it was not there */
	TimestampTz saved;    /* as the catalog has it; SB_TIME_MIN: it has not */
	int64 last_row;       /* by the clock of the input */
} SbSplit;

#define SH_PREFIX sb_split
#define SH_ELEMENT_TYPE SbSplit
#define SH_KEY_TYPE char *
#define SH_KEY name
#define SH_HASH_KEY(table, key) hash_bytes((unsigned char *) (key), strlen(key))
#define SH_EQUAL(table, a, b) (strcmp(a, b) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

struct SbSplits
{
	MemoryContext context;
	sb_split_hash *hash;
	int64 clock; /* that of the input, at the end of the last bundle */
	bool dirty;  /* one is not as it was accepted, or is not saved */
	bool wrote;  /* all are, with this transaction */
};

static SbSplit *
splits_find(SbSplits *splits, char *name)
{
	bool found;
	SbSplit *split = sb_split_lookup(splits->hash, name);

	if (split)
		return split;
	if (splits->hash->members >= SB_SPLITS_MAX)
		ereport(ERROR,
		        (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
		         errmsg("watermark_by has more than %d values at a time", SB_SPLITS_MAX),
		         errhint("Split by something that has fewer, or use a shorter idle_timeout.")));
	split = sb_split_insert(splits->hash, MemoryContextStrdup(splits->context, name), &found);
	split->time = split->accepted = split->saved = SB_TIME_MIN;
	return split;
}

void
sb_splits_attach(SbPipeline *pipeline)
{
	SbSplits *splits;
	SbInputRow *rows;
	SbBracket saved;
	int n;

	if (pipeline->row->watermark_by == NULL || sb_input(pipeline)->kind != &sb_table_source)
		return;
	splits = palloc0(sizeof(SbSplits));
	splits->context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam splits", ALLOCSET_SMALL_SIZES);
	splits->hash = sb_split_create(splits->context, 64, NULL);
	n = sb_catalog_inputs(pipeline->row->id, &rows);
	for (int i = 0; i < n; i++)
	{
		SbSplit *split = splits_find(splits, rows[i].split);

		split->time = split->accepted = split->saved = rows[i].max_event_time;
		split->last_row = 0;
	}
	sb_pipeline_as_owner(pipeline, &saved);
	sb_query_set_split(pipeline->query, sb_plan_split(pipeline->plan, pipeline->row->watermark_by));
	sb_bracket_leave(&saved);
	sb_input(pipeline)->splits = splits;
}

void
sb_splits_row(SbPipeline *pipeline, SbSplits *splits, TimestampTz event_time)
{
	bool isnull;
	Datum value = sb_query_split(pipeline->query, &isnull);
	/* null is a split, too */
	char *name = isnull ? "" : TextDatumGetCString(value);
	SbSplit *split;

	if (strlen(name) > SB_SPLIT_BYTES)
		ereport(ERROR, (errcode(ERRCODE_STRING_DATA_RIGHT_TRUNCATION),
		                errmsg("a value of watermark_by is longer than %d bytes", SB_SPLIT_BYTES)));
	split = splits_find(splits, name);
	split->last_row = sb_input(pipeline)->clock;
	if (!isnull)
		pfree(name);
	if (event_time <= split->time)
		return;
	split->time = event_time;
	splits->dirty = true;
}

void
sb_splits_end_bundle(SbSplits *splits, int64 clock, int64 idle_timeout)
{
	sb_split_iterator iterator;
	SbSplit *split;

	splits->clock = clock;
	if (idle_timeout < 0)
		return;
	sb_split_start_iterate(splits->hash, &iterator);
	while ((split = sb_split_iterate(splits->hash, &iterator)) != NULL)
	{
		if (split->time == SB_TIME_MIN || splits->clock - split->last_row < idle_timeout)
			continue;
		split->time = SB_TIME_MIN;
		splits->dirty = true;
	}
}

/* The one that is farthest behind, or NULL: all are at rest. */
static const SbSplit *
splits_slowest(const SbSplits *splits)
{
	sb_split_iterator iterator;
	const SbSplit *slowest = NULL;
	const SbSplit *split;

	sb_split_start_iterate(splits->hash, &iterator);
	while ((split = sb_split_iterate(splits->hash, &iterator)) != NULL)
	{
		if (split->time != SB_TIME_MIN && (slowest == NULL || split->time < slowest->time))
			slowest = split;
	}
	return slowest;
}

TimestampTz
sb_splits_time(const SbSplits *splits, TimestampTz highest)
{
	const SbSplit *slowest = splits_slowest(splits);

	return slowest ? slowest->time : highest;
}

int64
sb_splits_next_rest(const SbSplits *splits, int64 idle_timeout)
{
	const SbSplit *slowest = splits_slowest(splits);

	return slowest ? slowest->last_row + idle_timeout - splits->clock : PG_INT64_MAX;
}

/* ---- transactions ---- */

void
sb_splits_write(SbPipeline *pipeline, SbSplits *splits)
{
	sb_split_iterator iterator;
	SbInputRow *rows;
	char **gone;
	SbSplit *split;
	int n = 0, ngone = 0;
	SbBracket saved;

	if (!splits->dirty || pipeline->in_memory)
		return;
	rows = palloc(sizeof(SbInputRow) * splits->hash->members);
	gone = palloc(sizeof(char *) * splits->hash->members);
	sb_split_start_iterate(splits->hash, &iterator);
	while ((split = sb_split_iterate(splits->hash, &iterator)) != NULL)
	{
		if (split->time == split->saved)
			continue;
		if (split->time != SB_TIME_MIN)
			rows[n++] = (SbInputRow){.split = split->name, .max_event_time = split->time};
		else
			gone[ngone++] = split->name;
	}
	sb_bracket_enter_extension(&saved);
	sb_catalog_put_inputs(pipeline->row->id, rows, n, gone, ngone);
	sb_bracket_leave(&saved);
	pfree(rows);
	pfree(gone);
	splits->wrote = true;
}

/*
 * What stands is accepted, in a subtransaction before it is written; or what was accepted stands
 * again. An iteration may delete what it has come to.
 */
static void
splits_settle(SbSplits *splits, bool accept)
{
	sb_split_iterator iterator;
	SbSplit *split;
	bool dirty = false;

	if (!splits->dirty)
		return;
	sb_split_start_iterate(splits->hash, &iterator);
	while ((split = sb_split_iterate(splits->hash, &iterator)) != NULL)
	{
		char *name = split->name;

		if (!accept)
			split->time = split->accepted;
		else if (splits->wrote)
			split->saved = split->time;
		split->accepted = split->time;
		dirty = dirty || split->time != split->saved;
		if (split->time != SB_TIME_MIN || split->saved != SB_TIME_MIN)
			continue;
		sb_split_delete(splits->hash, name);
		pfree(name);
	}
	splits->dirty = dirty;
	splits->wrote = false;
}

void
sb_splits_accept(SbSplits *splits)
{
	splits_settle(splits, true);
}

void
sb_splits_rollback(SbSplits *splits)
{
	splits_settle(splits, false);
}
