/*
 * sb_bracket.c: as whom code runs; see sb_bracket.h.
 *
 * STATE. A stack of what has been entered and not left, with the nesting level of the transaction
 * at which it was. It is this, and not a user id, that says whether code is elevated: a superuser
 * may own pipelines, and the extension's owner too. The end of a transaction empties it, and the
 * abort of a subtransaction takes off what was entered in it; role, security context and settings
 * are put back by the server then.
 *
 * THE CHECK. In a build with assertions every call of a function that is neither in pg_catalog nor
 * the extension's goes through fmgr_hook, which sees type input and output, casts, support
 * functions and triggers too; while elevated it is an error. Event triggers, which only superusers
 * make, may run, and what they call. It is decided at the call: what was looked up before an
 * owner's bracket may be called in it, and the other way round.
 */
#include "postgres.h"

#include "access/xact.h"
#include "base/sb_bracket.h"
#include "base/sb_compat.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

typedef enum SbBracketKind
{
	SB_BRACKET_EXTENSION,
	SB_BRACKET_OWNER,
	SB_BRACKET_EVENT_TRIGGER
} SbBracketKind;

typedef struct SbEntered
{
	SbBracketKind kind;
	int level; /* of the transaction */
} SbEntered;

static SbEntered *entered;
static int nentered;
static int max_entered;
static bool is_worker;

bool
sb_bracket_is_elevated(void)
{
	return nentered > 0 ? entered[nentered - 1].kind == SB_BRACKET_EXTENSION : is_worker;
}

bool
sb_bracket_is_of_owner(void)
{
	return nentered > 0 && entered[nentered - 1].kind == SB_BRACKET_OWNER;
}

static void
bracket_push(SbBracketKind kind)
{
	if (nentered == max_entered)
	{
		int max = max_entered ? max_entered * 2 : 32;

		entered = entered ? repalloc(entered, sizeof(SbEntered) * max)
		                  : MemoryContextAlloc(TopMemoryContext, sizeof(SbEntered) * max);
		max_entered = max;
	}
	entered[nentered++] = (SbEntered){.kind = kind, .level = GetCurrentTransactionNestLevel()};
}

static void
bracket_pop(void)
{
	Assert(nentered > 0 && entered[nentered - 1].level == GetCurrentTransactionNestLevel());
	nentered--;
}

static void
bracket_xact(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		nentered = 0;
}

static void
bracket_subxact(SubXactEvent event, SubTransactionId sub, SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	while (nentered > 0 && entered[nentered - 1].level >= GetCurrentTransactionNestLevel())
		nentered--;
}

/* ---- who owns the extension ---- */

static Oid
bracket_schema_owner(const char *schema)
{
	HeapTuple tuple = SearchSysCache1(NAMESPACENAME, CStringGetDatum(schema));
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
		        (errcode(ERRCODE_UNDEFINED_SCHEMA), errmsg("schema \"%s\" does not exist", schema),
		         errhint("Run CREATE EXTENSION stream_beam.")));
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * The extension's script makes beam_state, so that one is its owner's. Who owned beam could put
 * tables of his own in the place of ours.
 */
static Oid
bracket_extension_owner(void)
{
	Oid owner = bracket_schema_owner("beam_state");

	if (bracket_schema_owner("beam") != owner)
		ereport(ERROR,
		        (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		         errmsg(
		             "schema \"beam\" does not belong to the owner of extension \"stream_beam\""),
		         errdetail(
		             "Whoever owns it could put tables of his own in the place of the extension's."),
		         errhint("ALTER SCHEMA beam OWNER TO %s;",
		                 quote_identifier(GetUserNameFromId(owner, false)))));
	return owner;
}

void
sb_bracket_check_schemas(void)
{
	(void) bracket_extension_owner();
}

void
sb_bracket_begin_worker(void)
{
	is_worker = true;
}

/* ---- entering and leaving ---- */

static void
bracket_set(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
	                         false);
}

/* Setting what is set costs the caches that depend on it. */
static void
bracket_set_if_other(const char *name, const char *value)
{
	const char *now = GetConfigOption(name, true, false);

	if (now == NULL || strcmp(now, value) != 0)
		bracket_set(name, value);
}

