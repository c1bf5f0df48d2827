/*
 * An instance: what one run of the session needs besides the session, made once.
 *
 * execute and destroy: one at a time (the host's promise). cancel: any thread while the instance
 * exists.
 */
#ifndef MD_ORT_INSTANCE_H
#define MD_ORT_INSTANCE_H

#include "model.h"

struct md_ort_instance;

int32_t md_ort_instance_create(const struct md_ort_model *model, struct md_ort_instance **instance,
                               struct modeld_text *error);
void md_ort_instance_destroy(struct md_ort_instance *instance);

/* Responds to and finishes every request of the batch before it returns. */
void md_ort_instance_execute(struct md_ort_instance *instance, const struct modeld_batch *batch);

/* Ends the run if nobody waits for it any more; a request that is not in the running batch is
 * ignored. */
void md_ort_instance_cancel(struct md_ort_instance *instance, modeld_request request);

#endif
