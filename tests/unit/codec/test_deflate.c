/*
 * codec/deflate.h: round trips in every slicing, foreign streams, damage, lack of memory.
 */
#include "base/bytes.h"
#include "base/fault.h"
#include "codec/deflate.h"

#include <stdarg.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

static const enum md_coding codings[] = {MD_CODING_GZIP, MD_CODING_DEFLATE};

static void make_plain(struct md_bytes *plain)
{
    for (unsigned i = 0; i < 3000; i++) {
        md_bytes_printf(plain, "%u,%u;", i, i * i % 97);
    }
    assert_false(plain->failed);
}

static void compress(enum md_coding coding, struct md_str plain, size_t in_slice, size_t out_slice,
                     struct md_bytes *out)
{
    struct md_deflate *deflate;
    struct md_error err;
    enum md_progress progress;
    size_t at = 0, consumed, produced;

    assert_true(md_deflate_create(coding, NULL, &deflate, &err));
    do {
        size_t in_len = md_size_min(in_slice, plain.len - at);
        assert_true(md_bytes_reserve(out, out_slice));
        progress = md_deflate_step(deflate, plain.ptr + at, in_len, at + in_len == plain.len,
                                   out->data + out->len, out_slice, &consumed, &produced);
        assert_true(consumed <= in_len && produced <= out_slice);
        at += consumed;
        out->len += produced;
    } while (progress == MD_PROGRESS_AGAIN);
    assert_int_equal(progress, MD_PROGRESS_DONE);
    assert_int_equal(at, plain.len);
    md_deflate_destroy(deflate);
}

/* DONE, ERROR, or AGAIN when the stream is cut short. *used: bytes of the stream that were taken.
 */
static enum md_progress decompress(enum md_coding coding, struct md_str text, size_t in_slice,
                                   size_t out_slice, struct md_bytes *out, size_t *used,
                                   struct md_error *err)
{
    struct md_inflate *inflate;
    enum md_progress progress;
    size_t consumed, produced;

    *used = 0;
    md_bytes_clear(out);
    assert_true(md_inflate_create(coding, NULL, &inflate, err));
    do {
        size_t in_len = md_size_min(in_slice, text.len - *used);
        assert_true(md_bytes_reserve(out, out_slice));
        progress = md_inflate_step(inflate, text.ptr + *used, in_len, out->data + out->len,
                                   out_slice, &consumed, &produced, err);
        assert_true(consumed <= in_len && produced <= out_slice);
        *used += consumed;
        out->len += produced;
    } while (progress == MD_PROGRESS_AGAIN && (consumed || produced));
    md_inflate_destroy(inflate);
    return progress;
}

static void test_deflate_round_trip_in_slices(void **state)
{
    static const size_t slices[] = {1, 7, 4096, 1 << 20};
    struct md_bytes plain = {0}, packed = {0}, back = {0};
    struct md_error err;
    size_t used;

    (void)state;
    make_plain(&plain);
    for (size_t c = 0; c < MD_COUNT_OF(codings); c++) {
        for (size_t i = 0; i < MD_COUNT_OF(slices); i++) {
            size_t in = slices[i], out = slices[MD_COUNT_OF(slices) - 1 - i];
            md_bytes_clear(&packed);
            compress(codings[c], md_bytes_view(&plain), in, out, &packed);
            assert_true(packed.len < plain.len / 2);
            assert_int_equal(
                decompress(codings[c], md_bytes_view(&packed), in, out, &back, &used, &err),
                MD_PROGRESS_DONE);
            assert_int_equal(used, packed.len);
            assert_true(md_str_eq(md_bytes_view(&back), md_bytes_view(&plain)));
        }
    }
    md_bytes_deinit(&plain);
    md_bytes_deinit(&packed);
    md_bytes_deinit(&back);
}

static void test_deflate_of_nothing(void **state)
{
    struct md_bytes packed = {0}, back = {0};
    struct md_error err;
    size_t used;

    (void)state;
    compress(MD_CODING_GZIP, MD_STR(""), 1, 64, &packed);
    assert_int_equal(
        decompress(MD_CODING_GZIP, md_bytes_view(&packed), 100, 100, &back, &used, &err),
        MD_PROGRESS_DONE);
    assert_int_equal(back.len, 0);
    md_bytes_deinit(&packed);
    md_bytes_deinit(&back);
}

