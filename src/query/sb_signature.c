/*
 * sb_signature.c: with which types and functions state was written; see sb_signature.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "query/sb_query_private.h"
#include "query/sb_signature.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

static void signature_append_type(StringInfo out, Oid type, SbSignature *signature);

/* The columns of a row type, dropped ones too: they are in the bytes. */
static void
signature_append_columns(StringInfo out, Oid type, SbSignature *signature)
{
	TupleDesc desc = lookup_rowtype_tupdesc_domain(type, -1, false);

	signature->row_types =
	    list_append_unique_oid(signature->row_types, get_typ_typrelid(getBaseType(type)));
	appendStringInfoChar(out, '(');
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		appendStringInfoString(out, i > 0 ? "," : "");
		if (att->attisdropped)
			appendStringInfo(out, "-%d%c", att->attlen, att->attalign);
		else
			signature_append_type(out, att->atttypid, signature);
	}
	appendStringInfoChar(out, ')');
	ReleaseTupleDesc(desc);
}

/* What the bytes of a type depend on: its number, and of a user's type all that it is made of. */
static void
signature_append_type(StringInfo out, Oid type, SbSignature *signature)
{
	Oid base = getBaseType(type);
	Oid inner;

	check_stack_depth();
	appendStringInfo(out, "%u", type);
	/* initdb's are what they are; so are enums, whose values have numbers of their own */
	if (base < FirstNormalObjectId && type == base)
		return;
	if (type != base)
	{
		appendStringInfoChar(out, '=');
		signature_append_type(out, base, signature);
	}
	else if (OidIsValid(inner = get_element_type(base)) ||
	         OidIsValid(inner = get_range_subtype(base)) ||
	         OidIsValid(inner = get_multirange_range(base)))
	{
		appendStringInfoChar(out, '[');
		signature_append_type(out, inner, signature);
		appendStringInfoChar(out, ']');
	}
	else if (type_is_rowtype(base))
		signature_append_columns(out, base, signature);
}

static void
signature_add(SbSignature *signature, StringInfo out)
{
	signature->texts[signature->n++] = out->data;
	initStringInfo(out);
}

static void
signature_add_key(SbSignature *signature, StringInfo out, const SbKey *key)
{
	signature_append_type(out, key->type.oid, signature);
	/* hashes are stored, too */
	appendStringInfo(out, " %u %u %u", key->collation, key->hash.fn_oid, key->equal.fn_oid);
	signature_add(signature, out);
}

/* Text columns of pg_aggregate: initial values. */
static void
signature_append_initial(StringInfo out, HeapTuple tuple, AttrNumber attno)
{
	bool isnull;
	Datum value = SysCacheGetAttr(AGGFNOID, tuple, attno, &isnull);

	appendStringInfo(out, " %s", isnull ? "-" : quote_literal_cstr(TextDatumGetCString(value)));
}

/* All that the bytes of its accumulators depend on, functions and initial values included. */
static void
signature_add_aggregate(SbSignature *signature, StringInfo out, const SbAgg *agg)
{
	HeapTuple tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggref->aggfnoid));
	Form_pg_aggregate form;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggref->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	appendStringInfo(out, "%s %u %u %u %u %u %u %u %u %u ", agg->method->name, form->aggfnoid,
	                 form->aggtransfn, form->aggfinalfn, form->aggcombinefn, form->aggserialfn,
	                 form->aggdeserialfn, form->aggmtransfn, form->aggminvtransfn,
	                 form->aggmfinalfn);
	signature_append_type(out, form->aggtranstype, signature);
	if (OidIsValid(form->aggmtranstype))
	{
		appendStringInfoChar(out, ' ');
		signature_append_type(out, form->aggmtranstype, signature);
	}
	signature_append_initial(out, tuple, Anum_pg_aggregate_agginitval);
	signature_append_initial(out, tuple, Anum_pg_aggregate_aggminitval);
	ReleaseSysCache(tuple);
	for (int i = 0; i < agg->nargs; i++)
	{
		appendStringInfoChar(out, ' ');
		signature_append_type(out, agg->arg_types[i].oid, signature);
	}
	signature_add(signature, out);
}

#define SB_SIGNATURE_IDENTITY "identity"

/*
 * Of a query that maps: which columns identify a row, or that none do. And by which constraint:
 * between one and another on the same columns rows may have been equal in them.
 */
