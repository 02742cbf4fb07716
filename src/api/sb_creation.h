/*
 * sb_creation.h: what making a pipeline and altering one have in common, but for the options
 * (catalog/sb_option.h): query, checks, view (sb_api_create.c).
 */
#ifndef SB_CREATION_H
#define SB_CREATION_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "nodes/parsenodes.h"
#include "query/plan/sb_plan.h"
#include "worker/sb_at_commit.h"

#define SB_BATCH_SUFFIX "_batch"

typedef struct SbCreation
{
	char *name;
	char *text; /* of the query; NULL: the view that there is */
	SbPipelineRow row;
	Oid namespace;
	const char *schema;
	SbPlan *plan;
	RawStmt *raw;
} SbCreation;

extern void sb_creation_await_slot(SbDatabase *db);
/* Parses the text, with the caller's rights and search path, and plans it. */
extern void sb_creation_plan(SbCreation *creation);
/*
 * Finds the upstream, and refuses a source whose changes could not be applied, and options that do
 * not go together.
 */
extern void sb_creation_check_source(SbCreation *creation);
/* Makes the view of this name. */
extern void sb_creation_view(SbCreation *creation, char *name);
/* Puts the session's settings that expressions can depend on into the row. */
extern void sb_creation_record_settings(SbPipelineRow *row);

#endif
