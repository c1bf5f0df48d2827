/*
 * Exporter: takes encoded spans from any thread and sends them in batches on a thread of its own.
 *
 * Handing over takes no lock: records hang on one list with a compare-and-swap, and the exporter
 * takes the whole list. What waits is bounded in spans; beyond that records are dropped and
 * counted. A batch goes out when it is full or when its oldest record has waited for the delay;
 * one that was not taken is sent again, later and later, and dropped after a few tries. An exporter
 * with nothing to send sleeps without a timeout.
 *
 * Created and destroyed by one thread, in between shared. md_trace_exporter_step and _flush are the
 * thread's work, without the thread: for tests, on any clock.
 */
#ifndef MD_TRACE_EXPORTER_H
#define MD_TRACE_EXPORTER_H

#include "base/bytes.h"
#include "base/error.h"

#include <stdatomic.h>

enum md_trace_result {
    MD_TRACE_TAKEN,
    MD_TRACE_TRY_AGAIN, /* the receiver is not there, or busy */
    MD_TRACE_REFUSED,   /* it will never take this */
};

struct md_trace_message {
    struct md_str head, body;
    uint64_t give_up_ns;             /* the receiver has until then */
    const _Atomic uint64_t *stop_ns; /* a time from which on nobody waits, looked at meanwhile;
                                        0: none */
};

struct md_trace_answer {
    uint64_t retry_after_ns; /* 0: it did not say */
    uint64_t rejected;       /* spans of the batch, although it was taken */
    char text[256];          /* why it was not taken, or not whole */
};

/* Where batches go. */
struct md_trace_sink {
    void *arg;
    const char *name; /* borrow: for the log */
    /* What stands before a list of spans; NULL: nothing. */
    void (*append_head)(void *arg, size_t span_bytes, struct md_bytes *out);
    /* On the exporter's thread; may block until give_up_ns. */
    enum md_trace_result (*send)(void *arg, const struct md_trace_message *message,
                                 struct md_trace_answer *answer);
    void (*destroy)(void *arg); /* with the exporter, or when it cannot be created */
};

struct md_trace_exporter_options {
    size_t max_queue;    /* spans that wait */
    size_t max_batch;    /* spans of a batch; a record is never parted */
    uint64_t delay_ns;   /* longest wait for a batch to fill */
    uint64_t timeout_ns; /* of one try */
};

struct md_trace_counters {
    uint64_t exported, dropped_full, dropped_failed; /* spans */
    uint64_t failures;                               /* tries that failed */
};

struct md_trace_exporter;

/* Takes the sink over, also on failure. No thread yet. */
bool md_trace_exporter_create(const struct md_trace_exporter_options *options,
                              const struct md_trace_sink *sink, struct md_trace_exporter **out,
                              struct md_error *err) MD_MUST_CHECK;
bool md_trace_exporter_start(struct md_trace_exporter *exporter, struct md_error *err)
    MD_MUST_CHECK;
/* Sends what waits, for at most MD_TRACE_FLUSH_NS, and frees everything; NULL is fine. Nobody
 * submits any more. */
void md_trace_exporter_destroy(struct md_trace_exporter *exporter);
#define MD_TRACE_FLUSH_NS UINT64_C(5000000000)

/* Spans of one request, encoded one after the other; copied. Any thread. */
void md_trace_exporter_submit(struct md_trace_exporter *exporter, struct md_str spans,
                              size_t span_count);

/* Any thread. */
void md_trace_exporter_count(const struct md_trace_exporter *exporter,
                             struct md_trace_counters *out);

/* Sends what is due; the time of the next step unless there is a submission before; UINT64_MAX:
 * there is nothing to wait for. */
uint64_t md_trace_exporter_step(struct md_trace_exporter *exporter, uint64_t now_ns);
/* Sends everything, each batch once, and drops the rest at the first failure. */
void md_trace_exporter_flush(struct md_trace_exporter *exporter);

#endif
