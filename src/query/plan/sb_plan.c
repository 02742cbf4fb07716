/*
 * sb_plan.c: makes the plan of a pipeline from its Query.
 *
 * The query is brought into a common form (sb_plan_private.h), checked, and taken apart: conditions
 * become the filter, GROUP BY the keys, and what stands in the select list and in HAVING is
 * rewritten over the output row (window, pane, keys, aggregates' results). Expressions are compared
 * in the form the parser gave them, as PostgreSQL itself does for GROUP BY, and planned when they
 * are in their place.
 *
 * MEMORY. Everything is made in the caller's context; what is only needed on the way is not freed.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/sysattr.h"
#include "base/sb_compat.h"
#include "catalog/heap.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "query/plan/sb_plan_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

Expr *
sb_plan_expression(SbPlan *plan, Expr *expr)
{
	List *relations;
	List *items = NIL;
	Expr *planned = expression_planner_with_deps(expr, &relations, &items);

	plan->inval_items = list_concat(plan->inval_items, items);
	return planned;
}

/* ---- filter ---- */

static void
build_filter(SbPlanBuild *build)
{
	Node *quals = sb_plan_normalise(build, build->quals);

	if (quals == NULL)
		return;
	sb_plan_check_expr(build, quals, SB_PLACE_WHERE);
	if (sb_plan_uses_relation(quals, SB_PLAN_WINDOW))
		sb_plan_refuse(build, sb_plan_find_var(quals, SB_PLAN_WINDOW),
		               "a condition on the window in WHERE or ON",
		               "Put it into HAVING: it is about result rows.");
	quals = (Node *) sb_plan_expression(build->plan, (Expr *) quals);
	build->plan->filter = make_ands_implicit((Expr *) quals);
	/* x IN (many constants): look up instead of comparing one by one */
	convert_saop_to_hashed_saop((Node *) build->plan->filter);
}

/* ---- group keys ---- */

/*
 * State finds a group by the hash of its keys, and the result by a btree index: a type needs both,
 * and so does what it is made of.
 */
static void
check_key_type(const SbPlanBuild *build, const SortGroupClause *clause, Node *expr)
{
	TypeCacheEntry *entry =
	    lookup_type_cache(exprType(expr), TYPECACHE_HASH_PROC | TYPECACHE_CMP_PROC);
	bool hashable = clause->hashable && OidIsValid(entry->hash_proc);

	if (hashable && OidIsValid(entry->cmp_proc))
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_UNDEFINED_FUNCTION),
	         errmsg("cannot group by type %s: it cannot be %s", format_type_be(exprType(expr)),
	                hashable ? "sorted" : "hashed"),
	         errhint("Group by an expression of a type with a %s operator class, for example by the value as text.",
	                 hashable ? "btree" : "hash"),
	         sb_plan_position(build, exprLocation(expr))));
}

/* The result has an index over window and keys, and PostgreSQL a limit for that. */
static void
check_number_of_keys(const SbPlanBuild *build)
{
	int most = INDEX_MAX_KEYS - (build->plan->window_call ? 2 : 0);

	if (list_length(build->key_exprs) <= most)
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_TOO_MANY_COLUMNS),
	         errmsg("cannot group by more than %d keys%s", most,
	                build->plan->window_call ? " beside the columns of a window" : ""),
	         errdetail("The result has an index over them."),
	         errhint(
	             "Group by an expression that has several of them, for example an array or a text."),
	         sb_plan_position(build, exprLocation(list_nth(build->key_exprs, most)))));
}

static void
add_key(SbPlanBuild *build, const SortGroupClause *clause, Node *expr)
{
	if (list_member(build->key_exprs, expr))
		return;
	if (sb_plan_uses_relation(expr, SB_PLAN_WINDOW))
		sb_plan_refuse(
		    build, sb_plan_find_var(expr, SB_PLAN_WINDOW),
		    "an expression over the window in GROUP BY",
		    "Group by window_start and window_end themselves; expressions over them can stand in the select list.");
	sb_plan_check_expr(build, expr, SB_PLACE_GROUP);
	check_key_type(build, clause, expr);
	build->key_exprs = lappend(build->key_exprs, expr);
}

