/*
 * sb_unit_random.c: random streams. What must hold always is checked by the runner at each step;
 * here, what must hold at the end.
 *
 * A round has a pipeline of any kind (trigger, windows, lateness, accumulation), and a script of
 * elements and moves of both clocks. The script is run
 *   - as it is, and with a crash after each step: the panes are the same;
 *   - with the watermark moved in more, smaller steps: the same panes, whatever is last of them;
 *   - where the trigger is safe, cut into other bundles, with other moves of the processing time,
 *     and with elements and moves of the watermark exchanged where no element meets a window on the
 *     other side of its expiry: each window has the same last pane.
 * And at the end what was emitted, less what was retracted, is what was taken; sessions are those
 * of a batch; with a safe trigger only what has expired is dropped; nothing is left behind.
 */
#include "postgres.h"
#include <time.h>
#include "sb_unit.h"

#undef printf

static uint64 random_state;

/* splitmix64's step: small, and the same on every machine */
static uint64
random_next(void)
{
	uint64 z = random_state += UINT64CONST(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static int
random_below(int n)
{
	return random_next() % n;
}

static void
random_trigger(StringInfo out, int depth)
{
	static const char *const leaves[] = {"default", "continuous", "never", "after_watermark"};
	static const char *const lists[] = {"after_any(", "after_all(", "after_each("};
	int kind = random_below(depth > 0 ? 12 : 6);

	if (kind < 4)
		appendStringInfoString(out, leaves[kind]);
	else if (kind == 4)
		appendStringInfo(out, "after_count(%d)", 1 + random_below(4));
	else if (kind == 5)
		appendStringInfo(out, "after_processing_time('%d s'%s)", 1 + random_below(9),
		                 random_below(2) ? ", align => '4 s'" : "");
	else if (kind < 9)
	{
		appendStringInfoString(out, lists[kind - 6]);
		random_trigger(out, depth - 1);
		appendStringInfoString(out, ", ");
		random_trigger(out, depth - 1);
		appendStringInfoChar(out, ')');
	}
	else if (kind == 9)
	{
		appendStringInfoString(out, "or_finally(");
		random_trigger(out, depth - 1);
		appendStringInfoString(out, ", ");
		random_trigger(out, depth - 1);
		appendStringInfoChar(out, ')');
	}
	else if (kind == 10)
	{
		appendStringInfoString(out, "after_watermark(early => ");
		random_trigger(out, depth - 1);
		if (random_below(2))
		{
			appendStringInfoString(out, ", late => ");
			random_trigger(out, depth - 1);
		}
		appendStringInfoChar(out, ')');
	}
	else
	{
		appendStringInfoString(out, "repeatedly(");
		random_trigger(out, depth - 1);
		appendStringInfoChar(out, ')');
	}
}

/* ---- scripts ---- */

typedef struct RandomItem
{
	enum
	{
		ITEM_ELEMENT,
		ITEM_WATERMARK,
		ITEM_CLOCK
	} kind;
	bool cut; /* of an element: a bundle ends with it */
	TimestampTz at;
	int64 value;
} RandomItem;

#define RANDOM_ITEMS 256

typedef struct RandomScript
{
	RandomItem items[RANDOM_ITEMS];
	int n;
} RandomScript;

static void
script_add(RandomScript *script, RandomItem item)
{
	unit_must(script->n < RANDOM_ITEMS, "a script has room");
	script->items[script->n++] = item;
}

static RandomScript *
script_make(void)
{
	RandomScript *script = palloc0(sizeof(RandomScript));
	int64 watermark = 0;
	int64 clock = 0;
	int64 value = 0;

	for (int step = 0; step < 16; step++)
	{
		int what = random_below(6);

		if (what == 0)
			script_add(script, (RandomItem){.kind = ITEM_WATERMARK,
			                                .at = (watermark += random_below(9)) * SECOND});
		else if (what == 1)
			script_add(script, (RandomItem){.kind = ITEM_CLOCK,
			                                .at = (clock += random_below(9)) * SECOND + 1});
		else
		{
			for (int n = 1 + random_below(5); n > 0; n--)
			{
				TimestampTz at = (watermark - 14 + random_below(40)) * SECOND + random_below(3) - 1;

				script_add(script, (RandomItem){.kind = ITEM_ELEMENT,
				                                .cut = n == 1,
				                                .at = at,
				                                .value = value++});
			}
		}
	}
	script_add(script, (RandomItem){.kind = ITEM_WATERMARK, .at = SB_TIME_MAX});
	return script;
}

static void
script_run(const RandomScript *script, UnitRunner *runner)
{
	UnitElement elements[RANDOM_ITEMS];
	int n = 0;

	for (int i = 0; i < script->n; i++)
	{
		const RandomItem *item = &script->items[i];
		bool element = item->kind == ITEM_ELEMENT;

		if (element)
			elements[n++] = (UnitElement){item->at, item->value};
		if (n > 0 && (!element || item->cut))
		{
			unit_bundle(runner, elements, n);
			n = 0;
		}
		if (item->kind == ITEM_WATERMARK)
			unit_watermark(runner, item->at);
		else if (item->kind == ITEM_CLOCK)
			unit_clock(runner, item->at);
	}
}

/* The watermark moves in up to three more steps, each time. */
static RandomScript *
script_with_more_steps(const RandomScript *script)
{
	RandomScript *more = palloc0(sizeof(RandomScript));
	TimestampTz watermark = -20 * SECOND;

	for (int i = 0; i < script->n; i++)
	{
		const RandomItem *item = &script->items[i];
		bool last = item->at == SB_TIME_MAX;

		for (int n = item->kind == ITEM_WATERMARK ? random_below(4) : 0; n > 0; n--)
		{
			watermark +=
			    random_below((last ? 40 : (item->at - watermark) / SECOND / 2) + 1) * SECOND;
			script_add(more, (RandomItem){.kind = ITEM_WATERMARK, .at = watermark});
		}
		if (item->kind == ITEM_WATERMARK)
			watermark = item->at;
		script_add(more, *item);
	}
	return more;
}

/* Do all windows of the element meet both watermarks on the same side of their expiry? */
static bool
same_side(const UnitRunner *runner, TimestampTz element, TimestampTz a, TimestampTz b)
{
	SbWindow windows[UNIT_WINDOWS];
	int n = unit_assign(runner, element, windows);

	for (int i = 0; i < n; i++)
	{
		TimestampTz gc_time = sb_window_gc_time(windows[i], runner->strategy.allowed_lateness_us);

		if ((gc_time < a) != (gc_time < b))
			return false;
	}
	return true;
}

/*
 * May the two items that follow each other be exchanged? A session may meet another one that has
 * expired; so there only where none ever does.
 */
static bool
may_exchange(const UnitRunner *runner, const RandomItem *a, const RandomItem *b,
             TimestampTz watermark)
{
	const RandomItem *moves = a->kind == ITEM_WATERMARK ? a : b;
	const RandomItem *element = a->kind == ITEM_ELEMENT ? a : b;

	if (moves->kind != ITEM_WATERMARK || moves->at == SB_TIME_MAX || element->kind != ITEM_ELEMENT)
		return false;
	if (runner->kind == SB_WINDOW_SESSION)
		return runner->strategy.allowed_lateness_us == PG_INT64_MAX;
	return same_side(runner, element->at, watermark, Max(watermark, moves->at));
}

static RandomScript *
script_in_other_pieces(const RandomScript *script, const UnitRunner *runner)
{
	RandomScript *other = palloc0(sizeof(RandomScript));
	TimestampTz watermark = SB_TIME_MIN;

	for (int i = 0; i < script->n; i++)
	{
		if (script->items[i].kind == ITEM_CLOCK && random_below(2))
			continue;
		script_add(other, script->items[i]);
		other->items[other->n - 1].cut = random_below(3) == 0;
	}
	for (int i = 0; i + 1 < other->n; i++)
	{
		RandomItem item = other->items[i];

		if (random_below(2) && may_exchange(runner, &item, &other->items[i + 1], watermark))
		{
			other->items[i] = other->items[i + 1];
			other->items[i + 1] = item;
		}
		if (other->items[i].kind == ITEM_WATERMARK)
			watermark = Max(watermark, other->items[i].at);
	}
	return other;
}

/* ---- comparing ---- */

static bool
same_values(const UnitPane *x, const UnitPane *y)
{
	return sb_window_equal(x->window, y->window) && x->values.n == y->values.n &&
	       (x->values.n == 0 ||
	        memcmp(x->values.items, y->values.items, sizeof(int64) * x->values.n) == 0);
}

static bool
same_panes(const UnitRunner *a, const UnitRunner *b)
{
	if (a->npanes != b->npanes || a->late_closed != b->late_closed ||
	    a->late_expired != b->late_expired)
		return false;
	for (int i = 0; i < a->npanes; i++)
	{
		const UnitPane *x = &a->panes[i];
		const UnitPane *y = &b->panes[i];

		if (!same_values(x, y) || x->pane.timing != y->pane.timing ||
		    x->pane.index != y->pane.index || x->pane.is_last != y->pane.is_last ||
		    x->pane.timestamp != y->pane.timestamp)
			return false;
	}
	return true;
}

/* Those that say something new, and where they are wanted those that are on time though empty. */
static bool
tells(const UnitRunner *runner, const UnitPane *pane)
{
	return pane->pane.elements > 0 ||
	       (pane->pane.timing == SB_PANE_ON_TIME && runner->strategy.on_time_always);
}

static int
count_like(const UnitRunner *runner, const UnitPane *pane)
{
	int n = 0;

	for (int i = 0; i < runner->npanes; i++)
		n += tells(runner, &runner->panes[i]) && same_values(&runner->panes[i], pane) &&
		     runner->panes[i].pane.elements == pane->pane.elements;
	return n;
}

static bool
same_tellings(const UnitRunner *a, const UnitRunner *b)
{
	for (int i = 0; i < a->npanes; i++)
	{
		if (tells(a, &a->panes[i]) && count_like(a, &a->panes[i]) != count_like(b, &a->panes[i]))
			return false;
	}
	return true;
}

static bool
same_result(const UnitResult *x, const UnitResult *y)
{
	return sb_window_equal(x->window, y->window) && x->values.n == y->values.n &&
	       memcmp(x->values.items, y->values.items, sizeof(int64) * x->values.n) == 0;
}

/* Elements come to no window that is over, so each window is over once. */
static bool
same_results(const UnitRunner *a, const UnitRunner *b)
{
	for (int i = 0; i < a->nresults; i++)
	{
		int j = 0;

		while (j < b->nresults && !same_result(&a->results[i], &b->results[j]))
			j++;
		if (j == b->nresults)
			return false;
	}
	return a->nresults == b->nresults;
}

/* The sessions of all elements in a batch; the script has them. */
static int
batch_sessions(const RandomScript *script, int64 gap, SbWindow *windows)
{
	int n = 0;

	for (int i = 0; i < script->n; i++)
	{
		if (script->items[i].kind == ITEM_ELEMENT)
			windows[n++] = (SbWindow){script->items[i].at, script->items[i].at + gap};
	}
	return sb_window_merge(windows, n);
}

/* Where nothing expires before the end. */
static bool
equals_batch_sessions(const UnitRunner *runner, const RandomScript *script)
{
	SbWindow windows[RANDOM_ITEMS];
	int n = batch_sessions(script, runner->size, windows);

	for (int w = 0; w < n; w++)
	{
		int elements = 0;
		int found = -1;

		for (int i = 0; i < script->n; i++)
			elements += script->items[i].kind == ITEM_ELEMENT &&
			            script->items[i].at >= windows[w].start &&
			            script->items[i].at < windows[w].end;
		for (int i = 0; i < runner->nresults; i++)
		{
			if (sb_window_equal(runner->results[i].window, windows[w]))
				found = runner->results[i].values.n;
		}
		if (found != elements)
			return false;
	}
	return runner->nresults == n;
}

/* ---- a round ---- */

/* Sometimes made safe, since few are by chance. */
static char *
random_whole_trigger(void)
{
	StringInfoData trigger;
	int form = random_below(4);

	initStringInfo(&trigger);
	if (form == 0)
		appendStringInfoString(&trigger, "repeatedly(");
	else if (form == 1)
		appendStringInfoString(&trigger, "after_watermark(early => ");
	random_trigger(&trigger, form < 2 ? 3 : 4);
	if (form == 1)
	{
		appendStringInfoString(&trigger, ", late => ");
		random_trigger(&trigger, 3);
	}
	if (form < 2)
		appendStringInfoChar(&trigger, ')');
	return trigger.data;
}

static void
random_open(UnitRunner *runner, const char *trigger)
{
	static const SbWindowKind kinds[] = {SB_WINDOW_TUMBLE,  SB_WINDOW_HOP,    SB_WINDOW_CUMULATE,
	                                     SB_WINDOW_SESSION, SB_WINDOW_CUSTOM, SB_WINDOW_GLOBAL};
	static const int64 latenesses[] = {0, 1, 4, 11, PG_INT64_MAX / SECOND + 1};
	SbWindowKind kind = kinds[random_below(lengthof(kinds))];
	int64 lateness = latenesses[random_below(lengthof(latenesses))];

	unit_runner_open(runner, trigger, kind, (5 + random_below(6)) * SECOND);
	if (kind != SB_WINDOW_TUMBLE)
		runner->slide = 3 * SECOND;
	if (kind == SB_WINDOW_CUMULATE)
		runner->size = 9 * SECOND;
	runner->strategy.allowed_lateness_us =
	    lateness > PG_INT64_MAX / SECOND ? PG_INT64_MAX : lateness * SECOND;
	runner->strategy.accumulation = random_below(3);
	/* without an event time only the end of the window is allowed */
	runner->strategy.combiner =
	    kind == SB_WINDOW_GLOBAL ? SB_COMBINE_END_OF_WINDOW : random_below(3);
	runner->strategy.on_time_always = random_below(2);
	runner->strategy.closing_always = random_below(2);
}

/* A runner like `like`, which has not begun; the trigger is a copy. */
static UnitRunner
random_again(const UnitRunner *like)
{
	UnitRunner runner = *like;

	runner.strategy.trigger = sb_trigger_parse(sb_trigger_format(like->strategy.trigger));
	return runner;
}

/* Behind the seed, for a failure. */
static char random_again_text[4096];

static void
random_describe(const UnitRunner *runner)
{
	const SbStrategy *strategy = &runner->strategy;
	size_t len = strlen(random_again_text);

	snprintf(random_again_text + len, sizeof(random_again_text) - len,
	         ": %s, windows %d of %d s, lateness " INT64_FORMAT
	         " us, accumulation %d, combiner %d, on_time %d, closing %d",
	         sb_trigger_format(strategy->trigger), runner->kind, (int) (runner->size / SECOND),
	         strategy->allowed_lateness_us, strategy->accumulation, strategy->combiner,
	         strategy->on_time_always, strategy->closing_always);
}

static void
check_end(const UnitRunner *runner, const RandomScript *script, bool safe)
{
	unit_must(runner->ncells == 0, "nothing is left behind");
	unit_must(runner->clocks.output_watermark == SB_TIME_MAX,
	          "the output watermark reaches infinity");
	unit_must(runner->emitted == runner->taken,
	          "what was emitted, less what was retracted, is what was taken");
	unit_must(!safe || runner->late_closed == 0,
	          "a safe trigger closes no window that elements still come for");
	if (safe && runner->kind == SB_WINDOW_SESSION &&
	    runner->strategy.allowed_lateness_us == PG_INT64_MAX)
		unit_must(equals_batch_sessions(runner, script), "sessions are those of a batch");
}

static void
random_round(void)
{
	const char *trigger = random_whole_trigger();
	RandomScript *script = script_make();
	RandomScript *variant;
	UnitRunner plain, other, begin;
	bool safe;

	random_open(&plain, trigger);
	random_describe(&plain);
	begin = plain;
	safe = sb_trigger_unsafe_reason(plain.strategy.trigger,
	                                plain.strategy.allowed_lateness_us > 0) == NULL;
	script_run(script, &plain);
	check_end(&plain, script, safe);

	other = random_again(&begin);
	other.restarts = true;
	script_run(script, &other);
	unit_must(same_panes(&plain, &other), "restarts change nothing");
	unit_runner_close(&other);

	other = random_again(&begin);
	variant = script_with_more_steps(script);
	script_run(variant, &other);
	check_end(&other, variant, safe);
	unit_must(same_results(&plain, &other), "more steps: the same last pane of each window");
	unit_must(same_tellings(&plain, &other) && same_tellings(&other, &plain),
	          "one jump of the watermark gives the panes of many");
	unit_runner_close(&other);
	pfree(variant);

	if (safe)
	{
		other = random_again(&begin);
		variant = script_in_other_pieces(script, &begin);
		script_run(variant, &other);
		check_end(&other, variant, safe);
		unit_must(plain.late_expired == other.late_expired && plain.taken == other.taken,
		          "other bundles and steps: the same elements are late");
		unit_must(same_results(&plain, &other),
		          "other bundles and steps: the same last pane of each window");
		unit_runner_close(&other);
		pfree(variant);
	}
	unit_runner_close(&plain);
	pfree(script);
}

/* Each round has a seed of its own, so that one that fails can be run alone. */
void
unit_test_random(uint64 seed, int rounds)
{
	unit_note("random streams: seed " UINT64_FORMAT ", %d rounds", seed, rounds);
	unit_again = random_again_text;
	for (int i = 0; i < rounds; i++)
	{
		snprintf(random_again_text, sizeof(random_again_text),
		         "make check SEED=" UINT64_FORMAT " ROUNDS=1", seed + (uint64) i);
		random_state = (seed + (uint64) i) * UINT64CONST(0xD1342543DE82EF95);
		random_round();
	}
	unit_again = NULL;
	unit_ok(true, "%d random streams", rounds);
}

/* Not a test: the cost of the hot path on this machine. */
void
unit_measure(void)
{
	static const char *const triggers[] =
	    {"continuous",
	     "default",
	     "after_watermark",
	     "after_count(1000000000)",
	     "after_watermark(early => after_count(1000000000))",
	     "after_watermark(early => after_processing_time('5 s'), late => after_count(1))"};

	for (int i = 0; i < lengthof(triggers); i++)
	{
		const int n = 1000000;
		UnitRunner runner;
		struct timespec begin;
		struct timespec end;

		unit_runner_open(&runner, triggers[i], SB_WINDOW_TUMBLE, 10 * SECOND);
		unit_seconds(&runner, 1, 1);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		for (int j = 0; j < n; j++)
			sb_reduce_add(&runner.strategy, &runner.clocks, runner.cells[0].cell, j);
		clock_gettime(CLOCK_MONOTONIC, &end);
		unit_note("sb_reduce_add with %s: %.1f ns", triggers[i],
		          ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / n);
		unit_runner_close(&runner);
	}
}
