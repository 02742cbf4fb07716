/*
 * sb_trigger.h: triggers as trees, and what a cell retains for one.
 *
 * A trigger is an immutable tree, compiled once for a pipeline into nodes in preorder. What a cell
 * retains for it has a fixed size for a given trigger: a bit "finished" for each node, and an int64
 * for each node that needs one (a count, a target time). So a cell's trigger state is copied,
 * stored and merged without knowing the tree's shape.
 */
#ifndef SB_TRIGGER_H
#define SB_TRIGGER_H

#include "postgres.h"
#include "engine/sb_window.h"
#include "lib/stringinfo.h"

#define SB_TRIGGER_MAX_NODES 64 /* the finished bits live in one uint64 */

typedef struct SbTrigger SbTrigger; /* opaque: engine/sb_trigger_node.h */

typedef struct SbTriggerState
{
	uint64 finished;                    /* bit i: node i has finished */
	int64 slots[FLEXIBLE_ARRAY_MEMBER]; /* sb_trigger_slots() of them */
} SbTriggerState;

/*
 * Text form, as in `after_watermark(early => after_count(100), late => after_count(1))`. Errors:
 * ERRCODE_INVALID_TEXT_REPRESENTATION with the position (1-based, in characters) in the detail and
 * a hint. The tree is one chunk in the current memory context.
 */
extern SbTrigger *sb_trigger_parse(const char *text);
/* canonical text, palloc'd: parse(format(t)) equals t */
extern char *sb_trigger_format(const SbTrigger *trigger);

extern int sb_trigger_slots(const SbTrigger *trigger);
/* does any node use processing time (so that cells need a processing-time timer) */
extern bool sb_trigger_uses_processing_time(const SbTrigger *trigger);
/*
 * Does every window that is not closed fire at its end, so that no hold at the end of a window
 * outlives it? Where not sure, false.
 */
extern bool sb_trigger_fires_at_end(const SbTrigger *trigger);
/*
 * Why this trigger could lose data that may still come (it can finish), or NULL when it can not.
 * `late_data`: may elements come after the end of the window (allowed_lateness > 0).
 */
extern const char *sb_trigger_unsafe_reason(const SbTrigger *trigger, bool late_data);

#endif
