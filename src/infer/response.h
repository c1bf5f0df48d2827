/*
 * What a backend answers with, taken over into a response of a request. Any thread, while the
 * request runs.
 */
#ifndef MD_INFER_RESPONSE_H
#define MD_INFER_RESPONSE_H

#include "infer/request.h"

/* Fills out->outputs: descriptions and small copies in `arena`, large memory counted against the
 * bound on bytes in flight and released when the arena is reset. All that the backend hands over is
 * taken, or released when nobody wants it or something is wrong: a list that cannot be walked,
 * outputs that contradict themselves or the target (BACKEND), no memory (OUT_OF_MEMORY,
 * INFLIGHT_BYTES). */
bool md_response_take(struct md_request *request, struct md_arena *arena,
                      const struct modeld_response *response, struct md_response *out,
                      struct md_error *err) MD_MUST_CHECK;

/* Gives back what a response would have handed over. */
void md_response_release(const struct modeld_response *response);

#endif
