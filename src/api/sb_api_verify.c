/*
 * sb_api_verify.c: beam.verify(): the rows in which a pipeline's result and its batch view differ.
 *
 * One query reads both, so both are as of one snapshot: rows of either side are brought to jsonb,
 * grouped by what identifies a row (window and keys, by the types' own equality, nulls being
 * equal), and compared. It is run as the pipeline's owner, restricted, with the pipeline's
 * settings: those of the caller could make rows different that are the same.
 *
 * RULES. A column that tells panes apart is not compared: a batch has no panes. Nor are keys, by
 * which the two were put together: equal ones may be written in different ways. Sums of floats are
 * equal up to the order of additions, which neither side promises (sb_verify_batch.h). A retracting
 * result is what is left when its retractions are taken off. A NOTICE says what was compared.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "api/sb_api.h"
#include "api/sb_api_range.h"
#include "api/sb_verify_batch.h"
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
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "version/sb_version.h"

/* Differences fetched at a time. */
#define SB_VERIFY_FETCH 1000

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

/* What is compared, and how far it is. */
typedef struct SbVerify
{
	const SbPipelineRow *row;
	const SbPlan *plan;
	const SbVerifyBatch *batch;
	const SbRange *range;
	bool bag;            /* equal rows may stand more than once, with nothing to tell them apart */
	ReturnSetInfo *into; /* differences */
	int64 result_rows, batch_rows;
} SbVerify;

/* The columns that are compared, as `prefix` and their names. */
static void
verify_append_columns(StringInfo sql, const SbPlan *plan, const char *prefix)
{
	const char *separator = "";

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (verify_uses_pane(&plan->columns_out[i]))
			continue;
		appendStringInfo(sql, "%s%s%s", separator, prefix,
		                 quote_identifier(plan->columns_out[i].name));
		separator = ", ";
	}
}

/* The scales of a group, as float8[]. */
static char *
verify_scales(const SbVerifyBatch *batch)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "ARRAY[");
	for (int i = 0; i < batch->nscales; i++)
		appendStringInfo(&sql, "%sy.%s", i > 0 ? ", " : "", quote_identifier(batch->scales[i]));
	appendStringInfoString(&sql, "]::pg_catalog.float8[]");
	return sql.data;
}

/*
 * One side: the identity of each row as i1, i2 ..., the row as j, how often it is there as n; and
 * of the batch how many rows its group has as c, and its scales as m.
 */
static void
verify_append_side(StringInfo sql, const SbVerify *verify, bool of_result)
{
	const SbPlan *plan = verify->plan;
	const SbVerifyBatch *batch = verify->batch;
	bool net = of_result && strcmp(verify->row->accumulation, "retracting") == 0;
	bool extended = !of_result && batch->count;
	int n = 0;

	appendStringInfoString(sql, "SELECT ");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind != SB_COLUMN_VALUE)
			appendStringInfo(sql, "x.%s AS i%d, ", quote_identifier(plan->columns_out[i].name),
			                 ++n);
	}
	appendStringInfo(sql, "beam._row_to_jsonb(x.*)%s AS j, %s AS n, %s AS c, %s AS m",
	                 net ? " OPERATOR(pg_catalog.-) 'op'" : "", net ? "pg_catalog.sum(x.op)" : "1",
	                 extended ? psprintf("y.%s", quote_identifier(batch->count))
	                          : "NULL::pg_catalog.int8",
	                 extended ? verify_scales(batch) : "NULL::pg_catalog.float8[]");
	appendStringInfo(sql, " FROM (SELECT * FROM %s b",
	                 of_result ? sb_sql_relation(verify->row->result) : batch->from);
	sb_range_append(sql, plan, verify->range);
	appendStringInfoString(sql, ") y CROSS JOIN LATERAL (SELECT ");
	verify_append_columns(sql, plan, "y.");
	appendStringInfo(sql, "%s) x", net ? ", y.op" : "");
	if (!net)
		return;
	/* by number: a column may be called like what is made here */
	appendStringInfoString(sql, " GROUP BY ");
	for (int i = 1; i <= n; i++)
		appendStringInfo(sql, "%d, ", i);
	appendStringInfo(sql, "%d HAVING pg_catalog.sum(x.op) OPERATOR(pg_catalog.<>) 0", n + 1);
}

/* The rows of both sides. */
static void
verify_append_sides(StringInfo sql, const SbVerify *verify)
{
	appendStringInfoString(sql, "(SELECT true AS of_result, s.* FROM (");
	verify_append_side(sql, verify, true);
	appendStringInfoString(sql, ") s UNION ALL SELECT false, s.* FROM (");
	verify_append_side(sql, verify, false);
	appendStringInfoString(sql, ") s) u");
}

