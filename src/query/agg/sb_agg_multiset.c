/*
 * sb_agg_multiset.c: aggregates that retain their inputs in order (sb_items.h): a multiset from
 * which one equal row can be taken.
 *
 * ORDER. One column whose type has an order that a number can stand for, or whose equal values may
 * have different bytes (1.0 and 1.00, 0 and -0, collations), is in the order of its type: then what
 * is equal stands together. All else is in the order of a hash of its bytes. Where the query says
 * nothing of the order of rows, each has the number of its arrival behind its bytes: the executor
 * is given them in that order, and of equal rows the youngest is taken out.
 *
 * Where no row is ever taken out, and the query says nothing of what is the same, rows stand as
 * they came.
 *
 * Taking a row out finds one with the same bytes, else one that is equal to the types; a type
 * without equality has only its bytes.
 *
 * RESULTS. What the order or a count of the tree answers is taken from there, whatever the number
 * of rows: min and max (CREATE AGGREGATE defines SORTOP as just that), count(DISTINCT), and
 * percentiles; mode() looks at each different value once. All others let the executor aggregate the
 * rows when a result is due; for DISTINCT it is given each different row once.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "port/pg_bswap.h"
#include "query/agg/sb_agg_multiset.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static inline SbMultisetPlan *
set_plan_of(const SbAgg *agg)
{
	return agg->impl;
}

static inline SbItems *
set_of(const SbAcc *acc)
{
	return (SbItems *) DatumGetPointer(acc->value);
}

/* ---- the order ---- */

static uint64
set_place_by_hash(void *arg, const char *data, uint32 size)
{
	return hash_bytes_extended((const unsigned char *) data, size, 0);
}

/* The only column; behind the bitmap of nulls. */
Datum
sb_set_value(const SbMultisetPlan *plan, const char *data, uint32 size, bool *isnull)
{
	const char *at = data + 1;

	*isnull = (*data & 1) != 0;
	return *isnull ? (Datum) 0 : sb_datum_read(&plan->value.type, &at, data + size);
}

/* Nulls are last. */
static uint64
set_place_by_value(void *arg, const char *data, uint32 size)
{
	const SbMultisetPlan *plan = arg;
	bool isnull;
	Datum value = sb_set_value(plan, data, size, &isnull);

	return isnull ? PG_UINT64_MAX : sb_value_place(&plan->value, value);
}

int
sb_set_compare(void *arg, const SbItem *a, const SbItem *b)
{
	SbMultisetPlan *plan = arg;
	bool anull;
	bool bnull;
	Datum x = sb_set_value(plan, a->data, a->size, &anull);
	Datum y = sb_set_value(plan, b->data, b->size, &bnull);

	if (anull || bnull)
		return (int) anull - (int) bnull;
	return sb_value_compare(&plan->value, x, y);
}

/* Two columns, the second of which is not null. */
void
sb_set_read_latest(const SbMultisetPlan *plan, const char *data, uint32 size, NullableDatum *value,
                   Datum *at)
{
	const char *from = data + 1;
	const char *end = data + size;

	value->isnull = (*data & 1) != 0;
	value->value = value->isnull ? (Datum) 0 : sb_datum_read(&plan->value.type, &from, end);
	*at = sb_datum_read(&plan->at.type, &from, end);
}

static uint64
set_place_latest(void *arg, const char *data, uint32 size)
{
	const SbMultisetPlan *plan = arg;
	NullableDatum value;
	Datum at;

	sb_set_read_latest(plan, data, size, &value, &at);
	return sb_value_place(&plan->at, at);
}

/* By the second column, then by the first; where its type has no order the bytes decide. */
static int
set_compare_latest(void *arg, const SbItem *a, const SbItem *b)
{
	SbMultisetPlan *plan = arg;
	NullableDatum x;
	NullableDatum y;
	Datum xat;
	Datum yat;
	int result;

	sb_set_read_latest(plan, a->data, a->size, &x, &xat);
	sb_set_read_latest(plan, b->data, b->size, &y, &yat);
	result = sb_value_compare(&plan->at, xat, yat);
	if (result != 0)
		return result;
	if (x.isnull || y.isnull)
		return (int) y.isnull - (int) x.isnull;
	/* without an order of the type the bytes decide */
	return OidIsValid(plan->value.compare.fn_oid) ? sb_value_compare(&plan->value, x.value, y.value)
	                                              : 0;
}

static uint64
set_place_before_arrival(void *arg, const char *data, uint32 size)
{
	return set_place_by_hash(arg, data, size - SB_ARRIVAL_SIZE);
}

