/*
 * sb_session_batch.c: makes beam.session and beam.pane_timestamp right in a batch query.
 *
 * WHAT. A set-returning function sees one row, so beam.session can only give proto-windows, whose merging needs all rows of a
 * key. Before planning,
 *
 *     SELECT w.window_start, w.window_end, key, aggregates FROM src, beam.session(ts, gap) w
 *      WHERE quals GROUP BY w.window_start, w.window_end, key
 *
 * becomes the same over
 *
 *     FROM (SELECT needed columns, session_start(ts, gap) OVER win, session_end(ts, gap) OVER win
 *             FROM src WHERE quals AND ts IS NOT NULL WINDOW win AS (PARTITION BY key ORDER BY ts)) w
 *
 * where src is whatever else stands in FROM. Conditions on the window's columns stay outside and so see merged sessions. A query that
 * does not group by the window's columns is left alone. One that does, in a shape that cannot be rewritten, is an error: proto-windows
 * would look like an answer. Beside that, beam.pane_timestamp() becomes the last instant of the window.
 *
 * Not seen: a query inside an SQL function that the planner inlines, because that happens after this hook.
 *
 * RULES. The hook works on the planner's own copy of the query tree, in place. Queries in databases without the extension cost one
 * test; others a walk over their range tables, and over their expressions only where there are subqueries in them.
 *
 * STATE. `objects`: the functions' OIDs, forgotten when pg_proc or pg_namespace change.
 */
#include "postgres.h"

#include "access/htup_details.h"
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
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "query/sb_session_batch.h"
#include "rewrite/rewriteManip.h"
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

/* The function, if its C symbol is ours: somebody else's schema beam must not be mistaken for the extension. */
static Oid
find_function(Oid schema, const char *name, const char *symbol, int nargs, const Oid *types)
{
	oidvector *arguments = buildoidvector(types, nargs);
	HeapTuple tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name), PointerGetDatum(arguments), ObjectIdGetDatum(schema));
	Oid found = InvalidOid;

	pfree(arguments);
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	found = ((Form_pg_proc) GETSTRUCT(tuple))->oid;
	if (symbol != NULL)
	{
		bool isnull;
		Datum source = SysCacheGetAttr(PROCNAMEARGSNSP, tuple, Anum_pg_proc_prosrc, &isnull);

		if (isnull || ((Form_pg_proc) GETSTRUCT(tuple))->prolang != ClanguageId || strcmp(TextDatumGetCString(source), symbol) != 0)
			found = InvalidOid;
	}
	ReleaseSysCache(tuple);
	return found;
}

static void
find_objects(void)
{
	static bool registered = false;
	static const Oid time_gap[] = {TIMESTAMPTZOID, INTERVALOID};
	Oid schema;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(PROCOID, forget_objects, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACEOID, forget_objects, (Datum) 0);
		registered = true;
	}
	/* set first: an invalidation during the look-ups below makes the next call look again */
	objects.valid = true;
	objects.session = InvalidOid;
	schema = get_namespace_oid("beam", true);
	if (!OidIsValid(schema))
		return;
	objects.session_start = find_function(schema, "session_start", "stream_beam_session_start", 2, time_gap);
	objects.session_end = find_function(schema, "session_end", "stream_beam_session_end", 2, time_gap);
	objects.pane_timestamp = find_function(schema, "pane_timestamp", "stream_beam_pane_timestamp", 0, time_gap);
	objects.max_timestamp = find_function(schema, "window_max_timestamp", "stream_beam_window_max_timestamp", 1, time_gap);
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

/* The argument with that number, whichever way the call was written (names are resolved only in planning). */
static Node *
call_argument(const FuncExpr *call, int number)
{
	ListCell *cell;

	foreach (cell, call->args)
	{
		Node *arg = lfirst(cell);

		if (IsA(arg, NamedArgExpr))
		{
			if (((NamedArgExpr *) arg)->argnumber == number)
				return (Node *) ((NamedArgExpr *) arg)->arg;
		}
		else if (foreach_current_index(cell) == number)
			return arg;
	}
	return NULL;
}

/* Which of the query's range table entries an expression uses. */
typedef struct References
{
	const Bitmapset *wanted;
	bool found; /* one that is wanted */
	bool other; /* one that is not */
	int depth;
} References;

