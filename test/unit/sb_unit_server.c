/*
 * sb_unit_server.c: what the engine needs of a server, and libpgcommon and libpgport do not have:
 * errors, intervals, memory contexts (there is one).
 */
#include "postgres.h"

#include <malloc.h>

#include "base/sb_compat.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "sb_unit.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#undef vsnprintf
#undef fprintf
#undef strerror

ErrorContextCallback *error_context_stack = NULL;
volatile sig_atomic_t InterruptPending = false;
UnitError unit_error;
sigjmp_buf *unit_catch = NULL;
sigjmp_buf *PG_exception_stack = NULL;

#define UNIT_FORMAT(target) \
	do \
	{ \
		va_list args; \
		va_start(args, fmt); \
		vsnprintf((target), sizeof(target), fmt, args); \
		va_end(args); \
	} while (0)

void
ProcessInterrupts(void)
{
}

void *
MemoryContextAlloc(MemoryContext context, Size size)
{
	return palloc(size);
}

Size
GetMemoryChunkSpace(void *pointer)
{
	return malloc_usable_size(pointer);
}

bool
errstart(int elevel, const char *domain)
{
	memset(&unit_error, 0, sizeof(unit_error));
	unit_error.code = ERRCODE_INTERNAL_ERROR;
	return true;
}

bool
errstart_cold(int elevel, const char *domain)
{
	return errstart(elevel, domain);
}

int
errcode(int sqlerrcode)
{
	unit_error.code = sqlerrcode;
	return 0;
}

int
errmsg(const char *fmt, ...)
{
	UNIT_FORMAT(unit_error.message);
	return 0;
}

int
errmsg_internal(const char *fmt, ...)
{
	UNIT_FORMAT(unit_error.message);
	return 0;
}

int
errdetail(const char *fmt, ...)
{
	UNIT_FORMAT(unit_error.detail);
	return 0;
}

int
errdetail_internal(const char *fmt, ...)
{
	UNIT_FORMAT(unit_error.detail);
	return 0;
}

int
errhint(const char *fmt, ...)
{
	UNIT_FORMAT(unit_error.hint);
	return 0;
}

int
set_errcontext_domain(const char *domain)
{
	return 0;
}

int
errcontext_msg(const char *fmt, ...)
{
	UNIT_FORMAT(unit_error.context);
	return 0;
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	for (ErrorContextCallback *context = error_context_stack; context != NULL;
	     context = context->previous)
		context->callback(context->arg);
	if (unit_catch == NULL)
	{
		fprintf(stderr, "%s:%d: %s (%s)\n", filename, lineno, unit_error.message,
		        unit_error.detail);
		abort();
	}
	pg_re_throw();
}

void
pg_re_throw(void)
{
	siglongjmp(PG_exception_stack ? *PG_exception_stack : *unit_catch, 1);
}

void
ExceptionalCondition(const char *condition, SB_ASSERTION_TYPE const char *filename, int line)
{
	fprintf(stderr, "%s:%d: assertion failed: %s\n", filename, line, condition);
	abort();
}

/* The tests' texts are UTF-8. */
int
pg_mblen(const char *text)
{
	return pg_encoding_mblen(PG_UTF8, text);
}

int
pg_mbstrlen_with_len(const char *text, int limit)
{
	int n = 0;

	for (int at = 0; at < limit; at += pg_mblen(text + at))
		n++;
	return n;
}

/* `<number> <unit>` is all that the tests use. */
Datum
interval_in(PG_FUNCTION_ARGS)
{
	return (Datum) 0;
}

Datum
DirectFunctionCall3Coll(PGFunction func, Oid collation, Datum text, Datum typelem, Datum typmod)
{
	static const struct
	{
		const char *name;
		Interval one;
	} units[] = {{"us", {.time = 1}},
	             {"ms", {.time = 1000}},
	             {"s", {.time = USECS_PER_SEC}},
	             {"min", {.time = USECS_PER_MINUTE}},
	             {"h", {.time = USECS_PER_HOUR}},
	             {"d", {.day = 1}},
	             {"mon", {.month = 1}}};
	Interval *result = palloc(sizeof(Interval));
	char *unit;
	long long number = strtoll(DatumGetCString(text), &unit, 10);

	Assert(func == interval_in);
	for (int i = 0; i < lengthof(units) && *unit == ' '; i++)
	{
		if (strcmp(units[i].name, unit + 1) == 0)
		{
			result->time = number * units[i].one.time;
			result->day = number * units[i].one.day;
			result->month = number * units[i].one.month;
			return IntervalPGetDatum(result);
		}
	}
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_DATETIME_FORMAT),
	         errmsg("invalid input syntax for type interval: \"%s\"", DatumGetCString(text))));
}

void *
repalloc_huge(void *pointer, Size size)
{
	return repalloc(pointer, size);
}
