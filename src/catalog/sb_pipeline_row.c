/*
 * sb_pipeline_row.c: beam.pipeline and beam.progress; see sb_pipeline_row.h.
 */
#include "postgres.h"
#include "access/xact.h"

#include "base/sb_kill_point.h"
#include "base/sb_statement.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "catalog/sb_option.h"
#include "catalog/sb_pipeline_row.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/pg_lsn.h"
#include "utils/timestamp.h"

static const char *const state_names[] = {"running", "paused", "failed", "needs_resync"};
static const char *const stage_names[] = {"current", "building", "kept"};

const char *
sb_pipeline_state_name(SbPipelineState state)
{
	return state_names[state];
}

#define SB_PIPELINE_COLUMNS \
	"p.id, p.name, p.owner, p.source, p.view, p.result, p.state_table, p.fingerprint," \
	" p.settings, p.signature, p.state, p.error_code, p.error_message, p.revision, p.upstream," \
	" p.version, p.stage, p.keep_until, p.reason, p.rebuild," \
	" g.position, g.input_watermark, g.output_watermark, g.max_event_time, g.commit_time, g.rows_in, g.bundles, g.panes, g.late," \
	" g.dead, g.cells"
#define SB_PIPELINE_FROM \
	" FROM beam.pipeline p JOIN beam.progress g ON g.pipeline OPERATOR(pg_catalog.=) p.id"

/* more than beam.pipeline has */
#define SB_MAX_COLUMNS 64

typedef struct SbColumnCursor
{
	HeapTuple tuple;
	int column;
	bool isnull;
} SbColumnCursor;

static Datum
next_datum(SbColumnCursor *cursor)
{
	return SPI_getbinval(cursor->tuple, SPI_tuptable->tupdesc, ++cursor->column, &cursor->isnull);
}

static char *
next_text(SbColumnCursor *cursor)
{
	Datum value = next_datum(cursor);

	return cursor->isnull ? NULL : TextDatumGetCString(value);
}

static int64
next_int8(SbColumnCursor *cursor, int64 if_null)
{
	Datum value = next_datum(cursor);

	return cursor->isnull ? if_null : DatumGetInt64(value);
}

static char **
next_texts(SbColumnCursor *cursor, int *n)
{
	Datum *elements;
	char **result;

	deconstruct_array(DatumGetArrayTypeP(next_datum(cursor)), TEXTOID, -1, false, TYPALIGN_INT,
	                  &elements, NULL, n);
	result = palloc(sizeof(char *) * (*n + 1));
	for (int i = 0; i < *n; i++)
		result[i] = TextDatumGetCString(elements[i]);
	return result;
}

static SbPipelineState
state_of_name(const char *name)
{
	for (int i = 0; i < lengthof(state_names); i++)
	{
		if (strcmp(state_names[i], name) == 0)
			return i;
	}
	elog(ERROR, "unknown state \"%s\" of a pipeline", name);
}

static SbStage
stage_of_name(const char *name)
{
	for (int i = 0; i < lengthof(stage_names); i++)
	{
		if (strcmp(stage_names[i], name) == 0)
			return i;
	}
	elog(ERROR, "unknown stage \"%s\" of a pipeline", name);
}

/*
 * Reads the columns in the order of SB_PIPELINE_COLUMNS, and the options. The row is in the current
 * context.
 */
