/*
 * sb_version_relations.c: the relations of a version: result table, view, state table, queue; see
 * sb_version.h.
 */
#include "postgres.h"

#include "base/sb_error.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_type.h"
#include "catalog/sb_dependency.h"
#include "catalog/sb_lock.h"
#include "catalog/sb_owner.h"
#include "catalog/sb_view.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "history/sb_history_part.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "pipeline/sb_pipeline.h"
#include "query/sb_signature.h"
#include "sink/sb_queue_table.h"
#include "source/sb_cut.h"
#include "state/sb_cells.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "version/sb_version.h"
#include "worker/sb_at_commit.h"

char *
sb_version_table_name(const SbPipelineRow *row, Oid namespace)
{
	return ChooseRelationName(row->name, NULL, psprintf("v%d", row->version), namespace, false);
}

char *
sb_version_view_name(const SbPipelineRow *row, Oid namespace)
{
	return ChooseRelationName(row->name, psprintf("v%d", row->version), "batch", namespace, false);
}

void
sb_version_run(const char *sql, int nargs, const Oid *types, const Datum *values)
{
	MemoryContext context = CurrentMemoryContext;
	int code = SPI_execute_with_args(sql, nargs, unconstify(Oid *, types),
	                                 unconstify(Datum *, values), NULL, false, 0);

	MemoryContextSwitchTo(context);
	if (code < 0)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(code));
}

/*
 * A member of the extension: it goes with it, and is not dumped, since it means nothing in another
 * database.
 */
static Oid
relations_make_member(const char *name, const char *sql)
{
	Oid relation;
	ObjectAddress member, extension;

	sb_sql_run(sql, 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	relation = get_relname_relid(name, get_namespace_oid("beam_state", false));
	ObjectAddressSet(member, RelationRelationId, relation);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("stream_beam", false));
	recordDependencyOn(&member, &extension, DEPENDENCY_EXTENSION);
	return relation;
}

/* The row of an aggregate over nothing. */
typedef struct SbEmptyRow
{
	SbQuery *query;
	Datum *values;
	bool *nulls;
	bool there;
} SbEmptyRow;

static void
relations_compute_empty(void *arg)
{
	SbEmptyRow *row = arg;

	row->there = sb_query_output_empty(row->query, row->values, row->nulls);
}

/* Where it cannot be computed there is none, until there are rows with which it can. */
static void
relations_put_empty(const SbPlan *plan, Oid table)
{
	SbResult *result = sb_result_open(plan, table, SB_ACCUMULATING);
	SbEmptyRow row = {.query =
	                      sb_query_open(plan, CurrentMemoryContext, CurrentMemoryContext, false),
	                  .values = palloc(sizeof(Datum) * plan->ncolumns),
	                  .nulls = palloc(sizeof(bool) * plan->ncolumns)};
	ErrorData *error;

	if (!sb_try_part(relations_compute_empty, &row, &error) && !sb_error_is_of_data(error, false))
		ReThrowError(error);
	if (row.there)
	{
		sb_result_put(result, row.values, row.nulls, 1);
		sb_result_write(result);
	}
	sb_query_close(row.query);
}

Oid
sb_version_make_result(const SbPlan *plan, SbAccumulation accumulation, Oid namespace,
                       const char *name)
{
	char *table = quote_qualified_identifier(get_namespace_name(namespace), name);
	Oid made;

	sb_version_run(sb_result_table_sql(plan, table, accumulation), 0, NULL, NULL);
	made = get_relname_relid(name, namespace);
	sb_result_identify(plan, made, accumulation, GetUserId());
	if (sb_plan_stands_empty(plan) && accumulation == SB_ACCUMULATING)
		relations_put_empty(plan, made);
	return made;
}

