/*
 * Moving averages by size. A bit for each size that has been seen makes finding neighbours two
 * instructions, so that the batcher may ask for each row that it adds.
 */
#include "policy/learned_time.h"

enum {
    HIGH_DEVIATIONS = 3, /* mean ones: 99 % of runs that are spread normally are below */
    SPREADS_MAX = 16,
    LOW_PARTS = 32,
    COLD_PART = 8, /* a run that takes so much less shows that those before were cold */
    SPREAD_MAX_PERMILLE = 4000,
    FIRST_SPREAD_PERMILLE = 125, /* until there are two runs of a size */
};

/* value * factor / divisor, saturating; divisor and the smaller of factor and divisor < 2^32. */
static uint64_t scale(uint64_t value, uint64_t factor, uint64_t divisor)
{
    uint64_t whole, rest = value % divisor * factor / divisor;

    if (__builtin_mul_overflow(value / divisor, factor, &whole) ||
        __builtin_add_overflow(whole, rest, &whole)) {
        return UINT64_MAX;
    }
    return whole;
}

/* Moves an average towards a value by one part of the distance. */
static void move(uint64_t *average, uint64_t value, uint32_t parts)
{
    if (value >= *average) {
        *average += (value - *average) / parts;
    } else {
        *average -= (*average - value) / parts;
    }
}

/* How far a run was from the mean of its size, for all sizes together. */
static void add_spread(struct md_learned_time *time, uint64_t distance_ns, uint64_t mean_ns)
{
    uint64_t permille = mean_ns <= UINT64_MAX / 1000 && distance_ns <= UINT64_MAX / 1000
                            ? distance_ns * 1000 / mean_ns
                            : distance_ns / (mean_ns / 1000 + 1);

    time->spreads += time->spreads < SPREADS_MAX;
    move(&time->spread_permille, permille < SPREAD_MAX_PERMILLE ? permille : SPREAD_MAX_PERMILLE,
         time->spreads);
}

static void note_low(uint64_t *low, uint64_t spent_ns)
{
    if (*low == 0 || spent_ns < *low) {
        *low = spent_ns;
    } else {
        move(low, spent_ns, LOW_PARTS);
    }
}

void md_learned_time_add(struct md_learned_time *time, uint32_t rows, uint64_t spent_ns)
{
    if (rows > MD_LEARNED_SIZES) {
        spent_ns = scale(spent_ns, MD_LEARNED_SIZES, rows);
        rows = MD_LEARNED_SIZES;
    }
    if (spent_ns == 0) {
        spent_ns = 1; /* 0 stands for what is not known */
    }
    if (rows == 0) {
        rows = 1;
    }
    uint64_t *mean = &time->sizes[rows].mean_ns, *deviation = &time->sizes[rows].deviation_ns;
    uint32_t *count = &time->sizes[rows].count, seen = *count;
    const bool was_settled = md_learned_time_is_settled(time, rows);

    if (seen && spent_ns / MD_LEARNED_OUTLIER > *mean) {
        spent_ns = *mean * MD_LEARNED_OUTLIER;
    }
    time->sizes[rows].last_run = ++time->runs;
    note_low(&time->sizes[rows].low_ns, spent_ns);
    bool were_cold = seen < MD_LEARNED_SETTLED && spent_ns < *mean - *mean / COLD_PART;
    if (seen == 0 || were_cold || *mean == 0) { /* the last says what the first does */
        time->known |= 1ULL << (rows - 1);
        *mean = spent_ns;
        *deviation = 0;
        *count = 1;
        return;
    }
    *count += *count < UINT32_MAX;
    uint64_t distance = spent_ns > *mean ? spent_ns - *mean : *mean - spent_ns;
    add_spread(time, distance, *mean);
    move(deviation, distance, seen < MD_LEARNED_SETTLED ? seen : MD_LEARNED_SETTLED);
    if (spent_ns < *mean && !was_settled) {
        *mean = spent_ns;
    } else if (seen >= MD_LEARNED_SETTLED) {
        move(mean, spent_ns, MD_LEARNED_SETTLED);
    }
}

bool md_learned_time_is_settled(const struct md_learned_time *time, uint32_t rows)
{
    return rows <= MD_LEARNED_SIZES && time->sizes[rows].count >= MD_LEARNED_SETTLED &&
           time->runs - time->sizes[rows].last_run < MD_LEARNED_STALE;
}

