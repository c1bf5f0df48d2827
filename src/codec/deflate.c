/*
 * zlib behind our allocator.
 */
#include "codec/deflate.h"

#include "base/alloc.h"

#include <zlib.h>

/* What zlib takes at most for these settings (zconf.h: "memory requirements"). */
enum { INFLATE_BYTES = 40 * 1024, DEFLATE_BYTES = 264 * 1024 };
enum { WINDOW_BITS = 15, GZIP_FLAG = 16, LEVEL = 1 /* the network is near: speed counts */ };

/* zlib's functions, under names that no variable of ours hides. */
static int inflate_zlib(z_stream *z)
{
    return inflate(z, Z_NO_FLUSH);
}

static int deflate_zlib(z_stream *z, int flush)
{
    return deflate(z, flush);
}

struct md_inflate {
    z_stream z;
    enum md_coding coding;
    struct md_budget *budget; /* borrow, or NULL */
};

struct md_deflate {
    z_stream z;
    struct md_budget *budget; /* borrow, or NULL */
};

static void *z_alloc(void *opaque, unsigned count, unsigned size)
{
    (void)opaque;
    return md_calloc(count, size);
}

static void z_free(void *opaque, void *ptr)
{
    (void)opaque;
    md_free(ptr);
}

static int window_bits(enum md_coding coding)
{
    return WINDOW_BITS + (coding == MD_CODING_GZIP ? GZIP_FLAG : 0);
}

static bool count(struct md_budget *budget, size_t bytes, struct md_error *err)
{
    return !budget || md_budget_take(budget, bytes) || md_error_over_budget(err);
}

static void uncount(struct md_budget *budget, size_t bytes)
{
    if (budget) {
        md_budget_give(budget, bytes);
    }
}

bool md_inflate_create(enum md_coding coding, struct md_budget *budget, struct md_inflate **out,
                       struct md_error *err)
{
    if (!count(budget, INFLATE_BYTES, err)) {
        return false;
    }
    struct md_inflate *inflate = md_calloc(1, sizeof *inflate);
    if (!inflate) {
        uncount(budget, INFLATE_BYTES);
        return md_error_no_memory(err, "decompression");
    }
    inflate->budget = budget;
    inflate->coding = coding;
    inflate->z.zalloc = z_alloc;
    inflate->z.zfree = z_free;
    if (inflateInit2(&inflate->z, window_bits(coding)) != Z_OK) {
        uncount(budget, INFLATE_BYTES);
        md_free(inflate);
        return md_error_no_memory(err, "decompression");
    }
    *out = inflate;
    return true;
}

void md_inflate_destroy(struct md_inflate *inflate)
{
    if (inflate) {
        (void)inflateEnd(&inflate->z);
        uncount(inflate->budget, INFLATE_BYTES);
        md_free(inflate);
    }
}

enum md_progress md_inflate_step(struct md_inflate *inflate, const void *in, size_t in_len,
                                 void *out, size_t out_len, size_t *consumed, size_t *produced,
                                 struct md_error *err)
{
    z_stream *z = &inflate->z;

    z->next_in = (Bytef *)(uintptr_t)in;
    z->avail_in = (uInt)md_size_min(in_len, UINT32_MAX);
    z->next_out = out;
    z->avail_out = (uInt)md_size_min(out_len, UINT32_MAX);
    uInt in_before = z->avail_in, out_before = z->avail_out;
    int code = inflate_zlib(z);
    *consumed = in_before - z->avail_in;
    *produced = out_before - z->avail_out;
    if (code == Z_STREAM_END) {
        return MD_PROGRESS_DONE;
    }
    if (code == Z_OK || code == Z_BUF_ERROR) {
        return MD_PROGRESS_AGAIN;
    }
    if (code == Z_MEM_ERROR) {
        md_error_no_memory(err, "decompression");
    } else {
        md_error_set(err, MD_REASON_MALFORMED, "the compressed data is not valid (%s): %s",
                     inflate->coding == MD_CODING_GZIP ? "gzip" : "deflate in the zlib format",
                     z->msg ? z->msg : "it needs a dictionary");
    }
    return MD_PROGRESS_ERROR;
}

bool md_deflate_create(enum md_coding coding, struct md_budget *budget, struct md_deflate **out,
                       struct md_error *err)
{
    if (!count(budget, DEFLATE_BYTES, err)) {
        return false;
    }
    struct md_deflate *deflate = md_calloc(1, sizeof *deflate);
    if (!deflate) {
        uncount(budget, DEFLATE_BYTES);
        return md_error_no_memory(err, "compression");
    }
    deflate->budget = budget;
    deflate->z.zalloc = z_alloc;
    deflate->z.zfree = z_free;
    if (deflateInit2(&deflate->z, LEVEL, Z_DEFLATED, window_bits(coding), 8, Z_DEFAULT_STRATEGY) !=
        Z_OK) {
        uncount(budget, DEFLATE_BYTES);
        md_free(deflate);
        return md_error_no_memory(err, "compression");
    }
    *out = deflate;
    return true;
}

void md_deflate_destroy(struct md_deflate *deflate)
{
    if (deflate) {
        (void)deflateEnd(&deflate->z);
        uncount(deflate->budget, DEFLATE_BYTES);
        md_free(deflate);
    }
}

enum md_progress md_deflate_step(struct md_deflate *deflate, const void *in, size_t in_len,
                                 bool last, void *out, size_t out_len, size_t *consumed,
                                 size_t *produced)
{
    z_stream *z = &deflate->z;

    z->next_in = (Bytef *)(uintptr_t)in;
    z->avail_in = (uInt)md_size_min(in_len, UINT32_MAX);
    z->next_out = out;
    z->avail_out = (uInt)md_size_min(out_len, UINT32_MAX);
    uInt in_before = z->avail_in, out_before = z->avail_out;
    int code = deflate_zlib(z, last ? Z_FINISH : Z_NO_FLUSH);
    *consumed = in_before - z->avail_in;
    *produced = out_before - z->avail_out;
    return code == Z_STREAM_END ? MD_PROGRESS_DONE : MD_PROGRESS_AGAIN;
}

bool md_deflate_append(struct md_deflate *deflate, struct md_str in, bool last,
                       struct md_bytes *out)
{
    enum { STEP_BYTES = 4096 };
    z_stream *z = &deflate->z;

    z->next_in = (Bytef *)(uintptr_t)in.ptr;
    z->avail_in = (uInt)md_size_min(in.len, UINT32_MAX);
    do {
        if (!md_bytes_reserve(out, STEP_BYTES)) {
            return false;
        }
        z->next_out = (Bytef *)(out->data + out->len);
        z->avail_out = STEP_BYTES;
        (void)deflate_zlib(z, last ? Z_FINISH : Z_SYNC_FLUSH);
        out->len += STEP_BYTES - z->avail_out;
    } while (z->avail_out == 0); /* room was left: all is out */
    return true;
}
