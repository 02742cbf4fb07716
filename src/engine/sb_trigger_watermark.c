/*
 * sb_trigger_watermark.c: after_watermark, plain and with early and late triggers.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

static bool
sb_after_watermark_ready(const SbTriggerRun *run, int node)
{
	return run->end_reached;
}

/*
 * It is done for good only if it was everywhere and the merged window, which may end later, has
 * ended too.
 */
static void
sb_after_watermark_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from,
                         int n)
{
	if (run->end_reached && sb_trigger_finished_in_all(from, n, node))
		sb_trigger_finish(run, node);
}

const SbTriggerOps sb_trigger_after_watermark_ops = {
    .ready = sb_after_watermark_ready,
    .fire = sb_trigger_fire_finish,
    .merge = sb_after_watermark_merge,
    .may_be_ready = sb_trigger_when_end,
    .may_finish = sb_trigger_when_end,
};

/*
 * after_watermark(early => E, late => L). The slot holds the phase, which is whether the end of the
 * window has been dealt with: clear leaves it, as it leaves finished bits. E is reset when the
 * phase changes, and L is untouched until then, so that a merge which goes back to the early phase
 * adds nothing stale to E.
 */
#define SB_PHASE_EARLY 0
#define SB_PHASE_LATE 1

static int
sb_early_node(const SbTrigger *trigger, int node)
{
	Assert(trigger->nodes[node].has_early);
	return node + 1;
}

static int
sb_late_node(const SbTrigger *trigger, int node)
{
	Assert(trigger->nodes[node].has_late);
	return trigger->nodes[node].has_early ? trigger->nodes[node + 1].end : node + 1;
}

/* The child that is in charge in this phase, or -1. */
static int
sb_early_late_current(const SbTriggerRun *run, int node)
{
	const SbTriggerNode *self = &run->trigger->nodes[node];

	if (*sb_trigger_slot(run, node) == SB_PHASE_EARLY)
		return self->has_early ? sb_early_node(run->trigger, node) : -1;
	return self->has_late ? sb_late_node(run->trigger, node) : -1;
}

static void
sb_early_late_on_element(const SbTriggerRun *run, int node)
{
	int current = sb_early_late_current(run, node);

	if (current >= 0)
		sb_trigger_on_element(run, current);
}

static bool
sb_early_late_ready(const SbTriggerRun *run, int node)
{
	int current = sb_early_late_current(run, node);

	if (*sb_trigger_slot(run, node) == SB_PHASE_EARLY && run->end_reached)
		return true;
	return current >= 0 && sb_trigger_ready(run, current);
}

static void
sb_early_late_enter_late(const SbTriggerRun *run, int node)
{
	*sb_trigger_slot(run, node) = SB_PHASE_LATE;
	if (run->trigger->nodes[node].has_early)
		sb_trigger_reset(run, sb_early_node(run->trigger, node));
	if (!run->trigger->nodes[node].has_late)
		sb_trigger_finish(run, node);
}

static void
sb_early_late_fire(const SbTriggerRun *run, int node)
{
	int current = sb_early_late_current(run, node);

	if (*sb_trigger_slot(run, node) == SB_PHASE_EARLY && run->end_reached)
		sb_early_late_enter_late(run, node);
	else
	{
		/* E and L are repeated without being asked to, as in Beam. */
		sb_trigger_fire(run, current);
		sb_trigger_reset(run, current);
	}
}

/*
 * If a window that takes part was still early, so is the merged one, even if it has ended: what was
 * pending there has not had its ON_TIME pane.
 */
static void
sb_early_late_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	int slot = run->trigger->nodes[node].slot;
	bool late = run->end_reached;
	int current;

	for (int i = 0; i < n; i++)
		late &= from[i]->slots[slot] == SB_PHASE_LATE || sb_trigger_is_finished(from[i], node);
	if (late)
		sb_early_late_enter_late(run, node);
	current = sb_early_late_current(run, node);
	if (current < 0)
		return;
	sb_trigger_merge(run, current, from, n);
	if (sb_trigger_is_finished(run->state, current))
		sb_trigger_reset(run, current);
}

static SbTriggerWhen
sb_early_late_may_be_ready(const SbTrigger *trigger, int node)
{
	if (!trigger->nodes[node].has_early)
		return SB_TRIGGER_WHEN_END;
	return Max(SB_TRIGGER_WHEN_END, sb_trigger_may_be_ready(trigger, sb_early_node(trigger, node)));
}

static SbTriggerWhen
sb_early_late_may_finish(const SbTrigger *trigger, int node)
{
	return trigger->nodes[node].has_late ? SB_TRIGGER_WHEN_NEVER : SB_TRIGGER_WHEN_END;
}

const SbTriggerOps sb_trigger_early_late_ops = {
    .has_slot = true,
    .slot_is_bit = true,
    .slot_initial = SB_PHASE_EARLY,
    .on_element = sb_early_late_on_element,
    .ready = sb_early_late_ready,
    .fire = sb_early_late_fire,
    .merge = sb_early_late_merge,
    .may_be_ready = sb_early_late_may_be_ready,
    .may_finish = sb_early_late_may_finish,
};
