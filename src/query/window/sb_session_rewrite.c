/*
 * sb_session_rewrite.c: rewrites a query that groups by the windows of beam.session, so that they
 * are merged; see the header.
 *
 *     SELECT w.window_start, w.window_end, key, aggregates FROM src, beam.session(ts, gap) w
 *      WHERE quals GROUP BY w.window_start, w.window_end, key
 *
 * becomes the same over
 *
 *     FROM (SELECT needed columns, session_start(ts, gap) OVER win, session_end(ts, gap) OVER win
 *             FROM src WHERE quals AND ts IS NOT NULL WINDOW win AS (PARTITION BY key ORDER BY ts))
 *             w
 *
 * where src is whatever else stands in FROM. Conditions on the window's columns stay outside and so
 * see merged sessions. A shape that cannot be rewritten is an error: proto-windows would look like
 * an answer.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parse_relation.h"
#include "parser/parsetree.h"
#include "query/window/sb_session_rewrite.h"
#include "rewrite/rewriteManip.h"

/* columns of a window function */
#define WINDOW_START 1
#define WINDOW_END 2

/* ---- looking at a query ---- */

/*
 * The argument with that number, whichever way the call was written (names are resolved only in
 * planning).
 */
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

/*
 * Never true: all of the expression is looked at. A Var in a subquery counts if it is of the query
 * that the walk began in.
 */
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
	Oid session_start; /* the functions that merge */
	Oid session_end;
	Query *outer;
	Index window; /* range table index of the session function */
	Node *time;   /* its arguments */
	Node *gap;
	List *keys;        /* Expr of each group key that is not the window's */
	List *key_clauses; /* their SortGroupClauses in the outer query */
	List *outer_quals; /* conditions on the window */
	/* range table indexes that the inner query does not have: the window's, dissolved joins' */
	Bitmapset *gone;
	Query *inner;
	AttrNumber start; /* the inner query's columns */
	AttrNumber end;
	int depth; /* of the mapper, in subqueries of the outer query */
} Rewrite;

void
sb_session_unsupported(const char *reason)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	     errmsg("this query groups by the windows of beam.session in a way that is not supported"),
	     errdetail("%s", reason),
	     errhint(
	         "Write it as FROM source, beam.session(ts, gap) w GROUP BY w.window_start, w.window_end and keys of the source, with the rest in a subquery.")));
}

/*
 * Takes the window function out of the jointree: returns what is left of `node` as a list of FROM
 * items. Inner joins on the way to it are dissolved, their conditions collected.
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
		sb_session_unsupported("The session function is part of an outer join.");
	*found = true;
	rewrite->gone = bms_add_member(rewrite->gone, join->rtindex);
	*quals = list_concat(*quals, make_ands_implicit((Expr *) join->quals));
	return list_concat(left, right);
}

void
sb_session_resolve_joins(Query *query)
{
	ListCell *cell;
	bool joins = false;

	foreach (cell, query->rtable)
		joins |= ((RangeTblEntry *) lfirst(cell))->rtekind == RTE_JOIN;
	if (!joins)
		return;
	query->targetList = (List *) flatten_join_alias_vars(NULL, query, (Node *) query->targetList);
	query->havingQual = flatten_join_alias_vars(NULL, query, query->havingQual);
	query->jointree->quals = flatten_join_alias_vars(NULL, query, query->jointree->quals);
	foreach (cell, query->rtable)
	{
		RangeTblEntry *rte = lfirst(cell);

		if (rte->rtekind == RTE_FUNCTION)
			rte->functions = (List *) flatten_join_alias_vars(NULL, query, (Node *) rte->functions);
	}
}

/*
 * Sorts the group keys out: those of the source partition the rows, those of the window follow from
 * it.
 */
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
			sb_session_unsupported("A group key mixes the window with the source's columns.");
		if (used.found)
			continue;
		if (expression_returns_set(key))
			sb_session_unsupported("A group key returns a set.");
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
	                         name != NULL ? pstrdup(name)
	                                      : psprintf("column%d",
	                                                 list_length(rewrite->inner->targetList) + 1),
	                         false);
	rewrite->inner->targetList = lappend(rewrite->inner->targetList, column);
	return column;
}

/* A reference from the outer query to a column of the inner one. */
static Var *
outer_var(Rewrite *rewrite, AttrNumber column)
{
	Node *expr = (Node *) list_nth_node(TargetEntry, rewrite->inner->targetList, column - 1)->expr;

	return makeVar(1, column, exprType(expr), exprTypmod(expr), exprCollation(expr),
	               rewrite->depth);
}

