/*
 * sb_result_identity.c: the replica identity of a result table.
 *
 * A table whose rows are updated has one from the start: once somebody makes a publication of it,
 * perhaps of all tables, PostgreSQL refuses an UPDATE of a table that has none. Where no column
 * that identifies a row can be null, it is the unique index on these columns, which are NOT NULL
 * then: no more WAL is written for it. Else the identity is FULL.
 *
 * RULES. A result with the index is *strict*. Whether a key can be null follows from the source,
 * whose NOT NULL may be taken away later: with the first null the result is made what it would have
 * been without, in the transaction that writes the row. What a user has set is left alone: a result
 * is made strict only when it is made or gets other columns, and a replica identity is set only
 * where there is none.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_bracket.h"
#include "base/sb_statement.h"
#include "catalog/pg_class.h"
#include "catalog/pg_index.h"
#include "executor/spi.h"
#include "nodes/primnodes.h"
#include "sink/sb_result.h"
#include "sink/sb_result_private.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

/* Can a column that identifies a row not be null, as things stand? */
static bool
identity_never_null(const SbPlan *plan, const SbColumn *column)
{
	const Var *var;
	HeapTuple tuple;
	bool not_null;

	if (column->kind != SB_COLUMN_KEY || plan->maps)
		return true; /* a window's bounds, or of the source's primary key */
	var = (const Var *) plan->keys[column->key].expr;
	if (!IsA(var, Var) || var->varattno <= 0)
		return false;
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(plan->source), Int16GetDatum(var->varattno));
	if (!HeapTupleIsValid(tuple))
		return false;
	not_null = ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
	ReleaseSysCache(tuple);
	return not_null;
}

bool
sb_result_may_be_strict(const SbPlan *plan, SbAccumulation accumulation)
{
	bool identified = false;

	if (!sb_result_is_updated(plan, accumulation))
		return false;
	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		if (!sb_result_identifies(column))
			continue;
		identified = true;
		if (!identity_never_null(plan, column))
			return false;
	}
	return identified;
}

/* The index that is the replica identity, or (by default) the primary key; InvalidOid: none is. */
static Oid
identity_of(Oid table, char *kind)
{
	Relation rel = table_open(table, AccessShareLock);
	Oid index = RelationGetReplicaIndex(rel);

	*kind = rel->rd_rel->relreplident;
	table_close(rel, NoLock);
	return index;
}

/*
 * The index that makes it strict, or InvalidOid. One of a user's takes nulls for distinct, as his
 * own choice may well be.
 */
static HeapTuple
identity_strict_index(Oid table)
{
	char kind;
	Oid index = identity_of(table, &kind);
	HeapTuple tuple = kind == REPLICA_IDENTITY_INDEX && OidIsValid(index)
	                      ? SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index))
	                      : NULL;

	if (HeapTupleIsValid(tuple) && !((Form_pg_index) GETSTRUCT(tuple))->indnullsnotdistinct)
	{
		ReleaseSysCache(tuple);
		tuple = NULL;
	}
	return tuple;
}

bool
sb_result_is_strict(Oid table)
{
	HeapTuple index = identity_strict_index(table);

	if (HeapTupleIsValid(index))
		ReleaseSysCache(index);
	return HeapTupleIsValid(index);
}

static void
identity_alter(Oid table, Oid owner, const char *how)
{
	SbBracket saved;

	sb_bracket_enter_owner(&saved, owner, NULL);
	sb_sql_run(psprintf("ALTER TABLE %s %s", sb_sql_relation(table), how), 0, NULL, NULL, NULL,
	           SPI_OK_UTILITY);
	sb_bracket_leave(&saved);
}

/* Our index, if its columns are all NOT NULL, by name; NULL: there is none. */
static char *
identity_index(Oid table)
{
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(table)};
	char *name = NULL;

	if (sb_sql_run(
	        "SELECT c.relname FROM pg_catalog.pg_index i"
	        " JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid"
	        " WHERE i.indrelid OPERATOR(pg_catalog.=) $1 AND i.indisunique AND i.indnullsnotdistinct AND i.indisvalid"
	        " AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a"
	        " WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND NOT a.attnotnull"
	        " AND a.attnum OPERATOR(pg_catalog.=) ANY (i.indkey::pg_catalog.int2[])) ORDER BY i.indexrelid LIMIT 1",
	        lengthof(types), types, values, NULL, SPI_OK_SELECT) > 0)
		name = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	SPI_freetuptable(SPI_tuptable);
	return name;
}

/* Has PostgreSQL no old row to publish? */
static bool
identity_is_needed(Oid table)
{
	char kind;
	Oid index = identity_of(table, &kind);

	return kind == REPLICA_IDENTITY_DEFAULT && !OidIsValid(index);
}

static void
identity_use_index(Oid table, Oid owner, const char *index)
{
	identity_alter(table, owner,
	               psprintf("REPLICA IDENTITY USING INDEX %s", quote_identifier(index)));
}

void
sb_result_identify(const SbPlan *plan, Oid table, SbAccumulation accumulation, Oid owner)
{
	char *index;

	if (!identity_is_needed(table))
		return;
	index = sb_result_may_be_strict(plan, accumulation) ? identity_index(table) : NULL;
	if (index)
		identity_use_index(table, owner, index);
	else
		identity_alter(table, owner, "REPLICA IDENTITY FULL");
}

void
sb_result_identify_if_free(Oid table, Oid owner)
{
	if (identity_is_needed(table) && ConditionalLockRelationOid(table, AccessExclusiveLock) &&
	    identity_is_needed(table))
		identity_alter(table, owner, "REPLICA IDENTITY FULL");
}

void
sb_result_loosen(Oid table, Oid owner)
{
	StringInfoData drop;
	HeapTuple index;
	Form_pg_index form;

	if (!ConditionalLockRelationOid(table, AccessExclusiveLock))
		ereport(ERROR,
		        (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
		         errmsg("the result table \"%s\" is being used, and a column of it has to be altered",
		                get_rel_name(table)),
		         errdetail("A group key can be null now.")));
	index = identity_strict_index(table);
	if (!HeapTupleIsValid(index))
		return;
	form = (Form_pg_index) GETSTRUCT(index);
	initStringInfo(&drop);
	for (int i = 0; i < form->indnkeyatts; i++)
		appendStringInfo(&drop, "%sALTER COLUMN %s DROP NOT NULL", i > 0 ? ", " : "",
		                 quote_identifier(get_attname(table, form->indkey.values[i], false)));
	ReleaseSysCache(index);
	identity_alter(table, owner, "REPLICA IDENTITY FULL");
	identity_alter(table, owner, drop.data);
}

void
sb_result_make_strict(const SbPlan *plan, Oid table, Oid owner)
{
	StringInfoData set;
	char *index;

	initStringInfo(&set);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (sb_result_identifies(&plan->columns_out[i]))
			appendStringInfo(&set, "%sALTER COLUMN %s SET NOT NULL", set.len > 0 ? ", " : "",
			                 quote_identifier(plan->columns_out[i].name));
	}
	identity_alter(table, owner, set.data);
	index = identity_index(table);
	if (index)
		identity_use_index(table, owner, index);
}
