/*
 * sb_agg_fast.c: count, sum, avg, min and max of the common types without function calls.
 *
 * RULES. Results are bit for bit those of PostgreSQL's own functions for the same input in the same
 * order, and so are the errors (22003). A state that fits into a Datum is the accumulator's value;
 * larger ones are a chunk in `cells`. A new fast path is a line in fast_paths[] and its functions.
 */
#include "postgres.h"

#include <math.h>

#include "common/int.h"
#include "query/sb_query_private.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"

typedef enum SbFastArg
{
	SB_FAST_NONE,
	SB_FAST_INT2,
	SB_FAST_INT4,
	SB_FAST_INT8,
	SB_FAST_FLOAT4,
	SB_FAST_FLOAT8
} SbFastArg;

typedef struct SbFast
{
	Oid function;
	SbFastArg arg;
	Size size; /* of the chunk in `cells`; 0: the state is the value */
	void (*add)(SbQuery *query, SbAgg *agg, SbAcc *acc);
	void (*merge)(const struct SbFast *fast, SbAcc *into, SbAcc *from);
	Datum (*result)(const SbAcc *acc, bool *isnull);
} SbFast;

/* sum and avg of integers whose sum does not fit into a bigint */
typedef struct SbIntSum
{
	int128 sum;
	int64 count;
} SbIntSum;

/* what float8_accum retains: avg needs sum and count, and fails where the squares overflow */
typedef struct SbFloatSum
{
	float8 count;
	float8 sum;
	float8 squares; /* of the differences from the mean */
} SbFloatSum;

static inline const SbFast *
fast_of(const SbAgg *agg)
{
	return agg->impl;
}

static inline int64
fast_int(SbFastArg type, Datum value)
{
	switch (type)
	{
		case SB_FAST_INT2:
			return DatumGetInt16(value);
		case SB_FAST_INT4:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}

static inline float8
fast_float(SbFastArg type, Datum value)
{
	return type == SB_FAST_FLOAT4 ? (float8) DatumGetFloat4(value) : DatumGetFloat8(value);
}

static inline void
fast_set(SbAcc *acc, Datum value)
{
	acc->value = value;
	acc->isnull = false;
	acc->form = SB_ACC_VALUE;
}

/* The state of a fast path that has one, made at the first use. */
static inline void *
fast_state(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (unlikely(acc->form == SB_ACC_NEW))
		fast_set(acc, PointerGetDatum(MemoryContextAllocZero(query->cells, fast_of(agg)->size)));
	return DatumGetPointer(acc->value);
}

/* ---- count ---- */

static void
count_add_row(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	fast_set(acc, Int64GetDatum(DatumGetInt64(acc->value) + 1));
}

static void
count_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (!agg->values[0].isnull)
		fast_set(acc, Int64GetDatum(DatumGetInt64(acc->value) + 1));
}

static void
count_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	fast_set(into, Int64GetDatum(DatumGetInt64(into->value) + DatumGetInt64(from->value)));
}

static Datum
count_result(const SbAcc *acc, bool *isnull)
{
	return acc->value; /* 0 when new */
}

/* ---- sum where the state is the value ---- */

static int64
int64_sum(int64 a, int64 b)
{
	int64 sum;

	if (unlikely(pg_add_s64_overflow(a, b, &sum)))
		ereport(ERROR,
		        (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE), errmsg("bigint out of range")));
	return sum;
}

static void
int_sum_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (!agg->values[0].isnull)
		fast_set(acc, Int64GetDatum(int64_sum(DatumGetInt64(acc->value),
		                                      fast_int(fast_of(agg)->arg, agg->values[0].value))));
}

static void
int_sum_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	fast_set(into,
	         Int64GetDatum(int64_sum(DatumGetInt64(into->value), DatumGetInt64(from->value))));
}

static void
float4_sum_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	Datum value = agg->values[0].value;

	if (agg->values[0].isnull)
		return;
	if (acc->form != SB_ACC_NEW)
		value = Float4GetDatum(float4_pl(DatumGetFloat4(acc->value), DatumGetFloat4(value)));
	fast_set(acc, value);
}

