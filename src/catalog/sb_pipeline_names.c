/*
 * sb_pipeline_names.c: names and what they mean; see sb_pipeline_names.h.
 */
#include "postgres.h"

#include "catalog/sb_pipeline_names.h"
#include "lib/stringinfo.h"

static const char *const accumulation_names[] = {"accumulating", "discarding", "retracting"};
static const char *const combiner_names[] = {"end_of_window", "earliest", "latest"};

static int
name_index(const char *argument, const char *name, const char *const *names, int n)
{
	StringInfoData list;

	for (int i = 0; i < n; i++)
	{
		if (strcmp(names[i], name) == 0)
			return i;
	}
	initStringInfo(&list);
	for (int i = 0; i < n; i++)
		appendStringInfo(&list, "%s\"%s\"", i == 0 ? "" : i == n - 1 ? " or " : ", ", names[i]);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	                errmsg("unknown %s \"%s\"", argument, name), errhint("Use %s.", list.data)));
}

SbAccumulation
sb_accumulation_of_name(const char *name)
{
	return name_index("accumulation", name, accumulation_names, lengthof(accumulation_names));
}

SbTimestampCombiner
sb_combiner_of_name(const char *name)
{
	return name_index("timestamp_combiner", name, combiner_names, lengthof(combiner_names));
}