/* Rows are the same whenever they came. */
static int
set_compare_before_arrival(void *arg, const SbItem *a, const SbItem *b)
{
	return sb_bytes_compare(a->data, a->size - SB_ARRIVAL_SIZE, b->data, b->size - SB_ARRIVAL_SIZE);
}

bool
sb_set_by_value(const SbMultisetPlan *plan)
{
	return plan->order.place == set_place_by_value;
}

static void
set_skip(void *arg, const char **data, const char *end)
{
	const SbMultisetPlan *plan = arg;

	sb_bag_skip(plan->agg, &plan->bag, data, end);
	if (plan->arrivals)
		(void) sb_bytes_take(data, end, SB_ARRIVAL_SIZE);
}

/* ---- opening ---- */

/*
 * Does the aggregate have a sort operator, one argument that is not constant, and the argument's
 * type for its result? DISTINCT and ORDER BY of the argument change nothing then.
 */
bool
sb_agg_extreme_can(const Aggref *aggref, HeapTuple aggtuple)
{
	Form_pg_aggregate form = (Form_pg_aggregate) GETSTRUCT(aggtuple);
	Expr *arg;

	if (aggref->aggkind != AGGKIND_NORMAL || !OidIsValid(form->aggsortop) ||
	    list_length(aggref->args) != 1)
		return false;
	arg = linitial_node(TargetEntry, aggref->args)->expr;
	return !IsA(arg, Const) && exprType((Node *) arg) == aggref->aggtype;
}

static void
set_open_equality(SbMultisetPlan *plan)
{
	int n = plan->bag.ncolumns;

	plan->equal = palloc0(sizeof(FmgrInfo *) * Max(n, 1));
	plan->collations = palloc0(sizeof(Oid) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute att = TupleDescAttr(plan->bag.desc, i);
		TypeCacheEntry *entry = lookup_type_cache(att->atttypid, TYPECACHE_EQ_OPR);

		plan->collations[i] = att->attcollation;
		if (!OidIsValid(entry->eq_opr))
			continue;
		plan->equal[i] = palloc0(sizeof(FmgrInfo));
		fmgr_info(get_opcode(entry->eq_opr), plan->equal[i]);
	}
}

/* The operator that the query itself orders or tells apart the only column by. */
static Oid
set_sort_operator(const SbAgg *agg, HeapTuple aggtuple)
{
	const Aggref *aggref = agg->aggref;
	SortGroupClause *clause = NULL;

	if (agg->method == &sb_agg_extreme)
		return ((Form_pg_aggregate) GETSTRUCT(aggtuple))->aggsortop;
	if (list_length(aggref->args) == 1)
		clause = aggref->aggdistinct ? linitial(aggref->aggdistinct)
		         : aggref->aggorder  ? linitial(aggref->aggorder)
		                             : NULL;
	return clause ? clause->sortop : InvalidOid;
}

/* One of ours, over two columns that are no constants? */
static bool
set_open_latest(SbAgg *agg, SbMultisetPlan *plan)
{
	const Aggref *aggref = agg->aggref;
	SbLatestKind kind = sb_latest_kind(aggref->aggfnoid);
	Form_pg_attribute value = TupleDescAttr(plan->bag.desc, 0);
	Form_pg_attribute at;
	bool backwards;

	if (kind == SB_LATEST_NONE || plan->bag.ncolumns != 2 || aggref->aggdistinct ||
	    aggref->aggorder)
		return false;
	at = TupleDescAttr(plan->bag.desc, 1);
	plan->limit = sb_latest_limit(aggref, kind);
	if (plan->limit == 0 ||
	    !sb_value_order_open(&plan->at, at->atttypid, aggref->inputcollid, InvalidOid, &backwards))
		return false;
	if (!sb_value_order_open(&plan->value, value->atttypid, aggref->inputcollid, InvalidOid,
	                         &backwards))
		sb_type_init(&plan->value.type, value->atttypid);
	plan->latest = kind;
	plan->order.place = set_place_latest;
	plan->order.compare = set_compare_latest;
	return true;
}

/* The order that makes results cheapest, of those that the aggregate allows. */
static void
set_open_order(SbAgg *agg, SbMultisetPlan *plan, HeapTuple aggtuple)
{
	const Aggref *aggref = agg->aggref;
	Oid sortop = set_sort_operator(agg, aggtuple);
	bool by_value = false;

	plan->agg = agg;
	plan->order.arg = plan;
	plan->order.skip = set_skip;
	if (set_open_latest(agg, plan))
		return;
	/* without a place an item stands where it came */
	if (agg->method == &sb_agg_bag && aggref->aggdistinct == NIL)
		return;
	if (agg->method == &sb_agg_multiset && aggref->aggkind == AGGKIND_NORMAL &&
	    aggref->aggdistinct == NIL && aggref->aggorder == NIL)
	{
		plan->arrivals = true;
		plan->order.place = set_place_before_arrival;
		plan->order.compare = set_compare_before_arrival;
		return;
	}
	if (plan->bag.ncolumns == 1)
	{
		Form_pg_attribute att = TupleDescAttr(plan->bag.desc, 0);

		by_value = sb_value_order_open(&plan->value, att->atttypid, att->attcollation, sortop,
		                               &plan->backwards);
	}
	if (by_value &&
	    (agg->method == &sb_agg_extreme || plan->value.place || !plan->value.equal_is_image))
	{
		plan->order.place = set_place_by_value;
		plan->order.compare = sb_set_compare;
		return;
	}
	plan->order.place = set_place_by_hash;
}

