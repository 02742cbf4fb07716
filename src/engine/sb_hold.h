/*
 * sb_hold.h: holds on the output watermark (SEMANTICS 7). Private to engine/.
 */
#ifndef SB_HOLD_H
#define SB_HOLD_H

#include "postgres.h"
#include "engine/sb_cell.h"

/* Adds the hold of an element with this timestamp. */
extern void sb_hold_add(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell,
                        TimestampTz timestamp);
/* Takes all holds away; the result is the timestamp of the pane that fires. */
extern TimestampTz sb_hold_release(const SbStrategy *strategy, SbCell *cell);
/*
 * A hold at gc_time, so that an empty last pane, where those are wanted, is not behind the output
 * watermark.
 */
extern void sb_hold_add_gc(const SbStrategy *strategy, const SbClocks *clocks, SbCell *cell);
/*
 * The holds of the merge `into`, whose window is set and which has none yet, from those of the
 * cells merged.
 */
extern void sb_hold_merge(const SbStrategy *strategy, const SbClocks *clocks, SbCell *into,
                          SbCell *const *from, int n);

#endif
