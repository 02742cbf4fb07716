/*
 * sb_step_map.c: the step of a query without groups and aggregates: each row of the source, for
 * each of its windows, is a row of the result.
 *
 * Where rows are never taken back they go to the sinks as they come. Else the rows of a bundle are
 * netted first, so that a row that came and went is never written: by the primary key, where the
 * result has it (what was there before, and what is there now), else by all columns (how many more
 * or fewer). No state is retained: what is taken back is found in the result.
 *
 * LATENESS. No row is late: nothing is retained for a window, and none of them ends.
 *
 * LETTERS. A row that was a dead letter and comes again is older than what has come since: with its
 * key in the result it does not take that row's place, nor does it take back another row with it.
 *
 * MEMORY. Netted rows are in a context of their own within the bundle's, until the flush.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "pipeline/sb_pipeline_private.h"
#include "pipeline/sb_step.h"
#include "utils/memutils.h"

/* Rows that are collected before they are written, and what they may use. */
#define SB_MAP_ROWS 20000
#define SB_MAP_BYTES ((Size) 32 * 1024 * 1024)

/* What the rows so far have done to one row of the result, or to all that are equal. */
typedef struct SbNet
{
	bytea *before; /* by key: the row that was there, packed; NULL: none */
	bytea *after;  /* the row that is there now; without a key the row itself */
	int64 weight;  /* without a key: how many more of them are there */
} SbNet;

typedef struct SbNetKey
{
	bytea *key; /* a packed row, or the part of it that identifies it */
	uint32 hash;
	char status;
	int net; /* index */
} SbNetKey;

#define SH_PREFIX sb_net
#define SH_ELEMENT_TYPE SbNetKey
#define SH_KEY_TYPE bytea *
#define SH_KEY key
#define SH_HASH_KEY(table, key) hash_bytes((unsigned char *) VARDATA(key), VARSIZE(key) - VARHDRSZ)
#define SH_EQUAL(table, a, b) (VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0)
#define SH_STORE_HASH
#define SH_GET_HASH(table, entry) (entry)->hash
#define SH_SCOPE static inline
#define SH_DEFINE
#define SH_DECLARE
#include "lib/simplehash.h"

typedef struct SbMap
{
	int64 put; /* rows that are in the sinks and not written */
	bool by_key;
	/* of the bundle: NULL, none yet */
	MemoryContext context;
	sb_net_hash *keys;
	SbNet *nets; /* in the order in which they came */
	int n, max;
	Size bytes; /* of all rows so far: those that replace each other are not freed */
} SbMap;

static const SbPane map_pane = {.timing = SB_PANE_ON_TIME,
                                .is_first = true,
                                .is_last = true,
                                .timestamp = SB_TIME_MAX,
                                .elements = 1};

static void *
map_open(SbPipeline *pipeline, const char *state_table)
{
	SbMap *map = palloc0(sizeof(SbMap));

	/* what is appended is not replaced: there it is the rows that are netted */
	map->by_key = pipeline->plan->keyed && pipeline->strategy.accumulation == SB_ACCUMULATING;
	return map;
}

/* ---- the net ---- */

static void
map_begin(SbPipeline *pipeline, SbMap *map)
{
	map->context =
	    AllocSetContextCreate(pipeline->bundle, "stream_beam mapped rows", ALLOCSET_DEFAULT_SIZES);
	map->keys = sb_net_create(map->context, 1024, NULL);
	map->max = 1024;
	map->nets = MemoryContextAlloc(map->context, sizeof(SbNet) * map->max);
}

/* The net of a row with this key, which is a new one where there is none. */
static SbNet *
map_net(SbMap *map, bytea *key)
{
	bool found;
	SbNetKey *entry = sb_net_insert(map->keys, key, &found);

	if (found)
		return &map->nets[entry->net];
	if (map->n == map->max)
	{
		map->max *= 2;
		map->nets = repalloc_huge(map->nets, sizeof(SbNet) * map->max);
	}
	entry->net = map->n;
	map->nets[map->n] = (SbNet){0};
	return &map->nets[map->n++];
}

static bool
map_same(bytea *a, bytea *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(VARDATA(a), VARDATA(b), VARSIZE(a) - VARHDRSZ) == 0;
}

/*
 * What comes again may have been replaced since: then its key has another row. One that is taken
 * back has to be there, since those who read the result are told.
 */
static bool
map_is_outdated(SbPipeline *pipeline, const SbRow *row, const SbNet *net, bytea *packed)
{
	bytea *there;

	if (row->letter == NULL || pipeline->in_memory)
		return false;
	if (net->before || net->after)
		there = net->after;
	else
		there = sb_result_find_row(pipeline->result, pipeline->out_values, pipeline->out_nulls);
	return row->weight > 0 ? there != NULL : there == NULL || !map_same(there, packed);
}

