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
 * SQL expressions over the object's number: what it consists of, as text, or null: it is gone.
 */
static char *
dependency_function(const char *objid)
{
	return psprintf(
	    "(SELECT pg_catalog.hashtextextended("
	    "ROW (p.prosrc, p.probin, p.prosqlbody, p.proconfig, p.prolang, p.proisstrict, p.prosecdef, p.prorettype, p.proretset, p.proargtypes,"
	    " p.proargdefaults, (SELECT g FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid OPERATOR(pg_catalog.=) p.oid))::pg_catalog.text, 0)::pg_catalog.text"
	    " FROM pg_catalog.pg_proc p WHERE p.oid OPERATOR(pg_catalog.=) %s)",
	    objid);
}

static char *
dependency_operator(const char *objid)
{
	return psprintf("(SELECT ROW (p.oprcode, p.oprleft, p.oprright, p.oprresult)::pg_catalog.text"
	                " FROM pg_catalog.pg_operator p WHERE p.oid OPERATOR(pg_catalog.=) %s)",
	                objid);
}

/* Of an enum: the values that it had `before`, all where that is null. */
static char *
dependency_type(const char *objid, const char *before)
{
	return psprintf(
	    "(SELECT CASE WHEN"
	    " t.typtype OPERATOR(pg_catalog.=) 'e' THEN (SELECT pg_catalog.string_agg(pg_catalog.concat(e.oid, ':', e.enumlabel, ','), '' ORDER BY e.enumsortorder)"
	    " FROM pg_catalog.pg_enum e WHERE e.enumtypid OPERATOR(pg_catalog.=) t.oid"
	    " AND (%s IS NULL OR pg_catalog.strpos(pg_catalog.concat(',', %s), pg_catalog.concat(',', e.oid, ':')) OPERATOR(pg_catalog.>) 0))"
	    " ELSE pg_catalog.hashtextextended(ROW (t.typinput, t.typoutput, t.typnotnull, t.typbasetype, t.typtypmod,"
	    " ARRAY(SELECT k.conbin::pg_catalog.text FROM pg_catalog.pg_constraint k WHERE k.contypid OPERATOR(pg_catalog.=) t.oid ORDER BY k.oid),"
	    /* a row type's columns: dropped ones are in the bytes, names in what is made of it */
	    " ARRAY(SELECT ROW (a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation) FROM pg_catalog.pg_attribute a"
	    " WHERE a.attrelid OPERATOR(pg_catalog.=) t.typrelid AND a.attnum OPERATOR(pg_catalog.>) 0 ORDER BY a.attnum),"
	    /* how values are compared and hashed */
	    " ARRAY(SELECT ROW (a.amprocnum, a.amproclefttype, a.amprocrighttype, a.amproc) FROM pg_catalog.pg_amproc a"
	    " JOIN pg_catalog.pg_opfamily f ON f.oid OPERATOR(pg_catalog.=) a.amprocfamily"
	    " WHERE f.opfmethod OPERATOR(pg_catalog.=) ANY (ARRAY[403, 405]::pg_catalog.oid[])"
	    " AND t.oid OPERATOR(pg_catalog.>=) 16384 AND a.amproclefttype OPERATOR(pg_catalog.=) t.oid ORDER BY 1))::pg_catalog.text, 0)::pg_catalog.text END"
	    " FROM pg_catalog.pg_type t WHERE t.oid OPERATOR(pg_catalog.=) %s)",
	    before, before, objid);
}

/*
 * Its version as the server's libraries have it now, after a letter: n where it is
 * nondeterministic, so that it says what is equal, else d.
 */
static char *
dependency_collation(const char *objid)
{
	return psprintf(
	    "(SELECT pg_catalog.concat(CASE WHEN o.collisdeterministic THEN 'd ' ELSE 'n ' END,"
	    " CASE WHEN o.collprovider OPERATOR(pg_catalog.=) 'd' THEN (SELECT pg_catalog.pg_database_collation_actual_version(b.oid)"
	    " FROM pg_catalog.pg_database b WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
	    " ELSE pg_catalog.pg_collation_actual_version(o.oid) END)"
	    " FROM pg_catalog.pg_collation o WHERE o.oid OPERATOR(pg_catalog.=) %s)",
	    objid);
}

