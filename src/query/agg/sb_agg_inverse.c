/*
 * sb_agg_inverse.c: aggregates of retractable queries by the catalog's inverse transition function:
 * sum, avg and variance of numeric, and the variances of integers.
 *
 * An inverse function must undo exactly and always. PostgreSQL asks for the first only up to the
 * function's word, and lets it give up (a null) for the second, so the functions are named here:
 * those of numeric.c, which compute in exact numbers.
 *
 * PARTS. numeric_accum_inv() does give up when the last input with the most digits behind the point
 * leaves the others alone, since the state cannot know what the next smaller number of digits is.
 * So a state is retained for each number of digits that the inputs have (a column numeric(12,2) has
 * one), in which that cannot happen: its last such input is its last input at all. The combine
 * function makes one of them when a result is due. A part counts its inputs and goes with the last.
 *
 * MEMORY. As in sb_agg_generic.c: live parts, and their array, are in the bundle's memory; parked,
 * all are one chunk in `cells`.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_agg.h"
#include "query/agg/sb_agg_generic.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/numeric.h"
#include "utils/syscache.h"

/*
 * The most digits behind the point that a numeric may have are 16383: more parts than that are
 * corrupted state.
 */
#define SB_PARTS_MAX 16384

typedef struct SbPart
{
	int32 scale; /* of its inputs; 0 for NaN, infinities and integers */
	int64 count;
	Datum state; /* internal */
} SbPart;

/* A live accumulator's value. */
typedef struct SbParts
{
	int n;
	int max;
	SbPart *parts;
} SbParts;

typedef struct SbInverse
{
	SbTransition *transition; /* made as for the serialized method */
	SbCall inverse;
	bool numeric; /* the argument, else an integer */
} SbInverse;

static inline SbInverse *
inverse_of(const SbAgg *agg)
{
	return agg->impl;
}

static inline SbParts *
parts_of(const SbAcc *acc)
{
	return (SbParts *) DatumGetPointer(acc->value);
}

/* ---- opening ---- */

/* Exact and never giving up within a part: seen in numeric.c. */
static bool
inverse_is_known(Oid function)
{
	switch (function)
	{
		case F_NUMERIC_ACCUM_INV:
		case F_INT2_ACCUM_INV:
		case F_INT4_ACCUM_INV:
		case F_INT8_ACCUM_INV:
			return true;
		default:
			return false;
	}
}

/*
 * Do the moving-aggregate functions work on the states of the plain ones, which can be serialized?
 */
bool
sb_agg_inverse_can(const Aggref *aggref, HeapTuple aggtuple)
{
	Form_pg_aggregate form = (Form_pg_aggregate) GETSTRUCT(aggtuple);
	bool init_isnull, minit_isnull;

	if (aggref->aggkind != AGGKIND_NORMAL || aggref->aggdistinct != NIL ||
	    aggref->aggorder != NIL || list_length(aggref->args) != 1)
		return false;
	if (!inverse_is_known(form->aggminvtransfn) || form->aggmtransfn != form->aggtransfn ||
	    form->aggtranstype != INTERNALOID || form->aggmtranstype != INTERNALOID ||
	    !OidIsValid(form->aggcombinefn) || !OidIsValid(form->aggserialfn) ||
	    !OidIsValid(form->aggdeserialfn) || !OidIsValid(form->aggfinalfn))
		return false;
	SysCacheGetAttr(AGGFNOID, aggtuple, Anum_pg_aggregate_agginitval, &init_isnull);
	SysCacheGetAttr(AGGFNOID, aggtuple, Anum_pg_aggregate_aggminitval, &minit_isnull);
	return init_isnull && minit_isnull;
}

void
sb_agg_inverse_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple)
{
	Form_pg_aggregate form = (Form_pg_aggregate) GETSTRUCT(aggtuple);
	SbInverse *inverse = palloc0(sizeof(SbInverse));
	Oid inputs[FUNC_MAX_ARGS];
	int ninputs = get_aggregate_argtypes(unconstify(Aggref *, agg->aggref), inputs);
	Oid collation = agg->aggref->inputcollid;
	Expr *trans;
	Expr *expr;

	sb_agg_check_inverse(agg->aggref, form->aggminvtransfn);
	sb_agg_generic_open(query, agg, aggtuple);
	inverse->transition = agg->impl;
	inverse->numeric = agg->arg_types[0].oid == NUMERICOID;
	build_aggregate_transfn_expr(inputs, ninputs, 0, false, INTERNALOID, collation,
	                             form->aggtransfn, form->aggminvtransfn, &trans, &expr);
	sb_call_open(query, inverse->transition, &inverse->inverse, form->aggminvtransfn, 2, collation,
	             expr);
	agg->impl = inverse;
}

/* ---- parts ---- */

