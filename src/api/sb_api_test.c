/*
 * sb_api_test.c: beam.test_stream(): a pipeline's query and engine over a scripted input.
 *
 * The pipeline is opened with a sink that stands for its tables: its cells live in memory, its
 * panes become rows of the function's result. Its clocks stand still but for the script: processing
 * time starts at 2000-01-01 00:00 UTC, the watermark at -infinity.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "api/sb_api.h"
#include "base/sb_statement.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "pipeline/sb_pipeline.h"
#include "pipeline/sb_step.h"
#include "query/sb_json.h"
#include "state/sb_cells.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

typedef struct SbScript
{
	ReturnSetInfo *result;
	SbPipeline *pipeline;
	TupleDesc out_desc; /* of the plan's columns */
	TupleDesc key_desc; /* of the group keys */
	int step;
	SbBracket saved;
} SbScript;

static const char *const timings[] = {"EARLY", "ON_TIME", "LATE"};

static Datum
script_record_to_jsonb(TupleDesc desc, const Datum *values, const bool *nulls)
{
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(sb_json_of_row(desc, values, nulls)));
}

/* ---- what is observed ---- */

enum
{
	OUT_STEP,
	OUT_KIND,
	OUT_WINDOW_START,
	OUT_WINDOW_END,
	OUT_TIMING,
	OUT_INDEX,
	OUT_NS_INDEX,
	OUT_IS_FIRST,
	OUT_IS_LAST,
	OUT_TIMESTAMP,
	OUT_ELEMENTS,
	OUT_DATA,
	OUT_REASON,
	OUT_NCOLUMNS
};

static void
script_put(SbScript *script, const char *kind, SbWindow window, Datum *values, bool *nulls)
{
	values[OUT_STEP] = Int32GetDatum(script->step);
	values[OUT_KIND] = CStringGetTextDatum(kind);
	values[OUT_WINDOW_START] = TimestampTzGetDatum(window.start);
	values[OUT_WINDOW_END] = TimestampTzGetDatum(window.end);
	nulls[OUT_STEP] = nulls[OUT_KIND] = nulls[OUT_WINDOW_START] = nulls[OUT_WINDOW_END] = false;
	tuplestore_putvalues(script->result->setResult, script->result->setDesc, values, nulls);
}

/* What a pane writes becomes a row of the function's result; so does a pane that writes nothing. */
static void
script_emit(void *sink, const SbSinkRow *row)
{
	SbScript *script = sink;
	const SbPane *pane = row->pane;
	SbWindow window = row->window;
	Datum out[OUT_NCOLUMNS] = {0};
	bool isnull[OUT_NCOLUMNS];

	if (script->result == NULL)
		return;
	memset(isnull, true, sizeof(isnull));
	if (row->op >= 0)
	{
		out[OUT_TIMING] = CStringGetTextDatum(timings[pane->timing]);
		out[OUT_INDEX] = Int64GetDatum(pane->index);
		out[OUT_NS_INDEX] = Int64GetDatum(pane->nonspeculative_index);
		out[OUT_IS_FIRST] = BoolGetDatum(pane->is_first);
		out[OUT_IS_LAST] = BoolGetDatum(pane->is_last);
		out[OUT_TIMESTAMP] = TimestampTzGetDatum(pane->timestamp);
		out[OUT_ELEMENTS] = Int64GetDatum(pane->elements);
		memset(&isnull[OUT_TIMING], false, sizeof(bool) * (OUT_ELEMENTS - OUT_TIMING + 1));
	}
	if (row->op != 0)
	{
		out[OUT_DATA] = script_record_to_jsonb(script->out_desc, row->values, row->nulls);
		isnull[OUT_DATA] = false;
	}
	/*
	 * a retraction takes back a row of the window it was emitted for, which may since have been
	 * merged into the pane's
	 */
	if (row->op < 0)
		window = sb_plan_row_window(script->pipeline->plan, row->values, window);
	script_put(script,
	           row->op > 0   ? "pane"
	           : row->op < 0 ? "retraction"
	                         : "none",
	           window, out, isnull);
}

static void
script_late(void *sink, const SbLateEvent *event, const char *json)
{
	SbScript *script = sink;
	Datum out[OUT_NCOLUMNS] = {0};
	bool isnull[OUT_NCOLUMNS];

	if (script->result == NULL)
		return;
	memset(isnull, true, sizeof(isnull));
	out[OUT_DATA] = DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
	out[OUT_REASON] = CStringGetTextDatum(event->closed ? "closed" : "expired");
	isnull[OUT_DATA] = isnull[OUT_REASON] = false;
	script_put(script, "late", event->window, out, isnull);
}

