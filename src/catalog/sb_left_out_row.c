/*
 * sb_left_out_row.c: beam.left_out; see sb_left_out_row.h.
 */
#include "postgres.h"

#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_left_out_row.h"
#include "catalog/sb_pipeline_row.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/timestamp.h"

bool
sb_catalog_has_left_out(int32 pipeline)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	bool has;

	has = sb_sql_run("SELECT FROM beam.left_out WHERE pipeline OPERATOR(pg_catalog.=) $1 LIMIT 1",
	                 lengthof(types), types, values, NULL, SPI_OK_SELECT) > 0;
	SPI_freetuptable(SPI_tuptable);
	return has;
}

static Datum
left_out_array(const Datum *values, int n, Oid type)
{
	return PointerGetDatum(construct_array(unconstify(Datum *, values), n, type, sizeof(int64),
	                                       FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

int
sb_catalog_left_out(int32 pipeline, const uint64 *hashes, int nhashes, SbLeftOutRow **rows)
{
	Oid types[] = {INT4OID, INT8ARRAYOID};
	Datum *asked = palloc(sizeof(Datum) * (nhashes + 1));
	Datum values[lengthof(types)];
	int n;

	for (int i = 0; i < nhashes; i++)
		asked[i] = Int64GetDatum((int64) hashes[i]);
	values[0] = Int32GetDatum(pipeline);
	values[1] = left_out_array(asked, nhashes, INT8OID);
	n = (int)
	    sb_sql_run("SELECT hash, window_start, window_end, n FROM beam.left_out"
	               " WHERE pipeline OPERATOR(pg_catalog.=) $1 AND hash OPERATOR(pg_catalog.=) ANY ($2)",
	               lengthof(types), types, values, NULL, SPI_OK_SELECT);
	*rows = palloc(sizeof(SbLeftOutRow) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		bool isnull;

		(*rows)[i] =
		    (SbLeftOutRow){.hash = (uint64) DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull)),
		                   .window = {.start = DatumGetTimestampTz(
		                                  SPI_getbinval(tuple, desc, 2, &isnull)),
		                              .end = DatumGetTimestampTz(
		                                  SPI_getbinval(tuple, desc, 3, &isnull))},
		                   .n = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull))};
	}
	SPI_freetuptable(SPI_tuptable);
	return n;
}

void
sb_catalog_add_left_out(int32 pipeline, const SbLeftOutRow *rows, int nrows)
{
	Oid types[] = {INT4OID, INT8ARRAYOID, TIMESTAMPTZARRAYOID, TIMESTAMPTZARRAYOID, INT8ARRAYOID};
	Datum *columns[4];
	Datum values[lengthof(types)];

	for (int c = 0; c < lengthof(columns); c++)
		columns[c] = palloc(sizeof(Datum) * (nrows + 1));
	for (int i = 0; i < nrows; i++)
	{
		columns[0][i] = Int64GetDatum((int64) rows[i].hash);
		columns[1][i] = TimestampTzGetDatum(rows[i].window.start);
		columns[2][i] = TimestampTzGetDatum(rows[i].window.end);
		columns[3][i] = Int64GetDatum(rows[i].n);
	}
	values[0] = Int32GetDatum(pipeline);
	values[1] = left_out_array(columns[0], nrows, INT8OID);
	values[2] = left_out_array(columns[1], nrows, TIMESTAMPTZOID);
	values[3] = left_out_array(columns[2], nrows, TIMESTAMPTZOID);
	values[4] = left_out_array(columns[3], nrows, INT8OID);
	sb_sql_run("INSERT INTO beam.left_out AS l (pipeline, hash, window_start, window_end, n)"
	           " SELECT $1, u.hash, u.window_start, u.window_end, u.n"
	           " FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), pg_catalog.unnest($5))"
	           " u (hash, window_start, window_end, n)"
	           " ON CONFLICT (pipeline, hash, window_start, window_end)"
	           " DO UPDATE SET n = l.n OPERATOR(pg_catalog.+) excluded.n",
	           lengthof(types), types, values, NULL, SPI_OK_INSERT);
	sb_sql_run("DELETE FROM beam.left_out WHERE pipeline OPERATOR(pg_catalog.=) $1"
	           " AND hash OPERATOR(pg_catalog.=) ANY ($2) AND n OPERATOR(pg_catalog.=) 0",
	           2, types, values, NULL, SPI_OK_DELETE);
}

void
sb_catalog_clear_left_out(int32 pipeline, const SbWindowRange *range, bool inside)
{
	Oid types[] = {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum values[] = {Int32GetDatum(pipeline), TimestampTzGetDatum(range->from),
	                  TimestampTzGetDatum(range->lo), TimestampTzGetDatum(range->hi)};
	const char *which = inside ? "" : "NOT";

	if (inside && sb_window_range_is_all(range))
	{
		sb_sql_run("DELETE FROM beam.left_out WHERE pipeline OPERATOR(pg_catalog.=) $1", 1, types,
		           values, NULL, SPI_OK_DELETE);
		return;
	}
	sb_sql_run(psprintf("DELETE FROM beam.left_out WHERE pipeline OPERATOR(pg_catalog.=) $1"
	                    " AND %s (window_end OPERATOR(pg_catalog.>) $2 AND window_start OPERATOR(pg_catalog.>=) $3"
	                    " AND window_start OPERATOR(pg_catalog.<) $4)",
	                    which),
	           lengthof(types), types, values, NULL, SPI_OK_DELETE);
}
