/*
 * sb_elements.h: the elements of a window as bytes: a sorted multiset of (event time, what the
 * query sees of the row).
 *
 * A session that may lose elements has to know them: whether what is left still hangs together can
 * be said of them only. Pure: nothing here knows cells, queries or windows.
 */
#ifndef SB_ELEMENTS_H
#define SB_ELEMENTS_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef struct SbElement
{
	TimestampTz time;
	const char *data; /* of whoever it was read from */
	uint32 size;
	int64 count; /* how many there are of it */
} SbElement;

/* In the order of sb_element_compare(), each element once. Zeroed: empty. */
typedef struct SbElementList
{
	SbElement *at;
	int64 n, max;
} SbElementList;

typedef struct SbElementChange
{
	SbElement element; /* its count means nothing */
	int order;         /* in which changes of equal elements count */
	bool removes;
	bool missing; /* said by sb_elements_apply(): there was none to be removed */
} SbElementChange;

/* By time, then bytes; 0: equal. */
extern int sb_element_compare(const SbElement *a, const SbElement *b);
/* Sorts by element, then order. */
extern void sb_element_changes_sort(SbElementChange *changes, int n);

/*
 * Appends what the bytes hold, which goes on pointing into them. What is in the list is earlier.
 * Error XX001.
 */
extern void sb_elements_read(SbElementList *list, const bytea *bytes);
/* As bytes in the current context. */
extern bytea *sb_elements_pack(const SbElement *elements, int64 n);
/*
 * `from` with sorted changes becomes `to`. Returns how many changes were made, missing ones left
 * out.
 */
extern int sb_elements_apply(const SbElementList *from, SbElementChange *changes, int n,
                             SbElementList *to);

#endif
