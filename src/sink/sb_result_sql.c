/*
 * sb_result_sql.c: the SQL of a result table; see sb_result.h.
 *
 * All names are qualified; a type's equality is named by its operator, whatever the search path.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/sb_compat.h"
#include "base/sb_statement.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "sink/sb_result_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void
result_append_identity(StringInfo sql, const SbPlan *plan)
{
	const char *separator = "";

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (!sb_result_identifies(&plan->columns_out[i]))
			continue;
		appendStringInfo(sql, "%s%s", separator, quote_identifier(plan->columns_out[i].name));
		separator = ", ";
	}
	/* one group for the whole table: at most one row */
	if (*separator == '\0')
		appendStringInfoString(sql, "(true)");
}

static char *
result_collation_name(Oid collation)
{
	HeapTuple tuple = SearchSysCache1(COLLOID, ObjectIdGetDatum(collation));
	Form_pg_collation form;
	char *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for collation %u", collation);
	form = (Form_pg_collation) GETSTRUCT(tuple);
	result = quote_qualified_identifier(get_namespace_name(form->collnamespace),
	                                    NameStr(form->collname));
	ReleaseSysCache(tuple);
	return result;
}

void
sb_result_append_column(StringInfo sql, const char *name, Oid type, int32 typmod, Oid collation)
{
	appendStringInfo(sql, "%s %s", quote_identifier(name),
	                 format_type_extended(type, typmod,
	                                      FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
	if (OidIsValid(collation) && collation != get_typcollation(type))
		appendStringInfo(sql, " COLLATE %s", result_collation_name(collation));
}

/* The columns of a row, in the order of the plan. */
static void
result_append_columns(StringInfo sql, const SbPlan *plan, SbAccumulation accumulation)
{
	for (int i = 0; i < plan->ncolumns; i++)
		appendStringInfo(sql, "%s%s", i > 0 ? ", " : "",
		                 quote_identifier(plan->columns_out[i].name));
	appendStringInfoString(sql, accumulation == SB_RETRACTING ? ", op" : "");
}

/*
 * beam._row_hash() of a row's columns, each as `prefix` and its name, or (`numbered`) its number. A
 * function takes 100 arguments: further columns are not hashed, and a row is looked at as a whole
 * when it has been found by its hash.
 */
static void
result_append_hash(StringInfo sql, const SbPlan *plan, const char *prefix, bool numbered)
{
	appendStringInfoString(sql, "beam._row_hash(");
	for (int i = 0; i < Min(plan->ncolumns, FUNC_MAX_ARGS); i++)
		appendStringInfo(sql, "%s%s%s", i > 0 ? ", " : "", prefix,
		                 numbered ? psprintf("%d", i + 1)
		                          : quote_identifier(plan->columns_out[i].name));
	appendStringInfoChar(sql, ')');
}

/* ... of table `alias`. */
static void
result_append_row(StringInfo sql, const SbPlan *plan, const char *alias)
{
	for (int i = 0; i < plan->ncolumns; i++)
		appendStringInfo(sql, "%s%s.%s", i > 0 ? ", " : "", alias,
		                 quote_identifier(plan->columns_out[i].name));
}

/* beam._key_hash() of the keys that identify a row, each as `prefix` and its name or number. */
static void
result_append_key_hash(StringInfo sql, const SbPlan *plan, const char *prefix, bool numbered)
{
	const char *separator = "";
	int n = 0;

	appendStringInfoString(sql, "beam._key_hash(");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		if (!sb_result_identifies(column))
			continue;
		n++;
		if (column->kind != SB_COLUMN_KEY)
			continue;
		appendStringInfo(sql, "%s%s%s", separator, prefix,
		                 numbered ? psprintf("c%d", n) : quote_identifier(column->name));
		separator = ", ";
	}
	appendStringInfoChar(sql, ')');
}

/* The window, whose bounds are never null, and the hash of the keys. */
static void
result_append_hashed_identity(StringInfo sql, const SbPlan *plan)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		if (sb_result_identifies(column) && column->kind != SB_COLUMN_KEY)
			appendStringInfo(sql, "%s, ", quote_identifier(column->name));
	}
	result_append_key_hash(sql, plan, "", false);
}

