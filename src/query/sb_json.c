/*
 * sb_json.c: rows as JSON; see sb_json.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "query/sb_json.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static void json_append_value(StringInfo out, Datum value, bool isnull, Oid type);

/* Of a type that initdb has made: no cast of such a one is a user's. */
static void
json_append_built_in(StringInfo out, Datum value, Oid type)
{
	FuncExpr *call =
	    makeFuncExpr(F_TO_JSON, JSONOID, list_make1(makeNullConst(type, -1, InvalidOid)),
	                 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	FmgrInfo function;

	fmgr_info(F_TO_JSON, &function);
	fmgr_info_set_expr((Node *) call, &function);
	appendStringInfoString(out, TextDatumGetCString(FunctionCall1(&function, value)));
}

static void
json_append_text(StringInfo out, Datum value, Oid type)
{
	Oid function;
	bool is_varlena;

	getTypeOutputInfo(type, &function, &is_varlena);
	escape_json(out, OidOutputFunctionCall(function, value));
}

typedef struct SbJsonArray
{
	Oid element;
	int ndims;
	int *dims;
	Datum *values;
	bool *nulls;
	int at; /* the next one */
} SbJsonArray;

static void
json_append_dimension(StringInfo out, SbJsonArray *array, int dim)
{
	appendStringInfoChar(out, '[');
	for (int i = 0; i < array->dims[dim]; i++)
	{
		if (i > 0)
			appendStringInfoChar(out, ',');
		if (dim + 1 < array->ndims)
			json_append_dimension(out, array, dim + 1);
		else
		{
			json_append_value(out, array->values[array->at], array->nulls[array->at],
			                  array->element);
			array->at++;
		}
	}
	appendStringInfoChar(out, ']');
}

static void
json_append_array(StringInfo out, Datum value, Oid element)
{
	ArrayType *bytes = DatumGetArrayTypeP(value);
	SbJsonArray array = {.element = element, .ndims = ARR_NDIM(bytes), .dims = ARR_DIMS(bytes)};
	int16 len;
	bool byval;
	char align;
	int n;

	if (array.ndims == 0)
	{
		appendStringInfoString(out, "[]");
		return;
	}
	get_typlenbyvalalign(element, &len, &byval, &align);
	deconstruct_array(bytes, element, len, byval, align, &array.values, &array.nulls, &n);
	json_append_dimension(out, &array, 0);
}

static void
json_append_composite(StringInfo out, Datum value)
{
	HeapTupleHeader header = DatumGetHeapTupleHeader(value);
	TupleDesc desc =
	    lookup_rowtype_tupdesc(HeapTupleHeaderGetTypeId(header), HeapTupleHeaderGetTypMod(header));
	HeapTupleData tuple = {.t_len = HeapTupleHeaderGetDatumLength(header), .t_data = header};
	Datum *values = palloc(sizeof(Datum) * desc->natts);
	bool *nulls = palloc(sizeof(bool) * desc->natts);

	heap_deform_tuple(&tuple, desc, values, nulls);
	appendStringInfoString(out, sb_json_of_row(desc, values, nulls));
	ReleaseTupleDesc(desc);
}

static void
json_append_value(StringInfo out, Datum value, bool isnull, Oid type)
{
	Oid base = getBaseType(type);
	Oid element = base == RECORDARRAYOID ? RECORDOID : get_element_type(base);

	check_stack_depth();
	if (isnull)
		appendStringInfoString(out, "null");
	else if (OidIsValid(element) && (element >= FirstNormalObjectId || element == RECORDOID))
		json_append_array(out, value, element);
	else if (base == RECORDOID || type_is_rowtype(base))
		json_append_composite(out, value);
	else if (base < FirstNormalObjectId)
		json_append_built_in(out, value, base);
	else
		json_append_text(out, value, base);
}

static void
json_append_column(StringInfo out, const char *name, Datum value, bool isnull, Oid type)
{
	if (out->len > 1)
		appendStringInfoChar(out, ',');
	escape_json(out, name);
	appendStringInfoChar(out, ':');
	json_append_value(out, value, isnull, type);
}

char *
sb_json_of_row(TupleDesc desc, const Datum *values, const bool *nulls)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped)
			json_append_column(&out, NameStr(att->attname), values[i], nulls[i], att->atttypid);
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}

char *
sb_json_of_columns(TupleDesc desc, const Datum *values, const bool *nulls, const Bitmapset *columns,
                   TupleDesc names)
{
	StringInfoData out;
	int attno = -1;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	while ((attno = bms_next_member(columns, attno)) >= 0)
	{
		Form_pg_attribute name = TupleDescAttr(names, attno - 1);

		/* a row of another time may have fewer columns */
		if (attno <= desc->natts)
			json_append_column(&out, NameStr(name->attname), values[attno - 1], nulls[attno - 1],
			                   TupleDescAttr(desc, attno - 1)->atttypid);
		else
			json_append_column(&out, NameStr(name->attname), (Datum) 0, true, name->atttypid);
	}
	appendStringInfoChar(&out, '}');
	return out.data;
}