static void
signature_add_identity(SbSignature *signature, StringInfo out, const SbPlan *plan)
{
	appendStringInfoString(out, SB_SIGNATURE_IDENTITY);
	if (plan->keyed)
		appendStringInfo(out, "(%u)", plan->key_constraint);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == SB_COLUMN_KEY)
			appendStringInfo(out, " %d", i + 1);
	}
	signature_add(signature, out);
}

SbSignature *
sb_signature_of(const SbQuery *query)
{
	const SbPlan *plan = query->plan;
	SbSignature *signature = palloc0(sizeof(SbSignature));
	StringInfoData text;

	signature->texts = palloc(sizeof(char *) * (plan->nkeys + plan->naggs + plan->ncolumns + 1));
	initStringInfo(&text);
	for (int i = 0; i < plan->nkeys; i++)
		signature_add_key(signature, &text, &query->keys[i]);
	for (int i = 0; i < plan->naggs; i++)
		signature_add_aggregate(signature, &text, &query->aggs[i]);
	for (int i = 0; i < plan->ncolumns; i++)
	{
		signature_append_type(&text, plan->columns_out[i].type, signature);
		signature_add(signature, &text);
	}
	if (plan->maps)
		signature_add_identity(signature, &text, plan);
	return signature;
}

/* What the text of this number is about. */
static char *
signature_subject(const SbQuery *query, int i)
{
	const SbPlan *plan = query->plan;

	if (i < plan->nkeys)
		return psprintf("group key %d (type %s)", i + 1, format_type_be(plan->keys[i].type));
	i -= plan->nkeys;
	if (i < plan->naggs)
		return psprintf("aggregate %s", format_procedure(plan->aggs[i]->aggfnoid));
	i -= plan->naggs;
	if (i >= plan->ncolumns)
		return "the primary key of the source";
	return psprintf("result column \"%s\" (type %s)", plan->columns_out[i].name,
	                format_type_be(plan->columns_out[i].type));
}

bool
sb_signature_has_other_types(const SbQuery *query, const SbSignature *now, int n,
                             char *const *texts)
{
	int types = query->plan->nkeys + query->plan->naggs + query->plan->ncolumns;

	for (int i = 0; i < types && i < n; i++)
	{
		if (strcmp(texts[i], now->texts[i]) != 0)
			return true;
	}
	return n != now->n;
}

void
sb_signature_check(const SbQuery *query, const SbSignature *now, int n, char *const *texts,
                   const char *pipeline)
{
	int different = 0;

	while (different < n && different < now->n &&
	       strcmp(texts[different], now->texts[different]) == 0)
		different++;
	if (different == n && different == now->n)
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_DATATYPE_MISMATCH),
	     different < now->n
	         ? errmsg("%s is not what the state of pipeline \"%s\" was written with: it has to be made anew with beam.resync_pipeline()",
	                  signature_subject(query, different), pipeline)
	         : errmsg("the query of pipeline \"%s\" is not what its state was written with: it has to be made anew with beam.resync_pipeline()",
	                  pipeline),
	     errdetail(
	         "A type, an aggregate or its functions have been altered or replaced: the state cannot be read.")));
}

void
sb_signature_fix_identity(SbPlan *plan, int n, char *const *texts)
{
	if (!plan->keyed || n == 0 || strcmp(texts[n - 1], SB_SIGNATURE_IDENTITY) != 0)
		return;
	plan->keyed = false;
	for (int i = 0; i < plan->ncolumns; i++)
	{
		if (plan->columns_out[i].kind == SB_COLUMN_KEY)
			plan->columns_out[i].kind = SB_COLUMN_VALUE;
	}
}

void
sb_signature_restore_identity(SbPlan *plan, int n, char *const *texts)
{
	const char *identity = n > 0 ? texts[n - 1] : "";

	if (!plan->maps || strncmp(identity, SB_SIGNATURE_IDENTITY, strlen(SB_SIGNATURE_IDENTITY)) != 0)
		return;
	sb_signature_fix_identity(plan, n, texts);
	for (const char *at = identity; (at = strchr(at, ' ')) != NULL; at++)
	{
		int column = atoi(at + 1);

		if (column > plan->ncolumns)
			continue;
		plan->columns_out[column - 1].kind = SB_COLUMN_KEY;
		plan->keyed = true;
	}
}