char *
sb_result_index_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation,
                    bool by_hash)
{
	bool unique = accumulation == SB_ACCUMULATING && !by_hash;
	StringInfoData sql;

	initStringInfo(&sql);
	/* what is only appended is not looked for */
	if (plan->maps && accumulation != SB_ACCUMULATING)
		return NULL;
	if (sb_plan_is_bag(plan))
	{
		appendStringInfo(&sql, "CREATE INDEX ON %s (", table);
		result_append_hash(&sql, plan, "", false);
		appendStringInfoChar(&sql, ')');
		return sql.data;
	}
	appendStringInfo(&sql, "CREATE %s ON %s (", unique ? "UNIQUE INDEX" : "INDEX", table);
	if (by_hash)
		result_append_hashed_identity(&sql, plan);
	else
		result_append_identity(&sql, plan);
	appendStringInfoString(&sql, unique ? ") NULLS NOT DISTINCT" : ")");
	return sql.data;
}

bool
sb_result_is_updated(const SbPlan *plan, SbAccumulation accumulation)
{
	return accumulation == SB_ACCUMULATING && !sb_plan_is_bag(plan);
}

char *
sb_result_table_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation)
{
	bool strict = sb_result_may_be_strict(plan, accumulation);
	StringInfoData sql;
	char *index;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", table);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		appendStringInfoString(&sql, i > 0 ? ", " : "");
		sb_result_append_column(&sql, column->name, column->type, column->typmod,
		                        column->collation);
		if (strict && sb_result_identifies(column))
			appendStringInfoString(&sql, " NOT NULL");
	}
	appendStringInfoString(&sql,
	                       accumulation == SB_RETRACTING ? ", op pg_catalog.int2 NOT NULL)" : ")");
	/* rows are updated in place as long as there is room on their page */
	if (sb_result_is_updated(plan, accumulation))
		appendStringInfoString(&sql, " WITH (fillfactor = 70)");
	index = sb_result_index_sql(plan, table, accumulation, false);
	if (index)
		appendStringInfo(&sql, "; %s", index);
	return sql.data;
}

char *
sb_result_copy_sql(const SbPlan *plan, const char *from, const char *into,
                   SbAccumulation accumulation)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", into);
	result_append_columns(&sql, plan, accumulation);
	appendStringInfoString(&sql, ") SELECT ");
	result_append_columns(&sql, plan, accumulation);
	appendStringInfo(&sql, " FROM %s", from);
	return sql.data;
}

/* The type's own equality as `OPERATOR(schema.=)`: not what a search path would find. */
static char *
result_equality(Oid type)
{
	Oid equality = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;

	if (!OidIsValid(equality))
		elog(ERROR, "type %s has no equality", format_type_be(type));
	return sb_sql_operator(equality);
}

/*
 * The condition that row t of the table has the identity of row r, whose columns are c1, c2 ... or
 * (`numbered` false) named as those of the table.
 */
static void
result_append_match(StringInfo sql, const SbPlan *plan, bool numbered, bool with_nulls,
                    bool by_hash)
{
	int n = 0;

	appendStringInfoString(sql, "true");
	if (by_hash)
	{
		appendStringInfoString(sql, " AND ");
		result_append_key_hash(sql, plan, "t.", false);
		appendStringInfoString(sql, " OPERATOR(pg_catalog.=) ");
		result_append_key_hash(sql, plan, "r.", numbered);
	}
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];
		const char *name = quote_identifier(column->name);
		const char *other;

		if (!sb_result_identifies(column))
			continue;
		n++;
		other = numbered ? psprintf("c%d", n) : name;
		appendStringInfo(sql, " AND (t.%s %s r.%s", name, result_equality(column->type), other);
		if (column->kind == SB_COLUMN_KEY && with_nulls)
			appendStringInfo(sql, " OR t.%s IS NULL AND r.%s IS NULL", name, other);
		appendStringInfoChar(sql, ')');
	}
}

/* How a row becomes the new one, which `from` has; empty: there is nothing to set. */
static char *
result_assignments(const SbPlan *plan, const char *from)
{
	StringInfoData sql;

	initStringInfo(&sql);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const char *name = quote_identifier(plan->columns_out[i].name);

		/* a key stays what it is, but may be written in another way */
		if (sb_result_identifies(&plan->columns_out[i]) &&
		    !(plan->columns_out[i].kind == SB_COLUMN_KEY &&
		      sb_plan_is_spelled(plan, plan->columns_out[i].key)))
			continue;
		appendStringInfo(&sql, "%s%s = %s.%s", sql.len > 0 ? ", " : "", name, from, name);
	}
	return sql.data;
}

