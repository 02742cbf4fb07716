/*
 * sb_history_part.h: what the rows of a table are cut into chunks by.
 *
 * The part value of a row has to be known for each side of each change of the stream, so it is the
 * event time, or a column that old tuples have; and rows have to be found by it, so there is an
 * index over it.
 */
#ifndef SB_HISTORY_PART_H
#define SB_HISTORY_PART_H

#include "postgres.h"
#include "access/attnum.h"
#include "catalog/sb_history_row.h"
#include "query/plan/sb_plan.h"

/*
 * The best part for a source, SB_PART_NONE: there is no index that fits. An event time before any
 * other column.
 */
extern AttrNumber sb_part_choose(const SbPlan *plan, bool retractable);
/* Is there an index now by which rows are found in ranges of the part value? */
extern bool sb_part_is_indexed(const SbPlan *plan, AttrNumber part);
/* The value as an expression over the source; NULL: the column is gone. */
extern Expr *sb_part_expr(const SbPlan *plan, AttrNumber part);
/* ... and as SQL; to be called with the settings under which it will be parsed. */
extern char *sb_part_sql(const SbPlan *plan, AttrNumber part);
/* An operator of the type's order, as SQL. `strategy`: that of btree. */
extern char *sb_part_operator_sql(Oid type, int strategy);
/* How many rows the source has, about, and how many bytes. */
extern void sb_part_estimate(Oid source, int64 *rows, int64 *bytes);

#endif
