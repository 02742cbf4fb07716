/*
 * sb_option.h: the options of a pipeline, each described once (the table in sb_option.c).
 *
 * What beam.create_pipeline() and beam.alter_pipeline() take, what the catalog keeps and a dump
 * has, what the next version takes over and beam.explain_pipeline() shows: all of it asks the
 * table. An option is a line in it, a field of SbPipelineRow, a column of beam.pipeline, an
 * argument of the SQL functions and a row in docs/reference.md; scripts/check-source compares them.
 *
 * RULES. The catalog, and the functions in it, may be older than the library, until ALTER EXTENSION
 * ... UPDATE. So arguments and columns are found by their names, and where one is missing its
 * option has the default.
 */
#ifndef SB_OPTION_H
#define SB_OPTION_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "catalog/sb_pipeline_names.h"
#include "catalog/sb_pipeline_row.h"
#include "fmgr.h"

typedef struct SbOption SbOption;

/* What differs with the type of an option. An option's field is in the row, its value in SQL. */
typedef struct SbOptionKind
{
	Oid column_type;
	const char *cast; /* of a value of this type to that of the column */
	/* a value as the argument has it, from the text of the default */
	Datum (*parse)(const char *text);
	/* checks an argument, and fills in the field; errors 22023. `create`: of a new pipeline */
	void (*take)(const SbOption *option, Datum argument, bool create, void *field);
	/* from the column, null: the option is not set; what it points to is in the current context */
	void (*put)(void *field, Datum value, bool isnull);
	/* to the column */
	Datum (*get)(const void *field, bool *isnull);
	/* for beam.explain_pipeline(); NULL: nothing. No function: it cannot be shown */
	char *(*show)(const void *field);
} SbOptionKind;

/* The functions that take options. */
typedef enum SbCall
{
	SB_CALL_NONE = 0, /* another one makes a version */
	SB_CALL_CREATE = 1,
	SB_CALL_ALTER = 2,
	SB_CALL_ROLLBACK = 4
} SbCall;

/* How long it counts. */
typedef enum SbKept
{
	SB_KEPT_CALL,      /* for the call that it is given to */
	SB_KEPT_VERSION,   /* for the version that the call makes, until this is the current one */
	SB_KEPT_DEFINITION /* the next versions take it over, and it is dumped */
} SbKept;

struct SbOption
{
	const char *name; /* as an argument */
	const SbOptionKind *kind;
	size_t field;              /* in SbPipelineRow */
	const char *default_value; /* as a text; NULL: it is not set */
	/* where the default follows from other options: once these are known; or NULL */
	void (*settle)(SbPipelineRow *row);
	int calls; /* the SbCalls that take it */
	SbKept kept;
	const char *column;   /* of beam.pipeline; NULL: it is not kept longer than the call */
	const SbNames *names; /* its values, where these are names */
	/*
	 * A null argument says that it is not set. But where it is of the definition of a pipeline that
	 * there is, null leaves it as it is; `zero_unsets`: then a zero, or an empty text, says that it
	 * is not set.
	 */
	bool nullable, zero_unsets;
	bool of_table; /* means nothing for a downstream pipeline */
	bool of_panes; /* means nothing for a query without aggregates and GROUP BY */
	/*
	 * What beam.explain_pipeline() has before its value; one that begins a line has the end of the
	 * line before. NULL: it is not shown
	 */
	const char *explain;
	/* of_table: before the name of the upstream's result, instead; or NULL */
	const char *explain_upstream;
};

/* The last one is followed by one without a name. */
extern const SbOption sb_options[];

static inline Datum
sb_option_get(const SbOption *option, const SbPipelineRow *row, bool *isnull)
{
	return option->kind->get((const char *) row + option->field, isnull);
}

/* Has the catalog a column for it? */
extern bool sb_option_has_column(const SbOption *option);
/* Fills in the options of a row that was read: each is found by its column's name. */
extern void sb_options_read(SbPipelineRow *row, HeapTuple tuple, TupleDesc desc);

/* Error 22004 where an argument that must not be null is; `function` is its name, for the error. */
extern void sb_options_refuse_null(FunctionCallInfo fcinfo, const char *function);
/*
 * Fills in the row's options from the arguments of the function that is called. An option that is
 * null, or no argument of it, is what sb_options_begin() says.
 */
extern void sb_options_take(FunctionCallInfo fcinfo, SbCall call, SbPipelineRow *row);
/* Defaults that follow from other options: of a row whose source, and so the mode, is known. */
extern void sb_options_settle(SbPipelineRow *row);
/*
 * What a version begins with: the definition that the row has, or that of a new pipeline, and of
 * the other options the defaults of those that the function takes.
 */
extern void sb_options_begin(SbPipelineRow *row, SbCall call);
/* Have two rows the same definition, as far as it means something for their sources? */
extern bool sb_options_same(const SbPipelineRow *a, const SbPipelineRow *b);
/* Of a copy of a row: what options point to is a copy, too, in the current context. */
extern void sb_options_copy(SbPipelineRow *row);
/* Of a query without aggregates and GROUP BY: error 22023 where one of panes is not the default. */
extern void sb_options_refuse_panes(const SbPipelineRow *row);
/* Lines for beam.explain_pipeline(). */
extern char *sb_options_explain(const SbPipelineRow *row);

#endif