/* Without a unique index: the only writer looks itself. */
static char *
result_merge_sql(const SbPlan *plan, const char *table)
{
	char *assignments = result_assignments(plan, "r");
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "MERGE INTO %s t USING rows r ON ", table);
	result_append_match(&sql, plan, false, true, true);
	if (*assignments != '\0')
		appendStringInfo(&sql, " WHEN MATCHED THEN UPDATE SET %s", assignments);
	appendStringInfoString(&sql, " WHEN NOT MATCHED THEN INSERT (");
	result_append_columns(&sql, plan, SB_ACCUMULATING);
	appendStringInfoString(&sql, ") VALUES (");
	result_append_row(&sql, plan, "r");
	appendStringInfoChar(&sql, ')');
	return sql.data;
}

char *
sb_result_insert_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation,
                     bool by_hash)
{
	StringInfoData sql;
	char *assignments;

	if (by_hash && sb_result_is_updated(plan, accumulation))
		return result_merge_sql(plan, table);
	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", table);
	result_append_columns(&sql, plan, accumulation);
	appendStringInfoString(&sql, ") SELECT * FROM rows");
	if (!sb_result_is_updated(plan, accumulation))
		return sql.data;
	appendStringInfoString(&sql, " ON CONFLICT (");
	result_append_identity(&sql, plan);
	assignments = result_assignments(plan, "excluded");
	if (*assignments != '\0')
		appendStringInfo(&sql, ") DO UPDATE SET %s", assignments);
	else
		appendStringInfoString(&sql, ") DO NOTHING");
	return sql.data;
}

/* Rows of `of`, with numbers among those that are equal, beyond how many of them `than` has. */
static char *
result_bag_surplus(const SbPlan *plan, const char *of, const char *than)
{
	StringInfoData same;

	initStringInfo(&same);
	appendStringInfoString(&same, "ROW(");
	result_append_row(&same, plan, "t");
	appendStringInfoString(&same, ")::pg_catalog.text, ");
	result_append_hash(&same, plan, "t.", false);
	return psprintf(
	    "ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT r.at FROM"
	    " (SELECT t.ctid, %s, pg_catalog.row_number() OVER (PARTITION BY %s) FROM %s t) r (at, x, h, k)"
	    " LEFT JOIN (SELECT %s, pg_catalog.count(*) FROM %s t GROUP BY 1, 2) s (x, h, n)"
	    " ON s.x OPERATOR(pg_catalog.=) r.x AND s.h OPERATOR(pg_catalog.=) r.h"
	    " WHERE r.k OPERATOR(pg_catalog.>) COALESCE(s.n, 0)))",
	    same.data, same.data, of, same.data, than);
}

/*
 * The same for rows without an identity: of equal ones as many stay as there are to be. Not every
 * type has an equality: rows are equal that have the same text and the same hash, since one text
 * can stand for different bytes, and it is by its bytes that a row is taken out later.
 */
static void
result_replace_bag_sql(const SbPlan *plan, const char *from, const char *into, char **remove,
                       char **add)
{
	*remove = psprintf("DELETE FROM %s t WHERE t.%s", into, result_bag_surplus(plan, into, from));
	*add = psprintf("%s t WHERE t.%s", sb_result_copy_sql(plan, from, into, SB_ACCUMULATING),
	                result_bag_surplus(plan, from, into));
}

void
sb_result_replace_sql(const SbPlan *plan, const char *from, const char *into, char **remove,
                      char **add)
{
	StringInfoData same, removal, addition;

	if (sb_plan_is_bag(plan))
	{
		result_replace_bag_sql(plan, from, into, remove, add);
		return;
	}
	/*
	 * rows with a NULL in their identity are not found: they are removed and added, as if they
	 * differed
	 */
	initStringInfo(&same);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const char *name = quote_identifier(plan->columns_out[i].name);

		if (sb_result_identifies(&plan->columns_out[i]))
			appendStringInfo(&same, " AND s.%s %s r.%s", name,
			                 result_equality(plan->columns_out[i].type), name);
	}
	/* the same to the bit: values that are equal can be written in different ways */
	initStringInfo(&removal);
	appendStringInfo(
	    &removal,
	    "DELETE FROM %s r WHERE NOT EXISTS (SELECT FROM %s s WHERE pg_catalog.record_image_eq(ROW(",
	    into, from);
	result_append_row(&removal, plan, "s");
	appendStringInfoString(&removal, "), ROW(");
	result_append_row(&removal, plan, "r");
	appendStringInfo(&removal, "))%s)", same.data);
	initStringInfo(&addition);
	appendStringInfo(&addition, "%s s WHERE NOT EXISTS (SELECT FROM %s r WHERE true%s)",
	                 sb_result_copy_sql(plan, from, into, SB_ACCUMULATING), into, same.data);
	*remove = removal.data;
	*add = addition.data;
}

