/*
 * sb_agg_generic.c: aggregates by the catalog's own functions.
 *
 * Transition, combine, serialize, deserialize and final functions are called as the executor's Agg
 * node calls them: the same rules for strictness, the same types behind polymorphic arguments, and
 * an AggState that says "aggregate" to AggCheckCallContext() and has the Aggref. Two methods:
 * `transition` (a plain state type) and `serialized` (internal, with the functions that make it
 * bytes).
 *
 * MEMORY. The context that the functions take for the aggregate's is the bundle's while rows are
 * added and merged, and the result row's while a final function runs. A plain by-reference state is
 * copied into `cells` whenever the function returns another one, except for expanded objects
 * (arrays that grow): those stay live in the bundle's memory. An internal state is always live
 * after an add. Parking brings live ones into `cells`.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "executor/nodeAgg.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "parser/parse_agg.h"
#include "parser/parse_coerce.h"
#include "query/agg/sb_agg_generic.h"
#include "utils/builtins.h"
#include "utils/expandeddatum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static inline SbTransition *
transition_of(const SbAgg *agg)
{
	return agg->impl;
}

/* ---- opening ---- */

void
sb_call_open(SbQuery *query, SbTransition *t, SbCall *call, Oid function, int nargs, Oid collation,
             Expr *expr)
{
	fmgr_info_cxt(function, &call->flinfo, query->memory);
	fmgr_info_set_expr((Node *) expr, &call->flinfo);
	call->fcinfo = palloc0(SizeForFunctionCallInfo(nargs));
	InitFunctionCallInfoData(*call->fcinfo, &call->flinfo, nargs, collation, (Node *) t->state,
	                         NULL);
}

/* The node that transition functions see: enough for AggCheckCallContext() and its siblings. */
static void
transition_open_node(SbQuery *query, SbTransition *t, const Aggref *aggref)
{
	AggState *state = makeNode(AggState);

	state->numaggs = state->numtrans = 1;
	state->aggstrategy = AGG_HASHED;
	state->pertrans = palloc0(sizeof(AggStatePerTransData));
	state->pertrans->aggref = unconstify(Aggref *, aggref);
	state->peragg = palloc0(sizeof(AggStatePerAggData));
	state->peragg->aggref = unconstify(Aggref *, aggref);
	state->curpertrans = state->pertrans;
	state->tmpcontext = query->econtext;
	state->curaggcontext = makeNode(ExprContext);
	state->curaggcontext->ecxt_per_query_memory = query->memory;
	t->state = state;
	t->context = &state->curaggcontext->ecxt_per_tuple_memory;
	*t->context = query->bundle;
}

/* The initial value; the catalog has it as text. */
static void
transition_open_init(SbTransition *t, HeapTuple aggtuple)
{
	Datum initval =
	    SysCacheGetAttr(AGGFNOID, aggtuple, Anum_pg_aggregate_agginitval, &t->init_isnull);
	Oid input, ioparam;

	if (t->init_isnull)
		return;
	getTypeInputInfo(t->type.oid, &input, &ioparam);
	t->init = OidInputFunctionCall(input, TextDatumGetCString(initval), ioparam, -1);
}

/*
 * Calls get expressions from which polymorphic functions learn their types, as the Agg node makes
 * them. Functions that the aggregate lacks have no fcinfo.
 */
static void
transition_open_calls(SbQuery *query, SbTransition *t, const Aggref *aggref,
                      const FormData_pg_aggregate *form)
{
	Oid inputs[FUNC_MAX_ARGS];
	int ninputs = get_aggregate_argtypes(unconstify(Aggref *, aggref), inputs);
	Oid collation = aggref->inputcollid;
	int nfinal = form->aggfinalextra ? ninputs + 1 : 1;
	Oid state = t->type.oid;
	Expr *expr;

	build_aggregate_transfn_expr(inputs, ninputs, 0, aggref->aggvariadic, state, collation,
	                             form->aggtransfn, InvalidOid, &expr, NULL);
	sb_call_open(query, t, &t->trans, form->aggtransfn, list_length(aggref->args) + 1, collation,
	             expr);
	if (OidIsValid(form->aggcombinefn))
	{
		/* for the functions' sight of their types it is a transition with a state as input */
		build_aggregate_transfn_expr(&state, 1, 0, false, state, collation, form->aggcombinefn,
		                             InvalidOid, &expr, NULL);
		sb_call_open(query, t, &t->combine, form->aggcombinefn, 2, collation, expr);
	}
	if (t->internal)
	{
		build_aggregate_serialfn_expr(form->aggserialfn, &expr);
		sb_call_open(query, t, &t->serial, form->aggserialfn, 1, InvalidOid, expr);
		build_aggregate_deserialfn_expr(form->aggdeserialfn, &expr);
		sb_call_open(query, t, &t->deserial, form->aggdeserialfn, 2, InvalidOid, expr);
	}
	if (OidIsValid(form->aggfinalfn))
	{
		build_aggregate_finalfn_expr(inputs, nfinal, state, aggref->aggtype, collation,
		                             form->aggfinalfn, &expr);
		sb_call_open(query, t, &t->final, form->aggfinalfn, nfinal, collation, expr);
	}
}