static void
check_window_is_grouped(const SbPlanBuild *build, bool start, bool end)
{
	FuncExpr *call = build->plan->window_call;

	if (call == NULL || (start && end))
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_GROUPING_ERROR),
	     errmsg("GROUP BY must contain %s of the window function",
	            start ? "window_end" : (end ? "window_start" : "window_start and window_end")),
	     errhint(
	         "Write GROUP BY w.window_start, w.window_end, where w is the alias of the window function."),
	     sb_plan_position(build, call->location)));
}

static void
plan_keys(SbPlanBuild *build)
{
	SbPlan *plan = build->plan;
	ListCell *cell;

	plan->nkeys = list_length(build->key_exprs);
	plan->keys = palloc0(sizeof(SbKeyDef) * Max(plan->nkeys, 1));
	foreach (cell, build->key_exprs)
	{
		SbKeyDef *key = &plan->keys[foreach_current_index(cell)];

		key->expr = sb_plan_expression(plan, copyObject((Expr *) lfirst(cell)));
		key->type = exprType(lfirst(cell));
		key->typmod = exprTypmod(lfirst(cell));
		key->collation = exprCollation(lfirst(cell));
	}
}

/* ---- without groups ---- */

/* Is this column in the select list, as it is? */
static bool
maps_selects(const SbPlanBuild *build, AttrNumber attno)
{
	ListCell *cell;

	foreach (cell, build->query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);
		Var *var = (Var *) entry->expr;

		if (!entry->resjunk && IsA(var, Var) && var->varno == SB_PLAN_SOURCE &&
		    var->varattno == attno)
			return true;
	}
	return false;
}

/* The source's primary key, where the select list has all of it; NULL: it has not. */
static Bitmapset *
maps_identity(const SbPlanBuild *build, Oid *constraint)
{
	Bitmapset *offset = get_primary_key_attnos(build->plan->source, false, constraint);
	Bitmapset *identity = NULL;
	int member = -1;

	while ((member = bms_next_member(offset, member)) >= 0)
	{
		AttrNumber attno = member + FirstLowInvalidHeapAttributeNumber;

		if (!maps_selects(build, attno))
			return NULL;
		identity = bms_add_member(identity, attno);
	}
	return identity;
}

/* The columns of the source that the select list uses stand for keys: a row brings them along. */
static void
build_maps(SbPlanBuild *build)
{
	SbPlan *plan = build->plan;
	ListCell *cell;

	if (sb_plan_merges(plan))
		sb_plan_refuse(build, plan->window_call->location,
		               "a session window in a query without aggregates and GROUP BY",
		               "A session is made of the rows of a group: add GROUP BY.");
	if (build->query->targetList == NIL)
		sb_plan_refuse(build, -1, "an empty select list", "Name the columns that are wanted.");
	foreach (cell, pull_var_clause((Node *) build->query->targetList, 0))
	{
		const Var *var = lfirst(cell);

		if (var->varno == SB_PLAN_SOURCE)
			build->key_exprs = list_append_unique(build->key_exprs, lfirst(cell));
	}
	plan_keys(build);
	build->identity = maps_identity(build, &plan->key_constraint);
	plan->keyed = build->identity != NULL;
	/* none of its rows stands for no input */
	plan->grouped = true;
}

/* The keys are what GROUP BY has beside the window's columns; of these it must have both. */
static void
build_keys(SbPlanBuild *build)
{
	bool start = false;
	bool end = false;
	ListCell *cell;

	foreach (cell, build->query->groupClause)
	{
		SortGroupClause *clause = lfirst_node(SortGroupClause, cell);
		Node *expr = get_sortgroupclause_expr(clause, build->query->targetList);

		if (IsA(expr, Var) && ((Var *) expr)->varno == SB_PLAN_WINDOW)
		{
			start |= ((Var *) expr)->varattno == SB_PLAN_ATTNO_START;
			end |= ((Var *) expr)->varattno == SB_PLAN_ATTNO_END;
		}
		else
			add_key(build, clause, expr);
	}
	check_window_is_grouped(build, start, end);
	check_number_of_keys(build);
	plan_keys(build);
	build->plan->grouped = build->query->groupClause != NIL;
}

/* ---- output expressions ---- */