static int32
parts_scale(const SbInverse *inverse, Datum value)
{
	Numeric number;

	if (!inverse->numeric)
		return 0;
	number = DatumGetNumeric(value);
	if (numeric_is_nan(number) || numeric_is_inf(number))
		return 0;
	return DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(number)));
}

static SbParts *
parts_create(SbQuery *query, int max)
{
	SbParts *parts = MemoryContextAllocZero(query->bundle, sizeof(SbParts));

	parts->max = max;
	parts->parts = MemoryContextAllocZero(query->bundle, sizeof(SbPart) * max);
	return parts;
}

static SbPart *
parts_find(const SbParts *parts, int32 scale)
{
	for (int i = 0; i < parts->n; i++)
	{
		if (parts->parts[i].scale == scale)
			return &parts->parts[i];
	}
	return NULL;
}

/* The part for a scale, made where there is none: its state is (Datum) 0 then. */
static SbPart *
parts_get(SbParts *parts, int32 scale)
{
	SbPart *part = parts_find(parts, scale);

	if (part != NULL)
		return part;
	if (parts->n == parts->max)
	{
		parts->max *= 2;
		parts->parts = repalloc(parts->parts, sizeof(SbPart) * parts->max);
	}
	part = &parts->parts[parts->n++];
	memset(part, 0, sizeof(SbPart));
	part->scale = scale;
	return part;
}

/* state := function(state, value); a state of a part without inputs is null */
static void
part_call(SbInverse *inverse, SbCall *call, SbPart *part, Datum value, const SbAgg *agg)
{
	FunctionCallInfo fcinfo = call->fcinfo;

	fcinfo->args[0].value = part->state;
	fcinfo->args[0].isnull = part->count == 0;
	fcinfo->args[1].value = value;
	fcinfo->args[1].isnull = false;
	fcinfo->isnull = false;
	part->state = FunctionCallInvoke(fcinfo);
	if (fcinfo->isnull)
		elog(ERROR, "a function of aggregate %u gave up its state", agg->aggref->aggfnoid);
}

/* Reads parked parts, one after another. */
static bool
parts_read(SbTransition *t, const char **data, const char *end, SbPart *part, bool revive)
{
	uint32 size;
	const char *from;
	bytea *bytes;

	if (*data == end)
		return false;
	memcpy(&part->scale, sb_bytes_take(data, end, sizeof(part->scale)), sizeof(part->scale));
	memcpy(&part->count, sb_bytes_take(data, end, sizeof(part->count)), sizeof(part->count));
	from = sb_bytes_take_sized(data, end, &size);
	if (part->count <= 0)
		sb_bytes_corrupted("A part of an accumulator has no rows.");
	bytes = palloc(VARHDRSZ + (Size) size);
	SET_VARSIZE(bytes, VARHDRSZ + (Size) size);
	memcpy(VARDATA(bytes), from, size);
	part->state = revive ? sb_transition_revive(t, PointerGetDatum(bytes))
	                     : sb_transition_deserialize(t, PointerGetDatum(bytes));
	return true;
}

/*
 * The parts of an accumulator that is not new: live ones, or in the bundle's memory what parked
 * ones hold.
 */
static SbParts *
parts_wake(SbQuery *query, SbInverse *inverse, const SbAcc *acc)
{
	SbParts *parts;
	const char *data;
	const char *end;
	SbPart part;

	if (acc->form == SB_ACC_LIVE)
		return parts_of(acc);
	parts = parts_create(query, 2);
	data = VARDATA_ANY(DatumGetPointer(acc->value));
	end = data + VARSIZE_ANY_EXHDR(DatumGetPointer(acc->value));
	*inverse->transition->context = query->bundle;
	while (parts_read(inverse->transition, &data, end, &part, true))
	{
		if (parts_find(parts, part.scale) != NULL || parts->n == SB_PARTS_MAX)
			sb_bytes_corrupted("An accumulator has a part twice.");
		*parts_get(parts, part.scale) = part;
	}
	return parts;
}

static SbParts *
inverse_live(SbQuery *query, SbInverse *inverse, SbAcc *acc)
{
	SbParts *parts;

	if (acc->form == SB_ACC_LIVE)
		return parts_of(acc);
	parts = acc->form == SB_ACC_NEW ? parts_create(query, 1) : parts_wake(query, inverse, acc);
	if (acc->form == SB_ACC_PARKED)
		pfree(DatumGetPointer(acc->value));
	acc->value = PointerGetDatum(parts);
	acc->isnull = false;
	acc->form = SB_ACC_LIVE;
	return parts;
}

/* ---- rows ---- */

