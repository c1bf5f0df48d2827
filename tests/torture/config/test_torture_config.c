/*
 * Configuration with every allocation failing once, or all from one on, those of libyaml too: what
 * is read is read as without the fault, or an error says so.
 */
#include "torture/torture.h"
#include "unit/config/reading.h"

#include "base/alloc.h"
#include "config/labels.h"
#include "config/model_config.h"
#include "config/options.h"

/* libyaml's own allocator: its calls come here, since a program's symbols go before those of a
 * library. */
#define EXPORTED __attribute__((visibility("default")))

EXPORTED void *yaml_malloc(size_t size);
EXPORTED void *yaml_realloc(void *ptr, size_t size);
EXPORTED void yaml_free(void *ptr);
EXPORTED unsigned char *yaml_strdup(const unsigned char *text);

static unsigned long yaml_calls;

void *yaml_malloc(size_t size)
{
    yaml_calls++;
    return md_alloc(size);
}

void *yaml_realloc(void *ptr, size_t size)
{
    yaml_calls++;
    return md_realloc(ptr, size);
}

void yaml_free(void *ptr)
{
    md_free(ptr);
}

unsigned char *yaml_strdup(const unsigned char *text)
{
    yaml_calls++;
    return text ? (unsigned char *)md_strdup((const char *)text) : NULL;
}

/* --- models -------------------- */

static const struct model {
    const char *name, *text;
    enum reading_form form;
} models[] = {
    {"pbtxt",
     "# a model\nname: 'a' 'b' backend: \"identity\" max_batch_size: 8\n"
     "input [ { name: 'x' data_type: TYPE_FP32 dims: [1, 2, 3, 4, 5, -1] }, { name: 'y' "
     "data_type: TYPE_INT8 dims: 1 dims: 2 } ]\noutput { name: 'z' data_type: TYPE_STRING dims: [ 1 ] "
     "label_filename: \"l.txt\" }\nversion_policy { latest { num_versions: 2 } }\n"
     "instance_group { count: 2 kind: KIND_CPU }\nparameters { key: 'k' value { string_value: "
     "'\\303\\244\\n' } } parameters { key: 'l' value { string_value: 'm' } }\n",
     READ_PBTXT},
    {"json",
     "{\"name\":\"ab\",\"backend\":\"identity\",\"maxBatchSize\":8,\"input\":[{\"name\":\"x\","
     "\"data_type\":\"TYPE_FP32\",\"dims\":[\"1\",2,-1]}],\"output\":[{\"name\":\"z\",\"data_type\":"
     "\"TYPE_STRING\",\"dims\":[1]}],\"parameters\":{\"k\":{\"string_value\":\"\\u00e4\\n\"}},"
     "\"instance_group\":[{\"count\":2,\"kind\":\"KIND_CPU\"}]}",
     READ_JSON},
    {"scheduling",
     "max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: -1 }\n"
     "dynamic_batching { preferred_batch_size: [4, 8] priority_levels: 2 default_priority_level: 2 "
     "priority_queue_policy { key: 1 value { max_queue_size: 7 } } }\n"
     "model_warmup { name: 's' batch_size: 2 inputs { key: 'x' value { data_type: TYPE_FP32 "
     "dims: 3 random_data: true } } }\n"
     "parameters { key: 'modeld_allowed_batch_sizes' value { string_value: '1,4,8' } }\n",
     READ_PBTXT},
    {"wrong_scheduling",
     "max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: -1 }\n"
     "dynamic_batching { preferred_batch_size: 9 priority_levels: 2 } model_warmup { } "
     "parameters { key: 'modeld_inline' value { string_value: 'x' } } "
     "parameters { key: 'modeld_inlin' }",
     READ_PBTXT},
    {"wrong_pbtxt",
     "name: 'x' foo: 1\ninput { name: 3 } max_batch_size: -1 parameters { key: 'k' }", READ_PBTXT},
    {"wrong_json",
     "{\"name\":7,\"foo\\u0061\":1,\"input\":[{\"name\":\"x\"}],\"max_batch_size\":-1}", READ_JSON},
};

/* Reads, checks, merges into a second message and prints that; NULL if anything was wrong. */
static char *pass(struct reading *r, const struct model *model)
{
    struct md_bytes json = {0};
    char *text = NULL;

    reading_begin(r, model->form, md_str_of(model->text));
    bool valid = r->message && md_model_config_validate(r->message, &r->diagnostics) && r->ok;
    struct md_message *copy = valid ? md_message_create(&md_model_config_desc, &r->arena) : NULL;
    if (copy && md_message_merge(copy, r->message, &r->arena)) {
        md_message_print_json(copy, &json);
        text = json.failed ? NULL : md_strndup(json.data, json.len);
    }
    md_bytes_deinit(&json);
    return text;
}

static void torture_model(const struct model *model, enum md_fault_kind kind)
{
    struct reading right, got;
    char *right_text = pass(&right, model);

    assert_int_equal(right_text == NULL, right.diagnostics.error_count > 0);
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        torture_arm(&t);
        char *text = pass(&got, model);
        bool delivered = torture_disarm(&t);
        if (text) {
            torture_check(&t, right_text && strcmp(text, right_text) == 0);
        } else {
            torture_check(&t, delivered || right_text == NULL);
            torture_check(&t, delivered ||
                                  got.diagnostics.error_count == right.diagnostics.error_count);
            torture_check(&t, right_text || !got.message || got.diagnostics.error_count > 0);
        }
        md_free(text);
        reading_end(&got);
    }
    md_free(right_text);
    reading_end(&right);
}

