/*
 * sb_input_row.c: beam.input; see sb_input_row.h.
 */
#include "postgres.h"

#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_input_row.h"
#include "catalog/sb_pipeline_row.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

int
sb_catalog_inputs(int32 pipeline, SbInputRow **rows)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	bool isnull;
	int n;

	*rows = NULL;
	if (!sb_catalog_has("input"))
		return 0;
	n = (int) sb_sql_run(
	    "SELECT split, max_event_time FROM beam.input WHERE pipeline OPERATOR(pg_catalog.=) $1",
	    lengthof(types), types, values, NULL, SPI_OK_SELECT);
	*rows = palloc(sizeof(SbInputRow) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];

		(*rows)[i].split = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1);
		(*rows)[i].max_event_time =
		    DatumGetTimestampTz(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

/* One statement, however many. */
static void
inputs_put(int32 pipeline, const SbInputRow *rows, int n)
{
	Oid types[] = {INT4OID, TEXTARRAYOID, TIMESTAMPTZARRAYOID};
	Datum *splits = palloc(sizeof(Datum) * n);
	Datum *times = palloc(sizeof(Datum) * n);
	Datum values[lengthof(types)];

	for (int i = 0; i < n; i++)
	{
		splits[i] = CStringGetTextDatum(rows[i].split);
		times[i] = TimestampTzGetDatum(rows[i].max_event_time);
	}
	values[0] = Int32GetDatum(pipeline);
	values[1] = PointerGetDatum(construct_array(splits, n, TEXTOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(construct_array(times, n, TIMESTAMPTZOID, sizeof(TimestampTz),
	                                            FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
	sb_sql_run(
	    "INSERT INTO beam.input AS i (pipeline, split, max_event_time)"
	    " SELECT $1, u.split, u.at FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) u (split, at)"
	    " ON CONFLICT (pipeline, split) DO UPDATE SET max_event_time = excluded.max_event_time",
	    lengthof(types), types, values, NULL, SPI_OK_INSERT);
}

static void
inputs_delete(int32 pipeline, char **gone, int n)
{
	Oid types[] = {INT4OID, TEXTARRAYOID};
	Datum *splits = palloc(sizeof(Datum) * n);
	Datum values[lengthof(types)];

	for (int i = 0; i < n; i++)
		splits[i] = CStringGetTextDatum(gone[i]);
	values[0] = Int32GetDatum(pipeline);
	values[1] = PointerGetDatum(construct_array(splits, n, TEXTOID, -1, false, TYPALIGN_INT));
	sb_sql_run(
	    "DELETE FROM beam.input WHERE pipeline OPERATOR(pg_catalog.=) $1 AND split OPERATOR(pg_catalog.=) ANY ($2)",
	    lengthof(types), types, values, NULL, SPI_OK_DELETE);
}

void
sb_catalog_put_inputs(int32 pipeline, const SbInputRow *rows, int n, char **gone, int ngone)
{
	if (n > 0)
		inputs_put(pipeline, rows, n);
	if (ngone > 0)
		inputs_delete(pipeline, gone, ngone);
}
