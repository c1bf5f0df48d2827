/*
 * Regions in a hash table behind one mutex.
 *
 * A request holds the mutex while it walks one chain and takes a reference, twice or so in its
 * life; mapping, unmapping and memory come outside of it. The table's own entry is a reference too;
 * whoever lets go of the last one unmaps.
 */
#include "api/shared_memory/regions.h"

#include "base/alloc.h"
#include "codec/utf8.h"
#include "os/shared_memory.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { BUCKETS = 1024, NAME_MAX_BYTES = 4096 };

struct region {
    struct region *next; /* in its bucket */
    uint64_t hash;
    struct md_region_info info; /* texts in `text` */
    struct md_os_shm shm;
    atomic_size_t refs;
    char text[];
};

struct md_regions {
    pthread_mutex_t mutex;
    struct region *buckets[BUCKETS];
    size_t count;
};

struct md_region_use {
    struct md_region_use *next;
    struct region *region; /* a reference */
};

static bool disabled(struct md_error *err)
{
    return md_error_set(err, MD_REASON_UNSUPPORTED,
                        "Client shared memory is disabled. Start the server with "
                        "'--allow-client-shm=true' to enable.");
}

/* --- a region -------------------- */

/* The texts behind it are the region's own. */
static struct region *region_create(const struct md_region_info *info)
{
    struct region *region = md_alloc(sizeof *region + info->name.len + info->key.len);

    if (region) {
        *region = (struct region){.hash = md_str_hash(info->name), .info = *info, .refs = 1};
        memcpy(region->text, info->name.ptr, info->name.len);
        memcpy(region->text + info->name.len, info->key.ptr, info->key.len);
        region->info.name = md_str_make(region->text, info->name.len);
        region->info.key = md_str_make(region->text + info->name.len, info->key.len);
    }
    return region;
}

static void region_unref(struct region *region)
{
    if (atomic_fetch_sub(&region->refs, 1) == 1) {
        md_os_shm_unmap(&region->shm);
        md_free(region);
    }
}

/* --- table; the mutex is held -------------------- */

static struct region **find(struct md_regions *regions, uint64_t hash, struct md_str name)
{
    struct region **at = &regions->buckets[hash % BUCKETS];

    while (*at && ((*at)->hash != hash || !md_str_eq((*at)->info.name, name))) {
        at = &(*at)->next;
    }
    return at;
}

static bool is_registered(struct md_regions *regions, struct md_str name)
{
    pthread_mutex_lock(&regions->mutex);
    bool found = *find(regions, md_str_hash(name), name) != NULL;
    pthread_mutex_unlock(&regions->mutex);
    return found;
}

/* Takes all of a bucket, or those of a name, out of the table; they are linked. */
static struct region *take_out(struct md_regions *regions, struct region **at, bool all)
{
    struct region *taken = *at, *last = taken;

    if (!taken) {
        return NULL;
    }
    for (regions->count--; all && last->next; last = last->next) {
        regions->count--;
    }
    *at = last->next;
    last->next = NULL;
    return taken;
}

/* --- life -------------------- */

bool md_regions_create(struct md_regions **out, struct md_error *err)
{
    struct md_regions *regions = md_calloc(1, sizeof *regions);

    if (!regions || pthread_mutex_init(&regions->mutex, NULL) != 0) {
        md_free(regions);
        return md_error_no_memory(err, "the shared memory regions");
    }
    *out = regions;
    return true;
}

void md_regions_destroy(struct md_regions *regions)
{
    struct md_error ignored;

    if (regions) {
        (void)!md_regions_unregister(regions, MD_STR(""), &ignored);
        pthread_mutex_destroy(&regions->mutex);
        md_free(regions);
    }
}

/* --- registering -------------------- */

static bool already_there(struct md_str name, struct md_error *err)
{
    return md_error_set(err, MD_REASON_ALREADY_EXISTS,
                        "shared memory region '%.*s' already in manager", MD_STR_ARG(name));
}

/* The field's sentences and codes; what a client names is its own affair, whatever the code. */
static bool fail_to_map(const struct md_region_info *info, struct md_error *err)
{
    switch (err->reason) {
    case MD_REASON_NOT_FOUND:
        return md_error_set_code(err, MD_REASON_NOT_FOUND, MD_CODE_INTERNAL,
                                 "Unable to open shared memory region: '%.*s'",
                                 MD_STR_ARG(info->key));
    default:
        return md_error_prefix(err, "failed to register shared memory region '%.*s'",
                               MD_STR_ARG(info->name));
    }
}

