/*
 * Requests between a backend and its client: what a backend may answer, what it is told when it
 * answers wrong, whose memory is given back, streams and their credit.
 */
#include "unit/infer/fake_backend.h"

#include "base/fault.h"

enum { MEMORY_BYTES = 64 };

static struct fake_target one;
static struct call call;
static char memory[MEMORY_BYTES];
static atomic_int released;

static void release(void *arg)
{
    assert_ptr_equal(arg, memory);
    atomic_fetch_add(&released, 1);
}

static void open_world(enum fake_mode mode)
{
    world_open(1, UINT64_MAX);
    target_init(&one, 1, mode);
    one.target.inline_safe = true;
    one.target.inline_mode = MD_INLINE_ON;
    target_attach(&one);
    atomic_store(&released, 0);
}

static void close_world(void)
{
    target_remove(&one);
    world_close();
}

/* --- outputs -------------------- */

static const int64_t two[] = {2}, minus[] = {-2}, huge[] = {INT64_MAX, INT64_MAX};

static void test_request_judges_outputs(void **state)
{
    static const struct {
        uint32_t memory, dtype, rank;
        const int64_t *shape;
        const char *data;
        uint64_t bytes;
        const char *error; /* NULL: taken */
    } cases[] = {
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_FP32, 1, two, memory, 8, NULL},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_FP32, 0, NULL, memory, 4, NULL},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_FP32, 1, two, memory, 4, "has 4 bytes"},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_FP32, 1, two, memory, 12, "has 12 bytes"},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_FP32, 1, minus, memory, 8, "impossible shape"},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_FP32, 2, huge, memory, 8, "impossible shape"},
        {MODELD_OUTPUT_COPY, 999, 1, two, memory, 8, "has 8 bytes"},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_BYTES, 1, two, memory, 8, NULL},
        {MODELD_OUTPUT_COPY, MODELD_DTYPE_BYTES, 1, two, memory, 9, "length-prefixed"},
        {MODELD_OUTPUT_OWN, MODELD_DTYPE_FP32, 1, two, memory, 8, NULL},
        {MODELD_OUTPUT_OWN, MODELD_DTYPE_FP32, 1, two, memory, 7, "has 7 bytes"},
        {MODELD_OUTPUT_INPUT, MODELD_DTYPE_FP32, 1, two, memory, 8, "not lie inside an input"},
        {MODELD_OUTPUT_BUFFER, MODELD_DTYPE_FP32, 1, two, memory, 8, "not lie inside its buffer"},
        {77, MODELD_DTYPE_FP32, 1, two, memory, 8, "unknown memory kind 77"},
    };

    (void)state;
    open_world(FAKE_RESPONDS);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        one.fakes[0].output = (struct modeld_output){.tensor = {.name = "out",
                                                                .dtype = cases[i].dtype,
                                                                .rank = cases[i].rank,
                                                                .shape = cases[i].shape,
                                                                .data = cases[i].data,
                                                                .bytes = cases[i].bytes},
                                                     .memory = cases[i].memory,
                                                     .release = release,
                                                     .release_arg = memory};
        atomic_store(&released, 0);
        call_submit(&call, &one);
        assert_int_equal(one.fakes[0].respond_code,
                         cases[i].error ? MODELD_INVALID_ARGUMENT : MODELD_OK);
        call_expect(&call, cases[i].error ? MD_REASON_BACKEND : MD_REASON_NONE);
        if (cases[i].error && !strstr(call.text, cases[i].error)) {
            fail_msg("case %zu: %s", i, call.text);
        }
        assert_int_equal(released, cases[i].memory == MODELD_OUTPUT_OWN);
    }
    close_world();
}

