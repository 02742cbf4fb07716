/*
 * sb_agg_spelling.c: how the rows of a group write a key whose type has equal values that are not
 * the same: 1.0 and 1.00, 0 and -0, 'a' and 'A' under a collation.
 *
 * A group shows the key as one of its rows has it. In a retractable query that row may go while
 * others stay: so each spelling is kept with the number of rows that have it. There are few: they
 * stand one behind the other and are searched from the first, which is the one that is shown.
 */
#include "postgres.h"

#include "query/sb_query_private.h"

/* An accumulator's value: entries follow, each aligned. */
typedef struct SbSpellings
{
	uint32 used; /* bytes of entries */
	uint32 capacity;
} SbSpellings;

typedef struct SbSpelling
{
	int64 count; /* rows; 0 never stays */
	uint32 size; /* of the bytes that follow, as sb_datum_write() makes them */
	uint32 unused;
} SbSpelling;

#define SB_SPELLINGS_HEAD MAXALIGN(sizeof(SbSpellings))
#define SB_SPELLINGS_ROOM 48

static inline char *
spellings_at(SbSpellings *all, uint32 offset)
{
	return (char *) all + SB_SPELLINGS_HEAD + offset;
}

static inline uint32
spelling_length(uint32 size)
{
	return sizeof(SbSpelling) + MAXALIGN(size);
}

/* The offset of the entry with these bytes, or of the end. */
static uint32
spellings_find(SbSpellings *all, const char *bytes, uint32 size)
{
	uint32 at = 0;

	while (at < all->used)
	{
		SbSpelling *one = (SbSpelling *) spellings_at(all, at);

		if (one->size == size && memcmp(one + 1, bytes, size) == 0)
			break;
		at += spelling_length(one->size);
	}
	return at;
}

/* So many more rows have these bytes; a new spelling stands behind the others. */
static void
spellings_add(SbQuery *query, SbAcc *acc, const char *bytes, uint32 size, int64 count)
{
	SbSpellings *all = acc->form == SB_ACC_NEW ? NULL : (SbSpellings *) DatumGetPointer(acc->value);
	uint32 needed = (all ? all->used : 0) + spelling_length(size);
	uint32 at = all ? spellings_find(all, bytes, size) : 0;
	SbSpelling *one;

	if (all && at < all->used)
	{
		((SbSpelling *) spellings_at(all, at))->count += count;
		return;
	}
	if (all == NULL)
	{
		all = MemoryContextAllocZero(query->cells,
		                             SB_SPELLINGS_HEAD + Max(needed, SB_SPELLINGS_ROOM));
		all->capacity = Max(needed, SB_SPELLINGS_ROOM);
	}
	else if (needed > all->capacity)
	{
		all->capacity = Max(needed, all->capacity * 2);
		all = repalloc(all, SB_SPELLINGS_HEAD + all->capacity);
	}
	one = (SbSpelling *) spellings_at(all, all->used);
	*one = (SbSpelling){.count = count, .size = size};
	memcpy(one + 1, bytes, size);
	all->used = needed;
	acc->value = PointerGetDatum(all);
	acc->isnull = false;
	acc->form = SB_ACC_VALUE;
}

/* The current row's key as bytes, in the row's memory. */
static char *
spelling_of_row(const SbAgg *agg, uint32 *size)
{
	return sb_datum_bytes(&agg->arg_types[0], agg->values[0].value, size);
}

static void
spelling_add(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	uint32 size;
	char *bytes;

	if (agg->values[0].isnull)
		return;
	bytes = spelling_of_row(agg, &size);
	spellings_add(query, acc, bytes, size, 1);
}

