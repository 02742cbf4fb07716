/*
 * sb_latest.c: beam.first, beam.last and beam.top as PostgreSQL's own executor runs them; a
 * pipeline has them from its items (sb_agg_multiset.c). See sb_latest.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "query/agg/sb_latest.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

/* Beyond it an array of one value each is no answer any more. */
#define SB_TOP_MAX 10000

typedef struct SbLatestRow
{
	Datum value, at;
	bool isnull;
} SbLatestRow;

typedef struct SbLatestColumn
{
	SbType type;
	Oid collation;
	TypeCacheEntry *cache; /* with its comparison, if it has one */
} SbLatestColumn;

/* The best rows so far, the best one first. */
typedef struct SbLatestState
{
	MemoryContext context;
	SbLatestColumn value, at;
	int limit, n;
	SbLatestRow rows[FLEXIBLE_ARRAY_MEMBER];
} SbLatestState;

static void
latest_open_column(SbLatestColumn *column, Oid type, Oid collation)
{
	sb_type_init(&column->type, type);
	column->collation = collation;
	column->cache = lookup_type_cache(type, TYPECACHE_CMP_PROC_FINFO);
}

static int
latest_compare(SbLatestColumn *column, Datum a, Datum b)
{
	/* as items have them */
	if (!OidIsValid(column->cache->cmp_proc))
		return sb_datum_compare_bytes(&column->type, a, b);
	return DatumGetInt32(
	    FunctionCall2Coll(&column->cache->cmp_proc_finfo, column->collation, a, b));
}

static int
latest_compare_rows(SbLatestState *state, const SbLatestRow *a, const SbLatestRow *b)
{
	int result = latest_compare(&state->at, a->at, b->at);

	if (result != 0)
		return result;
	if (a->isnull || b->isnull)
		return (int) b->isnull - (int) a->isnull;
	return latest_compare(&state->value, a->value, b->value);
}

/* The types are those of the call: the functions are polymorphic. */
static SbLatestState *
latest_begin(FunctionCallInfo fcinfo, MemoryContext context, int limit, int value)
{
	MemoryContext old = MemoryContextSwitchTo(context);
	SbLatestState *state =
	    palloc0(offsetof(SbLatestState, rows) + sizeof(SbLatestRow) * (limit + 1));
	Oid types[] = {get_fn_expr_argtype(fcinfo->flinfo, value),
	               get_fn_expr_argtype(fcinfo->flinfo, value + 1)};

	state->context = context;
	state->limit = limit;
	latest_open_column(&state->value, types[0], PG_GET_COLLATION());
	latest_open_column(&state->at, types[1], PG_GET_COLLATION());
	if (!OidIsValid(state->at.cache->cmp_proc))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
		                errmsg("type %s has no order", format_type_be(types[1])),
		                errhint("The values are taken by a column that has one, such as a time.")));
	MemoryContextSwitchTo(old);
	return state;
}

static void
latest_free_row(SbLatestState *state, SbLatestRow *row)
{
	if (!row->isnull && !state->value.type.byval)
		pfree(DatumGetPointer(row->value));
	if (!state->at.type.byval)
		pfree(DatumGetPointer(row->at));
}

/* sign 1: the greatest ones are kept, -1: the least. The arguments begin with this number. */
static Datum
latest_step(FunctionCallInfo fcinfo, int sign, int limit, int value)
{
	MemoryContext context;
	SbLatestState *state;
	SbLatestRow row = {.isnull = PG_ARGISNULL(value)};
	int at;

	if (!AggCheckCallContext(fcinfo, &context))
		elog(ERROR, "an aggregate's function is called outside of an aggregate");
	state = PG_ARGISNULL(0) ? latest_begin(fcinfo, context, limit, value)
	                        : (SbLatestState *) PG_GETARG_POINTER(0);
	if (state->limit != limit)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("the number of values must be the same in all rows")));
	if (PG_ARGISNULL(value + 1))
		PG_RETURN_POINTER(state);
	row.value = row.isnull ? (Datum) 0 : PG_GETARG_DATUM(value);
	row.at = PG_GETARG_DATUM(value + 1);
	at = state->n;
	while (at > 0 && sign * latest_compare_rows(state, &row, &state->rows[at - 1]) > 0)
		at--;
	if (at == limit)
		PG_RETURN_POINTER(state);
	if (!row.isnull)
		row.value = sb_datum_copy(&state->value.type, row.value, context);
	row.at = sb_datum_copy(&state->at.type, row.at, context);
	memmove(state->rows + at + 1, state->rows + at, sizeof(SbLatestRow) * (state->n - at));
	state->rows[at] = row;
	if (state->n < limit)
		state->n++;
	else
		latest_free_row(state, &state->rows[limit]);
	PG_RETURN_POINTER(state);
}