static bool
references_walker(Node *node, void *context)
{
	References *references = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varlevelsup == references->depth)
		{
			if (bms_is_member(var->varno, references->wanted))
				references->found = true;
			else
				references->other = true;
		}
		return false;
	}
	if (IsA(node, Query))
	{
		references->depth++;
		(void) query_tree_walker((Query *) node, references_walker, context, 0);
		references->depth--;
		return false;
	}
	return expression_tree_walker(node, references_walker, context);
}

static References
find_references(Node *node, const Bitmapset *wanted)
{
	References references = {.wanted = wanted};

	(void) references_walker(node, &references);
	return references;
}

/* ---- the rewriting ---- */

typedef struct Rewrite
{
	Query *outer;
	Index window; /* range table index of the session function */
	Node *time;   /* its arguments */
	Node *gap;
	List *keys;        /* Expr of each group key that is not the window's */
	List *key_clauses; /* their SortGroupClauses in the outer query */
	List *outer_quals; /* conditions on the window */
	Bitmapset *gone;   /* range table indexes that the inner query does not have: the window's, dissolved joins' */
	Query *inner;
	AttrNumber start; /* the inner query's columns */
	AttrNumber end;
	int depth; /* of the mapper, in subqueries of the outer query */
} Rewrite;

static void
report_unsupported(const char *reason)
{
	ereport(ERROR,
	        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	         errmsg("this query groups by the windows of beam.session in a way that is not supported"),
	         errdetail("%s", reason),
	         errhint("Write it as FROM source, beam.session(ts, gap) w GROUP BY w.window_start, w.window_end and keys of the source, with the rest in a subquery.")));
}

/*
 * Takes the window function out of the jointree: returns what is left of `node` as a list of FROM items. Inner joins on the way to
 * it are dissolved, their conditions collected.
 */
static List *
detach_window(Rewrite *rewrite, Node *node, List **quals, bool *found)
{
	List *left;
	List *right;
	JoinExpr *join;
	bool here = false;

	if (IsA(node, RangeTblRef) && ((RangeTblRef *) node)->rtindex == rewrite->window)
	{
		*found = true;
		return NIL;
	}
	if (!IsA(node, JoinExpr))
		return list_make1(node);

	join = (JoinExpr *) node;
	left = detach_window(rewrite, join->larg, quals, &here);
	right = detach_window(rewrite, join->rarg, quals, &here);
	if (!here)
		return list_make1(node);
	if (join->jointype != JOIN_INNER)
		report_unsupported("The session function is part of an outer join.");
	*found = true;
	rewrite->gone = bms_add_member(rewrite->gone, join->rtindex);
	*quals = list_concat(*quals, make_ands_implicit((Expr *) join->quals));
	return list_concat(left, right);
}

/* What PostgreSQL 18 adds to a grouped query: Vars of a range table entry for the group keys. Undone, as its planner does first. */
static void
flatten_groups(Query *query)
{
#if PG_VERSION_NUM >= 180000
	ListCell *cell;

	if (!query->hasGroupRTE)
		return;
	query->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) query->targetList);
	query->havingQual = flatten_group_exprs(NULL, query, query->havingQual);
	query->hasGroupRTE = false;
	foreach (cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);

		if (rte->rtekind != RTE_GROUP)
			continue;
		rte->rtekind = RTE_RESULT;
		rte->groupexprs = NIL;
	}
#endif
}

/* Moves the permission checks of the outer query's tables to the inner one. Before 16 they are part of the range table entries. */
static void
move_permissions(Query *outer, Query *inner)
{
#if PG_VERSION_NUM >= 160000
	inner->rteperminfos = outer->rteperminfos;
	outer->rteperminfos = NIL;
#endif
}

static Node *
flatten_joins(Query *query, Node *node)
{
#if PG_VERSION_NUM >= 160000
	return flatten_join_alias_vars(NULL, query, node);
#else
	return flatten_join_alias_vars(query, node);
#endif
}

