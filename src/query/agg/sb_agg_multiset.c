/*
 * sb_agg_multiset.c: aggregates of retractable queries that retain their inputs: a bag from which
 * one equal row can be taken.
 *
 * The rows stand in the order in which they came, packed into one growing chunk as in sb_agg_bag.c,
 * behind a hash table over their bytes. Taking a row out finds the youngest with the same bytes.
 * Where there is none it may still be equal to the types (1.0 and 1.00, 0 and -0, collations): then
 * it is the youngest for which the types' own equality says so; a type without one has only its
 * bytes.
 *
 * COST. Adding and taking out are O(1) on average: a hash chain, and a mark on the row. Marked rows
 * are squeezed out when half of the bytes are theirs, and the chunk and its table double when they
 * are full, so both are paid by the rows that caused them. Only the search by the types' equality
 * looks at all rows. 12 bytes a row and 4 to 8 for the table are on top of the values; the stored
 * form has neither.
 *
 * Two methods: `multiset` lets the executor aggregate the rows when a result is due, `extreme`
 * looks through them for the first by the aggregate's sort operator (min, max: CREATE AGGREGATE
 * defines SORTOP as just that), which needs no executor. It is a scan of the rows for each result.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "query/agg/sb_agg_bag.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

#define SB_SET_FIRST_BUCKETS 8
#define SB_SET_FIRST_ROOM 128
/* In a row's size: it has been taken out. */
#define SB_ROW_DEAD 0x80000000U
/* Of a bucket and of a row: nothing follows. Offsets count from the first row, and 1 is added. */
#define SB_ROW_NONE 0

/* An accumulator's value. The table follows: nbuckets offsets; then the rows. */
typedef struct SbSet
{
	Size capacity; /* for rows, behind the table */
	Size used;     /* of it */
	Size dead;     /* of that, bytes of rows taken out */
	int64 rows;    /* those in the bag; 0 never stays */
	uint32 nbuckets;
	uint32 buckets[FLEXIBLE_ARRAY_MEMBER];
} SbSet;

/* A row: this head, then `size` bytes. Not aligned. */
typedef struct SbSetRow
{
	uint32 size; /* and SB_ROW_DEAD */
	uint32 hash;
	uint32 next; /* an older one in the same bucket */
} SbSetRow;

typedef struct SbMultisetPlan
{
	SbBagPlan bag;    /* first */
	FmgrInfo **equal; /* of each column; NULL: the type has no equality */
	Oid *collations;
	FmgrInfo better; /* extreme: the sort operator */
	Oid collation;
} SbMultisetPlan;

static inline SbMultisetPlan *
set_plan_of(const SbAgg *agg)
{
	return agg->impl;
}

static inline SbSet *
set_of(const SbAcc *acc)
{
	return (SbSet *) DatumGetPointer(acc->value);
}

static inline Size
set_head(uint32 nbuckets)
{
	return offsetof(SbSet, buckets) + sizeof(uint32) * (Size) nbuckets;
}

static inline char *
set_rows(SbSet *set)
{
	return (char *) set + set_head(set->nbuckets);
}

static inline SbSetRow
row_get(const char *at)
{
	SbSetRow row;

	memcpy(&row, at, sizeof(row));
	return row;
}

static inline void
row_put(char *at, SbSetRow row)
{
	memcpy(at, &row, sizeof(row));
}

static inline Size
row_size(SbSetRow row)
{
	return sizeof(SbSetRow) + (row.size & ~SB_ROW_DEAD);
}

static inline bool
row_dead(SbSetRow row)
{
	return (row.size & SB_ROW_DEAD) != 0;
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

void
sb_agg_multiset_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple)
{
	SbMultisetPlan *plan = palloc0(sizeof(SbMultisetPlan));

	agg->impl = plan;
	sb_bag_open_columns(agg, &plan->bag);
	set_open_equality(plan);
	if (agg->method == &sb_agg_extreme)
	{
		fmgr_info(get_opcode(((Form_pg_aggregate) GETSTRUCT(aggtuple))->aggsortop), &plan->better);
		plan->collation = agg->aggref->inputcollid;
	}
	else
		sb_bag_open_plan(query, agg, &plan->bag);
}

/* ---- the table ---- */

