/*
 * sb_definition.c: beam.definition; see sb_definition.h.
 *
 * A trigger on beam.pipeline keeps it in step, so that nobody who changes a pipeline has to know of
 * it. Names of tables are kept as regclass: pg_dump writes the name that they have then.
 */
#include "postgres.h"

#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_definition.h"
#include "catalog/sb_option.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

static Datum
column(int number)
{
	bool isnull;

	return SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, number, &isnull);
}

static SbDefinition *
find_restored(const char *condition, Oid type, Datum value)
{
	char *sql = psprintf(
	    "SELECT name, owner, result::pg_catalog.oid, view::pg_catalog.oid FROM beam._restored_definition WHERE %s",
	    condition);
	SbDefinition *definition;

	if (sb_sql_run(sql, 1, &type, &value, NULL, SPI_OK_SELECT) == 0)
		return NULL;
	definition = palloc(sizeof(SbDefinition));
	definition->name = TextDatumGetCString(column(1));
	definition->owner = DatumGetObjectId(column(2));
	definition->result = DatumGetObjectId(column(3));
	definition->view = DatumGetObjectId(column(4));
	return definition;
}

SbDefinition *
sb_definition_find_restored(const char *name)
{
	return find_restored("name OPERATOR(pg_catalog.=) $1", TEXTOID, CStringGetTextDatum(name));
}

SbDefinition *
sb_definition_find_restored_by_result(Oid result)
{
	return find_restored("result OPERATOR(pg_catalog.=) $1", OIDOID, ObjectIdGetDatum(result));
}

int
sb_definition_count_restored(void)
{
	return (int) sb_sql_run("SELECT FROM beam._restored_definition", 0, NULL, NULL, NULL,
	                        SPI_OK_SELECT);
}

/*
 * Those columns of beam.pipeline that mean the same in another database: what the definition has of
 * the options, and the settings of the session that gave it.
 */
static List *
dumped_columns(void)
{
	List *columns = list_make1("settings");

	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (option->kept == SB_KEPT_DEFINITION && sb_option_has_column(option))
			columns = lappend(columns, unconstify(char *, option->column));
	}
	return columns;
}

int32
sb_definition_adopt(const SbDefinition *definition, Oid source, int32 upstream, const char *reason)
{
	Oid types[] = {TEXTOID, OIDOID, INT4OID, TEXTOID};
	Datum values[] = {CStringGetTextDatum(definition->name), ObjectIdGetDatum(source),
	                  Int32GetDatum(upstream), CStringGetTextDatum(reason)};
	StringInfoData columns, settings;
	ListCell *lc;
	int32 id;

	initStringInfo(&columns);
	initStringInfo(&settings);
	foreach (lc, dumped_columns())
	{
		appendStringInfo(&columns, ", %s", (char *) lfirst(lc));
		appendStringInfo(&settings, ", s.%s", (char *) lfirst(lc));
	}
	if (sb_sql_run(
	        psprintf(
	            "INSERT INTO beam.pipeline (name, owner, source, view, result, state_table, fingerprint, state, error_code, error_message, error_at,"
	            " upstream%s)"
	            " SELECT d.name, d.owner, $2, d.view, d.result, 0, '', 'needs_resync', '55000', $4, pg_catalog.now(), $3%s"
	            " FROM beam._restored_definition d CROSS JOIN LATERAL pg_catalog.jsonb_populate_record(NULL::beam.pipeline, d.settings) s"
	            " WHERE d.name OPERATOR(pg_catalog.=) $1 RETURNING id",
	            columns.data, settings.data),
	        lengthof(types), types, values, NULL, SPI_OK_INSERT_RETURNING) != 1)
		elog(ERROR, "definition \"%s\" is gone", definition->name);
	id = DatumGetInt32(column(1));
	types[0] = INT4OID;
	values[0] = Int32GetDatum(id);
	sb_sql_run("INSERT INTO beam.progress (pipeline, position, input_watermark, output_watermark, max_event_time)"
	           " VALUES ($1, '0/0', '-infinity', '-infinity', '-infinity')",
	           1, types, values, NULL, SPI_OK_INSERT);
	return id;
}

void
sb_definition_delete(const char *name)
{
	Oid types[] = {TEXTOID};
	Datum values[] = {CStringGetTextDatum(name)};

	sb_sql_run("DELETE FROM beam.definition WHERE name OPERATOR(pg_catalog.=) $1", 1, types, values,
	           NULL, SPI_OK_DELETE);
}

/* ---- the trigger on beam.pipeline ---- */

static ArrayType *
names_array(const List *names)
{
	Datum *elements = palloc(sizeof(Datum) * list_length(names));
	int n = 0;
	ListCell *lc;

	foreach (lc, names)
		elements[n++] = CStringGetTextDatum(lfirst(lc));
	return construct_array(elements, n, TEXTOID, -1, false, TYPALIGN_INT);
}

static char *
trigger_text(const TriggerData *data, const char *column)
{
	TupleDesc desc = RelationGetDescr(data->tg_relation);

	return SPI_getvalue(data->tg_trigtuple, desc, SPI_fnumber(desc, column));
}

PG_FUNCTION_INFO_V1(stream_beam_keep_definition);

/* For each row. The function's search_path is pg_catalog. */
PGDLLEXPORT Datum
stream_beam_keep_definition(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	char *name, *stage;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
		                errmsg("this function is called by a trigger only")));
	name = trigger_text(data, "name");
	stage = trigger_text(data, "stage");
	SPI_connect();
	/* other versions are not restored: the current one is rebuilt from its source */
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event) && strcmp(stage, "current") == 0)
		sb_definition_delete(name);
	else if (!TRIGGER_FIRED_BY_DELETE(data->tg_event))
	{
		Oid types[] = {TEXTOID, TEXTARRAYOID};
		Datum values[] = {CStringGetTextDatum(name),
		                  PointerGetDatum(names_array(dumped_columns()))};

		sb_sql_run(
		    "INSERT INTO beam.definition AS d (name, result, view, settings)"
		    " SELECT p.name, p.result, p.view, (SELECT pg_catalog.jsonb_object_agg(key, value)"
		    " FROM pg_catalog.jsonb_each(pg_catalog.to_jsonb(p)) WHERE key OPERATOR(pg_catalog.=) ANY ($2))"
		    " FROM beam.pipeline p WHERE p.name OPERATOR(pg_catalog.=) $1 AND p.stage OPERATOR(pg_catalog.=) 'current'"
		    " ON CONFLICT (name) DO UPDATE SET result = excluded.result, view = excluded.view, settings = excluded.settings"
		    " WHERE d.result OPERATOR(pg_catalog.<>) excluded.result OR d.view OPERATOR(pg_catalog.<>) excluded.view"
		    " OR d.settings OPERATOR(pg_catalog.<>) excluded.settings",
		    lengthof(types), types, values, NULL, SPI_OK_INSERT);
	}
	SPI_finish();
	return PointerGetDatum(NULL);
}
