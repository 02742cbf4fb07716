/*
 * sb_reader.c: the process that owns the slot of a database, decodes the WAL in-process and writes
 * frames into the ring.
 *
 * RULES. It never runs a transaction of its own: a decoding context made outside a transaction
 * marks the process PROC_IN_LOGICAL_DECODING, which hides its xids from others; right for a process
 * that never writes. It never looks at a catalog under a current snapshot.
 *
 * A session is one decoding context. It ends when the runner asks for a rewind (it has started
 * anew, or a pipeline goes on at an older position), or when the decoder cannot go on with what it
 * has passed by; the next one starts at what the slot has confirmed and says so with a RESET frame.
 *
 * It sleeps on its latch when all flushed WAL is read; commits of this database wake it
 * (sb_hooks.c).
 */
#include "postgres.h"

#include "base/sb_transaction.h"
#include <sys/stat.h>

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "access/xlogreader.h"
#include "access/xlogrecovery.h"
#include "access/xlogutils.h"
#include "base/sb_compat.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/decode.h"
#include "replication/logical.h"
#include "replication/slot.h"
#include "replication/snapbuild.h"
#include "source/sb_decode.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "worker/sb_lane.h"
#include "worker/sb_slot.h"
#include "worker/sb_work.h"
#include "worker/sb_worker.h"

/* Confirming writes the slot's file: at most so often, or when so much WAL could be given back. */
#define SB_CONFIRM_INTERVAL_MS 1000
#define SB_CONFIRM_BYTES (16 * 1024 * 1024)
/* Reading without pause, it says how far it is after so much. */
#define SB_PUBLISH_BYTES (1024 * 1024)
/*
 * How long after a wake-up without anything to read the flush pointer is watched: an asynchronous
 * commit is flushed within 3 wal_writer_delay.
 */
#define SB_FLUSH_WATCH_MS 1000
#define SB_FLUSH_POLL_MS 10
/*
 * Without commits in this database others may still write WAL, which is to be read and given back.
 */
#define SB_NEIGHBOUR_POLL_MS 10000

/* Of this process. */
static struct
{
	SbDatabase *db;
	SbLane *lane; /* that it is the reader of ... */
	SbLaneKind lane_kind;
	SbRingWriter writer;
	SbDecoder decoder;
	uint64 session_epoch;
	XLogRecPtr heartbeat_at; /* position of the last heartbeat or commit sent */
	XLogRecPtr published_at; /* position of the last reader_publish() */
	TimestampTz confirmed_at;
	XLogRecPtr reading; /* the record that is decoded */
	TimestampTz watch_flush_until;
	int hurried;            /* short sleeps in a row */
	uint32 sources_version; /* of these: */
	int nsources;
	Oid sources[SB_MAX_SOURCES];
} reader;

static void reader_confirm(bool force);

/*
 * What is to be blamed if the process ends here: a change of a source, or else the record that is
 * read.
 */
static void
reader_at_work(Oid relation, XLogRecPtr lsn)
{
	if (OidIsValid(relation))
		sb_work_on(SB_WORK_CHANGE, relation, lsn);
	else
		sb_work_on(SB_WORK_OTHER, 0, reader.reading);
}

static void
reader_wake_runner(void)
{
	sb_wake_worker(reader.db, sb_lane_runner(reader.lane_kind));
}

static void
reader_wait_for_room(void)
{
	sb_worker_check();
	/* a runner that takes nothing may all the same have been relieved of what it waits for */
	if (MyReplicationSlot != NULL)
		reader_confirm(false);
	sb_worker_sleep(100);
}

static bool
reader_is_wanted(Oid relation)
{
	uint32 now = pg_atomic_read_u32(&reader.db->sources_version);

	if (now != reader.sources_version)
	{
		reader.nsources = sb_sources_get(reader.db, reader.sources);
		reader.sources_version = now;
	}
	for (int i = 0; i < reader.nsources; i++)
	{
		if (reader.sources[i] == relation)
			return true;
	}
	return false;
}

