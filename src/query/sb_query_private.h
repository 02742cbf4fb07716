/*
 * sb_query_private.h: what the files of an open query share. Nobody outside query/ includes it.
 *
 * MEMORY. `memory` holds the query itself and dies with it. `econtext`'s per-tuple memory holds
 * what belongs to the current row. `scratch` is reset at the end of each operation on accumulators
 * that is not about a row. `out` holds one result row. `cells` and `bundle` are the caller's: see
 * sb_query.h.
 */
#ifndef SB_QUERY_PRIVATE_H
#define SB_QUERY_PRIVATE_H

#include "postgres.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "query/agg/sb_items.h"
#include "query/expr/sb_bytes.h"
#include "query/sb_query.h"
#include "utils/acl.h"
#include "utils/memutils.h"

/* Sums are kept in Datums and in 128 bits. */
StaticAssertDecl(SIZEOF_DATUM == 8, "stream_beam needs a 64-bit server");
#ifndef HAVE_INT128
#error "stream_beam needs a compiler with 128-bit integers"
#endif

/* ---- types and the bytes of values (sb_query_datum.c) ---- */

typedef struct SbType
{
	Oid oid;
	int16 len;
	bool byval;
	char align;
	char storage;
} SbType;

extern void sb_type_init(SbType *type, Oid oid);
/*
 * A value without compression, expanded objects or pointers to elsewhere; copies into the current
 * context only where it has to.
 */
extern Datum sb_datum_flatten(const SbType *type, Datum value);
/* A flattened copy in the given context, one chunk. */
extern Datum sb_datum_copy(const SbType *type, Datum value, MemoryContext context);
/* Padding that a flattened value wants before it at this offset. */
extern Size sb_datum_padding(const SbType *type, Datum flat, Size offset);
extern Size sb_datum_size(const SbType *type, Datum flat);
/* Writes sb_datum_size() bytes, canonical: varlenas get a short header where they may. */
extern char *sb_datum_write(const SbType *type, Datum flat, char *to);
/* What it writes of a value that need not be flat, in the current context. */
extern char *sb_datum_bytes(const SbType *type, Datum value, uint32 *size);
/* The order of two values by these bytes; 0: they are the same. */
extern int sb_datum_compare_bytes(const SbType *type, Datum a, Datum b);
/*
 * Reads what sb_datum_write() wrote and moves *data on. By-reference values point into the bytes
 * where they are aligned there, and are copies in the current context otherwise. Error
 * ERRCODE_DATA_CORRUPTED where the value does not end before `end`.
 */
extern Datum sb_datum_read(const SbType *type, const char **data, const char *end);
/* Moves *data behind the value, with the same error. */
extern void sb_datum_skip(const SbType *type, const char **data, const char *end);

/*
 * The bits of a pass-by-value value that count for equality, whatever the rest of the Datum holds.
 */
static inline uint64
sb_byval_bits(int16 len, Datum value)
{
	switch (len)
	{
		case 1:
			return (uint8) value;
		case 2:
			return (uint16) value;
		case 4:
			return (uint32) value;
		default:
			return (uint64) value;
	}
}

/* ---- the row (sb_query_row.c) ---- */

typedef struct SbRowSlot
{
	VirtualTupleTableSlot base; /* so that the executor takes it for a slot */
	HeapTupleHeader header;     /* the current row's bytes, the caller's */
	TupleDesc layout;           /* the caller's */
	uint32 offset;              /* where the first attribute not yet deformed may start */
	AttrNumber stored;          /* attributes that the tuple has; later ones are null */
	AttrNumber ahead;           /* deform at least to here when at it */
} SbRowSlot;

extern SbRowSlot *sb_row_create(TupleDesc desc, Oid relation);
/* Makes attributes 1..natts valid. */
extern void sb_row_deform(TupleTableSlot *slot, int natts);

/* An expression over the source's row; bare columns need no executor. */
typedef struct SbExpr
{
	AttrNumber attno; /* > 0: just this column */
	ExprState *state; /* else */
} SbExpr;

/* ---- keys (sb_query_key.c) ---- */