void
sb_agg_generic_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple)
{
	const FormData_pg_aggregate *form = (Form_pg_aggregate) GETSTRUCT(aggtuple);
	const Aggref *aggref = agg->aggref;
	SbTransition *t = palloc0(sizeof(SbTransition));
	Oid inputs[FUNC_MAX_ARGS];
	int ninputs = get_aggregate_argtypes(unconstify(Aggref *, aggref), inputs);

	agg->impl = t;
	sb_type_init(&t->type, resolve_aggregate_transtype(aggref->aggfnoid, form->aggtranstype, inputs,
	                                                   ninputs));
	t->internal = form->aggtranstype == INTERNALOID;
	t->final_modify = form->aggfinalmodify;
	transition_open_node(query, t, aggref);
	transition_open_init(t, aggtuple);
	transition_open_calls(query, t, aggref, form);

	/*
	 * as the executor checks them: types may have changed binary compatibility since the aggregate
	 * was created
	 */
	if (t->trans.flinfo.fn_strict && t->init_isnull &&
	    (ninputs == 0 || !IsBinaryCoercible(inputs[0], t->type.oid)))
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
		         errmsg("aggregate %u needs to have compatible input type and transition type",
		                aggref->aggfnoid)));
	if (t->internal && t->combine.flinfo.fn_strict)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
		         errmsg("combine function with transition type %s must not be declared STRICT",
		                format_type_be(INTERNALOID))));
}

/* ---- states that functions return ---- */

static inline bool
is_expanded(const SbTransition *t, Datum value)
{
	return t->type.len == -1 && VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value));
}

/* Frees what a non-null accumulator of a by-reference type holds. */
static void
transition_drop(const SbTransition *t, SbAcc *acc)
{
	if (acc->isnull)
		return;
	if (acc->form == SB_ACC_LIVE && is_expanded(t, acc->value))
		DeleteExpandedObject(acc->value);
	else if (acc->form == SB_ACC_VALUE)
		pfree(DatumGetPointer(acc->value));
}

/* Can the new value be written over the old one's chunk? */
static bool
transition_fits(const SbTransition *t, const SbAcc *acc, Datum value)
{
	if (acc->form != SB_ACC_VALUE || acc->isnull)
		return false;
	if (t->type.len > 0)
		return true;
	return t->type.len == -1 && !VARATT_IS_EXTERNAL(DatumGetPointer(value)) &&
	       VARSIZE_ANY(DatumGetPointer(acc->value)) == VARSIZE_ANY(DatumGetPointer(value));
}

/* The state that a function has returned becomes the accumulator's, as the Agg node does it. */
static void
transition_accept(SbQuery *query, SbTransition *t, SbAcc *acc, Datum value, bool isnull)
{
	SbAcc accepted = {.value = value, .isnull = isnull, .form = SB_ACC_VALUE};

	if (t->internal)
		accepted.form = SB_ACC_LIVE;
	else if (!t->type.byval)
	{
		if (!isnull && !acc->isnull && DatumGetPointer(value) == DatumGetPointer(acc->value))
			return; /* changed in place */
		if (isnull)
			accepted.value = (Datum) 0;
		else if (is_expanded(t, value) && DatumIsReadWriteExpandedObject(value, false, -1) &&
		         MemoryContextGetParent(DatumGetEOHP(value)->eoh_context) == *t->context)
			accepted.form = SB_ACC_LIVE;
		else if (transition_fits(t, acc, value))
		{
			memmove(DatumGetPointer(acc->value), DatumGetPointer(value),
			        t->type.len > 0 ? t->type.len : VARSIZE_ANY(DatumGetPointer(value)));
			return;
		}
		else
			accepted.value = sb_datum_copy(&t->type, value, query->cells);
		transition_drop(t, acc);
	}
	*acc = accepted;
}

/*
 * Calls a function of two or more arguments of which the first is the state, and accepts what it
 * returns as the next state.
 */
