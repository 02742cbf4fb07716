/*
 * sb_version.h: versions of a pipeline. A new definition, or the old one again, is built beside
 * the running version from the history of its source, as a pipeline of its own with a result table
 * of its own; when it is as far, the two exchange their places.
 *
 * All functions want SPI connected and the rights of the extension's owner, and take those of the
 * pipeline's owner by themselves.
 */
#ifndef SB_VERSION_H
#define SB_VERSION_H

#include "postgres.h"
#include "catalog/sb_pipeline_row.h"
#include "pipeline/sb_pipeline.h"
#include "query/plan/sb_plan.h"

/* ---- the relations of a version (sb_version_relations.c) ---- */

/* A name that is free: PIPELINE_vN, and with _batch behind for a view. */
extern char *sb_version_table_name(const SbPipelineRow *row, Oid namespace);
extern char *sb_version_view_name(const SbPipelineRow *row, Oid namespace);
/* A result table, as the current user. An aggregate over nothing is in it: that is a row too. */
extern Oid sb_version_make_result(const SbPlan *plan, SbAccumulation accumulation, Oid namespace,
                                  const char *name);
/*
 * The constraints that a user has given one result table, to another, as the current user: what a
 * version computes beside the current one is to be refused before the two are exchanged.
 */
extern void sb_version_copy_constraints(const SbPlan *plan, Oid from, Oid to);
/* Has the first one got such a constraint since the other one was made? */
extern bool sb_version_lacks_constraints(const SbPlan *plan, Oid from, Oid to);
/*
 * The state table, the queue of a downstream pipeline, and (`history`) what says that the rows that
 * its source has are to be taken in. The row must be in the catalog.
 */
extern void sb_version_make_state(SbPipelineRow *row, const SbPlan *plan, bool history);
/* What its query computes with, as it is now (catalog/sb_dependency.h). */
extern void sb_version_record_dependencies(const SbPipelineRow *row, const SbPlan *plan);
/* What is not dropped with a version. */
#define SB_KEEP_RESULT 1
#define SB_KEEP_VIEW 2
/* Locks what is to be dropped, but for the view. Waits for the running bundle. */
extern void sb_version_lock_relations(const SbPipelineRow *row, int keep);
/*
 * Drops what the version has, and its row; a view that other versions share stays. Waits for the
 * running bundle.
 */
extern void sb_version_drop(const SbPipelineRow *row, int keep);
/*
 * The queues of downstream pipelines that are no more. Dropping such a pipeline leaves its queue to
 * the runner, since its upstream writes there until the drop is committed, and is not to wait for
 * that. Worker, SPI connected; no argument.
 */
extern void sb_version_drop_queues(void *arg);
/* Drops one of its relations, if it is there. */
extern void sb_version_drop_relation(Oid relation, char relkind);
/*
 * The plan of its definition, made as its owner; the fingerprint too (NULL: not wanted). Errors as
 * sb_view_definition().
 */
extern SbPlan *sb_version_plan(const SbPipelineRow *row, char **fingerprint);
/* Runs SQL as the current user; error where it fails. All names in it are qualified. */
extern void sb_version_run(const char *sql, int nargs, const Oid *types, const Datum *values);

/* ---- what the result table and the batch view have to become (sb_version_shape.c) ---- */

/*
 * Error where that cannot be: something depends on a column that goes away, or on the batch view.
 */
extern void sb_version_check_shape(const SbPipelineRow *current, const SbPipelineRow *next);
/*
 * The ALTER TABLE that gives the current version's result table the columns of the next one; NULL:
 * it has them.
 */
extern char *sb_version_alter_sql(const SbPipelineRow *current, const SbPipelineRow *next);
/*
 * Does the batch view stay the same relation, so that what depends on it reads the new definition?
 */
extern bool sb_version_view_stays(const SbPipelineRow *current, const SbPipelineRow *next);

/* ---- making one (sb_version.c) ---- */

/*
 * Begins a version with this definition, to take the place of the current one: the row has all but
 * id, version, result, state table and position. With it a version of each downstream pipeline, and
 * so on. Error 55000 where one is being built already. It goes on when the transaction commits.
 */
