/*
 * sb_option.c: the options of a pipeline; see sb_option.h.
 *
 * The order of the table is that of beam.explain_pipeline().
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "catalog/sb_option.h"
#include "common/int.h"
#include "engine/sb_trigger.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* ---- intervals: int64, microseconds; -1: not set ---- */

static Datum
interval_parse(const char *text)
{
	return DirectFunctionCall3(interval_in, CStringGetDatum(text), ObjectIdGetDatum(InvalidOid),
	                           Int32GetDatum(-1));
}

/* One of a fixed length, in microseconds. */
static int64
interval_us(const Interval *interval, const char *argument, bool zero_allowed)
{
	int64 us;

	if (interval->month != 0)
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("%s must not contain months or years: their length is not fixed", argument),
		         errhint("Give it in days or smaller units.")));
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
	    pg_add_s64_overflow(us, interval->time, &us))
		ereport(ERROR,
		        (errcode(ERRCODE_INTERVAL_FIELD_OVERFLOW), errmsg("%s is out of range", argument)));
	if (us < 0 || (us == 0 && !zero_allowed))
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("%s must %s", argument, zero_allowed ? "not be negative" : "be positive")));
	return us;
}

static void
interval_take(const SbOption *option, Datum argument, bool create, void *field)
{
	int64 us =
	    interval_us(DatumGetIntervalP(argument), option->name, !create || !option->zero_unsets);

	*(int64 *) field = us == 0 && option->zero_unsets ? -1 : us;
}

static void
interval_put(void *field, Datum value, bool isnull)
{
	*(int64 *) field = isnull ? -1 : DatumGetInt64(value);
}

static Datum
interval_get(const void *field, bool *isnull)
{
	*isnull = *(const int64 *) field < 0;
	return Int64GetDatum(*(const int64 *) field);
}

static char *
interval_show(const void *field)
{
	Interval interval = {.time = *(const int64 *) field};

	return interval.time < 0
	           ? "none"
	           : DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&interval)));
}

/*
 * ---- how late rows may be: likewise; not set: without limit. What creation has as its default
 * (beam._lateness_by_mode()) no caller means: it has months. Of what there is already null leaves
 * it as it is, and zero is a limit: there a negative one says that it is not set.
 */

#define SB_LATENESS_BY_MODE (-2)
#define SB_LATENESS_BY_MODE_MONTHS PG_INT32_MIN

static Datum
lateness_parse(const char *by_mode)
{
	Interval *interval = palloc0(sizeof(Interval));

	interval->month = SB_LATENESS_BY_MODE_MONTHS;
	return IntervalPGetDatum(interval);
}

/* In the sense of an interval: a month is thirty days long. */
static bool
interval_is_negative(const Interval *interval)
{
	Interval zero = {0};

	return DatumGetBool(
	    DirectFunctionCall2(interval_lt, IntervalPGetDatum(interval), IntervalPGetDatum(&zero)));
}

static void
lateness_take(const SbOption *option, Datum argument, bool create, void *field)
{
	const Interval *interval = DatumGetIntervalP(argument);
	int64 *us = field;

	if (interval->month == SB_LATENESS_BY_MODE_MONTHS)
		*us = SB_LATENESS_BY_MODE;
	else if (!create && interval_is_negative(interval))
		*us = SB_LATENESS_NO_LIMIT;
	else
		*us = interval_us(interval, option->name, true);
}

static char *
lateness_show(const void *field)
{
	return *(const int64 *) field < 0 ? "no limit" : interval_show(field);
}

/* The result is to be what the query gives, where rows are corrected, however old they are. */
static void
lateness_settle(SbPipelineRow *row)
{
	if (row->allowed_lateness_us == SB_LATENESS_BY_MODE)
		row->allowed_lateness_us = row->retractable ? SB_LATENESS_NO_LIMIT : USECS_PER_HOUR;
}

/* ---- texts: char *; NULL: not set ---- */

static Datum
text_parse(const char *text)
{
	return CStringGetTextDatum(text);
}