static void
float8_sum_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	Datum value = agg->values[0].value;

	if (agg->values[0].isnull)
		return;
	/* the first value is taken as it is: 0 + -0 would be 0 */
	if (acc->form != SB_ACC_NEW)
		value = Float8GetDatum(float8_pl(DatumGetFloat8(acc->value), DatumGetFloat8(value)));
	fast_set(acc, value);
}

static void
float_sum_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	if (fast->arg == SB_FAST_FLOAT4)
		fast_set(into, Float4GetDatum(
		                   float4_pl(DatumGetFloat4(into->value), DatumGetFloat4(from->value))));
	else
		fast_set(into, Float8GetDatum(
		                   float8_pl(DatumGetFloat8(into->value), DatumGetFloat8(from->value))));
}

/* min, max, and sums that are their own result */
static Datum
value_result(const SbAcc *acc, bool *isnull)
{
	*isnull = acc->form == SB_ACC_NEW;
	return acc->value;
}

/* ---- sum(bigint), avg of integers ---- */

static void
big_sum_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbIntSum *state;

	if (agg->values[0].isnull)
		return;
	state = fast_state(query, agg, acc);
	state->sum += fast_int(fast_of(agg)->arg, agg->values[0].value);
	state->count++;
}

static void
big_sum_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	SbIntSum *a = (SbIntSum *) DatumGetPointer(into->value);
	SbIntSum *b = (SbIntSum *) DatumGetPointer(from->value);

	a->sum += b->sum;
	a->count += b->count;
}

/* Exact. Goes through text where 64 bits are too few, which is rare enough. */
Datum
sb_int128_to_numeric(int128 value)
{
	char digits[64];
	char *at = digits + sizeof(digits);
	uint128 rest = value < 0 ? -(uint128) value : (uint128) value;

	if (value >= PG_INT64_MIN && value <= PG_INT64_MAX)
		return NumericGetDatum(int64_to_numeric((int64) value));
	*--at = '\0';
	for (; rest > 0; rest /= 10)
		*--at = '0' + (int) (rest % 10);
	if (value < 0)
		*--at = '-';
	return DirectFunctionCall3(numeric_in, CStringGetDatum(at), ObjectIdGetDatum(InvalidOid),
	                           Int32GetDatum(-1));
}

static Datum
big_sum_result(const SbAcc *acc, bool *isnull)
{
	*isnull = acc->form == SB_ACC_NEW;
	return *isnull ? (Datum) 0
	               : sb_int128_to_numeric(((SbIntSum *) DatumGetPointer(acc->value))->sum);
}

static Datum
int_avg_result(const SbAcc *acc, bool *isnull)
{
	SbIntSum *state = (SbIntSum *) DatumGetPointer(acc->value);

	*isnull = acc->form == SB_ACC_NEW;
	if (*isnull)
		return (Datum) 0;
	return DirectFunctionCall2(numeric_div, sb_int128_to_numeric(state->sum),
	                           NumericGetDatum(int64_to_numeric(state->count)));
}

/* ---- avg of floats ---- */

/* An infinity that was not put in is an overflow; one that was makes the squares meaningless. */
static void
float_sum_check(SbFloatSum *state, bool infinite_input)
{
	if (likely(!isinf(state->sum) && !isinf(state->squares)))
		return;
	if (!infinite_input)
		float_overflow_error();
	state->squares = get_float8_nan();
}

/*
 * As float8_accum() does it, operation by operation: the squares are not in the result, but an
 * overflow of theirs is an error there, too.
 */
