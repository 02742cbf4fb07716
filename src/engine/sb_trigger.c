/*
 * sb_trigger.c: the table of triggers, and what does not depend on the kind of a node.
 *
 * STATE. All of a trigger's state is in the cell's SbTriggerState, which is plain memory; a trigger
 * itself never changes.
 */
#include "postgres.h"
#include "engine/sb_trigger_node.h"

/* One line for each SbTriggerKind. */
const SbTriggerOps *const sb_trigger_ops[] = {
    [SB_TRIGGER_DEFAULT] = &sb_trigger_default_ops,
    [SB_TRIGGER_CONTINUOUS] = &sb_trigger_continuous_ops,
    [SB_TRIGGER_NEVER] = &sb_trigger_never_ops,
    [SB_TRIGGER_AFTER_WATERMARK] = &sb_trigger_after_watermark_ops,
    [SB_TRIGGER_EARLY_LATE] = &sb_trigger_early_late_ops,
    [SB_TRIGGER_AFTER_PROCESSING_TIME] = &sb_trigger_after_processing_time_ops,
    [SB_TRIGGER_AFTER_COUNT] = &sb_trigger_after_count_ops,
    [SB_TRIGGER_AFTER_ANY] = &sb_trigger_after_any_ops,
    [SB_TRIGGER_AFTER_ALL] = &sb_trigger_after_all_ops,
    [SB_TRIGGER_AFTER_EACH] = &sb_trigger_after_each_ops,
    [SB_TRIGGER_OR_FINALLY] = &sb_trigger_or_finally_ops,
    [SB_TRIGGER_REPEATEDLY] = &sb_trigger_repeatedly_ops,
};

int
sb_trigger_slots(const SbTrigger *trigger)
{
	return trigger->nslots;
}

bool
sb_trigger_uses_processing_time(const SbTrigger *trigger)
{
	for (int i = 0; i < trigger->nnodes; i++)
	{
		if (trigger->nodes[i].kind == SB_TRIGGER_AFTER_PROCESSING_TIME)
			return true;
	}
	return false;
}

bool
sb_trigger_fires_at_end(const SbTrigger *trigger)
{
	switch (trigger->nodes[0].kind)
	{
		case SB_TRIGGER_DEFAULT:
		case SB_TRIGGER_CONTINUOUS:
		case SB_TRIGGER_AFTER_WATERMARK:
		case SB_TRIGGER_EARLY_LATE:
			return true;
		default:
			return false;
	}
}

TimestampTz
sb_trigger_processing_timer(const SbTrigger *trigger, const SbTriggerState *state)
{
	TimestampTz earliest = SB_TIME_MAX;

	/*
	 * A node that has finished, or that nobody waits for, has been cleared, and its slot says
	 * SB_TIME_MAX.
	 */
	for (int i = 0; i < trigger->nnodes; i++)
	{
		TimestampTz target;

		if (trigger->nodes[i].kind != SB_TRIGGER_AFTER_PROCESSING_TIME)
			continue;
		target = state->slots[trigger->nodes[i].slot];
		if (target != SB_TARGET_PASSED)
			earliest = Min(earliest, target);
	}
	return earliest;
}

/*
 * The trigger need not fire when a target passes (after_all may wait for more). Without this its
 * timer would be due for ever. A mark in the state, and not a look at the clock, since a target may
 * pass while the server is down.
 */
void
sb_trigger_processing_timers_done(const SbTriggerRun *run)
{
	for (int i = 0; i < run->trigger->nnodes; i++)
	{
		if (run->trigger->nodes[i].kind == SB_TRIGGER_AFTER_PROCESSING_TIME &&
		    *sb_trigger_slot(run, i) < run->now)
			*sb_trigger_slot(run, i) = SB_TARGET_PASSED;
	}
}

void
sb_trigger_state_init(const SbTrigger *trigger, SbTriggerState *state)
{
	const SbTriggerRun run = {.trigger = trigger, .state = state};

	state->finished = 0;
	sb_trigger_reset(&run, 0);
}

void
sb_trigger_clear(const SbTriggerRun *run, int node)
{
	for (int i = node; i < (int) run->trigger->nodes[node].end; i++)
	{
		const SbTriggerOps *ops = sb_trigger_node_ops(run->trigger, i);

		if (ops->has_slot && !ops->slot_is_bit)
			*sb_trigger_slot(run, i) = ops->slot_initial;
	}
}