/* The same with the version that the catalog has: somebody has said that it is that. */
static char *
dependency_collation_known(const char *objid)
{
	return psprintf(
	    "(SELECT pg_catalog.concat(CASE WHEN o.collisdeterministic THEN 'd ' ELSE 'n ' END,"
	    " CASE WHEN o.collprovider OPERATOR(pg_catalog.=) 'd' THEN (SELECT b.datcollversion"
	    " FROM pg_catalog.pg_database b WHERE b.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
	    " ELSE o.collversion END) FROM pg_catalog.pg_collation o WHERE o.oid OPERATOR(pg_catalog.=) %s)",
	    objid);
}

static char *
dependency_content(const char *classid, const char *objid, const char *before)
{
	return psprintf(
	    "(CASE WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass THEN %s"
	    " WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass THEN %s"
	    " WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass THEN %s"
	    " WHEN %s OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass THEN %s END)",
	    classid, dependency_function(objid), classid, dependency_operator(objid), classid,
	    dependency_type(objid, before), classid, dependency_collation(objid));
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

/*
 * SQL: what the object (n.classid, n.objid) is made of, rows (refclassid, refobjid). Not all of it
 * is in pg_depend.
 */
static const char *const dependency_parts =
    " SELECT a.refclassid, a.refobjid FROM pg_catalog.pg_depend a"
    " WHERE a.classid OPERATOR(pg_catalog.=) n.classid AND a.objid OPERATOR(pg_catalog.=) n.objid"
    /* the constraints of a domain depend on it */
    " UNION ALL SELECT a.refclassid, a.refobjid FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_depend a"
    " ON a.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass AND a.objid OPERATOR(pg_catalog.=) k.oid"
    " WHERE n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND k.contypid OPERATOR(pg_catalog.=) n.objid"
    /* it is the relation of a row type that its columns' types belong to */
    " UNION ALL SELECT c.classid, c.objid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) t.typrelid"
    " CROSS JOIN LATERAL (VALUES ('pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid, a.atttypid),"
    " ('pg_catalog.pg_collation'::pg_catalog.regclass::pg_catalog.oid, a.attcollation)) AS c (classid, objid)"
    " WHERE n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid OPERATOR(pg_catalog.=) n.objid"
    " AND a.attnum OPERATOR(pg_catalog.>) 0 AND c.objid OPERATOR(pg_catalog.<>) 0"
    /* users' functions that compare and hash values, by a range's own operator class too */
    " UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, a.amproc FROM pg_catalog.pg_amproc a"
    " JOIN pg_catalog.pg_opfamily f ON f.oid OPERATOR(pg_catalog.=) a.amprocfamily"
    " WHERE n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass"
    " AND a.amproc OPERATOR(pg_catalog.>=) 16384 AND f.opfmethod OPERATOR(pg_catalog.=) ANY (ARRAY[403, 405]::pg_catalog.oid[])"
    " AND (a.amproclefttype OPERATOR(pg_catalog.=) n.objid OR a.amprocfamily OPERATOR(pg_catalog.=) ANY (SELECT o.opcfamily FROM pg_catalog.pg_range r"
    " JOIN pg_catalog.pg_opclass o ON o.oid OPERATOR(pg_catalog.=) r.rngsubopc WHERE r.rngtypid OPERATOR(pg_catalog.=) n.objid))"
    " UNION ALL SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass, p.amopopr FROM pg_catalog.pg_amop p"
    " WHERE n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass"
    " AND p.amoplefttype OPERATOR(pg_catalog.=) n.objid AND p.amopopr OPERATOR(pg_catalog.>=) 16384"
    /* is it equal? */
    " AND (p.amopmethod OPERATOR(pg_catalog.=) 403 AND p.amopstrategy OPERATOR(pg_catalog.=) 3 OR p.amopmethod OPERATOR(pg_catalog.=) 405)"
    /* ... and that sort as an operator says */
    " UNION ALL SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass, a.amproc FROM pg_catalog.pg_amop p"
    " JOIN pg_catalog.pg_amproc a ON a.amprocfamily OPERATOR(pg_catalog.=) p.amopfamily"
    " WHERE n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass AND p.amopopr OPERATOR(pg_catalog.=) n.objid"
    " AND a.amproc OPERATOR(pg_catalog.>=) 16384 AND p.amopmethod OPERATOR(pg_catalog.=) ANY (ARRAY[403, 405]::pg_catalog.oid[])";

void
sb_dependency_record(int32 pipeline, Oid view, const SbPlanObjects *objects)
{
	Oid argtypes[] = {INT4OID, OIDOID, OIDARRAYOID, OIDARRAYOID, OIDARRAYOID};
	Datum values[] = {Int32GetDatum(pipeline), ObjectIdGetDatum(view),
	                  dependency_array(list_concat_unique_oid(dependency_of_hashes(objects->hashes),
	                                                          objects->functions)),
	                  dependency_array(objects->types), dependency_array(objects->collations)};

	if (!sb_catalog_has("dependency"))
		return;
	sb_sql_run(
	    psprintf(
	        "WITH RECURSIVE needed AS ("
	        " (SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid AS classid, f AS objid FROM pg_catalog.unnest($3) f"
	        " UNION SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t FROM pg_catalog.unnest($4) t"
	        " UNION SELECT 'pg_catalog.pg_collation'::pg_catalog.regclass, o FROM pg_catalog.unnest($5) o"
	        " UNION SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r"
	        " ON d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid OPERATOR(pg_catalog.=) r.oid"
	        " WHERE r.ev_class OPERATOR(pg_catalog.=) $2)"
	        " UNION SELECT d.refclassid, d.refobjid FROM needed n CROSS JOIN LATERAL (%s) d"
	        " WHERE n.classid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', 'pg_catalog.pg_type', 'pg_catalog.pg_collation']::pg_catalog.regclass[])),"
	        " found AS (SELECT n.classid, n.objid, %s AS content FROM needed n"
	        " WHERE n.classid OPERATOR(pg_catalog.=) ANY (ARRAY['pg_catalog.pg_proc', 'pg_catalog.pg_operator', 'pg_catalog.pg_type', 'pg_catalog.pg_collation']::pg_catalog.regclass[])"
	        " AND (n.objid OPERATOR(pg_catalog.>=) 16384 OR n.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass)"
	        /* our own are the next release's business */
	        " AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e JOIN pg_catalog.pg_extension x ON x.oid OPERATOR(pg_catalog.=) e.refobjid"
	        " WHERE e.classid OPERATOR(pg_catalog.=) n.classid AND e.objid OPERATOR(pg_catalog.=) n.objid AND e.deptype OPERATOR(pg_catalog.=) 'e'"
	        " AND e.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_extension'::pg_catalog.regclass AND x.extname OPERATOR(pg_catalog.=) 'stream_beam'))"
	        " INSERT INTO beam.dependency (pipeline, classid, objid, name, content)"
	        " SELECT $1, f.classid, f.objid, CASE WHEN f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass"
	        " AND f.objid OPERATOR(pg_catalog.=) 100"
	        " THEN 'the default collation of the database' ELSE pg_catalog.pg_describe_object(f.classid, f.objid, 0) END, f.content FROM found f"
	        /* those of C and the like never change */
	        " WHERE NOT (f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass"
	        " AND f.content OPERATOR(pg_catalog.=) 'd ')"
	        /* says that all is recorded, be it nothing */
	        " UNION ALL SELECT $1, 'pg_catalog.pg_class'::pg_catalog.regclass, $2, 'the batch view', ''",
	        dependency_parts, dependency_content("n.classid", "n.objid", "NULL::pg_catalog.text")),
	    lengthof(argtypes), argtypes, values, NULL, SPI_OK_INSERT);
}

List *
sb_dependency_unrecorded(void)
{
	MemoryContext context = CurrentMemoryContext;
	List *pipelines = NIL;
	MemoryContext old;

	if (!sb_catalog_has("dependency"))
		return NIL;
	sb_sql_run("SELECT p.id FROM beam.pipeline p WHERE NOT EXISTS"
	           " (SELECT FROM beam.dependency d WHERE d.pipeline OPERATOR(pg_catalog.=) p.id)",
	           0, NULL, NULL, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool isnull;

		pipelines =
		    lappend_int(pipelines, DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
		                                                       SPI_tuptable->tupdesc, 1, &isnull)));
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	return pipelines;
}

