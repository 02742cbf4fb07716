/*
 * sb_version_swap.c: the next version of a pipeline takes the place of the current one; see
 * sb_version.h.
 *
 * One transaction, between two bundles, with both at the same position. The result table stays the
 * relation that it is: its rows go to a new side table of the old version (or nowhere, if that one
 * is not kept) and those of the new version come in, by DELETE and INSERT (of an accumulating
 * result of the same shape: of those that differ), so that a query sees the old rows or the new
 * ones, whatever its snapshot. What the cells know of the result (that a row of theirs is in it)
 * stays true, since the rows move with the version.
 *
 * Those of downstream pipelines that follow it (sb_version_tree.c) take their places in the same
 * transaction.
 *
 * LOCKING. Queries of the result are in the way only where its columns or its index change. Nobody
 * is waited for longer than SB_SWAP_LOCK_MS, since whoever queues behind us, and all pipelines,
 * wait as well: the runner tries again later.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/sb_error.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/sb_command_row.h"
#include "catalog/sb_lock.h"
#include "catalog/sb_pipeline_names.h"
#include "catalog/sb_view.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"
#include "worker/sb_at_commit.h"

#define SB_SWAP_LOCK_MS "200"

typedef struct SbSwap
{
	SbPipeline *building, *current;
	SbPipelineRow *next, *before; /* as locked */
	List *versions;               /* all, these two among them */
	const SbPlan *next_plan;
	const SbPlan *before_plan; /* NULL: it cannot be had any more, and the version is not kept */
	bool keep;
	Oid result; /* the table that stays */
	char *table;
	char *alter; /* NULL: its columns stay as they are */
	bool index;  /* its index changes */
} SbSwap;

static void
swap_run_as_owner(const SbSwap *swap, const char *sql)
{
	SbBracket saved;

	sb_bracket_enter_owner(&saved, swap->next->owner, NULL);
	sb_version_run(sql, 0, NULL, NULL);
	sb_bracket_leave(&saved);
}

/*
 * Rows are moved as bundles write them: a trigger of the user's sees the settings of the pipeline.
 * The names are qualified.
 */
static void
swap_move(const SbSwap *swap, const char *sql)
{
	SbBracket saved;

	sb_pipeline_as_owner(swap->building, &saved);
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	sb_bracket_leave(&saved);
}

/* ---- the table ---- */

static const char *
swap_index_sql(const SbPlan *plan, const SbPipelineRow *row)
{
	char *sql = sb_result_index_sql(plan, "t", sb_accumulation_of_name(row->accumulation), false);

	return sql ? sql : "";
}

/* Is there an index by the hash of what identifies a row? */
static bool
swap_is_by_hash(const SbPlan *plan, const SbPipelineRow *row)
{
	SbAccumulation accumulation = sb_accumulation_of_name(row->accumulation);

	return OidIsValid(sb_result_find_index(plan, row->result, accumulation, true));
}

/* The index that a version has on the table, of either kind. */
static void
swap_drop_index(const SbSwap *swap, const SbPlan *plan, const SbPipelineRow *row, bool by_hash)
{
	sb_result_drop_index(sb_result_find_index(plan, swap->result,
	                                          sb_accumulation_of_name(row->accumulation), by_hash),
	                     swap->next->owner);
}

/* The one that the next version has on its own, instead of what is there. */
static void
swap_change_index(const SbSwap *swap)
{
	SbAccumulation accumulation = sb_accumulation_of_name(swap->next->accumulation);
	bool by_hash = swap_is_by_hash(swap->next_plan, swap->next);

	swap_drop_index(swap, swap->next_plan, swap->next, !by_hash);
	/* it may have gone with a column */
	if (sb_result_index_sql(swap->next_plan, "t", accumulation, by_hash) &&
	    !OidIsValid(sb_result_find_index(swap->next_plan, swap->result, accumulation, by_hash)))
		sb_result_make_index(swap->next_plan, swap->result, accumulation, by_hash,
		                     swap->next->owner);
}