void
sb_trigger_reset(const SbTriggerRun *run, int node)
{
	for (int i = node; i < (int) run->trigger->nodes[node].end; i++)
	{
		const SbTriggerOps *ops = sb_trigger_node_ops(run->trigger, i);

		run->state->finished &= ~(UINT64CONST(1) << i);
		if (ops->has_slot)
			*sb_trigger_slot(run, i) = ops->slot_initial;
	}
}

void
sb_trigger_fire_nothing(const SbTriggerRun *run, int node)
{
}

void
sb_trigger_fire_finish(const SbTriggerRun *run, int node)
{
	sb_trigger_clear(run, node);
	sb_trigger_finish(run, node);
}

void
sb_trigger_merge_nothing(const SbTriggerRun *run, int node, const SbTriggerState *const *from,
                         int n)
{
}

void
sb_trigger_merge_children(const SbTriggerRun *run, int node, const SbTriggerState *const *from,
                          int n)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node) { sb_trigger_merge(run, child, from, n); }
}

void
sb_trigger_merge_any(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	sb_trigger_merge_children(run, node, from, n);
	if (sb_trigger_any_child_finished(run, node))
		sb_trigger_finish(run, node);
}

SbTriggerWhen
sb_trigger_when_any_child(const SbTrigger *trigger, int node)
{
	SbTriggerWhen when = SB_TRIGGER_WHEN_NEVER;

	SB_TRIGGER_FOREACH_CHILD(child, trigger, node)
	{
		when = Max(when, sb_trigger_may_be_ready(trigger, child));
	}
	return when;
}

SbTriggerWhen
sb_trigger_when_all_children(const SbTrigger *trigger, int node,
                             SbTriggerWhen (*of)(const SbTrigger *trigger, int node))
{
	SbTriggerWhen when = SB_TRIGGER_WHEN_ANY;

	SB_TRIGGER_FOREACH_CHILD(child, trigger, node) { when = Min(when, of(trigger, child)); }
	return when;
}

bool
sb_trigger_any_child_finished(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (sb_trigger_is_finished(run->state, child))
			return true;
	}
	return false;
}

bool
sb_trigger_all_children_finished(const SbTriggerRun *run, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, run->trigger, node)
	{
		if (!sb_trigger_is_finished(run->state, child))
			return false;
	}
	return true;
}

bool
sb_trigger_finished_in_any(const SbTriggerState *const *from, int n, int node)
{
	for (int i = 0; i < n; i++)
	{
		if (sb_trigger_is_finished(from[i], node))
			return true;
	}
	return false;
}

bool
sb_trigger_finished_in_all(const SbTriggerState *const *from, int n, int node)
{
	for (int i = 0; i < n; i++)
	{
		if (!sb_trigger_is_finished(from[i], node))
			return false;
	}
	return true;
}

SbTriggerWhen
sb_trigger_when_never(const SbTrigger *trigger, int node)
{
	return SB_TRIGGER_WHEN_NEVER;
}

SbTriggerWhen
sb_trigger_when_end(const SbTrigger *trigger, int node)
{
	return SB_TRIGGER_WHEN_END;
}

SbTriggerWhen
sb_trigger_when_any(const SbTrigger *trigger, int node)
{
	return SB_TRIGGER_WHEN_ANY;
}

/* The result is palloc'd. */
const char *
sb_trigger_unsafe_reason(const SbTrigger *trigger, bool late_data)
{
	SbTriggerWhen when = sb_trigger_may_finish(trigger, 0);

	if (when == SB_TRIGGER_WHEN_ANY)
		return psprintf(
		    "%s can finish before the end of the window, and rows that come after that are not counted",
		    sb_trigger_format(trigger));
	/*
	 * Without allowed lateness a window ends and expires at the same moment: nothing comes after
	 * its end.
	 */
	if (when == SB_TRIGGER_WHEN_END && late_data)
		return psprintf(
		    "%s finishes at the end of the window, and late rows, which allowed_lateness lets in, are not counted",
		    sb_trigger_format(trigger));
	return NULL;
}
