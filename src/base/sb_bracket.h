/*
 * sb_bracket.h: as whom code runs: two brackets, and nothing else, change the role.
 *
 * RULES
 *   1. In the *extension owner's* bracket, and in a worker outside of any bracket, code is
 *      *elevated*. Nothing of a user's is resolved, planned or called there: no expression, cast,
 *      operator, aggregate, type's input or output function, index expression, trigger or check.
 *      Every name in SQL is qualified. A build with assertions refuses calls of functions outside
 *      pg_catalog and the extension (sb_bracket.c).
 *   2. User's code runs in the *pipeline owner's* bracket: as that role, in a security-restricted
 *      operation, with the settings of the pipeline.
 *   3. Brackets nest. What they have changed is undone at their end; an error that is caught is
 *      caught by a subtransaction, whose end undoes it.
 *
 * Both need a transaction.
 */
#ifndef SB_BRACKET_H
#define SB_BRACKET_H

#include "postgres.h"

/* What was before: on the caller's stack. */
typedef struct SbBracket
{
	Oid user; /* who was the current user */
	int context;
	int guc_level; /* settings that change from here on are undone */
} SbBracket;

/* Settings of a pipeline: name, value, name, value ... */
typedef struct SbSettings
{
	int n; /* names and values */
	char *const *texts;
} SbSettings;

/*
 * As the extension's owner: restricted, search_path = pg_catalog, pg_temp. Error 42501: the schemas
 * are not the extension's owner's.
 */
extern void sb_bracket_enter_extension(SbBracket *saved);
/*
 * As the owner of a pipeline: restricted. NULL: no settings but search_path = pg_catalog, pg_temp,
 * for SQL of our own.
 */
extern void sb_bracket_enter_owner(SbBracket *saved, Oid owner, const SbSettings *settings);
/* Ends either. */
extern void sb_bracket_leave(const SbBracket *saved);

extern bool sb_bracket_is_elevated(void);
/* Code of a pipeline's owner runs. */
extern bool sb_bracket_is_of_owner(void);

/* This process is a worker: it is elevated outside of brackets. */
extern void sb_bracket_begin_worker(void);
/*
 * Error 42501 where the schemas are not the extension's owner's: a worker asks once, before its
 * first SQL.
 */
extern void sb_bracket_check_schemas(void);

extern void sb_bracket_install(void);

#endif
