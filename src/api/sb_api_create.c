/*
 * sb_api_create.c: beam.create_pipeline().
 *
 * START OF A PIPELINE. The reader is told to send the source's rows (sb_source_add), then the end
 * of the WAL is taken: every transaction that commits above it comes with its rows. The slot cannot
 * move past it before this transaction has ended (the pin). Writers are not locked out: what they
 * commit until the runner takes the pipeline up is in its history (history/sb_history.h), or, for a
 * pipeline that starts from now, before its time.
 *
 * A downstream pipeline starts under a lock on the result: the rows that this has already are put
 * into its queue.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "api/sb_api.h"
#include "api/sb_creation.h"
#include "base/sb_guc.h"
#include "base/sb_partition.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/sb_definition.h"
#include "catalog/sb_lock.h"
#include "catalog/sb_option.h"
#include "catalog/sb_pipeline_names.h"
#include "catalog/sb_view.h"
#include "commands/extension.h"
#include "commands/view.h"
#include "engine/sb_reduce.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "history/sb_history_part.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/analyze.h"
#include "parser/parse_relation.h"
#include "parser/parser.h"
#include "pgstat.h"
#include "pipeline/sb_source.h"
#include "query/plan/sb_plan.h"
#include "query/sb_query.h"
#include "rewrite/rewriteHandler.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"
#include "version/sb_version.h"

/* Settings of the creating session that the value of an expression can depend on. */
static const char *const recorded_settings[] =
    {"bytea_output",       "DateStyle",     "default_text_search_config",
     "extra_float_digits", "IntervalStyle", "lc_monetary",
     "lc_numeric",         "lc_time",       "search_path",
     "TimeZone",           "xmlbinary",     "xmloption"};

/* ---- the name ---- */

/*
 * Takes the name apart into schema and name. Error where result and batch view cannot be called so,
 * or cannot be in that schema.
 */
static void
create_check_name(SbCreation *creation)
{
	List *names;
	RangeVar *range;

	if (!SplitIdentifierString(pstrdup(creation->name), '.', &names) || names == NIL ||
	    list_length(names) > 2)
		ereport(
		    ERROR,
		    (errcode(ERRCODE_INVALID_NAME), errmsg("invalid pipeline name \"%s\"", creation->name),
		     errhint(
		         "Write name or schema.name; in double quotes where it is no plain identifier: \"my pipeline\".")));
	range = makeRangeVar(list_length(names) == 2 ? linitial(names) : NULL, llast(names), -1);
	if (strlen(range->relname) + strlen(SB_BATCH_SUFFIX) >= NAMEDATALEN)
		ereport(ERROR,
		        (errcode(ERRCODE_NAME_TOO_LONG),
		         errmsg("pipeline name \"%s\" is too long", range->relname),
		         errdetail("It may have %d bytes: its batch view is called like it, with \"%s\" behind.",
		                   (int) (NAMEDATALEN - 1 - strlen(SB_BATCH_SUFFIX)), SB_BATCH_SUFFIX)));
	creation->namespace = RangeVarGetCreationNamespace(range);
	if (isAnyTempNamespace(creation->namespace))
		ereport(ERROR, (errcode(ERRCODE_INVALID_TABLE_DEFINITION),
		                errmsg("a pipeline's result cannot be a temporary table"),
		                errhint("Name a schema: schema.name.")));
	creation->schema = get_namespace_name(creation->namespace);
	if (strcmp(creation->schema, "beam") == 0 || strcmp(creation->schema, "beam_state") == 0)
		ereport(ERROR, (errcode(ERRCODE_RESERVED_NAME),
		                errmsg("a pipeline's result cannot be in schema \"%s\"", creation->schema),
		                errdetail("The schema belongs to stream_beam."),
		                errhint("Name another schema: schema.name.")));
	creation->name = range->relname;
}

/*
 * Error where the name is taken, of a pipeline or of a relation. It stays locked until the end of
 * the transaction.
 */
