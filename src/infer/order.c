/*
 * Order of answers: requests of a target that keeps it leave as they were picked.
 *
 * A list per target under the device's mutex. One thread at a time lets go what is ready, so that
 * two never post in the wrong order; who comes meanwhile leaves that to it.
 */
#include "infer/device_internal.h"

void md_order_enter(struct md_request *request)
{
    struct md_target *target = request->target;

    request->order_next = NULL;
    request->order_ended = false;
    if (target->order.last) {
        target->order.last->order_next = request;
    } else {
        target->order.first = request;
    }
    target->order.last = request;
}

/* mutex held */
static struct md_request *take_ready(struct md_target *target)
{
    struct md_request *request = target->order.first;

    if (!request || !request->order_ended) {
        return NULL;
    }
    target->order.first = request->order_next;
    if (!target->order.first) {
        target->order.last = NULL;
    }
    return request;
}

void md_order_leave(struct md_request *request)
{
    struct md_target *target = request->target;
    struct md_device *device = target->device;

    pthread_mutex_lock(&device->mutex);
    request->order_ended = true;
    if (!target->order.is_leaving) {
        target->order.is_leaving = true;
        while ((request = take_ready(target))) {
            pthread_mutex_unlock(&device->mutex);
            md_request_deliver(request);
            pthread_mutex_lock(&device->mutex);
        }
        target->order.is_leaving = false;
    }
    pthread_mutex_unlock(&device->mutex);
}