/* The names of the columns that are no keys, as text[]. */
static void
verify_append_others(StringInfo sql, const SbPlan *plan)
{
	const char *separator = "";

	appendStringInfoString(sql, "ARRAY[");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == SB_COLUMN_KEY)
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
verify_append_pairs(StringInfo sql, const SbVerify *verify)
{
	const SbPlan *plan = verify->plan;
	int n = 0;

	appendStringInfo(
	    sql,
	    "SELECT %s AS ws, %s AS we, pg_catalog.jsonb_agg(u.j ORDER BY u.j) FILTER (WHERE u.of_result) AS r,"
	    " pg_catalog.jsonb_agg(u.j) FILTER (WHERE NOT u.of_result) AS b, pg_catalog.sum(u.n) FILTER (WHERE u.of_result) AS rn,"
	    " pg_catalog.max(u.c) AS c, pg_catalog.max(u.m) AS m FROM ",
	    verify_window_column(plan, SB_COLUMN_WINDOW_START),
	    verify_window_column(plan, SB_COLUMN_WINDOW_END));
	verify_append_sides(sql, verify);
	appendStringInfoString(sql, " GROUP BY ");
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind != SB_COLUMN_VALUE)
			appendStringInfo(sql, "u.i%d, ", ++n);
	}
	/* changes nothing, but for a query of one group */
	appendStringInfoString(sql, "()");
}

/* Columns of what is fetched: those of the differences, and what is needed to tell them. */
#define SB_VERIFY_KIND 1
#define SB_VERIFY_RESULT 5
#define SB_VERIFY_BATCH 6
#define SB_VERIFY_RESULT_ROWS 7
#define SB_VERIFY_BATCH_ROWS 8
#define SB_VERIFY_COUNT 9
#define SB_VERIFY_SCALES 10

/*
 * Both sides, row by row, as beam.verify() returns them where they differ. The kind is null where
 * they are the same, and `unlike` where the values have to be looked at. $1 and $2 bound the
 * windows.
 */
static char *
verify_sql(const SbVerify *verify)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(
	    &sql,
	    "SELECT d.kind, d.ws, d.we, (COALESCE(d.r, d.b) OPERATOR(pg_catalog.->) 0) OPERATOR(pg_catalog.-) ");
	verify_append_others(&sql, verify->plan);
	appendStringInfoString(
	    &sql,
	    ", CASE WHEN d.kind IS NULL THEN NULL"
	    " WHEN d.rn OPERATOR(pg_catalog.=) 1 AND pg_catalog.jsonb_array_length(d.r) OPERATOR(pg_catalog.=) 1"
	    " THEN d.r OPERATOR(pg_catalog.->) 0"
	    " WHEN d.rn IS NOT NULL THEN pg_catalog.jsonb_build_object('op', d.rn, 'rows', d.r) END,"
	    " CASE WHEN d.kind IS NOT NULL THEN d.b OPERATOR(pg_catalog.->) 0 END,"
	    " COALESCE(pg_catalog.jsonb_array_length(d.r), 0)::pg_catalog.int8,"
	    " COALESCE(pg_catalog.jsonb_array_length(d.b), 0)::pg_catalog.int8, d.c, d.m"
	    " FROM (SELECT e.*, CASE WHEN e.r IS NULL AND e.b IS NULL THEN NULL"
	    " WHEN e.r IS NULL THEN 'missing' WHEN e.b IS NULL THEN 'unexpected'"
	    " WHEN e.rn OPERATOR(pg_catalog.<>) 1 OR pg_catalog.jsonb_array_length(e.r) OPERATOR(pg_catalog.<>) 1 THEN 'different'"
	    " WHEN e.r OPERATOR(pg_catalog.<>) e.b THEN 'unlike' END AS kind FROM (");
	verify_append_pairs(&sql, verify);
	appendStringInfoString(&sql, ") e) d ORDER BY 2, 3, 4");
	return sql.data;
}

/*
 * The same for a query without groups, where equal rows may stand more than once: each that is
 * there too often, or not often enough.
 */