static void
inverse_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbInverse *inverse = inverse_of(agg);
	SbPart *part;

	if (agg->values[0].isnull)
		return; /* these functions ignore nulls */
	part = parts_get(inverse_live(query, inverse, acc), parts_scale(inverse, agg->values[0].value));
	*inverse->transition->context = query->bundle;
	part_call(inverse, &inverse->transition->trans, part, agg->values[0].value, agg);
	part->count++;
}

/* Takes a row out of the part with its number of digits. Where there is none it was never added. */
static void
inverse_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbInverse *inverse = inverse_of(agg);
	SbParts *parts;
	SbPart *part;

	if (agg->values[0].isnull)
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	parts = inverse_live(query, inverse, acc);
	part = parts_find(parts, parts_scale(inverse, agg->values[0].value));
	if (part == NULL)
		sb_agg_never_added(agg);
	if (part->count > 1)
	{
		*inverse->transition->context = query->bundle;
		part_call(inverse, &inverse->inverse, part, agg->values[0].value, agg);
		part->count--;
		return;
	}
	/*
	 * the last one: whatever is left of its state is nothing; live states are left to the bundle's
	 * memory
	 */
	*part = parts->parts[--parts->n];
	if (parts->n == 0)
		sb_acc_renew(acc);
}

static void
inverse_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	SbInverse *inverse = inverse_of(agg);
	SbParts *parts = inverse_live(query, inverse, into);
	SbParts *more = parts_wake(query, inverse, from);

	*inverse->transition->context = query->bundle;
	for (int i = 0; i < more->n; i++)
	{
		SbPart *part = parts_get(parts, more->parts[i].scale);

		part_call(inverse, &inverse->transition->combine, part, more->parts[i].state, agg);
		part->count += more->parts[i].count;
	}
}

/* All parts become one chunk in `cells`, from which parts_read() takes them again. */
static void
inverse_park(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbInverse *inverse = inverse_of(agg);
	SbParts *parts = parts_of(acc);
	StringInfoData out;
	bytea *bytes;

	initStringInfo(&out);
	*inverse->transition->context = query->bundle;
	for (int i = 0; i < parts->n; i++)
	{
		bytea *state =
		    DatumGetByteaPP(sb_transition_serialize(inverse->transition, parts->parts[i].state));
		uint32 size = VARSIZE_ANY_EXHDR(state);

		appendBinaryStringInfo(&out, (const char *) &parts->parts[i].scale, sizeof(int32));
		appendBinaryStringInfo(&out, (const char *) &parts->parts[i].count, sizeof(int64));
		appendBinaryStringInfo(&out, (const char *) &size, sizeof(size));
		appendBinaryStringInfo(&out, VARDATA_ANY(state), size);
	}
	bytes = MemoryContextAlloc(query->cells, VARHDRSZ + out.len);
	SET_VARSIZE(bytes, VARHDRSZ + out.len);
	memcpy(VARDATA(bytes), out.data, out.len);
	acc->value = PointerGetDatum(bytes);
	acc->form = SB_ACC_PARKED;
}

/* ---- results ---- */

/* All parts as one state that nobody else has, in the result row's memory. */
static Datum
inverse_combine(SbQuery *query, SbAgg *agg, const SbAcc *acc)
{
	SbInverse *inverse = inverse_of(agg);
	SbPart all = {0};
	SbPart part;

	*inverse->transition->context = query->out;
	if (acc->form == SB_ACC_LIVE)
	{
		for (int i = 0; i < parts_of(acc)->n; i++)
		{
			part = parts_of(acc)->parts[i];
			part_call(inverse, &inverse->transition->combine, &all, part.state, agg);
			all.count += part.count;
		}
	}
	else
	{
		const char *data = VARDATA_ANY(DatumGetPointer(acc->value));
		const char *end = data + VARSIZE_ANY_EXHDR(DatumGetPointer(acc->value));

		while (parts_read(inverse->transition, &data, end, &part, false))
		{
			part_call(inverse, &inverse->transition->combine, &all, part.state, agg);
			all.count += part.count;
		}
	}
	return all.state;
}

static Datum
inverse_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	Datum state = (Datum) 0;

	*isnull = acc->form == SB_ACC_NEW;
	if (!*isnull)
		state = inverse_combine(query, agg, acc);
	*inverse_of(agg)->transition->context = query->out;
	return sb_transition_final(inverse_of(agg)->transition, state, isnull);
}

static bool
inverse_owns(const SbAgg *agg)
{
	return false; /* live or parked, never a value */
}

const SbAggMethod sb_agg_inverse = {
    .id = 7,
    .name = "inverse",
    .parks = true,
    .add = inverse_add,
    .retract = inverse_retract,
    .merge = inverse_merge,
    .park = inverse_park,
    .owns = inverse_owns,
    .encode = sb_serialized_encode,
    .decode = sb_serialized_decode,
    .result = inverse_result,
};
