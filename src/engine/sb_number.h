/*
 * sb_number.h: numbers in stored bytes: base-128 varints, least significant group first, and zigzag
 * for those with a sign.
 */
#ifndef SB_NUMBER_H
#define SB_NUMBER_H

#include "postgres.h"
#include "lib/stringinfo.h"

static inline void
sb_number_write(StringInfo out, uint64 value)
{
	while (value >= 0x80)
	{
		appendStringInfoCharMacro(out, (char) (value | 0x80));
		value >>= 7;
	}
	appendStringInfoCharMacro(out, (char) value);
}

/* Moves *at behind the number. False: it does not end before `end`, or is too long. */
static inline bool
sb_number_read(const char **at, const char *end, uint64 *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && *at < end; shift += 7)
	{
		uint8 byte = (uint8) * (*at)++;

		*value |= (uint64) (byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

static inline uint64
sb_zigzag(int64 value)
{
	return ((uint64) value << 1) ^ (value < 0 ? ~UINT64CONST(0) : 0);
}

static inline int64
sb_unzigzag(uint64 zigzag)
{
	return (int64) ((zigzag >> 1) ^ (~(zigzag & 1) + 1));
}

#endif
