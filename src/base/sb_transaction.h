/*
 * sb_transaction.h: transactions of a background worker, and subtransactions that may fail.
 */
#ifndef SB_TRANSACTION_H
#define SB_TRANSACTION_H

#include "postgres.h"

/* With a snapshot, and SPI connected. */
extern void sb_transaction_begin(void);
extern void sb_transaction_commit(void);
/*
 * Runs fn(arg) in a subtransaction. True: committed. False: rolled back, *error is a copy in the
 * current context.
 */
extern bool sb_try(void (*fn)(void *arg), void *arg, ErrorData **error);
/* The same in the midst of other work: rows put into statements before stay, fn puts none. */
extern bool sb_try_part(void (*fn)(void *arg), void *arg, ErrorData **error);

#endif
