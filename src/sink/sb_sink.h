/*
 * sb_sink.h: where the panes of a pipeline go.
 *
 * The result table is a sink (sb_result.h), the rows for downstream pipelines are one
 * (pipeline/sb_pipeline_chain.c), and a test's script is one that stands for all tables
 * (api/sb_api_test.c). A pipeline puts each row into all that it has.
 */
#ifndef SB_SINK_H
#define SB_SINK_H

#include "postgres.h"
#include "engine/sb_pane.h"
#include "engine/sb_window.h"
#include "sink/sb_letters.h"

typedef struct SbSinkRow
{
	const SbPane *pane;
	SbWindow window;
	const Datum *values; /* of the plan's columns */
	const bool *nulls;
	/*
	 * 1; -1: the row is taken back; 0: the pane has none (HAVING is not true: values are not set).
	 * Where equal rows may stand there more than once, as many are meant
	 */
	int64 op;
	/* op < 0: another row with its identity takes its place, in the same write */
	bool replaced;
} SbSinkRow;

/* How many equal rows are meant. */
static inline int64
sb_sink_row_count(const SbSinkRow *row)
{
	return row->op < 0 ? -row->op : row->op;
}

/* A group whose last pane could not be computed, or written. */
typedef struct SbFailedGroup
{
	int32 pipeline;
	SbWindow window;
	uint64 key_hash; /* with a number: its cell, as the state table knows it */
	int16 key_seq;
	const char *key; /* JSON; NULL where it does not matter */
} SbFailedGroup;

/* Any function but put may be missing. */
typedef struct SbSinkKind
{
	const char *name;
	/*
	 * Its write may fail for what is put: where that is to be found out it is asked first, in a
	 * subtransaction, and the others are told what it has taken. Then it has `forget`.
	 */
	bool may_refuse;
	/* It tells panes apart: each is put, also one that says nothing new, or has no row. */
	bool wants_panes;
	void (*put)(void *sink, const SbSinkRow *row);
	/*
	 * Accumulating: the row of a (window, key) is to vanish, the window being no more, or the
	 * group.
	 */
	void (*remove)(void *sink, SbWindow window, const Datum *keys, const bool *nulls);
	/* Within the transaction, as the owner, where something is pending. */
	bool (*is_pending)(const void *sink);
	void (*write)(void *sink);
	/* What is pending was put in a subtransaction that has been rolled back. */
	void (*forget)(void *sink);
	/* A pane has failed; `error` NULL: the group had failed before, and is well again. */
	void (*failed)(void *sink, const SbFailedGroup *group, const ErrorData *error);
	/* A row is too late for a window. In a short-lived context. */
	void (*late)(void *sink, const SbLateEvent *event, const char *json);
} SbSinkKind;

typedef struct SbSink
{
	const SbSinkKind *kind;
	void *sink;
} SbSink;

#endif
