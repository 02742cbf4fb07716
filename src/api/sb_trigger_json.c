/*
 * sb_trigger_json.c: a trigger as JSON, and back.
 *
 *     trigger := name | {name: argument}
 *
 * The names are those of the text form. A trigger without arguments is its name alone; after_count
 * has a number, repeatedly a trigger, after_any, after_all, after_each and or_finally an array of
 * triggers, after_watermark an object of early and late, after_processing_time a string or an
 * object of delay and align. A new trigger is a line in the table of forms.
 *
 * Both ways lead over the text form: the engine's parser checks what JSON says, and what it writes
 * is what is read here.
 */
#include "postgres.h"

#include "engine/sb_trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"

typedef struct SbJsonCursor
{
	StringInfoData text; /* the trigger's text, as far as it has been read */
	StringInfoData path; /* where in the JSON */
	int ntriggers;
} SbJsonCursor;

typedef struct SbJsonForm
{
	const char *name;
	/* Writes the arguments, without parentheses. NULL: there are none. */
	void (*read)(SbJsonCursor *in, JsonbValue *argument);
	bool optional; /* the name may stand alone */
	bool is_list;  /* written as an array whatever the number of arguments */
} SbJsonForm;

static void json_read_watermark(SbJsonCursor *in, JsonbValue *argument);
static void json_read_delay(SbJsonCursor *in, JsonbValue *argument);
static void json_read_count(SbJsonCursor *in, JsonbValue *argument);
static void json_read_list(SbJsonCursor *in, JsonbValue *argument);
static void json_read_two(SbJsonCursor *in, JsonbValue *argument);
static void json_read_trigger(SbJsonCursor *in, JsonbValue *value);

static const SbJsonForm json_forms[] = {
    {"continuous", NULL, true, false},
    {"default_trigger", NULL, true, false},
    {"default", NULL, true, false},
    {"never", NULL, true, false},
    {"after_watermark", json_read_watermark, true, false},
    {"after_processing_time", json_read_delay, false, false},
    {"after_count", json_read_count, false, false},
    {"after_any", json_read_list, false, true},
    {"after_all", json_read_list, false, true},
    {"after_each", json_read_list, false, true},
    {"or_finally", json_read_two, false, true},
    {"repeatedly", json_read_trigger, false, false},
};

static const SbJsonForm *
json_form_named(const char *name, int len)
{
	for (int i = 0; i < lengthof(json_forms); i++)
	{
		if (strlen(json_forms[i].name) == len && memcmp(json_forms[i].name, name, len) == 0)
			return &json_forms[i];
	}
	return NULL;
}

/* ---- errors ---- */

#define SB_HINT_JSON \
	"A trigger is \"continuous\", \"default_trigger\", \"never\", \"after_watermark\", {\"after_watermark\": {\"early\": ..., " \
	"\"late\": ...}}, {\"after_count\": 100}, {\"after_processing_time\": \"5 s\"}, {\"after_processing_time\": {\"delay\": \"5 s\", " \
	"\"align\": \"1 min\"}}, {\"after_any\": [...]}, {\"after_all\": [...]}, {\"after_each\": [...]}, {\"or_finally\": [main, until]} " \
	"or {\"repeatedly\": ...}."

static _Noreturn void
json_fail(const SbJsonCursor *in, const char *problem)
{
	ereport(ERROR,
	        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
	         errmsg("invalid trigger: %s at %s", problem, in->path.data), errhint(SB_HINT_JSON)));
}

/*
 * What PostgreSQL's interval syntax and the engine's parser find wrong, they find in a text that
 * the user has not written.
 */
static void
json_error_context(void *arg)
{
	const SbJsonCursor *in = arg;

	if (ERRCODE_TO_CATEGORY(geterrcode()) == ERRCODE_DATA_EXCEPTION)
		errcode(ERRCODE_INVALID_PARAMETER_VALUE);
	errcontext("trigger in JSON, at %s", in->path.data);
}