static void test_torture_config_model(void **state)
{
    torture_model(*state, MD_FAULT_ALLOC);
    torture_model(*state, MD_FAULT_REGION);
}

/* --- class labels -------------------- */

static void torture_labels(enum md_fault_kind kind)
{
    struct md_bytes text = {0};

    for (int i = 0; i < 3000; i++) {
        md_bytes_printf(&text, "class %d\n", i);
    }
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        struct md_arena arena = {0};
        struct md_error err = {0};
        const struct md_str *labels = NULL;
        size_t count = 0;
        torture_arm(&t);
        bool ok = md_labels_parse(md_bytes_view(&text), &arena, &labels, &count, &err);
        bool delivered = torture_disarm(&t);
        torture_check(&t, ok != delivered);
        torture_check(&t, ok ? count == 3000 && md_str_eq_c(labels[2999], "class 2999")
                             : err.reason == MD_REASON_OUT_OF_MEMORY);
        md_arena_deinit(&arena);
    }
    md_bytes_deinit(&text);
}

static void test_torture_config_labels(void **state)
{
    (void)state;
    torture_labels(MD_FAULT_ALLOC);
    torture_labels(MD_FAULT_REGION);
}

/* --- options -------------------- */

static const char yaml_text[] =
    "id: from file\nhttp-port: 1\nload-model: [a, 'b c', \"d\\te\"]\nlog-format: ISO8601\n"
    "models:\n- pattern: 'x*'\n  config: {max_batch_size: 4, input: [{name: x, dims: [1, -1]}]}\n"
    "- pattern: y\n  config:\n    parameters:\n      k: {string_value: \"v \\u00e4\"}\n";

static bool read_file(void *arg, const char *path, struct md_arena *arena, struct md_str *out,
                      struct md_error *err)
{
    (void)arg;
    *out = md_arena_copy(arena, md_str_of(yaml_text));
    return out->ptr || md_error_no_memory(err, path);
}

struct parsed {
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_options options;
    bool ok;
};

static void parse(struct parsed *p)
{
    static char *const argv[] = {(char *)(uintptr_t) "modeld",
                                 (char *)(uintptr_t) "--config=f",
                                 (char *)(uintptr_t) "--model-repository=a",
                                 (char *)(uintptr_t) "--model-repository",
                                 (char *)(uintptr_t) "b",
                                 (char *)(uintptr_t) "--http-port=7",
                                 (char *)(uintptr_t) "--backend-config=onnxruntime,k=v",
                                 (char *)(uintptr_t) "--model-control-mode=explicit"};
    static char *const environment[] = {(char *)(uintptr_t) "MODELD_LOAD_MODEL=x;y",
                                        (char *)(uintptr_t) "MODELD_EXIT_TIMEOUT_SECS=9", NULL};
    static const struct md_file_reader reader = {.read = read_file};

    memset(p, 0, sizeof *p);
    md_diagnostics_init(&p->diagnostics, &p->arena);
    p->ok = md_options_parse((int)MD_COUNT_OF(argv), argv, environment, false, &reader, &p->arena,
                             &p->options, &p->diagnostics);
}

static void lists_are_equal(const struct torture *t, const struct md_string_list *one,
                            const struct md_string_list *other)
{
    torture_check(t, one->count == other->count);
    for (size_t i = 0; i < one->count; i++) {
        torture_check(t, strcmp(one->items[i], other->items[i]) == 0);
    }
}

static void options_are_equal(const struct torture *t, const struct md_options *one,
                              const struct md_options *other)
{
    lists_are_equal(t, &one->model_repository, &other->model_repository);
    lists_are_equal(t, &one->load_model, &other->load_model);
    lists_are_equal(t, &one->backend_config, &other->backend_config);
    torture_check(t, strcmp(one->id, other->id) == 0);
    torture_check(t, strcmp(one->log_format, other->log_format) == 0);
    torture_check(t, one->http_port == 7 && one->exit_timeout_secs == 9);
    torture_check(t, one->overlay_count == 2 && other->overlay_count == 2);
    for (size_t i = 0; i < one->overlay_count; i++) {
        torture_check(t, strcmp(one->overlays[i].pattern, other->overlays[i].pattern) == 0);
        torture_check(t, md_str_eq(one->overlays[i].config_json, other->overlays[i].config_json));
    }
}

static void torture_options(enum md_fault_kind kind)
{
    static struct parsed right, got;

    parse(&right);
    assert_true(right.ok);
    assert_true(yaml_calls > 0); /* or the library's allocations were not tried at all */
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        torture_arm(&t);
        parse(&got);
        bool delivered = torture_disarm(&t);
        if (got.ok) {
            options_are_equal(&t, &got.options, &right.options);
        } else {
            torture_check(&t, delivered && got.diagnostics.error_count > 0);
        }
        md_arena_deinit(&got.arena);
    }
    md_arena_deinit(&right.arena);
}

static void test_torture_config_options(void **state)
{
    (void)state;
    torture_options(MD_FAULT_ALLOC);
    torture_options(MD_FAULT_REGION);
}

int main(void)
{
    enum { COUNT = MD_COUNT_OF(models) };
    static char names[COUNT][64];
    struct CMUnitTest tests[COUNT + 2] = {cmocka_unit_test(test_torture_config_labels),
                                          cmocka_unit_test(test_torture_config_options)};

    for (size_t i = 0; i < COUNT; i++) {
        (void)snprintf(names[i], sizeof names[i], "test_torture_config_%s", models[i].name);
        tests[2 + i] = (struct CMUnitTest){.name = names[i],
                                           .test_func = test_torture_config_model,
                                           .initial_state = (void *)(uintptr_t)&models[i]};
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