typedef enum SbKeyMethod
{
	SB_KEY_BITS,  /* by value, equal iff the bits are */
	SB_KEY_BYTES, /* text and its like: equal iff the bytes are */
	SB_KEY_UUID,
	SB_KEY_FUNCTION
} SbKeyMethod;

typedef struct SbKey
{
	SbExpr expr;
	SbType type;
	Oid collation;
	SbKeyMethod method;
	bool hash_is_extended; /* else the 32-bit function */
	FmgrInfo hash;
	FmgrInfo equal;
} SbKey;

extern void sb_query_open_keys(SbQuery *query);

/* ---- aggregates ---- */

/* SbAcc.form */
typedef enum SbAccForm
{
	SB_ACC_NEW,   /* nothing added; owns nothing */
	SB_ACC_VALUE, /* plain value; by-reference ones are a chunk in `cells` */
	/* internal state or expanded object in `bundle` memory: gone when that is reset */
	SB_ACC_LIVE,
	SB_ACC_PARKED /* a serialized internal state: bytea, a chunk in `cells` */
} SbAccForm;

typedef struct SbAgg SbAgg;

/*
 * How a class of aggregates is computed: sb_agg.c picks one. `add` sees the arguments of the row in
 * agg->values, in the row's memory. `merge` is only called with two accumulators that are not new.
 * `encode` and `decode` see non-null VALUE and PARKED forms. `result` runs in `out`.
 */
typedef struct SbAggMethod
{
	uint8 id; /* written to the state table: never reuse one */
	const char *name;
	bool nulls;        /* a VALUE may be null */
	bool parks;        /* what is not null is PARKED at rest, never VALUE */
	bool keeps_values; /* so it grows with the rows */
	bool items;        /* a VALUE is an SbItems */
	/* keeps_values: what of them a pane reads */
	const char *(*reads)(const SbAgg *agg);
	void (*add)(SbQuery *query, SbAgg *agg, SbAcc *acc);
	/* NULL: not of a retractable query; leaves NEW behind the last row */
	void (*retract)(SbQuery *query, SbAgg *agg, SbAcc *acc);
	void (*merge)(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from);
	void (*park)(SbQuery *query, SbAgg *agg, SbAcc *acc); /* NULL: never live */
	/* is a non-null VALUE a chunk in `cells`; NULL: with items */
	bool (*owns)(const SbAgg *agg);
	void (*encode)(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out);
	void (*decode)(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end);
	/* what accumulators of version 1 had other than today's; NULL: nothing */
	void (*decode_old)(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end);
	Datum (*result)(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull);
} SbAggMethod;

struct SbAgg
{
	const SbAggMethod *method;
	/* method->add, or one made for the aggregate */
	void (*add)(SbQuery *query, SbAgg *agg, SbAcc *acc);
	void (*retract)(SbQuery *query, SbAgg *agg, SbAcc *acc);
	const Aggref *aggref;
	ExprState *filter; /* FILTER, or NULL */
	int nargs;         /* all of aggref->args, sort expressions included */
	SbExpr *args;
	SbType *arg_types;
	NullableDatum *values; /* the current row's */
	bool skip;             /* the current row does not pass the FILTER */
	struct SbElementArg *element;
	void *impl; /* the method's: SbFast, SbTransition, SbInverse, SbMultisetPlan */
};

extern const SbAggMethod sb_agg_fast;
extern const SbAggMethod sb_agg_transition;
extern const SbAggMethod sb_agg_serialized;
extern const SbAggMethod sb_agg_bag;
/* of retractable queries */
extern const SbAggMethod sb_agg_counted;
extern const SbAggMethod sb_agg_exact;
extern const SbAggMethod sb_agg_inverse;
extern const SbAggMethod sb_agg_extreme;
extern const SbAggMethod sb_agg_multiset;
extern const SbAggMethod sb_agg_spelling;

extern void sb_query_open_aggs(SbQuery *query);
extern Datum sb_agg_result(SbQuery *query, int agg, SbAcc *acc, bool *isnull);

