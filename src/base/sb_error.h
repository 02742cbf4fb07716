/*
 * sb_error.h: what an error is to be blamed on.
 */
#ifndef SB_ERROR_H
#define SB_ERROR_H

#include "postgres.h"

/* Is it a passing trouble of the server rather than of the data: then it is tried again later. */
extern bool sb_error_is_transient(int sqlerrcode);
/* Does the server, or this process, end? No pipeline is to be blamed for it. */
extern bool sb_error_is_of_server(const ErrorData *error);
/*
 * Is it a trouble of disks, files or connections? It may be that of all, or that of a function
 * which one pipeline calls: who meets it tries again, and neither a row nor, however often, the
 * pipeline is given up for it.
 */
extern bool sb_error_is_of_machine(const ErrorData *error);
/*
 * Is it the data's fault? Otherwise the next row or group would fail in the same way (a missing
 * function, a right that was taken away), or this one may not fail again; `strict`: it has failed
 * again and again.
 */
extern bool sb_error_is_of_data(const ErrorData *error, bool strict);

#endif
