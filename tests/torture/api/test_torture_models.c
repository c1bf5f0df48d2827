/*
 * Start, scan of the repository and loading, with every allocation and every system call failing
 * once, or all from one on: the start fails with a sentence; or each model is there as it should
 * be, or unavailable with a reason. None is lost, none is loaded otherwise than configured.
 */
#include "component/api/fake_server.h"
#include "torture/torture.h"

#include <unistd.h>

enum { INFLIGHT_BYTES = 64 << 20, VERSIONS_MAX = 32, POISON = 0x5a };

static struct fake_server server;

/* --- repository -------------------- */

static void put(const char *path, const char *text)
{
    char full[256];

    (void)snprintf(full, sizeof full, "%s/%s", server.folder, path);
    for (char *slash = full + strlen(server.folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(full, 0700);
        *slash = '/';
    }
    if (text) {
        fake_write(full, text);
    }
}

#define IO(kind, name) kind " { name: \"" name "\" data_type: TYPE_FP32 dims: [ -1 ] "

static int set_up(void **state)
{
    char from[256], to[256];

    (void)state;
    fake_server_init(&server);
    put("plain/1/", NULL);
    put("plain/config.pbtxt",
        "backend: \"identity\" " IO("input", "IN") "} " IO("output", "OUT") "}");
    put("full/1/", NULL);
    put("full/3/", NULL);
    put("full/10/", NULL);
    put("full/config.pbtxt",
        "name: \"full\" backend: \"identity\" max_batch_size: 8\n" IO("input", "A") "}\n" IO("input", "B") "optional: true }\n" IO(
            "output",
            "X") "label_filename: \"x.txt\" }\n" IO("output",
                                                    "Y") "}\n"
                                                         "instance_group { count: 2 kind: KIND_CPU } instance_group { count: 1 }\n"
                                                         "version_policy { specific { versions: [ 1, 10 ] } }\n"
                                                         "parameters { key: \"k\" value { string_value: \"v\" } }\n"
                                                         "metric_tags { key: \"ta g\" value: \"va\\\"lue\" }\n");
    put("full/x.txt", "cat\ndog\n");
    put("json/1/", NULL);
    put("json/2/", NULL);
    put("json/config.json",
        "{\"backend\":\"identity\",\"version_policy\":{\"all\":{}},\"input\":[{\"name\":\"IN\","
        "\"data_type\":\"TYPE_STRING\",\"dims\":[-1]}],\"output\":[{\"name\":\"OUT\","
        "\"data_type\":\"TYPE_STRING\",\"dims\":[-1]}]}");
    put("warm/1/", NULL);
    put("warm/warmup/row", "0123456789abcdef");
    put("warm/config.pbtxt",
        "backend: \"identity\" max_batch_size: 4\n"
        "input { name: \"IN\" data_type: TYPE_FP32 dims: [ 4 ] }\n"
        "output { name: \"OUT\" data_type: TYPE_FP32 dims: [ 4 ] }\n"
        "dynamic_batching { preferred_batch_size: [ 4, 2 ] }\n"
        "model_warmup { batch_size: 2 inputs { key: \"IN\" value { data_type: TYPE_FP32 "
        "dims: [ 4 ] input_data_file: \"row\" } } }\n"
        "model_warmup { name: \"z\" batch_size: 1 count: 2 inputs { key: \"IN\" value { "
        "data_type: TYPE_FP32 dims: [ 4 ] random_data: true } } }\n");
    put("repeat/1/", NULL);
    put("repeat/config.pbtxt", "backend: \"repeat\" instance_group { count: 2 }");
    put("broken/1/", NULL);
    put("broken/config.pbtxt", "backend: \"identity\"\nmax_batch_sise: 1\n");
    put("no_labels/1/", NULL);
    put("no_labels/config.pbtxt", "backend: \"identity\" " IO("input", "IN") "} " IO(
                                      "output", "OUT") "label_filename: \"missing.txt\" }");
    put("no_backend/1/", NULL);
    put("no_backend/config.pbtxt", "backend: \"nothing\"");
    put("no_version/config.pbtxt", "backend: \"identity\"");
    put("onnx/1/model.onnx", "");
    (void)snprintf(from, sizeof from, "%s/plain", server.folder);
    (void)snprintf(to, sizeof to, "%s/plain_too", server.folder);
    return symlink(from, to);
}

static int tear_down(void **state)
{
    (void)state;
    fake_server_remove_folder(&server);
    return 0;
}

/* --- what a start comes to -------------------- */

struct seen {
    size_t models, versions;
    struct {
        char *name; /* own, all of them */
        char *config, *labels, *reason;
        int64_t number;
        enum md_version_state state;
    } at[VERSIONS_MAX];
};

/* A model without versions counts as one of number 0. */
static void note(struct seen *seen, const struct md_model *model, const struct md_version *version)
{
    size_t i = seen->versions++;

    assert_true(i < VERSIONS_MAX);
    seen->at[i].name = strdup(model->name.ptr);
    seen->at[i].labels =
        strndup(model->metric_labels.ptr ? model->metric_labels.ptr : "", model->metric_labels.len);
    seen->at[i].state =
        version && !*model->reason ? (enum md_version_state)version->state : MD_VERSION_UNAVAILABLE;
    seen->at[i].reason = strdup(version && !*model->reason ? version->reason : model->reason);
    seen->at[i].config =
        version ? strndup(version->config_json.ptr, version->config_json.len) : strdup("");
    seen->at[i].number = version ? version->number : 0;
}

static void look(struct seen *seen)
{
    *seen = (struct seen){.models = md_models_count(server.models)};
    for (size_t i = 0; i < seen->models; i++) {
        const struct md_model *model = md_models_at(server.models, i);
        for (size_t k = 0; k < model->version_count; k++) {
            note(seen, model, &model->versions[k]);
        }
        if (!model->version_count) {
            note(seen, model, NULL);
        }
    }
}

static void forget(struct seen *seen)
{
    for (size_t i = 0; i < seen->versions; i++) {
        free(seen->at[i].name);
        free(seen->at[i].config);
        free(seen->at[i].labels);
        free(seen->at[i].reason);
    }
}

/* False: the start failed, with err. The stack is poisoned, so that an error that nobody set shows.
 */
static bool start(struct torture *t, struct md_error *err)
{
    memset(err, POISON, sizeof *err);
    err->text[sizeof err->text - 1] = '\0';
    if (t) {
        torture_arm(t);
    }
    bool ok = fake_server_create(&server, INFLIGHT_BYTES, err) && fake_server_scan(&server, err);
    if (ok) {
        md_models_load_start(server.models, NULL, NULL);
        md_models_load_join(server.models);
    }
    if (t) {
        (void)torture_disarm(t);
    }
    return ok;
}

/* --- judging -------------------- */

static bool says_why(const struct torture *t, const char *text)
{
    return *text && text[0] != POISON && (t->kind == MD_FAULT_SYSCALL || strstr(text, "memory"));
}

static void judge(const struct torture *t, const struct seen *right, const struct seen *got)
{
    torture_check(t, got->models == right->models);
    torture_check(t, t->delivered || got->versions == right->versions);
    for (size_t i = 0; i < got->versions; i++) {
        size_t k = 0;
        while (k < right->versions && (strcmp(right->at[k].name, got->at[i].name) != 0 ||
                                       right->at[k].number != got->at[i].number)) {
            k++;
        }
        bool known = k < right->versions;
        if (got->at[i].state == MD_VERSION_READY) {
            torture_check(t, known && right->at[k].state == MD_VERSION_READY);
            torture_check(t, strcmp(got->at[i].config, right->at[k].config) == 0);
            torture_check(t, strcmp(got->at[i].labels, right->at[k].labels) == 0);
        } else {
            torture_check(t, got->at[i].state == MD_VERSION_UNAVAILABLE);
            /* the place of a mistake may be missing */
            bool is_right_reason =
                known && *got->at[i].reason && strstr(right->at[k].reason, got->at[i].reason);
            torture_check(t, is_right_reason || (t->delivered && says_why(t, got->at[i].reason)));
        }
    }
}

static void torture_start(enum md_fault_kind kind)
{
    struct seen right, got;
    struct md_error err;

    assert_true(start(NULL, &err));
    look(&right);
    fake_server_destroy(&server);
    assert_int_equal(right.models, 11);
    for (struct torture t = {.kind = kind}; torture_next(&t);) {
        bool ok = start(&t, &err);
        if (ok) {
            look(&got);
        }
        fake_server_destroy(&server);
        if (ok) {
            judge(&t, &right, &got);
            forget(&got);
        } else {
            torture_check(&t, t.delivered && says_why(&t, err.text));
        }
    }
    forget(&right);
}

static void test_torture_models_short_of_memory(void **state)
{
    (void)state;
    torture_start(MD_FAULT_ALLOC);
    torture_start(MD_FAULT_REGION);
}

static void test_torture_models_failing_system(void **state)
{
    (void)state;
    torture_start(MD_FAULT_SYSCALL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_torture_models_short_of_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_torture_models_failing_system, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