void
sb_agg_multiset_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple)
{
	SbMultisetPlan *plan = palloc0(sizeof(SbMultisetPlan));

	agg->impl = plan;
	sb_bag_open_columns(agg, &plan->bag);
	set_open_equality(plan);
	set_open_order(agg, plan, aggtuple);
	plan->results = sb_set_choose_result(agg, plan);
	/* such aggregates ignore nulls, those of ordered sets too */
	plan->ignores_nulls = plan->results != NULL;
	plan->trims = plan->latest != SB_LATEST_NONE && !query->retractable;
	if (plan->results == NULL)
		sb_bag_open_plan(query, agg, &plan->bag);
}

/* ---- rows ---- */

static bool
set_ignores(const SbAgg *agg, const SbMultisetPlan *plan)
{
	return plan->ignores_nulls &&
	       agg->values[plan->bag.args[plan->latest == SB_LATEST_NONE ? 0 : 1]].isnull;
}

/* The current row as bytes, in the row's memory; with room for a number behind it. */
static char *
set_row(SbAgg *agg, SbMultisetPlan *plan, uint32 *size)
{
	Size needed = sb_bag_measure(agg, &plan->bag);
	char *bytes;

	if (needed > SB_BAG_MAX_SIZE)
		sb_bag_full(agg);
	bytes = palloc(needed + SB_ARRIVAL_SIZE);
	sb_bag_write(agg, &plan->bag, bytes);
	*size = needed;
	return bytes;
}

/* Behind the bytes of a row; PG_UINT64_MAX: later than all. */
static void
set_number(char *bytes, uint32 *size, uint64 arrival)
{
	arrival = pg_hton64(arrival);
	memcpy(bytes + *size, &arrival, SB_ARRIVAL_SIZE);
	*size += SB_ARRIVAL_SIZE;
}

static SbItems *
set_make(SbQuery *query, SbAcc *acc)
{
	if (acc->form != SB_ACC_NEW)
		return set_of(acc);
	acc->value = PointerGetDatum(sb_items_make(&query->items));
	acc->isnull = false;
	acc->form = SB_ACC_VALUE;
	return set_of(acc);
}

/* Nothing is taken out of the query: the rows beyond the limit can go. */
static void
set_trim(SbQuery *query, SbMultisetPlan *plan, SbItems *items)
{
	while (sb_items_rows(items) > plan->limit)
	{
		SbItem item = plan->latest == SB_LATEST_FIRST
		                  ? sb_items_last(&query->items, &plan->order, items)
		                  : sb_items_first(&query->items, &plan->order, items);
		char *bytes = palloc(item.size);

		memcpy(bytes, item.data, item.size);
		(void) sb_items_remove(&query->items, &plan->order, items, bytes, item.size);
		pfree(bytes);
	}
}

static void
set_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	SbItems *items;
	uint32 size;
	char *bytes;

	if (set_ignores(agg, plan))
		return;
	bytes = set_row(agg, plan, &size);
	items = set_make(query, acc);
	if (plan->arrivals)
		set_number(bytes, &size, sb_items_next_arrival(items));
	sb_items_add(&query->items, &plan->order, items, bytes, size, 1);
	if (plan->trims && sb_items_rows(items) > plan->limit)
		set_trim(query, plan, items);
}

/* Is the row just read equal to the current one? */
static bool
set_row_equals(SbAgg *agg, SbMultisetPlan *plan, const Datum *flat, const bool *nulls)
{
	for (int i = 0; i < plan->bag.ncolumns; i++)
	{
		const NullableDatum *value = &agg->values[plan->bag.args[i]];
		const SbType *type = &agg->arg_types[plan->bag.args[i]];

		if (value->isnull != nulls[i])
			return false;
		if (value->isnull)
			continue;
		if (plan->equal[i] != NULL
		        ? !DatumGetBool(
		              FunctionCall2Coll(plan->equal[i], plan->collations[i], flat[i], value->value))
		        : sb_datum_compare_bytes(type, flat[i], value->value) != 0)
			return false;
	}
	return true;
}