static void
float_avg_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbFloatSum *state;
	float8 value;
	float8 before;

	if (agg->values[0].isnull)
		return;
	value = fast_float(fast_of(agg)->arg, agg->values[0].value);
	state = fast_state(query, agg, acc);
	before = state->sum;
	state->count += 1.0;
	state->sum += value;
	if (state->count > 1.0)
	{
		float8 distance = value * state->count - state->sum;

		state->squares += distance * distance / (state->count * (state->count - 1.0));
		float_sum_check(state, isinf(before) || isinf(value));
	}
	else if (isnan(value) || isinf(value))
		state->squares = get_float8_nan();
}

static void
float_avg_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	SbFloatSum *a = (SbFloatSum *) DatumGetPointer(into->value);
	SbFloatSum *b = (SbFloatSum *) DatumGetPointer(from->value);
	float8 count = a->count + b->count;
	float8 sum = float8_pl(a->sum, b->sum);
	float8 distance = a->sum / a->count - b->sum / b->count;
	float8 squares = a->squares + b->squares + a->count * b->count * distance * distance / count;

	if (unlikely(isinf(squares)) && !isinf(a->squares) && !isinf(b->squares))
		float_overflow_error();
	a->count = count;
	a->sum = sum;
	a->squares = squares;
}

static Datum
float_avg_result(const SbAcc *acc, bool *isnull)
{
	SbFloatSum *state = (SbFloatSum *) DatumGetPointer(acc->value);

	*isnull = acc->form == SB_ACC_NEW;
	return *isnull ? (Datum) 0 : Float8GetDatum(state->sum / state->count);
}

/* ---- min, max ---- */

/* PostgreSQL's functions retain the state only where it is strictly better: seen with 0 and -0. */
static inline void
extreme_take(const SbFast *fast, SbAcc *acc, Datum value, bool max)
{
	if (acc->form != SB_ACC_NEW)
	{
		bool retain;

		if (fast->arg >= SB_FAST_FLOAT4)
		{
			float8 state = fast_float(fast->arg, acc->value);
			float8 other = fast_float(fast->arg, value);

			retain = max ? float8_gt(state, other) : float8_lt(state, other);
		}
		else
		{
			int64 state = fast_int(fast->arg, acc->value);
			int64 other = fast_int(fast->arg, value);

			retain = max ? state >= other : state <= other;
		}
		if (retain)
			return;
	}
	fast_set(acc, value);
}

static void
min_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (!agg->values[0].isnull)
		extreme_take(fast_of(agg), acc, agg->values[0].value, false);
}

static void
max_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (!agg->values[0].isnull)
		extreme_take(fast_of(agg), acc, agg->values[0].value, true);
}

static void
min_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	extreme_take(fast, into, from->value, false);
}

static void
max_merge(const SbFast *fast, SbAcc *into, SbAcc *from)
{
	extreme_take(fast, into, from->value, true);
}

/* ---- the table ---- */

