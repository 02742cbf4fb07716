/*
 * sb_source.h: the kinds of sources that a pipeline may read. A new kind is one more line in
 * sb_source_kinds[].
 *
 * What is asked while a pipeline is made or altered runs as its comment says; what an input asks
 * runs in the runner. Any function but accepts and begin may be missing.
 */
#ifndef SB_SOURCE_H
#define SB_SOURCE_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "catalog/sb_pipeline_row.h"
#include "datatype/timestamp.h"
#include "query/plan/sb_plan.h"

struct SbInput;
struct SbPipeline;

typedef struct SbSourceKind
{
	const char *name;

	/* ---- while a pipeline is made, elevated ---- */

	/*
	 * Is the row's source one of this kind? Then what the row says of it is filled in. `hold`: and
	 * nobody can drop it until the transaction ends. Error if it is one that cannot be read.
	 */
	bool (*accepts)(SbPipelineRow *row, bool hold);
	/* From now on what is committed there is for this pipeline. */
	void (*begin)(const SbPipelineRow *row);

	/* ---- likewise, as the owner ---- */

	/* Error where the pipeline could not apply changes of the source as they come. */
	void (*check)(const SbPipelineRow *row, const SbPlan *plan);

	/* ---- at work ---- */

	/* Does its watermark follow from its rows, and from the clock while it is at rest? */
	bool (*timed_by_rows)(const struct SbInput *input);
	/* Else: the watermark that it has; SB_TIME_MIN: it is not known. */
	TimestampTz (*watermark)(const struct SbInput *input);
	/* Rows wait to be taken, though nothing comes. */
	bool (*has_rows)(const struct SbInput *input);
	/* In the bundle that ends at `position`: have all rows that were there before come in? */
	bool (*has_begun)(struct SbPipeline *pipeline, struct SbInput *input, XLogRecPtr position);
} SbSourceKind;

extern const SbSourceKind sb_table_source;  /* the WAL of a table (sb_source_table.c) */
extern const SbSourceKind sb_result_source; /* the result of an upstream (sb_source_result.c) */

/* The kind of the row's source, which is asked anew; see accepts. Elevated. */
extern const SbSourceKind *sb_source_find(SbPipelineRow *row, bool hold);
/* That which the row says it is. */
extern const SbSourceKind *sb_source_of(const SbPipelineRow *row);

#endif