/* Columns that identify a row are not null where the extension has said so, for the index. */
static Datum
relations_value_names(const SbPlan *plan)
{
	Datum *names = palloc(sizeof(Datum) * (plan->ncolumns + 1));
	int n = 0;

	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == SB_COLUMN_VALUE)
			names[n++] = CStringGetTextDatum(plan->columns_out[i].name);
	}
	return PointerGetDatum(construct_array(names, n, TEXTOID, -1, false, TYPALIGN_INT));
}

static void
relations_run(void *arg)
{
	sb_version_run(arg, 0, NULL, NULL);
}

/*
 * What is not possible on the other columns is left out: where that matters the exchange of the
 * versions says so.
 */
void
sb_version_copy_constraints(const SbPlan *plan, Oid from, Oid to)
{
	Oid types[] = {OIDOID, TEXTOID, TEXTARRAYOID};
	Datum values[] = {ObjectIdGetDatum(from), CStringGetTextDatum(sb_sql_relation(to)),
	                  relations_value_names(plan)};
	SPITupleTable *commands;
	uint64 n;

	sb_version_run(
	    "SELECT pg_catalog.format('ALTER TABLE %s ADD %s', $2, pg_catalog.pg_get_constraintdef(c.oid))"
	    " FROM pg_catalog.pg_constraint c WHERE c.conrelid OPERATOR(pg_catalog.=) $1"
	    " AND c.contype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'u', 'x']::pg_catalog.\"char\"[])"
	    " UNION ALL SELECT pg_catalog.format('ALTER TABLE %s ALTER %I SET NOT NULL', $2, a.attname)"
	    " FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) $1"
	    " AND a.attnotnull AND NOT a.attisdropped"
	    " AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($3)",
	    lengthof(types), types, values);
	commands = SPI_tuptable;
	n = SPI_processed;
	for (uint64 i = 0; i < n; i++)
	{
		ErrorData *error;

		if (!sb_try_part(relations_run, SPI_getvalue(commands->vals[i], commands->tupdesc, 1),
		                 &error) &&
		    sb_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
	}
}

/*
 * A constraint that cannot be copied is older than the table, whose number is lower than those of
 * constraints made since.
 */
bool
sb_version_lacks_constraints(const SbPlan *plan, Oid from, Oid to)
{
	Oid types[] = {OIDOID, OIDOID, TEXTARRAYOID};
	Datum values[] = {ObjectIdGetDatum(from), ObjectIdGetDatum(to), relations_value_names(plan)};

	sb_version_run(
	    "SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid OPERATOR(pg_catalog.=) $1"
	    " AND c.contype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'u', 'x']::pg_catalog.\"char\"[])"
	    " AND c.oid OPERATOR(pg_catalog.>) $2"
	    " UNION ALL SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute b ON b.attname OPERATOR(pg_catalog.=) a.attname"
	    " WHERE a.attrelid OPERATOR(pg_catalog.=) $1 AND b.attrelid OPERATOR(pg_catalog.=) $2"
	    " AND a.attnotnull AND NOT a.attisdropped AND NOT b.attnotnull"
	    " AND a.attname::pg_catalog.text OPERATOR(pg_catalog.=) ANY ($3)",
	    lengthof(types), types, values);
	return SPI_processed > 0;
}

/*
 * A large table that can only be read in one go keeps the other pipelines of the database waiting
 * meanwhile.
 */
#define SB_LARGE_TABLE_BYTES ((int64) 64 * 1024 * 1024)

/*
 * Says in the catalog that the rows of the source are to be read, and by which part; the runner
 * does that. The user is told where it cannot be done in chunks.
 */
static void
relations_begin_history(const SbPipelineRow *row, const SbPlan *plan)
{
	SbHistoryRow history = {.pipeline = row->id};
	const char *name = get_rel_name(plan->source);
	SbBracket saved;
	char *part;
	int64 bytes;

	/*
	 * expressions and predicates of indexes are folded when they are read; constants have output
	 * functions
	 */
	sb_owner_enter(row, &saved);
	history.part = sb_part_choose(plan, row->retractable);
	if (history.part != SB_PART_NONE)
		history.type = getBaseType(exprType((Node *) sb_part_expr(plan, history.part)));
	part = plan->event_time ? sb_part_sql(plan, SB_PART_EVENT_TIME) : NULL;
	sb_bracket_leave(&saved);
	sb_part_estimate(plan->source, &history.estimated_rows, &bytes);
	sb_catalog_insert_history(&history);
	if (history.part == SB_PART_NONE && bytes > SB_LARGE_TABLE_BYTES)
		ereport(
		    NOTICE,
		    (errmsg("the history of table \"%s\" will be read in one go, during which no pipeline of this database moves",
		            name),
		     plan->event_time
		         ? errhint("An index on the event time has it read in chunks, the newest rows first: CREATE INDEX ON %s ((%s)).",
		                   quote_identifier(name), part)
		         : errhint(
		               "A primary key, or an index on a column of the replica identity, has it read in chunks.")));
}

/* They are put into its queue by the runner. */
static void
relations_begin_queue(const SbPipelineRow *row, bool history)
{
	SbHistoryRow downstream = {.pipeline = row->id, .part = SB_PART_NONE};
	int64 bytes;

	sb_part_estimate(sb_catalog_find_by_id(row->upstream)->result, &downstream.estimated_rows,
	                 &bytes);
	/* where rows can be taken back there are none from before */
	if (!history && !row->retractable)
		downstream.snapshot = sb_cut_format(sb_cut_of_workers(sb_my_database()));
	sb_catalog_insert_history(&downstream);
}

void
sb_version_record_dependencies(const SbPipelineRow *row, const SbPlan *plan)
{
	SbPlanObjects *objects;
	SbBracket saved;
	Expr *split;

	sb_owner_enter(row, &saved);
	split = row->watermark_by ? sb_plan_split(plan, row->watermark_by) : NULL;
	objects = sb_plan_objects(plan, split);
	sb_bracket_leave(&saved);
	sb_dependency_record(row->id, row->view, objects);
}

/* Returns whether an aggregate keeps the values of its rows. */
static bool
relations_sign(const SbPipelineRow *row, const SbPlan *plan)
{
	SbSignature *signature;
	SbBracket saved;
	SbQuery *query;
	bool items;

	sb_owner_enter(row, &saved);
	query = sb_query_open(plan, CurrentMemoryContext, CurrentMemoryContext, row->retractable);
	signature = sb_signature_of(query);
	items = sb_query_keeps_values(query) != NULL;
	sb_query_close(query);
	sb_bracket_leave(&saved);
	sb_version_record_dependencies(row, plan);
	sb_catalog_set_signature(row->id, signature->n, signature->texts, plan->columns);
	return items;
}

void
sb_version_make_state(SbPipelineRow *row, const SbPlan *plan, bool history)
{
	char *name = psprintf("cells_%d", row->id);
	const SbStrategy strategy = sb_pipeline_strategy(row);
	bool items = relations_sign(row, plan);

	row->state_table =
	    relations_make_member(name,
	                          sb_cells_table_sql(quote_qualified_identifier("beam_state", name),
	                                             plan, &strategy, items));
	sb_catalog_set_state_table(row->id, row->state_table);
	name = sb_items_table_name(row->id);
	if (items)
		(void) relations_make_member(name, sb_items_table_sql(
		                                       quote_qualified_identifier("beam_state", name)));
	name = sb_queue_table_name(row->id);
	if (!sb_catalog_reads_wal(row))
	{
		(void) relations_make_member(name,
		                             sb_queue_table_sql(quote_qualified_identifier("beam_state",
		                                                                           name),
		                                                row->source));
		relations_begin_queue(row, history);
	}
	else if (history)
		relations_begin_history(row, plan);
}

void
sb_version_drop_relation(Oid relation, char relkind)
{
	ObjectAddress address;

	sb_lock_relation(relation, AccessExclusiveLock);
	if (get_rel_relkind(relation) != relkind)
		return; /* dropped by hand, or never restored */
	ObjectAddressSet(address, RelationRelationId, relation);
	performDeletion(&address, DROP_RESTRICT, 0);
}

/* It has to leave the extension first; its types, too: since 17, pg_upgrade makes them members. */
static void
relations_drop_member(Oid relation)
{
	Oid type = get_rel_type_id(relation);

	deleteDependencyRecordsForClass(RelationRelationId, relation, ExtensionRelationId,
	                                DEPENDENCY_EXTENSION);
	deleteDependencyRecordsForClass(TypeRelationId, type, ExtensionRelationId,
	                                DEPENDENCY_EXTENSION);
	deleteDependencyRecordsForClass(TypeRelationId, get_array_type(type), ExtensionRelationId,
	                                DEPENDENCY_EXTENSION);
	CommandCounterIncrement();
	sb_version_drop_relation(relation, RELKIND_RELATION);
}

static bool
relations_view_is_shared(const SbPipelineRow *row)
{
	ListCell *lc;

	foreach (lc, sb_catalog_versions(row->name))
	{
		SbPipelineRow *other = lfirst(lc);

		if (other->id != row->id && other->view == row->view)
			return true;
	}
	return false;
}

void
sb_version_lock_relations(const SbPipelineRow *row, int keep)
{
	/* one that is kept: nobody begins to read it as that of a pipeline (SB_LOCK_READ) */
	sb_lock_relation(row->result,
	                 keep & SB_KEEP_RESULT ? ShareRowExclusiveLock : AccessExclusiveLock);
	sb_lock_relation(row->state_table, AccessExclusiveLock);
}

void
sb_version_drop(const SbPipelineRow *row, int keep)
{
	sb_version_lock_relations(row, keep);
	if (!(keep & SB_KEEP_RESULT))
		sb_version_drop_relation(row->result, RELKIND_RELATION);
	relations_drop_member(row->state_table);
	if (OidIsValid(sb_items_table_relid(row->id)))
		relations_drop_member(sb_items_table_relid(row->id));
	if (!(keep & SB_KEEP_VIEW) && !relations_view_is_shared(row))
		sb_version_drop_relation(row->view, RELKIND_VIEW);
	sb_catalog_delete(row->id);
	sb_at_commit_tell_runner();
}

void
sb_version_drop_queues(void *arg)
{
	uint64 n = sb_sql_run(
	    "SELECT c.oid FROM pg_catalog.pg_class c"
	    " WHERE c.relname OPERATOR(pg_catalog.>=) 'queue_' AND c.relname OPERATOR(pg_catalog.<) 'queue`' AND c.relkind OPERATOR(pg_catalog.=) 'r'"
	    " AND c.relnamespace OPERATOR(pg_catalog.=) 'beam_state'::pg_catalog.regnamespace"
	    " AND NOT EXISTS (SELECT FROM beam.pipeline p WHERE pg_catalog.concat('queue_', p.id) OPERATOR(pg_catalog.=) c.relname::pg_catalog.text)",
	    0, NULL, NULL, NULL, SPI_OK_SELECT);
	Oid *queues = palloc(sizeof(Oid) * (n + 1));
	bool isnull;

	for (uint64 i = 0; i < n; i++)
		queues[i] = DatumGetObjectId(
		    SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_freetuptable(SPI_tuptable);
	for (uint64 i = 0; i < n; i++)
		relations_drop_member(queues[i]);
}

SbPlan *
sb_version_plan(const SbPipelineRow *row, char **fingerprint)
{
	Query *query = sb_view_definition(row, fingerprint);
	SbBracket saved;
	SbPlan *plan;

	sb_owner_check(row);
	sb_owner_enter(row, &saved);
	plan = sb_plan_build(query);
	sb_signature_fix_identity(plan, row->nsignature, row->signature);
	sb_bracket_leave(&saved);
	return plan;
}
