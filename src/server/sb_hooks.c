/*
 * sb_hooks.c: what stream_beam does in the backends of others.
 *
 * Four things: a commit wakes a sleeping reader; the end of a transaction that changed pipelines,
 * rights or the extension tells the workers; a command that needs a database for itself (DROP
 * DATABASE and its like) first has our workers leave it; commands that move rows of partitions
 * leave a note in the WAL (sb_hooks_partition.c).
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "access/xact.h"
#include "base/sb_bracket.h"
#include "base/sb_compat.h"
#include "base/sb_partition.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_amproc.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/sb_dependency.h"
#include "catalog/sb_pipeline_row.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "server/sb_hooks.h"
#include "server/sb_hooks_partition.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "worker/sb_at_commit.h"

/* How long a DROP DATABASE waits for our workers to leave; they answer an interrupt at once. */
#define SB_LEAVE_TIMEOUT_MS 10000

static object_access_hook_type previous_object_access = NULL;
static ProcessUtility_hook_type previous_utility = NULL;

/* What the end of this transaction has to do, beside sb_at_commit.h; cleared there. */
static struct
{
	/*
	 * What roles may do, or what a pipeline is made of: told when all is over, since other
	 * processes hear of the change in their caches only after the commit callbacks.
	 */
	bool catalog_changed; /* in this database */
	bool roles_changed;   /* in every database */
	/* what queries may compute with: it is looked at when the statement is done */
	bool objects_touched;
	/* in TopMemoryContext; several: each in a savepoint that was rolled back */
	List *blocked_dbids;
	Oid new_dbid; /* made by it: it may be a copy of one that has pipelines */
} transaction;

/*
 * Whatever the end, the databases that this transaction has kept workers out of are free again. One
 * that it has made is looked into only if it commits.
 */
static void
hooks_end_of_transaction(bool committed)
{
	ListCell *lc;

	sb_at_commit_end(committed);
	foreach (lc, transaction.blocked_dbids)
	{
		SbDatabase *blocked = sb_database_find(lfirst_oid(lc));

		if (blocked)
			sb_database_event(blocked, SB_EVENT_UNBLOCK);
	}
	if (OidIsValid(transaction.new_dbid) && committed)
	{
		SbDatabase *made = sb_database_get(transaction.new_dbid);

		if (made)
			sb_database_event(made, SB_EVENT_PROBE);
	}
	sb_partition_note_attached(InvalidOid);
	list_free(transaction.blocked_dbids);
	transaction.blocked_dbids = NIL;
	transaction.new_dbid = InvalidOid;
	transaction.objects_touched = false;
}

/* After the invalidations are sent and the locks released. */
static void
hooks_transaction_is_over(ResourceReleasePhase phase, bool committed, bool top_level, void *arg)
{
	SbDatabase *db;

	if (!top_level || phase != RESOURCE_RELEASE_AFTER_LOCKS ||
	    !(transaction.catalog_changed || transaction.roles_changed))
		return;
	db = sb_database_find(MyDatabaseId);
	if (committed && transaction.roles_changed)
		sb_tell_all_runners();
	else if (committed && db)
		sb_tell_runner(db);
	transaction.catalog_changed = transaction.roles_changed = false;
}

static void
hooks_wake_reader(void)
{
	SbDatabase *db = sb_database_find(MyDatabaseId);

	if (db && pg_atomic_read_u32(&db->lanes[SB_LANE_MAIN].reader_sleeping))
		sb_wake_worker(db, SB_ROLE_READER);
	if (db && pg_atomic_read_u32(&db->lanes[SB_LANE_LATE].reader_sleeping))
		sb_wake_worker(db, SB_ROLE_LATE_READER);
}

/*
 * What the end of a transaction has to do is known to this process alone: one that has changed
 * pipelines cannot be prepared, since another process might commit it.
 */
static void
hooks_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			sb_at_commit_begin();
			break;
		case XACT_EVENT_COMMIT:
			if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
				hooks_wake_reader();
			hooks_end_of_transaction(true);
			break;
		case XACT_EVENT_ABORT:
			hooks_end_of_transaction(false);
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (sb_at_commit_is_asked())
				ereport(
				    ERROR,
				    (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				     errmsg(
				         "cannot PREPARE a transaction that has changed pipelines or the extension stream_beam")));
			break;
		default:
			break;
	}
}

/* This database where anything in it is watched, else NULL. */
static SbDatabase *
hooks_watching(void)
{
	SbDatabase *db = sb_database_find(MyDatabaseId);

	return db && (db->nsources > 0 || db->nresults > 0) ? db : NULL;
}

