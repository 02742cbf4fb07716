/*
 * sb_query.c: opens a plan, and what a source row means to it: filter, event time, windows.
 *
 * MEMORY. See sb_query_private.h. An open query lives over many transactions; it holds no relation,
 * no snapshot and no tuplestore between calls. After an error in any call the query stays usable,
 * the accumulators that were passed in do not.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "query/sb_query_private.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

/*
 * A custom window function that gives more windows than this for one row has gone wild: each is a
 * cell.
 */
#define SB_CUSTOM_WINDOWS_MAX 10000

/* ---- opening ---- */

void
sb_expr_open(SbQuery *query, SbExpr *expr, Expr *node)
{
	Expr *bare = node;

	while (IsA(bare, RelabelType)) /* changes no bits */
		bare = ((RelabelType *) bare)->arg;
	if (IsA(bare, Var) && ((Var *) bare)->varattno > 0)
	{
		Var *var = (Var *) bare;
		TupleDesc desc = query->slot->tts_tupleDescriptor;

		/* the executor checks its own columns likewise */
		if (var->varattno > desc->natts ||
		    TupleDescAttr(desc, var->varattno - 1)->atttypid != var->vartype)
			ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
			                errmsg("attribute %d of relation %u has been changed or dropped",
			                       var->varattno, query->plan->source)));
		expr->attno = var->varattno;
		expr->state = NULL;
		return;
	}
	expr->attno = 0;
	expr->state = ExecInitExpr(node, NULL);
}

static void
query_open_row(SbQuery *query)
{
	Relation relation = table_open(query->plan->source, AccessShareLock);
	TupleDesc desc = CreateTupleDescCopy(RelationGetDescr(relation));

	table_close(relation, NoLock);
	if (query->plan->max_attno > desc->natts)
		elog(ERROR, "plan uses attribute %d of relation %u, which has %d", query->plan->max_attno,
		     query->plan->source, desc->natts);
	query->slot = (TupleTableSlot *) sb_row_create(desc, query->plan->source);
	query->econtext = CreateStandaloneExprContext();
	query->econtext->ecxt_scantuple = query->slot;
}

static void
query_open_filter(SbQuery *query)
{
	ListCell *lc;

	foreach (lc, query->plan->filter)
	{
		Const *constant = lfirst(lc);

		if (IsA(constant, Const) && (constant->constisnull || !DatumGetBool(constant->constvalue)))
			query->filter_false = true;
	}
	query->filter = ExecInitQual(query->plan->filter, NULL);
}

static void
query_refuse_custom(SbQuery *query)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_DATATYPE_MISMATCH),
	     errmsg("function %s is not a window function",
	            format_procedure(query->plan->window_call->funcid)),
	     errdetail(
	         "A window function returns rows (window_start timestamptz, window_end timestamptz).")));
}

/*
 * The columns of a custom window function's result: by their names, or the first two. Error 42804.
 */
static void
query_find_custom_columns(SbQuery *query)
{
	TupleDesc desc = query->custom_desc;

	query->custom_start = 1;
	query->custom_end = 2;
	for (int i = 0; i < desc->natts; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), "window_start") == 0)
			query->custom_start = i + 1;
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), "window_end") == 0)
			query->custom_end = i + 1;
	}
	if (desc->natts < 2 ||
	    TupleDescAttr(desc, query->custom_start - 1)->atttypid != TIMESTAMPTZOID ||
	    TupleDescAttr(desc, query->custom_end - 1)->atttypid != TIMESTAMPTZOID)
		query_refuse_custom(query);
}

/*
 * Makes a user's window function ready to be called, in memory of its own. Also after it has
 * failed: the function may have left a half-finished set behind, which a next call would go on
 * with.
 */
