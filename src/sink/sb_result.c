/*
 * sb_result.c: the result table of a pipeline; see sb_result.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "parser/parse_coerce.h"
#include "query/expr/sb_bytes.h"
#include "sink/sb_result.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

struct SbResult
{
	const SbPlan *plan;
	SbAccumulation accumulation;
	TupleDesc desc; /* of the plan's columns */
	Datum *values;  /* scratch: of one row, with op */
	bool *nulls;
	SbStatement *insert;
	SbStatement *remove;       /* rows whose identity has no NULL: by the index */
	SbStatement *remove_nulls; /* the others */
	SbStatement *find;         /* the same for reading them */
	SbStatement *find_nulls;
	SbStatement *clear_all;
	SbStatement *clear_inside;  /* of windows in a range; NULL where there are no windows */
	SbStatement *clear_outside; /* of all others */
	int nidentity;
	int *identity; /* columns of the plan that identify a row */
};

static bool
result_identifies(const SbColumn *column)
{
	return column->kind != SB_COLUMN_VALUE;
}

static void
result_append_identity(StringInfo sql, const SbPlan *plan)
{
	const char *separator = "";

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (!result_identifies(&plan->columns_out[i]))
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

char *
sb_result_index_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE %s ON %s (",
	                 accumulation == SB_ACCUMULATING ? "UNIQUE INDEX" : "INDEX", table);
	result_append_identity(&sql, plan);
	appendStringInfoString(&sql, accumulation == SB_ACCUMULATING ? ") NULLS NOT DISTINCT" : ")");
	return sql.data;
}

char *
sb_result_table_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (", table);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		appendStringInfoString(&sql, i > 0 ? ", " : "");
		sb_result_append_column(&sql, column->name, column->type, column->typmod,
		                        column->collation);
	}
	appendStringInfoString(&sql,
	                       accumulation == SB_RETRACTING ? ", op pg_catalog.int2 NOT NULL)" : ")");
	/* rows are updated in place as long as there is room on their page */
	appendStringInfo(&sql, "%s; %s",
	                 accumulation == SB_ACCUMULATING ? " WITH (fillfactor = 70)" : "",
	                 sb_result_index_sql(plan, table, accumulation));
	return sql.data;
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

/* Of an accumulating result a row takes the place of that with the same window and keys. */
static char *
result_insert_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation)
{
	StringInfoData sql;
	const char *separator = "";

	initStringInfo(&sql);
	appendStringInfo(&sql, "INSERT INTO %s (", table);
	result_append_columns(&sql, plan, accumulation);
	appendStringInfoString(&sql, ") SELECT * FROM rows");
	if (accumulation != SB_ACCUMULATING)
		return sql.data;
	appendStringInfoString(&sql, " ON CONFLICT (");
	result_append_identity(&sql, plan);
	appendStringInfoString(&sql, ") DO ");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const char *name = quote_identifier(plan->columns_out[i].name);

		if (result_identifies(&plan->columns_out[i]))
			continue;
		appendStringInfo(&sql, "%s%s = excluded.%s", *separator ? ", " : "UPDATE SET ", name, name);
		separator = ", ";
	}
	if (*separator == '\0')
		appendStringInfoString(&sql, "NOTHING");
	return sql.data;
}

/* The type's own equality as `OPERATOR(schema.=)`: not what a search path would find. */
static char *
result_equality(Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(entry->eq_opr));
	Form_pg_operator form;
	char *result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "type %s has no equality", format_type_be(type));
	form = (Form_pg_operator) GETSTRUCT(tuple);
	result = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
	                  NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return result;
}

/* The columns of a row of table `alias`. */
static void
result_append_row(StringInfo sql, const SbPlan *plan, const char *alias)
{
	for (int i = 0; i < plan->ncolumns; i++)
		appendStringInfo(sql, "%s%s.%s", i > 0 ? ", " : "", alias,
		                 quote_identifier(plan->columns_out[i].name));
}

void
sb_result_replace_sql(const SbPlan *plan, const char *from, const char *into, char **remove,
                      char **add)
{
	StringInfoData same, removal, addition;

	/*
	 * rows with a NULL in their identity are not found: they are removed and added, as if they
	 * differed
	 */
	initStringInfo(&same);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const char *name = quote_identifier(plan->columns_out[i].name);

		if (result_identifies(&plan->columns_out[i]))
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

/* A statement about the rows t of a given identity. `rows` has its columns as c1, c2 ... */
static char *
result_match_sql(const SbResult *result, const char *what, bool with_nulls)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s rows r WHERE true", what);
	for (int i = 0; i < result->nidentity; i++)
	{
		const SbColumn *column = &result->plan->columns_out[result->identity[i]];
		const char *name = quote_identifier(column->name);
		bool key = column->kind == SB_COLUMN_KEY;

		appendStringInfo(&sql, " AND (t.%s %s r.c%d", name, result_equality(column->type), i + 1);
		if (key && with_nulls)
			appendStringInfo(&sql, " OR t.%s IS NULL AND r.c%d IS NULL", name, i + 1);
		appendStringInfoChar(&sql, ')');
	}
	return sql.data;
}

