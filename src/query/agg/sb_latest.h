/*
 * sb_latest.h: beam.first, beam.last and beam.top: values by a time, or by whatever else has an
 * order.
 *
 * Rows are in the order of `at`, those with the same one in the order of `value`, nulls first; a
 * type without an order has that of its bytes. A row whose `at` is null is ignored. So the result
 * does not depend on the order in which the rows come.
 */
#ifndef SB_LATEST_H
#define SB_LATEST_H

#include "postgres.h"
#include "query/sb_query_private.h"

typedef enum SbLatestKind
{
	SB_LATEST_NONE,
	SB_LATEST_FIRST,
	SB_LATEST_LAST,
	SB_LATEST_TOP
} SbLatestKind;

/* Which of them is it, if any? By its transition function. */
extern SbLatestKind sb_latest_kind(Oid aggregate);
/* 1, or the constant of beam.top(); 0: it is no constant that the aggregate takes. */
extern int sb_latest_limit(const Aggref *aggref, SbLatestKind kind);
/* So many values as an array, in the current context. */
extern Datum sb_latest_array(const SbType *type, const Datum *values, const bool *nulls, int n);

#endif
