/*
 * sb_unit_text.c: the text form of triggers, its errors, and the check of safety.
 */
#include "postgres.h"
#include "sb_unit.h"

static void
test_format(const char *text, const char *canonical)
{
	char *once = sb_trigger_format(sb_trigger_parse(text));

	unit_same_text(once, canonical, psprintf("text: %s", text));
	unit_must(strcmp(sb_trigger_format(sb_trigger_parse(once)), once) == 0,
	          "text: parse(format) of %s", once);
}

static void
test_error(const char *text, const char *message)
{
	if (!UNIT_RAISES(sb_trigger_parse(text)))
		unit_ok(false, "text: %s is refused", text);
	else
		unit_same_text(unit_error.message, message, psprintf("error: %s", text));
	unit_must(strlen(unit_error.hint) > 0 || strlen(unit_error.context) > 0,
	          "error of %s has a hint or a context", text);
}

static void
test_unsafe(const char *text, bool without_lateness, bool with_lateness)
{
	const SbTrigger *trigger = sb_trigger_parse(text);

	unit_ok((sb_trigger_unsafe_reason(trigger, false) != NULL) == without_lateness,
	        "unsafe without lateness %d: %s", without_lateness, text);
	unit_ok((sb_trigger_unsafe_reason(trigger, true) != NULL) == with_lateness,
	        "unsafe with lateness %d: %s", with_lateness, text);
}

static void
test_safety(void)
{
	test_unsafe("continuous", false, false);
	test_unsafe("default_trigger", false, false);
	test_unsafe("never", false, false);
	test_unsafe("after_watermark", false, true);
	test_unsafe("after_watermark(early => after_count(1))", false, true);
	test_unsafe("after_watermark(late => after_count(1))", false, false);
	test_unsafe("after_count(1)", true, true);
	test_unsafe("after_processing_time('1 s')", true, true);
	test_unsafe("repeatedly(after_count(2))", false, false);
	test_unsafe("after_any(after_watermark, after_count(3))", true, true);
	test_unsafe("after_any(never, repeatedly(after_watermark))", false, true);
	test_unsafe("after_all(after_count(3), after_watermark)", false, true);
	test_unsafe("after_all(after_count(3), never)", false, false);
	test_unsafe("after_each(after_count(3), after_count(4))", true, true);
	test_unsafe("after_each(after_count(3), repeatedly(after_count(4)))", false, false);
	test_unsafe("or_finally(repeatedly(after_count(1)), after_watermark)", false, true);
	test_unsafe("or_finally(repeatedly(after_count(1)), after_count(9))", true, true);
	test_unsafe("or_finally(after_count(3), never)", true, true);
	test_unsafe("or_finally(continuous, never)", false, false);
}

