/*
 * sb_items_table.c: the table behind the items of a pipeline's cells: a row for each leaf of a
 * tree.
 *
 * A tree has a number that no other one has had: that of the transaction that made it, and a count.
 * It is in the state of its cell, and in the column `items` of the cell's row: so the leaves of
 * cells that are not in memory can be deleted with them. Behind the bytes of a leaf is a seal of
 * the whole row.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "state/sb_cells_private.h"
#include "utils/memutils.h"

/* Rows written by one statement. */
#define SB_LEAF_BATCH 20000
/* Of a tree's number: the count of trees within one transaction. */
#define SB_TREE_BITS 24

enum
{
	SB_LEAF_TREE,
	SB_LEAF_LEAF,
	SB_LEAF_ITEMS,
	SB_LEAF_ROWS,
	SB_LEAF_PLACE,
	SB_LEAF_DATA,
	SB_LEAF_NCOLUMNS
};

struct SbItemsTable
{
	SbItemStore store;
	MemoryContext context;
	SbStatement *insert;
	SbStatement *update;
	SbStatement *delete;
	SbStatement *drop;
	SbStatement *read_tree;
	SbStatement *read_leaf;
	SbStatement *read_leaves;
	SbStatement *clear;        /* of all cells */
	SbStatement *clear_inside; /* of those of windows in a range */
	SbStatement *clear_outside;
	/* trees that are over, not yet deleted */
	int64 *dropped;
	int ndropped, max_dropped;
};

char *
sb_items_table_name(int32 pipeline)
{
	return psprintf("items_%d", pipeline);
}

Oid
sb_items_table_relid(int32 pipeline)
{
	return get_relname_relid(sb_items_table_name(pipeline), get_namespace_oid("beam_state", false));
}

char *
sb_items_table_sql(const char *table)
{
	/* a leaf that changes has room on its page */
	return psprintf(
	    "CREATE TABLE %s (tree pg_catalog.int8 NOT NULL, leaf pg_catalog.int4 NOT NULL, items pg_catalog.int4 NOT NULL,"
	    " rows pg_catalog.int8 NOT NULL, place pg_catalog.int8 NOT NULL, data pg_catalog.bytea NOT NULL,"
	    " PRIMARY KEY (tree, leaf)) WITH (fillfactor = 70);"
	    "ALTER TABLE %s ALTER COLUMN data SET STORAGE EXTERNAL; REVOKE ALL ON %s FROM PUBLIC;",
	    table, table, table);
}

/* ---- reading ---- */

static pg_crc32c
leaf_seal_place(int64 tree, const SbLeafRow *row)
{
	int64 place[] = {tree, row->leaf, row->items, row->rows, (int64) row->place};

	return sb_bytes_seal(0, place, sizeof(place));
}

static Datum
leaf_get(HeapTuple tuple, int column)
{
	bool isnull;

	return SPI_getbinval(tuple, SPI_tuptable->tupdesc, column + 1, &isnull);
}

static SbLeafRow
leaf_row(HeapTuple tuple)
{
	return (SbLeafRow){.leaf = DatumGetInt32(leaf_get(tuple, SB_LEAF_LEAF)),
	                   .items = DatumGetInt32(leaf_get(tuple, SB_LEAF_ITEMS)),
	                   .rows = DatumGetInt64(leaf_get(tuple, SB_LEAF_ROWS)),
	                   .place = (uint64) DatumGetInt64(leaf_get(tuple, SB_LEAF_PLACE))};
}

/* The bytes of a leaf without their seal, in the current context. */
static bytea *
leaf_bytes(int64 tree, HeapTuple tuple)
{
	SbLeafRow row = leaf_row(tuple);
	bytea *data = DatumGetByteaPCopy(leaf_get(tuple, SB_LEAF_DATA));
	const char *end = (char *) data + VARSIZE(data);

	sb_bytes_check_seal(leaf_seal_place(tree, &row), VARDATA(data), &end);
	SET_VARSIZE(data, end - (char *) data);
	return data;
}

static int
table_read_tree(void *arg, int64 tree, SbLeafRow **rows)
{
	SbItemsTable *table = arg;
	Datum args[] = {Int64GetDatum(tree)};
	int n = sb_statement_run(table->read_tree, args, NULL);

	*rows = palloc(sizeof(SbLeafRow) * Max(n, 1));
	for (int i = 0; i < n; i++)
		(*rows)[i] = leaf_row(SPI_tuptable->vals[i]);
	SPI_freetuptable(SPI_tuptable);
	return n;
}