static void test_request_takes_parts_of_buffers_and_inputs(void **state)
{
    static const struct {
        long at;
        uint64_t bytes;
        bool ok;
    } cases[] = {{0, 8, true},   {56, 8, true}, {57, 8, false}, {-1, 8, false},
                 {64, 8, false}, {0, 0, true},  {64, 0, true}};
    static const int64_t none[] = {0};

    (void)state;
    open_world(FAKE_RESPONDS);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        for (int in_buffer = 0; in_buffer < 2; in_buffer++) {
            struct md_block *block = md_device_block(world.device, MEMORY_BYTES);
            struct md_tensor input = {.name = MD_STR("in"), .data = memory, .bytes = MEMORY_BYTES};
            assert_non_null(block);
            block->capacity = MEMORY_BYTES;
            one.fakes[0].output = (struct modeld_output){
                .tensor = {.name = "out",
                           .dtype = MODELD_DTYPE_FP32,
                           .rank = 1,
                           .shape = cases[i].bytes ? two : none,
                           .data = (in_buffer ? block->data : memory) + cases[i].at,
                           .bytes = cases[i].bytes},
                .memory = in_buffer ? MODELD_OUTPUT_BUFFER : MODELD_OUTPUT_INPUT,
                .buffer = (modeld_buffer)(uintptr_t)block};
            if (!in_buffer) {
                md_block_unref(block);
            }
            memset(&call, 0, sizeof call);
            md_request_init(&call.request, &one.target, world.loop, &call.arena, &responder, &call);
            call.request.inputs = &input;
            call.request.input_count = 1;
            md_infer_submit(&call.request);
            call_expect(&call, cases[i].ok ? MD_REASON_NONE : MD_REASON_BACKEND);
        }
    }
    close_world(); /* no block is left */
}

/* Whichever request for memory fails: one end, and what was handed over is given back. */
static void test_request_short_of_memory_gives_back(void **state)
{
    bool delivered = true;

    (void)state;
    open_world(FAKE_RESPONDS);
    one.fakes[0].output = (struct modeld_output){.tensor = {.name = "out",
                                                            .dtype = MODELD_DTYPE_FP32,
                                                            .rank = 1,
                                                            .shape = two,
                                                            .data = memory,
                                                            .bytes = 8},
                                                 .memory = MODELD_OUTPUT_OWN,
                                                 .release = release,
                                                 .release_arg = memory};
    for (long n = 0; delivered; n++) {
        int executed = one.fakes[0].executed;
        atomic_store(&released, 0);
        md_fault_arm(MD_FAULT_REGION, n);
        call_submit(&call, &one);
        delivered = md_fault_disarm(MD_FAULT_REGION);
        assert_int_equal(call.ends, 1);
        assert_int_equal(call.reason != MD_REASON_NONE, delivered);
        md_arena_deinit(&call.arena);
        assert_int_equal(released, one.fakes[0].executed - executed);
        assert_true(n < 50);
    }
    close_world();
}

/* --- finishing -------------------- */

static void test_request_judges_how_it_was_finished(void **state)
{
    static const struct {
        int32_t code;
        const char *text;
        uint32_t how;
        enum md_reason reason;
        enum md_code md_code;
        const char *part;
    } cases[] = {
        {MODELD_OK, NULL, MODELD_FINISH_FINAL, MD_REASON_BACKEND, MD_CODE_INTERNAL,
         "without a response"},
        {MODELD_INVALID_ARGUMENT, "bad", MODELD_FINISH_FINAL, MD_REASON_BACKEND,
         MD_CODE_INVALID_ARGUMENT, "bad"},
        {MODELD_INTERNAL, NULL, MODELD_FINISH_FINAL, MD_REASON_BACKEND, MD_CODE_INTERNAL,
         "without saying why"},
        {MODELD_INTERNAL, "", MODELD_FINISH_FINAL, MD_REASON_BACKEND, MD_CODE_INTERNAL,
         "without saying why"},
        {12345, "odd", MODELD_FINISH_FINAL, MD_REASON_BACKEND, MD_CODE_INTERNAL, "odd"},
        {-1, "odd", MODELD_FINISH_FINAL, MD_REASON_BACKEND, MD_CODE_INTERNAL, "odd"},
        {MODELD_CANCELLED, NULL, MODELD_FINISH_FINAL, MD_REASON_CANCELLED, MD_CODE_CANCELLED,
         "cancelled"},
        {MODELD_OK, NULL, MODELD_FINISH_RESCHEDULE, MD_REASON_UNSUPPORTED, MD_CODE_UNIMPLEMENTED,
         "rescheduled"},
    };

    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_KEEPS);
    target_attach(&one);
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        call_submit(&call, &one);
        wait_until(one.fakes[0].kept);
        atomic_store(&one.fakes[0].kept, 0);
        int32_t told =
            md_request_finish(call.request.handle, cases[i].code, cases[i].text, cases[i].how);
        assert_int_equal(told, cases[i].how ? MODELD_UNIMPLEMENTED : MODELD_OK);
        call_expect(&call, cases[i].reason);
        assert_int_equal(call.request.error.code, cases[i].md_code);
        assert_non_null(strstr(call.text, cases[i].part));
    }
    close_world();
}

