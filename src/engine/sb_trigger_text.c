/*
 * sb_trigger_text.c: the text form of a trigger.
 *
 *     trigger  := name [ "(" [ argument { "," argument } ] ")" ] argument := trigger | number |
 *     string | name "=>" (trigger | string)
 *
 * What arguments a trigger takes is said in the table of forms; a new trigger is a line there.
 * Names and keywords may be written in either case, strings are quoted as in SQL. Format writes one
 * text for equal triggers: parentheses always, one space after a comma, delays in the largest unit
 * that divides them.
 *
 * This is the one file of the engine that needs more of PostgreSQL: its interval syntax, and
 * character positions.
 */
#include "postgres.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "engine/sb_trigger_node.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#define SB_NAME_MAX 32 /* longer than any name below */

typedef struct SbParser
{
	const char *text;
	const char *at;
	int nnodes;
	int nslots;
	SbTriggerNode nodes[SB_TRIGGER_MAX_NODES];
} SbParser;

typedef struct SbForm
{
	const char *name;
	SbTriggerKind kind;
	/*
	 * After "(": reads the arguments and ")". NULL: there are none, and the parentheses may be left
	 * out.
	 */
	void (*parse)(SbParser *in, int node);
	void (*format)(StringInfo out, const SbTrigger *trigger, int node);
} SbForm;

static void sb_parse_watermark(SbParser *in, int node);
static void sb_parse_processing_time(SbParser *in, int node);
static void sb_parse_count(SbParser *in, int node);
static void sb_parse_list(SbParser *in, int node);
static void sb_parse_one(SbParser *in, int node);
static void sb_parse_two(SbParser *in, int node);
static void sb_format_nothing(StringInfo out, const SbTrigger *trigger, int node);
static void sb_format_watermark(StringInfo out, const SbTrigger *trigger, int node);
static void sb_format_processing_time(StringInfo out, const SbTrigger *trigger, int node);
static void sb_format_count(StringInfo out, const SbTrigger *trigger, int node);
static void sb_format_list(StringInfo out, const SbTrigger *trigger, int node);
static int sb_parse_trigger(SbParser *in);

/* Of two lines with the same kind the first is what format writes. */
static const SbForm sb_forms[] = {
    {"continuous", SB_TRIGGER_CONTINUOUS, NULL, sb_format_nothing},
    {"default_trigger", SB_TRIGGER_DEFAULT, NULL, sb_format_nothing},
    {"default", SB_TRIGGER_DEFAULT, NULL, sb_format_nothing},
    {"never", SB_TRIGGER_NEVER, NULL, sb_format_nothing},
    {"after_watermark", SB_TRIGGER_AFTER_WATERMARK, sb_parse_watermark, sb_format_nothing},
    {"after_watermark", SB_TRIGGER_EARLY_LATE, sb_parse_watermark, sb_format_watermark},
    {"after_processing_time", SB_TRIGGER_AFTER_PROCESSING_TIME, sb_parse_processing_time,
     sb_format_processing_time},
    {"after_count", SB_TRIGGER_AFTER_COUNT, sb_parse_count, sb_format_count},
    {"after_any", SB_TRIGGER_AFTER_ANY, sb_parse_list, sb_format_list},
    {"after_all", SB_TRIGGER_AFTER_ALL, sb_parse_list, sb_format_list},
    {"after_each", SB_TRIGGER_AFTER_EACH, sb_parse_list, sb_format_list},
    {"or_finally", SB_TRIGGER_OR_FINALLY, sb_parse_two, sb_format_list},
    {"repeatedly", SB_TRIGGER_REPEATEDLY, sb_parse_one, sb_format_list},
};

#define SB_HINT_TRIGGERS \
	"Triggers are continuous(), default_trigger(), never(), after_watermark(early => ..., late => ...), " \
	"after_count(100), after_processing_time('5 s', align => '1 min'), after_any(...), after_all(...), " \
	"after_each(...), or_finally(main, until), repeatedly(...)."

/* ---- errors ---- */

static int
sb_position(const SbParser *in, const char *at)
{
	return pg_mbstrlen_with_len(in->text, at - in->text) + 1;
}

/* What stands at `at`, for the detail of an error: at most one word, or one character. */
static char *
sb_found(const SbParser *in, const char *at)
{
	int position = sb_position(in, at);
	int len = 0;

	if (*at == '\0')
		return psprintf("The text ends at position %d.", position);
	while (len < SB_NAME_MAX && (isalnum((unsigned char) at[len]) || at[len] == '_'))
		len++;
	if (len == 0)
		len = pg_mblen(at);
	return psprintf("At position %d there is \"%.*s\".", position, len, at);
}