static void
transition_call(SbQuery *query, SbTransition *t, SbCall *call, SbAcc *acc)
{
	FunctionCallInfo fcinfo = call->fcinfo;
	Datum result;

	*t->context = query->bundle;
	fcinfo->args[0].value = acc->value;
	fcinfo->args[0].isnull = acc->isnull;
	fcinfo->isnull = false;
	result = FunctionCallInvoke(fcinfo);
	transition_accept(query, t, acc, result, fcinfo->isnull);
}

/* Bytes to a state that other functions of the aggregate may read, in the current context. */
Datum
sb_transition_deserialize(SbTransition *t, Datum bytes)
{
	FunctionCallInfo fcinfo = t->deserial.fcinfo;

	fcinfo->args[0].value = bytes;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = (Datum) 0;
	fcinfo->args[1].isnull = false; /* an internal argument for type safety only */
	fcinfo->isnull = false;
	return FunctionCallInvoke(fcinfo);
}

/*
 * A state that the transition function may go on with, in *t->context. Combining nothing with the
 * deserialized state is how the executor makes one: what a deserialize function returns need not be
 * more than a combine function's second argument.
 */
Datum
sb_transition_revive(SbTransition *t, Datum bytes)
{
	FunctionCallInfo fcinfo = t->combine.fcinfo;

	fcinfo->args[1].value = sb_transition_deserialize(t, bytes);
	fcinfo->args[1].isnull = false;
	fcinfo->args[0].value = (Datum) 0;
	fcinfo->args[0].isnull = true;
	fcinfo->isnull = false;
	return FunctionCallInvoke(fcinfo);
}

/* Makes a parked accumulator live. */
static void
transition_wake(SbQuery *query, SbTransition *t, SbAcc *acc)
{
	Datum state;

	*t->context = query->bundle;
	state = sb_transition_revive(t, acc->value);
	pfree(DatumGetPointer(acc->value));
	acc->value = state;
	acc->isnull = false;
	acc->form = SB_ACC_LIVE;
}

Datum
sb_transition_serialize(SbTransition *t, Datum state)
{
	FunctionCallInfo fcinfo = t->serial.fcinfo;

	fcinfo->args[0].value = state;
	fcinfo->args[0].isnull = false;
	fcinfo->isnull = false;
	return FunctionCallInvoke(fcinfo);
}

/* A live state leaves the bundle's memory for `cells`; an internal one is bytes there. */
static void
transition_park(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbTransition *t = transition_of(agg);
	Datum flat;

	if (acc->isnull)
	{
		acc->form = SB_ACC_VALUE;
		return;
	}
	*t->context = query->bundle;
	if (t->internal)
	{
		static const SbType bytea_type = {.oid = BYTEAOID,
		                                  .len = -1,
		                                  .align = TYPALIGN_INT,
		                                  .storage = TYPSTORAGE_EXTENDED};

		acc->value =
		    sb_datum_copy(&bytea_type, sb_transition_serialize(t, acc->value), query->cells);
		acc->form = SB_ACC_PARKED;
		return;
	}
	flat = sb_datum_copy(&t->type, acc->value, query->cells);
	DeleteExpandedObject(acc->value);
	acc->value = flat;
	acc->form = SB_ACC_VALUE;
}

/* ---- adding, merging ---- */

/* The first row. False: it is all there is to do, or nothing is, for this row. */
static bool
transition_start(SbQuery *query, SbTransition *t, SbAcc *acc, const NullableDatum *first)
{
	if (!t->init_isnull)
	{
		acc->value = sb_datum_copy(&t->type, t->init, query->cells);
		acc->isnull = false;
		acc->form = SB_ACC_VALUE;
		return true;
	}
	acc->form = SB_ACC_VALUE;
	if (!t->trans.flinfo.fn_strict)
		return true;
	/* a strict function without an initial value takes the first input for its state */
	acc->value = sb_datum_copy(&t->type, first->value, query->cells);
	acc->isnull = false;
	return false;
}

/* As the Agg node advances a state: a strict function does not see rows with nulls. */
static void
transition_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbTransition *t = transition_of(agg);
	FunctionCallInfo fcinfo = t->trans.fcinfo;
	bool strict = t->trans.flinfo.fn_strict;

	for (int i = 0; i < agg->nargs; i++)
	{
		if (strict && agg->values[i].isnull)
			return;
		fcinfo->args[i + 1] = agg->values[i];
	}
	if (acc->form == SB_ACC_NEW && !transition_start(query, t, acc, agg->values))
		return;
	if (acc->form == SB_ACC_PARKED)
		transition_wake(query, t, acc);
	if (strict && acc->isnull)
		return;
	transition_call(query, t, &t->trans, acc);
}

