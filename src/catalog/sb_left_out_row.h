/*
 * sb_left_out_row.h: beam.left_out: which rows a pipeline has left out, and how often.
 *
 * All functions want SPI connected and the rights of the extension's owner.
 */
#ifndef SB_LEFT_OUT_ROW_H
#define SB_LEFT_OUT_ROW_H

#include "postgres.h"
#include "engine/sb_window.h"

typedef struct SbLeftOutRow
{
	uint64 hash;
	SbWindow window;
	int64 n;
} SbLeftOutRow;

extern bool sb_catalog_has_left_out(int32 pipeline);
/* Those with these hashes, in the current context; returns how many. */
extern int sb_catalog_left_out(int32 pipeline, const uint64 *hashes, int nhashes,
                               SbLeftOutRow **rows);
/* Adds n of each to what is there; what comes to nothing is deleted. Each is there once. */
extern void sb_catalog_add_left_out(int32 pipeline, const SbLeftOutRow *rows, int nrows);
/* Deletes those of the windows in the range, or (`inside` false) of all others. */
extern void sb_catalog_clear_left_out(int32 pipeline, const SbWindowRange *range, bool inside);

#endif
