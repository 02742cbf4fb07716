/*
 * sb_limit.h: how long a pipeline may keep the others waiting: for the time that its own code
 * takes, and for locks.
 *
 * A part of a bundle is what is done for a pipeline from one sb_pipeline_at_work() to the next, or
 * to sb_pipeline_rests(). Its *overtime* is the time that it takes beyond what rows, however dear,
 * take (SB_LIMIT_ROW_US each). In the first lane a pipeline has stream_beam.pipeline_timeout for
 * the overtime of all its parts of a bundle; what other pipelines of its owner have had of theirs
 * is taken off that, down to a twentieth: many pipelines of one role do not hold up the others for
 * many times as long. In the second lane, and for what comes in chunks (a history, a queue), each
 * part has that time to itself: so that what does not get on there gets on here.
 *
 * Beyond the limit the statement is cancelled as by statement_timeout; code that catches that, and
 * goes on, ends the process three seconds later, and the pipeline is failed. Waiting for a lock has
 * stream_beam.lock_timeout, which is the server's own lock_timeout, and is shared by the pipelines
 * of an owner in the same way.
 *
 * STALLS. A pipeline whose bundle has had a twentieth of the limit in overtime has stalled the
 * others. All that its owner's pipelines stall them for is added up, and goes down by a twentieth
 * of the time that passes: one that stalls when that is beyond the limit is *slow*, and is the
 * second lane's; beyond twice the limit, for some time (sb_limit_stays_until()).
 */
#ifndef SB_LIMIT_H
#define SB_LIMIT_H

#include "postgres.h"
#include "datatype/timestamp.h"

typedef struct SbLimitAccount SbLimitAccount;

/*
 * What a pipeline has had of its time; its own is within it, others are on the stack. Zero, but for
 * the account: nothing.
 */
typedef struct SbLimitShare
{
	SbLimitAccount *account; /* of its owner */
	uint32 bundle;           /* that the rest is about */
	int64 run_us;            /* overtime of this run of the bundle ... */
	int64 bundle_us;         /* ... and of those before it */
} SbLimitShare;

/* For the runner, once it has a connection. */
extern void sb_limit_install(bool first_lane);
/* The settings may have changed. */
extern void sb_limit_refresh(void);
/* Of a role; lives as long as the process. */
extern SbLimitAccount *sb_limit_account(Oid owner);

/* A bundle, or a look at the pipelines, begins, of which the parts are added up. */
extern void sb_limit_begin_whole(void);
/*
 * Between these the clock runs. An error may come instead of the end. False: it runs already, and
 * is to be ended by who began it.
 */
extern bool sb_limit_begin(void);
extern void sb_limit_end(bool begun);
/* A part begins; `alone`: it has the limit to itself. `share` is good until it is over. */
extern void sb_limit_part(SbLimitShare *share, bool alone);
/* ... and is over. */
extern void sb_limit_rest(void);
/* What it has had in this bundle was for nothing, and is not its own any more. */
extern void sb_limit_again(SbLimitShare *share);
/* The part is given so many rows. */
extern void sb_limit_rows(int n);
/*
 * Is this the error of one of the limits? To be asked once for an error, before the part is over.
 */
extern bool sb_limit_is_cause(const ErrorData *error);
/* A part is over with this error: where it has waited for a lock, that is its owner's. */
extern void sb_limit_waited(const ErrorData *error);

/* The bundle is over. True: it has stalled the others, and is slow. */
extern bool sb_limit_settle(SbLimitShare *share, int32 pipeline);
/* So long a pipeline stays in the second lane, wherever it has come; 0: not at all. */
extern TimestampTz sb_limit_stays_until(int32 pipeline);

#endif