static void
create_check_free(SbCreation *creation)
{
	char *view = psprintf("%s%s", creation->name, SB_BATCH_SUFFIX);
	const char *taken;
	SbBracket saved;

	/* of two creations of one name the second waits here */
	sb_lock_name(creation->name);
	taken = OidIsValid(get_relname_relid(creation->name, creation->namespace)) ? creation->name
	        : OidIsValid(get_relname_relid(view, creation->namespace))         ? view
	                                                                           : NULL;
	sb_api_enter(&saved);
	if (sb_catalog_find(creation->name))
		ereport(ERROR, (errcode(ERRCODE_DUPLICATE_OBJECT),
		                errmsg("pipeline \"%s\" already exists", creation->name),
		                errhint("Choose another name, or drop it with beam.drop_pipeline().")));
	if (sb_definition_find_restored(creation->name))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_DUPLICATE_OBJECT),
		     errmsg("pipeline \"%s\" already exists", creation->name),
		     errdetail("It was restored from a dump."),
		     errhint(
		         "Set it going with beam.resync_pipeline(), or drop it with beam.drop_pipeline().")));
	sb_api_leave(&saved);
	if (taken)
		ereport(ERROR,
		        (errcode(ERRCODE_DUPLICATE_TABLE), errmsg("relation \"%s\" already exists", taken),
		         errdetail("The pipeline's result table would be called \"%s\", its batch view \"%s\".",
		                   creation->name, view),
		         errhint("Choose another name.")));
}

/*
 * Waits until the reader has its slot. Not with an own transaction id: the slot would wait for this
 * very transaction.
 */
void
sb_creation_await_slot(SbDatabase *db)
{
	TimestampTz deadline =
	    TimestampTzPlusMilliseconds(GetCurrentTimestamp(), sb_guc_start_timeout_ms);

	if (pg_atomic_read_u32(&db->lanes[SB_LANE_MAIN].slot_ready))
		return;
	if (TransactionIdIsValid(GetTopTransactionIdIfAny()))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
		     errmsg(
		         "the workers of this database have not started yet, and cannot finish that while this transaction is open"),
		     errhint("Commit, and call beam.create_pipeline() in a transaction of its own.")));
	sb_database_event(db, SB_EVENT_PROBE);
	ConditionVariablePrepareToSleep(&db->changed);
	while (!pg_atomic_read_u32(&db->lanes[SB_LANE_MAIN].slot_ready))
	{
		long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

		CHECK_FOR_INTERRUPTS();
		if (left <= 0)
			ereport(
			    ERROR,
			    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			     errmsg(
			         "the workers of this database have not started within stream_beam.start_timeout"),
			     errdetail(
			         "A new replication slot waits for all transactions that were running when it was begun."),
			     errhint(
			         "SELECT * FROM beam.check() shows what is missing; look into the server log, and for old transactions in pg_stat_activity.")));
		(void) ConditionVariableTimedSleep(&db->changed, left, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* ---- the query ---- */

/*
 * Positions in the pipeline's query are shown in that query, not in the statement that called us.
 */
static void
create_error_position(void *arg)
{
	int position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(arg);
	}
	errcontext("query of the pipeline");
}

static RawStmt *
create_parse(const char *text)
{
	List *statements = raw_parser(text, RAW_PARSE_DEFAULT);

	if (list_length(statements) != 1 || !IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt))
		ereport(ERROR,
		        (errcode(ERRCODE_SYNTAX_ERROR),
		         errmsg("the query of a pipeline must be one SELECT"),
		         errhint(
		             "See beam.create_pipeline() in the reference for the form of the query.")));
	return linitial_node(RawStmt, statements);
}

static bool
create_is_time(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID || type == DATEOID;
}

/* Is it made of a time, and says of it more than the hour or the weekday? */
static bool
create_grows_with_time(const SbKeyDef *key)
{
	ListCell *lc;

	if (IsA(key->expr, Var) || !(create_is_time(key->type) || key->type == TEXTOID))
		return false;
	foreach (lc, pull_var_clause((Node *) key->expr, 0))
	{
		if (create_is_time(exprType(lfirst(lc))))
			return true;
	}
	return false;
}

/* PostgreSQL cannot know that no row will come for a day that is over; a window can. */
static void
create_tell_endless(const SbPlan *plan)
{
	if (plan->event_time != NULL || plan->maps)
		return;
	for (int i = 0; i < plan->nkeys; i++)
	{
		if (!create_grows_with_time(&plan->keys[i]))
			continue;
		ereport(
		    NOTICE,
		    (errmsg("groups by a function of time never end: the state of each is kept for ever"),
		     errdetail("GROUP BY has a function of a time, and FROM has no window function."),
		     errhint(
		         "Write FROM table, beam.tumble(event_time, '1 day') w GROUP BY w.window_start, w.window_end where groups are over some time after they end.")));
		return;
	}
}