/* A result, or a row type that is in state. */
static bool
hooks_is_result(Oid relation)
{
	SbDatabase *db = hooks_watching();

	return db && sb_is_result(db, relation);
}

/* A source, or a part of one, or a result. */
static bool
hooks_is_watched(Oid relation)
{
	SbDatabase *db = hooks_watching();
	ListCell *lc;

	if (db == NULL)
		return false;
	if (sb_is_watched(db, relation))
		return true;
	foreach (lc, sb_partition_ancestors(relation))
	{
		if (sb_is_watched(db, lfirst_oid(lc)))
			return true;
	}
	return false;
}

/* Of a primary key; of another constraint InvalidOid. */
static Oid
hooks_relation_of_key(Oid constraint)
{
	HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Form_pg_constraint form;
	Oid relation = InvalidOid;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	if (form->contype == CONSTRAINT_PRIMARY)
		relation = form->conrelid;
	ReleaseSysCache(tuple);
	return relation;
}

/* The relation that such an access alters, as far as pipelines are concerned, or InvalidOid. */
static Oid
hooks_altered_relation(ObjectAccessType access, Oid class, Oid object, int sub, const void *arg)
{
	if (class == RelationRelationId && (access == OAT_POST_ALTER || access == OAT_DROP))
		return object;
	/* a row type that is in state gets another column */
	if (class == RelationRelationId && access == OAT_POST_CREATE && sub != 0)
		return object;
	/* by a primary key a result's rows may be known */
	if (class == ConstraintRelationId && access == OAT_DROP)
		return hooks_relation_of_key(object);
	/* a table gets another partition, or loses one: it is the parent that matters */
	if (class == InheritsRelationId && access == OAT_POST_ALTER)
		return ((const ObjectAccessPostAlter *) arg)->auxiliary_id;
	return InvalidOid;
}

/*
 * A collation, or the database's default one, may have been given another version. Here initdb's
 * are as good as users'.
 */
static bool
hooks_touches_collation(ObjectAccessType access, Oid class, Oid object)
{
	return (class == CollationRelationId && access != OAT_POST_CREATE) ||
	       (class == DatabaseRelationId && object == MyDatabaseId && access == OAT_POST_ALTER);
}

/*
 * Something that a query may compute with is replaced, altered or dropped. A function that is only
 * being made is not to be seen yet.
 */
static bool
hooks_touches_query(ObjectAccessType access, Oid class, Oid object, int sub)
{
	if (hooks_watching() == NULL)
		return false;
	if (hooks_touches_collation(access, class, object))
		return true;
	if (object < FirstNormalObjectId)
		return false;
	/* a row type, which a table has too, gets another column, or has it altered or dropped */
	if (class == RelationRelationId)
		return sub > 0;
	/* how values of a type are compared */
	if (class == AccessMethodProcedureRelationId)
		return true;
	if (access == OAT_POST_CREATE)
		return class == ProcedureRelationId &&
		       SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(object));
	/* a type goes with every table; one that is used goes with the batch view */
	return ((class == ProcedureRelationId || class == OperatorRelationId) &&
	        (access == OAT_POST_ALTER || access == OAT_DROP)) ||
	       (class == TypeRelationId && access == OAT_POST_ALTER);
}

/* The constraint is one of a result, or of a domain, which a result may have. */
static bool
hooks_constrains_result(Oid constraint)
{
	HeapTuple tuple = SearchSysCache1(CONSTROID, ObjectIdGetDatum(constraint));
	Form_pg_constraint form;
	bool does;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_constraint) GETSTRUCT(tuple);
	does = OidIsValid(form->contypid) ||
	       (OidIsValid(form->conrelid) && hooks_is_result(form->conrelid));
	ReleaseSysCache(tuple);
	return does;
}

/* A function for triggers that is replaced. */
static bool
hooks_is_trigger_function(Oid function)
{
	return get_func_rettype(function) == TRIGGEROID;
}

/*
 * May a result take from now on what it has refused? Groups that have failed for it are tried
 * again. Which table a trigger is of is not looked for.
 */
static bool
hooks_may_mend(ObjectAccessType access, Oid class, Oid object)
{
	if (hooks_watching() == NULL)
		return false;
	if (class == ConstraintRelationId)
		return access == OAT_DROP && hooks_constrains_result(object);
	if (class == TriggerRelationId)
		return access == OAT_DROP || access == OAT_POST_ALTER;
	return class == ProcedureRelationId && access == OAT_POST_CREATE &&
	       SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(object)) &&
	       hooks_is_trigger_function(object);
}