/* Chains all rows anew, the youngest first, and drops those taken out. */
static void
set_rebuild(SbSet *set)
{
	char *rows = set_rows(set);
	Size to = 0;
	Size size;

	memset(set->buckets, 0, sizeof(uint32) * (Size) set->nbuckets);
	for (Size from = 0; from < set->used; from += size)
	{
		SbSetRow row = row_get(rows + from);
		uint32 *bucket = &set->buckets[row.hash & (set->nbuckets - 1)];

		size = row_size(row);
		if (row_dead(row))
			continue;
		row.next = *bucket;
		*bucket = to + 1;
		if (to != from)
			memmove(rows + to, rows + from, size);
		row_put(rows + to, row);
		to += size;
	}
	set->used = to;
	set->dead = 0;
}

/* Room for `more` rows of `size` bytes, heads included. Makes the bag where there is none. */
static SbSet *
set_reserve(SbQuery *query, SbAgg *agg, SbAcc *acc, int64 more, Size size)
{
	SbSet *set = acc->form == SB_ACC_NEW ? NULL : set_of(acc);
	uint32 nbuckets = set == NULL ? SB_SET_FIRST_BUCKETS : set->nbuckets;
	Size capacity = set == NULL ? SB_SET_FIRST_ROOM : set->capacity;
	int64 rows = (set == NULL ? 0 : set->rows) + more;

	if (set != NULL && set->used + size <= capacity && rows <= nbuckets)
		return set;
	if (set != NULL && set->dead > 0)
		set_rebuild(set);
	size += set == NULL ? 0 : set->used;
	while (nbuckets < rows && nbuckets < PG_INT32_MAX / 2)
		nbuckets *= 2;
	/* with room to spare, or one row out and one in would squeeze the bag each time */
	while (capacity < size + size / 4)
		capacity *= 2;
	capacity = Min(capacity, SB_BAG_MAX_SIZE);
	if (size > SB_BAG_MAX_SIZE || set_head(nbuckets) + capacity > MaxAllocSize)
	{
		/* the last doublings */
		capacity = size;
		if (size > SB_BAG_MAX_SIZE || set_head(nbuckets) + capacity > MaxAllocSize)
			sb_bag_full(agg);
	}
	if (set == NULL)
	{
		set = MemoryContextAllocZero(query->cells, set_head(nbuckets) + capacity);
		set->nbuckets = nbuckets;
	}
	else if (nbuckets != set->nbuckets || capacity != set->capacity)
	{
		set = repalloc(set, set_head(nbuckets) + Max(capacity, set->used));
		memmove((char *) set + set_head(nbuckets), set_rows(set), set->used);
		if (nbuckets != set->nbuckets)
		{
			set->nbuckets = nbuckets;
			set_rebuild(set);
		}
	}
	set->capacity = capacity;
	acc->value = PointerGetDatum(set);
	acc->isnull = false;
	acc->form = SB_ACC_VALUE;
	return set;
}

/* Puts a row, whose bytes stand behind the place for its head, at the end. There is room. */
static void
set_append(SbSet *set, uint32 size)
{
	char *at = set_rows(set) + set->used;
	SbSetRow row = {.size = size,
	                .hash = hash_bytes((const unsigned char *) at + sizeof(SbSetRow), size)};
	uint32 *bucket = &set->buckets[row.hash & (set->nbuckets - 1)];

	row.next = *bucket;
	*bucket = set->used + 1;
	row_put(at, row);
	set->used += row_size(row);
	set->rows++;
}

/*
 * Takes the row at this offset out of its chain and marks it. The caller gives the link that leads
 * to it: NULL: the bucket.
 */
static void
set_take(SbQuery *query, SbAcc *acc, uint32 offset, uint32 before)
{
	SbSet *set = set_of(acc);
	char *rows = set_rows(set);
	SbSetRow row = row_get(rows + offset);

	if (--set->rows == 0)
	{
		pfree(set);
		sb_acc_renew(acc);
		return;
	}
	if (before == SB_ROW_NONE)
		set->buckets[row.hash & (set->nbuckets - 1)] = row.next;
	else
	{
		SbSetRow link = row_get(rows + before - 1);

		link.next = row.next;
		row_put(rows + before - 1, link);
	}
	if (offset + row_size(row) == set->used)
	{
		/* the youngest of all: its bytes are free at once */
		set->used = offset;
		return;
	}
	row.size |= SB_ROW_DEAD;
	row_put(rows + offset, row);
	set->dead += row_size(row);
	if (set->dead > set->used / 2)
		set_rebuild(set);
}

/* ---- rows ---- */

/* min and max ignore nulls */
static bool
set_ignores(const SbAgg *agg)
{
	return agg->method == &sb_agg_extreme && agg->values[0].isnull;
}