PG_FUNCTION_INFO_V1(stream_beam_first_step);

PGDLLEXPORT Datum
stream_beam_first_step(PG_FUNCTION_ARGS)
{
	return latest_step(fcinfo, -1, 1, 1);
}

PG_FUNCTION_INFO_V1(stream_beam_last_step);

PGDLLEXPORT Datum
stream_beam_last_step(PG_FUNCTION_ARGS)
{
	return latest_step(fcinfo, 1, 1, 1);
}

PG_FUNCTION_INFO_V1(stream_beam_top_step);

PGDLLEXPORT Datum
stream_beam_top_step(PG_FUNCTION_ARGS)
{
	int32 limit = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

	if (limit < 1 || limit > SB_TOP_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("the number of values must be between 1 and %d", SB_TOP_MAX)));
	return latest_step(fcinfo, 1, limit, 2);
}

PG_FUNCTION_INFO_V1(stream_beam_latest_final);

PGDLLEXPORT Datum
stream_beam_latest_final(PG_FUNCTION_ARGS)
{
	SbLatestState *state = PG_ARGISNULL(0) ? NULL : (SbLatestState *) PG_GETARG_POINTER(0);

	if (state == NULL || state->n == 0 || state->rows[0].isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(state->rows[0].value);
}

Datum
sb_latest_array(const SbType *type, const Datum *values, const bool *nulls, int n)
{
	int lower = 1;

	return PointerGetDatum(construct_md_array(unconstify(Datum *, values),
	                                          unconstify(bool *, nulls), 1, &n, &lower, type->oid,
	                                          type->len, type->byval, type->align));
}

PG_FUNCTION_INFO_V1(stream_beam_top_final);

PGDLLEXPORT Datum
stream_beam_top_final(PG_FUNCTION_ARGS)
{
	SbLatestState *state = PG_ARGISNULL(0) ? NULL : (SbLatestState *) PG_GETARG_POINTER(0);
	Datum *values;
	bool *nulls;

	if (state == NULL || state->n == 0)
		PG_RETURN_NULL();
	values = palloc(sizeof(Datum) * state->n);
	nulls = palloc(sizeof(bool) * state->n);
	for (int i = 0; i < state->n; i++)
	{
		values[i] = state->rows[i].value;
		nulls[i] = state->rows[i].isnull;
	}
	PG_RETURN_DATUM(sb_latest_array(&state->value.type, values, nulls, state->n));
}

/* ---- for pipelines ---- */

SbLatestKind
sb_latest_kind(Oid aggregate)
{
	static const struct
	{
		PGFunction step;
		SbLatestKind kind;
	} kinds[] = {{stream_beam_first_step, SB_LATEST_FIRST},
	             {stream_beam_last_step, SB_LATEST_LAST},
	             {stream_beam_top_step, SB_LATEST_TOP}};
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate));
	FmgrInfo step;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate);
	fmgr_info(((Form_pg_aggregate) GETSTRUCT(tuple))->aggtransfn, &step);
	ReleaseSysCache(tuple);
	for (int i = 0; i < lengthof(kinds); i++)
	{
		if (kinds[i].step == step.fn_addr)
			return kinds[i].kind;
	}
	return SB_LATEST_NONE;
}

int
sb_latest_limit(const Aggref *aggref, SbLatestKind kind)
{
	const Const *limit;

	if (kind != SB_LATEST_TOP)
		return 1;
	limit = (const Const *) linitial_node(TargetEntry, aggref->args)->expr;
	if (!IsA(limit, Const) || limit->constisnull || DatumGetInt32(limit->constvalue) < 1 ||
	    DatumGetInt32(limit->constvalue) > SB_TOP_MAX)
		return 0;
	return DatumGetInt32(limit->constvalue);
}