/* Empty, the table gets the columns, the index and the storage that the next version wants. */
static void
swap_reshape(const SbSwap *swap)
{
	SbAccumulation accumulation = sb_accumulation_of_name(swap->next->accumulation);
	bool updated = sb_result_is_updated(swap->next_plan, accumulation);
	bool strict = sb_result_is_strict(swap->result);

	if (swap->index && strict)
		sb_result_loosen(swap->result, swap->next->owner);
	if (swap->index && swap->before_plan)
	{
		swap_drop_index(swap, swap->before_plan, swap->before, false);
		swap_drop_index(swap, swap->before_plan, swap->before, true);
	}
	if (swap->alter)
		swap_run_as_owner(swap, swap->alter);
	if (swap->before_plan == NULL ||
	    updated != sb_result_is_updated(swap->before_plan,
	                                    sb_accumulation_of_name(swap->before->accumulation)))
		swap_run_as_owner(swap, psprintf("ALTER TABLE %s %s", swap->table,
		                                 updated ? "SET (fillfactor = 70)" : "RESET (fillfactor)"));
	swap_change_index(swap);
	/* what a user has chosen for its replica identity stays */
	if (swap->index && strict && sb_result_is_strict(swap->next->result))
		sb_result_make_strict(swap->next_plan, swap->result, swap->next->owner);
	else if (swap->index)
		sb_result_identify(swap->next_plan, swap->result, accumulation, swap->next->owner);
}

/* The rows of the version that goes, to a side table of its own. */
static void
swap_put_aside(SbSwap *swap)
{
	SbAccumulation accumulation = sb_accumulation_of_name(swap->before->accumulation);
	Oid namespace = get_rel_namespace(swap->result);
	char *name = sb_version_table_name(swap->before, namespace);
	char *side = quote_qualified_identifier(get_namespace_name(namespace), name);

	swap_run_as_owner(swap, sb_result_table_sql(swap->before_plan, side, accumulation));
	swap->before->result = get_relname_relid(name, namespace);
	sb_result_identify(swap->before_plan, swap->before->result, accumulation, swap->next->owner);
	if (OidIsValid(sb_result_find_index(swap->before_plan, swap->result, accumulation, true)))
		sb_result_index_by_hash(swap->before_plan, swap->before->result, accumulation,
		                        swap->next->owner);
	swap_move(swap, sb_result_copy_sql(swap->before_plan, swap->table, side, accumulation));
}

static void
swap_drop(Oid relation)
{
	ObjectAddress address;

	ObjectAddressSet(address, RelationRelationId, relation);
	performDeletion(&address, DROP_RESTRICT, 0);
}

/* All that is needed, before any work is done. */
static void
swap_lock(SbSwap *swap)
{
	sb_lock_relation(swap->result,
	                 swap->alter || swap->index ? AccessExclusiveLock : ShareRowExclusiveLock);
	if (!swap->keep)
		sb_lock_relation(swap->before->state_table, AccessExclusiveLock);
	sb_lock_relation(swap->next->result, AccessExclusiveLock);
	if (swap->before->view == swap->next->view)
		return;
	LockRelationOid(swap->before->view, AccessExclusiveLock);
	LockRelationOid(swap->next->view, AccessExclusiveLock);
}

/*
 * How the rows go and the others come: where the table stays as it is, those that are in both stay
 * where they are.
 */
static void
swap_rows_sql(const SbSwap *swap, char **remove, char **add)
{
	SbAccumulation accumulation = sb_accumulation_of_name(swap->next->accumulation);
	char *side = sb_sql_relation(swap->next->result);

	if (accumulation == SB_ACCUMULATING && !swap->alter && !swap->index)
	{
		sb_result_replace_sql(swap->next_plan, side, swap->table, remove, add);
		return;
	}
	*remove = psprintf("DELETE FROM %s", swap->table);
	*add = sb_result_copy_sql(swap->next_plan, side, swap->table, accumulation);
}

