/*
 * base/chain: growth over blocks, the budget, what failure leaves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "base/alloc.h"
#include "base/chain.h"

enum { MIB = 1024 * 1024 };

struct rig {
    struct md_budget budget;
    struct md_pool *pool;
    struct md_chain chain;
};

static void rig_open(struct rig *rig, size_t limit)
{
    *rig = (struct rig){0};
    md_budget_init(&rig->budget, limit);
    assert_true(md_pool_create(&rig->budget, MIB, &rig->pool));
}

static void rig_close(struct rig *rig)
{
    md_chain_deinit(&rig->chain);
    assert_int_equal(rig->chain.part_count, 0);
    md_pool_destroy(rig->pool);
    assert_int_equal(rig->budget.used_bytes, 0);
}

/* Appends `count` bytes that say where they stand. */
static bool append(struct rig *rig, size_t count)
{
    size_t from = md_chain_bytes(&rig->chain);
    struct md_bytes *out = md_chain_room(&rig->chain, rig->pool, count);

    for (size_t i = 0; out && i < count; i++) {
        md_bytes_append_char(out, (char)('a' + (from + i) % 26));
    }
    return out && !out->failed;
}

static void check_text(const struct rig *rig)
{
    struct iovec parts[512];
    size_t at = 0;

    assert_true(rig->chain.part_count <= MD_COUNT_OF(parts));
    md_chain_parts(&rig->chain, parts);
    for (size_t i = 0; i < rig->chain.part_count; i++) {
        for (size_t k = 0; k < parts[i].iov_len; k++, at++) {
            assert_int_equal(((const char *)parts[i].iov_base)[k], 'a' + at % 26);
        }
    }
    assert_int_equal(at, md_chain_bytes(&rig->chain));
}

static void test_chain_keeps_text_of_every_piece_size(void **state)
{
    static const size_t pieces[] = {1, 7, 1000, 4080, 4096, 65520, 65536, 300000};
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(pieces); i++) {
        rig_open(&rig, 64 * MIB);
        size_t total = 0;
        while (total < 700000) {
            assert_true(append(&rig, pieces[i]));
            total += pieces[i];
        }
        assert_int_equal(md_chain_bytes(&rig.chain), total);
        check_text(&rig);
        rig_close(&rig);
    }
}

static void test_chain_small_text_takes_a_small_block(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig, MIB);
    assert_int_equal(md_chain_bytes(&rig.chain), 0);
    assert_true(append(&rig, 100));
    assert_int_equal(rig.chain.part_count, 1);
    assert_int_equal(rig.chain.first->capacity, 4096);
    rig_close(&rig);
}

static void test_chain_stands_when_the_budget_is_exhausted(void **state)
{
    struct rig rig;
    size_t appended = 0;

    (void)state;
    rig_open(&rig, 300 * 1024);
    while (append(&rig, 10000)) {
        appended += 10000;
    }
    assert_in_range(appended, 100000, 300000);
    assert_int_equal(md_chain_bytes(&rig.chain), appended);
    check_text(&rig);
    assert_null(md_chain_room(&rig.chain, rig.pool, SIZE_MAX));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain_keeps_text_of_every_piece_size),
        cmocka_unit_test(test_chain_small_text_takes_a_small_block),
        cmocka_unit_test(test_chain_stands_when_the_budget_is_exhausted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
