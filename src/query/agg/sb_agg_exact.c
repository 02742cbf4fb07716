/*
 * sb_agg_exact.c: sum and avg of floats in retractable queries, as sums that never round.
 *
 * Every finite double is an integer multiple of 2^-1074 below 2^1024. A state is the sum of such
 * multiples as one big two's complement number, so adding and taking out are exact in any order,
 * cost the same few words whatever the number of rows, and retain no inputs: nothing drifts. The
 * result is rounded once, to the nearest, ties to even. PostgreSQL's own sum rounds after each row:
 * the two differ by its rounding errors, and where one of its partial sums overflows and the whole
 * does not. Infinities, NaNs and negative zeros are counted beside the number: inf - inf is NaN
 * while both are in, and becomes finite when they are taken out again.
 *
 * RULES. limbs[i] has the weight 2^(64 * (low + i) - 1074). The window of limbs grows to what was
 * ever used in the cell: a value at limb k wants a window of k to k + 2, so that the top limb has
 * nothing but carries and would need 2^63 rows to overflow.
 */
#include "postgres.h"

#include <math.h>

#include "query/sb_query_private.h"
#include "utils/float.h"
#include "utils/fmgroids.h"

/* 2098 bits of value, and two limbs above the last one that a value starts in (2045 / 64 = 31). */
#define SB_EXACT_LIMBS 34
#define SB_EXACT_LOWEST (-1074)
#define SB_DOUBLE_BITS 53
/* in the value's bytes: the first bit of a mantissa is not there */
#define SB_DOUBLE_STORED_BITS 52
#define SB_DOUBLE_EXPONENT_MASK 0x7FF
#define SB_FLOAT_BITS 24

typedef struct SbExact
{
	int64 count; /* of all values: 0 never stays */
	int64 nans;
	int64 infinities[2]; /* positive, negative */
	int64 minus_zeros;
	int16 low;
	int16 n;
	uint64 limbs[FLEXIBLE_ARRAY_MEMBER];
} SbExact;

#define SB_EXACT_SIZE(n) (offsetof(SbExact, limbs) + sizeof(uint64) * (n))

typedef struct SbExactPath
{
	Oid function;
	bool float4; /* the argument */
	bool avg;
} SbExactPath;

static inline const SbExactPath *
exact_path(const SbAgg *agg)
{
	return agg->impl;
}

static inline SbExact *
exact_of(const SbAcc *acc)
{
	return (SbExact *) DatumGetPointer(acc->value);
}

/*
 * Makes the window reach from limb `from` to before limb `to`; makes the state where there is none.
 */
static SbExact *
exact_reach(SbQuery *query, SbAcc *acc, int from, int to)
{
	SbExact *state = acc->form == SB_ACC_NEW ? NULL : exact_of(acc);
	uint64 sign;
	int below;
	int n;

	if (state == NULL)
	{
		state = MemoryContextAllocZero(query->cells, SB_EXACT_SIZE(to - from));
		state->low = from;
		state->n = to - from;
		acc->value = PointerGetDatum(state);
		acc->isnull = false;
		acc->form = SB_ACC_VALUE;
		return state;
	}
	if (state->n == 0)
		state->low = from;
	if (from >= state->low && to <= state->low + state->n)
		return state;
	below = Max(state->low - from, 0);
	n = Max(to, state->low + state->n) - Min(from, state->low);
	state = repalloc(state, SB_EXACT_SIZE(n));
	acc->value = PointerGetDatum(state);
	sign = state->n > 0 && (int64) state->limbs[state->n - 1] < 0 ? ~UINT64CONST(0) : 0;
	memmove(state->limbs + below, state->limbs, sizeof(uint64) * state->n);
	memset(state->limbs, 0, sizeof(uint64) * below);
	for (int i = below + state->n; i < n; i++)
		state->limbs[i] = sign;
	state->low -= below;
	state->n = n;
	return state;
}

/* Adds a number of two limbs at limb i of the window, and the carry to all above. */
static void
exact_carry(SbExact *state, int i, uint128 value, bool negative)
{
	uint128 rest = negative ? -value : value;
	uint64 sign = negative ? ~UINT64CONST(0) : 0;
	uint128 sum = (uint128) state->limbs[i] + (uint64) rest;

	state->limbs[i] = (uint64) sum;
	sum = (sum >> 64) + state->limbs[i + 1] + (uint64) (rest >> 64);
	state->limbs[i + 1] = (uint64) sum;
	for (i += 2; i < state->n; i++)
	{
		sum = (sum >> 64) + state->limbs[i] + sign;
		state->limbs[i] = (uint64) sum;
	}
}