/*
 * Another version of a collation that says only what is greater stops nobody: it is told
 * (sb_dependency_stale()), until somebody says that it is right, which is remembered here.
 */
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
	               " s.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass"
	               " AND COALESCE(s.now, '') OPERATOR(pg_catalog.~~) 'd %%' AS only_order,"
	               " pg_catalog.concat(s.name, CASE WHEN s.now IS NULL THEN ' has been dropped'"
	               " WHEN s.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass"
	               " THEN pg_catalog.concat(' has version ', pg_catalog.substr(s.now, 3), ', and had ', pg_catalog.substr(s.content, 3))"
	               " ELSE ' has been replaced or altered' END) AS message"
	               " FROM seen s WHERE COALESCE(s.content, '') OPERATOR(pg_catalog.<>) COALESCE(s.now, '')),"
	               " locked AS (SELECT p.id FROM beam.pipeline p WHERE p.id OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT c.pipeline FROM changed c"
	               " WHERE NOT c.only_order OR c.now OPERATOR(pg_catalog.=) %s))"
	               " ORDER BY p.name, p.version FOR NO KEY UPDATE OF p SKIP LOCKED),"
	               " why AS (SELECT c.pipeline, pg_catalog.min(c.message) AS message FROM changed c, locked l"
	               " WHERE l.id OPERATOR(pg_catalog.=) c.pipeline AND NOT c.only_order GROUP BY c.pipeline),"
	               " marked AS (UPDATE beam.pipeline p SET revision = p.revision OPERATOR(pg_catalog.+) 1,"
	               " state = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'building' AND p.state OPERATOR(pg_catalog.=) 'failed' THEN 'running'"
	               " WHEN p.stage OPERATOR(pg_catalog.<>) 'current' OR p.state OPERATOR(pg_catalog.=) 'needs_resync' THEN p.state"
	               " WHEN p.retractable THEN 'needs_resync' ELSE 'failed' END,"
	               " error_code = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'current' THEN '55000' ELSE p.error_code END,"
	               " error_message = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'current' THEN w.message ELSE p.error_message END,"
	               " error_at = CASE WHEN p.stage OPERATOR(pg_catalog.=) 'current' THEN pg_catalog.now() ELSE p.error_at END,"
	               " rebuild = CASE WHEN p.stage OPERATOR(pg_catalog.<>) 'current' OR p.retractable AND p.state OPERATOR(pg_catalog.=) ANY (ARRAY['running', 'failed'])"
	               " THEN COALESCE(p.rebuild, w.message) ELSE p.rebuild END"
	               " FROM why w WHERE w.pipeline OPERATOR(pg_catalog.=) p.id)"
	               " UPDATE beam.dependency d SET content = c.now FROM changed c, locked l"
	               " WHERE c.pipeline OPERATOR(pg_catalog.=) d.pipeline AND c.classid OPERATOR(pg_catalog.=) d.classid"
	               " AND c.objid OPERATOR(pg_catalog.=) d.objid AND l.id OPERATOR(pg_catalog.=) d.pipeline"
	               " AND (NOT c.only_order OR c.now OPERATOR(pg_catalog.=) %s)",
	               dependency_content("d.classid", "d.objid", "d.content"),
	               dependency_collation_known("c.objid"), dependency_collation_known("c.objid")),
	           0, NULL, NULL, NULL, SPI_OK_UPDATE) > 0;
}