static void
text_take(const SbOption *option, Datum argument, bool create, void *field)
{
	char *value = TextDatumGetCString(argument);

	if (option->names)
		(void) sb_name_index(option->names, value, option->name);
	*(char **) field = *value == '\0' && option->zero_unsets ? NULL : value;
}

static void
text_put(void *field, Datum value, bool isnull)
{
	*(char **) field = isnull ? NULL : TextDatumGetCString(value);
}

static Datum
text_get(const void *field, bool *isnull)
{
	const char *value = *(char *const *) field;

	*isnull = value == NULL;
	return value ? CStringGetTextDatum(value) : (Datum) 0;
}

static char *
text_show(const void *field)
{
	return *(char *const *) field;
}

/* ---- triggers: their canonical text; a value of beam.trigger is laid out like a text ---- */

static void
trigger_take(const SbOption *option, Datum argument, bool create, void *field)
{
	*(char **) field = sb_trigger_format(sb_trigger_parse(TextDatumGetCString(argument)));
}

/* ---- bools ---- */

static Datum
bool_parse(const char *text)
{
	return BoolGetDatum(strcmp(text, "true") == 0);
}

static void
bool_take(const SbOption *option, Datum argument, bool create, void *field)
{
	*(bool *) field = DatumGetBool(argument);
}

static void
bool_put(void *field, Datum value, bool isnull)
{
	*(bool *) field = !isnull && DatumGetBool(value);
}

static Datum
bool_get(const void *field, bool *isnull)
{
	*isnull = false;
	return BoolGetDatum(*(const bool *) field);
}

/* ---- one of two names, of which the first means true: a bool ---- */

static void
either_take(const SbOption *option, Datum argument, bool create, void *field)
{
	*(bool *) field =
	    sb_name_index(option->names, TextDatumGetCString(argument), option->name) == 0;
}

/* ---- the table ---- */

static const SbOptionKind interval_kind = {INT8OID,       "",           interval_parse,
                                           interval_take, interval_put, interval_get,
                                           interval_show};
static const SbOptionKind lateness_kind = {INT8OID,       "",           lateness_parse,
                                           lateness_take, interval_put, interval_get,
                                           lateness_show};
static const SbOptionKind text_kind = {TEXTOID,  "",       text_parse, text_take,
                                       text_put, text_get, text_show};
static const SbOptionKind trigger_kind = {TEXTOID,  "::beam.trigger", text_parse, trigger_take,
                                          text_put, text_get,         text_show};
static const SbOptionKind bool_kind = {BOOLOID,  "",       bool_parse, bool_take,
                                       bool_put, bool_get, NULL};
static const SbOptionKind either_kind = {BOOLOID,  "",       text_parse, either_take,
                                         bool_put, bool_get, NULL};

#define SB_CALL_BOTH (SB_CALL_CREATE | SB_CALL_ALTER)