static _Noreturn void
sb_parse_fail(const SbParser *in, const char *at, const char *problem, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
	                errmsg("invalid trigger: %s at position %d", problem, sb_position(in, at)),
	                errdetail_internal("%s", sb_found(in, at)), errhint("%s", hint)));
}

/* ---- words ---- */

static void
sb_skip_space(SbParser *in)
{
	while (*in->at != '\0' && strchr(" \t\n\r\f\v", *in->at) != NULL)
		in->at++;
}

/* Is this what comes next? Then goes past it. */
static bool
sb_accept(SbParser *in, const char *symbol)
{
	size_t len = strlen(symbol);

	sb_skip_space(in);
	if (strncmp(in->at, symbol, len) != 0)
		return false;
	in->at += len;
	return true;
}

static void
sb_expect(SbParser *in, const char *symbol)
{
	if (!sb_accept(in, symbol))
		sb_parse_fail(in, in->at, psprintf("expected \"%s\"", symbol), SB_HINT_TRIGGERS);
}

/* Reads a name into `name`, in lower case; returns where it began, or NULL when there is none. */
static const char *
sb_read_name(SbParser *in, char name[SB_NAME_MAX])
{
	const char *begin;
	int len = 0;

	sb_skip_space(in);
	begin = in->at;
	while (isalpha((unsigned char) *in->at) || *in->at == '_' ||
	       (in->at > begin && isdigit((unsigned char) *in->at)))
	{
		/* what does not fit is not one of our names */
		if (len < SB_NAME_MAX - 1)
			name[len++] = pg_tolower((unsigned char) *in->at);
		in->at++;
	}
	name[len] = '\0';
	return len > 0 ? begin : NULL;
}

/* Error unless a positive number comes next that fits into 64 bits. */
static int64
sb_read_count(SbParser *in)
{
	const char *begin;
	int64 value = 0;

	sb_skip_space(in);
	begin = in->at;
	while (isdigit((unsigned char) *in->at))
	{
		if (pg_mul_s64_overflow(value, 10, &value) ||
		    pg_add_s64_overflow(value, *in->at - '0', &value))
			sb_parse_fail(in, begin, "the count is too large",
			              "A count is at most 9223372036854775807.");
		in->at++;
	}
	if (value <= 0)
		sb_parse_fail(in, begin, "expected a positive whole number",
		              "Write for example after_count(100).");
	return value;
}

/* ---- intervals ---- */

#define SB_HINT_INTERVAL \
	"Write a positive length of time in quotes, for example after_processing_time('5 s')."

typedef struct SbIntervalContext
{
	const SbParser *in;
	const char *at;
} SbIntervalContext;

/* Errors of the interval's own syntax come from PostgreSQL and know no position. */
static void
sb_interval_error_context(void *arg)
{
	const SbIntervalContext *context = arg;

	errcontext("trigger \"%s\", position %d", context->in->text,
	           sb_position(context->in, context->at));
}

/* A quoted string, palloc'd. */
static char *
sb_read_string(SbParser *in)
{
	StringInfoData string;
	const char *begin;

	sb_skip_space(in);
	begin = in->at;
	if (*in->at != '\'')
		sb_parse_fail(in, begin, "expected a quoted interval", SB_HINT_INTERVAL);
	initStringInfo(&string);
	for (in->at++; *in->at != '\0'; in->at++)
	{
		if (*in->at == '\'' && *++in->at != '\'')
			return string.data;
		appendStringInfoChar(&string, *in->at);
	}
	sb_parse_fail(in, begin, "unterminated string", "End it with a single quote.");
}

static int64
sb_interval_us(const SbParser *in, const char *at, const Interval *interval)
{
	int64 us;

	if (interval->month != 0)
		sb_parse_fail(in, at, "months and years have no fixed length: they cannot be used",
		              SB_HINT_INTERVAL);
	if (pg_mul_s64_overflow(interval->day, USECS_PER_DAY, &us) ||
	    pg_add_s64_overflow(us, interval->time, &us))
		sb_parse_fail(in, at, "the interval is too long", SB_HINT_INTERVAL);
	if (us <= 0)
		sb_parse_fail(in, at, "expected an interval greater than zero", SB_HINT_INTERVAL);
	return us;
}

static int64
sb_read_interval(SbParser *in)
{
	SbIntervalContext context = {.in = in};
	ErrorContextCallback callback = {.previous = error_context_stack,
	                                 .callback = sb_interval_error_context,
	                                 .arg = &context};
	char *string;
	Datum interval;

	sb_skip_space(in);
	context.at = in->at;
	string = sb_read_string(in);
	error_context_stack = &callback;
	interval = DirectFunctionCall3(interval_in, CStringGetDatum(string),
	                               ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));
	error_context_stack = callback.previous;
	return sb_interval_us(in, context.at, DatumGetIntervalP(interval));
}

