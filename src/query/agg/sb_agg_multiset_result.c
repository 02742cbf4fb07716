/*
 * sb_agg_multiset_result.c: what multisets say; see sb_agg_multiset.c.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "query/agg/sb_agg_multiset.h"
#include "utils/fmgroids.h"

static inline SbMultisetPlan *
set_plan_of(const SbAgg *agg)
{
	return agg->impl;
}

typedef struct SbArrival
{
	uint64 number;
	const char *data;
	uint32 size;
	int64 count;
} SbArrival;

static int
set_compare_arrivals(const void *a, const void *b)
{
	uint64 x = ((const SbArrival *) a)->number;
	uint64 y = ((const SbArrival *) b)->number;

	return x < y ? -1 : x > y;
}

/* The rows in the order in which they came. */
static void
set_unpack_arrivals(SbQuery *query, SbAgg *agg, SbItems *items, Tuplestorestate *store)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	int64 max = sb_items_rows(items);
	SbArrival *rows = palloc_extended(sizeof(SbArrival) * max, MCXT_ALLOC_HUGE);
	int64 n = 0;
	SbItemScan scan = {0};
	SbItem item;

	while (sb_items_next(&query->items, &plan->order, items, &scan, &item))
	{
		SbArrival *row = &rows[n++];

		/* leaves stay where they are as long as nothing is changed */
		*row = (SbArrival){.data = item.data,
		                   .size = item.size - SB_ARRIVAL_SIZE,
		                   .count = item.count};
		memcpy(&row->number, row->data + row->size, SB_ARRIVAL_SIZE);
		row->number = pg_ntoh64(row->number);
	}
	qsort(rows, n, sizeof(SbArrival), set_compare_arrivals);
	for (int64 i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		for (int64 k = 0; k < rows[i].count; k++)
			sb_bag_put(agg, &plan->bag, store, rows[i].data, rows[i].size);
	}
}

/* In the order of arrival where the query says nothing of the order; else in that of the items. */
static Tuplestorestate *
set_unpack(SbQuery *query, SbAgg *agg, SbItems *items)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	/* random access: the scan wants to rewind, and may not say so later */
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	MemoryContext row =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam bag row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	bool once = agg->aggref->aggdistinct != NIL;
	SbItemScan scan = {0};
	SbItem item;

	if (items && plan->arrivals)
		set_unpack_arrivals(query, agg, items, store);
	while (items && !plan->arrivals &&
	       sb_items_next(&query->items, &plan->order, items, &scan, &item))
	{
		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(row);
		for (int64 n = 0; n < (once ? 1 : item.count); n++)
			sb_bag_put(agg, &plan->bag, store, item.data, item.size);
		MemoryContextSwitchTo(old);
		MemoryContextReset(row);
	}
	MemoryContextDelete(row);
	return store;
}

/* The value of the only column, good as long as the result's memory. */
static Datum
set_result_value(SbAgg *agg, SbItem item)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	bool isnull;
	Datum value = sb_set_value(plan, item.data, item.size, &isnull);

	Assert(!isnull);
	return sb_datum_copy(&plan->value.type, value, CurrentMemoryContext);
}

static Datum
set_extreme(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	SbMultisetPlan *plan = set_plan_of(agg);

	return set_result_value(agg, plan->backwards
	                                 ? sb_items_last(&query->items, &plan->order, items)
	                                 : sb_items_first(&query->items, &plan->order, items));
}

static Datum
set_count(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	return Int64GetDatum(sb_items_groups(&query->items, &set_plan_of(agg)->order, items));
}

/* The row with this number in the order of the query. */
static Datum
set_nth(SbQuery *query, SbAgg *agg, SbItems *items, int64 row)
{
	SbMultisetPlan *plan = set_plan_of(agg);

	if (plan->backwards)
		row = sb_items_rows(items) - 1 - row;
	return set_result_value(agg, sb_items_nth(&query->items, &plan->order, items, row));
}

static Datum
set_percentile_disc(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	int64 row = (int64) ceil(set_plan_of(agg)->fraction * sb_items_rows(items));

	return set_nth(query, agg, items, Max(row, 1) - 1);
}

static Datum
set_percentile_cont(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	double at = set_plan_of(agg)->fraction * (sb_items_rows(items) - 1);
	int64 low_row = (int64) floor(at);
	int64 high_row = (int64) ceil(at);
	double low = DatumGetFloat8(set_nth(query, agg, items, low_row));
	double high;

	if (low_row == high_row)
		return Float8GetDatum(low);
	high = DatumGetFloat8(set_nth(query, agg, items, high_row));
	return Float8GetDatum(low + (at - low_row) * (high - low));
}

