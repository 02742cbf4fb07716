/*
 * sb_decode_source.c: which sources the rows of a relation belong to; see sb_decode_source.h.
 *
 * STATE. One hash of relations, in the reader's memory. An entry is made again after a relcache
 * invalidation for its relation, for a partitioned table above it, and when the set of sources has
 * changed. Where the new one means the same to the consumer it retains its layout's id, so that the
 * consumer learns a layout only when there is something new in it.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "base/sb_compat.h"
#include "catalog/partition.h"
#include "source/sb_decode_source.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

static bool (*is_wanted)(Oid relation);
static HTAB *relations = NULL;
static SbSourceRel *last_relation = NULL; /* rows of one relation come in runs; valid */
static uint64 invalidations;

void
sb_source_rels_invalidate(void)
{
	HASH_SEQ_STATUS scan;
	SbSourceRel *rel;

	last_relation = NULL;
	invalidations++;
	hash_seq_init(&scan, relations);
	while ((rel = hash_seq_search(&scan)) != NULL)
		rel->valid = false;
}

static void
source_invalidated(Datum arg, Oid relation)
{
	SbSourceRel *rel =
	    OidIsValid(relation) ? hash_search(relations, &relation, HASH_FIND, NULL) : NULL;

	last_relation = NULL;
	invalidations++;
	if (!OidIsValid(relation) || (rel && rel->ancestor))
		sb_source_rels_invalidate();
	else if (rel)
		rel->valid = false;
}

void
sb_source_rels_init(bool (*wanted)(Oid relation))
{
	HASHCTL ctl = {.keysize = sizeof(Oid),
	               .entrysize = sizeof(SbSourceRel),
	               .hcxt = TopMemoryContext};

	is_wanted = wanted;
	relations = hash_create("stream_beam sources", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(source_invalidated, (Datum) 0);
}

void
sb_source_rels_forget_layouts(void)
{
	HASH_SEQ_STATUS scan;
	SbSourceRel *rel;

	sb_source_rels_invalidate();
	hash_seq_init(&scan, relations);
	while ((rel = hash_seq_search(&scan)) != NULL)
	{
		for (int i = 0; i < rel->ntargets; i++)
			rel->targets[i].layout = 0;
	}
}

static SbSourceRel *
source_entry(Oid relation)
{
	bool found;
	SbSourceRel *rel = hash_search(relations, &relation, HASH_ENTER, &found);

	if (!found)
		*rel = (SbSourceRel){.relation = relation};
	return rel;
}

/* Can rows go on with the layout that was sent for the other? */
static bool
source_same_layout(const SbTarget *one, const SbTarget *other)
{
	TupleDesc a = one->desc;
	TupleDesc b = other->desc;

	if (a->natts != b->natts || memcmp(one->in_old, other->in_old, sizeof(bool) * a->natts) != 0)
		return false;
	for (int i = 0; i < a->natts; i++)
	{
		Form_pg_attribute x = TupleDescAttr(a, i);
		Form_pg_attribute y = TupleDescAttr(b, i);

		if (x->atttypid != y->atttypid || x->atttypmod != y->atttypmod || x->attlen != y->attlen ||
		    x->attbyval != y->attbyval || x->attalign != y->attalign ||
		    x->attisdropped != y->attisdropped)
			return false;
	}
	return true;
}

/*
 * Says of each column of a target whether old tuples have it: by the replica identity of the
 * relation that has the rows.
 */
static void
source_mark_identity(SbTarget *target, Relation relation)
{
	bool full = relation->rd_rel->relreplident == REPLICA_IDENTITY_FULL;
	Bitmapset *identity = full ? NULL : RelationGetIdentityKeyBitmap(relation);

	target->in_old = palloc(sizeof(bool) * (target->desc->natts + 1));
	for (int i = 0; i < target->desc->natts; i++)
	{
		AttrNumber attno = target->map ? target->map->attrMap->attnums[i] : i + 1;

		target->in_old[i] =
		    full || bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, identity);
	}
}

/*
 * In the current context. Tuples are complete when they come here: that a column was added with a
 * default makes no conversion.
 */
static void
source_make_target(SbTarget *target, Oid source, Relation relation)
{
	Relation ancestor = RelationIdGetRelation(source);

	if (!RelationIsValid(ancestor))
		elog(ERROR, "could not open relation %u", source);
	*target = (SbTarget){.source = source, .desc = CreateTupleDescCopy(RelationGetDescr(ancestor))};
	RelationClose(ancestor);
	target->map =
	    convert_tuples_by_name(CreateTupleDescCopy(RelationGetDescr(relation)), target->desc);
	if (target->map == NULL)
		target->desc = CreateTupleDescCopy(RelationGetDescr(relation));
	source_mark_identity(target, relation);
}

static void
source_retain_layouts(SbSourceRel *rel, int nold, const SbTarget *old)
{
	for (int i = 0; i < rel->ntargets; i++)
	{
		for (int j = 0; j < nold; j++)
		{
			if (rel->targets[i].source == old[j].source &&
			    source_same_layout(&rel->targets[i], &old[j]))
				rel->targets[i].layout = old[j].layout;
		}
	}
}

/*
 * An error on the way leaves the entry as it was, invalid; an invalidation on the way leaves the
 * new one invalid.
 */
static void
source_refresh(SbSourceRel *rel, Relation relation)
{
	MemoryContext context =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam source", ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	List *sources = relation->rd_rel->relispartition ? get_partition_ancestors(rel->relation) : NIL;
	MemoryContext old_context = rel->context;
	SbTarget *old_targets = rel->targets;
	int nold = rel->ntargets;
	uint64 before = invalidations;
	SbTarget *targets;
	int ntargets = 0;
	List *others = NIL;
	ListCell *lc;

	foreach (lc, sources)
		source_entry(lfirst_oid(lc))->ancestor = true;
	sources = lcons_oid(rel->relation, sources);
	targets = palloc(sizeof(SbTarget) * list_length(sources));
	foreach (lc, sources)
	{
		if (is_wanted(lfirst_oid(lc)))
			source_make_target(&targets[ntargets++], lfirst_oid(lc), relation);
		else
			others = lappend_oid(others, lfirst_oid(lc));
	}
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	rel->targets = targets;
	rel->ntargets = ntargets;
	rel->others = others;
	rel->context = context;
	source_retain_layouts(rel, nold, old_targets);
	if (old_context)
		MemoryContextDelete(old_context);
	rel->valid = before == invalidations;
}

SbSourceRel *
sb_source_rel(Relation relation)
{
	Oid oid = RelationGetRelid(relation);
	SbSourceRel *rel = last_relation;

	if (rel && rel->relation == oid)
		return rel;
	rel = source_entry(oid);
	if (!rel->valid)
		source_refresh(rel, relation);
	if (rel->valid)
		last_relation = rel;
	return rel;
}

bool
sb_source_rel_unwanted(Oid relation)
{
	return last_relation && last_relation->relation == relation && last_relation->ntargets == 0;
}
