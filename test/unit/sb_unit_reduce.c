/*
 * sb_unit_reduce.c: windows, lateness, panes, holds, timers and the codec, at their borders.
 */
#include "postgres.h"
#include "sb_unit.h"

void
unit_test_windows(void)
{
	SbWindow windows[] = {{20, 30}, {1, 5}, {5, 9}, {25, 40}, {4, 6}, {50, 60}, {1, 2}};
	SbWindow far = {SB_TIME_MAX - 10, SB_TIME_MAX};
	int n = sb_window_merge(windows, lengthof(windows));

	unit_ok(n == 3 && windows[0].start == 1 && windows[0].end == 9 && windows[1].end == 40 &&
	            windows[2].start == 50,
	        "windows that overlap merge");
	windows[0] = (SbWindow){1, 5};
	windows[1] = (SbWindow){5, 9};
	unit_ok(sb_window_merge(windows, 2) == 2, "windows that touch stay apart");
	unit_ok(sb_window_merge(windows, 0) == 0 && sb_window_merge(windows, 1) == 1, "none and one");
	unit_ok(sb_window_gc_time(far, 100) == SB_TIME_MAX - 1 &&
	            sb_window_gc_time(far, 0) == SB_TIME_MAX - 1,
	        "gc_time does not overflow, and with the end of time all has expired");
	unit_ok(sb_window_gc_time(windows[0], SB_LATE_FOR_EVER) == SB_TIME_MAX - 1 &&
	            sb_window_gc_time(windows[0], 7) == 11,
	        "gc_time");
}

static void
test_lateness(void)
{
	UnitRunner runner;

	unit_runner_open(&runner, "default", SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.allowed_lateness_us = 5 * SECOND;
	unit_seconds(&runner, 1, 1);
	unit_watermark(&runner, 15 * SECOND - 1);
	unit_ok(runner.ncells == 1 && runner.clocks.output_watermark == 15 * SECOND - 1,
	        "at gc_time the window is still there");
	unit_seconds(&runner, 1, 2);
	unit_same_text(unit_last_pane(&runner), "[0,10) LATE 1/1 @9999999 {1,2}",
	               "an element at gc_time is taken");
	unit_watermark(&runner, 15 * SECOND);
	unit_ok(runner.ncells == 0, "past gc_time nothing is left");
	unit_seconds(&runner, 1, 3);
	unit_ok(runner.late_expired == 1 && runner.ncells == 0,
	        "past gc_time an element is expired, and leaves no cell");
	unit_runner_close(&runner);
}

static void
test_empty_panes(void)
{
	UnitRunner runner;

	unit_runner_open(&runner, "after_watermark(early => after_count(1), late => after_count(1))",
	                 SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.on_time_always = false;
	runner.strategy.allowed_lateness_us = 5 * SECOND;
	unit_seconds(&runner, 1, 1);
	unit_watermark(&runner, 10 * SECOND);
	unit_ok(runner.npanes == 1 && unit_cell(&runner, 0, 10)->cell->last_index == 0,
	        "no empty ON_TIME pane unless wanted, and it does not count");
	unit_seconds(&runner, 1, 2);
	unit_same_text(unit_last_pane(&runner), "[0,10) LATE 1/0 @9999999 {1,2}",
	               "what comes later is LATE");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "default", SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.closing_always = true;
	runner.strategy.allowed_lateness_us = 5 * SECOND;
	unit_seconds(&runner, 1, 1);
	unit_watermark(&runner, 10 * SECOND);
	unit_ok(sb_reduce_hold(&runner.strategy, unit_cell(&runner, 0, 10)->cell) == 15 * SECOND - 1,
	        "an empty last pane that is wanted has a hold");
	unit_watermark(&runner, 15 * SECOND);
	unit_same_text(unit_last_pane(&runner), "[0,10) LATE 1/1 last @9999999 {1}",
	               "an empty last pane where wanted");
	unit_ok(runner.npanes == 2 && runner.ncells == 0, "and only one");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "repeatedly(after_count(1))", SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.closing_always = true;
	unit_seconds(&runner, 1, 1);
	unit_watermark(&runner, SB_TIME_MAX);
	unit_same_text(unit_last_pane(&runner), "[0,10) LATE 1/0 last @9999999 {1}",
	               "where nothing fires at the end, the last pane that is wanted is late");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "default", SB_WINDOW_TUMBLE, 10 * SECOND);
	unit_seconds(&runner, 1, 1);
	unit_watermark(&runner, SB_TIME_MAX);
	unit_same_text(unit_last_pane(&runner), "[0,10) ON_TIME 0/0 last @9999999 {1}",
	               "end of window and gc_time together: one pane");
	unit_ok(runner.npanes == 1, "and only one");
	unit_runner_close(&runner);
}

static void
test_holds(void)
{
	UnitRunner runner;

	unit_runner_open(&runner, "repeatedly(after_count(2))", SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.combiner = SB_COMBINE_EARLIEST;
	runner.strategy.allowed_lateness_us = 100 * SECOND;
	unit_seconds(&runner, 1, 4);
	unit_watermark(&runner, 8 * SECOND);
	unit_ok(runner.clocks.output_watermark == 4 * SECOND,
	        "earliest holds the output watermark at the element");
	unit_seconds(&runner, 1, 2);
	unit_same_text(unit_last_pane(&runner), "[0,10) EARLY 0/-1 @4000000 {2,4}",
	               "an element behind the output watermark does not move it back");
	unit_ok(sb_reduce_hold(&runner.strategy, unit_cell(&runner, 0, 10)->cell) == SB_TIME_MAX,
	        "a pane clears the hold");
	unit_ok(runner.clocks.output_watermark == 8 * SECOND, "and the output watermark goes on");
	unit_seconds(&runner, 1, 3);
	unit_ok(sb_reduce_hold(&runner.strategy, unit_cell(&runner, 0, 10)->cell) == 110 * SECOND - 1,
	        "what is too late for a hold holds at gc_time");
	unit_seconds(&runner, 1, 9);
	unit_same_text(unit_last_pane(&runner), "[0,10) EARLY 1/-1 @9000000 {2,3,4,9}",
	               "the next pane has its own timestamp");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "default", SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.combiner = SB_COMBINE_EARLIEST;
	unit_watermark(&runner, 8 * SECOND);
	unit_seconds(&runner, 1, 8);
	unit_ok(sb_reduce_hold(&runner.strategy, unit_cell(&runner, 0, 10)->cell) == 8 * SECOND,
	        "an element at the output watermark can still hold it");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "default", SB_WINDOW_SESSION, 10 * SECOND);
	runner.strategy.combiner = SB_COMBINE_LATEST;
	unit_seconds(&runner, 1, 12);
	unit_seconds(&runner, 1, 3);
	unit_ok(sb_reduce_hold(&runner.strategy, unit_cell(&runner, 3, 22)->cell) == 12 * SECOND,
	        "latest merges to the latest");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "default", SB_WINDOW_SESSION, 10 * SECOND);
	unit_seconds(&runner, 1, 3);
	unit_seconds(&runner, 1, 12);
	unit_ok(sb_reduce_hold(&runner.strategy, unit_cell(&runner, 3, 22)->cell) == 22 * SECOND - 1,
	        "end_of_window is that of the merged window");
	unit_watermark(&runner, 22 * SECOND - 1);
	unit_ok(runner.npanes == 0 && runner.clocks.output_watermark == 22 * SECOND - 1,
	        "output stays at max_timestamp until the ON_TIME pane");
	unit_runner_close(&runner);
}