static Var *
output_var(AttrNumber attno, Oid type, int32 typmod, Oid collation)
{
	return makeVar(1, attno, type, typmod, collation, 0);
}

/* index of an equal key, or -1 */
static int
find_key(const SbPlanBuild *build, const Node *expr)
{
	ListCell *cell;

	foreach (cell, build->key_exprs)
	{
		if (equal(lfirst(cell), expr))
			return foreach_current_index(cell);
	}
	return -1;
}

static Var *
key_to_output(const SbPlanBuild *build, int index)
{
	const SbKeyDef *key = &build->plan->keys[index];

	return output_var(SB_OUT_FIRST_KEY + index, key->type, key->typmod, key->collation);
}

static int
add_aggregate(SbPlanBuild *build, Aggref *planned)
{
	ListCell *cell;

	foreach (cell, build->aggs)
	{
		if (equal(lfirst(cell), planned))
			return foreach_current_index(cell);
	}
	build->aggs = lappend(build->aggs, planned);
	if (build->plan->nkeys + list_length(build->aggs) > MaxTupleAttributeNumber - SB_OUT_FIRST_KEY)
		ereport(ERROR, (errcode(ERRCODE_TOO_MANY_COLUMNS),
		                errmsg("too many group keys and aggregates in a pipeline's query"),
		                errhint("Split it into several pipelines.")));
	return list_length(build->aggs) - 1;
}

static Var *
aggregate_to_output(SbPlanBuild *build, Aggref *aggregate)
{
	int window_location = sb_plan_find_var((Node *) aggregate, SB_PLAN_WINDOW);
	int index;

	if (sb_plan_uses_relation((Node *) aggregate, SB_PLAN_WINDOW))
		sb_plan_refuse(
		    build, window_location, "window_start or window_end within an aggregate",
		    "Aggregate columns of the table, and combine the result with the window in the select list: max(t) - w.window_start.");
	index = add_aggregate(build, (Aggref *) sb_plan_expression(build->plan,
	                                                           copyObject((Expr *) aggregate)));
	return output_var(SB_OUT_FIRST_KEY + build->plan->nkeys + index, aggregate->aggtype, -1,
	                  aggregate->aggcollid);
}

/*
 * A Var that is no key: of the window, or let through by PostgreSQL since GROUP BY has the table's
 * primary key.
 */
static Var *
var_to_output(const SbPlanBuild *build, const Var *var)
{
	char *name;

	if (var->varno == SB_PLAN_WINDOW)
		return output_var(var->varattno == SB_PLAN_ATTNO_START ? SB_OUT_WINDOW_START
		                                                       : SB_OUT_WINDOW_END,
		                  TIMESTAMPTZOID, -1, InvalidOid);
	name = get_attname(build->plan->source, var->varattno, false);
	ereport(
	    ERROR,
	    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
	     errmsg("column \"%s\" must appear in the GROUP BY clause of a pipeline's query", name),
	     errdetail(
	         "It depends on the primary key in GROUP BY, but the rows of a stream are grouped by their own values."),
	     errhint("Add \"%s\" to GROUP BY and to the select list.", name),
	     sb_plan_position(build, var->location)));
	return NULL;
}

/*
 * What a result row has (window, pane, keys, aggregates) becomes a Var of it; the rest is left to
 * be computed from these. Keys must be planned already.
 */
static Node *
output_mutator(Node *node, void *context)
{
	SbPlanBuild *build = context;
	int key;

	if (node == NULL)
		return NULL;
	/* Constants are left for folding, even if one is a key. */
	key = IsA(node, Const) ? -1 : find_key(build, node);
	if (key >= 0)
		return (Node *) key_to_output(build, key);
	if (IsA(node, Var))
		return (Node *) var_to_output(build, (Var *) node);
	if (IsA(node, Aggref))
		return (Node *) aggregate_to_output(build, (Aggref *) node);
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) node;
		AttrNumber pane = sb_plan_pane_column(call->funcid);

		if (pane != 0)
			return (Node *) output_var(pane, call->funcresulttype, -1, call->funccollid);
	}
	return expression_tree_mutator(node, output_mutator, context);
}

