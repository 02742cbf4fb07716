/*
 * sb_history.c: the rows that a table had before its pipeline; see sb_history.h.
 *
 * MEMORY. The history lives in a context of its own, child of the pipeline's. The regions as of the
 * last commit (`accepted`) and those of the running transaction (`now`) have a context each, so
 * that either can be dropped whole.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_partition.h"
#include "base/sb_statement.h"
#include "catalog/sb_history_row.h"
#include "executor/spi.h"
#include "history/sb_history.h"
#include "history/sb_history_part.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* Rows handed to the pipeline at a time. */
#define SB_HISTORY_ROWS 4096
/*
 * Rows of the first chunk; by the time it takes the next one is larger or smaller, by a factor of
 * four at most.
 */
#define SB_HISTORY_FIRST_ROWS 50000
/* Of sessions a chunk has as many, whatever it takes. */
#define SB_HISTORY_LEAST_ROWS 500
/*
 * Pages of the table that are looked into for where to cut it: one of so many, within bounds; and
 * the part values that are retained of them.
 */
#define SB_HISTORY_SAMPLE_EACH 32
#define SB_HISTORY_SAMPLE_MIN_PAGES 200
#define SB_HISTORY_SAMPLE_MAX_PAGES 2000
#define SB_HISTORY_SAMPLE_VALUES 20000
/*
 * A snapshot that does not see all yet is waited for so long, with the pipelines standing; doubled
 * each time, up to the second. In between the pipelines have twice as long.
 */
#define SB_HISTORY_AWAIT_MS 100
#define SB_HISTORY_AWAIT_MAX_MS 1000
/* A table that somebody has locked is looked at again after this. */
#define SB_HISTORY_LOCKED_MS 100

typedef enum SbRegion
{
	SB_REGION_AHEAD,
	SB_REGION_LAST,
	SB_REGION_SETTLED
} SbRegion;

/* Which part values are in which region. */
typedef struct SbRegions
{
	MemoryContext context;
	bool begun;   /* a chunk has been read */
	bool scanned; /* all have been: the last region goes down to the end */
	bool done;    /* and it is settled, too */
	bool has_lower, has_upper;
	Datum lower; /* of the last region, which holds it */
	Datum upper; /* ... and does not hold this; none: all above, and the nulls, which come first */
	SbCut *cut;  /* of the last region; NULL: none yet */
	int64 rows;
	int64 chunks;
} SbRegions;

/* A chunk under way, within one transaction. */
typedef struct SbChunk
{
	SbScan *scan;
	Snapshot snapshot;
	SbCut *cut;
	bool has_lower;
	Datum lower; /* none: it goes down to the end */
	int64 rows;
	TimestampTz started;
	bool closed; /* all its rows are in: it is over when that commits */
} SbChunk;

/*
 * Part values of a few rows, from the highest down: by these the table is cut into chunks of about
 * equal size.
 */
typedef struct SbSample
{
	bool taken;
	Datum *values;
	int n;
	int at;          /* those before are in chunks already */
	double rows_for; /* rows of the table for each of them */
} SbSample;

typedef struct SbHistory
{
	MemoryContext context;
	AttrNumber part;
	Oid type; /* of the part value: a base type */
	int16 typlen;
	bool typbyval;
	Oid collation;
	FmgrInfo *compare;
	SbRegions *now;
	SbRegions *accepted;
	bool dirty; /* to be written with the bundle */
	SbUnseen *unseen;
	SbChunk chunk;
	SbSample sample;
	double chunk_rows;   /* how many the next chunk is to have */
	TimestampTz next_at; /* the next chunk is not read before */
	long await_ms;
} SbHistory;

static const SbGateKind history_gate;

static SbHistory *
history_of(const SbPipeline *pipeline)
{
	return sb_gate_of(pipeline, &history_gate);
}

/* ---- values as text ---- */

/*
 * Settings that the text of a value depends on: the text is for us alone, and is to be read again
 * whatever the pipeline's are.
 */
