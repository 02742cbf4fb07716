/*
 * sb_queue_table.c: the table in which rows wait; see sb_queue_table.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_statement.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "sink/sb_queue_table.h"
#include "sink/sb_result.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

/* How rows go into the queue of a downstream pipeline. */
struct SbQueueTable
{
	Oid relation;
	SbStatement *statement;
	TupleDesc desc; /* op, and the columns that the queue has ... */
	/*
	 * ... of the source's columns with these numbers; behind them seq, where rows are numbered here
	 */
	AttrNumber *attno;
	int64 number; /* of the next row; 0: the server numbers them */
};

/* Rows are numbered from here on, so that there is room for those that are to come before them. */
#define SB_QUEUE_FIRST INT64CONST(4611686018427387904)

/*
 * A column for each of the source's, by its number: a rename is none of its business, and the
 * server looks after the types.
 */
char *
sb_queue_table_sql(const char *table, Oid source)
{
	Relation rel = table_open(source, AccessShareLock);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(
	    &sql,
	    "CREATE TABLE %s (seq pg_catalog.int8 GENERATED ALWAYS AS IDENTITY (START WITH " INT64_FORMAT
	    ") PRIMARY KEY, op pg_catalog.int2 NOT NULL",
	    table, SB_QUEUE_FIRST);
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (att->attisdropped)
			continue;
		appendStringInfoString(&sql, ", ");
		sb_result_append_column(&sql, psprintf("c%d", att->attnum), att->atttypid, att->atttypmod,
		                        att->attcollation);
	}
	appendStringInfo(&sql, "); REVOKE ALL ON %s FROM PUBLIC;", table);
	table_close(rel, NoLock);
	return sql.data;
}

char *
sb_queue_table_name(int32 pipeline)
{
	return psprintf("queue_%d", pipeline);
}

Oid
sb_queue_table_relid(int32 pipeline)
{
	return get_relname_relid(sb_queue_table_name(pipeline), get_namespace_oid("beam_state", false));
}

AttrNumber
sb_queue_table_attno(Form_pg_attribute att)
{
	const char *name = NameStr(att->attname);

	return att->attisdropped || *name != 'c' ? InvalidAttrNumber
	                                         : (AttrNumber) strtol(name + 1, NULL, 10);
}

AttrNumber
sb_column_number(TupleDesc layout, const char *name, Oid type)
{
	for (int i = 0; i < layout->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(layout, i);

		if (!column->attisdropped && column->atttypid == type &&
		    strcmp(NameStr(column->attname), name) == 0)
			return column->attnum;
	}
	return InvalidAttrNumber;
}

SbQueueTable *
sb_queue_table_open(int32 downstream, bool before)
{
	char *name = sb_queue_table_name(downstream);
	Relation rel = try_table_open(sb_queue_table_relid(downstream), AccessShareLock);
	TupleDesc table;
	SbQueueTable *queue;
	StringInfoData columns;
	AttrNumber n = 1;

	if (rel == NULL)
		return NULL;
	table = RelationGetDescr(rel);
	queue = palloc0(sizeof(SbQueueTable));
	initStringInfo(&columns);
	queue->attno = palloc(sizeof(AttrNumber) * (table->natts + 1));
	for (int i = 0; i < table->natts; i++)
	{
		if (sb_queue_table_attno(TupleDescAttr(table, i)) != InvalidAttrNumber)
			queue->attno[n++] = sb_queue_table_attno(TupleDescAttr(table, i));
	}
	queue->relation = RelationGetRelid(rel);
	queue->number = before ? 1 : 0;
	queue->desc = CreateTemplateTupleDesc(n + before);
	TupleDescInitEntry(queue->desc, 1, "op", INT2OID, -1, 0);
	n = 1;
	for (int i = 0; i < table->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(table, i);

		if (sb_queue_table_attno(att) == InvalidAttrNumber)
			continue;
		TupleDescInitEntry(queue->desc, ++n, NameStr(att->attname), att->atttypid, att->atttypmod,
		                   0);
		TupleDescInitEntryCollation(queue->desc, n, att->attcollation);
		appendStringInfo(&columns, ", %s", NameStr(att->attname));
	}
	table_close(rel, NoLock);
	if (before)
	{
		TupleDescInitEntry(queue->desc, ++n, "seq", INT8OID, -1, 0);
		appendStringInfoString(&columns, ", seq");
	}
	queue->statement = sb_statement_create(
	    psprintf("INSERT INTO beam_state.%s (op%s) OVERRIDING SYSTEM VALUE SELECT op%s FROM rows",
	             name, columns.data, columns.data),
	    queue->desc, 0, NULL);
	sb_statement_elevate(queue->statement);
	return queue;
}

void
sb_queue_table_put(SbQueueTable *queue, HeapTuple tuple, TupleDesc layout, int op)
{
	Datum *values = palloc0(sizeof(Datum) * queue->desc->natts);
	bool *nulls = palloc(sizeof(bool) * queue->desc->natts);
	int ncolumns = queue->desc->natts;

	memset(nulls, true, sizeof(bool) * queue->desc->natts);
	values[0] = Int16GetDatum(op);
	nulls[0] = false;
	if (queue->number > 0)
	{
		values[--ncolumns] = Int64GetDatum(queue->number++);
		nulls[ncolumns] = false;
	}
	for (int i = 1; i < ncolumns; i++)
	{
		AttrNumber attno = queue->attno[i];
		Form_pg_attribute att = attno <= layout->natts ? TupleDescAttr(layout, attno - 1) : NULL;

		/* one that was altered is none of the pipeline's: that would not have been opened */
		if (att == NULL || att->attisdropped ||
		    att->atttypid != TupleDescAttr(queue->desc, i)->atttypid)
			continue;
		values[i] = heap_getattr(tuple, attno, layout, &nulls[i]);
		if (!nulls[i] && att->attlen == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
	}
	sb_statement_put(queue->statement, values, nulls);
}

bool
sb_queue_table_is_there(const SbQueueTable *queue)
{
	LockRelationOid(queue->relation, RowExclusiveLock);
	return get_rel_relkind(queue->relation) == RELKIND_RELATION;
}

int64
sb_queue_table_rows(const SbQueueTable *queue)
{
	return sb_statement_rows(queue->statement);
}

void
sb_queue_table_write(SbQueueTable *queue)
{
	sb_statement_flush(queue->statement, 1);
}
