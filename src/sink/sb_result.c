/*
 * sb_result.c: the result table of a pipeline; see sb_result.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_class.h"
#include "base/sb_compat.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "parser/parse_coerce.h"
#include "query/expr/sb_bytes.h"
#include "sink/sb_failed_groups.h"
#include "sink/sb_result_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

struct SbResult
{
	Oid table;
	char *name;         /* qualified, as it was opened */
	TransactionId xmin; /* who had last written its row of pg_class then */
	const SbPlan *plan;
	SbAccumulation accumulation;
	TupleDesc desc;        /* of the plan's columns */
	TupleDesc insert_desc; /* with op where there is one */
	Datum *values;         /* scratch: of one row, with op or n */
	bool *nulls;
	SbStatement *insert;
	SbStatement *remove;       /* rows whose identity has no NULL: by the index */
	SbStatement *remove_nulls; /* the others */
	SbStatement *find;         /* the same for reading them */
	SbStatement *find_nulls;
	SbStatement *take_out; /* n equal rows that nothing identifies; NULL: rows have an identity */
	SbStatement *clear_all;
	SbStatement *clear_inside;  /* of windows in a range; NULL where there are no windows */
	SbStatement *clear_outside; /* of all others */
	int nidentity;
	int *identity;          /* columns of the plan that identify a row */
	Datum *identity_values; /* scratch: of one row */
	bool *identity_nulls;
	TupleDesc identity_desc;
	int64 taken_out; /* how many rows take_out is to find */
	bool strict;     /* it takes no null in its identity; see sb_result_identity.c */
	bool has_null;   /* a row was put that has one; until the write */
	SbEntrySize entry;
	Oid index;      /* by which rows are found; InvalidOid: not known yet, or there is none */
	bool by_hash;   /* it is that of the other kind (sb_result_index.c) */
	bool has_large; /* a row was put that needs it; until the write */
};

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

/*
 * Of these of the plan's columns (NULL: of the first n) by their names or, `numbered`, as c1, c2
 * ..., and of one more behind them (NULL: there is none).
 */
static TupleDesc
result_desc(const SbPlan *plan, const int *columns, int n, bool numbered, const char *more,
            Oid more_type)
{
	TupleDesc desc = CreateTemplateTupleDesc(n + (more ? 1 : 0));

	for (int i = 0; i < n; i++)
	{
		const SbColumn *column = &plan->columns_out[columns ? columns[i] : i];

		TupleDescInitEntry(desc, i + 1, numbered ? psprintf("c%d", i + 1) : column->name,
		                   column->type, column->typmod, 0);
		TupleDescInitEntryCollation(desc, i + 1, column->collation);
	}
	if (more)
		TupleDescInitEntry(desc, n + 1, more, more_type, -1, 0);
	return desc;
}

static void
result_open_take_out(SbResult *result, const char *table)
{
	if (!sb_plan_is_bag(result->plan) || result->accumulation != SB_ACCUMULATING)
		return;
	result->take_out = sb_statement_create(sb_result_take_out_sql(result->plan, table),
	                                       result_desc(result->plan, NULL, result->plan->ncolumns,
	                                                   true, "n", INT8OID),
	                                       0, NULL);
	sb_statement_by_index(result->take_out);
}

/* One statement for all rows, and two for the windows in a range and those beside it. */
static void
result_open_clear(SbResult *result, const char *table)
{
	const SbPlan *plan = result->plan;
	Oid types[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};

	result->clear_all =
	    sb_statement_create(sb_result_clear_sql(plan, table, result->accumulation, "true"), NULL, 0,
	                        NULL);
	if (plan->window_kind == SB_WINDOW_GLOBAL)
		return;
	result->clear_inside =
	    sb_statement_create(sb_result_clear_sql(plan, table, result->accumulation,
	                                            sb_result_clear_condition(plan, true)),
	                        NULL, lengthof(types), types);
	result->clear_outside =
	    sb_statement_create(sb_result_clear_sql(plan, table, result->accumulation,
	                                            sb_result_clear_condition(plan, false)),
	                        NULL, lengthof(types), types);
}

static TransactionId
result_xmin(Oid table)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(table));
	TransactionId xmin = InvalidTransactionId;

	if (HeapTupleIsValid(tuple))
	{
		xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
		ReleaseSysCache(tuple);
	}
	return xmin;
}

bool
sb_result_has_moved(const SbResult *result, Oid owner)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(result->table));
	Form_pg_class form;
	bool moved;

	if (!HeapTupleIsValid(tuple))
		return false; /* gone, which is another thing */
	form = (Form_pg_class) GETSTRUCT(tuple);
	moved = form->relowner != owner ||
	        strcmp(result->name, quote_qualified_identifier(get_namespace_name(form->relnamespace),
	                                                        NameStr(form->relname))) != 0;
	ReleaseSysCache(tuple);
	return moved;
}

