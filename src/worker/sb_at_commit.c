/*
 * sb_at_commit.c: what the end of a transaction has to do; see sb_at_commit.h.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "worker/sb_at_commit.h"

/* Of this transaction; cleared at its end. */
static struct
{
	bool tell_runner;
	bool probe;
	bool pinned;
	bool committing; /* counted in `creations` of this database */
} at_commit;

SbDatabase *
sb_my_database(void)
{
	SbDatabase *db;

	if (sb_registry == NULL)
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("stream_beam is not loaded by the server"),
		         errhint("Add stream_beam to shared_preload_libraries and restart the server.")));
	db = sb_database_get(MyDatabaseId);
	if (db == NULL)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
		                errmsg("all %d databases that stream_beam may serve are in use",
		                       sb_registry->ndatabases),
		                errhint("Raise stream_beam.max_databases and restart the server.")));
	return db;
}

void
sb_at_commit_tell_runner(void)
{
	at_commit.tell_runner = true;
}

void
sb_at_commit_probe(void)
{
	at_commit.probe = true;
}

XLogRecPtr
sb_pin_until_end(void)
{
	XLogRecPtr at;

	if (at_commit.pinned)
		return GetXLogInsertRecPtr();
	at = sb_pin_acquire(sb_my_database());
	at_commit.pinned = true;
	return at;
}

bool
sb_at_commit_is_asked(void)
{
	return at_commit.tell_runner || at_commit.probe || at_commit.pinned;
}

void
sb_at_commit_begin(void)
{
	if (!at_commit.pinned)
		return;
	/*
	 * rows that this transaction has inserted could come to the runner before it knows of the
	 * pipeline
	 */
	pg_atomic_fetch_add_u32(&sb_my_database()->creations, 1);
	at_commit.committing = true;
}

void
sb_at_commit_end(bool committed)
{
	/* an entry without the extension may have been given back meanwhile */
	SbDatabase *db = committed && at_commit.probe ? sb_database_get(MyDatabaseId)
	                                              : sb_database_find(MyDatabaseId);

	if (db && (at_commit.pinned || (committed && (at_commit.tell_runner || at_commit.probe))))
		sb_pin_release(db, at_commit.pinned, committed);
	if (db && at_commit.committing)
	{
		/* after the generation: who sees it gone sees the new pipeline */
		pg_atomic_fetch_sub_u32(&db->creations, 1);
		sb_wake_worker(db, SB_ROLE_RUNNER);
	}
	if (db && committed && at_commit.probe)
		sb_database_event(db, SB_EVENT_PROBE);
	memset(&at_commit, 0, sizeof(at_commit));
}