/* Replaces references to joins by references to what they join, so that joins can be dissolved. The planner would do so too. */
static void
resolve_join_columns(Query *query)
{
	ListCell *cell;
	bool joins = false;

	foreach (cell, query->rtable)
		joins |= ((RangeTblEntry *) lfirst(cell))->rtekind == RTE_JOIN;
	if (!joins)
		return;
	query->targetList = (List *) flatten_joins(query, (Node *) query->targetList);
	query->havingQual = flatten_joins(query, query->havingQual);
	query->jointree->quals = flatten_joins(query, query->jointree->quals);
	foreach (cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);

		if (rte->rtekind == RTE_FUNCTION)
			rte->functions = (List *) flatten_joins(query, (Node *) rte->functions);
	}
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

/* Sorts the group keys out: those of the source partition the rows, those of the window follow from it. */
static void
collect_keys(Rewrite *rewrite)
{
	Bitmapset *window = bms_make_singleton(rewrite->window);
	ListCell *cell;

	foreach (cell, rewrite->outer->groupClause)
	{
		Node *key = get_sortgroupclause_expr(lfirst(cell), rewrite->outer->targetList);
		References used = find_references(key, window);

		if (used.found && used.other)
			report_unsupported("A group key mixes the window with the source's columns.");
		if (used.found)
			continue;
		if (expression_returns_set(key))
			report_unsupported("A group key returns a set.");
		rewrite->keys = lappend(rewrite->keys, copyObject(key));
		rewrite->key_clauses = lappend(rewrite->key_clauses, lfirst(cell));
	}
}

/* The inner query's column with that value, made where it is missing. */
static TargetEntry *
inner_column(Rewrite *rewrite, const Node *expr, const char *name)
{
	ListCell *cell;
	TargetEntry *column;

	foreach (cell, rewrite->inner->targetList)
		if (equal(((TargetEntry *) lfirst(cell))->expr, expr))
			return lfirst(cell);
	column = makeTargetEntry((Expr *) copyObject(expr), list_length(rewrite->inner->targetList) + 1,
	                         name != NULL ? pstrdup(name) : psprintf("column%d", list_length(rewrite->inner->targetList) + 1), false);
	rewrite->inner->targetList = lappend(rewrite->inner->targetList, column);
	return column;
}

/* A reference from the outer query to a column of the inner one. */
static Var *
outer_var(Rewrite *rewrite, AttrNumber column)
{
	Node *expr = (Node *) list_nth_node(TargetEntry, rewrite->inner->targetList, column - 1)->expr;

	return makeVar(1, column, exprType(expr), exprTypmod(expr), exprCollation(expr), rewrite->depth);
}

/* `w` as a whole: a row of its two columns */
static Node *
whole_window(Rewrite *rewrite)
{
	RowExpr *row = makeNode(RowExpr);

	row->args = list_make2(outer_var(rewrite, rewrite->start), outer_var(rewrite, rewrite->end));
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->colnames = list_make2(makeString(pstrdup("window_start")), makeString(pstrdup("window_end")));
	row->location = -1;
	return (Node *) row;
}

static Node *
map_var(Rewrite *rewrite, const Var *var)
{
	Var *source;
	const char *name = NULL;
	RangeTblEntry *rte;

	if (var->varno == rewrite->window && var->varattno == WINDOW_START)
		return (Node *) outer_var(rewrite, rewrite->start);
	if (var->varno == rewrite->window && var->varattno == WINDOW_END)
		return (Node *) outer_var(rewrite, rewrite->end);
	if (var->varno == rewrite->window)
		return whole_window(rewrite);
	source = copyObject(unconstify(Var *, var));
	source->varlevelsup = 0;
	rte = rt_fetch(var->varno, rewrite->outer->rtable);
	if (var->varattno > 0)
		name = get_rte_attribute_name(rte, var->varattno);
	return (Node *) outer_var(rewrite, inner_column(rewrite, (Node *) source, name)->resno);
}

/* Rewrites an expression of the outer query into one over the inner query's columns. */
static Node *
map_expression(Node *node, void *context)
{
	Rewrite *rewrite = context;
	ListCell *cell;

	if (node == NULL)
		return NULL;
	if (rewrite->depth == 0 && !IsA(node, List))
		foreach (cell, rewrite->keys)
			if (equal(node, lfirst(cell)))
				return (Node *) outer_var(rewrite, inner_column(rewrite, node, NULL)->resno);
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == rewrite->depth)
		return map_var(rewrite, (Var *) node);
	if (IsA(node, Query))
	{
		Query *query;

		rewrite->depth++;
		query = query_tree_mutator((Query *) node, map_expression, context, 0);
		rewrite->depth--;
		return (Node *) query;
	}
	return expression_tree_mutator(node, map_expression, context);
}

