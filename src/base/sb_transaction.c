/*
 * sb_transaction.c: transactions of a background worker; see sb_transaction.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "executor/spi.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

void
sb_transaction_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

void
sb_transaction_commit(void)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

bool
sb_try_part(void (*fn)(void *arg), void *arg, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool done = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		fn(arg);
		ReleaseCurrentSubTransaction();
		done = true;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return done;
}

bool
sb_try(void (*fn)(void *arg), void *arg, ErrorData **error)
{
	/* a rollback forgets them all */
	Assert(sb_statements_are_empty());
	if (sb_try_part(fn, arg, error))
		return true;
	sb_statements_abort();
	return false;
}
