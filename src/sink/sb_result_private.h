/*
 * sb_result_private.h: the SQL by which a result table is written and read.
 */
#ifndef SB_RESULT_PRIVATE_H
#define SB_RESULT_PRIVATE_H

#include "sink/sb_result.h"

static inline bool
sb_result_identifies(const SbColumn *column)
{
	return column->kind != SB_COLUMN_VALUE;
}

/* Of an accumulating result a row takes the place of that with the same window and keys. */
extern char *sb_result_insert_sql(const SbPlan *plan, const char *table,
                                  SbAccumulation accumulation);
/* A statement about the rows t of a given identity. `rows` has its columns as c1, c2 ... */
extern char *sb_result_match_sql(const SbPlan *plan, const char *what, bool with_nulls);
/*
 * Takes rows out that nothing identifies: of each in `rows`, with the columns c1, c2 ..., as many
 * equal ones as its n says.
 */
extern char *sb_result_take_out_sql(const SbPlan *plan, const char *table);
/*
 * The rows of windows in an SbWindowRange (from, lo, hi are $1, $2, $3), of others, or all of them.
 */
extern char *sb_result_clear_condition(const SbPlan *plan, bool inside);
/*
 * Takes rows out of the result, and returns each with its op, for downstream pipelines. A
 * retracting result loses no row: it gets retractions.
 */
extern char *sb_result_clear_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation,
                                 const char *condition);
/* The plan's columns of table t */
extern char *sb_result_find_sql(const SbPlan *plan, const char *table);

#endif
