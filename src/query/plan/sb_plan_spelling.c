/*
 * sb_plan_spelling.c: keys that equal rows may write in different ways.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "query/plan/sb_plan.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

static bool spelling_is_one(Oid type, Oid collation);

static bool
spelling_is_one_of_row(Oid type)
{
	TupleDesc desc = lookup_rowtype_tupdesc_domain(type, -1, false);
	bool one = true;

	for (int i = 0; i < desc->natts && one; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		one = att->attisdropped || spelling_is_one(att->atttypid, att->attcollation);
	}
	ReleaseTupleDesc(desc);
	return one;
}

/*
 * Are equal values of the type the same to the bit? An index that stores equal ones once asks its
 * operator class; of what is made of other types it is asked for these.
 */
static bool
spelling_is_one(Oid type, Oid collation)
{
	Oid base = getBaseType(type);
	Oid inner, class, proc;

	check_stack_depth();
	if (OidIsValid(inner = get_element_type(base)) || OidIsValid(inner = get_range_subtype(base)) ||
	    OidIsValid(inner = get_multirange_range(base)))
		return spelling_is_one(inner, OidIsValid(collation) ? collation : get_typcollation(inner));
	if (type_is_rowtype(base))
		return base != RECORDOID && spelling_is_one_of_row(base);
	class = GetDefaultOpClass(base, BTREE_AM_OID);
	if (!OidIsValid(class))
		return false;
	proc = get_opfamily_proc(get_opclass_family(class), get_opclass_input_type(class),
	                         get_opclass_input_type(class), BTEQUALIMAGE_PROC);
	return OidIsValid(proc) &&
	       DatumGetBool(OidFunctionCall1Coll(proc, collation, ObjectIdGetDatum(base)));
}

/* What stands for the key among the aggregates: only its argument and its type count. */
static Aggref *
spelling_aggref(const SbKeyDef *key)
{
	Aggref *aggref = makeNode(Aggref);

	aggref->aggfnoid = F_COUNT_ANY;
	aggref->aggtype = key->type;
	aggref->aggcollid = aggref->inputcollid = key->collation;
	aggref->aggtranstype = INT8OID;
	aggref->aggargtypes = list_make1_oid(key->type);
	aggref->args = list_make1(makeTargetEntry(copyObject(key->expr), 1, NULL, false));
	aggref->aggkind = AGGKIND_NORMAL;
	aggref->location = -1;
	return aggref;
}

/* In the plan's memory: it is opened with them. */
static void
spell_keys(SbPlan *plan)
{
	plan->spelled = palloc(sizeof(int) * plan->nkeys);
	for (int i = 0; i < plan->nkeys; i++)
	{
		if (!spelling_is_one(plan->keys[i].type, plan->keys[i].collation))
			plan->spelled[plan->nspelled++] = i;
	}
	if (plan->nspelled == 0)
		return;
	plan->aggs = repalloc(plan->aggs, sizeof(Aggref *) * (plan->naggs + plan->nspelled));
	for (int i = 0; i < plan->nspelled; i++)
		plan->aggs[plan->naggs++] = spelling_aggref(&plan->keys[plan->spelled[i]]);
}

void
sb_plan_spell_keys(SbPlan *plan, bool retractable)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(plan));

	plan->naggs -= plan->nspelled;
	plan->nspelled = 0;
	if (retractable && !plan->maps && plan->nkeys > 0)
		spell_keys(plan);
	MemoryContextSwitchTo(old);
}
