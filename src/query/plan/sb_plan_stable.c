/*
 * sb_plan_stable.c: the STABLE functions of PostgreSQL that may be in a pipeline's query.
 *
 * RULES. They depend on their arguments and on settings that a pipeline keeps
 * (recorded_settings in api/sb_api_create.c), and on nothing else: not on the clock, the session,
 * the rows of any table or the catalogs. test/t/functions.pl compares the list with pg_proc. The
 * input functions of date, time and timestamp are not on it: they know 'now' and 'today'.
 *
 * Those that take values of any type call output functions of these types, which are looked at as
 * for a cast to text.
 */
#include "postgres.h"

#include "access/tupdesc.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "query/plan/sb_plan_private.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static const Oid of_settings[] = {
    /* times: TimeZone, DateStyle, IntervalStyle, lc_time */
    F_DATE_OUT, F_TIMESTAMP_OUT, F_TIMESTAMPTZ_OUT, F_INTERVAL_IN, F_INTERVAL_OUT,
    F_DATE_TIMESTAMPTZ, F_TIME_TIMESTAMPTZ, F_TIMETZ_TIMESTAMPTZ, F_TIMETZ_TIME,
    F_TIMESTAMP_TIMESTAMPTZ, F_TIMESTAMPTZ_TIMESTAMP, F_TIMESTAMPTZ_DATE, F_TIMESTAMPTZ_DATE_TIME,
    F_DATE_PART_TEXT_TIMESTAMPTZ, F_EXTRACT_TEXT_TIMESTAMPTZ, F_DATE_TRUNC_TEXT_TIMESTAMPTZ,
    F_DATE_TRUNC_TEXT_TIMESTAMPTZ_TEXT, F_TIMESTAMPTZ_PL_INTERVAL, F_TIMESTAMPTZ_MI_INTERVAL,
    F_INTERVAL_PL_TIMESTAMPTZ, F_OVERLAPS_TIMESTAMPTZ_INTERVAL_TIMESTAMPTZ_INTERVAL,
    F_OVERLAPS_TIMESTAMPTZ_TIMESTAMPTZ_TIMESTAMPTZ_INTERVAL,
    F_OVERLAPS_TIMESTAMPTZ_INTERVAL_TIMESTAMPTZ_TIMESTAMPTZ,
    F_MAKE_TIMESTAMPTZ_INT4_INT4_INT4_INT4_INT4_FLOAT8,
    F_MAKE_TIMESTAMPTZ_INT4_INT4_INT4_INT4_INT4_FLOAT8_TEXT, F_TO_TIMESTAMP_TEXT_TEXT, F_TO_DATE,
    F_TO_CHAR_TIMESTAMP_TEXT, F_TO_CHAR_TIMESTAMPTZ_TEXT, F_TO_CHAR_INTERVAL_TEXT,
    F_DATE_CMP_TIMESTAMPTZ, F_DATE_EQ_TIMESTAMPTZ, F_DATE_GE_TIMESTAMPTZ, F_DATE_GT_TIMESTAMPTZ,
    F_DATE_LE_TIMESTAMPTZ, F_DATE_LT_TIMESTAMPTZ, F_DATE_NE_TIMESTAMPTZ,
    F_TIMESTAMP_CMP_TIMESTAMPTZ, F_TIMESTAMP_EQ_TIMESTAMPTZ, F_TIMESTAMP_GE_TIMESTAMPTZ,
    F_TIMESTAMP_GT_TIMESTAMPTZ, F_TIMESTAMP_LE_TIMESTAMPTZ, F_TIMESTAMP_LT_TIMESTAMPTZ,
    F_TIMESTAMP_NE_TIMESTAMPTZ, F_TIMESTAMPTZ_CMP_DATE, F_TIMESTAMPTZ_EQ_DATE,
    F_TIMESTAMPTZ_GE_DATE, F_TIMESTAMPTZ_GT_DATE, F_TIMESTAMPTZ_LE_DATE, F_TIMESTAMPTZ_LT_DATE,
    F_TIMESTAMPTZ_NE_DATE, F_TIMESTAMPTZ_CMP_TIMESTAMP, F_TIMESTAMPTZ_EQ_TIMESTAMP,
    F_TIMESTAMPTZ_GE_TIMESTAMP, F_TIMESTAMPTZ_GT_TIMESTAMP, F_TIMESTAMPTZ_LE_TIMESTAMP,
    F_TIMESTAMPTZ_LT_TIMESTAMP, F_TIMESTAMPTZ_NE_TIMESTAMP, F_JSONB_PATH_EXISTS_TZ,
    F_JSONB_PATH_MATCH_TZ, F_JSONB_PATH_QUERY_ARRAY_TZ, F_JSONB_PATH_QUERY_FIRST_TZ,
    /* numbers: lc_numeric, lc_monetary */
    F_TO_CHAR_NUMERIC_TEXT, F_TO_CHAR_INT4_TEXT, F_TO_CHAR_INT8_TEXT, F_TO_CHAR_FLOAT4_TEXT,
    F_TO_CHAR_FLOAT8_TEXT, F_TO_NUMBER, F_CASH_IN, F_CASH_OUT, F_MONEY_INT4, F_MONEY_INT8,
    F_MONEY_NUMERIC, F_NUMERIC_MONEY,
    /* text: default_text_search_config, xmloption, the database's encoding */
    F_TO_TSVECTOR_TEXT, F_TO_TSVECTOR_JSON, F_TO_TSVECTOR_JSONB, F_TO_TSQUERY_TEXT,
    F_PLAINTO_TSQUERY_TEXT, F_PHRASETO_TSQUERY_TEXT, F_WEBSEARCH_TO_TSQUERY_TEXT, F_TS_MATCH_TT,
    F_TS_MATCH_TQ, F_TS_HEADLINE_TEXT_TSQUERY, F_TS_HEADLINE_TEXT_TSQUERY_TEXT, F_XML, F_XML_IN,
    F_XML_IS_WELL_FORMED,
    /* of the type alone, and the labels of an enum, whose changes are noticed */
    F_PG_TYPEOF, F_ENUM_IN, F_ENUM_OUT};