static SbPipelineRow *
read_row(HeapTuple tuple)
{
	SbPipelineRow *row = palloc0(sizeof(SbPipelineRow));
	SbColumnCursor cursor = {.tuple = tuple};

	row->id = DatumGetInt32(next_datum(&cursor));
	row->name = next_text(&cursor);
	row->owner = DatumGetObjectId(next_datum(&cursor));
	row->source = DatumGetObjectId(next_datum(&cursor));
	row->view = DatumGetObjectId(next_datum(&cursor));
	row->result = DatumGetObjectId(next_datum(&cursor));
	row->state_table = DatumGetObjectId(next_datum(&cursor));
	row->fingerprint = next_text(&cursor);
	row->settings = next_texts(&cursor, &row->nsettings);
	row->signature = next_texts(&cursor, &row->nsignature);
	row->state = state_of_name(next_text(&cursor));
	row->error_code = next_text(&cursor);
	row->error_message = next_text(&cursor);
	row->revision = next_int8(&cursor, 0);
	row->upstream = DatumGetInt32(next_datum(&cursor));
	row->version = DatumGetInt32(next_datum(&cursor));
	row->stage = stage_of_name(next_text(&cursor));
	row->keep_until = next_int8(&cursor, DT_NOEND);
	row->reason = next_text(&cursor);
	row->rebuild = next_text(&cursor);
	row->progress.pipeline = row->id;
	row->progress.position = DatumGetLSN(next_datum(&cursor));
	row->progress.input_watermark = next_int8(&cursor, 0);
	row->progress.output_watermark = next_int8(&cursor, 0);
	row->progress.max_event_time = next_int8(&cursor, 0);
	row->progress.commit_time = next_int8(&cursor, 0);
	row->progress.rows_in = next_int8(&cursor, 0);
	row->progress.bundles = next_int8(&cursor, 0);
	row->progress.panes = next_int8(&cursor, 0);
	row->progress.late = next_int8(&cursor, 0);
	row->progress.dead = next_int8(&cursor, 0);
	row->progress.cells = next_int8(&cursor, 0);
	sb_options_read(row, tuple, SPI_tuptable->tupdesc);
	return row;
}

/* Those that the clauses after FROM leave, with one parameter, or none (InvalidOid). */
static List *
read_rows(const char *clauses, Oid type, Datum value)
{
	List *rows = NIL;
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT " SB_PIPELINE_COLUMNS);
	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (sb_option_has_column(option))
			appendStringInfo(&sql, ", p.%s", option->column);
	}
	appendStringInfo(&sql, SB_PIPELINE_FROM " %s", clauses);
	sb_sql_run(sql.data, OidIsValid(type) ? 1 : 0, &type, &value, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		rows = lappend(rows, read_row(SPI_tuptable->vals[i]));
	SPI_freetuptable(SPI_tuptable);
	return rows;
}

List *
sb_catalog_pipelines(void)
{
	return read_rows("ORDER BY p.id", InvalidOid, (Datum) 0);
}

static SbPipelineRow *
first_row(List *rows)
{
	return rows == NIL ? NULL : linitial(rows);
}

SbPipelineRow *
sb_catalog_find(const char *name)
{
	return first_row(
	    read_rows("WHERE p.name OPERATOR(pg_catalog.=) $1 AND p.stage OPERATOR(pg_catalog.=) 'current'",
	              TEXTOID, CStringGetTextDatum(name)));
}

List *
sb_catalog_versions(const char *name)
{
	return read_rows("WHERE p.name OPERATOR(pg_catalog.=) $1 ORDER BY p.version", TEXTOID,
	                 CStringGetTextDatum(name));
}

SbPipelineRow *
sb_catalog_row_of_id(const List *rows, int32 id)
{
	ListCell *lc;

	foreach (lc, rows)
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->id == id)
			return row;
	}
	return NULL;
}

SbPipelineRow *
sb_catalog_row_of_stage(const List *rows, const char *name, SbStage stage)
{
	ListCell *lc;

	foreach (lc, rows)
	{
		SbPipelineRow *row = lfirst(lc);

		if (row->stage == stage && strcmp(row->name, name) == 0)
			return row;
	}
	return NULL;
}

SbPipelineRow *
sb_catalog_building(const char *name)
{
	return sb_catalog_row_of_stage(sb_catalog_versions(name), name, SB_STAGE_BUILDING);
}

SbPipelineRow *
sb_catalog_find_by_id(int32 id)
{
	SbPipelineRow *row =
	    first_row(read_rows("WHERE p.id OPERATOR(pg_catalog.=) $1", INT4OID, Int32GetDatum(id)));

	if (row == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
		                errmsg("pipeline %d has been dropped meanwhile", id)));
	return row;
}

SbPipelineRow *
sb_catalog_find_by_result(Oid result)
{
	return first_row(
	    read_rows("WHERE p.result OPERATOR(pg_catalog.=) $1", OIDOID, ObjectIdGetDatum(result)));
}

