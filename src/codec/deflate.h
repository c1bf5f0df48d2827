/*
 * gzip and deflate (zlib format, RFC 1950/1952), in slices. One owner, one thread.
 *
 * "deflate" is the zlib format, as RFC 9110 and the field have it; raw deflate is refused. So is a
 * second gzip member behind the first. Memory comes from base/alloc.h, 40 KiB to decode and 264 KiB
 * to encode, counted against the budget (borrowed; NULL: not counted) from create to destroy.
 */
#ifndef MD_CODEC_DEFLATE_H
#define MD_CODEC_DEFLATE_H

#include "base/bytes.h"
#include "base/error.h"
#include "base/pool.h"
#include "base/progress.h"

enum md_coding { MD_CODING_GZIP, MD_CODING_DEFLATE };

struct md_inflate;
struct md_deflate;

/* False: OUT_OF_MEMORY. */
bool md_inflate_create(enum md_coding coding, struct md_budget *budget, struct md_inflate **out,
                       struct md_error *err) MD_MUST_CHECK;
void md_inflate_destroy(struct md_inflate *inflate);
/* Decodes from in to out; *consumed and *produced say how far it came. DONE: the stream has ended,
 * and so must the input (bytes behind it are an error of the caller's input). AGAIN: it needs more
 * input or more room; with no more input to come and nothing produced, the stream is cut short.
 * ERROR: MALFORMED or OUT_OF_MEMORY. The caller bounds what it gives room for: that stops bombs. */
enum md_progress md_inflate_step(struct md_inflate *inflate, const void *in, size_t in_len,
                                 void *out, size_t out_len, size_t *consumed, size_t *produced,
                                 struct md_error *err) MD_MUST_CHECK;

bool md_deflate_create(enum md_coding coding, struct md_budget *budget, struct md_deflate **out,
                       struct md_error *err) MD_MUST_CHECK;
void md_deflate_destroy(struct md_deflate *deflate);
/* `last`: no input follows; then call until DONE. */
enum md_progress md_deflate_step(struct md_deflate *deflate, const void *in, size_t in_len,
                                 bool last, void *out, size_t out_len, size_t *consumed,
                                 size_t *produced) MD_MUST_CHECK;
/* Compresses all of `in` and appends it so that a reader of what is in `out` can decode all that
 * was given so far; `last` ends the stream. False: out has no room. */
bool md_deflate_append(struct md_deflate *deflate, struct md_str in, bool last,
                       struct md_bytes *out) MD_MUST_CHECK;

#endif