static void
test_timers(void)
{
	UnitRunner runner;
	SbCell *cell;

	unit_runner_open(&runner,
	                 "repeatedly(after_any(after_processing_time('5 s'), after_watermark))",
	                 SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.allowed_lateness_us = 7 * SECOND;
	unit_clock(&runner, 3 * SECOND);
	unit_seconds(&runner, 1, 1);
	cell = unit_cell(&runner, 0, 10)->cell;
	unit_ok(sb_reduce_event_timer(&runner.strategy, &runner.clocks, cell) == 10 * SECOND - 1,
	        "first the end of the window");
	unit_ok(sb_reduce_processing_timer(&runner.strategy, cell) == 8 * SECOND,
	        "the processing-time timer");
	unit_watermark(&runner, 10 * SECOND);
	unit_ok(sb_reduce_event_timer(&runner.strategy, &runner.clocks, cell) == 17 * SECOND - 1,
	        "then gc_time");
	unit_ok(sb_reduce_processing_timer(&runner.strategy, cell) == SB_TIME_MAX,
	        "a pane takes the processing-time timer away");
	unit_seconds(&runner, 1, 2);
	unit_ok(sb_reduce_processing_timer(&runner.strategy, cell) == SB_TIME_MAX && runner.npanes == 2,
	        "so does a late one");
	unit_watermark(&runner, 17 * SECOND);
	unit_ok(runner.ncells == 0, "no timer is left behind");
	unit_runner_close(&runner);
}

static void
test_global(void)
{
	UnitRunner runner;

	unit_runner_open(&runner, "after_watermark(early => after_count(2))", SB_WINDOW_GLOBAL, SECOND);
	unit_seconds(&runner, 3, 1, 2, 3);
	unit_ok(runner.npanes == 1 && runner.panes[0].pane.timing == SB_PANE_EARLY,
	        "the global window has early panes");
	unit_watermark(&runner, SB_TIME_MAX);
	unit_ok(runner.npanes == 2 && runner.panes[1].pane.timing == SB_PANE_ON_TIME &&
	            runner.panes[1].pane.is_last,
	        "it ends at infinity");
	unit_ok(runner.ncells == 0, "and is collected there");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "repeatedly(after_count(3))", SB_WINDOW_GLOBAL, SECOND);
	runner.strategy.allowed_lateness_us = 3600 * SECOND;
	unit_seconds(&runner, 4, 1, 2, 3, 4);
	unit_seconds(&runner, 1, 5);
	unit_watermark(&runner, SB_TIME_MAX);
	unit_ok(runner.npanes == 2 && runner.panes[1].values.n == 5 &&
	            runner.panes[1].pane.timing == SB_PANE_ON_TIME && runner.panes[1].pane.is_last,
	        "what waits there comes out, whatever lateness is allowed");
	unit_ok(runner.ncells == 0, "and nothing is left");
	unit_seconds(&runner, 1, 6);
	unit_ok(runner.late_expired == 1, "after the end of the input all is late");
	unit_runner_close(&runner);

	unit_runner_open(&runner, "never", SB_WINDOW_TUMBLE, 10 * SECOND);
	runner.strategy.allowed_lateness_us = PG_INT64_MAX;
	unit_seconds(&runner, 1, 1);
	unit_watermark(&runner, SB_TIME_MAX - 1);
	unit_ok(runner.npanes == 0, "without a limit of lateness no window expires");
	unit_watermark(&runner, SB_TIME_MAX);
	unit_ok(runner.npanes == 1 && runner.panes[0].pane.is_last && runner.ncells == 0,
	        "but with the end of the input");
	unit_runner_close(&runner);
}

