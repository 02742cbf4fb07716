/*
 * sb_window_fn.c: window functions bound to their constant arguments.
 *
 * The table `functions` holds them all. An entry says what the arguments after the event time are,
 * checks what they mean together, and assigns. The SQL functions (api/sb_window_sql.c) and the
 * stream use the same bound functions, so a view run as a batch and its pipeline cannot disagree.
 *
 * Fixed windows are counted from 1970-01-01 00:00 UTC plus the offset, as in Beam.
 */
#include "postgres.h"

#include "common/int.h"
#include "engine/sb_window_assign.h"
#include "lib/stringinfo.h"
#include "query/window/sb_calendar.h"
#include "query/window/sb_window_fn.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SB_WINDOW_MOST_ARGS 3
/* Each window of an element is a cell to update; a query beyond this is a mistake in its units. */
#define SB_WINDOW_MOST_WINDOWS 10000

typedef enum ArgType
{
	ARG_LENGTH, /* interval, positive */
	ARG_OFFSET, /* interval */
	ARG_COUNT,  /* int */
	ARG_NAME    /* text */
} ArgType;

typedef struct WindowArg
{
	const char *name;
	ArgType type;
} WindowArg;

/* An argument, checked by itself. */
typedef struct WindowValue
{
	int64 us; /* ARG_LENGTH, ARG_OFFSET */
	int count;
	char *name;
} WindowValue;

typedef struct WindowDef
{
	const char *name;
	SbWindowKind kind;
	int nargs;
	WindowArg args[SB_WINDOW_MOST_ARGS];
	void (*bind)(SbWindowFn *fn, const WindowValue *values);
	int (*assign)(SbWindowFn *fn, TimestampTz timestamp); /* into fn->windows; -1: out of range */
} WindowDef;

struct SbWindowFn
{
	const WindowDef *def;
	int64 size_us;
	int64 step_us; /* slide of hop, step of cumulate */
	int64 origin;  /* a window starts here */
	SbCalendar *calendar;
	char *text;        /* for describe */
	SbWindow *windows; /* what assign gives; as many as it can give */
};

static void
allocate_windows(SbWindowFn *fn, int64 most, const char *hint)
{
	if (most > SB_WINDOW_MOST_WINDOWS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("beam.%s would put each element into " INT64_FORMAT " windows",
		                       fn->def->name, most),
		                errdetail("At most %d are allowed.", SB_WINDOW_MOST_WINDOWS),
		                errhint("%s", hint)));
	fn->windows = palloc(sizeof(SbWindow) * most);
}

static void
bind_tumble(SbWindowFn *fn, const WindowValue *values)
{
	fn->size_us = values[0].us;
	fn->origin = SB_UNIX_EPOCH_US + values[1].us % fn->size_us;
	allocate_windows(fn, 1, "");
}

static int
assign_tumble(SbWindowFn *fn, TimestampTz timestamp)
{
	return sb_window_tumble(timestamp, fn->size_us, fn->origin, fn->windows) ? 1 : -1;
}

static void
bind_hop(SbWindowFn *fn, const WindowValue *values)
{
	fn->size_us = values[0].us;
	fn->step_us = values[1].us;
	fn->origin = SB_UNIX_EPOCH_US + values[2].us % fn->step_us;
	allocate_windows(fn, sb_window_hop_most(fn->size_us, fn->step_us),
	                 "Use a longer slide or a smaller size.");
}

static int
assign_hop(SbWindowFn *fn, TimestampTz timestamp)
{
	return sb_window_hop(timestamp, fn->size_us, fn->step_us, fn->origin, fn->windows);
}

