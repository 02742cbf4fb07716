/*
 * sb_plan_from.c: the FROM clause of a pipeline's query: one table, and at most one window function
 * over it.
 *
 * Tables are refused whose rows cannot be followed in the WAL by their own relation (views,
 * foreign, temporary, unlogged tables), or not completely (inheritance, row-level security), or
 * which are nobody's data (catalogs, the extension's own). Names are never compared with names of
 * the search_path: relations and functions are known by OID, schemas by name.
 *
 * LOCKING. The source and its partitions are locked in AccessShareLock until the end of the
 * transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/sb_compat.h"
#include "base/sb_partition.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pathnodes.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "query/plan/sb_plan_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/syscache.h"

static const char window_hint[] =
    "A window function returns a set of rows with the columns window_start and window_end, both timestamp with time zone: "
    "beam.tumble(), hop(), cumulate(), session(), calendar(), or a function of your own declared "
    "RETURNS TABLE (window_start timestamptz, window_end timestamptz).";

/* ---- expressions ---- */

typedef struct VarSearch
{
	Index varno;
	int location;
} VarSearch;

static bool
find_var_walker(Node *node, void *context)
{
	VarSearch *search = context;

	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var *var = (Var *) node;

		if (var->varno != search->varno || var->varlevelsup != 0)
			return false;
		search->location = var->location;
		return true;
	}
	return expression_tree_walker(node, find_var_walker, context);
}

bool
sb_plan_uses_relation(Node *expr, Index varno)
{
	VarSearch search = {varno, -1};

	return find_var_walker(expr, &search);
}

int
sb_plan_find_var(Node *expr, Index varno)
{
	VarSearch search = {varno, -1};

	find_var_walker(expr, &search);
	return search.location;
}

/*
 * Range table entries have no location. The text has; or else the first reference to the entry must
 * do.
 */
static int
entry_location(const SbPlanBuild *build, Index rti)
{
	int location = build->text != NULL ? sb_plan_item_location(build->text, rti) : -1;

	if (location < 0)
		location = sb_plan_find_var((Node *) build->query->targetList, rti);
	if (location < 0)
		location = sb_plan_find_var(build->query->jointree->quals, rti);
	return location;
}

/*
 * Of a row there are only the stored columns of the source, and of a window its two bounds: all
 * other references are an error.
 */
static void
check_var(const SbPlanBuild *build, const Var *var)
{
	RangeTblEntry *entry = rt_fetch(var->varno, build->query->rtable);

	if (var->varattno == InvalidAttrNumber)
		sb_plan_refuse(build, var->location,
		               psprintf("a reference to the whole row of \"%s\"", entry->eref->aliasname),
		               "Name the columns that are needed.");
	if (var->varattno < 0)
		sb_plan_refuse(
		    build, var->location,
		    psprintf("system column \"%s\"", get_rte_attribute_name(entry, var->varattno)),
		    "System columns say where a row is stored, not what is in it: use ordinary columns.");
	if (var->varno == build->window_rti && var->varattno != SB_PLAN_ATTNO_START &&
	    var->varattno != SB_PLAN_ATTNO_END)
		sb_plan_refuse(build, var->location,
		               psprintf("column \"%s\" of the window function",
		                        get_rte_attribute_name(entry, var->varattno)),
		               "Only its columns window_start and window_end can be used.");
	/* since 18; such a column is not stored, hence not in the WAL */
	if (var->varno == build->source_rti && get_attgenerated(entry->relid, var->varattno) == 'v')
		sb_plan_refuse(build, var->location,
		               psprintf("virtual generated column \"%s\"",
		                        get_rte_attribute_name(entry, var->varattno)),
		               "Write its expression, or make it STORED.");
	if (var->varno != build->source_rti && var->varno != build->window_rti)
		elog(ERROR, "unexpected reference to range table entry %u", var->varno);
}

static Node *
normalise_mutator(Node *node, void *context)
{
	const SbPlanBuild *build = context;
	Var *var;

	if (node == NULL)
		return NULL;
	if (!IsA(node, Var))
		return expression_tree_mutator(node, normalise_mutator, context);
	check_var(build, (Var *) node);
	var = copyObject((Var *) node);
	var->varno = var->varno == build->source_rti ? SB_PLAN_SOURCE : SB_PLAN_WINDOW;
	/* Deparsing goes by these. */
	var->varnosyn = var->varno;
	var->varattnosyn = var->varattno;
	return (Node *) var;
}

