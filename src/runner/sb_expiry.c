/*
 * sb_expiry.c: late events and dead letters expire; see sb_expiry.h.
 */
#include "postgres.h"

#include "base/sb_guc.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "runner/sb_expiry.h"
#include "utils/timestamp.h"

/* Deleted by one statement, and how many of these in one turn: what is left waits for the next. */
#define SB_EXPIRY_BATCH 10000
#define SB_EXPIRY_BATCHES 10

static const char *const tables[] = {"beam.late_event", "beam.dead_letter"};

/* Those that are too old. *next: when the oldest that is left will be. */
static uint64
expire_by_age(const char *table, TimestampTz now, TimestampTz *next)
{
	TimestampTz before = now - (int64) sb_guc_letter_max_age_s * USECS_PER_SEC;
	Oid types[] = {TIMESTAMPTZOID};
	Datum values[] = {TimestampTzGetDatum(before)};
	uint64 n = sb_sql_run(
	    psprintf("DELETE FROM %s WHERE id OPERATOR(pg_catalog.=) ANY (SELECT id FROM %s WHERE at OPERATOR(pg_catalog.<) $1 LIMIT %d)",
	             table, table, SB_EXPIRY_BATCH),
	    lengthof(types), types, values, NULL, SPI_OK_DELETE);
	bool isnull;
	Datum oldest;

	sb_sql_run(psprintf("SELECT pg_catalog.min(at) FROM %s", table), 0, NULL, NULL, NULL,
	           SPI_OK_SELECT);
	oldest = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
		*next = Min(*next, DatumGetTimestampTz(oldest) + (now - before));
	return n;
}

/* Of each pipeline those that too many have come after. */
static uint64
expire_by_count(const char *table)
{
	Oid types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(sb_guc_letter_max_count)};

	return sb_sql_run(
	    psprintf("DELETE FROM %s WHERE id OPERATOR(pg_catalog.=) ANY (SELECT l.id FROM beam.pipeline p, LATERAL (SELECT id FROM %s WHERE pipeline OPERATOR(pg_catalog.=) p.id"
	             " ORDER BY id DESC OFFSET $1) l LIMIT %d)",
	             table, table, SB_EXPIRY_BATCH),
	    lengthof(types), types, values, NULL, SPI_OK_DELETE);
}

TimestampTz
sb_expiry_run(TimestampTz now)
{
	TimestampTz next = DT_NOEND;

	for (int i = 0; i < lengthof(tables); i++)
	{
		uint64 n = SB_EXPIRY_BATCH;

		for (int batch = 0;
		     n == SB_EXPIRY_BATCH && sb_guc_letter_max_age_s > 0 && batch < SB_EXPIRY_BATCHES;
		     batch++)
			n = expire_by_age(tables[i], now, &next);
		n = SB_EXPIRY_BATCH;
		for (int batch = 0;
		     n == SB_EXPIRY_BATCH && sb_guc_letter_max_count > 0 && batch < SB_EXPIRY_BATCHES;
		     batch++)
		{
			n = expire_by_count(tables[i]);
			if (n == SB_EXPIRY_BATCH)
				next = now;
		}
	}
	return next;
}
