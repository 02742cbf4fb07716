/*
 * sb_replay.c: dead letters are fed to their pipeline again; see sb_command.h.
 *
 * The rows are made from their jsonb as the pipeline's owner, each in a subtransaction of its own,
 * and are added or taken back in the order in which they failed. What fails again is a dead letter
 * like any other: a new one, with the new message, in the same transaction in which the old one is
 * deleted.
 *
 * MEMORY. A step's letters are in the context current when the row source was made.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "base/sb_error.h"
#include "base/sb_guc.h"
#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "base/sb_transaction.h"
#include "catalog/pg_type.h"
#include "command/sb_command.h"
#include "executor/spi.h"
#include "sink/sb_letters.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

/* Letters of one step at most: as many as a bundle may bury. */
#define SB_REPLAY_LETTERS 1000

/*
 * An append-only pipeline takes nothing but new rows; what is left of an update or truncate cannot
 * be done again.
 */
#define SB_REPLAY_WHICH \
	" WHERE pipeline OPERATOR(pg_catalog.=) $1 AND id OPERATOR(pg_catalog.>) $2 AND id OPERATOR(pg_catalog.<=) $3" \
	" AND (id OPERATOR(pg_catalog.=) ANY ($4) OR $4 IS NULL) AND data IS NOT NULL AND (op OPERATOR(pg_catalog.=) 'insert' OR $5" \
	" AND op OPERATOR(pg_catalog.=) 'delete')"

typedef struct SbLetter
{
	bool taken_back;
	Datum data;      /* jsonb */
	uint64 left_out; /* 0: it is not known to be */
} SbLetter;

typedef struct SbReplay
{
	MemoryContext context;
	SbPipeline *pipeline;
	SbCommand *command;
	SbCommand before; /* it, when the step began: a bundle that fails is run again */
	void (*done)(SbCommand *command);
	int64 last_id; /* of this step */
	int64 dead;    /* letters of the pipeline before it */
	SbLayout *layout;
	SbLetter *letters;
	int nletters;
	SbMessage *messages;
	int n;
	bool given;
} SbReplay;

static uint64
replay_run(const SbReplay *replay, const char *sql, int64 last, int expected)
{
	SbCommand *command = replay->command;
	Oid types[] = {INT4OID, INT8OID, INT8OID, INT8ARRAYOID, BOOLOID};
	char nulls[] = "     ";
	Datum values[] = {Int32GetDatum(replay->pipeline->row->id), Int64GetDatum(command->last_id),
	                  Int64GetDatum(last), PointerGetDatum(command->ids),
	                  BoolGetDatum(replay->pipeline->retractable)};

	if (command->ids == NULL)
		nulls[3] = 'n';
	return sb_sql_run(sql, lengthof(types), types, values, nulls, expected);
}