static void test_request_second_response_is_an_error(void **state)
{
    const struct modeld_response empty = {.struct_size = sizeof empty};

    (void)state;
    world_open(1, 0);
    target_init(&one, 1, FAKE_KEEPS);
    target_attach(&one);
    call_submit(&call, &one);
    wait_until(one.fakes[0].kept);
    assert_int_equal(md_request_respond(call.request.handle, &empty), MODELD_OK);
    assert_int_equal(md_request_respond(call.request.handle, &empty), MODELD_INVALID_ARGUMENT);
    (void)md_request_finish(call.request.handle, MODELD_OK, NULL, MODELD_FINISH_FINAL);
    call_expect(&call, MD_REASON_BACKEND);
    assert_non_null(strstr(call.text, "second response"));
    close_world();
}

/* --- streams -------------------- */

static void open_stream(void)
{
    world_open(1, 0);
    target_init(&one, 1, FAKE_KEEPS);
    one.target.decoupled = true;
    target_attach(&one);
    call_submit(&call, &one);
    wait_until(one.fakes[0].kept);
}

static int32_t respond_empty(void)
{
    const struct modeld_response empty = {.struct_size = sizeof empty};

    return md_request_respond(call.request.handle, &empty);
}

static void end_stream(unsigned responses, enum md_reason reason)
{
    (void)md_request_finish(call.request.handle, MODELD_OK, NULL, MODELD_FINISH_FINAL);
    wait_until(call.ends);
    turn(0);
    assert_int_equal(call.ends, 1);
    assert_int_equal(call.reason, reason);
    assert_int_equal(call.responses, responses);
    md_arena_deinit(&call.arena);
    close_world();
}

static void test_request_stream_has_credit(void **state)
{
    unsigned sent = 0;

    (void)state;
    open_stream();
    while (respond_empty() == MODELD_OK) {
        sent++;
        assert_true(sent < 1000);
    }
    assert_int_equal(one.fakes[0].resumed, 0);
    wait_until(call.responses == sent);
    assert_int_equal(one.fakes[0].resumed, 1);
    assert_int_equal(respond_empty(), MODELD_OK);
    end_stream(sent + 1, MD_REASON_NONE);
}

static void test_request_stream_of_nothing(void **state)
{
    (void)state;
    open_stream();
    end_stream(0, MD_REASON_NONE);
}

static void test_request_stream_cancelled(void **state)
{
    (void)state;
    open_stream();
    assert_int_equal(respond_empty(), MODELD_OK);
    md_infer_cancel(&call.request);
    assert_int_equal(one.fakes[0].cancelled, 1);
    assert_int_equal(respond_empty(), MODELD_CANCELLED);
    end_stream(0, MD_REASON_NONE); /* nobody hears of responses any more */
}

static void test_request_stream_short_of_memory(void **state)
{
    (void)state;
    open_stream();
    assert_int_equal(respond_empty(), MODELD_OK);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_int_equal(respond_empty(), MODELD_INVALID_ARGUMENT);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    end_stream(1, MD_REASON_OUT_OF_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_judges_outputs),
        cmocka_unit_test(test_request_takes_parts_of_buffers_and_inputs),
        cmocka_unit_test(test_request_short_of_memory_gives_back),
        cmocka_unit_test(test_request_judges_how_it_was_finished),
        cmocka_unit_test(test_request_second_response_is_an_error),
        cmocka_unit_test(test_request_stream_has_credit),
        cmocka_unit_test(test_request_stream_of_nothing),
        cmocka_unit_test(test_request_stream_cancelled),
        cmocka_unit_test(test_request_stream_short_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
