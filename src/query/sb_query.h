/*
 * sb_query.h: a plan, compiled: it reads source rows, groups them, accumulates, and makes result
 * rows.
 *
 * MEMORY. An SbQuery lives in the context current at open. `cells` holds by-reference accumulator
 * values that outlive a bundle. The per-row memory is the query's own and is reset by
 * sb_query_set_row(). `bundle` memory holds live internal-type states, until sb_query_acc_park().
 */
#ifndef SB_QUERY_H
#define SB_QUERY_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "engine/sb_reduce.h"
#include "lib/stringinfo.h"
#include "query/agg/sb_items.h"
#include "query/plan/sb_plan.h"

/* One aggregate's accumulator in a cell. */
typedef struct SbAcc
{
	Datum value;
	bool isnull;
	/*
	 * private to query/: not yet started, plain value, live internal state, parked (serialized),
	 * bag
	 */
	uint8 form;
} SbAcc;

typedef struct SbQuery SbQuery;

typedef enum SbSame
{
	SB_SAME_NOTHING,
	/* filter, windows and keys say the same of both: only what is aggregated differs */
	SB_SAME_PLACE,
	SB_SAME_ALL
} SbSame;

/*
 * `retractable`: rows can be taken out of accumulators again, and the aggregates are kept in forms
 * that allow it exactly. Fixed for a pipeline's life: accumulators of one mode cannot be decoded in
 * the other.
 */
extern SbQuery *sb_query_open(const SbPlan *plan, MemoryContext cells, MemoryContext bundle,
                              bool retractable);
extern void sb_query_close(SbQuery *query);
/*
 * How an aggregate is computed, for explain: fast, transition, serialized, bag; retractable: fast,
 * exact, inverse, extreme, multiset.
 */
extern const char *sb_query_agg_method(const SbQuery *query, int agg);
/*
 * What a pane reads of the values that the aggregate keeps, for explain; NULL: it keeps none.
 */
extern const char *sb_query_agg_reads(const SbQuery *query, int agg);
/*
 * The first aggregate of the user's that keeps all values only because rows can be taken back;
 * NULL: none does.
 */
extern const char *sb_query_cannot_retract(const SbQuery *query);
/* Where its items are written; else all of them stay in memory. */
extern void sb_query_set_items(SbQuery *query, const SbItemStore *store);
/* The bytes of all items in memory. */
extern Size sb_query_items_bytes(const SbQuery *query);
/* The name of the first aggregate that keeps the values of its rows; NULL: none does. */
extern const char *sb_query_keeps_values(const SbQuery *query);

/* ---- a source row ---- */
/*
 * Makes a tuple the current row. `layout` is the tuple's layout as of its time (only attlen,
 * attalign, attbyval, attisdropped are trusted). The tuple's memory must live until the next call.
 * Deforms only as far as needed, lazily.
 */
extern void sb_query_set_row(SbQuery *query, HeapTupleHeader tuple, TupleDesc layout);
/*
 * The same for another tuple of the layout, for which windows and keys of the current row hold,
 * too: they stay good.
 */
extern void sb_query_exchange_row(SbQuery *query, HeapTupleHeader tuple);
/* What is the same in two tuples of a layout, as far as the query uses them? To the byte. */
extern SbSame sb_query_compare(const SbQuery *query, HeapTupleHeader a, HeapTupleHeader b,
                               TupleDesc layout);
extern bool sb_query_filter(SbQuery *query);
/*
 * Windows of the current row; 0: it is in none, as where a window function of ours has a null event
 * time. *windows good until the next row; *event_time: SB_TIME_MIN: null.
 */
extern int sb_query_windows(SbQuery *query, TimestampTz *event_time, SbWindow **windows);
/*
 * A further expression over the source's row: the part value by which a history is read. It is null
 * where nothing has been set. By-reference values are good until the next row.
 */
extern void sb_query_set_part(SbQuery *query, Expr *expr);
extern Datum sb_query_part(SbQuery *query, bool *isnull);
/* Likewise the value, of type text, by which the watermark is split. It must have been set. */
extern void sb_query_set_split(SbQuery *query, Expr *expr);
extern Datum sb_query_split(SbQuery *query, bool *isnull);
/*
 * Evaluates the group keys of the current row; they stay good until the next row. The hash respects
 * the types' equality; of a query that maps it is 0.
 */