/* The bytes of a row that is equal by the types; NULL: there is none. Looks at all. */
static char *
set_find_equal(SbQuery *query, SbAgg *agg, SbMultisetPlan *plan, SbItems *items, uint32 *size)
{
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam bag row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = CurrentMemoryContext;
	SbItemScan scan = {0};
	char *found = NULL;
	SbItem item;

	while (found == NULL && sb_items_next(&query->items, &plan->order, items, &scan, &item))
	{
		const char *data = item.data;

		CHECK_FOR_INTERRUPTS();
		MemoryContextSwitchTo(context);
		sb_bag_read(agg, &plan->bag, &data, item.data + item.size);
		if (set_row_equals(agg, plan, plan->bag.flat, plan->bag.nulls))
		{
			found = MemoryContextAlloc(old, Max(item.size, 1));
			memcpy(found, item.data, item.size);
			*size = item.size;
		}
		MemoryContextSwitchTo(old);
		MemoryContextReset(context);
	}
	MemoryContextDelete(context);
	return found;
}

/*
 * Takes out a row that is equal, by its bytes or else by the types. That there is none is an error:
 * it was never added.
 */
static void
set_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	uint32 size;
	char *bytes;

	if (set_ignores(agg, plan))
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	bytes = set_row(agg, plan, &size);
	if (plan->arrivals)
		set_number(bytes, &size, PG_UINT64_MAX);
	if (!sb_items_remove(&query->items, &plan->order, set_of(acc), bytes, size))
	{
		/* in the order of values the equal ones stand together, and were found */
		if (!sb_set_by_value(plan))
			bytes = set_find_equal(query, agg, plan, set_of(acc), &size);
		if (sb_set_by_value(plan) || bytes == NULL ||
		    !sb_items_remove(&query->items, &plan->order, set_of(acc), bytes, size))
			sb_agg_never_added(agg);
	}
	if (sb_items_rows(set_of(acc)) > 0)
		return;
	sb_items_drop(&query->items, set_of(acc));
	sb_acc_renew(acc);
}

static void
set_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	SbItems *all =
	    sb_items_merge(&query->items, &set_plan_of(agg)->order, set_of(into), set_of(from));

	into->value = PointerGetDatum(all);
	sb_acc_renew(from);
	if (set_plan_of(agg)->trims)
		set_trim(query, set_plan_of(agg), all);
}

/* ---- bytes ---- */

static void
set_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	sb_items_encode(&query->items, &set_plan_of(agg)->order, set_of(acc), out);
}

static void
set_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	acc->value =
	    PointerGetDatum(sb_items_decode(&query->items, &set_plan_of(agg)->order, data, end));
}

/*
 * As they were written before there were items: the number of rows, the number of bytes, the rows,
 * in the order of arrival. Looks before allocating, so that an error leaves nothing behind.
 */
static void
set_decode_rows(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	SbItems *items;
	const char *at;
	uint32 total;
	int64 rows;

	memcpy(&rows, sb_bytes_take(data, end, sizeof(rows)), sizeof(rows));
	at = sb_bytes_take_sized(data, end, &total);
	end = at + total;
	sb_bag_check_rows(agg, &plan->bag, rows, at, end, !plan->ignores_nulls);
	items = sb_items_make(&query->items);
	for (int64 n = 0; n < rows; n++)
	{
		const char *start = at;
		uint32 size;
		char *bytes;

		sb_bag_skip(agg, &plan->bag, &at, end);
		size = at - start;
		bytes = palloc(size + SB_ARRIVAL_SIZE);
		memcpy(bytes, start, size);
		if (plan->arrivals)
			set_number(bytes, &size, sb_items_next_arrival(items));
		sb_items_add(&query->items, &plan->order, items, bytes, size, 1);
		pfree(bytes);
	}
	acc->value = PointerGetDatum(items);
}

#define SB_MULTISET_FUNCTIONS \
	.keeps_values = true, .items = true, .reads = sb_set_reads, .add = set_add, \
	.retract = set_retract, .merge = set_merge, .encode = set_encode, .decode = set_decode, \
	.decode_old = set_decode_rows, .result = sb_set_result

const SbAggMethod sb_agg_extreme = {
    .id = 8,
    .name = "extreme",
    SB_MULTISET_FUNCTIONS,
};

const SbAggMethod sb_agg_multiset = {
    .id = 9,
    .name = "multiset",
    SB_MULTISET_FUNCTIONS,
};

/* of queries that do not retract */
const SbAggMethod sb_agg_bag = {
    .id = 4,
    .name = "bag",
    SB_MULTISET_FUNCTIONS,
};
