/*
 * What inferences over REST and gRPC have in common.
 */
#include "api/oip/inference.h"

#include "api/oip/placing.h"
#include "api/oip/tracing.h"
#include "infer/statistics.h"

enum { SMALL_TENSOR_BYTES = 1024, TENSOR_ALIGNMENT = 64 };

static void drop_target(void *arg)
{
    const struct md_oip_inference *inference = arg;

    md_target_unref(&inference->version->target, md_loop_index(inference->loop));
}

bool md_oip_inference_begin(struct md_oip_inference *inference, struct md_str model,
                            struct md_str version, const struct md_responder *responder,
                            void *dialect, struct md_error *err)
{
    struct md_loop *loop = inference->loop;
    struct md_version *found = md_models_resolve(inference->oip->models, model, version, err);

    if (!found) {
        return false;
    }
    if (!md_arena_on_reset(inference->arena, drop_target, inference)) {
        return md_error_no_memory(err, "a request");
    }
    inference->version = found;
    md_target_ref(&found->target, md_loop_index(loop));
    md_request_init(&inference->request, &found->target, loop, inference->arena, responder,
                    dialect);
    md_oip_trace_begin(inference);
    return true;
}

void md_oip_inference_count_refusal(const struct md_oip_inference *inference,
                                    const struct md_error *err, uint64_t begin_ns)
{
    const struct md_loop *loop = inference->loop;

    md_statistics_record_refusal(&inference->version->target, md_loop_index(loop), err->reason,
                                 md_loop_now_ns(loop) - begin_ns);
}

bool md_oip_inference_check(struct md_oip_inference *inference, struct md_error *err)
{
    struct md_request *request = &inference->request;
    struct md_str *names =
        md_arena_alloc(inference->arena, inference->output_count * sizeof *names);

    if (!names) {
        return md_error_no_memory(err, "the request");
    }
    for (size_t i = 0; i < inference->output_count; i++) {
        names[i] = inference->outputs[i].name;
    }
    request->outputs = names;
    request->output_count = inference->output_count;
    request->parameters = inference->parameters;
    request->parameter_count = inference->parameter_count;
    return md_request_check_outputs(request, err) && md_request_check(request, err) &&
           md_oip_placing_may_fit(inference, err);
}

const struct md_oip_output *md_oip_inference_output(const struct md_oip_inference *inference,
                                                    struct md_str name)
{
    for (size_t i = 0; i < inference->output_count; i++) {
        if (md_str_eq(inference->outputs[i].name, name)) {
            return &inference->outputs[i];
        }
    }
    return NULL;
}

/* --- memory -------------------- */

bool md_oip_inference_is_small(size_t bytes)
{
    return bytes <= SMALL_TENSOR_BYTES;
}

static void release_block(void *arg)
{
    md_block_unref(arg);
}

struct md_block *md_oip_inference_block(struct md_oip_inference *inference, size_t bytes,
                                        size_t counted, struct md_error *err)
{
    bool ignored;
    struct md_block *block =
        md_pool_alloc_lazy(md_loop_pool(inference->loop), bytes, counted, &ignored);

    if (!block || !md_arena_on_reset(inference->arena, release_block, block)) {
        md_block_unref(block);
        (void)md_error_over_budget(err);
        return NULL;
    }
    return block;
}

char *md_oip_inference_memory(struct md_oip_inference *inference, size_t bytes,
                              struct md_error *err)
{
    if (md_oip_inference_is_small(bytes)) {
        char *data = md_arena_alloc(inference->arena, bytes + TENSOR_ALIGNMENT);
        if (!data) {
            (void)md_error_no_memory(err, "the request");
            return NULL;
        }
        return (char *)md_size_align((uintptr_t)data, TENSOR_ALIGNMENT);
    }
    struct md_block *block = md_oip_inference_block(inference, bytes, bytes, err);
    return block ? block->data : NULL;
}
