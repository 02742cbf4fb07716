/*
 * sb_dependency.c: beam.dependency; see sb_dependency.h.
 *
 * WHAT IS THE SAME. Not the transaction that wrote an object counts, but its content: owner, name,
 * privileges and costs change no result. Of an enum the order and the labels of the values that it
 * had; others may have come between them. What a function of a procedural language calls is not
 * known.
 *
 * CRASH SAFETY. The mark is of the transaction that changes the object, and the position of a
 * pipeline that is marked is not written any more (sb_catalog_put_progress()): no bundle that has
 * seen the new content is committed. Whom a transaction could not see, since it was only being
 * made, is found by the runner when it looks after the commit.
 */
#include "postgres.h"

#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "catalog/sb_dependency.h"
#include "catalog/sb_pipeline_row.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/syscache.h"

/*
 * An SQL expression: the content of the object (classid, objid), or null: it is gone; `before`:
 * what it was, or null.
 */
static char *
dependency_content(const char *classid, const char *objid, const char *before)
{
	return psprintf(
	    "(CASE WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass THEN (SELECT pg_catalog.hashtextextended("
	    "ROW (p.prosrc, p.probin, p.prosqlbody, p.proconfig, p.prolang, p.proisstrict, p.prosecdef, p.prorettype, p.proretset, p.proargtypes,"
	    " p.proargdefaults, (SELECT g FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid OPERATOR(pg_catalog.=) p.oid))::pg_catalog.text, 0)::pg_catalog.text"
	    " FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) %s)"
	    " WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass THEN (SELECT ROW (p.oprcode, p.oprleft, p.oprright, p.oprresult)::pg_catalog.text"
	    " FROM pg_catalog.pg_operator p WHERE p.oid OPERATOR(pg_catalog.=) %s)"
	    " WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass THEN (SELECT CASE WHEN"
	    " t.typtype OPERATOR(pg_catalog.=) 'e' THEN (SELECT pg_catalog.string_agg(pg_catalog.concat(e.oid, ':', e.enumlabel, ','), '' ORDER BY e.enumsortorder)"
	    " FROM pg_catalog.pg_enum e WHERE e.enumtypid OPERATOR(pg_catalog.=) t.oid"
	    " AND (%s IS NULL OR pg_catalog.strpos(pg_catalog.concat(',', %s), pg_catalog.concat(',', e.oid, ':')) OPERATOR(pg_catalog.>) 0))"
	    " ELSE pg_catalog.hashtextextended(ROW (t.typinput, t.typoutput, t.typnotnull, t.typbasetype, t.typtypmod,"
	    " ARRAY(SELECT k.conbin::pg_catalog.text FROM pg_catalog.pg_constraint k WHERE k.contypid OPERATOR(pg_catalog.=) t.oid ORDER BY k.oid))::pg_catalog.text, 0)::pg_catalog.text END"
	    " FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) %s) END)",
	    classid, objid, classid, objid, classid, before, before, objid);
}

