/*
 * sb_opening.c: pipelines are opened, and looked at again; see sb_opening.h.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "base/sb_error.h"
#include "catalog/sb_dependency.h"
#include "history/sb_backfill.h"
#include "history/sb_history.h"
#include "pipeline/sb_split.h"
#include "runner/sb_aside.h"
#include "runner/sb_opening.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/sb_at_commit.h"
#include "worker/sb_limit.h"
#include "worker/sb_postponed.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

typedef struct SbOpening
{
	const SbPipelineRow *row;
	MemoryContext context;
	SbPipeline *pipeline;
	SbLimitShare limit;
} SbOpening;

/* Opens it, with all that is attached to it. */
static void
opening_run(void *arg)
{
	SbOpening *opening = arg;
	MemoryContext old = MemoryContextSwitchTo(opening->context);

	/* expressions are folded */
	sb_work_on(SB_WORK_STREAM, opening->row->id, opening->row->progress.position);
	sb_limit_part(&opening->limit, false);
	opening->pipeline = sb_pipeline_open(opening->row, NULL, NULL);
	/* what they read on the way goes with it */
	MemoryContextSwitchTo(opening->pipeline->context);
	sb_backfill_attach(opening->pipeline);
	sb_history_attach(opening->pipeline);
	sb_splits_attach(opening->pipeline);
	sb_pipeline_attach(opening->pipeline);
	sb_pipeline_retain(opening->pipeline, opening->context);
	opening->pipeline->strict = sb_aside_is_strict(opening->row->id);
	MemoryContextSwitchTo(old);
}

static void
opening_set_failed(const SbPipelineRow *row, const ErrorData *error)
{
	if (!sb_aside_fail(row, error, row->progress.position))
		return;
	ereport(WARNING, (errcode(error->sqlerrcode),
	                  errmsg("pipeline \"%s\" cannot run: %s", row->name, error->message),
	                  error->detail ? errdetail("%s", error->detail) : 0,
	                  error->hint ? errhint("%s", error->hint) : 0));
}

typedef struct SbOutgrown
{
	const SbPipelineRow *row;
	bool is;
} SbOutgrown;

static void
opening_ask_outgrown(void *arg)
{
	SbOutgrown *outgrown = arg;

	/* with its signature, which that of an open pipeline has not got */
	outgrown->is = sb_pipeline_is_outgrown(sb_catalog_find_by_id(outgrown->row->id));
}

/*
 * State that was written with other types than those of now cannot be read, and keys that are equal
 * by now may have two cells: what can be made anew from the source, is. False: it is another error,
 * or rows that were only ever inserted may be in the source no longer.
 */
static bool
opening_rebuild(const SbPipelineRow *row, ErrorData *error)
{
	SbOutgrown outgrown = {.row = row};
	ErrorData *ignored;

	if (error->sqlerrcode != ERRCODE_DATATYPE_MISMATCH || !row->retractable ||
	    !sb_postponed_try(opening_ask_outgrown, &outgrown, &ignored) || !outgrown.is)
		return false;
	if (row->rebuild)
		return true;
	if (row->stage == SB_STAGE_CURRENT)
		(void) sb_catalog_set_state(row->id, SB_PIPELINE_NEEDS_RESYNC, error);
	if (sb_catalog_mark_rebuild(row->id, error->message))
		sb_at_commit_tell_runner();
	ereport(LOG, (errmsg("pipeline \"%s\" is rebuilt: %s", row->name, error->message)));
	return true;
}

/* What may pass is tried again later. */
static void
opening_leave_out(const SbPipelineRow *row, ErrorData *error, XLogRecPtr position)
{
	if (sb_error_is_of_server(error))
		ReThrowError(error);
	/* it or its source may have been dropped since the catalog was read: that is read again */
	if (sb_postponed_is_stale())
		sb_postponed_add(row->id, true);
	else if (opening_rebuild(row, error))
		;
	else if (!sb_error_is_transient(error->sqlerrcode) || !sb_aside_put(row, error, position))
		opening_set_failed(row, error);
}

/* What it has sorted may be in another order by now: it goes on, and the administrator is told. */
static void
opening_warn_collations(const SbPipelineRow *row)
{
	foreach_ptr(SbStaleCollation, stale, sb_dependency_stale(row->id)) ereport(
	    WARNING,
	    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	     errmsg("pipeline \"%s\" was computed with version %s of %s, which has version %s now",
	            row->name, stale->version, stale->collation, stale->now),
	     errdetail(
	         "Values may be in another order: in min, max, comparisons, ORDER BY and the index of the result."),
	     errhint(SB_STALE_COLLATION_HINT)));
}

SbPipeline *
sb_opening_open(const SbPipelineRow *row, MemoryContext context)
{
	TimestampTz until = sb_aside_until(row->id);
	SbOpening opening = {.row = row,
	                     .context = context,
	                     .limit = {.account = sb_limit_account(row->owner)}};
	ErrorData *error;
	bool opened;

	if (until > sb_clock_now())
	{
		sb_postponed_until(row->id, until);
		return NULL;
	}
	opened = sb_postponed_try(opening_run, &opening, &error);
	sb_pipeline_rests();
	if (opened)
	{
		opening_warn_collations(row);
		return opening.pipeline;
	}
	opening_leave_out(row, error, row->progress.position);
	if (sb_aside_until(row->id) != 0)
		sb_postponed_until(row->id, sb_aside_until(row->id));
	return NULL;
}

static void
opening_verify_one(void *arg)
{
	sb_pipeline_at_work(arg, false);
	sb_pipeline_verify(arg);
}

bool
sb_opening_verify(SbPipeline *pipeline)
{
	MemoryContext scratch =
	    AllocSetContextCreate(CurrentMemoryContext, "stream_beam verify", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	ErrorData *error;
	bool valid = sb_postponed_try(opening_verify_one, pipeline, &error);

	sb_pipeline_rests();
	if (!valid && error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
	{
		sb_postponed_add(pipeline->row->id, false);
		valid = true;
	}
	if (!valid)
		opening_leave_out(pipeline->row, error, pipeline->persisted);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
	return valid;
}
