/*
 * sb_guc.c: the settings, alphabetical.
 */
#include "postgres.h"

#include "base/sb_compat.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "miscadmin.h"

int sb_guc_bundle_rows;
int sb_guc_bundle_time_ms;
int sb_guc_decoding_work_mem_kb;
int sb_guc_history_chunk_time_ms;
int sb_guc_history_rate;
int sb_guc_housekeeping_interval_s;
int sb_guc_letter_max_age_s;
int sb_guc_letter_max_count;
int sb_guc_lock_timeout_ms;
int sb_guc_max_databases;
int sb_guc_max_dead_letters;
int sb_guc_max_retained_wal_mb;
int sb_guc_max_retries;
int sb_guc_pipeline_timeout_ms;
int sb_guc_ring_size_kb;
int sb_guc_start_timeout_ms;
int sb_guc_state_memory_kb;

/*
 * A pipeline at rest writes its position every 16 MB: with less than twice that it would be given
 * up for nothing.
 */
#define SB_RETAINED_WAL_MIN_MB 32

typedef struct SbIntGuc
{
	const char *name;
	const char *what;
	int *variable;
	int boot, min, max;
	GucContext context;
	int flags;
	GucIntCheckHook check;
} SbIntGuc;

static bool
guc_check_retained_wal(int *value, void **extra, GucSource source)
{
	if (*value < 0 || *value >= SB_RETAINED_WAL_MIN_MB)
		return true;
	GUC_check_errdetail(
	    "It has to be -1 (no limit), or %d MB at least: a pipeline at rest writes its position every 16 MB.",
	    SB_RETAINED_WAL_MIN_MB);
	return false;
}

static const SbIntGuc gucs[] = {
    {"stream_beam.bundle_rows",
     "Number of source rows after which a bundle ends at the next commit.", &sb_guc_bundle_rows,
     500000, 1, INT_MAX, PGC_SIGHUP, 0},
    {"stream_beam.bundle_time", "Time after which a bundle ends at the next commit.",
     &sb_guc_bundle_time_ms, 200, 1, 3600 * 1000, PGC_SIGHUP, GUC_UNIT_MS},
    {"stream_beam.decoding_work_mem",
     "Memory for decoding, for each reader: larger transactions go to temporary files while they are in progress.",
     &sb_guc_decoding_work_mem_kb, 64 * 1024, 64, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB},
    {"stream_beam.history_chunk_time",
     "Time for which the history of a table is read between two bundles.",
     &sb_guc_history_chunk_time_ms, 300, 1, 60 * 1000, PGC_SIGHUP, GUC_UNIT_MS},
    {"stream_beam.history_rate",
     "Rows a second up to which the history of a table is read, for each pipeline; 0: as fast as it can be.",
     &sb_guc_history_rate, 0, 0, INT_MAX, PGC_SIGHUP, 0},
    {"stream_beam.housekeeping_interval",
     "Least time between two looks for what has expired, such as versions of pipelines.",
     &sb_guc_housekeeping_interval_s, 60, 1, INT_MAX / 1000, PGC_SIGHUP, GUC_UNIT_S},
    {"stream_beam.letter_max_age",
     "Age at which late events and dead letters are deleted; 0: never.", &sb_guc_letter_max_age_s,
     0, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_S},
    {"stream_beam.letter_max_count",
     "Number of late events, and of dead letters, that each pipeline keeps, the newest; 0: all.",
     &sb_guc_letter_max_count, 1000000, 0, INT_MAX, PGC_SIGHUP, 0},
    {"stream_beam.lock_timeout",
     "How long a pipeline may wait for a lock, before it is put aside and tried again; 0: for ever.",
     &sb_guc_lock_timeout_ms, 1000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
    {"stream_beam.max_databases", "Number of databases that can have running pipelines.",
     &sb_guc_max_databases, 8, 1, 1024, PGC_POSTMASTER, 0},
    {"stream_beam.max_dead_letters",
     "Number of failing rows in one bundle after which the pipeline is set to failed.",
     &sb_guc_max_dead_letters, 1000, 0, INT_MAX, PGC_SIGHUP, 0},
    {"stream_beam.max_retained_wal",
     "WAL behind a pipeline's position with which it is given up (needs_resync), so that the disk does not fill; -1: never.",
     &sb_guc_max_retained_wal_mb, 64 * 1024, -1, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_MB,
     guc_check_retained_wal},
    {"stream_beam.max_retries",
     "How often a pipeline that was put aside is tried again, before it is set to failed.",
     &sb_guc_max_retries, 60, 0, INT_MAX, PGC_SIGHUP, 0},
    {"stream_beam.pipeline_timeout",
     "How long a pipeline may work on its part of a bundle, before it is put aside and tried again; 0: for ever.",
     &sb_guc_pipeline_timeout_ms, 30 * 1000, 0, INT_MAX, PGC_SIGHUP, GUC_UNIT_MS},
    {"stream_beam.ring_size",
     "Size of the shared memory between reader and runner, for each database.",
     &sb_guc_ring_size_kb, 64 * 1024, 1024, 4 * 1024 * 1024 - 4, PGC_POSTMASTER, GUC_UNIT_KB},
    {"stream_beam.start_timeout",
     "How long create_pipeline() waits for the workers and their replication slot.",
     &sb_guc_start_timeout_ms, 60 * 1000, 0, INT_MAX, PGC_USERSET, GUC_UNIT_MS},
    {"stream_beam.state_memory",
     "Memory for the cells (state of keys and windows) of all pipelines of a runner.",
     &sb_guc_state_memory_kb, 512 * 1024, 1024, MAX_KILOBYTES, PGC_SIGHUP, GUC_UNIT_KB},
};

void
sb_guc_define(void)
{
	for (int i = 0; i < lengthof(gucs); i++)
	{
		/*
		 * in a session of a server that has not preloaded the library these cannot be made any
		 * more, and nobody reads them
		 */
		if (gucs[i].context == PGC_POSTMASTER && !process_shared_preload_libraries_in_progress)
			continue;
		DefineCustomIntVariable(gucs[i].name, gucs[i].what, NULL, gucs[i].variable, gucs[i].boot,
		                        gucs[i].min, gucs[i].max, gucs[i].context, gucs[i].flags,
		                        gucs[i].check, NULL, NULL);
	}
	sb_kill_point_define();
	if (process_shared_preload_libraries_in_progress)
		MarkGUCPrefixReserved("stream_beam");
}