static void
test_errors(void)
{
	char *many = psprintf("after_any(%s", "never");

	test_error("", "invalid trigger: expected a trigger at position 1");
	test_error("  ", "invalid trigger: expected a trigger at position 3");
	test_error("after_cuont(1)", "invalid trigger: unknown trigger at position 1");
	test_error("repeatedly(after_sometime)", "invalid trigger: unknown trigger at position 12");
	test_error("after_count", "invalid trigger: expected \"(\" at position 12");
	test_error("after_count(1", "invalid trigger: expected \")\" at position 14");
	test_error("after_count()", "invalid trigger: expected a positive whole number at position 13");
	test_error("after_count(0)",
	           "invalid trigger: expected a positive whole number at position 13");
	test_error("after_count(-1)",
	           "invalid trigger: expected a positive whole number at position 13");
	test_error("after_count(9223372036854775808)",
	           "invalid trigger: the count is too large at position 13");
	test_error("after_count(1) x", "invalid trigger: expected the end of the text at position 16");
	test_error("continuous(1)", "invalid trigger: expected \")\" at position 12");
	test_error("after_any()", "invalid trigger: expected a trigger at position 11");
	test_error("after_any(never,)", "invalid trigger: expected a trigger at position 17");
	test_error("or_finally(never)", "invalid trigger: expected \",\" at position 17");
	test_error("repeatedly(never, never)", "invalid trigger: expected \")\" at position 17");
	test_error("after_watermark(after_count(1))",
	           "invalid trigger: expected \"early\" or \"late\" at position 17");
	test_error("after_watermark(early = never)", "invalid trigger: expected \"=>\" at position 23");
	test_error("after_watermark(late => never, late => never)",
	           "invalid trigger: \"late\" is given twice at position 32");
	test_error("after_watermark(early => never, late => never, early => never)",
	           "invalid trigger: expected \")\" at position 46");
	test_error("after_processing_time(5)",
	           "invalid trigger: expected a quoted interval at position 23");
	test_error("after_processing_time('5 s)",
	           "invalid trigger: unterminated string at position 23");
	test_error(
	    "after_processing_time('1 mon')",
	    "invalid trigger: months and years have no fixed length: they cannot be used at position 23");
	test_error("after_processing_time('0 s')",
	           "invalid trigger: expected an interval greater than zero at position 23");
	test_error("after_processing_time('-5 s')",
	           "invalid trigger: expected an interval greater than zero at position 23");
	test_error("after_processing_time('999999999 d')",
	           "invalid trigger: the interval is too long at position 23");
	test_error("after_processing_time('5 s', '1 min')",
	           "invalid trigger: expected \"align\" at position 30");
	test_error("after_processing_time('5 s', align => '0 s')",
	           "invalid trigger: expected an interval greater than zero at position 39");
	test_error("after_processing_time('5 parsecs')",
	           "invalid input syntax for type interval: \"5 parsecs\"");
	unit_same_text(unit_error.context,
	               "trigger \"after_processing_time('5 parsecs')\", position 23",
	               "error: an interval's has the position in its context");
	test_error("after_processing_time('ä", "invalid trigger: unterminated string at position 23");
	test_error("after_any(never, ü)", "invalid trigger: expected a trigger at position 18");
	test_error("after_any(never, \"ü\" ä)", "invalid trigger: expected a trigger at position 18");
	for (int i = 0; i < 64; i++)
		many = psprintf("%s,never", many);
	test_error(psprintf("%s)", many), "invalid trigger: too many triggers at position 389");
	unit_ok(unit_error.code == ERRCODE_INVALID_TEXT_REPRESENTATION, "error: code 22P02");
	test_error("never ü", "invalid trigger: expected the end of the text at position 7");
	unit_same_text(unit_error.detail, "At position 7 there is \"ü\".",
	               "error: the detail says what is there");
}

void
unit_test_text(void)
{
	char *deep = "never";

	test_format("continuous", "continuous()");
	test_format(" Continuous ( ) ", "continuous()");
	test_format("default", "default_trigger()");
	test_format("default_trigger", "default_trigger()");
	test_format("never", "never()");
	test_format("after_watermark", "after_watermark()");
	test_format("after_watermark()", "after_watermark()");
	test_format("after_watermark(early=>after_count(100),late=>after_count(1))",
	            "after_watermark(early => after_count(100), late => after_count(1))");
	test_format(
	    "after_watermark(late => repeatedly(after_count(1)), early => after_any(after_count(2), after_processing_time('1 s')))",
	    "after_watermark(early => after_any(after_count(2), after_processing_time('1 s')), late => repeatedly(after_count(1)))");
	test_format("after_watermark(late => after_count(007))",
	            "after_watermark(late => after_count(7))");
	test_format("after_processing_time('60 s')", "after_processing_time('1 min')");
	test_format("after_processing_time('90 s')", "after_processing_time('90 s')");
	test_format("after_processing_time('1500 ms', ALIGN => '48 h')",
	            "after_processing_time('1500 ms', align => '2 d')");
	test_format("after_processing_time('7 us')", "after_processing_time('7 us')");
	test_format(
	    "after_all(after_count(1), after_each(never, continuous), or_finally(default, never))",
	    "after_all(after_count(1), after_each(never(), continuous()), or_finally(default_trigger(), never()))");
	for (int i = 1; i < SB_TRIGGER_MAX_NODES; i++)
		deep = psprintf("repeatedly(%s)", deep);
	unit_ok(sb_trigger_parse(deep) != NULL, "text: 64 deep");
	test_errors();
	test_safety();
	unit_ok(sb_trigger_uses_processing_time(
	            sb_trigger_parse("after_any(never, after_processing_time('1 s'))")),
	        "uses processing time");
	unit_ok(!sb_trigger_uses_processing_time(sb_trigger_parse("after_any(never, continuous)")),
	        "does not use processing time");
}