/* What the runs of a size that is known say; deviations: 0 or HIGH_DEVIATIONS. */
static uint64_t own_time(const struct md_learned_time *time, uint32_t rows, uint64_t deviations)
{
    uint64_t mean_ns = time->sizes[rows].mean_ns, high_ns;
    uint64_t deviation_ns = time->sizes[rows].deviation_ns;

    if (!md_learned_time_is_settled(time, rows)) {
        uint64_t permille = time->spreads ? time->spread_permille : FIRST_SPREAD_PERMILLE;
        deviation_ns = scale(mean_ns, permille, 1000);
    }
    if (__builtin_mul_overflow(deviation_ns, deviations, &high_ns) ||
        __builtin_add_overflow(mean_ns, high_ns, &high_ns)) {
        return UINT64_MAX;
    }
    return high_ns;
}

/* The known sizes below, and those above, as bits of `known`. */
static uint64_t smaller_ones(const struct md_learned_time *time, uint32_t rows)
{
    return time->known & ((1ULL << (rows - 1)) - 1);
}

static uint64_t larger_ones(const struct md_learned_time *time, uint32_t rows)
{
    return time->known & ~((2ULL << (rows - 1)) - 1);
}

static uint32_t largest_of(uint64_t sizes)
{
    return MD_LEARNED_SIZES - (uint32_t)__builtin_clzll(sizes);
}

static uint32_t smallest_of(uint64_t sizes)
{
    return (uint32_t)__builtin_ctzll(sizes) + 1;
}

/* A known size whose runs are few or old: bounded by those that are well known. */
static uint64_t bounded_time(const struct md_learned_time *time, uint32_t rows, uint64_t deviations)
{
    uint64_t spent_ns = own_time(time, rows, deviations), bound_ns = UINT64_MAX;

    for (uint64_t sizes = larger_ones(time, rows); sizes; sizes &= sizes - 1) {
        if (md_learned_time_is_settled(time, smallest_of(sizes))) {
            bound_ns = own_time(time, smallest_of(sizes), deviations);
            break;
        }
    }
    spent_ns = bound_ns < spent_ns ? bound_ns : spent_ns;
    for (uint64_t sizes = smaller_ones(time, rows); sizes;
         sizes &= (1ULL << (largest_of(sizes) - 1)) - 1) {
        uint32_t size = largest_of(sizes);
        if (md_learned_time_is_settled(time, size)) {
            bound_ns = scale(own_time(time, size, deviations), rows, size);
            break;
        }
    }
    return bound_ns < spent_ns ? bound_ns : spent_ns;
}

static uint64_t known_time(const struct md_learned_time *time, uint32_t rows, uint64_t deviations)
{
    return MD_LIKELY(md_learned_time_is_settled(time, rows)) ? own_time(time, rows, deviations)
                                                             : bounded_time(time, rows, deviations);
}

static uint64_t between(const struct md_learned_time *time, uint32_t below, uint32_t rows,
                        uint32_t above, uint64_t deviations)
{
    uint64_t from = known_time(time, below, deviations), to = known_time(time, above, deviations);

    return to >= from ? from + scale(to - from, rows - below, above - below)
                      : from - scale(from - to, rows - below, above - below);
}

static uint64_t scaled_from(const struct md_learned_time *time, uint32_t size, uint32_t rows,
                            uint64_t deviations)
{
    uint64_t spent_ns = scale(known_time(time, size, deviations), rows, size);

    return spent_ns ? spent_ns : 1;
}

static uint64_t time_of(const struct md_learned_time *time, uint32_t rows, uint64_t deviations)
{
    rows = rows ? rows : 1;
    if (MD_LIKELY(rows <= MD_LEARNED_SIZES && time->sizes[rows].count)) {
        return known_time(time, rows, deviations);
    }
    if (!time->known) {
        return 0;
    }
    if (rows >= MD_LEARNED_SIZES) {
        return scaled_from(time, largest_of(time->known), rows, deviations);
    }
    uint64_t smaller = smaller_ones(time, rows), larger = larger_ones(time, rows);
    if (!smaller) {
        return known_time(time, smallest_of(larger), deviations);
    }
    if (!larger) {
        return scaled_from(time, largest_of(smaller), rows, deviations);
    }
    return between(time, largest_of(smaller), rows, smallest_of(larger), deviations);
}

uint64_t md_learned_time_mean(const struct md_learned_time *time, uint32_t rows)
{
    return time_of(time, rows, 0);
}

uint64_t md_learned_time_high(const struct md_learned_time *time, uint32_t rows)
{
    return time_of(time, rows, HIGH_DEVIATIONS);
}

uint64_t md_learned_time_low(const struct md_learned_time *time, uint32_t rows)
{
    uint64_t sizes = rows < MD_LEARNED_SIZES ? time->known & ((1ULL << rows) - 1) : time->known;

    return sizes ? time->sizes[largest_of(sizes)].low_ns : 0;
}
