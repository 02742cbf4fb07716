/*
 * sb_agg_generic.h: the catalog's functions of an aggregate, for the methods that call them
 * (sb_agg_generic.c, sb_agg_inverse.c).
 */
#ifndef SB_AGG_GENERIC_H
#define SB_AGG_GENERIC_H

#include "postgres.h"
#include "nodes/execnodes.h"
#include "query/sb_query_private.h"

/* One of the aggregate's functions, ready to be called. */
typedef struct SbCall
{
	FmgrInfo flinfo;
	FunctionCallInfo fcinfo; /* NULL: the aggregate has no such function */
} SbCall;

typedef struct SbTransition
{
	SbType type; /* of the state; internal counts as by value */
	bool internal;
	Datum init;
	bool init_isnull;
	char final_modify; /* AGGMODIFY_* */
	SbCall trans, combine, serial, deserial, final;
	AggState *state;        /* what the functions are told they run in */
	MemoryContext *context; /* what they take for the aggregate's context */
} SbTransition;

extern void sb_call_open(SbQuery *query, SbTransition *t, SbCall *call, Oid function, int nargs,
                         Oid collation, Expr *expr);
/* Bytes to a state that other functions of the aggregate may read, in the current context. */
extern Datum sb_transition_deserialize(SbTransition *t, Datum bytes);
/* Bytes to a state that the transition function may go on with, in *t->context. */
extern Datum sb_transition_revive(SbTransition *t, Datum bytes);
/* An internal state to bytea, in the current context. */
extern Datum sb_transition_serialize(SbTransition *t, Datum state);
/*
 * Calls the final function, which the aggregate must have; *isnull is the state's, then the
 * result's.
 */
extern Datum sb_transition_final(SbTransition *t, Datum value, bool *isnull);
/* A parked accumulator's bytes. */
extern void sb_serialized_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out);
extern void sb_serialized_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data,
                                 const char *end);

#endif
