/*
 * sb_result_private.h: the SQL by which a result table is written and read.
 */
#ifndef SB_RESULT_PRIVATE_H
#define SB_RESULT_PRIVATE_H

#include "sink/sb_result.h"

/* BTMaxItemSize of pages of 8 kB, less what alignment may add. */
#define SB_ENTRY_MAX 2680

static inline bool
sb_result_identifies(const SbColumn *column)
{
	return column->kind != SB_COLUMN_VALUE;
}

/*
 * Of an accumulating result a row takes the place of that with the same window and keys. `by_hash`,
 * here and below: such is its index (sb_result_index.c).
 */
extern char *sb_result_insert_sql(const SbPlan *plan, const char *table,
                                  SbAccumulation accumulation, bool by_hash);
/* A statement about the rows t of a given identity. `rows` has its columns as c1, c2 ... */
extern char *sb_result_match_sql(const SbPlan *plan, const char *what, bool with_nulls,
                                 bool by_hash);
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

/* How large the entry of a row is in an index on what identifies it. */
typedef struct SbEntrySize
{
	Size least; /* what does not depend on the row */
	int n;      /* columns without a bound */
	struct SbEntryColumn
	{
		int column;    /* of the plan */
		bool compress; /* where it is large */
	} * unbounded;
} SbEntrySize;

/* `n` is 0 where no index is made on these columns: nothing is too large. */
extern SbEntrySize sb_result_entry_size(const SbPlan *plan, Oid table, SbAccumulation accumulation);
/* Are the values too large for an entry, and compressing them does not help? */
extern bool sb_result_is_too_large(const SbEntrySize *entry, const Datum *values,
                                   const bool *nulls);

/* May a row of this size have to be looked at? Called for each row. */
static inline bool
sb_result_may_be_too_large(const SbEntrySize *entry, const Datum *values, const bool *nulls)
{
	Size size = entry->least;

	for (int i = 0; i < entry->n; i++)
	{
		int column = entry->unbounded[i].column;

		if (nulls[column])
			continue;
		/* a pointer to what is elsewhere says nothing */
		if (VARATT_IS_EXTERNAL(DatumGetPointer(values[column])))
			return true;
		size += MAXALIGN(VARSIZE_ANY(DatumGetPointer(values[column])));
	}
	return size > SB_ENTRY_MAX;
}

#endif
