/*
 * sb_expiry.h: late events and dead letters do not stay for ever: stream_beam.letter_max_age, stream_beam.letter_max_count.
 */
#ifndef SB_EXPIRY_H
#define SB_EXPIRY_H

#include "postgres.h"
#include "datatype/timestamp.h"

/* There may be new ones: they are looked at when a minute has passed since the last time. */
extern void sb_expiry_ask(void);
/* When sb_expiry_run() has something to do. */
extern TimestampTz sb_expiry_next(void);
/* Deletes what has expired, a batch at a time, in a transaction of its own. */
extern void sb_expiry_run(TimestampTz now);

#endif
