/*
 * sb_window_sql.c: the window functions and pane functions as SQL sees them.
 *
 * beam.tumble and its like are SQL functions over the scalar functions here, so that the planner
 * dissolves them into the query: a function scan per source row would cost more than the whole
 * aggregation (install/20_windows.sql).
 *
 * MEMORY. A call whose arguments after the event time are constants retains its bound window
 * function in fn_mcxt; others bind per call, in the memory of the row.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/optimizer.h"
#include "query/window/sb_window_fn.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(stream_beam_tumble_start);
PG_FUNCTION_INFO_V1(stream_beam_tumble_end);
PG_FUNCTION_INFO_V1(stream_beam_hop_starts);
PG_FUNCTION_INFO_V1(stream_beam_cumulate_ends);
PG_FUNCTION_INFO_V1(stream_beam_calendar_start);
PG_FUNCTION_INFO_V1(stream_beam_calendar_end);
PG_FUNCTION_INFO_V1(stream_beam_window_end);
PG_FUNCTION_INFO_V1(stream_beam_window_max_timestamp);
PG_FUNCTION_INFO_V1(stream_beam_window_rows);
PG_FUNCTION_INFO_V1(stream_beam_pane_timing);
PG_FUNCTION_INFO_V1(stream_beam_pane_index);
PG_FUNCTION_INFO_V1(stream_beam_is_last_pane);
PG_FUNCTION_INFO_V1(stream_beam_pane_timestamp);

/* ---- one window an element ---- */

static bool
arguments_are_stable(FunctionCallInfo fcinfo)
{
	for (int i = 1; i < PG_NARGS(); i++)
		if (!get_fn_expr_arg_stable(fcinfo->flinfo, i))
			return false;
	return true;
}

/* The call's arguments after the event time, bound. The functions are strict: none is null. */
static SbWindowFn *
bind_arguments(FunctionCallInfo fcinfo, SbWindowKind kind)
{
	Datum args[FUNC_MAX_ARGS];

	for (int i = 1; i < PG_NARGS(); i++)
		args[i - 1] = PG_GETARG_DATUM(i);
	return sb_window_fn_bind(kind, PG_NARGS() - 1, args, NULL);
}

static SbWindowFn *
bound(FunctionCallInfo fcinfo, SbWindowKind kind)
{
	MemoryContext old;

	if (likely(fcinfo->flinfo->fn_extra != NULL))
		return fcinfo->flinfo->fn_extra;
	if (!arguments_are_stable(fcinfo))
		return bind_arguments(fcinfo, kind);
	old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
	fcinfo->flinfo->fn_extra = bind_arguments(fcinfo, kind);
	MemoryContextSwitchTo(old);
	return fcinfo->flinfo->fn_extra;
}

static SbWindow
only_window(FunctionCallInfo fcinfo, SbWindowKind kind)
{
	SbWindow *windows;

	(void) sb_window_fn_assign(bound(fcinfo, kind), PG_GETARG_TIMESTAMPTZ(0), &windows);
	return windows[0];
}

PGDLLEXPORT Datum
stream_beam_tumble_start(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(only_window(fcinfo, SB_WINDOW_TUMBLE).start);
}

PGDLLEXPORT Datum
stream_beam_tumble_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(only_window(fcinfo, SB_WINDOW_TUMBLE).end);
}

PGDLLEXPORT Datum
stream_beam_calendar_start(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(only_window(fcinfo, SB_WINDOW_CALENDAR).start);
}

PGDLLEXPORT Datum
stream_beam_calendar_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(only_window(fcinfo, SB_WINDOW_CALENDAR).end);
}

/*
 * start + a fixed length: the end of a session's proto-window, and of a hopping window, whose size
 * hop_starts has checked
 */
PGDLLEXPORT Datum
stream_beam_window_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(only_window(fcinfo, SB_WINDOW_SESSION).end);
}

PGDLLEXPORT Datum
stream_beam_window_max_timestamp(PG_FUNCTION_ARGS)
{
	SbWindow window = {.start = PG_INT64_MIN, .end = PG_GETARG_TIMESTAMPTZ(0)};

	if (TIMESTAMP_NOT_FINITE(window.end))
		PG_RETURN_TIMESTAMPTZ(window.end);
	PG_RETURN_TIMESTAMPTZ(sb_window_max_timestamp(window));
}

/* ---- several windows an element ---- */

/*
 * A set-returning call under way, value by value. The usual SRF macros would throw the bound
 * function away after each row.
 */
typedef struct WindowSet
{
	SbWindowFn *fn;
	bool stable;       /* fn is good for all rows */
	SbWindow *windows; /* of the current row, owned by fn */
	int count;
	int next; /* 0: no row under way */
} WindowSet;

/* The executor abandons a row's set, as LIMIT makes it do. */
static void
abandon_set(Datum arg)
{
	WindowSet *set = (WindowSet *) DatumGetPointer(arg);

	set->next = 0;
	set->count = 0;
}

