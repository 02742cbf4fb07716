/*
 * sb_plan_private.h: what the files that make a plan share; nobody else includes it.
 *
 * sb_plan.c builds, sb_plan_check.c refuses clauses and functions, sb_plan_from.c reads FROM. They
 * work on a copy of the Query that is brought into one form first: join aliases are resolved, Vars
 * of the source table have varno SB_PLAN_SOURCE, Vars of the window function SB_PLAN_WINDOW,
 * whatever the range table looked like.
 */
#ifndef SB_PLAN_PRIVATE_H
#define SB_PLAN_PRIVATE_H

#include "postgres.h"
#include "query/plan/sb_plan.h"

#define SB_PLAN_SOURCE 1
#define SB_PLAN_WINDOW 2

/* Columns of a window function's result: they must be its first two. */
#define SB_PLAN_ATTNO_START 1
#define SB_PLAN_ATTNO_END 2

typedef struct SbPlanBuild
{
	SbPlan *plan;
	Query *query;     /* our copy */
	const char *text; /* what the query was parsed from, NULL: not known */
	Index source_rti; /* range table indexes; 0: none */
	Index window_rti;
	Node *quals;     /* WHERE and the conditions of inner joins */
	List *key_exprs; /* per key: its expression in the common form, not yet planned */
	List *aggs;      /* planned Aggrefs, no two equal */
	/* of a query that maps: numbers of the source's columns that identify a row; NULL: none do */
	Bitmapset *identity;
} SbPlanBuild;

/* Where an expression stands, for sb_plan_check_expr. */
typedef enum SbPlanPlace
{
	SB_PLACE_SELECT,
	SB_PLACE_HAVING,
	SB_PLACE_WHERE,
	SB_PLACE_GROUP,
	SB_PLACE_WINDOW,
	SB_PLACE_AGGREGATE
} SbPlanPlace;

/* ---- sb_plan.c ---- */
/* Planned; what the planner depends on is noted in the plan. */
extern Expr *sb_plan_expression(SbPlan *plan, Expr *expr);

/* ---- sb_plan_check.c ---- */
/*
 * For use inside ereport(): the error's position, where both the location and the text are known.
 */
extern int sb_plan_position(const SbPlanBuild *build, int location);
/* ERROR 0A000 "<what> is not supported in a pipeline's query" */
extern _Noreturn void sb_plan_refuse(const SbPlanBuild *build, int location, const char *what,
                                     const char *hint);
extern void sb_plan_check_clauses(const SbPlanBuild *build);
/*
 * Refuses volatile functions, functions that read clock or session, and pane functions where there
 * is no pane.
 */
extern void sb_plan_check_expr(const SbPlanBuild *build, Node *expr, SbPlanPlace place);
/*
 * The current user's rights on what the plan uses: columns of the source, window function,
 * aggregates.
 */
extern void sb_plan_check_privileges(const SbPlan *plan);
/* Is this function a member of our extension, in its schema? */
extern bool sb_plan_is_ours(Oid function);
/* SB_OUT_* for pane_timing() and its like, 0 for any other function. */
extern AttrNumber sb_plan_pane_column(Oid function);

/* ---- sb_plan_stable.c ---- */
typedef enum SbStable
{
	SB_STABLE_OTHER,
	SB_STABLE_OF_SETTINGS, /* depends on settings that a pipeline keeps */
	SB_STABLE_OF_OUTPUT    /* ... and on the output functions of its arguments' types */
} SbStable;

/* What is known of a STABLE function. */
extern SbStable sb_plan_stable(Oid function);
/*
 * The type whose input (or output) function would have a conversion of this type from (or to) text
 * depend on anything else: the type itself, or one that it is made of. InvalidOid: none.
 */
extern Oid sb_plan_unstable_text(Oid type, bool input);

/* ---- sb_plan_raw.c ---- */
/*
 * Where in the text of a query an item of its FROM stands, by its number in the range table; -1:
 * not known. Parses: for errors only.
 */
extern int sb_plan_item_location(const char *text, Index rti);

/* ---- sb_plan_from.c ---- */
/* Finds and checks the source and the window function, collects the conditions. */
extern void sb_plan_read_from(SbPlanBuild *build);
/*
 * Brings an expression of the query into the common form (see above); refuses whole-row and system
 * columns.
 */
extern Node *sb_plan_normalise(const SbPlanBuild *build, Node *expr);
/* Fills in the window fields of the plan; GROUP BY is not looked at. */
extern void sb_plan_bind_window(SbPlanBuild *build);
extern bool sb_plan_uses_relation(Node *expr, Index varno);
/* location of the first Var of the relation, or -1 */
extern int sb_plan_find_var(Node *expr, Index varno);

#endif
