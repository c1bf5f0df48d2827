/*
 * The metrics page without a network: whole, and when its reader goes away in the middle.
 */
#include "component/api/fake_metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

enum { MODELS = 100 };

static struct fake_server server;

static int start(void **state)
{
    char name[16];

    (void)state;
    fake_server_init(&server);
    for (int i = 0; i < MODELS; i++) {
        (void)snprintf(name, sizeof name, "m%03d", i);
        fake_model(&server, name, 0, "FP32", "-1", 1, "");
    }
    fake_server_start(&server, 64 << 20);
    fake_metrics_init(&server);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fake_server_stop(&server);
    return 0;
}

static void begin_page(struct fake_exchange *fake)
{
    memset(fake, 0, sizeof *fake);
    fake->x.loop = server.loop;
    fake->x.head = (struct md_http_head){.method = MD_HTTP_GET, .path = MD_STR("/metrics")};
    md_metrics_route(&metrics, &fake->x);
    fake->x.handler->on_request(&fake->x);
}

static void run_loop(void)
{
    struct md_error err;

    assert_true(md_loop_run_once(server.loop, 0, &err));
}

static void test_metrics_page_ends_once(void **state)
{
    struct fake_exchange fake;

    (void)state;
    begin_page(&fake);
    while (!fake.ends) {
        fake.drained(&fake.x);
        run_loop();
    }
    md_bytes_append_char(&fake.body, '\0');
    assert_int_equal(fake.status, 200);
    assert_int_equal(fake.ends, 1);
    assert_non_null(
        strstr(fake.body.data, "nv_inference_request_success{model=\"m000\",version=\"1\"} 0\n"));
    assert_non_null(
        strstr(fake.body.data, "nv_inference_request_success{model=\"m099\",version=\"1\"} 0\n"));
    assert_non_null(strstr(fake.body.data, "modeld_build_info{version=\"1.2.3\"} 1\n"));
    fake_free(&fake);
}

static void read_page(struct fake_exchange *fake)
{
    begin_page(fake);
    while (!fake->ends) {
        fake->drained(&fake->x);
        run_loop();
    }
    md_bytes_append_char(&fake->body, '\0');
    assert_false(fake->body.failed);
}

/* Of batches, device time and instances a model has samples once it has run something. */
static void test_metrics_page_says_of_batches_what_there_is(void **state)
{
    static const char *const lines[] = {
        "modeld_batch_starts_total{model=\"m007\",version=\"1\",reason=\"full\"} 3\n",
        "modeld_batch_starts_total{model=\"m007\",version=\"1\",reason=\"deadline\"} 1\n",
        "modeld_queue_bytes{model=\"m007\",version=\"1\"} 4096\n",
        "modeld_device_seconds_total{model=\"m007\",version=\"1\"} 0.0015\n",
        "modeld_instances{model=\"m007\",version=\"1\",state=\"in_service\"} 2\n",
        "modeld_instances{model=\"m007\",version=\"1\",state=\"out_of_service\"} 1\n",
    };
    static const char *const families[] = {"modeld_batch_starts_total{", "modeld_queue_bytes{",
                                           "modeld_device_seconds_total{", "modeld_instances{",
                                           "modeld_execution_seconds{"};
    struct md_target *target = &md_models_find(server.models, MD_STR("m007"))->versions[0].target;
    struct fake_exchange fake;

    (void)state;
    read_page(&fake);
    for (size_t i = 0; i < MD_COUNT_OF(families); i++) {
        assert_null(strstr(fake.body.data, families[i]));
    }
    fake_free(&fake);
    atomic_store(&target->starts[MD_START_FULL], 3);
    atomic_store(&target->starts[MD_START_DEADLINE], 1);
    atomic_store(&target->pending_bytes, 4096);
    atomic_store(&target->device_ns, 1500000);
    atomic_store(&target->in_service, 2);
    atomic_store(&target->out_of_service, 1);
    read_page(&fake);
    for (size_t i = 0; i < MD_COUNT_OF(lines); i++) {
        if (!strstr(fake.body.data, lines[i])) {
            fail_msg("the page does not say %s", lines[i]);
        }
    }
    assert_null(strstr(fake.body.data, "reason=\"idle\""));
    assert_null(strstr(fake.body.data, "modeld_instances{model=\"m008\""));
    fake_free(&fake);
}

/* The exchange waits for its end: without it the connection's memory is never freed, and shutdown
 * waits for it. */
static void test_metrics_page_ends_when_its_reader_goes(void **state)
{
    struct fake_exchange fake;

    (void)state;
    for (int slice_is_due = 0; slice_is_due < 2; slice_is_due++) {
        begin_page(&fake);
        if (slice_is_due) {
            fake.drained(&fake.x);
        }
        assert_int_equal(fake.ends, 0);
        fake.x.cancelled = true;
        assert_non_null(fake.x.handler->on_cancel);
        fake.x.handler->on_cancel(&fake.x);
        run_loop();
        assert_int_equal(fake.ends, 1);
        fake_free(&fake);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_page_ends_once),
        cmocka_unit_test(test_metrics_page_says_of_batches_what_there_is),
        cmocka_unit_test(test_metrics_page_ends_when_its_reader_goes),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