static void
map_note_by_key(SbPipeline *pipeline, SbMap *map, const SbRow *row)
{
	bytea *packed = sb_result_pack(pipeline->result, pipeline->out_values, pipeline->out_nulls);
	SbNet *net = map_net(map, sb_result_pack_identity(pipeline->result, pipeline->out_values,
	                                                  pipeline->out_nulls));

	map->bytes += VARSIZE(packed);
	if (map_is_outdated(pipeline, row, net, packed))
		return;
	if (row->weight > 0)
		net->after = packed;
	else if (net->after)
		net->after = NULL;
	else if (net->before == NULL)
		net->before = packed;
}

static void
map_note(SbPipeline *pipeline, SbMap *map, const SbRow *row)
{
	bytea *packed = sb_result_pack(pipeline->result, pipeline->out_values, pipeline->out_nulls);
	SbNet *net = map_net(map, packed);

	map->bytes += VARSIZE(packed);
	if (net->after == NULL)
		net->after = packed;
	net->weight += row->weight;
}

/* ---- rows ---- */

/* What is never taken back needs no net. */
static void
map_add(SbPipeline *pipeline, const SbRow *row, const SbPlace *place, SbWindow window)
{
	SbMap *map = pipeline->step_state;
	MemoryContext old;

	(void) sb_query_output(pipeline->query, window, &map_pane, place->keys, place->nulls, NULL,
	                       pipeline->out_values, pipeline->out_nulls);
	if (!pipeline->retractable)
	{
		sb_pipeline_put(pipeline, window, &map_pane, 1);
		pipeline->progress.panes++;
		map->put++;
		return;
	}
	if (map->context == NULL)
		map_begin(pipeline, map);
	old = MemoryContextSwitchTo(map->context);
	if (map->by_key)
		map_note_by_key(pipeline, map, row);
	else
		map_note(pipeline, map, row);
	MemoryContextSwitchTo(old);
}

static bool
map_after_row(SbPipeline *pipeline, int nrows)
{
	const SbMap *map = pipeline->step_state;

	return map->put >= SB_MAP_ROWS || map->n >= SB_MAP_ROWS || map->bytes > SB_MAP_BYTES;
}

/* ---- the flush ---- */

static void
map_put(SbPipeline *pipeline, bytea *packed, int64 op, bool replaced)
{
	SbSinkRow row = {.pane = &map_pane,
	                 .values = pipeline->out_values,
	                 .nulls = pipeline->out_nulls,
	                 .op = op,
	                 .replaced = replaced};

	sb_result_unpack(pipeline->result, packed, pipeline->out_values, pipeline->out_nulls);
	row.window = sb_plan_row_window(pipeline->plan, pipeline->out_values,
	                                (SbWindow){.start = SB_TIME_MIN, .end = SB_TIME_MAX});
	sb_pipeline_put_row(pipeline, &row, SB_ALL_SINKS);
	pipeline->progress.panes += op > 0;
}

static void
map_put_net(SbPipeline *pipeline, const SbMap *map, const SbNet *net)
{
	if (!map->by_key)
	{
		if (net->weight != 0)
			map_put(pipeline, net->after, net->weight, false);
		return;
	}
	if (net->before && net->after && map_same(net->before, net->after))
		return;
	if (net->before)
		map_put(pipeline, net->before, -1, net->after != NULL);
	if (net->after)
		map_put(pipeline, net->after, 1, false);
}

static void
map_forget(SbPipeline *pipeline)
{
	SbMap *map = pipeline->step_state;

	/* its memory goes with the bundle's */
	map->context = NULL;
	map->n = 0;
	map->bytes = 0;
	map->put = 0;
}

/* The net goes to the sinks, in the order in which rows first came. */
static void
map_flush(SbPipeline *pipeline)
{
	SbMap *map = pipeline->step_state;
	MemoryContext context = map->context;
	MemoryContext old;
	SbBracket saved;

	if (context)
	{
		sb_pipeline_as_owner(pipeline, &saved);
		old = MemoryContextSwitchTo(pipeline->element);
		for (int i = 0; i < map->n; i++)
		{
			map_put_net(pipeline, map, &map->nets[i]);
			MemoryContextReset(pipeline->element);
			CHECK_FOR_INTERRUPTS();
		}
		MemoryContextSwitchTo(old);
		sb_bracket_leave(&saved);
		MemoryContextDelete(context);
	}
	map_forget(pipeline);
}

const SbStepKind sb_step_map = {.name = "map",
                                .open = map_open,
                                .add = map_add,
                                .after_row = map_after_row,
                                .make_room = sb_pipeline_flush,
                                .flush = map_flush,
                                .accept = map_forget,
                                .rollback = map_forget};