static bool check_info(const struct md_region_info *info, struct md_error *err)
{
    static const char reserved[] = "triton_python_backend_shm_region_";
    struct md_str key = info->key;

    if (!info->name.len || info->name.len > NAME_MAX_BYTES || !md_utf8_is_valid(info->name)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "the name of a shared memory region must be UTF-8 of 1 to %d bytes",
                            NAME_MAX_BYTES);
    }
    while (key.len && key.ptr[0] == '/') {
        key = md_str_make(key.ptr + 1, key.len - 1);
    }
    if (!key.len || !md_utf8_is_valid(key)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "cannot register shared memory region '%.*s' - invalid shm key '%.*s'",
                            MD_STR_ARG(info->name), MD_STR_ARG(info->key));
    }
    return !md_str_starts_with(key, md_str_of(reserved)) ||
           md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                        "cannot register shared memory region '%.*s' with key '%.*s' as the key "
                        "contains the reserved prefix '%s'",
                        MD_STR_ARG(info->name), MD_STR_ARG(info->key), reserved);
}

/* False if somebody was faster. */
static bool insert(struct md_regions *regions, struct region *region)
{
    pthread_mutex_lock(&regions->mutex);
    struct region **at = find(regions, region->hash, region->info.name);
    bool free = !*at;
    if (free) {
        *at = region;
        regions->count++;
    }
    pthread_mutex_unlock(&regions->mutex);
    return free;
}

bool md_regions_register(struct md_regions *regions, const struct md_region_info *info,
                         struct md_error *err)
{
    if (!regions) {
        return disabled(err);
    }
    if (!check_info(info, err)) {
        return false;
    }
    if (is_registered(regions, info->name)) {
        return already_there(info->name, err);
    }
    struct region *region = region_create(info);
    if (!region) {
        return md_error_no_memory(err, "a shared memory region");
    }
    if (!md_os_shm_map(info->key, info->offset, info->bytes, &region->shm, err)) {
        md_free(region);
        return fail_to_map(info, err);
    }
    if (!insert(regions, region)) {
        region_unref(region);
        return already_there(info->name, err);
    }
    return true;
}

bool md_regions_unregister(struct md_regions *regions, struct md_str name, struct md_error *err)
{
    const uint64_t hash = md_str_hash(name);

    if (!regions) {
        return disabled(err);
    }
    for (size_t i = name.len ? hash % BUCKETS : 0; i < BUCKETS; i++) {
        pthread_mutex_lock(&regions->mutex);
        struct region *taken = name.len ? take_out(regions, find(regions, hash, name), false)
                                        : take_out(regions, &regions->buckets[i], true);
        pthread_mutex_unlock(&regions->mutex);
        while (taken) {
            struct region *next = taken->next;
            region_unref(taken);
            taken = next;
        }
        if (name.len) {
            break;
        }
    }
    return true;
}

/* --- listing -------------------- */

static int compare_infos(const void *a, const void *b)
{
    const struct md_region_info *left = a, *right = b;
    int order =
        memcmp(left->name.ptr, right->name.ptr, md_size_min(left->name.len, right->name.len));

    return order                              ? order
           : left->name.len > right->name.len ? 1
                                              : -(left->name.len < right->name.len);
}

static bool copy_info(const struct md_region_info *from, struct md_arena *arena,
                      struct md_region_info *out)
{
    *out = *from;
    out->name = md_arena_copy(arena, from->name);
    out->key = md_arena_copy(arena, from->key);
    return out->name.ptr && out->key.ptr;
}

/* References to one or all; false if there are more than `max`. */
static bool acquire_all(struct md_regions *regions, struct md_str name, struct region **out,
                        size_t max, size_t *count)
{
    const uint64_t hash = md_str_hash(name);

    *count = 0;
    pthread_mutex_lock(&regions->mutex);
    const bool fits = regions->count <= max;
    for (size_t i = name.len ? hash % BUCKETS : 0; fits && i < BUCKETS; i++) {
        struct region *region = name.len ? *find(regions, hash, name) : regions->buckets[i];
        for (; region; region = name.len ? NULL : region->next) {
            atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
            out[(*count)++] = region;
        }
        if (name.len) {
            break;
        }
    }
    pthread_mutex_unlock(&regions->mutex);
    return fits;
}

static bool not_found(const char *kind, struct md_str name, struct md_error *err)
{
    return md_error_set(err, MD_REASON_NOT_FOUND, "Unable to find %s shared memory region: '%.*s'",
                        kind, MD_STR_ARG(name));
}

static size_t count_all(struct md_regions *regions)
{
    pthread_mutex_lock(&regions->mutex);
    const size_t count = regions->count;
    pthread_mutex_unlock(&regions->mutex);
    return count;
}

bool md_regions_list(struct md_regions *regions, struct md_str name, struct md_arena *arena,
                     struct md_region_info **out, size_t *count, struct md_error *err)
{
    struct region **found = NULL;
    size_t max = 0;
    bool ok = true;