SbPipelineRow *
sb_catalog_lock(const char *name)
{
	return sb_catalog_row_of_stage(
	    read_rows("WHERE p.name OPERATOR(pg_catalog.=) $1 ORDER BY p.version FOR NO KEY UPDATE OF p",
	              TEXTOID, CStringGetTextDatum(name)),
	    name, SB_STAGE_CURRENT);
}

static ArrayType *
texts_to_array(char **texts, int n)
{
	Datum *elements = palloc(sizeof(Datum) * (n + 1));

	for (int i = 0; i < n; i++)
		elements[i] = CStringGetTextDatum(texts[i]);
	return construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);
}

/* Columns of a row of beam.pipeline that is written. */
typedef struct SbColumnWriter
{
	StringInfoData columns, parameters; /* lists, for the statement */
	int n;
	Oid types[SB_MAX_COLUMNS];
	Datum values[SB_MAX_COLUMNS];
	char nulls[SB_MAX_COLUMNS]; /* as SPI has them */
} SbColumnWriter;

static void
begin_columns(SbColumnWriter *writer)
{
	initStringInfo(&writer->columns);
	initStringInfo(&writer->parameters);
	writer->n = 0;
}

/* `cast`: of the parameter to the column's type, or "" */
static void
put_casted(SbColumnWriter *writer, const char *column, const char *cast, Oid type, Datum value,
           bool isnull)
{
	const char *separator = writer->n == 0 ? "" : ", ";

	Assert(writer->n < SB_MAX_COLUMNS);
	writer->types[writer->n] = type;
	writer->values[writer->n] = value;
	writer->nulls[writer->n++] = isnull ? 'n' : ' ';
	appendStringInfo(&writer->columns, "%s%s", separator, column);
	appendStringInfo(&writer->parameters, "%s$%d%s", separator, writer->n, cast);
}

static void
put_datum(SbColumnWriter *writer, const char *column, Oid type, Datum value)
{
	put_casted(writer, column, "", type, value, false);
}

static void
put_text(SbColumnWriter *writer, const char *column, const char *text)
{
	put_casted(writer, column, "", TEXTOID, text ? CStringGetTextDatum(text) : (Datum) 0,
	           text == NULL);
}

/* Those options that are kept so long, or shorter, and have a column. */
static void
put_options(SbColumnWriter *writer, const SbPipelineRow *row, SbKept kept)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		bool isnull;
		Datum value;

		if (!sb_option_has_column(option) || option->kept > kept)
			continue;
		value = sb_option_get(option, row, &isnull);
		put_casted(writer, option->column, option->kind->cast, option->kind->column_type, value,
		           isnull);
	}
}

void
sb_catalog_insert(SbPipelineRow *row)
{
	Oid progress_types[] = {INT4OID, PG_LSNOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum progress[lengthof(progress_types)];
	SbColumnWriter writer;
	bool isnull;

	begin_columns(&writer);
	put_text(&writer, "name", row->name);
	put_datum(&writer, "owner", OIDOID, ObjectIdGetDatum(row->owner));
	put_datum(&writer, "source", OIDOID, ObjectIdGetDatum(row->source));
	put_datum(&writer, "view", OIDOID, ObjectIdGetDatum(row->view));
	put_datum(&writer, "result", OIDOID, ObjectIdGetDatum(row->result));
	put_datum(&writer, "state_table", OIDOID, ObjectIdGetDatum(InvalidOid));
	put_text(&writer, "fingerprint", row->fingerprint);
	put_datum(&writer, "settings", TEXTARRAYOID,
	          PointerGetDatum(texts_to_array(row->settings, row->nsettings)));
	put_text(&writer, "state", sb_pipeline_state_name(SB_PIPELINE_RUNNING));
	put_datum(&writer, "upstream", INT4OID, Int32GetDatum(row->upstream));
	put_datum(&writer, "version", INT4OID, Int32GetDatum(row->version));
	put_text(&writer, "stage", stage_names[row->stage]);
	put_text(&writer, "reason", row->reason);
	put_options(&writer, row, SB_KEPT_DEFINITION);
	sb_sql_run(psprintf("INSERT INTO beam.pipeline (%s) VALUES (%s) RETURNING id",
	                    writer.columns.data, writer.parameters.data),
	           writer.n, writer.types, writer.values, writer.nulls, SPI_OK_INSERT_RETURNING);
	row->id =
	    DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));

	row->progress.pipeline = row->id;
	progress[0] = Int32GetDatum(row->id);
	progress[1] = LSNGetDatum(row->progress.position);
	progress[2] = TimestampTzGetDatum(row->progress.input_watermark);
	progress[3] = TimestampTzGetDatum(row->progress.output_watermark);
	progress[4] = TimestampTzGetDatum(row->progress.max_event_time);
	sb_sql_run(
	    "INSERT INTO beam.progress (pipeline, position, input_watermark, output_watermark, max_event_time) VALUES ($1, $2, $3, $4, $5)",
	    lengthof(progress_types), progress_types, progress, NULL, SPI_OK_INSERT);
}

