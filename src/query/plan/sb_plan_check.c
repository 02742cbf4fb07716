/*
 * sb_plan_check.c: what a pipeline's query must not contain, and what its owner must be allowed to
 * read.
 *
 * RULES. A result row must be a function of the source rows in its window and of nothing else: only
 * then is the stream's answer the batch's, and the replay after a crash the same as the first run.
 * Hence no volatile functions, no clock, no session. Of the STABLE functions those of PostgreSQL
 * are let through that depend on settings which the pipeline keeps (sb_plan_stable.c), and our own.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/transam.h"
#include "base/sb_compat.h"
#include "catalog/dependency.h"
#include "catalog/pg_aggregate.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "query/plan/sb_plan_private.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

static const struct
{
	const char *name;
	AttrNumber column;
} pane_functions[] = {{"pane_timing", SB_OUT_PANE_TIMING},
                      {"pane_index", SB_OUT_PANE_INDEX},
                      {"is_last_pane", SB_OUT_IS_LAST_PANE},
                      {"pane_timestamp", SB_OUT_PANE_TIMESTAMP}};

static const char *const place_names[] = {[SB_PLACE_SELECT] = "the select list",
                                          [SB_PLACE_HAVING] = "HAVING",
                                          [SB_PLACE_WHERE] = "WHERE",
                                          [SB_PLACE_GROUP] = "GROUP BY",
                                          [SB_PLACE_WINDOW] = "the window function's arguments",
                                          [SB_PLACE_AGGREGATE] = "an aggregate's arguments"};

typedef struct CheckContext
{
	const SbPlanBuild *build;
	SbPlanPlace place;
	Node *node; /* whose functions are being checked */
} CheckContext;

int
sb_plan_position(const SbPlanBuild *build, int location)
{
	if (location < 0)
		return 0;
	/* Locations are bytes, error positions are characters. */
	if (build->text == NULL)
		return errposition(location + 1);
	if ((size_t) location >= strlen(build->text))
		return 0;
	return errposition(pg_mbstrlen_with_len(build->text, location) + 1);
}

void
sb_plan_refuse(const SbPlanBuild *build, int location, const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	                errmsg("%s is not supported in a pipeline's query", what),
	                hint != NULL ? errhint("%s", hint) : 0, sb_plan_position(build, location)));
}

/* ---- clauses ---- */

/* location of the expression that a sort or group clause stands for */
static int
clause_location(const Query *query, List *clauses)
{
	SortGroupClause *clause = linitial_node(SortGroupClause, clauses);
	ListCell *cell;

	foreach (cell, query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->ressortgroupref == clause->tleSortGroupRef)
			return exprLocation((Node *) entry->expr);
	}
	return -1;
}

static bool
find_sublink(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink))
	{
		*(int *) context = ((SubLink *) node)->location;
		return true;
	}
	return expression_tree_walker(node, find_sublink, context);
}

static bool
find_window_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
	{
		*(int *) context = ((WindowFunc *) node)->location;
		return true;
	}
	return expression_tree_walker(node, find_window_function, context);
}

static bool
find_set_function(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if ((IsA(node, FuncExpr) && ((FuncExpr *) node)->funcretset) ||
	    (IsA(node, OpExpr) && ((OpExpr *) node)->opretset))
	{
		*(int *) context = exprLocation(node);
		return true;
	}
	return expression_tree_walker(node, find_set_function, context);
}

/* location of the first node that `find` stops at, or -1 */
static int
find_in_query(const Query *query, bool (*find)(Node *, void *))
{
	int location = -1;
	ListCell *cell;

	if (find((Node *) query->targetList, &location) || find((Node *) query->jointree, &location) ||
	    find(query->havingQual, &location))
		return location;
	foreach (cell, query->rtable)
	{
		RangeTblEntry *entry = lfirst_node(RangeTblEntry, cell);

		if (entry->rtekind == RTE_FUNCTION && find((Node *) entry->functions, &location))
			return location;
	}
	return -1;
}

