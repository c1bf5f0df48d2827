/*
 * The host side of the backend ABI for tests: hands out requests and buffers, keeps what a backend
 * answers, and counts every breach of the contract (a request finished twice, a response after the
 * end, an output that contradicts itself, memory that is not given back).
 *
 * One per process; thread-safe. Requests are made by the test, driven through a backend, looked at,
 * destroyed.
 */
#ifndef TESTS_BACKEND_FAKE_HOST_H
#define TESTS_BACKEND_FAKE_HOST_H

#include <modeld/backend.h>
#include <stdbool.h>

enum { FAKE_RANK_MAX = 16, FAKE_OUTPUTS_MAX = 64, FAKE_TEXT_BYTES = 1024 };

/* An output as it was when the backend responded. */
struct fake_output {
    char name[128];
    uint32_t dtype;
    uint32_t rank;
    int64_t shape[FAKE_RANK_MAX];
    void *data; /* own: a copy */
    uint64_t bytes;
    uint32_t memory; /* enum modeld_output_memory */
};

/* What a request has come to. */
struct fake_result {
    uint32_t finish_count;
    int32_t code;
    char text[FAKE_TEXT_BYTES];
    uint32_t response_count;
    uint32_t output_count; /* of the last response */
    struct fake_output outputs[FAKE_OUTPUTS_MAX];
};

enum fake_release {
    FAKE_RELEASE_AT_ONCE, /* within respond */
    FAKE_RELEASE_LATER,   /* by fake_host_release_all, from another thread than the backend's */
};

/* The table to give to a backend. grown: a later host, with a larger struct and unknown functions
 * behind the known. */
const struct modeld_host_api *fake_host_api(bool grown);

void fake_host_set_release(enum fake_release when);
void fake_host_release_all(void);        /* takes a thread of its own for it */
void fake_host_refuse_buffers(bool yes); /* as at the bound on bytes in flight */
void fake_host_set_quiet(bool yes);      /* the backend's log lines are not printed */

/* Breaches so far; each was printed. Unreleased outputs and buffers count when they are asked for
 * here. */
uint32_t fake_host_breaches(void);
/* Log lines at this level since the last call. */
uint32_t fake_host_log_lines(uint32_t level);

modeld_request fake_request_create(void);
/* Marks it as one that nobody waits for; the caller tells the backend. */
void fake_request_cancel(modeld_request request);
/* Waits up to timeout_ms until it is finished. */
bool fake_request_wait(modeld_request request, int timeout_ms);
/* Borrowed until destroy; only after it was finished. */
const struct fake_result *fake_request_result(modeld_request request);
void fake_request_destroy(modeld_request request);

/* Bytes of one element; 0 for BYTES. */
size_t fake_dtype_bytes(uint32_t dtype);
const char *fake_dtype_name(uint32_t dtype);
uint32_t fake_dtype_from_name(const char *name); /* MODELD_DTYPE_INVALID if there is none */

#endif
