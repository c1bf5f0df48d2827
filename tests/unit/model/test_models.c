/*
 * model/: which versions there are, which is meant by a request, what loading completes and
 * refuses.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "model/models.h"
#include "os/clock.h"

enum { FLAGS_MAX = 8 };

static struct {
    char folder[64];
    struct md_arena arena;
    struct md_diagnostics diagnostics;
    struct md_options options;
    struct md_budget budget;
    struct md_device *device;
    struct md_backends *backends;
    struct md_models *models;
} world;

/* --- repository -------------------- */

static void put(const char *path, const char *text)
{
    char full[256];

    (void)snprintf(full, sizeof full, "%s/%s", world.folder, path);
    for (char *slash = full + strlen(world.folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(full, 0700);
        *slash = '/';
    }
    if (text) {
        FILE *file = fopen(full, "w");
        assert_non_null(file);
        assert_true(fputs(text, file) >= 0);
        (void)fclose(file);
    }
}

static void put_model(const char *name, const char *versions, const char *config)
{
    char path[128];
    struct md_str rest = md_str_of(versions), version;

    while (rest.len && md_str_split(&rest, ' ', &version)) {
        (void)snprintf(path, sizeof path, "%s/%.*s/", name, MD_STR_ARG(version));
        put(path, NULL);
    }
    (void)snprintf(path, sizeof path, "%s/config.pbtxt", name);
    put(path, config);
}

/* --- life -------------------- */

static int set_up(void **state)
{
    const struct md_device_options device = {.executor_count = 1, .budget = &world.budget};
    const struct md_backends_options backends = {.engine_threads = 1};
    struct md_error err;

    (void)state;
    memset(&world, 0, sizeof world);
    md_os_clock_install();
    (void)snprintf(world.folder, sizeof world.folder, "/tmp/modeld-models-XXXXXX");
    md_budget_init(&world.budget, 1 << 20);
    return mkdtemp(world.folder) && md_device_create(&device, &world.device, &err) &&
                   md_backends_create(&backends, &world.backends, &err)
               ? 0
               : -1;
}

static void forget_models(void)
{
    md_models_destroy(world.models);
    md_arena_deinit(&world.arena);
    world.models = NULL;
}

static int tear_down(void **state)
{
    char command[128];

    (void)state;
    forget_models();
    md_backends_destroy(world.backends);
    md_device_destroy(world.device);
    (void)snprintf(command, sizeof command, "rm -r '%s'", world.folder);
    return system(command);
}

/* Scans with more flags and loads; false: the scan failed. */
static bool start(const char *flags)
{
    char repository[128], copy[256];
    char *argv[FLAGS_MAX] = {(char *)(uintptr_t) "modeld", repository};
    char *environment[] = {NULL}, *rest;
    struct md_error err;
    int argc = 2;

    forget_models();
    (void)snprintf(repository, sizeof repository, "--model-repository=%s", world.folder);
    (void)snprintf(copy, sizeof copy, "%s", flags);
    for (char *flag = strtok_r(copy, " ", &rest); flag; flag = strtok_r(NULL, " ", &rest)) {
        argv[argc++] = flag;
    }
    md_diagnostics_init(&world.diagnostics, &world.arena);
    assert_true(md_options_parse(argc, argv, environment, false, NULL, &world.arena, &world.options,
                                 &world.diagnostics));
    const struct md_models_options options = {.options = &world.options,
                                              .backends = world.backends,
                                              .device = world.device,
                                              .loop_count = 1};
    if (!md_models_create(&options, &world.diagnostics, &world.models, &err)) {
        return false;
    }
    assert_false(md_models_are_loaded(world.models));
    md_models_load_start(world.models, NULL, NULL);
    md_models_load_join(world.models);
    assert_true(md_models_are_loaded(world.models));
    return true;
}

static const struct md_model *model(const char *name)
{
    const struct md_model *found = md_models_find(world.models, md_str_of(name));

    assert_non_null(found);
    return found;
}

/* What is wrong with a model or its last version; "" if nothing. */
static const char *reason(const char *name)
{
    const struct md_model *found = model(name);

    return *found->reason || !found->version_count
               ? found->reason
               : found->versions[found->version_count - 1].reason;
}

static void expect_reason(const char *name, const char *part)
{
    if (!strstr(reason(name), part)) {
        fail_msg("%s: '%s' does not contain '%s'", name, reason(name), part);
    }
}

#define IDENTITY "backend: \"identity\" "

/* --- version policy -------------------- */

static void test_models_version_policy(void **state)
{
    static const struct {
        const char *name, *there, *policy, *served; /* "": the model has a reason instead */
    } cases[] = {
        {"default", "1 3 20", "", "20"},
        {"latest", "1 3 20", "version_policy { latest { num_versions: 2 } }", "3 20"},
        {"latest_many", "1 3", "version_policy { latest { num_versions: 9 } }", "1 3"},
        {"latest_empty", "1 3", "version_policy { latest { } }", "3"},
        {"all", "1 3 20", "version_policy { all { } }", "1 3 20"},
        {"specific", "1 3 20", "version_policy { specific { versions: [ 20, 1 ] } }", "1 20"},
        {"partly", "1 3", "version_policy { specific { versions: [ 3, 4 ] } }", "3"},
        {"missing", "1 3", "version_policy { specific { versions: [ 4 ] } }", ""},
        {"none", "", "", ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        char config[256];
        (void)snprintf(config, sizeof config, IDENTITY "%s", cases[i].policy);
        put_model(cases[i].name, cases[i].there, config);
    }
    assert_true(start(""));
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        const struct md_model *found = model(cases[i].name);
        char served[128] = "";
        for (size_t k = 0; k < found->version_count; k++) {
            size_t len = strlen(served);
            (void)snprintf(served + len, sizeof served - len, "%s%lld", k ? " " : "",
                           (long long)found->versions[k].number);
            assert_int_equal(found->versions[k].state, MD_VERSION_READY);
        }
        assert_string_equal(served, cases[i].served);
        assert_int_equal(*found->reason != '\0', *cases[i].served == '\0');
    }
    assert_int_equal(md_models_failed_count(world.models), 2);
}

/* --- look-up -------------------- */

static void test_models_resolve(void **state)
{
    static const struct {
        const char *name, *version;
        int64_t number; /* 0: refused */
        enum md_reason reason;
    } cases[] = {
        {"a", "", 7, MD_REASON_NONE},
        {"a", "2", 2, MD_REASON_NONE},
        {"a", "02", 2, MD_REASON_NONE},
        {"a", "3", 0, MD_REASON_UNKNOWN_MODEL},
        {"a", "x", 0, MD_REASON_INVALID_ARGUMENT},
        {"a", "99999999999999999999", 0, MD_REASON_INVALID_ARGUMENT},
        {"ab", "", 1, MD_REASON_NONE},
        {"abc", "", 1, MD_REASON_NONE},
        {"", "", 0, MD_REASON_UNKNOWN_MODEL},
        {"abcd", "", 0, MD_REASON_UNKNOWN_MODEL},
        {"A", "", 0, MD_REASON_UNKNOWN_MODEL},
        {"broken", "", 0, MD_REASON_UNKNOWN_MODEL},
        {"broken", "1", 0, MD_REASON_NOT_READY},
        {"half", "", 1, MD_REASON_NONE}, /* the highest that is ready */
        {"half", "2", 0, MD_REASON_NOT_READY},
    };

    (void)state;
    put_model("a", "2 7", IDENTITY "version_policy { all { } }");
    put_model("ab", "1", IDENTITY);
    put_model("abc", "1", IDENTITY);
    put_model("broken", "1", "backend: \"nothing\"");
    put_model("half", "1 2", IDENTITY "version_policy { all { } }");
    assert_true(start(""));
    md_models_find(world.models, MD_STR("half"))->versions[1].state = MD_VERSION_UNAVAILABLE;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_error err = {0};
        const struct md_version *version = md_models_resolve(world.models, md_str_of(cases[i].name),
                                                             md_str_of(cases[i].version), &err);
        assert_int_equal(version ? version->number : 0, cases[i].number);
        assert_int_equal(version ? MD_REASON_NONE : err.reason, cases[i].reason);
    }
}