/* ---- arguments ---- */

static void
sb_parse_count(SbParser *in, int node)
{
	sb_expect(in, "(");
	in->nodes[node].arg = sb_read_count(in);
	sb_expect(in, ")");
}

static void
sb_parse_processing_time(SbParser *in, int node)
{
	sb_expect(in, "(");
	in->nodes[node].arg = sb_read_interval(in);
	if (sb_accept(in, ","))
	{
		char name[SB_NAME_MAX];
		const char *begin = sb_read_name(in, name);

		if (strcmp(name, "align") != 0)
			sb_parse_fail(in, begin ? begin : in->at, "expected \"align\"",
			              "Write for example after_processing_time('5 s', align => '1 min').");
		sb_expect(in, "=>");
		in->nodes[node].align_us = sb_read_interval(in);
	}
	sb_expect(in, ")");
}

static void
sb_parse_one(SbParser *in, int node)
{
	sb_expect(in, "(");
	sb_parse_trigger(in);
	sb_expect(in, ")");
}

static void
sb_parse_two(SbParser *in, int node)
{
	sb_expect(in, "(");
	sb_parse_trigger(in);
	sb_expect(in, ",");
	sb_parse_trigger(in);
	sb_expect(in, ")");
}

static void
sb_parse_list(SbParser *in, int node)
{
	sb_expect(in, "(");
	do
		sb_parse_trigger(in);
	while (sb_accept(in, ","));
	sb_expect(in, ")");
}

/* `early` and `late`, each at most once, in either order; the nodes are kept early first. */
static void
sb_parse_early_late(SbParser *in, int node)
{
	static const char *const hint =
	    "Write for example after_watermark(early => after_count(100), late => after_count(1)).";
	char name[SB_NAME_MAX];
	const char *begin = sb_read_name(in, name);
	bool is_early = strcmp(name, "early") == 0;
	bool *given = is_early ? &in->nodes[node].has_early : &in->nodes[node].has_late;

	if (begin == NULL || (!is_early && strcmp(name, "late") != 0))
		sb_parse_fail(in, begin ? begin : in->at, "expected \"early\" or \"late\"", hint);
	if (*given)
		sb_parse_fail(in, begin, psprintf("\"%s\" is given twice", name), hint);
	*given = true;
	sb_expect(in, "=>");
	sb_parse_trigger(in);
}

/*
 * Exchanges the two children of a node, which are the last nodes so far. Their `end` and `slot`
 * numbers move with them: each subtree's nodes and slots are one range.
 */
static void
sb_swap_children(SbParser *in, int node)
{
	SbTriggerNode old[SB_TRIGGER_MAX_NODES];
	int first = node + 1;
	int second = in->nodes[first].end;
	int end = in->nnodes;
	int slot = in->nodes[node].slot + 1;
	int to = first;

	memcpy(old, in->nodes, sizeof(old));
	for (int half = 0; half < 2; half++)
	{
		int begin = half == 0 ? second : first;
		int stop = half == 0 ? end : second;
		int shift = to - begin;

		for (int i = begin; i < stop; i++, to++)
		{
			in->nodes[to] = old[i];
			in->nodes[to].end = old[i].end + shift;
			if (old[i].slot >= 0)
				in->nodes[to].slot = slot++;
		}
	}
}

/*
 * The node is there already; without arguments it stays as it is. The triggers may stand in either
 * order, and the node of the early one comes first.
 */
static void
sb_parse_watermark(SbParser *in, int node)
{
	bool late_first;

	if (!sb_accept(in, "(") || sb_accept(in, ")"))
		return;
	/* Its kind, and with it its slot, must be known before its children get theirs. */
	in->nodes[node].kind = SB_TRIGGER_EARLY_LATE;
	in->nodes[node].slot = in->nslots++;
	sb_parse_early_late(in, node);
	late_first = in->nodes[node].has_late;
	if (sb_accept(in, ","))
	{
		sb_parse_early_late(in, node);
		if (late_first)
			sb_swap_children(in, node);
	}
	sb_expect(in, ")");
}

/* ---- triggers ---- */

static const SbForm *
sb_form_named(const char *name)
{
	for (int i = 0; i < lengthof(sb_forms); i++)
	{
		if (strcmp(sb_forms[i].name, name) == 0)
			return &sb_forms[i];
	}
	return NULL;
}

