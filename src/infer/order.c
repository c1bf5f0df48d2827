/*
 * Order of answers: requests of a target that keeps it leave as they were picked.
 *
 * A list per target under the device's mutex. One thread at a time lets go what is ready, so that
 * two never post in the wrong order; who comes meanwhile leaves that to it. A request that nobody
 * waits for any more (it was cancelled, or its client has a late answer) is taken out, so that a
 * backend that hangs does not hold up the others.
 */
#include "infer/device_internal.h"

void md_order_enter(struct md_request *request)
{
    struct md_target *target = request->target;

    request->order_next = NULL;
    request->order_ended = request->order_skipped = false;
    if (target->order.last) {
        target->order.last->order_next = request;
    } else {
        target->order.first = request;
    }
    target->order.last = request;
}

/* mutex held; false: it is not in the list */
static bool take_out(struct md_target *target, struct md_request *request)
{
    struct md_request *at = target->order.first, *previous = NULL;

    while (at && at != request) {
        previous = at;
        at = at->order_next;
    }
    if (!at) {
        return false;
    }
    if (previous) {
        previous->order_next = request->order_next;
    } else {
        target->order.first = request->order_next;
    }
    if (target->order.last == request) {
        target->order.last = previous;
    }
    return true;
}

/* mutex held on entry and return */
static void let_go(struct md_target *target)
{
    struct md_device *device = target->device;
    struct md_request *request;

    if (target->order.is_leaving) {
        return;
    }
    target->order.is_leaving = true;
    while ((request = target->order.first) && request->order_ended) {
        (void)take_out(target, request);
        pthread_mutex_unlock(&device->mutex);
        md_request_deliver(request);
        pthread_mutex_lock(&device->mutex);
    }
    target->order.is_leaving = false;
}

void md_order_leave(struct md_request *request)
{
    struct md_target *target = request->target;
    struct md_device *device = target->device;

    pthread_mutex_lock(&device->mutex);
    bool is_free = request->order_skipped;
    request->order_ended = true;
    if (!is_free) {
        let_go(target);
    }
    pthread_mutex_unlock(&device->mutex);
    if (is_free) {
        md_request_deliver(request);
    }
}

void md_order_skip(struct md_request *request)
{
    struct md_target *target = request->target;
    struct md_device *device = target->device;

    pthread_mutex_lock(&device->mutex);
    bool is_new = take_out(target, request);
    bool has_ended = is_new && request->order_ended;
    request->order_skipped |= is_new;
    let_go(target);
    pthread_mutex_unlock(&device->mutex);
    if (has_ended) {
        md_request_deliver(request);
    }
}