const SbOption sb_options[] = {
    {.name = "trigger",
     .kind = &trigger_kind,
     .field = offsetof(SbPipelineRow, trigger),
     .default_value = "continuous()",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "trigger",
     .of_panes = true,
     .explain = "\n  Trigger: "},
    {.name = "accumulation",
     .kind = &text_kind,
     .field = offsetof(SbPipelineRow, accumulation),
     .default_value = "accumulating",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "accumulation",
     .names = &sb_accumulation_names,
     .explain = ", "},
    {.name = "watermark",
     .kind = &interval_kind,
     .field = offsetof(SbPipelineRow, watermark_delay_us),
     .default_value = "10 seconds",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "watermark_delay",
     .of_table = true,
     .explain = "\n  Watermark: highest event time - ",
     .explain_upstream = "\n  Watermark: the output watermark of pipeline result "},
    {.name = "watermark_by",
     .kind = &text_kind,
     .field = offsetof(SbPipelineRow, watermark_by),
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "watermark_by",
     .nullable = true,
     .zero_unsets = true,
     .of_table = true,
     .explain = ", by "},
    {.name = "idle_timeout",
     .kind = &interval_kind,
     .field = offsetof(SbPipelineRow, idle_timeout_us),
     .default_value = "1 minute",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "idle_timeout",
     .nullable = true,
     .zero_unsets = true,
     .of_table = true,
     .explain = ", idle timeout "},
    {.name = "allowed_lateness",
     .kind = &lateness_kind,
     .field = offsetof(SbPipelineRow, allowed_lateness_us),
     .default_value = "by source_mode",
     .settle = lateness_settle,
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "allowed_lateness",
     .nullable = true,
     .explain = "\n  Allowed lateness: "},
    {.name = "timestamp_combiner",
     .kind = &text_kind,
     .field = offsetof(SbPipelineRow, timestamp_combiner),
     .default_value = "end_of_window",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "timestamp_combiner",
     .of_panes = true,
     .names = &sb_combiner_names},
    {.name = "on_time",
     .kind = &text_kind,
     .field = offsetof(SbPipelineRow, on_time),
     .default_value = "fire_always",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "on_time",
     .of_panes = true,
     .names = &sb_behavior_names},
    {.name = "closing",
     .kind = &text_kind,
     .field = offsetof(SbPipelineRow, closing),
     .default_value = "fire_if_non_empty",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "closing",
     .of_panes = true,
     .names = &sb_behavior_names},
    /* of a downstream pipeline the column says what the upstream's accumulation does */
    {.name = "source_mode",
     .kind = &either_kind,
     .field = offsetof(SbPipelineRow, retractable),
     .default_value = "changes",
     .calls = SB_CALL_BOTH,
     .kept = SB_KEPT_DEFINITION,
     .column = "retractable",
     .names = &sb_source_mode_names,
     .of_table = true},
    {.name = "allow_unsafe_trigger",
     .kind = &bool_kind,
     .field = offsetof(SbPipelineRow, allow_unsafe_trigger),
     .default_value = "false",
     .calls = SB_CALL_BOTH},
    {.name = "history",
     .kind = &bool_kind,
     .field = offsetof(SbPipelineRow, history),
     .default_value = "true",
     .calls = SB_CALL_CREATE},
    {.name = "keep",
     .kind = &interval_kind,
     .field = offsetof(SbPipelineRow, keep_us),
     .default_value = "1 day",
     .calls = SB_CALL_ALTER | SB_CALL_ROLLBACK,
     .kept = SB_KEPT_VERSION,
     .column = "keep",
     .nullable = true},
    {0},
};

static const SbOption *
find_option(const char *name)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (strcmp(option->name, name) == 0)
			return option;
	}
	return NULL;
}

static void *
option_field(const SbOption *option, SbPipelineRow *row)
{
	return (char *) row + option->field;
}

static void
unset(const SbOption *option, SbPipelineRow *row)
{
	option->kind->put(option_field(option, row), (Datum) 0, true);
}

static void
set_default(const SbOption *option, SbPipelineRow *row)
{
	if (option->default_value)
		option->kind->take(option, option->kind->parse(option->default_value), true,
		                   option_field(option, row));
	else
		unset(option, row);
}

/* ---- arguments ---- */

/* The names of the arguments of the function that is called, as many as there are. */
static char **
argument_names(FunctionCallInfo fcinfo)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(fcinfo->flinfo->fn_oid));
	char **names;
	Oid *types;
	char *modes;
	int n;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "function %u is gone", fcinfo->flinfo->fn_oid);
	n = get_func_arg_info(tuple, &types, &names, &modes);
	ReleaseSysCache(tuple);
	if (names == NULL || n != PG_NARGS())
		elog(ERROR, "the arguments of function %u have no names", fcinfo->flinfo->fn_oid);
	return names;
}

void
sb_options_refuse_null(FunctionCallInfo fcinfo, const char *function)
{
	char **names = argument_names(fcinfo);

	for (int i = 0; i < PG_NARGS(); i++)
	{
		const SbOption *option = find_option(names[i]);

		if (PG_ARGISNULL(i) && !(option && option->nullable))
			ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			                errmsg("argument %s of %s must not be null", names[i], function)));
	}
}

