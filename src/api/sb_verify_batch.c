/*
 * sb_verify_batch.c: the batch side of beam.verify(); see sb_verify_batch.h.
 *
 * RULES. The sum of n numbers that is rounded after each addition is off by at most n times half a
 * unit in the last place of the sum of their absolute values, whatever the order. So the batch
 * query is asked for both, by columns more. A pipeline that takes rows back adds floats exactly
 * (query/agg/sb_agg_exact.c); then all of the difference is the batch's.
 */
#include "postgres.h"

#include <float.h>
#include <math.h>

#include "access/htup_details.h"
#include "api/sb_verify_batch.h"
#include "base/sb_statement.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "catalog/sb_view.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

/* Several sums may stand in one column; each is that much off. */
#define SB_VERIFY_SUMS 4
/* Beyond this a value counts as this for the scale, so that the sum of many cannot overflow. */
#define SB_VERIFY_LARGEST "1e250"

/* ---- which columns are inexact ---- */

/* Does it round while it adds? min and max do not, nor do those that sort their inputs. */
static bool
batch_rounds(const Aggref *aggref)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	Form_pg_aggregate form;
	bool floats, rounds;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	floats = aggref->aggtype == FLOAT8OID || aggref->aggtype == FLOAT4OID ||
	         form->aggtranstype == FLOAT8OID || form->aggtranstype == FLOAT4OID ||
	         form->aggtranstype == FLOAT8ARRAYOID;
	rounds = floats && form->aggkind == AGGKIND_NORMAL && !OidIsValid(form->aggsortop);
	ReleaseSysCache(tuple);
	return rounds;
}

/* Sets what is said of a column by the aggregates in it. */
static void
batch_look_at(SbVerifyBatch *batch, const SbPipelineRow *row, const SbPlan *plan, int column)
{
	ListCell *lc;

	foreach (lc, pull_var_clause((Node *) plan->columns_out[column].expr, 0))
	{
		int agg = ((Var *) lfirst(lc))->varattno - SB_OUT_FIRST_KEY - plan->nkeys;

		if (agg < 0 || !batch_rounds(plan->aggs[agg]))
			continue;
		batch->inexact[column] = true;
		if (plan->aggs[agg]->aggfnoid == F_SUM_FLOAT4 && !row->retractable)
			batch->single[column] = true;
	}
}

/* ---- the query ---- */

static bool
batch_is_sum(const Aggref *aggref)
{
	return aggref->aggfnoid == F_SUM_FLOAT4 || aggref->aggfnoid == F_SUM_FLOAT8 ||
	       aggref->aggfnoid == F_AVG_FLOAT4 || aggref->aggfnoid == F_AVG_FLOAT8;
}

/* The argument, in double precision. */
static Expr *
batch_argument(const Aggref *aggref)
{
	Expr *arg = copyObject(linitial_node(TargetEntry, aggref->args)->expr);

	if (exprType((Node *) arg) == FLOAT4OID)
		arg = (Expr *) makeFuncExpr(F_FLOAT8_FLOAT4, FLOAT8OID, list_make1(arg), InvalidOid,
		                            InvalidOid, COERCE_EXPLICIT_CAST);
	return arg;
}

/* sum(arg) in double precision, with the other's FILTER. */
static Aggref *
batch_sum(const Aggref *of, Expr *arg)
{
	Aggref *sum = copyObject(unconstify(Aggref *, of));

	sum->aggfnoid =
	    of->aggfnoid == F_AVG_FLOAT4 || of->aggfnoid == F_AVG_FLOAT8 ? F_AVG_FLOAT8 : F_SUM_FLOAT8;
	sum->aggtype = FLOAT8OID;
	sum->aggargtypes = list_make1_oid(FLOAT8OID);
	sum->args = list_make1(makeTargetEntry(arg, 1, NULL, false));
	sum->aggorder = sum->aggdistinct = NIL;
	return sum;
}

/* Sums of type real become those of double precision, rounded once. */
static Node *
batch_widen(Node *node, void *context)
{
	const Aggref *aggref = (const Aggref *) node;

	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref) && aggref->aggfnoid == F_SUM_FLOAT4 && aggref->aggorder == NIL &&
	    aggref->aggdistinct == NIL)
		return (Node *) makeFuncExpr(F_FLOAT4_FLOAT8, FLOAT4OID,
		                             list_make1(batch_sum(aggref, batch_argument(aggref))),
		                             InvalidOid, InvalidOid, COERCE_EXPLICIT_CAST);
	return expression_tree_mutator(node, batch_widen, context);
}

static bool
batch_find_sums(Node *node, void *context)
{
	List **sums = context;

	if (node == NULL)
		return false;
	if (!IsA(node, Aggref))
		return expression_tree_walker(node, batch_find_sums, context);
	if (batch_is_sum((Aggref *) node))
		*sums = lappend(*sums, node);
	return false;
}

/* GREATEST() of these. */
static Expr *
batch_extreme(MinMaxOp op, List *args)
{
	MinMaxExpr *extreme = makeNode(MinMaxExpr);

	extreme->minmaxtype = FLOAT8OID;
	extreme->op = op;
	extreme->args = args;
	extreme->location = -1;
	return (Expr *) extreme;
}

