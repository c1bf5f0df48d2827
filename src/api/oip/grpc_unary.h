/*
 * Unary calls that are no inference: a function reads the request's message and appends the
 * response's; everything else is the same for all of them.
 *
 * On the loop of the exchange. What is appended is counted against the bytes in flight.
 */
#ifndef MD_API_OIP_GRPC_UNARY_H
#define MD_API_OIP_GRPC_UNARY_H

#include "api/oip/oip.h"
#include "base/bytes.h"
#include "base/progress.h"

enum {
    MD_OIP_UNARY_REQUEST_MAX = 1 << 20,
    MD_OIP_UNARY_SLICE_BYTES = 64 * 1024, /* appended between looks at other connections */
    MD_OIP_UNARY_RESPONSE_MAX = 16 << 20,
};

/* One call while it is answered. */
struct md_oip_unary {
    const struct md_oip *oip;
    struct md_exchange *x;
    struct md_str request; /* the message: well-formed, as far as its own fields go */
    struct md_bytes out;   /* the response's message; out of memory: out.failed, found by the caller
                              of the function */
    size_t at;             /* the function's own, 0 at first: where it goes on */
};

/* AGAIN: call again, after others have had their turn. ERROR: err is set. */
typedef enum md_progress md_oip_unary_function(struct md_oip_unary *call, struct md_error *err);

/* Of exchanges whose `dialect` is a struct md_oip_grpc_method with `answer` or `refusal`. */
extern const struct md_http_handler md_oip_unary_handler;

struct md_oip_grpc_method {
    const char *path;
    const struct md_http_handler *handler;
    enum md_api_group group;
    bool manages; /* changes the server */
    md_oip_unary_function *answer;
    const char *refusal; /* instead of answer: why the method is not implemented */
};

/* --- what the functions have in common -------------------- */

/* Most requests: two strings in the fields 1 and 2. */
struct md_oip_names {
    struct md_str first, second;
};
bool md_oip_names_read(struct md_str message, struct md_oip_names *out, struct md_error *err)
    MD_MUST_CHECK;
/* The same of an entry of a map, whose second field may be a message. */
bool md_oip_entry_read(struct md_str entry, struct md_oip_names *out, struct md_error *err)
    MD_MUST_CHECK;

/* For a message that cannot be read. Returns false. */
bool md_oip_unary_malformed(struct md_error *err);

/* A number as a string, as versions are sent. */
void md_oip_put_decimal(struct md_bytes *out, uint32_t number, int64_t value);

/* The walk over all models as the body of a function: `append` adds the entries of one model. */
enum md_progress md_oip_unary_walk(struct md_oip_unary *call,
                                   void (*append)(struct md_oip_unary *call,
                                                  const struct md_model *model),
                                   struct md_error *err) MD_MUST_CHECK;

#endif
