/*
 * sb_trigger_node.h: the inside of a trigger: nodes in preorder, and the table of what each kind
 * does.
 *
 * A kind is one SbTriggerOps, defined in the file of its family and listed in sb_trigger.c; its
 * text form is a line in sb_trigger_text.c. Nothing else knows kinds. Private to engine/.
 *
 * RULES. A node's private state is one slot, or none. `clear` gives the slots of a subtree their
 * initial values, but for those that stand for a finished bit (slot_is_bit); `reset` takes back
 * these and the finished bits too. Since nodes and slots are numbered in preorder, a subtree is one
 * range of either. A parent never fires a finished child, and passes elements to one only where a
 * merge may take back that it has finished (after_each).
 */
#ifndef SB_TRIGGER_NODE_H
#define SB_TRIGGER_NODE_H

#include "postgres.h"
#include "engine/sb_trigger.h"

typedef enum SbTriggerKind
{
	SB_TRIGGER_DEFAULT,
	SB_TRIGGER_CONTINUOUS,
	SB_TRIGGER_NEVER,
	SB_TRIGGER_AFTER_WATERMARK,
	SB_TRIGGER_EARLY_LATE, /* after_watermark with early, late or both */
	SB_TRIGGER_AFTER_PROCESSING_TIME,
	SB_TRIGGER_AFTER_COUNT,
	SB_TRIGGER_AFTER_ANY,
	SB_TRIGGER_AFTER_ALL,
	SB_TRIGGER_AFTER_EACH,
	SB_TRIGGER_OR_FINALLY,
	SB_TRIGGER_REPEATEDLY
} SbTriggerKind;

typedef struct SbTriggerNode
{
	uint8 kind; /* SbTriggerKind */
	/* the node after the last one of this subtree; the first child, if any, is the next node */
	uint8 end;
	int8 slot; /* -1: none */
	bool has_early;
	bool has_late;
	/* after_count: how many; after_processing_time: the delay in microseconds; else 0 */
	int64 arg;
	int64 align_us; /* after_processing_time: 0: not aligned; else 0 */
} SbTriggerNode;

struct SbTrigger
{
	int nnodes;
	int nslots;
	SbTriggerNode nodes[FLEXIBLE_ARRAY_MEMBER];
};

/* A trigger at work on one cell at one moment. */
typedef struct SbTriggerRun
{
	const SbTrigger *trigger;
	SbTriggerState *state;
	bool merging;     /* the window may merge with others */
	bool end_reached; /* the input watermark is past the window's max_timestamp */
	TimestampTz now;  /* processing time */
} SbTriggerRun;

/* From when on a node may do something, for the check of safety. Ordered. */
typedef enum SbTriggerWhen
{
	SB_TRIGGER_WHEN_NEVER,
	SB_TRIGGER_WHEN_END, /* not before the end of the window */
	SB_TRIGGER_WHEN_ANY
} SbTriggerWhen;

typedef struct SbTriggerOps
{
	bool has_slot;
	bool slot_is_bit; /* the slot says what a finished bit would: clear leaves it */
	int64 slot_initial;
	void (*on_element)(const SbTriggerRun *run, int node); /* NULL: nothing to do */
	bool (*ready)(const SbTriggerRun *run, int node);
	/* Precondition: ready. */
	void (*fire)(const SbTriggerRun *run, int node);
	/*
	 * run->state is that of the merged window, in this subtree still initial; end_reached is that
	 * of the merged window.
	 */
	void (*merge)(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n);
	SbTriggerWhen (*may_be_ready)(const SbTrigger *trigger, int node);
	SbTriggerWhen (*may_finish)(const SbTrigger *trigger, int node);
} SbTriggerOps;

extern const SbTriggerOps sb_trigger_default_ops;
extern const SbTriggerOps sb_trigger_continuous_ops;
extern const SbTriggerOps sb_trigger_never_ops;
extern const SbTriggerOps sb_trigger_after_watermark_ops;
extern const SbTriggerOps sb_trigger_early_late_ops;
extern const SbTriggerOps sb_trigger_after_processing_time_ops;
extern const SbTriggerOps sb_trigger_after_count_ops;
extern const SbTriggerOps sb_trigger_after_any_ops;
extern const SbTriggerOps sb_trigger_after_all_ops;
extern const SbTriggerOps sb_trigger_after_each_ops;
extern const SbTriggerOps sb_trigger_or_finally_ops;
extern const SbTriggerOps sb_trigger_repeatedly_ops;

extern const SbTriggerOps *const sb_trigger_ops[];