Node *
sb_plan_normalise(const SbPlanBuild *build, Node *expr)
{
	expr = flatten_join_alias_vars(NULL, build->query, expr);
	return normalise_mutator(expr, (void *) build);
}

/* ---- the source ---- */

static void
refuse_source(const SbPlanBuild *build, int errcode_value, const char *name, const char *what,
              const char *hint)
{
	ereport(ERROR, (errcode(errcode_value),
	                errmsg("\"%s\" %s and cannot be the source of a pipeline", name, what),
	                hint != NULL ? errhint("%s", hint) : 0,
	                sb_plan_position(build, entry_location(build, build->source_rti))));
}

/* What has the rows: an ordinary table, the source itself or a partition of it. */
static void
check_source_storage(const SbPlanBuild *build, Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	const int wrong = ERRCODE_WRONG_OBJECT_TYPE;

	if (relation->rd_rel->relpersistence == RELPERSISTENCE_TEMP)
		refuse_source(build, wrong, name, "is a temporary table",
		              "Only its own session can see it: use a permanent table.");
	if (relation->rd_rel->relpersistence == RELPERSISTENCE_UNLOGGED)
		refuse_source(build, wrong, name, "is an unlogged table",
		              psprintf("Its changes are not in the WAL: ALTER TABLE %s SET LOGGED.",
		                       quote_identifier(name)));
	if (relation->rd_rel->relam != HEAP_TABLE_AM_OID)
		refuse_source(build, ERRCODE_FEATURE_NOT_SUPPORTED, name,
		              psprintf("uses the table access method \"%s\"",
		                       get_am_name(relation->rd_rel->relam)),
		              "Only tables of the access method heap can be decoded.");
}

static void
check_source_foreign(const SbPlanBuild *build, Relation relation)
{
	if (relation->rd_rel->relkind == RELKIND_FOREIGN_TABLE)
		refuse_source(
		    build, ERRCODE_WRONG_OBJECT_TYPE, RelationGetRelationName(relation),
		    "is a foreign table",
		    "Its changes are not in this server's WAL: create the pipeline where the table is, or replicate it to here.");
}

/* Each partition is a part of the source: what one cannot be, the whole cannot. */
static void
check_source_partitions(const SbPlanBuild *build, Relation source)
{
	ListCell *lc;

	foreach (lc, sb_partition_tree(RelationGetRelid(source), AccessShareLock))
	{
		Relation relation = table_open(lfirst_oid(lc), NoLock);

		check_source_foreign(build, relation);
		if (relation->rd_rel->relkind == RELKIND_RELATION)
			check_source_storage(build, relation);
		table_close(relation, NoLock);
	}
}

/* Only changes of tables of this server can be decoded: anything else is an error. */
static void
check_source_kind(const SbPlanBuild *build, Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	const int wrong = ERRCODE_WRONG_OBJECT_TYPE;

	switch (relation->rd_rel->relkind)
	{
		case RELKIND_RELATION:
			check_source_storage(build, relation);
			break;
		case RELKIND_PARTITIONED_TABLE:
			check_source_partitions(build, relation);
			break;
		case RELKIND_VIEW:
			refuse_source(build, wrong, name, "is a view",
			              "Write the query over the table that the view reads.");
			break;
		case RELKIND_MATVIEW:
			refuse_source(build, wrong, name, "is a materialized view",
			              "Write the query over the table that the view reads.");
			break;
		case RELKIND_FOREIGN_TABLE:
			check_source_foreign(build, relation);
			break;
		default:
			refuse_source(build, wrong, name, "is not a table", NULL);
	}
}

static void
check_source_schema(const SbPlanBuild *build, Relation relation)
{
	const char *name = RelationGetRelationName(relation);
	const char *schema = get_namespace_name(RelationGetNamespace(relation));

	/* The second test is for information_schema, whose tables are no system relations. */
	if (IsSystemRelation(relation) || RelationGetRelid(relation) < FirstNormalObjectId)
		refuse_source(build, ERRCODE_WRONG_OBJECT_TYPE, name, "is a system catalog", NULL);
	if (schema != NULL && (strcmp(schema, "beam") == 0 || strcmp(schema, "beam_state") == 0))
		refuse_source(build, ERRCODE_WRONG_OBJECT_TYPE, name,
		              psprintf("belongs to stream_beam (schema %s)", schema), NULL);
}

