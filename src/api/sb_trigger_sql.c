/*
 * sb_trigger_sql.c: the type beam.trigger and its constructors.
 *
 * A value is the canonical text of a trigger as a varlena. Constructors put the texts of their
 * arguments together and hand the whole to the parser: it checks what was built, and there is one
 * definition of what is allowed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "engine/sb_trigger.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(stream_beam_trigger_in);
PG_FUNCTION_INFO_V1(stream_beam_trigger_out);
PG_FUNCTION_INFO_V1(stream_beam_continuous);
PG_FUNCTION_INFO_V1(stream_beam_default_trigger);
PG_FUNCTION_INFO_V1(stream_beam_never);
PG_FUNCTION_INFO_V1(stream_beam_after_watermark);
PG_FUNCTION_INFO_V1(stream_beam_after_count);
PG_FUNCTION_INFO_V1(stream_beam_after_processing_time);
PG_FUNCTION_INFO_V1(stream_beam_repeatedly);
PG_FUNCTION_INFO_V1(stream_beam_after_each);
PG_FUNCTION_INFO_V1(stream_beam_after_all);
PG_FUNCTION_INFO_V1(stream_beam_after_any);
PG_FUNCTION_INFO_V1(stream_beam_or_finally);

/* Checks a trigger's text; the value has it in its canonical form. Error 22P02. */
static Datum
make_trigger(const char *text)
{
	return PointerGetDatum(cstring_to_text(sb_trigger_format(sb_trigger_parse(text))));
}

/* A trigger's text; the value's layout is that of text. */
static char *
trigger_text(Datum trigger)
{
	return TextDatumGetCString(trigger);
}

/* An interval in quotes, so that it reads back the same whatever the settings are. */
static char *
quoted_interval(const Interval *interval)
{
	if (interval->month == 0 && interval->day == 0)
		return psprintf("'" INT64_FORMAT " us'", interval->time);
	return psprintf("'%d mons %d days " INT64_FORMAT " us'", interval->month, interval->day,
	                interval->time);
}

/* name(t1, t2, ...) from an array of triggers */
static Datum
make_from_array(const char *name, ArrayType *array)
{
	StringInfoData text;
	Datum *triggers;
	bool *nulls;
	int count;

	deconstruct_array(array, ARR_ELEMTYPE(array), -1, false, TYPALIGN_INT, &triggers, &nulls,
	                  &count);
	initStringInfo(&text);
	appendStringInfo(&text, "%s(", name);
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			                errmsg("argument %d of beam.%s is null", i + 1, name),
			                errhint("Leave it out, or give a trigger.")));
		appendStringInfo(&text, "%s%s", i == 0 ? "" : ", ", trigger_text(triggers[i]));
	}
	appendStringInfoChar(&text, ')');
	return make_trigger(text.data);
}

PGDLLEXPORT Datum
stream_beam_trigger_in(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger(PG_GETARG_CSTRING(0)));
}

PGDLLEXPORT Datum
stream_beam_trigger_out(PG_FUNCTION_ARGS)
{
	PG_RETURN_CSTRING(trigger_text(PG_GETARG_DATUM(0)));
}

PGDLLEXPORT Datum
stream_beam_continuous(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger("continuous()"));
}

PGDLLEXPORT Datum
stream_beam_default_trigger(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger("default_trigger()"));
}

PGDLLEXPORT Datum
stream_beam_never(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger("never()"));
}

/* Not strict: a null argument is one that was left out. */
PGDLLEXPORT Datum
stream_beam_after_watermark(PG_FUNCTION_ARGS)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfoString(&text, "after_watermark(");
	if (!PG_ARGISNULL(0))
		appendStringInfo(&text, "early => %s", trigger_text(PG_GETARG_DATUM(0)));
	if (!PG_ARGISNULL(1))
		appendStringInfo(&text, "%slate => %s", PG_ARGISNULL(0) ? "" : ", ",
		                 trigger_text(PG_GETARG_DATUM(1)));
	appendStringInfoChar(&text, ')');
	PG_RETURN_DATUM(make_trigger(text.data));
}

PGDLLEXPORT Datum
stream_beam_after_count(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger(psprintf("after_count(" INT64_FORMAT ")", PG_GETARG_INT64(0))));
}

/* Not strict: `align` may be left out. */
PGDLLEXPORT Datum
stream_beam_after_processing_time(PG_FUNCTION_ARGS)
{
	char *align = "";

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	if (!PG_ARGISNULL(1))
		align = psprintf(", align => %s", quoted_interval(PG_GETARG_INTERVAL_P(1)));
	PG_RETURN_DATUM(make_trigger(
	    psprintf("after_processing_time(%s%s)", quoted_interval(PG_GETARG_INTERVAL_P(0)), align)));
}

PGDLLEXPORT Datum
stream_beam_repeatedly(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger(psprintf("repeatedly(%s)", trigger_text(PG_GETARG_DATUM(0)))));
}

PGDLLEXPORT Datum
stream_beam_after_each(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_from_array("after_each", PG_GETARG_ARRAYTYPE_P(0)));
}

PGDLLEXPORT Datum
stream_beam_after_all(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_from_array("after_all", PG_GETARG_ARRAYTYPE_P(0)));
}

PGDLLEXPORT Datum
stream_beam_after_any(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_from_array("after_any", PG_GETARG_ARRAYTYPE_P(0)));
}

PGDLLEXPORT Datum
stream_beam_or_finally(PG_FUNCTION_ARGS)
{
	PG_RETURN_DATUM(make_trigger(psprintf("or_finally(%s, %s)", trigger_text(PG_GETARG_DATUM(0)),
	                                      trigger_text(PG_GETARG_DATUM(1)))));
}
