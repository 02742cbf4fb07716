/*
 * sb_session_batch.c: makes beam.session and beam.pane_timestamp right in a batch query.
 *
 * A set-returning function sees one row, so beam.session can only give proto-windows, whose merging
 * needs all rows of a key. Before planning, a query that groups by the function's columns is
 * rewritten (sb_session_rewrite.c), whatever the depth at which it stands. A query that does not
 * group by them is left alone. Beside that, beam.pane_timestamp() becomes the last instant of the
 * window.
 *
 * Not seen: a query inside an SQL function that the planner inlines, because that happens after
 * this hook.
 *
 * RULES. The hook works on the planner's own copy of the query tree, in place. Queries in databases
 * without the extension cost one test; others a walk over their range tables, and over their
 * expressions only where there are subqueries in them.
 *
 * STATE. `objects`: the functions' OIDs, forgotten when pg_proc or pg_namespace change.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/sb_compat.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "query/window/sb_session_batch.h"
#include "query/window/sb_session_rewrite.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* columns of a window function */
#define WINDOW_START 1
#define WINDOW_END 2

static planner_hook_type previous_hook = NULL;

/* ---- the functions ---- */

static struct
{
	bool registered; /* we are told of changes */
	bool valid;
	Oid session; /* InvalidOid: the extension is not here */
	Oid session_start;
	Oid session_end;
	Oid pane_timestamp;
	Oid max_timestamp;
} objects;

static void
forget_objects(Datum arg, int cache, uint32 hash)
{
	objects.valid = false;
}

/*
 * The function, if its C symbol is ours: somebody else's schema beam must not be mistaken for the
 * extension.
 */
static Oid
find_function(Oid schema, const char *name, const char *symbol, int nargs, const Oid *types)
{
	oidvector *arguments = buildoidvector(types, nargs);
	HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name),
	                                  PointerGetDatum(arguments), ObjectIdGetDatum(schema));
	Oid found = InvalidOid;

	pfree(arguments);
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	found = ((Form_pg_proc) GETSTRUCT(tuple))->oid;
	if (symbol != NULL)
	{
		bool isnull;
		Datum source = SysCacheGetAttr(PROCNAMEARGSNSP, tuple, Anum_pg_proc_prosrc, &isnull);

		if (isnull || ((Form_pg_proc) GETSTRUCT(tuple))->prolang != ClanguageId ||
		    strcmp(TextDatumGetCString(source), symbol) != 0)
			found = InvalidOid;
	}
	ReleaseSysCache(tuple);
	return found;
}

/*
 * Looks for all of them; objects.session comes last, and only if all others are there. Without it
 * nothing is rewritten.
 */
static void
find_objects(void)
{
	static const Oid time_gap[] = {TIMESTAMPTZOID, INTERVALOID};
	Oid schema;

	if (!objects.registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_objects, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_objects, (Datum) 0);
		objects.registered = true;
	}
	/* set first: an invalidation during the look-ups below makes the next call look again */
	objects.valid = true;
	objects.session = InvalidOid;
	schema = get_namespace_oid("beam", true);
	if (!OidIsValid(schema))
		return;
	objects.session_start =
	    find_function(schema, "session_start", "stream_beam_session_start", 2, time_gap);
	objects.session_end =
	    find_function(schema, "session_end", "stream_beam_session_end", 2, time_gap);
	objects.pane_timestamp =
	    find_function(schema, "pane_timestamp", "stream_beam_pane_timestamp", 0, time_gap);
	objects.max_timestamp = find_function(schema, "window_max_timestamp",
	                                      "stream_beam_window_max_timestamp", 1, time_gap);
	if (OidIsValid(objects.session_start) && OidIsValid(objects.session_end) &&
	    OidIsValid(objects.pane_timestamp) && OidIsValid(objects.max_timestamp))
		objects.session = find_function(schema, "session", NULL, 2, time_gap);
}

/* ---- looking at a query ---- */

static FuncExpr *
function_call(const RangeTblEntry *rte)
{
	RangeTblFunction *function;

	if (rte->rtekind != RTE_FUNCTION || list_length(rte->functions) != 1 || rte->funcordinality)
		return NULL;
	function = linitial(rte->functions);
	return IsA(function->funcexpr, FuncExpr) ? (FuncExpr *) function->funcexpr : NULL;
}

static bool
is_session(const RangeTblEntry *rte)
{
	FuncExpr *call = function_call(rte);

	return call != NULL && call->funcid == objects.session;
}

