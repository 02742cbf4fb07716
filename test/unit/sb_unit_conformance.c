/*
 * sb_unit_conformance.c: Beam's transcripts and trigger cases (conformance/README.md), read from
 * the line format.
 */
#include "postgres.h"
#include "sb_unit.h"

#undef snprintf
#undef printf

#define LINE_MAX_BYTES 1024
#define MAX_LINES 64

/* One transcript or case: its lines. */
typedef struct Block
{
	int n;
	char lines[MAX_LINES][LINE_MAX_BYTES];
} Block;

static bool
block_read(FILE *file, Block *block)
{
	char line[LINE_MAX_BYTES];

	block->n = 0;
	while (fgets(line, sizeof(line), file))
	{
		line[strcspn(line, "\n")] = '\0';
		if (line[0] == '#')
			continue;
		if (line[0] == '\0' && block->n > 0)
			return true;
		if (line[0] != '\0')
			strcpy(block->lines[block->n++], line);
		unit_must(block->n < MAX_LINES, "conformance file: block too long");
	}
	return block->n > 0;
}

/* The rest of a line that begins with this keyword, or NULL. */
static const char *
line_value(const char *line, const char *keyword)
{
	size_t len = strlen(keyword);

	if (strncmp(line, keyword, len) != 0 || (line[len] != ' ' && line[len] != '\0'))
		return NULL;
	return line[len] == ' ' ? line + len + 1 : line + len;
}

static const char *
block_value(const Block *block, const char *keyword)
{
	for (int i = 0; i < block->n; i++)
	{
		if (line_value(block->lines[i], keyword))
			return line_value(block->lines[i], keyword);
	}
	return NULL;
}

static void
block_open_runner(const Block *block, UnitRunner *runner, bool restarts)
{
	const char *window = block_value(block, "window");
	const char *trigger = block_value(block, "trigger");
	const char *combiner = block_value(block, "combiner");
	const char *lateness = block_value(block, "lateness");
	const char *accumulation = block_value(block, "accumulation");
	SbWindowKind kind = SB_WINDOW_GLOBAL;

	if (window && line_value(window, "tumble"))
		kind = SB_WINDOW_TUMBLE;
	else if (window && line_value(window, "session"))
		kind = SB_WINDOW_SESSION;
	unit_runner_open(runner, trigger ? trigger : "default_trigger()", kind,
	                 kind == SB_WINDOW_GLOBAL ? SECOND : atoi(strchr(window, ' ')) * SECOND);
	runner->restarts = restarts;
	if (combiner && strcmp(combiner, "earliest") == 0)
		runner->strategy.combiner = SB_COMBINE_EARLIEST;
	if (combiner && strcmp(combiner, "latest") == 0)
		runner->strategy.combiner = SB_COMBINE_LATEST;
	if (lateness)
		runner->strategy.allowed_lateness_us = atoi(lateness) * SECOND;
	if (accumulation && strcmp(accumulation, "discarding") == 0)
		runner->strategy.accumulation = SB_DISCARDING;
}

/* ---- transcripts ---- */

static bool
values_match(const UnitValues *values, const char *expected)
{
	int n = 0;

	for (const char *at = expected; *at != '\0' && *at != ' '; n++)
	{
		char *next;

		if (n >= values->n || values->items[n] != strtol(at, &next, 10))
			return false;
		at = *next == ',' ? next + 1 : next;
	}
	return n == values->n;
}

static int64
floor_seconds(TimestampTz timestamp)
{
	return timestamp >= 0 ? timestamp / SECOND : -((-timestamp + SECOND - 1) / SECOND);
}

static bool
field_matches(const UnitPane *pane, const char *key, const char *value)
{
	bool truth = strncmp(value, "true", 4) == 0;
	int64 number = strtol(value, NULL, 10);

	if (strcmp(key, "window") == 0)
		return pane->window.start == number * SECOND &&
		       pane->window.end == (strtol(strchr(value, ',') + 1, NULL, 10) + 1) * SECOND;
	if (strcmp(key, "values") == 0)
		return values_match(&pane->values, value);
	if (strcmp(key, "timestamp") == 0)
		return floor_seconds(pane->pane.timestamp) == number;
	if (strcmp(key, "index") == 0)
		return pane->pane.index == number;
	if (strcmp(key, "nonspeculative_index") == 0)
		return pane->pane.nonspeculative_index == number;
	if (strcmp(key, "early") == 0)
		return (pane->pane.timing == SB_PANE_EARLY) == truth;
	if (strcmp(key, "late") == 0)
		return (pane->pane.timing == SB_PANE_LATE) == truth;
	if (strcmp(key, "final") == 0)
		return pane->pane.is_last == truth;
	unit_must(false, "transcript: unknown field %s", key);
	return false;
}