/* `w` as a whole: a row of its two columns */
static Node *
whole_window(Rewrite *rewrite)
{
	RowExpr *row = makeNode(RowExpr);

	row->args = list_make2(outer_var(rewrite, rewrite->start), outer_var(rewrite, rewrite->end));
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->colnames =
	    list_make2(makeString(pstrdup("window_start")), makeString(pstrdup("window_end")));
	row->location = -1;
	return (Node *) row;
}

/*
 * The inner query's column for a Var of the outer one, made where it is missing; a reference to the
 * window becomes one to the merged session.
 */
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
	SortGroupClause *sort =
	    like != NULL ? copyObject(unconstify(SortGroupClause *, like)) : makeNode(SortGroupClause);

	if (like == NULL)
		get_sort_group_operators(exprType(expr), true, true, false, &sort->sortop, &sort->eqop,
		                         NULL, &sort->hashable);
	sort->tleSortGroupRef =
	    assignSortGroupRef(inner_column(rewrite, expr, NULL), rewrite->inner->targetList);
	return sort;
}

/* The inner query gets the bounds of the merged session that each row is in. */
static void
add_session_columns(Rewrite *rewrite)
{
	WindowClause *window = makeNode(WindowClause);
	ListCell *key;
	ListCell *clause;

	window->winref = 1;
	window->frameOptions = FRAMEOPTION_DEFAULTS;
	rewrite->start = inner_column(rewrite, (Node *) session_call(rewrite, rewrite->session_start),
	                              "window_start")
	                     ->resno;
	rewrite->end =
	    inner_column(rewrite, (Node *) session_call(rewrite, rewrite->session_end), "window_end")
	        ->resno;
	forboth(key, rewrite->keys, clause, rewrite->key_clauses) window->partitionClause =
	    lappend(window->partitionClause, window_sort(rewrite, lfirst(key), lfirst(clause)));
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
	foreach (cell, (List *) flatten_join_alias_vars(NULL, outer, (Node *) quals))
	{
		if (find_references(lfirst(cell), window).found)
			rewrite->outer_quals = lappend(rewrite->outer_quals, lfirst(cell));
		else
			inner_quals = lappend(inner_quals, lfirst(cell));
	}
	rewrite->inner->jointree = makeFromExpr(items, (Node *) make_ands_explicit(inner_quals));
}

/*
 * The inner query's range table: the outer one's, with nothing in the places of what is gone, so
 * that indexes stay.
 */
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
		rte->eref->colnames = lappend(rte->eref->colnames,
		                              makeString(pstrdup(((TargetEntry *) lfirst(cell))->resname)));
	rte->inFromCl = true;
	return rte;
}

void
sb_session_rewrite(Query *query, Index window, FuncExpr *call, Oid session_start, Oid session_end)
{
	Rewrite rewrite = {.outer = query,
	                   .window = window,
	                   .gone = bms_make_singleton(window),
	                   .session_start = session_start,
	                   .session_end = session_end};
	RangeTblRef *reference = makeNode(RangeTblRef);
	Query *inner = makeNode(Query);
	List *outer_quals;

	if (query->groupingSets != NIL)
		sb_session_unsupported("GROUPING SETS, CUBE and ROLLUP cannot be combined with sessions.");
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
		sb_session_unsupported("A join condition inside an outer join uses the window.");
	{
		References lateral = {.wanted = rewrite.gone};

		(void) range_table_walker(inner->rtable, references_walker, &lateral,
		                          QTW_IGNORE_JOINALIASES);
		if (lateral.found)
			sb_session_unsupported("Another item in FROM uses the window.");
	}
	add_session_columns(&rewrite);

	query->targetList = (List *) map_expression((Node *) query->targetList, &rewrite);
	query->havingQual = map_expression(query->havingQual, &rewrite);
	outer_quals = (List *) map_expression((Node *) rewrite.outer_quals, &rewrite);
	deepen(inner);
	sb_query_move_permissions(query, inner);
	reference->rtindex = 1;
	query->rtable = list_make1(subquery_entry(inner));
	query->jointree =
	    makeFromExpr(list_make1(reference),
	                 outer_quals == NIL ? NULL : (Node *) make_ands_explicit(outer_quals));
}
