/*
 * sb_result_index.c: the index of a result by which a row is found.
 *
 * It is on the columns that identify a row: users look rows up by it, and the rows of a pane are
 * upserted by it. An entry of an index has at most a third of a page, while a group key may be as
 * large as a value can be. With the first row whose key is too large the result gets another index
 * in its place, in the transaction that writes the row: on the bounds of the window and a hash of
 * the keys, beam._key_hash(). Equal keys have one row still: the pipeline is the only writer, finds
 * rows by the hash and compares the keys themselves.
 *
 * RULES. A result that is indexed by hash stays so until another version takes its place that needs
 * it no longer. Its replica identity is FULL. Where a key has a composite type that gains an
 * attribute, its hash changes: the pipeline is rebuilt then, and its rows, even those that stay the
 * same, are written anew (sb_version_swap.c).
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "access/toast_internals.h"
#include "access/toast_compression.h"
#include "access/detoast.h"
#include "base/sb_bracket.h"
#include "base/sb_statement.h"
#include "catalog/pg_attribute.h"
#include "catalog/pg_type.h"
#include "catalog/sb_lock.h"
#include "executor/spi.h"
#include "parser/parse_func.h"
#include "sink/sb_result_private.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* ---- the size of an entry ---- */

SbEntrySize
sb_result_entry_size(const SbPlan *plan, Oid table, SbAccumulation accumulation)
{
	/* header and null bitmap */
	SbEntrySize entry = {.least = 16};

	entry.unbounded = palloc(sizeof(*entry.unbounded) * (plan->ncolumns + 1));
	if (sb_plan_is_bag(plan) || (plan->maps && accumulation != SB_ACCUMULATING))
		return entry;
	for (int i = 0; i < plan->ncolumns; i++)
	{
		HeapTuple tuple = sb_result_identifies(&plan->columns_out[i])
		                      ? SearchSysCacheAttName(table, plan->columns_out[i].name)
		                      : NULL;
		Form_pg_attribute att;

		if (!HeapTupleIsValid(tuple))
			continue;
		att = (Form_pg_attribute) GETSTRUCT(tuple);
		if (att->attlen >= 0)
			entry.least += MAXALIGN(att->attlen);
		else
			entry.unbounded[entry.n++] =
			    (struct SbEntryColumn){.column = i,
			                           .compress = att->attstorage == TYPSTORAGE_EXTENDED ||
			                                       att->attstorage == TYPSTORAGE_MAIN};
		ReleaseSysCache(tuple);
	}
	return entry;
}

/* As index_form_tuple() makes it. */
static Size
entry_column_size(const struct SbEntryColumn *column, Datum value)
{
	struct varlena *bytes = (struct varlena *) DatumGetPointer(value);
	Datum compressed;

	if (VARATT_IS_EXTERNAL(bytes))
		bytes = detoast_external_attr(bytes);
	if (VARATT_IS_EXTENDED(bytes) || VARSIZE(bytes) <= TOAST_INDEX_TARGET || !column->compress)
		return VARSIZE_ANY(bytes);
	compressed = toast_compress_datum(PointerGetDatum(bytes), InvalidCompressionMethod);
	return DatumGetPointer(compressed) ? VARSIZE_ANY(DatumGetPointer(compressed))
	                                   : VARSIZE_ANY(bytes);
}

bool
sb_result_is_too_large(const SbEntrySize *entry, const Datum *values, const bool *nulls)
{
	Size size = entry->least;

	for (int i = 0; i < entry->n; i++)
	{
		if (!nulls[entry->unbounded[i].column])
			size += MAXALIGN(
			    entry_column_size(&entry->unbounded[i], values[entry->unbounded[i].column]));
	}
	return size > SB_ENTRY_MAX;
}

/* ---- the index ---- */

/* beam._key_hash(); InvalidOid: the catalog is older than the library. */
static Oid
index_function(const char *name)
{
	Oid types[] = {ANYOID};

	return LookupFuncName(list_make2(makeString("beam"), makeString(pstrdup(name))),
	                      lengthof(types), types, true);
}