/* --- control mode -------------------- */

static void test_models_explicit_control_loads_what_is_named(void **state)
{
    (void)state;
    put_model("a", "1", IDENTITY);
    put_model("b", "1", IDENTITY);
    put_model("wrong", "1", "backend: \"identity\" nonsense: 1");
    assert_true(start("--model-control-mode=explicit --load-model=b --load-model=nosuch"));
    assert_false(model("a")->is_wanted);
    assert_int_equal(model("a")->version_count, 0); /* nothing was read */
    assert_int_equal(model("b")->versions[0].state, MD_VERSION_READY);
    assert_int_equal(md_models_wanted_count(world.models), 2);
    assert_int_equal(md_models_failed_count(world.models), 1); /* nosuch */
    assert_true(start("--model-control-mode=explicit"));
    assert_int_equal(md_models_wanted_count(world.models), 0);
    assert_true(start("--model-control-mode=explicit --load-model=*"));
    assert_int_equal(model("a")->versions[0].state, MD_VERSION_READY);
    assert_int_equal(md_models_failed_count(world.models), 1);
}

/* --- what is refused -------------------- */

#define IO(kind, name, type, dims, more) \
    kind " { name: \"" name "\" data_type: " type " dims: [ " dims " ] " more "} "

static void test_models_say_what_is_wrong(void **state)
{
    static const struct {
        const char *name, *config, *part; /* "": it is loaded */
    } cases[] = {
        {"right", IDENTITY, ""},
        {"other_name", IDENTITY "name: \"x\"",
         "the name 'x' is not the folder's name 'other_name'"},
        {"syntax", "backend: ", "config.pbtxt:1"},
        {"no_backend", "", "holds no model file that is known"},
        {"unknown_backend", "backend: \"nothing\"", "unable to find backend library"},
        {"platform", "platform: \"onnxruntime_onnx\"", "libmodeld_onnxruntime.so"},
        {"no_labels", IDENTITY IO("output", "O", "TYPE_FP32", "1", "label_filename: \"l.txt\" "),
         "label file of output 'O'"},
        {"no_type", IDENTITY "input { name: \"I\" dims: [ 1 ] }", "data_type"},
        {"gpu", IDENTITY "instance_group { kind: KIND_GPU }", ""},
        {"code", IDENTITY "model_operations { op_library_filename: \"x.so\" }",
         "--allow-op-library"},
        {"delay", IDENTITY "parameters { key: \"execute_delay_ms\" value { string_value: \"x\" } }",
         "execute_delay_ms"},
        {"extra_input", "backend: \"repeat\" " IO("input", "NO", "TYPE_INT32", "1", ""),
         "names the input 'NO', which the model does not have"},
        {"wrong_type", "backend: \"repeat\" " IO("input", "IN", "TYPE_FP32", "-1", ""),
         "says FP32 [-1], the model has INT32 [-1]"},
        {"wrong_rank", "backend: \"repeat\" " IO("output", "OUT", "TYPE_INT32", "1, 1", ""),
         "says INT32 [1,1], the model has INT32 [1]"},
        {"wrong_dims", "backend: \"repeat\" " IO("output", "OUT", "TYPE_INT32", "2", ""),
         "says INT32 [2], the model has INT32 [1]"},
        {"batched",
         "backend: \"repeat\" max_batch_size: 4 " IO("input", "IN", "TYPE_INT32", "1", ""),
         "max_batch_size adds the first dimension"},
        {"agrees", "backend: \"repeat\" " IO("input", "IN", "TYPE_INT32", "7", ""), ""},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        put_model(cases[i].name, "1", cases[i].config);
    }
    assert_true(start("--gpu-fallback=cpu"));
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        if (*cases[i].part) {
            expect_reason(cases[i].name, cases[i].part);
        } else {
            assert_string_equal(reason(cases[i].name), "");
        }
    }
    assert_true(start("--gpu-fallback=error"));
    expect_reason("gpu", "asks for a GPU");
}

