/*
 * sb_queue_table.c: the table in which rows wait; see sb_queue_table.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "base/sb_statement.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/tuptable.h"
#include "sink/sb_queue_table.h"
#include "sink/sb_result.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

/* How rows go into the queue of a reader. */
struct SbQueueTable
{
	SbStatement *statement;
	TupleDesc desc;    /* op, and the columns that the queue has ... */
	AttrNumber *attno; /* ... of the source's columns with these numbers */
};

/* A column for each of the source's, by its number: a rename is none of its business, and the server looks after the types. */
char *
sb_queue_table_sql(const char *table, Oid source)
{
	Relation rel = table_open(source, AccessShareLock);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "CREATE TABLE %s (seq pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, op pg_catalog.int2 NOT NULL", table);
	for (int i = 0; i < RelationGetDescr(rel)->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (att->attisdropped)
			continue;
		appendStringInfoString(&sql, ", ");
		sb_result_append_column(&sql, psprintf("c%d", att->attnum), att->atttypid, att->atttypmod, att->attcollation);
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

	return att->attisdropped || *name != 'c' ? InvalidAttrNumber : (AttrNumber) strtol(name + 1, NULL, 10);
}

/* A column of this name and type, or none: one that is gone fails the pipeline when it writes its result, one of a version nobody reads. */
static AttrNumber
queue_find_column(TupleDesc layout, const char *name, Oid type)
{
	for (int i = 0; i < layout->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(layout, i);

		if (!column->attisdropped && column->atttypid == type && strcmp(NameStr(column->attname), name) == 0)
			return column->attnum;
	}
	return InvalidAttrNumber;
}

SbQueueTable *
sb_queue_table_open(int32 reader)
{
	char *name = sb_queue_table_name(reader);
	Relation rel = try_table_open(sb_queue_table_relid(reader), AccessShareLock);
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
	queue->desc = CreateTemplateTupleDesc(n);
	TupleDescInitEntry(queue->desc, 1, "op", INT2OID, -1, 0);
	n = 1;
	for (int i = 0; i < table->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(table, i);

		if (sb_queue_table_attno(att) == InvalidAttrNumber)
			continue;
		TupleDescInitEntry(queue->desc, ++n, NameStr(att->attname), att->atttypid, att->atttypmod, 0);
		TupleDescInitEntryCollation(queue->desc, n, att->attcollation);
		appendStringInfo(&columns, ", %s", NameStr(att->attname));
	}
	table_close(rel, NoLock);
	queue->statement = sb_statement_create(psprintf("INSERT INTO beam_state.%s (op%s) SELECT op%s FROM rows", name, columns.data, columns.data), queue->desc, 0, NULL);
	sb_statement_elevate(queue->statement);
	return queue;
}

void
sb_queue_table_put(SbQueueTable *queue, HeapTuple tuple, TupleDesc layout, int op)
{
	Datum *values = palloc0(sizeof(Datum) * queue->desc->natts);
	bool *nulls = palloc(sizeof(bool) * queue->desc->natts);

	memset(nulls, true, sizeof(bool) * queue->desc->natts);
	values[0] = Int16GetDatum(op);
	nulls[0] = false;
	for (int i = 1; i < queue->desc->natts; i++)
	{
		AttrNumber attno = queue->attno[i];
		Form_pg_attribute att = attno <= layout->natts ? TupleDescAttr(layout, attno - 1) : NULL;

		/* one that was altered is none of the pipeline's: that would not have been opened */
		if (att == NULL || att->attisdropped || att->atttypid != TupleDescAttr(queue->desc, i)->atttypid)
			continue;
		values[i] = heap_getattr(tuple, attno, layout, &nulls[i]);
		if (!nulls[i] && att->attlen == -1)
			values[i] = PointerGetDatum(PG_DETOAST_DATUM_PACKED(values[i]));
	}
	sb_statement_put(queue->statement, values, nulls);
}

void
sb_queue_table_write(SbQueueTable *queue)
{
	if (sb_statement_rows(queue->statement) > 0)
		sb_statement_run(queue->statement, NULL, NULL);
}

/* A statement takes so many rows at a time. */
#define SB_QUEUE_FILL_ROWS 20000

/* A row of one relation as one of another: columns go by name and type. In the current context. */
static HeapTuple
queue_convert(HeapTuple tuple, TupleDesc from, TupleDesc to)
{
	Datum *values = palloc0(sizeof(Datum) * to->natts);
	bool *nulls = palloc(sizeof(bool) * to->natts);

	memset(nulls, true, sizeof(bool) * to->natts);
	for (int i = 0; i < to->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(to, i);
		AttrNumber attno = column->attisdropped ? InvalidAttrNumber : queue_find_column(from, NameStr(column->attname), column->atttypid);

		if (attno != InvalidAttrNumber)
			values[i] = heap_getattr(tuple, attno, from, &nulls[i]);
	}
	return heap_form_tuple(to, values, nulls);
}

void
sb_queue_table_fill(int32 reader, Oid result, Oid source)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "stream_beam queue", ALLOCSET_DEFAULT_SIZES);
	MemoryContext rows = AllocSetContextCreate(context, "stream_beam queue rows", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	SbQueueTable *queue = sb_queue_table_open(reader);
	Relation rel = table_open(result, NoLock);
	Relation planned = table_open(source, AccessShareLock);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		HeapTuple tuple = ExecFetchSlotHeapTuple(slot, false, NULL);

		MemoryContextSwitchTo(rows);
		if (result != source)
			tuple = queue_convert(tuple, RelationGetDescr(rel), RelationGetDescr(planned));
		sb_queue_table_put(queue, tuple, RelationGetDescr(planned), 1);
		MemoryContextSwitchTo(context);
		MemoryContextReset(rows);
		if (sb_statement_rows(queue->statement) >= SB_QUEUE_FILL_ROWS)
			sb_queue_table_write(queue);
	}
	sb_queue_table_write(queue);
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	UnregisterSnapshot(snapshot);
	table_close(planned, NoLock);
	table_close(rel, NoLock);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}
