/*
 * sb_value_order.c: see sb_value_order.h.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "base/sb_compat.h"
#include "catalog/pg_am.h"
#include "query/agg/sb_value_order.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"

/* ---- places ---- */

#define SB_PLACE_SIGN (UINT64CONST(1) << 63)

static uint64
place_of_int64(int64 value)
{
	return (uint64) value ^ SB_PLACE_SIGN;
}

static uint64
place_of_double(double value)
{
	uint64 bits;

	/* all of them are equal, and greater than anything else */
	if (isnan(value))
		return PG_UINT64_MAX;
	if (value == 0)
		value = 0;
	memcpy(&bits, &value, sizeof(bits));
	return bits & SB_PLACE_SIGN ? ~bits : bits | SB_PLACE_SIGN;
}

static uint64
place_int2(Datum value)
{
	return place_of_int64(DatumGetInt16(value));
}

static uint64
place_int4(Datum value)
{
	return place_of_int64(DatumGetInt32(value));
}

static uint64
place_int8(Datum value)
{
	return place_of_int64(DatumGetInt64(value));
}

static uint64
place_oid(Datum value)
{
	return DatumGetObjectId(value);
}

static uint64
place_bool(Datum value)
{
	return DatumGetBool(value);
}

static uint64
place_float4(Datum value)
{
	return place_of_double(DatumGetFloat4(value));
}

static uint64
place_float8(Datum value)
{
	return place_of_double(DatumGetFloat8(value));
}

/* Rounding keeps the order, and makes one place of neighbours. */
static uint64
place_numeric(Datum value)
{
	return place_of_double(DatumGetFloat8(DirectFunctionCall1(numeric_float8_no_overflow, value)));
}

static uint64
place_uuid(Datum value)
{
	const uint8 *bytes = (const uint8 *) DatumGetPointer(value);
	uint64 place = 0;

	for (int i = 0; i < 8; i++)
		place = place << 8 | bytes[i];
	return place;
}

typedef struct SbPlaceKind
{
	Oid compare; /* what the place is in the order of */
	uint64 (*place)(Datum value);
	bool exact;
} SbPlaceKind;

static const SbPlaceKind place_kinds[] = {
    {F_BTINT2CMP, place_int2, true},       {F_BTINT4CMP, place_int4, true},
    {F_BTINT8CMP, place_int8, true},       {F_BTOIDCMP, place_oid, true},
    {F_BTBOOLCMP, place_bool, true},       {F_BTFLOAT4CMP, place_float4, true},
    {F_BTFLOAT8CMP, place_float8, true},   {F_DATE_CMP, place_int4, true},
    {F_TIME_CMP, place_int8, true},        {F_TIMESTAMP_CMP, place_int8, true},
    {F_TIMESTAMPTZ_CMP, place_int8, true}, {F_NUMERIC_CMP, place_numeric, false},
    {F_UUID_CMP, place_uuid, false},
};

uint64
sb_value_place(const SbValueOrder *order, Datum value)
{
	return order->place ? order->place(value) : 0;
}

/* ---- opening ---- */

/* Do all equal values have the same bytes? The type's operator class says so, by the collation. */
static bool
value_equal_is_image(Oid family, Oid type, Oid collation)
{
	Oid function = get_opfamily_proc(family, type, type, BTEQUALIMAGE_PROC);

	return OidIsValid(function) &&
	       DatumGetBool(OidFunctionCall1Coll(function, collation, ObjectIdGetDatum(type)));
}

bool
sb_value_order_open(SbValueOrder *order, Oid type, Oid collation, Oid sortop, bool *backwards)
{
	Oid family;
	Oid input;
	Oid function;

	*backwards = false;
	if (OidIsValid(sortop))
	{
		if (!sb_ordering_operator(sortop, &family, &input, backwards))
			return false;
	}
	else
	{
		TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);

		family = entry->btree_opf;
		input = entry->btree_opintype;
	}
	function =
	    OidIsValid(family) ? get_opfamily_proc(family, input, input, BTORDER_PROC) : InvalidOid;
	if (!OidIsValid(function))
		return false;
	sb_type_init(&order->type, type);
	order->collation = collation;
	fmgr_info(function, &order->compare);
	order->equal_is_image = value_equal_is_image(family, input, collation);
	for (int i = 0; i < lengthof(place_kinds); i++)
	{
		if (place_kinds[i].compare != function)
			continue;
		order->place = place_kinds[i].place;
		order->exact = place_kinds[i].exact;
	}
	return true;
}

int
sb_value_compare(SbValueOrder *order, Datum a, Datum b)
{
	int32 result;

	/* that the places are the same has been seen */
	if (order->exact)
	{
		uint64 x = order->place(a);
		uint64 y = order->place(b);

		return x < y ? -1 : x > y;
	}
	result = DatumGetInt32(FunctionCall2Coll(&order->compare, order->collation, a, b));
	return result < 0 ? -1 : result > 0;
}
