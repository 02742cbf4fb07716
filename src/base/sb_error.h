/*
 * sb_error.h: what an error is to be blamed on.
 */
#ifndef SB_ERROR_H
#define SB_ERROR_H

#include "postgres.h"

/* A function in PL/pgSQL has said RAISE: whatever code it says, it means what it was called with. */
extern bool sb_error_is_raised(const ErrorData *error);
/* Is it a passing trouble of the server rather than of the data: then it is tried again later. */
extern bool sb_error_is_transient(int sqlerrcode);
/* Is it a trouble of the server as a whole, which no pipeline is to be blamed for? */
extern bool sb_error_is_of_server(const ErrorData *error);

#endif
