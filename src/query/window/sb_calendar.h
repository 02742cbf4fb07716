/*
 * sb_calendar.h: windows of days, weeks, months, quarters and years in a time zone.
 *
 * A window of n units starts at the first instant of its first day in the zone, so a day has 23, 24
 * or 25 hours where clocks are changed. Windows are counted from 1970-01-01; weeks start on Monday
 * and are counted from 1969-12-29, the Monday before.
 */
#ifndef SB_CALENDAR_H
#define SB_CALENDAR_H

#include "postgres.h"
#include "engine/sb_window.h"

typedef struct SbCalendar SbCalendar;

/* In the current memory context. Error 22023 with a hint: unknown unit or zone, n out of range. */
extern SbCalendar *sb_calendar_make(const char *unit, int n, const char *time_zone);

/*
 * The window of a valid, finite timestamp. False: it reaches beyond the timestamps PostgreSQL has.
 */
extern bool sb_calendar_window(SbCalendar *calendar, TimestampTz timestamp, SbWindow *window);

#endif