static void
bind_cumulate(SbWindowFn *fn, const WindowValue *values)
{
	fn->size_us = values[0].us;
	fn->step_us = values[1].us;
	if (fn->size_us % fn->step_us != 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("the step of beam.cumulate must divide its max_size"),
		                errhint("For example, beam.cumulate(ts, '1 day', '1 hour').")));
	fn->origin = SB_UNIX_EPOCH_US + values[2].us % fn->size_us;
	allocate_windows(fn, fn->size_us / fn->step_us, "Use a longer step or a smaller max_size.");
}

static int
assign_cumulate(SbWindowFn *fn, TimestampTz timestamp)
{
	return sb_window_cumulate(timestamp, fn->size_us, fn->step_us, fn->origin, fn->windows);
}

static void
bind_session(SbWindowFn *fn, const WindowValue *values)
{
	fn->size_us = values[0].us;
	allocate_windows(fn, 1, "");
}

static int
assign_session(SbWindowFn *fn, TimestampTz timestamp)
{
	fn->windows[0].start = timestamp;
	return sb_window_end(timestamp, fn->size_us, &fn->windows[0].end) ? 1 : -1;
}

static void
bind_calendar(SbWindowFn *fn, const WindowValue *values)
{
	fn->calendar = sb_calendar_make(values[0].name, values[1].count, values[2].name);
	allocate_windows(fn, 1, "");
}

static int
assign_calendar(SbWindowFn *fn, TimestampTz timestamp)
{
	return sb_calendar_window(fn->calendar, timestamp, fn->windows) ? 1 : -1;
}

static const WindowDef functions[] = {
    {"tumble",
     SB_WINDOW_TUMBLE,
     2,
     {{"size", ARG_LENGTH}, {"offset", ARG_OFFSET}},
     bind_tumble,
     assign_tumble},
    {"hop",
     SB_WINDOW_HOP,
     3,
     {{"size", ARG_LENGTH}, {"slide", ARG_LENGTH}, {"offset", ARG_OFFSET}},
     bind_hop,
     assign_hop},
    {"cumulate",
     SB_WINDOW_CUMULATE,
     3,
     {{"max_size", ARG_LENGTH}, {"step", ARG_LENGTH}, {"offset", ARG_OFFSET}},
     bind_cumulate,
     assign_cumulate},
    {"session", SB_WINDOW_SESSION, 1, {{"gap", ARG_LENGTH}}, bind_session, assign_session},
    {"calendar",
     SB_WINDOW_CALENDAR,
     3,
     {{"unit", ARG_NAME}, {"n", ARG_COUNT}, {"time_zone", ARG_NAME}},
     bind_calendar,
     assign_calendar},
};

static const WindowDef *
find_def(SbWindowKind kind)
{
	for (int i = 0; i < lengthof(functions); i++)
		if (functions[i].kind == kind)
			return &functions[i];
	return NULL;
}

SbWindowKind
sb_window_kind(const char *name)
{
	for (int i = 0; i < lengthof(functions); i++)
		if (strcmp(functions[i].name, name) == 0)
			return functions[i].kind;
	return SB_WINDOW_CUSTOM;
}

static char *
interval_text(const Interval *interval)
{
	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(interval)));
}

/* An interval as microseconds, a day being 24 hours. */
static int64
fixed_length(const WindowDef *def, const WindowArg *arg, const Interval *interval)
{
	int64 us;

	if (interval->month != 0)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("the %s of beam.%s must not contain months or years", arg->name, def->name),
		         errdetail("It is %s, and months differ in length.", interval_text(interval)),
		         errhint("For months, use beam.calendar(ts, 'month').")));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
	    pg_add_s64_overflow(us, interval->time, &us))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("the %s of beam.%s is out of range", arg->name, def->name),
		                errdetail("It is %s.", interval_text(interval)),
		                errhint("Use an interval of at most 290,000 years' worth of days.")));
	if (arg->type == ARG_LENGTH && us <= 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("the %s of beam.%s must be positive", arg->name, def->name),
		                errdetail("It is %s.", interval_text(interval)),
		                errhint("Use an interval such as '1 minute'.")));
	return us;
}

