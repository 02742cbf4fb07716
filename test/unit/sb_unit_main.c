/*
 * sb_unit_main.c: runs all unit tests, prints TAP.
 *
 *     sb_unit [directory of the conformance data [seed [rounds]]]
 */
#include "postgres.h"
#include "sb_unit.h"

#undef printf
#undef vprintf

static int tests = 0;
static int failures = 0;

const char *unit_again = NULL;

static void
print_line(const char *prefix, const char *fmt, va_list args)
{
	fputs(prefix, stdout);
	vprintf(fmt, args);
	fputc('\n', stdout);
}

void
unit_ok(bool ok, const char *fmt, ...)
{
	char prefix[32];
	va_list args;

	va_start(args, fmt);
	failures += !ok;
	sprintf(prefix, "%sok %d - ", ok ? "" : "not ", ++tests);
	print_line(prefix, fmt, args);
	va_end(args);
}

void
unit_note(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	print_line("# ", fmt, args);
	va_end(args);
}

void
unit_must(bool ok, const char *fmt, ...)
{
	va_list args;

	if (ok)
		return;
	va_start(args, fmt);
	print_line("Bail out! ", fmt, args);
	va_end(args);
	if (unit_again)
		unit_note("%s", unit_again);
	exit(1);
}

void
unit_same_text(const char *got, const char *expected, const char *name)
{
	unit_ok(strcmp(got, expected) == 0, "%s", name);
	if (strcmp(got, expected) != 0)
	{
		unit_note("     got: %s", got);
		unit_note("expected: %s", expected);
	}
}

int
main(int argc, char **argv)
{
	const char *directory = argc > 1 ? argv[1] : "conformance";
	uint64 seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 20260101;
	int rounds = argc > 3 ? atoi(argv[3]) : 20000;

	setvbuf(stdout, NULL, _IOLBF, 0);
	unit_test_text();
	unit_test_windows();
	unit_test_elements(seed);
	unit_test_items(seed, Max(rounds / 400, 1));
	unit_test_triggers();
	unit_test_reduce();
	unit_test_codec();
	unit_test_transcripts(psprintf("%s/transcripts.txt", directory));
	unit_test_cases(psprintf("%s/cases.txt", directory));
	unit_test_random(seed, rounds);
	unit_measure();
	printf("1..%d\n", tests);
	if (failures > 0)
		unit_note("%d of %d failed", failures, tests);
	return failures > 0;
}
