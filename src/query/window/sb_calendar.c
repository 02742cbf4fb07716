/*
 * sb_calendar.c: windows of days, weeks, months, quarters and years in a time zone.
 *
 * A window is known by its number k, counted from the epoch. The number follows from the local date
 * of an instant; the instant at which window k starts follows from the zone's rules. Both ways are
 * needed, since a zone may repeat a part of the day before (St John's turned its clocks back at
 * 00:01 until 2011): there the number from the date is one off, and the boundaries decide. Windows
 * therefore always follow each other without gap or overlap.
 *
 * STATE. An SbCalendar remembers the window it gave last: elements mostly come in the order of
 * time.
 */
#include "postgres.h"

#include "pgtime.h"
#include "query/window/sb_calendar.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define SB_CALENDAR_MOST_UNITS 10000 /* arbitrary: keeps all of the arithmetic far from overflow */
#define UNIX_EPOCH_MONDAY (UNIX_EPOCH_JDATE - 3)

struct SbCalendar
{
	int days;   /* length in days, or 0 */
	int months; /* length in months, or 0 */
	int epoch;  /* Julian day of window 0, for a length in days */
	pg_tz *zone;
	SbWindow last; /* what was given last; start = end: nothing */
};

static const struct
{
	const char *name;
	int days;
	int months;
	int epoch;
} units[] = {
    {"day", 1, 0, UNIX_EPOCH_JDATE},
    {"week", 7, 0, UNIX_EPOCH_MONDAY},
    {"month", 0, 1, 0},
    {"quarter", 0, 3, 0},
    {"year", 0, 12, 0},
};

static inline int64
floor_div(int64 a, int64 n)
{
	return a / n - (a % n < 0 ? 1 : 0);
}

static pg_tz *
find_zone(const char *name)
{
	pg_tz *zone = strlen(name) <= TZ_STRLEN_MAX ? pg_tzset(name) : NULL;

	if (zone == NULL || !pg_tz_acceptable(zone))
		ereport(
		    ERROR,
		    (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		     errmsg("time zone \"%s\" of beam.calendar is not recognized", name),
		     errhint(
		         "Use a full name such as 'Europe/Berlin'; SELECT name FROM pg_timezone_names lists them.")));
	return zone;
}

SbCalendar *
sb_calendar_make(const char *unit, int n, const char *time_zone)
{
	SbCalendar *calendar = palloc0(sizeof(SbCalendar));
	int i = 0;

	while (i < lengthof(units) && pg_strcasecmp(unit, units[i].name) != 0)
		i++;
	if (i == lengthof(units))
		ereport(ERROR,
		        (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		         errmsg("unit \"%s\" of beam.calendar is not recognized", unit),
		         errhint(
		             "Use day, week, month, quarter or year; for fixed lengths use beam.tumble.")));
	if (n < 1 || n > SB_CALENDAR_MOST_UNITS)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
		                errmsg("the number of units of beam.calendar must be between 1 and %d",
		                       SB_CALENDAR_MOST_UNITS),
		                errdetail("It is %d.", n)));
	calendar->days = units[i].days * n;
	calendar->months = units[i].months * n;
	calendar->epoch = units[i].epoch;
	calendar->zone = find_zone(time_zone);
	return calendar;
}

/* The number of the window that holds a local date. */
static int64
window_number(const SbCalendar *calendar, const struct pg_tm *tm)
{
	if (calendar->days > 0)
		return floor_div((int64) date2j(tm->tm_year, tm->tm_mon, tm->tm_mday) - calendar->epoch,
		                 calendar->days);
	return floor_div(((int64) tm->tm_year - 1970) * MONTHS_PER_YEAR + tm->tm_mon - 1,
	                 calendar->months);
}

/* The first day of a window as a Julian day; false: no date of PostgreSQL's. */
static bool
first_day(const SbCalendar *calendar, int64 number, int *julian)
{
	int64 day;

	if (calendar->days > 0)
		day = calendar->epoch + number * calendar->days;
	else
	{
		int64 months = 1970 * MONTHS_PER_YEAR + number * calendar->months;
		int64 year = floor_div(months, MONTHS_PER_YEAR);
		int month = (int) (months - year * MONTHS_PER_YEAR) + 1;

		if (year < JULIAN_MINYEAR || year > JULIAN_MAXYEAR ||
		    !IS_VALID_JULIAN((int) year, month, 1))
			return false;
		day = date2j((int) year, month, 1);
	}
	if (day < 0 || day > TIMESTAMP_END_JULIAN)
		return false;
	*julian = (int) day;
	return true;
}

/*
 * The first instant of a day in the zone, in seconds since 1970: its local midnight, the earlier
 * one where there are two, and the moment of the change where clocks skip it.
 */
static bool
first_instant(const SbCalendar *calendar, int julian, pg_time_t *instant)
{
	pg_time_t midnight = ((pg_time_t) julian - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	/* no zone is a day off UTC, so the change that matters, if any, is the first one after this */
	pg_time_t before_midnight = midnight - SECS_PER_DAY;
	pg_time_t change;
	long offset;
	long offset_after;
	int isdst;
	int isdst_after;
	int found = pg_next_dst_boundary(&before_midnight, &offset, &isdst, &change, &offset_after,
	                                 &isdst_after, calendar->zone);

	if (found < 0)
		return false;
	if (found == 0 || midnight - offset < change)
		*instant = midnight - offset;
	else if (midnight - offset_after >= change)
		*instant = midnight - offset_after;
	else
		*instant = change;
	return true;
}

static bool
window_start(const SbCalendar *calendar, int64 number, TimestampTz *start)
{
	int julian;
	pg_time_t instant;

	if (!first_day(calendar, number, &julian) || !first_instant(calendar, julian, &instant))
		return false;
	instant -= (pg_time_t) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY;
	/*
	 * within a day of a Julian day that was checked: the product fits or is just above
	 * END_TIMESTAMP, which fits too
	 */
	*start = (TimestampTz) instant * USECS_PER_SEC;
	return IS_VALID_TIMESTAMP(*start);
}

bool
sb_calendar_window(SbCalendar *calendar, TimestampTz timestamp, SbWindow *window)
{
	struct pg_tm tm;
	fsec_t fsec;
	int tz;
	int64 number;

	if (timestamp >= calendar->last.start && timestamp < calendar->last.end)
	{
		*window = calendar->last;
		return true;
	}
	if (timestamp2tm(timestamp, &tz, &tm, &fsec, NULL, calendar->zone) != 0)
		return false;
	number = window_number(calendar, &tm);
	if (!window_start(calendar, number, &window->start) ||
	    !window_start(calendar, number + 1, &window->end))
		return false;
	while (timestamp < window->start)
	{
		window->end = window->start;
		if (!window_start(calendar, --number, &window->start))
			return false;
	}
	while (timestamp >= window->end)
	{
		window->start = window->end;
		if (!window_start(calendar, ++number + 1, &window->end))
			return false;
	}
	calendar->last = *window;
	return true;
}