static const Oid of_output[] = {F_ANYTEXTCAT,
                                F_TEXTANYCAT,
                                F_CONCAT,
                                F_CONCAT_WS,
                                F_FORMAT_TEXT,
                                F_FORMAT_TEXT_ANY,
                                F_QUOTE_LITERAL_ANYELEMENT,
                                F_QUOTE_NULLABLE_ANYELEMENT,
                                F_ARRAY_TO_STRING_ANYARRAY_TEXT,
                                F_ARRAY_TO_STRING_ANYARRAY_TEXT_TEXT,
                                F_ARRAY_TO_JSON_ANYARRAY,
                                F_ARRAY_TO_JSON_ANYARRAY_BOOL,
                                F_ROW_TO_JSON_RECORD,
                                F_ROW_TO_JSON_RECORD_BOOL,
                                F_TO_JSON,
                                F_TO_JSONB,
                                F_JSON_AGG,
                                F_JSON_AGG_TRANSFN,
                                F_JSON_OBJECT_AGG,
                                F_JSON_OBJECT_AGG_TRANSFN,
                                F_JSON_BUILD_ARRAY_,
                                F_JSON_BUILD_ARRAY_ANY,
                                F_JSON_BUILD_OBJECT_,
                                F_JSON_BUILD_OBJECT_ANY,
                                F_JSONB_AGG,
                                F_JSONB_AGG_TRANSFN,
                                F_JSONB_AGG_FINALFN,
                                F_JSONB_OBJECT_AGG_TRANSFN,
                                F_JSONB_OBJECT_AGG_FINALFN,
                                F_JSONB_BUILD_ARRAY_,
                                F_JSONB_BUILD_ARRAY_ANY,
                                F_JSONB_BUILD_OBJECT_,
                                F_JSONB_BUILD_OBJECT_ANY};

static bool
stable_is_in(const Oid *list, int n, Oid function)
{
	for (int i = 0; i < n; i++)
	{
		if (list[i] == function)
			return true;
	}
	return false;
}

SbStable
sb_plan_stable(Oid function)
{
	if (stable_is_in(of_settings, lengthof(of_settings), function))
		return SB_STABLE_OF_SETTINGS;
	return stable_is_in(of_output, lengthof(of_output), function) ? SB_STABLE_OF_OUTPUT
	                                                              : SB_STABLE_OTHER;
}

/* The columns of a row type. InvalidOid: all can be converted. */
static Oid
stable_find_column(Oid type, bool input)
{
	TupleDesc desc = lookup_rowtype_tupdesc(type, -1);
	Oid found = InvalidOid;

	for (int i = 0; i < desc->natts && !OidIsValid(found); i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);

		if (!column->attisdropped)
			found = sb_plan_unstable_text(column->atttypid, input);
	}
	ReleaseTupleDesc(desc);
	return found;
}

Oid
sb_plan_unstable_text(Oid type, bool input)
{
	Oid base = getBaseType(type);
	Oid inner, function;
	bool varlena;

	check_stack_depth();
	/* their own functions call those of what they are made of */
	if (OidIsValid(inner = get_element_type(base)) || OidIsValid(inner = get_range_subtype(base)) ||
	    OidIsValid(inner = get_multirange_range(base)))
		return sb_plan_unstable_text(inner, input);
	/* of a row that is made in the query the columns are not known: it is the caller's */
	if (type_is_rowtype(base))
		return base == RECORDOID ? InvalidOid : stable_find_column(base, input);
	if (input)
		getTypeInputInfo(base, &function, &inner);
	else
		getTypeOutputInfo(base, &function, &varlena);
	return func_volatile(function) == PROVOLATILE_IMMUTABLE ||
	               sb_plan_stable(function) == SB_STABLE_OF_SETTINGS
	           ? InvalidOid
	           : base;
}