/* An expression of the select list or HAVING, over the output row, planned. */
static Expr *
to_output(SbPlanBuild *build, Node *expr)
{
	return sb_plan_expression(build->plan, (Expr *) output_mutator(expr, build));
}

/* ---- result columns ---- */

/* The column is to be one of the result table: error for names and types that it cannot have. */
static void
check_column_name(const SbPlanBuild *build, int ncolumns, const TargetEntry *entry)
{
	const char *name = entry->resname;
	int location = exprLocation((Node *) entry->expr);

	for (int i = 0; i < ncolumns; i++)
	{
		if (strcmp(build->plan->columns_out[i].name, name) == 0)
			ereport(ERROR,
			        (errcode(ERRCODE_DUPLICATE_COLUMN),
			         errmsg("the select list has more than one column named \"%s\"", name),
			         errhint("Name the columns with AS."), sb_plan_position(build, location)));
	}
	if (strcmp(name, "op") == 0 || SystemAttributeByName(name) != NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_RESERVED_NAME),
		         errmsg("a column of a pipeline's result cannot be named \"%s\"", name),
		         strcmp(name, "op") == 0
		             ? errdetail("Retracting pipelines write +1 or -1 into a column of that name.")
		             : errdetail("It is the name of a system column."),
		         errhint("Give it another name with AS."), sb_plan_position(build, location)));
	CheckAttributeType(name, exprType((Node *) entry->expr), exprCollation((Node *) entry->expr),
	                   NIL, 0);
}

static bool
has_column(const SbPlan *plan, SbColumnKind kind, int key)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		if (column->kind == kind && (kind != SB_COLUMN_KEY || column->key == key))
			return true;
	}
	return false;
}

/*
 * The second column with the same window bound or key is a value: each is in the result's identity
 * once.
 */
static SbColumnKind
classify_column(const SbPlanBuild *build, const Node *expr, int *key)
{
	SbColumnKind kind = SB_COLUMN_VALUE;

	*key = find_key(build, expr);
	if (*key >= 0 &&
	    (!build->plan->maps || bms_is_member(((const Var *) expr)->varattno, build->identity)))
		kind = SB_COLUMN_KEY;
	else if (IsA(expr, Var) && ((const Var *) expr)->varno == SB_PLAN_WINDOW)
		kind = ((const Var *) expr)->varattno == SB_PLAN_ATTNO_START ? SB_COLUMN_WINDOW_START
		                                                             : SB_COLUMN_WINDOW_END;
	if (kind != SB_COLUMN_VALUE && has_column(build->plan, kind, *key))
		kind = SB_COLUMN_VALUE;
	if (kind != SB_COLUMN_KEY)
		*key = -1;
	return kind;
}

static void
add_column(SbPlanBuild *build, const TargetEntry *entry)
{
	SbPlan *plan = build->plan;
	Node *expr = (Node *) entry->expr;
	SbColumn column = {0};

	check_column_name(build, plan->ncolumns, entry);
	column.name = pstrdup(entry->resname);
	column.kind = classify_column(build, expr, &column.key);
	column.type = exprType(expr);
	column.typmod = exprTypmod(expr);
	column.collation = exprCollation(expr);
	/* a bare key stays one even if it is a constant */
	column.expr = column.kind == SB_COLUMN_KEY ? (Expr *) key_to_output(build, column.key)
	                                           : to_output(build, expr);
	plan->columns_out[plan->ncolumns++] = column;
}

/* The result table is unique on window and keys: all of them must be in it. */
static void
check_identity(const SbPlanBuild *build)
{
	const SbPlan *plan = build->plan;
	ListCell *cell;

	if (plan->window_call != NULL &&
	    !(has_column(plan, SB_COLUMN_WINDOW_START, 0) && has_column(plan, SB_COLUMN_WINDOW_END, 0)))
		ereport(ERROR,
		        (errcode(ERRCODE_WINDOWING_ERROR),
		         errmsg("the select list lacks window_start or window_end of the window function"),
		         errhint(
		             "Add w.window_start, w.window_end, where w is the alias of the window function."),
		         sb_plan_position(build, plan->window_call->location)));
	foreach (cell, plan->maps ? NIL : build->key_exprs)
	{
		if (!has_column(plan, SB_COLUMN_KEY, foreach_current_index(cell)))
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("an expression of GROUP BY is missing in the select list"),
			         errdetail(
			             "The rows of the result table are identified by window and group keys."),
			         errhint("Add it to the select list, as a column of its own."),
			         sb_plan_position(build, exprLocation(lfirst(cell)))));
	}
}

