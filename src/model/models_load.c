/*
 * Loading at start: loader threads take versions by number; the last one out says that it is over.
 */
#include "model/models_internal.h"

#include "base/clock.h"
#include "base/log.h"

static void load_version(struct md_models *models, struct md_version *version)
{
    uint64_t begin = md_clock_monotonic_ns();
    struct md_error err;

    atomic_store(&version->load_begin_ns, begin);
    atomic_store(&version->state, MD_VERSION_LOADING);
    bool ok = md_mapping_create(version, &models->options, &err);
    uint64_t ns = md_clock_monotonic_ns() - begin;
    atomic_store(&version->load_ns, ns);
    if (ok) {
        atomic_fetch_add(&version->load_count, 1);
        atomic_store_explicit(&version->state, MD_VERSION_READY,
                              memory_order_release); /* the target is complete */
        md_log(MD_LOG_INFO, "model '%s' version %lld is ready after %.1f ms",
               version->model->name.ptr, (long long)version->number, (double)ns / MD_NS_PER_MS);
        return;
    }
    char *reason = md_arena_strdup(&version->arena, err.text);
    version->reason = reason ? reason : "out of memory";
    atomic_fetch_add(&version->load_failure_count, 1);
    atomic_store_explicit(&version->state, MD_VERSION_UNAVAILABLE, memory_order_release);
    md_log(MD_LOG_ERROR, "failed to load '%s' version %lld: %s", version->model->name.ptr,
           (long long)version->number, err.text);
}

/* The version with this number over all models. */
static struct md_version *nth_version(struct md_models *models, size_t n)
{
    for (size_t i = 0; i < models->count; i++) {
        struct md_model *model = &models->models[i];
        if (*model->reason || !model->is_wanted) {
            continue;
        }
        if (n < model->version_count) {
            return &model->versions[n];
        }
        n -= model->version_count;
    }
    return NULL;
}

/* The last one out says that loading has ended. */
static void loader_ends(struct md_models *models)
{
    if (atomic_fetch_sub(&models->loaders_left, 1) == 1) {
        atomic_store(&models->loaded, true);
        if (models->on_loaded) {
            models->on_loaded(models->on_loaded_arg);
        }
    }
}

static void loader_main(void *arg)
{
    struct md_models *models = arg;
    struct md_version *version;

    while (!atomic_load(&models->stop_loading) &&
           (version = nth_version(models, atomic_fetch_add(&models->next_load, 1)))) {
        load_version(models, version);
    }
    loader_ends(models);
}

static void count_loads(struct md_models *models)
{
    for (size_t i = 0; i < models->count; i++) {
        const struct md_model *model = &models->models[i];
        models->load_total += *model->reason || !model->is_wanted ? 0 : model->version_count;
    }
}

void md_models_load_start(struct md_models *models, void (*loaded)(void *arg), void *arg)
{
    struct md_error err;

    count_loads(models);
    models->on_loaded = loaded;
    models->on_loaded_arg = arg;
    size_t wanted =
        md_size_min(md_size_min(models->options.options->model_load_thread_count, MD_LOADERS_MAX),
                    models->load_total);
    atomic_store(&models->loaders_left, wanted + 1); /* 1: this thread, until all are started */
    while (models->loader_count < wanted) {
        if (!md_os_thread_start(&models->loaders[models->loader_count], "loader", -1, loader_main,
                                models, &err)) {
            md_log(MD_LOG_WARNING, "%s", err.text);
            break;
        }
        models->loader_count++;
    }
    atomic_fetch_sub(&models->loaders_left, wanted - models->loader_count);
    if (models->loader_count == 0) {
        loader_main(models); /* nothing to load, or no thread to be had */
    } else {
        loader_ends(models);
    }
}

void md_models_load_stop(struct md_models *models)
{
    atomic_store(&models->stop_loading, true);
}

void md_models_load_join(struct md_models *models)
{
    while (models->loader_count) {
        md_os_thread_join(&models->loaders[--models->loader_count]);
    }
}

void md_models_log_progress(const struct md_models *models)
{
    uint64_t now = md_clock_monotonic_ns(), longest_ns = 0;
    const struct md_version *slowest = NULL;
    size_t running = 0;

    for (size_t i = 0; i < models->count; i++) {
        for (size_t k = 0; k < models->models[i].version_count; k++) {
            struct md_version *version = &models->models[i].versions[k];
            uint64_t ns = now - atomic_load(&version->load_begin_ns);
            if (atomic_load(&version->state) != MD_VERSION_LOADING) {
                continue;
            }
            running++;
            if (ns > longest_ns) {
                longest_ns = ns;
                slowest = version;
            }
        }
    }
    size_t begun = md_size_min(atomic_load(&((struct md_models *)(uintptr_t)models)->next_load),
                               models->load_total);
    if (slowest) {
        md_log(MD_LOG_INFO, "loading: %zu of %zu versions done, '%s' version %lld for %.0f s",
               begun - running, models->load_total, slowest->model->name.ptr,
               (long long)slowest->number, (double)longest_ns / MD_NS_PER_S);
    }
}

bool md_models_are_loaded(const struct md_models *models)
{
    return atomic_load(&((struct md_models *)(uintptr_t)models)->loaded);
}
