/*
 * sb_limit.h: how long a pipeline may keep the others waiting: for the time that its own code takes, and for locks.
 *
 * Time is measured for a part of a bundle: from one sb_pipeline_at_work() to the next. Where it is more than stream_beam.pipeline_timeout,
 * the statement is cancelled as by statement_timeout; code that catches that, and goes on, ends the process three seconds later. Waiting for a lock
 * has stream_beam.lock_timeout, which is the server's own lock_timeout.
 */
#ifndef SB_LIMIT_H
#define SB_LIMIT_H

#include "postgres.h"

/* For the runner, once it has a connection. */
extern void sb_limit_install(void);
/* The settings may have changed. */
extern void sb_limit_refresh(void);
/* Between these the clock runs. An error may come instead of the end. False: it runs already, and is to be ended by who began it. */
extern bool sb_limit_begin(void);
extern void sb_limit_end(bool begun);
/* Is this the error of one of the limits? To be asked once for an error. */
extern bool sb_limit_is_cause(const ErrorData *error);

#endif
