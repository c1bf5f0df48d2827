/*
 * The classification extension: an output becomes BYTES "value:index[:label]", of each row the best
 * first.
 *
 * On the exchange's loop. How many are wanted is the client's choice, so the work is done in slices
 * and its memory is counted against the bytes in flight. What it takes goes with the inference's
 * arena.
 */
#ifndef MD_API_OIP_CLASSES_H
#define MD_API_OIP_CLASSES_H

#include "api/oip/inference.h"
#include "base/progress.h"

struct md_oip_classes;

/* Turns an output of the response into its best classes, if the client wants that. AGAIN: others
 * have their turn first; *classes keeps the place, NULL before the first call. */
enum md_progress md_oip_classify(struct md_oip_inference *inference, struct md_tensor *tensor,
                                 struct md_oip_classes **classes, struct md_error *err)
    MD_MUST_CHECK;

#endif
