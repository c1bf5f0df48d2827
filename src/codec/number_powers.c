/*
 * Powers of ten; tools/make_powers.py writes the long table.
 */
#include "codec/number_internal.h"

const struct md_power md_powers[MD_POWER_HIGH - MD_POWER_LOW + 1] = {
#include "codec/powers.inc"
};

const uint64_t md_small_powers[20] = {
    1ULL,
    10ULL,
    100ULL,
    1000ULL,
    10000ULL,
    100000ULL,
    1000000ULL,
    10000000ULL,
    100000000ULL,
    1000000000ULL,
    10000000000ULL,
    100000000000ULL,
    1000000000000ULL,
    10000000000000ULL,
    100000000000000ULL,
    1000000000000000ULL,
    10000000000000000ULL,
    100000000000000000ULL,
    1000000000000000000ULL,
    10000000000000000000ULL,
};
