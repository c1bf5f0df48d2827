/*
 * The queue of records, batches of them, and the thread that sends them.
 *
 * Invariants
 *  1. `queued` counts a record's spans from before it hangs on the list until it is in a batch, or
 *     dropped: the exporter never sleeps for good while it is not zero.
 *  2. Everything but `list`, `queued` and the counters belongs to the exporter's thread.
 */
#include "trace/exporter.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/counter.h"
#include "base/log.h"
#include "os/poll.h"
#include "os/thread.h"

enum {
    TRIES = 5, /* of a batch */
    RETRY_AFTER_MOST_S = 60,
};

struct record {
    struct record *next;
    size_t span_count;
    size_t len;
    char spans[];
};

struct md_trace_exporter {
    /* immutable after create */
    struct md_trace_exporter_options options;
    struct md_trace_sink sink;
    int poller, wakeup;
    struct md_os_thread thread;
    bool has_thread;

    /* the exporter's thread */
    struct record *first, **last; /* taken from the list, in order */
    size_t pending;               /* spans of these */
    uint64_t due_ns;              /* of the first of them */
    struct md_bytes head, body;   /* the batch that is being sent */
    size_t batch;                 /* its spans; 0: there is none */
    unsigned tries;
    uint64_t retry_ns;
    uint32_t jitter;
    bool fails; /* the log says so */

    /* shared */
    _Alignas(MD_CACHE_LINE) _Atomic(struct record *) list; /* newest first */
    atomic_size_t queued;
    _Atomic uint64_t dropped_full;
    _Atomic uint64_t stop_ns; /* 0: goes on */
    _Alignas(MD_CACHE_LINE) _Atomic uint64_t exported, dropped_failed, failures;
};

/* --- any thread -------------------- */

/* relaxed, all counters: for people */
static void add(_Atomic uint64_t *counter, uint64_t amount)
{
    atomic_fetch_add_explicit(counter, amount, memory_order_relaxed);
}

void md_trace_exporter_count(const struct md_trace_exporter *exporter,
                             struct md_trace_counters *out)
{
    *out = (struct md_trace_counters){.exported = md_counter_read(&exporter->exported),
                                      .dropped_full = md_counter_read(&exporter->dropped_full),
                                      .dropped_failed = md_counter_read(&exporter->dropped_failed),
                                      .failures = md_counter_read(&exporter->failures)};
}

static void drop(struct md_trace_exporter *exporter, size_t span_count)
{
    atomic_fetch_sub(&exporter->queued, span_count);
    add(&exporter->dropped_full, span_count);
}

void md_trace_exporter_submit(struct md_trace_exporter *exporter, struct md_str spans,
                              size_t span_count)
{
    const size_t before = atomic_fetch_add(&exporter->queued, span_count);
    const size_t after = before + span_count;

    if (after > exporter->options.max_queue) {
        drop(exporter, span_count);
        return;
    }
    struct record *record = md_alloc(sizeof *record + spans.len);
    if (!record) {
        drop(exporter, span_count);
        return;
    }
    record->span_count = span_count;
    record->len = spans.len;
    memcpy(record->spans, spans.ptr, spans.len);
    record->next = atomic_load_explicit(&exporter->list, memory_order_relaxed);
    /* release: who takes the list sees the record */
    while (!atomic_compare_exchange_weak_explicit(&exporter->list, &record->next, record,
                                                  memory_order_release, memory_order_relaxed)) {}
    if (before == 0 ||
        (before < exporter->options.max_batch && after >= exporter->options.max_batch)) {
        md_os_wakeup_signal(exporter->wakeup);
    }
}

/* --- batches -------------------- */

static void take_list(struct md_trace_exporter *exporter, uint64_t now_ns)
{
    /* acquire: pairs with the release of submit */
    struct record *newest = atomic_exchange_explicit(&exporter->list, NULL, memory_order_acquire);
    struct record *first = NULL, *last = newest;

    if (!newest) {
        return;
    }
    if (!exporter->first) {
        exporter->due_ns = now_ns + exporter->options.delay_ns;
    }
    while (newest) {
        struct record *next = newest->next;
        exporter->pending += newest->span_count;
        newest->next = first;
        first = newest;
        newest = next;
    }
    *exporter->last = first;
    exporter->last = &last->next;
}

/* Frees the first record. */
static void pop(struct md_trace_exporter *exporter)
{
    struct record *record = exporter->first;

    exporter->first = record->next;
    if (!exporter->first) {
        exporter->last = &exporter->first;
    }
    exporter->pending -= record->span_count;
    atomic_fetch_sub(&exporter->queued, record->span_count);
    md_free(record);
}

