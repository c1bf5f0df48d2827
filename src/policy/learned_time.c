/*
 * Moving averages by size. A bit for each size that has been seen makes finding neighbours two
 * instructions, so that the batcher may ask for each row that it adds.
 */
#include "policy/learned_time.h"

enum { AVERAGED = 8, HIGH_DEVIATIONS = 4 };

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

    *count += *count < UINT32_MAX;
    if (seen == 0) {
        time->known |= 1ULL << (rows - 1);
        *mean = spent_ns;
        *deviation = spent_ns / AVERAGED;
        return;
    }
    if (seen >= AVERAGED && spent_ns / MD_LEARNED_OUTLIER > *mean) {
        spent_ns = *mean * MD_LEARNED_OUTLIER;
    }
    uint32_t parts = seen < AVERAGED ? seen + 1 : AVERAGED;
    move(deviation, spent_ns > *mean ? spent_ns - *mean : *mean - spent_ns, parts);
    move(mean, spent_ns, parts);
}

static uint64_t size_time(const struct md_learned_time *time, uint32_t rows, uint64_t deviations)
{
    uint64_t spread;

    if (__builtin_mul_overflow(time->sizes[rows].deviation_ns, deviations, &spread) ||
        __builtin_add_overflow(time->sizes[rows].mean_ns, spread, &spread)) {
        return UINT64_MAX;
    }
    return spread;
}

static uint64_t at_least_one(uint64_t ns)
{
    return ns ? ns : 1;
}

static uint64_t between(const struct md_learned_time *time, uint32_t below, uint32_t rows,
                        uint32_t above, uint64_t deviations)
{
    uint64_t from = size_time(time, below, deviations), to = size_time(time, above, deviations);

    return to >= from ? from + scale(to - from, rows - below, above - below)
                      : from - scale(from - to, rows - below, above - below);
}

/* Of a size that has not been seen, or that shares the last. */
static uint64_t time_from_others(const struct md_learned_time *time, uint32_t rows,
                                 uint64_t deviations)
{
    uint32_t size = rows < MD_LEARNED_SIZES ? rows : MD_LEARNED_SIZES;
    uint64_t up_to = UINT64_MAX >> (MD_LEARNED_SIZES - size);
    uint64_t smaller = time->known & up_to, larger = time->known & ~up_to;

    if (!time->known) {
        return 0;
    }
    uint32_t below = smaller ? MD_LEARNED_SIZES - (uint32_t)__builtin_clzll(smaller) : 0;
    uint32_t above = larger ? (uint32_t)__builtin_ctzll(larger) + 1 : 0;
    if (!smaller) {
        return size_time(time, above, deviations);
    }
    if (!larger) {
        return at_least_one(scale(size_time(time, below, deviations), rows, below));
    }
    return at_least_one(between(time, below, rows, above, deviations));
}

static inline uint64_t time_of(const struct md_learned_time *time, uint32_t rows,
                               uint64_t deviations)
{
    if (MD_LIKELY(rows <= MD_LEARNED_SIZES && time->sizes[rows].count)) {
        return size_time(time, rows, deviations);
    }
    return time_from_others(time, rows ? rows : 1, deviations);
}

uint64_t md_learned_time_mean(const struct md_learned_time *time, uint32_t rows)
{
    return time_of(time, rows, 0);
}

uint64_t md_learned_time_high(const struct md_learned_time *time, uint32_t rows)
{
    return time_of(time, rows, HIGH_DEVIATIONS);
}
