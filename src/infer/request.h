/*
 * Request: one inference, from a dialect's decoder to its responder.
 *
 * Memory: the struct and all that it points at live in the arena of the dialect's exchange. Owner:
 * the home loop until md_infer_submit, then the scheduler and the executor that runs it, then the
 * home loop again when the responder is called. While it is submitted nobody else touches the
 * arena. Only `state` is shared: cancelling is one compare-and-swap on it.
 *
 * State word: flags, see below. A holder (cancel, resume: always the home loop) keeps the execution
 * from being completed while it is inside the backend for this request; whoever of holder and
 * finisher comes second completes it.
 *
 *      submitted -> waits in the scheduler -> RUNNING -> FINISHED -> delivered to the home loop,
 * `end` called           |                       |         |
 *                        +-> withdrawn,          |         +-> AGAIN as well: it failed in a batch
 *                            given up            |             of several and runs again, alone
 *                                                +-> CANCELLED as well: the backend was asked to
 *                                                    stop, it still finishes; with LATE: the client
 *                                                    has its answer
 */
#ifndef MD_INFER_REQUEST_H
#define MD_INFER_REQUEST_H

#include "base/arena.h"
#include "base/log.h"
#include "base/pool.h"
#include "infer/target.h"
#include "loop/loop.h"
#include "policy/batcher.h"

#include <modeld/backend.h>

enum md_request_state {
    MD_REQUEST_RUNNING = 1,   /* picked: `instance` is set */
    MD_REQUEST_HELD = 2,      /* the home loop is inside the backend for it */
    MD_REQUEST_FINISHED = 4,  /* the backend is done with it */
    MD_REQUEST_CANCELLED = 8, /* nobody waits for the answer */
    MD_REQUEST_AGAIN = 16,    /* with FINISHED: it is to run once more */
    MD_REQUEST_LATE = 32,     /* with CANCELLED: a limit of its time was over while it ran */
};

/* Why the client was answered while the backend still worked on the request. */
enum md_late { MD_LATE_NOT, MD_LATE_DEADLINE, MD_LATE_EXECUTION };

struct md_response {
    struct md_response *next;
    struct md_request *request;
    struct md_arena *arena; /* where the response's memory lives: the request's, or own_arena */
    struct md_arena own_arena;
    struct md_tensor *outputs;
    size_t output_count;
    struct md_loop_task task; /* carries a streamed response to the home loop */
    unsigned holds;           /* of a streamed one: its delivery, and who keeps it */
};

/* How a dialect hears of its request. Called on the home loop; from inside md_infer_submit when the
 * request is refused or runs inline. */
struct md_responder {
    /* A response, in order; 0..n times (unary targets: exactly once before a successful end). Its
     * memory is valid until `end` has returned and the exchange's arena is reset; for streamed ones
     * only during the call. */
    void (*response)(struct md_request *request, struct md_response *response);
    /* The last call. error is NULL on success. The dialect may free the request's memory in it. */
    void (*end)(struct md_request *request, const struct md_error *error);
    /* Optional (NULL): the client's answer, and the only one, while the backend still works on the
     * request: its deadline has passed, or its execution takes too long. At most once, before
     * `end`, which has nothing to send then and still is the last call: until it nothing that the
     * request points at may go. Without this function `end` brings that answer. */
    void (*late)(struct md_request *request, const struct md_error *error);
};

enum md_parameter_kind {
    MD_PARAMETER_BOOL,
    MD_PARAMETER_INT,
    MD_PARAMETER_DOUBLE,
    MD_PARAMETER_STRING,
    MD_PARAMETER_NONE, /* null, a list or an object: no request carries one */
};

struct md_parameter {
    struct md_str name;
    enum md_parameter_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct md_str string;
    } value;
};

/* What became of a request in its batch. */
enum md_slot_turn {
    MD_SLOT_ANSWERED,
    MD_SLOT_FAILED,
    MD_SLOT_CANCELLED,
    MD_SLOT_RUNS,  /* in the run that is on */
    MD_SLOT_ALONE, /* it runs alone, after that */
    MD_SLOT_AGAIN, /* the same, and for the second time */
};

/* Where one request of a running batch is known to the backend. The handle is the slot's address
 * and a generation, and dies when the request is finished: a backend that goes on using it meets an
 * error, not the memory of somebody else's request. Slots live as long as their instance. */
struct md_slot {
    _Atomic uint64_t live;      /* handle of the request that runs; 0 = none */
    struct md_request *request; /* borrow; valid while live */
    uint16_t generation;        /* owner: whoever picks the batch */
    uint8_t turn;               /* enum md_slot_turn; owner: whoever finishes, then whoever ends the
                                   run */
};

struct md_request {
    /* set by the dialect before submit */
    struct md_target *target; /* referenced on the home loop */
    struct md_loop *loop;     /* home; NULL: of a trial (trial.h), whose end nobody is called for */
    struct md_arena *arena;
    struct md_str id; /* zero-terminated; empty = none */
    struct md_tensor *inputs;
    size_t input_count;
    const struct md_str *outputs; /* names that are wanted; zero-terminated each */
    size_t output_count;          /* 0 = all */
    const struct md_parameter *parameters;
    size_t parameter_count;
    const struct md_responder *responder;
    void *dialect;
    uint64_t begin_ns;    /* first byte seen; start of the total duration */
    uint64_t priority;    /* level in the queue, 1: the first; 0: the default */
    uint64_t timeout_ns;  /* the client's own limit of the time in the queue; 0: none */
    uint64_t deadline_ns; /* monotonic: by then the answer is wanted; 0: the target's default */

