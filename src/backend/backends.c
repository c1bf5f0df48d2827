/*
 * Finding, loading and starting backends.
 *
 * One mutex: backends are looked up when a model is loaded, never on the way of a request. A
 * library is loaded outside of any other lock; two models that need the same new backend wait for
 * each other here.
 */
#include "backend/backends.h"

#include "backend/builtin.h"
#include "backend/host.h"
#include "base/alloc.h"
#include "base/log.h"
#include "os/file.h"
#include "os/library.h"

#include <pthread.h>
#include <stdio.h>

typedef const struct modeld_backend_api *(*entry_function)(const struct modeld_host_api *host);

struct loaded_backend {
    struct loaded_backend *next;
    struct md_backend backend;
    char *path; /* own; NULL for a built-in one */
};

struct md_backends {
    struct md_backends_options options;
    struct md_arena arena; /* under the mutex */
    pthread_mutex_t mutex;
    struct loaded_backend *first; /* under the mutex */
};

static const struct {
    const char *name;
    entry_function entry;
} builtin_table[] = {
    {"identity", md_builtin_identity_entry},
    {"repeat", md_builtin_repeat_entry},
};

/* Model files and the backends that run them. */
static const struct {
    const char *file;
    const char *backend;
} file_table[] = {
    {"model.onnx", "onnxruntime"},
};

const char *md_backend_of_file(struct md_str filename)
{
    for (size_t i = 0; i < MD_COUNT_OF(file_table); i++) {
        if (md_str_eq_c(filename, file_table[i].file)) {
            return file_table[i].backend;
        }
    }
    return NULL;
}

const char *md_backend_default_file(struct md_str backend)
{
    for (size_t i = 0; i < MD_COUNT_OF(file_table); i++) {
        if (md_str_eq_c(backend, file_table[i].backend)) {
            return file_table[i].file;
        }
    }
    return NULL;
}

bool md_backends_create(const struct md_backends_options *options, struct md_backends **out,
                        struct md_error *err)
{
    struct md_backends *backends = md_calloc(1, sizeof *backends);

    if (!backends) {
        return md_error_no_memory(err, "the table of backends");
    }
    backends->options = *options;
    pthread_mutex_init(&backends->mutex, NULL);
    *out = backends;
    return true;
}

/* --- search (mutex held) -------------------- */

enum { SEARCHED_MAX = MD_ERROR_TEXT_MAX };

/* Notes where there is nothing. */
static bool try_path(char searched[SEARCHED_MAX], const char *path)
{
    size_t len = strlen(searched);

    if (md_os_file_exists(path)) {
        return true;
    }
    (void)snprintf(searched + len, SEARCHED_MAX - len, "%s%s", len ? ", " : "", path);
    return false;
}

static char *find_library(struct md_backends *backends, struct md_str name, const char *library,
                          const char *model_directory, const char *version_directory,
                          struct md_error *err)
{
    struct md_arena *arena = &backends->arena;
    const char *file =
        library ? library : md_arena_printf(arena, "libmodeld_%.*s.so", MD_STR_ARG(name));
    const char *own_directories[] = {version_directory, model_directory};
    const size_t own_count =
        backends->options.search_model_folders ? MD_COUNT_OF(own_directories) : 0;
    char searched[SEARCHED_MAX] = "";

    for (size_t i = 0; file && i < own_count + backends->options.directory_count; i++) {
        char *path = i < own_count ? md_arena_printf(arena, "%s/%s", own_directories[i], file)
                                   : md_arena_printf(arena, "%s/%.*s/%s",
                                                     backends->options.directories[i - own_count],
                                                     MD_STR_ARG(name), file);
        if (!path) {
            file = NULL;
        } else if (try_path(searched, path)) {
            return path;
        }
    }
    if (file) {
        md_error_set(
            err, MD_REASON_NOT_FOUND,
            "unable to find backend library '%s' for backend '%.*s', searched: %s; install "
            "the backend or name its folder with --backend-directory (models' own folders are "
            "searched with --allow-op-library)",
            file, MD_STR_ARG(name), searched);
    } else {
        md_error_no_memory(err, "a backend");
    }
    return NULL;
}

