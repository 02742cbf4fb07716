/*
 * sb_query_key.c: group keys: evaluation, hash, equality, bytes.
 *
 * RULES. Two keys are equal when PostgreSQL's GROUP BY says so (the hash operator class's equality,
 * the key's collation), nulls being equal to each other. Equal keys have equal hashes. The hash is
 * stored, so it may not change between releases, and knows no address and no seed. Equal keys need
 * not have equal bytes (1.0 and 1.00, 0.0 and -0.0, nondeterministic collations).
 */
#include "postgres.h"

#include "access/tupmacs.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "query/sb_query_private.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "utils/uuid.h"

#define SB_KEYS_VERSION 1
/*
 * Any odd constants would do; these are the fraction bits of the golden ratio and of the square
 * root of 2.
 */
#define SB_HASH_NULL UINT64CONST(0x9E3779B97F4A7C15)
#define SB_HASH_START UINT64CONST(0x6A09E667F3BCC909)

/*
 * A bijection that spreads 64 bits (the shifts and factors are those of MurmurHash3's finalizer).
 */
static inline uint64
hash_mix(uint64 bits)
{
	bits ^= bits >> 33;
	bits *= UINT64CONST(0xFF51AFD7ED558CCD);
	bits ^= bits >> 33;
	bits *= UINT64CONST(0xC4CEB9FE1A85EC53);
	bits ^= bits >> 33;
	return bits;
}

/*
 * Keys of common types need no function call where their equality is that of their bytes. The hash
 * depends on the method and is stored: a type keeps its method.
 */
static SbKeyMethod
key_method(Oid type, Oid collation)
{
	switch (type)
	{
		case INT2OID:
		case INT4OID:
		case INT8OID:
		case OIDOID:
		case BOOLOID:
		case CHAROID:
		case DATEOID:
		case TIMEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return SB_KEY_BITS;
		case TEXTOID:
		case VARCHAROID:
			return OidIsValid(collation) && get_collation_isdeterministic(collation)
			           ? SB_KEY_BYTES
			           : SB_KEY_FUNCTION;
		case BYTEAOID:
			return SB_KEY_BYTES;
		case UUIDOID:
			return SB_KEY_UUID;
		default:
			return SB_KEY_FUNCTION;
	}
}

/* Error for types whose hash could not be stored. */
static void
key_open(SbQuery *query, SbKey *key, const SbKeyDef *def)
{
	TypeCacheEntry *entry =
	    lookup_type_cache(def->type, TYPECACHE_EQ_OPR_FINFO | TYPECACHE_HASH_PROC_FINFO |
	                                     TYPECACHE_HASH_EXTENDED_PROC_FINFO);

	if (def->type == RECORDOID || !OidIsValid(entry->hash_proc) || !OidIsValid(entry->eq_opr))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
		     errmsg("a pipeline cannot group by type %s", format_type_be(def->type)),
		     errdetail(
		         "Group keys are kept by their hash, and this type has none that outlives a session."),
		     errhint("Cast the group key to a hashable type, for example to text.")));
	sb_expr_open(query, &key->expr, def->expr);
	sb_type_init(&key->type, def->type);
	key->collation = def->collation;
	key->method = key_method(def->type, def->collation);
	key->hash_is_extended = OidIsValid(entry->hash_extended_proc);
	fmgr_info_copy(&key->hash,
	               key->hash_is_extended ? &entry->hash_extended_proc_finfo
	                                     : &entry->hash_proc_finfo,
	               query->memory);
	fmgr_info_copy(&key->equal, &entry->eq_opr_finfo, query->memory);
}

/* It is brought along only: nothing is looked up by it. */
static void
key_open_column(SbQuery *query, SbKey *key, const SbKeyDef *def)
{
	sb_expr_open(query, &key->expr, def->expr);
	sb_type_init(&key->type, def->type);
	key->collation = def->collation;
}