void
sb_creation_plan(SbCreation *creation)
{
	ErrorContextCallback context = {.callback = create_error_position,
	                                .arg = creation->text,
	                                .previous = error_context_stack};
	Query *query;

	error_context_stack = &context;
	creation->raw = create_parse(creation->text);
	sb_plan_add_window_columns(creation->raw);
	query = parse_analyze_fixedparams(copyObject(creation->raw), creation->text, NULL, 0, NULL);
	creation->plan = sb_plan_build_text(query, creation->text);
	/* finds aggregates and types that cannot be run, before anything is made */
	sb_query_close(sb_query_open(creation->plan, CurrentMemoryContext, CurrentMemoryContext,
	                             creation->row.retractable));
	error_context_stack = context.previous;
	create_tell_endless(creation->plan);
}

/* What the options say together, once the source and its mode are known. */
static void
create_check_trigger(const SbCreation *creation)
{
	SbTrigger *trigger = sb_trigger_parse(creation->row.trigger);
	const char *reason = sb_trigger_unsafe_reason(trigger, creation->row.allowed_lateness_us != 0);

	if (reason == NULL || creation->row.allow_unsafe_trigger)
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	     errmsg("trigger %s could lose data: %s", sb_trigger_format(trigger), reason),
	     sb_trigger_unsafe_reason(trigger, false)
	         ? errhint(
	               "Wrap it in beam.repeatedly() where that is meant, or say allow_unsafe_trigger => true.")
	         : errhint(
	               "Give it a late trigger, as in beam.after_watermark(late => beam.after_count(1)), or say allowed_lateness => '0'.")));
}

/* What keeps values of rows in the state of each window; NULL: nothing does. */
static const char *
create_keeps_values(const SbCreation *creation, const SbQuery *query)
{
	const char *aggregate;

	if (sb_plan_merges(creation->plan) && creation->row.retractable)
		return "a session that rows can leave";
	aggregate = sb_query_keeps_values(query);
	return aggregate ? psprintf("aggregate %s", aggregate) : NULL;
}

/* A sketch, for one: its state is small, but no row can be taken out of it. */
static void
create_tell_values_of_sketches(const SbQuery *query)
{
	const char *aggregate = sb_query_cannot_retract(query);

	if (aggregate)
		ereport(
		    NOTICE,
		    (errmsg("no row can be taken out of aggregate %s: all values are kept, and each pane reads all of them",
		            aggregate),
		     errhint(
		         "If rows of the source are only inserted, say source_mode => 'append_only': then its state alone is kept.")));
}

/* What a pipeline keeps of the rows, where users would not think so. */
static void
create_tell_kept_values(const SbCreation *creation)
{
	const SbPlan *plan = creation->plan;
	SbQuery *query =
	    sb_query_open(plan, CurrentMemoryContext, CurrentMemoryContext, creation->row.retractable);
	const char *keeps = create_keeps_values(creation, query);

	create_tell_values_of_sketches(query);
	sb_query_close(query);
	if (creation->row.allowed_lateness_us != SB_LATENESS_NO_LIMIT || plan->maps ||
	    plan->window_kind == SB_WINDOW_GLOBAL)
		return;
	if (keeps)
		ereport(
		    NOTICE,
		    (errmsg("%s keeps the values of its rows, in every window, without end", keeps),
		     errdetail("allowed_lateness has no limit, so no window expires."),
		     errhint(
		         "If old rows no longer change, say how late they may be, as in allowed_lateness => '7 days'.")));
}

/* ---- the source ---- */

/*
 * Without the rows from before, a change of one of them would take out of the result what was never
 * put in.
 */
static void
create_check_from_now(const SbCreation *creation)
{
	if (creation->row.history || !creation->row.retractable ||
	    !sb_partition_has_rows(creation->plan->source))
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
	     errmsg("source table \"%s\" has rows already, whose changes a pipeline that starts from now could not apply",
	            get_rel_name(creation->plan->source)),
	     errhint(
	         "Leave history => true, or, if rows are only ever inserted, say source_mode => 'append_only'.")));
}

/* As the pipeline's owner, whose expression it is. */
static void
create_check_split(const SbCreation *creation)
{
	if (creation->row.watermark_by == NULL)
		return;
	if (creation->plan->event_time == NULL)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("watermark_by means nothing for a pipeline without an event time"),
		                errdetail("The event time is the first argument of a window function.")));
	(void) sb_plan_split(creation->plan, creation->row.watermark_by);
}

static void
create_check_combiner(const SbCreation *creation)
{
	const char *combiner = creation->row.timestamp_combiner;

	if (creation->plan->event_time != NULL ||
	    sb_combiner_of_name(combiner) == SB_COMBINE_END_OF_WINDOW)
		return;
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	     errmsg("timestamp_combiner \"%s\" means nothing for a pipeline without an event time",
	            combiner),
	     errdetail("The event time is the first argument of a window function."),
	     errhint(
	         "Say timestamp_combiner => 'end_of_window', or group by the windows of a window function.")));
}