static int
history_neutral_settings(void)
{
	static const char *const settings[][2] = {{"bytea_output", "hex"},
	                                          {"DateStyle", "ISO, YMD"},
	                                          {"extra_float_digits", "3"},
	                                          {"IntervalStyle", "postgres"},
	                                          {"lc_monetary", "C"},
	                                          {"TimeZone", "UTC"}};
	int level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(settings); i++)
		(void) set_config_option(settings[i][0], settings[i][1], PGC_USERSET, PGC_S_SESSION,
		                         GUC_ACTION_SAVE, true, 0, false);
	return level;
}

static char *
history_value_to_text(const SbHistory *history, Datum value)
{
	int level = history_neutral_settings();
	Oid function;
	bool is_varlena;
	char *text;

	getTypeOutputInfo(history->type, &function, &is_varlena);
	text = OidOutputFunctionCall(function, value);
	AtEOXact_GUC(true, level);
	return text;
}

static Datum
history_value_of_text(const SbHistory *history, const char *text)
{
	int level = history_neutral_settings();
	Oid function, parameter;
	Datum value;

	getTypeInputInfo(history->type, &function, &parameter);
	value = OidInputFunctionCall(function, unconstify(char *, text), parameter, -1);
	AtEOXact_GUC(true, level);
	return value;
}

/* ---- regions ---- */

/* In a context of their own; from now on the regions of the running transaction. */
static SbRegions *
history_new_regions(SbHistory *history)
{
	MemoryContext context = AllocSetContextCreate(history->context, "stream_beam history regions",
	                                              ALLOCSET_SMALL_SIZES);
	SbRegions *regions = MemoryContextAllocZero(context, sizeof(SbRegions));

	regions->context = context;
	return regions;
}

static void
history_set_regions(SbHistory *history, SbRegions *regions)
{
	if (history->now != history->accepted)
		MemoryContextDelete(history->now->context);
	history->now = regions;
}

/* The same, to be written with the bundle. */
static void
history_change_regions(SbPipeline *pipeline, SbHistory *history, SbRegions *regions)
{
	history_set_regions(history, regions);
	history->dirty = true;
	pipeline->changed = true;
}

/* As of the last commit. Part values are read by their type's input function: as the owner. */
static SbRegions *
history_read_regions(SbHistory *history, const SbHistoryRow *row)
{
	SbRegions *regions = history_new_regions(history);
	MemoryContext old = MemoryContextSwitchTo(regions->context);

	regions->begun = row->begun;
	regions->scanned = row->scanned;
	regions->done = row->done;
	regions->rows = row->rows;
	regions->chunks = row->chunks;
	regions->has_lower = row->lower != NULL;
	if (row->lower)
		regions->lower = history_value_of_text(history, row->lower);
	regions->has_upper = row->upper != NULL;
	if (row->upper)
		regions->upper = history_value_of_text(history, row->upper);
	if (row->snapshot)
		regions->cut = sb_cut_parse(row->snapshot, row->cut_end);
	MemoryContextSwitchTo(old);
	return regions;
}

/*
 * To its row in the catalog, after result and state: the order in which a bundle takes its locks.
 */
static void
history_write(SbPipeline *pipeline, void *gate)
{
	SbHistory *history = gate;
	const SbRegions *regions = history->now;
	SbHistoryRow row = {.pipeline = pipeline->row->id,
	                    .begun = regions->begun,
	                    .scanned = regions->scanned,
	                    .done = regions->done,
	                    .rows = regions->rows,
	                    .chunks = regions->chunks};
	SbBracket saved;

	if (!history->dirty)
		return;
	history->dirty = false;
	sb_pipeline_as_owner(pipeline, &saved);
	if (regions->has_lower)
		row.lower = history_value_to_text(history, regions->lower);
	if (regions->has_upper)
		row.upper = history_value_to_text(history, regions->upper);
	sb_bracket_leave(&saved);
	if (regions->cut)
	{
		row.snapshot = sb_cut_format(regions->cut);
		row.cut_end = regions->cut->end;
	}
	sb_bracket_enter_extension(&saved);
	sb_catalog_put_history(&row);
	sb_bracket_leave(&saved);
	if (regions->cut)
		SB_KILL_POINT("after_history_cut");
}

