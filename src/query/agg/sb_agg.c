/*
 * sb_agg.c: aggregates: the choice of their method, and what all methods share.
 *
 * A class of aggregates is one SbAggMethod; agg_choose() picks it, and everything else here goes
 * through it.
 *   fast        count, sum, avg, min, max of the common types: arithmetic of our own, results
 *               identical to PostgreSQL's
 *   transition  the catalog's transition function on a plain type
 *   serialized  the catalog's transition function on an internal state, serialized when the bundle
 *               ends
 *   bag         everything else: the inputs are retained and the executor aggregates them when a
 *               result is due
 *
 * A retractable query has methods of its own, all of which can take a row out again without a
 * trace:
 *   fast        count, sum and avg of integers, bool_and, bool_or: sums and how many rows are in
 *               them
 *   exact       sum and avg of floats: a sum without rounding
 *   inverse     sum, avg, variance of numeric and the variances of integers: the catalog's inverse
 *               transition function
 *   extreme     min, max and whatever has a sort operator: the inputs are retained, and looked
 *               through when a result is due
 *   multiset    everything else: the inputs are retained, and the executor aggregates them
 *   spelling    no aggregate: how the rows of a group write one of its keys
 *
 * FORM. An accumulator is new (nothing added), a value, live (a state in the bundle's memory) or
 * parked. All methods start at the same new form, so that the first add, a merge into a new one and
 * clearing need no function of the method.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "base/sb_compat.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "query/agg/sb_latest.h"
#include "query/sb_query_private.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#define SB_ACCS_VERSION 2
/* What retained values was one chunk. */
#define SB_ACCS_VERSION_WITHOUT_ITEMS 1
/* Set in the version where the query is retractable. */
#define SB_ACCS_RETRACTABLE 0x80

/* ---- opening ---- */

static void
agg_check_function(Oid function, Oid role)
{
	AclResult result;

	if (!OidIsValid(function))
		return;
	result = object_aclcheck(ProcedureRelationId, function, role, ACL_EXECUTE);
	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_FUNCTION, get_func_name(function));
	InvokeFunctionExecuteHook(function);
}

static Oid
agg_owner(const Aggref *aggref)
{
	HeapTuple proc = SearchSysCache1(PROCOID, ObjectIdGetDatum(aggref->aggfnoid));
	Oid owner;

	if (!HeapTupleIsValid(proc))
		elog(ERROR, "cache lookup failed for function %u", aggref->aggfnoid);
	owner = ((Form_pg_proc) GETSTRUCT(proc))->proowner;
	ReleaseSysCache(proc);
	return owner;
}

/*
 * 42501 unless the current user may call the aggregate and the aggregate's owner its functions: the
 * roles are those that the executor would ask for, so that the stream may do what the batch query
 * may.
 */
static void
agg_check_permissions(const Aggref *aggref, HeapTuple aggtuple)
{
	Form_pg_aggregate form = (Form_pg_aggregate) GETSTRUCT(aggtuple);
	AclResult result =
	    object_aclcheck(ProcedureRelationId, aggref->aggfnoid, GetUserId(), ACL_EXECUTE);
	Oid owner;

	if (result != ACLCHECK_OK)
		aclcheck_error(result, OBJECT_AGGREGATE, get_func_name(aggref->aggfnoid));
	InvokeFunctionExecuteHook(aggref->aggfnoid);
	owner = agg_owner(aggref);
	agg_check_function(form->aggtransfn, owner);
	agg_check_function(form->aggfinalfn, owner);
	agg_check_function(form->aggcombinefn, owner);
	agg_check_function(form->aggserialfn, owner);
	agg_check_function(form->aggdeserialfn, owner);
}

/* Permission of the function that only a retractable query calls. */
void
sb_agg_check_inverse(const Aggref *aggref, Oid function)
{
	agg_check_function(function, agg_owner(aggref));
}

bool
sb_query_merges(const SbQuery *query)
{
	return sb_plan_merges(query->plan);
}

