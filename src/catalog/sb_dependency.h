/*
 * sb_dependency.h: beam.dependency: what a pipeline's query computes with (functions, aggregates,
 * operators, types, collations, ...), and what is done when one of these has become another.
 *
 * All functions want SPI connected and the rights of the extension's owner.
 */
#ifndef SB_DEPENDENCY_H
#define SB_DEPENDENCY_H

#include "postgres.h"
#include "nodes/pg_list.h"
#include "query/plan/sb_plan.h"

#define SB_STALE_COLLATION_HINT \
	"Reindex the results and call beam.resync_pipeline(). Or, where the order of your values is the same, run ALTER COLLATION ... REFRESH VERSION or ALTER DATABASE ... REFRESH COLLATION VERSION."

/* A collation that has another version than it had when the pipeline was made. */
typedef struct SbStaleCollation
{
	char *pipeline;
	Oid owner;
	char *collation;
	char *version; /* it had */
	char *now;
} SbStaleCollation;

/*
 * Of a version that is made: what its batch view depends on, these functions, types and collations,
 * and all that they are made of. Of collations: those that have versions.
 */
extern void sb_dependency_record(int32 pipeline, Oid view, const SbPlanObjects *objects);
/*
 * Ids of the pipelines of which it is not: made before there was such a record; in the current
 * context.
 */
extern List *sb_dependency_unrecorded(void);
/*
 * Compares what is recorded with what is there now. A pipeline for which it is not the same stands
 * still from the commit of this transaction on: it is rebuilt, or, where its rows cannot be taken
 * back or nobody has it run, says what has changed. True: there is one. What somebody has locked is
 * left to the runner, which looks again.
 */
extern bool sb_dependency_check(void);
/*
 * Deterministic collations, of this pipeline or of all (0), by whose present version values may be
 * sorted in another order than the pipeline's were, and of which nobody has said that they are not
 * (ALTER COLLATION ... REFRESH VERSION): SbStaleCollation, in the current context.
 */
extern List *sb_dependency_stale(int32 pipeline);

#endif