/* Checks one argument by itself and appends it to the readable form. */
static WindowValue
check_value(const WindowDef *def, int i, Datum arg, StringInfo out)
{
	WindowValue value = {0};
	const char *separator = i == 0 ? "" : ", ";

	switch (def->args[i].type)
	{
		case ARG_LENGTH:
			value.us = fixed_length(def, &def->args[i], DatumGetIntervalP(arg));
			appendStringInfo(out, "%s%s", separator, interval_text(DatumGetIntervalP(arg)));
			break;
		case ARG_OFFSET:
			value.us = fixed_length(def, &def->args[i], DatumGetIntervalP(arg));
			if (value.us != 0)
				appendStringInfo(out, "%s%s %s", separator, def->args[i].name,
				                 interval_text(DatumGetIntervalP(arg)));
			break;
		case ARG_COUNT:
			value.count = DatumGetInt32(arg);
			appendStringInfo(out, "%s%d", separator, value.count);
			break;
		case ARG_NAME:
			value.name = TextDatumGetCString(arg);
			appendStringInfo(out, "%s%s", separator, value.name);
			break;
	}
	return value;
}

SbWindowFn *
sb_window_fn_bind(SbWindowKind kind, int nargs, const Datum *args, const bool *nulls)
{
	const WindowDef *def = find_def(kind);
	WindowValue values[SB_WINDOW_MOST_ARGS];
	StringInfoData text;
	SbWindowFn *fn;

	if (def == NULL || nargs != def->nargs)
		elog(ERROR, "window function of kind %d cannot be bound to %d arguments", (int) kind,
		     nargs);
	initStringInfo(&text);
	appendStringInfo(&text, "%s(", def->name);
	for (int i = 0; i < nargs; i++)
	{
		if (nulls != NULL && nulls[i])
			ereport(ERROR,
			        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			         errmsg("the %s of beam.%s must not be null", def->args[i].name, def->name),
			         errhint("Give a constant, or leave it out where it has a default.")));
		values[i] = check_value(def, i, args[i], &text);
	}
	appendStringInfoChar(&text, ')');

	fn = palloc0(sizeof(SbWindowFn));
	fn->def = def;
	fn->text = text.data;
	def->bind(fn, values);
	return fn;
}

bool
sb_window_fn_merges(const SbWindowFn *fn)
{
	return fn->def->kind == SB_WINDOW_SESSION;
}

static void
report_out_of_range(const SbWindowFn *fn, TimestampTz timestamp)
{
	if (TIMESTAMP_NOT_FINITE(timestamp))
		ereport(ERROR,
		        (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
		         errmsg("beam.%s cannot assign a window to an infinite timestamp", fn->def->name),
		         errhint("Leave such rows out: WHERE isfinite(ts).")));
	ereport(ERROR,
	        (errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
	         errmsg("window of %s is out of range", fn->text),
	         errdetail("The event time is %s.", timestamptz_to_str(timestamp)),
	         errhint("Leave out rows whose time is that far away, or use a smaller window.")));
}

int
sb_window_fn_assign(SbWindowFn *fn, TimestampTz timestamp, SbWindow **windows)
{
	int count;

	if (unlikely(TIMESTAMP_NOT_FINITE(timestamp) || !IS_VALID_TIMESTAMP(timestamp)))
		report_out_of_range(fn, timestamp);
	count = fn->def->assign(fn, timestamp);
	/* the first has the earliest start, the last the latest end */
	if (unlikely(count < 0 || (count > 0 && (!IS_VALID_TIMESTAMP(fn->windows[0].start) ||
	                                         !IS_VALID_TIMESTAMP(fn->windows[count - 1].end)))))
		report_out_of_range(fn, timestamp);
	*windows = fn->windows;
	return count;
}

char *
sb_window_fn_describe(const SbWindowFn *fn)
{
	return pstrdup(fn->text);
}