bool
sb_result_is_altered(const SbResult *result)
{
	TransactionId xmin = result_xmin(result->table);

	return TransactionIdIsValid(xmin) && xmin != result->xmin;
}

/* The statement with this text, which is new or (`statement` not NULL) gets it. */
static SbStatement *
result_statement(SbStatement *statement, TupleDesc rows, bool by_index, char *sql)
{
	if (statement == NULL)
		statement = sb_statement_create(sql, rows, 0, NULL);
	sb_statement_change(statement, sql, by_index);
	pfree(sql);
	return statement;
}

/* The statements whose text depends on how a row is found. */
static void
result_open_by_identity(SbResult *result)
{
	const SbPlan *plan = result->plan;
	TupleDesc identity = result->identity_desc;
	bool by_hash = result->by_hash;
	char *remove = psprintf("DELETE FROM %s t USING", result->name);
	char *find = sb_result_find_sql(plan, result->name);

	result->insert =
	    result_statement(result->insert, result->insert_desc, by_hash,
	                     sb_result_insert_sql(plan, result->name, result->accumulation, by_hash));
	result->remove = result_statement(result->remove, identity, true,
	                                  sb_result_match_sql(plan, remove, false, by_hash));
	result->remove_nulls = result_statement(result->remove_nulls, identity, true,
	                                        sb_result_match_sql(plan, remove, true, by_hash));
	result->find = result_statement(result->find, identity, true,
	                                sb_result_match_sql(plan, find, false, by_hash));
	result->find_nulls = result_statement(result->find_nulls, identity, true,
	                                      sb_result_match_sql(plan, find, true, by_hash));
}

static void
result_find_index(SbResult *result)
{
	for (int by_hash = 1; by_hash >= 0; by_hash--)
	{
		result->by_hash = by_hash == 1;
		result->index = sb_result_find_index(result->plan, result->table, result->accumulation,
		                                     result->by_hash);
		if (OidIsValid(result->index))
			return;
	}
}

/*
 * The index that is there, which may not be that of before: the transaction that made it was
 * aborted, or somebody else has changed it. One by hash is made if it is needed. SPI
 * connected, as the owner.
 */
static void
result_look_at_index(SbResult *result)
{
	bool was = result->by_hash;

	/* where no key is without a bound there is one kind only */
	if (result->entry.n == 0)
		return;
	if (!OidIsValid(result->index) ||
	    !SearchSysCacheExists1(INDEXRELID, ObjectIdGetDatum(result->index)))
		result_find_index(result);
	if (unlikely(result->has_large) && !result->by_hash)
	{
		sb_result_index_by_hash(result->plan, result->table, result->accumulation, GetUserId());
		result_find_index(result);
	}
	result->has_large = false;
	if (unlikely(was != result->by_hash))
		result_open_by_identity(result);
}

SbResult *
sb_result_open(const SbPlan *plan, Oid relation, SbAccumulation accumulation)
{
	SbResult *result = palloc0(sizeof(SbResult));
	const char *table;

	result->table = relation;
	/* first: what is altered from here on is seen */
	result->xmin = result_xmin(relation);
	table = result->name = sb_sql_relation(relation);
	result->plan = plan;
	result->accumulation = accumulation;
	result->desc = result_desc(plan, NULL, plan->ncolumns, false, NULL, InvalidOid);
	result->insert_desc = result_desc(plan, NULL, plan->ncolumns, false,
	                                  accumulation == SB_RETRACTING ? "op" : NULL, INT2OID);
	result->values = palloc(sizeof(Datum) * (plan->ncolumns + 1));
	result->nulls = palloc(sizeof(bool) * (plan->ncolumns + 1));
	result->identity = palloc(sizeof(int) * (plan->ncolumns + 1));
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (sb_result_identifies(&plan->columns_out[i]))
			result->identity[result->nidentity++] = i;
	}
	result->identity_values = palloc(sizeof(Datum) * (result->nidentity + 1));
	result->identity_nulls = palloc(sizeof(bool) * (result->nidentity + 1));
	result->identity_desc =
	    result_desc(plan, result->identity, result->nidentity, true, NULL, InvalidOid);
	result->entry = sb_result_entry_size(plan, relation, accumulation);
	result_open_by_identity(result);
	result_open_clear(result, table);
	result_open_take_out(result, table);
	result->strict = sb_result_is_strict(relation);
	return result;
}