static void
set_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	Size size;
	SbSet *set;

	if (set_ignores(agg))
		return;
	size = sb_bag_measure(agg, &plan->bag);
	if (size > SB_BAG_MAX_SIZE)
		sb_bag_full(agg);
	set = set_reserve(query, agg, acc, 1, sizeof(SbSetRow) + size);
	sb_bag_write(agg, &plan->bag, set_rows(set) + set->used + sizeof(SbSetRow));
	set_append(set, size);
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
		if (plan->equal[i] != NULL)
		{
			if (!DatumGetBool(
			        FunctionCall2Coll(plan->equal[i], plan->collations[i], flat[i], value->value)))
				return false;
		}
		else
		{
			Datum mine = sb_datum_flatten(type, value->value);
			Size size = sb_datum_size(type, mine);
			char *bytes;
			char *other;

			if (size != sb_datum_size(type, flat[i]))
				return false;
			bytes = palloc(size);
			other = palloc(size);
			sb_datum_write(type, mine, bytes);
			sb_datum_write(type, flat[i], other);
			if (memcmp(bytes, other, size) != 0)
				return false;
		}
	}
	return true;
}

/* The youngest row that is equal by the types; its offset + 1. Looks at all. */
static uint32
set_find_equal(SbAgg *agg, SbMultisetPlan *plan, SbSet *set)
{
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam bag row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	char *rows = set_rows(set);
	uint32 found = SB_ROW_NONE;
	Size size;

	for (Size at = 0; at < set->used; at += size)
	{
		SbSetRow row = row_get(rows + at);
		const char *data = rows + at + sizeof(SbSetRow);

		size = row_size(row);
		CHECK_FOR_INTERRUPTS();
		if (row_dead(row))
			continue;
		sb_bag_read(agg, &plan->bag, &data, rows + at + size);
		if (set_row_equals(agg, plan, plan->bag.flat, plan->bag.nulls))
			found = at + 1;
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return found;
}

/*
 * Takes out the youngest row that is equal, by its bytes or else by the types. That there is none
 * is an error: it was never added.
 */
static void
set_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	SbSet *set = set_of(acc);
	uint32 before = SB_ROW_NONE;
	uint32 link;
	uint32 wanted = SB_ROW_NONE;
	uint32 hash;
	Size size;
	char *bytes;

	if (set_ignores(agg))
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	size = sb_bag_measure(agg, &plan->bag);
	bytes = palloc(Max(size, 1));
	sb_bag_write(agg, &plan->bag, bytes);
	hash = hash_bytes((const unsigned char *) bytes, size);
	for (link = set->buckets[hash & (set->nbuckets - 1)]; link != SB_ROW_NONE;)
	{
		SbSetRow row = row_get(set_rows(set) + link - 1);

		if (row.hash == hash && row.size == size &&
		    memcmp(set_rows(set) + link - 1 + sizeof(SbSetRow), bytes, size) == 0)
			break;
		before = link;
		link = row.next;
	}
	if (link == SB_ROW_NONE)
	{
		wanted = set_find_equal(agg, plan, set);
		if (wanted == SB_ROW_NONE)
			sb_agg_never_added(agg);
		hash = row_get(set_rows(set) + wanted - 1).hash;
		before = SB_ROW_NONE;
		for (link = set->buckets[hash & (set->nbuckets - 1)]; link != wanted;
		     link = row_get(set_rows(set) + link - 1).next)
			before = link;
	}
	set_take(query, acc, link - 1, before);
}

static void
set_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	SbSet *other = set_of(from);
	SbSet *set = set_reserve(query, agg, into, other->rows, other->used - other->dead);
	char *rows = set_rows(other);
	Size size;

	for (Size at = 0; at < other->used; at += size)
	{
		SbSetRow row = row_get(rows + at);

		size = row_size(row);
		if (row_dead(row))
			continue;
		memcpy(set_rows(set) + set->used, rows + at, size);
		set_append(set, row.size);
	}
}

/* ---- bytes ---- */

static bool
set_owns(const SbAgg *agg)
{
	return true;
}

/* As a bag's: the number of rows, the number of bytes, the rows without their heads. */
static void
set_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	SbSet *set = set_of(acc);
	uint32 total = set->used - set->dead - sizeof(SbSetRow) * set->rows;
	char *rows = set_rows(set);
	Size size;

	appendBinaryStringInfo(out, (const char *) &set->rows, sizeof(set->rows));
	appendBinaryStringInfo(out, (const char *) &total, sizeof(total));
	enlargeStringInfo(out, total);
	for (Size at = 0; at < set->used; at += size)
	{
		SbSetRow row = row_get(rows + at);

		size = row_size(row);
		if (!row_dead(row))
			appendBinaryStringInfo(out, rows + at + sizeof(SbSetRow), row.size);
	}
}

