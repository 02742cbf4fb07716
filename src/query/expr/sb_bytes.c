/*
 * sb_bytes.c: stored bytes as they are read again; see sb_bytes.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupmacs.h"
#include "query/expr/sb_bytes.h"

void
sb_bytes_corrupted(const char *detail)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("stored pipeline state is corrupted"),
	                errdetail_internal("%s", detail)));
}

const char *
sb_bytes_take(const char **data, const char *end, Size n)
{
	const char *at = *data;

	if (at > end || n > (Size) (end - at))
		sb_bytes_corrupted("A value ends after the end of the data.");
	*data = at + n;
	return at;
}

const char *
sb_bytes_take_sized(const char **data, const char *end, uint32 *size)
{
	memcpy(size, sb_bytes_take(data, end, sizeof(*size)), sizeof(*size));
	return sb_bytes_take(data, end, *size);
}

Size
sb_bytes_varlena_size(const char *at, const char *end, bool may_be_compressed)
{
	struct varlena header;
	const char *rest = at;

	(void) sb_bytes_take(&rest, end, 1);
	if (VARATT_IS_1B_E(at))
		sb_bytes_corrupted("A value is a pointer to elsewhere.");
	if (VARATT_IS_1B(at))
		return VARSIZE_1B(at);
	rest = at;
	memcpy(&header, sb_bytes_take(&rest, end, VARHDRSZ), VARHDRSZ);
	if (VARATT_IS_4B_C(&header))
	{
		if (!may_be_compressed || VARSIZE_4B(&header) < VARHDRSZ_COMPRESSED)
			sb_bytes_corrupted("A value has a bad length.");
	}
	else if (VARSIZE_4B(&header) < VARHDRSZ)
		sb_bytes_corrupted("A value has a bad length.");
	return VARSIZE_4B(&header);
}

/* As heap_deform_tuple() goes, with an eye on the end. */
void
sb_bytes_check_tuple(TupleDesc desc, HeapTupleHeader tuple, Size length)
{
	const char *start;
	const char *at;
	const char *end = (const char *) tuple + length;
	bool has_nulls;
	int natts;

	if (length < SizeofHeapTupleHeader)
		sb_bytes_corrupted("A row is shorter than its head.");
	natts = HeapTupleHeaderGetNatts(tuple);
	has_nulls = (tuple->t_infomask & HEAP_HASNULL) != 0;
	if (natts > desc->natts)
		sb_bytes_corrupted("A row has more columns than its table.");
	if (tuple->t_hoff != MAXALIGN(SizeofHeapTupleHeader + (has_nulls ? BITMAPLEN(natts) : 0)) ||
	    tuple->t_hoff > length)
		sb_bytes_corrupted("A row has a bad head.");
	at = start = (const char *) tuple + tuple->t_hoff;
	for (int i = 0; i < natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (has_nulls && att_isnull(i, tuple->t_bits))
			continue;
		/* a short varlena is not aligned: its first byte is never 0, and padding always is */
		if (att->attlen != -1 || (at < end && *at == '\0'))
			(void) sb_bytes_take(&at, end,
			                     att_align_nominal(at - start, att->attalign) - (at - start));
		if (att->attlen > 0)
			(void) sb_bytes_take(&at, end, att->attlen);
		else if (att->attlen == -1)
			(void) sb_bytes_take(&at, end, sb_bytes_varlena_size(at, end, true));
		else
			(void) sb_bytes_take(&at, end, strnlen(at, end - at) + 1);
	}
}

pg_crc32c
sb_bytes_seal(pg_crc32c before, const void *bytes, Size size)
{
	pg_crc32c seal;

	INIT_CRC32C(seal);
	COMP_CRC32C(seal, &before, sizeof(before));
	COMP_CRC32C(seal, bytes, size);
	FIN_CRC32C(seal);
	return seal;
}

void
sb_bytes_check_seal(pg_crc32c before, const char *bytes, const char **end)
{
	pg_crc32c stored;

	if (*end - bytes < (ptrdiff_t) SB_SEAL_SIZE)
		sb_bytes_corrupted("The data are shorter than their checksum.");
	*end -= SB_SEAL_SIZE;
	memcpy(&stored, *end, SB_SEAL_SIZE);
	if (stored != sb_bytes_seal(before, bytes, *end - bytes))
		sb_bytes_corrupted("The checksum is wrong: these are not the bytes that were written.");
}
