/*
 * sb_creation.h: what making a pipeline and altering one have in common: arguments, query, checks,
 * view (sb_api_create.c).
 */
#ifndef SB_CREATION_H
#define SB_CREATION_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "engine/sb_reduce.h"
#include "fmgr.h"
#include "nodes/parsenodes.h"
#include "query/plan/sb_plan.h"
#include "worker/sb_at_commit.h"

#define SB_BATCH_SUFFIX "_batch"

typedef struct SbCreation
{
	char *name;
	char *text; /* of the query; NULL: the view that there is */
	SbPipelineRow row;
	SbTrigger *trigger;
	SbAccumulation accumulation;
	bool allow_unsafe;
	bool history; /* the rows that the source has are taken in */
	/*
	 * of a pipeline that there is: null means as it is, so an idle_timeout of 0 says that there is
	 * none
	 */
	bool altered;
	Oid namespace;
	const char *schema;
	SbPlan *plan;
	RawStmt *raw;
} SbCreation;

/*
 * Fills in arguments 2 and up, as create_pipeline() has them; where one is null, what the struct
 * has stays.
 */
extern void sb_creation_arguments(FunctionCallInfo fcinfo, SbCreation *creation);
/* microseconds of an interval of fixed length */
extern int64 sb_creation_interval_us(const Interval *interval, const char *argument,
                                     bool zero_allowed);
extern void sb_creation_check_trigger(SbCreation *creation);
extern void sb_creation_await_slot(SbDatabase *db);
/* Parses the text, with the caller's rights and search path, and plans it. */
extern void sb_creation_plan(SbCreation *creation);
/* Finds the upstream, and refuses a source whose changes could not be applied. */
extern void sb_creation_check_source(SbCreation *creation);
/* Makes the view of this name. */
extern void sb_creation_view(SbCreation *creation, char *name);
extern void sb_creation_keep_settings(SbPipelineRow *row);

#endif