/* Loops over the direct children of a node. */
#define SB_TRIGGER_FOREACH_CHILD(child, trigger, node) \
	for (int child = (node) + 1; child < (int) (trigger)->nodes[node].end; \
	     child = (trigger)->nodes[child].end)

static inline const SbTriggerOps *
sb_trigger_node_ops(const SbTrigger *trigger, int node)
{
	return sb_trigger_ops[trigger->nodes[node].kind];
}

static inline bool
sb_trigger_is_finished(const SbTriggerState *state, int node)
{
	return (state->finished >> node) & 1;
}

static inline void
sb_trigger_finish(const SbTriggerRun *run, int node)
{
	run->state->finished |= UINT64CONST(1) << node;
}

/* The private state of a node that has one. */
static inline int64 *
sb_trigger_slot(const SbTriggerRun *run, int node)
{
	return &run->state->slots[run->trigger->nodes[node].slot];
}

static inline void
sb_trigger_on_element(const SbTriggerRun *run, int node)
{
	const SbTriggerOps *ops = sb_trigger_node_ops(run->trigger, node);

	if (ops->on_element)
		ops->on_element(run, node);
}

static inline bool
sb_trigger_ready(const SbTriggerRun *run, int node)
{
	return sb_trigger_node_ops(run->trigger, node)->ready(run, node);
}

static inline void
sb_trigger_fire(const SbTriggerRun *run, int node)
{
	sb_trigger_node_ops(run->trigger, node)->fire(run, node);
}

static inline void
sb_trigger_merge(const SbTriggerRun *run, int node, const SbTriggerState *const *from, int n)
{
	sb_trigger_node_ops(run->trigger, node)->merge(run, node, from, n);
}

static inline SbTriggerWhen
sb_trigger_may_be_ready(const SbTrigger *trigger, int node)
{
	return sb_trigger_node_ops(trigger, node)->may_be_ready(trigger, node);
}

static inline SbTriggerWhen
sb_trigger_may_finish(const SbTrigger *trigger, int node)
{
	return sb_trigger_node_ops(trigger, node)->may_finish(trigger, node);
}

extern void sb_trigger_state_init(const SbTrigger *trigger, SbTriggerState *state);
/* Gives the slots of the subtree their initial values; finished bits, and what is one, stay. */
extern void sb_trigger_clear(const SbTriggerRun *run, int node);
/* Lets the subtree start over. */
extern void sb_trigger_reset(const SbTriggerRun *run, int node);
/*
 * The earliest processing time at which a node wants to be asked again (strictly later), or
 * SB_TIME_MAX.
 */
extern TimestampTz sb_trigger_processing_timer(const SbTrigger *trigger,
                                               const SbTriggerState *state);
/*
 * Makes timers that are due no longer wanted: the nodes have been asked, and keep in mind that
 * their time has passed.
 */
extern void sb_trigger_processing_timers_done(const SbTriggerRun *run);

/* A target time that has passed, and whose timer has fired. It is earlier than all others. */
#define SB_TARGET_PASSED (SB_TIME_MIN + 1)

/* Answers that several kinds share. */
extern void sb_trigger_fire_nothing(const SbTriggerRun *run, int node);
extern void sb_trigger_fire_finish(const SbTriggerRun *run, int node);
extern void sb_trigger_merge_nothing(const SbTriggerRun *run, int node,
                                     const SbTriggerState *const *from, int n);
extern void sb_trigger_merge_children(const SbTriggerRun *run, int node,
                                      const SbTriggerState *const *from, int n);
/* Likewise; the node finishes where a child has. */
extern void sb_trigger_merge_any(const SbTriggerRun *run, int node,
                                 const SbTriggerState *const *from, int n);
extern bool sb_trigger_any_child_finished(const SbTriggerRun *run, int node);
extern bool sb_trigger_all_children_finished(const SbTriggerRun *run, int node);
extern bool sb_trigger_finished_in_any(const SbTriggerState *const *from, int n, int node);
extern bool sb_trigger_finished_in_all(const SbTriggerState *const *from, int n, int node);
/* When any child may be ready; when all children may be what is asked of them. */
extern SbTriggerWhen sb_trigger_when_any_child(const SbTrigger *trigger, int node);
extern SbTriggerWhen sb_trigger_when_all_children(const SbTrigger *trigger, int node,
                                                  SbTriggerWhen (*of)(const SbTrigger *trigger,
                                                                      int node));
extern SbTriggerWhen sb_trigger_when_never(const SbTrigger *trigger, int node);
extern SbTriggerWhen sb_trigger_when_end(const SbTrigger *trigger, int node);
extern SbTriggerWhen sb_trigger_when_any(const SbTrigger *trigger, int node);

#endif