/*
 * What DDL does to objects comes through here. What it means for pipelines is only noted, and the
 * runner looks after the commit; moves of partitions leave their note in the WAL now.
 */
static void
hooks_object_access(ObjectAccessType access, Oid class, Oid object, int sub, void *arg)
{
	if (previous_object_access)
		previous_object_access(access, class, object, sub, arg);
	if (access == OAT_DROP && sb_registry && class == ExtensionRelationId &&
	    object == get_extension_oid("stream_beam", true))
	{
		sb_at_commit_probe();
	}
	if (sb_registry)
	{
		Oid altered = hooks_altered_relation(access, class, object, sub, arg);

		/*
		 * a source that is altered: the runner looks whether its pipelines can go on; another
		 * column of it is nothing to them
		 */
		if (OidIsValid(altered) &&
		    (access == OAT_POST_CREATE ? hooks_is_result(altered) : hooks_is_watched(altered)))
		{
			sb_at_commit_tell_runner();
			transaction.catalog_changed = true;
			if (class == InheritsRelationId)
				sb_partition_note_attached(object);
		}
		if (hooks_may_mend(access, class, object))
			transaction.catalog_changed = true;
		if (hooks_touches_query(access, class, object, sub))
			transaction.catalog_changed = transaction.objects_touched = true;
		sb_partition_object_access(access, class, object, sub, arg);
	}
}

/* The database that a command needs for itself, or InvalidOid. */
static Oid
hooks_exclusive_database(Node *statement)
{
	const char *name = NULL;
	Oid dbid;

	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			name = ((DropdbStmt *) statement)->dbname;
			break;
		case T_RenameStmt:
			if (((RenameStmt *) statement)->renameType == OBJECT_DATABASE)
				name = ((RenameStmt *) statement)->subname;
			break;
		case T_AlterDatabaseStmt:
		{
			ListCell *lc;

			foreach (lc, ((AlterDatabaseStmt *) statement)->options)
			{
				if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
					name = ((AlterDatabaseStmt *) statement)->dbname;
			}
			break;
		}
		case T_CreatedbStmt:
		{
			ListCell *lc;

			foreach (lc, ((CreatedbStmt *) statement)->options)
			{
				DefElem *option = lfirst_node(DefElem, lc);

				if (strcmp(option->defname, "template") == 0 && option->arg)
					name = defGetString(option);
			}
			break;
		}
		default:
			break;
	}
	if (name == NULL)
		return InvalidOid;
	dbid = get_database_oid(name, true);
	/* who may not run the command shall not stop the workers with it */
	if (!OidIsValid(dbid) || dbid == MyDatabaseId || !sb_database_ownercheck(dbid, GetUserId()))
		return InvalidOid;
	return dbid;
}

/*
 * Has our workers leave a database, and keeps them out until this transaction ends. Others in the
 * command's way are left to the command.
 */
static void
hooks_clear_database(Oid dbid)
{
	SbDatabase *db = sb_database_find(dbid);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), SB_LEAVE_TIMEOUT_MS);
	MemoryContext old;

	if (db == NULL)
		return;
	old = MemoryContextSwitchTo(TopMemoryContext);
	transaction.blocked_dbids = lappend_oid(transaction.blocked_dbids, dbid);
	MemoryContextSwitchTo(old);
	sb_database_event(db, SB_EVENT_BLOCK);
	ConditionVariablePrepareToSleep(&db->changed);
	while (!sb_database_is_left(db))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		/* the command then says itself who is in its way */
		if (left <= 0 || ConditionVariableTimedSleep(&db->changed, left, PG_WAIT_EXTENSION))
			break;
	}
	ConditionVariableCancelSleep();
}

/* Row-level security is switched on or off, which no object access tells. */
static bool
hooks_secures_rows(const AlterTableStmt *statement)
{
	ListCell *lc;

	foreach (lc, statement->cmds)
	{
		switch (lfirst_node(AlterTableCmd, lc)->subtype)
		{
			case AT_EnableRowSecurity:
			case AT_DisableRowSecurity:
			case AT_ForceRowSecurity:
			case AT_NoForceRowSecurity:
				return true;
			default:
				break;
		}
	}
	return false;
}

/*
 * A right that may have been taken from an owner: the runner looks whether its pipelines may go on.
 */
