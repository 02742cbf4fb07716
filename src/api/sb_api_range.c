/*
 * sb_api_range.c: ranges of windows; see sb_api_range.h.
 */
#include "postgres.h"

#include "api/sb_api_range.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

SbRange
sb_range_get(FunctionCallInfo fcinfo, int arg)
{
	SbRange range = {.from = PG_ARGISNULL(arg) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(arg),
	                 .to = PG_ARGISNULL(arg + 1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(arg + 1)};

	if (range.from >= range.to)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the range of windows is empty"),
		         errhint("\"from\" must be before \"to\"; null stands for no bound.")));
	return range;
}

void
sb_range_append(StringInfo sql, const SbPlan *plan, const SbRange *range)
{
	const char *separator = " WHERE ";

	if (plan->window_kind == SB_WINDOW_GLOBAL)
		return;
	if (range->from != DT_NOBEGIN)
	{
		appendStringInfo(sql, "%s%s OPERATOR(pg_catalog.>) $1", separator,
		                 sb_plan_window_column(plan, SB_COLUMN_WINDOW_END));
		separator = " AND ";
	}
	if (range->to != DT_NOEND)
		appendStringInfo(sql, "%s%s OPERATOR(pg_catalog.<) $2", separator,
		                 sb_plan_window_column(plan, SB_COLUMN_WINDOW_START));
}
