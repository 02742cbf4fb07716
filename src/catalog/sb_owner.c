/*
 * sb_owner.c: whose a pipeline is; see sb_owner.h.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/sb_owner.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/syscache.h"

/*
 * Expressions see the settings of the session that made the pipeline: they decide what text a
 * timestamp has, and what a name means.
 */
void
sb_owner_enter(const SbPipelineRow *row, SbBracket *saved)
{
	SbSettings settings = {.n = row->nsettings, .texts = row->settings};

	sb_bracket_enter_owner(saved, row->owner, &settings);
}

/* InvalidOid: it is gone. */
static Oid
pipeline_relation_owner(Oid relation)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relation));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

bool
sb_owner_is_one(const SbPipelineRow *row)
{
	Oid result = pipeline_relation_owner(row->result);
	Oid view = pipeline_relation_owner(row->view);

	/* what is gone is another thing */
	return (!OidIsValid(result) || result == row->owner) &&
	       (!OidIsValid(view) || view == row->owner);
}

void
sb_owner_check(const SbPipelineRow *row)
{
	if (!SearchSysCacheExists1(AUTHOID, ObjectIdGetDatum(row->owner)))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
		                errmsg("the owner of pipeline \"%s\" is gone", row->name)));
	if (!sb_owner_is_one(row))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("pipeline \"%s\", its result table and its batch view do not belong to one role",
		            row->name),
		     errdetail("The pipeline belongs to %s, the table to %s, the view to %s.",
		               GetUserNameFromId(row->owner, false),
		               GetUserNameFromId(pipeline_relation_owner(row->result), true),
		               GetUserNameFromId(pipeline_relation_owner(row->view), true)),
		     errhint(
		         "ALTER VIEW ... OWNER TO, or ALTER TABLE ... OWNER TO; then call beam.resume_pipeline().")));
}
