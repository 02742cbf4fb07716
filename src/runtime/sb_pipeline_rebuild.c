/*
 * sb_pipeline_rebuild.c: rows have come to a source, or left it, without a change that could be applied.
 */
#include "postgres.h"

#include "runtime/sb_pipeline.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

static const char *
rebuild_detail(const SbRowFrame *frame)
{
	const char *name = get_rel_name(frame->partition);

	/* dropped since, perhaps */
	name = name ? quote_identifier(name) : psprintf("with OID %u", frame->partition);
	switch ((SbRebuildCause) frame->cause)
	{
		case SB_REBUILD_ATTACH:
			return psprintf("Table %s was attached as a partition with rows in it.", name);
		case SB_REBUILD_DETACH:
			return psprintf("Partition %s was detached with rows in it.", name);
		case SB_REBUILD_DROP:
			return psprintf("Partition %s was dropped with rows in it.", name);
		case SB_REBUILD_TRUNCATE:
			return psprintf("Partition %s was truncated by itself, with rows in it.", name);
		case SB_REBUILD_LOGGED:
			return psprintf("Table %s was unlogged for some time: its changes were not in the WAL.", name);
	}
	pg_unreachable();
}

void
sb_pipeline_refuse_rebuild(const SbPipeline *pipeline, const SbRow *row)
{
	ereport(ERROR,
	        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	         errmsg("the rows of source table \"%s\" are others than its changes say: pipeline \"%s\" has to be rebuilt",
	                get_rel_name(pipeline->plan->source), pipeline->row->name),
	         errdetail_internal("%s", rebuild_detail(row->frame)),
	         errhint("Call beam.resync_pipeline().")));
}