static WindowFunc *
session_call(const Rewrite *rewrite, Oid function)
{
	WindowFunc *call = makeNode(WindowFunc);

	call->winfnoid = function;
	call->wintype = TIMESTAMPTZOID;
	call->args = list_make2(copyObject(rewrite->time), copyObject(rewrite->gap));
	call->winref = 1;
	call->location = -1;
	return call;
}

/* PARTITION BY or ORDER BY a value of the inner query */
static SortGroupClause *
window_sort(Rewrite *rewrite, const Node *expr, const SortGroupClause *like)
{
	SortGroupClause *sort = like != NULL ? copyObject(unconstify(SortGroupClause *, like)) : makeNode(SortGroupClause);

	if (like == NULL)
		get_sort_group_operators(exprType(expr), true, true, false, &sort->sortop, &sort->eqop, NULL, &sort->hashable);
	sort->tleSortGroupRef = assignSortGroupRef(inner_column(rewrite, expr, NULL), rewrite->inner->targetList);
	return sort;
}

static void
add_session_columns(Rewrite *rewrite)
{
	WindowClause *window = makeNode(WindowClause);
	ListCell *key;
	ListCell *clause;

	window->winref = 1;
	window->frameOptions = FRAMEOPTION_DEFAULTS;
	rewrite->start = inner_column(rewrite, (Node *) session_call(rewrite, objects.session_start), "window_start")->resno;
	rewrite->end = inner_column(rewrite, (Node *) session_call(rewrite, objects.session_end), "window_end")->resno;
	forboth(key, rewrite->keys, clause, rewrite->key_clauses)
	    window->partitionClause = lappend(window->partitionClause, window_sort(rewrite, lfirst(key), lfirst(clause)));
	window->orderClause = list_make1(window_sort(rewrite, rewrite->time, NULL));
	rewrite->inner->windowClause = list_make1(window);
	rewrite->inner->hasWindowFuncs = true;
}

static Node *
not_null(const Node *expr)
{
	NullTest *test = makeNode(NullTest);

	test->arg = (Expr *) copyObject(expr);
	test->nulltesttype = IS_NOT_NULL;
	test->location = -1;
	return (Node *) test;
}

/* The inner query's FROM and WHERE. */
static void
build_source(Rewrite *rewrite)
{
	Query *outer = rewrite->outer;
	Bitmapset *window = bms_make_singleton(rewrite->window);
	List *quals = make_ands_implicit((Expr *) outer->jointree->quals);
	List *items = NIL;
	List *inner_quals = list_make2(not_null(rewrite->time), not_null(rewrite->gap));
	bool found = false;
	ListCell *cell;

	foreach (cell, outer->jointree->fromlist)
		items = list_concat(items, detach_window(rewrite, lfirst(cell), &quals, &found));
	if (!found)
		elog(ERROR, "session function is not in the join tree");
	foreach (cell, (List *) flatten_joins(outer, (Node *) quals))
	{
		if (find_references(lfirst(cell), window).found)
			rewrite->outer_quals = lappend(rewrite->outer_quals, lfirst(cell));
		else
			inner_quals = lappend(inner_quals, lfirst(cell));
	}
	rewrite->inner->jointree = makeFromExpr(items, (Node *) make_ands_explicit(inner_quals));
}

/* The inner query's range table: the outer one's, with nothing in the places of what is gone, so that indexes stay. */
static void
build_range_table(Rewrite *rewrite)
{
	ListCell *cell;

	foreach (cell, rewrite->outer->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);

		if (bms_is_member(foreach_current_index(cell) + 1, rewrite->gone))
		{
			rte = makeNode(RangeTblEntry);
			rte->rtekind = RTE_RESULT;
			rte->eref = makeAlias("*RESULT*", NIL);
		}
		rewrite->inner->rtable = lappend(rewrite->inner->rtable, rte);
	}
}