static void
hooks_note_rights(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_GrantStmt:
		case T_DropOwnedStmt:
			transaction.catalog_changed = true;
			break;
		case T_GrantRoleStmt:
		case T_AlterRoleStmt:
			transaction.roles_changed = true;
			break;
		case T_AlterTableStmt:
			transaction.catalog_changed |= hooks_secures_rows((AlterTableStmt *) statement);
			break;
		default:
			break;
	}
}

static bool
hooks_gives_away(const Node *statement)
{
	ListCell *lc;

	if (IsA(statement, ReassignOwnedStmt))
		return true;
	if (!IsA(statement, AlterTableStmt))
		return false;
	foreach (lc, ((const AlterTableStmt *) statement)->cmds)
	{
		if (lfirst_node(AlterTableCmd, lc)->subtype == AT_ChangeOwner)
			return true;
	}
	return false;
}

/* With SPI, in the bracket of the extension's owner, and what the statement has done in sight. */
static void
hooks_elevated(void (*run)(void))
{
	SbBracket saved;

	sb_bracket_enter_extension(&saved);
	CommandCounterIncrement();
	SPI_connect();
	PushActiveSnapshot(GetTransactionSnapshot());
	run();
	PopActiveSnapshot();
	SPI_finish();
	sb_bracket_leave(&saved);
}

/*
 * A pipeline belongs to whom its result table belongs to, from the statement on that gives it away.
 */
static void
hooks_follow_owners(const Node *statement)
{
	if (sb_registry == NULL || !hooks_gives_away(statement) ||
	    !OidIsValid(get_extension_oid("stream_beam", true)))
		return;
	sb_at_commit_tell_runner();
	hooks_elevated(sb_catalog_follow_owners);
}

static void
hooks_check_dependencies(void)
{
	if (sb_dependency_check())
		sb_at_commit_tell_runner();
}

/*
 * Pipelines whose query computes with what the statement has replaced, altered or dropped stand
 * still from its commit on. Of domains and enums no object access tells all.
 */
static void
hooks_look_at_objects(const Node *statement)
{
	if ((IsA(statement, AlterDomainStmt) || IsA(statement, AlterEnumStmt)) && hooks_watching())
		transaction.catalog_changed = transaction.objects_touched = true;
	if (!transaction.objects_touched || IsA(statement, TransactionStmt))
		return;
	transaction.objects_touched = false;
	if (OidIsValid(get_extension_oid("stream_beam", true)))
		hooks_elevated(hooks_check_dependencies);
}

/*
 * Workers leave a database before the command that needs it for itself; what a command has changed
 * of owners, rights and partitions is looked at after it.
 */
static void
hooks_utility(PlannedStmt *statement, const char *text, bool read_only,
              ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
              DestReceiver *receiver, QueryCompletion *completion)
{
	Oid set_logged =
	    sb_registry ? sb_partition_before_set_logged(statement->utilityStmt) : InvalidOid;

	/* it is for the whole transaction, which others have their part in */
	if (IsA(statement->utilityStmt, ConstraintsSetStmt) && sb_bracket_is_of_owner())
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
		                errmsg("cannot execute SET CONSTRAINTS within a pipeline")));
	if (sb_registry && context == PROCESS_UTILITY_TOPLEVEL)
	{
		Oid dbid = hooks_exclusive_database(statement->utilityStmt);

		if (OidIsValid(dbid))
			hooks_clear_database(dbid);
	}
	if (previous_utility)
		previous_utility(statement, text, read_only, context, params, environment, receiver,
		                 completion);
	else
		standard_ProcessUtility(statement, text, read_only, context, params, environment, receiver,
		                        completion);
	if (sb_registry && IsA(statement->utilityStmt, CreatedbStmt))
		transaction.new_dbid =
		    get_database_oid(((CreatedbStmt *) statement->utilityStmt)->dbname, true);
	hooks_follow_owners(statement->utilityStmt);
	/* one that has failed may leave it to a ROLLBACK */
	if (sb_partition_is_attached() && OidIsValid(get_extension_oid("stream_beam", true)))
		hooks_elevated(sb_partition_warn_attached);
	if (OidIsValid(set_logged))
		sb_partition_after_set_logged(set_logged);
	if (sb_registry)
	{
		hooks_note_rights(statement->utilityStmt);
		hooks_look_at_objects(statement->utilityStmt);
	}
}

void
sb_hooks_install(void)
{
	RegisterXactCallback(hooks_xact, NULL);
	RegisterResourceReleaseCallback(hooks_transaction_is_over, NULL);
	previous_object_access = object_access_hook;
	object_access_hook = hooks_object_access;
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = hooks_utility;
}