static int
history_compare(const SbHistory *history, Datum a, Datum b)
{
	return DatumGetInt32(FunctionCall2Coll(history->compare, history->collation, a, b));
}

/* Where the query's current row is, which may be one side of a change: by its part value. */
static SbRegion
history_region(const SbHistory *history, SbQuery *query)
{
	const SbRegions *regions = history->now;
	Datum value;
	bool isnull;

	if (!regions->begun)
		return SB_REGION_AHEAD;
	if (!regions->has_upper && !regions->has_lower)
		return SB_REGION_LAST;
	value = sb_query_part(query, &isnull);
	/* nulls are in the first chunk */
	if (isnull)
		return regions->has_upper ? SB_REGION_SETTLED : SB_REGION_LAST;
	if (regions->has_upper && history_compare(history, value, regions->upper) >= 0)
		return SB_REGION_SETTLED;
	return regions->has_lower && history_compare(history, value, regions->lower) < 0
	           ? SB_REGION_AHEAD
	           : SB_REGION_LAST;
}

static bool
history_has(SbHistory *history, SbQuery *query, const SbRow *row)
{
	switch (history_region(history, query))
	{
		case SB_REGION_AHEAD:
			sb_unseen_add(history->unseen, row->xid);
			return true;
		case SB_REGION_LAST:
			return sb_cut_hides(history->now->cut, row->xid, row->position);
		default:
			return false;
	}
}

/* A chunk has the row, or will. */
static bool
history_leaves_out(SbPipeline *pipeline, void *gate, const SbRow *row)
{
	/* a row of a chunk */
	if (!TransactionIdIsValid(row->xid) || !history_has(gate, pipeline->query, row))
		return false;
	/* it counts as a row of the history */
	if (row->op == SB_CHANGE_INSERT)
		pipeline->progress.rows_in--;
	return true;
}

static void
history_emptied(SbPipeline *pipeline, void *gate, const SbMessage *truncate)
{
	SbHistory *history = gate;

	sb_unseen_add(history->unseen, truncate->xid);
	history->sample = (SbSample){0};
	history_change_regions(pipeline, history, history_new_regions(history));
}

static void
history_reached(SbPipeline *pipeline, void *gate, XLogRecPtr position)
{
	SbHistory *history = gate;
	SbRegions *regions = history->now;

	if (!regions->scanned || regions->done || position < regions->cut->end)
		return;
	regions = history_new_regions(history);
	regions->begun = regions->scanned = regions->done = true;
	regions->rows = history->now->rows;
	regions->chunks = history->now->chunks;
	history_change_regions(pipeline, history, regions);
}

static bool
history_is_done(const void *gate)
{
	const SbHistory *history = gate;

	return history->now->done;
}

bool
sb_history_is_read(const SbPipeline *pipeline)
{
	return history_of(pipeline) != NULL;
}

/*
 * So many rows have taken so long; the next chunk should take as long as it may. Of sessions most
 * of the work comes when all rows are in, so they are measured up to the commit; what that costs by
 * itself is not to make chunks of single rows.
 */
static void
chunk_adapt(const SbPipeline *pipeline, SbHistory *history)
{
	double taken = Max(1, GetCurrentTimestamp() - history->chunk.started);
	double factor = sb_guc_history_chunk_time_ms * 1000.0 / taken;

	history->chunk_rows = Max(sb_plan_merges(pipeline->plan) ? SB_HISTORY_LEAST_ROWS : 1,
	                          history->chunk_rows * Max(0.25, Min(4, factor)));
}

/* False: all rows are in, and the last chunk is settled. Then the history's memory is gone. */
static bool
history_accept(SbPipeline *pipeline, void *gate)
{
	SbHistory *history = gate;

	if (history->now->done)
	{
		MemoryContextDelete(history->context);
		return false;
	}
	if (history->accepted != history->now)
	{
		MemoryContextDelete(history->accepted->context);
		if (history->chunk.closed && sb_plan_merges(pipeline->plan))
			chunk_adapt(pipeline, history);
		history->chunk.closed = false;
		SB_KILL_POINT("after_chunk_commit");
	}
	history->accepted = history->now;
	return true;
}

