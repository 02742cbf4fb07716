/*
 * sb_unit_runner.c: a pipeline for one key in memory: the accumulator is the list of values.
 *
 * At every step it also checks what must hold always: panes in order and numbered without gaps,
 * holds respected, the codec true, and that what was emitted and what waits are what was taken.
 */
#include "postgres.h"
#include "sb_unit.h"

static SbClocks
unit_clocks_at_start(void)
{
	return (SbClocks){.input_watermark = SB_TIME_MIN,
	                  .output_watermark = SB_TIME_MIN,
	                  .processing_time = 0};
}

void
unit_runner_open(UnitRunner *runner, const char *trigger, SbWindowKind kind, int64 size)
{
	memset(runner, 0, sizeof(*runner));
	runner->strategy.trigger = sb_trigger_parse(trigger);
	runner->strategy.on_time_always = true;
	runner->clocks = unit_clocks_at_start();
	runner->kind = kind;
	runner->strategy.merging = kind == SB_WINDOW_SESSION;
	runner->size = runner->slide = size;
}

static void
unit_cell_free(UnitCell *cell)
{
	pfree(cell->cell);
	free(cell->values.items);
	free(cell->stands.items);
}

void
unit_runner_close(UnitRunner *runner)
{
	for (int i = 0; i < runner->ncells; i++)
		unit_cell_free(&runner->cells[i]);
	for (int i = 0; i < runner->npanes; i++)
		free(runner->panes[i].values.items);
	for (int i = 0; i < runner->nresults; i++)
		free(runner->results[i].values.items);
	free(runner->results);
	free(runner->cells);
	free(runner->panes);
	pfree((void *) runner->strategy.trigger);
}

static void
unit_values_add(UnitValues *values, const int64 *items, int n)
{
	values->items = realloc(values->items, sizeof(int64) * (values->n + n + 1));
	if (n > 0)
		memcpy(values->items + values->n, items, sizeof(int64) * n);
	values->n += n;
}

/* Of these values a sum; values that differ hardly have the same. */
static int64
unit_values_sum(const UnitValues *values)
{
	uint64 sum = 0;

	for (int i = 0; i < values->n; i++)
		sum += ((uint64) values->items[i] + 1) * UINT64CONST(0x9E3779B97F4A7C15);
	return (int64) sum;
}

