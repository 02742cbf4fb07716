/*
 * sb_result.h: the result table of a pipeline: panes become rows.
 *
 * Accumulating panes are upserted: one row for each window and key. Discarding and retracting ones
 * are appended, the latter with a column op, +1 or -1. Rows are collected and written by one
 * statement; the caller is then the owner of the table. Within one write a (window, key) may be put
 * once only.
 */
#ifndef SB_RESULT_H
#define SB_RESULT_H

#include "postgres.h"
#include "engine/sb_reduce.h"
#include "query/plan/sb_plan.h"
#include "sink/sb_sink.h"

typedef struct SbResult SbResult;

/* The SQL that makes a result table of this qualified name, with its index. */
extern char *sb_result_table_sql(const SbPlan *plan, const char *table,
                                 SbAccumulation accumulation);
/*
 * The index alone (NULL: it has none), on what identifies a row or (`by_hash`) on its hash; and a
 * column as CREATE TABLE wants it.
 */
extern char *sb_result_index_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation,
                                 bool by_hash);
/* Are its rows updated in place? */
extern bool sb_result_is_updated(const SbPlan *plan, SbAccumulation accumulation);
extern void sb_result_append_column(StringInfo sql, const char *name, Oid type, int32 typmod,
                                    Oid collation);
/* Copies all rows from one table with the plan's columns into another. */
extern char *sb_result_copy_sql(const SbPlan *plan, const char *from, const char *into,
                                SbAccumulation accumulation);
/*
 * One table gets the rows of another one with the same columns, both accumulating, by two
 * statements that leave alone what is in both: *remove, then *add.
 */
extern void sb_result_replace_sql(const SbPlan *plan, const char *from, const char *into,
                                  char **remove, char **add);

/*
 * Error where the table has not the plan's columns with the types that the plan writes: 42703 one
 * is missing, 42804 it has another type. Rows are read back, too, and what is read must be what was
 * written.
 */
extern void sb_result_check(const SbPlan *plan, Oid table, SbAccumulation accumulation,
                            const char *pipeline);

/*
 * The index of a result (sb_result_index.c): the one that is there, of the one kind or the other,
 * or InvalidOid; and how one is made and dropped, as the owner. A result whose rows do not fit into
 * the one on columns gets that by hash in its place, whatever rows it has. Error 55P03 where
 * somebody uses the table.
 */
extern Oid sb_result_find_index(const SbPlan *plan, Oid table, SbAccumulation accumulation,
                                bool by_hash);
extern void sb_result_make_index(const SbPlan *plan, Oid table, SbAccumulation accumulation,
                                 bool by_hash, Oid owner);
extern void sb_result_drop_index(Oid index, Oid owner);
extern void sb_result_index_by_hash(const SbPlan *plan, Oid table, SbAccumulation accumulation,
                                    Oid owner);

/*
 * The replica identity of a result (sb_result_identity.c). Could a new table with the
 * plan's columns have the index on those that identify a row, which would be NOT NULL; and has it?
 */
extern bool sb_result_may_be_strict(const SbPlan *plan, SbAccumulation accumulation);
extern bool sb_result_is_strict(Oid table);
/* One that has been made gets its replica identity; another one if nobody uses it now. */
extern void sb_result_identify(const SbPlan *plan, Oid table, SbAccumulation accumulation,
                               Oid owner);
extern void sb_result_identify_if_free(Oid table, Oid owner);
/*
 * One that is strict is no longer: error 55P03 where somebody uses the table; and one whose rows
 * have no nulls there becomes strict.
 */
extern void sb_result_loosen(Oid table, Oid owner);
extern void sb_result_make_strict(const SbPlan *plan, Oid table, Oid owner);

/* An SbResult as a sink; what is late goes to beam.late_event. */
extern const SbSinkKind sb_result_sink;

/* Lives in the current context. */
extern SbResult *sb_result_open(const SbPlan *plan, Oid table, SbAccumulation accumulation);
/* Has the table been renamed since, or given to another role than this one? */
extern bool sb_result_has_moved(const SbResult *result, Oid owner);
/* ... or anything else that is in its row of pg_class, be it back and forth? */
extern bool sb_result_is_altered(const SbResult *result);
/* values of the plan's columns; op: +1, or -1 for a retraction (retracting only) */
extern void sb_result_put(SbResult *result, const Datum *values, const bool *nulls, int op);
/*
 * A row as self-contained bytes in the current context, to be retracted later; and a row made of
 * such bytes.
 */
extern bytea *sb_result_pack(const SbResult *result, const Datum *values, const bool *nulls);
/* Likewise what identifies it. */
extern bytea *sb_result_pack_identity(const SbResult *result, const Datum *values,
                                      const bool *nulls);
extern void sb_result_unpack(const SbResult *result, bytea *packed, Datum *values, bool *nulls);
/* The row of a (window, key) is to vanish (accumulating only). */
extern void sb_result_remove(SbResult *result, SbWindow window, const Datum *keys,
                             const bool *nulls);
/*
 * Takes out what the table says now of the windows in the range, or (`inside` false) of all others:
 * rows are deleted, or (retracting) those that stand get a row with the opposite op. Returns how
 * many; they are in SPI_tuptable, in the order of the plan's columns, and what op they were taken
 * out with behind. Nothing may be pending.
 */
extern uint64 sb_result_clear(SbResult *result, const SbWindowRange *range, bool inside);
/*
 * The row that the table has for a (window, key), packed in the current context; NULL: there is
 * none (accumulating only). What is pending is not seen.
 */
extern bytea *sb_result_find(SbResult *result, SbWindow window, const Datum *keys,
                             const bool *nulls);
/* Likewise the row with the identity of a row with these values. */
extern bytea *sb_result_find_row(SbResult *result, const Datum *values, const bool *nulls);
extern bool sb_result_pending(const SbResult *result);
/* Writes removals, then rows (SPI connected). */
extern void sb_result_write(SbResult *result);

#endif