static void
reader_confirm(bool force)
{
	XLogRecPtr wanted = pg_atomic_read_u64(&reader.lane->confirmable);
	XLogRecPtr confirmed = pg_atomic_read_u64(&reader.lane->confirmed);
	TimestampTz now;

	if (wanted == InvalidXLogRecPtr || wanted <= confirmed)
		return;
	now = sb_clock_now();
	if (!force && wanted - confirmed < SB_CONFIRM_BYTES &&
	    !TimestampDifferenceExceeds(reader.confirmed_at, now, SB_CONFIRM_INTERVAL_MS))
		return;
	SB_KILL_POINT("before_confirm");
	LogicalConfirmReceivedLocation(wanted);
	SB_KILL_POINT("after_confirm");
	pg_atomic_write_u64(&reader.lane->confirmed, wanted);
	reader.confirmed_at = now;
}

static bool
reader_session_over(void)
{
	return reader.decoder.start_over ||
	       pg_atomic_read_u64(&reader.lane->rewind_wanted) != reader.session_epoch;
}

/* Tells how far it has read, and which transaction keeps the slot from following. */
static void
reader_publish(XLogReaderState *state)
{
	LogicalDecodingContext *ctx = state->private_data;
	ReorderBufferTXN *oldest = ReorderBufferGetOldestTXN(ctx->reorder);

	if (oldest)
		pg_atomic_write_u64(&reader.lane->open_lsn,
		                    oldest->restart_decoding_lsn != InvalidXLogRecPtr
		                        ? oldest->restart_decoding_lsn
		                        : oldest->first_lsn);
	pg_atomic_write_u32(&reader.lane->open_xid, oldest ? oldest->xid : InvalidTransactionId);
	pg_atomic_write_u64(&reader.lane->decoded, state->EndRecPtr);
	reader.published_at = state->EndRecPtr;
	sb_work_goes_well();
}

/*
 * All WAL up to the end of the last record has been read: says so once, if anything was sent since.
 */
static void
reader_at_end(XLogReaderState *state)
{
	XLogRecPtr end = state->EndRecPtr;

	reader_publish(state);
	if (end > reader.heartbeat_at && pg_atomic_read_u32(&reader.lane->slot_ready))
	{
		reader.heartbeat_at = end;
		sb_decode_write_heartbeat(end, true);
	}
}

/*
 * Many writers at once: they wake a reader that sleeps for each of its few commits, and each
 * wake-up costs them a signal. A reader that has been woken SB_HURRIED times in a row within
 * SB_HURRIED_US dozes for a millisecond instead, during which nobody wakes it, until a doze passes
 * without anything to read.
 */
#define SB_HURRIED 8
#define SB_HURRIED_US 400
#define SB_DOZE_MS 1

static void
reader_doze(XLogRecPtr have)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, SB_DOZE_MS,
	                 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	if (GetFlushRecPtr(NULL) >= have)
		return;
	/* nobody has woken us for an asynchronous commit that is still to be flushed */
	reader.hurried = 0;
	reader.watch_flush_until = TimestampTzPlusMilliseconds(sb_clock_now(), SB_FLUSH_WATCH_MS);
}

/* Sleeps until there may be more WAL than `have`. */
static void
reader_sleep(XLogRecPtr have)
{
	TimestampTz start = sb_clock_now();
	TimestampTz end;
	long timeout = SB_NEIGHBOUR_POLL_MS;

	if (reader.hurried >= SB_HURRIED)
	{
		reader_doze(have);
		return;
	}
	if (pg_atomic_read_u64(&reader.lane->confirmable) > pg_atomic_read_u64(&reader.lane->confirmed))
		timeout = SB_CONFIRM_INTERVAL_MS;
	if (start < reader.watch_flush_until)
		timeout = SB_FLUSH_POLL_MS;
	pg_atomic_write_u32(&reader.lane->reader_sleeping, 1);
	pg_memory_barrier();
	/* a commit that came before the flag was up has not woken us */
	if (GetFlushRecPtr(NULL) < have && !reader_session_over())
	{
		int events;

		sb_work_rest();
		events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, timeout,
		                   PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		reader_at_work(InvalidOid, InvalidXLogRecPtr);
		end = sb_clock_now();
		if ((events & WL_LATCH_SET) && GetFlushRecPtr(NULL) < have)
			reader.watch_flush_until = TimestampTzPlusMilliseconds(end, SB_FLUSH_WATCH_MS);
		reader.hurried = end - start < SB_HURRIED_US ? reader.hurried + 1 : 0;
	}
	pg_atomic_write_u32(&reader.lane->reader_sleeping, 0);
}

