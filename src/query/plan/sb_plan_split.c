/*
 * sb_plan_split.c: the expression by which the watermark of a source is split (watermark_by).
 *
 * It is given as text, and is over the columns of the source alone, as they are named now: it is
 * parsed anew whenever a pipeline is opened.
 */
#include "postgres.h"

#include "access/attnum.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_coerce.h"
#include "parser/parser.h"
#include "query/plan/sb_plan_private.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static void
split_refuse(const char *text)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	                errmsg("watermark_by must be an expression over the columns of the source"),
	                errdetail("It is: %s", text),
	                errhint("Without subqueries, aggregates, window functions and sets of rows.")));
}

/* The text stands for one item of a select list, and nothing else: "(text)" could end early. */
static RawStmt *
split_parse(const char *text)
{
	List *statements = raw_parser(psprintf("SELECT (%s\n)", text), RAW_PARSE_DEFAULT);
	SelectStmt *select;

	if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
		split_refuse(text);
	select = (SelectStmt *) linitial_node(RawStmt, statements)->stmt;
	if (select->op != SETOP_NONE || list_length(select->targetList) != 1 || select->fromClause ||
	    select->whereClause || select->groupClause || select->havingClause ||
	    select->windowClause || select->valuesLists || select->sortClause || select->limitCount ||
	    select->limitOffset || select->lockingClause || select->withClause || select->intoClause ||
	    select->distinctClause)
		split_refuse(text);
	return linitial_node(RawStmt, statements);
}

/* Stored columns only, which the current user may read. */
static void
split_check_columns(const SbPlan *plan, Node *expr, const char *text)
{
	ListCell *cell;

	foreach (cell, pull_var_clause(expr, 0))
	{
		const Var *var = lfirst(cell);
		AclResult result;

		if (var->varattno <= 0)
			split_refuse(text);
		if (pg_class_aclcheck(plan->source, GetUserId(), ACL_SELECT) == ACLCHECK_OK)
			continue;
		result = pg_attribute_aclcheck(plan->source, var->varattno, GetUserId(), ACL_SELECT);
		if (result != ACLCHECK_OK)
			aclcheck_error(result, OBJECT_TABLE, get_rel_name(plan->source));
	}
}

static void
split_error_context(void *arg)
{
	/* it is of the text that is parsed here, not of the statement that called us */
	errposition(0);
	errcontext("watermark_by: %s", (const char *) arg);
}

/* A value of type text, whatever the expression's own type. */
static Expr *
split_plan(const SbPlan *plan, const char *text)
{
	RawStmt *raw = split_parse(text);
	SelectStmt *select = (SelectStmt *) raw->stmt;
	SbPlanBuild build = {.plan = unconstify(SbPlan *, plan), .text = ""};
	Query *query;
	Node *expr;

	select->fromClause =
	    list_make1(makeRangeVar(get_namespace_name(get_rel_namespace(plan->source)),
	                            get_rel_name(plan->source), -1));
	query = parse_analyze_fixedparams(raw, text, NULL, 0, NULL);
	if (query->hasAggs || query->hasWindowFuncs || query->hasTargetSRFs || query->hasSubLinks)
		split_refuse(text);
	expr = (Node *) linitial_node(TargetEntry, query->targetList)->expr;
	split_check_columns(plan, expr, text);
	expr = coerce_to_target_type(NULL, expr, exprType(expr), TEXTOID, -1, COERCION_EXPLICIT,
	                             COERCE_EXPLICIT_CAST, -1);
	if (expr == NULL)
		split_refuse(text);
	sb_plan_check_expr(&build, expr, SB_PLACE_WINDOW);
	return sb_plan_expression(build.plan, (Expr *) expr);
}

Expr *
sb_plan_split(const SbPlan *plan, const char *text)
{
	ErrorContextCallback context = {.callback = split_error_context,
	                                .arg = unconstify(char *, text),
	                                .previous = error_context_stack};
	Expr *expr;

	error_context_stack = &context;
	expr = split_plan(plan, text);
	error_context_stack = context.previous;
	return expr;
}