static Oid
index_take(void)
{
	Oid found = InvalidOid;
	bool isnull;

	if (SPI_processed > 0)
		found = DatumGetObjectId(
		    SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	return found;
}

/* The first that has the function in an expression. */
static Oid
index_find_with(Oid table, const char *function)
{
	Oid types[] = {OIDOID, OIDOID};
	Datum values[] = {ObjectIdGetDatum(table), ObjectIdGetDatum(index_function(function))};

	sb_sql_run(
	    "SELECT i.indexrelid FROM pg_catalog.pg_index i JOIN pg_catalog.pg_depend d ON d.objid OPERATOR(pg_catalog.=) i.indexrelid"
	    " WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass"
	    " AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass"
	    " AND d.refobjid OPERATOR(pg_catalog.=) $2 ORDER BY 1 LIMIT 1",
	    lengthof(types), types, values, NULL, SPI_OK_SELECT);
	return index_take();
}

/* The first that is on the columns that identify a row, in their order. */
static Oid
index_find_on_columns(const SbPlan *plan, Oid table, bool unique)
{
	Oid types[] = {OIDOID, BOOLOID, TEXTARRAYOID};
	Datum *names = palloc(sizeof(Datum) * (plan->ncolumns + 1));
	Datum values[lengthof(types)];
	int n = 0;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (sb_result_identifies(&plan->columns_out[i]))
			names[n++] = CStringGetTextDatum(plan->columns_out[i].name);
	}
	values[0] = ObjectIdGetDatum(table);
	values[1] = BoolGetDatum(unique);
	values[2] = PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
	sb_sql_run(
	    "SELECT i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) $1"
	    " AND i.indisunique OPERATOR(pg_catalog.=) $2 AND i.indnullsnotdistinct OPERATOR(pg_catalog.=) $2"
	    " AND i.indpred IS NULL AND NOT i.indisprimary AND (SELECT COALESCE(pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place), '{}')"
	    " FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k (attnum, place)"
	    " JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) $1"
	    " AND a.attnum OPERATOR(pg_catalog.=) k.attnum AND k.attnum OPERATOR(pg_catalog.>) 0) OPERATOR(pg_catalog.=) $3 ORDER BY 1 LIMIT 1",
	    lengthof(types), types, values, NULL, SPI_OK_SELECT);
	return index_take();
}

Oid
sb_result_find_index(const SbPlan *plan, Oid table, SbAccumulation accumulation, bool by_hash)
{
	if (plan->maps && accumulation != SB_ACCUMULATING)
		return InvalidOid;
	if (sb_plan_is_bag(plan))
		return by_hash ? InvalidOid : index_find_with(table, "_row_hash");
	if (by_hash)
		return index_find_with(table, "_key_hash");
	return index_find_on_columns(plan, table, accumulation == SB_ACCUMULATING);
}

static void
index_run_as_owner(Oid owner, const char *sql)
{
	SbBracket saved;

	sb_bracket_enter_owner(&saved, owner, NULL);
	sb_sql_run(sql, 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	sb_bracket_leave(&saved);
}

/* The only column that identifies a row, where none of two rows has the same in it; NULL: none. */
static const SbColumn *
index_sole_column(const SbPlan *plan, SbAccumulation accumulation)
{
	const SbColumn *sole = NULL;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (!sb_result_identifies(&plan->columns_out[i]))
			continue;
		if (sole)
			return NULL;
		sole = &plan->columns_out[i];
	}
	return accumulation == SB_ACCUMULATING ? sole : NULL;
}

/* Of the access method hash, on this column. */
static bool
index_is_for_lookups(Oid table, const char *column)
{
	Oid types[] = {OIDOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(table), CStringGetTextDatum(column)};
	uint64 n = sb_sql_run(
	    "SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid"
	    " JOIN pg_catalog.pg_am m ON m.oid OPERATOR(pg_catalog.=) c.relam JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) $1"
	    " WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND m.amname OPERATOR(pg_catalog.=) 'hash' AND i.indpred IS NULL"
	    " AND a.attnum OPERATOR(pg_catalog.=) i.indkey[0] AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) $2",
	    lengthof(types), types, values, NULL, SPI_OK_SELECT);

	SPI_freetuptable(SPI_tuptable);
	return n > 0;
}

void
sb_result_make_index(const SbPlan *plan, Oid table, SbAccumulation accumulation, bool by_hash,
                     Oid owner)
{
	const SbColumn *sole = by_hash ? index_sole_column(plan, accumulation) : NULL;
	char *name = sb_sql_relation(table);

	index_run_as_owner(owner, sb_result_index_sql(plan, name, accumulation, by_hash));
	/* WHERE key = ... of a user's does not know our hash */
	if (sole && !index_is_for_lookups(table, sole->name))
		index_run_as_owner(owner, psprintf("CREATE INDEX ON %s USING %s (%s)", name, "hash",
		                                   quote_identifier(sole->name)));
}

void
sb_result_drop_index(Oid index, Oid owner)
{
	if (OidIsValid(index))
		index_run_as_owner(owner, psprintf("DROP INDEX %s", sb_sql_relation(index)));
}

void
sb_result_index_by_hash(const SbPlan *plan, Oid table, SbAccumulation accumulation, Oid owner)
{
	if (OidIsValid(sb_result_find_index(plan, table, accumulation, true)) ||
	    !OidIsValid(index_function("_key_hash")))
		return;
	sb_lock_relation(table, AccessExclusiveLock);
	if (sb_result_is_strict(table))
		sb_result_loosen(table, owner);
	sb_result_drop_index(sb_result_find_index(plan, table, accumulation, false), owner);
	sb_result_make_index(plan, table, accumulation, true, owner);
}
