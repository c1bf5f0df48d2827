/*
 * http/page: pages of one slice and of many, slow readers, readers that go, short memory.
 */
#include "component/api/fake_server.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "base/fault.h"
#include "http/page.h"

static struct md_budget budget;
static struct md_loop *loop;

struct source {
    size_t slices, at;
    size_t bytes; /* of each */
};

static bool fill(void *arg, struct md_bytes *out)
{
    struct source *source = arg;

    for (size_t i = 0; i < source->bytes; i++) {
        md_bytes_append_char(out, (char)('a' + source->at % 26));
    }
    return ++source->at < source->slices;
}

static int start(void **state)
{
    struct md_error err;

    (void)state;
    md_os_clock_install();
    md_budget_init(&budget, 1 << 20);
    const struct md_loop_options options = {.cpu = -1, .budget = &budget};
    return md_loop_create(&options, &loop, &err) ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    md_loop_destroy(loop);
    return 0;
}

static void respond(struct fake_exchange *fake, struct source *source)
{
    const struct md_http_response response = {.status = 200, .content_type = "text/plain"};

    memset(fake, 0, sizeof *fake);
    fake->x.loop = loop;
    md_page_respond(&fake->x, &response, fill, source);
}

static void run_loop(void)
{
    struct md_error err;

    for (int i = 0; i < 5; i++) {
        assert_true(md_loop_run_once(loop, 0, &err));
    }
}

static void forget(struct fake_exchange *fake)
{
    md_bytes_deinit(&fake->body);
    md_arena_deinit(&fake->x.arena);
}

static void test_page_of_one_slice_has_a_length(void **state)
{
    struct source source = {.slices = 1, .bytes = 100};
    struct fake_exchange fake;

    (void)state;
    respond(&fake, &source);
    assert_int_equal(fake.answers, 1);
    assert_null(fake.drained); /* answered whole */
    assert_int_equal(fake.body.len, 100);
    forget(&fake);
}

static void test_page_waits_for_its_reader(void **state)
{
    struct source source = {.slices = 3, .bytes = 10};
    struct fake_exchange fake;

    (void)state;
    respond(&fake, &source);
    for (size_t slices = 1; slices < 3; slices++) {
        run_loop();
        assert_int_equal(fake.body.len, 10 * slices); /* no more is made than is wanted */
        assert_int_equal(fake.ends, 0);
        fake.drained(&fake.x);
        fake.drained(&fake.x);
    }
    run_loop();
    assert_int_equal(fake.body.len, 30);
    assert_int_equal(fake.ends, 1);
    assert_int_equal(fake.answers, 1);
    forget(&fake);
}

static void test_page_ends_when_its_reader_goes(void **state)
{
    (void)state;
    for (int is_due = 0; is_due < 2; is_due++) {
        struct source source = {.slices = 9, .bytes = 10};
        struct fake_exchange fake;
        respond(&fake, &source);
        if (is_due) {
            fake.drained(&fake.x);
        }
        fake.x.cancelled = true;
        md_page_on_cancel(&fake.x);
        run_loop();
        assert_int_equal(fake.ends, 1);
        assert_int_equal(fake.body.len, 10);
        forget(&fake);
    }
}

static void test_page_without_memory_is_no_half_truth(void **state)
{
    struct source source = {.slices = 2, .bytes = 10};
    struct fake_exchange fake;

    (void)state;
    for (long n = 0; n < 2; n++) { /* its state, its text */
        source.at = 0;
        memset(&fake, 0, sizeof fake);
        md_fault_arm(MD_FAULT_ALLOC, n);
        respond(&fake, &source);
        assert_true(md_fault_disarm(MD_FAULT_ALLOC));
        assert_int_equal(fake.status, 503);
        assert_true(fake.retry_after);
        forget(&fake);
    }
    source = (struct source){.slices = 2, .bytes = 10};
    respond(&fake, &source);
    source.bytes = 100000; /* the next slice does not fit what there is */
    fake.drained(&fake.x);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    run_loop();
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(fake.aborts, 1);
    assert_int_equal(fake.ends, 0);
    assert_int_equal(fake.body.len, 10);
    forget(&fake);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_page_of_one_slice_has_a_length),
        cmocka_unit_test(test_page_waits_for_its_reader),
        cmocka_unit_test(test_page_ends_when_its_reader_goes),
        cmocka_unit_test(test_page_without_memory_is_no_half_truth),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