static const struct modeld_backend_api *open_library(const char *path, struct md_error *err)
{
    void *library;
    void *symbol;

    if (!md_os_library_open(path, &library, err)) {
        return NULL;
    }
    symbol = md_os_library_symbol(library, "modeld_backend_entry");
    if (!symbol) {
        md_error_set(err, MD_REASON_BACKEND,
                     "%s is no modeld backend: it has no symbol modeld_backend_entry", path);
        md_os_library_close(library);
        return NULL;
    }
    void *score = md_os_library_symbol(library, "modeld_backend_score");
    if (score && ((int32_t(*)(void))(uintptr_t)score)() == 0) {
        md_error_set(err, MD_REASON_BACKEND, "%s says that it cannot run on this machine", path);
        md_os_library_close(library);
        return NULL;
    }
    const struct modeld_backend_api *api = ((entry_function)(uintptr_t)symbol)(&md_host_api);
    if (!api) {
        md_error_set(err, MD_REASON_BACKEND,
                     "%s refuses to work with this server (interface %d.%d)", path,
                     MODELD_ABI_MAJOR, MODELD_ABI_MINOR);
    }
    return api;
}

/* The first of the interface's reserved parts that this backend uses, or NULL. */
static const char *reserved_use(const struct modeld_backend_api *api)
{
    const struct {
        const char *name;
        size_t offset;
    } hooks[] = {
        {"sequence_start", offsetof(struct modeld_backend_api, sequence_start)},
        {"sequence_end", offsetof(struct modeld_backend_api, sequence_end)},
        {"model_memory", offsetof(struct modeld_backend_api, model_memory)},
        {"warm_up", offsetof(struct modeld_backend_api, warm_up)},
    };

    if (api->flags & MODELD_BACKEND_TAKES_ROWS) {
        return "TAKES_ROWS";
    }
    if (api->flags & MODELD_BACKEND_OWN_PROCESS) {
        return "OWN_PROCESS";
    }
    for (size_t i = 0; i < MD_COUNT_OF(hooks); i++) {
        void *hook = NULL;
        if (api->struct_size >= hooks[i].offset + sizeof hook) {
            memcpy(&hook, (const char *)api + hooks[i].offset, sizeof hook);
        }
        if (hook) {
            return hooks[i].name;
        }
    }
    return NULL;
}

static bool check_api(const struct modeld_backend_api *api, struct md_str name,
                      struct md_error *err)
{
    if (api->abi_major != MODELD_ABI_MAJOR ||
        api->struct_size < offsetof(struct modeld_backend_api, execute) + sizeof api->execute) {
        return md_error_set(
            err, MD_REASON_BACKEND,
            "backend '%.*s' was built for interface %u.%u, this server has %d.%d: build it again",
            MD_STR_ARG(name), api->abi_major, api->abi_minor, MODELD_ABI_MAJOR, MODELD_ABI_MINOR);
    }
    const char *reserved = reserved_use(api);
    if (reserved) {
        return md_error_set(
            err, MD_REASON_UNSUPPORTED,
            "backend '%.*s' asks for %s, which this version of the server does not offer",
            MD_STR_ARG(name), reserved);
    }
    if (!api->backend_create || !api->backend_destroy || !api->model_create || !api->model_info ||
        !api->model_destroy || !api->instance_create || !api->instance_destroy || !api->execute) {
        return md_error_set(err, MD_REASON_BACKEND,
                            "backend '%.*s' lacks a function that every backend has",
                            MD_STR_ARG(name));
    }
    return true;
}

bool md_backend_failed(int32_t code, struct md_error *err)
{
    bool known = code > 0 && code <= MD_CODE_UNAUTHENTICATED;

    err->text[sizeof err->text - 1] = '\0';
    if (!*err->text) {
        md_error_set(err, MD_REASON_BACKEND, "the backend failed without saying why (code %d)",
                     code);
    }
    err->reason = MD_REASON_BACKEND;
    err->code = known ? (enum md_code)code : MD_CODE_INTERNAL;
    return false;
}

/* --- start (mutex held) -------------------- */

