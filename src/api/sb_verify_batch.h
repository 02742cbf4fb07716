/*
 * sb_verify_batch.h: the batch side of beam.verify(): the query of the batch view, with what is
 * needed to tell rounding errors of floating-point sums from faults.
 */
#ifndef SB_VERIFY_BATCH_H
#define SB_VERIFY_BATCH_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "query/plan/sb_plan.h"

typedef struct SbVerifyBatch
{
	char *from; /* what stands in FROM: the view, or its query in parentheses; needs an alias */
	/* of the groups, where a column is inexact: how many rows they have; NULL: nobody asks */
	char *count;
	int nscales;
	char **scales; /* columns: the sum of the absolute values of what a column adds up */
	int *scale;    /* by column of the plan: the number of its scale, or -1 */
	bool *inexact; /* by column of the plan: it is made of sums that round */
	bool *single;  /* ... in single precision, and the result's too */
} SbVerifyBatch;

/*
 * As the pipeline's owner, in the current context. Sums of type real are added up in double
 * precision: the batch view's own rounds after each row.
 */
extern SbVerifyBatch *sb_verify_batch(const SbPipelineRow *row, const SbPlan *plan);
/*
 * Are two values of this column that are not equal so only by the rounding errors of sums over so
 * many rows? `scale`: the absolute values added up; 0: not known.
 */
extern bool sb_verify_is_noise(const SbVerifyBatch *batch, const SbPlan *plan, int column,
                               double result, double expected, int64 rows, double scale);

#endif
