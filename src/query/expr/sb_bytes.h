/*
 * sb_bytes.h: stored bytes as they are read again: never beyond their end, and not at all where
 * they are not those that were written.
 *
 * What comes from a table is not trusted with lengths, counts and pointers: whoever reads it takes
 * it from sb_bytes_take(), which knows the end. The inside of a value (the digits of a numeric, the
 * elements of an array) is PostgreSQL's business, which trusts it. So stored bytes have a seal, a
 * checksum that is looked at before anything else.
 */
#ifndef SB_BYTES_H
#define SB_BYTES_H

#include "postgres.h"
#include "access/htup.h"
#include "access/tupdesc.h"
#include "port/pg_crc32c.h"

/* Bytes that a seal takes. */
#define SB_SEAL_SIZE sizeof(pg_crc32c)

/* Error XX001. */
extern _Noreturn void sb_bytes_corrupted(const char *detail);
/* The next n bytes; *data is moved on. XX001 where there are not as many before `end`. */
extern const char *sb_bytes_take(const char **data, const char *end, Size n);
/* The same for what has its size in front, as a uint32 in any alignment. */
extern const char *sb_bytes_take_sized(const char **data, const char *end, uint32 *size);
/*
 * How long the varlena is that starts here: one with its data in it. XX001 where its header is
 * wrong or not before `end`.
 */
extern Size sb_bytes_varlena_size(const char *at, const char *end, bool may_be_compressed);
/* XX001 unless deforming this tuple of `length` bytes stays within it. */
extern void sb_bytes_check_tuple(TupleDesc desc, HeapTupleHeader tuple, Size length);

/* As memcmp() says; of two that begin alike the shorter one is first. */
static inline int
sb_bytes_compare(const char *a, Size asize, const char *b, Size bsize)
{
	int result = memcmp(a, b, Min(asize, bsize));

	return result != 0 ? result : asize < bsize ? -1 : asize > bsize;
}

/*
 * The seal of `size` bytes, as a continuation of `before`: 0, or the seal of what belongs to them.
 */
extern pg_crc32c sb_bytes_seal(pg_crc32c before, const void *bytes, Size size);
/* Checks the seal behind the bytes, which end there: *end is moved before it. */
extern void sb_bytes_check_seal(pg_crc32c before, const char *bytes, const char **end);

#endif
