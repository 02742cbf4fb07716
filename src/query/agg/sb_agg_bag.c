/*
 * sb_agg_bag.c: rows that an aggregate retains, as bytes, and the executor over them.
 *
 * A row has the arguments and sort expressions. When a result is due that nothing cheaper knows,
 * the executor runs `SELECT agg(...) FROM bag` with the aggregate as it stood in the query. So
 * whatever PostgreSQL's Agg node can do is right here too; the price is an executor start for each
 * result. Constant arguments are left in the query, direct arguments that are group keys become its
 * parameters.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "query/agg/sb_agg_bag.h"
#include "tcop/dest.h"
#include "utils/builtins.h"
#include "utils/queryenvironment.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#define SB_BAG_NAME "bag"

/* ---- opening ---- */

/* Group keys in a direct argument become parameters, numbered like the keys. */
static Node *
bag_replace_keys(Node *node, void *context)
{
	SbQuery *query = context;

	if (node == NULL)
		return NULL;
	for (int i = 0; i < query->plan->nkeys; i++)
	{
		const SbKeyDef *key = &query->plan->keys[i];
		Param *param;

		if (IsA(node, Const) || !equal(node, key->expr))
			continue;
		param = makeNode(Param);
		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 1;
		param->paramtype = key->type;
		param->paramtypmod = key->typmod;
		param->paramcollid = key->collation;
		param->location = -1;
		return (Node *) param;
	}
	if (IsA(node, Var))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		     errmsg(
		         "a direct argument of an ordered-set aggregate may use only constants and group keys")));
	return expression_tree_mutator(node, bag_replace_keys, context);
}

/* The types, and what of the arguments goes into the bag. */
void
sb_bag_open_columns(SbAgg *agg, SbBagPlan *bag)
{
	ListCell *lc;
	int arg = 0;

	bag->args = palloc0(sizeof(int) * agg->nargs);
	foreach (lc, agg->aggref->args)
	{
		Expr *expr = lfirst_node(TargetEntry, lc)->expr;
		Oid type = exprType((Node *) expr);

		if (!IsA(expr, Const))
			bag->args[bag->ncolumns++] = arg;
		if (type == RECORDOID || type == RECORDARRAYOID)
			ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			                errmsg("aggregate %s cannot keep anonymous records in a pipeline",
			                       format_procedure(agg->aggref->aggfnoid)),
			                errhint("Cast the record to a named composite type.")));
		arg++;
	}
	bag->flat = palloc0(sizeof(Datum) * Max(bag->ncolumns, 1));
	bag->nulls = palloc0(sizeof(bool) * Max(bag->ncolumns, 1));
	/* a row is a row even where all of it is constant */
	bag->desc = CreateTemplateTupleDesc(Max(bag->ncolumns, 1));
	TupleDescInitEntry(bag->desc, 1, "always", BOOLOID, -1, 0);
	for (int i = 0; i < bag->ncolumns; i++)
	{
		Node *expr = (Node *) list_nth_node(TargetEntry, agg->aggref->args, bag->args[i])->expr;
		char name[NAMEDATALEN];

		snprintf(name, sizeof(name), "column%d", i + 1);
		TupleDescInitEntry(bag->desc, i + 1, name, exprType(expr), exprTypmod(expr), 0);
		TupleDescInitEntryCollation(bag->desc, i + 1, exprCollation(expr));
	}
}

/* The aggregate as it stands in the query, with its arguments taken from the bag. */
static Aggref *
bag_build_aggref(SbQuery *query, SbAgg *agg, SbBagPlan *bag)
{
	Aggref *aggref = copyObject(unconstify(Aggref *, agg->aggref));

	aggref->aggfilter = NULL; /* rows that do not pass are not in the bag */
	aggref->aggtranstype = InvalidOid;
	aggref->aggno = aggref->aggtransno = -1;
	aggref->aggdirectargs = (List *) bag_replace_keys((Node *) aggref->aggdirectargs, query);
	for (int i = 0; i < bag->ncolumns; i++)
	{
		TargetEntry *entry = list_nth_node(TargetEntry, aggref->args, bag->args[i]);
		Node *expr = (Node *) entry->expr;

		entry->expr =
		    (Expr *) makeVar(1, i + 1, exprType(expr), exprTypmod(expr), exprCollation(expr), 0);
	}
	return aggref;
}