/*
 * Is its state all of its values? Since 16 PostgreSQL can serialize some such states: then all of
 * it would be written with each row.
 */
static bool
agg_collects(Oid aggregate)
{
	return aggregate == F_ARRAY_AGG_ANYNONARRAY || aggregate == F_ARRAY_AGG_ANYARRAY ||
	       aggregate == F_STRING_AGG_TEXT_TEXT || aggregate == F_STRING_AGG_BYTEA_BYTEA;
}

/* The method of an aggregate that has no fast path. */
static const SbAggMethod *
agg_choose(const SbQuery *query, const Aggref *aggref, const FormData_pg_aggregate *form)
{
	if (aggref->aggkind != AGGKIND_NORMAL || aggref->aggdistinct != NIL || aggref->aggorder != NIL)
		return &sb_agg_bag;
	if (form->aggtranstype == INTERNALOID)
		return OidIsValid(form->aggcombinefn) && OidIsValid(form->aggserialfn) &&
		               OidIsValid(form->aggdeserialfn) && !agg_collects(aggref->aggfnoid)
		           ? &sb_agg_serialized
		           : &sb_agg_bag;
	/* an anonymous record's type is known to this process only */
	if (form->aggtranstype == RECORDOID || form->aggtranstype == RECORDARRAYOID)
		return &sb_agg_bag;
	if (!OidIsValid(form->aggcombinefn) && sb_query_merges(query))
		return &sb_agg_bag;
	return &sb_agg_transition;
}

/* Arguments and sort expressions: what is evaluated once a row. */
static void
agg_open_args(SbQuery *query, SbAgg *agg)
{
	ListCell *lc;
	int i = 0;

	if (agg->aggref->aggfilter != NULL)
		agg->filter = ExecInitQual(list_make1(agg->aggref->aggfilter), NULL);
	agg->nargs = list_length(agg->aggref->args);
	agg->args = palloc0(sizeof(SbExpr) * agg->nargs);
	agg->arg_types = palloc0(sizeof(SbType) * agg->nargs);
	agg->values = palloc0(sizeof(NullableDatum) * agg->nargs);
	foreach (lc, agg->aggref->args)
	{
		Expr *expr = lfirst_node(TargetEntry, lc)->expr;

		sb_expr_open(query, &agg->args[i], expr);
		sb_type_init(&agg->arg_types[i], exprType((Node *) expr));
		i++;
	}
}

/*
 * The cheapest method that can take rows out again. There is always one: any aggregate can be
 * computed from its inputs.
 */
static void
agg_open_retractable(SbQuery *query, SbAgg *agg, HeapTuple tuple)
{
	const void *path = sb_agg_counted_find(agg->aggref);

	if (path != NULL)
	{
		agg->method = &sb_agg_counted;
		sb_agg_counted_open(query, agg, path);
		return;
	}
	path = sb_agg_exact_find(agg->aggref);
	if (path != NULL)
	{
		agg->method = &sb_agg_exact;
		sb_agg_exact_open(query, agg, path);
	}
	else if (sb_agg_inverse_can(agg->aggref, tuple))
	{
		agg->method = &sb_agg_inverse;
		sb_agg_inverse_open(query, agg, tuple);
	}
	else
	{
		agg->method = sb_agg_extreme_can(agg->aggref, tuple) ? &sb_agg_extreme : &sb_agg_multiset;
		sb_agg_multiset_open(query, agg, tuple);
	}
	if (agg->add == NULL)
		agg->add = agg->method->add;
	if (agg->retract == NULL)
		agg->retract = agg->method->retract;
}