static void
swap_contents(SbSwap *swap)
{
	Oid side = swap->next->result;
	char *remove, *add;

	/* a constraint trigger that waits for the commit would be in the way of ALTER TABLE */
	sb_version_run("SET CONSTRAINTS ALL IMMEDIATE", 0, NULL, NULL);
	if (swap->keep)
		swap_put_aside(swap);
	swap_rows_sql(swap, &remove, &add);
	swap_move(swap, remove);
	swap_reshape(swap);
	SB_KILL_POINT("in_swap");
	swap_move(swap, add);
	swap->next->result = swap->result;
	swap_drop(side);
}

/* ---- the view ---- */

static char *
swap_fingerprint(Oid relation)
{
	Relation view = table_open(relation, AccessShareLock);
	char *fingerprint = sb_view_fingerprint(get_view_query(view));

	table_close(view, NoLock);
	return fingerprint;
}

/*
 * As the owner: constants in it have output functions. Names are what they are with no search path.
 */
static char *
swap_view_text(const SbSwap *swap, Oid view)
{
	Oid types[] = {OIDOID};
	Datum values[] = {ObjectIdGetDatum(view)};
	SbBracket saved;

	sb_bracket_enter_owner(&saved, swap->next->owner, NULL);
	sb_version_run("SELECT pg_catalog.pg_get_viewdef($1)", 1, types, values);
	sb_bracket_leave(&saved);
	return SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
}

/* The rights on one view, to another. */
static void
swap_copy_grants(const SbSwap *swap, Oid from, Oid to)
{
	Oid types[] = {OIDOID, TEXTOID};
	Datum values[] = {ObjectIdGetDatum(from), CStringGetTextDatum(sb_sql_relation(to))};
	SPITupleTable *grants;
	uint64 n;

	sb_version_run(
	    "SELECT pg_catalog.format('GRANT %s ON %s TO %s%s', a.privilege_type, $2,"
	    " CASE WHEN a.grantee OPERATOR(pg_catalog.=) 0 THEN 'PUBLIC' ELSE pg_catalog.quote_ident(r.rolname) END,"
	    " CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' END)"
	    " FROM pg_catalog.pg_class c, pg_catalog.aclexplode(c.relacl) a LEFT JOIN pg_catalog.pg_roles r ON r.oid OPERATOR(pg_catalog.=) a.grantee"
	    " WHERE c.oid OPERATOR(pg_catalog.=) $1 AND a.grantee OPERATOR(pg_catalog.<>) c.relowner",
	    lengthof(types), types, values);
	grants = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
		swap_run_as_owner(swap, SPI_getvalue(grants->vals[i], grants->tupdesc, 1));
}

/* The versions whose view this is, but for the next one. */
static void
swap_move_view(const SbSwap *swap, Oid from, Oid to)
{
	ListCell *lc;

	foreach (lc, swap->versions)
	{
		SbPipelineRow *row = lfirst(lc);

		if (row == swap->next || row->view != from)
			continue;
		row->view = to;
		row->fingerprint = swap_fingerprint(to);
	}
}

/* Does a version that stays need the view that goes? */
static bool
swap_view_is_needed(const SbSwap *swap, Oid view)
{
	ListCell *lc;

	foreach (lc, swap->versions)
	{
		SbPipelineRow *row = lfirst(lc);

		if (row != swap->next && row->view == view && (row != swap->before || swap->keep))
			return true;
	}
	return false;
}

/*
 * The view stays the relation that it is, with the new definition; the old one gets a view of its
 * own where it is needed.
 */
