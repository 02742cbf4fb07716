/*
 * sb_unit_elements.c: the elements of a window as bytes, against a list that is kept without any
 * wit.
 */
#include "postgres.h"
#include "sb_unit.h"
#include "state/sb_elements.h"

#define MAX_NAIVE 400

typedef struct Naive
{
	TimestampTz time;
	char data[8];
	uint32 size;
} Naive;

static Naive naive[MAX_NAIVE];
static int nnaive;

static uint64 random_state;

static uint64
random_next(void)
{
	random_state =
	    random_state * UINT64CONST(6364136223846793005) + UINT64CONST(1442695040888963407);
	return random_state;
}

static SbElementChange
change_of(TimestampTz time, const char *data, bool removes, int order)
{
	return (
	    SbElementChange){.element = {.time = time, .data = data, .size = strlen(data), .count = 1},
	                     .order = order,
	                     .removes = removes};
}

/*
 * Applies sorted changes to bytes (NULL: none) and gives the new ones; the list stays readable
 * through *list.
 */
static bytea *
apply(const bytea *bytes, SbElementChange *changes, int n, SbElementList *list, int *made)
{
	SbElementList was = {0};

	*list = (SbElementList){0};
	if (bytes)
		sb_elements_read(&was, bytes);
	sb_element_changes_sort(changes, n);
	*made = sb_elements_apply(&was, changes, n, list);
	return sb_elements_pack(list->at, list->n);
}

static void
test_equal_elements(void)
{
	SbElementChange changes[] = {change_of(20, "b", false, 0), change_of(10, "a", false, 1),
	                             change_of(20, "b", false, 2), change_of(20, "ab", false, 3)};
	SbElementChange gone[] = {change_of(20, "b", true, 0), change_of(10, "a", true, 1),
	                          change_of(10, "b", true, 2)};
	SbElementList list;
	int made;
	bytea *bytes = apply(NULL, changes, 4, &list, &made);

	unit_ok(made == 4 && list.n == 3 && list.at[0].time == 10 && list.at[1].size == 2 &&
	            list.at[2].count == 2,
	        "elements are sorted by time and bytes, equal ones counted");
	(void) apply(bytes, gone, 3, &list, &made);
	unit_ok(made == 2 && list.n == 2 && list.at[0].size == 2 && list.at[1].count == 1,
	        "one of several equal ones is removed");
	unit_ok(!gone[0].missing && gone[1].missing && !gone[2].missing,
	        "an element that is not there is said to be missing");
}

static void
test_order(void)
{
	SbElementChange added_first[] = {change_of(5, "x", true, 2), change_of(5, "x", false, 1)};
	SbElementChange removed_first[] = {change_of(5, "x", true, 1), change_of(5, "x", false, 2)};
	SbElementList list;
	int made;

	(void) apply(NULL, added_first, 2, &list, &made);
	unit_ok(made == 2 && list.n == 0, "what is added and then removed is not there");
	(void) apply(NULL, removed_first, 2, &list, &made);
	unit_ok(made == 1 && list.n == 1 && removed_first[0].missing,
	        "what is removed before it is added is missing, and is there");
}

static void
test_extremes(void)
{
	SbElementChange changes[] = {change_of(PG_INT64_MAX, "last", false, 0),
	                             change_of(PG_INT64_MIN, "first", false, 1),
	                             change_of(0, "", false, 2)};
	SbElementList list, again = {0};
	int made;

	sb_elements_read(&again, apply(NULL, changes, 3, &list, &made));
	unit_ok(again.n == 3 && again.at[0].time == PG_INT64_MIN && again.at[1].time == 0 &&
	            again.at[1].size == 0 && again.at[2].time == PG_INT64_MAX &&
	            memcmp(again.at[2].data, "last", 4) == 0,
	        "times at both ends and empty bytes survive");
}

static bool
naive_remove(TimestampTz time, const char *data)
{
	for (int i = 0; i < nnaive; i++)
	{
		if (naive[i].time != time || strcmp(naive[i].data, data) != 0)
			continue;
		naive[i] = naive[--nnaive];
		return true;
	}
	return false;
}

static int64
naive_count(TimestampTz time, const char *data, uint32 size)
{
	int64 count = 0;

	for (int i = 0; i < nnaive; i++)
		count += naive[i].time == time && strlen(naive[i].data) == size &&
		         memcmp(naive[i].data, data, size) == 0;
	return count;
}

static void
test_random(uint64 seed, int rounds)
{
	static const char *const values[] = {"", "a", "b", "ab", "abc"};
	bytea *bytes = NULL;
	bool right = true;

	random_state = seed;
	nnaive = 0;
	for (int round = 0; round < rounds && right; round++)
	{
		SbElementChange changes[10];
		bool missing[10];
		SbElementList list;
		int n = 1 + (int) (random_next() >> 33) % lengthof(changes);
		int64 count = 0;
		int made;

		for (int i = 0; i < n; i++)
		{
			const char *data = values[(int) (random_next() >> 33) % lengthof(values)];
			bool removes = nnaive > MAX_NAIVE - 20 || (int) (random_next() >> 33) % 2 == 0;

			changes[i] = change_of((int) (random_next() >> 33) % 20, data, removes, i);
			missing[i] = removes && !naive_remove(changes[i].element.time, data);
			if (removes)
				continue;
			naive[nnaive].time = changes[i].element.time;
			strcpy(naive[nnaive++].data, data);
		}
		bytes = apply(bytes, changes, n, &list, &made);
		for (int i = 0; i < n; i++)
			right = right && changes[i].missing == missing[changes[i].order];
		for (int64 i = 0; i < list.n; i++)
		{
			right = right && list.at[i].count ==
			                     naive_count(list.at[i].time, list.at[i].data, list.at[i].size);
			right = right && (i == 0 || sb_element_compare(&list.at[i - 1], &list.at[i]) < 0);
			count += list.at[i].count;
		}
		right = right && count == nnaive;
	}
	unit_ok(right, "random changes leave what a plain list has");
}

void
unit_test_elements(uint64 seed)
{
	test_equal_elements();
	test_order();
	test_extremes();
	test_random(seed, 2000);
}
