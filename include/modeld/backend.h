/*
 * modeld backend interface.
 *
 * A backend is a shared library that gives models to one engine. It exports one symbol,
 * modeld_backend_entry, and sees nothing of the server but this header. Objects nest: backend (the
 * library, once a process) -> model (one mapping: a version loaded by the engine) -> instance (a
 * permission to run one batch at a time). Each has a create/destroy pair; destroy is called after
 * every child is gone.
 *
 * Growth. Every struct that crosses the border begins with struct_size (bytes that its writer
 * knows). Fields are only appended; a reader uses a field only if struct_size covers it. Arrays of
 * structs carry their own stride. A function that a side does not have is NULL. Same abi_major =
 * compatible; a larger abi_minor only adds.
 *
 * Threads. backend_create/_destroy: one at a time. model_create/_destroy, instance_create/_destroy:
 * a loader thread; at the same time for different models only with MODELD_BACKEND_PARALLEL_LOAD.
 * execute: never twice at a time for one instance, from any thread unless
 * MODELD_BACKEND_THREAD_BOUND. cancel: any thread, at any time while the instance exists. Host
 * functions may be called from any thread.
 *
 * Errors. A function that can fail returns a modeld_code (0 = done) and writes one sentence for
 * people into the modeld_text that it was given: which file or tensor, what was expected, what to
 * do.
 *
 * Handles (modeld_request, modeld_buffer) are numbers, not pointers: the other side may be another
 * process.
 */
#ifndef MODELD_BACKEND_H
#define MODELD_BACKEND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MODELD_ABI_MAJOR 1
#define MODELD_ABI_MINOR 0

#define MODELD_EXPORT __attribute__((visibility("default")))

/* Canonical gRPC codes, same numbers. */
enum modeld_code {
    MODELD_OK = 0,
    MODELD_CANCELLED = 1,
    MODELD_UNKNOWN = 2,
    MODELD_INVALID_ARGUMENT = 3,
    MODELD_DEADLINE_EXCEEDED = 4,
    MODELD_NOT_FOUND = 5,
    MODELD_RESOURCE_EXHAUSTED = 8,
    MODELD_FAILED_PRECONDITION = 9,
    MODELD_UNIMPLEMENTED = 12,
    MODELD_INTERNAL = 13,
    MODELD_UNAVAILABLE = 14,
    /* Not an error: the stream has no credit left (respond), see resume. */
    MODELD_WOULD_BLOCK = 1000,
};

/* Element types; numbers of `DataType` in the model configuration. BYTES elements are a
 * little-endian u32 length followed by that many bytes. BOOL is one byte, 0 or 1. Everything is
 * little-endian and row-major. */
enum modeld_dtype {
    MODELD_DTYPE_INVALID = 0,
    MODELD_DTYPE_BOOL = 1,
    MODELD_DTYPE_UINT8 = 2,
    MODELD_DTYPE_UINT16 = 3,
    MODELD_DTYPE_UINT32 = 4,
    MODELD_DTYPE_UINT64 = 5,
    MODELD_DTYPE_INT8 = 6,
    MODELD_DTYPE_INT16 = 7,
    MODELD_DTYPE_INT32 = 8,
    MODELD_DTYPE_INT64 = 9,
    MODELD_DTYPE_FP16 = 10,
    MODELD_DTYPE_FP32 = 11,
    MODELD_DTYPE_FP64 = 12,
    MODELD_DTYPE_BYTES = 13,
    MODELD_DTYPE_BF16 = 14,
};

enum modeld_memory_kind {
    MODELD_MEMORY_HOST = 0,
    MODELD_MEMORY_HOST_PINNED = 1, /* reserved */
    MODELD_MEMORY_DEVICE = 2,      /* reserved */
};

enum modeld_log_level {
    MODELD_LOG_ERROR = 0,
    MODELD_LOG_WARNING = 1,
    MODELD_LOG_INFO = 2,
    MODELD_LOG_VERBOSE = 3,
};

typedef uint64_t modeld_request; /* 0 = none */
typedef uint64_t modeld_buffer;  /* 0 = none */

/* Where an error sentence goes: at most capacity - 1 bytes of UTF-8 and a zero byte. */
struct modeld_text {
    char *text;
    size_t capacity;
};

struct modeld_tensor {
    const char *name; /* zero-terminated */
    uint32_t dtype;   /* enum modeld_dtype */
    uint32_t rank;
    const int64_t *shape; /* rank entries, each >= 0 */
    const void *data; /* may be unaligned; aligned to 64 bytes where the client's layout allows */
    uint64_t bytes;
    uint32_t memory_kind; /* enum modeld_memory_kind */
    int32_t device_id;
    uint64_t fence; /* reserved, 0 = ready */
};