/*
 * The rows of windows in an SbWindowRange (from, lo, hi are $1, $2, $3), of others, or all of them.
 */
static char *
result_clear_condition(const SbPlan *plan, bool inside)
{
	const char *start = sb_plan_window_column(plan, SB_COLUMN_WINDOW_START);
	const char *end = sb_plan_window_column(plan, SB_COLUMN_WINDOW_END);

	return psprintf(
	    "%s (%s OPERATOR(pg_catalog.>) $1 AND %s OPERATOR(pg_catalog.>=) $2 AND %s OPERATOR(pg_catalog.<) $3)",
	    inside ? "" : "NOT", end, start, start);
}

/*
 * Takes rows out of the result, and returns each with its op, for those who read the result. A
 * retracting result loses no row: it gets retractions.
 */
static char *
result_clear_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation,
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
	    "INSERT INTO %s (%s, op) SELECT %s OPERATOR(pg_catalog.-) pg_catalog.sign(n) FROM (SELECT (pg_catalog.array_agg(t))[1] AS one, pg_catalog.sum(op) AS n FROM %s t"
	    " WHERE %s GROUP BY ROW(%s)::pg_catalog.text HAVING pg_catalog.sum(op) OPERATOR(pg_catalog.<>) 0) x,"
	    " pg_catalog.generate_series(1, pg_catalog.abs(n)) RETURNING %s, op",
	    table, columns.data, expanded.data, table, condition, columns.data, columns.data);
}

/* The plan's columns of table t */
static char *
result_find_sql(const SbPlan *plan, const char *table)
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

/* Are bytes of the one type those of the other? */
static bool
result_same_bytes(Oid is, Oid wanted)
{
	return is == wanted || IsBinaryCoercible(is, wanted);
}

/* Error unless the table has the column, with a type whose bytes are those of the wanted one. */
static void
result_check_column(Oid table, const char *name, Oid wanted, const char *pipeline)
{
	AttrNumber attno = get_attnum(table, name);
	Oid is = attno == InvalidAttrNumber ? InvalidOid : get_atttype(table, attno);

	if (!OidIsValid(is))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_UNDEFINED_COLUMN),
		     errmsg("the result table \"%s\" of pipeline \"%s\" has no column \"%s\" any more",
		            get_rel_name(table), pipeline, name),
		     errhint(
		         "Give the column its name again, then call beam.resume_pipeline(); or make it the query's with beam.alter_pipeline().")));
	if (!result_same_bytes(is, wanted))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_DATATYPE_MISMATCH),
		     errmsg("column \"%s\" of the result table \"%s\" of pipeline \"%s\" is of type %s, and the pipeline writes %s",
		            name, get_rel_name(table), pipeline, format_type_be(is),
		            format_type_be(wanted)),
		     errhint(
		         "Give the column its type or name again, then call beam.resume_pipeline(); or cast in the query with beam.alter_pipeline().")));
}

void
sb_result_check(const SbPlan *plan, Oid table, SbAccumulation accumulation, const char *pipeline)
{
	for (int i = 0; i < plan->ncolumns; i++)
		result_check_column(table, plan->columns_out[i].name, plan->columns_out[i].type, pipeline);
	if (accumulation == SB_RETRACTING)
		result_check_column(table, "op", INT2OID, pipeline);
}

/*
 * The table may have been altered since it was looked at: the bundle is run again, and looks again.
 */
static void
result_check_read(const SbResult *result, TupleDesc desc)
{
	for (int i = 0; i < result->plan->ncolumns; i++)
	{
		if (!result_same_bytes(TupleDescAttr(desc, i)->atttypid, result->plan->columns_out[i].type))
			ereport(ERROR, (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			                errmsg("column \"%s\" of a result table has got another type meanwhile",
			                       result->plan->columns_out[i].name)));
	}
}

static TupleDesc
result_row_desc(const SbPlan *plan, bool with_op)
{
	TupleDesc desc = CreateTemplateTupleDesc(plan->ncolumns + (with_op ? 1 : 0));

	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		TupleDescInitEntry(desc, i + 1, column->name, column->type, column->typmod, 0);
		TupleDescInitEntryCollation(desc, i + 1, column->collation);
	}
	if (with_op)
		TupleDescInitEntry(desc, plan->ncolumns + 1, "op", INT2OID, -1, 0);
	return desc;
}

