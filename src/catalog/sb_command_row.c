/*
 * sb_command_row.c: beam.command; see sb_command_row.h.
 *
 * LOCKING. The lock of a command is an advisory one on its id. A session's lock: it goes with the
 * backend, or when that says so, and not with a transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_command_row.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

static LOCKTAG
command_locktag(int64 id)
{
	LOCKTAG tag;

	/*
	 * an advisory lock of a kind that no function of SQL can take: those have 1 or 2 as the last
	 * number
	 */
	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (id >> 32), (uint32) id, 3);
	return tag;
}

bool
sb_command_is_left(int64 id)
{
	LOCKTAG tag = command_locktag(id);

	if (LockAcquire(&tag, ExclusiveLock, false, true) == LOCKACQUIRE_NOT_AVAIL)
		return false;
	LockRelease(&tag, ExclusiveLock, false);
	return true;
}

bool
sb_command_ask(SbCommand *command)
{
	Oid types[] = {INT4OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8ARRAYOID, OIDOID};
	char nulls[] = "      ";
	Datum values[] = {Int32GetDatum(command->pipeline),   CStringGetTextDatum(command->kind),
	                  TimestampTzGetDatum(command->from), TimestampTzGetDatum(command->to),
	                  PointerGetDatum(command->ids),      ObjectIdGetDatum(GetSessionUserId())};
	bool isnull;
	LOCKTAG tag;

	if (command->ids == NULL)
		nulls[4] = 'n';
	if (sb_sql_run(
	        "INSERT INTO beam.command (pipeline, kind, range_from, range_to, ids, asked_by) SELECT p.id, $2, $3, $4, $5, $6"
	        " FROM beam.pipeline p WHERE p.id OPERATOR(pg_catalog.=) $1 FOR KEY SHARE OF p RETURNING id",
	        lengthof(types), types, values, nulls, SPI_OK_INSERT_RETURNING) == 0)
		return false;
	command->id =
	    DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	tag = command_locktag(command->id);
	(void) LockAcquire(&tag, ExclusiveLock, true, false);
	return true;
}

void
sb_command_leave(const SbCommand *command)
{
	LOCKTAG tag = command_locktag(command->id);

	LockRelease(&tag, ExclusiveLock, true);
}

static char *
command_text(HeapTuple tuple, int column)
{
	return SPI_getvalue(tuple, SPI_tuptable->tupdesc, column);
}

static TimestampTz
command_time(HeapTuple tuple, int column, TimestampTz if_null)
{
	bool isnull;
	Datum value = SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? if_null : DatumGetTimestampTz(value);
}

static int64
command_number(HeapTuple tuple, int column)
{
	bool isnull;

	return DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, column, &isnull));
}

SbCommand
sb_command_of_tuple(HeapTuple tuple)
{
	SbCommand command = {.id = command_number(tuple, 1),
	                     .pipeline = (int32) command_number(tuple, 2),
	                     .kind = command_text(tuple, 3)};
	bool isnull;
	Datum ids = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 8, &isnull);

	command.from = command_time(tuple, 4, DT_NOBEGIN);
	command.to = command_time(tuple, 5, DT_NOEND);
	command.lo = command_time(tuple, 6, DT_NOEND);
	command.hi = command_time(tuple, 7, DT_NOEND);
	command.ids = isnull ? NULL : DatumGetArrayTypePCopy(ids);
	command.state = command_text(tuple, 9);
	command.rows = command_number(tuple, 10);
	command.failed = command_number(tuple, 11);
	command.sqlstate = command_text(tuple, 12);
	command.message = command_text(tuple, 13);
	command.detail = command_text(tuple, 14);
	command.hint = command_text(tuple, 15);
	command.last_id = command_number(tuple, 16);
	command.max_id = command_number(tuple, 17);
	command.events = command_number(tuple, 18);
	return command;
}

bool
sb_command_read(int64 id, SbCommand *command)
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(id)};
	SPIPlanPtr plan = SPI_prepare("SELECT " SB_COMMAND_COLUMNS
	                              " FROM beam.command WHERE id OPERATOR(pg_catalog.=) $1",
	                              lengthof(types), types);
	bool found;

	/* as of now, also in a transaction that has one snapshot for all its life */
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_plan(plan, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read command " INT64_FORMAT, id);
	PopActiveSnapshot();
	MemoryContextSwitchTo(context);
	found = SPI_processed > 0;
	if (found)
		*command = sb_command_of_tuple(SPI_tuptable->vals[0]);
	SPI_freetuptable(SPI_tuptable);
	SPI_freeplan(plan);
	return found;
}