static int
sb_add_node(SbParser *in, const char *at, SbTriggerKind kind)
{
	SbTriggerNode *node;

	/* This also bounds the depth of the recursion. */
	if (in->nnodes >= SB_TRIGGER_MAX_NODES)
		sb_parse_fail(in, at, "too many triggers",
		              psprintf("A trigger may consist of at most %d.", SB_TRIGGER_MAX_NODES));
	node = &in->nodes[in->nnodes];
	memset(node, 0, sizeof(SbTriggerNode));
	node->kind = kind;
	node->slot = sb_trigger_ops[kind]->has_slot ? in->nslots++ : -1;
	return in->nnodes++;
}

static int
sb_parse_trigger(SbParser *in)
{
	char name[SB_NAME_MAX];
	const char *begin = sb_read_name(in, name);
	const SbForm *form = begin ? sb_form_named(name) : NULL;
	int node;

	if (form == NULL)
		sb_parse_fail(in, begin ? begin : in->at, begin ? "unknown trigger" : "expected a trigger",
		              SB_HINT_TRIGGERS);
	node = sb_add_node(in, begin, form->kind);
	if (form->parse)
		form->parse(in, node);
	else if (sb_accept(in, "("))
		sb_expect(in, ")");
	in->nodes[node].end = in->nnodes;
	return node;
}

SbTrigger *
sb_trigger_parse(const char *text)
{
	SbParser in = {.text = text, .at = text};
	SbTrigger *trigger;

	sb_parse_trigger(&in);
	sb_skip_space(&in);
	if (*in.at != '\0')
		sb_parse_fail(&in, in.at, "expected the end of the text", SB_HINT_TRIGGERS);
	trigger = palloc(offsetof(SbTrigger, nodes) + sizeof(SbTriggerNode) * in.nnodes);
	trigger->nnodes = in.nnodes;
	trigger->nslots = in.nslots;
	memcpy(trigger->nodes, in.nodes, sizeof(SbTriggerNode) * in.nnodes);
	return trigger;
}

/* ---- format ---- */

static void
sb_format_trigger(StringInfo out, const SbTrigger *trigger, int node)
{
	SbTriggerKind kind = trigger->nodes[node].kind;
	const SbForm *form = sb_forms;

	while (form->kind != kind)
		form++;
	appendStringInfo(out, "%s(", form->name);
	form->format(out, trigger, node);
	appendStringInfoChar(out, ')');
}

static void
sb_format_nothing(StringInfo out, const SbTrigger *trigger, int node)
{
}

static void
sb_format_count(StringInfo out, const SbTrigger *trigger, int node)
{
	appendStringInfo(out, INT64_FORMAT, trigger->nodes[node].arg);
}

/* Not interval_out: its output depends on settings. */
static void
sb_format_interval(StringInfo out, int64 us)
{
	static const struct
	{
		int64 us;
		const char *name;
	} units[] = {{USECS_PER_DAY, "d"}, {USECS_PER_HOUR, "h"}, {USECS_PER_MINUTE, "min"},
	             {USECS_PER_SEC, "s"}, {1000, "ms"},          {1, "us"}};
	int i = 0;

	while (us % units[i].us != 0)
		i++;
	appendStringInfo(out, "'" INT64_FORMAT " %s'", us / units[i].us, units[i].name);
}

static void
sb_format_processing_time(StringInfo out, const SbTrigger *trigger, int node)
{
	sb_format_interval(out, trigger->nodes[node].arg);
	if (trigger->nodes[node].align_us > 0)
	{
		appendStringInfoString(out, ", align => ");
		sb_format_interval(out, trigger->nodes[node].align_us);
	}
}

static void
sb_format_list(StringInfo out, const SbTrigger *trigger, int node)
{
	SB_TRIGGER_FOREACH_CHILD(child, trigger, node)
	{
		if (child > node + 1)
			appendStringInfoString(out, ", ");
		sb_format_trigger(out, trigger, child);
	}
}

static void
sb_format_watermark(StringInfo out, const SbTrigger *trigger, int node)
{
	bool early = trigger->nodes[node].has_early;

	SB_TRIGGER_FOREACH_CHILD(child, trigger, node)
	{
		if (child > node + 1)
			appendStringInfoString(out, ", ");
		appendStringInfoString(out, early ? "early => " : "late => ");
		sb_format_trigger(out, trigger, child);
		early = false;
	}
}

char *
sb_trigger_format(const SbTrigger *trigger)
{
	StringInfoData out;

	initStringInfo(&out);
	sb_format_trigger(&out, trigger, 0);
	return out.data;
}