/* XLogPageReadCB: waits for WAL to be flushed; -1 ends the session. */
static int
reader_page(XLogReaderState *state, XLogRecPtr page, int needed, XLogRecPtr target, char *buffer)
{
	XLogRecPtr want = page + needed;
	XLogRecPtr flushed;
	TimeLineID timeline;
	WALReadError error;
	int count;

	for (;;)
	{
		flushed = GetFlushRecPtr(&timeline);
		/* what was written before the server was promoted */
		XLogReadDetermineTimeline(state, page, needed, timeline);
		if (state->currTLI != timeline)
		{
			timeline = state->currTLI;
			flushed = state->currTLIValidUntil;
		}
		if (want <= flushed)
			break;
		sb_worker_check();
		if (reader_session_over())
			return -1;
		reader_at_end(state);
		if (pg_atomic_read_u32(&reader.lane->slot_ready))
			reader_confirm(false);
		reader_sleep(want);
	}
	count = page + XLOG_BLCKSZ <= flushed ? XLOG_BLCKSZ : (int) (flushed - page);
	if (!WALRead(state, buffer, page, XLOG_BLCKSZ, timeline, &error))
		WALReadRaiseError(&error);
	return count;
}

/* Frames go straight into the ring: nothing is written through these. */
static void
reader_no_output(struct LogicalDecodingContext *ctx, XLogRecPtr lsn, TransactionId xid,
                 bool last_write)
{
}

/*
 * Newer minor releases load only output plugins named in output_plugin_libraries. Where the setting
 * exists it is made to name our library, for this process only.
 */
static void
reader_allow_plugin(void)
{
	if (GetConfigOption("output_plugin_libraries", true, false) != NULL)
		SetConfigOption("output_plugin_libraries", "stream_beam", PGC_SUSET, PGC_S_SESSION);
}

/*
 * As wal_segment_open(), but WAL that is gone although the slot needs it (removed by hand, or a
 * copied server) is not waited for: the reader that comes next makes the slot anew.
 */
static void
reader_segment_open(XLogReaderState *state, XLogSegNo segment, TimeLineID *timeline)
{
	char path[MAXPGPATH];
	struct stat status;

	XLogFilePath(path, *timeline, segment, wal_segment_size);
	if (stat(path, &status) != 0 && errno == ENOENT)
	{
		pg_atomic_write_u32(&reader.db->slot_discard, 1);
		ereport(ERROR,
		        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		         errmsg("WAL segment %s, which the replication slot of this database needs, is gone",
		                path),
		         errdetail(
		             "The slot is made anew; pipelines that had not come to its end need a resync.")));
	}
	wal_segment_open(state, segment, timeline);
}

static XLogReaderRoutine routine = {.page_read = reader_page,
                                    .segment_open = reader_segment_open,
                                    .segment_close = wal_segment_close};

static void
reader_create_slot(const char *name)
{
	LogicalDecodingContext *ctx;

	CheckLogicalDecodingRequirements();
	ereport(LOG, (errmsg("stream_beam: creating replication slot \"%s\"", name)));
	sb_slot_create(name);
	ctx = CreateInitDecodingContext("stream_beam", NIL, false, InvalidXLogRecPtr, &routine,
	                                reader_no_output, reader_no_output, NULL);
	/* waits for the transactions that are running now */
	DecodingContextFindStartpoint(ctx);
	FreeDecodingContext(ctx);
	ReplicationSlotPersist();
	ReplicationSlotRelease();
}

