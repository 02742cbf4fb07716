/*
 * sb_unit.h: the unit tests' own tools: TAP, caught errors, and a runner in memory.
 *
 * The engine's files are linked into one executable with a small stand-in for the server
 * (sb_unit_server.c): no cluster is needed.
 */
#ifndef SB_UNIT_H
#define SB_UNIT_H

#include "postgres.h"
#include <setjmp.h>
#include "engine/sb_reduce.h"

#define SECOND INT64CONST(1000000)

/* ---- TAP ---- */
extern void unit_ok(bool ok, const char *fmt, ...) pg_attribute_printf(2, 3);
extern void unit_note(const char *fmt, ...) pg_attribute_printf(1, 2);
/*
 * like unit_ok, but silent when all is well: for checks by the thousand. Exits at the first that
 * fails.
 */
extern void unit_must(bool ok, const char *fmt, ...) pg_attribute_printf(2, 3);
/* What it says then besides: how to see it again. */
extern const char *unit_again;
extern void unit_same_text(const char *got, const char *expected, const char *name);

/* ---- errors that ereport() raised ---- */
typedef struct UnitError
{
	int code;
	char message[512];
	char detail[512];
	char hint[512];
	char context[512];
} UnitError;

extern UnitError unit_error;
extern sigjmp_buf *unit_catch;

/* Runs the statement; true if it raised an error, which is in unit_error then. */
#define UNIT_RAISES(statement) \
	({ \
		sigjmp_buf unit_buffer; \
		volatile bool unit_raised = true; \
		unit_catch = &unit_buffer; \
		error_context_stack = NULL; \
		if (sigsetjmp(unit_buffer, 0) == 0) \
		{ \
			statement; \
			unit_raised = false; \
		} \
		unit_catch = NULL; \
		unit_raised; \
	})

/* ---- a runner for one key, as the RULES of sb_reduce.h say ---- */
typedef struct UnitValues
{
	int n;
	int64 *items;
} UnitValues;

typedef struct UnitElement
{
	TimestampTz timestamp;
	int64 value;
} UnitElement;

typedef struct UnitCell
{
	SbCell *cell;
	UnitValues values; /* the accumulator */
	/*
	 * of its last pane, of discarding ones of all, and of those of the windows merged into it: what
	 * stands for it in the result
	 */
	UnitValues stands;
	int pending;             /* elements that no pane has had yet */
	TimestampTz event_timer; /* as of the last time the cell was touched */
} UnitCell;

typedef struct UnitPane
{
	SbWindow window;
	SbPane pane;
	UnitValues values; /* sorted */
} UnitPane;

/* What stands in the end for a window. */
typedef struct UnitResult
{
	SbWindow window;
	UnitValues values; /* sorted */
} UnitResult;

typedef struct UnitRunner
{
	SbStrategy strategy;
	SbClocks clocks;
	SbWindowKind kind;
	int64 size;
	int64 slide;
	bool restarts; /* each step ends with a crash: all cells go through the codec */
	UnitCell *cells;
	int ncells;
	UnitPane *panes; /* all that was emitted */
	int npanes;
	UnitResult *results; /* of the windows that are over */
	int nresults;
	/*
	 * Sums over values, each once for each window: of the elements taken; and of all that was
	 * emitted, what was retracted taken away.
	 */
	int64 taken;
	int64 emitted;
	int late_expired;
	int late_closed;
} UnitRunner;

extern void unit_runner_open(UnitRunner *runner, const char *trigger, SbWindowKind kind,
                             int64 size);
extern void unit_runner_close(UnitRunner *runner);
/* Those of an element, earliest start first; there is room for UNIT_WINDOWS. */
#define UNIT_WINDOWS 16
extern int unit_assign(const UnitRunner *runner, TimestampTz timestamp, SbWindow *windows);
extern void unit_bundle(UnitRunner *runner, const UnitElement *elements, int n);
extern void unit_watermark(UnitRunner *runner, TimestampTz watermark);
extern void unit_clock(UnitRunner *runner, TimestampTz processing_time);
/* Adds elements whose timestamps, and values, are these seconds; as one bundle. */
extern void unit_seconds(UnitRunner *runner, int n, ...);
extern UnitCell *unit_cell(UnitRunner *runner, int64 start, int64 end);
/*
 * The last pane as text, such as `[0,10) ON_TIME 1/0 last @9999999 {1,2}`, or "none"; numbers are
 * index and nonspeculative index.
 */
extern const char *unit_last_pane(UnitRunner *runner);
extern void unit_values_sort(UnitValues *values);

/* ---- the tests ---- */
extern void unit_test_text(void);
extern void unit_test_windows(void);
extern void unit_test_elements(uint64 seed);
extern void unit_test_items(uint64 seed, int rounds);
extern void unit_test_triggers(void);
extern void unit_test_reduce(void);
extern void unit_test_codec(void);
extern void unit_test_transcripts(const char *path);
extern void unit_test_cases(const char *path);
extern void unit_test_random(uint64 seed, int rounds);
extern void unit_measure(void);

#endif
