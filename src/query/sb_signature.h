/*
 * sb_signature.h: with which types and functions the bytes of a pipeline's state were written.
 *
 * Keys, accumulators, elements and emitted rows are bytes in memory format. They can be read only
 * as what they were written as: the same types, laid out alike, the same aggregates with the same
 * functions. So a pipeline's row keeps its signature, a text for each of these, and a pipeline
 * whose query has another one by now is not opened.
 */
#ifndef SB_SIGNATURE_H
#define SB_SIGNATURE_H

#include "postgres.h"
#include "query/sb_query.h"

typedef struct SbSignature
{
	int n;
	char **texts;
	/*
	 * OIDs of the relations whose row types are in it: when one is altered, it has to be looked at
	 * again
	 */
	List *row_types;
} SbSignature;

/* Of an open query, in the current context. Names are not in it: renaming changes no bytes. */
extern SbSignature *sb_signature_of(const SbQuery *query);
/* Does it differ from what was kept in more than what identifies a row? */
extern bool sb_signature_has_other_types(const SbQuery *query, const SbSignature *now, int n,
                                         char *const *texts);
/* Error 42804, that names what is not as it was. */
extern void sb_signature_check(const SbQuery *query, const SbSignature *now, int n,
                               char *const *texts, const char *pipeline);

/*
 * Of a query without groups: the rows of a result are identified as they were when its state was
 * written, where they still can be, also if the source has got a primary key since.
 */
extern void sb_signature_fix_identity(SbPlan *plan, int n, char *const *texts);
/*
 * ... also if it has lost its primary key: of a plan that only says what the result looks like, and
 * is not run.
 */
extern void sb_signature_restore_identity(SbPlan *plan, int n, char *const *texts);

#endif