static void make_batch(struct md_trace_exporter *exporter, uint64_t now_ns)
{
    md_bytes_clear(&exporter->head);
    md_bytes_clear(&exporter->body);
    exporter->head.failed = exporter->body.failed = false;
    exporter->tries = 0;
    exporter->retry_ns = now_ns;
    exporter->due_ns = now_ns + exporter->options.delay_ns; /* of what stays */
    while (exporter->first &&
           (exporter->batch == 0 ||
            exporter->batch + exporter->first->span_count <= exporter->options.max_batch)) {
        md_bytes_append(&exporter->body, exporter->first->spans, exporter->first->len);
        exporter->batch += exporter->first->span_count;
        pop(exporter);
    }
    if (exporter->sink.append_head) {
        exporter->sink.append_head(exporter->sink.arg, exporter->body.len, &exporter->head);
    }
    if (exporter->head.failed || exporter->body.failed) { /* out of memory */
        add(&exporter->dropped_failed, exporter->batch);
        exporter->batch = 0;
    }
}

static void end_batch(struct md_trace_exporter *exporter)
{
    enum { KEPT_BYTES = 256 * 1024 };

    exporter->batch = 0;
    if (exporter->body.capacity > KEPT_BYTES) {
        md_bytes_deinit(&exporter->body);
    }
}

/* When the batch is tried again: after 1, 2, 4, 8 s, a fifth more or less, so that servers that
 * lost their receiver together do not come back together. */
static void plan_retry(struct md_trace_exporter *exporter, uint64_t now_ns,
                       const struct md_trace_answer *answer)
{
    uint64_t wait_ns = (uint64_t)MD_NS_PER_S << (exporter->tries - 1);

    exporter->jitter = exporter->jitter * 1664525 + 1013904223;
    wait_ns = wait_ns / 100 * (80 + exporter->jitter % 41);
    if (answer->retry_after_ns) {
        wait_ns = md_size_max(wait_ns, answer->retry_after_ns);
        wait_ns = md_size_min(wait_ns, (uint64_t)RETRY_AFTER_MOST_S * MD_NS_PER_S);
    }
    exporter->retry_ns = now_ns + wait_ns;
}

/* One line when it begins to fail and one when it is over, not one for each batch. */
static void log_result(struct md_trace_exporter *exporter, enum md_trace_result result,
                       const struct md_trace_answer *answer)
{
    const bool fails = result != MD_TRACE_TAKEN;

    if (fails && !exporter->fails) {
        md_log(MD_LOG_WARNING, "traces cannot be sent to %s: %s", exporter->sink.name,
               answer->text);
    } else if (!fails && exporter->fails) {
        md_log(MD_LOG_INFO, "traces are sent to %s again", exporter->sink.name);
    }
    if (!fails && answer->rejected) {
        md_log(MD_LOG_VERBOSE, "%s rejected %llu spans: %s", exporter->sink.name,
               (unsigned long long)answer->rejected, answer->text);
    }
    exporter->fails = fails;
}

static enum md_trace_result send_batch(struct md_trace_exporter *exporter, uint64_t now_ns,
                                       struct md_trace_answer *answer)
{
    const struct md_trace_message message = {.head = md_bytes_view(&exporter->head),
                                             .body = md_bytes_view(&exporter->body),
                                             .give_up_ns = now_ns + exporter->options.timeout_ns,
                                             .stop_ns = &exporter->stop_ns};

    *answer = (struct md_trace_answer){0};
    exporter->tries++;
    enum md_trace_result result = exporter->sink.send(exporter->sink.arg, &message, answer);
    log_result(exporter, result, answer);
    if (result == MD_TRACE_TAKEN) {
        const uint64_t rejected = md_size_min(answer->rejected, exporter->batch);
        add(&exporter->exported, exporter->batch - rejected);
        add(&exporter->dropped_failed, rejected);
    } else {
        add(&exporter->failures, 1);
    }
    return result;
}

static void drop_batch(struct md_trace_exporter *exporter)
{
    add(&exporter->dropped_failed, exporter->batch);
    end_batch(exporter);
}

