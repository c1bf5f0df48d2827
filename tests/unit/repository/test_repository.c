/*
 * repository: what is a model, what is a version, and what is neither.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "repository/repository.h"

static char root[64];
static struct md_arena arena;
static struct md_bytes text;

static const char *at(const char *path)
{
    static char full[512];

    (void)snprintf(full, sizeof full, "%s/%s", root, path);
    return full;
}

/* Creates a file, or a folder if the path ends with a slash, with all folders above. */
static void put(const char *path)
{
    char full[512];

    (void)snprintf(full, sizeof full, "%s", at(path));
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(full, 0700);
        *slash = '/';
    }
    if (path[strlen(path) - 1] != '/') {
        FILE *file = fopen(full, "w");
        assert_non_null(file);
        (void)fclose(file);
    }
}

static int set_up(void **state)
{
    (void)state;
    (void)snprintf(root, sizeof root, "/tmp/modeld-repository-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
    char command[256];

    (void)state;
    md_arena_deinit(&arena);
    md_bytes_deinit(&text);
    (void)snprintf(command, sizeof command, "chmod -R u+rwx '%s' && rm -r '%s'", root, root);
    return system(command);
}

/* "name:1,2 name+config:3 ..."; a version that is the folder itself is "*". */
static const char *scan(const char *folder, const char *single_name)
{
    struct md_repository_scan found;
    struct md_error err;

    md_bytes_clear(&text);
    if (!md_repository_scan(at(folder), md_str_of(single_name), &arena, &found, &err)) {
        md_bytes_printf(&text, "%s: %s", md_reason_name(err.reason), err.text);
    }
    for (size_t i = 0; i < found.model_count; i++) {
        const struct md_repository_model *model = &found.models[i];
        md_bytes_printf(&text, "%s%s%s:", i ? " " : "", model->name.ptr,
                        !model->config_path     ? ""
                        : model->config_is_json ? "+json"
                                                : "+config");
        for (size_t k = 0; k < model->version_count && !model->files_in_directory; k++) {
            md_bytes_printf(&text, "%s%lld", k ? "," : "", (long long)model->versions[k]);
        }
        md_bytes_append_c(&text, model->files_in_directory ? "*" : "");
        assert_int_equal(model->directory[0], '/');
    }
    md_bytes_append_char(&text, '\0');
    return text.data;
}

static void test_repository_finds_versions(void **state)
{
    static const char *const paths[] = {
        "m/10/",
        "m/9/",
        "m/2/model.onnx",
        "m/0/",
        "m/01/",
        "m/-1/",
        "m/+3/",
        "m/4x/",
        "m/ 5/",
        "m/5 /",
        "m/1.5/",
        "m/7",
        "m/9223372036854775808/",
        "m/x/",
        "m/9223372036854775807/",
        "m/.git/",
        "other/1/",
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(paths); i++) {
        put(paths[i]);
    }
    assert_string_equal(scan("", ""), "m:2,9,10,9223372036854775807 other:1");
}

static void test_repository_finds_models(void **state)
{
    static const char *const paths[] = {
        "b/config.pbtxt",
        "b/1/",
        "a/config.json",
        "a/1/",
        "both/config.json",
        "both/config.pbtxt",
        "c d/1/",
        "\xc3\xa4/1/",
        "empty/",
        ".hidden/1/",
        "file",
        "plain/model.onnx",
        "flat/config.pbtxt",
        "flat/model.onnx",
        "upper/Config.pbtxt",
        "with_version/model.onnx",
        "with_version/3/",
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(paths); i++) {
        put(paths[i]);
    }
    assert_string_equal(scan("", ""), "a+json:1 b+config:1 both+config: c d:1 empty: flat+config:* "
                                      "plain:* upper: with_version:3 \xc3\xa4:1");
    put("none/");
    assert_string_equal(scan("none", ""), "");
}

static void test_repository_folder_that_is_a_model(void **state)
{
    (void)state;
    put("with_config/config.pbtxt");
    put("with_config/2/");
    put("with_versions/1/");
    put("with_versions/README");
    put("with_model/model.onnx");
    put("not_quite/1/");
    put("not_quite/other/1/");
    assert_string_equal(scan("with_config", ""), "with_config+config:2");
    assert_string_equal(scan("with_config/", "mine"), "mine+config:2");
    assert_string_equal(scan("with_versions", ""), "with_versions:1");
    assert_string_equal(scan("with_model", "mine"), "mine:*");
    assert_string_equal(scan("not_quite", "mine"), "1: other:1");
}

static void test_repository_follows_links(void **state)
{
    char expected[128], target[512];

    (void)state;
    put("store/abc/config.pbtxt");
    put("store/abc/1/model.onnx");
    put("repository/");
    (void)snprintf(target, sizeof target, "%s", at("store/abc"));
    assert_int_equal(symlink(target, at("repository/linked")), 0);
    assert_int_equal(symlink("nowhere", at("repository/dangling")), 0);
    assert_int_equal(symlink("loop", at("repository/loop")), 0);
    put("repository/real/");
    (void)snprintf(target, sizeof target, "%s", at("store/abc/1"));
    assert_int_equal(symlink(target, at("repository/real/3")), 0);
    assert_int_equal(symlink("nowhere", at("repository/real/4")), 0);
    assert_string_equal(scan("repository", ""), "dangling: linked+config:1 loop: real:3");

    /* as Kubernetes mounts a volume: a link to the newest */
    (void)snprintf(target, sizeof target, "%s", at("repository"));
    assert_int_equal(symlink(target, at("..data")), 0);
    assert_string_equal(scan("..data", ""), "dangling: linked+config:1 loop: real:3");
    (void)snprintf(expected, sizeof expected, "%s", scan("repository/linked", ""));
    assert_string_equal(expected, "abc+config:1");
}

static void test_repository_that_cannot_be_read(void **state)
{
    (void)state;
    put("file");
    assert_true(strncmp(scan("missing", ""), "not_found: model repository '", 29) == 0);
    assert_true(strstr(scan("file", ""), "model repository '") != NULL);
    if (geteuid() != 0) { /* root reads all */
        put("closed/m/1/");
        put("closed/n/1/");
        assert_int_equal(chmod(at("closed/m"), 0), 0);
        assert_true(strstr(scan("closed", ""), "closed/m") != NULL);
    }
}

static void test_repository_version_directory(void **state)
{
    const struct md_repository_model folders = {.directory = "/r/m"};
    const struct md_repository_model flat = {.directory = "/r/f", .files_in_directory = true};

    (void)state;
    assert_string_equal(md_repository_version_directory(&folders, 12, &arena), "/r/m/12");
    assert_string_equal(md_repository_version_directory(&flat, 1, &arena), "/r/f");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_repository_finds_versions),         TEST(test_repository_finds_models),
        TEST(test_repository_folder_that_is_a_model), TEST(test_repository_follows_links),
        TEST(test_repository_that_cannot_be_read),    TEST(test_repository_version_directory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