static int
unit_compare(const void *a, const void *b)
{
	int64 x = *(const int64 *) a;
	int64 y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

void
unit_values_sort(UnitValues *values)
{
	if (values->n > 1)
		qsort(values->items, values->n, sizeof(int64), unit_compare);
}

static UnitCell *
unit_find(UnitRunner *runner, SbWindow window)
{
	for (int i = 0; i < runner->ncells; i++)
	{
		if (sb_window_equal(runner->cells[i].cell->window, window))
			return &runner->cells[i];
	}
	return NULL;
}

UnitCell *
unit_cell(UnitRunner *runner, int64 start, int64 end)
{
	return unit_find(runner, (SbWindow){start * SECOND, end * SECOND});
}

static UnitCell *
unit_new_cell(UnitRunner *runner, SbWindow window)
{
	UnitCell *cell;

	runner->cells = realloc(runner->cells, sizeof(UnitCell) * (runner->ncells + 1));
	cell = &runner->cells[runner->ncells++];
	memset(cell, 0, sizeof(*cell));
	cell->cell = palloc(sb_cell_size(&runner->strategy));
	sb_cell_init(&runner->strategy, cell->cell, window);
	return cell;
}

static void
unit_forget(UnitRunner *runner, UnitCell *cell)
{
	unit_cell_free(cell);
	*cell = runner->cells[--runner->ncells];
}

/* ---- panes ---- */

static void
unit_check_pane(const UnitRunner *runner, const UnitPane *next)
{
	const UnitPane *last = NULL;
	const SbPane *pane = &next->pane;

	for (int i = 0; i < runner->npanes; i++)
	{
		if (sb_window_equal(runner->panes[i].window, next->window))
			last = &runner->panes[i];
	}
	unit_must(pane->is_first == (pane->index == 0), "first has index 0");
	unit_must((pane->nonspeculative_index == -1) == (pane->timing == SB_PANE_EARLY),
	          "EARLY has no nonspeculative index");
	unit_must(pane->timestamp <= sb_window_max_timestamp(next->window),
	          "a pane's timestamp lies in its window");
	if (pane->index == 0)
		return;
	unit_must(last != NULL && !last->pane.is_last, "nothing comes after the last pane");
	unit_must(pane->index == last->pane.index + 1, "indexes have no gap");
	unit_must(pane->timing >= last->pane.timing, "EARLY* ON_TIME? LATE*");
	unit_must(pane->timing != SB_PANE_ON_TIME || last->pane.timing == SB_PANE_EARLY, "one ON_TIME");
	unit_must(pane->timing == SB_PANE_EARLY ||
	              pane->nonspeculative_index == last->pane.nonspeculative_index + 1,
	          "nonspeculative indexes have no gap");
}

static void
unit_emit(UnitRunner *runner, UnitCell *cell, const SbPane *pane)
{
	UnitPane *out;
	UnitPane next = {.window = cell->cell->window, .pane = *pane};

	unit_values_add(&next.values, cell->values.items, cell->values.n);
	unit_values_sort(&next.values);
	unit_check_pane(runner, &next);
	runner->panes = realloc(runner->panes, sizeof(UnitPane) * (runner->npanes + 1));
	out = &runner->panes[runner->npanes++];
	*out = next;
	unit_must(pane->elements == cell->pending, "a pane counts what has come since the last");
	cell->pending = 0;
	runner->emitted += unit_values_sum(&cell->values);
	if (runner->strategy.accumulation != SB_DISCARDING)
	{
		/* the row of an accumulating pipeline takes the place of the one before, as if retracted */
		runner->emitted -= unit_values_sum(&cell->stands);
		cell->stands.n = 0;
	}
	unit_values_add(&cell->stands, cell->values.items, cell->values.n);
	if (runner->strategy.accumulation == SB_DISCARDING)
		cell->values.n = 0;
}

const char *
unit_last_pane(UnitRunner *runner)
{
	static const char *const timings[] = {"EARLY", "ON_TIME", "LATE"};
	const UnitPane *last = &runner->panes[runner->npanes - 1];
	StringInfoData out;

	if (runner->npanes == 0)
		return "none";
	initStringInfo(&out);
	appendStringInfo(&out, "[%d,%d) %s %d/%d%s @" INT64_FORMAT " {",
	                 (int) (last->window.start / SECOND), (int) (last->window.end / SECOND),
	                 timings[last->pane.timing], (int) last->pane.index,
	                 (int) last->pane.nonspeculative_index, last->pane.is_last ? " last" : "",
	                 last->pane.timestamp);
	for (int i = 0; i < last->values.n; i++)
		appendStringInfo(&out, "%s" INT64_FORMAT, i > 0 ? "," : "", last->values.items[i]);
	appendStringInfoChar(&out, '}');
	return out.data;
}

/* ---- the end of a step ---- */

static void
unit_restart_cell(UnitRunner *runner, UnitCell *cell)
{
	Size size = sb_cell_size(&runner->strategy);
	SbCell *copy = palloc(size);
	StringInfoData first;
	StringInfoData second;
	const char *at;

	initStringInfo(&first);
	initStringInfo(&second);
	sb_cell_encode(&runner->strategy, cell->cell, &first);
	at = first.data;
	memset(copy, 0x7f, size);
	sb_cell_decode(&runner->strategy, copy, cell->cell->window, &at, first.data + first.len);
	unit_must(at == first.data + first.len, "decode reads all");
	sb_cell_encode(&runner->strategy, copy, &second);
	unit_must(first.len == second.len && memcmp(first.data, second.data, first.len) == 0,
	          "codec is true");
	if (runner->restarts)
	{
		pfree(cell->cell);
		cell->cell = copy;
		cell->event_timer = sb_reduce_event_timer(&runner->strategy, &runner->clocks, copy);
	}
	else
		pfree(copy);
	pfree(first.data);
	pfree(second.data);
}

/* What was taken is emitted, or waits in a cell that is open. */
static void
unit_check_sums(const UnitRunner *runner)
{
	int64 waits = 0;

	for (int i = 0; i < runner->ncells; i++)
	{
		const UnitCell *cell = &runner->cells[i];

		unit_must(cell->pending == 0 || !sb_reduce_closed(cell->cell),
		          "nothing waits in a window that has closed");
		waits += unit_values_sum(&cell->values);
		if (runner->strategy.accumulation != SB_DISCARDING)
			waits -= unit_values_sum(&cell->stands);
		unit_must(cell->pending == cell->cell->pane_elements, "elements are counted");
	}
	unit_must(runner->emitted + waits == runner->taken,
	          "what was emitted, less what was retracted, and what waits are what was taken");
}

static void
unit_end_step(UnitRunner *runner)
{
	TimestampTz hold = SB_TIME_MAX;
	TimestampTz before = runner->clocks.output_watermark;

	for (int i = 0; i < runner->ncells; i++)
	{
		UnitCell *cell = &runner->cells[i];

		unit_restart_cell(runner, cell);
		hold = Min(hold, sb_reduce_hold(&runner->strategy, cell->cell));
		unit_must(cell->event_timer ==
		              sb_reduce_event_timer(&runner->strategy, &runner->clocks, cell->cell),
		          "event timer is set");
		unit_must(cell->event_timer >= runner->clocks.input_watermark, "no event timer is due");
		unit_must(sb_reduce_processing_timer(&runner->strategy, cell->cell) >=
		              runner->clocks.processing_time,
		          "no processing timer is due");
	}
	unit_check_sums(runner);
	sb_clocks_advance_output(&runner->clocks, hold);
	unit_must(runner->clocks.output_watermark >= before, "the output watermark never goes back");
	unit_must(runner->clocks.output_watermark <= runner->clocks.input_watermark,
	          "output does not pass input");
	unit_must(runner->clocks.output_watermark == before || runner->clocks.output_watermark <= hold,
	          "output does not pass a hold");
}

/* ---- bundles ---- */

static TimestampTz
unit_floor(TimestampTz timestamp, int64 grid)
{
	return timestamp - ((timestamp % grid) + grid) % grid;
}

/* Cumulating ones grow by `slide` up to `size`; those of a user are up to two, of uneven lengths. */
int
unit_assign(const UnitRunner *runner, TimestampTz timestamp, SbWindow *windows)
{
	TimestampTz start = unit_floor(timestamp, runner->slide);
	int n = 0;

	switch (runner->kind)
	{
		case SB_WINDOW_GLOBAL:
			windows[n++] = (SbWindow){SB_TIME_MIN, SB_TIME_MAX};
			break;
		case SB_WINDOW_SESSION:
			windows[n++] = (SbWindow){timestamp, timestamp + runner->size};
			break;
		case SB_WINDOW_CUMULATE:
			for (TimestampTz end = start + runner->slide;
			     end <= unit_floor(timestamp, runner->size) + runner->size; end += runner->slide)
				windows[n++] = (SbWindow){unit_floor(timestamp, runner->size), end};
			break;
		case SB_WINDOW_CUSTOM:
			for (int64 i = (start / SECOND & 1); i < 2; i++)
				windows[n++] = (SbWindow){start - i * SECOND, start + (2 + 5 * i) * SECOND};
			break;
		default:
			for (; start + runner->size > timestamp; start -= runner->slide)
				windows[n++] = (SbWindow){start, start + runner->size};
	}
	return n;
}

static bool
unit_within(SbWindow inner, SbWindow outer)
{
	return inner.start >= outer.start && inner.end <= outer.end;
}

/* One merged window: its active cells become one. */
static void
unit_merge_cells(UnitRunner *runner, SbWindow window)
{
	SbCell **from = palloc(sizeof(SbCell *) * (runner->ncells + 1));
	SbCell *into = palloc(sb_cell_size(&runner->strategy));
	UnitValues values = {0};
	UnitValues stands = {0};
	int pending = 0;
	int n = 0;

	for (int i = 0; i < runner->ncells; i++)
	{
		UnitCell *cell = &runner->cells[i];

		if (sb_reduce_closed(cell->cell) || !unit_within(cell->cell->window, window))
			continue;
		from[n++] = cell->cell;
		unit_values_add(&values, cell->values.items, cell->values.n);
		unit_values_add(&stands, cell->stands.items, cell->stands.n);
		pending += cell->pending;
	}
	if (n > 0)
	{
		sb_reduce_merge(&runner->strategy, &runner->clocks, into, window, from, n);
		for (int i = runner->ncells - 1; i >= 0; i--)
		{
			SbCell *cell = runner->cells[i].cell;

			/* a closed window with the merged one's bounds is replaced, too */
			if (sb_window_equal(cell->window, window) ||
			    (!sb_reduce_closed(cell) && unit_within(cell->window, window)))
				unit_forget(runner, &runner->cells[i]);
		}
		memcpy(unit_new_cell(runner, window)->cell, into, sb_cell_size(&runner->strategy));
		runner->cells[runner->ncells - 1].values = values;
		runner->cells[runner->ncells - 1].stands = stands;
		runner->cells[runner->ncells - 1].pending = pending;
	}
	pfree(from);
	pfree(into);
}

static int
unit_merge_windows(UnitRunner *runner, SbWindow *windows, int n)
{
	SbWindow *all = palloc(sizeof(SbWindow) * (n + runner->ncells + 1));
	int nall = n;
	int kept = 0;

	memcpy(all, windows, sizeof(SbWindow) * n);
	for (int i = 0; i < runner->ncells; i++)
	{
		if (!sb_reduce_closed(runner->cells[i].cell) &&
		    !sb_reduce_expired(&runner->strategy, &runner->clocks, runner->cells[i].cell->window))
			all[nall++] = runner->cells[i].cell->window;
	}
	nall = sb_window_merge(all, nall);
	for (int i = 0; i < nall; i++)
	{
		bool touched = false;

		for (int j = 0; j < n && !touched; j++)
			touched = unit_within(windows[j], all[i]);
		if (!touched)
			continue;
		unit_merge_cells(runner, all[i]);
		all[kept++] = all[i];
	}
	memcpy(windows, all, sizeof(SbWindow) * kept);
	pfree(all);
	return kept;
}

static void
unit_add(UnitRunner *runner, SbWindow window, const UnitElement *element)
{
	UnitCell *cell = unit_find(runner, window);

	if (cell == NULL)
		cell = unit_new_cell(runner, window);
	if (sb_reduce_closed(cell->cell))
	{
		runner->late_closed++;
		return;
	}
	sb_reduce_add(&runner->strategy, &runner->clocks, cell->cell, element->timestamp);
	unit_values_add(&cell->values, &element->value, 1);
	cell->pending++;
	runner->taken += unit_values_sum(&(UnitValues){.n = 1, .items = (int64 *) &element->value});
}

static SbWindow
unit_target(const UnitRunner *runner, SbWindow window, const SbWindow *merged, int n)
{
	for (int i = 0; runner->kind == SB_WINDOW_SESSION && i < n; i++)
	{
		if (unit_within(window, merged[i]))
			return merged[i];
	}
	return window;
}

static void
unit_fire(UnitRunner *runner, SbWindow window)
{
	UnitCell *cell = unit_find(runner, window);
	SbPane pane;

	if (cell == NULL)
		return;
	if (sb_reduce_fire(&runner->strategy, &runner->clocks, cell->cell, &pane))
		unit_emit(runner, cell, &pane);
	cell->event_timer = sb_reduce_event_timer(&runner->strategy, &runner->clocks, cell->cell);
}

void
unit_bundle(UnitRunner *runner, const UnitElement *elements, int n)
{
	SbWindow assigned[UNIT_WINDOWS];
	SbWindow *windows = palloc(sizeof(SbWindow) * (UNIT_WINDOWS * n + 1));
	int nwindows = 0;

	for (int i = 0; i < n; i++)
	{
		int k = unit_assign(runner, elements[i].timestamp, assigned);

		for (int j = 0; j < k; j++)
		{
			if (sb_reduce_expired(&runner->strategy, &runner->clocks, assigned[j]))
				runner->late_expired++;
			else
				windows[nwindows++] = assigned[j];
		}
	}
	if (runner->kind == SB_WINDOW_SESSION)
		nwindows = unit_merge_windows(runner, windows, nwindows);
	for (int i = 0; i < n; i++)
	{
		int k = unit_assign(runner, elements[i].timestamp, assigned);

		for (int j = 0; j < k; j++)
		{
			if (!sb_reduce_expired(&runner->strategy, &runner->clocks, assigned[j]))
				unit_add(runner, unit_target(runner, assigned[j], windows, nwindows), &elements[i]);
		}
	}
	/*
	 * A window may stand there twice: what has fired is then not ready, or, after its end, has an
	 * empty pane.
	 */
	for (int i = 0; i < nwindows; i++)
	{
		bool again = false;

		for (int j = 0; j < i && !again; j++)
			again = sb_window_equal(windows[i], windows[j]);
		if (!again)
			unit_fire(runner, windows[i]);
	}
	pfree(windows);
	unit_end_step(runner);
}

void
unit_seconds(UnitRunner *runner, int n, ...)
{
	UnitElement elements[16];
	va_list args;

	va_start(args, n);
	for (int i = 0; i < n; i++)
	{
		elements[i].value = va_arg(args, int);
		elements[i].timestamp = elements[i].value * SECOND;
	}
	va_end(args);
	unit_bundle(runner, elements, n);
}

/* ---- timers ---- */

static void
unit_is_over(UnitRunner *runner, const UnitCell *cell)
{
	UnitResult *result;

	if (cell->stands.n == 0)
		return;
	runner->results = realloc(runner->results, sizeof(UnitResult) * (runner->nresults + 1));
	result = &runner->results[runner->nresults++];
	*result = (UnitResult){.window = cell->cell->window};
	unit_values_add(&result->values, cell->stands.items, cell->stands.n);
	unit_values_sort(&result->values);
}

static void
unit_timer(UnitRunner *runner, UnitCell *cell)
{
	SbPane pane;
	int what = sb_reduce_timer(&runner->strategy, &runner->clocks, cell->cell, &pane);

	if (what & SB_TIMER_EMIT)
		unit_emit(runner, cell, &pane);
	if (what & SB_TIMER_COLLECT)
	{
		unit_is_over(runner, cell);
		unit_forget(runner, cell);
	}
	else
		cell->event_timer = sb_reduce_event_timer(&runner->strategy, &runner->clocks, cell->cell);
}

void
unit_watermark(UnitRunner *runner, TimestampTz watermark)
{
	runner->clocks.input_watermark = Max(runner->clocks.input_watermark, watermark);
	for (;;)
	{
		UnitCell *due = NULL;

		for (int i = 0; i < runner->ncells; i++)
		{
			UnitCell *cell = &runner->cells[i];

			if (cell->event_timer < runner->clocks.input_watermark &&
			    (due == NULL || cell->event_timer < due->event_timer))
				due = cell;
		}
		if (due == NULL)
			break;
		unit_timer(runner, due);
	}
	unit_end_step(runner);
}

void
unit_clock(UnitRunner *runner, TimestampTz processing_time)
{
	runner->clocks.processing_time = Max(runner->clocks.processing_time, processing_time);
	for (int i = runner->ncells - 1; i >= 0; i--)
	{
		if (sb_reduce_processing_timer(&runner->strategy, runner->cells[i].cell) <
		    runner->clocks.processing_time)
			unit_timer(runner, &runner->cells[i]);
	}
	unit_end_step(runner);
}
