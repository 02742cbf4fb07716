/*
 * sb_statement.h: SQL that workers and SQL functions run: one statement once, or one that is
 * retained, over a set of rows that a worker made.
 *
 * The rows are put into a tuplestore and are the relation `rows` in the statement (an ephemeral
 * named relation, as the transition tables of triggers are): set-based, any type, bounded memory.
 * The plan is prepared once and retained.
 *
 * MEMORY. The statement lives in the context current at creation, and goes with it, its plan too.
 * The tuplestore lives from the first put to the run, within one transaction; after an abort
 * sb_statements_abort() forgets all of them.
 */
#ifndef SB_STATEMENT_H
#define SB_STATEMENT_H

#include "postgres.h"
#include "access/tupdesc.h"

/*
 * Runs a statement, once; all names in it are qualified, `nulls` as SPI has it. Error where SPI
 * does not return `expected`. Returns SPI_processed; results are in SPI_tuptable. The current
 * context stays what it is, which SPI by itself does not care for.
 */
extern uint64 sb_sql_run(const char *sql, int nargs, const Oid *types, const Datum *values,
                         const char *nulls, int expected);

/*
 * A text of an error, whose length its raiser chose, as a value of type text: cut where it is long.
 * NULL: empty.
 */
extern Datum sb_sql_error_text(const char *text);

/* A relation's name as it stands in SQL: qualified and quoted. Error 42P01: it is gone. */
extern char *sb_sql_relation(Oid relation);

/* An operator as `OPERATOR(schema.name)`: not what a search path would find. It exists. */
extern char *sb_sql_operator(Oid operator);

/* ---- one that is retained ---- */

typedef struct SbStatement SbStatement;

/*
 * `rows`: description of the rows, or NULL for a statement without. `nargs` parameters $1... of
 * these types. Prepared at the first run. All names in the text are qualified; SPI must be
 * connected when it runs.
 */
extern SbStatement *sb_statement_create(const char *sql, TupleDesc rows, int nargs,
                                        const Oid *types);
/*
 * It is planned as a nested loop over an index, whatever the planner thinks of the sizes: they are
 * not what they were at planning.
 */
extern void sb_statement_by_index(SbStatement *statement);
/* It has another text from now on, for the rows that have been put, too. */
extern void sb_statement_change(SbStatement *statement, const char *sql, bool by_index);
/*
 * It is about our own tables only: it runs in the bracket of the extension's owner, wherever it is
 * called.
 */
extern void sb_statement_elevate(SbStatement *statement);
extern void sb_statement_put(SbStatement *statement, const Datum *values, const bool *nulls);
extern int64 sb_statement_rows(const SbStatement *statement);
/*
 * Runs it over the rows put so far and forgets these. Returns SPI_processed; results are in
 * SPI_tuptable.
 */
extern uint64 sb_statement_run(SbStatement *statement, const Datum *args, const char *nulls);
/* Runs it, without parameters, if so many rows have been put. */
extern void sb_statement_flush(SbStatement *statement, int64 rows);
/* Its run has failed, in a subtransaction that began after the first row was put: they are gone. */
extern void sb_statement_forget(SbStatement *statement);
/*
 * After an aborted (sub)transaction: rows put and not run are gone, whichever transaction they were
 * put in. So a subtransaction that may fail begins when there are none.
 */
extern void sb_statements_abort(void);
extern bool sb_statements_are_empty(void);

#endif
