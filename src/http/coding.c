/*
 * Content codings over codec/deflate.
 */
#include "http/coding.h"

enum {
    FIRST_BYTES = 4 * 1024,
    ROOM_BYTES = 512, /* for one step of compression at least */
};

static const struct md_str names[] = {
    [MD_CODING_GZIP] = MD_STR("gzip"), [MD_CODING_DEFLATE] = MD_STR("deflate")};

bool md_coding_from_name(struct md_str name, enum md_coding *coding)
{
    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        if (md_str_eq_nocase(name, names[i])) {
            *coding = (enum md_coding)i;
            return true;
        }
    }
    return false;
}

const char *md_coding_name(enum md_coding coding)
{
    return names[coding].ptr;
}

/* A quality value, "0" to "1" with three decimals, in thousandths (RFC 9110 12.4.2). What is none
 * counts as 0: then no coding is used, which is always right. */
static int quality_of(struct md_str parameters)
{
    struct md_str text = md_str_trim(parameters);
    int quality = 0;

    if (text.len == 0) {
        return 1000;
    }
    if (text.len < 3 || (text.ptr[0] | 0x20) != 'q' || text.ptr[1] != '=') {
        return 0;
    }
    for (size_t i = 2, weight = 1000; i < text.len && weight; i++) {
        if (i == 3) {
            if (text.ptr[i] != '.') {
                return 0;
            }
            continue;
        }
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return 0;
        }
        quality += (text.ptr[i] - '0') * (int)weight;
        weight /= 10;
    }
    return quality;
}

bool md_coding_choose(struct md_str accept, enum md_coding *coding)
{
    enum { GZIP, DEFLATE, IDENTITY, ANY, COUNT };
    static const struct md_str known[COUNT] = {MD_STR("gzip"), MD_STR("deflate"),
                                               MD_STR("identity"), MD_STR("*")};
    int quality[COUNT] = {-1, -1, -1, -1};
    struct md_str piece, name;

    while (md_str_split(&accept, ',', &piece)) {
        if (!md_str_split(&piece, ';', &name)) {
            continue;
        }
        for (size_t i = 0; i < COUNT; i++) {
            if (md_str_eq_nocase(md_str_trim(name), known[i])) {
                quality[i] = quality_of(piece);
            }
        }
    }
    int gzip = quality[GZIP] >= 0 ? quality[GZIP] : quality[ANY];
    int deflate = quality[DEFLATE] >= 0 ? quality[DEFLATE] : quality[ANY];
    int best = gzip >= deflate ? gzip : deflate;
    *coding = gzip >= deflate ? MD_CODING_GZIP : MD_CODING_DEFLATE;
    return best > 0 && best >= quality[IDENTITY];
}

/* --- decoding -------------------- */

bool md_unpack_begin(struct md_unpack *unpack, enum md_coding coding, struct md_pool *pool,
                     struct md_error *err)
{
    *unpack = (struct md_unpack){0};
    return md_inflate_create(coding, md_pool_budget(pool), &unpack->inflate, err);
}

void md_unpack_deinit(struct md_unpack *unpack)
{
    md_inflate_destroy(unpack->inflate);
    md_block_unref(unpack->block);
    *unpack = (struct md_unpack){0};
}

/* Room for more decoded bytes; the first block bets on a factor of four. */
static bool grow(struct md_unpack *unpack, struct md_pool *pool, size_t in_len, size_t lead)
{
    struct md_block *before = unpack->block;
    size_t used = lead + unpack->bytes;
    bool over_budget;

    if (before && before->capacity > used) {
        return md_block_charge(before, md_size_min(used + MD_CODING_SLICE_BYTES, before->capacity));
    }
    size_t capacity = before ? before->capacity * 4 : md_size_max(in_len * 4 + lead, FIRST_BYTES);
    struct md_block *larger = md_pool_alloc_lazy(pool, capacity, 1, &over_budget);
    if (!larger || !md_block_charge(larger, md_size_min(used + MD_CODING_SLICE_BYTES, capacity))) {
        md_block_unref(larger);
        return false;
    }
    if (before) {
        memcpy(larger->data, before->data, used);
        md_block_unref(before);
    }
    unpack->block = larger;
    return true;
}

enum md_progress md_unpack_step(struct md_unpack *unpack, struct md_pool *pool, struct md_str in,
                                size_t lead, size_t max, struct md_error *err)
{
    size_t consumed, produced;

    if (!grow(unpack, pool, in.len, lead)) {
        (void)md_error_over_budget(err);
        return MD_PROGRESS_ERROR;
    }
    size_t room =
        md_size_min(unpack->block->capacity - lead - unpack->bytes, MD_CODING_SLICE_BYTES);
    enum md_progress progress = md_inflate_step(
        unpack->inflate, in.ptr + unpack->at, in.len - unpack->at,
        unpack->block->data + lead + unpack->bytes, room, &consumed, &produced, err);
    unpack->at += consumed;
    unpack->bytes += produced;
    if (unpack->bytes > max) {
        (void)md_error_set(err, MD_REASON_TOO_LARGE,
                           "the request body is larger than the server accepts");
        return MD_PROGRESS_ERROR;
    }
    if (progress == MD_PROGRESS_DONE && unpack->at != in.len) {
        (void)md_error_set(err, MD_REASON_MALFORMED, "bytes follow the end of the compressed body");
        return MD_PROGRESS_ERROR;
    }
    if (progress == MD_PROGRESS_AGAIN && produced == 0 && consumed == 0) {
        (void)md_error_set(err, MD_REASON_MALFORMED, "the compressed body ends too early");
        return MD_PROGRESS_ERROR;
    }
    if (progress == MD_PROGRESS_DONE) {
        md_inflate_destroy(unpack->inflate);
        unpack->inflate = NULL;
    }
    return progress;
}

/* --- compressing -------------------- */

bool md_pack_begin(struct md_pack *pack, enum md_coding coding, struct md_pool *pool,
                   struct md_error *err)
{
    *pack = (struct md_pack){0};
    return md_deflate_create(coding, md_pool_budget(pool), &pack->deflate, err);
}

void md_pack_deinit(struct md_pack *pack)
{
    md_deflate_destroy(pack->deflate);
    md_chain_deinit(&pack->chain);
    *pack = (struct md_pack){0};
}

enum md_progress md_pack_step(struct md_pack *pack, struct md_pool *pool, const struct iovec *parts,
                              size_t part_count)
{
    static const struct iovec nothing = {.iov_base = (void *)(uintptr_t) "", .iov_len = 0};
    const struct iovec *part = part_count ? &parts[pack->part] : &nothing;
    const bool last = pack->part + 1 >= part_count;
    size_t in_len = md_size_min(part->iov_len - pack->part_at, MD_CODING_SLICE_BYTES);
    bool last_slice = last && pack->part_at + in_len == part->iov_len;
    struct md_bytes *out = md_chain_room(&pack->chain, pool, ROOM_BYTES);
    enum md_progress progress = MD_PROGRESS_ERROR;
    size_t consumed = 0, produced = 0;

    if (out) {
        progress = md_deflate_step(pack->deflate, (const char *)part->iov_base + pack->part_at,
                                   in_len, last_slice, out->data + out->len,
                                   out->capacity - out->len, &consumed, &produced);
        out->len += produced;
    }
    pack->part_at += consumed;
    if (!last && pack->part_at == part->iov_len) {
        pack->part++;
        pack->part_at = 0;
    }
    if (progress == MD_PROGRESS_DONE) {
        md_deflate_destroy(pack->deflate);
        pack->deflate = NULL;
    }
    return progress;
}
