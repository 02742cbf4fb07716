/*
 * sb_void.c: pipelines whose position means nothing any more; see sb_void.h.
 *
 * WHAT A POSITION IS WORTH. It is a place in the WAL of one timeline of one server, and the slot
 * belongs to one database there. A physical copy has the catalog but, as a rule, not the slot; a
 * promoted or restored server is on another timeline, where WAL after the fork is not what the
 * slot's owner would have read; CREATE DATABASE ... TEMPLATE copies the catalog into a database
 * whose changes were never in the slot; pg_upgrade begins a new WAL. beam.home says whom the
 * positions belong to, so that each of these is noticed by the first runner that starts there,
 * before any WAL is read. On the same timeline a slot that was lost and created again starts above
 * the positions; so may that of a standby which has synchronized it (PostgreSQL 17), and which else
 * goes on when it is promoted.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "base/sb_compat.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "replication/slot.h"
#include "runner/sb_void.h"
#include "sink/sb_queue_table.h"
#include "state/sb_cells.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/pg_lsn.h"
#include "worker/sb_slot.h"
#include "worker/sb_worker.h"

bool
sb_void_holds(const SbPipelineRow *row)
{
	/* a downstream pipeline needs nothing of the WAL */
	return sb_catalog_reads_wal(row) && row->state != SB_PIPELINE_NEEDS_RESYNC;
}

void
sb_void_mark(const SbPipelineRow *row, int sqlerrcode, const char *message)
{
	ErrorData error = {.sqlerrcode = sqlerrcode, .message = unconstify(char *, message)};

	/* one that is being built has nothing to lose: the runner begins it again */
	if (row->stage == SB_STAGE_BUILDING)
	{
		(void) sb_catalog_mark_rebuild(row->id, message);
		return;
	}
	if (!sb_catalog_set_state(row->id, SB_PIPELINE_NEEDS_RESYNC, &error))
		return;
	ereport(WARNING,
	        (errcode(sqlerrcode), errmsg("pipeline \"%s\" needs a resync: %s", row->name, message),
	         errdetail("It was %s at %X/%X.", sb_pipeline_state_name(row->state),
	                   LSN_FORMAT_ARGS(row->progress.position)),
	         errhint("Call beam.resync_pipeline().")));
}

bool
sb_void_gapped(XLogRecPtr start)
{
	XLogRecPtr end = GetXLogInsertRecPtr();
	bool any = false;
	ListCell *lc;

	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *row = lfirst(lc);
		XLogRecPtr position = row->progress.position;

		if (!sb_void_holds(row) || (position >= start && position <= end))
			continue;
		if (position > end)
			sb_void_mark(
			    row, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			    psprintf("its position %X/%X is beyond the end of the WAL: it belongs to another server",
			             LSN_FORMAT_ARGS(position)));
		else
			sb_void_mark(
			    row, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			    psprintf("the changes of its source between %X/%X and %X/%X are lost: the replication slot does not reach back to its position",
			             LSN_FORMAT_ARGS(position), LSN_FORMAT_ARGS(start)));
		any = true;
	}
	return any;
}

/* ---- whom the positions belong to ---- */

typedef struct SbHome
{
	int64 system;
	int32 timeline;
	Oid database;
} SbHome;

/* False: nothing has been kept yet. */
static bool
home_read(SbHome *home)
{
	HeapTuple tuple;
	TupleDesc desc;
	bool isnull;

	if (sb_sql_run("SELECT system, timeline, database FROM beam.home", 0, NULL, NULL, NULL,
	               SPI_OK_SELECT) == 0)
		return false;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	home->system = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	home->timeline = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	home->database = DatumGetObjectId(SPI_getbinval(tuple, desc, 3, &isnull));
	return true;
}

static void
home_write(const SbHome *home)
{
	Oid types[] = {INT8OID, INT4OID, OIDOID};
	Datum values[] = {Int64GetDatum(home->system), Int32GetDatum(home->timeline),
	                  ObjectIdGetDatum(home->database)};

	sb_sql_run("DELETE FROM beam.home", 0, NULL, NULL, NULL, SPI_OK_DELETE);
	sb_sql_run("INSERT INTO beam.home (system, timeline, database) VALUES ($1, $2, $3)",
	           lengthof(types), types, values, NULL, SPI_OK_INSERT);
}

/* NULL: it is the same. */
static const char *
home_difference(const SbHome *then, const SbHome *now)
{
	if (then->system != now->system)
		return "it was made on another server: this one has been made anew (pg_upgrade, initdb)";
	if (then->database != now->database)
		return "this database is a copy of another one, to which its position belongs";
	if (then->timeline != now->timeline)
		return psprintf(
		    "the server has been promoted or restored from a backup (timeline %d, was %d): changes of its source may be missing",
		    now->timeline, then->timeline);
	return NULL;
}