static void
transition_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	SbTransition *t = transition_of(agg);
	FunctionCallInfo fcinfo = t->combine.fcinfo;

	if (fcinfo == NULL)
		elog(ERROR, "aggregate %u cannot be merged", agg->aggref->aggfnoid);
	if (into->form == SB_ACC_PARKED)
		transition_wake(query, t, into);
	if (t->combine.flinfo.fn_strict && (into->isnull || from->isnull))
		return;
	fcinfo->args[1].value =
	    from->form == SB_ACC_PARKED ? sb_transition_deserialize(t, from->value) : from->value;
	fcinfo->args[1].isnull = from->isnull;
	transition_call(query, t, &t->combine, into);
}

/* ---- results ---- */

/* A copy of a live or plain state, in the result row's memory, that a final function may spoil. */
static Datum
transition_copy(SbTransition *t, Datum state)
{
	if (t->internal)
		return sb_transition_revive(t, sb_transition_serialize(t, state));
	return sb_datum_copy(&t->type, state, CurrentMemoryContext);
}

Datum
sb_transition_final(SbTransition *t, Datum value, bool *isnull)
{
	FunctionCallInfo fcinfo = t->final.fcinfo;
	bool has_null = *isnull;
	Datum result;

	for (int i = 1; i < fcinfo->nargs; i++)
	{
		/* only there for their types */
		fcinfo->args[i].value = (Datum) 0;
		fcinfo->args[i].isnull = true;
		has_null = true;
	}
	if (t->final.flinfo.fn_strict && has_null)
	{
		*isnull = true;
		return (Datum) 0;
	}
	fcinfo->args[0].value = MakeExpandedObjectReadOnly(value, *isnull, t->type.len);
	fcinfo->args[0].isnull = *isnull;
	fcinfo->isnull = false;
	t->state->curperagg = t->state->peragg;
	result = FunctionCallInvoke(fcinfo);
	t->state->curperagg = NULL;
	*isnull = fcinfo->isnull;
	return result;
}

static Datum
transition_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	SbTransition *t = transition_of(agg);
	Datum value = acc->form == SB_ACC_NEW ? t->init : acc->value;

	*isnull = acc->form == SB_ACC_NEW ? t->init_isnull : acc->isnull;
	*t->context = query->out;
	if (!*isnull && acc->form == SB_ACC_PARKED)
		value = sb_transition_revive(t, value);
	else if (!*isnull && (t->final.fcinfo == NULL || t->final_modify != AGGMODIFY_READ_ONLY))
		value = transition_copy(t, value);
	return t->final.fcinfo == NULL ? value : sb_transition_final(t, value, isnull);
}

/* ---- bytes ---- */

static bool
transition_owns(const SbAgg *agg)
{
	return !transition_of(agg)->type.byval;
}

static void
transition_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	SbTransition *t = transition_of(agg);
	Datum flat = t->type.byval ? acc->value : sb_datum_flatten(&t->type, acc->value);
	Size size = sb_datum_size(&t->type, flat);

	enlargeStringInfo(out, size);
	sb_datum_write(&t->type, flat, out->data + out->len);
	out->len += size;
	out->data[out->len] = '\0';
}

static void
transition_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	SbTransition *t = transition_of(agg);

	acc->value = sb_datum_copy(&t->type, sb_datum_read(&t->type, data, end), query->cells);
}

void
sb_serialized_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	bytea *bytes = DatumGetByteaPP(acc->value);
	uint32 size = VARSIZE_ANY_EXHDR(bytes);

	appendBinaryStringInfo(out, (const char *) &size, sizeof(size));
	appendBinaryStringInfo(out, VARDATA_ANY(bytes), size);
}

void
sb_serialized_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	uint32 size;
	const char *from;
	char *bytes;

	from = sb_bytes_take_sized(data, end, &size);
	bytes = MemoryContextAlloc(query->cells, VARHDRSZ + (Size) size);
	SET_VARSIZE(bytes, VARHDRSZ + (Size) size);
	memcpy(VARDATA(bytes), from, size);
	acc->value = PointerGetDatum(bytes);
}

const SbAggMethod sb_agg_transition = {
    .id = 2,
    .name = "transition",
    .nulls = true,
    .add = transition_add,
    .merge = transition_merge,
    .park = transition_park,
    .owns = transition_owns,
    .encode = transition_encode,
    .decode = transition_decode,
    .result = transition_result,
};

/* Live until parked, so a VALUE of it is only ever null. */
const SbAggMethod sb_agg_serialized = {
    .id = 3,
    .name = "serialized",
    .nulls = true,
    .parks = true,
    .add = transition_add,
    .merge = transition_merge,
    .park = transition_park,
    .owns = transition_owns,
    .encode = sb_serialized_encode,
    .decode = sb_serialized_decode,
    .result = transition_result,
};
