/*
 * sb_window_fn.h: window functions bound to their constant arguments.
 *
 * One table in sb_window_fn.c holds them all: name, kind, a check of the arguments, and the
 * assignment. A new window function is one entry there and one SQL function. Custom functions (any
 * set-returning SQL function) are run by sb_query.c.
 */
#ifndef SB_WINDOW_FN_H
#define SB_WINDOW_FN_H

#include "postgres.h"
#include "engine/sb_window.h"

typedef struct SbWindowFn SbWindowFn;

/* The kind of the function with this name in schema beam, or SB_WINDOW_CUSTOM. */
extern SbWindowKind sb_window_kind(const char *name);

/*
 * Binds a built-in window function to its arguments after the event time (all constants; given as
 * for the SQL function, defaults filled in). Errors: 22023 / 22008 with a hint (not positive,
 * months in a fixed size, unknown zone or unit, step that does not divide the size, too many
 * windows an element). Result in the current memory context.
 */
extern SbWindowFn *sb_window_fn_bind(SbWindowKind kind, int nargs, const Datum *args,
                                     const bool *nulls);
extern bool sb_window_fn_merges(const SbWindowFn *fn);

/*
 * The windows of a timestamp. Returns how many (0 possible: gaps); *windows points into memory of
 * fn, good until the next call. For a session: the proto-window. Error 22008 for infinite or
 * out-of-range timestamps (like the SQL functions).
 */
extern int sb_window_fn_assign(SbWindowFn *fn, TimestampTz timestamp, SbWindow **windows);
/* readable, for explain: `tumble(00:01:00)` */
extern char *sb_window_fn_describe(const SbWindowFn *fn);

#endif