static void
history_rollback(SbPipeline *pipeline, void *gate)
{
	SbHistory *history = gate;

	history_set_regions(history, history->accepted);
}

static const SbGateKind history_gate = {.name = "history",
                                        .leaves_out = history_leaves_out,
                                        .emptied = history_emptied,
                                        .reached = history_reached,
                                        .is_open = history_is_done,
                                        .write = history_write,
                                        .accept = history_accept,
                                        .rollback = history_rollback};

/* ---- opening ---- */

/* Prepares the comparison of part values; nothing where the table is one chunk. */
static void
history_open_part(SbPipeline *pipeline, SbHistory *history)
{
	Expr *expr = sb_part_expr(pipeline->plan, history->part);
	Oid type = expr ? getBaseType(exprType((Node *) expr)) : InvalidOid;
	TypeCacheEntry *entry;

	/*
	 * the column is gone or is another one now: its values say nothing of those that were read by
	 * it
	 */
	if (type != history->type)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("the column by which the history of pipeline \"%s\" is read has been dropped or changed",
		                pipeline->row->name),
		         errhint("Drop the pipeline and create it again.")));
	if (expr == NULL)
		return;
	entry = lookup_type_cache(type, TYPECACHE_CMP_PROC_FINFO);
	get_typlenbyval(type, &history->typlen, &history->typbyval);
	history->collation = exprCollation((Node *) expr);
	history->compare = &entry->cmp_proc_finfo;
	sb_query_set_part(pipeline->query, expr);
}