char *
sb_result_match_sql(const SbPlan *plan, const char *what, bool with_nulls, bool by_hash)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s rows r WHERE ", what);
	result_append_match(&sql, plan, true, with_nulls, by_hash);
	return sql.data;
}

char *
sb_result_take_out_sql(const SbPlan *plan, const char *table)
{
	StringInfoData sql, of_table, row;

	initStringInfo(&sql);
	initStringInfo(&of_table);
	initStringInfo(&row);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		/* its type may have been altered to one with the same bytes */
		appendStringInfo(&of_table, "%st.%s::%s", i > 0 ? ", " : "", quote_identifier(column->name),
		                 format_type_extended(column->type, -1,
		                                      FORMAT_TYPE_TYPEMOD_GIVEN |
		                                          FORMAT_TYPE_FORCE_QUALIFY));
		appendStringInfo(&row, "%sr.c%d", i > 0 ? ", " : "", i + 1);
	}
	appendStringInfo(
	    &sql,
	    "DELETE FROM %s d WHERE d.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT x.at FROM rows r, LATERAL (SELECT t.ctid AS at FROM %s t WHERE ",
	    table, table);
	result_append_hash(&sql, plan, "t.", false);
	appendStringInfoString(&sql, " OPERATOR(pg_catalog.=) ");
	result_append_hash(&sql, plan, "r.c", true);
	appendStringInfo(&sql, " AND pg_catalog.record_image_eq(ROW(%s), ROW(%s)) LIMIT r.n) x))",
	                 of_table.data, row.data);
	return sql.data;
}

char *
sb_result_clear_condition(const SbPlan *plan, bool inside)
{
	const char *start = sb_plan_window_column(plan, SB_COLUMN_WINDOW_START);
	const char *end = sb_plan_window_column(plan, SB_COLUMN_WINDOW_END);

	return psprintf(
	    "%s (%s OPERATOR(pg_catalog.>) $1 AND %s OPERATOR(pg_catalog.>=) $2 AND %s OPERATOR(pg_catalog.<) $3)",
	    inside ? "" : "NOT", end, start, start);
}

char *
sb_result_clear_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation,
                    const char *condition)
{
	StringInfoData columns, expanded;

	initStringInfo(&columns);
	initStringInfo(&expanded);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const char *name = quote_identifier(plan->columns_out[i].name);

		appendStringInfo(&columns, "%s%s", i > 0 ? ", " : "", name);
		appendStringInfo(&expanded, "(one).%s, ", name);
	}
	if (accumulation != SB_RETRACTING)
		return psprintf("DELETE FROM %s WHERE %s RETURNING %s, (-1)::pg_catalog.int2", table,
		                condition, columns.data);
	/*
	 * equal as text: not every type has an equality; once for each time that the row stands there
	 * too often
	 */
	return psprintf(
	    "INSERT INTO %s (%s, op) SELECT %s OPERATOR(pg_catalog.-) pg_catalog.sign(n) FROM (SELECT (pg_catalog.array_agg(t.*))[1] AS one, pg_catalog.sum(op) AS n FROM %s t"
	    " WHERE %s GROUP BY ROW(%s)::pg_catalog.text HAVING pg_catalog.sum(op) OPERATOR(pg_catalog.<>) 0) x,"
	    " pg_catalog.generate_series(1, pg_catalog.abs(n)) RETURNING %s, op",
	    table, columns.data, expanded.data, table, condition, columns.data, columns.data);
}

char *
sb_result_find_sql(const SbPlan *plan, const char *table)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < plan->ncolumns; i++)
		appendStringInfo(&sql, "%st.%s", i > 0 ? ", " : "",
		                 quote_identifier(plan->columns_out[i].name));
	appendStringInfo(&sql, " FROM %s t,", table);
	return sql.data;
}