/* Does the function give (window_start, window_end), as all window functions do? */
static bool
is_window_function(const RangeTblEntry *rte)
{
	FuncExpr *call = function_call(rte);
	TupleDesc columns;

	if (call == NULL || !call->funcretset)
		return false;
	columns = get_expr_result_tupdesc((Node *) call, true);
	return columns != NULL && columns->natts >= 2 &&
	       strcmp(NameStr(TupleDescAttr(columns, 0)->attname), "window_start") == 0 &&
	       strcmp(NameStr(TupleDescAttr(columns, 1)->attname), "window_end") == 0 &&
	       TupleDescAttr(columns, 1)->atttypid == TIMESTAMPTZOID;
}

static bool
groups_by_window(Query *query, Index window)
{
	ListCell *cell;

	foreach (cell, query->groupClause)
	{
		Node *key = get_sortgroupclause_expr(lfirst(cell), query->targetList);

		if (IsA(key, Var) && ((Var *) key)->varno == window && ((Var *) key)->varlevelsup == 0 &&
		    (((Var *) key)->varattno == WINDOW_START || ((Var *) key)->varattno == WINDOW_END))
			return true;
	}
	return false;
}

/* ---- pane_timestamp() ---- */

static bool
is_pane_timestamp(Node *node)
{
	return IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == objects.pane_timestamp;
}

static bool
uses_pane_timestamp(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (is_pane_timestamp(node))
		return true;
	return expression_tree_walker(node, uses_pane_timestamp, context);
}

/* context: the range table index of the window function */
static Node *
replace_pane_timestamp(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (is_pane_timestamp(node))
	{
		Var *end = makeVar(*(Index *) context, WINDOW_END, TIMESTAMPTZOID, -1, InvalidOid, 0);

		return (Node *) makeFuncExpr(objects.max_timestamp, TIMESTAMPTZOID, list_make1(end),
		                             InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	}
	return expression_tree_mutator(node, replace_pane_timestamp, context);
}

static void
fill_pane_timestamp(Query *query)
{
	ListCell *cell;

	if (!uses_pane_timestamp((Node *) query->targetList, NULL) &&
	    !uses_pane_timestamp(query->havingQual, NULL))
		return;
	foreach (cell, query->rtable)
	{
		Index window = foreach_current_index(cell) + 1;

		if (!is_window_function(lfirst(cell)))
			continue;
		query->targetList = (List *) replace_pane_timestamp((Node *) query->targetList, &window);
		query->havingQual = replace_pane_timestamp(query->havingQual, &window);
		return;
	}
}

/* ---- the walk ---- */

/*
 * One query, without those inside it. Sessions are merged only where it groups by their columns;
 * where that cannot be done it is an error, since windows that are not merged would look like an
 * answer.
 */
static void
rewrite_query(Query *query)
{
	Index window = 0;
	int functions = 0;
	int sessions = 0;
	ListCell *cell;

	if (query->commandType != CMD_SELECT || query->groupClause == NIL)
		return;
	foreach (cell, query->rtable)
	{
		if (((RangeTblEntry *) lfirst(cell))->rtekind == RTE_FUNCTION)
			functions++;
		if (is_session(lfirst(cell)))
		{
			window = foreach_current_index(cell) + 1;
			sessions++;
		}
	}
	if (functions == 0)
		return;
	sb_flatten_groups(query);
	fill_pane_timestamp(query);
	if (sessions == 0)
		return;
	sb_session_resolve_joins(query);
	if (sessions > 1 || !groups_by_window(query, window))
	{
		for (int i = 1; sessions > 1 && i <= list_length(query->rtable); i++)
			if (is_session(rt_fetch(i, query->rtable)) && groups_by_window(query, i))
				sb_session_unsupported("There are several session functions in FROM.");
		return;
	}
	sb_session_rewrite(query, window, function_call(rt_fetch(window, query->rtable)),
	                   objects.session_start, objects.session_end);
}

/* Rewrites all queries in a tree, innermost first. */
static bool
rewrite_walker(Node *node, void *context)
{
	Query *query = (Query *) node;
	ListCell *cell;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, rewrite_walker, context);
	check_stack_depth();
	if (query->hasSubLinks)
		(void) query_tree_walker(query, rewrite_walker, context, 0);
	else
	{
		foreach (cell, query->rtable)
			(void) rewrite_walker((Node *) ((RangeTblEntry *) lfirst(cell))->subquery, context);
		foreach (cell, query->cteList)
			(void) rewrite_walker(((CommonTableExpr *) lfirst(cell))->ctequery, context);
	}
	rewrite_query(query);
	return false;
}

static PlannedStmt *
plan_query(Query *query, const char *text, int options, ParamListInfo parameters)
{
	if (!objects.valid)
		find_objects();
	if (OidIsValid(objects.session))
		(void) rewrite_walker((Node *) query, NULL);
	return previous_hook != NULL ? previous_hook(query, text, options, parameters)
	                             : standard_planner(query, text, options, parameters);
}

void
sb_session_batch_install(void)
{
	previous_hook = planner_hook;
	planner_hook = plan_query;
}