/* One batch. Everything in it is valid until every request of the batch is finished. */
struct modeld_batch {
    uint32_t struct_size;
    uint32_t request_count; /* 1, unless the model has a batch dimension */
    const modeld_request *requests;
    const int64_t *rows; /* rows of each request in dimension 0; all 1 without a batch dimension */
    uint32_t input_count;
    uint32_t input_stride;              /* bytes from one tensor to the next */
    const struct modeld_tensor *inputs; /* an optional input that was not sent is absent */
    uint32_t output_count;              /* outputs that somebody wants; 0 = all of them */
    uint32_t padding_rows; /* behind those of the last request, so that the batch has a size that is
                              allowed: nobody's, their outputs are dropped. The inputs hold them */
    const char *const *output_names;
};

/* Where an output's bytes are, and who frees them. */
enum modeld_output_memory {
    MODELD_OUTPUT_COPY = 0, /* valid during respond only: the host copies */
    MODELD_OUTPUT_BUFFER =
        1, /* host memory from buffer_create; respond takes it over, also when it fails */
    MODELD_OUTPUT_OWN = 2,   /* backend's memory: the host calls release(release_arg) when it is
                                written out, from any   thread, also when respond fails */
    MODELD_OUTPUT_INPUT = 3, /* a part of one of this request's input tensors */
};

struct modeld_output {
    struct modeld_tensor
        tensor;      /* BYTES as on the wire; shape with the request's own rows in dimension 0 */
    uint32_t memory; /* enum modeld_output_memory */
    uint32_t reserved;
    modeld_buffer buffer; /* MODELD_OUTPUT_BUFFER */
    void (*release)(void *arg);
    void *release_arg;
};

struct modeld_response {
    uint32_t struct_size;
    uint32_t output_count;
    uint32_t output_stride; /* bytes from one output to the next */
    uint32_t reserved;
    const struct modeld_output *outputs;
};

enum modeld_finish {
    MODELD_FINISH_FINAL = 0,
    MODELD_FINISH_RESCHEDULE = 1, /* reserved: refused with MODELD_UNIMPLEMENTED */
};

/* What the host offers. Lives as long as the process. */
struct modeld_host_api {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;

    /* One log line; the host adds time, backend, and what it knows of the calling thread's request.
     */
    void (*log)(uint32_t level, const char *text);

    /* Memory for an output of this request, aligned to 64 bytes: what is written there goes to the
     * socket as it is. Returns 0 and no memory when the server's bound on bytes in flight is
     * reached. */
    modeld_buffer (*buffer_create)(modeld_request request, uint64_t bytes, void **data);
    /* For a buffer that was not handed over. */
    void (*buffer_destroy)(modeld_buffer buffer);

    /* Sends one response of a request, 0..n times (n <= 1 unless the model is decoupled). Returns
     * MODELD_OK; MODELD_WOULD_BLOCK when the stream's credit is used up (nothing was taken over; go
     * on after `resume`); MODELD_CANCELLED when nobody waits any more; MODELD_INVALID_ARGUMENT for
     * an output that contradicts itself (the request fails with that sentence). */
    int32_t (*respond)(modeld_request request, const struct modeld_response *response);

    /* Ends a request: exactly once for each, with MODELD_OK or with an error (text may be NULL).
     * The handle is dead afterwards. Of a unary model a request that is finished OK without a
     * response is an error. */
    int32_t (*finish)(modeld_request request, int32_t code, const char *text, uint32_t how);

    /* 1 if the client has gone or the deadline has passed. */
    int32_t (*is_cancelled)(modeld_request request);

    /* Reserved: NULL until their stage. */
    void *infer;
    void *state;
    void *deadline;
    void *progress;
    void *report_memory;
    void *metric;
    void *trace_context;
    void *thread_budget;
};

struct modeld_option {
    const char *key;
    const char *value;
};

struct modeld_backend_args {
    uint32_t struct_size;
    uint32_t engine_threads; /* size of the one engine thread pool of the process; 0 = the engine
                                decides */
    const char *directory;   /* where the backend's library was found */
    uint32_t option_count;   /* --backend-config NAME,key=value */
    uint32_t option_stride;  /* bytes from one option to the next */
    const struct modeld_option *options;
};

struct modeld_model_args {
    uint32_t struct_size;
    uint32_t instance_count; /* instances that will be created */
    const char *name;
    int64_t version;
    const char *directory;   /* of the version; absolute */
    const char *filename;    /* default_model_filename or NULL */
    const char *config_json; /* the whole model configuration as JSON */
    int64_t max_batch_size;
    uint32_t parameter_count; /* `parameters` of the configuration */
    uint32_t parameter_stride;
    const struct modeld_option *parameters;
    uint32_t op_library_count; /* model_operations; only when the operator allowed them */
    uint32_t reserved;
    const char *const *op_libraries; /* absolute paths */
    int32_t
        optimization_level; /* optimization.graph.level: 0 = all, -1 = basic, 1.. = less than all */
    uint32_t accelerator_count; /* optimization.execution_accelerators, CPU then GPU */
    const char *const *accelerators;
    const char
        *output_names; /* of the configuration, comma separated, in order; NULL = it names none */
    const char *input_names; /* the same of its inputs */
};