static void
swap_view_in_place(const SbSwap *swap)
{
	Oid old = swap->before->view;
	Oid next = swap->next->view;
	char *text = swap_view_text(swap, next);
	Oid namespace = get_rel_namespace(old);

	if (swap_view_is_needed(swap, old))
	{
		char *name = sb_version_view_name(swap->before, namespace);

		swap_run_as_owner(swap,
		                  psprintf("CREATE VIEW %s AS %s",
		                           quote_qualified_identifier(get_namespace_name(namespace), name),
		                           swap_view_text(swap, old)));
		swap_move_view(swap, old, get_relname_relid(name, namespace));
	}
	swap_run_as_owner(swap,
	                  psprintf("CREATE OR REPLACE VIEW %s AS %s", sb_sql_relation(old), text));
	CommandCounterIncrement();
	swap_drop(next);
	swap->next->view = old;
	swap->next->fingerprint = swap_fingerprint(old);
}

/* The new view takes the old one's name and the rights on it. */
static void
swap_view_by_name(const SbSwap *swap)
{
	Oid old = swap->before->view;
	bool there = get_rel_relkind(old) == RELKIND_VIEW;
	char *name = there ? get_rel_name(old) : psprintf("%s_batch", swap->next->name);

	if (there)
	{
		swap_copy_grants(swap, old, swap->next->view);
		if (swap_view_is_needed(swap, old))
			RenameRelationInternal(old, sb_version_view_name(swap->before, get_rel_namespace(old)),
			                       false, false);
		else
			swap_drop(old);
		CommandCounterIncrement();
	}
	RenameRelationInternal(swap->next->view, name, false, false);
	CommandCounterIncrement();
}

static void
swap_views(SbSwap *swap)
{
	if (swap->before->view == swap->next->view)
		return;
	if (sb_version_view_stays(swap->before, swap->next))
		swap_view_in_place(swap);
	else
		swap_view_by_name(swap);
}

/* ---- the whole ---- */

/*
 * All versions' rows say what they are now. An old version that is not kept goes with its state;
 * what is left of its table and its view has been seen to before.
 */
static void
swap_catalog(SbSwap *swap)
{
	ListCell *lc;

	sb_commands_follow(swap->before->id, swap->next->id, sb_catalog_is_of_backfill(swap->next));
	if (swap->keep)
	{
		swap->before->stage = SB_STAGE_KEPT;
		swap->before->keep_until = GetCurrentTimestamp() + swap->next->keep_us;
		sb_catalog_put_version(swap->before);
	}
	else
		sb_version_drop_tree(swap->before, SB_KEEP_RESULT | SB_KEEP_VIEW);
	foreach (lc, swap->versions)
	{
		SbPipelineRow *row = lfirst(lc);

		/* its view may be another one now */
		if (row != swap->next && row != swap->before)
			sb_catalog_put_version(row);
	}
	swap->next->stage = SB_STAGE_CURRENT;
	swap->next->keep_us = -1;
	swap->next->keep_until = DT_NOEND;
	sb_catalog_put_version(swap->next);
}

static void
swap_plan_before(void *arg)
{
	SbSwap *swap = arg;

	SbPlan *plan = sb_version_plan(swap->before, NULL);

	sb_signature_restore_identity(plan, swap->before->nsignature, swap->before->signature);
	swap->before_plan = plan;
}

/* False: the two are not what they were when they were opened, and will be opened anew. */
static bool
swap_prepare(SbSwap *swap, const SbExchange *exchange)
{
	SbPipeline *building = exchange->building;
	SbPipeline *current = exchange->current;
	ErrorData *error;
	ListCell *lc;

	if (sb_lock_pipeline_now(building->row->name) == NULL)
		return false;
	swap->versions = sb_catalog_versions(building->row->name);
	foreach (lc, swap->versions)
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->id == building->row->id)
			swap->next = row;
		else if (row->stage == SB_STAGE_CURRENT)
			swap->before = row;
	}
	if (swap->next == NULL || swap->before == NULL || swap->next->stage != SB_STAGE_BUILDING ||
	    swap->next->state != SB_PIPELINE_RUNNING || swap->next->rebuild != NULL)
		return false;
	if (current ? swap->before->id != current->row->id || swap->before->state != SB_PIPELINE_RUNNING
	            : swap->before->state == SB_PIPELINE_RUNNING)
		return false;
	/* one that is paused is to stand still, unless it is thrown away */
	if (swap->before->state == SB_PIPELINE_PAUSED && swap->next->keep_us >= 0)
		return false;
	swap->building = building;
	swap->current = current;
	swap->next_plan = building->plan;
	swap->keep = current != NULL && swap->next->keep_us >= 0;
	if (current)
		swap->before_plan = current->plan;
	else if (!sb_try(swap_plan_before, swap, &error))
		swap->before_plan = NULL;
	return true;
}