void
sb_catalog_set_state_table(int32 id, Oid state_table)
{
	Oid types[] = {INT4OID, OIDOID};
	Datum values[] = {Int32GetDatum(id), ObjectIdGetDatum(state_table)};

	sb_sql_run("UPDATE beam.pipeline SET state_table = $2 WHERE id OPERATOR(pg_catalog.=) $1", 2,
	           types, values, NULL, SPI_OK_UPDATE);
}

void
sb_catalog_set_signature(int32 id, int n, char **texts, const Bitmapset *columns)
{
	Oid types[] = {INT4OID, TEXTARRAYOID, INT2ARRAYOID};
	Datum *numbers = palloc(sizeof(Datum) * (bms_num_members(columns) + 1));
	Datum values[lengthof(types)] = {Int32GetDatum(id), PointerGetDatum(texts_to_array(texts, n))};
	int ncolumns = 0;
	int attno = -1;

	while ((attno = bms_next_member(columns, attno)) >= 0)
		numbers[ncolumns++] = Int16GetDatum(attno);
	values[2] = PointerGetDatum(
	    construct_array(numbers, ncolumns, INT2OID, sizeof(int16), true, TYPALIGN_SHORT));
	sb_sql_run(
	    "UPDATE beam.pipeline SET signature = $2, source_columns = $3 WHERE id OPERATOR(pg_catalog.=) $1",
	    lengthof(types), types, values, NULL, SPI_OK_UPDATE);
}

bool
sb_catalog_set_state(int32 id, SbPipelineState state, const ErrorData *error)
{
	Oid types[] = {INT4OID, TEXTOID, TEXTOID, TEXTOID};
	char nulls[] = "    ";
	Datum values[] = {Int32GetDatum(id), CStringGetTextDatum(sb_pipeline_state_name(state)),
	                  CStringGetTextDatum(error ? unpack_sql_state(error->sqlerrcode) : ""),
	                  sb_sql_error_text(error ? error->message : NULL)};

	if (error == NULL)
		nulls[2] = nulls[3] = 'n';
	/* a session that has it locked may do so for days */
	if (state == SB_PIPELINE_FAILED &&
	    sb_sql_run(
	        "SELECT FROM beam.pipeline WHERE id OPERATOR(pg_catalog.=) $1 FOR NO KEY UPDATE SKIP LOCKED",
	        1, types, values, NULL, SPI_OK_SELECT) == 0)
		return false;
	return sb_sql_run(
	           "UPDATE beam.pipeline SET state = $2, error_code = $3, error_message = $4,"
	           " error_at = CASE WHEN $3 IS NOT NULL THEN pg_catalog.now() END, revision = revision OPERATOR(pg_catalog.+) 1"
	           " WHERE id OPERATOR(pg_catalog.=) $1 AND ($2 OPERATOR(pg_catalog.<>) 'failed'"
	           " OR state OPERATOR(pg_catalog.<>) 'needs_resync' AND NOT (state OPERATOR(pg_catalog.=) 'paused' AND error_code IS NOT NULL))",
	           lengthof(types), types, values, nulls, SPI_OK_UPDATE) > 0;
}

bool
sb_catalog_has(const char *table)
{
	return OidIsValid(get_relname_relid(table, get_namespace_oid("beam", false)));
}