void
sb_query_open_keys(SbQuery *query)
{
	int n = query->plan->nkeys;

	query->keys = palloc0(sizeof(SbKey) * n);
	query->key_values = palloc0(sizeof(Datum) * n);
	query->key_nulls = palloc0(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
	{
		if (query->plan->maps)
			key_open_column(query, &query->keys[i], &query->plan->keys[i]);
		else
			key_open(query, &query->keys[i], &query->plan->keys[i]);
	}
}

/* The hash of one value that is not null; it may leave memory behind in the current context. */
static uint64
key_hash(SbKey *key, Datum value)
{
	switch (key->method)
	{
		case SB_KEY_BITS:
			return hash_mix(sb_byval_bits(key->type.len, value));
		case SB_KEY_BYTES:
		{
			struct varlena *bytes = PG_DETOAST_DATUM_PACKED(value);

			return hash_bytes_extended((unsigned char *) VARDATA_ANY(bytes),
			                           VARSIZE_ANY_EXHDR(bytes), 0);
		}
		case SB_KEY_UUID:
			return hash_bytes_extended(DatumGetUUIDP(value)->data, UUID_LEN, 0);
		case SB_KEY_FUNCTION:
			if (key->hash_is_extended)
				return DatumGetUInt64(
				    FunctionCall2Coll(&key->hash, key->collation, value, Int64GetDatum(0)));
			return hash_mix(DatumGetUInt32(FunctionCall1Coll(&key->hash, key->collation, value)));
	}
	pg_unreachable();
}

static uint64
keys_hash(SbQuery *query, const Datum *values, const bool *nulls)
{
	uint64 hash = SB_HASH_START;

	for (int i = 0; i < query->plan->nkeys; i++)
	{
		uint64 one = nulls[i] ? SB_HASH_NULL : key_hash(&query->keys[i], values[i]);

		/* the rotation makes (a, b) differ from (b, a) */
		hash = hash_mix(((hash << 23) | (hash >> 41)) ^ one);
	}
	return hash;
}

uint64
sb_query_keys(SbQuery *query, const Datum **values, const bool **nulls)
{
	MemoryContext old = MemoryContextSwitchTo(sb_row_memory(query));
	uint64 hash;

	for (int i = 0; i < query->plan->nkeys; i++)
	{
		SbKey *key = &query->keys[i];
		Datum value = sb_expr_eval(query, &key->expr, &query->key_nulls[i]);

		/* once here rather than in each comparison */
		if (!key->type.byval && !query->key_nulls[i] && !query->plan->maps)
			value = sb_datum_flatten(&key->type, value);
		query->key_values[i] = value;
	}
	hash = query->plan->maps ? 0 : keys_hash(query, query->key_values, query->key_nulls);
	MemoryContextSwitchTo(old);
	*values = query->key_values;
	*nulls = query->key_nulls;
	return hash;
}

/* Same hash for keys from anywhere: a row, decoded bytes. */
uint64
sb_query_keys_hash(SbQuery *query, const Datum *values, const bool *nulls)
{
	MemoryContext old = MemoryContextSwitchTo(query->scratch);
	uint64 hash = keys_hash(query, values, nulls);

	MemoryContextSwitchTo(old);
	MemoryContextReset(query->scratch);
	return hash;
}

/* Are two values, neither of them null, equal for GROUP BY? Leaves no memory behind. */
static bool
key_equal(SbQuery *query, SbKey *key, Datum a, Datum b)
{
	MemoryContext old;
	bool equal;

	switch (key->method)
	{
		case SB_KEY_BITS:
			return sb_byval_bits(key->type.len, a) == sb_byval_bits(key->type.len, b);
		case SB_KEY_UUID:
			return memcmp(DatumGetPointer(a), DatumGetPointer(b), UUID_LEN) == 0;
		case SB_KEY_BYTES:
			if (!VARATT_IS_EXTENDED(DatumGetPointer(a)) || VARATT_IS_SHORT(DatumGetPointer(a)))
			{
				Pointer pa = DatumGetPointer(a);
				Pointer pb = DatumGetPointer(b);

				if (!VARATT_IS_EXTENDED(pb) || VARATT_IS_SHORT(pb))
					return VARSIZE_ANY_EXHDR(pa) == VARSIZE_ANY_EXHDR(pb) &&
					       memcmp(VARDATA_ANY(pa), VARDATA_ANY(pb), VARSIZE_ANY_EXHDR(pa)) == 0;
			}
			/* one is compressed or elsewhere: let the type's own function see to it */
			break;
		case SB_KEY_FUNCTION:
			break;
	}
	old = MemoryContextSwitchTo(query->scratch);
	equal = DatumGetBool(FunctionCall2Coll(&key->equal, key->collation, a, b));
	MemoryContextSwitchTo(old);
	MemoryContextReset(query->scratch);
	return equal;
}

bool
sb_query_keys_equal(SbQuery *query, const Datum *a, const bool *anulls, const Datum *b,
                    const bool *bnulls)
{
	for (int i = 0; i < query->plan->nkeys; i++)
	{
		if (anulls[i] != bnulls[i])
			return false;
		if (!anulls[i] && !key_equal(query, &query->keys[i], a[i], b[i]))
			return false;
	}
	return true;
}

/*
 * Bytes of keys: version, a bit for each key that is null, the values. Values are aligned relative
 * to the bytea's own start, so that those of a bytea with a long header in palloc'd memory can be
 * used in place.
 */
bytea *
sb_query_keys_encode(SbQuery *query, const Datum *values, const bool *nulls)
{
	int n = query->plan->nkeys;
	Size bitmap = (n + 7) / 8;
	Size size = VARHDRSZ + 1 + bitmap;
	Datum *flat = palloc(sizeof(Datum) * n);
	char *bytes;
	char *to;

	for (int i = 0; i < n; i++)
	{
		SbType *type = &query->keys[i].type;

		if (nulls[i])
			continue;
		flat[i] = sb_datum_flatten(type, values[i]);
		size += sb_datum_padding(type, flat[i], size) + sb_datum_size(type, flat[i]);
	}
	bytes = palloc0(size);
	SET_VARSIZE(bytes, size);
	bytes[VARHDRSZ] = SB_KEYS_VERSION;
	to = bytes + VARHDRSZ + 1 + bitmap;
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
		{
			bytes[VARHDRSZ + 1 + i / 8] |= 1 << (i % 8);
			continue;
		}
		to += sb_datum_padding(&query->keys[i].type, flat[i], to - bytes);
		to = sb_datum_write(&query->keys[i].type, flat[i], to);
		if (!query->keys[i].type.byval && flat[i] != values[i])
			pfree(DatumGetPointer(flat[i]));
	}
	pfree(flat);
	return (bytea *) bytes;
}

