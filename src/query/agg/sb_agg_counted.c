/*
 * sb_agg_counted.c: the fast paths of retractable queries: count, sum and avg of integers,
 * bool_and, bool_or.
 *
 * A state is an exact sum and the number of values in it, so that taking a value out is a
 * subtraction, and the last one out leaves a new accumulator (whose sum is null). Sums are 128 bits
 * wide inside, whatever the result's type: a sum may pass beyond it and return.
 */
#include "postgres.h"

#include "query/sb_query_private.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"

typedef enum SbCountedArg
{
	SB_COUNTED_ROW, /* no argument: the row itself */
	SB_COUNTED_ANY, /* only whether it is null */
	SB_COUNTED_BOOL,
	SB_COUNTED_INT2,
	SB_COUNTED_INT4,
	SB_COUNTED_INT8
} SbCountedArg;

typedef struct SbCounted
{
	int128 sum; /* of booleans: how many are true */
	int64 count;
} SbCounted;

typedef struct SbCountedPath
{
	Oid function;
	SbCountedArg arg;
	Datum (*result)(const SbCounted *state); /* NULL: the count, kept in the accumulator's value */
} SbCountedPath;

static inline const SbCountedPath *
counted_path(const SbAgg *agg)
{
	return agg->impl;
}

static inline SbCounted *
counted_of(const SbAcc *acc)
{
	return (SbCounted *) DatumGetPointer(acc->value);
}

static inline int64
counted_value(SbCountedArg type, Datum value)
{
	switch (type)
	{
		case SB_COUNTED_BOOL:
			return DatumGetBool(value) ? 1 : 0;
		case SB_COUNTED_INT2:
			return DatumGetInt16(value);
		case SB_COUNTED_INT4:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

static bool
counted_owns(const SbAgg *agg)
{
	return counted_path(agg)->result != NULL;
}

/* ---- count ---- */

static void
count_set(SbAcc *acc, int64 count)
{
	if (count == 0)
	{
		sb_acc_renew(acc);
		return;
	}
	acc->value = Int64GetDatum(count);
	acc->isnull = false;
	acc->form = SB_ACC_VALUE;
}

static void
count_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (counted_path(agg)->arg == SB_COUNTED_ROW || !agg->values[0].isnull)
		count_set(acc, DatumGetInt64(acc->value) + 1);
}

static void
count_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (counted_path(agg)->arg != SB_COUNTED_ROW && agg->values[0].isnull)
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	count_set(acc, DatumGetInt64(acc->value) - 1);
}

/* ---- sums ---- */

static void
sum_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbCounted *state;

	if (agg->values[0].isnull)
		return;
	if (acc->form == SB_ACC_NEW)
	{
		acc->value = PointerGetDatum(MemoryContextAllocZero(query->cells, sizeof(SbCounted)));
		acc->isnull = false;
		acc->form = SB_ACC_VALUE;
	}
	state = counted_of(acc);
	state->sum += counted_value(counted_path(agg)->arg, agg->values[0].value);
	state->count++;
}

static void
sum_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbCounted *state;

	if (agg->values[0].isnull)
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	state = counted_of(acc);
	state->sum -= counted_value(counted_path(agg)->arg, agg->values[0].value);
	if (--state->count > 0)
		return;
	if (state->sum != 0)
		sb_agg_never_added(agg);
	pfree(state);
	sb_acc_renew(acc);
}

static void
counted_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	if (!counted_owns(agg))
	{
		count_set(into, DatumGetInt64(into->value) + DatumGetInt64(from->value));
		return;
	}
	counted_of(into)->sum += counted_of(from)->sum;
	counted_of(into)->count += counted_of(from)->count;
}

/* ---- results ---- */

static Datum
sum_result_int8(const SbCounted *state)
{
	if (state->sum < PG_INT64_MIN || state->sum > PG_INT64_MAX)
		ereport(ERROR,
		        (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
	return Int64GetDatum((int64) state->sum);
}

static Datum
sum_result_numeric(const SbCounted *state)
{
	return sb_int128_to_numeric(state->sum);
}

static Datum
avg_result(const SbCounted *state)
{
	return DirectFunctionCall2(numeric_div, sb_int128_to_numeric(state->sum),
	                           NumericGetDatum(int64_to_numeric(state->count)));
}

static Datum
and_result(const SbCounted *state)
{
	return BoolGetDatum(state->sum == state->count);
}

static Datum
or_result(const SbCounted *state)
{
	return BoolGetDatum(state->sum > 0);
}

static Datum
counted_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	if (!counted_owns(agg))
		return acc->value; /* 0 when new */
	*isnull = acc->form == SB_ACC_NEW;
	return *isnull ? (Datum) 0 : counted_path(agg)->result(counted_of(acc));
}

/* ---- the table ---- */

static const SbCountedPath counted_paths[] = {
    {F_COUNT_, SB_COUNTED_ROW, NULL},
    {F_COUNT_ANY, SB_COUNTED_ANY, NULL},
    {F_SUM_INT2, SB_COUNTED_INT2, sum_result_int8},
    {F_SUM_INT4, SB_COUNTED_INT4, sum_result_int8},
    {F_SUM_INT8, SB_COUNTED_INT8, sum_result_numeric},
    {F_AVG_INT2, SB_COUNTED_INT2, avg_result},
    {F_AVG_INT4, SB_COUNTED_INT4, avg_result},
    {F_AVG_INT8, SB_COUNTED_INT8, avg_result},
    {F_BOOL_AND, SB_COUNTED_BOOL, and_result},
    {F_EVERY, SB_COUNTED_BOOL, and_result},
    {F_BOOL_OR, SB_COUNTED_BOOL, or_result},
};

/* The path of this aggregate, or NULL. */
const void *
sb_agg_counted_find(const Aggref *aggref)
{
	if (aggref->aggdistinct != NIL || aggref->aggorder != NIL)
		return NULL;
	for (int i = 0; i < lengthof(counted_paths); i++)
	{
		if (counted_paths[i].function == aggref->aggfnoid)
			return &counted_paths[i];
	}
	return NULL;
}

void
sb_agg_counted_open(SbQuery *query, SbAgg *agg, const void *path)
{
	agg->impl = unconstify(void *, path);
	agg->add = counted_owns(agg) ? sum_add : count_add;
	agg->retract = counted_owns(agg) ? sum_retract : count_retract;
}

/* ---- bytes ---- */

static void
counted_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	if (counted_owns(agg))
		appendBinaryStringInfo(out, (const char *) counted_of(acc), sizeof(SbCounted));
	else
		appendBinaryStringInfo(out, (const char *) &acc->value, sizeof(Datum));
}

static void
counted_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	const char *from =
	    sb_bytes_take(data, end, counted_owns(agg) ? sizeof(SbCounted) : sizeof(Datum));

	if (!counted_owns(agg))
	{
		memcpy(&acc->value, from, sizeof(Datum));
		return;
	}
	acc->value = PointerGetDatum(MemoryContextAlloc(query->cells, sizeof(SbCounted)));
	memcpy(counted_of(acc), from, sizeof(SbCounted));
}

const SbAggMethod sb_agg_counted = {
    .id = 5,
    .name = "fast",
    .merge = counted_merge,
    .owns = counted_owns,
    .encode = counted_encode,
    .decode = counted_decode,
    .result = counted_result,
};