#define MODELD_RANK_ANY UINT32_MAX

/* A tensor that the model takes or gives. */
struct modeld_tensor_spec {
    const char *name;
    uint32_t dtype;
    uint32_t rank;        /* MODELD_RANK_ANY: the model leaves it open, shape is NULL */
    const int64_t *shape; /* -1 = any */
    uint32_t optional;    /* inputs: 1 = may be left out */
    uint32_t reserved;
};

/* What was loaded; owned by the model, valid until model_destroy. */
struct modeld_model_info {
    uint32_t struct_size;
    uint32_t spec_stride; /* bytes from one spec to the next */
    uint32_t input_count; /* UINT32_MAX: the backend takes whatever the configuration says */
    uint32_t output_count;
    const struct modeld_tensor_spec *inputs;
    const struct modeld_tensor_spec *outputs;
    uint64_t memory_bytes; /* estimate of what the mapping holds; 0 = unknown */
    uint32_t batchable;    /* 1: dimension 0 of every tensor is a free batch dimension */
    uint32_t decoupled;    /* 1: answers 0..n responses */
    const char *platform;  /* as metadata shows it, "onnxruntime_onnx"; NULL = the backend's name */
    uint32_t may_block;    /* 1: INLINE_SAFE does not hold for this model */
    uint32_t reserved;
};

struct modeld_instance_args {
    uint32_t struct_size;
    uint32_t index; /* 0.. within the model */
    int32_t device_id;
    uint32_t device_kind; /* 0 = CPU */
    const char *name;
};

enum modeld_backend_flag {
    MODELD_BACKEND_PARALLEL_LOAD = 1 << 0, /* models may be created at the same time */
    MODELD_BACKEND_INLINE_SAFE =
        1 << 1, /* execute never blocks: the server may call it on a network thread */
    MODELD_BACKEND_THREAD_BOUND = 1 << 2, /* all calls for one instance come from one thread */
    MODELD_BACKEND_ASYNCHRONOUS = 1 << 3, /* execute may return before the requests are finished */
    MODELD_BACKEND_TAKES_ROWS = 1 << 4,   /* reserved: gets requests' tensors ungathered */
    MODELD_BACKEND_OWN_PROCESS = 1 << 5,  /* reserved: wants to run in a worker process */
    MODELD_BACKEND_RETRY_SAFE = 1 << 6,   /* a request that failed in a batch of several, and was
                                             not answered, may be executed again, alone: nothing
                                             that is done twice does harm */
};

struct modeld_backend_api {
    uint32_t struct_size;
    uint16_t abi_major;
    uint16_t abi_minor;
    const char *name;
    const char *version; /* of the backend and its engine, for the log */
    uint64_t flags;      /* enum modeld_backend_flag */

    int32_t (*backend_create)(const struct modeld_backend_args *args, void **backend,
                              struct modeld_text *error);
    void (*backend_destroy)(void *backend);

    int32_t (*model_create)(void *backend, const struct modeld_model_args *args, void **model,
                            struct modeld_text *error);
    const struct modeld_model_info *(*model_info)(void *model);
    void (*model_destroy)(void *model);

    int32_t (*instance_create)(void *model, const struct modeld_instance_args *args,
                               void **instance, struct modeld_text *error);
    void (*instance_destroy)(void *instance);

    /* Runs a batch: respond and finish for each of its requests, before it returns unless
     * ASYNCHRONOUS. */
    void (*execute)(void *instance, const struct modeld_batch *batch);

    /* Optional: stop working for this request as soon as possible; it must still be finished. */
    void (*cancel)(void *instance, modeld_request request);
    /* Optional: the stream that answered MODELD_WOULD_BLOCK has credit again. */
    void (*resume)(void *instance, modeld_request request);
    /* Optional: give back memory that is not needed (after an unload). */
    void (*trim)(void *backend);

    /* Reserved: NULL until their stage. */
    void *sequence_start;
    void *sequence_end;
    void *model_memory;
    void *warm_up;
};

/* The one symbol of a backend. Called once, before anything else; NULL = cannot work with this
 * host. */
MODELD_EXPORT const struct modeld_backend_api *modeld_backend_entry(
    const struct modeld_host_api *host);

/* Optional symbol, called before the other one: 0 = this library cannot run on this machine. */
MODELD_EXPORT int32_t modeld_backend_score(void);

#ifdef __cplusplus
}
#endif
#endif