/* The bag in FROM. There is no tuplestore yet: each execution brings its own, under that name. */
static RangeTblEntry *
bag_build_rte(TupleDesc desc)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->enrname = SB_BAG_NAME;
	rte->enrtuples = 100;
	rte->inFromCl = true;
	rte->eref = makeAlias(SB_BAG_NAME, NIL);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		rte->eref->colnames =
		    lappend(rte->eref->colnames, makeString(pstrdup(NameStr(att->attname))));
		rte->coltypes = lappend_oid(rte->coltypes, att->atttypid);
		rte->coltypmods = lappend_int(rte->coltypmods, att->atttypmod);
		rte->colcollations = lappend_oid(rte->colcollations, att->attcollation);
	}
	return rte;
}

static Query *
bag_build_query(Aggref *aggref, TupleDesc desc)
{
	Query *query = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = 1;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->hasAggs = true;
	query->rtable = list_make1(bag_build_rte(desc));
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	query->targetList = list_make1(makeTargetEntry((Expr *) aggref, 1, "result", false));
	return query;
}

/* Makes sure of an active snapshot; true: the caller is to pop it. */
static bool
bag_push_snapshot(void)
{
	if (ActiveSnapshotSet())
		return false;
	PushActiveSnapshot(GetTransactionSnapshot());
	return true;
}

void
sb_bag_open_plan(SbQuery *query, SbAgg *agg, SbBagPlan *bag)
{
	MemoryContext old;
	PlannedStmt *plan;
	bool pop;

	/* the planner leaves much behind */
	old = MemoryContextSwitchTo(query->scratch);
	pop = bag_push_snapshot();
	plan = planner(bag_build_query(bag_build_aggref(query, agg, bag), bag->desc), "", 0, NULL);
	if (pop)
		PopActiveSnapshot();
	MemoryContextSwitchTo(old);
	bag->plan = copyObject(plan);
	MemoryContextReset(query->scratch);
}

/* ---- rows as bytes ---- */

Size
sb_bag_measure(SbAgg *agg, SbBagPlan *plan)
{
	Size size = (plan->ncolumns + 7) / 8;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		const NullableDatum *value = &agg->values[plan->args[i]];
		const SbType *type = &agg->arg_types[plan->args[i]];

		if (value->isnull)
			continue;
		plan->flat[i] = sb_datum_flatten(type, value->value);
		size += sb_datum_size(type, plan->flat[i]);
	}
	return size;
}

void
sb_bag_write(SbAgg *agg, SbBagPlan *plan, char *nulls)
{
	Size bitmap = (plan->ncolumns + 7) / 8;
	char *to = nulls + bitmap;

	memset(nulls, 0, bitmap);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (agg->values[plan->args[i]].isnull)
			nulls[i / 8] |= 1 << (i % 8);
		else
			to = sb_datum_write(&agg->arg_types[plan->args[i]], plan->flat[i], to);
	}
}

void
sb_bag_read(const SbAgg *agg, SbBagPlan *plan, const char **data, const char *end)
{
	const char *nulls = sb_bytes_take(data, end, (plan->ncolumns + 7) / 8);

	for (int i = 0; i < plan->ncolumns; i++)
	{
		plan->nulls[i] = (nulls[i / 8] & (1 << (i % 8))) != 0;
		plan->flat[i] =
		    plan->nulls[i] ? (Datum) 0 : sb_datum_read(&agg->arg_types[plan->args[i]], data, end);
	}
}

void
sb_bag_skip(const SbAgg *agg, const SbBagPlan *plan, const char **data, const char *end)
{
	const char *nulls = sb_bytes_take(data, end, (plan->ncolumns + 7) / 8);

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if ((nulls[i / 8] & (1 << (i % 8))) == 0)
			sb_datum_skip(&agg->arg_types[plan->args[i]], data, end);
	}
}

void
sb_bag_check_rows(const SbAgg *agg, const SbBagPlan *plan, int64 rows, const char *data,
                  const char *end, bool nulls)
{
	/* rows of constants only have no bytes */
	if (rows <= 0 || (plan->ncolumns > 0 && rows > end - data))
		sb_bytes_corrupted("A bag has more rows than it has bytes for.");
	for (int64 n = 0; n < rows && plan->ncolumns > 0; n++)
	{
		if (!nulls && data < end && *data != 0)
			sb_bytes_corrupted("A bag has a null where none can be.");
		sb_bag_skip(agg, plan, &data, end);
	}
	if (data != end)
		sb_bytes_corrupted("A bag has bytes behind its rows.");
}

