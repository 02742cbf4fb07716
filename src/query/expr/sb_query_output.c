/*
 * sb_query_output.c: the result row of a pane: final functions, HAVING, the select list.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/bitmapset.h"
#include "optimizer/optimizer.h"
#include "query/sb_query_private.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The row that output expressions are computed from: its columns are numbered as in SB_OUT_*. */
static TupleDesc
output_desc(const SbPlan *plan)
{
	static const Oid fixed[] = {TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID,
	                            INT8OID,        BOOLOID,        TIMESTAMPTZOID};
	TupleDesc desc = CreateTemplateTupleDesc(SB_OUT_FIRST_KEY - 1 + plan->nkeys + plan->naggs);
	AttrNumber attno = 1;

	for (int i = 0; i < lengthof(fixed); i++)
		TupleDescInitEntry(desc, attno++, NULL, fixed[i], -1, 0);
	for (int i = 0; i < plan->nkeys; i++)
	{
		TupleDescInitEntry(desc, attno, NULL, plan->keys[i].type, plan->keys[i].typmod, 0);
		TupleDescInitEntryCollation(desc, attno++, plan->keys[i].collation);
	}
	for (int i = 0; i < plan->naggs; i++)
	{
		TupleDescInitEntry(desc, attno, NULL, plan->aggs[i]->aggtype, -1, 0);
		TupleDescInitEntryCollation(desc, attno++, plan->aggs[i]->aggcollid);
	}
	return desc;
}

static bool
output_reads_pane(const SbPlan *plan)
{
	Bitmapset *attnos = NULL;
	bool found = false;

	for (int i = 0; i < plan->ncolumns; i++)
		pull_varattnos((Node *) plan->columns_out[i].expr, 1, &attnos);
	pull_varattnos((Node *) plan->having, 1, &attnos);
	for (int attno = SB_OUT_PANE_TIMING; attno <= SB_OUT_PANE_TIMESTAMP; attno++)
		found |= bms_is_member(attno - FirstLowInvalidHeapAttributeNumber, attnos);
	bms_free(attnos);
	return found;
}

void
sb_query_open_output(SbQuery *query)
{
	const SbPlan *plan = query->plan;

	query->out_slot = MakeSingleTupleTableSlot(output_desc(plan), &TTSOpsVirtual);
	query->out_econtext = CreateStandaloneExprContext();
	query->out_econtext->ecxt_scantuple = query->out_slot;
	query->having = ExecInitQual(plan->having, NULL);
	query->columns = palloc0(sizeof(ExprState *) * plan->ncolumns);
	for (int i = 0; i < plan->ncolumns; i++)
		query->columns[i] = ExecInitExpr(plan->columns_out[i].expr, NULL);
	query->timing[SB_PANE_EARLY] = CStringGetTextDatum("EARLY");
	query->timing[SB_PANE_ON_TIME] = CStringGetTextDatum("ON_TIME");
	query->timing[SB_PANE_LATE] = CStringGetTextDatum("LATE");
	query->uses_pane = output_reads_pane(plan);
}

bool
sb_query_uses_pane(const SbQuery *query)
{
	return query->uses_pane;
}

/* Keys as one of the rows that are left in the group has them. */
static void
output_spell_keys(SbQuery *query, int first_agg)
{
	const SbPlan *plan = query->plan;
	TupleTableSlot *slot = query->out_slot;

	for (int i = 0; i < plan->nspelled; i++)
	{
		int agg = first_agg + plan->naggs - plan->nspelled + i;

		if (!slot->tts_isnull[agg])
			slot->tts_values[SB_OUT_FIRST_KEY - 1 + plan->spelled[i]] = slot->tts_values[agg];
	}
}

/*
 * The pane's row goes into the slot. Final functions are called here, in the result row's memory.
 */
static void
output_fill(SbQuery *query, SbWindow window, const SbPane *pane, SbAcc *accs)
{
	TupleTableSlot *slot = query->out_slot;
	int first_agg = SB_OUT_FIRST_KEY - 1 + query->plan->nkeys;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, 0, SB_OUT_FIRST_KEY - 1);
	slot->tts_values[SB_OUT_WINDOW_START - 1] = TimestampTzGetDatum(window.start);
	slot->tts_values[SB_OUT_WINDOW_END - 1] = TimestampTzGetDatum(window.end);
	slot->tts_values[SB_OUT_PANE_TIMING - 1] = query->timing[pane->timing];
	slot->tts_values[SB_OUT_PANE_INDEX - 1] = Int64GetDatum(pane->index);
	slot->tts_values[SB_OUT_IS_LAST_PANE - 1] = BoolGetDatum(pane->is_last);
	slot->tts_values[SB_OUT_PANE_TIMESTAMP - 1] = TimestampTzGetDatum(pane->timestamp);
	for (int i = 0; i < query->plan->nkeys; i++)
	{
		slot->tts_values[SB_OUT_FIRST_KEY - 1 + i] = query->out_keys[i];
		slot->tts_isnull[SB_OUT_FIRST_KEY - 1 + i] = query->out_key_nulls[i];
	}
	for (int i = 0; i < query->plan->naggs; i++)
		slot->tts_values[first_agg + i] =
		    sb_agg_result(query, i, &accs[i], &slot->tts_isnull[first_agg + i]);
	output_spell_keys(query, first_agg);
	ExecStoreVirtualTuple(slot);
}

bool
sb_query_output(SbQuery *query, SbWindow window, const SbPane *pane, const Datum *keys,
                const bool *key_nulls, SbAcc *accs, Datum *values, bool *nulls)
{
	MemoryContext old;
	bool pass;

	MemoryContextReset(query->out);
	ResetExprContext(query->out_econtext);
	old = MemoryContextSwitchTo(query->out);
	query->out_keys = keys;
	query->out_key_nulls = key_nulls;
	output_fill(query, window, pane, accs);
	pass = ExecQual(query->having, query->out_econtext);
	for (int i = 0; pass && i < query->plan->ncolumns; i++)
		values[i] = ExecEvalExprSwitchContext(query->columns[i], query->out_econtext, &nulls[i]);
	MemoryContextSwitchTo(old);
	return pass;
}

bool
sb_query_output_empty(SbQuery *query, Datum *values, bool *nulls)
{
	SbAcc *accs = palloc0(sizeof(SbAcc) * (query->plan->naggs + 1));
	SbWindow global = {.start = SB_TIME_MIN, .end = SB_TIME_MAX};
	SbPane pane = {.timing = SB_PANE_ON_TIME,
	               .is_last = true,
	               .is_first = true,
	               .timestamp = SB_TIME_MAX};

	sb_query_acc_init(query, accs);
	return sb_query_output(query, global, &pane, NULL, NULL, accs, values, nulls);
}
