/*
 * sb_view.c: the definition of a pipeline; see sb_view.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "base/sb_compat.h"
#include "catalog/sb_view.h"
#include "common/hashfn.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "utils/rel.h"

/* The stored tree names everything by OID and number: renaming changes nothing in it. */
char *
sb_view_fingerprint(Query *query)
{
	char *text;
	uint64 hash;

	query = copyObject(query);
	/* as whom a view's relations are read follows from who owns it */
	sb_query_check_as(query, InvalidOid);
	text = nodeToString(query);
	hash = hash_bytes_extended((unsigned char *) text, strlen(text), 0);
	return psprintf(UINT64_FORMAT, hash);
}

/* The query of the batch view as that is now, a copy. */
static Query *
view_query(const SbPipelineRow *row)
{
	Relation view;
	Query *query;

	/* first, and to the end of the transaction: DROP TABLE ... CASCADE has them in this order */
	if (OidIsValid(row->source))
		LockRelationOid(row->source, AccessShareLock);
	view = try_table_open(row->view, AccessShareLock);
	if (view == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
		                errmsg("the batch view of pipeline \"%s\" is gone", row->name),
		                errhint("Give the query again: beam.alter_pipeline(name, query => ...).")));
	query = copyObject(get_view_query(view));
	table_close(view, AccessShareLock);
	return query;
}

Query *
sb_view_definition(const SbPipelineRow *row, char **fingerprint)
{
	Query *query = view_query(row);
	char *now = sb_view_fingerprint(query);

	/* out of a dump, or by pg_upgrade: the view is what there is */
	if (*row->fingerprint && strcmp(now, row->fingerprint) != 0)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg("the batch view of pipeline \"%s\" has been replaced", row->name),
		     errdetail(
		         "The pipeline is what it was made as: what the view says now is another definition."),
		     errhint(
		         "Put the view back as it was, or make its query the pipeline's: beam.alter_pipeline(name, query => ...).")));
	if (fingerprint)
		*fingerprint = now;
	return query;
}