/* Columns and HAVING, and the aggregates that are found in them on the way. */
static void
build_output(SbPlanBuild *build)
{
	SbPlan *plan = build->plan;
	ListCell *cell;

	plan->columns_out = palloc0(sizeof(SbColumn) * list_length(build->query->targetList));
	foreach (cell, build->query->targetList)
	{
		TargetEntry *entry = lfirst_node(TargetEntry, cell);

		sb_plan_check_expr(build, (Node *) entry->expr, SB_PLACE_SELECT);
		if (!entry->resjunk)
			add_column(build, entry);
	}
	check_identity(build);
	sb_plan_check_expr(build, build->query->havingQual, SB_PLACE_HAVING);
	if (build->query->havingQual != NULL)
		plan->having = make_ands_implicit(to_output(build, build->query->havingQual));
	plan->naggs = list_length(build->aggs);
	plan->aggs = palloc0(sizeof(Aggref *) * Max(plan->naggs, 1));
	foreach (cell, build->aggs)
		plan->aggs[foreach_current_index(cell)] = lfirst_node(Aggref, cell);
}

/* ---- the whole ---- */

/* What decides which groups a row is in. */
static List *
placing_expressions(const SbPlan *plan)
{
	List *result = list_make2(plan->filter, plan->window_call);

	for (int i = 0; i < plan->nkeys; i++)
		result = lappend(result, plan->keys[i].expr);
	return result;
}

/* Visits every planned expression of the plan. */
static List *
all_expressions(const SbPlan *plan, bool output)
{
	List *result = placing_expressions(plan);

	for (int i = 0; i < plan->naggs; i++)
		result = lappend(result, plan->aggs[i]);
	if (!output)
		return result;
	for (int i = 0; i < plan->ncolumns; i++)
		result = lappend(result, plan->columns_out[i].expr);
	return lappend(result, plan->having);
}

/* Attribute numbers of the source that the expressions use. */
static Bitmapset *
columns_of(List *expressions)
{
	Bitmapset *offset = NULL;
	Bitmapset *columns = NULL;
	int member = -1;

	pull_varattnos((Node *) expressions, SB_PLAN_SOURCE, &offset);
	while ((member = bms_next_member(offset, member)) >= 0)
		columns = bms_add_member(columns, member + FirstLowInvalidHeapAttributeNumber);
	return columns;
}

static void
collect_columns(SbPlan *plan)
{
	int attno = -1;

	plan->columns = columns_of(all_expressions(plan, false));
	plan->placing = columns_of(placing_expressions(plan));
	while ((attno = bms_next_member(plan->columns, attno)) >= 0)
		plan->max_attno = attno;
}

static void
add_inlined_context(void *arg)
{
	errcontext("body of an SQL function that the query calls");
}

/* Once more, for what was hidden in the bodies of SQL functions that were inlined. */
static void
check_inlined(SbPlanBuild *build)
{
	ErrorContextCallback context = {.callback = add_inlined_context,
	                                .previous = error_context_stack};
	SbPlanBuild nowhere = *build;

	/* Locations are those of the function's body. */
	nowhere.text = "";
	error_context_stack = &context;
	sb_plan_check_expr(&nowhere, (Node *) all_expressions(build->plan, true), SB_PLACE_SELECT);
	error_context_stack = context.previous;
}

SbPlan *
sb_plan_build_text(Query *query, const char *text)
{
	SbPlanBuild build = {0};

	build.plan = palloc0(sizeof(SbPlan));
	build.query = copyObject(query);
	sb_flatten_groups(build.query);
	build.text = text;
	sb_plan_check_clauses(&build);
	sb_plan_read_from(&build);
	build.query->targetList = (List *) sb_plan_normalise(&build, (Node *) build.query->targetList);
	build.query->havingQual = sb_plan_normalise(&build, build.query->havingQual);
	sb_plan_bind_window(&build);
	build_filter(&build);
	if (build.plan->maps)
		build_maps(&build);
	else
		build_keys(&build);
	build_output(&build);
	collect_columns(build.plan);
	check_inlined(&build);
	sb_plan_check_privileges(build.plan);
	return build.plan;
}