bool
sb_catalog_is_changed_here(const char *name)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(name)};
	bool changed = false;
	bool isnull;

	sb_sql_run("SELECT p.xmin FROM beam.pipeline p WHERE p.name OPERATOR(pg_catalog.=) $1",
	           lengthof(types), types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		changed |= TransactionIdIsCurrentTransactionId(DatumGetTransactionId(
		    SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull)));
	SPI_freetuptable(SPI_tuptable);
	return changed;
}

bool
sb_catalog_is_retried(int32 id)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(id)};

	return sb_catalog_has("retry") &&
	       sb_sql_run("SELECT FROM beam.retry WHERE pipeline OPERATOR(pg_catalog.=) $1", 1, types,
	                  values, NULL, SPI_OK_SELECT) > 0;
}

void
sb_catalog_follow_owners(void)
{
	/*
	 * All versions: the functions of the one would run beside those of the other. What somebody has
	 * locked may wait for the table that has just been given away: the runner looks again when it
	 * is told that he is through.
	 */
	sb_sql_run(
	    "WITH given AS (SELECT o.name,"
	    " pg_catalog.format('it was given by role %s to role %s, and waits for the new owner, or a superuser, to call beam.resume_pipeline()',"
	    " pg_catalog.pg_get_userbyid(o.owner), pg_catalog.pg_get_userbyid(c.relowner)) AS message"
	    " FROM beam.pipeline o JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) o.result AND c.relowner OPERATOR(pg_catalog.<>) o.owner),"
	    " locked AS (SELECT v.id FROM beam.pipeline v WHERE v.name OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT g.name FROM given g))"
	    " ORDER BY v.name, v.version FOR NO KEY UPDATE OF v SKIP LOCKED)"
	    " UPDATE beam.pipeline p SET owner = w.relowner, revision = p.revision OPERATOR(pg_catalog.+) 1,"
	    " state = CASE WHEN p.state OPERATOR(pg_catalog.=) 'running' THEN 'paused' ELSE p.state END,"
	    " error_code = CASE WHEN p.state OPERATOR(pg_catalog.=) 'running' THEN '55000' ELSE p.error_code END,"
	    " error_message = CASE WHEN p.state OPERATOR(pg_catalog.=) 'running' THEN g.message ELSE p.error_message END,"
	    " error_at = CASE WHEN p.state OPERATOR(pg_catalog.=) 'running' THEN pg_catalog.now() ELSE p.error_at END"
	    " FROM given g, locked l, pg_catalog.pg_class w"
	    " WHERE l.id OPERATOR(pg_catalog.=) p.id AND g.name OPERATOR(pg_catalog.=) p.name AND w.oid OPERATOR(pg_catalog.=) p.result",
	    0, NULL, NULL, NULL, SPI_OK_UPDATE);
}

void
sb_catalog_forget_definitions(void)
{
	sb_sql_run("UPDATE beam.pipeline SET fingerprint = ''", 0, NULL, NULL, NULL, SPI_OK_UPDATE);
	if (sb_catalog_has("dependency"))
		sb_sql_run("DELETE FROM beam.dependency", 0, NULL, NULL, NULL, SPI_OK_DELETE);
}

void
sb_catalog_put_version(const SbPipelineRow *row)
{
	SbColumnWriter writer;

	begin_columns(&writer);
	put_text(&writer, "stage", stage_names[row->stage]);
	put_datum(&writer, "result", OIDOID, ObjectIdGetDatum(row->result));
	put_datum(&writer, "view", OIDOID, ObjectIdGetDatum(row->view));
	put_text(&writer, "fingerprint", row->fingerprint);
	put_casted(&writer, "keep_until", "", TIMESTAMPTZOID, TimestampTzGetDatum(row->keep_until),
	           row->keep_until == DT_NOEND);
	put_text(&writer, "reason", row->reason);
	put_text(&writer, "rebuild", row->rebuild);
	put_options(&writer, row, SB_KEPT_VERSION);
	sb_sql_run(psprintf("UPDATE beam.pipeline SET (%s) = ROW (%s) WHERE id OPERATOR(pg_catalog.=) %d",
	                    writer.columns.data, writer.parameters.data, row->id),
	           writer.n, writer.types, writer.values, writer.nulls, SPI_OK_UPDATE);
}