void
sb_options_take(FunctionCallInfo fcinfo, SbCall call, SbPipelineRow *row)
{
	char **names = argument_names(fcinfo);
	bool create = call == SB_CALL_CREATE;

	sb_options_begin(row, call);
	for (int i = 0; i < PG_NARGS(); i++)
	{
		const SbOption *option = find_option(names[i]);

		if (option == NULL)
			continue;
		if (!PG_ARGISNULL(i))
			option->kind->take(option, PG_GETARG_DATUM(i), create, option_field(option, row));
		else if (option->nullable && (create || option->kept != SB_KEPT_DEFINITION))
			unset(option, row);
	}
}

void
sb_options_settle(SbPipelineRow *row)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (option->settle)
			option->settle(row);
	}
}

/* ---- versions ---- */

void
sb_options_begin(SbPipelineRow *row, SbCall call)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (option->kept == SB_KEPT_DEFINITION && call != SB_CALL_CREATE)
			continue;
		if (option->calls & call)
			set_default(option, row);
		else
			unset(option, row);
	}
}

/* As the column has it. */
static bool
is_same(const SbOption *option, const SbPipelineRow *a, const SbPipelineRow *b)
{
	bool a_null, b_null, by_value;
	Datum a_value = sb_option_get(option, a, &a_null);
	Datum b_value = sb_option_get(option, b, &b_null);
	int16 length;

	if (a_null || b_null)
		return a_null && b_null;
	get_typlenbyval(option->kind->column_type, &length, &by_value);
	return datumIsEqual(a_value, b_value, by_value, length);
}

bool
sb_options_same(const SbPipelineRow *a, const SbPipelineRow *b)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (option->kept != SB_KEPT_DEFINITION ||
		    (option->of_table && !sb_catalog_reads_wal(a) && !sb_catalog_reads_wal(b)))
			continue;
		if (!is_same(option, a, b))
			return false;
	}
	return true;
}

void
sb_options_copy(SbPipelineRow *row)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		bool isnull;
		Datum value = sb_option_get(option, row, &isnull);

		option->kind->put(option_field(option, row), value, isnull);
	}
}

void
sb_options_refuse_panes(const SbPipelineRow *row)
{
	SbPipelineRow plain = {0};

	for (const SbOption *option = sb_options; option->name; option++)
	{
		if (!option->of_panes)
			continue;
		set_default(option, &plain);
		if (!is_same(option, &plain, row))
			ereport(ERROR,
			        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			         errmsg("%s means nothing for a query without aggregates and GROUP BY",
			                option->name),
			         errdetail(
			             "Its rows are no panes: each is there as soon as its source row is."),
			         errhint("Leave it at its default, %s.", option->default_value)));
	}
}

/* ---- the catalog ---- */

bool
sb_option_has_column(const SbOption *option)
{
	Oid catalog = get_relname_relid("pipeline", get_namespace_oid("beam", false));

	return option->column && get_attnum(catalog, option->column) != InvalidAttrNumber;
}

void
sb_options_read(SbPipelineRow *row, HeapTuple tuple, TupleDesc desc)
{
	for (const SbOption *option = sb_options; option->name; option++)
	{
		int column = option->column ? SPI_fnumber(desc, option->column) : SPI_ERROR_NOATTRIBUTE;
		bool isnull;
		Datum value;

		if (column > 0)
		{
			value = SPI_getbinval(tuple, desc, column, &isnull);
			option->kind->put(option_field(option, row), value, isnull);
		}
		else if (option->kept == SB_KEPT_DEFINITION)
			set_default(option, row);
		else
			unset(option, row);
	}
}

/* ---- explain ---- */

char *
sb_options_explain(const SbPipelineRow *row)
{
	StringInfoData text;

	initStringInfo(&text);
	for (const SbOption *option = sb_options; option->name; option++)
	{
		const char *before = option->explain;
		const char *value = NULL;

		if (option->of_table && !sb_catalog_reads_wal(row))
		{
			before = option->explain_upstream;
			value = before ? get_rel_name(row->source) : NULL;
		}
		else if (before)
			value = option->kind->show((const char *) row + option->field);
		if (value)
			appendStringInfo(&text, "%s%s", before, value);
	}
	return text.data;
}
