/*
 * sb_dependency.h: beam.dependency: what a pipeline's query computes with (functions, aggregates,
 * operators, domains, enums, ...), and what is done when one of these has become another.
 *
 * All functions want SPI connected and the rights of the extension's owner.
 */
#ifndef SB_DEPENDENCY_H
#define SB_DEPENDENCY_H

#include "postgres.h"
#include "nodes/pg_list.h"

/*
 * Of a version that is made: what its batch view depends on, these functions and types, those
 * functions whose entry in the catalog cache has one of these hash values (the planner's own
 * dependencies), and all that they are made of.
 */
extern void sb_dependency_record(int32 pipeline, Oid view, const List *functions, const List *types,
                                 const List *hashes);
/*
 * Compares what is recorded with what is there now. A pipeline for which it is not the same stands
 * still from the commit of this transaction on: it is rebuilt, or, where its rows cannot be taken
 * back or nobody has it run, says what has changed. True: there is one. What somebody has locked is
 * left to the runner, which looks again.
 */
extern bool sb_dependency_check(void);

#endif
