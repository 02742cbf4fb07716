/*
 * sb_session_sql.c: session_start and session_end, the SQL window functions with which a batch
 * query merges sessions.
 *
 * Both run OVER (PARTITION BY the keys ORDER BY the event time), put there by
 * query/sb_session_batch.c. Rows come in the order of time, so a session is a run of rows each of
 * which starts before the latest end so far; a row that only touches that end begins a session of
 * its own.
 *
 * STATE. In the partition's memory, zero at its start. session_start looks at the current row only.
 * session_end reads ahead to the end of the session once, at its first row, and reads each row once
 * in all. The rows read ahead are the executor's to retain, a session's worth of them.
 */
#include "postgres.h"

#include "fmgr.h"
#include "query/window/sb_window_fn.h"
#include "utils/timestamp.h"
#include "windowapi.h"

#define ARG_TIME 0
#define ARG_GAP 1

PG_FUNCTION_INFO_V1(stream_beam_session_start);
PG_FUNCTION_INFO_V1(stream_beam_session_end);

typedef struct Session
{
	bool started;
	SbWindow window;
	int64 last_row; /* of the session, in the partition: session_end only */
} Session;

/*
 * An argument of the row `ahead` rows after the current one; false: null, or there is no such row.
 */
static bool
read_argument(WindowObject rows, int arg, int ahead, Datum *value)
{
	bool isnull;
	bool outside = false;

	if (ahead == 0)
		*value = WinGetFuncArgCurrent(rows, arg, &isnull);
	else
		*value = WinGetFuncArgInPartition(rows, arg, ahead, WINDOW_SEEK_CURRENT, false, &isnull,
		                                  &outside);
	return !outside && !isnull;
}

/*
 * The gap of a row as a bound function: bound once where the gap is a constant, or else for this
 * row.
 */
static SbWindowFn *
bind_gap(FunctionCallInfo fcinfo, WindowObject rows, int ahead)
{
	FmgrInfo *flinfo = fcinfo->flinfo;
	MemoryContext context = CurrentMemoryContext;
	SbWindowFn *fn;
	Datum gap;
	bool constant;

	if (flinfo->fn_extra != NULL)
		return flinfo->fn_extra;
	if (!read_argument(rows, ARG_GAP, ahead, &gap))
		return NULL;
	constant = get_fn_expr_arg_stable(flinfo, ARG_GAP);
	if (constant)
		MemoryContextSwitchTo(flinfo->fn_mcxt);
	fn = sb_window_fn_bind(SB_WINDOW_SESSION, 1, &gap, NULL);
	MemoryContextSwitchTo(context);
	if (constant)
		flinfo->fn_extra = fn;
	return fn;
}

/* The window a row would have alone; false: no such row, or a null argument. */
static bool
proto_window(FunctionCallInfo fcinfo, WindowObject rows, int ahead, SbWindow *window)
{
	SbWindowFn *fn;
	SbWindow *windows;
	Datum time;

	if (!read_argument(rows, ARG_TIME, ahead, &time))
		return false;
	fn = bind_gap(fcinfo, rows, ahead);
	if (fn == NULL)
		return false;
	(void) sb_window_fn_assign(fn, DatumGetTimestampTz(time), &windows);
	*window = windows[0];
	return true;
}

PGDLLEXPORT Datum
stream_beam_session_start(PG_FUNCTION_ARGS)
{
	WindowObject rows = PG_WINDOW_OBJECT();
	Session *session = WinGetPartitionLocalMemory(rows, sizeof(Session));
	SbWindow proto;

	if (!proto_window(fcinfo, rows, 0, &proto))
		PG_RETURN_NULL();
	if (session->started && proto.start < session->window.end)
		session->window.end = Max(session->window.end, proto.end);
	else
		session->window = proto;
	session->started = true;
	PG_RETURN_TIMESTAMPTZ(session->window.start);
}

PGDLLEXPORT Datum
stream_beam_session_end(PG_FUNCTION_ARGS)
{
	WindowObject rows = PG_WINDOW_OBJECT();
	Session *session = WinGetPartitionLocalMemory(rows, sizeof(Session));
	int64 row = WinGetCurrentPosition(rows);
	SbWindow proto;
	int ahead = 0;

	if (session->started && row <= session->last_row)
		PG_RETURN_TIMESTAMPTZ(session->window.end);
	if (!proto_window(fcinfo, rows, 0, &session->window))
		PG_RETURN_NULL();
	/* rows before this one are not looked at again: the executor may forget them */
	WinSetMarkPosition(rows, row);
	while (proto_window(fcinfo, rows, ahead + 1, &proto) && proto.start < session->window.end)
	{
		session->window.end = Max(session->window.end, proto.end);
		ahead++;
	}
	session->last_row = row + ahead;
	session->started = true;
	PG_RETURN_TIMESTAMPTZ(session->window.end);
}