extern void sb_version_begin(SbPipelineRow *row, const SbPlan *plan);
/*
 * The version's definition, to be begun for this reason (or NULL); the old one is not kept.
 */
extern SbPipelineRow *sb_version_same(const SbPipelineRow *current, const char *reason,
                                      SbPlan **plan);
/* Its result table stays until the transaction ends; error 42P01: it is gone. */
extern void sb_version_check_result(const SbPipelineRow *current);
/* Error 55000: one is being built already. */
extern _Noreturn void sb_version_refuse_second(const char *name);
/* Error 0A000 where rows can be taken back, and the pipeline has forgotten them. */
extern void sb_version_check_accumulation(const SbPipelineRow *row, const SbPlan *plan);
/* For the runner: does what sb_catalog_mark_rebuild() asked for, of all of these rows. */
extern void sb_version_rebuild_marked(List *rows);

/*
 * A version that cannot be rebuilt is set to failed, with the error. An error that may pass is
 * raised.
 */
extern void sb_version_begin_failed(const SbPipelineRow *row, ErrorData *error);

/* Drops those whose time is over; returns when the next one's is. A job of housekeeping. */
extern TimestampTz sb_version_expire(TimestampTz now);

/* ---- a version and those downstream of it (sb_version_tree.c) ---- */

/*
 * The version, one of these rows, with whose place this one takes its own; NULL: it takes it by
 * itself.
 */
extern SbPipelineRow *sb_version_leader(List *rows, const SbPipelineRow *row);
/*
 * Those of the rows that take their places together with this one, itself among them, each behind
 * its upstream; NIL: it is not among them.
 */
extern List *sb_version_tree(List *rows, const SbPipelineRow *building);
/*
 * For each pipeline downstream of the current version a version downstream of the next one, and so
 * on, where there is none yet: one that is kept of the same definition, or a new one. `reason`
 * NULL: a user alters the pipeline, or rolls it back, so that downstream pipelines which are being
 * altered themselves are an error (55000) and paused ones are waited for; otherwise the former
 * begin again and the latter get one, too.
 */
extern void sb_version_begin_downstream(const SbPipelineRow *current, const SbPipelineRow *next,
                                        const char *reason);
/*
 * The version `from` is no more, the next one is in its place: versions that are being built
 * downstream of it begin again over the next one, kept ones are dropped.
 */
extern void sb_version_move_downstream(int32 from, const SbPipelineRow *next, const char *reason);
/*
 * Error 42P17: the version with this id, which a pipeline of this name is to read, is made from its
 * result, or is to be.
 */
extern void sb_version_check_cycle(const char *name, int32 upstream);
/*
 * For the runner: completes the trees to which downstream pipelines have been added since. A
 * version for which that cannot be done is set to failed.
 */
extern void sb_version_complete_trees(void);
/*
 * Locks the rows of those downstream of the current version, and so on; `running`: error 55000
 * where one is paused.
 */
extern void sb_version_lock_downstream(const SbPipelineRow *current, bool running);
/* Drops a version and those of downstream pipelines' versions that read it. */
extern void sb_version_drop_tree(const SbPipelineRow *row, int keep);
/* Gives up one that is being built; it is kept on if it was. */
extern void sb_version_cancel(SbPipelineRow *row);

/* ---- exchanging them (sb_version_ready.c, sb_version_swap.c) ---- */

typedef struct SbExchange
{
	SbPipeline *building;
	SbPipeline *current; /* NULL: that one does not run */
} SbExchange;

/*
 * Of the open pipelines, a version that has taken in the history of its source and is where the
 * current one is, with all that follow it, each behind its upstream: a list of SbExchange. NIL:
 * none. By turns: the one that comes after this id, else the first.
 */
extern List *sb_version_ready(List *pipelines, int32 after);
/*
 * The building versions take the places of the current ones, in a transaction of its own between
 * two bundles. True: all versions of these pipelines are to be opened anew. False: somebody is in
 * the way, who is not waited for long, or a version has been set to failed, or they are not what
 * they were when they were opened.
 */
extern bool sb_version_try_swap(List *exchanges);

#endif