static void test_deflate_every_cut_asks_for_more(void **state)
{
    struct md_bytes packed = {0}, back = {0};
    struct md_error err;
    size_t used;

    (void)state;
    compress(MD_CODING_GZIP, MD_STR("some text, some text, some text"), 100, 100, &packed);
    for (size_t len = 0; len < packed.len; len++) {
        struct md_str cut = md_str_make(packed.data, len);
        assert_int_equal(decompress(MD_CODING_GZIP, cut, 100, 100, &back, &used, &err),
                         MD_PROGRESS_AGAIN);
    }
    md_bytes_deinit(&packed);
    md_bytes_deinit(&back);
}

static void test_deflate_stops_at_the_end_of_the_stream(void **state)
{
    struct md_bytes packed = {0}, back = {0};
    struct md_error err;
    size_t used;

    (void)state;
    compress(MD_CODING_GZIP, MD_STR("text"), 100, 100, &packed);
    size_t len = packed.len;
    md_bytes_append_c(&packed, "garbage");
    assert_int_equal(
        decompress(MD_CODING_GZIP, md_bytes_view(&packed), 100, 100, &back, &used, &err),
        MD_PROGRESS_DONE);
    assert_int_equal(used, len);
    md_bytes_deinit(&packed);
    md_bytes_deinit(&back);
}

static void test_deflate_damage_is_an_error(void **state)
{
    struct md_bytes packed = {0}, back = {0};
    struct md_error err;
    size_t used;

    (void)state;
    for (size_t c = 0; c < MD_COUNT_OF(codings); c++) {
        md_bytes_clear(&packed);
        compress(codings[c], MD_STR("some text, some text, some text"), 100, 100, &packed);
        packed.data[packed.len - 5] ^=
            1; /* in the checksum of gzip, the end of the data or checksum of zlib */
        assert_int_equal(
            decompress(codings[c], md_bytes_view(&packed), 100, 100, &back, &used, &err),
            MD_PROGRESS_ERROR);
        assert_int_equal(err.reason, MD_REASON_MALFORMED);
    }
    md_bytes_deinit(&packed);
    md_bytes_deinit(&back);
}

static void test_deflate_other_formats_are_named(void **state)
{
    static const struct {
        enum md_coding coding;
        struct md_str text;
        const char *sentence;
    } cases[] = {
        {MD_CODING_GZIP, {"{\"a\":1}", 7}, "gzip"},
        {MD_CODING_DEFLATE, {"\x4b\x4c\x4a\x06\x00", 5}, "zlib format"}, /* raw deflate of "abc" */
        {MD_CODING_DEFLATE, {"\x1f\x8b\x08\0\0\0\0\0\0\3", 10}, "zlib format"}, /* gzip */
        {MD_CODING_DEFLATE, {"\x78\xbb\0\0\0\1\0\0\0\0", 10}, "it needs a dictionary"},
    };
    struct md_bytes back = {0};
    struct md_error err;
    size_t used;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        assert_int_equal(decompress(cases[i].coding, cases[i].text, 100, 100, &back, &used, &err),
                         MD_PROGRESS_ERROR);
        if (!strstr(err.text, cases[i].sentence)) {
            fail_msg("%s", err.text);
        }
    }
    md_bytes_deinit(&back);
}

static void test_deflate_a_bomb_gets_only_the_room_it_is_given(void **state)
{
    enum { HUGE_BYTES = 4 << 20 };
    char *zeros = calloc(1, HUGE_BYTES), room[1000];
    struct md_bytes packed = {0};
    struct md_inflate *inflate;
    struct md_error err;
    size_t consumed, produced;

    (void)state;
    assert_non_null(zeros);
    compress(MD_CODING_GZIP, md_str_make(zeros, HUGE_BYTES), HUGE_BYTES, 65536, &packed);
    free(zeros);
    assert_true(md_inflate_create(MD_CODING_GZIP, NULL, &inflate, &err));
    assert_int_equal(md_inflate_step(inflate, packed.data, packed.len, room, sizeof room, &consumed,
                                     &produced, &err),
                     MD_PROGRESS_AGAIN);
    assert_int_equal(produced, sizeof room);
    assert_true(consumed < packed.len);
    md_inflate_destroy(inflate);
    md_bytes_deinit(&packed);
}

