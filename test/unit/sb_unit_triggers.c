/*
 * sb_unit_triggers.c: each trigger by itself and nested, over tumbling and session windows, with
 * what remains at the end.
 *
 * A script is words: `1,2` is a bundle of elements at these seconds, `w10` moves the input
 * watermark, `winf` to infinity, `c5` sets the processing time. A pane is written `0-10:E0{1,2}`:
 * window, timing (E, O, L), index, `!` if it is the last, values. At the end stand the cells that
 * remain (`+` open, `x` closed, with their windows) and the late elements.
 */
#include "postgres.h"
#include "sb_unit.h"

typedef struct TriggerCase
{
	const char *name;
	const char *trigger;
	SbWindowKind kind;
	int lateness;
	const char *script;
	const char *expected;
} TriggerCase;

#define TUMBLE SB_WINDOW_TUMBLE
#define SESSION SB_WINDOW_SESSION

static const TriggerCase trigger_cases[] = {
    {"default fires at the end, and with each bundle after", "default", TUMBLE, 5,
     "1 2 w10 3 4,5 w14 6 w15 7",
     "0-10:O0{1,2} 0-10:L1{1,2,3} 0-10:L2{1,2,3,4,5} 0-10:L3{1,2,3,4,5,6} expired=1"},
    {"the end is reached at watermark = end, not before", "default", TUMBLE, 0, "1 w9", "+0-10"},
    {"continuous fires with each bundle, and at the end", "continuous", TUMBLE, 5,
     "1,2 3 w10 4 w15", "0-10:E0{1,2} 0-10:E1{1,2,3} 0-10:O2{1,2,3} 0-10:L3{1,2,3,4}"},
    {"continuous has no empty last pane", "continuous", TUMBLE, 0, "1 w30",
     "0-10:E0{1} 0-10:O1!{1}"},
    {"never has only the last pane", "never", TUMBLE, 5, "1 w10 2 w14 w15", "0-10:O0!{1,2}"},
    {"after_watermark finishes", "after_watermark", TUMBLE, 5, "1 w10 2",
     "0-10:O0!{1} x0-10 closed=1"},
    {"a closed window is collected too", "after_watermark", TUMBLE, 5, "1 w10 2 w15 3",
     "0-10:O0!{1} closed=1 expired=1"},
    {"early is repeated", "after_watermark(early => after_count(2))", TUMBLE, 5,
     "1 2 3 4,5 6 w10 7", "0-10:E0{1,2} 0-10:E1{1,2,3,4,5} 0-10:O2!{1,2,3,4,5,6} x0-10 closed=1"},
    {"late is repeated", "after_watermark(late => after_count(2))", TUMBLE, 90,
     "1 w10 2 3 4 5 w100 w101", "0-10:O0{1} 0-10:L1{1,2,3} 0-10:L2{1,2,3,4,5}"},
    {"early counts nothing over to late",
     "after_watermark(early => after_count(2), late => after_count(2))", TUMBLE, 90, "1 w10 2 3",
     "0-10:O0{1} 0-10:L1{1,2,3} +0-10"},
    {"what is late and alone gets its pane at the end", "after_watermark(late => after_count(2))",
     TUMBLE, 5, "1 w10 2 w30", "0-10:O0{1} 0-10:L1!{1,2}"},
    {"after_processing_time fires once its target has passed", "after_processing_time('5 s')",
     TUMBLE, 5, "c1 1 c2 2 c6 c7 3", "0-10:E0!{1,2} x0-10 closed=1"},
    {"a bundle at the target is not past it", "after_processing_time('5 s')", TUMBLE, 5,
     "c1 1 c6 2 3 c7", "0-10:E0!{1,2,3} x0-10"},
    {"repeated, it starts with the next element", "repeatedly(after_processing_time('5 s'))",
     TUMBLE, 5, "1 c6 c20 2 c25 c26", "0-10:E0{1} 0-10:E1{1,2} +0-10"},
    {"aligned, it waits for the next multiple",
     "repeatedly(after_processing_time('1 s', align => '1 min'))", TUMBLE, 5,
     "c5 1 c60 c61 c119 2 c120 c121", "0-10:E0{1} 0-10:E1{1,2} +0-10"},
    {"after_count fires with more than it counts", "after_count(2)", TUMBLE, 5, "1 2,3 4 11 w90",
     "0-10:E0!{1,2,3} 10-20:O0!{11} closed=1"},
    {"after_any: one will do", "after_any(after_count(2), after_watermark)", TUMBLE, 5,
     "1,2 11 w20", "0-10:E0!{1,2} 10-20:O0!{11} x10-20"},
    {"after_any clears the others",
     "repeatedly(after_any(after_count(3), after_processing_time('5 s')))", TUMBLE, 5,
     "1,2 c6 3,4 5 c11 c12", "0-10:E0{1,2} 0-10:E1{1,2,3,4,5} +0-10"},
    {"after_all: all of them", "after_all(after_count(2), after_processing_time('5 s'))", TUMBLE, 5,
     "1 c6 2 3", "0-10:E0!{1,2} x0-10 closed=1"},
    {"what has passed stays passed, and is no timer any more",
     "after_all(after_processing_time('5 s'), after_count(2))", SESSION, 5, "1 c6 c9 8",
     "1-18:E0!{1,8} x1-18"},
    {"after_each: one after the other",
     "after_each(after_count(2), after_count(3), after_watermark)", TUMBLE, 5, "1 2 3,4 5 6 w10",
     "0-10:E0{1,2} 0-10:E1{1,2,3,4,5} 0-10:O2!{1,2,3,4,5,6} x0-10"},
    {"or_finally: until ends it", "or_finally(repeatedly(after_count(2)), after_count(5))", TUMBLE,
     5, "1,2 3,4 5 6", "0-10:E0{1,2} 0-10:E1{1,2,3,4} 0-10:E2!{1,2,3,4,5} x0-10 closed=1"},
    {"no empty pane at the end where none fires there: one jump", "repeatedly(after_count(1))",
     TUMBLE, 5, "1 w90", "0-10:E0{1}"},
    {"... and many steps", "repeatedly(after_count(1))", TUMBLE, 5, "1 w10 w14 w15", "0-10:E0{1}"},
    {"what waits at the end is on time, one jump or many", "repeatedly(after_count(2))", TUMBLE, 5,
     "1,2 3 w90", "0-10:E0{1,2} 0-10:O1!{1,2,3}"},
    {"... many", "repeatedly(after_count(2))", TUMBLE, 5, "1,2 3 w11 w12 w90",
     "0-10:E0{1,2} 0-10:O1!{1,2,3}"},
    {"aligned, it counts from 1970", "repeatedly(after_processing_time('1 s', align => '7 d'))",
     TUMBLE, 5, "1 c432000 c432001 2 c1036800 c1036801", "0-10:E0{1} 0-10:E1{1,2} +0-10"},
    {"or_finally: so does main", "or_finally(after_count(2), after_count(5))", TUMBLE, 5, "1 2 3",
     "0-10:E0!{1,2} x0-10 closed=1"},
    {"or_finally with the watermark", "or_finally(repeatedly(after_count(2)), after_watermark)",
     TUMBLE, 0, "1,2 3 w10", "0-10:E0{1,2} 0-10:O1!{1,2,3}"},
    {"repeatedly of a sequence starts over",
     "repeatedly(after_each(after_count(1), after_count(2)))", TUMBLE, 0, "1 2 3 4 5 6",
     "0-10:E0{1} 0-10:E1{1,2,3} 0-10:E2{1,2,3,4} 0-10:E3{1,2,3,4,5,6} +0-10"},
    {"early starts over when it has fired, whatever it is",
     "after_watermark(early => after_each(after_count(2), after_count(1)), late => continuous)",
     TUMBLE, 5, "1 2 3 4 w10 5",
     "0-10:E0{1,2} 0-10:E1{1,2,3,4} 0-10:O2{1,2,3,4} 0-10:L3{1,2,3,4,5} +0-10"},
    /* merging */
    {"touching sessions stay apart", "continuous", SESSION, 0, "1,11",
     "1-11:E0{1} 11-21:E0{11} +1-11 +11-21"},
    {"overlapping ones merge, and count panes anew", "continuous", SESSION, 0, "1 10 w20",
     "1-11:E0{1} 1-20:E0{1,10} 1-20:O1!{1,10}"},
    {"a bridge joins two", "default", SESSION, 0, "1 15 7 w25", "1-25:O0!{1,7,15}"},
    {"after_count adds up", "after_count(3)", SESSION, 0, "1 15 7", "1-25:E0!{1,7,15} x1-25"},
    {"a closed session does not poison the next", "after_count(2)", SESSION, 0, "1,2 3 5",
     "1-12:E0!{1,2} 3-15:E0!{3,5} x1-12 x3-15"},
    {"the very window that is closed drops", "after_count(1)", SESSION, 0, "1 1",
     "1-11:E0!{1} x1-11 closed=1"},
    {"the earliest processing time counts", "after_processing_time('5 s')", SESSION, 0,
     "c1 15 c3 1 c4 7 c6 c7", "1-25:E0!{1,7,15} x1-25"},
    {"after_watermark is unfinished if the end moves away",
     "after_watermark(late => after_count(1))", SESSION, 90, "1 w11 2 3 w13",
     "1-11:O0{1} 1-13:O0{1,2,3} +1-13"},
    {"within a sequence, too", "after_each(after_watermark, after_count(2))", SESSION, 90,
     "1 w11 2 w12", "1-11:O0{1} 1-12:O0{1,2} +1-12"},
    {"back in early, it counts anew",
     "after_watermark(early => after_count(3), late => after_count(9))", SESSION, 90, "1,2 w12 3",
     "1-12:O0{1,2} +1-13"},
    {"late stays late in a window that has ended",
     "after_watermark(early => never, late => after_count(2))", SESSION, 90, "1 w50 1 2 3",
     "1-11:O0{1} 1-12:L0{1,1,2} +1-13"},
    {"sequences merge to the first unfinished, and what waits behind it has counted too",
     "after_each(after_count(2), after_count(3))", SESSION, 0, "1,2 30 16 9 40 23 22",
     "1-12:E0{1,2} 1-40:E0!{1,2,9,16,23,30} x1-40 +22-32 +40-50"},
    {"a finished part stays finished",
     "after_each(after_any(after_count(2), after_watermark), after_count(3))", SESSION, 0,
     "1,2 5 6 7", "1-12:E0{1,2} 1-17:E0!{1,2,5,6,7} x1-17"},
    {"all and any merge their children",
     "after_all(after_count(4), after_any(after_count(9), after_watermark))", SESSION, 90,
     "1 15 w40 7 8", "1-25:L0!{1,7,8,15} x1-25"},
    {"or_finally merges both", "or_finally(repeatedly(after_count(4)), after_count(5))", SESSION, 0,
     "1,2 15 7 3", "1-25:E0{1,2,7,15} 1-25:E1!{1,2,3,7,15} x1-25"},
    {"what waited together begins anew together", "after_each(after_count(2), after_count(3))",
     SESSION, 0, "1,2 3 4 5", "1-12:E0{1,2} 1-15:E0!{1,2,3,4,5} x1-15"},
    {"what is cleared still knows that the end has passed",
     "after_each(after_any(after_watermark(early => never, late => after_count(5)), after_count(9)), after_count(2))",
     SESSION, 90, "1 w15 2 3", "1-11:O0{1} +1-13"},
    {"an expired session does not merge", "default", SESSION, 0, "1 w12 9 w19 w30",
     "1-11:O0!{1} 9-19:O0!{9}"},
    {"never merges to one pane", "never", SESSION, 0, "1 15 7 w26", "1-25:O0!{1,7,15}"},
};