static bytea *
table_read_leaf(void *arg, int64 tree, int32 leaf)
{
	SbItemsTable *table = arg;
	Datum args[] = {Int64GetDatum(tree), Int32GetDatum(leaf)};
	bytea *bytes;

	if (sb_statement_run(table->read_leaf, args, NULL) != 1)
		sb_bytes_corrupted("A leaf of a tree of items is missing.");
	bytes = leaf_bytes(tree, SPI_tuptable->vals[0]);
	SPI_freetuptable(SPI_tuptable);
	return bytes;
}

/* What `take` does may run other statements: their results are others. */
static void
table_read_leaves(void *arg, int64 tree, void (*take)(void *to, int32 leaf, const bytea *bytes),
                  void *to)
{
	SbItemsTable *table = arg;
	Datum args[] = {Int64GetDatum(tree)};
	uint64 n = sb_statement_run(table->read_leaves, args, NULL);
	SPITupleTable *result = SPI_tuptable;

	for (uint64 i = 0; i < n; i++)
	{
		int32 leaf;
		bytea *bytes;

		CHECK_FOR_INTERRUPTS();
		SPI_tuptable = result;
		leaf = DatumGetInt32(leaf_get(result->vals[i], SB_LEAF_LEAF));
		bytes = leaf_bytes(tree, result->vals[i]);
		take(to, leaf, bytes);
		pfree(bytes);
	}
	SPI_freetuptable(result);
}

/* ---- writing ---- */

/* The last number that this process has given; one is never given again. */
static int64 last_tree;

static int64
table_new_tree(void *arg)
{
	int64 first = (int64) (U64FromFullTransactionId(GetTopFullTransactionId()) << SB_TREE_BITS);

	last_tree = Max(last_tree + 1, first);
	return last_tree;
}

static void
leaf_put(SbStatement *statement, int64 tree, const SbLeafRow *row, Datum data)
{
	Datum values[SB_LEAF_NCOLUMNS];
	bool nulls[SB_LEAF_NCOLUMNS] = {false};

	values[SB_LEAF_TREE] = Int64GetDatum(tree);
	values[SB_LEAF_LEAF] = Int32GetDatum(row->leaf);
	values[SB_LEAF_ITEMS] = Int32GetDatum(row->items);
	values[SB_LEAF_ROWS] = Int64GetDatum(row->rows);
	values[SB_LEAF_PLACE] = Int64GetDatum((int64) row->place);
	values[SB_LEAF_DATA] = data;
	nulls[SB_LEAF_DATA] = data == (Datum) 0;
	sb_statement_put(statement, values, nulls);
	sb_statement_flush(statement, SB_LEAF_BATCH);
}

/* The bytes stand behind room for the head of a varlena. */
static void
table_write_leaf(void *arg, int64 tree, const SbLeafRow *row, const StringInfo bytes, bool stored)
{
	SbItemsTable *table = arg;
	pg_crc32c seal =
	    sb_bytes_seal(leaf_seal_place(tree, row), bytes->data + VARHDRSZ, bytes->len - VARHDRSZ);

	appendBinaryStringInfo(bytes, (char *) &seal, SB_SEAL_SIZE);
	SET_VARSIZE(bytes->data, bytes->len);
	leaf_put(stored ? table->update : table->insert, tree, row, PointerGetDatum(bytes->data));
}

static void
table_delete_leaf(void *arg, int64 tree, int32 leaf)
{
	SbItemsTable *table = arg;
	SbLeafRow row = {.leaf = leaf};

	leaf_put(table->delete, tree, &row, (Datum) 0);
}

static void
table_drop_tree(void *arg, int64 tree)
{
	SbItemsTable *table = arg;

	if (table->ndropped == table->max_dropped)
	{
		table->max_dropped = Max(64, table->max_dropped * 2);
		table->dropped =
		    table->dropped ? repalloc(table->dropped, sizeof(int64) * table->max_dropped)
		                   : MemoryContextAlloc(table->context, sizeof(int64) * table->max_dropped);
	}
	table->dropped[table->ndropped++] = tree;
}

void
sb_items_table_drop(SbItemsTable *table)
{
	for (int i = 0; i < table->ndropped; i++)
	{
		SbLeafRow row = {0};

		leaf_put(table->drop, table->dropped[i], &row, (Datum) 0);
	}
	table->ndropped = 0;
	sb_statement_flush(table->drop, 1);
}

void
sb_items_table_forget_dropped(SbItemsTable *table)
{
	table->ndropped = 0;
}

void
sb_items_table_write(SbItemsTable *table)
{
	sb_statement_flush(table->delete, 1);
	sb_statement_flush(table->update, 1);
	sb_statement_flush(table->insert, 1);
}

