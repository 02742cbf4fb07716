/*
 * sb_version_shape.c: what result table and batch view have to become for the next version; see
 * sb_version.h.
 *
 * RULES. The result table stays the same relation. A column that both versions have with the same
 * type stays; one that is new, or has another type, is added at the end, and one that is gone is
 * dropped: neither rewrites the table, so that a query with an older snapshot goes on seeing the
 * old rows. What the user has added to the table is left alone.
 *
 * The batch view stays the same relation where SQL can replace it: when the new columns begin with
 * the old ones. Otherwise the next version's view takes its name, and nothing may depend on the old
 * one.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/sb_statement.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/sb_pipeline_names.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "version/sb_version.h"

/* What depends on a relation or, attno not 0, on one of its columns: a name to tell, or NULL. */
static char *
shape_dependent(Oid relation, AttrNumber attno)
{
	Oid types[] = {OIDOID, INT4OID};
	Datum values[] = {ObjectIdGetDatum(relation), Int32GetDatum(attno)};
	char *name = NULL;

	/* a view depends through its rule, a pipeline through its batch view */
	sb_version_run(
	    "SELECT COALESCE((SELECT 'pipeline ' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(p.name) FROM beam.pipeline p WHERE p.view OPERATOR(pg_catalog.=) r.ev_class LIMIT 1),"
	    " 'view ' OPERATOR(pg_catalog.||) r.ev_class::pg_catalog.regclass::pg_catalog.text, pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid))"
	    " FROM pg_catalog.pg_depend d LEFT JOIN pg_catalog.pg_rewrite r"
	    " ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND r.oid OPERATOR(pg_catalog.=) d.objid"
	    " WHERE d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid OPERATOR(pg_catalog.=) $1"
	    " AND ($2 OPERATOR(pg_catalog.=) 0 OR d.refobjsubid OPERATOR(pg_catalog.=) $2)"
	    " AND d.deptype OPERATOR(pg_catalog.=) 'n' AND (r.ev_class IS NULL OR r.ev_class OPERATOR(pg_catalog.<>) $1) ORDER BY 1 LIMIT 1",
	    lengthof(types), types, values);
	if (SPI_processed > 0)
		name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return name;
}

/* The columns of a relation, a copy; NULL: it is gone. */
static TupleDesc
shape_columns(Oid relation)
{
	Relation rel = try_table_open(relation, AccessShareLock);
	TupleDesc columns;

	if (rel == NULL)
		return NULL;
	columns = CreateTupleDescCopy(RelationGetDescr(rel));
	table_close(rel, NoLock);
	return columns;
}

static bool
shape_same(const FormData_pg_attribute *a, const FormData_pg_attribute *b)
{
	return strcmp(NameStr(a->attname), NameStr(b->attname)) == 0 && a->atttypid == b->atttypid &&
	       a->atttypmod == b->atttypmod && a->attcollation == b->attcollation;
}

/* Is there such a column, of the same type and all? */
static bool
shape_has(TupleDesc columns, const FormData_pg_attribute *column)
{
	for (int i = 0; i < columns->natts; i++)
	{
		if (!TupleDescAttr(columns, i)->attisdropped &&
		    shape_same(TupleDescAttr(columns, i), column))
			return true;
	}
	return false;
}

static bool
shape_retracts(const SbPipelineRow *row)
{
	return sb_accumulation_of_name(row->accumulation) == SB_RETRACTING;
}

typedef struct SbShape
{
	List *dropped; /* names of columns of the table */
	List *added;   /* of FormData_pg_attribute * */
	bool op_added;
} SbShape;

/*
 * What the result table has to lose and to get. The batch views are compared, since the table may
 * have columns that the user has added to it.
 */
