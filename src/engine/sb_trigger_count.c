/*
 * sb_trigger_count.c: after_count(n). The slot counts the elements.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

static void
sb_after_count_on_element(const SbTriggerRun *run, int node)
{
	++*sb_trigger_slot(run, node);
}

static bool
sb_after_count_ready(const SbTriggerRun *run, int node)
{
	return *sb_trigger_slot(run, node) >= run->trigger->nodes[node].arg;
}

static void
sb_after_count_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	int slot = run->trigger->nodes[node].slot;

	if (sb_trigger_finished_in_any(from, n, node))
	{
		sb_trigger_finish(run, node);
		return;
	}
	for (int i = 0; i < n; i++)
		run->state->slots[slot] += from[i]->slots[slot];
}

const SbTriggerOps sb_trigger_after_count_ops = {
    .has_slot = true,
    .on_element = sb_after_count_on_element,
    .ready = sb_after_count_ready,
    .fire = sb_trigger_fire_finish,
    .merge = sb_after_count_merge,
    .may_be_ready = sb_trigger_when_any,
    .may_finish = sb_trigger_when_any,
};
