/*
 * The engine as one object of the process: its library, its environment, its errors.
 *
 * Owner: the one backend object (entry.c). Everything here is set by md_ort_engine_create and
 * constant until md_ort_engine_destroy; it may be used from any thread in between. The library
 * itself stays mapped for good: outputs that a slow reader still holds are released through it
 * after the backend is gone.
 */
#ifndef MD_ORT_ENGINE_H
#define MD_ORT_ENGINE_H

#include <modeld/backend.h>
#include <onnxruntime_c_api.h>
#include <stdbool.h>

/* The lowest API that has all that is used here; any newer library offers it too. */
enum { MD_ORT_API_VERSION = 21 };

struct md_ort_engine {
    const OrtApi *api;             /* borrow: static in the library */
    OrtEnv *env;                   /* own: thread pools and logger */
    OrtMemoryInfo *host_memory;    /* own */
    OrtAllocator *allocator;       /* borrow: the engine's default */
    int32_t intra_op_thread_count; /* of the process-wide pool; 0 = the engine's choice */
};

extern const struct modeld_host_api *md_ort_host; /* set by modeld_backend_entry */
extern struct md_ort_engine md_ort;

/* Loads the library and starts the environment. NOT_FOUND with the places that were searched,
 * INVALID_ARGUMENT for an option that cannot be, FAILED_PRECONDITION for a library that is too old.
 */
int32_t md_ort_engine_create(const struct modeld_backend_args *args, struct modeld_text *error);
void md_ort_engine_destroy(void);

/* Writes the sentence and returns code. error may be NULL. */
int32_t md_ort_fail(struct modeld_text *error, int32_t code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As md_ort_fail with the engine's message behind the sentence. Takes status, which may be NULL:
 * then MODELD_OK. */
int32_t md_ort_check(OrtStatus *status, struct modeld_text *error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The sentence for a failed allocation. */
int32_t md_ort_no_memory(struct modeld_text *error);

/* One log line of the backend. */
void md_ort_log(uint32_t level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Option i of an array whose elements may be larger than this header knows. */
static inline const struct modeld_option *md_ort_option(const struct modeld_option *options,
                                                        uint32_t stride, uint32_t i)
{
    return (const struct modeld_option *)((const char *)options + (size_t)stride * i);
}

/* A whole decimal number between low and high; false otherwise. */
bool md_ort_parse_int(const char *text, int32_t low, int32_t high, int32_t *out);

#endif