void
sb_bag_full(const SbAgg *agg)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
	     errmsg("aggregate %s has too many values in one window",
	            format_procedure(agg->aggref->aggfnoid)),
	     errdetail("This aggregate keeps all its inputs, at most %zu MB for each group and window.",
	               SB_BAG_MAX_SIZE / (1024 * 1024)),
	     errhint(
	         "Use smaller windows or more group keys, or an aggregate without DISTINCT and ORDER BY.")));
}

/* ---- results ---- */

/* Takes the single value of the single row. */
typedef struct SbBagReceiver
{
	DestReceiver base;
	MemoryContext context;
	Datum value;
	bool isnull;
	SbType type;
} SbBagReceiver;

static bool
bag_receive(TupleTableSlot *slot, DestReceiver *self)
{
	SbBagReceiver *receiver = (SbBagReceiver *) self;

	receiver->value = slot_getattr(slot, 1, &receiver->isnull);
	if (!receiver->isnull)
		receiver->value = sb_datum_copy(&receiver->type, receiver->value, receiver->context);
	return true;
}

static void
bag_receive_start(DestReceiver *self, int operation, TupleDesc desc)
{
}

static void
bag_receive_end(DestReceiver *self)
{
}

void
sb_bag_put(SbAgg *agg, SbBagPlan *plan, Tuplestorestate *store, const char *data, uint32 size)
{
	Datum always = BoolGetDatum(true);
	bool not_null = false;

	if (plan->ncolumns == 0)
	{
		tuplestore_putvalues(store, plan->desc, &always, &not_null);
		return;
	}
	sb_bag_read(agg, plan, &data, data + size);
	tuplestore_putvalues(store, plan->desc, plan->flat, plan->nulls);
}

/* The group's keys, for direct arguments. */
static ParamListInfo
bag_params(const SbQuery *query)
{
	ParamListInfo params = makeParamList(query->plan->nkeys);

	for (int i = 0; i < query->plan->nkeys; i++)
	{
		params->params[i].value = query->out_keys[i];
		params->params[i].isnull = query->out_key_nulls[i];
		params->params[i].pflags = 0;
		params->params[i].ptype = query->plan->keys[i].type;
	}
	return params;
}

/* The plan was made once, for any bag; `dest` gets its only row. */
static void
bag_execute(SbQuery *query, SbBagPlan *plan, Tuplestorestate *store, DestReceiver *dest)
{
	EphemeralNamedRelationData relation = {
	    .md = {.name = SB_BAG_NAME, .tupdesc = plan->desc, .enrtype = ENR_NAMED_TUPLESTORE},
	    .reldata = store,
	};
	QueryEnvironment *environment = create_queryEnv();
	bool pop = bag_push_snapshot();
	QueryDesc *desc;

	register_ENR(environment, &relation);
	desc = CreateQueryDesc(plan->plan, "stream_beam: aggregate over a bag", GetActiveSnapshot(),
	                       InvalidSnapshot, dest, bag_params(query), environment, 0);
	ExecutorStart(desc, 0);
	sb_executor_run(desc, 0);
	ExecutorFinish(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	if (pop)
		PopActiveSnapshot();
}

Datum
sb_bag_run(SbQuery *query, SbAgg *agg, SbBagPlan *plan, SbBagUnpack unpack, SbItems *items,
           bool *isnull)
{
	SbBagReceiver receiver = {
	    .base = {bag_receive, bag_receive_start, bag_receive_end, bag_receive_end, DestNone},
	    .context = CurrentMemoryContext,
	    .isnull = true,
	};
	MemoryContext run = AllocSetContextCreate(CurrentMemoryContext, "stream_beam bag result",
	                                          ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(run);
	Tuplestorestate *store = unpack(query, agg, items);

	sb_type_init(&receiver.type, agg->aggref->aggtype);
	bag_execute(query, plan, store, &receiver.base);
	tuplestore_end(store);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(run);
	*isnull = receiver.isnull;
	return receiver.value;
}