/*
 * Partitions are followed, other inheritance is not: a child is refused, and a parent unless it is
 * read without its children.
 */
static void
check_source_inheritance(const SbPlanBuild *build, Relation relation, bool with_children)
{
	const char *name = RelationGetRelationName(relation);
	Oid relid = RelationGetRelid(relation);

	if (relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		if (!with_children)
			refuse_source(
			    build, ERRCODE_FEATURE_NOT_SUPPORTED, name, "is read with ONLY",
			    "A partitioned table has no rows but those of its partitions: leave out ONLY.");
		return;
	}
	if (!relation->rd_rel->relispartition && has_superclass(relid))
		refuse_source(build, ERRCODE_FEATURE_NOT_SUPPORTED, name, "inherits from another table",
		              "Use a table without inheritance.");
	/* relhassubclass may outlive the children */
	if (with_children && has_subclass(relid) &&
	    find_inheritance_children(relid, AccessShareLock) != NIL)
		refuse_source(build, ERRCODE_FEATURE_NOT_SUPPORTED, name, "has inheritance children",
		              psprintf("Write FROM ONLY %s to read it without them.",
		                       quote_identifier(name)));
}

static void
check_source_row_security(const SbPlanBuild *build, Relation relation)
{
	if (check_enable_rls(RelationGetRelid(relation), InvalidOid, true) != RLS_ENABLED)
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
	     errmsg("row-level security of \"%s\" applies to role \"%s\"",
	            RelationGetRelationName(relation), GetUserNameFromId(GetUserId(), false)),
	     errdetail("A pipeline reads changes as they are decoded, where policies do not work."),
	     errhint(
	         "Let a role own the pipeline to which the policies do not apply: the table's owner, or one with BYPASSRLS."),
	     sb_plan_position(build, entry_location(build, build->source_rti))));
}

/* The one table of the query. Its lock stays until the end of the transaction. */
static void
read_source(SbPlanBuild *build, Index rti)
{
	RangeTblEntry *entry = rt_fetch(rti, build->query->rtable);
	Relation relation;

	if (build->source_rti != 0)
		sb_plan_refuse(
		    build, entry_location(build, rti),
		    psprintf("a join with another table, \"%s\",", entry->eref->aliasname),
		    "A pipeline reads one table. Keep what is needed of the other in columns of the source, or join with the result table.");
	build->source_rti = rti;
	if (entry->tablesample != NULL)
		sb_plan_refuse(build, exprLocation((Node *) entry->tablesample->args), "TABLESAMPLE",
		               "Take a sample that depends on the row: WHERE hashint8(id) % 10 = 0.");
	relation = table_open(entry->relid, AccessShareLock);
	check_source_kind(build, relation);
	check_source_schema(build, relation);
	check_source_inheritance(build, relation, entry->inh);
	check_source_row_security(build, relation);
	build->plan->source = entry->relid;
	table_close(relation, NoLock);
}

/* ---- the window function ---- */

static bool
is_window_column(TupleDesc desc, AttrNumber attno, const char *name)
{
	Form_pg_attribute attribute;

	if (desc->natts < attno)
		return false;
	attribute = TupleDescAttr(desc, attno - 1);
	return !attribute->attisdropped && attribute->atttypid == TIMESTAMPTZOID &&
	       strcmp(NameStr(attribute->attname), name) == 0;
}

static bool
has_window_shape(RangeTblFunction *function)
{
	TupleDesc desc;
	Oid type;

	if (!IsA(function->funcexpr, FuncExpr) || !((FuncExpr *) function->funcexpr)->funcretset)
		return false;
	if (get_expr_result_type(function->funcexpr, &type, &desc) != TYPEFUNC_COMPOSITE)
		return false;
	return is_window_column(desc, SB_PLAN_ATTNO_START, "window_start") &&
	       is_window_column(desc, SB_PLAN_ATTNO_END, "window_end");
}