/*
 * The size of a finite value is *mantissa times 2 to the power of the result, in units of the
 * lowest bit.
 */
static inline int
exact_split(float8 value, uint64 *mantissa)
{
	uint64 bits = DatumGetUInt64(Float8GetDatum(value));
	int exponent = (bits >> SB_DOUBLE_STORED_BITS) & SB_DOUBLE_EXPONENT_MASK;

	*mantissa = bits & ((UINT64CONST(1) << SB_DOUBLE_STORED_BITS) - 1);
	/* subnormals have the exponent of the least normal ones, and no hidden bit */
	if (exponent == 0)
		return 0;
	*mantissa |= UINT64CONST(1) << SB_DOUBLE_STORED_BITS;
	return exponent - 1;
}

/* Puts a value in (direction 1) or takes it out (-1). */
static void
exact_apply(SbQuery *query, SbAgg *agg, SbAcc *acc, float8 value, int direction)
{
	SbExact *state;
	uint64 mantissa;
	int position;

	if (isnan(value) || isinf(value) || value == 0.0)
	{
		int64 *counter = NULL;

		state = exact_reach(query, acc, 0, 0);
		if (isnan(value))
			counter = &state->nans;
		else if (isinf(value))
			counter = &state->infinities[value < 0.0];
		else if (signbit(value))
			counter = &state->minus_zeros;
		/* -0 and 0 are equal to the type, so what is taken out may be the other one */
		if (counter == NULL || (counter == &state->minus_zeros && *counter + direction < 0))
			return;
		*counter += direction;
		if (*counter < 0)
			sb_agg_never_added(agg);
		return;
	}
	position = exact_split(value, &mantissa);
	state = exact_reach(query, acc, position / 64, position / 64 + 3);
	exact_carry(state, position / 64 - state->low, (uint128) mantissa << (position % 64),
	            (value < 0.0) == (direction > 0));
}

static inline float8
exact_value(const SbAgg *agg)
{
	return exact_path(agg)->float4 ? (float8) DatumGetFloat4(agg->values[0].value)
	                               : DatumGetFloat8(agg->values[0].value);
}

static void
exact_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (agg->values[0].isnull)
		return;
	exact_apply(query, agg, acc, exact_value(agg), 1);
	exact_of(acc)->count++;
}

static bool
exact_is_zero(const SbExact *state)
{
	for (int i = 0; i < state->n; i++)
	{
		if (state->limbs[i] != 0)
			return false;
	}
	return true;
}

static void
exact_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	if (agg->values[0].isnull)
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	exact_apply(query, agg, acc, exact_value(agg), -1);
	if (--exact_of(acc)->count > 0)
		return;
	if (!exact_is_zero(exact_of(acc)))
		sb_agg_never_added(agg);
	pfree(exact_of(acc));
	sb_acc_renew(acc);
}

/* Adds one sum to another, exactly as if the rows of `from` had been added one by one. */
static void
exact_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	const SbExact *b = exact_of(from);
	SbExact *a = b->n > 0 ? exact_reach(query, into, b->low, b->low + b->n) : exact_of(into);
	uint64 sign = b->n > 0 && (int64) b->limbs[b->n - 1] < 0 ? ~UINT64CONST(0) : 0;
	uint128 sum = 0;

	for (int i = b->low - a->low; b->n > 0 && i < a->n; i++)
	{
		int k = i + a->low - b->low;

		sum = (sum >> 64) + a->limbs[i] + (k < b->n ? b->limbs[k] : sign);
		a->limbs[i] = (uint64) sum;
	}
	a->count += b->count;
	a->nans += b->nans;
	a->infinities[0] += b->infinities[0];
	a->infinities[1] += b->infinities[1];
	a->minus_zeros += b->minus_zeros;
}

/* ---- results ---- */

static inline uint64
exact_bit(const uint64 *limbs, int bit)
{
	return (limbs[bit / 64] >> (bit % 64)) & 1;
}

