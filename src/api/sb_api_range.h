/*
 * sb_api_range.h: ranges of windows, for functions that repair and compare.
 */
#ifndef SB_API_RANGE_H
#define SB_API_RANGE_H

#include "postgres.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "query/plan/sb_plan.h"

/* The windows that overlap [from, to); DT_NOBEGIN and DT_NOEND: no bound. */
typedef struct SbRange
{
	TimestampTz from, to;
} SbRange;

/* Two arguments, the first at `arg`, null for no bound. Errors 22023: empty. */
extern SbRange sb_range_get(FunctionCallInfo fcinfo, int arg);
/*
 * Appends ` WHERE ...` that lets through the rows of windows in the range; the bounds are $1 and
 * $2. Nothing where all are.
 */
extern void sb_range_append(StringInfo sql, const SbPlan *plan, const SbRange *range);

#endif
