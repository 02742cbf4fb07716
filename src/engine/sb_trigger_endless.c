/*
 * sb_trigger_endless.c: the triggers without children that never finish: default, continuous,
 * never.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

static bool
sb_default_ready(const SbTriggerRun *run, int node)
{
	return run->end_reached;
}

const SbTriggerOps sb_trigger_default_ops = {
    .ready = sb_default_ready,
    .fire = sb_trigger_fire_nothing,
    .merge = sb_trigger_merge_nothing,
    .may_be_ready = sb_trigger_when_end,
    .may_finish = sb_trigger_when_never,
};

/*
 * continuous: the slot says whether an element has come since it last fired. At the end of the
 * window it is ready without one, for the ON_TIME pane; that later timers find it ready too is
 * harmless, an empty pane is then suppressed.
 */
static void
sb_continuous_on_element(const SbTriggerRun *run, int node)
{
	*sb_trigger_slot(run, node) = 1;
}

static bool
sb_continuous_ready(const SbTriggerRun *run, int node)
{
	return *sb_trigger_slot(run, node) != 0 || run->end_reached;
}

static void
sb_continuous_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	int slot = run->trigger->nodes[node].slot;

	for (int i = 0; i < n; i++)
		run->state->slots[slot] |= from[i]->slots[slot];
}

const SbTriggerOps sb_trigger_continuous_ops = {
    .has_slot = true,
    .on_element = sb_continuous_on_element,
    .ready = sb_continuous_ready,
    .fire = sb_trigger_clear,
    .merge = sb_continuous_merge,
    .may_be_ready = sb_trigger_when_any,
    .may_finish = sb_trigger_when_never,
};

static bool
sb_never_ready(const SbTriggerRun *run, int node)
{
	return false;
}

const SbTriggerOps sb_trigger_never_ops = {
    .ready = sb_never_ready,
    .fire = sb_trigger_fire_nothing,
    .merge = sb_trigger_merge_nothing,
    .may_be_ready = sb_trigger_when_never,
    .may_finish = sb_trigger_when_never,
};