static TupleDesc
result_identity_desc(const SbResult *result)
{
	TupleDesc desc = CreateTemplateTupleDesc(result->nidentity);

	for (int i = 0; i < result->nidentity; i++)
	{
		const SbColumn *column = &result->plan->columns_out[result->identity[i]];

		TupleDescInitEntry(desc, i + 1, psprintf("c%d", i + 1), column->type, column->typmod, 0);
		TupleDescInitEntryCollation(desc, i + 1, column->collation);
	}
	return desc;
}

static void
result_open_clear(SbResult *result, const char *table)
{
	const SbPlan *plan = result->plan;
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};

	result->clear_all =
	    sb_statement_create(result_clear_sql(plan, table, result->accumulation, "true"), NULL, 0,
	                        NULL);
	if (plan->window_kind == SB_WINDOW_GLOBAL)
		return;
	result->clear_inside = sb_statement_create(result_clear_sql(plan, table, result->accumulation,
	                                                            result_clear_condition(plan, true)),
	                                           NULL, lengthof(types), types);
	result->clear_outside =
	    sb_statement_create(result_clear_sql(plan, table, result->accumulation,
	                                         result_clear_condition(plan, false)),
	                        NULL, lengthof(types), types);
}

SbResult *
sb_result_open(const SbPlan *plan, const char *table, SbAccumulation accumulation)
{
	SbResult *result = palloc0(sizeof(SbResult));

	result->plan = plan;
	result->accumulation = accumulation;
	result->desc = result_row_desc(plan, false);
	result->values = palloc(sizeof(Datum) * (plan->ncolumns + 1));
	result->nulls = palloc(sizeof(bool) * (plan->ncolumns + 1));
	result->identity = palloc(sizeof(int) * (plan->ncolumns + 1));
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (result_identifies(&plan->columns_out[i]))
			result->identity[result->nidentity++] = i;
	}
	result->insert =
	    sb_statement_create(result_insert_sql(plan, table, accumulation),
	                        result_row_desc(plan, accumulation == SB_RETRACTING), 0, NULL);
	result->remove =
	    sb_statement_create(result_match_sql(result, psprintf("DELETE FROM %s t USING", table),
	                                         false),
	                        result_identity_desc(result), 0, NULL);
	result->remove_nulls =
	    sb_statement_create(result_match_sql(result, psprintf("DELETE FROM %s t USING", table),
	                                         true),
	                        result_identity_desc(result), 0, NULL);
	result->find =
	    sb_statement_create(result_match_sql(result, result_find_sql(plan, table), false),
	                        result_identity_desc(result), 0, NULL);
	result->find_nulls =
	    sb_statement_create(result_match_sql(result, result_find_sql(plan, table), true),
	                        result_identity_desc(result), 0, NULL);
	result_open_clear(result, table);
	sb_statement_by_index(result->remove);
	sb_statement_by_index(result->remove_nulls);
	sb_statement_by_index(result->find);
	sb_statement_by_index(result->find_nulls);
	return result;
}

void
sb_result_put(SbResult *result, const Datum *values, const bool *nulls, int op)
{
	int n = result->plan->ncolumns;

	if (result->accumulation != SB_RETRACTING)
	{
		sb_statement_put(result->insert, values, nulls);
		return;
	}
	memcpy(result->values, values, sizeof(Datum) * n);
	memcpy(result->nulls, nulls, sizeof(bool) * n);
	result->values[n] = Int16GetDatum(op);
	result->nulls[n] = false;
	sb_statement_put(result->insert, result->values, result->nulls);
}

