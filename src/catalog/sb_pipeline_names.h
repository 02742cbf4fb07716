/*
 * sb_pipeline_names.h: the names that beam.create_pipeline() takes and the catalog keeps, and what
 * they mean.
 */
#ifndef SB_PIPELINE_NAMES_H
#define SB_PIPELINE_NAMES_H

#include "postgres.h"
#include "engine/sb_reduce.h"

#define SB_FIRE_ALWAYS "fire_always"
#define SB_FIRE_IF_NON_EMPTY "fire_if_non_empty"

/* The names that an option can have as its value. */
typedef struct SbNames
{
	const char *noun;     /* what an error calls such a name */
	bool shared;          /* several options have these: an error tells which one it is */
	const char *names[4]; /* NULL after the last */
} SbNames;

extern const SbNames sb_accumulation_names, sb_combiner_names, sb_behavior_names,
    sb_source_mode_names;

/* Which of them it is; error 22023: none. `option` is the one that has this value. */
extern int sb_name_index(const SbNames *names, const char *name, const char *option);
/* Errors 22023 */
extern SbAccumulation sb_accumulation_of_name(const char *name);
extern SbTimestampCombiner sb_combiner_of_name(const char *name);

#endif
