/*
 * Tensors of an inference that lie in shared memory, over REST and gRPC: inputs are used where they
 * lie, outputs are put where the client wants them. On the home loop.
 *
 * Strings alone are copied out of a region: their lengths are checked once, and a client could
 * change them afterwards.
 */
#ifndef MD_API_OIP_PLACING_H
#define MD_API_OIP_PLACING_H

#include "api/oip/inference.h"

/* The input has its name and type; gets its data. */
bool md_oip_place_input(struct md_oip_inference *inference, const struct md_region_place *region,
                        struct md_tensor *input, struct md_error *err) MD_MUST_CHECK;
/* Checks what the client wants of an output that is complete. Fine if it names no region. */
bool md_oip_place_output(struct md_oip_inference *inference, struct md_oip_output *output,
                         struct md_error *err) MD_MUST_CHECK;
/* Whether an output of the answer is in a region: then it is only named there. */
bool md_oip_is_placed(const struct md_oip_inference *inference, struct md_str output);
/* Before the request runs: whether outputs fit, as far as that is known. */
bool md_oip_placing_may_fit(const struct md_oip_inference *inference, struct md_error *err)
    MD_MUST_CHECK;

/* What a request has failed with: that its memory was taken away, whatever the model made of that.
 * The error may be its own. */
const struct md_error *md_oip_placing_blame(struct md_oip_inference *inference,
                                            const struct md_error *error);

/* Puts an output of the answer into its region, a slice at a time. One that is to be `sent` and
 * lies in a region (a model may hand on its input) is copied out of it first: what goes to a socket
 * later must not change or vanish meanwhile. `copy` is zeroed before the first call for an output,
 * and is then. */
enum md_progress md_oip_place_result(struct md_oip_inference *inference, struct md_tensor *output,
                                     bool sent, struct md_region_copy *copy, struct md_error *err)
    MD_MUST_CHECK;

#endif
