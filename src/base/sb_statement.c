/*
 * sb_statement.c: SQL statements of our own; see sb_statement.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/sb_bracket.h"
#include "base/sb_statement.h"
#include "catalog/pg_operator.h"
#include "executor/spi.h"
#include "lib/ilist.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/queryenvironment.h"
#include "utils/syscache.h"
#include "utils/tuplestore.h"

/* Rows beyond this go to a temporary file. */
#define SB_STATEMENT_MEMORY_KB (4 * 1024)

struct SbStatement
{
	dlist_node node;                /* of `statements` */
	MemoryContextCallback callback; /* takes it off the list when its context goes */
	bool released;
	char *sql;
	bool by_index;
	bool elevated; /* else it runs as whoever is the current user */
	TupleDesc desc;
	int nargs;
	Oid *types;
	SPIPlanPtr plan;        /* NULL: not yet prepared; owned */
	Tuplestorestate *store; /* NULL: no rows; owned by the transaction */
	int64 nrows;
};

static dlist_head statements = DLIST_STATIC_INIT(statements);

/* Bytes of an error's message or context that are kept. */
#define SB_ERROR_TEXT_MAX 8192

Datum
sb_sql_error_text(const char *text)
{
	int length = text ? strlen(text) : 0;

	if (length > SB_ERROR_TEXT_MAX)
		return CStringGetTextDatum(
		    psprintf("%.*s ...", pg_mbcliplen(text, length, SB_ERROR_TEXT_MAX), text));
	return CStringGetTextDatum(text ? text : "");
}

uint64
sb_sql_run(const char *sql, int nargs, const Oid *types, const Datum *values, const char *nulls,
           int expected)
{
	MemoryContext context = CurrentMemoryContext;
	int code = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types),
	                                 unconstify(Datum *, values), nulls, false, 0);

	/* SPI leaves its own behind */
	MemoryContextSwitchTo(context);
	if (code != expected)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(code));
	return SPI_processed;
}

char *
sb_sql_relation(Oid relation)
{
	char *name = get_rel_name(relation);

	if (name == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("a table of the pipeline is gone"),
		         errhint("Drop the pipeline with beam.drop_pipeline() and create it again.")));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}

char *
sb_sql_operator(Oid operator)
{
	HeapTuple tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char *sql;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	sql = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
	               NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return sql;
}

static void
statement_release(void *arg)
{
	SbStatement *statement = arg;

	if (statement->released)
		return;
	statement->released = true;
	dlist_delete(&statement->node);
	if (statement->plan)
		SPI_freeplan(statement->plan);
}

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
	statement->callback.func = statement_release;
	statement->callback.arg = statement;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &statement->callback);
	return statement;
}

void
sb_statement_change(SbStatement *statement, const char *sql, bool by_index)
{
	if (statement->plan)
		SPI_freeplan(statement->plan);
	statement->plan = NULL;
	pfree(statement->sql);
	statement->sql = MemoryContextStrdup(GetMemoryChunkContext(statement), sql);
	statement->by_index = by_index;
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
	tuplestore_putvalues(statement->store, statement->desc, unconstify(Datum *, values),
	                     unconstify(bool *, nulls));
	statement->nrows++;
}

int64
sb_statement_rows(const SbStatement *statement)
{
	return statement->nrows;
}

/* What was put becomes the relation `rows`, for one run of the statement. */
static void
statement_register_rows(SbStatement *statement)
{
	/* SPI retains its list of relations in the context that it is called in, until SPI_finish() */
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	EphemeralNamedRelation enr;

	/* a run without rows still needs the relation, to be prepared */
	if (statement->store == NULL)
		statement_begin_rows(statement);
	/* a statement that failed in a subtransaction has left its own behind */
	(void) SPI_unregister_relation("rows");
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

void
sb_statement_by_index(SbStatement *statement)
{
	statement->by_index = true;
}

void
sb_statement_elevate(SbStatement *statement)
{
	statement->elevated = true;
}

/* For the time of one run; returns what ends it. */
static int
statement_force_index(void)
{
	static const char *const others[] = {"enable_hashjoin", "enable_mergejoin", "enable_seqscan"};
	int level = NewGUCNestLevel();

	for (int i = 0; i < lengthof(others); i++)
		(void) set_config_option(others[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE,
		                         true, 0, false);
	return level;
}

/*
 * The rows are forgotten after the run. The plan is made with the first one, when there is a
 * relation `rows`, and retained.
 */
static void
statement_execute(SbStatement *statement, const Datum *args, const char *nulls)
{
	MemoryContext context = CurrentMemoryContext;
	int level = statement->by_index ? statement_force_index() : 0;
	int code;

	if (statement->desc)
		statement_register_rows(statement);
	if (statement->plan == NULL)
	{
		statement->plan = SPI_prepare(statement->sql, statement->nargs, statement->types);
		if (statement->plan == NULL)
			elog(ERROR, "could not prepare \"%s\": %s", statement->sql,
			     SPI_result_code_string(SPI_result));
		SPI_keepplan(statement->plan);
	}
	code = SPI_execute_plan(statement->plan, unconstify(Datum *, args), nulls, false, 0);
	/* SPI leaves its own context behind, which lives as long as the bundle */
	MemoryContextSwitchTo(context);
	if (level > 0)
		AtEOXact_GUC(true, level);
	if (code < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql, SPI_result_code_string(code));
	if (statement->desc)
	{
		SPI_unregister_relation("rows");
		tuplestore_end(statement->store);
		statement->store = NULL;
		statement->nrows = 0;
	}
}

uint64
sb_statement_run(SbStatement *statement, const Datum *args, const char *nulls)
{
	SbBracket saved;
	bool enter = statement->elevated && !sb_bracket_is_elevated();

	if (enter)
		sb_bracket_enter_extension(&saved);
	statement_execute(statement, args, nulls);
	if (enter)
		sb_bracket_leave(&saved);
	return SPI_processed;
}

void
sb_statement_flush(SbStatement *statement, int64 rows)
{
	if (statement->nrows >= rows)
		(void) sb_statement_run(statement, NULL, NULL);
}

bool
sb_statements_are_empty(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &statements)
	{
		if (dlist_container(SbStatement, node, iter.cur)->nrows > 0)
			return false;
	}
	return true;
}

void
sb_statement_forget(SbStatement *statement)
{
	if (statement->store)
		tuplestore_end(statement->store);
	statement->store = NULL;
	statement->nrows = 0;
}

void
sb_statements_abort(void)
{
	dlist_iter iter;

	dlist_foreach(iter, &statements)
	{
		SbStatement *statement = dlist_container(SbStatement, node, iter.cur);

		/* its files are closed and its memory is reset with the transaction's */
		statement->store = NULL;
		statement->nrows = 0;
	}
}
