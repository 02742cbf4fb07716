/*
 * sb_plan_explain.c: a plan as text, in the manner of EXPLAIN.
 *
 * Expressions are deparsed by PostgreSQL in a range table of two entries: the source, and a made-up
 * one with the columns of a window and its pane. Output expressions are turned back first: Vars of
 * keys and aggregates become what they stand for.
 */
#include "postgres.h"

#include "catalog/pg_class.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "query/plan/sb_plan_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"

/* varno of the made-up range table entry */
#define PANE_VARNO 2

/* Its columns, in the order of SB_OUT_*. */
static const char *const pane_names[] = {"window_start", "window_end",   "pane_timing",
                                         "pane_index",   "is_last_pane", "pane_timestamp"};

typedef struct Explain
{
	const SbPlan *plan;
	List *context; /* for deparse_expression */
	StringInfoData out;
	int depth;
} Explain;

/* ---- deparsing ---- */

static RangeTblEntry *
make_source_entry(Oid relation)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);

	entry->rtekind = RTE_RELATION;
	entry->relid = relation;
	entry->relkind = RELKIND_RELATION;
	entry->alias = makeAlias(get_rel_name(relation), NIL);
	entry->eref = entry->alias;
	entry->inFromCl = true;
	return entry;
}

static RangeTblEntry *
make_pane_entry(void)
{
	RangeTblEntry *entry = makeNode(RangeTblEntry);
	List *names = NIL;

	for (int i = 0; i < (int) lengthof(pane_names); i++)
		names = lappend(names, makeString(pstrdup(pane_names[i])));
	entry->rtekind = RTE_VALUES;
	entry->eref = makeAlias("pane", names);
	entry->inFromCl = true;
	return entry;
}

static List *
make_context(const SbPlan *plan)
{
	PlannedStmt *statement = makeNode(PlannedStmt);

	statement->commandType = CMD_SELECT;
	statement->rtable = list_make2(make_source_entry(plan->source), make_pane_entry());
	return deparse_context_for_plan_tree(statement, list_make2(get_rel_name(plan->source), "pane"));
}

static char *
deparse(const Explain *explain, void *expr)
{
	return deparse_expression(expr, explain->context, false, false);
}

/* An output expression, in terms of the source and of the pane. */
static Node *
resolve_mutator(Node *node, void *context)
{
	const SbPlan *plan = context;
	Var *var = (Var *) node;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Var))
		return expression_tree_mutator(node, resolve_mutator, context);
	if (var->varattno >= SB_OUT_FIRST_KEY + plan->nkeys)
		return copyObject((Node *) plan->aggs[var->varattno - SB_OUT_FIRST_KEY - plan->nkeys]);
	if (var->varattno >= SB_OUT_FIRST_KEY)
		return copyObject((Node *) plan->keys[var->varattno - SB_OUT_FIRST_KEY].expr);
	return (Node *) makeVar(PANE_VARNO, var->varattno, var->vartype, var->vartypmod, var->varcollid,
	                        0);
}

static char *
deparse_output(const Explain *explain, void *expr)
{
	return deparse(explain, resolve_mutator(expr, (void *) explain->plan));
}

/* ---- the tree ---- */

static void
begin_node(Explain *explain, const char *name)
{
	if (explain->depth > 0)
	{
		appendStringInfoSpaces(&explain->out, 6 * explain->depth - 4);
		appendStringInfoString(&explain->out, "->  ");
	}
	appendStringInfo(&explain->out, "%s\n", name);
	explain->depth++;
}

static void
add_property(Explain *explain, const char *name, const char *value)
{
	appendStringInfoSpaces(&explain->out, 6 * explain->depth - 4);
	appendStringInfo(&explain->out, "%s: %s\n", name, value);
}

static void
append_item(StringInfo list, const char *item)
{
	if (list->len > 0)
		appendStringInfoString(list, ", ");
	appendStringInfoString(list, item);
}

/*
 * The node at the top. Output expressions are shown in terms of the source, not of the output row.
 */
static void
explain_result(Explain *explain)
{
	const SbPlan *plan = explain->plan;
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];
		const char *name = quote_identifier(column->name);
		char *expr = deparse_output(explain, column->expr);

		append_item(&list, strcmp(name, expr) == 0 ? expr : psprintf("%s AS %s", expr, name));
	}
	begin_node(explain, "Result");
	add_property(explain, "Columns", list.data);
	if (plan->having != NIL)
		add_property(explain, "Having", deparse_output(explain, make_ands_explicit(plan->having)));
}

static void
explain_aggregate(Explain *explain)
{
	const SbPlan *plan = explain->plan;
	StringInfoData keys;
	StringInfoData aggs;

	initStringInfo(&keys);
	initStringInfo(&aggs);
	for (int i = 0; i < plan->nkeys; i++)
		append_item(&keys, deparse(explain, plan->keys[i].expr));
	for (int i = 0; i < plan->naggs; i++)
		append_item(&aggs, deparse(explain, plan->aggs[i]));
	begin_node(explain, "Aggregate");
	if (plan->naggs > 0)
		add_property(explain, "Calls", aggs.data);
	if (plan->nkeys > 0)
		add_property(explain, "Group Key", keys.data);
}

static void
explain_map(Explain *explain)
{
	const SbPlan *plan = explain->plan;
	StringInfoData key;

	initStringInfo(&key);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind != SB_COLUMN_VALUE && plan->keyed)
			append_item(&key, quote_identifier(plan->columns_out[i].name));
	}
	begin_node(explain, "Map");
	add_property(explain, "Rows", plan->keyed ? psprintf("by %s", key.data) : "by all columns");
}

static void
explain_window(Explain *explain)
{
	const SbPlan *plan = explain->plan;

	if (plan->window_kind == SB_WINDOW_GLOBAL)
	{
		begin_node(explain, "Window: global");
		return;
	}
	if (plan->window_kind == SB_WINDOW_CUSTOM)
		begin_node(explain, psprintf("Window: %s", deparse(explain, plan->window_call)));
	else
		begin_node(explain, psprintf("Window: %s", sb_window_fn_describe(plan->window_fn)));
	add_property(explain, "Event Time", deparse(explain, plan->event_time));
}

static void
explain_source(Explain *explain)
{
	const SbPlan *plan = explain->plan;
	const char *schema = get_namespace_name(get_rel_namespace(plan->source));
	StringInfoData columns;
	int attno = -1;

	initStringInfo(&columns);
	while ((attno = bms_next_member(plan->columns, attno)) >= 0)
		append_item(&columns, quote_identifier(get_attname(plan->source, attno, false)));
	begin_node(explain, psprintf("Source: %s",
	                             quote_qualified_identifier(schema, get_rel_name(plan->source))));
	if (columns.len > 0)
		add_property(explain, "Columns", columns.data);
	if (plan->filter != NIL)
		add_property(explain, "Filter", deparse(explain, make_ands_explicit(plan->filter)));
}

char *
sb_plan_explain(const SbPlan *plan)
{
	Explain explain = {plan, make_context(plan)};

	initStringInfo(&explain.out);
	explain_result(&explain);
	if (plan->maps)
		explain_map(&explain);
	else
		explain_aggregate(&explain);
	if (!plan->maps || plan->window_kind != SB_WINDOW_GLOBAL)
		explain_window(&explain);
	explain_source(&explain);
	return explain.out.data;
}
