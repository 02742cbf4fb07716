/*
 * sb_unit_random.c: random streams. What must hold always is checked by the runner at each step;
 * here, what must hold at the end.
 *
 * Besides: with a safe trigger nothing is dropped but expired elements; discarding panes together
 * hold each taken element once per window; the last accumulating pane of a window holds them all;
 * restarts change nothing; nothing is left behind.
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

/* Both runners get the same steps. */
static void
random_steps(UnitRunner *plain, UnitRunner *restarted)
{
	int64 watermark = 0;
	int64 clock = 0;
	int64 value = 0;

	for (int step = 0; step < 40; step++)
	{
		int what = random_below(6);
		UnitElement elements[6];
		int n = 1 + random_below(6);

		if (what == 0)
			watermark += random_below(9);
		else if (what == 1)
			clock += random_below(9);
		for (int i = 0; i < n; i++)
			elements[i] =
			    (UnitElement){(watermark - 14 + random_below(40)) * SECOND + random_below(3) - 1,
			                  value++};
		for (UnitRunner *runner = plain; runner != NULL;
		     runner = runner == plain ? restarted : NULL)
		{
			if (what == 0)
				unit_watermark(runner, watermark * SECOND);
			else if (what == 1)
				unit_clock(runner, clock * SECOND + 1);
			else
				unit_bundle(runner, elements, n);
		}
	}
	unit_watermark(plain, SB_TIME_MAX);
	unit_watermark(restarted, SB_TIME_MAX);
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

		if (!sb_window_equal(x->window, y->window) || x->values.n != y->values.n ||
		    x->pane.timing != y->pane.timing)
			return false;
		if (x->pane.index != y->pane.index || x->pane.is_last != y->pane.is_last ||
		    x->pane.timestamp != y->pane.timestamp)
			return false;
		if (x->values.n > 0 &&
		    memcmp(x->values.items, y->values.items, sizeof(int64) * x->values.n) != 0)
			return false;
	}
	return true;
}

static int64
count_taken(const UnitRunner *runner, int64 *added)
{
	int64 emitted = 0;

	*added = 0;
	for (int i = 0; i < runner->npanes; i++)
	{
		emitted += runner->panes[i].values.n;
		*added += runner->panes[i].pane.elements;
	}
	return emitted;
}

/* Of the panes of one generation of a window the last one holds what all of them got. */
static void
check_accumulating(const UnitRunner *runner, const char *trigger)
{
	for (int i = 0; i < runner->npanes; i++)
	{
		int64 elements = 0;

		if (runner->kind == SB_WINDOW_SESSION)
			return;
		for (int j = 0; j <= i; j++)
		{
			if (sb_window_equal(runner->panes[j].window, runner->panes[i].window))
				elements += runner->panes[j].pane.elements;
		}
		unit_must(elements == runner->panes[i].values.n,
		          "an accumulating pane holds all so far: %s", trigger);
	}
}

static void
random_round(void)
{
	static const SbWindowKind kinds[] = {SB_WINDOW_TUMBLE, SB_WINDOW_HOP, SB_WINDOW_SESSION};
	UnitRunner plain;
	UnitRunner restarted;
	StringInfoData trigger;
	SbWindowKind kind = kinds[random_below(3)];
	bool safe;
	int64 added;
	int64 emitted;

	initStringInfo(&trigger);
	random_trigger(&trigger, 3);
	unit_runner_open(&plain, trigger.data, kind, (5 + random_below(6)) * SECOND);
	if (kind == SB_WINDOW_HOP)
		plain.slide = 3 * SECOND;
	plain.strategy.allowed_lateness_us = random_below(2) * random_below(12) * SECOND;
	plain.strategy.accumulation = random_below(2) ? SB_DISCARDING : SB_ACCUMULATING;
	plain.strategy.combiner = random_below(3);
	plain.strategy.on_time_always = random_below(2);
	plain.strategy.closing_always = random_below(2);
	restarted = plain;
	restarted.strategy.trigger = sb_trigger_parse(sb_trigger_format(plain.strategy.trigger));
	restarted.restarts = true;
	random_steps(&plain, &restarted);
	unit_must(same_panes(&plain, &restarted), "restarts change nothing: %s", trigger.data);
	unit_must(plain.ncells == 0 && restarted.ncells == 0, "nothing is left behind: %s",
	          trigger.data);
	unit_must(plain.clocks.output_watermark == SB_TIME_MAX,
	          "the output watermark reaches infinity: %s", trigger.data);
	safe = sb_trigger_unsafe_reason(plain.strategy.trigger,
	                                plain.strategy.allowed_lateness_us > 0) == NULL;
	unit_must(!safe || plain.late_closed == 0,
	          "a safe trigger closes no window that elements still come for: %s", trigger.data);
	emitted = count_taken(&plain, &added);
	if (plain.strategy.accumulation == SB_DISCARDING)
		unit_must(emitted == added, "discarding panes hold each element once: %s", trigger.data);
	else
		check_accumulating(&plain, trigger.data);
	unit_runner_close(&plain);
	unit_runner_close(&restarted);
	pfree(trigger.data);
}

void
unit_test_random(uint64 seed, int rounds)
{
	unit_note("random streams: seed " UINT64_FORMAT ", %d rounds", seed, rounds);
	random_state = seed;
	for (int i = 0; i < rounds; i++)
		random_round();
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
