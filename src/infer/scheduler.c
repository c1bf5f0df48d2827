/*
 * The default scheduler: a list in order of arrival, one request a batch.
 */
#include "infer/scheduler.h"

#include "infer/request.h"

static bool default_submit(struct md_scheduler *scheduler, struct md_request *request,
                           struct md_error *err)
{
    if (scheduler->length_limit && scheduler->length >= scheduler->length_limit) {
        return md_error_set(err, MD_REASON_QUEUE_FULL, "Exceeds maximum queue size");
    }
    request->queue_next = NULL;
    request->queue_previous = scheduler->last;
    if (scheduler->last) {
        scheduler->last->queue_next = request;
    } else {
        scheduler->first = request;
    }
    scheduler->last = request;
    scheduler->length++;
    return true;
}

static void unlink_request(struct md_scheduler *scheduler, struct md_request *request)
{
    if (request->queue_previous) {
        request->queue_previous->queue_next = request->queue_next;
    } else {
        scheduler->first = request->queue_next;
    }
    if (request->queue_next) {
        request->queue_next->queue_previous = request->queue_previous;
    } else {
        scheduler->last = request->queue_previous;
    }
    request->queue_next = request->queue_previous = NULL;
    scheduler->length--;
}

static bool default_cancel(struct md_scheduler *scheduler, struct md_request *request)
{
    if (!request->queue_previous && scheduler->first != request) {
        return false;
    }
    unlink_request(scheduler, request);
    return true;
}

static size_t default_pick(struct md_scheduler *scheduler, struct md_request **requests, size_t max,
                           uint64_t now_ns)
{
    (void)now_ns;
    if (!scheduler->first || max == 0) {
        return 0;
    }
    requests[0] = scheduler->first;
    unlink_request(scheduler, requests[0]);
    return 1;
}

static void default_done(struct md_scheduler *scheduler, size_t batch_count, uint64_t execution_ns)
{
    (void)scheduler;
    (void)batch_count;
    (void)execution_ns;
}

const struct md_scheduler_ops md_scheduler_default = {
    .submit = default_submit,
    .cancel = default_cancel,
    .pick = default_pick,
    .done = default_done,
};
