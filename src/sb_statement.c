/*
 * sb_statement.c: one SQL statement over a set of rows that a worker made; see sb_statement.h.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "lib/ilist.h"
#include "sb_statement.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

/* Rows beyond this go to a temporary file. */
#define SB_STATEMENT_MEMORY_KB (16 * 1024)

struct SbStatement
{
	dlist_node node; /* of `statements` */
	char *sql;
	TupleDesc desc;
	int nargs;
	Oid *types;
	SPIPlanPtr plan; /* NULL: not yet prepared; owned */
	Tuplestorestate *store; /* NULL: no rows; owned by the transaction */
	int64 nrows;
};

static dlist_head statements = DLIST_STATIC_INIT(statements);

SbStatement *
sb_statement_create(const char *sql, TupleDesc rows, int nargs, const Oid *types)
{
	SbStatement *statement = palloc0(sizeof(SbStatement));

	statement->sql = pstrdup(sql);
	statement->desc = rows;
	statement->nargs = nargs;
	if (nargs > 0)
	{
		statement->types = palloc(sizeof(Oid) * nargs);
		memcpy(statement->types, types, sizeof(Oid) * nargs);
	}
	dlist_push_tail(&statements, &statement->node);
	return statement;
}

void
sb_statement_free(SbStatement *statement)
{
	dlist_delete(&statement->node);
	if (statement->plan)
		SPI_freeplan(statement->plan);
	pfree(statement->sql);
	pfree(statement);
}

static void
statement_begin_rows(SbStatement *statement)
{
	/* the end of the transaction frees what an error left */
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	statement->store = tuplestore_begin_heap(false, false, SB_STATEMENT_MEMORY_KB);
	MemoryContextSwitchTo(old);
}

void
sb_statement_put(SbStatement *statement, const Datum *values, const bool *nulls)
{
	if (statement->store == NULL)
	{
		statement_begin_rows(statement);
	}
	tuplestore_putvalues(statement->store, statement->desc, unconstify(Datum *, values), unconstify(bool *, nulls));
	statement->nrows++;
}

int64
sb_statement_rows(const SbStatement *statement)
{
	return statement->nrows;
}

/*
 * SPI keeps its list of relations in the memory that is current here, until the transaction's SPI_finish(): what a caller resets
 * earlier would be read after its end.
 */
static void
statement_register_rows(SbStatement *statement)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	EphemeralNamedRelation enr;

	/* a run without rows still needs the relation, to be prepared */
	if (statement->store == NULL)
		statement_begin_rows(statement);
	enr = palloc0(sizeof(EphemeralNamedRelationData));
	enr->md.name = "rows";
	enr->md.reliddesc = InvalidOid;
	enr->md.tupdesc = statement->desc;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.enrtuples = statement->nrows;
	enr->reldata = statement->store;
	if (SPI_register_relation(enr) != SPI_OK_REL_REGISTER)
		elog(ERROR, "could not register the rows of a statement");
	MemoryContextSwitchTo(old);
}

uint64
sb_statement_run(SbStatement *statement, const Datum *args, const char *nulls)
{
	int code;

	if (statement->desc)
		statement_register_rows(statement);
	if (statement->plan == NULL)
	{
		statement->plan = SPI_prepare(statement->sql, statement->nargs, statement->types);
		if (statement->plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql, SPI_result_code_string(SPI_result));
		SPI_keepplan(statement->plan);
	}
	code = SPI_execute_plan(statement->plan, unconstify(Datum *, args), nulls, false, 0);
	if (code < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql, SPI_result_code_string(code));
	if (statement->desc)
	{
		SPI_unregister_relation("rows");
		tuplestore_end(statement->store);
		statement->store = NULL;
		statement->nrows = 0;
	}
	return SPI_processed;
}

void
sb_statements_abort(void)
{
	dlist_iter iter;

	/* what failed within a subtransaction leaves the relation to the SPI connection, which is older; without a connection this is nothing */
	(void) SPI_unregister_relation("rows");
	dlist_foreach(iter, &statements)
	{
		SbStatement *statement = dlist_container(SbStatement, node, iter.cur);

		/* its files are closed and its memory is reset with the transaction's */
		statement->store = NULL;
		statement->nrows = 0;
	}
}