/* Has it a null in what identifies it? */
static bool
result_identity_has_null(const SbResult *result, const bool *nulls)
{
	for (int i = 0; i < result->nidentity; i++)
	{
		if (nulls[result->identity[i]])
			return true;
	}
	return false;
}

/* A row with one more value behind it. */
static void
result_put_more(SbResult *result, SbStatement *statement, const Datum *values, const bool *nulls,
                Datum more)
{
	int n = result->plan->ncolumns;

	memcpy(result->values, values, sizeof(Datum) * n);
	memcpy(result->nulls, nulls, sizeof(bool) * n);
	result->values[n] = more;
	result->nulls[n] = false;
	sb_statement_put(statement, result->values, result->nulls);
}

void
sb_result_put(SbResult *result, const Datum *values, const bool *nulls, int op)
{
	if (result->strict && unlikely(result_identity_has_null(result, nulls)))
		result->has_null = true;
	/* those put before may be gone with an aborted transaction */
	if (result->has_large && sb_statement_rows(result->insert) == 0)
		result->has_large = false;
	if (unlikely(sb_result_may_be_too_large(&result->entry, values, nulls)))
		result->has_large = result->has_large || result->by_hash ||
		                    sb_result_is_too_large(&result->entry, values, nulls);
	if (result->accumulation == SB_RETRACTING)
		result_put_more(result, result->insert, values, nulls, Int16GetDatum(op));
	else
		sb_statement_put(result->insert, values, nulls);
}

/*
 * Of an accumulating result whose rows nothing identifies: n equal rows are to vanish, which must
 * be there: error 22000 at the write.
 */
static void
result_put_taken_out(SbResult *result, const Datum *values, const bool *nulls, int64 n)
{
	/* those put before may be gone with an aborted transaction */
	if (sb_statement_rows(result->take_out) == 0)
		result->taken_out = 0;
	result_put_more(result, result->take_out, values, nulls, Int64GetDatum(n));
	result->taken_out += n;
}

/* Nothing outside the row is left in it that may be gone when it is read again. */
static bytea *
result_pack(TupleDesc desc, const int *columns, const Datum *values, const bool *nulls)
{
	Datum *flat = palloc(sizeof(Datum) * (desc->natts + 1));
	bool *isnull = palloc(sizeof(bool) * (desc->natts + 1));
	MinimalTuple tuple;
	bytea *packed;

	for (int i = 0; i < desc->natts; i++)
	{
		int from = columns ? columns[i] : i;

		flat[i] = values[from];
		isnull[i] = nulls[from];
		if (!isnull[i] && TupleDescAttr(desc, i)->attlen == -1)
			flat[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(flat[i]));
	}
	tuple = heap_form_minimal_tuple(desc, flat, isnull, 0);
	packed = palloc(VARHDRSZ + tuple->t_len);
	SET_VARSIZE(packed, VARHDRSZ + tuple->t_len);
	memcpy(VARDATA(packed), tuple, tuple->t_len);
	pfree(tuple);
	pfree(flat);
	pfree(isnull);
	return packed;
}

bytea *
sb_result_pack(const SbResult *result, const Datum *values, const bool *nulls)
{
	return result_pack(result->desc, NULL, values, nulls);
}

