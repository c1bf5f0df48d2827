/*
 * Errors: a canonical code, our own reason, and one sentence for people.
 *
 * Owned by the caller (usually on the stack), filled by the callee, never allocates. A function
 * that can fail returns false and has filled its `struct md_error *`; on true the error is
 * untouched. The pointer is never NULL. Codes are the canonical gRPC codes with the same numbers.
 * The reason says why in our own vocabulary; the table below maps it to its code and to the class
 * of the failure counters. Dialects map (code, reason) to their status.
 */
#ifndef MD_BASE_ERROR_H
#define MD_BASE_ERROR_H

#include "base/compiler.h"

enum md_code {
    MD_CODE_OK = 0,
    MD_CODE_CANCELLED = 1,
    MD_CODE_UNKNOWN = 2,
    MD_CODE_INVALID_ARGUMENT = 3,
    MD_CODE_DEADLINE_EXCEEDED = 4,
    MD_CODE_NOT_FOUND = 5,
    MD_CODE_ALREADY_EXISTS = 6,
    MD_CODE_PERMISSION_DENIED = 7,
    MD_CODE_RESOURCE_EXHAUSTED = 8,
    MD_CODE_FAILED_PRECONDITION = 9,
    MD_CODE_ABORTED = 10,
    MD_CODE_OUT_OF_RANGE = 11,
    MD_CODE_UNIMPLEMENTED = 12,
    MD_CODE_INTERNAL = 13,
    MD_CODE_UNAVAILABLE = 14,
    MD_CODE_DATA_LOSS = 15,
    MD_CODE_UNAUTHENTICATED = 16,
};

/* Class of a failed request in the failure counters (label `reason` of
 * nv_inference_request_failure). */
enum md_failure {
    MD_FAILURE_REJECTED,
    MD_FAILURE_CANCELED,
    MD_FAILURE_BACKEND,
    MD_FAILURE_OTHER,
    MD_FAILURE_COUNT,
};

/* X(suffix, code, failure class, whether trying again may help, name in logs) */
#define MD_REASON_LIST(X)                                                        \
    X(NONE, OK, OTHER, false, "none")                                            \
    X(CANCELLED, CANCELLED, CANCELED, false, "cancelled")                        \
    X(INVALID_ARGUMENT, INVALID_ARGUMENT, OTHER, false, "invalid_argument")      \
    X(MALFORMED, INVALID_ARGUMENT, OTHER, false, "malformed")                    \
    X(DEADLINE, DEADLINE_EXCEEDED, REJECTED, false, "deadline")                  \
    X(UNKNOWN_MODEL, NOT_FOUND, OTHER, false, "unknown_model")                   \
    X(NOT_FOUND, NOT_FOUND, OTHER, false, "not_found")                           \
    X(NOT_READY, UNAVAILABLE, REJECTED, false, "not_ready")                      \
    X(ALREADY_EXISTS, ALREADY_EXISTS, OTHER, false, "already_exists")            \
    X(RESTRICTED, PERMISSION_DENIED, REJECTED, false, "restricted")              \
    X(TOO_LARGE, RESOURCE_EXHAUSTED, REJECTED, false, "too_large")               \
    X(QUEUE_FULL, UNAVAILABLE, REJECTED, true, "queue_full")                     \
    X(QUEUE_TIMEOUT, UNAVAILABLE, REJECTED, true, "queue_timeout")               \
    X(INFLIGHT_BYTES, UNAVAILABLE, REJECTED, true, "inflight_bytes")             \
    X(DEADLINE_UNREACHABLE, UNAVAILABLE, REJECTED, true, "deadline_unreachable") \
    X(EXITING, UNAVAILABLE, REJECTED, true, "exiting")                           \
    X(UNSUPPORTED, UNIMPLEMENTED, OTHER, false, "unsupported")                   \
    X(BACKEND, INTERNAL, BACKEND, false, "backend")                              \
    X(OUT_OF_MEMORY, RESOURCE_EXHAUSTED, REJECTED, true, "out_of_memory")        \
    X(IO, INTERNAL, OTHER, false, "io")                                          \
    X(CONFLICT, FAILED_PRECONDITION, OTHER, false, "conflict")                   \
    X(INTERNAL, INTERNAL, OTHER, false, "internal")

enum md_reason {
#define MD_REASON_ENUM(suffix, code, failure, again, name) MD_REASON_##suffix,
    MD_REASON_LIST(MD_REASON_ENUM)
#undef MD_REASON_ENUM
        MD_REASON_COUNT,
};

enum { MD_ERROR_TEXT_MAX = 1024 };

/* Seconds after which trying again may help; answers have it as text, too. */
#define MD_RETRY_AFTER_S    1
#define MD_RETRY_AFTER_TEXT "1"

struct md_error {
    enum md_code code;
    enum md_reason reason;
    char text[MD_ERROR_TEXT_MAX]; /* UTF-8, always terminated; cut at the end when too long */
};

/* What a reason stands for. Any thread. */
enum md_code md_reason_code(enum md_reason reason);
const char *md_code_name(enum md_code code); /* "INVALID_ARGUMENT"; NULL: there is none */
enum md_failure md_reason_failure(enum md_reason reason);
const char *md_reason_name(enum md_reason reason); /* lower case, as in logs: "queue_full" */

/* MD_RETRY_AFTER_S where trying again may help: overload, or a server that ends while others go on;
 * else 0. For all dialects. Any thread. */
unsigned md_error_retry_after_s(const struct md_error *err);

/* Fills err with the reason, its code and a formatted sentence; returns false so that callers can
 * return it. */
bool md_error_set(struct md_error *err, enum md_reason reason, const char *format, ...)
    MD_PRINTF(3, 4);

/* As md_error_set with another code than the reason's own (a backend's own status, say). */
bool md_error_set_code(struct md_error *err, enum md_reason reason, enum md_code code,
                       const char *format, ...) MD_PRINTF(4, 5);

/* Puts "prefix: " before the text that is there. Returns false. */
bool md_error_prefix(struct md_error *err, const char *format, ...) MD_PRINTF(2, 3);

/* The standard sentence for a failed allocation of `what`. Returns false. */
bool md_error_no_memory(struct md_error *err, const char *what);

/* The standard sentence for what --inflight-bytes has no room for now (INFLIGHT_BYTES). Returns
 * false. */
bool md_error_over_budget(struct md_error *err);

/* Makes err an OK with empty text; needed only where an error object is read without a failure
 * before. */
void md_error_clear(struct md_error *err);

#endif