/* What the sums in an expression add up, without their signs; NULL: there is none. */
static Expr *
batch_scale(Node *expr)
{
	List *sums = NIL;
	List *scales = NIL;
	ListCell *lc;

	(void) batch_find_sums(expr, &sums);
	foreach (lc, sums)
	{
		const Aggref *aggref = lfirst_node(Aggref, lc);
		Const *largest = makeConst(FLOAT8OID, -1, InvalidOid, sizeof(float8),
		                           Float8GetDatum(atof(SB_VERIFY_LARGEST)), false, FLOAT8PASSBYVAL);
		Expr *size =
		    (Expr *) makeFuncExpr(F_ABS_FLOAT8, FLOAT8OID, list_make1(batch_argument(aggref)),
		                          InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);

		size = batch_extreme(IS_LEAST, list_make2(size, largest));
		scales = lappend(scales, batch_sum(aggref, size));
	}
	return scales == NIL ? NULL : batch_extreme(IS_GREATEST, scales);
}

/* One more column, of a name that is not there yet. */
static char *
batch_add_column(Query *query, Expr *expr)
{
	char *name = NULL;
	bool taken = true;

	for (int i = list_length(query->targetList) + 1; taken; i++)
	{
		ListCell *lc;

		name = psprintf("c%d", i);
		taken = false;
		foreach (lc, query->targetList)
		{
			const char *other = lfirst_node(TargetEntry, lc)->resname;

			taken |= other && strcmp(other, name) == 0;
		}
	}
	query->targetList =
	    lappend(query->targetList,
	            makeTargetEntry(expr, list_length(query->targetList) + 1, name, false));
	query->hasAggs = true;
	return name;
}

static Expr *
batch_count(void)
{
	Aggref *count = makeNode(Aggref);

	count->aggfnoid = F_COUNT_;
	count->aggtype = INT8OID;
	count->aggstar = true;
	count->aggkind = AGGKIND_NORMAL;
	count->aggno = count->aggtransno = -1;
	count->location = -1;
	return (Expr *) count;
}

/* The view's query with the columns more. */
static void
batch_extend(SbVerifyBatch *batch, const SbPipelineRow *row)
{
	Query *query = sb_view_definition(row, NULL);
	List *columns = list_copy(query->targetList);
	int column = 0;
	ListCell *lc;

	foreach (lc, columns)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, lc);
		Expr *scale;

		if (entry->resjunk)
			continue;
		scale = batch->inexact[column] ? batch_scale((Node *) entry->expr) : NULL;
		if (scale)
		{
			batch->scale[column] = batch->nscales;
			batch->scales[batch->nscales++] = batch_add_column(query, scale);
		}
		entry->expr = (Expr *) batch_widen((Node *) entry->expr, NULL);
		column++;
	}
	query->havingQual = batch_widen(query->havingQual, NULL);
	batch->count = batch_add_column(query, batch_count());
	batch->from = psprintf("(%s)", pg_get_querydef(query, false));
}

SbVerifyBatch *
sb_verify_batch(const SbPipelineRow *row, const SbPlan *plan)
{
	SbVerifyBatch *batch = palloc0(sizeof(SbVerifyBatch));
	bool inexact = false;

	batch->scales = palloc0(sizeof(char *) * plan->ncolumns);
	batch->scale = palloc(sizeof(int) * plan->ncolumns);
	batch->inexact = palloc0(sizeof(bool) * plan->ncolumns);
	batch->single = palloc0(sizeof(bool) * plan->ncolumns);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		batch->scale[i] = -1;
		batch_look_at(batch, row, plan, i);
		inexact |= batch->inexact[i];
	}
	if (inexact)
		batch_extend(batch, row);
	else
		batch->from = sb_sql_relation(row->view);
	return batch;
}

/* ---- noise ---- */

/* By how much the text of a number is off, relative to it: with extra_float_digits below 1. */
static double
noise_of_text(const SbPlan *plan, int column)
{
	int extra = atoi(GetConfigOption("extra_float_digits", false, false));
	bool single = plan->columns_out[column].type == FLOAT4OID;
	int digits = Max((single ? FLT_DIG : DBL_DIG) + extra, 1);

	return extra > 0 ? (single ? FLT_EPSILON : DBL_EPSILON) : pow(10, 1 - digits);
}

bool
sb_verify_is_noise(const SbVerifyBatch *batch, const SbPlan *plan, int column, double result,
                   double expected, int64 rows, double scale)
{
	double value = Max(fabs(result), fabs(expected));
	double unit = batch->single[column] ? FLT_EPSILON / 2 : DBL_EPSILON / 2;
	double sums = SB_VERIFY_SUMS * unit * (rows + 1) * Max(value, scale);

	if (!batch->inexact[column])
		return false;
	/* in halves: the difference of two large ones is no double */
	return fabs(result / 2 - expected / 2) <= (sums + noise_of_text(plan, column) * value) / 2;
}