void
sb_command_delete(int64 id)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(id)};

	sb_sql_run("DELETE FROM beam.command WHERE id OPERATOR(pg_catalog.=) $1", lengthof(types),
	           types, values, NULL, SPI_OK_DELETE);
}

/*
 * How far it has come, in the transaction of what has been done. What is said to be done is not
 * lost in a crash.
 */
void
sb_command_put(const SbCommand *command)
{
	Oid types[] = {INT8OID, TEXTOID, TIMESTAMPTZOID, TIMESTAMPTZOID, INT8OID,
	               INT8OID, INT8OID, INT8OID,        INT8OID};
	char nulls[] = "         ";
	Datum values[] = {Int64GetDatum(command->id),       CStringGetTextDatum(command->state),
	                  TimestampTzGetDatum(command->lo), TimestampTzGetDatum(command->hi),
	                  Int64GetDatum(command->rows),     Int64GetDatum(command->failed),
	                  Int64GetDatum(command->last_id),  Int64GetDatum(command->max_id),
	                  Int64GetDatum(command->events)};

	if (command->lo == DT_NOEND)
		nulls[2] = nulls[3] = 'n';
	sb_sql_run(
	    "UPDATE beam.command SET state = $2, lo = $3, hi = $4, rows = $5, failed = $6, last_id = $7, max_id = $8, events = $9, first = COALESCE(first, $3),"
	    " started_at = COALESCE(started_at, pg_catalog.now()), updated_at = pg_catalog.clock_timestamp() WHERE id OPERATOR(pg_catalog.=) $1",
	    lengthof(types), types, values, nulls, SPI_OK_UPDATE);
	ForceSyncCommit();
}

void
sb_command_put_error(const SbCommand *command, const ErrorData *error)
{
	Oid types[] = {INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID};
	char nulls[] = "     ";
	Datum values[] = {Int64GetDatum(command->id),
	                  CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
	                  CStringGetTextDatum(error->message ? error->message : ""),
	                  CStringGetTextDatum(error->detail ? error->detail : ""),
	                  CStringGetTextDatum(error->hint ? error->hint : "")};

	if (error->detail == NULL)
		nulls[3] = 'n';
	if (error->hint == NULL)
		nulls[4] = 'n';
	sb_sql_run("UPDATE beam.command SET state = '" SB_COMMAND_FAILED
	           "', sqlstate = $2, message = $3, detail = $4, hint = $5, updated_at = pg_catalog.clock_timestamp()"
	           " WHERE id OPERATOR(pg_catalog.=) $1",
	           lengthof(types), types, values, nulls, SPI_OK_UPDATE);
}

void
sb_commands_follow(int32 before, int32 next, bool backfilled)
{
	Oid types[] = {INT4OID, INT4OID, BOOLOID};
	Datum values[] = {Int32GetDatum(before), Int32GetDatum(next), BoolGetDatum(backfilled)};

	/* the late events of the version that goes are in the rows of this one */
	if (sb_sql_run(
	        "UPDATE beam.command SET state = '" SB_COMMAND_DONE
	        "', updated_at = pg_catalog.clock_timestamp(),"
	        " rows = COALESCE((SELECT h.rows FROM beam.history h WHERE h.pipeline OPERATOR(pg_catalog.=) $2), 0),"
	        " events = (SELECT pg_catalog.count(*) FROM beam.late_event e WHERE e.pipeline OPERATOR(pg_catalog.=) $1)"
	        " WHERE pipeline OPERATOR(pg_catalog.=) $1 AND state OPERATOR(pg_catalog.=) '" SB_COMMAND_BUILDING
	        "' AND $3",
	        lengthof(types), types, values, NULL, SPI_OK_UPDATE) > 0)
		ForceSyncCommit();
	sb_sql_run("UPDATE beam.command SET pipeline = $2 WHERE pipeline OPERATOR(pg_catalog.=) $1", 2,
	           types, values, NULL, SPI_OK_UPDATE);
}
