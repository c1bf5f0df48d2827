/*
 * One inference of the dialect, whatever it came over: what REST (infer.h) and gRPC (grpc_infer.h)
 * have in common, from the resolved version to the submission. Embedded in theirs; on the home
 * loop; its memory is the arena's.
 */
#ifndef MD_API_OIP_INFERENCE_H
#define MD_API_OIP_INFERENCE_H

#include "api/oip/oip.h"
#include "api/shared_memory/tensors.h"
#include "infer/request.h"

struct md_oip_trace;

enum {
    MD_OIP_SLICE_BYTES = 64 * 1024, /* of decoding or encoding between looks at other connections */
    MD_OIP_ITEMS_MAX = 1024, /* of a list in a request, where the target does not have more: each is
                                compared with all others, and lies in memory that is not counted */
};

/* An output that the client named, or the default for all. */
struct md_oip_output {
    struct md_str name; /* zero-terminated */
    bool binary;
    int64_t class_count; /* classification extension; 0: none */
    struct md_region_place region;
    char *memory;  /* borrow: in that region; NULL: the output is sent */
    unsigned keys; /* that were read, a bit each */
};

struct md_oip_inference {
    struct md_exchange *x;  /* borrow: what it came with; a stream has many on one exchange */
    struct md_loop *loop;   /* borrow: home */
    struct md_arena *arena; /* borrow: of this inference */
    const struct md_oip *oip;
    struct md_version *version; /* NULL until md_oip_inference_begin */
    struct md_oip_trace *trace; /* NULL: it is not traced, see tracing.h */
    struct md_oip_output *outputs;
    size_t output_count, output_capacity;
    struct md_parameter *parameters;
    size_t parameter_count, parameter_capacity;
    struct md_region_uses regions;
    struct md_request request;
};

/* Finds the version and takes a reference to it, which goes with the arena; makes the request
 * ready. The fields above it are set. An error before is nobody's refusal in the statistics. */
bool md_oip_inference_begin(struct md_oip_inference *inference, struct md_str model,
                            struct md_str version, const struct md_responder *responder,
                            void *dialect, struct md_error *err) MD_MUST_CHECK;

/* Counts in the version's statistics that it was refused; begin_ns: of the request. */
void md_oip_inference_count_refusal(const struct md_oip_inference *inference,
                                    const struct md_error *err, uint64_t begin_ns);

/* The header (or metadata) that says by when the client wants its answer, in milliseconds. */
#define MD_OIP_TIMEOUT_HEADER "modeld-timeout-ms"

/* For md_oip_read_deadline, where a header is as long as that one. */
bool md_oip_take_deadline(struct md_exchange *x, struct md_error *err) MD_MUST_CHECK;

/* For on_head: the exchange's deadline is what that header says, where that is sooner than what it
 * has. Errors: INVALID_ARGUMENT, or DEADLINE, since 0 is too late already. */
static inline bool md_oip_read_deadline(struct md_exchange *x, struct md_error *err)
{
    const struct md_http_header *header = x->head.headers;
    const struct md_http_header *end = header + x->head.header_count;

    while (header < end && header->name.len != sizeof MD_OIP_TIMEOUT_HEADER - 1) {
        header++;
    }
    return MD_LIKELY(header == end) || md_oip_take_deadline(x, err);
}

/* Completes the request from outputs, parameters (priority, timeout) and the exchange's deadline
 * (its inputs are set) and compares it with the target. Then md_infer_submit is left to call. */
bool md_oip_inference_check(struct md_oip_inference *inference, struct md_error *err) MD_MUST_CHECK;

/* For on_cancel, of a request that is submitted: nobody waits for it. One whose deadline is what
 * has passed is left alone: infer/ ends it, and not as cancelled. */
void md_oip_inference_cancel(struct md_oip_inference *inference);

/* What the client wants of an output; NULL: it did not name it. */
const struct md_oip_output *md_oip_inference_output(const struct md_oip_inference *inference,
                                                    struct md_str name);

/* Aligned memory for a tensor: small from the arena, large from the loop's pool, given back with
 * the arena. NULL with err. */
char *md_oip_inference_memory(struct md_oip_inference *inference, size_t bytes,
                              struct md_error *err) MD_MUST_CHECK;
/* A block of the loop's pool that goes back with the arena; `counted` bytes of it for now. */
struct md_block *md_oip_inference_block(struct md_oip_inference *inference, size_t bytes,
                                        size_t counted, struct md_error *err) MD_MUST_CHECK;
/* Whether `bytes` are so few that they come from the arena. */
bool md_oip_inference_is_small(size_t bytes);

#endif