/* Clauses that make a query more than one SELECT over rows. */
static void
check_query_shape(const SbPlanBuild *build)
{
	const Query *query = build->query;

	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		     errmsg("a pipeline's query must be a plain SELECT, without INTO"),
		     errhint(
		         "Write SELECT ... FROM table, beam.tumble(event_time, '1 minute') w GROUP BY w.window_start, w.window_end.")));
	if (query->cteList != NIL)
		sb_plan_refuse(build, linitial_node(CommonTableExpr, query->cteList)->location, "WITH",
		               "Write the query as one SELECT over the table.");
	if (list_length(query->rtable) == 1 &&
	    linitial_node(RangeTblEntry, query->rtable)->rtekind == RTE_VALUES)
		sb_plan_refuse(
		    build, exprLocation((Node *) linitial_node(RangeTblEntry, query->rtable)->values_lists),
		    "VALUES",
		    "Write SELECT ... FROM table, beam.tumble(event_time, '1 minute') w GROUP BY w.window_start, w.window_end.");
	if (query->setOperations != NULL)
		sb_plan_refuse(build, -1, "UNION, INTERSECT or EXCEPT",
		               "Create a pipeline for each SELECT, and combine their result tables in a view.");
	if (query->rowMarks != NIL)
		sb_plan_refuse(build, -1, "FOR UPDATE or FOR SHARE",
		               "Leave it out: a pipeline locks no rows.");
	if (query->hasSubLinks)
		sb_plan_refuse(
		    build, find_in_query(query, find_sublink), "a subquery",
		    "Use only columns of the source table; a subquery would read other tables as of another time.");
}

/* GROUP BY (), which says what a query with aggregates alone says without it. */
static bool
groups_by_nothing(const Query *query)
{
	const GroupingSet *set = query->groupingSets ? linitial(query->groupingSets) : NULL;

	return list_length(query->groupingSets) == 1 && IsA(set, GroupingSet) &&
	       set->kind == GROUPING_SET_EMPTY;
}

/* Clauses that need all of the result at once. */
static void
check_result_clauses(const SbPlanBuild *build)
{
	const Query *query = build->query;

	if (query->hasDistinctOn)
		sb_plan_refuse(build, clause_location(query, query->distinctClause), "DISTINCT ON",
		               "Use GROUP BY and an aggregate.");
	if (query->distinctClause != NIL)
		sb_plan_refuse(build, clause_location(query, query->distinctClause), "SELECT DISTINCT",
		               "Use GROUP BY: the rows of a pipeline are distinct by window and keys.");
	if (query->sortClause != NIL)
		sb_plan_refuse(build, clause_location(query, query->sortClause), "ORDER BY",
		               "Put ORDER BY into the queries that read the result table.");
	if (query->limitCount != NULL || query->limitOffset != NULL)
		sb_plan_refuse(build,
		               exprLocation(query->limitCount != NULL ? query->limitCount
		                                                      : query->limitOffset),
		               "LIMIT or OFFSET", "Put LIMIT into the queries that read the result table.");
	if (query->hasWindowFuncs || query->windowClause != NIL)
		sb_plan_refuse(
		    build, find_in_query(query, find_window_function), "a window function with OVER",
		    "Use it in the queries that read the result table; event-time windows are functions in FROM, like beam.tumble().");
	if (query->groupingSets != NIL && !groups_by_nothing(query))
		sb_plan_refuse(build, exprLocation((Node *) query->groupingSets),
		               "GROUPING SETS, ROLLUP or CUBE",
		               "Create a pipeline for each set of group keys.");
	if (query->hasTargetSRFs)
		sb_plan_refuse(
		    build, find_in_query(query, find_set_function),
		    "a set-returning function in the select list",
		    "An event-time window function stands in FROM: FROM table, beam.tumble(event_time, '1 minute') w.");
}

