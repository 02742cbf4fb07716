/*
 * sb_elements.c: the elements of a window as bytes; see sb_elements.h.
 *
 * FORMAT. A version byte, then for each element numbers as in sb_number.h: how far its time is
 * behind the one before (the first: its time, zigzag), its count, its size; and its bytes. A new
 * version gets a new first byte, and reading goes on to know the old ones.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "engine/sb_number.h"
#include "query/expr/sb_bytes.h"
#include "state/sb_elements.h"

#define SB_ELEMENTS_VERSION 1

int
sb_element_compare(const SbElement *a, const SbElement *b)
{
	if (a->time != b->time)
		return a->time < b->time ? -1 : 1;
	return sb_bytes_compare(a->data, a->size, b->data, b->size);
}

static int
change_compare(const void *a, const void *b)
{
	const SbElementChange *x = a;
	const SbElementChange *y = b;
	int result = sb_element_compare(&x->element, &y->element);

	if (result != 0)
		return result;
	return x->order < y->order ? -1 : x->order > y->order;
}

void
sb_element_changes_sort(SbElementChange *changes, int n)
{
	qsort(changes, n, sizeof(SbElementChange), change_compare);
}

static void
list_put(SbElementList *list, SbElement element)
{
	if (list->n == list->max)
	{
		list->max = list->max ? list->max * 2 : 16;
		list->at = list->at ? repalloc_huge(list->at, sizeof(SbElement) * list->max)
		                    : palloc(sizeof(SbElement) * list->max);
	}
	list->at[list->n++] = element;
}

static uint64
elements_number(const char **at, const char *end)
{
	uint64 value;

	if (!sb_number_read(at, end, &value))
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
		                errmsg("the stored elements of a window are corrupted")));
	return value;
}

void
sb_elements_read(SbElementList *list, const bytea *bytes)
{
	const char *at = VARDATA(bytes);
	const char *end = (const char *) bytes + VARSIZE(bytes);
	bool first = true;
	uint64 time = 0;

	if (at >= end || *at++ != SB_ELEMENTS_VERSION)
		ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
		                errmsg("the stored elements of a window have an unknown version")));
	while (at < end)
	{
		uint64 number = elements_number(&at, end);
		SbElement element;
		uint64 size;

		/* in unsigned arithmetic: times may be as far apart as they can be */
		time = first ? (uint64) sb_unzigzag(number) : time + number;
		first = false;
		element.time = (TimestampTz) time;
		element.count = (int64) elements_number(&at, end);
		size = elements_number(&at, end);
		if (element.count <= 0)
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
			                errmsg("the stored elements of a window are corrupted")));
		if (size > (uint64) (end - at))
			ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
			                errmsg("the stored elements of a window end too early")));
		element.size = (uint32) size;
		element.data = at;
		at += size;
		list_put(list, element);
	}
}

bytea *
sb_elements_pack(const SbElement *elements, int64 n)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoSpaces(&out, VARHDRSZ);
	appendStringInfoCharMacro(&out, SB_ELEMENTS_VERSION);
	for (int64 i = 0; i < n; i++)
	{
		const SbElement *element = &elements[i];

		if (i == 0)
			sb_number_write(&out, sb_zigzag(element->time));
		else
			sb_number_write(&out, (uint64) element->time - (uint64) elements[i - 1].time);
		sb_number_write(&out, (uint64) element->count);
		sb_number_write(&out, element->size);
		appendBinaryStringInfo(&out, element->data, element->size);
	}
	SET_VARSIZE(out.data, out.len);
	return (bytea *) out.data;
}

int
sb_elements_apply(const SbElementList *from, SbElementChange *changes, int n, SbElementList *to)
{
	int64 next = 0;
	int made = 0;

	for (int i = 0; i < n;)
	{
		SbElement element = changes[i].element;
		int first = i;

		while (next < from->n && sb_element_compare(&from->at[next], &element) < 0)
			list_put(to, from->at[next++]);
		element.count = 0;
		if (next < from->n && sb_element_compare(&from->at[next], &element) == 0)
			element = from->at[next++];
		for (; i < n && sb_element_compare(&changes[i].element, &changes[first].element) == 0; i++)
		{
			changes[i].missing = changes[i].removes && element.count == 0;
			if (changes[i].missing)
				continue;
			element.count += changes[i].removes ? -1 : 1;
			made++;
		}
		if (element.count > 0)
			list_put(to, element);
	}
	while (next < from->n)
		list_put(to, from->at[next++]);
	return made;
}
