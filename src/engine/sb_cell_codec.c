/*
 * sb_cell_codec.c: a cell as bytes.
 *
 * FORMAT. A version byte, the flags byte (with SB_FLAG_HOLD where there is an element hold), then
 * numbers as base-128 varints, least significant group first: pane_elements, last_index + 1,
 * last_ns_index + 1, hold if there is one (how far before max_timestamp, zigzag), finished bits,
 * number of slots, the slots. A slot is 0 for SB_TIME_MAX, else its zigzag value + 1; it is never
 * SB_TIME_MIN. A new version gets a new first byte, and decode goes on to read the old ones.
 */
#include "postgres.h"
#include "engine/sb_cell.h"
#include "engine/sb_number.h"
#include "engine/sb_trigger_node.h"

#define SB_CELL_VERSION 1
#define SB_FLAG_HOLD 0x80 /* in the stored flags only */

typedef struct SbByteCursor
{
	const char *at;
	const char *end;
} SbByteCursor;

static void
sb_write_slot(StringInfo out, int64 value)
{
	Assert(value != SB_TIME_MIN);
	sb_number_write(out, value == SB_TIME_MAX ? 0 : sb_zigzag(value) + 1);
}

static void
sb_read_fail(const char *what)
{
	ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
	                errmsg("the stored state of a window is corrupted"), errdetail("%s", what),
	                errhint("Drop and create the pipeline, or restore the state from a backup.")));
}

static uint8
sb_read_byte(SbByteCursor *in)
{
	if (in->at >= in->end)
		sb_read_fail("It ends too early.");
	return (uint8) *in->at++;
}

static uint64
sb_read_number(SbByteCursor *in)
{
	uint64 value;

	if (!sb_number_read(&in->at, in->end, &value))
		sb_read_fail("A number ends too late or too early.");
	return value;
}

static int64
sb_read_slot(SbByteCursor *in)
{
	uint64 coded = sb_read_number(in);

	return coded == 0 ? SB_TIME_MAX : sb_unzigzag(coded - 1);
}

/* Its own inverse. In unsigned arithmetic, for the windows that reach the ends of time. */
static int64
sb_hold_before_end(SbWindow window, int64 hold)
{
	return (int64) ((uint64) sb_window_max_timestamp(window) - (uint64) hold);
}

void
sb_cell_encode(const SbStrategy *strategy, const SbCell *cell, StringInfo out)
{
	int nslots = sb_trigger_slots(strategy->trigger);

	appendStringInfoCharMacro(out, SB_CELL_VERSION);
	appendStringInfoCharMacro(out, (char) (cell->flags |
	                                       (cell->hold != SB_TIME_MAX ? SB_FLAG_HOLD : 0)));
	sb_number_write(out, cell->pane_elements);
	sb_number_write(out, cell->last_index + 1);
	sb_number_write(out, cell->last_ns_index + 1);
	if (cell->hold != SB_TIME_MAX)
		sb_number_write(out, sb_zigzag(sb_hold_before_end(cell->window, cell->hold)));
	sb_number_write(out, cell->trigger.finished);
	sb_number_write(out, nslots);
	for (int i = 0; i < nslots; i++)
		sb_write_slot(out, cell->trigger.slots[i]);
}

static void
sb_read_trigger(const SbStrategy *strategy, SbTriggerState *state, SbByteCursor *in)
{
	int nnodes = strategy->trigger->nnodes;
	int nslots = sb_trigger_slots(strategy->trigger);

	state->finished = sb_read_number(in);
	if (nnodes < 64 && state->finished >> nnodes)
		sb_read_fail("It is that of another trigger.");
	if (sb_read_number(in) != nslots)
		sb_read_fail("It is that of another trigger.");
	for (int i = 0; i < nslots; i++)
		state->slots[i] = sb_read_slot(in);
}

void
sb_cell_decode(const SbStrategy *strategy, SbCell *cell, SbWindow window, const char **data,
               const char *end)
{
	SbByteCursor in = {.at = *data, .end = end};
	uint8 flags;

	if (sb_read_byte(&in) != SB_CELL_VERSION)
		sb_read_fail("Its version is unknown.");
	cell->window = window;
	flags = sb_read_byte(&in);
	cell->flags = flags & SB_CELL_ALL_FLAGS;
	if (flags & ~(SB_CELL_ALL_FLAGS | SB_FLAG_HOLD))
		sb_read_fail("Its flags are unknown.");
	cell->pane_elements = sb_read_number(&in);
	cell->last_index = (int64) sb_read_number(&in) - 1;
	cell->last_ns_index = (int64) sb_read_number(&in) - 1;
	cell->hold = flags & SB_FLAG_HOLD ? sb_hold_before_end(window, sb_unzigzag(sb_read_number(&in)))
	                                  : SB_TIME_MAX;
	sb_read_trigger(strategy, &cell->trigger, &in);
	*data = in.at;
}
