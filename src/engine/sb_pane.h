/*
 * sb_pane.h: which pane comes next (SEMANTICS 5). Private to engine/.
 */
#ifndef SB_PANE_H
#define SB_PANE_H

#include "postgres.h"
#include "engine/sb_cell.h"

/*
 * Describes the pane the cell would emit now, but for its timestamp. `past_end`: it comes too late
 * to be ON_TIME.
 */
extern void sb_pane_next(const SbClocks *clocks, const SbCell *cell, bool is_last, bool past_end,
                         SbPane *pane);
extern bool sb_pane_is_emitted(const SbStrategy *strategy, const SbPane *pane);

#endif