/* Chooses the method: the same one at each opening, since stored state names it. */
static void
agg_open(SbQuery *query, SbAgg *agg, const Aggref *aggref)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	const void *fast = query->retractable ? NULL : sb_agg_fast_find(aggref);
	bool spells = agg - query->aggs >= query->plan->naggs - query->plan->nspelled;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	agg_check_permissions(aggref, tuple);
	agg->aggref = aggref;
	agg_open_args(query, agg);
	if (spells)
	{
		agg->method = &sb_agg_spelling;
		agg->add = agg->method->add;
		agg->retract = agg->method->retract;
		ReleaseSysCache(tuple);
		return;
	}
	if (query->retractable)
	{
		agg_open_retractable(query, agg, tuple);
		ReleaseSysCache(tuple);
		return;
	}
	agg->method = fast != NULL ? &sb_agg_fast
	                           : agg_choose(query, aggref, (Form_pg_aggregate) GETSTRUCT(tuple));
	agg->add = agg->method->add;
	if (fast != NULL)
		sb_agg_fast_open(query, agg, fast);
	else if (agg->method == &sb_agg_bag)
		sb_agg_multiset_open(query, agg, tuple);
	else
		sb_agg_generic_open(query, agg, tuple);
	ReleaseSysCache(tuple);
}

void
sb_query_open_aggs(SbQuery *query)
{
	query->items.context = query->cells;
	query->aggs = palloc0(sizeof(SbAgg) * query->plan->naggs);
	for (int i = 0; i < query->plan->naggs; i++)
		agg_open(query, &query->aggs[i], query->plan->aggs[i]);
}

const char *
sb_query_agg_method(const SbQuery *query, int agg)
{
	return query->aggs[agg].method->name;
}

const char *
sb_query_agg_reads(const SbQuery *query, int agg)
{
	const SbAggMethod *method = query->aggs[agg].method;

	return method->keeps_values ? method->reads(&query->aggs[agg]) : NULL;
}

const char *
sb_query_cannot_retract(const SbQuery *query)
{
	for (int i = 0; i < query->plan->naggs && query->retractable; i++)
	{
		const Aggref *aggref = query->aggs[i].aggref;

		/* those with an order, DISTINCT or one of their own would keep them in any case */
		if (query->aggs[i].method == &sb_agg_multiset && aggref->aggkind == AGGKIND_NORMAL &&
		    aggref->aggdistinct == NIL && aggref->aggorder == NIL &&
		    aggref->aggfnoid >= FirstNormalObjectId &&
		    sb_latest_kind(aggref->aggfnoid) == SB_LATEST_NONE)
			return format_procedure(aggref->aggfnoid);
	}
	return NULL;
}

const char *
sb_query_keeps_values(const SbQuery *query)
{
	for (int i = 0; i < query->plan->naggs; i++)
	{
		if (query->aggs[i].method->keeps_values)
			return get_func_name(query->aggs[i].aggref->aggfnoid);
	}
	return NULL;
}

/* ---- the current row ---- */

void
sb_query_acc_init(SbQuery *query, SbAcc *accs)
{
	for (int i = 0; i < query->plan->naggs; i++)
		sb_acc_renew(&accs[i]);
}

void
sb_query_eval_args(SbQuery *query)
{
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbAgg *agg = &query->aggs[i];

		agg->skip = agg->filter != NULL && !ExecQual(agg->filter, query->econtext);
		for (int arg = 0; arg < agg->nargs && !agg->skip; arg++)
			agg->values[arg].value = sb_expr_eval(query, &agg->args[arg], &agg->values[arg].isnull);
	}
	query->args_ready = true;
}

void
sb_query_acc_add(SbQuery *query, SbAcc *accs)
{
	MemoryContext old = MemoryContextSwitchTo(sb_row_memory(query));

	if (!query->args_ready)
		sb_query_eval_args(query);
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbAgg *agg = &query->aggs[i];

		if (!agg->skip)
			agg->add(query, agg, &accs[i]);
	}
	MemoryContextSwitchTo(old);
}

void
sb_query_acc_retract(SbQuery *query, SbAcc *accs)
{
	MemoryContext old = MemoryContextSwitchTo(sb_row_memory(query));

	if (!query->retractable)
		elog(ERROR, "a row is retracted from a query that was not opened for it");
	if (!query->args_ready)
		sb_query_eval_args(query);
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbAgg *agg = &query->aggs[i];

		if (!agg->skip)
			agg->retract(query, agg, &accs[i]);
	}
	MemoryContextSwitchTo(old);
}