static void test_models_of_one_name_are_refused(void **state)
{
    char flag[256];

    (void)state;
    put_model("m/a", "1", IDENTITY);
    put_model("n/a", "1", IDENTITY);
    put_model("n/b", "1", IDENTITY);
    (void)snprintf(flag, sizeof flag, "--model-repository=%s/m --model-repository=%s/n",
                   world.folder, world.folder);
    assert_true(start(flag));
    for (size_t i = 0; i < md_models_count(world.models); i++) {
        const struct md_model *found = md_models_at(world.models, i);
        assert_int_equal(md_str_eq_c(found->name, "a"),
                         strstr(found->reason, "two repositories") != NULL);
    }
    assert_string_equal(reason("b"), "");
}

static void test_models_need_their_repository(void **state)
{
    char flag[256];

    (void)state;
    (void)snprintf(flag, sizeof flag, "--model-repository=%s/missing", world.folder);
    assert_false(start(flag));
}

/* --- what is completed -------------------- */

static bool config_has(const char *name, const char *part)
{
    const struct md_version *version = &model(name)->versions[0];

    return strstr(version->config_json.ptr, part) != NULL;
}

static void test_models_complete_the_configuration(void **state)
{
    (void)state;
    put_model("bare", "1", "backend: \"repeat\"");
    put_model("given", "1",
              "backend: \"repeat\" platform: \"p\" " IO(
                  "input", "IN", "TYPE_INT32", "7",
                  "") "instance_group [ { count: 2 name: \"g\" }, { } ]");
    assert_true(start(""));
    assert_true(config_has("bare", "\"name\":\"bare\""));
    assert_true(config_has("bare", "\"platform\":\"repeat\""));
    assert_true(config_has("bare", "\"version_policy\":{\"latest\":{\"num_versions\":1}}"));
    assert_true(config_has("bare", "\"name\":\"bare_0\",\"kind\":\"KIND_CPU\",\"count\":1"));
    assert_true(config_has("given", "\"platform\":\"p\""));
    assert_true(config_has("given", "\"name\":\"g\",\"kind\":\"KIND_CPU\",\"count\":2"));
    assert_true(config_has("given", "\"name\":\"given_1\",\"kind\":\"KIND_CPU\",\"count\":1"));
    const struct md_target *target = &model("given")->versions[0].target;
    assert_int_equal(target->input_count, 3); /* one given, two from the model */
    assert_int_equal(target->required_input_count, 1);
    assert_int_equal(target->output_count, 2);
    assert_int_equal(target->inputs[0].shape[0], 7);
    assert_true(target->decoupled);
    assert_int_equal(target->instance_count, 3);
}