static SbShape
shape_compare(const SbPipelineRow *current, const SbPipelineRow *next)
{
	TupleDesc before = shape_columns(current->view);
	TupleDesc after = shape_columns(next->view);
	SbShape shape = {NIL, NIL, shape_retracts(next) && !shape_retracts(current)};

	if (after == NULL)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_UNDEFINED_TABLE),
		     errmsg("the batch view of the new version of pipeline \"%s\" is gone", next->name),
		     errhint(
		         "Give the version up with beam.cancel_alter(), and give the query again: beam.alter_pipeline(name, query => ...).")));
	/* whoever dropped the view has left only the table to tell what its columns were */
	if (before == NULL)
	{
		sb_version_check_result(current);
		before = shape_columns(current->result);
	}
	for (int i = 0; i < before->natts; i++)
	{
		const FormData_pg_attribute *column = TupleDescAttr(before, i);

		if (column->attisdropped || shape_has(after, column) ||
		    get_attnum(current->result, NameStr(column->attname)) == InvalidAttrNumber)
			continue;
		/* told apart below */
		if (strcmp(NameStr(column->attname), "op") != 0)
			shape.dropped = lappend(shape.dropped, pstrdup(NameStr(column->attname)));
	}
	if (shape_retracts(current) && !shape_retracts(next))
		shape.dropped = lappend(shape.dropped, "op");
	for (int i = 0; i < after->natts; i++)
	{
		if (!shape_has(before, TupleDescAttr(after, i)))
			shape.added = lappend(shape.added, TupleDescAttr(after, i));
	}
	return shape;
}

char *
sb_version_alter_sql(const SbPipelineRow *current, const SbPipelineRow *next)
{
	SbShape shape = shape_compare(current, next);
	const char *separator = "";
	StringInfoData sql;
	ListCell *lc;

	if (shape.dropped == NIL && shape.added == NIL && !shape.op_added)
		return NULL;
	initStringInfo(&sql);
	appendStringInfo(&sql, "ALTER TABLE %s", sb_sql_relation(current->result));
	foreach (lc, shape.dropped)
	{
		appendStringInfo(&sql, "%s DROP COLUMN %s", separator, quote_identifier(lfirst(lc)));
		separator = ",";
	}
	foreach (lc, shape.added)
	{
		const FormData_pg_attribute *column = lfirst(lc);

		appendStringInfo(&sql, "%s ADD COLUMN ", separator);
		sb_result_append_column(&sql, NameStr(column->attname), column->atttypid, column->atttypmod,
		                        column->attcollation);
		separator = ",";
	}
	if (shape.op_added)
		appendStringInfo(&sql, "%s ADD COLUMN op pg_catalog.int2 NOT NULL", separator);
	return sql.data;
}

bool
sb_version_view_stays(const SbPipelineRow *current, const SbPipelineRow *next)
{
	TupleDesc before = shape_columns(current->view);
	TupleDesc after = shape_columns(next->view);

	if (current->view == next->view)
		return true;
	if (before == NULL || before->natts > after->natts)
		return false;
	for (int i = 0; i < before->natts; i++)
	{
		if (!shape_same(TupleDescAttr(before, i), TupleDescAttr(after, i)))
			return false;
	}
	return true;
}

static void
shape_refuse(const char *what, const char *name, const char *pipeline, const char *dependent,
             const char *hint)
{
	ereport(ERROR,
	        (errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
	         errmsg("%s \"%s\" of pipeline \"%s\" cannot change as the new definition wants it",
	                what, name, pipeline),
	         errdetail("%s depends on it.", dependent), errhint("%s", hint)));
}

void
sb_version_check_shape(const SbPipelineRow *current, const SbPipelineRow *next)
{
	SbShape shape = shape_compare(current, next);
	char *dependent;
	ListCell *lc;

	foreach (lc, shape.dropped)
	{
		dependent = shape_dependent(current->result, get_attnum(current->result, lfirst(lc)));
		if (dependent)
			shape_refuse(
			    "result column", lfirst(lc), current->name, dependent,
			    "Keep the column with its type in the query, or drop what depends on it first.");
	}
	foreach (lc, shape.added)
	{
		char *name = NameStr(((FormData_pg_attribute *) lfirst(lc))->attname);
		bool goes = false;
		ListCell *lc2;

		foreach (lc2, shape.dropped)
			goes = goes || strcmp(lfirst(lc2), name) == 0;
		if (!goes && get_attnum(current->result, name) != InvalidAttrNumber)
			ereport(ERROR,
			        (errcode(ERRCODE_DUPLICATE_COLUMN),
			         errmsg("the result table of pipeline \"%s\" has a column \"%s\" already, which is not the pipeline's",
			                current->name, name),
			         errhint("Name the column of the query otherwise.")));
	}
	if (sb_version_view_stays(current, next) || get_rel_relkind(current->view) != RELKIND_VIEW)
		return;
	dependent = shape_dependent(current->view, 0);
	if (dependent)
		shape_refuse(
		    "batch view", get_rel_name(current->view), current->name, dependent,
		    "A view can only get further columns behind those it has. Keep these as they are, or drop what depends on the view first.");
}
