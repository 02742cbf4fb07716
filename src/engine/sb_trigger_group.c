/*
 * sb_trigger_group.c: triggers over several that wait together: after_any, after_all.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

static void
sb_after_any_on_element(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node) { sb_trigger_on_element(run, child); }
}

static void
sb_after_all_on_element(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_trigger_is_finished(run->state, child))
			sb_trigger_on_element(run, child);
	}
}

static bool
sb_group_child_done(const SbTriggerRun *run, int child)
{
	return sb_trigger_is_finished(run->state, child) || sb_trigger_ready(run, child);
}

static bool
sb_after_any_ready(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (sb_group_child_done(run, child))
			return true;
	}
	return false;
}

static void
sb_after_any_fire(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_trigger_is_finished(run->state, child) && sb_trigger_ready(run, child))
			sb_trigger_fire(run, child);
	}
	/* This clears the others, too: the pane they were counting for is gone. */
	sb_trigger_fire_finish(run, node);
}

const SbTriggerOps sb_trigger_after_any_ops = {
    .on_element = sb_after_any_on_element,
    .ready = sb_after_any_ready,
    .fire = sb_after_any_fire,
    .merge = sb_trigger_merge_any,
    .may_be_ready = sb_trigger_when_any_child,
    /* it finishes when it fires, whatever its children do */
    .may_finish = sb_trigger_when_any_child,
};

static bool
sb_after_all_ready(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_group_child_done(run, child))
			return false;
	}
	return true;
}

static void
sb_after_all_fire(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_trigger_is_finished(run->state, child))
			sb_trigger_fire(run, child);
	}
	sb_trigger_fire_finish(run, node);
}

static void
sb_after_all_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	sb_trigger_merge_children(run, node, from, n);
	if (sb_trigger_all_children_finished(run, node))
		sb_trigger_finish(run, node);
}

static SbTriggerWhen
sb_after_all_when(const SbTrigger *trigger, int node)
{
	return sb_trigger_when_all_children(trigger, node, sb_trigger_may_be_ready);
}

const SbTriggerOps sb_trigger_after_all_ops = {
    .on_element = sb_after_all_on_element,
    .ready = sb_after_all_ready,
    .fire = sb_after_all_fire,
    .merge = sb_after_all_merge,
    .may_be_ready = sb_after_all_when,
    .may_finish = sb_after_all_when,
};
