/*
 * sb_watermark.c: the output watermark.
 *
 * SEMANTICS 1.5 also names the earliest pending event-time timer as a bound. After all due timers
 * have fired it is not below the input watermark, so it needs no argument here.
 */
#include "postgres.h"
#include "engine/sb_reduce.h"

void
sb_clocks_advance_output(SbClocks *clocks, TimestampTz earliest_hold)
{
	TimestampTz bound = Min(clocks->input_watermark, earliest_hold);

	clocks->output_watermark = Max(clocks->output_watermark, bound);
}
