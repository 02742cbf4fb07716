/*
 * sb_api_verify.c: beam.verify(): the rows in which a pipeline's result and its batch view differ.
 *
 * One query reads both, so both are as of one snapshot: rows of either side are brought to jsonb,
 * grouped by what identifies a row (window and keys, by the types' own equality, nulls being
 * equal), and compared. It is run as the pipeline's owner, restricted, with the pipeline's
 * settings: those of the caller could make rows different that are the same.
 *
 * RULES. A column that tells panes apart is not compared: a batch has no panes. Floating-point
 * values are equal up to the order of additions, which neither side promises. A retracting result
 * is what is left when its retractions are taken off.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "api/sb_api.h"
#include "api/sb_api_range.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_owner.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "query/sb_json.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "version/sb_version.h"

/* Differences fetched at a time. */
#define SB_VERIFY_FETCH 1000
/*
 * Relative difference of two sums of the same floating-point numbers that is put down to the order
 * of additions.
 */
#define SB_VERIFY_FLOAT_TOLERANCE "1e-9"

static bool
verify_may_read(Oid relation, Oid user)
{
	return pg_class_aclcheck(relation, user, ACL_SELECT) == ACLCHECK_OK ||
	       pg_attribute_aclcheck_all(relation, user, ACL_SELECT, ACLMASK_ALL) == ACLCHECK_OK;
}

/*
 * Who is not the pipeline's owner needs the rights with which he could compare the two by himself:
 * it is run as the owner.
 */
static void
verify_check_rights(const SbPipelineRow *row, Oid user)
{
	Relation view;
	Oid source = InvalidOid;

	if (has_privs_of_role(user, row->owner))
		return;
	if (!verify_may_read(row->result, user))
		ereport(ERROR,
		        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		         errmsg("must be owner of pipeline \"%s\" or able to read its result and its batch view",
		                row->name)));
	view = try_table_open(row->view, AccessShareLock);
	if (view == NULL)
		return; /* which is said where it is read */
	if (!verify_may_read(row->view, user))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_VIEW, RelationGetRelationName(view));
	if (RelationHasSecurityInvoker(view))
		source = row->source;
	table_close(view, NoLock);
	if (OidIsValid(source) && !verify_may_read(source, user))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(source));
}

/* Error where the current user may not compare the two sides, or where nobody could. */
static SbPipelineRow *
verify_find(const char *name)
{
	SbPipelineRow *row;
	SbBracket saved;

	sb_api_enter(&saved);
	row = sb_api_lookup(name);
	if (row == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("pipeline \"%s\" does not exist", name),
		         errhint("SELECT name FROM beam.pipelines lists those that you own.")));
	sb_api_leave(&saved);
	verify_check_rights(row, GetUserId());
	return row;
}

/* A discarding result has parts of windows; without groups its rows are whole, though. */
static void
verify_check_accumulation(const SbPipelineRow *row, const SbPlan *plan)
{
	if (strcmp(row->accumulation, "discarding") == 0 && !plan->maps)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		     errmsg("the result of pipeline \"%s\" cannot be compared with its batch view: it is discarding",
		            row->name),
		     errdetail(
		         "Each of its rows is a part of a window; how parts make a whole depends on the aggregates."),
		     errhint("Add its rows up by window and key, and compare that with the view \"%s\".",
		             get_rel_name(row->view))));
}

static bool
verify_uses_pane(const SbColumn *column)
{
	Bitmapset *attnos = NULL;
	bool found = false;

	pull_varattnos((Node *) column->expr, 1, &attnos);
	for (int attno = SB_OUT_PANE_TIMING; attno <= SB_OUT_PANE_TIMESTAMP; attno++)
		found |= bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, attnos);
	return found;
}

/* The columns that are compared, as the rows of either side have them. */
static void
verify_append_columns(StringInfo sql, const SbPlan *plan)
{
	const char *separator = "";

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (verify_uses_pane(&plan->columns_out[i]))
			continue;
		appendStringInfo(sql, "%s%s", separator, quote_identifier(plan->columns_out[i].name));
		separator = ", ";
	}
}

/*
 * One side: the identity of each row as i1, i2 ..., the row as j, and how often it is there as n.
 */
static void
verify_append_side(StringInfo sql, const SbPipelineRow *row, const SbPlan *plan, Oid relation,
                   const SbRange *range)
{
	bool net = relation == row->result && strcmp(row->accumulation, "retracting") == 0;
	int n = 0;

	appendStringInfoString(sql, "SELECT ");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind != SB_COLUMN_VALUE)
			appendStringInfo(sql, "x.%s AS i%d, ", quote_identifier(plan->columns_out[i].name),
			                 ++n);
	}
	appendStringInfo(sql, "beam._row_to_jsonb(x.*)%s AS j, %s AS n FROM (SELECT ",
	                 net ? " OPERATOR(pg_catalog.-) 'op'" : "", net ? "pg_catalog.sum(x.op)" : "1");
	verify_append_columns(sql, plan);
	appendStringInfo(sql, "%s FROM %s", net ? ", op" : "", sb_sql_relation(relation));
	sb_range_append(sql, plan, range);
	appendStringInfoString(sql, ") x");
	if (!net)
		return;
	/* by number: a column may be called like what is made here */
	appendStringInfoString(sql, " GROUP BY ");
	for (int i = 1; i <= n; i++)
		appendStringInfo(sql, "%d, ", i);
	appendStringInfo(sql, "%d HAVING pg_catalog.sum(x.op) OPERATOR(pg_catalog.<>) 0", n + 1);
}