static char *
verify_rows_sql(const SbVerify *verify)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(
	    &sql,
	    "SELECT CASE WHEN d.n OPERATOR(pg_catalog.>) 0 THEN 'unexpected' WHEN d.n OPERATOR(pg_catalog.<) 0 THEN 'missing' END,"
	    " d.ws, d.we, NULL::pg_catalog.jsonb,"
	    " CASE WHEN d.n OPERATOR(pg_catalog.>) 0 THEN d.j END, CASE WHEN d.n OPERATOR(pg_catalog.<) 0 THEN d.j END,"
	    " CASE WHEN g OPERATOR(pg_catalog.=) 1 THEN d.rn ELSE 0 END::pg_catalog.int8, CASE WHEN g OPERATOR(pg_catalog.=) 1 THEN d.bn ELSE 0 END::pg_catalog.int8,"
	    " NULL::pg_catalog.int8, NULL::pg_catalog.float8[]"
	    " FROM (SELECT %s AS ws, %s AS we, u.j, pg_catalog.sum(CASE WHEN u.of_result THEN u.n ELSE OPERATOR(pg_catalog.-) u.n END) AS n,"
	    " COALESCE(pg_catalog.sum(u.n) FILTER (WHERE u.of_result), 0) AS rn, COALESCE(pg_catalog.sum(u.n) FILTER (WHERE NOT u.of_result), 0) AS bn FROM ",
	    verify_window_column(verify->plan, SB_COLUMN_WINDOW_START),
	    verify_window_column(verify->plan, SB_COLUMN_WINDOW_END));
	verify_append_sides(&sql, verify);
	appendStringInfoString(
	    &sql,
	    " GROUP BY 1, 2, 3) d, pg_catalog.generate_series(1, GREATEST(pg_catalog.abs(d.n), 1)) g ORDER BY 2, 3, 5, 6");
	return sql.data;
}

/* ---- rounding errors ---- */

/* A column's value in a row as JSON, in *value. False: it is null, or not there. */
static bool
verify_get(Jsonb *row, const char *name, JsonbValue *value)
{
	return getKeyJsonValueFromContainer(&row->root, name, strlen(name), value) != NULL &&
	       value->type != jbvNull;
}

static bool
verify_equal(JsonbValue *a, JsonbValue *b)
{
	return DatumGetBool(DirectFunctionCall2(jsonb_eq, JsonbPGetDatum(JsonbValueToJsonb(a)),
	                                        JsonbPGetDatum(JsonbValueToJsonb(b))));
}

static double
verify_number(const JsonbValue *value)
{
	return DatumGetFloat8(
	    DirectFunctionCall1(numeric_float8_no_overflow, NumericGetDatum(value->val.numeric)));
}

/* The scale of a column in a row that was fetched; 0: it has none. */
static double
verify_scale(const SbVerify *verify, int column, const Datum *values, const bool *nulls)
{
	int number = verify->batch->scale[column] + 1;
	bool isnull = true;
	Datum scale = (Datum) 0;

	if (number > 0 && !nulls[SB_VERIFY_SCALES - 1])
		scale = array_get_element(values[SB_VERIFY_SCALES - 1], 1, &number, -1, sizeof(float8),
		                          FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &isnull);
	return isnull ? 0 : DatumGetFloat8(scale);
}

/*
 * Are the rows the same, but for the order of additions? Those of one identity are equal in their
 * keys, though these may be written in different ways.
 */
static bool
verify_is_same(const SbVerify *verify, const Datum *values, const bool *nulls)
{
	const SbPlan *plan = verify->plan;
	Jsonb *result = DatumGetJsonbP(values[SB_VERIFY_RESULT - 1]);
	Jsonb *batch = DatumGetJsonbP(values[SB_VERIFY_BATCH - 1]);
	int64 rows = nulls[SB_VERIFY_COUNT - 1] ? 0 : DatumGetInt64(values[SB_VERIFY_COUNT - 1]);

	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];
		JsonbValue r, b;
		bool has_r, has_b;

		if (column->kind != SB_COLUMN_VALUE || verify_uses_pane(column))
			continue;
		has_r = verify_get(result, column->name, &r);
		has_b = verify_get(batch, column->name, &b);
		if (has_r != has_b)
			return false;
		if (!has_r || verify_equal(&r, &b))
			continue;
		if (r.type != jbvNumeric || b.type != jbvNumeric ||
		    !sb_verify_is_noise(verify->batch, plan, i, verify_number(&r), verify_number(&b), rows,
		                        verify_scale(verify, i, values, nulls)))
			return false;
	}
	return true;
}

/* ---- the run ---- */