/* Any function in FROM must be the window function, and there is at most one. */
static void
read_window(SbPlanBuild *build, Index rti)
{
	RangeTblEntry *entry = rt_fetch(rti, build->query->rtable);
	RangeTblFunction *function = linitial_node(RangeTblFunction, entry->functions);
	int location = exprLocation(function->funcexpr);

	if (list_length(entry->functions) != 1)
		sb_plan_refuse(build, location, "ROWS FROM", "Call one window function.");
	if (!has_window_shape(function))
		ereport(ERROR, (errcode(ERRCODE_WINDOWING_ERROR),
		                errmsg("function \"%s\" in FROM is not a window function",
		                       IsA(function->funcexpr, FuncExpr)
		                           ? get_func_name(((FuncExpr *) function->funcexpr)->funcid)
		                           : entry->eref->aliasname),
		                errhint("%s", window_hint), sb_plan_position(build, location)));
	if (build->window_rti != 0)
		sb_plan_refuse(build, location, "a second window function",
		               "Create a pipeline for each kind of window.");
	if (entry->funcordinality)
		sb_plan_refuse(build, location, "WITH ORDINALITY", "Leave it out: windows have no number.");
	build->window_rti = rti;
}

/* ---- FROM ---- */

/* An item of FROM is the table or the window function, or else an error. */
static void
read_range_table_ref(SbPlanBuild *build, Index rti)
{
	RangeTblEntry *entry = rt_fetch(rti, build->query->rtable);

	switch (entry->rtekind)
	{
		case RTE_RELATION:
			read_source(build, rti);
			break;
		case RTE_FUNCTION:
			read_window(build, rti);
			break;
		case RTE_SUBQUERY:
			sb_plan_refuse(build, entry_location(build, rti), "a subquery in FROM",
			               "Write the query over the table itself.");
			break;
		case RTE_VALUES:
			sb_plan_refuse(build, entry_location(build, rti), "VALUES in FROM", "Read a table.");
			break;
		case RTE_TABLEFUNC:
			sb_plan_refuse(build, entry_location(build, rti), "XMLTABLE or JSON_TABLE",
			               "Read a table.");
			break;
		default:
			sb_plan_refuse(build, entry_location(build, rti),
			               psprintf("\"%s\" in FROM", entry->eref->aliasname), "Read a table.");
	}
}

static void
add_quals(SbPlanBuild *build, Node *quals)
{
	if (quals != NULL)
		build->quals = build->quals == NULL
		                   ? quals
		                   : (Node *) makeBoolExpr(AND_EXPR, list_make2(build->quals, quals), -1);
}

static void
read_item(SbPlanBuild *build, Node *item)
{
	if (IsA(item, RangeTblRef))
		read_range_table_ref(build, ((RangeTblRef *) item)->rtindex);
	else
	{
		JoinExpr *join = castNode(JoinExpr, item);

		read_item(build, join->larg);
		read_item(build, join->rarg);
		if (join->jointype != JOIN_INNER)
			sb_plan_refuse(
			    build, exprLocation(join->quals), "an outer join",
			    "Join table and window function with a comma or CROSS JOIN: a row without a window is in no group.");
		add_quals(build, join->quals);
	}
}

void
sb_plan_read_from(SbPlanBuild *build)
{
	FromExpr *from = build->query->jointree;
	ListCell *cell;

	foreach (cell, from->fromlist)
		read_item(build, lfirst(cell));
	if (build->source_rti == 0)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("a pipeline's query must read a table"),
		     errhint(
		         "Write SELECT ... FROM table, beam.tumble(event_time, '1 minute') w GROUP BY w.window_start, w.window_end.")));
	add_quals(build, from->quals);
}

/* ---- binding ---- */

/*
 * The arguments of a call, in the order of the function's parameters, with the defaults filled in.
 */
static List *
complete_arguments(FuncExpr *call)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(call->funcid));
	List *args;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for function %u", call->funcid);
	args = copyObject(expand_function_arguments(call->args, false, call->funcresulttype, tuple));
	ReleaseSysCache(tuple);
	return args;
}