static bool
verify_is_no_key(const SbColumn *column)
{
	return column->kind != SB_COLUMN_KEY;
}

static bool
verify_is_float(const SbColumn *column)
{
	return column->type == FLOAT8OID || column->type == FLOAT4OID;
}

/* The names of some columns, as text[]. */
static void
verify_append_names(StringInfo sql, const SbPlan *plan, bool (*which)(const SbColumn *column))
{
	const char *separator = "";

	appendStringInfoString(sql, "ARRAY[");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (!which(&plan->columns_out[i]))
			continue;
		appendStringInfo(sql, "%s%s", separator, quote_literal_cstr(plan->columns_out[i].name));
		separator = ", ";
	}
	appendStringInfoString(sql, "]::pg_catalog.text[]");
}

/* The number of a window's column among those that identify a row, as i1, i2 ..., or null. */
static char *
verify_window_column(const SbPlan *plan, SbColumnKind kind)
{
	int n = 0;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		n += plan->columns_out[i].kind != SB_COLUMN_VALUE;
		if (plan->columns_out[i].kind == kind)
			return psprintf("u.i%d", n);
	}
	return "NULL::pg_catalog.timestamptz";
}

/*
 * Both sides by identity: r and b are the rows as arrays, rn is how many the result has, added up.
 */
static void
verify_append_pairs(StringInfo sql, const SbPipelineRow *row, const SbPlan *plan,
                    const SbRange *range)
{
	int n = 0;

	appendStringInfo(
	    sql,
	    "SELECT %s AS ws, %s AS we, pg_catalog.jsonb_agg(u.j ORDER BY u.j) FILTER (WHERE u.of_result) AS r,"
	    " pg_catalog.jsonb_agg(u.j) FILTER (WHERE NOT u.of_result) AS b, pg_catalog.sum(u.n) FILTER (WHERE u.of_result) AS rn"
	    " FROM (SELECT true AS of_result, s.* FROM (",
	    verify_window_column(plan, SB_COLUMN_WINDOW_START),
	    verify_window_column(plan, SB_COLUMN_WINDOW_END));
	verify_append_side(sql, row, plan, row->result, range);
	appendStringInfoString(sql, ") s UNION ALL SELECT false, s.* FROM (");
	verify_append_side(sql, row, plan, row->view, range);
	appendStringInfoString(sql, ") s) u GROUP BY ");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind != SB_COLUMN_VALUE)
			appendStringInfo(sql, "u.i%d, ", ++n);
	}
	/* changes nothing, but for a query of one group */
	appendStringInfoString(sql, "()");
}

/*
 * The rows in which the two sides differ, as beam.verify() returns them. $1 and $2 bound the
 * windows.
 */
static char *
verify_sql(const SbPipelineRow *row, const SbPlan *plan, const SbRange *range)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(
	    &sql,
	    "SELECT CASE WHEN d.r IS NULL THEN 'missing' WHEN d.b IS NULL THEN 'unexpected' ELSE 'different' END,"
	    " d.ws, d.we, (COALESCE(d.r, d.b) OPERATOR(pg_catalog.->) 0) OPERATOR(pg_catalog.-) ");
	verify_append_names(&sql, plan, verify_is_no_key);
	appendStringInfoString(
	    &sql,
	    ", CASE WHEN d.rn OPERATOR(pg_catalog.=) 1 AND pg_catalog.jsonb_array_length(d.r) OPERATOR(pg_catalog.=) 1"
	    " THEN d.r OPERATOR(pg_catalog.->) 0"
	    " WHEN d.rn IS NOT NULL THEN pg_catalog.jsonb_build_object('op', d.rn, 'rows', d.r) END,"
	    " d.b OPERATOR(pg_catalog.->) 0 FROM (");
	verify_append_pairs(&sql, row, plan, range);
	appendStringInfoString(
	    &sql,
	    ") d WHERE (d.r IS NULL) OPERATOR(pg_catalog.<>) (d.b IS NULL) OR d.rn OPERATOR(pg_catalog.<>) 1"
	    " OR pg_catalog.jsonb_array_length(d.r) OPERATOR(pg_catalog.<>) 1"
	    " OR d.r OPERATOR(pg_catalog.<>) d.b AND EXISTS (SELECT FROM pg_catalog.jsonb_each(d.r OPERATOR(pg_catalog.->) 0) v"
	    " JOIN pg_catalog.jsonb_each(d.b OPERATOR(pg_catalog.->) 0) w ON v.key OPERATOR(pg_catalog.=) w.key"
	    " WHERE v.value OPERATOR(pg_catalog.<>) w.value AND NOT (v.key OPERATOR(pg_catalog.=) ANY (");
	verify_append_names(&sql, plan, verify_is_float);
	appendStringInfoString(
	    &sql,
	    ") AND CASE WHEN pg_catalog.jsonb_typeof(v.value) OPERATOR(pg_catalog.=) 'number'"
	    " AND pg_catalog.jsonb_typeof(w.value) OPERATOR(pg_catalog.=) 'number' THEN"
	    " pg_catalog.abs(v.value::pg_catalog.float8 OPERATOR(pg_catalog.-) w.value::pg_catalog.float8) OPERATOR(pg_catalog.<=) (" SB_VERIFY_FLOAT_TOLERANCE
	    " OPERATOR(pg_catalog.*) GREATEST(pg_catalog.abs(v.value::pg_catalog.float8), pg_catalog.abs(w.value::pg_catalog.float8))) ELSE false END))"
	    " ORDER BY 2, 3, 4");
	return sql.data;
}