/* What no row has any more is not kept: the last row leaves a new accumulator. */
static void
spelling_retract(SbQuery *query, SbAgg *agg, SbAcc *acc)
{
	SbSpellings *all;
	SbSpelling *one;
	uint32 size, at, length;
	char *bytes;

	if (agg->values[0].isnull)
		return;
	if (acc->form == SB_ACC_NEW)
		sb_agg_never_added(agg);
	all = (SbSpellings *) DatumGetPointer(acc->value);
	bytes = spelling_of_row(agg, &size);
	at = spellings_find(all, bytes, size);
	if (at == all->used)
		sb_agg_never_added(agg);
	one = (SbSpelling *) spellings_at(all, at);
	length = spelling_length(one->size);
	if (--one->count > 0)
		return;
	memmove(one, (char *) one + length, all->used - at - length);
	all->used -= length;
	if (all->used > 0)
		return;
	pfree(all);
	sb_acc_renew(acc);
}

static void
spelling_merge(SbQuery *query, SbAgg *agg, SbAcc *into, SbAcc *from)
{
	SbSpellings *all = (SbSpellings *) DatumGetPointer(from->value);

	for (uint32 at = 0; at < all->used;)
	{
		SbSpelling *one = (SbSpelling *) spellings_at(all, at);

		spellings_add(query, into, (char *) (one + 1), one->size, one->count);
		at += spelling_length(one->size);
	}
	pfree(all);
	sb_acc_renew(from);
}

static bool
spelling_owns(const SbAgg *agg)
{
	return true;
}

/* How many bytes; then each entry, its count, its size and its bytes. */
static void
spelling_encode(SbQuery *query, SbAgg *agg, const SbAcc *acc, StringInfo out)
{
	SbSpellings *all = (SbSpellings *) DatumGetPointer(acc->value);
	int start = out->len;
	uint32 size;

	appendStringInfoSpaces(out, sizeof(size));
	for (uint32 at = 0; at < all->used;)
	{
		SbSpelling *one = (SbSpelling *) spellings_at(all, at);

		appendBinaryStringInfo(out, (char *) &one->count, sizeof(one->count));
		appendBinaryStringInfo(out, (char *) &one->size, sizeof(one->size));
		appendBinaryStringInfo(out, (char *) (one + 1), one->size);
		at += spelling_length(one->size);
	}
	size = out->len - start - sizeof(size);
	memcpy(out->data + start, &size, sizeof(size));
}

/* The bytes are sealed; what cannot have been written so is an error all the same. */
static void
spelling_decode(SbQuery *query, SbAgg *agg, SbAcc *acc, const char **data, const char *end)
{
	uint32 size;
	const char *entries = sb_bytes_take_sized(data, end, &size);
	const char *entries_end = entries + size;

	while (entries < entries_end)
	{
		int64 count;
		uint32 length;
		const char *bytes, *value;

		memcpy(&count, sb_bytes_take(&entries, entries_end, sizeof(count)), sizeof(count));
		bytes = sb_bytes_take_sized(&entries, entries_end, &length);
		value = bytes;
		sb_datum_skip(&agg->arg_types[0], &value, bytes + length);
		if (count <= 0 || value != bytes + length)
			sb_bytes_corrupted("A spelling of a group key is not one.");
		spellings_add(query, acc, bytes, length, count);
	}
	if (acc->form == SB_ACC_NEW)
		sb_bytes_corrupted("A group key has no spelling.");
}

static Datum
spelling_result(SbQuery *query, SbAgg *agg, SbAcc *acc, bool *isnull)
{
	SbSpelling *first;
	const char *bytes;

	if (acc->form == SB_ACC_NEW)
	{
		*isnull = true;
		return (Datum) 0;
	}
	first = (SbSpelling *) spellings_at((SbSpellings *) DatumGetPointer(acc->value), 0);
	bytes = (const char *) (first + 1);
	return sb_datum_read(&agg->arg_types[0], &bytes, bytes + first->size);
}

const SbAggMethod sb_agg_spelling = {
    .id = 10,
    .name = "spelling",
    .add = spelling_add,
    .retract = spelling_retract,
    .merge = spelling_merge,
    .owns = spelling_owns,
    .encode = spelling_encode,
    .decode = spelling_decode,
    .result = spelling_result,
};