static void
swap_plan_work(SbSwap *swap)
{
	sb_version_check_result(swap->before);
	sb_version_check_shape(swap->before, swap->next);
	swap->result = swap->before->result;
	swap->table = sb_sql_relation(swap->result);
	swap->alter = sb_version_alter_sql(swap->before, swap->next);
	/*
	 * nulls may come that the table does not take; and a hash may not be what it was, if the type
	 * of a key has been altered: no row keeps its own
	 */
	swap->index = (sb_result_is_strict(swap->result) && !sb_result_is_strict(swap->next->result)) ||
	              swap->before_plan == NULL || swap_is_by_hash(swap->next_plan, swap->next) ||
	              swap_is_by_hash(swap->before_plan, swap->before) ||
	              strcmp(swap_index_sql(swap->before_plan, swap->before),
	                     swap_index_sql(swap->next_plan, swap->next)) != 0;
}

static SbSwap *
swap_of_version(List *swaps, int32 id, bool before)
{
	ListCell *lc;

	foreach (lc, swaps)
	{
		SbSwap *swap = lfirst(lc);

		if ((before ? swap->before->id : swap->next->id) == id)
			return swap;
	}
	return NULL;
}

/*
 * Each follows one before it, but the first; and none is kept that is downstream of a version that
 * is not. False: they are no longer what they were.
 */
static bool
swap_is_tree(List *swaps)
{
	ListCell *lc;

	for_each_from(lc, swaps, 1)
	{
		SbSwap *swap = lfirst(lc);
		SbSwap *upstream = swap_of_version(swaps, swap->next->upstream, false);

		if (upstream == NULL)
			return false;
		swap->keep = swap->keep && upstream->keep;
	}
	return true;
}

/*
 * Has each pipeline that is downstream of these, or is being altered to be, a version that goes
 * with them? To be asked with the results locked: creating a downstream pipeline locks them, too.
 */
static bool
swap_is_complete(List *swaps)
{
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->stage != SB_STAGE_KEPT && swap_of_version(swaps, row->upstream, true) &&
		    !swap_of_version(swaps, row->id, true))
			return false;
	}
	return true;
}

/*
 * What is asked of a downstream pipeline's version that is kept with its upstream cannot be done
 * any more: the table that it is planned over has the rows of another one.
 */
static void
swap_fail_commands(const SbSwap *swap)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(swap->before->id)};

	sb_version_run(
	    "UPDATE beam.command SET state = 'failed', sqlstate = '55000', message = 'the pipeline has got a new version meanwhile'"
	    " WHERE pipeline OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.<>) ALL (ARRAY['done', 'failed'])",
	    lengthof(types), types, values);
}

/* Downstream pipelines first: they go before their upstream does. */
static void
swap_catalogs(List *swaps)
{
	for (int i = list_length(swaps) - 1; i >= 0; i--)
	{
		SbSwap *swap = list_nth(swaps, i);

		if (i > 0)
			swap_fail_commands(swap);
		swap_catalog(swap);
		/* what moved without rows is not in the catalog yet, and they are opened from there */
		sb_catalog_put_progress(&swap->building->progress, swap->building->progress.bundles);
		if (swap->keep)
			sb_catalog_put_progress(&swap->current->progress, swap->current->progress.bundles);
	}
}

typedef struct SbSwapWork
{
	List *exchanges;
	const SbPipelineRow *at; /* that is being worked on */
	bool done;
} SbSwapWork;

