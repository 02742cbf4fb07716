/*
 * sb_expiry.h: late events and dead letters do not stay for ever: stream_beam.letter_max_age,
 * stream_beam.letter_max_count.
 */
#ifndef SB_EXPIRY_H
#define SB_EXPIRY_H

#include "postgres.h"
#include "datatype/timestamp.h"

/*
 * Deletes what has expired; returns when there will be more. A job of housekeeping, also to be
 * asked for after bundles.
 */
extern TimestampTz sb_expiry_run(TimestampTz now);

#endif
