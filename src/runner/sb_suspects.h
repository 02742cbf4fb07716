/*
 * sb_suspects.h: pipelines at whose work the workers have crashed again and again are failed,
 * before they are opened once more.
 */
#ifndef SB_SUSPECTS_H
#define SB_SUSPECTS_H

#include "postgres.h"
#include "nodes/pg_list.h"

/*
 * Fails those of these rows that run and are suspects, and reads the rows anew where there are any.
 * Returns the suspects' ids. SPI connected.
 */
extern List *sb_suspects_fail(Oid dbid, List **rows);
/* After the commit of that: they may be tried again, when somebody resumes them. */
extern void sb_suspects_forgive(Oid dbid, const List *suspects);

#endif