/* The letters of this step; those that come while it is run are not among them. */
static void
replay_read(SbReplay *replay)
{
	SbCommand *command = replay->command;
	bool isnull;
	int n;

	if (command->max_id == 0)
	{
		(void)
		    replay_run(replay,
		               "SELECT COALESCE(pg_catalog.max(id), 0) FROM beam.dead_letter" SB_REPLAY_WHICH,
		               PG_INT64_MAX, SPI_OK_SELECT);
		command->max_id =
		    DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
		SPI_freetuptable(SPI_tuptable);
	}
	n = replay_run(replay,
	               psprintf("SELECT id, op, data, %s FROM beam.dead_letter" SB_REPLAY_WHICH
	                        " ORDER BY id LIMIT %d",
	                        /* the extension may be yet to be updated */
	                        replay->pipeline->left_out ? "left_out" : "NULL::pg_catalog.int8",
	                        Max(1, Min(SB_REPLAY_LETTERS, sb_guc_max_dead_letters))),
	               command->max_id, SPI_OK_SELECT);
	replay->letters = MemoryContextAlloc(replay->context, sizeof(SbLetter) * (n + 1));
	replay->messages = MemoryContextAllocZero(replay->context, sizeof(SbMessage) * (n + 1));
	replay->nletters = n;
	replay->last_id = command->max_id;
	for (int i = 0; i < n; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		char *op = SPI_getvalue(tuple, SPI_tuptable->tupdesc, 2);
		Datum data = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 3, &isnull);
		Datum left_out = SPI_getbinval(tuple, SPI_tuptable->tupdesc, 4, &isnull);

		replay->letters[i] = (SbLetter){.taken_back = strcmp(op, "delete") == 0,
		                                .data = PointerGetDatum(PG_DETOAST_DATUM_COPY(data)),
		                                .left_out = isnull ? 0 : (uint64) DatumGetInt64(left_out)};
		if (i == n - 1 && n == Max(1, Min(SB_REPLAY_LETTERS, sb_guc_max_dead_letters)))
			replay->last_id =
			    DatumGetInt64(SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_freetuptable(SPI_tuptable);
}

/* Old tuples have all columns, since the letter has them. */
static void
replay_lay_out(SbReplay *replay)
{
	Relation rel = table_open(replay->pipeline->plan->source, AccessShareLock);

	replay->layout = sb_layout_create(RelationGetDescr(rel));
	table_close(rel, NoLock);
}

typedef struct SbMaking
{
	SbReplay *replay;
	const SbLetter *letter;
} SbMaking;

/*
 * The columns that the query uses, as the table has them now, out of a letter. NULL: it uses none.
 */
static char *
replay_sql(const SbReplay *replay)
{
	const char *separator = "";
	StringInfoData sql;
	int attno = -1;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT r.* FROM pg_catalog.jsonb_to_record($1) AS r (");
	while ((attno = bms_next_member(replay->pipeline->plan->columns, attno)) >= 0)
	{
		Form_pg_attribute att = TupleDescAttr(replay->layout->desc, attno - 1);

		appendStringInfoString(&sql, separator);
		sb_result_append_column(&sql, NameStr(att->attname), att->atttypid, att->atttypmod,
		                        InvalidOid);
		separator = ", ";
	}
	appendStringInfoChar(&sql, ')');
	return *separator ? sql.data : NULL;
}

/* In the current context. */
static HeapTuple
replay_form(const SbReplay *replay, Datum letter)
{
	const SbPlan *plan = replay->pipeline->plan;
	Datum *values = palloc0(sizeof(Datum) * replay->layout->desc->natts);
	bool *nulls = palloc(sizeof(bool) * replay->layout->desc->natts);
	char *sql = replay_sql(replay);
	Oid types[] = {JSONBOID};
	HeapTuple tuple;
	int attno = -1;
	int column = 0;

	memset(nulls, true, sizeof(bool) * replay->layout->desc->natts);
	if (sql == NULL)
		return heap_form_tuple(replay->layout->desc, values, nulls);
	sb_sql_run(sql, lengthof(types), types, &letter, NULL, SPI_OK_SELECT);
	while ((attno = bms_next_member(plan->columns, attno)) >= 0)
		values[attno - 1] = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, ++column,
		                                  &nulls[attno - 1]);
	tuple = heap_form_tuple(replay->layout->desc, values, nulls);
	SPI_freetuptable(SPI_tuptable);
	return tuple;
}

/* A letter becomes a row. */
static void
replay_make_row(void *arg)
{
	SbMaking *making = arg;
	SbReplay *replay = making->replay;
	SbBracket saved;
	MemoryContext old = MemoryContextSwitchTo(replay->context);
	HeapTuple tuple;

	sb_pipeline_as_owner(replay->pipeline, &saved);
	tuple = replay_form(replay, making->letter->data);
	sb_bracket_leave(&saved);
	MemoryContextSwitchTo(old);
	replay->messages[replay->n] =
	    sb_message_of_tuple(replay->pipeline->plan->source, replay->layout, tuple,
	                        making->letter->taken_back ? -1 : 1);
	replay->messages[replay->n++].letter = &making->letter->left_out;
}

/* What is no row of the table any more stays a letter. */
static void
replay_make_rows(SbReplay *replay)
{
	SbPipeline *pipeline = replay->pipeline;

	for (int i = 0; i < replay->nletters; i++)
	{
		const SbLetter *letter = &replay->letters[i];
		SbMaking making = {.replay = replay, .letter = letter};
		ErrorData *error;

		if (sb_try(replay_make_row, &making, &error))
			continue;
		if (sb_error_is_transient(error->sqlerrcode))
			ReThrowError(error);
		sb_letters_put_dead(pipeline->row->id, pipeline->progress.position,
		                    letter->taken_back ? "delete" : "insert",
		                    JsonbToCString(NULL, &DatumGetJsonbP(letter->data)->root,
		                                   VARSIZE(DatumGetPointer(letter->data))),
		                    letter->left_out, error);
		/* at once: the next one that fails takes back what has not been written */
		sb_letters_write();
		pipeline->progress.dead++;
	}
}

static bool
replay_open(SbRowSource *row_source)
{
	SbReplay *replay = row_source->arg;
	MemoryContext old = MemoryContextSwitchTo(replay->context);

	*replay->command = replay->before;
	replay->n = 0;
	replay->given = false;
	replay->dead = replay->pipeline->progress.dead;
	replay_read(replay);
	replay_lay_out(replay);
	replay_make_rows(replay);
	MemoryContextSwitchTo(old);
	return true;
}

static int
replay_next(SbRowSource *row_source, SbMessage **messages)
{
	SbReplay *replay = row_source->arg;

	if (replay->given)
		return 0;
	replay->given = true;
	*messages = replay->messages;
	return replay->n;
}

static void
replay_close(SbRowSource *row_source)
{
	SbReplay *replay = row_source->arg;
	SbCommand *command = replay->command;
	int64 failed = replay->pipeline->progress.dead - replay->dead;

	(void) replay_run(replay, "DELETE FROM beam.dead_letter" SB_REPLAY_WHICH, replay->last_id,
	                  SPI_OK_DELETE);
	/* the layout goes with this source: another could have its address */
	sb_input(replay->pipeline)->checked_layout = NULL;
	replay->pipeline->changed = true;
	command->last_id = replay->last_id;
	command->rows += replay->nletters - failed;
	command->failed += failed;
	replay->done(command);
	SB_KILL_POINT("before_replay_commit");
}

SbRowSource
sb_replay_rows(SbPipeline *pipeline, SbCommand *command, void (*done)(SbCommand *command))
{
	SbReplay *replay = palloc0(sizeof(SbReplay));

	replay->context = CurrentMemoryContext;
	replay->pipeline = pipeline;
	replay->command = command;
	replay->before = *command;
	replay->done = done;
	return (SbRowSource){.pipeline = pipeline,
	                     .asked_for = true,
	                     .arg = replay,
	                     .open = replay_open,
	                     .next = replay_next,
	                     .close = replay_close};
}