/* A row that was fetched: it is counted, and returned where the sides differ. */
static void
verify_take(SbVerify *verify, HeapTuple tuple, TupleDesc desc)
{
	Datum values[SB_VERIFY_SCALES];
	bool nulls[SB_VERIFY_SCALES];
	char *kind;

	heap_deform_tuple(tuple, desc, values, nulls);
	verify->result_rows += DatumGetInt64(values[SB_VERIFY_RESULT_ROWS - 1]);
	verify->batch_rows += DatumGetInt64(values[SB_VERIFY_BATCH_ROWS - 1]);
	if (nulls[SB_VERIFY_KIND - 1])
		return;
	kind = TextDatumGetCString(values[SB_VERIFY_KIND - 1]);
	if (strcmp(kind, "unlike") == 0)
	{
		if (verify_is_same(verify, values, nulls))
			return;
		values[SB_VERIFY_KIND - 1] = CStringGetTextDatum("different");
	}
	tuplestore_putvalues(verify->into->setResult, verify->into->setDesc, values, nulls);
}

/* Both sides in one query, so as of one snapshot; in the bracket of the pipeline's owner. */
static void
verify_run(SbVerify *verify)
{
	const char *sql = verify->bag ? verify_rows_sql(verify) : verify_sql(verify);
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum args[] = {TimestampTzGetDatum(verify->range->from),
	                TimestampTzGetDatum(verify->range->to)};
	MemoryContext scratch, old;
	Portal portal;

	SPI_connect();
	scratch =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam verify", ALLOCSET_DEFAULT_SIZES);
	portal = SPI_cursor_open_with_args(NULL, sql, lengthof(types), types, args, NULL, true, 0);
	do
	{
		SPI_cursor_fetch(portal, true, SB_VERIFY_FETCH);
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			old = MemoryContextSwitchTo(scratch);
			verify_take(verify, SPI_tuptable->vals[i], SPI_tuptable->tupdesc);
			MemoryContextSwitchTo(old);
			MemoryContextReset(scratch);
		}
		SPI_freetuptable(SPI_tuptable);
	} while (SPI_processed > 0);
	SPI_cursor_close(portal);
	SPI_finish();
}

/* ---- what has been compared ---- */

static void
verify_append_note(StringInfo notes, const char *note)
{
	appendStringInfo(notes, "%s%s", notes->len > 0 ? " " : "", note);
}

/* The columns that are of a kind, after which `what` says what was done with them. */
static void
verify_append_columns_note(StringInfo notes, const SbVerify *verify,
                           bool (*is)(const SbVerify *verify, int column), const char *what)
{
	StringInfoData names;
	int n = 0;

	initStringInfo(&names);
	for (int i = 0; i < verify->plan->ncolumns; i++)
	{
		if (is(verify, i))
			appendStringInfo(&names, "%s\"%s\"", n++ > 0 ? ", " : "",
			                 verify->plan->columns_out[i].name);
	}
	if (n > 0)
		verify_append_note(notes, psprintf("%s: %s.", what, names.data));
}

static bool
verify_tells_panes(const SbVerify *verify, int column)
{
	return verify_uses_pane(&verify->plan->columns_out[column]);
}

static bool
verify_is_inexact(const SbVerify *verify, int column)
{
	return verify->batch->inexact[column] && !verify_tells_panes(verify, column);
}

/* What was left out, and why; empty: nothing was. */
static char *
verify_notes(const SbVerify *verify)
{
	StringInfoData notes;

	initStringInfo(&notes);
	if (verify->range->from != DT_NOBEGIN || verify->range->to != DT_NOEND)
		verify_append_note(&notes, "Windows outside of the range were left out.");
	verify_append_columns_note(&notes, verify, verify_tells_panes,
	                           "Left out, since a batch has no panes");
	verify_append_columns_note(&notes, verify, verify_is_inexact,
	                           "Compared up to the rounding errors of floating-point sums");
	if (verify->row->progress.late > 0)
		verify_append_note(&notes,
		                   "The batch view has rows that came late, which are in beam.late_events.");
	if (verify->row->progress.dead > 0)
		verify_append_note(&notes, "Rows that failed are in beam.dead_letters.");
	return notes.data;
}

static void
verify_tell(const SbVerify *verify)
{
	char *notes = verify_notes(verify);

	ereport(NOTICE, (errmsg("rows compared of pipeline \"%s\": " INT64_FORMAT
	                        " of the result, " INT64_FORMAT " of the batch view",
	                        verify->row->name, verify->result_rows, verify->batch_rows),
	                 *notes ? errdetail("%s", notes) : 0));
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
	SbVerify verify = {0};

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
	verify.row = row;
	verify.plan = plan;
	verify.batch = sb_verify_batch(row, plan);
	verify.range = &range;
	verify.bag = plan->maps && !(plan->keyed && strcmp(row->accumulation, "accumulating") == 0);
	verify.into = (ReturnSetInfo *) fcinfo->resultinfo;
	verify_run(&verify);
	sb_bracket_leave(&saved);
	verify_tell(&verify);
	return (Datum) 0;
}
