/*
 * sb_bundle.h: one bundle: what the ring has, applied to all pipelines in one transaction.
 *
 * First it is run plainly, without subtransactions and without a per-row cost. If that fails, all
 * is rolled back and the same rows are run again pipeline by pipeline, each in a subtransaction, in
 * halves where a half fails, until the row is found that does: it goes to beam.dead_letter. A
 * pipeline that cannot go on is set to failed, with its position as before the bundle; the others
 * commit.
 */
#ifndef SB_BUNDLE_H
#define SB_BUNDLE_H

#include "postgres.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_row_source.h"
#include "runner/sb_intake.h"

/*
 * Runs a bundle over what the intake has, waiting for the end of a transaction once it has begun.
 * `pipelines`: each after the one whose result it reads. *commit_lsn: of its own transaction,
 * InvalidXLogRecPtr if it wrote nothing.
 */
extern SbBundleEnd sb_bundle_run(SbIntake *intake, List *pipelines, XLogRecPtr *commit_lsn);

/* The same for a bundle of these rows. SB_BUNDLE_NOTHING: it could not be opened. */
extern SbBundleEnd sb_bundle_run_rows(SbIntake *intake, List *pipelines, SbRowSource *row_source,
                                      XLogRecPtr *commit_lsn);

#endif
