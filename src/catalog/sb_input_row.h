/*
 * sb_input_row.h: beam.input: how far the time of a pipeline's source has come, split by split.
 *
 * All functions want SPI connected and the rights of the extension's owner.
 */
#ifndef SB_INPUT_ROW_H
#define SB_INPUT_ROW_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef struct SbInputRow
{
	char *split;
	TimestampTz max_event_time;
} SbInputRow;

/* In the current context; returns how many. None where the catalog is too old to have any. */
extern int sb_catalog_inputs(int32 pipeline, SbInputRow **rows);
/* Puts some, and deletes others. */
extern void sb_catalog_put_inputs(int32 pipeline, const SbInputRow *rows, int n, char **gone,
                                  int ngone);

#endif
