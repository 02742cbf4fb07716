/*
 * cppcheck.h: as much of PostgreSQL's macros as cppcheck needs to read our code. Never compiled.
 *
 * Its own headers would cost minutes and bring in findings that are not ours.
 */
#define PG_MODULE_MAGIC
#define PG_FUNCTION_INFO_V1(name)
#define PG_TRY() if (1)
#define PG_CATCH() else if (1)
#define PG_FINALLY() else
#define PG_END_TRY()
#define PGDLLEXPORT
#define PGDLLIMPORT
#define FLEXIBLE_ARRAY_MEMBER
#define pg_attribute_printf(a, b)
#define _Noreturn __attribute__((noreturn))
#define pg_attribute_always_inline inline
#define pg_noinline
#define pg_unreachable() __builtin_unreachable()
#define StaticAssertStmt(condition, message)
#define StaticAssertDecl(condition, message)
#define Assert(condition)
#define Max(x, y) ((x) > (y) ? (x) : (y))
#define Min(x, y) ((x) < (y) ? (x) : (y))
#define foreach(cell, list) for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))
#define forboth(cell1, list1, cell2, list2) \
	for (cell1 = list_head(list1), cell2 = list_head(list2); cell1 != NULL && cell2 != NULL; \
	     cell1 = lnext(list1, cell1), cell2 = lnext(list2, cell2))
#define for_each_from(cell, list, n) \
	for (cell = list_nth_cell(list, n); cell != NULL; cell = lnext(list, cell))
#define foreach_delete_current(list, cell) (list_delete_cell(list, cell))
#define dlist_foreach_modify(iter, list) dlist_foreach(iter, list)
#define slist_foreach(iter, list) \
	for ((iter).cur = (list)->head.next; (iter).cur != NULL; (iter).cur = (iter).cur->next)
#define dlist_foreach(iter, list) \
	for ((iter).cur = (list)->head.next; (iter).cur != &(list)->head; (iter).cur = (iter).cur->next)
#define INT64CONST(x) (x##LL)
#define UINT64CONST(x) (x##ULL)
#define PG_INT64_MIN (-9223372036854775807LL - 1)
#define PG_INT64_MAX 9223372036854775807LL

/* an error does not return */
#define DEBUG5 10
#define DEBUG4 11
#define DEBUG3 12
#define DEBUG2 13
#define DEBUG1 14
#define LOG 15
#define INFO 17
#define NOTICE 18
#define WARNING 19
#define ERROR 21
#define FATAL 22
#define PANIC 23
__attribute__((noreturn)) void cppcheck_no_return(void);
#define ereport(level, ...) \
	do \
	{ \
		if ((level) >= ERROR) \
			cppcheck_no_return(); \
	} while (0)
#define elog(level, ...) \
	do \
	{ \
		if ((level) >= ERROR) \
			cppcheck_no_return(); \
	} while (0)
#define PG_RE_THROW() cppcheck_no_return()