/*
 * Another's slot that happens to have our name would be decoded by another plugin, and so without a
 * word of ours.
 */
static void
reader_check_slot(const ReplicationSlot *slot)
{
	if (slot->data.database == reader.db->dbid &&
	    strcmp(NameStr(slot->data.plugin), "stream_beam") == 0)
		return;
	ereport(ERROR,
	        (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	         errmsg("replication slot \"%s\" is not one of stream_beam", NameStr(slot->data.name)),
	         errhint("Drop it with pg_drop_replication_slot().")));
}

/*
 * Makes the slot where there is none, and anew where its WAL was taken away or nobody needs what it
 * retains: the runner sees the gap.
 */
static void
reader_ensure_slot(const char *name)
{
	ReplicationSlot *slot = SearchNamedReplicationSlot(name, true);

	if (slot != NULL)
		reader_check_slot(slot);
	if (slot != NULL &&
	    (sb_slot_is_invalidated(slot) || pg_atomic_read_u32(&reader.db->slot_discard)))
	{
		if (!pg_atomic_read_u32(&reader.db->slot_discard))
			ereport(
			    WARNING,
			    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			     errmsg("replication slot \"%s\" has lost its WAL and is made anew", name),
			     errdetail("Pipelines that had not come to its end need a resync."),
			     errhint(
			         "Raise max_slot_wal_keep_size, or set stream_beam.max_retained_wal below it.")));
		ReplicationSlotDrop(name, true);
		slot = NULL;
	}
	pg_atomic_write_u32(&reader.db->slot_discard, 0);
	if (slot == NULL)
		reader_create_slot(name);
}

/*
 * The second lane reads with a copy of its own, which goes with the process. It is created again
 * for each session: another laggard may need what the last one has given back, and the slot keeps
 * what all of them need. No decoding context is there, so that this is an ordinary transaction.
 */
static void
reader_copy_slot(const char *name, const char *copy)
{
	Oid types[] = {NAMEOID, NAMEOID};
	NameData names[2];
	Datum values[] = {NameGetDatum(&names[0]), NameGetDatum(&names[1])};

	if (SearchNamedReplicationSlot(copy, true) != NULL)
		ReplicationSlotDrop(copy, true);
	namestrcpy(&names[0], name);
	namestrcpy(&names[1], copy);
	sb_transaction_begin();
	sb_sql_run("SELECT pg_catalog.pg_copy_logical_replication_slot($1, $2, true)", lengthof(types),
	           types, values, NULL, SPI_OK_SELECT);
	sb_transaction_commit();
	/* it knows nothing of what has been confirmed of the copy before */
	pg_atomic_write_u64(&reader.lane->confirmable, InvalidXLogRecPtr);
}

/*
 * One decoding context, from its RESET on, until the runner requests a rewind or decoding has to
 * start over. The slot is held for that time.
 */