void
sb_items_table_clear(SbItemsTable *table, const SbWindowRange *range, bool inside)
{
	Datum args[] = {Int64GetDatum(range->from), Int64GetDatum(range->lo), Int64GetDatum(range->hi)};

	if (sb_window_range_is_all(range))
		sb_statement_run(table->clear, NULL, NULL);
	else
		sb_statement_run(inside ? table->clear_inside : table->clear_outside, args, NULL);
}

/* ---- opening ---- */

static SbStatement *
items_statement(const char *sql, TupleDesc rows, int nargs, bool by_index)
{
	static const Oid tree_and_leaf[] = {INT8OID, INT4OID};
	static const Oid range[] = {INT8OID, INT8OID, INT8OID};
	SbStatement *statement =
	    sb_statement_create(sql, rows, nargs, nargs == lengthof(range) ? range : tree_and_leaf);

	sb_statement_elevate(statement);
	if (by_index)
		sb_statement_by_index(statement);
	return statement;
}

static TupleDesc
items_row_desc(void)
{
	TupleDesc desc = CreateTemplateTupleDesc(SB_LEAF_NCOLUMNS);

	TupleDescInitEntry(desc, SB_LEAF_TREE + 1, "tree", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_LEAF_LEAF + 1, "leaf", INT4OID, -1, 0);
	TupleDescInitEntry(desc, SB_LEAF_ITEMS + 1, "items", INT4OID, -1, 0);
	TupleDescInitEntry(desc, SB_LEAF_ROWS + 1, "rows", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_LEAF_PLACE + 1, "place", INT8OID, -1, 0);
	TupleDescInitEntry(desc, SB_LEAF_DATA + 1, "data", BYTEAOID, -1, 0);
	return desc;
}

/* The leaves of cells that are to be deleted. */
#define SB_ITEMS_CLEAR \
	"DELETE FROM %s i WHERE i.tree OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT pg_catalog.unnest(s.items) FROM %s s WHERE %s))"

SbItemsTable *
sb_items_table_open(const char *name, const char *state_table, MemoryContext context)
{
	SbItemsTable *table = palloc0(sizeof(SbItemsTable));
	TupleDesc row = items_row_desc();
	const char *all = "SELECT i.tree, i.leaf, i.items, i.rows, i.place%s FROM %s i"
	                  " WHERE i.tree OPERATOR(pg_catalog.=) $1%s";
	const char *one = " AND i.leaf OPERATOR(pg_catalog.=) $2";
	const char *joined = "i.tree OPERATOR(pg_catalog.=) r.tree";

	table->context = context;
	table->insert =
	    items_statement(psprintf("INSERT INTO %s SELECT * FROM rows", name), row, 0, false);
	table->update = items_statement(
	    psprintf("UPDATE %s i SET items = r.items, rows = r.rows, place = r.place, data = r.data FROM rows r"
	             " WHERE %s AND i.leaf OPERATOR(pg_catalog.=) r.leaf",
	             name, joined),
	    row, 0, true);
	table->delete = items_statement(
	    psprintf("DELETE FROM %s i USING rows r WHERE %s AND i.leaf OPERATOR(pg_catalog.=) r.leaf",
	             name, joined),
	    row, 0, true);
	table->drop = items_statement(psprintf("DELETE FROM %s i USING rows r WHERE %s", name, joined),
	                              row, 0, true);
	table->read_tree = items_statement(psprintf(all, "", name, ""), NULL, 1, true);
	table->read_leaf = items_statement(psprintf(all, ", i.data", name, one), NULL, 2, true);
	table->read_leaves = items_statement(psprintf(all, ", i.data", name, ""), NULL, 1, true);
	table->clear = items_statement(psprintf("DELETE FROM %s", name), NULL, 0, false);
	table->clear_inside =
	    items_statement(psprintf(SB_ITEMS_CLEAR, name, state_table, SB_STATE_IN_RANGE), NULL, 3,
	                    true);
	table->clear_outside =
	    items_statement(psprintf(SB_ITEMS_CLEAR, name, state_table, "NOT (" SB_STATE_IN_RANGE ")"),
	                    NULL, 3, true);
	table->store = (SbItemStore){.new_tree = table_new_tree,
	                             .read_tree = table_read_tree,
	                             .read_leaf = table_read_leaf,
	                             .read_leaves = table_read_leaves,
	                             .write_leaf = table_write_leaf,
	                             .delete_leaf = table_delete_leaf,
	                             .drop_tree = table_drop_tree,
	                             .arg = table};
	return table;
}

const SbItemStore *
sb_items_table_store(const SbItemsTable *table)
{
	return &table->store;
}
