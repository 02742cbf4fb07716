/*
 * sb_value_order.h: the order of a type's values: its comparison, and for common types a number for
 * each value that is in the same order.
 */
#ifndef SB_VALUE_ORDER_H
#define SB_VALUE_ORDER_H

#include "postgres.h"
#include "query/sb_query_private.h"

typedef struct SbValueOrder
{
	SbType type;
	Oid collation;
	FmgrInfo compare;
	uint64 (*place)(Datum value); /* NULL: none */
	bool exact;                   /* values with the same place are equal */
	bool equal_is_image;          /* equal values have the same bytes */
} SbValueOrder;

/*
 * The order in which `sortop` sorts (InvalidOid: the type's own), and whether that is backwards.
 * False: there is none.
 */
extern bool sb_value_order_open(SbValueOrder *order, Oid type, Oid collation, Oid sortop,
                                bool *backwards);
/* 0 where there are no places. */
extern uint64 sb_value_place(const SbValueOrder *order, Datum value);
/* -1, 0, 1. As the pipeline's owner: it may be the user's function. */
extern int sb_value_compare(SbValueOrder *order, Datum a, Datum b);

#endif