static void
swap_each(SbSwapWork *work, List *swaps, void (*fn)(SbSwap *swap))
{
	ListCell *lc;

	foreach (lc, swaps)
	{
		SbSwap *swap = lfirst(lc);

		work->at = swap->building->row;
		fn(swap);
	}
}

/*
 * All is looked at and locked before the first change: where work->done is still false at the end,
 * nothing has been changed.
 */
static void
swap_versions(SbSwapWork *work)
{
	List *swaps = NIL;
	ListCell *lc;

	foreach (lc, work->exchanges)
	{
		SbSwap *swap = palloc0(sizeof(SbSwap));

		if (!swap_prepare(swap, lfirst(lc)))
			return;
		swaps = lappend(swaps, swap);
	}
	if (!swap_is_tree(swaps))
		return;
	swap_each(work, swaps, swap_plan_work);
	swap_each(work, swaps, swap_lock);
	if (!swap_is_complete(swaps))
		return;
	swap_each(work, swaps, swap_contents);
	swap_each(work, swaps, swap_views);
	swap_catalogs(swaps);
	SB_KILL_POINT("before_swap");
	work->done = true;
}

/* ---- when ---- */

static void
swap_run(void *arg)
{
	int level = NewGUCNestLevel();

	(void) set_config_option("lock_timeout", SB_SWAP_LOCK_MS, PGC_USERSET, PGC_S_SESSION,
	                         GUC_ACTION_SAVE, true, 0, false);
	swap_versions(arg);
	AtEOXact_GUC(((SbSwapWork *) arg)->done, level);
}

/*
 * The result has got a constraint since the version's own table was made, so the rows that it
 * refuses are no failed groups yet. True: the version begins again, with that constraint.
 */
static bool
swap_begin_again(const SbSwapWork *work, const ErrorData *error)
{
	ListCell *lc;

	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) != ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION)
		return false;
	foreach (lc, work->exchanges)
	{
		const SbExchange *exchange = lfirst(lc);
		const SbPipelineRow *row = exchange->building->row;
		const SbPipelineRow *current;

		if (row != work->at)
			continue;
		current = sb_catalog_find(row->name);
		if (current == NULL ||
		    !sb_version_lacks_constraints(exchange->building->plan, current->result, row->result))
			return false;
		if (sb_catalog_mark_rebuild(row->id, error->message))
			sb_at_commit_tell_runner();
		ereport(LOG, (errmsg("version %d of pipeline \"%s\" is built again: %s", row->version,
		                     row->name, error->message)));
		return true;
	}
	return false;
}

/*
 * What may pass is only logged, since the runner tries again; after anything else the version
 * stands still.
 */
static void
swap_failed(const SbPipelineRow *row, ErrorData *error)
{
	if (sb_error_is_transient(error->sqlerrcode))
	{
		ereport(error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? DEBUG1 : LOG,
		        (errmsg("version %d of pipeline \"%s\" cannot take its place yet: %s", row->version,
		                row->name, error->message)));
		return;
	}
	(void) sb_catalog_set_state(row->id, SB_PIPELINE_FAILED, error);
	sb_at_commit_tell_runner();
	ereport(
	    WARNING,
	    (errcode(error->sqlerrcode),
	     errmsg("version %d of pipeline \"%s\" cannot take its place: %s", row->version, row->name,
	            error->message),
	     error->detail ? errdetail("%s", error->detail) : 0,
	     errhint(
	         "See beam.pipeline_versions; after mending the cause call beam.resume_pipeline(), or give it up with beam.cancel_alter().")));
}

bool
sb_version_try_swap(List *exchanges)
{
	SbSwapWork work = {.exchanges = exchanges,
	                   .at = ((SbExchange *) linitial(exchanges))->building->row};
	MemoryContext context = CurrentMemoryContext;
	ErrorData *error;

	sb_transaction_begin();
	if (!sb_try(swap_run, &work, &error) && !swap_begin_again(&work, error))
		swap_failed(work.at, error);
	sb_transaction_commit();
	MemoryContextSwitchTo(context);
	return work.done;
}