static Datum
dependency_array(const List *oids)
{
	Datum *elements = palloc(sizeof(Datum) * (list_length(oids) + 1));
	ListCell *lc;

	foreach (lc, oids)
		elements[foreach_current_index(lc)] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(
	    construct_array(elements, list_length(oids), OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* Users' functions whose hash value in the catalog cache is one of these. */
static List *
dependency_of_hashes(const List *hashes)
{
	List *functions = NIL;

	if (hashes == NIL)
		return NIL;
	sb_sql_run("SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.>=) 16384",
	           0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;
		Oid oid = DatumGetObjectId(
		    SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull));

		if (list_member_oid(hashes, GetSysCacheHashValue1(PROCOID, ObjectIdGetDatum(oid))))
			functions = lappend_oid(functions, oid);
	}
	SPI_freetuptable(SPI_tuptable);
	return functions;
}

void
sb_dependency_record(int32 pipeline, Oid view, const List *functions, const List *types,
                     const List *hashes)
{
	Oid argtypes[] = {INT4OID, OIDOID, OIDARRAYOID, OIDARRAYOID};
	Datum values[] = {Int32GetDatum(pipeline), ObjectIdGetDatum(view),
	                  dependency_array(
	                      list_concat_unique_oid(dependency_of_hashes(hashes), functions)),
	                  dependency_array(types)};

	if (!sb_catalog_has("dependency"))
		return;
	sb_sql_run(
	    psprintf(
	        "WITH RECURSIVE needed AS ("
	        " (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS classid, f AS objid FROM pg_catalog.unnest($3) f"
	        " UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t FROM pg_catalog.unnest($4) t"
	        " UNION SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r"
	        " ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid"
	        " WHERE r.ev_class OPERATOR(pg_catalog.=) $2)"
	        " UNION SELECT d.refclassid, d.refobjid FROM needed n CROSS JOIN LATERAL ("
	        " SELECT a.refclassid, a.refobjid FROM pg_catalog.pg_depend a"
	        " WHERE a.classid OPERATOR(pg_catalog.=) n.classid AND a.objid OPERATOR(pg_catalog.=) n.objid"
	        /* the constraints of a domain depend on it */
	        " UNION ALL SELECT a.refclassid, a.refobjid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend a"
	        " ON a.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND a.objid OPERATOR(pg_catalog.=) k.oid"
	        " WHERE n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND k.contypid OPERATOR(pg_catalog.=) n.objid) d"
	        " WHERE n.classid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', 'pg_catalog.pg_type']::pg_catalog.regclass[]))"
	        " INSERT INTO beam.dependency (pipeline, classid, objid, name, content)"
	        " SELECT $1, n.classid, n.objid, pg_catalog.pg_describe_object(n.classid, n.objid, 0), %s FROM needed n"
	        " WHERE n.objid OPERATOR(pg_catalog.>=) 16384 AND n.classid OPERATOR(pg_catalog.=) ANY"
	        " (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', 'pg_catalog.pg_type']::pg_catalog.regclass[])"
	        /* our own are the next release's business */
	        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) e.refobjid"
	        " WHERE e.classid OPERATOR(pg_catalog.=) n.classid AND e.objid OPERATOR(pg_catalog.=) n.objid AND e.deptype OPERATOR(pg_catalog.=) 'e'"
	        " AND e.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass AND x.extname OPERATOR(pg_catalog.=) 'stream_beam')",
	        dependency_content("n.classid", "n.objid", "NULL::pg_catalog.text")),
	    lengthof(argtypes), argtypes, values, NULL, SPI_OK_INSERT);
}

bool
sb_dependency_check(void)
{
	if (!sb_catalog_has("dependency"))
		return false;
	return sb_sql_run(
	           psprintf(
	               "WITH seen AS (SELECT d.pipeline, d.classid, d.objid, d.name, d.content, %s AS now"
	               " FROM beam.dependency d),"
	               " changed AS (SELECT s.pipeline, s.classid, s.objid, COALESCE(s.now, '') AS now,"
	               " pg_catalog.concat(s.name, CASE WHEN s.now IS NULL THEN ' has been dropped' ELSE ' has been replaced or altered' END) AS message"
	               " FROM seen s WHERE COALESCE(s.content, '') OPERATOR(pg_catalog.<>) COALESCE(s.now, '')),"
	               " locked AS (SELECT p.id FROM beam.pipeline p WHERE p.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT c.pipeline FROM changed c))"
	               " ORDER BY p.name, p.version FOR NO KEY UPDATE OF p SKIP LOCKED),"
	               " why AS (SELECT c.pipeline, pg_catalog.min(c.message) AS message FROM changed c, locked l WHERE l.id OPERATOR(pg_catalog.=) c.pipeline GROUP BY c.pipeline),"
	               " marked AS (UPDATE beam.pipeline p SET revision = p.revision OPERATOR(pg_catalog.+) 1,"
	               " state = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'building' AND p.state OPERATOR(pg_catalog.=) 'failed' THEN 'running'"
	               " WHEN p.stage OPERATOR(pg_catalog.<>) 'current' OR p.state OPERATOR(pg_catalog.=) 'needs_resync' THEN p.state"
	               " WHEN p.retractable THEN 'needs_resync' ELSE 'failed' END,"
	               " error_code = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'current' THEN '55000' ELSE p.error_code END,"
	               " error_message = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'current' THEN w.message ELSE p.error_message END,"
	               " error_at = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'current' THEN pg_catalog.now() ELSE p.error_at END,"
	               " rebuild = CASE WHEN p.stage OPERATOR(pg_catalog.<>) 'current' OR p.retractable AND p.state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'failed'])"
	               " THEN COALESCE(p.rebuild, w.message) ELSE p.rebuild END"
	               " FROM why w WHERE w.pipeline OPERATOR(pg_catalog.=) p.id RETURNING p.id)"
	               " UPDATE beam.dependency d SET content = c.now FROM changed c, marked m"
	               " WHERE c.pipeline OPERATOR(pg_catalog.=) d.pipeline AND c.classid OPERATOR(pg_catalog.=) d.classid"
	               " AND c.objid OPERATOR(pg_catalog.=) d.objid AND m.id OPERATOR(pg_catalog.=) d.pipeline",
	               dependency_content("d.classid", "d.objid", "d.content")),
	           0, NULL, NULL, NULL, SPI_OK_UPDATE) > 0;
}
