/*
 * os/file in a folder of its own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/file.h"

static char folder[] = "/tmp/md-file-XXXXXX";
static struct md_arena arena;

static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static unsigned next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int set_up(void **state)
{
    (void)state;
    if (!mkdtemp(folder)) {
        return -1;
    }
    FILE *file = fopen(in_folder("b.txt"), "w");
    bool ok = file && fputs("hello\n", file) >= 0 && fclose(file) == 0;
    file = fopen(in_folder("empty"), "w");
    return ok && file && fclose(file) == 0 && mkdir(in_folder("a"), 0755) == 0 &&
                   symlink("a", in_folder("link")) == 0 &&
                   symlink("nowhere", in_folder("dangling")) == 0
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"b.txt", "empty", "link", "dangling"};

    (void)state;
    md_arena_deinit(&arena);
    for (size_t i = 0; i < MD_COUNT_OF(names); i++) {
        (void)unlink(in_folder(names[i]));
    }
    (void)rmdir(in_folder("a"));
    return rmdir(folder);
}

static void test_file_reads_a_whole_file(void **state)
{
    struct md_str text;
    struct md_error err;

    (void)state;
    assert_true(md_os_file_read(in_folder("b.txt"), 6, &arena, &text, &err));
    assert_true(md_str_eq_c(text, "hello\n"));
    assert_int_equal(text.ptr[6], 0);
    assert_true(md_os_file_read(in_folder("empty"), 0, &arena, &text, &err));
    assert_int_equal(text.len, 0);
}

static void test_file_errors_name_the_path(void **state)
{
    const struct {
        const char *name;
        size_t max;
        enum md_reason reason;
    } rows[] = {
        {"missing", 100, MD_REASON_NOT_FOUND},  {"b.txt/x", 100, MD_REASON_NOT_FOUND},
        {"b.txt", 5, MD_REASON_TOO_LARGE},      {"a", 100, MD_REASON_IO},
        {"dangling", 100, MD_REASON_NOT_FOUND},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_str text;
        struct md_error err;
        const char *path = in_folder(rows[i].name);
        assert_false(md_os_file_read(path, rows[i].max, &arena, &text, &err));
        assert_int_equal(err.reason, rows[i].reason);
        assert_non_null(strstr(err.text, path));
    }
}

static void test_file_reading_a_fifo_does_not_hang(void **state)
{
    struct md_str text;
    struct md_error err;
    const char *path = in_folder("fifo");

    (void)state;
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_false(md_os_file_read(path, 100, &arena, &text, &err));
    assert_non_null(strstr(err.text, "not a regular file"));
    assert_int_equal(unlink(path), 0);
}

static void test_file_lists_sorted(void **state)
{
    static const struct {
        const char *name;
        bool is_directory;
    } expected[] = {
        {"a", true}, {"b.txt", false}, {"dangling", false}, {"empty", false}, {"link", true}};
    struct md_os_listing listing;
    struct md_error err;

    (void)state;
    assert_true(md_os_list(folder, &arena, &listing, &err));
    assert_int_equal(listing.count, MD_COUNT_OF(expected));
    for (size_t i = 0; i < listing.count; i++) {
        assert_string_equal(listing.entries[i].name.ptr, expected[i].name);
        assert_int_equal(listing.entries[i].is_directory, expected[i].is_directory);
    }
    assert_true(md_os_list(in_folder("a"), &arena, &listing, &err));
    assert_int_equal(listing.count, 0);
    assert_false(md_os_list(in_folder("missing"), &arena, &listing, &err));
    assert_int_equal(err.reason, MD_REASON_NOT_FOUND);
    assert_false(md_os_list(in_folder("b.txt"), &arena, &listing, &err));
    assert_non_null(strstr(err.text, "b.txt"));
}

static void test_file_lists_many(void **state)
{
    enum { COUNT = 100 };
    struct md_os_listing listing;
    struct md_error err;
    char name[32];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(name, sizeof name, "a/%03d", i);
        assert_int_equal(mkdir(in_folder(name), 0700), 0);
    }
    assert_true(md_os_list(in_folder("a"), &arena, &listing, &err));
    assert_int_equal(listing.count, COUNT);
    for (int i = 0; i < COUNT; i++) {
        (void)snprintf(name, sizeof name, "%03d", i);
        assert_string_equal(listing.entries[i].name.ptr, name);
        (void)snprintf(name, sizeof name, "a/%03d", i);
        assert_int_equal(rmdir(in_folder(name)), 0);
    }
}

static void test_file_real_path_and_existence(void **state)
{
    const char *path, *direct;
    struct md_error err;

    (void)state;
    assert_true(md_os_real_path(in_folder("link"), &arena, &path, &err));
    assert_true(md_os_real_path(in_folder("a/../a"), &arena, &direct, &err));
    assert_string_equal(path, direct);
    assert_false(md_os_real_path(in_folder("dangling"), &arena, &path, &err));
    assert_int_equal(err.reason, MD_REASON_NOT_FOUND);
    assert_true(md_os_file_exists(in_folder("b.txt")));
    assert_true(md_os_file_exists(in_folder("a")));
    assert_false(md_os_file_exists(in_folder("dangling")));
}

static void test_file_peek_cuts(void **state)
{
    char text[4];

    (void)state;
    assert_true(md_os_file_peek(in_folder("b.txt"), text, sizeof text));
    assert_string_equal(text, "hel");
    assert_false(md_os_file_peek(in_folder("missing"), text, sizeof text));
    assert_false(md_os_file_peek(in_folder("a"), text, sizeof text));
}

static bool do_read(struct md_error *err)
{
    struct md_str text;

    return md_os_file_read(in_folder("b.txt"), 100, &arena, &text, err);
}

static bool do_list(struct md_error *err)
{
    struct md_os_listing listing;

    return md_os_list(folder, &arena, &listing, err);
}

static bool do_real_path(struct md_error *err)
{
    const char *path;

    return md_os_real_path(folder, &arena, &path, err);
}

static void test_file_every_call_may_fail(void **state)
{
    static bool (*const calls[])(struct md_error * err) = {do_read, do_list, do_real_path};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(calls); i++) {
        for (int kind = 0; kind < MD_FAULT_KIND_COUNT; kind++) {
            bool delivered = true;
            for (long n = 0; delivered; n++) {
                struct md_error err = {0};
                md_arena_deinit(&arena);
                md_fault_arm((enum md_fault_kind)kind, n);
                bool ok = calls[i](&err);
                delivered = md_fault_disarm((enum md_fault_kind)kind);
                assert_int_equal(ok, !delivered);
                assert_int_equal(err.text[0] == '\0', ok);
                if (!ok) {
                    assert_int_equal(err.reason, kind == MD_FAULT_SYSCALL
                                                     ? MD_REASON_IO
                                                     : MD_REASON_OUT_OF_MEMORY);
                }
                assert_true(n < 100);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file_reads_a_whole_file),
        cmocka_unit_test(test_file_errors_name_the_path),
        cmocka_unit_test(test_file_reading_a_fifo_does_not_hang),
        cmocka_unit_test(test_file_lists_sorted),
        cmocka_unit_test(test_file_lists_many),
        cmocka_unit_test(test_file_real_path_and_existence),
        cmocka_unit_test(test_file_peek_cuts),
        cmocka_unit_test(test_file_every_call_may_fail),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
