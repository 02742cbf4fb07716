/*
 * sb_cell.h: what the files of the engine share about a cell. Private to engine/.
 */
#ifndef SB_CELL_H
#define SB_CELL_H

#include "postgres.h"
#include "engine/sb_reduce.h"

/* SbCell.flags */
/* the trigger has finished: nothing is added or emitted any more; never taken back */
#define SB_CELL_CLOSED 0x01
#define SB_CELL_GC_HOLD 0x02 /* a hold at gc_time; cleared when a pane fires; a merge joins it */
#define SB_CELL_ALL_FLAGS 0x03

static inline bool
sb_cell_end_reached(const SbClocks *clocks, const SbCell *cell)
{
	return clocks->input_watermark > sb_window_max_timestamp(cell->window);
}

#endif