/*
 * Moves *data over the padding before a by-reference value; `start` is where offset 0 is. Like in a
 * tuple, a varlena's short header is never 0, and padding always is.
 */
static void
keys_skip_padding(const SbType *type, const char *start, const char **data, const char *end)
{
	Size offset = *data - start;

	if (type->byval || (type->len == -1 && *data < end && **data != 0))
		return;
	sb_bytes_take(data, end, att_align_nominal(offset, type->align) - offset);
}

void
sb_query_keys_decode(SbQuery *query, const bytea *bytes, Datum *values, bool *nulls)
{
	int n = query->plan->nkeys;
	const char *data = VARDATA_ANY(bytes);
	const char *end = data + VARSIZE_ANY_EXHDR(bytes);
	const char *start = data - VARHDRSZ; /* also where the bytea's own header is a short one */
	const char *bitmap;

	if (*sb_bytes_take(&data, end, 1) != SB_KEYS_VERSION)
		sb_bytes_corrupted("Group keys have an unknown version.");
	bitmap = sb_bytes_take(&data, end, (n + 7) / 8);
	for (int i = 0; i < n; i++)
	{
		nulls[i] = (bitmap[i / 8] & (1 << (i % 8))) != 0;
		values[i] = (Datum) 0;
		if (nulls[i])
			continue;
		keys_skip_padding(&query->keys[i].type, start, &data, end);
		values[i] = sb_datum_read(&query->keys[i].type, &data, end);
	}
	if (data != end)
		sb_bytes_corrupted("Group keys are longer than they should be.");
}