static bool
pane_matches(const UnitPane *pane, const char *expected)
{
	for (const char *at = expected; at != NULL; at = strchr(at, ' '))
	{
		char key[32];
		size_t len;

		at += *at == ' ';
		len = strcspn(at, "=");
		memcpy(key, at, len);
		key[len] = '\0';
		if (!field_matches(pane, key, at + len + 1))
			return false;
	}
	return true;
}

static void
transcript_action(UnitRunner *runner, const char *line)
{
	if (line_value(line, "input"))
	{
		UnitElement elements[32];
		int n = 0;

		for (const char *at = line; (at = strchr(at, ' ')) != NULL; n++)
		{
			elements[n].value = strtol(++at, NULL, 10);
			elements[n].timestamp = elements[n].value * SECOND;
		}
		unit_bundle(runner, elements, n);
	}
	else if (line_value(line, "watermark"))
		unit_watermark(runner, atoi(line_value(line, "watermark")) * SECOND);
	else if (line_value(line, "clock"))
		unit_clock(runner,
		           runner->clocks.processing_time + atoi(line_value(line, "clock")) * SECOND);
	else
		unit_must(false, "transcript: what is %s", line);
}

/* NULL: all panes were as expected; else what was not. */
static const char *
transcript_run(const Block *block, bool restarts)
{
	static const char *const settings[] = {"transcript", "error",    "skip",     "window",
	                                       "trigger",    "combiner", "lateness", "accumulation"};
	UnitRunner runner;
	const char *problem = NULL;
	bool matched[256] = {false};
	int seen = 0; /* panes before the last action */

	block_open_runner(block, &runner, restarts);
	for (int i = 0; i < block->n && problem == NULL; i++)
	{
		const char *line = block->lines[i];
		const char *expected = line_value(line, "pane");
		bool setting = line_value(line, "expect") != NULL;

		for (int j = 0; j < lengthof(settings) && !setting; j++)
			setting = line_value(line, settings[j]) != NULL;
		if (setting)
			continue;
		if (expected)
		{
			int found = seen;

			while (found < runner.npanes &&
			       (matched[found] || !pane_matches(&runner.panes[found], expected)))
				found++;
			matched[found] = true;
			if (found == runner.npanes)
				problem = "Unmatched output";
			continue;
		}
		for (int j = seen; j < runner.npanes; j++)
			problem = matched[j] ? problem : "Unexpected output";
		seen = runner.npanes;
		if (problem == NULL)
			transcript_action(&runner, line);
	}
	for (int j = seen; j < runner.npanes && problem == NULL; j++)
		problem = matched[j] ? NULL : "Unexpected output";
	unit_runner_close(&runner);
	return problem;
}

void
unit_test_transcripts(const char *path)
{
	FILE *file = fopen(path, "r");
	Block block;
	int passed = 0;
	int skipped = 0;
	int rejected = 0;
	const char *why = "";

	unit_must(file != NULL, "cannot open %s", path);
	while (block_read(file, &block))
	{
		const char *name = block_value(&block, "transcript");
		const char *error = block_value(&block, "error");
		bool ok = true;

		if (block_value(&block, "skip"))
		{
			skipped++;
			why = pstrdup(block_value(&block, "skip"));
			continue;
		}
		for (int restarts = 0; restarts <= 1; restarts++)
		{
			const char *problem = transcript_run(&block, restarts);
			bool same = error ? problem && strcmp(problem, error) == 0 : problem == NULL;

			unit_ok(same, "transcript %s%s%s", name, error ? " is rejected" : "",
			        restarts ? ", restarted at every step" : "");
			if (!same)
				unit_note("problem: %s", problem ? problem : "none");
			ok &= same;
		}
		passed += ok && !error;
		rejected += ok && error;
	}
	fclose(file);
	unit_ok(passed == 12 && skipped == 1 && rejected == 5, "all transcripts are there");
	unit_note("transcripts: %d passed, %d skipped (%s), %d rejected as they must", passed, skipped,
	          why, rejected);
}

