/*
 * sb_row_hash.h: the hash of a value by its bytes. It is stored, so it may not change between
 * releases, and depends on no setting.
 */
#ifndef SB_ROW_HASH_H
#define SB_ROW_HASH_H

#include "postgres.h"

/* Values that record_image_eq() takes for the same have the same hash. Of a type of this length. */
extern uint64 sb_row_hash_value(Datum value, int16 len, bool byval, uint64 seed);

#endif
