/*
 * sb_json.h: rows as JSON, for letters, tests and comparisons.
 *
 * As to_json() writes them, but that no cast to json is looked for: a user may have made one. Types
 * have output functions all the same: to be called in the bracket of a pipeline's owner, or as the
 * caller.
 */
#ifndef SB_JSON_H
#define SB_JSON_H

#include "postgres.h"
#include "access/tupdesc.h"
#include "nodes/bitmapset.h"

/* The columns of a row that are not dropped, as JSON text, in the current context. */
extern char *sb_json_of_row(TupleDesc desc, const Datum *values, const bool *nulls);
/* Those with these numbers only, with the names that they have in another description. */
extern char *sb_json_of_columns(TupleDesc desc, const Datum *values, const bool *nulls,
                                const Bitmapset *columns, TupleDesc names);

#endif