/* Looks before allocating, so that an error leaves nothing behind in `cells`. */
static void
set_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	const SbBagPlan *plan = &set_plan_of(agg)->bag;
	int64 rows;
	uint32 total;
	const char *from;
	const char *at;
	SbSet *set;

	memcpy(&rows, sb_bytes_take(data, end, sizeof(rows)), sizeof(rows));
	from = sb_bytes_take_sized(data, end, &total);
	if (rows > SB_BAG_MAX_SIZE / sizeof(SbSetRow))
		sb_bytes_corrupted("A bag has more rows than it can have.");
	/* min and max ignore nulls */
	sb_bag_check_rows(agg, plan, rows, from, from + total, agg->method != &sb_agg_extreme);
	set = set_reserve(query, agg, acc, rows, total + sizeof(SbSetRow) * rows);
	at = from;
	for (int64 n = 0; n < rows; n++)
	{
		const char *start = at;

		sb_bag_skip(agg, plan, &at, from + total);
		memcpy(set_rows(set) + set->used + sizeof(SbSetRow), start, at - start);
		set_append(set, at - start);
	}
}

/* ---- results ---- */

/* The rows that are still in, for the plan to read. The caller ends the tuplestore. */
static Tuplestorestate *
set_unpack(SbAgg *agg, const SbAcc *acc)
{
	SbBagPlan *plan = &set_plan_of(agg)->bag;
	/* random access: the scan wants to rewind, and may not say so later */
	Tuplestorestate *store = tuplestore_begin_heap(true, false, work_mem);
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam bag row", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SbSet *set = acc->form == SB_ACC_NEW ? NULL : set_of(acc);
	Size size;

	for (Size at = 0; set != NULL && at < set->used; at += size)
	{
		SbSetRow row = row_get(set_rows(set) + at);
		const char *data = set_rows(set) + at + sizeof(SbSetRow);

		size = row_size(row);
		if (row_dead(row))
			continue;
		sb_bag_read(agg, plan, &data, data + row.size);
		sb_bag_put(plan, store);
		MemoryContextReset(context);
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
	return store;
}

static Datum
multiset_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	return sb_bag_run(query, agg, &set_plan_of(agg)->bag, set_unpack, acc, isnull);
}

/* The best row by the sort operator; of equal ones the last, as the built-in functions have it. */
static Datum
extreme_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	SbMultisetPlan *plan = set_plan_of(agg);
	const SbType *type = &agg->arg_types[0];
	SbSet *set = set_of(acc);
	MemoryContext context;
	MemoryContext old;
	const char *end;
	const char *best = NULL; /* where it stands */
	Datum best_value = (Datum) 0;
	Size size;

	*isnull = acc->form == SB_ACC_NEW;
	if (*isnull)
		return (Datum) 0;
	end = set_rows(set) + set->used;
	context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam bag row", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	for (const char *at = set_rows(set); at < end; at += size)
	{
		SbSetRow row = row_get(at);
		const char *here = at + sizeof(SbSetRow) + 1; /* behind the bitmap of one column */
		const char *next = here;
		Datum value;

		size = row_size(row);
		if (row_dead(row))
			continue;
		if (!type->byval && best != NULL)
		{
			/* values may be copies, and comparing leaves more behind */
			MemoryContextReset(context);
			next = best;
			best_value = sb_datum_read(type, &next, end);
			next = here;
		}
		value = sb_datum_read(type, &next, end);
		if (best != NULL &&
		    DatumGetBool(FunctionCall2Coll(&plan->better, plan->collation, best_value, value)))
			continue;
		best = here;
		best_value = value;
	}
	MemoryContextSwitchTo(old);
	best_value = sb_datum_copy(type, best_value, old);
	MemoryContextDelete(context);
	return best_value;
}

const SbAggMethod sb_agg_extreme = {
    .id = 8,
    .name = "extreme",
    .keeps_values = true,
    .add = set_add,
    .retract = set_retract,
    .merge = set_merge,
    .owns = set_owns,
    .encode = set_encode,
    .decode = set_decode,
    .result = extreme_result,
};

const SbAggMethod sb_agg_multiset = {
    .id = 9,
    .name = "multiset",
    .keeps_values = true,
    .add = set_add,
    .retract = set_retract,
    .merge = set_merge,
    .owns = set_owns,
    .encode = set_encode,
    .decode = set_decode,
    .result = multiset_result,
};
