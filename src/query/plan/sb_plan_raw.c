/*
 * sb_plan_raw.c: adds the window's columns to a SELECT that groups by them and does not show them.
 *
 * This is done before parse analysis, so that the view made of the query has the columns too. No
 * catalog is asked, hence nothing tells a window function from another function in FROM, but GROUP
 * BY does: what is put in front is what GROUP BY says, `w.window_start` as the user wrote it. A
 * query that does not group by its window is left alone; sb_plan_build() will say so.
 *
 * Also here, since only the raw tree knows: where in the text an item of FROM stands.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "parser/parser.h"
#include "query/plan/sb_plan_private.h"

/* How the query calls the window function and its columns. */
typedef struct WindowNames
{
	const char *alias;
	const char *start;
	const char *end;
} WindowNames;

/* The function's name, schema left out, or NULL if the item is no plain function call. */
static char *
function_name(RangeFunction *function)
{
	Node *call = linitial(linitial_node(List, function->functions));

	return IsA(call, FuncCall) ? strVal(llast(((FuncCall *) call)->funcname)) : NULL;
}

static bool
is_in_schema_beam(RangeFunction *function)
{
	Node *call = linitial(linitial_node(List, function->functions));

	return IsA(call, FuncCall) && list_length(((FuncCall *) call)->funcname) == 2 &&
	       strcmp(strVal(linitial(((FuncCall *) call)->funcname)), "beam") == 0;
}

static List *
find_functions(Node *item, List *found)
{
	if (IsA(item, RangeFunction))
		return lappend(found, item);
	if (IsA(item, JoinExpr))
		return find_functions(((JoinExpr *) item)->rarg,
		                      find_functions(((JoinExpr *) item)->larg, found));
	return found;
}

/* The one function in FROM, or the one of schema beam among several; NULL: none, or no telling. */
static RangeFunction *
find_window_function(SelectStmt *select)
{
	List *all = NIL;
	List *ours = NIL;
	ListCell *cell;

	foreach (cell, select->fromClause)
		all = find_functions(lfirst(cell), all);
	foreach (cell, all)
	{
		if (is_in_schema_beam(lfirst(cell)))
			ours = lappend(ours, lfirst(cell));
	}
	if (list_length(all) == 1)
		return linitial(all);
	return list_length(ours) == 1 ? linitial(ours) : NULL;
}

static WindowNames
window_names(RangeFunction *function)
{
	WindowNames names = {function_name(function), "window_start", "window_end"};
	List *columns;

	if (function->alias == NULL)
		return names;
	names.alias = function->alias->aliasname;
	columns = function->alias->colnames;
	if (list_length(columns) > 0)
		names.start = strVal(linitial(columns));
	if (list_length(columns) > 1)
		names.end = strVal(lsecond(columns));
	return names;
}

/* Is this `name` or `alias.name`? With a NULL name: `*` or `alias.*`? */
static bool
is_reference(Node *node, const char *alias, const char *name)
{
	List *fields;
	Node *last;

	if (node == NULL || !IsA(node, ColumnRef))
		return false;
	fields = ((ColumnRef *) node)->fields;
	last = llast(fields);
	if (list_length(fields) > 2)
		return false;
	if (list_length(fields) == 2 && (alias == NULL || strcmp(strVal(linitial(fields)), alias) != 0))
		return false;
	if (name == NULL)
		return IsA(last, A_Star);
	return IsA(last, String) && strcmp(strVal(last), name) == 0;
}

static bool
is_selected(SelectStmt *select, const char *alias, const char *name)
{
	ListCell *cell;

	foreach (cell, select->targetList)
	{
		Node *value = lfirst_node(ResTarget, cell)->val;

		if (is_reference(value, alias, name) || is_reference(value, alias, NULL))
			return true;
	}
	return false;
}

static Node *
find_grouped(SelectStmt *select, const char *alias, const char *name)
{
	ListCell *cell;

	foreach (cell, select->groupClause)
	{
		if (is_reference(lfirst(cell), alias, name))
			return lfirst(cell);
	}
	return NULL;
}

static ResTarget *
make_target(Node *reference)
{
	ResTarget *target = makeNode(ResTarget);

	target->val = copyObject(reference);
	target->location = ((ColumnRef *) reference)->location;
	return target;
}

/* `GROUP BY 1` still means the column it meant before `added` ones were put in front. */
static void
shift_ordinals(SelectStmt *select, int added)
{
	ListCell *cell;

	foreach (cell, select->groupClause)
	{
		A_Const *constant = lfirst(cell);

		if (IsA(constant, A_Const) && !constant->isnull && IsA(&constant->val.node, Integer) &&
		    constant->val.ival.ival > 0 && constant->val.ival.ival <= PG_INT32_MAX - added)
			constant->val.ival.ival += added;
	}
}

void
sb_plan_add_window_columns(RawStmt *stmt)
{
	SelectStmt *select = (SelectStmt *) stmt->stmt;
	RangeFunction *function;
	WindowNames names;
	Node *start;
	Node *end;
	List *added = NIL;

	if (!IsA(select, SelectStmt) || select->op != SETOP_NONE ||
	    (function = find_window_function(select)) == NULL)
		return;
	names = window_names(function);
	start = find_grouped(select, names.alias, names.start);
	end = find_grouped(select, names.alias, names.end);
	if (start != NULL && !is_selected(select, names.alias, names.start))
		added = lappend(added, make_target(start));
	if (end != NULL && !is_selected(select, names.alias, names.end))
		added = lappend(added, make_target(end));
	if (added == NIL)
		return;
	shift_ordinals(select, list_length(added));
	select->targetList = list_concat(added, select->targetList);
}

/* ---- locations in FROM ---- */

/*
 * Counts as parse analysis does: an item after those in it, a join after its sides. True: item
 * number *left was found.
 */
static bool
find_item(Node *item, Index *left, int *location)
{
	if (IsA(item, JoinExpr) && (find_item(((JoinExpr *) item)->larg, left, location) ||
	                            find_item(((JoinExpr *) item)->rarg, left, location)))
		return true;
	if (IsA(item, RangeTableSample))
		return find_item(((RangeTableSample *) item)->relation, left, location);
	if (--*left > 0)
		return false;
	/* subqueries know no location */
	if (IsA(item, RangeFunction))
		*location =
		    exprLocation(linitial(linitial_node(List, ((RangeFunction *) item)->functions)));
	else if (IsA(item, RangeVar) || IsA(item, RangeTableFunc))
		*location = exprLocation(item);
	return true;
}

int
sb_plan_item_location(const char *text, Index rti)
{
	List *statements = raw_parser(text, RAW_PARSE_DEFAULT);
	SelectStmt *select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	int location = -1;
	ListCell *cell;

	if (!IsA(select, SelectStmt) || select->op != SETOP_NONE)
		return -1;
	foreach (cell, select->fromClause)
	{
		if (find_item(lfirst(cell), &rti, &location))
			return location;
	}
	return -1;
}
