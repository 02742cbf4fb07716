/*
 * sb_kill_point.c: the setting stream_beam.kill_at; see sb_kill_point.h.
 *
 * The count is a process's own, and begins anew where the setting is changed.
 */
#include "postgres.h"

#include "base/sb_kill_point.h"

#ifdef USE_ASSERT_CHECKING

#include <fcntl.h>
#include <signal.h>

#include "miscadmin.h"
#include "utils/guc.h"

static char *kill_at;
static int passed;

static void
kill_at_assign(const char *newval, void *extra)
{
	passed = 0;
}

void
sb_kill_point_define(void)
{
	DefineCustomStringVariable(
	    "stream_beam.kill_at",
	    "Point in the code at which a process kills itself, \"name\" or \"name:n\" for its n-th time; for tests.",
	    NULL, &kill_at, "", PGC_SIGHUP, GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
	    NULL, kill_at_assign, NULL);
}

#define SB_KILL_ONCE "once "
#define SB_KILLED_FILE "stream_beam.killed"

/*
 * Of all processes, also of a server that has started again meanwhile, the first one only; until
 * somebody removes the file.
 */
static bool
kill_is_first(void)
{
	int fd = open(SB_KILLED_FILE, O_CREAT | O_EXCL | O_WRONLY, 0600);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

void
sb_kill_point_pass(const char *name, const char *what)
{
	size_t length = strlen(name);
	const char *at = kill_at;
	int times = 1;
	bool once;
	bool fail;

	if (likely(at == NULL || at[0] == '\0'))
		return;
	once = strncmp(at, SB_KILL_ONCE, strlen(SB_KILL_ONCE)) == 0;
	at += once ? strlen(SB_KILL_ONCE) : 0;
	fail = at[0] == '!';
	at += fail;
	if (strncmp(at, name, length) != 0)
		return;
	at += length;
	if (what && at[0] == '(')
	{
		length = strlen(what);
		if (strncmp(at + 1, what, length) != 0 || at[1 + length] != ')')
			return;
		at += length + 2;
	}
	if (at[0] == ':')
		times = atoi(at + 1);
	else if (at[0] != '\0')
		return;
	if (++passed < times || (once && !kill_is_first()))
		return;
	if (fail)
		ereport(ERROR, (errmsg_internal("planted at \"%s\"", name)));
	(void) write_stderr("stream_beam: process %d kills itself at \"%s\"\n", MyProcPid, kill_at);
	kill(MyProcPid, SIGKILL);
}

#endif
