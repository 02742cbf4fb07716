/*
 * sb_key_hash.c: beam._key_hash(): a hash of group keys by their equality, for the index of a
 * result with keys that are too large for an index; see sb_result_index.c.
 *
 * RULES. Keys that are equal have the same hash: it is made of what the types' own hash functions
 * say, with the collation of each argument. It is stored in indexes, so it may not change between
 * releases, and depends on no setting.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

/* How the arguments of one call are hashed. */
typedef struct SbHashedKeys
{
	int n;
	struct
	{
		FmgrInfo hash;
		bool extended; /* 64 bits, else 32 */
		Oid collation;
	} key[FLEXIBLE_ARRAY_MEMBER];
} SbHashedKeys;

/* The collation of the argument with this number, in the expression that is the call. */
static Oid
key_collation(const FmgrInfo *flinfo, int i)
{
	const FuncExpr *call = (const FuncExpr *) flinfo->fn_expr;

	if (call == NULL || !IsA(call, FuncExpr) || i >= list_length(call->args))
		return InvalidOid;
	return exprCollation(list_nth(call->args, i));
}

/* Looked up at the first row of a call. Error 42883: a type has no hash. */
static SbHashedKeys *
key_types(FunctionCallInfo fcinfo)
{
	FmgrInfo *flinfo = fcinfo->flinfo;
	SbHashedKeys *keys = flinfo->fn_extra;

	if (keys)
		return keys;
	if (get_fn_expr_variadic(flinfo))
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		                errmsg("VARIADIC arguments are not supported by beam._key_hash()")));
	keys = MemoryContextAllocZero(flinfo->fn_mcxt,
	                              offsetof(SbHashedKeys, key) + sizeof(keys->key[0]) * PG_NARGS());
	keys->n = PG_NARGS();
	for (int i = 0; i < keys->n; i++)
	{
		Oid type = getBaseType(get_fn_expr_argtype(flinfo, i));
		TypeCacheEntry *entry =
		    lookup_type_cache(type, TYPECACHE_HASH_PROC_FINFO | TYPECACHE_HASH_EXTENDED_PROC_FINFO);

		if (!OidIsValid(entry->hash_proc))
			ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION),
			                errmsg("type %s has no hash function", format_type_be(type))));
		keys->key[i].extended = OidIsValid(entry->hash_extended_proc);
		keys->key[i].collation = key_collation(flinfo, i);
		fmgr_info_copy(&keys->key[i].hash,
		               keys->key[i].extended ? &entry->hash_extended_proc_finfo
		                                     : &entry->hash_proc_finfo,
		               flinfo->fn_mcxt);
	}
	flinfo->fn_extra = keys;
	return keys;
}

PG_FUNCTION_INFO_V1(stream_beam_key_hash);

/* _key_hash(VARIADIC "any"): of columns of types that have a hash, nulls included */
PGDLLEXPORT Datum
stream_beam_key_hash(PG_FUNCTION_ARGS)
{
	SbHashedKeys *keys = key_types(fcinfo);
	uint64 hash = 0;

	for (int i = 0; i < keys->n; i++)
	{
		Datum value = PG_GETARG_DATUM(i);
		Oid collation = keys->key[i].collation;
		uint64 one;

		if (PG_ARGISNULL(i))
			one = 1;
		else if (keys->key[i].extended)
			one = DatumGetUInt64(
			    FunctionCall2Coll(&keys->key[i].hash, collation, value, Int64GetDatum(0)));
		else
			one = DatumGetUInt32(FunctionCall1Coll(&keys->key[i].hash, collation, value));
		/* the order counts */
		hash = hash_combine64(hash, one);
	}
	PG_RETURN_INT64((int64) hash);
}
