/*
 * sb_trigger_sequence.c: triggers that say how long, or in what order, others run: after_each,
 * or_finally, repeatedly.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

/* Only the first child is asked at the beginning. */
static SbTriggerWhen
sb_first_may_be_ready(const SbTrigger *trigger, int node)
{
	return sb_trigger_may_be_ready(trigger, node + 1);
}

/* ---- after_each ---- */

/*
 * The first child that has not finished. Precondition: the node has not finished, so there is one.
 */
static int
sb_after_each_current(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_trigger_is_finished(run->state, child))
			return child;
	}
	elog(ERROR, "after_each has finished already");
}

/* Where windows merge, all wait in parallel: a merge may take back that a child has finished. */
static void
sb_after_each_on_element(const SbTriggerRun *run, int node)
{
	if (!run->merging)
	{
		sb_trigger_on_element(run, sb_after_each_current(run, node));
		return;
	}
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node) { sb_trigger_on_element(run, child); }
}

static bool
sb_after_each_ready(const SbTriggerRun *run, int node)
{
	return sb_trigger_ready(run, sb_after_each_current(run, node));
}

static void
sb_after_each_fire(const SbTriggerRun *run, int node)
{
	sb_trigger_fire(run, sb_after_each_current(run, node));
	/* what they have waited for together is in the pane that goes: they begin anew, together */
	if (run->merging)
		sb_trigger_clear(run, node);
	if (sb_trigger_all_children_finished(run, node))
		sb_trigger_finish(run, node);
}

/*
 * What comes after the first child that is unfinished in the merged window has not started there.
 */
static void
sb_after_each_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		sb_trigger_merge(run, child, from, n);
		if (!sb_trigger_is_finished(run->state, child))
			return;
	}
	sb_trigger_finish(run, node);
}

static SbTriggerWhen
sb_after_each_may_finish(const SbTrigger *trigger, int node)
{
	return sb_trigger_when_all_children(trigger, node, sb_trigger_may_finish);
}

const SbTriggerOps sb_trigger_after_each_ops = {
    .on_element = sb_after_each_on_element,
    .ready = sb_after_each_ready,
    .fire = sb_after_each_fire,
    .merge = sb_after_each_merge,
    .may_be_ready = sb_first_may_be_ready,
    .may_finish = sb_after_each_may_finish,
};

/* ---- or_finally(main, until) ---- */

static int
sb_or_finally_until(const SbTrigger *trigger, int node)
{
	return trigger->nodes[node + 1].end;
}

static void
sb_or_finally_on_element(const SbTriggerRun *run, int node)
{
	sb_trigger_on_element(run, node + 1);
	sb_trigger_on_element(run, sb_or_finally_until(run->trigger, node));
}

static bool
sb_or_finally_ready(const SbTriggerRun *run, int node)
{
	return sb_trigger_ready(run, node + 1) ||
	       sb_trigger_ready(run, sb_or_finally_until(run->trigger, node));
}

static void
sb_or_finally_fire(const SbTriggerRun *run, int node)
{
	int until = sb_or_finally_until(run->trigger, node);

	if (sb_trigger_ready(run, until))
	{
		sb_trigger_fire(run, until);
		sb_trigger_fire_finish(run, node);
		return;
	}
	/* `until` goes on: it counts over the panes of `main`. */
	sb_trigger_fire(run, node + 1);
	if (sb_trigger_is_finished(run->state, node + 1))
		sb_trigger_fire_finish(run, node);
}

static SbTriggerWhen
sb_or_finally_may_finish(const SbTrigger *trigger, int node)
{
	return Max(sb_trigger_may_finish(trigger, node + 1),
	           sb_trigger_may_be_ready(trigger, sb_or_finally_until(trigger, node)));
}

const SbTriggerOps sb_trigger_or_finally_ops = {
    .on_element = sb_or_finally_on_element,
    .ready = sb_or_finally_ready,
    .fire = sb_or_finally_fire,
    .merge = sb_trigger_merge_any,
    .may_be_ready = sb_trigger_when_any_child,
    .may_finish = sb_or_finally_may_finish,
};

/* ---- repeatedly ---- */

static void
sb_repeatedly_on_element(const SbTriggerRun *run, int node)
{
	sb_trigger_on_element(run, node + 1);
}

static bool
sb_repeatedly_ready(const SbTriggerRun *run, int node)
{
	return sb_trigger_ready(run, node + 1);
}

static void
sb_repeatedly_fire(const SbTriggerRun *run, int node)
{
	sb_trigger_fire(run, node + 1);
	if (sb_trigger_is_finished(run->state, node + 1))
		sb_trigger_reset(run, node + 1);
}

static void
sb_repeatedly_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	sb_trigger_merge(run, node + 1, from, n);
	/* finished by the merge alone: it starts over, or it would be stuck for ever */
	if (sb_trigger_is_finished(run->state, node + 1))
		sb_trigger_reset(run, node + 1);
}

const SbTriggerOps sb_trigger_repeatedly_ops = {
    .on_element = sb_repeatedly_on_element,
    .ready = sb_repeatedly_ready,
    .fire = sb_repeatedly_fire,
    .merge = sb_repeatedly_merge,
    .may_be_ready = sb_first_may_be_ready,
    .may_finish = sb_trigger_when_never,
};
