/*
 * Content codings: which one a client gets, and bodies that are packed and unpacked in slices.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/pool.h"
#include "http/coding.h"

enum { BUDGET = 8 * 1024 * 1024, TEXT_BYTES = 1000000, NO_CODING = -1 };

static void test_coding_has_names(void **state)
{
    enum md_coding coding;

    (void)state;
    assert_true(md_coding_from_name(MD_STR("GZip"), &coding));
    assert_int_equal(coding, MD_CODING_GZIP);
    assert_string_equal(md_coding_name(coding), "gzip");
    assert_true(md_coding_from_name(MD_STR("deflate"), &coding));
    assert_string_equal(md_coding_name(coding), "deflate");
    assert_false(md_coding_from_name(MD_STR("br"), &coding));
    assert_false(md_coding_from_name(MD_STR(""), &coding));
}

static void test_coding_is_what_the_client_likes_best(void **state)
{
    static const struct {
        const char *accept;
        int coding;
    } table[] = {
        {"", NO_CODING},
        {"gzip", MD_CODING_GZIP},
        {"deflate", MD_CODING_DEFLATE},
        {"br, deflate", MD_CODING_DEFLATE},
        {"deflate;q=0.5, gzip;q=0.4", MD_CODING_DEFLATE},
        {"deflate;q=0.5, gzip", MD_CODING_GZIP},
        {"gzip;q=0", NO_CODING},
        {"gzip;q=0.000", NO_CODING},
        {"gzip;q=x", NO_CODING},
        {"gzip;q=1x", NO_CODING},
        {"*", MD_CODING_GZIP},
        {"gzip;q=0, *", MD_CODING_DEFLATE},
        {"br", NO_CODING},
        {",,gzip ; q=0.1,", MD_CODING_GZIP},
        {"identity, gzip;q=0.5", NO_CODING},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(table); i++) {
        enum md_coding coding;
        int got = md_coding_choose(md_str_of(table[i].accept), &coding) ? (int)coding : NO_CODING;
        if (got != table[i].coding) {
            fail_msg("%s: %d", table[i].accept, got);
        }
    }
}

static char text[TEXT_BYTES];
static struct md_budget budget;
static struct md_pool *pool;

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (char)('a' + i * i % 23);
    }
    md_budget_init(&budget, BUDGET);
    return md_pool_create(&budget, 0, &pool) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    md_pool_destroy(pool);
    assert_int_equal(budget.used_bytes, 0);
    return 0;
}

/* Packs the text in two parts and an empty one; returns steps. */
static unsigned pack(enum md_coding coding, size_t len, struct md_bytes *out)
{
    struct md_pack job = {0};
    const struct iovec parts[] = {{text, len / 3}, {text, 0}, {text + len / 3, len - len / 3}};
    struct md_error err;
    enum md_progress progress;
    unsigned steps = 0;

    assert_true(md_pack_begin(&job, coding, pool, &err));
    do {
        progress = md_pack_step(&job, pool, parts, MD_COUNT_OF(parts));
        steps++;
    } while (progress == MD_PROGRESS_AGAIN);
    assert_int_equal(progress, MD_PROGRESS_DONE);
    struct iovec *result = test_malloc((job.chain.part_count + 1) * sizeof *result);
    md_chain_parts(&job.chain, result);
    for (size_t i = 0; i < job.chain.part_count; i++) {
        md_bytes_append(out, result[i].iov_base, result[i].iov_len);
    }
    test_free(result);
    md_pack_deinit(&job);
    return steps;
}

static enum md_progress unpack(enum md_coding coding, struct md_str in, size_t lead, size_t max,
                               struct md_str expected, struct md_error *err)
{
    struct md_unpack job = {0};
    enum md_progress progress;

    assert_true(md_unpack_begin(&job, coding, pool, err));
    do {
        progress = md_unpack_step(&job, pool, in, lead, max, err);
    } while (progress == MD_PROGRESS_AGAIN);
    if (progress == MD_PROGRESS_DONE) {
        assert_true(md_str_eq(md_str_make(job.block->data + lead, job.bytes), expected));
    }
    md_unpack_deinit(&job);
    return progress;
}

static void test_coding_unpacks_what_it_packs(void **state)
{
    static const size_t lengths[] = {0, 1, 1000, 65536, TEXT_BYTES};
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(lengths); i++) {
        for (int coding = MD_CODING_GZIP; coding <= MD_CODING_DEFLATE; coding++) {
            struct md_bytes packed = {0};
            unsigned steps = pack((enum md_coding)coding, lengths[i], &packed);
            assert_true(steps >= lengths[i] / MD_CODING_SLICE_BYTES);
            for (size_t lead = 0; lead < 64; lead += 50) {
                assert_int_equal(unpack((enum md_coding)coding, md_bytes_view(&packed), lead,
                                        TEXT_BYTES, md_str_make(text, lengths[i]), &err),
                                 MD_PROGRESS_DONE);
            }
            md_bytes_deinit(&packed);
        }
    }
}

static void test_coding_tells_why_it_cannot_unpack(void **state)
{
    struct md_bytes packed = {0};
    struct md_error err;

    (void)state;
    (void)pack(MD_CODING_GZIP, TEXT_BYTES, &packed);
    const struct md_str whole = md_bytes_view(&packed);
    assert_int_equal(unpack(MD_CODING_GZIP, whole, 0, TEXT_BYTES - 1, MD_STR(""), &err),
                     MD_PROGRESS_ERROR);
    assert_int_equal(err.reason, MD_REASON_TOO_LARGE);
    assert_int_equal(unpack(MD_CODING_GZIP, md_str_make(whole.ptr, whole.len - 1), 0, TEXT_BYTES,
                            MD_STR(""), &err),
                     MD_PROGRESS_ERROR);
    assert_int_equal(err.reason, MD_REASON_MALFORMED);
    assert_int_equal(unpack(MD_CODING_GZIP, MD_STR("nonsense"), 0, TEXT_BYTES, MD_STR(""), &err),
                     MD_PROGRESS_ERROR);
    assert_int_equal(err.reason, MD_REASON_MALFORMED);
    md_bytes_append_char(&packed, 'x'); /* behind its end */
    assert_int_equal(unpack(MD_CODING_GZIP, md_bytes_view(&packed), 0, TEXT_BYTES,
                            md_str_make(text, TEXT_BYTES), &err),
                     MD_PROGRESS_ERROR);
    assert_int_equal(err.reason, MD_REASON_MALFORMED);
    md_bytes_deinit(&packed);
}

static void test_coding_counts_memory(void **state)
{
    struct md_bytes packed = {0};
    struct md_error err;
    bool over_budget;

    (void)state;
    (void)pack(MD_CODING_GZIP, TEXT_BYTES, &packed);
    struct md_block *hog = md_pool_alloc(pool, BUDGET - TEXT_BYTES, &over_budget);
    assert_non_null(hog);
    assert_int_equal(
        unpack(MD_CODING_GZIP, md_bytes_view(&packed), 0, TEXT_BYTES, MD_STR(""), &err),
        MD_PROGRESS_ERROR);
    assert_int_equal(err.reason, MD_REASON_INFLIGHT_BYTES);
    md_block_unref(hog);
    md_bytes_deinit(&packed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coding_has_names),
        cmocka_unit_test(test_coding_is_what_the_client_likes_best),
        cmocka_unit_test_setup_teardown(test_coding_unpacks_what_it_packs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_coding_tells_why_it_cannot_unpack, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_coding_counts_memory, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