static WindowSet *
current_set(FunctionCallInfo fcinfo)
{
	if (fcinfo->flinfo->fn_extra == NULL)
	{
		WindowSet *set = MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(WindowSet));

		set->stable = arguments_are_stable(fcinfo);
		fcinfo->flinfo->fn_extra = set;
	}
	return fcinfo->flinfo->fn_extra;
}

static void
start_set(FunctionCallInfo fcinfo, WindowSet *set, SbWindowKind kind, ExprContext *econtext)
{
	/* not the row's memory: that is reset between two values of one row */
	MemoryContext old = MemoryContextSwitchTo(set->stable ? fcinfo->flinfo->fn_mcxt
	                                                      : econtext->ecxt_per_query_memory);

	if (set->fn == NULL || !set->stable)
		set->fn = bind_arguments(fcinfo, kind);
	MemoryContextSwitchTo(old);
	set->count = sb_window_fn_assign(set->fn, PG_GETARG_TIMESTAMPTZ(0), &set->windows);
	if (set->count > 0)
		RegisterExprContextCallback(econtext, abandon_set, PointerGetDatum(set));
}

/* The next window of the row, or NULL after its last. */
static SbWindow *
next_window(FunctionCallInfo fcinfo, SbWindowKind kind)
{
	ReturnSetInfo *info = (ReturnSetInfo *) fcinfo->resultinfo;
	WindowSet *set = current_set(fcinfo);

	if (info == NULL || !IsA(info, ReturnSetInfo) || (info->allowedModes & SFRM_ValuePerCall) == 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		                errmsg("set-valued function called in context that cannot accept a set")));
	if (set->next == 0)
		start_set(fcinfo, set, kind, info->econtext);
	if (set->next < set->count)
	{
		info->isDone = ExprMultipleResult;
		return &set->windows[set->next++];
	}
	if (set->count > 0)
		UnregisterExprContextCallback(info->econtext, abandon_set, PointerGetDatum(set));
	abandon_set(PointerGetDatum(set));
	info->isDone = ExprEndResult;
	return NULL;
}

PGDLLEXPORT Datum
stream_beam_hop_starts(PG_FUNCTION_ARGS)
{
	SbWindow *window = next_window(fcinfo, SB_WINDOW_HOP);

	if (window == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(window->start);
}

PGDLLEXPORT Datum
stream_beam_cumulate_ends(PG_FUNCTION_ARGS)
{
	SbWindow *window = next_window(fcinfo, SB_WINDOW_CUMULATE);

	if (window == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(window->end);
}

static double
interval_us(const Node *node)
{
	const Const *value = (const Const *) node;
	const Interval *interval;

	if (!IsA(node, Const) || value->constisnull)
		return 0;
	interval = DatumGetIntervalP(value->constvalue);
	return (double) interval->time + (interval->day + interval->month * 30.0) * USECS_PER_DAY;
}

/*
 * Planner support of hop_starts and cumulate_ends: how many rows, from the second and third
 * argument where they are constants.
 */
PGDLLEXPORT Datum
stream_beam_window_rows(PG_FUNCTION_ARGS)
{
	Node *request = (Node *) PG_GETARG_POINTER(0);
	SupportRequestRows *rows = (SupportRequestRows *) request;
	List *args;
	double size;
	double step;

	if (!IsA(request, SupportRequestRows) || !is_funcclause(rows->node))
		PG_RETURN_POINTER(NULL);
	args = ((FuncExpr *) rows->node)->args;
	if (list_length(args) < 3)
		PG_RETURN_POINTER(NULL);
	size = interval_us(estimate_expression_value(rows->root, lsecond(args)));
	step = interval_us(estimate_expression_value(rows->root, lthird(args)));
	if (size <= 0 || step <= 0)
		PG_RETURN_POINTER(NULL);
	rows->rows = Max(size / step, 1.0);
	PG_RETURN_POINTER(rows);
}

/* ---- panes: what a batch says, which has one pane for each window ---- */

PGDLLEXPORT Datum
stream_beam_pane_timing(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text("ON_TIME"));
}

PGDLLEXPORT Datum
stream_beam_pane_index(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(0);
}

PGDLLEXPORT Datum
stream_beam_is_last_pane(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(true);
}

/*
 * query/sb_session_batch.c puts the window's last instant in its place wherever there is a window.
 */
PGDLLEXPORT Datum
stream_beam_pane_timestamp(PG_FUNCTION_ARGS)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	     errmsg("beam.pane_timestamp() has no window here"),
	     errdetail(
	         "It stands for the end of the window in the select list or HAVING of a query that groups by the columns of a window function."),
	     errhint(
	         "Use it beside FROM ..., beam.tumble(...) w GROUP BY w.window_start, w.window_end.")));
	PG_RETURN_NULL();
}