/*
 * The same for a query without groups, where equal rows may stand more than once: each that is
 * there too often, or not often enough.
 */
static char *
verify_rows_sql(const SbPipelineRow *row, const SbPlan *plan, const SbRange *range)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(
	    &sql,
	    "SELECT CASE WHEN d.n OPERATOR(pg_catalog.>) 0 THEN 'unexpected' ELSE 'missing' END, d.ws, d.we, NULL::pg_catalog.jsonb,"
	    " CASE WHEN d.n OPERATOR(pg_catalog.>) 0 THEN d.j END, CASE WHEN d.n OPERATOR(pg_catalog.<) 0 THEN d.j END"
	    " FROM (SELECT %s AS ws, %s AS we, u.j, pg_catalog.sum(CASE WHEN u.of_result THEN u.n ELSE OPERATOR(pg_catalog.-) u.n END) AS n"
	    " FROM (SELECT true AS of_result, s.* FROM (",
	    verify_window_column(plan, SB_COLUMN_WINDOW_START),
	    verify_window_column(plan, SB_COLUMN_WINDOW_END));
	verify_append_side(&sql, row, plan, row->result, range);
	appendStringInfoString(&sql, ") s UNION ALL SELECT false, s.* FROM (");
	verify_append_side(&sql, row, plan, row->view, range);
	appendStringInfoString(
	    &sql,
	    ") s) u GROUP BY 1, 2, 3) d, pg_catalog.generate_series(1, pg_catalog.abs(d.n)) ORDER BY 2, 3, 5, 6");
	return sql.data;
}

static void
verify_run(const char *sql, const SbRange *range, ReturnSetInfo *result)
{
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum args[] = {TimestampTzGetDatum(range->from), TimestampTzGetDatum(range->to)};
	Portal portal;

	SPI_connect();
	portal = SPI_cursor_open_with_args(NULL, sql, lengthof(types), types, args, NULL, true, 0);
	do
	{
		SPI_cursor_fetch(portal, true, SB_VERIFY_FETCH);
		for (uint64 i = 0; i < SPI_processed; i++)
			tuplestore_puttuple(result->setResult, SPI_tuptable->vals[i]);
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	SPI_finish();
}

PG_FUNCTION_INFO_V1(stream_beam_row_to_jsonb);

/* _row_to_jsonb(record): without casts that users have made */
PGDLLEXPORT Datum
stream_beam_row_to_jsonb(PG_FUNCTION_ARGS)
{
	HeapTupleHeader header = PG_GETARG_HEAPTUPLEHEADER(0);
	TupleDesc desc =
	    lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);
	char *json;

	heap_deform_tuple(&tuple, desc, values, nulls);
	json = sb_json_of_row(desc, values, nulls);
	ReleaseTupleDesc(desc);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json)));
}

PG_FUNCTION_INFO_V1(stream_beam_verify);

/* verify(pipeline, from, to): kind, window_start, window_end, key, result, batch */
PGDLLEXPORT Datum
stream_beam_verify(PG_FUNCTION_ARGS)
{
	SbPipelineRow *row;
	SbRange range;
	SbBracket saved;
	SbPlan *plan;
	char *sql;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
		                errmsg("the name of a pipeline must not be null")));
	range = sb_range_get(fcinfo, 1);
	row = verify_find(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	/* both sides with the settings of the pipeline, whoever asks */
	sb_owner_enter(row, &saved);
	plan = sb_version_plan(row, NULL);
	verify_check_accumulation(row, plan);
	if (plan->maps && !(plan->keyed && strcmp(row->accumulation, "accumulating") == 0))
		sql = verify_rows_sql(row, plan, &range);
	else
		sql = verify_sql(row, plan, &range);
	verify_run(sql, &range, (ReturnSetInfo *) fcinfo->resultinfo);
	sb_bracket_leave(&saved);
	return (Datum) 0;
}
