/*
 * sb_session_rewrite.h: the rewriting of one query that groups by the windows of beam.session; who
 * calls it is sb_session_batch.c.
 */
#ifndef SB_SESSION_REWRITE_H
#define SB_SESSION_REWRITE_H

#include "postgres.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

/*
 * Replaces references to joins by references to what they join, so that joins can be dissolved. The
 * planner would do so too.
 */
extern void sb_session_resolve_joins(Query *query);

/*
 * Rewrites the query in place. `window` is the range table index of the session function, `call`
 * its call, session_start and session_end are the SQL window functions that merge. Joins are
 * resolved already. Error 0A000 where the query has a form that is not supported.
 */
extern void sb_session_rewrite(Query *query, Index window, FuncExpr *call, Oid session_start,
                               Oid session_end);

/* ERROR 0A000 with that detail */
extern _Noreturn void sb_session_unsupported(const char *reason);

#endif