/* ---- from JSON ---- */

/* Goes down to a key; the length of the path before is what json_leave() gets. */
static int
json_enter_key(SbJsonCursor *in, const char *name, int len)
{
	int before = in->path.len;

	appendStringInfo(&in->path, ".%.*s", len, name);
	return before;
}

static void
json_leave(SbJsonCursor *in, int before)
{
	in->path.len = before;
	in->path.data[before] = '\0';
}

static bool
json_is_array(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsArray(value->val.binary.data) &&
	       !JsonContainerIsScalar(value->val.binary.data);
}

static bool
json_is_object(const JsonbValue *value)
{
	return value->type == jbvBinary && JsonContainerIsObject(value->val.binary.data);
}

/* Reads the next key and value of an object; false at its end. */
static bool
json_next_pair(JsonbIterator **iterator, JsonbValue *key, JsonbValue *value)
{
	JsonbIteratorToken token;

	do
		token = JsonbIteratorNext(iterator, key, true);
	while (token == WJB_BEGIN_OBJECT);
	if (token != WJB_KEY)
		return false;
	(void) JsonbIteratorNext(iterator, value, true);
	return true;
}

static bool
json_key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
	       memcmp(key->val.string.val, name, strlen(name)) == 0;
}

static void
json_read_count(SbJsonCursor *in, JsonbValue *argument)
{
	char *digits = argument->type == jbvNumeric ? numeric_normalize(argument->val.numeric) : NULL;

	if (digits == NULL || digits[strspn(digits, "0123456789")] != '\0' || strcmp(digits, "0") == 0)
		json_fail(in, "expected a positive whole number");
	if (strlen(digits) > 19 || (strlen(digits) == 19 && strcmp(digits, "9223372036854775807") > 0))
		json_fail(in, "the count is too large");
	appendStringInfoString(&in->text, digits);
}

