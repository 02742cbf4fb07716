/*
 * sb_definition.h: beam.definition, what of a pipeline survives a dump and restore.
 *
 * All functions want SPI connected and the rights of the extension's owner. Results are in the
 * current context.
 */
#ifndef SB_DEFINITION_H
#define SB_DEFINITION_H

#include "postgres.h"

#define SB_RESTORED_REASON \
	"it was restored from a dump: its result is as of the dump, its state is to be made from the source"

/* A definition without a pipeline: a dump was restored. */
typedef struct SbDefinition
{
	char *name;
	Oid owner; /* of the result table */
	Oid result, view;
} SbDefinition;

/* NULL: there is none of this name. Locked until the transaction ends. */
extern SbDefinition *sb_definition_find_restored(const char *name);
/* The one whose result table this is, or NULL. */
extern SbDefinition *sb_definition_find_restored_by_result(Oid result);
extern int sb_definition_count_restored(void);
/*
 * Makes it a row of beam.pipeline, which needs a resync for this reason, at no position, without a
 * state table; returns the id. The pipeline's source and its upstream (0: a table) are the
 * caller's.
 */
extern int32 sb_definition_adopt(const SbDefinition *definition, Oid source, int32 upstream,
                                 const char *reason);
extern void sb_definition_delete(const char *name);

#endif
