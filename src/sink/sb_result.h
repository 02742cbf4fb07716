/*
 * sb_result.h: the result table of a pipeline: panes become rows.
 *
 * Accumulating panes are upserted: one row for each window and key. Discarding ones are appended. Rows are collected and written by one
 * statement; the caller is then the owner of the table. Within one write a (window, key) may be put once only.
 */
#ifndef SB_RESULT_H
#define SB_RESULT_H

#include "postgres.h"
#include "engine/sb_reduce.h"
#include "query/sb_plan.h"

typedef struct SbResult SbResult;

/* The SQL that makes a result table of this qualified name, with its index. */
extern char *sb_result_table_sql(const SbPlan *plan, const char *table, SbAccumulation accumulation);

/* Lives in the current context. `table`: qualified name. */
extern SbResult *sb_result_open(const SbPlan *plan, const char *table, SbAccumulation accumulation);
extern void sb_result_close(SbResult *result);
/* values of the plan's columns */
extern void sb_result_put(SbResult *result, const Datum *values, const bool *nulls);
/* The row of a (window, key) is to vanish (accumulating only). */
extern void sb_result_remove(SbResult *result, SbWindow window, const Datum *keys, const bool *nulls);
extern bool sb_result_pending(const SbResult *result);
/* Writes removals, then rows (SPI connected). */
extern void sb_result_write(SbResult *result);

#endif