static const SbFast fast_paths[] = {
    {F_COUNT_, SB_FAST_NONE, 0, count_add_row, count_merge, count_result},
    {F_COUNT_ANY, SB_FAST_NONE, 0, count_add, count_merge, count_result},
    {F_SUM_INT2, SB_FAST_INT2, 0, int_sum_add, int_sum_merge, value_result},
    {F_SUM_INT4, SB_FAST_INT4, 0, int_sum_add, int_sum_merge, value_result},
    {F_SUM_INT8, SB_FAST_INT8, sizeof(SbIntSum), big_sum_add, big_sum_merge, big_sum_result},
    {F_SUM_FLOAT4, SB_FAST_FLOAT4, 0, float4_sum_add, float_sum_merge, value_result},
    {F_SUM_FLOAT8, SB_FAST_FLOAT8, 0, float8_sum_add, float_sum_merge, value_result},
    {F_AVG_INT2, SB_FAST_INT2, sizeof(SbIntSum), big_sum_add, big_sum_merge, int_avg_result},
    {F_AVG_INT4, SB_FAST_INT4, sizeof(SbIntSum), big_sum_add, big_sum_merge, int_avg_result},
    {F_AVG_INT8, SB_FAST_INT8, sizeof(SbIntSum), big_sum_add, big_sum_merge, int_avg_result},
    {F_AVG_FLOAT4, SB_FAST_FLOAT4, sizeof(SbFloatSum), float_avg_add, float_avg_merge,
     float_avg_result},
    {F_AVG_FLOAT8, SB_FAST_FLOAT8, sizeof(SbFloatSum), float_avg_add, float_avg_merge,
     float_avg_result},
    {F_MIN_INT2, SB_FAST_INT2, 0, min_add, min_merge, value_result},
    {F_MIN_INT4, SB_FAST_INT4, 0, min_add, min_merge, value_result},
    {F_MIN_INT8, SB_FAST_INT8, 0, min_add, min_merge, value_result},
    {F_MIN_FLOAT4, SB_FAST_FLOAT4, 0, min_add, min_merge, value_result},
    {F_MIN_FLOAT8, SB_FAST_FLOAT8, 0, min_add, min_merge, value_result},
    {F_MIN_DATE, SB_FAST_INT4, 0, min_add, min_merge, value_result},
    {F_MIN_TIMESTAMP, SB_FAST_INT8, 0, min_add, min_merge, value_result},
    {F_MIN_TIMESTAMPTZ, SB_FAST_INT8, 0, min_add, min_merge, value_result},
    {F_MAX_INT2, SB_FAST_INT2, 0, max_add, max_merge, value_result},
    {F_MAX_INT4, SB_FAST_INT4, 0, max_add, max_merge, value_result},
    {F_MAX_INT8, SB_FAST_INT8, 0, max_add, max_merge, value_result},
    {F_MAX_FLOAT4, SB_FAST_FLOAT4, 0, max_add, max_merge, value_result},
    {F_MAX_FLOAT8, SB_FAST_FLOAT8, 0, max_add, max_merge, value_result},
    {F_MAX_DATE, SB_FAST_INT4, 0, max_add, max_merge, value_result},
    {F_MAX_TIMESTAMP, SB_FAST_INT8, 0, max_add, max_merge, value_result},
    {F_MAX_TIMESTAMPTZ, SB_FAST_INT8, 0, max_add, max_merge, value_result},
};

const void *
sb_agg_fast_find(const Aggref *aggref)
{
	if (aggref->aggdistinct != NIL || aggref->aggorder != NIL)
		return NULL;
	for (int i = 0; i < lengthof(fast_paths); i++)
	{
		if (fast_paths[i].function == aggref->aggfnoid)
			return &fast_paths[i];
	}
	return NULL;
}

void
sb_agg_fast_open(SbQuery *query, SbAgg *agg, const void *fast)
{
	agg->impl = unconstify(void *, fast);
	agg->add = fast_of(agg)->add;
}

/* ---- the method ---- */

static void
fast_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	fast_of(agg)->merge(agg->impl, into, from);
}

static bool
fast_owns(const SbAgg *agg)
{
	return fast_of(agg)->size > 0;
}

static void
fast_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	Size size = fast_of(agg)->size;

	if (size == 0)
		appendBinaryStringInfo(out, (const char *) &acc->value, sizeof(Datum));
	else
		appendBinaryStringInfo(out, DatumGetPointer(acc->value), size);
}

static void
fast_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	Size size = fast_of(agg)->size;

	if (size == 0)
	{
		memcpy(&acc->value, sb_bytes_take(data, end, sizeof(Datum)), sizeof(Datum));
		return;
	}
	/* look before allocating, so that an error leaves nothing behind in `cells` */
	const char *bytes = sb_bytes_take(data, end, size);

	acc->value = PointerGetDatum(MemoryContextAlloc(query->cells, size));
	memcpy(DatumGetPointer(acc->value), bytes, size);
}

static Datum
fast_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	return fast_of(agg)->result(acc, isnull);
}

const SbAggMethod sb_agg_fast = {
    .id = 1,
    .name = "fast",
    .merge = fast_merge,
    .owns = fast_owns,
    .encode = fast_encode,
    .decode = fast_decode,
    .result = fast_result,
};
