/*
 * sb_trigger_processing_time.c: after_processing_time(delay, align). The slot is the target,
 * SB_TIME_MAX while there is none.
 *
 * The target is the processing time of the first element plus the delay, moved up to the next
 * multiple of `align` (counted from 1970-01-01 00:00 UTC, as windows are) where one is given. A
 * target that is a multiple already stays.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"
#include "engine/sb_window_assign.h"

/* When it fires after an element that comes now; SB_TIME_MAX: never. */
static TimestampTz
sb_processing_time_target(const SbTriggerNode *node, TimestampTz now)
{
	SbWindow aligned;
	TimestampTz target;

	/* Never is what SB_TIME_MAX says; a clock that near to the end of time cannot come. */
	if (now > SB_TIME_MAX - node->arg - node->align_us)
		return SB_TIME_MAX;
	target = now + node->arg;
	if (node->align_us == 0)
		return target;
	if (!sb_window_tumble(target, node->align_us, SB_UNIX_EPOCH_US, &aligned))
		return SB_TIME_MAX;
	return aligned.start == target ? target : aligned.end;
}

static void
sb_processing_time_on_element(const SbTriggerRun *run, int node)
{
	int64 *target = sb_trigger_slot(run, node);

	if (*target == SB_TIME_MAX)
		*target = sb_processing_time_target(&run->trigger->nodes[node], run->now);
}

static bool
sb_processing_time_ready(const SbTriggerRun *run, int node)
{
	return run->now > *sb_trigger_slot(run, node);
}

/* A finished one has no target. If it has finished everywhere, it need not wait again. */
static void
sb_processing_time_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from,
                         int n)
{
	int slot = run->trigger->nodes[node].slot;

	for (int i = 0; i < n; i++)
		run->state->slots[slot] = Min(run->state->slots[slot], from[i]->slots[slot]);
	if (sb_trigger_finished_in_all(from, n, node))
		sb_trigger_finish(run, node);
}

const SbTriggerOps sb_trigger_after_processing_time_ops = {
    .has_slot = true,
    .slot_initial = SB_TIME_MAX,
    .on_element = sb_processing_time_on_element,
    .ready = sb_processing_time_ready,
    .fire = sb_trigger_fire_finish,
    .merge = sb_processing_time_merge,
    .may_be_ready = sb_trigger_when_any,
    .may_finish = sb_trigger_when_any,
};
