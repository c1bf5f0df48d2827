/*
 * repository: what a folder is taken for, on folders made for each row.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/fault.h"
#include "repository/repository.h"

static char folder[64];

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

/* A file; with a '/' at the end a folder; with an '@' a link to nothing. */
static void make(struct md_str name)
{
    char path[256];
    char last = name.ptr[name.len - 1];

    (void)snprintf(path, sizeof path, "%s/%.*s", folder, MD_STR_ARG(name));
    for (char *slash = path + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        (void)mkdir(path, 0755);
        *slash = '/';
    }
    if (last == '@') {
        path[strlen(path) - 1] = '\0';
        assert_int_equal(symlink("nowhere", path), 0);
    } else if (last != '/') {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        assert_int_equal(fclose(file), 0);
    }
}

static void make_all(const char *names)
{
    struct md_str rest = md_str_of(names), name;

    (void)strcpy(folder, "/tmp/md-repository-XXXXXX");
    assert_non_null(mkdtemp(folder));
    while (rest.len && md_str_split(&rest, ' ', &name)) {
        make(name);
    }
}

static void remove_all(void)
{
    assert_int_equal(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS), 0);
}

/* "name(versions)", then what stands out: [config], ! a problem, +other folders. */
static const char *describe(const struct md_repository_scan *scan)
{
    static char text[1024];
    struct md_bytes out = {0};

    for (size_t i = 0; i < scan->model_count; i++) {
        const struct md_repository_model *model = &scan->models[i];
        bool is_named_after_folder = strcmp(model->name.ptr, strrchr(folder, '/') + 1) == 0;
        md_bytes_printf(&out, "%s%s(", i ? " " : "",
                        is_named_after_folder ? "FOLDER" : model->name.ptr);
        for (size_t k = 0; k < model->version_count; k++) {
            md_bytes_printf(&out, "%s%lld", k ? "," : "", (long long)model->versions[k]);
        }
        md_bytes_printf(&out, ")%s%s%s%s", model->files_in_directory ? "flat" : "",
                        model->config_path ? strrchr(model->config_path, '.') : "",
                        model->unread_config_path ? "?" : "", model->problem ? "!" : "");
        for (size_t k = 0; k < model->other_folder_count; k++) {
            md_bytes_printf(&out, "+%s", model->other_folders[k]);
        }
    }
    md_bytes_append_char(&out, '\0');
    assert_true(!out.failed && out.len < sizeof text);
    memcpy(text, out.data, out.len);
    md_bytes_deinit(&out);
    return text;
}

static void test_scan_shapes(void **state)
{
    static const struct {
        const char *names, *single_name, *found;
    } rows[] = {
        {"", "", ""},
        {"README.md LICENSE", "", ""},
        {".git/x lost+found/ ..data/1/model.onnx", "", ""},
        /* a repository */
        {"a/1/model.onnx b/2/ b/10/ b/3/", "", "a(1) b(2,3,10)"},
        {"a/1/ a/01/ a/0/ a/v2/ a/1x/ a/-1/ a/99999999999999999999/", "",
         "a(1)+-1+0+01+1x+99999999999999999999+v2"},
        {"a/1/ a/configs/ a/warmup/ a/initial_state/ a/.x/ a/labels.txt", "", "a(1)"},
        {"a/config.pbtxt b/config.json c/config.pbtxt c/config.json", "",
         "a().pbtxt b().json c().pbtxt?"},
        {"a/model.onnx b/other.onnx c/model.txt", "", "a(1)flat b(1)flat c()"},
        {"a/1/ backup.onnx", "", "a(1)"},
        {"a/1/ b@ c.txt", "", "a(1) b()!"},
        {"a\xc3\xa4/1/ %41/1/ #?/1/", "", "#?(1) %41(1) a\xc3\xa4(1)"},
        /* a model by itself */
        {"model.onnx", "", "FOLDER(1)flat"},
        {"model.onnx", "m", "m(1)flat"},
        {"mymodel.onnx", "", "FOLDER(1)flat"},
        {"model.onnx config.pbtxt labels.txt a/1/", "", "FOLDER(1)flat.pbtxt+a"},
        {"1/model.onnx", "", "FOLDER(1)"},
        {"1/model.onnx .git/ lost+found/", "", "FOLDER(1)"},
        {"1/ 2/ config.json", "m", "m(1,2).json"},
        {"1/ assets/", "", "1() assets()"},
        {"1/ assets/", "m", "1() assets()"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_repository_scan scan;
        struct md_arena arena = {0};
        struct md_error err;
        make_all(rows[i].names);
        print_message("[  row   ] %s\n", rows[i].names);
        assert_true(
            md_repository_scan(folder, md_str_of(rows[i].single_name), &arena, &scan, &err));
        assert_string_equal(describe(&scan), rows[i].found);
        md_arena_deinit(&arena);
        remove_all();
    }
}

static void test_scan_that_cannot_be_read(void **state)
{
    static const struct {
        const char *path, *text;
    } rows[] = {
        {"/nonexistent/models", "model repository '/nonexistent/models': cannot find "
                                "/nonexistent/models: No such file or directory"},
        {"/dev/null", "model repository '/dev/null': cannot list /dev/null: Not a directory"},
        {"s3://bucket/models",
         "model repository 's3://bucket/models': stores other than folders are "
         "not read yet; copy the models into a folder"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_repository_scan scan;
        struct md_arena arena = {0};
        struct md_error err;
        assert_false(md_repository_scan(rows[i].path, MD_STR(""), &arena, &scan, &err));
        assert_string_equal(err.text, rows[i].text);
        md_arena_deinit(&arena);
    }
}

/* An error of one folder is that model's alone; only the root's ends the scan. */
static void test_scan_survives_failures(void **state)
{
    static const enum md_fault_kind kinds[] = {MD_FAULT_ALLOC, MD_FAULT_SYSCALL};

    (void)state;
    make_all("a/1/ b/1/ b/config.pbtxt c@");
    for (size_t kind = 0; kind < MD_COUNT_OF(kinds); kind++) {
        bool delivered = true;
        for (long i = 0; delivered; i++) {
            struct md_repository_scan scan;
            struct md_arena arena = {0};
            struct md_error err;
            md_fault_arm(kinds[kind], i);
            bool ok = md_repository_scan(folder, MD_STR(""), &arena, &scan, &err);
            delivered = md_fault_disarm(kinds[kind]);
            assert_true(ok || delivered);
            if (ok) {
                assert_int_equal(scan.model_count, 3);
                assert_true(!delivered || kinds[kind] == MD_FAULT_SYSCALL);
            }
            md_arena_deinit(&arena);
        }
    }
    remove_all();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scan_shapes),
        cmocka_unit_test(test_scan_that_cannot_be_read),
        cmocka_unit_test(test_scan_survives_failures),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
