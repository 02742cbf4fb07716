/*
 * sb_history_row.c: beam.history; see sb_history_row.h.
 */
#include "postgres.h"

#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_history_row.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/pg_lsn.h"

static Datum
history_column(int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, column, isnull);
}

static char *
history_text(int column)
{
	bool isnull;
	Datum value = history_column(column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

SbHistoryRow *
sb_catalog_history(int32 pipeline)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	SbHistoryRow *row = NULL;
	bool isnull;

	if (sb_sql_run("SELECT part, part_type, begun, scanned, finished_at IS NOT NULL, lower_bound, upper_bound, snapshot::pg_catalog.text, cut_end, rows, chunks,"
	               " estimated_rows FROM beam.history WHERE pipeline OPERATOR(pg_catalog.=) $1",
	               lengthof(types), types, values, NULL, SPI_OK_SELECT) > 0)
	{
		row = palloc0(sizeof(SbHistoryRow));
		row->pipeline = pipeline;
		row->part = DatumGetInt16(history_column(1, &isnull));
		row->type = DatumGetObjectId(history_column(2, &isnull));
		row->begun = DatumGetBool(history_column(3, &isnull));
		row->scanned = DatumGetBool(history_column(4, &isnull));
		row->done = DatumGetBool(history_column(5, &isnull));
		row->lower = history_text(6);
		row->upper = history_text(7);
		row->snapshot = history_text(8);
		row->cut_end = DatumGetLSN(history_column(9, &isnull));
		row->rows = DatumGetInt64(history_column(10, &isnull));
		row->chunks = DatumGetInt64(history_column(11, &isnull));
		row->estimated_rows = DatumGetInt64(history_column(12, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return row;
}

void
sb_catalog_insert_history(const SbHistoryRow *row)
{
	Oid types[] = {INT4OID, INT2OID, OIDOID, INT8OID, TEXTOID};
	Datum values[] = {Int32GetDatum(row->pipeline), Int16GetDatum(row->part),
	                  ObjectIdGetDatum(row->type), Int64GetDatum(row->estimated_rows),
	                  CStringGetTextDatum(row->snapshot ? row->snapshot : "")};

	sb_sql_run(
	    "INSERT INTO beam.history (pipeline, part, part_type, estimated_rows, snapshot) VALUES ($1, $2, $3, $4, $5::pg_catalog.pg_snapshot)",
	    lengthof(types), types, values, row->snapshot ? NULL : "    n", SPI_OK_INSERT);
}

void
sb_catalog_put_history(const SbHistoryRow *row)
{
	Oid types[] = {INT4OID, BOOLOID, BOOLOID,   BOOLOID, TEXTOID,
	               TEXTOID, TEXTOID, PG_LSNOID, INT8OID, INT8OID};
	char nulls[lengthof(types) + 1] = "          ";
	Datum values[] = {Int32GetDatum(row->pipeline),
	                  BoolGetDatum(row->begun),
	                  BoolGetDatum(row->scanned),
	                  BoolGetDatum(row->done),
	                  CStringGetTextDatum(row->lower ? row->lower : ""),
	                  CStringGetTextDatum(row->upper ? row->upper : ""),
	                  CStringGetTextDatum(row->snapshot ? row->snapshot : ""),
	                  LSNGetDatum(row->cut_end),
	                  Int64GetDatum(row->rows),
	                  Int64GetDatum(row->chunks)};

	nulls[4] = row->lower ? ' ' : 'n';
	nulls[5] = row->upper ? ' ' : 'n';
	nulls[6] = row->snapshot ? ' ' : 'n';
	if (sb_sql_run(
	        "UPDATE beam.history SET begun = $2, scanned = $3, finished_at = CASE WHEN $4 THEN pg_catalog.clock_timestamp() END, lower_bound = $5,"
	        " upper_bound = $6, snapshot = $7::pg_catalog.pg_snapshot, cut_end = $8, rows = $9, chunks = $10,"
	        " started_at = COALESCE(started_at, pg_catalog.now()), updated_at = pg_catalog.clock_timestamp()"
	        " WHERE pipeline OPERATOR(pg_catalog.=) $1",
	        lengthof(types), types, values, nulls, SPI_OK_UPDATE) != 1)
		elog(ERROR, "pipeline %d has no row in beam.history", row->pipeline);
}
