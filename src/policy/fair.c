/*
 * One binary heap a band, by what each share used; a share knows its position, so that moving and
 * leaving need no search.
 *
 * Start-time fair queueing: a band's `used` is what the share that had the least of those that want
 * the device had used when it was charged last, before that. A share that joins begins there at
 * least, so a pause gives no claim; and goes before those that used the same, so who comes to a
 * busy device is next. Charged when its batch ended (with what was expected too little, or 0), who
 * had the device alone takes `used` along, so that it owes nothing for time that nobody else
 * wanted.
 *
 * Invariant: all bands have room for all reserved shares, so joining cannot fail.
 */
#include "policy/fair.h"

#include "base/alloc.h"

#include <string.h>

enum { FIRST_CAPACITY = 16 };

void md_fair_deinit(struct md_fair *fair)
{
    md_free(fair->slots);
    *fair = (struct md_fair){0};
}

bool md_fair_reserve(struct md_fair *fair)
{
    if (fair->reserved == fair->capacity) {
        size_t capacity = fair->capacity ? fair->capacity * 2 : FIRST_CAPACITY;
        struct md_fair_share **slots = md_calloc(capacity * MD_FAIR_BANDS, sizeof(*slots));
        if (!slots) {
            return false;
        }
        for (size_t i = 0; i < MD_FAIR_BANDS; i++) {
            struct md_fair_band *band = &fair->bands[i];
            if (band->count) {
                memcpy(slots + i * capacity, band->heap, band->count * sizeof(*slots));
            }
            band->heap = slots + i * capacity;
        }
        md_free(fair->slots);
        fair->slots = slots;
        fair->capacity = capacity;
    }
    fair->reserved++;
    return true;
}

void md_fair_unreserve(struct md_fair *fair, struct md_fair_share *share)
{
    md_fair_leave(fair, share);
    fair->reserved--;
}

static void place(struct md_fair_band *band, size_t position, struct md_fair_share *share)
{
    band->heap[position - 1] = share;
    share->position = position;
}

static void sift_up(struct md_fair_band *band, struct md_fair_share *share)
{
    size_t at = share->position;

    while (at > 1 && band->heap[at / 2 - 1]->used >= share->used) {
        place(band, at, band->heap[at / 2 - 1]);
        at /= 2;
    }
    place(band, at, share);
}

static void sift_down(struct md_fair_band *band, struct md_fair_share *share)
{
    size_t at = share->position;

    for (size_t child; (child = at * 2) <= band->count; at = child) {
        if (child < band->count && band->heap[child]->used < band->heap[child - 1]->used) {
            child++;
        }
        if (band->heap[child - 1]->used >= share->used) {
            break;
        }
        place(band, at, band->heap[child - 1]);
    }
    place(band, at, share);
}

/* From where on a share may claim what it has not had. */
static uint64_t claim_begin(const struct md_fair_band *band, const struct md_fair_share *share)
{
    uint64_t claim = MD_FAIR_CLAIM_NS / share->weight;

    return band->used > claim ? band->used - claim : 0;
}

static void lift(struct md_fair_share *share, uint64_t least)
{
    if (share->used < least) {
        share->used = least;
        share->rest = 0;
    }
}

void md_fair_join(struct md_fair *fair, struct md_fair_share *share)
{
    struct md_fair_band *band = &fair->bands[share->band];

    if (share->position) {
        return;
    }
    lift(share, share->is_held ? claim_begin(band, share) : band->used);
    place(band, ++band->count, share);
    sift_up(band, share);
}

static void take_out(struct md_fair *fair, struct md_fair_share *share)
{
    struct md_fair_band *band = &fair->bands[share->band];
    size_t at = share->position;

    if (!at) {
        return;
    }
    struct md_fair_share *last = band->heap[--band->count];
    share->position = 0;
    if (last != share) {
        place(band, at, last);
        sift_up(band, last);
        sift_down(band, last);
    }
}

void md_fair_leave(struct md_fair *fair, struct md_fair_share *share)
{
    take_out(fair, share);
    share->is_held = false;
}

void md_fair_hold(struct md_fair *fair, struct md_fair_share *share)
{
    take_out(fair, share);
    share->is_held = true;
}

/* used += spent / weight; what is less than one is kept in `rest`. */
static void add(struct md_fair_share *share, uint64_t spent)
{
    uint64_t whole = spent / share->weight;

    share->rest += (uint32_t)(spent % share->weight);
    whole += share->rest / share->weight;
    share->rest %= share->weight;
    if (__builtin_add_overflow(share->used, whole, &share->used)) {
        share->used = UINT64_MAX;
    }
}

static void subtract(struct md_fair_share *share, uint64_t spent)
{
    uint64_t whole = spent / share->weight;
    uint32_t rest = (uint32_t)(spent % share->weight);

    if (share->rest < rest) {
        share->rest += share->weight;
        whole++;
    }
    share->rest -= rest;
    share->used = share->used > whole ? share->used - whole : 0;
}

/* What was expected, and comes back, may have moved the band's `used` on with it: so what is left
 * to claim is bounded as where one joins. */
static void give_back(const struct md_fair_band *band, struct md_fair_share *share, uint64_t spent)
{
    uint64_t before = share->used, least = claim_begin(band, share);

    subtract(share, spent);
    lift(share, least < before ? least : before);
}

void md_fair_charge(struct md_fair *fair, struct md_fair_share *share, int64_t spent_ns)
{
    struct md_fair_band *band = &fair->bands[share->band];

    if (spent_ns < 0) {
        give_back(band, share, -(uint64_t)spent_ns);
        if (share->position) {
            sift_up(band, share);
        }
        return;
    }
    if (share->used > band->used && (!band->count || share->used <= band->heap[0]->used)) {
        band->used = share->used;
    }
    add(share, (uint64_t)spent_ns);
    if (share->position) {
        sift_down(band, share);
    }
}

struct md_fair_share *md_fair_next(const struct md_fair *fair)
{
    for (size_t i = 0; i < MD_FAIR_BANDS; i++) {
        if (fair->bands[i].count) {
            return fair->bands[i].heap[0];
        }
    }
    return NULL;
}
