/*
 * sb_housekeeping.c: what the runner does now and then; see sb_housekeeping.h.
 *
 * A database at rest is not woken: each job says when it wants its next turn, and has one after
 * each change of pipelines.
 */
#include "postgres.h"

#include "base/sb_guc.h"
#include "base/sb_transaction.h"
#include "runner/sb_expiry.h"
#include "runner/sb_housekeeping.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "version/sb_version.h"

static const struct
{
	const char *name;
	SbHousekeepingJob run;
} jobs[] = {
    {"dropping versions of pipelines that are no longer kept", sb_version_expire},
    {"deleting late events and dead letters that have expired", sb_expiry_run},
};

static TimestampTz due[lengthof(jobs)]; /* of each job; 0: at once */
static TimestampTz last_run = DT_NOBEGIN;

typedef struct SbTurn
{
	int job;
	TimestampTz now;
} SbTurn;

static void
housekeeping_job(void *arg)
{
	SbTurn *turn = arg;

	due[turn->job] = jobs[turn->job].run(turn->now);
}

static TimestampTz
housekeeping_after(TimestampTz now)
{
	return TimestampTzPlusMilliseconds(now, (int64) sb_guc_housekeeping_interval_s * 1000);
}

void
sb_housekeeping_run(TimestampTz now)
{
	MemoryContext context =
	    AllocSetContextCreate(TopMemoryContext, "stream_beam housekeeping", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;

	last_run = now;
	sb_transaction_begin();
	old = MemoryContextSwitchTo(context);
	for (int i = 0; i < lengthof(jobs); i++)
	{
		SbTurn turn = {.job = i, .now = now};
		ErrorData *error;

		if (due[i] > now || sb_try(housekeeping_job, &turn, &error))
			continue;
		due[i] = housekeeping_after(now);
		ereport(WARNING, (errcode(error->sqlerrcode),
		                  errmsg("%s has failed: %s", jobs[i].name, error->message),
		                  error->detail ? errdetail("%s", error->detail) : 0,
		                  error->hint ? errhint("%s", error->hint) : 0));
	}
	MemoryContextSwitchTo(old);
	sb_transaction_commit();
	MemoryContextDelete(context);
}

void
sb_housekeeping_ask(void)
{
	memset(due, 0, sizeof(due));
}

TimestampTz
sb_housekeeping_next(void)
{
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < lengthof(jobs); i++)
		next = Min(next, due[i]);
	return next == DT_NOEND || last_run == DT_NOBEGIN ? next
	                                                  : Max(next, housekeeping_after(last_run));
}