List *
sb_dependency_stale(int32 pipeline)
{
	MemoryContext context = CurrentMemoryContext;
	Oid argtypes[] = {INT4OID};
	Datum values[] = {Int32GetDatum(pipeline)};
	List *stale = NIL;
	MemoryContext old;

	if (!sb_catalog_has("dependency"))
		return NIL;
	sb_sql_run(
	    psprintf(
	        "SELECT p.name, p.owner, s.name, pg_catalog.substr(s.content, 3), pg_catalog.substr(s.now, 3) FROM (SELECT d.*, %s AS now, %s AS known"
	        " FROM beam.dependency d WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_collation'::pg_catalog.regclass"
	        " AND ($1 OPERATOR(pg_catalog.=) 0 OR d.pipeline OPERATOR(pg_catalog.=) $1)) s JOIN beam.pipeline p ON p.id OPERATOR(pg_catalog.=) s.pipeline"
	        " WHERE s.now OPERATOR(pg_catalog.~~) 'd %%' AND s.content OPERATOR(pg_catalog.<>) s.now AND s.known OPERATOR(pg_catalog.<>) s.now"
	        " AND p.stage OPERATOR(pg_catalog.=) 'current' ORDER BY 1, 3",
	        dependency_collation("d.objid"), dependency_collation_known("d.objid")),
	    lengthof(argtypes), argtypes, values, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(context);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		TupleDesc desc = SPI_tuptable->tupdesc;
		SbStaleCollation *one = palloc(sizeof(SbStaleCollation));
		bool isnull;

		one->pipeline = SPI_getvalue(tuple, desc, 1);
		one->owner = DatumGetObjectId(SPI_getbinval(tuple, desc, 2, &isnull));
		one->collation = SPI_getvalue(tuple, desc, 3);
		one->version = SPI_getvalue(tuple, desc, 4);
		one->now = SPI_getvalue(tuple, desc, 5);
		stale = lappend(stale, one);
	}
	MemoryContextSwitchTo(old);
	SPI_freetuptable(SPI_tuptable);
	return stale;
}
