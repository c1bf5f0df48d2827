/*
 * What inferences over REST and gRPC have in common.
 */
#include "api/oip/inference.h"

#include "api/oip/placing.h"
#include "api/oip/tracing.h"
#include "base/clock.h"
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

/* --- limits of time -------------------- */

static bool take_timeout(struct md_exchange *x, struct md_str text, struct md_error *err)
{
    const uint64_t most_ms = UINT64_MAX / 2 / MD_NS_PER_MS;
    uint64_t ms;

    if (!text.len || !md_str_to_u64(text, &ms)) {
        return md_error_set(err, MD_REASON_INVALID_ARGUMENT,
                            "Unable to parse " MD_OIP_TIMEOUT_HEADER
                            " '%.*s': a natural number of milliseconds was expected",
                            MD_STR_ARG(text));
    }
    if (ms == 0) {
        return md_error_set(err, MD_REASON_DEADLINE, "Deadline Exceeded");
    }
    const uint64_t deadline_ns = x->begin_ns + md_size_min(ms, most_ms) * MD_NS_PER_MS;
    if (!x->deadline_ns || deadline_ns < x->deadline_ns) {
        x->deadline_ns = deadline_ns;
    }
    return true;
}

bool md_oip_take_deadline(struct md_exchange *x, struct md_error *err)
{
    static const struct md_str name = MD_STR(MD_OIP_TIMEOUT_HEADER);

    for (size_t i = 0; i < x->head.header_count; i++) {
        const struct md_http_header *header = &x->head.headers[i];
        if (header->name.len == name.len && md_str_eq_nocase(header->name, name) &&
            !take_timeout(x, header->value, err)) {
            return false;
        }
    }
    return true;
}

/* Readers have checked that they are numbers, and not negative. */
static void take_limits(struct md_oip_inference *inference)
{
    struct md_request *request = &inference->request;

    request->deadline_ns = inference->x->deadline_ns;
    for (size_t i = 0; i < inference->parameter_count; i++) {
        const struct md_parameter *parameter = &inference->parameters[i];
        if (md_str_eq_c(parameter->name, "priority")) {
            request->priority = (uint64_t)parameter->value.integer;
        } else if (md_str_eq_c(parameter->name, "timeout")) {
            const uint64_t us = (uint64_t)parameter->value.integer;
            request->timeout_ns = us > UINT64_MAX / MD_NS_PER_US ? UINT64_MAX : us * MD_NS_PER_US;
        }
    }
}

void md_oip_inference_cancel(struct md_oip_inference *inference)
{
    const uint64_t deadline_ns = inference->request.deadline_ns;

    if (!deadline_ns || md_loop_now_ns(inference->loop) < deadline_ns) {
        md_infer_cancel(&inference->request);
    }
}

/* --- check -------------------- */

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
    take_limits(inference);
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