bytea *
sb_result_pack(const SbResult *result, const Datum *values, const bool *nulls)
{
	Datum *flat = palloc(sizeof(Datum) * result->desc->natts);
	MinimalTuple tuple;
	bytea *packed;

	for (int i = 0; i < result->desc->natts; i++)
	{
		flat[i] = values[i];
		/* nothing outside the row that may be gone when it is retracted */
		if (!nulls[i] && TupleDescAttr(result->desc, i)->attlen == -1)
			flat[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
	}
	tuple = heap_form_minimal_tuple(result->desc, flat, unconstify(bool *, nulls), 0);
	packed = palloc(VARHDRSZ + tuple->t_len);
	SET_VARSIZE(packed, VARHDRSZ + tuple->t_len);
	memcpy(VARDATA(packed), tuple, tuple->t_len);
	pfree(tuple);
	pfree(flat);
	return packed;
}

void
sb_result_unpack(const SbResult *result, bytea *packed, Datum *values, bool *nulls)
{
	Size size = VARSIZE(packed) - VARHDRSZ;
	MinimalTuple tuple = palloc(Max(size, SizeofMinimalTupleHeader));
	HeapTupleData head;

	/* bytes behind a varlena header are not aligned for a tuple */
	memcpy(tuple, VARDATA(packed), size);
	head.t_len = size + MINIMAL_TUPLE_OFFSET;
	head.t_data = (HeapTupleHeader) ((char *) tuple - MINIMAL_TUPLE_OFFSET);
	sb_bytes_check_tuple(result->desc, head.t_data, head.t_len);
	heap_deform_tuple(&head, result->desc, values, nulls);
}

/*
 * The identity of a row, to the one statement or, where it has a null, to the other; returns which.
 */
static SbStatement *
result_put_identity(SbResult *result, SbStatement *plain, SbStatement *with_nulls, SbWindow window,
                    const Datum *keys, const bool *nulls)
{
	Datum *values = palloc(sizeof(Datum) * (result->nidentity + 1));
	bool *isnull = palloc0(sizeof(bool) * (result->nidentity + 1));
	bool any_null = false;

	for (int i = 0; i < result->nidentity; i++)
	{
		const SbColumn *column = &result->plan->columns_out[result->identity[i]];

		if (column->kind == SB_COLUMN_WINDOW_START)
			values[i] = TimestampTzGetDatum(window.start);
		else if (column->kind == SB_COLUMN_WINDOW_END)
			values[i] = TimestampTzGetDatum(window.end);
		else
		{
			values[i] = keys[column->key];
			isnull[i] = nulls[column->key];
			any_null = any_null || isnull[i];
		}
	}
	sb_statement_put(any_null ? with_nulls : plain, values, isnull);
	pfree(values);
	pfree(isnull);
	return any_null ? with_nulls : plain;
}

void
sb_result_remove(SbResult *result, SbWindow window, const Datum *keys, const bool *nulls)
{
	(void) result_put_identity(result, result->remove, result->remove_nulls, window, keys, nulls);
}

bytea *
sb_result_find(SbResult *result, SbWindow window, const Datum *keys, const bool *nulls)
{
	SbStatement *statement =
	    result_put_identity(result, result->find, result->find_nulls, window, keys, nulls);
	uint64 n = sb_statement_run(statement, NULL, NULL);
	Datum *values = palloc(sizeof(Datum) * result->plan->ncolumns);
	bool *isnull = palloc(sizeof(bool) * result->plan->ncolumns);
	bytea *packed = NULL;

	result_check_read(result, SPI_tuptable->tupdesc);
	if (n > 0)
	{
		heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, values, isnull);
		packed = sb_result_pack(result, values, isnull);
	}
	SPI_freetuptable(SPI_tuptable);
	return packed;
}

uint64
sb_result_clear(SbResult *result, const SbWindowRange *range, bool inside)
{
	Datum args[] = {TimestampTzGetDatum(range->from), TimestampTzGetDatum(range->lo),
	                TimestampTzGetDatum(range->hi)};

	uint64 n;

	Assert(!sb_result_pending(result));
	if (sb_window_range_is_all(range))
		n = sb_statement_run(result->clear_all, NULL, NULL);
	else
		n = sb_statement_run(inside ? result->clear_inside : result->clear_outside, args, NULL);
	result_check_read(result, SPI_tuptable->tupdesc);
	return n;
}

bool
sb_result_pending(const SbResult *result)
{
	return sb_statement_rows(result->insert) > 0 || sb_statement_rows(result->remove) > 0 ||
	       sb_statement_rows(result->remove_nulls) > 0;
}

void
sb_result_write(SbResult *result)
{
	SB_KILL_POINT("before_result");
	if (sb_statement_rows(result->remove) > 0)
		sb_statement_run(result->remove, NULL, NULL);
	if (sb_statement_rows(result->remove_nulls) > 0)
		sb_statement_run(result->remove_nulls, NULL, NULL);
	if (sb_statement_rows(result->insert) > 0)
		sb_statement_run(result->insert, NULL, NULL);
	SB_KILL_POINT("after_result");
}

/* ---- the sink ---- */

/* An accumulating result has the new row in the old one's place. */
static void
result_sink_put(void *sink, const SbSinkRow *row)
{
	SbResult *result = sink;

	if (row->op > 0 || result->accumulation == SB_RETRACTING)
		sb_result_put(result, row->values, row->nulls, row->op);
}

static void
result_sink_remove(void *sink, SbWindow window, const Datum *keys, const bool *nulls)
{
	sb_result_remove(sink, window, keys, nulls);
}

static bool
result_sink_is_pending(const void *sink)
{
	return sb_result_pending(sink);
}

static void
result_sink_write(void *sink)
{
	sb_result_write(sink);
}

static void
result_sink_late(void *sink, const SbLateEvent *event, const char *json)
{
	sb_letters_put_late(event, json);
}

const SbSinkKind sb_result_sink = {.name = "table",
                                   .put = result_sink_put,
                                   .remove = result_sink_remove,
                                   .is_pending = result_sink_is_pending,
                                   .write = result_sink_write,
                                   .late = result_sink_late};