static bool start(struct md_backends *backends, struct loaded_backend *loaded, struct md_error *err)
{
    const struct md_backends_options *options = &backends->options;
    struct modeld_option *settings =
        md_arena_calloc(&backends->arena, options->setting_count, sizeof *settings);
    struct modeld_text text = {.text = err->text, .capacity = sizeof err->text};
    uint32_t count = 0;

    if (!settings) {
        return md_error_no_memory(err, "a backend");
    }
    for (size_t i = 0; i < options->setting_count; i++) {
        const struct md_backend_setting *setting = &options->settings[i];
        if (setting->backend.len == 0 || md_str_eq(setting->backend, loaded->backend.name)) {
            settings[count++] = (struct modeld_option){setting->key.ptr, setting->value.ptr};
        }
    }
    char *directory = loaded->path ? md_arena_strdup(&backends->arena, loaded->path) : NULL;
    if (loaded->path && !directory) {
        return md_error_no_memory(err, "a backend");
    }
    if (directory) {
        *strrchr(directory, '/') = '\0';
    }
    const struct modeld_backend_args args = {
        .struct_size = sizeof args,
        .engine_threads = options->engine_threads,
        .directory = directory,
        .option_count = count,
        .option_stride = sizeof *settings,
        .options = settings,
    };
    err->text[0] = '\0';
    int32_t code = loaded->backend.api->backend_create(&args, &loaded->backend.handle, &text);
    if (code != MODELD_OK) {
        (void)md_backend_failed(code, err);
        return md_error_prefix(err, "backend '%s'", loaded->backend.name.ptr);
    }
    md_log(MD_LOG_INFO, "backend '%s' %s started", loaded->backend.name.ptr,
           loaded->backend.api->version ? loaded->backend.api->version : "");
    return true;
}

static entry_function builtin_entry(struct md_str name)
{
    for (size_t i = 0; i < MD_COUNT_OF(builtin_table); i++) {
        if (md_str_eq_c(name, builtin_table[i].name)) {
            return builtin_table[i].entry;
        }
    }
    return NULL;
}

static struct loaded_backend *load(struct md_backends *backends, struct md_str name,
                                   const char *path, struct md_error *err)
{
    struct loaded_backend *loaded = md_arena_calloc(&backends->arena, 1, sizeof *loaded);
    entry_function builtin = path ? NULL : builtin_entry(name);

    if (loaded) {
        loaded->path = path ? md_arena_strdup(&backends->arena, path) : NULL;
        loaded->backend.name = md_arena_copy(&backends->arena, name);
    }
    if (!loaded || (path && !loaded->path) || !loaded->backend.name.ptr) {
        md_error_no_memory(err, "a backend");
        return NULL;
    }
    loaded->backend.api = builtin ? builtin(&md_host_api) : open_library(path, err);
    if (!loaded->backend.api || !check_api(loaded->backend.api, name, err) ||
        !start(backends, loaded, err)) {
        return NULL;
    }
    loaded->next = backends->first;
    backends->first = loaded;
    return loaded;
}

bool md_backends_has(struct md_backends *backends, struct md_str name, const char *library,
                     const char *model_directory, const char *version_directory,
                     struct md_error *err)
{
    pthread_mutex_lock(&backends->mutex);
    bool found =
        (builtin_entry(name) && !library) ||
        find_library(backends, name, library, model_directory, version_directory, err) != NULL;
    pthread_mutex_unlock(&backends->mutex);
    return found;
}

const struct md_backend *md_backends_get(struct md_backends *backends, struct md_str name,
                                         const char *library, const char *model_directory,
                                         const char *version_directory, struct md_error *err)
{
    struct loaded_backend *found = NULL;

    pthread_mutex_lock(&backends->mutex);
    bool builtin = builtin_entry(name) != NULL && !library;
    char *path =
        builtin ? NULL
                : find_library(backends, name, library, model_directory, version_directory, err);
    if (builtin || path) {
        for (found = backends->first; found; found = found->next) {
            bool same_path =
                path && found->path ? strcmp(path, found->path) == 0 : path == found->path;
            if (same_path && md_str_eq(found->backend.name, name)) {
                break;
            }
        }
        if (!found) {
            found = load(backends, name, path, err);
        }
    }
    pthread_mutex_unlock(&backends->mutex);
    return found ? &found->backend : NULL;
}

static bool api_has_trim(const struct modeld_backend_api *api)
{
    return api->struct_size >= offsetof(struct modeld_backend_api, trim) + sizeof api->trim &&
           api->trim;
}

void md_backends_trim(struct md_backends *backends)
{
    pthread_mutex_lock(&backends->mutex);
    for (struct loaded_backend *loaded = backends->first; loaded; loaded = loaded->next) {
        if (api_has_trim(loaded->backend.api)) {
            loaded->backend.api->trim(loaded->backend.handle);
        }
    }
    pthread_mutex_unlock(&backends->mutex);
}

void md_backends_destroy(struct md_backends *backends)
{
    if (!backends) {
        return;
    }
    for (struct loaded_backend *loaded = backends->first; loaded; loaded = loaded->next) {
        loaded->backend.api->backend_destroy(loaded->backend.handle);
    }
    md_arena_deinit(&backends->arena);
    pthread_mutex_destroy(&backends->mutex);
    md_free(backends);
}
