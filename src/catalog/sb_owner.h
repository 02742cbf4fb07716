/*
 * sb_owner.h: whose a pipeline is.
 */
#ifndef SB_OWNER_H
#define SB_OWNER_H

#include "postgres.h"
#include "base/sb_bracket.h"
#include "catalog/sb_pipeline_row.h"

/* The bracket of the pipeline's owner, with the pipeline's settings, until sb_bracket_leave(). */
extern void sb_owner_enter(const SbPipelineRow *row, SbBracket *saved);
/*
 * Do pipeline, result table and batch view belong to one role? Else the one's code would run with
 * the rights of the other.
 */
extern bool sb_owner_is_one(const SbPipelineRow *row);
/* Error 55000 where they do not; 42704: that role is gone. */
extern void sb_owner_check(const SbPipelineRow *row);

#endif