extern uint64 sb_query_keys(SbQuery *query, const Datum **values, const bool **nulls);

/* ---- keys ---- */
extern bool sb_query_keys_equal(SbQuery *query, const Datum *a, const bool *anulls, const Datum *b,
                                const bool *bnulls);
/*
 * One varlena (bytea) in the current context. Decode fills values[nkeys]; by-reference values point
 * into the bytes, except for those that are not aligned there (bytes with a short header, or not
 * palloc'd): these are copies in the current context. Equal keys may have different bytes (1.0 and
 * 1.00): look stored keys up by hash and compare with sb_query_keys_equal().
 */
extern bytea *sb_query_keys_encode(SbQuery *query, const Datum *values, const bool *nulls);
extern void sb_query_keys_decode(SbQuery *query, const bytea *bytes, Datum *values, bool *nulls);
extern uint64 sb_query_keys_hash(SbQuery *query, const Datum *values, const bool *nulls);

/* ---- accumulators: arrays of plan->naggs ---- */
extern void sb_query_acc_init(SbQuery *query, SbAcc *accs);
/* adds the current row (arguments are evaluated once a row, whatever the number of windows) */
extern void sb_query_acc_add(SbQuery *query, SbAcc *accs);
/*
 * Takes the current row out of the accumulators: exactly undoes an earlier add of an equal row to
 * them, or to what was merged into them. Rows may go in any order. An accumulator without rows is
 * as good as new. Only in a retractable query. Error 22000 where it is seen that the row was never
 * added (the accumulators are spoiled then, as after any error); sums and counts see it only when
 * there are too few rows.
 */
extern void sb_query_acc_retract(SbQuery *query, SbAcc *accs);
/* into += from; `from` is to be freed by the caller afterwards */
extern void sb_query_acc_merge(SbQuery *query, SbAcc *into, SbAcc *from);
/*
 * Frees what the accumulators own and makes them new. Live states are left to the reset of the
 * bundle's memory. Items that are in the table stay there.
 */
extern void sb_query_acc_free(SbQuery *query, SbAcc *accs);
/* The same; they are over, and their items leave the table with the next write. */
extern void sb_query_acc_drop(SbQuery *query, SbAcc *accs);
/* What is in the table of their items, and has not changed, leaves memory. */
extern void sb_query_acc_unload(SbQuery *query, SbAcc *accs);
/* The numbers of their trees of items, into an array of naggs; returns how many. */
extern int sb_query_acc_trees(SbQuery *query, const SbAcc *accs, int64 *trees);
/* turns live internal states into a form that survives the reset of the bundle's memory */
extern void sb_query_acc_park(SbQuery *query, SbAcc *accs);
/* by-reference bytes held in `cells`, palloc overhead included; 0 for live and for items */
extern Size sb_query_acc_bytes(SbQuery *query, const SbAcc *accs);
/* versioned bytes for the state table; parked or plain forms only (park first) */
extern void sb_query_acc_encode(SbQuery *query, const SbAcc *accs, StringInfo out);
extern void sb_query_acc_decode(SbQuery *query, SbAcc *accs, const char **data, const char *end);

/*
 * ---- elements: rows as accumulators see them (of a retractable query over merging windows) ----
 */
/* Appends the current row's bytes: equal for rows that are the same to the accumulators. */
extern void sb_query_element_write(SbQuery *query, StringInfo out);
/*
 * Makes such bytes, which must live until the next row, the current row of sb_query_acc_add() and
 * sb_query_acc_retract(), and of nothing else.
 */
extern void sb_query_element_set(SbQuery *query, const char *data, Size size);

/* ---- a result row ---- */
/*
 * Evaluates HAVING and the select list for a pane. False: HAVING is not true, no row. The arrays
 * have plan->ncolumns entries; by-reference values live until the next call or row. Accumulators
 * are not changed (final functions get copies where they could).
 */
extern bool sb_query_output(SbQuery *query, SbWindow window, const SbPane *pane, const Datum *keys,
                            const bool *key_nulls, SbAcc *accs, Datum *values, bool *nulls);

/* The same for the one group of a query without GROUP BY when it has no row. */
extern bool sb_query_output_empty(SbQuery *query, Datum *values, bool *nulls);

/*
 * Does the select list or HAVING use pane_timing() and its like (so that a pane without new
 * elements still changes the row)?
 */
extern bool sb_query_uses_pane(const SbQuery *query);

#endif
