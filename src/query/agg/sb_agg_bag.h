/*
 * sb_agg_bag.h: rows that an aggregate retains, as bytes, and the executor over them.
 */
#ifndef SB_AGG_BAG_H
#define SB_AGG_BAG_H

#include "postgres.h"
#include "nodes/plannodes.h"
#include "query/agg/sb_items.h"
#include "query/sb_query_private.h"
#include "utils/tuplestore.h"

/*
 * Below the 1 GB that a chunk and a stored value may have, so that there is room for the cell's
 * other accumulators.
 */
#define SB_BAG_MAX_SIZE ((Size) 1000 * 1024 * 1024)

/* What an aggregate's bags share. */
typedef struct SbBagPlan
{
	int ncolumns;
	int *args; /* column -> index of the aggregate's argument */
	TupleDesc desc;
	PlannedStmt *plan;
	Datum *flat; /* scratch for one row: ncolumns */
	bool *nulls;
} SbBagPlan;

/*
 * The columns of a bag; and the query over it, which methods without need of the executor leave
 * out.
 */
extern void sb_bag_open_columns(SbAgg *agg, SbBagPlan *bag);
extern void sb_bag_open_plan(SbQuery *query, SbAgg *agg, SbBagPlan *bag);

/*
 * The current row as bytes: a bitmap of nulls, the values that are not null. Measuring leaves the
 * values in plan->flat for writing.
 */
extern Size sb_bag_measure(SbAgg *agg, SbBagPlan *plan);
extern void sb_bag_write(SbAgg *agg, SbBagPlan *plan, char *to);
/* Reads a row into plan->flat and plan->nulls, *data moved on. See sb_datum_read(). */
extern void sb_bag_read(const SbAgg *agg, SbBagPlan *plan, const char **data, const char *end);
/*
 * Error XX001 unless so many rows, and nothing else, stand from data to end; and where one has a
 * null, unless there may be nulls.
 */
extern void sb_bag_check_rows(const SbAgg *agg, const SbBagPlan *plan, int64 rows, const char *data,
                              const char *end, bool nulls);
/* Moves *data behind a row. */
extern void sb_bag_skip(const SbAgg *agg, const SbBagPlan *plan, const char **data,
                        const char *end);
/* Error 54000: the bag would grow beyond SB_BAG_MAX_SIZE. */
extern _Noreturn void sb_bag_full(const SbAgg *agg);

/*
 * The rows of items, which may be none (NULL), in the order in which the executor is to have them.
 * The caller ends the tuplestore.
 */
typedef Tuplestorestate *(*SbBagUnpack)(SbQuery *query, SbAgg *agg, SbItems *items);
/* Puts the row with these bytes into it; leaves garbage in the current context. */
extern void sb_bag_put(SbAgg *agg, SbBagPlan *plan, Tuplestorestate *store, const char *data,
                       uint32 size);
/* The aggregate over these rows, by the executor. */
extern Datum sb_bag_run(SbQuery *query, SbAgg *agg, SbBagPlan *plan, SbBagUnpack unpack,
                        SbItems *items, bool *isnull);
#endif
