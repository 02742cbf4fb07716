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
#define pg_attribute_noreturn()
#define pg_attribute_always_inline inline
#define pg_noinline
#define pg_unreachable() __builtin_unreachable()
#define StaticAssertStmt(condition, message)
#define StaticAssertDecl(condition, message)
#define Assert(condition)
#define Max(x, y) ((x) > (y) ? (x) : (y))
#define Min(x, y) ((x) < (y) ? (x) : (y))
#define foreach(cell, list) for (cell = list_head(list); cell != NULL; cell = lnext(list, cell))
#define dlist_foreach(iter, list) for ((iter).cur = (list)->head.next; (iter).cur != &(list)->head; (iter).cur = (iter).cur->next)
#define INT64CONST(x) (x##LL)
#define UINT64CONST(x) (x##ULL)
#define PG_INT64_MIN (-9223372036854775807LL - 1)
#define PG_INT64_MAX 9223372036854775807LL