/* Adds one to the references, from inside the inner query, to the outer query's own WITH list. */
static bool
deepen_ctes(Node *node, void *context)
{
	Index *depth = context;

	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE && rte->ctelevelsup == *depth)
			rte->ctelevelsup++;
		return false; /* query_tree_walker goes on into it */
	}
	if (IsA(node, Query))
	{
		(*depth)++;
		(void) query_tree_walker((Query *) node, deepen_ctes, context, QTW_EXAMINE_RTES_BEFORE);
		(*depth)--;
		return false;
	}
	return expression_tree_walker(node, deepen_ctes, context);
}

/* What was moved is one level deeper now. */
static void
deepen(Query *inner)
{
	Index depth = 0;

	IncrementVarSublevelsUp((Node *) inner, 1, 1);
	(void) query_tree_walker(inner, deepen_ctes, &depth, QTW_EXAMINE_RTES_BEFORE);
}

static RangeTblEntry *
subquery_entry(Query *inner)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ListCell *cell;

	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = inner;
	rte->eref = makeAlias("session", NIL);
	foreach (cell, inner->targetList)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(((TargetEntry *) lfirst(cell))->resname)));
	rte->inFromCl = true;
	return rte;
}

static void
rewrite_session(Query *query, Index window)
{
	FuncExpr *call = function_call(rt_fetch(window, query->rtable));
	Rewrite rewrite = {.outer = query, .window = window, .gone = bms_make_singleton(window)};
	RangeTblRef *reference = makeNode(RangeTblRef);
	Query *inner = makeNode(Query);
	List *outer_quals;

	if (query->groupingSets != NIL)
		report_unsupported("GROUPING SETS, CUBE and ROLLUP cannot be combined with sessions.");
	inner->commandType = CMD_SELECT;
	inner->querySource = QSRC_ORIGINAL;
	inner->canSetTag = true;
	inner->hasSubLinks = query->hasSubLinks;
	inner->hasRowSecurity = query->hasRowSecurity;
	inner->stmt_location = -1;
	rewrite.inner = inner;
	rewrite.time = call_argument(call, 0);
	rewrite.gap = call_argument(call, 1);

	collect_keys(&rewrite);
	build_source(&rewrite);
	build_range_table(&rewrite);
	if (find_references((Node *) inner->jointree, rewrite.gone).found ||
	    find_references((Node *) list_make2(rewrite.time, rewrite.gap), rewrite.gone).found)
		report_unsupported("A join condition inside an outer join uses the window.");
	{
		References lateral = {.wanted = rewrite.gone};

		(void) range_table_walker(inner->rtable, references_walker, &lateral, QTW_IGNORE_JOINALIASES);
		if (lateral.found)
			report_unsupported("Another item in FROM uses the window.");
	}
	add_session_columns(&rewrite);

	query->targetList = (List *) map_expression((Node *) query->targetList, &rewrite);
	query->havingQual = map_expression(query->havingQual, &rewrite);
	outer_quals = (List *) map_expression((Node *) rewrite.outer_quals, &rewrite);
	deepen(inner);
	move_permissions(query, inner);
	reference->rtindex = 1;
	query->rtable = list_make1(subquery_entry(inner));
	query->jointree = makeFromExpr(list_make1(reference), outer_quals == NIL ? NULL : (Node *) make_ands_explicit(outer_quals));
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

		return (Node *) makeFuncExpr(objects.max_timestamp, TIMESTAMPTZOID, list_make1(end), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	}
	return expression_tree_mutator(node, replace_pane_timestamp, context);
}

static void
fill_pane_timestamp(Query *query)
{
	ListCell *cell;

	if (!uses_pane_timestamp((Node *) query->targetList, NULL) && !uses_pane_timestamp(query->havingQual, NULL))
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
	flatten_groups(query);
	fill_pane_timestamp(query);
	if (sessions == 0)
		return;
	resolve_join_columns(query);
	if (sessions > 1 || !groups_by_window(query, window))
	{
		for (int i = 1; sessions > 1 && i <= list_length(query->rtable); i++)
			if (is_session(rt_fetch(i, query->rtable)) && groups_by_window(query, i))
				report_unsupported("There are several session functions in FROM.");
		return;
	}
	rewrite_session(query, window);
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
	return previous_hook != NULL ? previous_hook(query, text, options, parameters) : standard_planner(query, text, options, parameters);
}

void
sb_session_batch_install(void)
{
	previous_hook = planner_hook;
	planner_hook = plan_query;
}