void
sb_plan_check_clauses(const SbPlanBuild *build)
{
	check_query_shape(build);
	check_result_clauses(build);
	build->plan->maps = !build->query->hasAggs && build->query->groupClause == NIL &&
	                    build->query->groupingSets == NIL && build->query->havingQual == NULL;
}

/* ---- functions ---- */

bool
sb_plan_is_ours(Oid function)
{
	/*
	 * The schema alone does not do: others may have functions of the same name but other arguments
	 * there.
	 */
	return get_func_namespace(function) == get_namespace_oid("beam", true) &&
	       getExtensionOfObject(ProcedureRelationId, function) ==
	           get_extension_oid("stream_beam", true);
}

AttrNumber
sb_plan_pane_column(Oid function)
{
	const char *name;

	if (get_func_namespace(function) != get_namespace_oid("beam", true) ||
	    get_func_nargs(function) != 0)
		return 0;
	name = get_func_name(function);
	for (int i = 0; i < (int) lengthof(pane_functions); i++)
	{
		if (strcmp(name, pane_functions[i].name) == 0 && sb_plan_is_ours(function))
			return pane_functions[i].column;
	}
	return 0;
}

static void
refuse_session_function(const SbPlanBuild *build, int location, const char *name)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
	     errmsg("%s is not allowed in a pipeline's query", name),
	     errdetail(
	         "It depends on the clock, the catalogs or the session that happens to run it, so that the result could not be computed again."),
	     errhint(
	         "Use columns of the source table; to look at recent windows only, filter in the queries that read the result table."),
	     sb_plan_position(build, location)));
}

static void
refuse_volatile(const SbPlanBuild *build, int location, Oid function)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
	     errmsg("volatile function %s() is not allowed in a pipeline's query",
	            get_func_name(function)),
	     errdetail(
	         "Its result may differ from call to call, so that the result could not be computed again."),
	     errhint(
	         "Compute the value when the row is inserted and store it in a column; or, if the function depends on its arguments only, declare it IMMUTABLE."),
	     sb_plan_position(build, location)));
}

static void
refuse_stable(const SbPlanBuild *build, int location, Oid function)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
	     errmsg("stable function %s() is not allowed in a pipeline's query",
	            get_func_name(function)),
	     errdetail(
	         "Its result may change although its arguments do not. Rows that have been computed with it would keep the old result."),
	     errhint(
	         "If it depends on its arguments only, declare it IMMUTABLE. If it looks up a table, join that table instead, in the query or with the result, or keep what it finds in a column of the source."),
	     sb_plan_position(build, location)));
}

/* A conversion from text, or to it, that knows more than the text and the kept settings. */
static void
check_text(const SbPlanBuild *build, int location, Oid type, bool input)
{
	Oid found = sb_plan_unstable_text(type, input);
	bool of_time = found == DATEOID || found == TIMEOID || found == TIMETZOID ||
	               found == TIMESTAMPOID || found == TIMESTAMPTZOID;

	if (!OidIsValid(found))
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
	         errmsg(input ? "a conversion of text to type %s is not allowed in a pipeline's query"
	                      : "a conversion of type %s to text is not allowed in a pipeline's query",
	                format_type_be(found)),
	         of_time ? errdetail("The text may be 'now' or 'today', which depends on the clock.")
	                 : errdetail("It may depend on the catalogs or on other tables."),
	         of_time
	             ? errhint(
	                   "Use to_timestamp(text, format) or to_date(text, format), or an IMMUTABLE function of your own.")
	             : errhint("Use an IMMUTABLE function of your own."),
	         sb_plan_position(build, location)));
}

/* The arguments of a call, whatever is called. */
static List *
call_arguments(Node *node)
{
	if (IsA(node, FuncExpr))
		return ((FuncExpr *) node)->args;
	if (IsA(node, OpExpr))
		return ((OpExpr *) node)->args;
	return IsA(node, Aggref) ? ((Aggref *) node)->args : NIL;
}

