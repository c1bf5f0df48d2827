/*
 * Backends: finds, loads and starts backend libraries by name, once each.
 *
 * One for the process, created by server/; md_backends_get is called by loader threads. A backend's
 * library and its state stay loaded until the end. Names: "onnxruntime" is
 * libmodeld_onnxruntime.so, looked for in the model's version folder, the model's folder, then
 * <directory>/<name>/ for each backend directory. "identity" and "repeat" are built in.
 */
#ifndef MD_BACKEND_BACKENDS_H
#define MD_BACKEND_BACKENDS_H

#include "base/arena.h"
#include "base/error.h"

#include <modeld/backend.h>

struct md_backends;

struct md_backend {
    struct md_str name; /* zero-terminated */
    const struct modeld_backend_api *api;
    void *handle;
};

struct md_backends_options {
    const char *const *directories; /* borrow: searched in this order */
    size_t directory_count;
    bool search_model_folders; /* first: the models' folders are trusted with native code */
    uint32_t engine_threads;
    /* --backend-config: "name" and "key=value" pairs; borrow */
    const struct md_backend_setting {
        struct md_str backend, key,
            value; /* zero-terminated each; an empty backend name means all */
    } * settings;
    size_t setting_count;
};

bool md_backends_create(const struct md_backends_options *options, struct md_backends **out,
                        struct md_error *err) MD_MUST_CHECK;

/* True if md_backends_get would find the backend; nothing is loaded. Errors as there. */
bool md_backends_has(struct md_backends *backends, struct md_str name, const char *library,
                     const char *model_directory, const char *version_directory,
                     struct md_error *err) MD_MUST_CHECK;

/* The started backend of that name; loads it the first time. `library` NULL, or a file name other
 * than the usual
 * ("runtime" of a configuration). Errors name every place that was searched. */
const struct md_backend *md_backends_get(struct md_backends *backends, struct md_str name,
                                         const char *library, const char *model_directory,
                                         const char *version_directory, struct md_error *err);

/* Asks every started backend to give back memory that it does not need. */
void md_backends_trim(struct md_backends *backends);

/* After all models are gone. */
void md_backends_destroy(struct md_backends *backends);

/* The error of a backend's function that failed with this code: its sentence stands in err->text
 * already, which was handed to it as a modeld_text; codes that there are not become INTERNAL. */
bool md_backend_failed(int32_t code, struct md_error *err);

/* Whether what a backend says about a model can be used: pointers, names, types, ranks, dimensions.
 * Reason BACKEND. */
bool md_backend_check_model_info(const struct modeld_model_info *info, struct md_error *err)
    MD_MUST_CHECK;

/* The backend that a model file belongs to by its name ("model.onnx"), or NULL. */
const char *md_backend_of_file(struct md_str filename);
/* The default model file of a backend, or NULL. */
const char *md_backend_default_file(struct md_str backend);

#endif