/*
 * A standby that has synchronized the slot of its primary. What it has of the WAL before that place
 * it has in the catalog too, or a pipeline's position is before what the slot has been confirmed
 * to, which is a gap (sb_void_gapped()).
 */
static bool
home_goes_on(const SbHome *then, const SbHome *now)
{
	char name[NAMEDATALEN];
	ReplicationSlot *slot;

	if (then->system != now->system || then->database != now->database)
		return false;
	sb_slot_name(now->database, name);
	slot = SearchNamedReplicationSlot(name, true);
	return slot != NULL && sb_slot_is_synced(slot) && !sb_slot_is_invalidated(slot);
}

static void
home_drop_slot(Oid dbid)
{
	char name[NAMEDATALEN];

	sb_slot_name(dbid, name);
	if (SearchNamedReplicationSlot(name, true) == NULL)
		return;
	ereport(LOG,
	        (errmsg("stream_beam: dropping replication slot \"%s\": it was made before this server was promoted or restored",
	                name)));
	ReplicationSlotDrop(name, true);
}

/*
 * Is this still the database, of the server, on the timeline that the positions in the catalog
 * belong to? If not, drops a slot that is there all the same, marks all pipelines, and makes the
 * catalog say where it is now.
 */
static void
void_check_home(SbDatabase *db)
{
	SbHome then = {0}, now = {.system = (int64) GetSystemIdentifier(),
	                          .timeline = (int32) GetWALInsertionTimeLine(),
	                          .database = db->dbid};
	bool known, same, goes_on;
	const char *difference = NULL;
	ListCell *lc;

	sb_transaction_begin();
	known = home_read(&then);
	same = known && home_difference(&then, &now) == NULL;
	goes_on = known && !same && home_goes_on(&then, &now);
	if (goes_on)
		home_write(&now);
	sb_transaction_commit();
	if (goes_on)
		ereport(LOG,
		        (errmsg("stream_beam: this server has been promoted, and goes on with the replication slot that it has synchronized (timeline %d, was %d)",
		                now.timeline, then.timeline)));
	if (same || goes_on)
		return;
	/* first: should we die in between, the difference is still there */
	if (known)
		home_drop_slot(db->dbid);
	sb_transaction_begin();
	difference = known ? home_difference(&then, &now) : NULL;
	foreach (lc, difference ? sb_catalog_pipelines() : NIL)
	{
		SbPipelineRow *row = lfirst(lc);

		/* downstream pipelines, too, where everything has other OIDs */
		if (sb_void_holds(row) || then.system != now.system)
			sb_void_mark(row, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, difference);
	}
	if (known && then.system != now.system)
		sb_catalog_forget_definitions();
	home_write(&now);
	sb_transaction_commit();
}

/* ---- what a crash has emptied ---- */

/* The first of a pipeline's tables that is UNLOGGED; NULL: none is. */
static const char *
emptied_table(const SbPipelineRow *row)
{
	Oid tables[] = {row->result, row->state_table, sb_items_table_relid(row->id),
	                sb_queue_table_relid(row->id)};

	for (int i = 0; i < lengthof(tables); i++)
	{
		if (OidIsValid(tables[i]) && get_rel_name(tables[i]) != NULL &&
		    get_rel_persistence(tables[i]) == RELPERSISTENCE_UNLOGGED)
			return get_rel_name(tables[i]);
	}
	return NULL;
}

/*
 * Has the server crashed since this was last asked? Then PostgreSQL has emptied unlogged tables,
 * beam.intact among them; pipelines that have some are marked.
 */
static void
void_check_emptied(void)
{
	ListCell *lc;

	sb_transaction_begin();
	if (!sb_catalog_has("intact") ||
	    sb_sql_run("SELECT FROM beam.intact", 0, NULL, NULL, NULL, SPI_OK_SELECT) > 0)
	{
		sb_transaction_commit();
		return;
	}
	foreach (lc, sb_catalog_pipelines())
	{
		SbPipelineRow *row = lfirst(lc);
		const char *table = emptied_table(row);

		if (table)
			sb_void_mark(
			    row, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			    psprintf("its table \"%s\" is UNLOGGED: a crash of the server has emptied it", /* not SQL */
			             table));
	}
	sb_sql_run("INSERT INTO beam.intact VALUES (true)", 0, NULL, NULL, NULL, SPI_OK_INSERT);
	sb_transaction_commit();
}

void
sb_void_check(SbDatabase *db)
{
	void_check_home(db);
	void_check_emptied();
}