/* Values of these arguments become text. */
static void
check_output(const SbPlanBuild *build, Node *node)
{
	ListCell *cell;

	foreach (cell, call_arguments(node))
	{
		Node *arg = lfirst(cell);

		if (IsA(arg, TargetEntry))
			arg = (Node *) ((TargetEntry *) arg)->expr;
		check_text(build, exprLocation(arg), exprType(arg), false);
	}
}

/* check_function_callback: never true, it reports itself */
static bool
refuse_function(Oid function, void *context)
{
	CheckContext *check = context;
	int location = exprLocation(check->node);
	char volatility = func_volatile(function);

	if (volatility == PROVOLATILE_IMMUTABLE)
		return false;
	if (volatility == PROVOLATILE_VOLATILE)
		refuse_volatile(check->build, location, function);
	if (function >= FirstGenbkiObjectId)
	{
		if (!sb_plan_is_ours(function))
			refuse_stable(check->build, location, function);
		return false;
	}
	switch (sb_plan_stable(function))
	{
		case SB_STABLE_OTHER:
			refuse_session_function(check->build, location,
			                        psprintf("%s()", get_func_name(function)));
			break;
		case SB_STABLE_OF_OUTPUT:
			check_output(check->build, check->node);
			break;
		case SB_STABLE_OF_SETTINGS:
			break;
	}
	return false;
}

/*
 * The functions that an aggregate is made of, and those that tell equal values and put them in
 * order.
 */
static void
check_aggregate(CheckContext *check, const Aggref *aggregate)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggregate->aggfnoid));
	Form_pg_aggregate form;
	ListCell *cell;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", aggregate->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	{
		Oid functions[] = {form->aggtransfn,     form->aggfinalfn,    form->aggcombinefn,
		                   form->aggserialfn,    form->aggdeserialfn, form->aggmtransfn,
		                   form->aggminvtransfn, form->aggmfinalfn};

		for (int i = 0; i < (int) lengthof(functions); i++)
		{
			if (OidIsValid(functions[i]))
				(void) refuse_function(functions[i], check);
		}
	}
	ReleaseSysCache(tuple);
	foreach (cell, list_concat_copy(aggregate->aggorder, aggregate->aggdistinct))
	{
		const SortGroupClause *clause = lfirst_node(SortGroupClause, cell);

		(void) refuse_function(get_opcode(clause->eqop), check);
		if (OidIsValid(clause->sortop))
			(void) refuse_function(get_opcode(clause->sortop), check);
	}
}

/* As it stands in the query, for an error about it. */
static const char *
sql_value_name(SQLValueFunctionOp op)
{
	switch (op)
	{
		case SVFOP_CURRENT_DATE:
			return "CURRENT_DATE";
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return "CURRENT_TIME";
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return "CURRENT_TIMESTAMP";
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return "LOCALTIME";
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return "LOCALTIMESTAMP";
		case SVFOP_CURRENT_ROLE:
			return "CURRENT_ROLE";
		case SVFOP_CURRENT_USER:
			return "CURRENT_USER";
		case SVFOP_USER:
			return "USER";
		case SVFOP_SESSION_USER:
			return "SESSION_USER";
		case SVFOP_CURRENT_CATALOG:
			return "CURRENT_CATALOG";
		case SVFOP_CURRENT_SCHEMA:
			return "CURRENT_SCHEMA";
	}
	return "a session value";
}

/* They have a value only where a pane is written. */
static void
check_pane_function(CheckContext *check, FuncExpr *call)
{
	if (check->build->plan->maps)
		ereport(ERROR,
		        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		         errmsg("beam.%s() is not allowed in a query without aggregates and GROUP BY",
		                get_func_name(call->funcid)),
		         errdetail("Its rows are no panes: each is there as soon as its source row is."),
		         sb_plan_position(check->build, call->location)));
	if (check->place == SB_PLACE_SELECT || check->place == SB_PLACE_HAVING)
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	     errmsg("beam.%s() is not allowed in %s", get_func_name(call->funcid),
	            place_names[check->place]),
	     errhint(
	         "It describes the pane that is written: use it in the select list, outside of aggregates, or in HAVING."),
	     sb_plan_position(check->build, call->location)));
}

