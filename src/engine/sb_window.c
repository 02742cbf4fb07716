/*
 * sb_window.c: merging of windows. Assignment of the built-in window functions is with their
 * arguments, in query/.
 */
#include "postgres.h"
#include "engine/sb_reduce.h"

static int
sb_window_compare(const void *a, const void *b)
{
	const SbWindow *x = a;
	const SbWindow *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	if (x->end != y->end)
		return x->end < y->end ? -1 : 1;
	return 0;
}

int
sb_window_merge(SbWindow *windows, int n)
{
	int last = 0;

	if (n <= 1)
		return n;
	qsort(windows, n, sizeof(SbWindow), sb_window_compare);
	for (int i = 1; i < n; i++)
	{
		if (windows[last].end > windows[i].start)
			windows[last].end = Max(windows[last].end, windows[i].end);
		else
			windows[++last] = windows[i];
	}
	return last + 1;
}