static void
reader_run_session(const char *name)
{
	LogicalDecodingContext *ctx;
	char copy[NAMEDATALEN];

	if (reader.lane_kind == SB_LANE_LATE)
	{
		snprintf(copy, sizeof(copy), "%s_late", name);
		reader_copy_slot(name, copy);
		name = copy;
	}
	sb_slot_acquire(name, true);
	reader.session_epoch = pg_atomic_read_u64(&reader.lane->rewind_wanted);
	pg_read_barrier();
	reader_confirm(true);
	reader.heartbeat_at =
	    Max(MyReplicationSlot->data.confirmed_flush, pg_atomic_read_u64(&reader.lane->start_from));
	ctx = CreateDecodingContext(reader.heartbeat_at, NIL, false, &routine, reader_no_output,
	                            reader_no_output, NULL);
	XLogBeginRead(ctx->reader, MyReplicationSlot->data.restart_lsn);

	sb_decode_start_session();
	pg_atomic_write_u64(&reader.lane->confirmed, MyReplicationSlot->data.confirmed_flush);
	SB_KILL_POINT("before_reset");
	sb_decode_write_reset(reader.session_epoch, reader.heartbeat_at,
	                      MyReplicationSlot->data.confirmed_flush);
	SB_KILL_POINT("after_reset");
	pg_atomic_write_u32(&reader.lane->slot_ready, 1);
	ConditionVariableBroadcast(&reader.db->changed);

	while (!reader_session_over())
	{
		char *error = NULL;
		XLogRecord *record = XLogReadRecord(ctx->reader, &error);

		if (record == NULL)
		{
			if (reader_session_over())
				break;
			ereport(ERROR,
			        (errcode(ERRCODE_DATA_CORRUPTED),
			         errmsg("could not read the WAL at %X/%X: %s",
			                LSN_FORMAT_ARGS(ctx->reader->EndRecPtr), error ? error : "unknown")));
		}
		reader.reading = ctx->reader->ReadRecPtr;
		reader_at_work(InvalidOid, InvalidXLogRecPtr);
		LogicalDecodingProcessRecord(ctx, ctx->reader);
		sb_worker_check();
		if (ctx->reader->EndRecPtr - reader.published_at > SB_PUBLISH_BYTES)
			reader_publish(ctx->reader);
		/* busy with large amounts of WAL, it never comes to its end */
		if (pg_atomic_read_u64(&reader.lane->confirmable) -
		        pg_atomic_read_u64(&reader.lane->confirmed) >
		    SB_CONFIRM_BYTES)
			reader_confirm(false);
	}
	FreeDecodingContext(ctx);
	ReplicationSlotRelease();
}

/*
 * An error ends the process, as anywhere; one at a change of a source is as good as a crash there.
 */
static void
reader_run(const char *name)
{
	PG_TRY();
	{
		for (;;)
			reader_run_session(name);
	}
	PG_CATCH();
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		ErrorData *error = CopyErrorData();

		if (sb_work->kind == SB_WORK_CHANGE)
			sb_work_fail(error->message);
		if (reader.lane_kind == SB_LANE_LATE &&
		    error->sqlerrcode == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
			sb_lane_refuse(reader.db);
		MemoryContextSwitchTo(old);
		PG_RE_THROW();
	}
	PG_END_TRY();
}

void
stream_beam_reader_main(Datum arg)
{
	char name[NAMEDATALEN];
	char memory[32];
	SbRing *ring;
	SbRole role;

	reader.db = sb_worker_begin(arg, &role);
	reader.lane_kind = sb_lane_of_role(role);
	reader.lane = &reader.db->lanes[reader.lane_kind];
	sb_slot_name(reader.db->dbid, name);
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "stream_beam reader");
	MemoryContextSwitchTo(
	    AllocSetContextCreate(TopMemoryContext, "stream_beam worker", ALLOCSET_DEFAULT_SIZES));
	reader_allow_plugin();
	snprintf(memory, sizeof(memory), "%dkB", sb_guc_decoding_work_mem_kb);
	SetConfigOption("logical_decoding_work_mem", memory, PGC_USERSET, PGC_S_SESSION);

	ring = sb_ring_attach(reader.lane, false);
	if (ring == NULL)
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
		                errmsg("the ring of database %u has not been made", reader.db->dbid)));
	sb_ring_writer_init(&reader.writer, ring, reader_wake_runner, reader_wait_for_room);
	reader.decoder =
	    (SbDecoder){.writer = &reader.writer,
	                .wanted = reader_is_wanted,
	                .wanted_version = &reader.db->sources_version,
	                .at_work = reader_at_work,
	                .unreadable = sb_work_has_bad_changes() ? sb_work_bad_change : NULL};
	sb_decode_init(&reader.decoder);

	if (reader.lane_kind == SB_LANE_MAIN)
		reader_ensure_slot(name);
	reader_run(name);
}
