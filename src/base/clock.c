/*
 * Clocks until os/ installs the real ones: time stands still. The calendar.
 */
#include "base/clock.h"

static uint64_t standing_still(void)
{
    return 0;
}

uint64_t (*md_clock_monotonic_ns)(void) = standing_still;
uint64_t (*md_clock_realtime_ns)(void) = standing_still;

void md_clock_civil(uint64_t realtime_ns, struct md_civil *out)
{
    uint64_t seconds = realtime_ns / MD_NS_PER_S, days = seconds / 86400;
    unsigned clock = (unsigned)(seconds % 86400);
    /* Years that begin with March, in eras of 400: the leap day is the last of its year. */
    uint64_t since = days + 719468; /* from 0000-03-01 */
    unsigned day_of_era = (unsigned)(since % 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned month = (5 * day_of_year + 2) / 153; /* 0: March */

    *out = (struct md_civil){
        .year = year_of_era + (unsigned)(since / 146097) * 400 + (month >= 10),
        .month = month < 10 ? month + 3 : month - 9,
        .day = day_of_year - (153 * month + 2) / 5 + 1,
        .hour = clock / 3600,
        .minute = clock / 60 % 60,
        .second = clock % 60,
        .weekday = (unsigned)((days + 4) % 7), /* 1970-01-01 was a Thursday */
    };
}