void
unit_test_reduce(void)
{
	test_lateness();
	test_empty_panes();
	test_holds();
	test_timers();
	test_global();
}

void
unit_test_codec(void)
{
	UnitRunner runner;
	StringInfoData bytes;
	SbCell *cell;
	SbCell *copy;
	SbStrategy other = {.trigger = sb_trigger_parse("never")};
	const char *at;
	bool ok = true;

	unit_runner_open(&runner, "after_any(after_count(99), after_processing_time('5 s'))",
	                 SB_WINDOW_TUMBLE, 10 * SECOND);
	unit_seconds(&runner, 2, 1, 2);
	cell = unit_cell(&runner, 0, 10)->cell;
	copy = palloc(sb_cell_size(&runner.strategy));
	initStringInfo(&bytes);
	sb_cell_encode(&runner.strategy, cell, &bytes);
	unit_ok(bytes.len <= 16, "a small cell takes %d bytes", bytes.len);
	for (int len = 0; len < bytes.len; len++)
	{
		char *cut = malloc(len + 1); /* its own memory, so that valgrind sees a read past the end */

		memcpy(cut, bytes.data, len);
		at = cut;
		ok &= UNIT_RAISES(sb_cell_decode(&runner.strategy, copy, cell->window, &at, cut + len)) &&
		      unit_error.code == ERRCODE_DATA_CORRUPTED;
		free(cut);
	}
	unit_ok(ok, "cut short, it is corrupted");
	at = bytes.data;
	unit_ok(UNIT_RAISES(sb_cell_decode(&other, copy, cell->window, &at, bytes.data + bytes.len)),
	        "another trigger's state is refused");
	bytes.data[0] = 77;
	at = bytes.data;
	unit_ok(UNIT_RAISES(
	            sb_cell_decode(&runner.strategy, copy, cell->window, &at, bytes.data + bytes.len)),
	        "an unknown version is refused");
	bytes.data[0] = 1;
	cell->pane_elements = cell->last_index = cell->last_ns_index = PG_INT64_MAX - 1;
	cell->hold = PG_INT64_MIN;
	cell->trigger.slots[0] = PG_INT64_MIN + 1;
	resetStringInfo(&bytes);
	sb_cell_encode(&runner.strategy, cell, &bytes);
	at = bytes.data;
	sb_cell_decode(&runner.strategy, copy, cell->window, &at, bytes.data + bytes.len);
	unit_ok(copy->pane_elements == cell->pane_elements && copy->last_index == cell->last_index &&
	            copy->last_ns_index == cell->last_ns_index && copy->hold == cell->hold &&
	            copy->trigger.slots[0] == cell->trigger.slots[0] &&
	            copy->trigger.slots[1] == cell->trigger.slots[1],
	        "extreme numbers survive");
	unit_runner_close(&runner);
}
