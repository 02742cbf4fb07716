/*
 * sb_view.h: the definition of a pipeline, which its batch view has.
 */
#ifndef SB_VIEW_H
#define SB_VIEW_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "nodes/parsenodes.h"

/*
 * The definition that the pipeline was made with, a copy out of its batch view, and its fingerprint
 * (NULL: not wanted). Error 42P01: the view is gone; 55000: it has been replaced.
 */
extern Query *sb_view_definition(const SbPipelineRow *row, char **fingerprint);
/* md5-like identity of a view's definition: the same as long as the query means the same */
extern char *sb_view_fingerprint(Query *query);

#endif
