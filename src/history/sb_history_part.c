/*
 * sb_history_part.c: what the rows of a table are cut into chunks by; see sb_history_part.h.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "base/sb_compat.h"
#include "base/sb_partition.h"
#include "base/sb_statement.h"
#include "catalog/pg_am.h"
#include "catalog/pg_inherits.h"
#include "commands/defrem.h"
#include "history/sb_history_part.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"

Expr *
sb_part_expr(const SbPlan *plan, AttrNumber part)
{
	Oid type, collation;
	int32 typmod;

	if (part == SB_PART_EVENT_TIME)
		return plan->event_time;
	if (part == SB_PART_NONE || get_attname(plan->source, part, true) == NULL)
		return NULL;
	get_atttypetypmodcoll(plan->source, part, &type, &typmod, &collation);
	return OidIsValid(type) ? (Expr *) makeVar(1, part, type, typmod, collation, 0) : NULL;
}

char *
sb_part_sql(const SbPlan *plan, AttrNumber part)
{
	if (part != SB_PART_EVENT_TIME)
		return pstrdup(quote_identifier(get_attname(plan->source, part, false)));
	return deparse_expression((Node *) plan->event_time,
	                          deparse_context_for(get_rel_name(plan->source), plan->source), false,
	                          false);
}

char *
sb_part_operator_sql(Oid type, int strategy)
{
	Oid opclass = GetDefaultOpClass(type, BTREE_AM_OID);
	Oid input = get_opclass_input_type(opclass);
	Oid operator= get_opfamily_member(get_opclass_family(opclass), input, input, strategy);

	if (!OidIsValid(operator))
		elog(ERROR, "type %u has no order", type);
	return sb_sql_operator(operator);
}

static Expr *
part_strip(Expr *expr)
{
	while (expr && IsA(expr, RelabelType))
		expr = ((RelabelType *) expr)->arg;
	return expr;
}

/* Does the index begin with this expression? */
static bool
part_is_first(Relation index, Expr *expr)
{
	AttrNumber attno = index->rd_index->indkey.values[0];
	List *expressions = attno == 0 ? RelationGetIndexExpressions(index) : NIL;

	if (attno == 0)
		return equal(part_strip(linitial(expressions)), expr);
	return IsA(expr, Var) && ((Var *) expr)->varattno == attno;
}

/* Are ranges of the order that the type's comparison has found by the index? */
static bool
part_index_is_fit(Relation index, Expr *expr)
{
	Oid method = index->rd_rel->relam;
	Oid type = getBaseType(exprType((Node *) expr));
	Oid opclass;

	if ((method != BTREE_AM_OID && method != BRIN_AM_OID) || !index->rd_index->indisvalid ||
	    RelationGetIndexPredicate(index) != NIL || !part_is_first(index, expr) ||
	    !OidIsValid(GetDefaultOpClass(type, BTREE_AM_OID)))
		return false;
	opclass = GetDefaultOpClass(type, method);
	return OidIsValid(opclass) && index->rd_opfamily[0] == get_opclass_family(opclass) &&
	       index->rd_indcollation[0] == exprCollation((Node *) expr);
}

bool
sb_part_is_indexed(const SbPlan *plan, AttrNumber part)
{
	Expr *expr = part_strip(sb_part_expr(plan, part));
	Relation rel = table_open(plan->source, AccessShareLock);
	bool indexed = false;
	ListCell *lc;

	foreach (lc, expr ? RelationGetIndexList(rel) : NIL)
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);

		indexed = indexed || part_index_is_fit(index, expr);
		index_close(index, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	return indexed;
}

/*
 * The first columns of the indexes, that of the replica identity (usually the primary key) before
 * all.
 */
static List *
part_columns(Relation rel)
{
	Oid identity = RelationGetReplicaIndex(rel);
	List *columns = NIL;
	ListCell *lc;

	if (!OidIsValid(identity))
		identity = RelationGetPrimaryKeyIndex(rel, false);
	foreach (lc, RelationGetIndexList(rel))
	{
		Relation index = index_open(lfirst_oid(lc), AccessShareLock);
		AttrNumber attno = index->rd_index->indkey.values[0];

		if (attno > 0)
			columns = lfirst_oid(lc) == identity ? lcons_int(attno, columns)
			                                     : lappend_int(columns, attno);
		index_close(index, AccessShareLock);
	}
	return columns;
}

/*
 * Columns to try when the event time itself has no index: first one that it is made of alone, such
 * as a timestamp without time zone.
 */
static List *
part_candidates(const SbPlan *plan, bool retractable)
{
	Relation rel = table_open(plan->source, AccessShareLock);
	List *columns = part_columns(rel);
	List *vars = pull_var_clause((Node *) plan->event_time, 0);
	List *result = NIL;
	ListCell *lc;

	if (list_length(vars) == 1)
		columns = lcons_int(linitial_node(Var, vars)->varattno, columns);
	foreach (lc, columns)
	{
		if (!retractable ||
		    sb_partition_all_old_have(plan->source,
		                              get_attname(plan->source, lfirst_int(lc), false)))
			result = lappend_int(result, lfirst_int(lc));
	}
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Of a result whose rows have the source's primary key: a column of it. A row that moves to another
 * part then has another identity; otherwise its new form, read from the table, and its old one,
 * which the stream has yet to take away, would be one row of the result.
 */
static AttrNumber
part_of_key(const SbPlan *plan)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];
		const Var *var =
		    column->kind == SB_COLUMN_KEY ? (const Var *) plan->keys[column->key].expr : NULL;

		if (var && sb_part_is_indexed(plan, var->varattno))
			return var->varattno;
	}
	return SB_PART_NONE;
}

AttrNumber
sb_part_choose(const SbPlan *plan, bool retractable)
{
	ListCell *lc;

	if (plan->keyed)
		return part_of_key(plan);
	if (plan->event_time && sb_part_is_indexed(plan, SB_PART_EVENT_TIME))
		return SB_PART_EVENT_TIME;
	foreach (lc, part_candidates(plan, retractable))
	{
		if (sb_part_is_indexed(plan, lfirst_int(lc)))
			return lfirst_int(lc);
	}
	return SB_PART_NONE;
}

void
sb_part_estimate(Oid source, int64 *rows, int64 *bytes)
{
	ListCell *lc;

	*rows = *bytes = 0;
	foreach (lc, find_all_inheritors(source, AccessShareLock, NULL))
	{
		Relation rel = table_open(lfirst_oid(lc), NoLock);
		BlockNumber pages = 0;
		double tuples = 0;
		double visible;

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			estimate_rel_size(rel, NULL, &pages, &tuples, &visible);
		*rows += (int64) tuples;
		*bytes += (int64) pages * BLCKSZ;
		table_close(rel, NoLock);
	}
}