void
sb_creation_check_source(SbCreation *creation)
{
	const SbSourceKind *kind;
	SbBracket saved;

	creation->row.source = creation->plan->source;
	sb_api_enter(&saved);
	kind = sb_source_find(&creation->row, true);
	sb_api_leave(&saved);
	if (kind->check)
		kind->check(&creation->row, creation->plan);
	sb_version_check_accumulation(&creation->row, creation->plan);
	if (creation->plan->maps)
		sb_options_refuse_panes(&creation->row);
	create_check_combiner(creation);
	create_check_split(creation);
	sb_options_settle(&creation->row);
	create_check_trigger(creation);
	create_tell_kept_values(creation);
}

static void
create_fix_start(SbCreation *creation)
{
	SbBracket saved;

	sb_creation_check_source(creation);
	create_check_from_now(creation);
	(void) sb_pin_until_end();
	sb_api_enter(&saved);
	sb_source_of(&creation->row)->begin(&creation->row);
	sb_api_leave(&saved);
	creation->row.progress.position = sb_pin_until_end();
}

/* ---- the objects ---- */

void
sb_creation_view(SbCreation *creation, char *name)
{
	ViewStmt *statement = makeNode(ViewStmt);
	ObjectAddress address;
	Relation view;

	statement->view = makeRangeVar(pstrdup(creation->schema), name, -1);
	statement->query = creation->raw->stmt;
	statement->withCheckOption = NO_CHECK_OPTION;
	address = DefineView(statement, creation->text, creation->raw->stmt_location,
	                     creation->raw->stmt_len);
	CommandCounterIncrement();
	creation->row.view = address.objectId;
	view = table_open(address.objectId, AccessShareLock);
	creation->row.fingerprint = sb_view_fingerprint(get_view_query(view));
	table_close(view, NoLock);
}

static void
create_result(SbCreation *creation)
{
	SPI_connect();
	creation->row.result =
	    sb_version_make_result(creation->plan, sb_accumulation_of_name(creation->row.accumulation),
	                           creation->namespace, creation->name);
	SPI_finish();
}

void
sb_creation_record_settings(SbPipelineRow *row)
{
	row->settings = palloc(sizeof(char *) * lengthof(recorded_settings) * 2);
	row->nsettings = 0;
	for (int i = 0; i < lengthof(recorded_settings); i++)
	{
		const char *value = GetConfigOption(recorded_settings[i], true, false);

		if (value == NULL)
			continue;
		row->settings[row->nsettings++] = pstrdup(recorded_settings[i]);
		row->settings[row->nsettings++] = pstrdup(value);
	}
}

/*
 * The last step: view, result and position must be there. The runner sees the pipeline when the
 * transaction commits.
 */
static void
create_catalog_rows(SbCreation *creation)
{
	SbPipelineRow *row = &creation->row;
	SbBracket saved;

	row->name = creation->name;
	row->owner = GetUserId();
	sb_creation_record_settings(row);
	row->progress.input_watermark = row->progress.output_watermark = row->progress.max_event_time =
	    SB_TIME_MIN;
	sb_api_enter(&saved);
	row->version = 1;
	sb_catalog_insert(row);
	sb_version_make_state(row, creation->plan, row->history);
	sb_api_leave(&saved);
}

PG_FUNCTION_INFO_V1(stream_beam_create_pipeline);

/* create_pipeline(name, query, ...): the others are options */
PGDLLEXPORT Datum
stream_beam_create_pipeline(PG_FUNCTION_ARGS)
{
	SbCreation creation = {0};
	SbDatabase *db;

	sb_options_refuse_null(fcinfo, "beam.create_pipeline()");
	creation.name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	creation.text = text_to_cstring(PG_GETARG_TEXT_PP(1));
	sb_options_take(fcinfo, SB_CALL_CREATE, &creation.row);

	db = sb_api_require_server();
	create_check_name(&creation);
	create_check_free(&creation);
	sb_creation_plan(&creation);
	sb_creation_await_slot(db);
	create_fix_start(&creation);
	sb_creation_view(&creation, psprintf("%s%s", creation.name, SB_BATCH_SUFFIX));
	create_result(&creation);
	create_catalog_rows(&creation);
	sb_at_commit_tell_runner();
	PG_RETURN_OID(creation.row.result);
}