static void test_deflate_out_of_memory_is_said(void **state)
{
    struct md_bytes packed = {0};
    struct md_budget budget;
    char room[64];
    bool delivered = true;

    (void)state;
    compress(MD_CODING_GZIP, MD_STR("some text, some text, some text"), 100, 100, &packed);
    md_budget_init(&budget, 1024 * 1024);
    for (long after = 0; delivered; after++) {
        struct md_inflate *inflate = NULL;
        struct md_deflate *deflate = NULL;
        struct md_error err = {0};
        size_t consumed, produced;
        md_fault_arm(MD_FAULT_ALLOC, after);
        bool good = md_inflate_create(MD_CODING_GZIP, &budget, &inflate, &err) &&
                    md_inflate_step(inflate, packed.data, 12, room, 5, &consumed, &produced,
                                    &err) == MD_PROGRESS_AGAIN &&
                    md_inflate_step(inflate, packed.data + consumed, packed.len - consumed, room,
                                    sizeof room, &consumed, &produced, &err) == MD_PROGRESS_DONE &&
                    md_deflate_create(MD_CODING_DEFLATE, &budget, &deflate, &err) &&
                    md_deflate_step(deflate, "x", 1, true, room, sizeof room, &consumed,
                                    &produced) == MD_PROGRESS_DONE;
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(good, !delivered);
        if (delivered) {
            assert_int_equal(err.reason, MD_REASON_OUT_OF_MEMORY);
        }
        md_inflate_destroy(inflate);
        md_deflate_destroy(deflate);
        assert_int_equal(atomic_load(&budget.used_bytes), 0);
    }
    md_bytes_deinit(&packed);
}

static void test_deflate_counts_its_memory(void **state)
{
    struct md_inflate *inflate;
    struct md_deflate *deflate;
    struct md_budget budget;
    struct md_error err;

    (void)state;
    md_budget_init(&budget, 300 * 1024);
    assert_true(md_inflate_create(MD_CODING_GZIP, &budget, &inflate, &err));
    assert_false(md_deflate_create(MD_CODING_GZIP, &budget, &deflate, &err));
    assert_int_equal(err.reason, MD_REASON_INFLIGHT_BYTES);
    md_inflate_destroy(inflate);
    assert_true(md_deflate_create(MD_CODING_GZIP, &budget, &deflate, &err));
    md_deflate_destroy(deflate);
    assert_int_equal(atomic_load(&budget.used_bytes), 0);
}

/* What was appended so far can be read at once, before the end is there. */
static void test_deflate_append_leaves_nothing_behind(void **state)
{
    enum { PIECES = 3, PIECE = 20000 };
    struct md_deflate *deflate;
    struct md_inflate *inflate;
    struct md_bytes packed = {0};
    static char text[PIECE], back[PIECE + 1];
    size_t at = 0, consumed, produced;
    struct md_error err;

    (void)state;
    assert_true(md_deflate_create(MD_CODING_GZIP, NULL, &deflate, &err));
    assert_true(md_inflate_create(MD_CODING_GZIP, NULL, &inflate, &err));
    for (size_t i = 0; i < PIECE; i++) {
        text[i] = (char)(i * i * 2654435761U >> 13);
    }
    for (int piece = 0; piece < PIECES; piece++) {
        assert_true(md_deflate_append(deflate, md_str_make(text, PIECE), false, &packed));
        size_t got = 0;
        do {
            assert_int_equal(md_inflate_step(inflate, packed.data + at, packed.len - at, back + got,
                                             sizeof back - got, &consumed, &produced, &err),
                             MD_PROGRESS_AGAIN);
            at += consumed;
            got += produced;
        } while (at < packed.len);
        assert_int_equal(got, PIECE);
        assert_memory_equal(back, text, PIECE);
    }
    assert_true(md_deflate_append(deflate, MD_STR(""), true, &packed));
    assert_int_equal(md_inflate_step(inflate, packed.data + at, packed.len - at, back, sizeof back,
                                     &consumed, &produced, &err),
                     MD_PROGRESS_DONE);
    assert_int_equal(produced, 0);
    struct md_bytes small = {.max = 10};
    assert_false(md_deflate_append(deflate, MD_STR(""), true, &small));
    md_bytes_deinit(&small);
    md_bytes_deinit(&packed);
    md_deflate_destroy(deflate);
    md_inflate_destroy(inflate);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deflate_round_trip_in_slices),
        cmocka_unit_test(test_deflate_of_nothing),
        cmocka_unit_test(test_deflate_every_cut_asks_for_more),
        cmocka_unit_test(test_deflate_stops_at_the_end_of_the_stream),
        cmocka_unit_test(test_deflate_damage_is_an_error),
        cmocka_unit_test(test_deflate_other_formats_are_named),
        cmocka_unit_test(test_deflate_a_bomb_gets_only_the_room_it_is_given),
        cmocka_unit_test(test_deflate_out_of_memory_is_said),
        cmocka_unit_test(test_deflate_counts_its_memory),
        cmocka_unit_test(test_deflate_append_leaves_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