    *out = NULL;
    *count = 0;
    while (regions && (!found || !acquire_all(regions, name, found, max, count))) {
        max = count_all(regions);
        found = md_arena_alloc(arena, max * sizeof(struct region *));
        if (!found) {
            return md_error_no_memory(err, "the shared memory regions");
        }
    }
    if (name.len && !*count) {
        return not_found("system", name, err);
    }
    *out = md_arena_alloc(arena, *count * sizeof **out);
    for (size_t i = 0; i < *count; i++) {
        ok = ok && *out && copy_info(&found[i]->info, arena, &(*out)[i]);
        region_unref(found[i]);
    }
    if (!*out || !ok) {
        return md_error_no_memory(err, "the shared memory regions");
    }
    if (*count) {
        qsort(*out, *count, sizeof **out, compare_infos);
    }
    return true;
}

/* --- CUDA -------------------- */

bool md_regions_register_cuda(const struct md_regions *regions, struct md_str name,
                              struct md_error *err)
{
    return regions ? md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                  "failed to register CUDA shared memory region: '%.*s', GPUs not "
                                  "supported",
                                  MD_STR_ARG(name))
                   : disabled(err);
}

bool md_regions_find_cuda(struct md_regions *regions, struct md_str name, struct md_error *err)
{
    if (regions && is_registered(regions, name)) {
        return md_error_set(err, MD_REASON_NOT_FOUND,
                            "The region named '%.*s' is registered as system shared memory, not "
                            "CUDA shared memory",
                            MD_STR_ARG(name));
    }
    return not_found("cuda", name, err);
}

/* --- in requests -------------------- */

static void release(void *arg)
{
    struct md_region_use *use = arg;

    region_unref(use->region);
}

static struct md_region_use *find_use(const struct md_region_uses *uses, struct md_str name)
{
    struct md_region_use *use = uses->first;

    while (use && !md_str_eq(use->region->info.name, name)) {
        use = use->next;
    }
    return use;
}

static struct region *acquire(struct md_regions *regions, struct md_str name)
{
    const uint64_t hash = md_str_hash(name);

    pthread_mutex_lock(&regions->mutex);
    struct region *region = *find(regions, hash, name);
    if (region) {
        /* relaxed: the table holds another */
        atomic_fetch_add_explicit(&region->refs, 1, memory_order_relaxed);
    }
    pthread_mutex_unlock(&regions->mutex);
    return region;
}

static struct md_region_use *add_use(struct md_regions *regions, struct md_region_uses *uses,
                                     struct md_arena *arena, struct md_str name,
                                     struct md_error *err)
{
    struct md_region_use *use = md_arena_alloc(arena, sizeof *use);
    struct region *region = use && regions ? acquire(regions, name) : NULL;

    if (!use) {
        (void)md_error_no_memory(err, "the request");
        return NULL;
    }
    if (!region) {
        (void)md_error_set(err, MD_REASON_NOT_FOUND,
                           "Unable to find shared memory region: '%.*s'%s", MD_STR_ARG(name),
                           regions ? "" : ": the server was started without --allow-client-shm");
        return NULL;
    }
    *use = (struct md_region_use){.next = uses->first, .region = region};
    if (!md_arena_on_reset(arena, release, use)) {
        region_unref(region);
        (void)md_error_no_memory(err, "the request");
        return NULL;
    }
    uses->first = use;
    return use;
}

bool md_region_use(struct md_regions *regions, struct md_region_uses *uses, struct md_arena *arena,
                   struct md_str name, uint64_t offset, uint64_t bytes, char **data,
                   struct md_error *err)
{
    struct md_region_use *use = find_use(uses, name);

    if (!use) {
        use = add_use(regions, uses, arena, name, err);
    }
    if (!use) {
        return false;
    }
    const struct region *region = use->region;
    if (offset >= region->info.bytes) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Invalid offset for shared memory region: '%.*s'", MD_STR_ARG(name));
    }
    if (bytes > region->info.bytes - offset) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Invalid offset + byte size for shared memory region: '%.*s'",
                            MD_STR_ARG(name));
    }
    *data = region->shm.data + offset;
    return md_region_uses_check(uses, err);
}

bool md_region_uses_check(const struct md_region_uses *uses, struct md_error *err)
{
    for (const struct md_region_use *use = uses->first; use; use = use->next) {
        if (md_os_shm_is_broken(&use->region->shm)) {
            return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                                "shared memory region '%.*s' was truncated by its owner, or there "
                                "is no memory left for it: unregister it",
                                MD_STR_ARG(use->region->info.name));
        }
    }
    return true;
}

bool md_region_uses_hold(const struct md_region_uses *uses, const char *data)
{
    for (const struct md_region_use *use = uses->first; use; use = use->next) {
        const char *begin = use->region->shm.data;
        if (data >= begin && data < begin + use->region->info.bytes) {
            return true;
        }
    }
    return false;
}
