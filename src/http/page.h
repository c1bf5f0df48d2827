/*
 * Page: an answer that is produced in slices, so that a long one neither needs much memory nor
 * keeps the loop from its other connections. What fits one slice is answered with its length.
 *
 * On the exchange's loop. The handler's on_cancel is md_page_on_cancel, and its `dialect` is the
 * page's.
 */
#ifndef MD_HTTP_PAGE_H
#define MD_HTTP_PAGE_H

#include "base/bytes.h"
#include "http/exchange.h"

enum { MD_PAGE_SLICE_BYTES = 64 * 1024 };

/* Answers with what `fill` appends: about a slice each time; false: that was the last. `arg` lives
 * as long as the exchange. The response has no parts; what it says is kept by the caller. Without
 * memory for the first slice the answer is 503, later the connection is cut. */
void md_page_respond(struct md_exchange *x, const struct md_http_response *response,
                     bool (*fill)(void *arg, struct md_bytes *out), void *arg);
void md_page_on_cancel(struct md_exchange *x);

#endif