static void test_models_metric_tags_become_labels(void **state)
{
    (void)state;
    put_model("m", "1",
              IDENTITY "metric_tags { key: \"a b\" value: \"x\\\"y\" } "
                       "metric_tags { key: \"c\" value: \"\" }");
    assert_true(start(""));
    assert_true(md_str_eq_c(model("m")->metric_labels, "model=\"m\",_a_b=\"x\\\"y\",_c=\"\""));
}

static void test_models_unload_and_load_again(void **state)
{
    const struct md_models_options options = {.options = &world.options,
                                              .backends = world.backends,
                                              .device = world.device,
                                              .loop_count = 1};
    struct md_error err;

    (void)state;
    put_model("m", "1", "backend: \"repeat\" instance_group { count: 2 }");
    assert_true(start(""));
    struct md_version *version = &md_models_find(world.models, MD_STR("m"))->versions[0];
    for (int i = 0; i < 3; i++) {
        assert_true(version->target.accepting);
        assert_int_equal(version->target.instance_count, 2);
        md_mapping_destroy(version, &options);
        assert_false(version->target.accepting);
        assert_int_equal(version->target.instance_count, 0);
        assert_null(version->mapping);
        assert_true(md_mapping_create(version, &options, &err));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_models_version_policy),
        TEST(test_models_resolve),
        TEST(test_models_explicit_control_loads_what_is_named),
        TEST(test_models_say_what_is_wrong),
        TEST(test_models_of_one_name_are_refused),
        TEST(test_models_need_their_repository),
        TEST(test_models_complete_the_configuration),
        TEST(test_models_metric_tags_become_labels),
        TEST(test_models_unload_and_load_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
