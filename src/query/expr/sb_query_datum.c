/*
 * sb_query_datum.c: values as bytes: for keys, bags and the state table.
 *
 * RULES. The bytes of a value are those in memory on this machine (state does not travel between
 * architectures), varlenas with their header: the short one where the type may have it, so that the
 * same value has the same bytes wherever it came from. Nothing in them points elsewhere: no TOAST
 * pointers, no compression.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/htup_details.h"
#include "query/sb_query_private.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"

void
sb_type_init(SbType *type, Oid oid)
{
	type->oid = oid;
	get_typlenbyvalalign(oid, &type->len, &type->byval, &type->align);
	type->storage = get_typstorage(oid);
}

Datum
sb_datum_flatten(const SbType *type, Datum value)
{
	if (type->len == -1 && (VARATT_IS_EXTERNAL(DatumGetPointer(value)) ||
	                        VARATT_IS_COMPRESSED(DatumGetPointer(value))))
		return PointerGetDatum(detoast_attr((struct varlena *) DatumGetPointer(value)));
	return value;
}

Datum
sb_datum_copy(const SbType *type, Datum value, MemoryContext context)
{
	Datum flat;
	MemoryContext old;

	if (type->byval)
		return value;
	flat = sb_datum_flatten(type, value);
	old = MemoryContextSwitchTo(context);
	value = datumCopy(flat, false, type->len);
	MemoryContextSwitchTo(old);
	return value;
}

/* May this flattened varlena be written with a short header, though it has not got one? */
static inline bool
datum_shortens(const SbType *type, Pointer flat)
{
	return type->storage != TYPSTORAGE_PLAIN && VARATT_CAN_MAKE_SHORT(flat);
}

Size
sb_datum_padding(const SbType *type, Datum flat, Size offset)
{
	if (type->byval)
		return 0;
	if (type->len == -1 &&
	    (VARATT_IS_SHORT(DatumGetPointer(flat)) || datum_shortens(type, DatumGetPointer(flat))))
		return 0;
	return att_align_nominal(offset, type->align) - offset;
}

Size
sb_datum_size(const SbType *type, Datum flat)
{
	Pointer pointer = DatumGetPointer(flat);

	if (type->len > 0)
		return type->len;
	if (type->len == -2)
		return strlen(pointer) + 1;
	if (VARATT_IS_SHORT(pointer))
		return VARSIZE_SHORT(pointer);
	return datum_shortens(type, pointer) ? VARATT_CONVERTED_SHORT_SIZE(pointer) : VARSIZE(pointer);
}

static void
datum_write_byval(int16 len, Datum value, char *to)
{
	uint64 bits = sb_byval_bits(len, value);
	uint8 one = (uint8) bits;
	uint16 two = (uint16) bits;
	uint32 four = (uint32) bits;

	memcpy(to,
	       len == 1   ? (void *) &one
	       : len == 2 ? (void *) &two
	       : len == 4 ? (void *) &four
	                  : (void *) &bits,
	       len);
}

char *
sb_datum_write(const SbType *type, Datum flat, char *to)
{
	Size size;

	if (type->byval)
	{
		datum_write_byval(type->len, flat, to);
		return to + type->len;
	}
	size = sb_datum_size(type, flat);
	if (type->len == -1 && !VARATT_IS_SHORT(DatumGetPointer(flat)) &&
	    datum_shortens(type, DatumGetPointer(flat)))
	{
		SET_VARSIZE_SHORT(to, size);
		memcpy(to + VARHDRSZ_SHORT, VARDATA(DatumGetPointer(flat)), size - VARHDRSZ_SHORT);
	}
	else
		memcpy(to, DatumGetPointer(flat), size);
	return to + size;
}

char *
sb_datum_bytes(const SbType *type, Datum value, uint32 *size)
{
	Datum flat = sb_datum_flatten(type, value);
	char *bytes;

	*size = sb_datum_size(type, flat);
	bytes = palloc(Max(*size, 1));
	(void) sb_datum_write(type, flat, bytes);
	return bytes;
}

int
sb_datum_compare_bytes(const SbType *type, Datum a, Datum b)
{
	uint32 asize;
	uint32 bsize;
	char *x = sb_datum_bytes(type, a, &asize);
	char *y = sb_datum_bytes(type, b, &bsize);
	int result = sb_bytes_compare(x, asize, y, bsize);

	pfree(x);
	pfree(y);
	return result;
}

/* What datum_write_byval() has written, which need not be aligned. */
static Datum
datum_read_byval(int16 len, const char *at)
{
	uint16 two;
	uint32 four;
	uint64 eight;

	switch (len)
	{
		case 1:
			return CharGetDatum(*at);
		case 2:
			memcpy(&two, at, sizeof(two));
			return Int16GetDatum((int16) two);
		case 4:
			memcpy(&four, at, sizeof(four));
			return Int32GetDatum((int32) four);
		default:
			memcpy(&eight, at, sizeof(eight));
			return Int64GetDatum((int64) eight);
	}
}

/*
 * How long the by-reference value is that starts here; not checked against the end, but for the
 * bytes of its header.
 */
static Size
datum_read_size(const SbType *type, const char *at, const char *end)
{
	if (type->len > 0)
		return type->len;
	if (type->len == -2)
		return strnlen(at, end - at) + 1;
	return sb_bytes_varlena_size(at, end, false);
}

Datum
sb_datum_read(const SbType *type, const char **data, const char *end)
{
	const char *at;
	Size size;
	char *copy;

	if (type->byval)
		return datum_read_byval(type->len, sb_bytes_take(data, end, type->len));
	size = datum_read_size(type, *data, end);
	at = sb_bytes_take(data, end, size);
	if (att_align_nominal((uintptr_t) at, type->align) == (uintptr_t) at ||
	    (type->len == -1 && VARATT_IS_1B(at)))
		return PointerGetDatum(at);
	copy = palloc(size);
	memcpy(copy, at, size);
	return PointerGetDatum(copy);
}

void
sb_datum_skip(const SbType *type, const char **data, const char *end)
{
	sb_bytes_take(data, end, type->byval ? (Size) type->len : datum_read_size(type, *data, end));
}