static void
query_open_custom(SbQuery *query)
{
	FuncExpr *call = query->plan->window_call;
	MemoryContext old;

	if (query->custom_memory != NULL)
		MemoryContextDelete(query->custom_memory);
	query->custom_memory =
	    AllocSetContextCreate(query->memory, "stream_beam window function", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(query->custom_memory);
	if (get_expr_result_type((Node *) call, NULL, &query->custom_desc) != TYPEFUNC_COMPOSITE)
		query_refuse_custom(query);
	query->custom_desc = CreateTupleDescCopy(query->custom_desc);
	query_find_custom_columns(query);
	/*
	 * an ExprContext of its own: the executor resets the one it is given for each row that the
	 * function returns
	 */
	query->custom_econtext = CreateStandaloneExprContext();
	query->custom_econtext->ecxt_scantuple = query->slot;
	query->custom_args = AllocSetContextCreate(query->custom_memory, "stream_beam window arguments",
	                                           ALLOCSET_SMALL_SIZES);
	query->custom_slot = MakeSingleTupleTableSlot(query->custom_desc, &TTSOpsMinimalTuple);
	query->custom = ExecInitTableFunctionResult((Expr *) call, query->custom_econtext, NULL);
	query->custom_running = false;
	MemoryContextSwitchTo(old);
}

static void
query_open_windows(SbQuery *query)
{
	query->global_window.start = SB_TIME_MIN;
	query->global_window.end = SB_TIME_MAX;
	if (query->plan->event_time != NULL)
		sb_expr_open(query, &query->event_time, query->plan->event_time);
	if (query->plan->window_kind == SB_WINDOW_CUSTOM)
		query_open_custom(query);
}

SbQuery *
sb_query_open(const SbPlan *plan, MemoryContext cells, MemoryContext bundle, bool retractable)
{
	MemoryContext memory =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam query", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(memory);
	SbQuery *query = palloc0(sizeof(SbQuery));

	sb_plan_spell_keys(unconstify(SbPlan *, plan), retractable);
	query->plan = plan;
	query->retractable = retractable;
	query->memory = memory;
	query->cells = cells;
	query->bundle = bundle;
	query->scratch =
	    AllocSetContextCreate(memory, "stream_beam query scratch", ALLOCSET_DEFAULT_SIZES);
	query->out = AllocSetContextCreate(memory, "stream_beam result row", ALLOCSET_DEFAULT_SIZES);
	query_open_row(query);
	query_open_filter(query);
	query_open_windows(query);
	sb_query_open_keys(query);
	sb_query_open_aggs(query);
	if (retractable && sb_query_merges(query))
		sb_query_open_element(query);
	sb_query_open_output(query);
	MemoryContextSwitchTo(old);
	return query;
}

void
sb_query_close(SbQuery *query)
{
	FreeExprContext(query->econtext, true);
	FreeExprContext(query->out_econtext, true);
	if (query->custom_econtext != NULL)
		FreeExprContext(query->custom_econtext, true);
	MemoryContextDelete(query->memory);
}

/* An expression that comes after the query has been opened. */
static void
query_open_late(SbQuery *query, SbExpr *into, Expr *expr)
{
	MemoryContext old = MemoryContextSwitchTo(query->memory);

	sb_expr_open(query, into, expr);
	MemoryContextSwitchTo(old);
}

void
sb_query_set_part(SbQuery *query, Expr *expr)
{
	query_open_late(query, &query->part, expr);
}

Datum
sb_query_part(SbQuery *query, bool *isnull)
{
	*isnull = true;
	if (query->part.attno == 0 && query->part.state == NULL)
		return (Datum) 0;
	return sb_expr_eval(query, &query->part, isnull);
}

void
sb_query_set_split(SbQuery *query, Expr *expr)
{
	query_open_late(query, &query->split, expr);
}

Datum
sb_query_split(SbQuery *query, bool *isnull)
{
	return sb_expr_eval(query, &query->split, isnull);
}

/* ---- windows of a row ---- */

/* One window out of a custom function's row. Error 22023. */
static SbWindow
query_custom_window(SbQuery *query)
{
	bool start_null, end_null;
	SbWindow window;

	window.start =
	    DatumGetTimestampTz(slot_getattr(query->custom_slot, query->custom_start, &start_null));
	window.end =
	    DatumGetTimestampTz(slot_getattr(query->custom_slot, query->custom_end, &end_null));
	if (start_null || end_null)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("window function %s returned a window with a null bound",
		                       format_procedure(query->plan->window_call->funcid)),
		                errhint("Return no row where there is no window.")));
	if (window.end <= window.start)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("window function %s returned a window that does not end after its start",
		                format_procedure(query->plan->window_call->funcid)),
		         errdetail("A window holds its start and not its end.")));
	return window;
}

/* Runs the user's window function for the current row; the result is in the row's memory. */
static int
query_custom_windows(SbQuery *query, SbWindow **windows)
{
	Tuplestorestate *store;
	int n = 0;
	int max = 4;
	SbWindow *result = MemoryContextAlloc(sb_row_memory(query), sizeof(SbWindow) * max);

	if (query->custom_running)
		query_open_custom(query);
	query->custom_running = true;
	MemoryContextReset(query->custom_args);
	store = ExecMakeTableFunctionResult(query->custom, query->custom_econtext, query->custom_args,
	                                    query->custom_desc, false);
	while (tuplestore_gettupleslot(store, true, false, query->custom_slot))
	{
		if (n == max)
		{
			max *= 2;
			result = repalloc(result, sizeof(SbWindow) * max);
		}
		if (n == SB_CUSTOM_WINDOWS_MAX)
			ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			                errmsg("window function %s returned more than %d windows for one row",
			                       format_procedure(query->plan->window_call->funcid),
			                       SB_CUSTOM_WINDOWS_MAX)));
		result[n++] = query_custom_window(query);
	}
	ExecClearTuple(query->custom_slot);
	tuplestore_end(store);
	query->custom_running = false;
	*windows = result;
	return n;
}

int
sb_query_windows(SbQuery *query, TimestampTz *event_time, SbWindow **windows)
{
	bool isnull;

	*event_time = SB_TIME_MIN;
	if (query->plan->window_kind == SB_WINDOW_GLOBAL)
	{
		*windows = &query->global_window;
		return 1;
	}
	*windows = NULL;
	*event_time = DatumGetTimestampTz(sb_expr_eval(query, &query->event_time, &isnull));
	if (isnull)
		*event_time = SB_TIME_MIN;
	if (query->custom != NULL)
		return query_custom_windows(query, windows);
	if (isnull)
		return 0;
	return sb_window_fn_assign(query->plan->window_fn, *event_time, windows);
}