/* Of values that are equally frequent the first. */
static Datum
set_mode(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	SbItemScan scan = {0};
	SbItem item;
	SbItem group = {0};
	SbItem best = {0};

	while (sb_items_next(&query->items, &plan->order, items, &scan, &item))
	{
		int64 before =
		    group.data && item.place == group.place && sb_set_compare(plan, &group, &item) == 0
		        ? group.count
		        : 0;

		group = item;
		group.count += before;
		if (group.count > best.count)
			best = group;
	}
	return set_result_value(agg, best);
}

static Datum
set_latest(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	SbItem item = plan->latest == SB_LATEST_FIRST
	                  ? sb_items_first(&query->items, &plan->order, items)
	                  : sb_items_last(&query->items, &plan->order, items);
	NullableDatum value;
	Datum at;

	sb_set_read_latest(plan, item.data, item.size, &value, &at);
	*isnull = value.isnull;
	return value.isnull ? (Datum) 0
	                    : sb_datum_copy(&plan->value.type, value.value, CurrentMemoryContext);
}

/* The values with the greatest `at`, the greatest first. */
static Datum
set_top(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	Datum *values = palloc(sizeof(Datum) * plan->limit);
	bool *nulls = palloc(sizeof(bool) * plan->limit);
	SbItemScan scan = {0};
	SbItem item;
	int n = 0;

	while (n < plan->limit && sb_items_previous(&query->items, &plan->order, items, &scan, &item))
	{
		NullableDatum value;
		Datum at;

		sb_set_read_latest(plan, item.data, item.size, &value, &at);
		for (int64 i = 0; i < item.count && n < plan->limit; i++, n++)
		{
			values[n] = value.value;
			nulls[n] = value.isnull;
		}
	}
	return sb_latest_array(&plan->value.type, values, nulls, n);
}

Datum
sb_set_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	SbMultisetPlan *plan = set_plan_of(agg);

	if (plan->results == NULL)
		return sb_bag_run(query, agg, &plan->bag, set_unpack,
		                  acc->form == SB_ACC_NEW ? NULL : (SbItems *) DatumGetPointer(acc->value),
		                  isnull);
	if (acc->form != SB_ACC_NEW)
		return plan->results(query, agg, (SbItems *) DatumGetPointer(acc->value), isnull);
	/* only a count says something of no rows */
	*isnull = !plan->counts;
	return Int64GetDatum(0);
}

/* ---- which of them ---- */

/* The fraction of a percentile, where it is a constant that PostgreSQL's function would take. */
static bool
set_constant_fraction(const Aggref *aggref, double *fraction)
{
	Node *arg = list_length(aggref->aggdirectargs) == 1 ? linitial(aggref->aggdirectargs) : NULL;

	if (arg == NULL || !IsA(arg, Const) || ((Const *) arg)->constisnull)
		return false;
	*fraction = DatumGetFloat8(((Const *) arg)->constvalue);
	return *fraction >= 0 && *fraction <= 1;
}

/* Is the result to be had from the tree, without the executor? */
SbMultisetResult
sb_set_choose_result(const SbAgg *agg, SbMultisetPlan *plan)
{
	const Aggref *aggref = agg->aggref;
	bool by_value = sb_set_by_value(plan);

	if (plan->latest != SB_LATEST_NONE)
		return plan->latest == SB_LATEST_TOP ? set_top : set_latest;
	if (agg->method == &sb_agg_extreme)
		return by_value ? set_extreme : NULL;
	if (plan->bag.ncolumns != 1 || list_length(aggref->args) != 1)
		return NULL;
	if (aggref->aggfnoid == F_COUNT_ANY && aggref->aggdistinct &&
	    (by_value || plan->value.equal_is_image))
	{
		plan->counts = true;
		return set_count;
	}
	if (!by_value || aggref->aggdistinct)
		return NULL;
	if (aggref->aggfnoid == F_MODE)
		return plan->backwards ? NULL : set_mode;
	if (aggref->aggfnoid == F_PERCENTILE_DISC_FLOAT8_ANYELEMENT &&
	    set_constant_fraction(aggref, &plan->fraction))
		return set_percentile_disc;
	if (aggref->aggfnoid == F_PERCENTILE_CONT_FLOAT8_FLOAT8 &&
	    set_constant_fraction(aggref, &plan->fraction))
		return set_percentile_cont;
	return NULL;
}

/* ---- what it costs ---- */

const char *
sb_set_reads(const SbAgg *agg)
{
	const SbMultisetPlan *plan = set_plan_of(agg);
	SbMultisetResult results = plan->results;

	if (results == set_extreme || results == set_latest || results == set_top)
		return "those at the end";
	if (results == set_count)
		return "their number";
	if (results == set_percentile_cont || results == set_percentile_disc)
		return "one in the middle";
	return results == set_mode || agg->aggref->aggdistinct ? "each different one" : "all of them";
}