    /* set by md_request_check */
    int64_t rows; /* batch size; 1 without a batch dimension */

    /* infer's own */
    atomic_uint state;
    struct md_request *order_next; /* under it, too: behind this one in the order of answers */
    bool order_ended;              /* under it, too: ready to leave */
    bool order_skipped;            /* under it, too: it leaves when it has ended */
    bool has_timer;                /* home loop */
    enum md_late late;             /* home loop */
    struct md_tensor *gathered;    /* while it runs in a gathered batch: its part of each input */
    struct md_block *gather_block; /* borrow: where that lies */
    bool chooses_outputs;          /* others of its batch want what it does not */
    struct md_instance *instance;  /* while RUNNING */
    modeld_request handle;         /* while RUNNING: the backend's name for it */
    struct md_loop_task task;      /* carries the end to the home loop */
    struct md_response first_response;
    struct md_response *last_response;
    size_t response_count;
    atomic_uint outstanding; /* streamed responses on their way to the responder */
    atomic_bool blocked;     /* respond answered WOULD_BLOCK since */
    bool leads_batch;        /* counts the execution */
    bool on_loop;            /* runs inline: delivered without a mailbox */
    bool may_again;          /* if it fails in this run, it runs again, alone */
    uint64_t queued_ns, picked_ns, infer_ns, respond_ns, finished_ns;
    int64_t batch_rows;
    bool failed;
    /* not zeroed by md_request_init, but for waits */
    struct md_waiter waiter;    /* under the device's mutex while it is submitted */
    struct md_loop_timer timer; /* home loop: the next limit of its time; with has_timer */
    struct md_error error;      /* with failed */
};

/* Zeroes the bookkeeping and sets what every request has. `request` comes from the arena. */
void md_request_init(struct md_request *request, struct md_target *target, struct md_loop *loop,
                     struct md_arena *arena, const struct md_responder *responder, void *dialect);

/* Check inputs, and wanted outputs, against the target: names, dtypes, shapes, byte sizes, batch.
 * Sets rows. Errors are INVALID_ARGUMENT with the field's sentences. */
bool md_request_check(struct md_request *request, struct md_error *err) MD_MUST_CHECK;
bool md_request_check_outputs(const struct md_request *request, struct md_error *err) MD_MUST_CHECK;
/* Whether it is among the outputs that the request names; a request that wants all names none. */
bool md_request_names_output(const struct md_request *request, struct md_str name);
/* Puts the request's id before a sentence on it as a whole, as the field does. Returns false. */
bool md_request_name(const struct md_request *request, struct md_error *err);

/* Hands the request over. The responder's `end` is called exactly once, maybe before this returns.
 * Home loop. */
void md_infer_submit(struct md_request *request);

/* A streamed response stays as it is, and counts as not delivered for the backend's credit, until
 * md_response_done: called in `response` or later, maybe after `end`: until then the request stays,
 * too. Home loop. */
void md_response_keep(struct md_response *response);
void md_response_done(struct md_response *response);

/* Nobody waits any more: drops it from the queue or asks the backend to stop. `end` is still called
 * (CANCELLED unless it was too late). Home loop; fine at any time before `end`. */
void md_infer_cancel(struct md_request *request);

/* For the device: a request that no backend will see fails with `request->error`; the caller owns
 * it. Not under the device's mutex. */
void md_request_reject(struct md_request *request);
/* For the device: calls the responder, at once for an inline request, else on the home loop. A
 * trial has none. */
void md_request_deliver(struct md_request *request);
/* For the device: one that failed in a batch of several is about to run again; false: nobody waits
 * for it any more, and it has ended. */
bool md_request_begin_again(struct md_request *request, struct md_slot *slot);
/* For trials: asks the backend to stop, if the request runs. Any thread. */
void md_request_stop(struct md_request *request);

/* For the device: the request runs in this slot from now on; sets its handle. */
void md_slot_open(struct md_slot *slot, struct md_request *request);

/* --- for backend/ (the host side of the ABI); any thread -------------------- */

/* False once the request is finished. */
bool md_request_is_live(modeld_request handle);
/* Memory for outputs of a running request: from the calling thread's pool, or from the heap on
 * foreign threads. NULL when out of memory or budget. */
struct md_block *md_request_block(modeld_request handle, size_t bytes);
/* As in the interface's header. Whatever the backend hands over is taken or released, and what
 * contradicts itself or the target's outputs fails the request with a sentence. A handle that is
 * dead: FAILED_PRECONDITION and a line in the log. */
int32_t md_request_respond(modeld_request handle, const struct modeld_response *response);
int32_t md_request_finish(modeld_request handle, int32_t code, const char *text, uint32_t how);
bool md_request_is_cancelled(modeld_request handle);

#endif