bool
sb_catalog_mark_rebuild(int32 id, const char *reason)
{
	Oid types[] = {INT4OID, TEXTOID};
	Datum values[] = {Int32GetDatum(id), CStringGetTextDatum(reason)};

	return sb_sql_run(
	           "UPDATE beam.pipeline SET rebuild = COALESCE(rebuild, $2) WHERE id OPERATOR(pg_catalog.=) $1",
	           2, types, values, NULL, SPI_OK_UPDATE) > 0;
}

void
sb_catalog_forget_rebuild(int32 id)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(id)};

	sb_sql_run("UPDATE beam.pipeline SET rebuild = NULL WHERE id OPERATOR(pg_catalog.=) $1", 1,
	           types, values, NULL, SPI_OK_UPDATE);
}

void
sb_catalog_delete(int32 id)
{
	Oid types[] = {INT4OID};
	Datum values[] = {Int32GetDatum(id)};

	/*
	 * a bundle writes to the history before the progress: what goes with the pipeline by itself
	 * would go in the other order
	 */
	sb_sql_run("DELETE FROM beam.history WHERE pipeline OPERATOR(pg_catalog.=) $1", 1, types,
	           values, NULL, SPI_OK_DELETE);
	sb_sql_run("DELETE FROM beam.pipeline WHERE id OPERATOR(pg_catalog.=) $1", 1, types, values,
	           NULL, SPI_OK_DELETE);
}

static SbStatement *put_progress; /* made once in a process */

void
sb_catalog_put_progress(const SbProgress *progress, int64 bundles)
{
	Oid types[] = {INT4OID,        PG_LSNOID, TIMESTAMPTZOID, TIMESTAMPTZOID, TIMESTAMPTZOID,
	               TIMESTAMPTZOID, INT8OID,   INT8OID,        INT8OID,        INT8OID,
	               INT8OID,        INT8OID,   INT8OID};
	char nulls[lengthof(types) + 1] = "             ";
	Datum values[] = {Int32GetDatum(progress->pipeline),
	                  LSNGetDatum(progress->position),
	                  TimestampTzGetDatum(progress->input_watermark),
	                  TimestampTzGetDatum(progress->output_watermark),
	                  TimestampTzGetDatum(progress->max_event_time),
	                  TimestampTzGetDatum(progress->commit_time),
	                  Int64GetDatum(progress->rows_in),
	                  Int64GetDatum(progress->bundles),
	                  Int64GetDatum(progress->panes),
	                  Int64GetDatum(progress->late),
	                  Int64GetDatum(progress->dead),
	                  Int64GetDatum(progress->cells),
	                  Int64GetDatum(bundles)};

	if (put_progress == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		put_progress = sb_statement_create(
		    "UPDATE beam.progress SET position = $2, input_watermark = $3, output_watermark = $4, max_event_time = $5, commit_time = $6,"
		    " rows_in = $7, bundles = $8, panes = $9, late = $10, dead = $11, cells = $12, updated_at = pg_catalog.now()"
		    " WHERE pipeline OPERATOR(pg_catalog.=) $1 AND bundles OPERATOR(pg_catalog.=) $13"
		    /* functions of its query may have been replaced while the bundle ran */
		    " AND NOT EXISTS (SELECT FROM beam.pipeline p WHERE p.id OPERATOR(pg_catalog.=) $1 AND p.state OPERATOR(pg_catalog.=) 'needs_resync')",
		    NULL, lengthof(types), types);
		sb_statement_elevate(put_progress);
		MemoryContextSwitchTo(old);
	}
	if (progress->commit_time == 0)
		nulls[5] = 'n';
	SB_KILL_POINT("before_position");
	if (sb_statement_run(put_progress, values, nulls) != 1)
		ereport(ERROR,
		        (errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
		         errmsg("another process has written bundles of pipeline %d meanwhile, or it is to run no longer",
		                progress->pipeline),
		         errdetail("It was to have %lld.", (long long) bundles)));
	SB_KILL_POINT("after_position");
}
