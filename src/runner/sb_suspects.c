/*
 * sb_suspects.c: pipelines at whose work the workers have crashed again and again are failed; see
 * sb_suspects.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/sb_pipeline_row.h"
#include "runner/sb_suspects.h"
#include "worker/sb_work.h"

List *
sb_suspects_fail(Oid dbid, List **rows)
{
	List *suspects = sb_work_suspects(dbid);
	ErrorData error = {.elevel = ERROR, .sqlerrcode = ERRCODE_INTERNAL_ERROR};
	ListCell *lc;

	foreach (lc, *rows)
	{
		const SbPipelineRow *row = lfirst(lc);

		error.message = sb_work_blame_text(dbid, row->id);
		if (error.message == NULL)
			error.message =
			    psprintf("the workers have crashed %d times at work on it, and came no further",
			             SB_CRASHES);
		if (!list_member_int(suspects, row->id) || row->state != SB_PIPELINE_RUNNING ||
		    !sb_catalog_set_state(row->id, SB_PIPELINE_FAILED, &error))
			continue;
		ereport(
		    WARNING,
		    (errcode(error.sqlerrcode),
		     errmsg("pipeline \"%s\" has failed: %s", row->name, error.message),
		     errdetail("Its position stays at %X/%X.", LSN_FORMAT_ARGS(row->progress.position)),
		     errhint(
		         "Look above for what ended them. After mending the cause call beam.resume_pipeline().")));
	}
	if (suspects != NIL)
		*rows = sb_catalog_pipelines();
	return suspects;
}

/* Not before it can be found in the catalog after the next crash. */
void
sb_suspects_forgive(Oid dbid, const List *suspects)
{
	ListCell *lc;

	if (suspects == NIL)
		return;
	XLogFlush(XactLastCommitEnd);
	foreach (lc, suspects)
		sb_work_forgive(dbid, lfirst_int(lc));
}
