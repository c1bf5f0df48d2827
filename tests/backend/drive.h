/*
 * Drives one backend library through the ABI as a server does: opens it, loads one model, runs
 * batches. With `grown` every struct and every stride is larger than this header's, as a later
 * server's would be.
 *
 * A struct drive belongs to one test; drive_execute may be called from several threads for
 * different instances.
 */
#ifndef TESTS_BACKEND_DRIVE_H
#define TESTS_BACKEND_DRIVE_H

#include "fake_host.h"

enum {
    DRIVE_INSTANCES_MAX = 16,
    DRIVE_OPTIONS_MAX = 32,
    DRIVE_NAMES_MAX = 8,
    DRIVE_ERROR_BYTES = 1024
};

struct drive_config {
    const char *library; /* path of the backend's .so */
    uint32_t engine_threads;
    struct modeld_option options[DRIVE_OPTIONS_MAX]; /* of the backend */
    uint32_t option_count;
    const char *directory; /* of the model version */
    const char *filename;
    const char *config_json;
    int64_t max_batch_size;
    struct modeld_option parameters[DRIVE_OPTIONS_MAX]; /* of the model */
    uint32_t parameter_count;
    const char *accelerators[DRIVE_NAMES_MAX];
    uint32_t accelerator_count;
    const char *op_libraries[DRIVE_NAMES_MAX];
    uint32_t op_library_count;
    int32_t optimization_level;
    uint32_t instance_count;
    bool grown;
};

struct drive {
    struct drive_config config;
    void *library;
    const struct modeld_backend_api *api;
    void *backend;
    void *model;
    const struct modeld_model_info *info;
    void *instances[DRIVE_INSTANCES_MAX];
    int32_t code; /* of the last call that failed */
    char error[DRIVE_ERROR_BYTES];
};

struct drive_tensor {
    char name[128];
    uint32_t dtype;
    uint32_t rank;
    int64_t shape[FAKE_RANK_MAX];
    void *data; /* own unless the caller put it there */
    uint64_t bytes;
};

/* Each returns false and fills code and error. They nest: open, start, load; unload, stop, close.
 */
bool drive_open(struct drive *drive, const struct drive_config *config); /* library and table */
bool drive_start(struct drive *drive);                                   /* the backend */
bool drive_load(struct drive *drive); /* the model and its instances */
void drive_unload(struct drive *drive);
void drive_stop(struct drive *drive);
void drive_close(struct drive *drive); /* whatever is left of it; the library stays mapped */

/* open + start + load. */
bool drive_up(struct drive *drive, const struct drive_config *config);

bool drive_instance_create(struct drive *drive, uint32_t index, void **instance);

/* A batch of given requests on an instance; returns when execute returns. output_count 0 = all of
 * them. rows may be NULL: one each, or for a single request of a model with a batch dimension those
 * of its first input. */
struct drive_batch {
    const struct drive_tensor *inputs;
    uint32_t input_count;
    const char *const *outputs;
    uint32_t output_count;
    const modeld_request *requests;
    const int64_t *rows;
    uint32_t request_count;
};
void drive_execute(const struct drive *drive, void *instance, const struct drive_batch *batch);

/* One request on instance 0, waited for. The caller destroys the returned request. */
modeld_request drive_run(const struct drive *drive, const struct drive_tensor *inputs,
                         uint32_t input_count);

const struct modeld_tensor_spec *drive_input(const struct drive *drive, uint32_t i);
const struct modeld_tensor_spec *drive_output(const struct drive *drive, uint32_t i);

/* A tensor with values that any model can take: small numbers, short strings with a zero byte
 * inside. */
void drive_tensor_fill(struct drive_tensor *tensor, const char *name, uint32_t dtype,
                       const int64_t *shape, uint32_t rank);
/* A tensor for a spec; rows where dimension 0 is free, 2 where another is. */
void drive_tensor_for(struct drive_tensor *tensor, const struct modeld_tensor_spec *spec,
                      int64_t rows);
void drive_tensors_free(struct drive_tensor *tensors, uint32_t count);

#endif