/* The finite sum, rounded to so many bits; infinite where it is too large. */
static float8
exact_round(const SbExact *state, int bits)
{
	uint64 limbs[SB_EXACT_LIMBS];
	bool negative = state->n > 0 && (int64) state->limbs[state->n - 1] < 0;
	uint64 carry = negative ? 1 : 0;
	uint64 mantissa = 0;
	int top = -1;
	int shift;
	bool sticky = false;

	for (int i = 0; i < state->n; i++)
	{
		limbs[i] = (negative ? ~state->limbs[i] : state->limbs[i]) + carry;
		carry = carry != 0 && limbs[i] == 0 ? 1 : 0;
		if (limbs[i] != 0)
			top = i * 64 + 63 - __builtin_clzll(limbs[i]);
	}
	if (top < 0)
		return 0.0;
	shift = Max(top + 1 - bits, 0);
	for (int bit = top; bit >= shift; bit--)
		mantissa = mantissa << 1 | exact_bit(limbs, bit);
	for (int bit = 0; bit < shift - 1 && !sticky; bit++)
		sticky = exact_bit(limbs, bit) != 0;
	if (shift > 0 && exact_bit(limbs, shift - 1) != 0 && (sticky || (mantissa & 1) != 0))
		mantissa++;
	return ldexp(negative ? -(float8) mantissa : (float8) mantissa,
	             shift + 64 * state->low + SB_EXACT_LOWEST);
}

static float8
exact_sum(const SbExact *state, int bits)
{
	float8 sum;

	if (state->nans > 0 || (state->infinities[0] > 0 && state->infinities[1] > 0))
		return get_float8_nan();
	if (state->infinities[0] > 0)
		return get_float8_infinity();
	if (state->infinities[1] > 0)
		return -get_float8_infinity();
	/* at least: a 0 may have taken a -0 out */
	if (state->minus_zeros >= state->count && exact_is_zero(state))
		return -0.0;
	sum = exact_round(state, bits);
	if (isinf(sum) || (bits == SB_FLOAT_BITS && isinf((float4) sum)))
		float_overflow_error();
	return sum;
}

static Datum
exact_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	const SbExactPath *path = exact_path(agg);

	*isnull = acc->form == SB_ACC_NEW;
	if (*isnull)
		return (Datum) 0;
	if (path->avg)
		return Float8GetDatum(exact_sum(exact_of(acc), SB_DOUBLE_BITS) / exact_of(acc)->count);
	if (path->float4)
		return Float4GetDatum((float4) exact_sum(exact_of(acc), SB_FLOAT_BITS));
	return Float8GetDatum(exact_sum(exact_of(acc), SB_DOUBLE_BITS));
}

/* ---- the table ---- */

static const SbExactPath exact_paths[] = {
    {F_SUM_FLOAT4, true, false},
    {F_SUM_FLOAT8, false, false},
    {F_AVG_FLOAT4, true, true},
    {F_AVG_FLOAT8, false, true},
};

/* The path of this aggregate, or NULL. */
const void *
sb_agg_exact_find(const Aggref *aggref)
{
	if (aggref->aggdistinct != NIL || aggref->aggorder != NIL)
		return NULL;
	for (int i = 0; i < lengthof(exact_paths); i++)
	{
		if (exact_paths[i].function == aggref->aggfnoid)
			return &exact_paths[i];
	}
	return NULL;
}

void
sb_agg_exact_open(SbQuery *query, SbAgg *agg, const void *path)
{
	agg->impl = unconstify(void *, path);
}

static bool
exact_owns(const SbAgg *agg)
{
	return true;
}

/* ---- bytes ---- */

static void
exact_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	appendBinaryStringInfo(out, (const char *) exact_of(acc), SB_EXACT_SIZE(exact_of(acc)->n));
}

static void
exact_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	const char *from = sb_bytes_take(data, end, SB_EXACT_SIZE(0));
	SbExact head;
	SbExact *state;

	memcpy(&head, from, SB_EXACT_SIZE(0));
	if (head.low < 0 || head.n < 0 || head.low + head.n > SB_EXACT_LIMBS || head.count <= 0)
		sb_bytes_corrupted("A sum has limbs where none can be.");
	sb_bytes_take(data, end, sizeof(uint64) * head.n);
	state = MemoryContextAlloc(query->cells, SB_EXACT_SIZE(head.n));
	memcpy(state, from, SB_EXACT_SIZE(head.n));
	acc->value = PointerGetDatum(state);
}

const SbAggMethod sb_agg_exact = {
    .id = 6,
    .name = "exact",
    .add = exact_add,
    .retract = exact_retract,
    .merge = exact_merge,
    .owns = exact_owns,
    .encode = exact_encode,
    .decode = exact_decode,
    .result = exact_result,
};
