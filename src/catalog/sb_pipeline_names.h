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

/* Errors 22023 */
extern SbAccumulation sb_accumulation_of_name(const char *name);
extern SbTimestampCombiner sb_combiner_of_name(const char *name);

#endif
