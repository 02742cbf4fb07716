/*
 * sb_source_table.c: the WAL of a table as a source; see sb_source.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/sb_partition.h"
#include "catalog/pg_class.h"
#include "pipeline/sb_gate.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_source.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "worker/sb_shmem.h"
#include "worker/sb_at_commit.h"

/* ---- while a pipeline is made ---- */

/* Whatever is no other kind: the plan has been made over a table. */
static bool
table_accepts(SbPipelineRow *row, bool hold)
{
	row->upstream = 0;
	return true;
}

static void
table_begin(const SbPipelineRow *row)
{
	sb_source_add(sb_my_database(), row->source);
}

/*
 * An ordinary table, the source or a partition of it: error where its old tuples lack a column that
 * the query uses.
 */
static void
table_check_old_values(const SbPlan *plan, Relation rel)
{
	const char *name = RelationGetRelationName(rel);
	int attno = -1;

	while ((attno = bms_next_member(plan->columns, attno)) >= 0)
	{
		const char *column = get_attname(plan->source, attno, false);

		if (sb_partition_old_has(rel, column))
			continue;
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("the WAL does not have the old values of changed rows of table \"%s\"", name),
		     errdetail(
		         "The query uses column \"%s\", which is not of the table's replica identity: an UPDATE or DELETE could not be taken out of the result.",
		         column),
		     errhint("ALTER TABLE %s REPLICA IDENTITY FULL; or, if rows are only ever inserted, say source_mode => 'append_only'.",
		             quote_identifier(name))));
	}
}

/*
 * A query without columns asks for no old value, but for an old row: a table whose replica identity
 * is nothing has none. False: the user has been told, which is once for all partitions.
 */
static bool
table_tell_no_identity(const SbPlan *plan, Relation rel)
{
	if (!bms_is_empty(plan->columns) || rel->rd_rel->relreplident == REPLICA_IDENTITY_FULL ||
	    OidIsValid(RelationGetReplicaIndex(rel)))
		return true;
	ereport(
	    WARNING,
	    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	     errmsg("the WAL does not have the deleted rows of table \"%s\"",
	            RelationGetRelationName(rel)),
	     errdetail(
	         "It has no replica identity: the first DELETE would set the pipeline to \"failed\"."),
	     errhint("ALTER TABLE %s REPLICA IDENTITY FULL; or, if rows are only ever inserted, say source_mode => 'append_only'.",
	             quote_identifier(RelationGetRelationName(rel)))));
	return false;
}

/*
 * Rows can be taken back only if the WAL has their old values. Of a partitioned table, each
 * partition has an identity of its own.
 */
static void
table_check(const SbPipelineRow *row, const SbPlan *plan)
{
	bool told = false;
	ListCell *lc;

	if (!row->retractable)
		return;
	foreach (lc, sb_partition_tree(plan->source, AccessShareLock))
	{
		Relation rel = table_open(lfirst_oid(lc), NoLock);

		if (rel->rd_rel->relkind == RELKIND_RELATION)
		{
			table_check_old_values(plan, rel);
			told = told || !table_tell_no_identity(plan, rel);
		}
		table_close(rel, NoLock);
	}
}

/* ---- at work ---- */

static bool
table_timed_by_rows(const SbInput *input)
{
	return true;
}

static bool
table_has_begun(SbPipeline *pipeline, SbInput *input, XLogRecPtr position)
{
	if (sb_gates_are_open(pipeline))
		return false;
	sb_gates_reached(pipeline, position);
	return sb_gates_are_open(pipeline);
}

const SbSourceKind sb_table_source = {.name = "table",
                                      .accepts = table_accepts,
                                      .begin = table_begin,
                                      .check = table_check,
                                      .timed_by_rows = table_timed_by_rows,
                                      .has_begun = table_has_begun};
