/*
 * The classification extension: an output becomes BYTES "value:index[:label]", of each row the best
 * first.
 *
 * On the exchange's loop. How many are wanted is the client's choice, so the work is done in slices
 * and its memory is counted against the bytes in flight. What it takes goes with the exchange's
 * arena.
 */
#ifndef MD_API_OIP_CLASSES_H
#define MD_API_OIP_CLASSES_H

#include "base/progress.h"
#include "http/exchange.h"
#include "infer/target.h"

struct md_oip_classes;

/* `tensor` is an output of the target, `count` of its classes are wanted. NULL: err says why. */
struct md_oip_classes *md_oip_classes_begin(struct md_exchange *x, const struct md_target *target,
                                            struct md_tensor *tensor, int64_t count,
                                            struct md_error *err) MD_MUST_CHECK;

/* DONE: the tensor is the classification now. ERROR: too many bytes are in flight. */
enum md_progress md_oip_classes_step(struct md_oip_classes *classes) MD_MUST_CHECK;

#endif