/* A group whose pane cannot be computed: its key, and why. */
static void
script_failed(void *sink, const SbFailedGroup *group, const ErrorData *error)
{
	SbScript *script = sink;
	Datum out[OUT_NCOLUMNS] = {0};
	bool isnull[OUT_NCOLUMNS];

	if (script->result == NULL || error == NULL)
		return;
	memset(isnull, true, sizeof(isnull));
	out[OUT_DATA] = DirectFunctionCall1(jsonb_in, CStringGetDatum(group->key));
	out[OUT_REASON] = CStringGetTextDatum(error->message);
	isnull[OUT_DATA] = isnull[OUT_REASON] = false;
	script_put(script, "failed", group->window, out, isnull);
}

static void
script_remove(void *sink, SbWindow window, const Datum *keys, const bool *nulls)
{
	SbScript *script = sink;
	Datum out[OUT_NCOLUMNS] = {0};
	bool isnull[OUT_NCOLUMNS];

	if (script->result == NULL)
		return;
	memset(isnull, true, sizeof(isnull));
	out[OUT_DATA] = script_record_to_jsonb(script->key_desc, keys, nulls);
	isnull[OUT_DATA] = false;
	script_put(script, "removal", window, out, isnull);
}

/* ---- the script ---- */

/* A change of the source, as one out of the ring would be. Tuples that it has not got are NULL. */
static SbMessage
script_message(HeapTuple old, HeapTuple new, Oid source, const SbLayout *layout)
{
	SbMessage message = {.source = source,
	                     .change = {.op = old == NULL   ? SB_CHANGE_INSERT
	                                      : new == NULL ? SB_CHANGE_DELETE
	                                                    : SB_CHANGE_UPDATE,
	                                .layout = layout}};

	if (old)
	{
		message.change.old = old->t_data;
		message.change.old_length = old->t_len;
	}
	if (new)
	{
		message.change.new = new->t_data;
		message.change.new_length = new->t_len;
	}
	return message;
}

/* A row of the query's columns, which leave dropped ones out, in the table's layout. */
static HeapTuple
script_to_layout(HeapTuple tuple, TupleDesc desc, TupleDesc layout)
{
	Datum *values = palloc0(sizeof(Datum) * layout->natts);
	bool *nulls = palloc(sizeof(bool) * layout->natts);
	int from = 0;

	for (int i = 0; i < layout->natts; i++)
	{
		nulls[i] = true;
		if (!TupleDescAttr(layout, i)->attisdropped)
			values[i] = SPI_getbinval(tuple, desc, ++from, &nulls[i]);
	}
	return heap_form_tuple(layout, values, nulls);
}

/* As the source's tuples; old ones have all columns, whatever the table's replica identity. */
static SbLayout *
script_layout(Oid source)
{
	Relation rel = table_open(source, AccessShareLock);
	SbLayout *layout = sb_layout_create(RelationGetDescr(rel));

	table_close(rel, AccessShareLock);
	return layout;
}

