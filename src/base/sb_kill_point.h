/*
 * sb_kill_point.h: named places at which a test can have a process killed. In builds with
 * assertions only; elsewhere they are nothing.
 *
 *   SB_KILL_POINT("before_commit");
 *
 * The process that passes the point which the setting stream_beam.kill_at names ends itself with
 * SIGKILL, without a chance to tidy up: at its first time, or with 'before_commit:5' at every
 * process's fifth; with 'once before_commit' only one process does, as long as the file
 * stream_beam.killed is in the data directory. With '!before_commit' it raises an error there
 * instead, and where the point says of what it is, 'decode_change(t)' is passed for that one only.
 * test/t/kill_rounds.pl has a list of all points, and each must be passed there (scripts/check
 * compares the names).
 */
#ifndef SB_KILL_POINT_H
#define SB_KILL_POINT_H

#ifdef USE_ASSERT_CHECKING

extern void sb_kill_point_define(void);
extern void sb_kill_point_pass(const char *name, const char *what);

#define SB_KILL_POINT(name) sb_kill_point_pass(name, NULL)
#define SB_KILL_POINT_OF(name, what) sb_kill_point_pass(name, what)

#else

#define SB_KILL_POINT(name) ((void) 0)
#define SB_KILL_POINT_OF(name, what) ((void) 0)

static inline void
sb_kill_point_define(void)
{
}

#endif

#endif