static void
run_word(UnitRunner *runner, const char *word)
{
	UnitElement elements[16];
	int n = 0;

	if (strcmp(word, "winf") == 0)
		unit_watermark(runner, SB_TIME_MAX);
	else if (*word == 'w')
		unit_watermark(runner, atoi(word + 1) * SECOND);
	else if (*word == 'c')
		unit_clock(runner, atoi(word + 1) * SECOND);
	else
	{
		for (const char *at = word - 1; at != NULL; at = strchr(at + 1, ','))
		{
			elements[n].value = atoi(at + 1);
			elements[n].timestamp = elements[n].value * SECOND;
			n++;
		}
		unit_bundle(runner, elements, n);
	}
}

static void
describe_panes(const UnitRunner *runner, StringInfo out)
{
	for (int i = 0; i < runner->npanes; i++)
	{
		const UnitPane *pane = &runner->panes[i];

		appendStringInfo(out, " %d-%d:%c%d%s{", (int) (pane->window.start / SECOND),
		                 (int) (pane->window.end / SECOND), "EOL"[pane->pane.timing],
		                 (int) pane -> pane.index, pane->pane.is_last ? "!" : "");
		for (int j = 0; j < pane->values.n; j++)
			appendStringInfo(out, "%s%d", j > 0 ? "," : "", (int) pane->values.items[j]);
		appendStringInfoChar(out, '}');
	}
}