static void
bracket_enter(SbBracket *saved, SbBracketKind kind, Oid user)
{
	GetUserIdAndSecContext(&saved->user, &saved->context);
	saved->guc_level = NewGUCNestLevel();
	bracket_push(kind);
	SetUserIdAndSecContext(user, saved->context | SECURITY_LOCAL_USERID_CHANGE |
	                                 SECURITY_RESTRICTED_OPERATION);
}

void
sb_bracket_enter_extension(SbBracket *saved)
{
	/* a worker has looked when it began */
	bracket_enter(saved, SB_BRACKET_EXTENSION,
	              is_worker ? GetSessionUserId() : bracket_extension_owner());
	bracket_set_if_other("search_path", "pg_catalog, pg_temp");
}

void
sb_bracket_enter_owner(SbBracket *saved, Oid owner, const SbSettings *settings)
{
	bracket_enter(saved, SB_BRACKET_OWNER, owner);
	if (settings == NULL)
		bracket_set_if_other("search_path", "pg_catalog, pg_temp");
	for (int i = 0; settings && i + 1 < settings->n; i += 2)
		bracket_set_if_other(settings->texts[i], settings->texts[i + 1]);
}

void
sb_bracket_leave(const SbBracket *saved)
{
	/* a function may have called set_config() */
	AtEOXact_GUC(false, saved->guc_level);
	SetUserIdAndSecContext(saved->user, saved->context);
	bracket_pop();
}

/* ---- the check ---- */

#ifdef USE_ASSERT_CHECKING

static needs_fmgr_hook_type previous_needs_hook;
static fmgr_hook_type previous_hook;

static bool
bracket_is_trusted(Oid function)
{
	Oid namespace;

	if (function < FirstUnpinnedObjectId)
		return true;
	namespace = get_func_namespace(function);
	return namespace == PG_CATALOG_NAMESPACE || namespace == get_namespace_oid("beam", true);
}

static bool
bracket_is_sql(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool is_sql =
	    HeapTupleIsValid(tuple) && ((Form_pg_proc) GETSTRUCT(tuple))->prolang == SQLlanguageId;

	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return is_sql;
}

/*
 * Functions that may be called anyway need no look. One that is looked at cannot be inlined, and
 * pipelines are to be planned in this build as in any other: so of functions in SQL it counts where
 * they are looked up. What they call is looked at for itself.
 */
static bool
bracket_needs_hook(Oid function)
{
	if (previous_needs_hook && previous_needs_hook(function))
		return true;
	return !bracket_is_trusted(function) && (sb_bracket_is_elevated() || !bracket_is_sql(function));
}

/*
 * Error where a function that may be a user's is called while elevated. Event triggers are called
 * for our own DDL, as users want it: while one runs, code is not elevated. *arg has the end of the
 * call undo that.
 */
static void
bracket_function_start(Oid function, Datum *arg)
{
	*arg = BoolGetDatum(false);
	if (!sb_bracket_is_elevated() || bracket_is_trusted(function))
		return;
	if (get_func_rettype(function) == EVENT_TRIGGEROID)
	{
		bracket_push(SB_BRACKET_EVENT_TRIGGER);
		*arg = BoolGetDatum(true);
		return;
	}
	/* the tests look for this word in the log: an error alone may be one that is expected there */
	ereport(LOG, (errmsg_internal("TRAP: function %s is called while elevated",
	                              format_procedure_qualified(function)),
	              errbacktrace()));
	ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
	                errmsg_internal("function %s is called while elevated",
	                                format_procedure_qualified(function))));
}

static void
bracket_function(FmgrHookEventType event, FmgrInfo *info, Datum *arg)
{
	/*
	 * the hook before us, and we, keep a word for each call: there is one place for both, and none
	 * uses it but for event triggers
	 */
	if (event == FHET_START)
		bracket_function_start(info->fn_oid, arg);
	else if (event == FHET_END && DatumGetBool(*arg))
		bracket_pop();
	if (previous_hook)
		previous_hook(event, info, arg);
}

static void
bracket_install_check(void)
{
	previous_needs_hook = needs_fmgr_hook;
	needs_fmgr_hook = bracket_needs_hook;
	previous_hook = fmgr_hook;
	fmgr_hook = bracket_function;
}

#endif

void
sb_bracket_install(void)
{
	RegisterXactCallback(bracket_xact, NULL);
	RegisterSubXactCallback(bracket_subxact, NULL);
#ifdef USE_ASSERT_CHECKING
	bracket_install_check();
#endif
}
