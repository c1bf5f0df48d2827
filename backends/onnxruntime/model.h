/*
 * A mapping: one session of the engine, shared by all instances of the model, and what it says
 * about its tensors.
 *
 * Created and destroyed on a loader thread, after and before its instances; constant in between. A
 * session takes any number of runs at the same time.
 */
#ifndef MD_ORT_MODEL_H
#define MD_ORT_MODEL_H

#include "engine.h"

struct md_ort_model {
    OrtSession *session;           /* own */
    struct modeld_model_info info; /* borrows specs */
    struct modeld_tensor_spec
        *specs; /* own: inputs, then outputs; names are the engine's, shapes are heap */
    uint32_t required_count;  /* inputs that are not optional */
    char *arena_shrinkage;    /* own; run option memory.enable_memory_arena_shrinkage or NULL */
    bool has_batch_dimension; /* max_batch_size > 0: dimension 0 of every tensor is the batch's rows
                               */
};

/* Loads the file. NOT_FOUND names the file that is missing, INVALID_ARGUMENT says what is wrong
 * with it or with a parameter, UNIMPLEMENTED names a tensor that this server has no type for. */
int32_t md_ort_model_create(const struct modeld_model_args *args, struct md_ort_model **model,
                            struct modeld_text *error);
void md_ort_model_destroy(struct md_ort_model *model);

#endif
