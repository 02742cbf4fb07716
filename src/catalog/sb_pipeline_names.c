/*
 * sb_pipeline_names.c: names and what they mean; see sb_pipeline_names.h.
 */
#include "postgres.h"

#include "catalog/sb_pipeline_names.h"
#include "lib/stringinfo.h"

/* in the order of SbAccumulation and of SbTimestampCombiner */
const SbNames sb_accumulation_names = {"accumulation",
                                       false,
                                       {"accumulating", "discarding", "retracting"}};
const SbNames sb_combiner_names = {"timestamp_combiner",
                                   false,
                                   {"end_of_window", "earliest", "latest"}};
const SbNames sb_behavior_names = {"behavior", true, {SB_FIRE_ALWAYS, SB_FIRE_IF_NON_EMPTY}};
const SbNames sb_source_mode_names = {"source mode", false, {"changes", "append_only"}};

int
sb_name_index(const SbNames *names, const char *name, const char *option)
{
	StringInfoData list;

	for (int i = 0; names->names[i]; i++)
	{
		if (strcmp(names->names[i], name) == 0)
			return i;
	}
	initStringInfo(&list);
	for (int i = 0; names->names[i]; i++)
		appendStringInfo(&list, "%s\"%s\"",
		                 i == 0                ? ""
		                 : names->names[i + 1] ? ", "
		                                       : " or ",
		                 names->names[i]);
	ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	                names->shared ? errmsg("unknown %s \"%s\" for %s", names->noun, name, option)
	                              : errmsg("unknown %s \"%s\"", names->noun, name),
	                errhint("Use %s.", list.data)));
}

SbAccumulation
sb_accumulation_of_name(const char *name)
{
	return sb_name_index(&sb_accumulation_names, name, "accumulation");
}

SbTimestampCombiner
sb_combiner_of_name(const char *name)
{
	return sb_name_index(&sb_combiner_names, name, "timestamp_combiner");
}