void
sb_agg_never_added(const SbAgg *agg)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("row to be retracted was never added"),
	                errdetail("Aggregate %s has no such row in this group and window.",
	                          format_procedure(agg->aggref->aggfnoid))));
}

/* ---- the life of accumulators ---- */

/* Has the accumulator a chunk of its own in `cells`? */
static bool
acc_owns(const SbAgg *agg, const SbAcc *acc)
{
	if (acc->form == SB_ACC_PARKED)
		return true;
	return acc->form == SB_ACC_VALUE && !acc->isnull && !agg->method->items &&
	       agg->method->owns(agg);
}

/* NULL: it has none. */
static inline SbItems *
acc_items(const SbAgg *agg, const SbAcc *acc)
{
	return agg->method->items && acc->form == SB_ACC_VALUE ? (SbItems *) DatumGetPointer(acc->value)
	                                                       : NULL;
}

void
sb_query_acc_merge(SbQuery *query, SbAcc *into, SbAcc *from)
{
	MemoryContext old = MemoryContextSwitchTo(query->scratch);

	for (int i = 0; i < query->plan->naggs; i++)
	{
		if (from[i].form == SB_ACC_NEW)
			continue;
		if (into[i].form == SB_ACC_NEW)
		{
			into[i] = from[i];
			sb_acc_renew(&from[i]);
			continue;
		}
		query->aggs[i].method->merge(query, &query->aggs[i], &into[i], &from[i]);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(query->scratch);
}

/*
 * Live states are left to the reset of the bundle's memory: after a failed bundle they are gone
 * already.
 */
static void
acc_release(SbQuery *query, SbAcc *accs, void (*release)(SbItemSpace *space, SbItems *items))
{
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbItems *items = acc_items(&query->aggs[i], &accs[i]);

		if (items)
			release(&query->items, items);
		else if (acc_owns(&query->aggs[i], &accs[i]))
			pfree(DatumGetPointer(accs[i].value));
		sb_acc_renew(&accs[i]);
	}
}

void
sb_query_acc_free(SbQuery *query, SbAcc *accs)
{
	acc_release(query, accs, sb_items_free);
}

void
sb_query_acc_drop(SbQuery *query, SbAcc *accs)
{
	acc_release(query, accs, sb_items_drop);
}

void
sb_query_acc_unload(SbQuery *query, SbAcc *accs)
{
	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbItems *items = acc_items(&query->aggs[i], &accs[i]);

		if (items)
			sb_items_unload(&query->items, items);
	}
}

int
sb_query_acc_trees(SbQuery *query, const SbAcc *accs, int64 *trees)
{
	int n = 0;

	for (int i = 0; i < query->plan->naggs; i++)
	{
		SbItems *items = acc_items(&query->aggs[i], &accs[i]);

		if (items && sb_items_tree(items) != 0)
			trees[n++] = sb_items_tree(items);
	}
	return n;
}

void
sb_query_set_items(SbQuery *query, const SbItemStore *store)
{
	query->items.store = store;
}

Size
sb_query_items_bytes(const SbQuery *query)
{
	return query->items.bytes;
}

void
sb_query_acc_park(SbQuery *query, SbAcc *accs)
{
	MemoryContext old = NULL;

	for (int i = 0; i < query->plan->naggs; i++)
	{
		if (accs[i].form != SB_ACC_LIVE)
			continue;
		if (old == NULL)
			old = MemoryContextSwitchTo(query->scratch);
		query->aggs[i].method->park(query, &query->aggs[i], &accs[i]);
	}
	if (old == NULL)
		return;
	MemoryContextSwitchTo(old);
	MemoryContextReset(query->scratch);
}

Size
sb_query_acc_bytes(SbQuery *query, const SbAcc *accs)
{
	Size bytes = 0;

	for (int i = 0; i < query->plan->naggs; i++)
	{
		if (acc_owns(&query->aggs[i], &accs[i]))
			bytes += GetMemoryChunkSpace(DatumGetPointer(accs[i].value));
	}
	return bytes;
}