/* ---- trigger cases ---- */

static int
case_elements(const Block *block, const char *keyword, UnitElement *elements, bool reverse)
{
	const char *at = block_value(block, keyword);
	int n = 0;

	for (; at != NULL && *at != '\0'; at += strspn(at, " "))
	{
		elements[n].timestamp = strtol(at, NULL, 10) * SECOND;
		elements[n++].value = strchr(at, ':')[1];
		at += strcspn(at, " ");
	}
	for (int i = 0; reverse && i < n / 2; i++)
	{
		UnitElement other = elements[i];

		elements[i] = elements[n - 1 - i];
		elements[n - 1 - i] = other;
	}
	return n;
}

/* As sets: is each value of either side in the other? */
static bool
case_same_set(const UnitValues *values, const char *expected)
{
	for (int i = 0; i < values->n; i++)
	{
		if (strchr(expected, (int) values->items[i]) == NULL)
			return false;
	}
	for (; *expected != '\0'; expected++)
	{
		bool found = *expected == ' ';

		for (int i = 0; i < values->n && !found; i++)
			found = values->items[i] == *expected;
		if (!found)
			return false;
	}
	return true;
}

/* The panes of each window in the order of emission, and no other window's. */
static bool
case_matches(const Block *block, const UnitRunner *runner)
{
	SbWindow window = {0};
	int next = 0;
	int matched = 0;

	for (int i = 0; i < block->n; i++)
	{
		const char *result = line_value(block->lines[i], "result");
		const char *expected = line_value(block->lines[i], "pane");

		if (result)
		{
			window = (SbWindow){atoi(result) * SECOND, atoi(strchr(result, ' ')) * SECOND};
			next = 0;
		}
		if (!expected)
			continue;
		while (next < runner->npanes && !sb_window_equal(runner->panes[next].window, window))
			next++;
		if (next == runner->npanes || !case_same_set(&runner->panes[next].values, expected) ||
		    runner->panes[next].pane.timestamp != sb_window_max_timestamp(window))
			return false;
		next++;
		matched++;
	}
	return matched == runner->npanes;
}

/*
 * All windows have ended, and none has expired, since lateness has no limit: that is just before
 * the end of the input.
 */
#define CASE_WATERMARK (SB_TIME_MAX - 1)

static bool
case_run(const Block *block, int size, bool restarts)
{
	UnitRunner runner;
	UnitElement elements[32];
	int n = case_elements(block, "input", elements, size < 0);
	bool ok;

	block_open_runner(block, &runner, restarts);
	runner.strategy.allowed_lateness_us = SB_LATE_FOR_EVER;
	for (int i = 0; i < n; i += abs(size))
		unit_bundle(&runner, elements + i, Min(abs(size), n - i));
	unit_watermark(&runner, CASE_WATERMARK);
	n = case_elements(block, "late", elements, size < 0);
	for (int i = 0; i < n; i += abs(size))
	{
		unit_bundle(&runner, elements + i, Min(abs(size), n - i));
		unit_watermark(&runner, CASE_WATERMARK);
	}
	ok = case_matches(block, &runner);
	unit_runner_close(&runner);
	return ok;
}

void
unit_test_cases(const char *path)
{
	FILE *file = fopen(path, "r");
	Block block;
	int cases = 0;
	int runs = 0;

	unit_must(file != NULL, "cannot open %s", path);
	for (; block_read(file, &block); cases++)
	{
		for (const char *at = block_value(&block, "bundles"); at != NULL; at = strchr(at, ' '))
		{
			int size = atoi(at += *at == ' ');

			unit_ok(case_run(&block, size, false) && case_run(&block, size, true),
			        "case %s, bundles of %d", block_value(&block, "case"), size);
			runs++;
		}
	}
	fclose(file);
	unit_ok(cases == 20 && runs == 49, "all trigger cases are there");
	unit_note("trigger cases: %d cases, %d runs, each also restarted at every step", cases, runs);
}