bytea *
sb_result_pack_identity(const SbResult *result, const Datum *values, const bool *nulls)
{
	return result_pack(result->identity_desc, result->identity, values, nulls);
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

/* ---- rows by their identity ---- */

static void
result_set_identity(SbResult *result, SbWindow window, const Datum *keys, const bool *nulls)
{
	for (int i = 0; i < result->nidentity; i++)
	{
		const SbColumn *column = &result->plan->columns_out[result->identity[i]];

		result->identity_nulls[i] = false;
		if (column->kind == SB_COLUMN_WINDOW_START)
			result->identity_values[i] = TimestampTzGetDatum(window.start);
		else if (column->kind == SB_COLUMN_WINDOW_END)
			result->identity_values[i] = TimestampTzGetDatum(window.end);
		else
		{
			result->identity_values[i] = keys[column->key];
			result->identity_nulls[i] = nulls[column->key];
		}
	}
}

/* That of a row with these values. */
static void
result_set_identity_of_row(SbResult *result, const Datum *values, const bool *nulls)
{
	for (int i = 0; i < result->nidentity; i++)
	{
		result->identity_values[i] = values[result->identity[i]];
		result->identity_nulls[i] = nulls[result->identity[i]];
	}
}

/* What has been set goes to the one statement or, where it has a null, to the other: to which? */
static SbStatement *
result_put_identity(SbResult *result, SbStatement *plain, SbStatement *with_nulls)
{
	SbStatement *statement = plain;

	for (int i = 0; i < result->nidentity; i++)
	{
		if (result->identity_nulls[i])
			statement = with_nulls;
	}
	sb_statement_put(statement, result->identity_values, result->identity_nulls);
	return statement;
}

void
sb_result_remove(SbResult *result, SbWindow window, const Datum *keys, const bool *nulls)
{
	result_set_identity(result, window, keys, nulls);
	(void) result_put_identity(result, result->remove, result->remove_nulls);
}

/* The row with the identity that has been set; NULL: there is none. */
static bytea *
result_find(SbResult *result)
{
	SbStatement *statement = result_put_identity(result, result->find, result->find_nulls);
	bytea *packed = NULL;
	uint64 n;

	result_look_at_index(result);
	n = sb_statement_run(statement, NULL, NULL);

	result_check_read(result, SPI_tuptable->tupdesc);
	if (n > 0)
	{
		heap_deform_tuple(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, result->values,
		                  result->nulls);
		packed = sb_result_pack(result, result->values, result->nulls);
	}
	SPI_freetuptable(SPI_tuptable);
	return packed;
}

bytea *
sb_result_find(SbResult *result, SbWindow window, const Datum *keys, const bool *nulls)
{
	result_set_identity(result, window, keys, nulls);
	return result_find(result);
}

bytea *
sb_result_find_row(SbResult *result, const Datum *values, const bool *nulls)
{
	result_set_identity_of_row(result, values, nulls);
	return result_find(result);
}

/* ---- all rows, and the write ---- */

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
	       sb_statement_rows(result->remove_nulls) > 0 ||
	       (result->take_out && sb_statement_rows(result->take_out) > 0);
}

/* All have to be there. */
static void
result_take_out(SbResult *result)
{
	int64 wanted = result->taken_out;

	result->taken_out = 0;
	if ((int64) sb_statement_run(result->take_out, NULL, NULL) < wanted)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_DATA_EXCEPTION),
		     errmsg("a row is to be taken out of the result that is not there"),
		     errdetail(
		         "When it was new it was a dead letter, or older than the pipeline, or the result was changed by hand.")));
}

/* The first null since the column of the source may have one. It may be done already. */
static void
result_take_nulls(SbResult *result)
{
	result->has_null = false;
	sb_result_loosen(result->table, GetUserId());
}

void
sb_result_write(SbResult *result)
{
	SB_KILL_POINT("before_result");
	if (unlikely(result->has_null))
		result_take_nulls(result);
	result_look_at_index(result);
	sb_statement_flush(result->remove, 1);
	sb_statement_flush(result->remove_nulls, 1);
	if (result->take_out && sb_statement_rows(result->take_out) > 0)
		result_take_out(result);
	sb_statement_flush(result->insert, 1);
	SB_KILL_POINT("after_result");
}

/* ---- the sink ---- */

/* An accumulating result has the new row in the old one's place. */
static void
result_sink_put(void *sink, const SbSinkRow *row)
{
	SbResult *result = sink;

	if (row->op < 0 && result->accumulation == SB_ACCUMULATING)
	{
		if (result->take_out)
			result_put_taken_out(result, row->values, row->nulls, -row->op);
		else if (result->plan->maps && !row->replaced)
		{
			result_set_identity_of_row(result, row->values, row->nulls);
			(void) result_put_identity(result, result->remove, result->remove_nulls);
		}
		return;
	}
	if (row->op < 0 && result->accumulation == SB_DISCARDING)
		return;
	for (int64 n = 0; n < sb_sink_row_count(row); n++)
		sb_result_put(result, row->values, row->nulls, row->op > 0 ? 1 : -1);
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

/* What does not exist has no rows. */
static void
result_forget(SbStatement *statement)
{
	if (statement)
		sb_statement_forget(statement);
}

static void
result_sink_forget(void *sink)
{
	SbResult *result = sink;

	result_forget(result->insert);
	result_forget(result->remove);
	result_forget(result->remove_nulls);
	result_forget(result->take_out);
}

static void
result_sink_failed(void *sink, const SbFailedGroup *group, const ErrorData *error)
{
	sb_failed_groups_put(group, error);
}

static void
result_sink_late(void *sink, const SbLateEvent *event, const char *json)
{
	sb_letters_put_late(event, json);
}

const SbSinkKind sb_result_sink = {.name = "table",
                                   .may_refuse = true,
                                   .put = result_sink_put,
                                   .remove = result_sink_remove,
                                   .is_pending = result_sink_is_pending,
                                   .write = result_sink_write,
                                   .forget = result_sink_forget,
                                   .failed = result_sink_failed,
                                   .late = result_sink_late};