void
sb_history_attach(SbPipeline *pipeline)
{
	MemoryContext context;
	MemoryContext old;
	SbHistoryRow *row =
	    sb_catalog_reads_wal(pipeline->row) ? sb_catalog_history(pipeline->row->id) : NULL;
	SbBracket saved;
	SbHistory *history;

	if (row == NULL || row->done)
		return;
	context = AllocSetContextCreate(pipeline->context, "stream_beam history", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	history = palloc0(sizeof(SbHistory));
	history->context = context;
	history->part = row->part;
	history->type = row->type;
	history->await_ms = SB_HISTORY_AWAIT_MS;
	history->chunk_rows = SB_HISTORY_FIRST_ROWS;
	history->unseen = sb_unseen_create();
	sb_pipeline_as_owner(pipeline, &saved);
	history_open_part(pipeline, history);
	history->now = history->accepted = history_read_regions(history, row);
	sb_bracket_leave(&saved);
	MemoryContextSwitchTo(old);
	sb_gate_add(pipeline, &history_gate, history);
}

/* ---- chunks ---- */

XLogRecPtr
sb_history_awaits(const SbPipeline *pipeline)
{
	const SbHistory *history = history_of(pipeline);
	const SbRegions *regions = history ? history->now : NULL;

	return regions && regions->cut ? regions->cut->end : InvalidXLogRecPtr;
}

TimestampTz
sb_history_next(const SbPipeline *pipeline, XLogRecPtr position)
{
	const SbHistory *history = history_of(pipeline);

	if (history == NULL || history->now->scanned || position < sb_history_awaits(pipeline))
		return DT_NOEND;
	return history->next_at;
}

/* Rows that a chunk may have at the rate allowed. */
static double
chunk_most_rows(void)
{
	if (sb_guc_history_rate == 0)
		return (double) PG_INT64_MAX;
	return Max(1, (double) sb_guc_history_rate * sb_guc_history_chunk_time_ms / 1000);
}

/* Of some pages some rows: the cost does not grow with the table. */
static char *
sample_sql(SbPipeline *pipeline, const char *part, int64 rows, int64 bytes)
{
	Oid source = pipeline->plan->source;
	double pages = Max(1, bytes / BLCKSZ);
	double wanted = Max(SB_HISTORY_SAMPLE_MIN_PAGES,
	                    Min(SB_HISTORY_SAMPLE_MAX_PAGES, pages / SB_HISTORY_SAMPLE_EACH));
	double page_share = Min(1, wanted / pages);
	double row_share = Min(1, SB_HISTORY_SAMPLE_VALUES / Max(1, rows * page_share));

	return psprintf(
	    "SELECT %s FROM %s TABLESAMPLE pg_catalog.system (%.6f) WHERE %s IS NOT NULL AND pg_catalog.random() OPERATOR(pg_catalog.<=) %.8f"
	    " ORDER BY 1 DESC",
	    part, sb_sql_relation(source), page_share * 100, part, row_share);
}

/*
 * Taken once, and again after a TRUNCATE. It says only how large chunks are: an old or poor sample
 * makes none wrong.
 */
static void
history_take_sample(SbPipeline *pipeline, SbHistory *history)
{
	SbSample *sample = &history->sample;
	MemoryContext old;
	int64 rows, bytes;

	sample->taken = true;
	sb_part_estimate(pipeline->plan->source, &rows, &bytes);
	if (SPI_execute(sample_sql(pipeline,
	                           psprintf("(%s)", sb_part_sql(pipeline->plan, history->part)), rows,
	                           bytes),
	                true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look into the history of pipeline \"%s\"", pipeline->row->name);
	old = MemoryContextSwitchTo(history->context);
	sample->n = SPI_processed;
	sample->values = MemoryContextAllocHuge(history->context, sizeof(Datum) * (sample->n + 1));
	for (int i = 0; i < sample->n; i++)
	{
		bool isnull;
		Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		sample->values[i] = datumCopy(value, history->typbyval, history->typlen);
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	sample->rows_for = sample->n > 0 ? (double) rows / sample->n : rows;
}

/*
 * Where the next chunk is to end, so that it has about as many rows as it should; false: at the end
 * of the table.
 */
static bool
chunk_choose_lower(SbPipeline *pipeline, SbHistory *history, Datum *lower)
{
	const SbRegions *regions = history->now;
	SbSample *sample = &history->sample;
	double rows = Min(history->chunk_rows, chunk_most_rows());
	double skip;

	if (history->part == SB_PART_NONE || !sb_part_is_indexed(pipeline->plan, history->part))
		return false;
	if (!sample->taken)
		history_take_sample(pipeline, history);
	while (regions->has_lower && sample->at < sample->n &&
	       history_compare(history, sample->values[sample->at], regions->lower) >= 0)
		sample->at++;
	skip = Max(1, rows / Max(sample->rows_for, 1e-9));
	if (sample->at + skip >= sample->n)
		return false;
	*lower = sample->values[sample->at + (int) skip];
	return true;
}

/* The range of the chunk in SQL. */
static SbScanQuery
chunk_query(SbPipeline *pipeline, SbHistory *history)
{
	SbChunk *chunk = &history->chunk;
	const SbRegions *regions = history->now;
	SbScanQuery query = {.by_index = regions->has_lower || chunk->has_lower};
	StringInfoData condition;
	Oid *types = palloc(sizeof(Oid) * 2);
	Datum *values = palloc(sizeof(Datum) * 2);
	char *part;

	if (!regions->has_lower && !chunk->has_lower)
		return query;
	part = sb_part_sql(pipeline->plan, history->part);
	initStringInfo(&condition);
	if (regions->has_lower)
	{
		values[query.nargs++] = regions->lower;
		appendStringInfo(&condition, "(%s) %s $%d", part,
		                 sb_part_operator_sql(history->type, BTLessStrategyNumber), query.nargs);
	}
	if (chunk->has_lower)
	{
		values[query.nargs++] = chunk->lower;
		appendStringInfo(&condition, "%s((%s) %s $%d", regions->has_lower ? " AND " : "", part,
		                 sb_part_operator_sql(history->type, BTGreaterEqualStrategyNumber),
		                 query.nargs);
		/* nulls are in the first chunk */
		appendStringInfo(&condition, regions->has_lower ? ")" : " OR (%s) IS NULL)", part);
	}
	types[0] = types[1] = history->type;
	query.condition = condition.data;
	query.types = types;
	query.values = values;
	return query;
}

static void
chunk_begin_scan(SbPipeline *pipeline, SbHistory *history)
{
	SbChunk *chunk = &history->chunk;
	SbScanQuery query;
	SbBracket saved;

	sb_pipeline_as_owner(pipeline, &saved);
	chunk->has_lower = chunk_choose_lower(pipeline, history, &chunk->lower);
	query = chunk_query(pipeline, history);
	sb_bracket_leave(&saved);
	chunk->scan = sb_scan_begin(pipeline, chunk->snapshot, &query, chunk->cut->end);
}

/* The table is locked for now: to wait for it would have all pipelines wait. */
static bool
chunk_postpone(SbHistory *history)
{
	history->next_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SB_HISTORY_LOCKED_MS);
	return false;
}

/*
 * False: somebody has the table locked, or no snapshot sees all yet that the stream has gone past;
 * next_at says when to try again. The table is locked before the snapshot is taken.
 */
static bool
chunk_open(SbRowSource *row_source)
{
	SbPipeline *pipeline = row_source->pipeline;
	SbHistory *history = history_of(pipeline);
	SbChunk *chunk = &history->chunk;
	TimestampTz now = GetCurrentTimestamp();

	*chunk = (SbChunk){.started = now};
	if (!ConditionalLockRelationOid(pipeline->plan->source, AccessShareLock))
		return chunk_postpone(history);
	chunk->snapshot = sb_unseen_await_snapshot(history->unseen, history->await_ms);
	if (chunk->snapshot == NULL)
	{
		history->next_at =
		    TimestampTzPlusMilliseconds(GetCurrentTimestamp(), history->await_ms * 2);
		history->await_ms = Min(history->await_ms * 2, SB_HISTORY_AWAIT_MAX_MS);
		return false;
	}
	history->await_ms = SB_HISTORY_AWAIT_MS;
	if (!sb_partition_knows_all(pipeline->plan->source))
	{
		UnregisterSnapshot(chunk->snapshot);
		return chunk_postpone(history);
	}
	chunk->cut = sb_cut_of_snapshot(chunk->snapshot);
	chunk_begin_scan(pipeline, history);
	return true;
}

static int
chunk_next(SbRowSource *row_source, SbMessage **messages)
{
	SbChunk *chunk = &history_of(row_source->pipeline)->chunk;
	int n = sb_scan_next(chunk->scan, messages, SB_HISTORY_ROWS);

	chunk->rows += n;
	return n;
}

/*
 * The range of the chunk is the last region now, and that of the chunk before is settled. It counts
 * from the commit on: a rollback brings the accepted regions back.
 */
static void
chunk_close(SbRowSource *row_source)
{
	SbPipeline *pipeline = row_source->pipeline;
	SbHistory *history = history_of(pipeline);
	SbChunk *chunk = &history->chunk;
	SbRegions *before = history->now;
	SbRegions *regions = history_new_regions(history);
	MemoryContext old = MemoryContextSwitchTo(regions->context);

	regions->begun = true;
	regions->scanned = !chunk->has_lower;
	regions->has_upper = before->has_lower;
	if (before->has_lower)
		regions->upper = datumCopy(before->lower, history->typbyval, history->typlen);
	regions->has_lower = chunk->has_lower;
	if (chunk->has_lower)
		regions->lower = datumCopy(chunk->lower, history->typbyval, history->typlen);
	regions->cut = palloc(offsetof(SbCut, xip) + sizeof(TransactionId) * chunk->cut->nxip);
	memcpy(regions->cut, chunk->cut,
	       offsetof(SbCut, xip) + sizeof(TransactionId) * chunk->cut->nxip);
	regions->rows = before->rows + chunk->rows;
	regions->chunks = before->chunks + 1;
	MemoryContextSwitchTo(old);
	sb_scan_end(chunk->scan);
	UnregisterSnapshot(chunk->snapshot);
	history_change_regions(pipeline, history, regions);
	chunk->closed = true;
	SB_KILL_POINT("before_chunk_commit");
	if (!sb_plan_merges(pipeline->plan))
		chunk_adapt(pipeline, history);
	if (sb_guc_history_rate > 0)
		history->next_at =
		    TimestampTzPlusMilliseconds(chunk->started, chunk->rows * 1000 / sb_guc_history_rate);
}

SbRowSource
sb_history_rows(SbPipeline *pipeline)
{
	return (SbRowSource){.pipeline = pipeline,
	                     .open = chunk_open,
	                     .next = chunk_next,
	                     .close = chunk_close};
}
