/*
 * sb_query_element.c: what the accumulators see of a row, as bytes: to be added to others again
 * later, and to be recognised.
 *
 * FORMAT. Bits: for each aggregate with a FILTER whether the row is left out, then for each value
 * whether it is null; then the values that are not null. A value is an argument of an aggregate
 * that does not leave the row out. Constants are left out, and an argument that several aggregates
 * have is retained once. Rows with equal bytes are equal to the query; since expressions are not
 * volatile and values are written in one form only, a row has the same bytes whenever it comes, as
 * a new one and as an old one.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "query/sb_query_private.h"
#include "utils/regproc.h"

/* How an argument gets its value. */
typedef struct SbElementArg
{
	bool constant;
	SbAgg *same; /* an earlier aggregate that has it too, as argument same_arg; NULL: none */
	int same_arg;
} SbElementArg;

/* The first aggregate before this argument's own that has the same one. */
static void
element_find_same(SbQuery *query, int agg, Expr *expr, SbElementArg *arg)
{
	for (int i = 0; i < agg; i++)
	{
		ListCell *lc;

		foreach (lc, query->aggs[i].aggref->args)
		{
			if (!equal(lfirst_node(TargetEntry, lc)->expr, expr))
				continue;
			arg->same = &query->aggs[i];
			arg->same_arg = foreach_current_index(lc);
			return;
		}
	}
}

static void
element_open_arg(SbQuery *query, int agg, Expr *expr, SbElementArg *arg)
{
	Oid type = exprType((Node *) expr);

	/* its type is known to this process only */
	if (type == RECORDOID || type == RECORDARRAYOID)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		                errmsg("aggregate %s cannot keep anonymous records in a pipeline",
		                       format_procedure(query->aggs[agg].aggref->aggfnoid)),
		                errhint("Cast the record to a named composite type.")));
	arg->constant = IsA(expr, Const);
	if (!arg->constant)
		element_find_same(query, agg, expr, arg);
}

void
sb_query_open_element(SbQuery *query)
{
	query->element_bits = 0;
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbAgg *agg = &query->aggs[i];
		ListCell *lc;

		agg->element = palloc0(sizeof(SbElementArg) * (agg->nargs + 1));
		foreach (lc, agg->aggref->args)
			element_open_arg(query, i, lfirst_node(TargetEntry, lc)->expr,
			                 &agg->element[foreach_current_index(lc)]);
		query->element_bits += (agg->filter != NULL ? 1 : 0) + agg->nargs;
	}
}

/* Is the argument's value among the bytes of the current row? */
static inline bool
element_has(const SbAgg *agg, int arg)
{
	const SbElementArg *how = &agg->element[arg];

	return !how->constant && (how->same == NULL || how->same->skip);
}

static inline void
bit_set(char *bits, int bit, bool value)
{
	if (value)
		bits[bit / 8] |= 1 << (bit % 8);
}

static inline bool
bit_get(const char *bits, int bit)
{
	return (bits[bit / 8] & (1 << (bit % 8))) != 0;
}

static void
element_write_value(const SbType *type, Datum value, StringInfo out)
{
	Datum flat = sb_datum_flatten(type, value);
	Size size = type->byval ? (Size) type->len : sb_datum_size(type, flat);

	enlargeStringInfo(out, size);
	sb_datum_write(type, flat, out->data + out->len);
	out->len += size;
}

void
sb_query_element_write(SbQuery *query, StringInfo out)
{
	MemoryContext old = MemoryContextSwitchTo(sb_row_memory(query));
	int start = out->len;
	int bit = 0;

	if (!query->args_ready)
		sb_query_eval_args(query);
	enlargeStringInfo(out, (query->element_bits + 7) / 8);
	memset(out->data + out->len, 0, (query->element_bits + 7) / 8);
	out->len += (query->element_bits + 7) / 8;
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbAgg *agg = &query->aggs[i];

		if (agg->filter != NULL)
			bit_set(out->data + start, bit++, agg->skip);
		for (int arg = 0; arg < agg->nargs; arg++, bit++)
		{
			if (agg->skip || !element_has(agg, arg))
				continue;
			bit_set(out->data + start, bit, agg->values[arg].isnull);
			if (!agg->values[arg].isnull)
				element_write_value(&agg->arg_types[arg], agg->values[arg].value, out);
		}
	}
	MemoryContextSwitchTo(old);
}

static void
element_read_value(SbQuery *query, SbAgg *agg, int arg, bool isnull, const char **at,
                   const char *end)
{
	NullableDatum *value = &agg->values[arg];

	if (element_has(agg, arg))
	{
		value->isnull = isnull;
		value->value = isnull ? (Datum) 0 : sb_datum_read(&agg->arg_types[arg], at, end);
	}
	else if (agg->element[arg].constant)
		value->value = sb_expr_eval(query, &agg->args[arg], &value->isnull);
	else
		*value = agg->element[arg].same->values[agg->element[arg].same_arg];
}

void
sb_query_element_set(SbQuery *query, const char *data, Size size)
{
	const char *end = data + size;
	const char *bits;
	MemoryContext old;
	int bit = 0;

	ResetExprContext(query->econtext);
	old = MemoryContextSwitchTo(sb_row_memory(query));
	bits = sb_bytes_take(&data, end, (query->element_bits + 7) / 8);
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbAgg *agg = &query->aggs[i];

		agg->skip = agg->filter != NULL && bit_get(bits, bit++);
		for (int arg = 0; arg < agg->nargs; arg++, bit++)
		{
			if (!agg->skip)
				element_read_value(query, agg, arg, bit_get(bits, bit), &data, end);
		}
	}
	if (data != end)
		sb_bytes_corrupted("An element is longer than it should be.");
	query->args_ready = true;
	MemoryContextSwitchTo(old);
}
