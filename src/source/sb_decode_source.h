/*
 * sb_decode_source.h: which sources the rows of a relation belong to, and as what they are sent.
 *
 * A row of a table belongs to the table itself and to each partitioned table that it is a partition
 * of, directly or not, as far as they are sources. For an ancestor the row is brought into the
 * ancestor's own order of columns. Reader only, under historic snapshots: what is asked here is
 * answered as of the row's time.
 */
#ifndef SB_DECODE_SOURCE_H
#define SB_DECODE_SOURCE_H

#include "postgres.h"
#include "access/tupconvert.h"
#include "utils/rel.h"

/* A source that rows of a relation are rows of. */
typedef struct SbTarget
{
	Oid source;
	uint32 layout;           /* 0: the consumer has not been told */
	TupleDesc desc;          /* of the rows that are sent */
	bool *in_old;            /* of each attribute: do old tuples have it? */
	TupleConversionMap *map; /* from the relation's rows to those; NULL: they are the same */
} SbTarget;

typedef struct SbSourceRel
{
	Oid relation;          /* hash key */
	bool valid;            /* false: ask again */
	bool ancestor;         /* some other entry was made with it: with it all entries are invalid */
	MemoryContext context; /* of the targets; NULL: there are none */
	int ntargets;          /* 0: its rows are not wanted */
	SbTarget *targets;
	List *others; /* of Oid: the relation and its ancestors, as far as they are not sources */
} SbSourceRel;

/* `wanted`: is this relation a source. Asked again after sb_source_rels_invalidate(). */
extern void sb_source_rels_init(bool (*wanted)(Oid relation));
extern void sb_source_rels_invalidate(void);
/* The consumer knows no layouts any more. */
extern void sb_source_rels_forget_layouts(void);
/* The entry of a relation, brought up to date; good until the next invalidation. */
extern SbSourceRel *sb_source_rel(Relation relation);
/* Is it known that a relation's rows are not wanted? Without a look into the catalog. */
extern bool sb_source_rel_unwanted(Oid relation);

#endif
