/*
 * sb_row_hash.c: beam._row_hash(): a hash of values by their bytes, for the index by which rows
 * that have no identity are found again in a result.
 *
 * RULES. Values that record_image_eq() takes for the same have the same hash. It is stored in
 * indexes, so it may not change between releases, and depends on no setting.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "common/hashfn.h"
#include "fmgr.h"
#include "sink/sb_row_hash.h"
#include "utils/lsyscache.h"

/* How the arguments of one call are laid out. */
typedef struct SbHashedTypes
{
	int n;
	struct
	{
		int16 len;
		bool byval;
	} type[FLEXIBLE_ARRAY_MEMBER];
} SbHashedTypes;

/* Looked up at the first row of a call. */
static SbHashedTypes *
hash_types(FunctionCallInfo fcinfo)
{
	SbHashedTypes *types = fcinfo->flinfo->fn_extra;

	if (types)
		return types;
	if (get_fn_expr_variadic(fcinfo->flinfo))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		                errmsg("VARIADIC arguments are not supported by beam._row_hash()")));
	types =
	    MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt,
	                           offsetof(SbHashedTypes, type) + sizeof(types->type[0]) * PG_NARGS());
	types->n = PG_NARGS();
	for (int i = 0; i < types->n; i++)
		get_typlenbyval(get_fn_expr_argtype(fcinfo->flinfo, i), &types->type[i].len,
		                &types->type[i].byval);
	fcinfo->flinfo->fn_extra = types;
	return types;
}

/* By the bytes that record_image_eq() compares. */
uint64
sb_row_hash_value(Datum value, int16 len, bool byval, uint64 seed)
{
	struct varlena *packed;
	uint64 hash;

	if (byval)
	{
		/* what is above the type's length does not count */
		hash = len == 8 ? (uint64) value : (uint64) value & ((UINT64CONST(1) << (len * 8)) - 1);
		return DatumGetUInt64(hash_any_extended((unsigned char *) &hash, sizeof(hash), seed));
	}
	if (len > 0)
		return DatumGetUInt64(
		    hash_any_extended((unsigned char *) DatumGetPointer(value), len, seed));
	if (len == -2)
		return DatumGetUInt64(hash_any_extended((unsigned char *) DatumGetCString(value),
		                                        strlen(DatumGetCString(value)), seed));
	packed = PG_DETOAST_DATUM_PACKED(value);
	hash = DatumGetUInt64(
	    hash_any_extended((unsigned char *) VARDATA_ANY(packed), VARSIZE_ANY_EXHDR(packed), seed));
	if (packed != (struct varlena *) DatumGetPointer(value))
		pfree(packed);
	return hash;
}

PG_FUNCTION_INFO_V1(stream_beam_row_hash);

/* _row_hash(VARIADIC "any"): of columns of any types, nulls included */
PGDLLEXPORT Datum
stream_beam_row_hash(PG_FUNCTION_ARGS)
{
	const SbHashedTypes *types = hash_types(fcinfo);
	uint64 hash = 0;

	for (int i = 0; i < types->n; i++)
	{
		/* each value's seed is the hash of those before it, so that the order counts */
		if (PG_ARGISNULL(i))
			hash = hash_combine64(hash, 1);
		else
			hash = sb_row_hash_value(PG_GETARG_DATUM(i), types->type[i].len, types->type[i].byval,
			                         hash + 2);
	}
	PG_RETURN_INT64((int64) hash);
}