static int
compare_cells(const void *a, const void *b)
{
	const UnitCell *x = a;
	const UnitCell *y = b;

	return x->cell->window.start < y->cell->window.start ? -1 : 1;
}

static void
describe_state(const UnitRunner *runner, StringInfo out)
{
	if (runner->ncells > 1)
		qsort(runner->cells, runner->ncells, sizeof(UnitCell), compare_cells);
	for (int i = 0; i < runner->ncells; i++)
	{
		const SbCell *cell = runner->cells[i].cell;

		appendStringInfo(out, " %c%d-%d", sb_reduce_closed(cell) ? 'x' : '+',
		                 (int) (cell->window.start / SECOND), (int) (cell->window.end / SECOND));
	}
	if (runner->late_closed > 0)
		appendStringInfo(out, " closed=%d", runner->late_closed);
	if (runner->late_expired > 0)
		appendStringInfo(out, " expired=%d", runner->late_expired);
}

static void
run_trigger_case(const TriggerCase *test, bool restarts)
{
	UnitRunner runner;
	StringInfoData out;
	char *script = pstrdup(test->script);

	unit_runner_open(&runner, test->trigger, test->kind, 10 * SECOND);
	runner.strategy.allowed_lateness_us = test->lateness * SECOND;
	runner.restarts = restarts;
	for (char *word = strtok(script, " "); word != NULL; word = strtok(NULL, " "))
		run_word(&runner, word);
	initStringInfo(&out);
	describe_panes(&runner, &out);
	describe_state(&runner, &out);
	unit_same_text(out.len > 0 ? out.data + 1 : "", test->expected,
	               psprintf("%s%s", test->name, restarts ? ", restarted at every step" : ""));
	unit_runner_close(&runner);
}

void
unit_test_triggers(void)
{
	for (int i = 0; i < lengthof(trigger_cases); i++)
	{
		run_trigger_case(&trigger_cases[i], false);
		run_trigger_case(&trigger_cases[i], true);
	}
}
