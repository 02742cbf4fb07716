/*
 * sb_agg_multiset.h: what the two files of multisets share: rows (sb_agg_multiset.c), results
 * (sb_agg_multiset_result.c).
 */
#ifndef SB_AGG_MULTISET_H
#define SB_AGG_MULTISET_H

#include "postgres.h"
#include "query/agg/sb_agg_bag.h"
#include "query/agg/sb_latest.h"
#include "query/agg/sb_value_order.h"

typedef struct SbMultisetPlan SbMultisetPlan;

typedef Datum (*SbMultisetResult)(SbQuery *query, SbAgg *agg, SbItems *items, bool *isnull);

struct SbMultisetPlan
{
	SbBagPlan bag; /* first */
	SbAgg *agg;
	SbItemOrder order;
	SbValueOrder value; /* of the only column; where the order is that of a hash: unused */
	SbLatestKind latest;
	SbValueOrder at;  /* latest: of the second column; values with the same one are by `value` */
	int limit;        /* latest: how many are wanted */
	FmgrInfo **equal; /* of each column; NULL: the type has no equality */
	Oid *collations;
	bool arrivals;            /* each row has the number of its arrival */
	bool ignores_nulls;       /* of the only column */
	bool backwards;           /* the result counts from the end */
	bool trims;               /* latest: rows that no result can want are not retained */
	bool counts;              /* the result is how many different values there are */
	double fraction;          /* of a percentile */
	SbMultisetResult results; /* NULL: the executor */
};

/* Numbers of arrival are written so that bytes are in their order. */
#define SB_ARRIVAL_SIZE sizeof(uint64)

/* The only column; behind the bitmap of nulls. */
extern Datum sb_set_value(const SbMultisetPlan *plan, const char *data, uint32 size, bool *isnull);
/* In the order of the only column. */
extern int sb_set_compare(void *arg, const SbItem *a, const SbItem *b);
/* Two columns, the second of which is not null. */
extern void sb_set_read_latest(const SbMultisetPlan *plan, const char *data, uint32 size,
                               NullableDatum *value, Datum *at);
/* Is the order that of the only column's type? */
extern bool sb_set_by_value(const SbMultisetPlan *plan);

/* Is the result to be had from the tree, without the executor? NULL: no. */
extern SbMultisetResult sb_set_choose_result(const SbAgg *agg, SbMultisetPlan *plan);
extern const char *sb_set_reads(const SbAgg *agg);
extern Datum sb_set_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull);

#endif