/* The fast path of this aggregate, or NULL. */
extern const void *sb_agg_fast_find(const Aggref *aggref);
extern void sb_agg_fast_open(SbQuery *query, SbAgg *agg, const void *fast);
/* Exact. */
extern Datum sb_int128_to_numeric(int128 value);
extern void sb_agg_generic_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple);
/* The same for retractable queries. */
extern const void *sb_agg_counted_find(const Aggref *aggref);
extern void sb_agg_counted_open(SbQuery *query, SbAgg *agg, const void *path);
extern const void *sb_agg_exact_find(const Aggref *aggref);
extern void sb_agg_exact_open(SbQuery *query, SbAgg *agg, const void *path);
extern bool sb_agg_inverse_can(const Aggref *aggref, HeapTuple aggtuple);
extern void sb_agg_inverse_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple);
extern bool sb_agg_extreme_can(const Aggref *aggref, HeapTuple aggtuple);
extern void sb_agg_multiset_open(SbQuery *query, SbAgg *agg, HeapTuple aggtuple);
/* Makes an accumulator new whose chunk in `cells`, if it had one, has been freed. */
static inline void
sb_acc_renew(SbAcc *acc)
{
	acc->value = (Datum) 0;
	acc->isnull = true;
	acc->form = SB_ACC_NEW;
}
/* Error 22000. */
extern _Noreturn void sb_agg_never_added(const SbAgg *agg);
extern void sb_agg_check_inverse(const Aggref *aggref, Oid function);

/* ---- the query ---- */

struct SbQuery
{
	const SbPlan *plan;
	bool retractable;
	MemoryContext memory;
	MemoryContext cells;
	MemoryContext bundle;
	MemoryContext scratch;
	MemoryContext out;

	/* the row */
	TupleTableSlot *slot; /* an SbRowSlot */
	ExprContext *econtext;
	ExprState *filter; /* NULL: all rows pass */
	bool filter_false; /* no row passes */

	/* windows */
	SbExpr event_time;
	SbExpr part; /* neither column nor state: not set */
	SbExpr split;
	SbWindow global_window;
	/* a user's window function, or NULL; it and what follows live in custom_memory */
	SetExprState *custom;
	MemoryContext custom_memory;
	bool custom_running; /* still set when a call begins: the last one failed */
	ExprContext *custom_econtext;
	MemoryContext custom_args;
	TupleDesc custom_desc;
	TupleTableSlot *custom_slot;
	AttrNumber custom_start, custom_end;

	/* keys */
	SbKey *keys;
	Datum *key_values; /* of the current row */
	bool *key_nulls;

	/* aggregates */
	SbAgg *aggs;
	SbItemSpace items;
	bool args_ready; /* the current row's arguments are in the aggs */
	int element_bits;

	/* output */
	TupleTableSlot *out_slot;
	ExprContext *out_econtext;
	ExprState *having;
	ExprState **columns;
	Datum timing[3]; /* text of each SbPaneTiming */
	bool uses_pane;
	const Datum *out_keys; /* while an output row is made: its keys, for direct arguments */
	const bool *out_key_nulls;
};

extern void sb_query_open_output(SbQuery *query);
/* After the aggregates: for queries whose elements are retained. */
extern void sb_query_open_element(SbQuery *query);
extern bool sb_query_merges(const SbQuery *query);
/* Puts the current row's arguments into the aggs. */
extern void sb_query_eval_args(SbQuery *query);
/* Compiles an expression over the source's row. */
extern void sb_expr_open(SbQuery *query, SbExpr *expr, Expr *node);

static inline MemoryContext
sb_row_memory(SbQuery *query)
{
	return query->econtext->ecxt_per_tuple_memory;
}

/* By-reference results point into the row or are in its memory. */
static inline Datum
sb_expr_eval(SbQuery *query, const SbExpr *expr, bool *isnull)
{
	if (expr->attno > 0)
	{
		TupleTableSlot *slot = query->slot;

		if (slot->tts_nvalid < expr->attno)
			sb_row_deform(slot, expr->attno);
		*isnull = slot->tts_isnull[expr->attno - 1];
		return slot->tts_values[expr->attno - 1];
	}
	return ExecEvalExprSwitchContext(expr->state, query->econtext, isnull);
}

#endif
