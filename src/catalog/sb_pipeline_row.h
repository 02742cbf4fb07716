/*
 * sb_pipeline_row.h: beam.pipeline and beam.progress: a struct for each, with get and put.
 *
 * All functions want SPI connected and the rights of the extension's owner. Results are in the
 * current context.
 */
#ifndef SB_PIPELINE_ROW_H
#define SB_PIPELINE_ROW_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "nodes/bitmapset.h"
#include "nodes/pg_list.h"

typedef struct SbProgress
{
	int32 pipeline;
	XLogRecPtr position;
	TimestampTz input_watermark;
	TimestampTz output_watermark;
	TimestampTz max_event_time;
	TimestampTz commit_time; /* 0: none */
	int64 rows_in;
	int64 bundles;
	int64 panes;
	int64 late;
	int64 dead;
	int64 cells;
} SbProgress;

typedef enum SbPipelineState
{
	SB_PIPELINE_RUNNING,
	SB_PIPELINE_PAUSED,
	SB_PIPELINE_FAILED,
	/* its position is void: it holds nothing back, and has to be rebuilt from its source */
	SB_PIPELINE_NEEDS_RESYNC
} SbPipelineState;

/*
 * Which of a pipeline's versions it is; only one of each name is current, and at most one building.
 */
typedef enum SbStage
{
	SB_STAGE_CURRENT,  /* the one that the name means: its result is the pipeline's result table */
	SB_STAGE_BUILDING, /* to take the current one's place */
	SB_STAGE_KEPT      /* replaced; it runs on, to go back to */
} SbStage;

#define SB_LATENESS_NO_LIMIT (-1) /* in the catalog: null */

typedef struct SbPipelineRow
{
	int32 id;
	char *name; /* of all its versions */
	Oid owner, source, view, result, state_table;
	char *fingerprint;
	/* its options (catalog/sb_option.c) */
	int64 watermark_delay_us;
	int64 allowed_lateness_us; /* SB_LATENESS_NO_LIMIT, or not negative */
	int64 idle_timeout_us;     /* -1: none */
	char *trigger;
	char *accumulation;
	char *timestamp_combiner;
	char *on_time, *closing;
	bool retractable;          /* the rows it reads may be taken back */
	int64 keep_us;             /* building: how long what it replaces is kept; -1: not at all */
	char *watermark_by;        /* NULL: the watermark is not split */
	bool allow_unsafe_trigger; /* of the call that makes it, not in the catalog */
	bool history;              /* likewise: the rows that the source has are taken in */
	int nsettings;             /* name, value, name, value ... */
	char **settings;
	int nsignature; /* what state was written with (query/sb_signature.h) */
	char **signature;
	SbPipelineState state;
	char *error_code, *error_message; /* NULL: none */
	int64 revision;
	int32 upstream; /* id of the pipeline whose result it reads, 0: none */
	int32 version;
	SbStage stage;
	TimestampTz keep_until; /* kept; DT_NOEND: as long as nobody says so */
	char *reason;           /* why the version was made, other than by a user's alteration; NULL */
	char *rebuild;          /* why it has to be rebuilt; NULL: it has not */
	SbProgress progress;
} SbPipelineRow;

/*
 * Why a version is made for a backfill: the current one goes on as it should, and nobody but who
 * asked waits for the new one.
 */
#define SB_REASON_BACKFILL "backfill()"

static inline bool
sb_catalog_is_of_backfill(const SbPipelineRow *row)
{
	return row->reason != NULL && strcmp(row->reason, SB_REASON_BACKFILL) == 0;
}

/*
 * Does it read the WAL, from a position of its own? Else its rows come from its upstream, whose
 * position it has.
 */
static inline bool
sb_catalog_reads_wal(const SbPipelineRow *row)
{
	return row->upstream == 0;
}

/* Paused since it has changed hands. */
static inline bool
sb_catalog_is_held(const SbPipelineRow *row)
{
	return row->state == SB_PIPELINE_PAUSED && row->error_code != NULL;
}

/*
 * Is there this table? One that a later version has brought is not, from the day the library is
 * replaced until ALTER EXTENSION ... UPDATE.
 */
extern bool sb_catalog_has(const char *table);
/* Has this transaction created or changed a version of the pipeline of this name? */
extern bool sb_catalog_is_changed_here(const char *name);
/* Has it been put aside, to be tried again? */
extern bool sb_catalog_is_retried(int32 id);
extern const char *sb_pipeline_state_name(SbPipelineState state);

/* all of them, by id */
extern List *sb_catalog_pipelines(void);
/* The current version; NULL: there is none of this name. */
extern SbPipelineRow *sb_catalog_find(const char *name);
/* all versions of this name, oldest first */
extern List *sb_catalog_versions(const char *name);
/* The version that is being built, or NULL. */
extern SbPipelineRow *sb_catalog_building(const char *name);
/* Of these rows, the current version of this name or the one being built; NULL: there is none. */
extern SbPipelineRow *sb_catalog_row_of_stage(const List *rows, const char *name, SbStage stage);
/* The one of these rows with this id; NULL: none has it. */
extern SbPipelineRow *sb_catalog_row_of_id(const List *rows, int32 id);
/* The one with this id, which must be there. */
extern SbPipelineRow *sb_catalog_find_by_id(int32 id);
/* the one whose result table this is, or NULL */
extern SbPipelineRow *sb_catalog_find_by_result(Oid result);
/* Locks the rows of all its versions and reads the current one; NULL: gone. */
extern SbPipelineRow *sb_catalog_lock(const char *name);
/* Inserts both rows and fills in the id. */
extern void sb_catalog_insert(SbPipelineRow *row);
extern void sb_catalog_set_state_table(int32 id, Oid state_table);
/* With what its state is going to be written, and which columns of the source the query uses. */
extern void sb_catalog_set_signature(int32 id, int n, char **texts, const Bitmapset *columns);
/*
 * `error` NULL clears the error. False: the pipeline has been dropped, or needs a resync or its new
 * owner's word, which is not made less by a failure.
 */
extern bool sb_catalog_set_state(int32 id, SbPipelineState state, const ErrorData *error);
/*
 * A pipeline belongs to whom its result table belongs to (REASSIGN OWNED, ALTER TABLE ... OWNER
 * TO). One that changes hands is paused, so that the old owner's functions do not run as the new
 * one unasked.
 */
extern void sb_catalog_follow_owners(void);
/* The objects of this database have other OIDs now than when the fingerprints were taken. */
extern void sb_catalog_forget_definitions(void);
/*
 * Makes stage, result, view, fingerprint, keep_until, reason, rebuild and the options of a version
 * what they are in the struct.
 */
extern void sb_catalog_put_version(const SbPipelineRow *row);
/*
 * It cannot follow its source by changes any more, and has to be rebuilt from it: a current
 * version is rebuilt beside, one that is being built begins again, a kept one is given up. Takes
 * effect when the runner has looked again (sb_at_commit_tell_runner()). A reason that it has
 * already stands. False: dropped.
 */
extern bool sb_catalog_mark_rebuild(int32 id, const char *reason);
/* That cannot be done, and is not tried again. */
extern void sb_catalog_forget_rebuild(int32 id);
extern void sb_catalog_delete(int32 id);
/*
 * The row has this number of bundles until now. Another number, and error 40001: another process
 * has the pipeline open too, and what this one knows of its cells is void.
 */
extern void sb_catalog_put_progress(const SbProgress *progress, int64 bundles);

#endif