uint64_t md_trace_exporter_step(struct md_trace_exporter *exporter, uint64_t now_ns)
{
    struct md_trace_answer answer;

    while (!atomic_load(&exporter->stop_ns)) {
        take_list(exporter, now_ns);
        if (exporter->batch == 0) {
            if (exporter->pending < exporter->options.max_batch &&
                (!exporter->first || now_ns < exporter->due_ns)) {
                break;
            }
            make_batch(exporter, now_ns);
            continue;
        }
        if (now_ns < exporter->retry_ns) {
            return exporter->retry_ns;
        }
        enum md_trace_result result = send_batch(exporter, now_ns, &answer);
        now_ns = md_size_max(now_ns, md_clock_monotonic_ns());
        if (result == MD_TRACE_TAKEN) {
            end_batch(exporter);
        } else if (result == MD_TRACE_REFUSED || exporter->tries == TRIES) {
            drop_batch(exporter);
        } else {
            plan_retry(exporter, now_ns, &answer);
        }
    }
    if (exporter->first) {
        return exporter->due_ns;
    }
    return atomic_load(&exporter->queued) ? now_ns + exporter->options.delay_ns : UINT64_MAX;
}

void md_trace_exporter_flush(struct md_trace_exporter *exporter)
{
    struct md_trace_answer answer;
    bool ok = true;

    take_list(exporter, md_clock_monotonic_ns());
    while (exporter->batch || exporter->first) {
        const uint64_t now_ns = md_clock_monotonic_ns();
        if (exporter->batch == 0) {
            make_batch(exporter, now_ns);
            continue;
        }
        const uint64_t stop_ns = atomic_load(&exporter->stop_ns);
        ok = ok && (!stop_ns || now_ns < stop_ns) &&
             send_batch(exporter, now_ns, &answer) == MD_TRACE_TAKEN;
        if (ok) {
            end_batch(exporter);
        } else {
            drop_batch(exporter);
        }
    }
}

/* --- life -------------------- */

bool md_trace_exporter_create(const struct md_trace_exporter_options *options,
                              const struct md_trace_sink *sink, struct md_trace_exporter **out,
                              struct md_error *err)
{
    struct md_trace_exporter *exporter = md_alloc_aligned(MD_CACHE_LINE, sizeof *exporter);

    if (!exporter) {
        sink->destroy(sink->arg);
        return md_error_no_memory(err, "the exporter of traces");
    }
    memset(exporter, 0, sizeof *exporter);
    exporter->options = *options;
    exporter->sink = *sink;
    exporter->last = &exporter->first;
    exporter->poller = exporter->wakeup = -1;
    exporter->jitter = (uint32_t)md_clock_monotonic_ns();
    if (!md_os_poll_create(&exporter->poller, err) ||
        !md_os_wakeup_create(exporter->poller, exporter, &exporter->wakeup, err)) {
        md_trace_exporter_destroy(exporter);
        return false;
    }
    *out = exporter;
    return true;
}

static int timeout_ms(uint64_t next_ns, uint64_t now_ns)
{
    enum { LONGEST_MS = 3600000 };

    if (next_ns == UINT64_MAX) {
        return -1;
    }
    uint64_t wait_ns = next_ns > now_ns ? next_ns - now_ns : 0;
    return (int)md_size_min((wait_ns + MD_NS_PER_MS - 1) / MD_NS_PER_MS, LONGEST_MS);
}

static void run(void *arg)
{
    struct md_trace_exporter *exporter = arg;
    struct md_os_event event;

    md_os_thread_be_nice();
    while (!atomic_load(&exporter->stop_ns)) {
        const uint64_t next_ns = md_trace_exporter_step(exporter, md_clock_monotonic_ns());
        if (!atomic_load(&exporter->stop_ns)) {
            (void)md_os_poll_wait(exporter->poller, &event, 1,
                                  timeout_ms(next_ns, md_clock_monotonic_ns()));
        }
    }
    md_trace_exporter_flush(exporter);
}

bool md_trace_exporter_start(struct md_trace_exporter *exporter, struct md_error *err)
{
    exporter->has_thread =
        md_os_thread_start(&exporter->thread, "trace-export", -1, run, exporter, err);
    return exporter->has_thread;
}

void md_trace_exporter_destroy(struct md_trace_exporter *exporter)
{
    if (!exporter) {
        return;
    }
    if (exporter->has_thread) {
        atomic_store(&exporter->stop_ns, md_clock_monotonic_ns() + MD_TRACE_FLUSH_NS);
        md_os_wakeup_signal(exporter->wakeup);
        md_os_thread_join(&exporter->thread);
    }
    take_list(exporter, 0);
    while (exporter->first) {
        pop(exporter);
    }
    md_os_close(exporter->wakeup);
    md_os_close(exporter->poller);
    md_bytes_deinit(&exporter->head);
    md_bytes_deinit(&exporter->body);
    exporter->sink.destroy(exporter->sink.arg);
    md_free(exporter);
}
