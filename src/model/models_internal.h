/*
 * The table of models; for models.c (scan, look-up) and models_load.c.
 */
#ifndef MD_MODEL_MODELS_INTERNAL_H
#define MD_MODEL_MODELS_INTERNAL_H

#include "model/models.h"
#include "os/thread.h"

enum { MD_LOADERS_MAX = 64 };

struct md_models {
    struct md_models_options options;
    struct md_arena arena;
    struct md_model *models; /* by name */
    size_t count;
    size_t missing_count;      /* names of --load-model that no repository has */
    struct md_diagnostics own; /* of the model that is being checked */

    /* loading; the thread that started it */
    struct md_os_thread loaders[MD_LOADERS_MAX];
    size_t loader_count;
    size_t load_total; /* versions */
    void (*on_loaded)(void *arg);
    void *on_loaded_arg;

    /* shared */
    atomic_size_t next_load; /* loaders take versions by number */
    atomic_size_t loaders_left;
    atomic_bool stop_loading;
    atomic_bool loaded;
};

#endif