Datum
sb_agg_result(SbQuery *query, int agg, SbAcc *acc, bool *isnull)
{
	*isnull = false;
	return query->aggs[agg].method->result(query, &query->aggs[agg], acc, isnull);
}

/* ---- bytes for the state table ---- */

/*
 * A version, with a bit for the mode; then for each accumulator a byte (method id << 4 | form << 1
 * | isnull) and, unless it is new or null, what the method writes. The method is there so that a
 * later version that knows a better one can still tell what it reads.
 */
void
sb_query_acc_encode(SbQuery *query, const SbAcc *accs, StringInfo out)
{
	MemoryContext old = MemoryContextSwitchTo(query->scratch);

	appendStringInfoCharMacro(out, (char) (SB_ACCS_VERSION |
	                                       (query->retractable ? SB_ACCS_RETRACTABLE : 0)));
	for (int i = 0; i < query->plan->naggs; i++)
	{
		const SbAggMethod *method = query->aggs[i].method;

		if (accs[i].form == SB_ACC_LIVE)
			elog(ERROR, "accumulator %d is encoded before it is parked", i);
		appendStringInfoCharMacro(out, (char) (method->id << 4 | accs[i].form << 1 |
		                                       (accs[i].isnull ? 1 : 0)));
		if (accs[i].form != SB_ACC_NEW && !accs[i].isnull)
			method->encode(query, &query->aggs[i], &accs[i], out);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(query->scratch);
}

/*
 * Can an accumulator of this method have been written so? What comes from a table is not trusted
 * with pointers.
 */
static bool
acc_form_valid(const SbAggMethod *method, uint8 form, bool isnull)
{
	switch (form)
	{
		case SB_ACC_NEW:
			return isnull;
		case SB_ACC_VALUE:
			return isnull ? method->nulls : !method->parks;
		case SB_ACC_PARKED:
			return method->parks && !isnull;
		default:
			return false;
	}
}

/* What this method cannot have written is an error: the bytes are not trusted. */
static void
acc_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, bool old, const char **data, const char *end)
{
	uint8 tag = (uint8) *sb_bytes_take(data, end, 1);
	uint8 form = (tag >> 1) & 7;

	if (tag >> 4 != agg->method->id)
		sb_bytes_corrupted(
		    "An accumulator was written by another method than the one that reads it.");
	if (!acc_form_valid(agg->method, form, (tag & 1) != 0))
		sb_bytes_corrupted("An accumulator has an unknown form.");
	sb_acc_renew(acc);
	if (form == SB_ACC_NEW)
		return;
	if ((tag & 1) == 0)
	{
		if (old && agg->method->decode_old)
			agg->method->decode_old(query, agg, acc, data, end);
		else
			agg->method->decode(query, agg, acc, data, end);
		acc->isnull = false;
	}
	acc->form = form;
}

void
sb_query_acc_decode(SbQuery *query, SbAcc *accs, const char **data, const char *end)
{
	MemoryContext old = MemoryContextSwitchTo(query->scratch);
	uint8 mode = query->retractable ? SB_ACCS_RETRACTABLE : 0;
	uint8 version;

	sb_query_acc_init(query, accs);
	version = (uint8) *sb_bytes_take(data, end, 1) ^ mode;
	if ((version & SB_ACCS_RETRACTABLE) != 0)
		sb_bytes_corrupted(
		    query->retractable
		        ? "Accumulators that cannot be retracted from are read by a query that retracts."
		        : "Accumulators of a query that retracts are read by one that does not.");
	if (version != SB_ACCS_VERSION && version != SB_ACCS_VERSION_WITHOUT_ITEMS)
		sb_bytes_corrupted("Accumulators have an unknown version.");
	for (int i = 0; i < query->plan->naggs; i++)
		acc_decode(query, &query->aggs[i], &accs[i], version != SB_ACCS_VERSION, data, end);
	MemoryContextSwitchTo(old);
	MemoryContextReset(query->scratch);
}