/* The rows in a jsonb array, as tuples of the source. Returns how many. */
static uint64
script_tuples(SbScript *script, Datum rows, TupleDesc layout, HeapTuple **tuples)
{
	char *sql = psprintf("SELECT (pg_catalog.jsonb_populate_recordset(NULL::%s, $1)).*",
	                     sb_sql_relation(script->pipeline->plan->source));
	Oid types[] = {JSONBOID};
	MemoryContext context = CurrentMemoryContext;
	uint64 n;

	SPI_connect();
	if (SPI_execute_with_args(sql, 1, types, &rows, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the rows of a step");
	n = SPI_processed;
	MemoryContextSwitchTo(context);
	*tuples = palloc(sizeof(HeapTuple) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		(*tuples)[i] = script_to_layout(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, layout);
	SPI_finish();
	return n;
}

static void
script_bad_step(SbScript *script, const char *what)
{
	ereport(
	    ERROR,
	    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	     errmsg("step %d of the events %s", script->step, what),
	     errhint(
	         "A step is {\"rows\": [...]}, {\"delete\": [...]}, {\"update\": {\"old\": [...], \"new\": [...]}}, {\"watermark\": timestamp}, {\"processing_time\": interval} or \"end\".")));
}

/*
 * One bundle of rows that are new, gone, or changed: NULL: no such tuples. Of an update there are
 * as many of both.
 */
static void
script_bundle(SbScript *script, Datum *old_rows, Datum *new_rows)
{
	SbPipeline *pipeline = script->pipeline;
	Oid source = pipeline->plan->source;
	SbLayout *layout = script_layout(source);
	HeapTuple *old = NULL, *new = NULL;
	uint64 n = 0, nold = 0;
	SbMessage *batch;

	if (old_rows && !pipeline->retractable)
		script_bad_step(script, "changes rows, and the pipeline's rows are never taken back");
	if (old_rows)
		n = nold = script_tuples(script, *old_rows, layout->desc, &old);
	if (new_rows)
		n = script_tuples(script, *new_rows, layout->desc, &new);
	if (old_rows && n != nold)
		script_bad_step(script, "has not as many old as new rows");
	batch = palloc(sizeof(SbMessage) * (n + 1));
	for (uint64 i = 0; i < n; i++)
		batch[i] = script_message(old ? old[i] : NULL, new ? new[i] : NULL, source, layout);
	sb_pipeline_begin_bundle(pipeline, pipeline->clocks.processing_time);
	sb_pipeline_take(pipeline, batch, 0, n);
	sb_pipeline_flush(pipeline);
	sb_pipeline_move_clocks(pipeline, SB_TIME_MIN, SB_TIME_MIN);
}

static Datum
script_array(SbScript *script, JsonbValue *value)
{
	if (value == NULL || value->type != jbvBinary || !JsonContainerIsArray(value->val.binary.data))
		script_bad_step(script, "has rows that are not an array");
	return JsonbPGetDatum(JsonbValueToJsonb(value));
}

/*
 * {"rows": [...]}, {"delete": [...]}, {"update": {"old": [...], "new": [...]}}. False: another
 * step.
 */
static bool
script_rows(SbScript *script, const char *name, JsonbValue *value)
{
	Datum old, new;

	if (strcmp(name, "rows") == 0)
	{
		new = script_array(script, value);
		script_bundle(script, NULL, &new);
	}
	else if (strcmp(name, "delete") == 0)
	{
		old = script_array(script, value);
		script_bundle(script, &old, NULL);
	}
	else if (strcmp(name, "update") == 0)
	{
		JsonbContainer *pair = value->val.binary.data;

		if (value->type != jbvBinary || !JsonContainerIsObject(pair) ||
		    JsonContainerSize(pair) != 2)
			script_bad_step(script, "has an update that is not old and new rows");
		old = script_array(script, getKeyJsonValueFromContainer(pair, "old", 3, NULL));
		new = script_array(script, getKeyJsonValueFromContainer(pair, "new", 3, NULL));
		script_bundle(script, &old, &new);
	}
	else
		return false;
	return true;
}

/* One key, and its value: rows that come in as a bundle, or a clock that moves. */
static void
script_step_object(SbScript *script, Jsonb *step)
{
	SbPipeline *pipeline = script->pipeline;
	JsonbIterator *iterator = JsonbIteratorInit(&step->root);
	JsonbValue key, value;
	char *name;

	if (JB_ROOT_COUNT(step) != 1)
		script_bad_step(script, "does not have exactly one key");
	(void) JsonbIteratorNext(&iterator, &key, true);
	(void) JsonbIteratorNext(&iterator, &key, true);
	(void) JsonbIteratorNext(&iterator, &value, true);
	name = pnstrdup(key.val.string.val, key.val.string.len);
	if (script_rows(script, name, &value))
		return;
	if (strcmp(name, "watermark") != 0 && strcmp(name, "processing_time") != 0)
		script_bad_step(script, psprintf("has the unknown key \"%s\"", name));
	if (value.type != jbvString)
		script_bad_step(script, "has a value that is not a string");
	if (strcmp(name, "watermark") == 0)
	{
		Datum ts = DirectFunctionCall3(timestamptz_in,
		                               CStringGetDatum(
		                                   pnstrdup(value.val.string.val, value.val.string.len)),
		                               ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

		sb_pipeline_move_clocks(pipeline, DatumGetTimestampTz(ts), SB_TIME_MIN);
	}
	else
	{
		Datum interval = DirectFunctionCall3(interval_in,
		                                     CStringGetDatum(pnstrdup(value.val.string.val,
		                                                              value.val.string.len)),
		                                     ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
		Datum ts =
		    DirectFunctionCall2(timestamptz_pl_interval,
		                        TimestampTzGetDatum(pipeline->clocks.processing_time), interval);

		sb_pipeline_move_clocks(pipeline, SB_TIME_MIN, DatumGetTimestampTz(ts));
	}
}

static void
script_error_context(void *arg)
{
	const SbScript *script = arg;

	errcontext("step %d of the events, pipeline \"%s\"", script->step, script->pipeline->row->name);
}

/* The steps in their order. Errors on the way say which step they are of. */
static void
script_run(SbScript *script, Jsonb *events)
{
	ErrorContextCallback callback = {.previous = error_context_stack,
	                                 .callback = script_error_context,
	                                 .arg = script};
	JsonbIterator *iterator = JsonbIteratorInit(&events->root);
	JsonbValue value;
	JsonbIteratorToken token;

	if (!JB_ROOT_IS_ARRAY(events) || JB_ROOT_IS_SCALAR(events))
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("the events are not an array")));
	(void) JsonbIteratorNext(&iterator, &value, false);
	error_context_stack = &callback;
	while ((token = JsonbIteratorNext(&iterator, &value, true)) == WJB_ELEM)
	{
		script->step++;
		if (value.type == jbvString && value.val.string.len == 3 &&
		    memcmp(value.val.string.val, "end", 3) == 0)
			sb_pipeline_move_clocks(script->pipeline, SB_TIME_MAX, SB_TIME_MIN);
		else if (value.type == jbvBinary && JsonContainerIsObject(value.val.binary.data))
			script_step_object(script, JsonbValueToJsonb(&value));
		else
			script_bad_step(script, "is neither an object nor \"end\"");
	}
	error_context_stack = callback.previous;
}

/* ---- the functions ---- */

static void
script_describe(SbScript *script)
{
	const SbPlan *plan = script->pipeline->plan;
	TupleDesc out = CreateTemplateTupleDesc(plan->ncolumns);
	TupleDesc keys = CreateTemplateTupleDesc(plan->nkeys);

	for (int i = 0; i < plan->ncolumns; i++)
	{
		const SbColumn *column = &plan->columns_out[i];

		TupleDescInitEntry(out, i + 1, column->name, column->type, column->typmod, 0);
		if (column->kind == SB_COLUMN_KEY)
			TupleDescInitEntry(keys, column->key + 1, column->name, column->type, column->typmod,
			                   0);
	}
	script->out_desc = out;
	script->key_desc = keys;
}

/* Stands for the pipeline's tables. */
static const SbSinkKind script_sink = {.name = "script",
                                       .wants_panes = true,
                                       .put = script_emit,
                                       .remove = script_remove,
                                       .failed = script_failed,
                                       .late = script_late};

/*
 * Opens the pipeline named by the first argument and runs the script in the second. From here to
 * script_end() all is done as the pipeline's owner and with its settings, whoever calls: what is in
 * a row's types and in the query is the owner's.
 */
static void
script_start(SbScript *script, FunctionCallInfo fcinfo)
{
	char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	SbPipelineRow *row;
	SbBracket saved;

	sb_api_enter(&saved);
	row = sb_api_find(name, saved.user);
	sb_api_leave(&saved);
	script->pipeline = sb_pipeline_open(row, &script_sink, script);
	sb_pipeline_as_owner(script->pipeline, &script->saved);
	script_describe(script);
	script_run(script, PG_GETARG_JSONB_P(1));
}

static void
script_end(SbScript *script)
{
	sb_bracket_leave(&script->saved);
	sb_pipeline_close(script->pipeline);
}

PG_FUNCTION_INFO_V1(stream_beam_test_stream);

PGDLLEXPORT Datum
stream_beam_test_stream(PG_FUNCTION_ARGS)
{
	SbScript script = {.result = (ReturnSetInfo *) fcinfo->resultinfo};

	InitMaterializedSRF(fcinfo, 0);
	script_start(&script, fcinfo);
	script_end(&script);
	return (Datum) 0;
}

static Datum
script_timer(TimestampTz timer, bool *isnull)
{
	*isnull = timer == SB_TIME_MAX;
	return TimestampTzGetDatum(timer);
}

/* A row of the function that shows the cells: times that are not set are null. */
static void
script_put_cell(SbScript *script, ReturnSetInfo *result, SbEntry *entry)
{
	SbPipeline *pipeline = script->pipeline;
	SbCells *cells = sb_step_cells(pipeline);
	SbCell *cell = sb_cells_cell(cells, entry);
	const bool *key_nulls;
	Datum *keys = sb_cells_keys(cells, entry, &key_nulls);
	bool nulls[10] = {false};
	Datum values[] = {TimestampTzGetDatum(cell->window.start),
	                  TimestampTzGetDatum(cell->window.end),
	                  script_record_to_jsonb(script->key_desc, keys, key_nulls),
	                  BoolGetDatum(sb_reduce_closed(cell)),
	                  Int64GetDatum(cell->pane_elements),
	                  script_timer(entry->event_timer, &nulls[5]),
	                  script_timer(entry->processing_timer, &nulls[6]),
	                  script_timer(sb_reduce_hold(&pipeline->strategy, cell), &nulls[7]),
	                  TimestampTzGetDatum(pipeline->clocks.input_watermark),
	                  TimestampTzGetDatum(pipeline->clocks.output_watermark)};

	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(stream_beam_test_stream_state);

PGDLLEXPORT Datum
stream_beam_test_stream_state(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	SbScript script = {.result = NULL};
	SbCells *cells;

	InitMaterializedSRF(fcinfo, 0);
	script_start(&script, fcinfo);
	cells = sb_step_cells(script.pipeline);
	for (SbEntry *entry = cells ? sb_cells_next(cells, NULL) : NULL; entry;
	     entry = sb_cells_next(cells, entry))
		script_put_cell(&script, result, entry);
	script_end(&script);
	return (Datum) 0;
}
