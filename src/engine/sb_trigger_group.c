/*
 * sb_trigger_group.c: triggers over several that wait together: after_any, after_all.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

static void
sb_group_on_element(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_trigger_is_finished(run->state, child))
			sb_trigger_on_element(run, child);
	}
}

static void
sb_group_merge_children(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node) { sb_trigger_merge(run, child, from, n); }
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

static void
sb_after_any_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	sb_group_merge_children(run, node, from, n);
	if (sb_trigger_any_child_finished(run, node))
		sb_trigger_finish(run, node);
}

/* It finishes when it fires, whatever its children do. */
static SbTriggerWhen
sb_after_any_when(const SbTrigger *trigger, int node)
{
	SbTriggerWhen when = SB_TRIGGER_WHEN_NEVER;

	SB_TRIGGER_FOREACH_CHILD(child, trigger, node)
	{
		when = Max(when, sb_trigger_may_be_ready(trigger, child));
	}
	return when;
}

const SbTriggerOps sb_trigger_after_any_ops = {
    .on_element = sb_group_on_element,
    .ready = sb_after_any_ready,
    .fire = sb_after_any_fire,
    .merge = sb_after_any_merge,
    .may_be_ready = sb_after_any_when,
    .may_finish = sb_after_any_when,
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
	sb_group_merge_children(run, node, from, n);
	if (sb_trigger_all_children_finished(run, node))
		sb_trigger_finish(run, node);
}

static SbTriggerWhen
sb_after_all_when(const SbTrigger *trigger, int node)
{
	SbTriggerWhen when = SB_TRIGGER_WHEN_ANY;

	SB_TRIGGER_FOREACH_CHILD(child, trigger, node)
	{
		when = Min(when, sb_trigger_may_be_ready(trigger, child));
	}
	return when;
}

const SbTriggerOps sb_trigger_after_all_ops = {
    .on_element = sb_group_on_element,
    .ready = sb_after_all_ready,
    .fire = sb_after_all_fire,
    .merge = sb_after_all_merge,
    .may_be_ready = sb_after_all_when,
    .may_finish = sb_after_all_when,
};