/* Appended as days and microseconds: whatever way the user has written it, nothing is lost. */
static void
json_read_interval(SbJsonCursor *in, JsonbValue *value)
{
	ErrorContextCallback callback = {.previous = error_context_stack,
	                                 .callback = json_error_context,
	                                 .arg = in};
	const Interval zero = {0};
	Datum interval;

	if (value->type != jbvString)
		json_fail(in, "expected an interval in quotes");
	error_context_stack = &callback;
	interval =
	    DirectFunctionCall3(interval_in,
	                        CStringGetDatum(pnstrdup(value->val.string.val, value->val.string.len)),
	                        ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	error_context_stack = callback.previous;
	if (DatumGetIntervalP(interval)->month != 0)
		json_fail(in, "months and years have no fixed length: they cannot be used");
	if (!DatumGetBool(DirectFunctionCall2(interval_gt, interval, IntervalPGetDatum(&zero))))
		json_fail(in, "expected an interval greater than zero");
	appendStringInfo(&in->text, "'%d days " INT64_FORMAT " us'", DatumGetIntervalP(interval)->day,
	                 DatumGetIntervalP(interval)->time);
}

/* A string, or an object of delay and align. */
static void
json_read_delay(SbJsonCursor *in, JsonbValue *argument)
{
	JsonbIterator *iterator;
	JsonbValue key, value, delay = {.type = jbvNull}, align = {.type = jbvNull};
	int before;

	if (!json_is_object(argument))
	{
		json_read_interval(in, argument);
		return;
	}
	iterator = JsonbIteratorInit(argument->val.binary.data);
	while (json_next_pair(&iterator, &key, &value))
	{
		before = json_enter_key(in, key.val.string.val, key.val.string.len);
		if (json_key_is(&key, "delay"))
			delay = value;
		else if (json_key_is(&key, "align"))
			align = value;
		else
			json_fail(in, "expected \"delay\" or \"align\"");
		json_leave(in, before);
	}
	before = json_enter_key(in, "delay", 5);
	json_read_interval(in, &delay);
	json_leave(in, before);
	if (align.type == jbvNull)
		return;
	before = json_enter_key(in, "align", 5);
	appendStringInfoString(&in->text, ", align => ");
	json_read_interval(in, &align);
	json_leave(in, before);
}

/* Each of the two is a trigger by itself; they come in the order in which they stand. */
static void
json_read_watermark(SbJsonCursor *in, JsonbValue *argument)
{
	JsonbIterator *iterator;
	JsonbValue key, value;
	const char *separator = "";

	if (!json_is_object(argument))
		json_fail(in, "expected an object of \"early\" and \"late\"");
	iterator = JsonbIteratorInit(argument->val.binary.data);
	while (json_next_pair(&iterator, &key, &value))
	{
		int before = json_enter_key(in, key.val.string.val, key.val.string.len);

		if (!json_key_is(&key, "early") && !json_key_is(&key, "late"))
			json_fail(in, "expected \"early\" or \"late\"");
		appendStringInfo(&in->text, "%s%.*s => ", separator, key.val.string.len,
		                 key.val.string.val);
		json_read_trigger(in, &value);
		separator = ", ";
		json_leave(in, before);
	}
}

/* The engine's parser checks how many triggers there may be. */
static void
json_read_list(SbJsonCursor *in, JsonbValue *argument)
{
	JsonbIterator *iterator;
	JsonbValue value;
	int n = 0;

	if (!json_is_array(argument) || JsonContainerSize(argument->val.binary.data) == 0)
		json_fail(in, "expected an array of at least one trigger");
	iterator = JsonbIteratorInit(argument->val.binary.data);
	(void) JsonbIteratorNext(&iterator, &value, false);
	while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
	{
		int before = in->path.len;

		appendStringInfo(&in->path, "[%d]", n);
		appendStringInfoString(&in->text, n++ == 0 ? "" : ", ");
		json_read_trigger(in, &value);
		json_leave(in, before);
	}
}

static void
json_read_two(SbJsonCursor *in, JsonbValue *argument)
{
	if (!json_is_array(argument) || JsonContainerSize(argument->val.binary.data) != 2)
		json_fail(in, "expected an array of two triggers: main and until");
	json_read_list(in, argument);
}

/* A trigger without arguments: its name, or an object whose value is an empty object. */
static void
json_read_nothing(SbJsonCursor *in, JsonbValue *argument)
{
	if (argument &&
	    (!json_is_object(argument) || JsonContainerSize(argument->val.binary.data) != 0))
		json_fail(in, "expected no arguments");
}

/* `argument` is NULL where the name stands alone. */
static void
json_read_named(SbJsonCursor *in, const JsonbValue *name, JsonbValue *argument)
{
	const SbJsonForm *form = json_form_named(name->val.string.val, name->val.string.len);
	int before;

	if (form == NULL)
		json_fail(in,
		          psprintf("unknown trigger \"%.*s\"", name->val.string.len, name->val.string.val));
	if (++in->ntriggers > SB_TRIGGER_MAX_NODES)
		json_fail(in, psprintf("more than %d triggers", SB_TRIGGER_MAX_NODES));
	if (argument == NULL && !form->optional)
		json_fail(in, psprintf("\"%s\" without arguments", form->name));
	appendStringInfo(&in->text, "%s(", form->name);
	before = json_enter_key(in, form->name, strlen(form->name));
	if (form->read == NULL)
		json_read_nothing(in, argument);
	else if (argument)
		form->read(in, argument);
	json_leave(in, before);
	appendStringInfoChar(&in->text, ')');
}

static void
json_read_trigger(SbJsonCursor *in, JsonbValue *value)
{
	JsonbIterator *iterator;
	JsonbValue name, argument;

	check_stack_depth();
	if (value->type == jbvString)
	{
		json_read_named(in, value, NULL);
		return;
	}
	if (!json_is_object(value) || JsonContainerSize(value->val.binary.data) != 1)
		json_fail(in, "expected the name of a trigger, or an object with one key");
	iterator = JsonbIteratorInit(value->val.binary.data);
	(void) json_next_pair(&iterator, &name, &argument);
	json_read_named(in, &name, &argument);
}

PG_FUNCTION_INFO_V1(stream_beam_trigger_from_json);

PGDLLEXPORT Datum
stream_beam_trigger_from_json(PG_FUNCTION_ARGS)
{
	Jsonb *json = PG_GETARG_JSONB_P(0);
	SbJsonCursor in = {.ntriggers = 0};
	ErrorContextCallback callback = {.previous = error_context_stack,
	                                 .callback = json_error_context,
	                                 .arg = &in};
	JsonbValue root;
	SbTrigger *trigger;

	initStringInfo(&in.text);
	initStringInfo(&in.path);
	appendStringInfoChar(&in.path, '$');
	if (JB_ROOT_IS_SCALAR(json))
		(void) JsonbExtractScalar(&json->root, &root);
	else
		root = (JsonbValue){.type = jbvBinary,
		                    .val.binary = {.data = &json->root, .len = VARSIZE(json) - VARHDRSZ}};
	json_read_trigger(&in, &root);
	error_context_stack = &callback;
	trigger = sb_trigger_parse(in.text.data);
	error_context_stack = callback.previous;
	PG_RETURN_TEXT_P(cstring_to_text(sb_trigger_format(trigger)));
}

/* ---- to JSON ---- */

/* Writes a word of the text, up to the character that ends it, as a JSON string. */
static const char *
json_write_word(StringInfo out, const char *at, const char *ends)
{
	size_t len = strcspn(at, ends);

	escape_json(out, pnstrdup(at, len));
	return at + len;
}

/*
 * Writes the trigger at `at` and returns what follows it. The text is canonical: one space after a
 * comma and around an arrow.
 */
static const char *
json_write_trigger(StringInfo out, const char *at)
{
	size_t len = strcspn(at, "(");
	const SbJsonForm *form = json_form_named(at, len);
	const char *arrow = strstr(at, " => ");
	bool is_object, is_delay = form && form->read == json_read_delay;

	if (form == NULL)
		elog(ERROR, "trigger \"%.*s\" has no form in JSON", (int) len, at);
	if (at[len + 1] == ')')
		return json_write_word(out, at, "(") + 2;
	appendStringInfoChar(out, '{');
	at = json_write_word(out, at, "(") + 1;
	/* the arrow is ours if nothing nests before it */
	is_object = arrow && memchr(at, '(', arrow - at) == NULL && memchr(at, ')', arrow - at) == NULL;
	appendStringInfo(out, ": %s", form->is_list ? "[" : is_object ? "{" : "");
	if (is_object && is_delay)
		appendStringInfoString(out, "\"delay\": ");
	for (;;)
	{
		if (is_object && *at != '\'')
		{
			at = json_write_word(out, at, " ") + strlen(" => ");
			appendStringInfoString(out, ": ");
		}
		if (*at == '\'')
			at = json_write_word(out, at + 1, "'") + 1;
		else if (isdigit((unsigned char) *at))
		{
			len = strspn(at, "0123456789");
			appendBinaryStringInfo(out, at, len);
			at += len;
		}
		else
			at = json_write_trigger(out, at);
		if (*at == ')')
			break;
		appendStringInfoString(out, ", ");
		at += strlen(", ");
	}
	appendStringInfo(out, "%s}", form->is_list ? "]" : is_object ? "}" : "");
	return at + 1;
}

PG_FUNCTION_INFO_V1(stream_beam_trigger_to_json);

PGDLLEXPORT Datum
stream_beam_trigger_to_json(PG_FUNCTION_ARGS)
{
	StringInfoData json;

	initStringInfo(&json);
	(void) json_write_trigger(&json, TextDatumGetCString(PG_GETARG_DATUM(0)));
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data)));
}