SbPlan *
sb_plan_build(Query *query)
{
	return sb_plan_build_text(query, NULL);
}

static bool
objects_add_function(Oid function, void *context)
{
	SbPlanObjects *objects = context;

	objects->functions = list_append_unique_oid(objects->functions, function);
	return false;
}

static void
objects_add_collation(SbPlanObjects *objects, Oid collation)
{
	if (OidIsValid(collation))
		objects->collations = list_append_unique_oid(objects->collations, collation);
}

/* Values of other kinds of nodes are of the type of one of these, or of a function's result. */
static bool
objects_brings_type(const Node *node)
{
	switch (nodeTag(node))
	{
		case T_Var:
		case T_Const:
		case T_FuncExpr:
		case T_OpExpr:
		case T_Aggref:
		case T_RelabelType:
		case T_CoerceViaIO:
		case T_ArrayCoerceExpr:
		case T_ConvertRowtypeExpr:
		case T_CoerceToDomain:
		case T_FieldSelect:
		case T_RowExpr:
		case T_ArrayExpr:
			return true;
		default:
			return false;
	}
}

/* What is compared with: a function's collation, those of rows' columns, of sorted arguments. */
static void
objects_add_collations(SbPlanObjects *objects, Node *node)
{
	ListCell *cell;

	if (IsA(node, RowCompareExpr))
	{
		foreach (cell, ((RowCompareExpr *) node)->inputcollids)
			objects_add_collation(objects, lfirst_oid(cell));
		return;
	}
	objects_add_collation(objects, exprInputCollation(node));
	if (!IsA(node, Aggref))
		return;
	foreach (cell, ((Aggref *) node)->args)
	{
		const TargetEntry *entry = lfirst_node(TargetEntry, cell);

		if (entry->ressortgroupref != 0)
			objects_add_collation(objects, exprCollation((Node *) entry->expr));
	}
}

static bool
objects_walker(Node *node, void *context)
{
	SbPlanObjects *objects = context;

	if (node == NULL)
		return false;
	check_functions_in_node(node, objects_add_function, context);
	if (objects_brings_type(node))
		objects->types = list_append_unique_oid(objects->types, exprType(node));
	objects_add_collations(objects, node);
	return expression_tree_walker(node, objects_walker, context);
}

SbPlanObjects *
sb_plan_objects(const SbPlan *plan, Expr *split)
{
	SbPlanObjects *objects = palloc0(sizeof(SbPlanObjects));
	ListCell *cell;

	(void) objects_walker((Node *) lappend(all_expressions(plan, true), split), objects);
	for (int i = 0; i < plan->nkeys; i++)
	{
		const SbKeyDef *key = &plan->keys[i];
		const TypeCacheEntry *entry =
		    lookup_type_cache(key->type, TYPECACHE_HASH_PROC | TYPECACHE_EQ_OPR);

		objects->types = list_append_unique_oid(objects->types, key->type);
		(void) objects_add_function(entry->hash_proc, objects);
		(void) objects_add_function(get_opcode(entry->eq_opr), objects);
		/* rows of a query without groups are told apart by nothing that has an order */
		if (!plan->maps)
			objects_add_collation(objects, key->collation);
	}
	foreach (cell, plan->inval_items)
		objects->hashes = lappend_oid(objects->hashes, lfirst_node(PlanInvalItem, cell)->hashValue);
	return objects;
}

const char *
sb_plan_window_column(const SbPlan *plan, SbColumnKind kind)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == kind)
			return quote_identifier(plan->columns_out[i].name);
	}
	return NULL;
}

SbWindow
sb_plan_row_window(const SbPlan *plan, const Datum *values, SbWindow window)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == SB_COLUMN_WINDOW_START)
			window.start = DatumGetTimestampTz(values[i]);
		else if (plan->columns_out[i].kind == SB_COLUMN_WINDOW_END)
			window.end = DatumGetTimestampTz(values[i]);
	}
	return window;
}