/* The functions of this one node. */
static void
check_functions(CheckContext *check, Node *node)
{
	const CoerceViaIO *coerce = (const CoerceViaIO *) node;
	int location = exprLocation(node);

	if (OidIsValid(sb_json_returning_type(node)))
		check_text(check->build, location, sb_json_returning_type(node), true);
	if (!IsA(node, CoerceViaIO))
	{
		check_functions_in_node(node, refuse_function, check);
		return;
	}
	check_text(check->build, location, exprType((const Node *) coerce->arg), false);
	check_text(check->build, location, coerce->resulttype, true);
}

/*
 * Never true: whatever must not be there is an error. Pane functions have values only where a pane
 * is written; within an aggregate the place is another one.
 */
static bool
check_walker(Node *node, void *context)
{
	CheckContext *check = context;

	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr) && sb_plan_pane_column(((FuncExpr *) node)->funcid) != 0)
	{
		check_pane_function(check, (FuncExpr *) node);
		return false;
	}
	if (IsA(node, SQLValueFunction))
		refuse_session_function(check->build, exprLocation(node),
		                        sql_value_name(((SQLValueFunction *) node)->op));
	if (IsA(node, NextValueExpr))
		refuse_function(F_NEXTVAL, check);
	if (IsA(node, GroupingFunc))
		sb_plan_refuse(check->build, exprLocation(node), "GROUPING()",
		               "Without grouping sets it is always 0.");
	if (IsA(node, Param))
		sb_plan_refuse(check->build, exprLocation(node), "a parameter",
		               "Write the value into the query.");
	check->node = node;
	check_functions(check, node);
	if (IsA(node, Aggref))
	{
		CheckContext inner = {check->build, SB_PLACE_AGGREGATE, NULL};

		check_aggregate(check, (const Aggref *) node);
		return expression_tree_walker(node, check_walker, &inner);
	}
	return expression_tree_walker(node, check_walker, context);
}

void
sb_plan_check_expr(const SbPlanBuild *build, Node *expr, SbPlanPlace place)
{
	CheckContext check = {build, place, NULL};

	check_walker(expr, &check);
}

/* ---- privileges ---- */

static void
check_execute(Oid function, ObjectType type)
{
	AclResult result = object_aclcheck(ProcedureRelationId, function, GetUserId(), ACL_EXECUTE);

	if (result != ACLCHECK_OK)
		aclcheck_error(result, type, get_func_name(function));
}

/* Error 42501 unless the current user, who is the pipeline's owner, may read the columns. */
static void
check_select(const SbPlan *plan)
{
	Oid user = GetUserId();
	AclResult result;
	int attno = -1;

	if (pg_class_aclcheck(plan->source, user, ACL_SELECT) == ACLCHECK_OK)
		return;
	/*
	 * Like the executor: a query that uses no column at all, count(*), needs the right to any one
	 * of them.
	 */
	if (bms_is_empty(plan->columns))
	{
		result = pg_attribute_aclcheck_all(plan->source, user, ACL_SELECT, ACLMASK_ANY);
		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, get_rel_name(plan->source));
	}
	while ((attno = bms_next_member(plan->columns, attno)) >= 0)
	{
		result = pg_attribute_aclcheck(plan->source, attno, user, ACL_SELECT);
		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, get_rel_name(plan->source));
	}
}

void
sb_plan_check_privileges(const SbPlan *plan)
{
	check_select(plan);
	if (plan->window_call != NULL)
		check_execute(plan->window_call->funcid, OBJECT_FUNCTION);
	for (int i = 0; i < plan->naggs; i++)
		check_execute(plan->aggs[i]->aggfnoid, OBJECT_AGGREGATE);
}
