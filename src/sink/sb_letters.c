/*
 * sb_letters.c: late events and dead letters; see sb_letters.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "query/sb_json.h"
#include "sink/sb_letters.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

static SbStatement *late;
static SbStatement *dead;
static SbStatement *dead_left_out; /* with what it is known by */

char *
sb_row_to_json(const SbPlan *plan, HeapTupleHeader tuple, uint32 length, TupleDesc layout)
{
	HeapTupleData head = {.t_len = length, .t_data = tuple};
	Relation rel = table_open(plan->source, AccessShareLock);
	Datum *values = palloc(sizeof(Datum) * layout->natts);
	bool *nulls = palloc(sizeof(bool) * layout->natts);
	char *json;

	heap_deform_tuple(&head, layout, values, nulls);
	json = sb_json_of_columns(layout, values, nulls, plan->columns, RelationGetDescr(rel));
	table_close(rel, AccessShareLock);
	return json;
}

static SbStatement *
letters_statement(const char *sql, int n, const char *const *names, const Oid *types)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	TupleDesc desc = CreateTemplateTupleDesc(n);
	SbStatement *statement;

	for (int i = 0; i < n; i++)
		TupleDescInitEntry(desc, i + 1, names[i], types[i], -1, 0);
	statement = sb_statement_create(sql, desc, 0, NULL);
	sb_statement_elevate(statement);
	MemoryContextSwitchTo(old);
	return statement;
}

void
sb_letters_put_late(const SbLateEvent *event, const char *json)
{
	static const char *const names[] = {"pipeline",     "position",   "event_time",
	                                    "window_start", "window_end", "op",
	                                    "reason",       "watermark",  "data"};
	static const Oid types[] = {INT4OID, PG_LSNOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	                            TEXTOID, TEXTOID,   TIMESTAMPTZOID, TEXTOID};
	bool nulls[lengthof(names)] = {false};
	Datum values[] = {Int32GetDatum(event->pipeline),
	                  LSNGetDatum(event->position),
	                  TimestampTzGetDatum(event->event_time),
	                  TimestampTzGetDatum(event->window.start),
	                  TimestampTzGetDatum(event->window.end),
	                  CStringGetTextDatum(event->op),
	                  CStringGetTextDatum(event->closed ? "closed" : "expired"),
	                  TimestampTzGetDatum(event->watermark),
	                  CStringGetTextDatum(json)};

	if (late == NULL)
		late = letters_statement(
		    "INSERT INTO beam.late_event"
		    " (pipeline, position, event_time, window_start, window_end, op, reason, watermark, data)"
		    " SELECT pipeline, position, event_time, window_start, window_end, op, reason, watermark, data::pg_catalog.jsonb FROM rows",
		    lengthof(names), names, types);
	sb_statement_put(late, values, nulls);
}

void
sb_letters_put_dead(int32 pipeline, XLogRecPtr position, const char *op, const char *json,
                    uint64 left_out, const ErrorData *error)
{
	static const char *const names[] = {"pipeline", "position", "op",      "data",
	                                    "sqlstate", "message",  "context", "left_out"};
	static const Oid types[] = {INT4OID, PG_LSNOID, TEXTOID, TEXTOID,
	                            TEXTOID, TEXTOID,   TEXTOID, INT8OID};
	bool nulls[lengthof(names)] = {false};
	Datum values[] = {Int32GetDatum(pipeline),
	                  LSNGetDatum(position),
	                  CStringGetTextDatum(op),
	                  CStringGetTextDatum(json ? json : ""),
	                  CStringGetTextDatum(unpack_sql_state(error->sqlerrcode)),
	                  sb_sql_error_text(error->message),
	                  sb_sql_error_text(error->context),
	                  Int64GetDatum((int64) left_out)};

	nulls[3] = json == NULL;
	nulls[6] = error->context == NULL;
	if (dead == NULL)
		dead = letters_statement(
		    "INSERT INTO beam.dead_letter (pipeline, position, op, data, sqlstate, message, context)"
		    " SELECT pipeline, position, op, data::pg_catalog.jsonb, sqlstate, message, context FROM rows",
		    lengthof(names) - 1, names, types);
	if (left_out != 0 && dead_left_out == NULL)
		dead_left_out = letters_statement(
		    "INSERT INTO beam.dead_letter (pipeline, position, op, data, sqlstate, message, context, left_out)"
		    " SELECT pipeline, position, op, data::pg_catalog.jsonb, sqlstate, message, context, left_out FROM rows",
		    lengthof(names), names, types);
	sb_statement_put(left_out != 0 ? dead_left_out : dead, values, nulls);
}

static void
letters_run(SbStatement *letters)
{
	if (letters == NULL || sb_statement_rows(letters) == 0)
		return;
	SB_KILL_POINT("before_letters");
	sb_statement_run(letters, NULL, NULL);
	SB_KILL_POINT("after_letters");
}

void
sb_letters_write(void)
{
	letters_run(late);
	letters_run(dead);
	letters_run(dead_left_out);
}