/* Event time: the first argument. */
static void
check_event_time(const SbPlanBuild *build, FuncExpr *call)
{
	const char *name = get_func_name(call->funcid);
	Node *arg = call->args != NIL ? linitial(call->args) : NULL;

	if (arg == NULL || exprType(arg) != TIMESTAMPTZOID)
		ereport(ERROR,
		        (errcode(ERRCODE_DATATYPE_MISMATCH),
		         errmsg("the first argument of window function \"%s\" must be the event time, a timestamp with time zone",
		                name),
		         arg != NULL ? errdetail("It is of type %s.", format_type_be(exprType(arg))) : 0,
		         errhint("Declare the function's first parameter timestamptz."),
		         sb_plan_position(build, arg != NULL ? exprLocation(arg) : call->location)));
	if (!sb_plan_uses_relation(arg, SB_PLAN_SOURCE))
		ereport(ERROR,
		        (errcode(ERRCODE_WINDOWING_ERROR),
		         errmsg("the event time of window function \"%s\" does not depend on the source table",
		                name),
		         errhint("Give a column of the table that says when the row's event happened."),
		         sb_plan_position(build, exprLocation(arg))));
}

/* Evaluates an expression without columns, stable functions included. */
static Node *
fold(Node *expr)
{
	/* estimate_expression_value() asks its PlannerInfo for parameters; there are none. */
	PlannerInfo *root = makeNode(PlannerInfo);

	root->glob = makeNode(PlannerGlobal);
	return estimate_expression_value(root, expr);
}

/*
 * The arguments after the event time, evaluated: stable functions may stand in them, columns may
 * not.
 */
static void
fold_arguments(const SbPlanBuild *build, FuncExpr *call)
{
	ListCell *cell;

	for_each_from(cell, call->args, 1)
	{
		Node *arg = lfirst(cell);
		Node *value = fold(arg);

		if (!IsA(value, Const))
			ereport(ERROR,
			        (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			         errmsg("argument %d of window function \"%s\" must be a constant",
			                foreach_current_index(cell) + 1, get_func_name(call->funcid)),
			         errhint(
			             "For windows that depend on the row, write a window function of your own."),
			         sb_plan_position(build, exprLocation(arg))));
		lfirst(cell) = value;
	}
}

typedef struct BindPosition
{
	const SbPlanBuild *build;
	int location;
} BindPosition;

static void
add_bind_position(void *arg)
{
	BindPosition *position = arg;

	if (geterrposition() == 0)
		sb_plan_position(position->build, position->location);
}

/* Errors about the arguments get the position of the call. */
static SbWindowFn *
bind_arguments(const SbPlanBuild *build, SbWindowKind kind, FuncExpr *call)
{
	int nargs = list_length(call->args) - 1;
	Datum *args = palloc0(sizeof(Datum) * Max(nargs, 1));
	bool *nulls = palloc0(sizeof(bool) * Max(nargs, 1));
	BindPosition position = {build, call->location};
	ErrorContextCallback callback = {error_context_stack, add_bind_position, &position};
	SbWindowFn *fn;

	for (int i = 0; i < nargs; i++)
	{
		Const *value = list_nth_node(Const, call->args, i + 1);

		args[i] = value->constvalue;
		nulls[i] = value->constisnull;
	}
	error_context_stack = &callback;
	fn = sb_window_fn_bind(kind, nargs, args, nulls);
	error_context_stack = callback.previous;
	return fn;
}

void
sb_plan_bind_window(SbPlanBuild *build)
{
	SbPlan *plan = build->plan;
	RangeTblFunction *function;
	FuncExpr *call;

	plan->window_kind = SB_WINDOW_GLOBAL;
	if (build->window_rti == 0)
		return;
	function = linitial_node(RangeTblFunction,
	                         rt_fetch(build->window_rti, build->query->rtable)->functions);
	call = copyObject(castNode(FuncExpr, function->funcexpr));
	call->args = (List *) sb_plan_normalise(build, (Node *) complete_arguments(call));
	sb_plan_check_expr(build, (Node *) call, SB_PLACE_WINDOW);
	check_event_time(build, call);
	plan->window_kind = sb_plan_is_ours(call->funcid) ? sb_window_kind(get_func_name(call->funcid))
	                                                  : SB_WINDOW_CUSTOM;
	if (plan->window_kind != SB_WINDOW_CUSTOM)
	{
		fold_arguments(build, call);
		plan->window_fn = bind_arguments(build, plan->window_kind, call);
	}
	/* The call itself must stay a call, so only the arguments are planned. */
	call->args = (List *) sb_plan_expression(plan, (Expr *) call->args);
	plan->window_call = call;
	plan->event_time = linitial(call->args);
}
