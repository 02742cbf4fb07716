/*
 * sb_api_range.c: ranges of windows; see sb_api_range.h.
 */
#include "postgres.h"

#include "api/sb_api_range.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

SbRange
sb_range_get(FunctionCallInfo fcinfo, int arg)
{
	SbRange range = {.from = PG_ARGISNULL(arg) ? DT_NOBEGIN : PG_GETARG_TIMESTAMPTZ(arg),
	                 .to = PG_ARGISNULL(arg + 1) ? DT_NOEND : PG_GETARG_TIMESTAMPTZ(arg + 1)};

	if (range.from >= range.to)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("the range of windows is empty"),
		         errhint("\"from\" must be before \"to\"; null stands for no bound.")));
	return range;
}

static const char *
range_column(const SbPlan *plan, SbColumnKind kind)
{
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == kind)
			return quote_identifier(plan->columns_out[i].name);
	}
	elog(ERROR, "a pipeline with windows has no column for them");
}

void
sb_range_append(StringInfo sql, const SbPlan *plan, const SbRange *range)
{
	const char *separator = " WHERE ";

	if (plan->window_kind == SB_WINDOW_GLOBAL)
		return;
	if (range->from != DT_NOBEGIN)
	{
		appendStringInfo(sql, "%s%s OPERATOR(pg_catalog.>) $1", separator, range_column(plan, SB_COLUMN_WINDOW_END));
		separator = " AND ";
	}
	if (range->to != DT_NOEND)
		appendStringInfo(sql, "%s%s OPERATOR(pg_catalog.<) $2", separator, range_column(plan, SB_COLUMN_WINDOW_START));
}

char *
sb_relation_name(Oid relation)
{
	char *name = get_rel_name(relation);

	if (name == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_TABLE),
		         errmsg("a table of the pipeline is gone"),
		         errhint("Drop the pipeline with beam.drop_pipeline() and create it again.")));
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relation)), name);
}
