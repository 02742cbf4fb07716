/*
 * sb_plan.h: what a pipeline's query means: source, filter, window, keys, aggregates, output.
 *
 * A plan is made from a Query, either fresh from the parser (at creation: errors then carry
 * positions) or out of the stored view (at run time). It refuses what it cannot run, saying what,
 * where, and what to write instead. Expressions are const-folded and planned (expression_planner),
 * Vars of the source have varno 1. All in one memory context.
 */
#ifndef SB_PLAN_H
#define SB_PLAN_H

#include "postgres.h"
#include "nodes/bitmapset.h"
#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"
#include "query/window/sb_window_fn.h"

/*
 * The row on which output expressions and HAVING are evaluated: these columns, then the keys, then
 * the aggregates' results. Vars in output expressions have varno 1 and these attribute numbers
 * (1-based).
 */
#define SB_OUT_WINDOW_START 1   /* timestamptz */
#define SB_OUT_WINDOW_END 2     /* timestamptz */
#define SB_OUT_PANE_TIMING 3    /* text: EARLY, ON_TIME, LATE */
#define SB_OUT_PANE_INDEX 4     /* bigint */
#define SB_OUT_IS_LAST_PANE 5   /* boolean */
#define SB_OUT_PANE_TIMESTAMP 6 /* timestamptz */
#define SB_OUT_FIRST_KEY 7

typedef struct SbKeyDef
{
	Expr *expr; /* over the source */
	Oid type;
	int32 typmod;
	Oid collation;
} SbKeyDef;

typedef enum SbColumnKind
{
	SB_COLUMN_WINDOW_START,
	SB_COLUMN_WINDOW_END,
	SB_COLUMN_KEY, /* a bare group key, or of the primary key: part of the result's identity */
	SB_COLUMN_VALUE
} SbColumnKind;

typedef struct SbColumn
{
	char *name;
	SbColumnKind kind;
	int key; /* index of the key, for SB_COLUMN_KEY */
	Oid type;
	int32 typmod;
	Oid collation;
	Expr *expr; /* over the output row */
} SbColumn;

typedef struct SbPlan
{
	Oid source;         /* relation */
	Bitmapset *columns; /* attribute numbers of the source that are used */
	/* those of them that decide which groups a row is in: by the filter, the windows, the keys */
	Bitmapset *placing;
	AttrNumber max_attno; /* the largest of them, 0: none */
	List *filter;         /* implicit-AND list of Expr, NIL: none */

	SbWindowKind window_kind; /* SB_WINDOW_GLOBAL: no window function */
	Expr *event_time;         /* timestamptz over the source; NULL for the global window */
	/* the whole call, arguments over the source; NULL for the global window */
	FuncExpr *window_call;
	SbWindowFn *window_fn; /* bound; NULL for global and custom */

	int nkeys;
	SbKeyDef *keys;
	int naggs;
	Aggref **aggs; /* distinct calls (equal ones are shared); args, filter, order over the source */
	/*
	 * the last of them are none of the query's: each has the spelling of a key that equal rows may
	 * write in different ways (sb_plan_spell_keys())
	 */
	int nspelled;
	int *spelled; /* their keys */
	List *having; /* implicit-AND list over the output row */
	int ncolumns;
	/*
	 * the result table's columns, in the order of the select list; with a window function both of
	 * its columns are among them
	 */
	SbColumn *columns_out;
	/* false: one global group without GROUP BY, which has a row even for no input */
	bool grouped;
	/*
	 * neither groups nor aggregates: each row of the source, for each of its windows, is a row of
	 * the result. The keys are then the source's columns that the result is made of
	 */
	bool maps;
	/*
	 * the result has the source's primary key, whose columns are those of the kind SB_COLUMN_KEY:
	 * with the window they identify a row; else no column does, and equal rows stand there as often
	 * as the query has them
	 */
	bool keyed;
	Oid key_constraint; /* the source's primary key; 0: there is none */
	/* what the planner depends on: PlanInvalItem; functions that it has inlined are only there */
	List *inval_items;
} SbPlan;

/* Are its windows sessions, which merge? */
static inline bool
sb_plan_merges(const SbPlan *plan)
{
	return plan->window_fn != NULL && sb_window_fn_merges(plan->window_fn);
}

/* Has the result one row that is there for no input, too? */
static inline bool
sb_plan_stands_empty(const SbPlan *plan)
{
	return !plan->grouped && plan->window_kind == SB_WINDOW_GLOBAL;
}

/* May what is shown of the key change while its group lives? */
static inline bool
sb_plan_is_spelled(const SbPlan *plan, int key)
{
	for (int i = 0; i < plan->nspelled; i++)
	{
		if (plan->spelled[i] == key)
			return true;
	}
	return false;
}

/* Has the result equal rows as often as the query has them, with nothing to tell them apart? */
static inline bool
sb_plan_is_bag(const SbPlan *plan)
{
	return plan->maps && !plan->keyed;
}

/*
 * Builds the plan in the current memory context. Errors 0A000 (unsupported, with hint), 42P01,
 * 42809, 42501 (RLS), 42P20 and others as fits; 42P17 for volatile functions and those that read
 * clock or session. Positions by errposition() relative to the text the Query came from (locations
 * are -1 in a stored view's). Checks the current user's privileges. Locks the source
 * (AccessShareLock, retained).
 */
extern SbPlan *sb_plan_build(Query *query);

/*
 * Of a query that takes rows back: it keeps how the rows of a group write its keys, where equal
 * ones may be written in different ways. Of any other: it does not. In the plan's memory.
 */
extern void sb_plan_spell_keys(SbPlan *plan, bool retractable);

/*
 * The same with the text that the Query was parsed from (NULL: unknown), which error positions need
 * where it is not ASCII.
 */
extern SbPlan *sb_plan_build_text(Query *query, const char *text);

/*
 * The expression, given as text, by which the watermark of the plan's source is split: a value of
 * type text over the source. Error 22023 where it is not over its columns alone, and those of
 * sb_plan_build(). Planned, in the current context; with the current user's rights and search path.
 */
extern Expr *sb_plan_split(const SbPlan *plan, const char *text);

/* What a query computes with beside what stands in it; OIDs. */
typedef struct SbPlanObjects
{
	List *functions;
	List *types;
	List *
	    collations; /* of what it compares, sorts or groups by; the database's default among them */
	/* hash values of functions in the catalog cache, those that were inlined among them */
	List *hashes;
} SbPlanObjects;

/* Of the plan and the expression (NULL: none), in the current context. */
extern SbPlanObjects *sb_plan_objects(const SbPlan *plan, Expr *split);

/*
 * The name of the column that has a window's start or end, as it stands in SQL. NULL: it has none.
 */
extern const char *sb_plan_window_column(const SbPlan *plan, SbColumnKind kind);
/* The window that a row of the result is of; from `window` what its columns do not say. */
extern SbWindow sb_plan_row_window(const SbPlan *plan, const Datum *values, SbWindow window);

/*
 * The plan as a tree a person can read, lines separated by newlines, without the pipeline's
 * settings.
 */
extern char *sb_plan_explain(const SbPlan *plan);

/*
 * Puts `w.window_start, w.window_end` in front of a raw SELECT's target list where its FROM has a
 * window function and the list leaves them out. Works on the raw parse tree in place, so that the
 * view that is made of it has them too.
 */
extern void sb_plan_add_window_columns(RawStmt *stmt);

#endif
