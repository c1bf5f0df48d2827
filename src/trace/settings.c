/*
 * Settings in slots: one for the server, one for each model that ever had its own.
 *
 * Slots hang in chains of a small table; they are put there whole, and never taken out, so readers
 * need no lock.
 */
#include "trace/settings.h"

#include "base/alloc.h"

enum { CHAINS = 64 };

#define UNSET INT64_MIN /* of a model: the server's counts */

struct slot {
    struct slot *next; /* immutable, as the name */
    _Atomic int64_t values[MD_TRACE_FIELD_COUNT];
    _Atomic uint64_t seen; /* requests, for the rate */
    struct md_str model;
    char name[];
};

struct md_trace_settings {
    int64_t defaults[MD_TRACE_FIELD_COUNT]; /* immutable */
    _Atomic(struct slot *) chains[CHAINS];
    struct slot *server; /* own */
};

static struct slot *make_slot(struct md_str model, const int64_t *values)
{
    struct slot *slot = md_calloc(1, sizeof *slot + model.len);

    if (!slot) {
        return NULL;
    }
    if (model.len) {
        memcpy(slot->name, model.ptr, model.len);
    }
    slot->model = md_str_make(slot->name, model.len);
    for (size_t i = 0; i < MD_TRACE_FIELD_COUNT; i++) {
        atomic_init(&slot->values[i], values ? values[i] : UNSET);
    }
    return slot;
}

bool md_trace_settings_create(const int64_t values[MD_TRACE_FIELD_COUNT],
                              struct md_trace_settings **out, struct md_error *err)
{
    struct md_trace_settings *settings = md_calloc(1, sizeof *settings);

    if (settings) {
        settings->server = make_slot(MD_STR(""), values);
    }
    if (!settings || !settings->server) {
        md_free(settings);
        return md_error_no_memory(err, "the settings of traces");
    }
    memcpy(settings->defaults, values, sizeof settings->defaults);
    *out = settings;
    return true;
}

void md_trace_settings_destroy(struct md_trace_settings *settings)
{
    if (!settings) {
        return;
    }
    for (size_t i = 0; i < CHAINS; i++) {
        struct slot *slot = atomic_load(&settings->chains[i]);
        while (slot) {
            struct slot *next = slot->next;
            md_free(slot);
            slot = next;
        }
    }
    md_free(settings->server);
    md_free(settings);
}

static _Atomic(struct slot *) *chain_of(const struct md_trace_settings *settings,
                                        struct md_str model)
{
    return (_Atomic(struct slot *) *)(uintptr_t)&settings->chains[md_str_hash(model) % CHAINS];
}

static struct slot *find(const struct md_trace_settings *settings, struct md_str model)
{
    /* acquire: pairs with the release that put the slot there */
    struct slot *slot = atomic_load_explicit(chain_of(settings, model), memory_order_acquire);

    while (slot && !md_str_eq(slot->model, model)) {
        slot = slot->next;
    }
    return slot;
}

/* relaxed, all settings: a request that is decided at the time of a change may go either way */
static int64_t peek(struct slot *slot, enum md_trace_field field)
{
    return atomic_load_explicit(&slot->values[field], memory_order_relaxed);
}

static void put(struct slot *slot, enum md_trace_field field, int64_t value)
{
    atomic_store_explicit(&slot->values[field], value, memory_order_relaxed);
}

/* The slot whose value counts; `own` may be NULL. */
static struct slot *holder(const struct md_trace_settings *settings, struct slot *own,
                           enum md_trace_field field)
{
    return own && peek(own, field) != UNSET ? own : settings->server;
}

void md_trace_settings_get(const struct md_trace_settings *settings, struct md_str model,
                           int64_t values[MD_TRACE_FIELD_COUNT])
{
    struct slot *own = model.len ? find(settings, model) : NULL;

    for (enum md_trace_field i = 0; i < MD_TRACE_FIELD_COUNT; i++) {
        values[i] = peek(holder(settings, own, i), i);
    }
}

bool md_trace_settings_change(struct md_trace_settings *settings, struct md_str model,
                              const struct md_trace_change *change, struct md_error *err)
{
    struct slot *slot = model.len ? find(settings, model) : settings->server;
    const bool is_new = !slot;

    if (is_new) {
        slot = make_slot(model, NULL);
        if (!slot) {
            return md_error_no_memory(err, "the settings of traces");
        }
    }
    for (enum md_trace_field i = 0; i < MD_TRACE_FIELD_COUNT; i++) {
        if (change->what[i] == MD_TRACE_SET) {
            put(slot, i, change->values[i]);
        } else if (change->what[i] == MD_TRACE_CLEAR) {
            put(slot, i, model.len ? UNSET : settings->defaults[i]);
        }
    }
    if (change->what[MD_TRACE_RATE] != MD_TRACE_KEEP) {
        atomic_store_explicit(&slot->seen, 0, memory_order_relaxed); /* as all settings */
    }
    if (is_new) {
        _Atomic(struct slot *) *chain = chain_of(settings, model);
        slot->next = atomic_load_explicit(chain, memory_order_relaxed); /* one change at a time */
        atomic_store_explicit(chain, slot, memory_order_release);       /* see find */
    }
    return true;
}

bool md_trace_settings_is_on(const struct md_trace_settings *settings)
{
    bool is_on = peek(settings->server, MD_TRACE_LEVEL) != MD_TRACE_OFF;

    for (size_t i = 0; i < CHAINS && !is_on; i++) {
        struct slot *slot = atomic_load((_Atomic(struct slot *) *)(uintptr_t)&settings->chains[i]);
        for (; slot && !is_on; slot = slot->next) {
            int64_t level = peek(slot, MD_TRACE_LEVEL);
            is_on = level != UNSET && level != MD_TRACE_OFF;
        }
    }
    return is_on;
}

/* Takes one of those that are left; false: there is none. */
static bool take_one(struct slot *slot)
{
    int64_t left = peek(slot, MD_TRACE_COUNT);

    while (left > 0 &&
           !atomic_compare_exchange_weak_explicit(&slot->values[MD_TRACE_COUNT], &left, left - 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {}
    return left != 0;
}

bool md_trace_settings_sample(struct md_trace_settings *settings, struct md_str model,
                              enum md_trace_parent parent)
{
    struct slot *own = find(settings, model);

    if (peek(holder(settings, own, MD_TRACE_LEVEL), MD_TRACE_LEVEL) == MD_TRACE_OFF ||
        parent == MD_TRACE_PARENT_UNSAMPLED) {
        return false;
    }
    if (parent == MD_TRACE_PARENT_SAMPLED) {
        return true;
    }
    struct slot *rated = holder(settings, own, MD_TRACE_RATE);
    const uint64_t rate = (uint64_t)peek(rated, MD_TRACE_RATE);
    const uint64_t seen = atomic_fetch_add_explicit(&rated->seen, 1, memory_order_relaxed) + 1;

    return rate && seen % rate == 0 && take_one(holder(settings, own, MD_TRACE_COUNT));
}
