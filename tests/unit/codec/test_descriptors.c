/*
 * codec/descriptors.h over a small set: which names lead where. The files that the server really
 * has are looked up in tests/component/api/test_oip_reflection.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "codec/descriptors.h"
#include "codec/protobuf.h"

/* Declarations of nothing but a name in a field of the message that is open. */
static void declare(struct md_bytes *out, uint32_t number, const char *name)
{
    size_t begin = md_pb_begin(out, number);

    md_pb_put_bytes(out, 1, md_str_of(name));
    md_pb_end(out, begin);
}

/* a.proto: package p; imports b.proto; message M { message Inner; enum Kind } enum E; service S {
 * rpc Call }. b.proto: package p.q; imports a.proto and one that is not there; service T.
 * c.proto: no package; message M. */
static void make_set(struct md_bytes *set)
{
    size_t file = md_pb_begin(set, 1);
    md_pb_put_bytes(set, 1, MD_STR("a.proto"));
    md_pb_put_bytes(set, 2, MD_STR("p"));
    md_pb_put_bytes(set, 3, MD_STR("b.proto"));
    size_t part = md_pb_begin(set, 4);
    md_pb_put_bytes(set, 1, MD_STR("M"));
    declare(set, 2, "field");
    declare(set, 3, "Inner");
    declare(set, 4, "Kind");
    md_pb_end(set, part);
    declare(set, 5, "E");
    part = md_pb_begin(set, 6);
    md_pb_put_bytes(set, 1, MD_STR("S"));
    declare(set, 2, "Call");
    md_pb_end(set, part);
    md_pb_end(set, file);

    file = md_pb_begin(set, 1);
    md_pb_put_bytes(set, 1, MD_STR("b.proto"));
    md_pb_put_bytes(set, 2, MD_STR("p.q"));
    md_pb_put_bytes(set, 3, MD_STR("a.proto"));
    md_pb_put_bytes(set, 3, MD_STR("absent.proto"));
    declare(set, 6, "T");
    md_pb_end(set, file);

    file = md_pb_begin(set, 1);
    md_pb_put_bytes(set, 1, MD_STR("c.proto"));
    declare(set, 4, "M");
    md_pb_end(set, file);
    assert_false(set->failed);
}

static struct md_bytes set;

static int setup(void **state)
{
    (void)state;
    make_set(&set);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    md_bytes_deinit(&set);
    return 0;
}

static void test_descriptors_find_files_by_name(void **state)
{
    struct md_str view = md_bytes_view(&set);

    (void)state;
    assert_non_null(md_descriptors_find_file(view, MD_STR("a.proto")).ptr);
    assert_null(md_descriptors_find_file(view, MD_STR("absent.proto")).ptr);
    assert_null(md_descriptors_find_file(view, MD_STR("")).ptr);
}

static void test_descriptors_find_symbols(void **state)
{
    static const struct {
        const char *symbol;
        enum md_symbol kind;
        const char *file;
    } cases[] = {
        {"p.M", MD_SYMBOL_MESSAGE, "a.proto"},
        {"p.M.Inner", MD_SYMBOL_MESSAGE, "a.proto"},
        {"p.M.Kind", MD_SYMBOL_ENUM, "a.proto"},
        {"p.E", MD_SYMBOL_ENUM, "a.proto"},
        {"p.S", MD_SYMBOL_SERVICE, "a.proto"},
        {"p.S.Call", MD_SYMBOL_METHOD, "a.proto"},
        {"p.q.T", MD_SYMBOL_SERVICE, "b.proto"},
        {"M", MD_SYMBOL_MESSAGE, "c.proto"},
        {"p.M.field", MD_SYMBOL_NONE, NULL},
        {"p.M.Inner.Inner", MD_SYMBOL_NONE, NULL},
        {"p.S.Call.Call", MD_SYMBOL_NONE, NULL},
        {"p.S.Other", MD_SYMBOL_NONE, NULL},
        {"pM", MD_SYMBOL_NONE, NULL},
        {"p/M", MD_SYMBOL_NONE, NULL},
        {"q.T", MD_SYMBOL_NONE, NULL},
        {"p.", MD_SYMBOL_NONE, NULL},
        {"p", MD_SYMBOL_NONE, NULL},
        {".", MD_SYMBOL_NONE, NULL},
        {"p..M", MD_SYMBOL_NONE, NULL},
        {"p.M.", MD_SYMBOL_NONE, NULL},
        {"", MD_SYMBOL_NONE, NULL},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_str file = {0}, view = md_bytes_view(&set);
        enum md_symbol kind = md_descriptors_find_symbol(view, md_str_of(cases[i].symbol), &file);
        const char *expected =
            cases[i].file ? md_descriptors_find_file(view, md_str_of(cases[i].file)).ptr : NULL;
        if (kind != cases[i].kind || file.ptr != expected) {
            fail_msg("'%s' is of kind %d", cases[i].symbol, kind);
        }
    }
}

static void test_descriptors_import_each_file_once(void **state)
{
    struct md_str view = md_bytes_view(&set), files[4];
    struct md_str a = md_descriptors_find_file(view, MD_STR("a.proto"));
    struct md_str b = md_descriptors_find_file(view, MD_STR("b.proto"));

    (void)state;
    assert_int_equal(md_descriptors_with_imports(view, b, files, 4),
                     2); /* they import each other */
    assert_ptr_equal(files[0].ptr, b.ptr);
    assert_ptr_equal(files[1].ptr, a.ptr);
    assert_int_equal(md_descriptors_with_imports(view, b, files, 1), 1);
}

static void note_service(void *arg, struct md_str package, struct md_str name)
{
    md_bytes_printf(arg, "%.*s/%.*s ", MD_STR_ARG(package), MD_STR_ARG(name));
}

static void test_descriptors_each_service(void **state)
{
    struct md_bytes names = {0};

    (void)state;
    md_descriptors_each_service(md_bytes_view(&set), note_service, &names);
    assert_true(md_str_eq_c(md_bytes_view(&names), "p/S p.q/T "));
    md_bytes_deinit(&names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_descriptors_find_files_by_name),
        cmocka_unit_test(test_descriptors_find_symbols),
        cmocka_unit_test(test_descriptors_import_each_file_once),
        cmocka_unit_test(test_descriptors_each_service),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
