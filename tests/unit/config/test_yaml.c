/*
 * config/yaml: what the handler is told, and which texts are refused where.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"
#include "config/yaml.h"

/* Keys named l* want a list, models overlays, skip* nothing, others one value. */
static enum md_yaml_shape on_key(void *arg, struct md_str name, struct md_yaml_place place)
{
    md_bytes_printf(arg, "%.*s@%u:%u ", MD_STR_ARG(name), place.line, place.column);
    return md_str_eq_c(name, "models")                ? MD_YAML_OVERLAYS
           : md_str_starts_with(name, MD_STR("l"))    ? MD_YAML_LIST
           : md_str_starts_with(name, MD_STR("skip")) ? MD_YAML_SKIP
                                                      : MD_YAML_VALUE;
}

static void on_value(void *arg, struct md_str value, struct md_yaml_place place)
{
    md_bytes_printf(arg, "'%.*s'@%u:%u ", MD_STR_ARG(value), place.line, place.column);
}

static void on_overlay(void *arg, struct md_str pattern, struct md_str config_json,
                       struct md_yaml_place place)
{
    md_bytes_printf(arg, "<%.*s %.*s>@%u:%u ", MD_STR_ARG(pattern), MD_STR_ARG(config_json),
                    place.line, place.column);
}

/* What the handler was told, then the diagnostics. */
static const char *read_text(struct md_str text, bool *ok)
{
    static struct md_diagnostics diagnostics;
    static char told[4096];
    struct md_arena arena = {0};
    struct md_bytes out = {0};
    const struct md_yaml_handler handler = {
        .arg = &out, .key = on_key, .value = on_value, .overlay = on_overlay};

    md_diagnostics_init(&diagnostics, &arena);
    *ok = md_yaml_read(text, "f", &handler, &diagnostics);
    assert_int_equal(*ok, diagnostics.error_count == 0);
    for (size_t i = 0; i < diagnostics.count; i++) {
        md_bytes_append_c(&out, "| ");
        md_diagnostic_print(&diagnostics.items[i], &out);
        md_bytes_append_char(&out, ' ');
    }
    assert_true(out.len < sizeof told);
    memcpy(told, out.len ? out.data : "", out.len);
    told[out.len] = '\0';
    md_bytes_deinit(&out);
    md_arena_deinit(&arena);
    return told;
}

static void test_yaml_tells_what_stands_there(void **state)
{
    static const struct {
        const char *text, *told;
    } rows[] = {
        {"", ""},
        {"# nothing\n", ""},
        {"---\n...\n", ""},
        {"~", ""},
        {"{}", ""},
        {"a: 1\nb: 'x y'\n", "a@1:1 '1'@1:4 b@2:1 'x y'@2:4 "},
        {"a: &anchor 1\n", "a@1:1 '1'@1:4 "},
        {"a:\nb: null\nc: ~\nd: \"\"\ne: 'null'\n",
         "a@1:1 b@2:1 c@3:1 d@4:1 ''@4:4 e@5:1 'null'@5:4 "},
        {"list: [x, ~, y]\n", "list@1:1 'x'@1:8 'y'@1:14 "},
        {"list:\n  - x\n  - y\n", "list@1:1 'x'@2:5 'y'@3:5 "},
        {"list: x\n", "list@1:1 'x'@1:7 "},
        {"skip: {a: [b, {c: d}]}\nskip2: x\nz: 1", "skip@1:1 skip2@2:1 z@3:1 '1'@3:4 "},
        {"models:\nz: 1", "models@1:1 z@2:1 '1'@2:4 "},
        {"models: []", "models@1:1 "},
        {"models: [{pattern: p*, config: {a: 1}}]", "models@1:1 <p* {\"a\":1}>@1:10 "},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        bool ok;
        assert_string_equal(read_text(md_str_of(rows[i].text), &ok), rows[i].told);
        assert_true(ok);
    }
}

static void test_yaml_becomes_json(void **state)
{
    static const struct {
        const char *yaml, *json;
    } rows[] = {
        {"{}", "{}"},
        {"{a: [], b: {}}", "{\"a\":[],\"b\":{}}"},
        {"{a: [1, [2, {c: d}]], e: f}", "{\"a\":[1,[2,{\"c\":\"d\"}]],\"e\":\"f\"}"},
        {"{a: -1.5e3, b: 0, c: 12345678901234567890}",
         "{\"a\":-1.5e3,\"b\":0,\"c\":12345678901234567890}"},
        {"{a: 0x10, b: 1_000, c: +5, d: 012, e: .5, f: 5.}",
         "{\"a\":\"0x10\",\"b\":\"1_000\",\"c\":\"+5\",\"d\":\"012\",\"e\":\".5\",\"f\":\"5.\"}"},
        {"{a: true, b: False, c: TRUE, d: yes, e: 'true'}",
         "{\"a\":true,\"b\":false,\"c\":true,\"d\":\"yes\",\"e\":\"true\"}"},
        {"{a: , b: ~, c: Null, d: ''}", "{\"a\":null,\"b\":null,\"c\":null,\"d\":\"\"}"},
        {"{a: '1', b: \"2\", c: !!str 3}", "{\"a\":\"1\",\"b\":\"2\",\"c\":\"3\"}"},
        {"{a: \"\\\"\\\\\\n\"}", "{\"a\":\"\\\"\\\\\\n\"}"},
        {"{1: 2, true: 3}", "{\"1\":2,\"true\":3}"},
        {"{\n\na:\n 1,\n b: 2}", "{\n\n\"a\":\n1,\n\"b\":2}"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_bytes text = {0}, told = {0};
        bool ok;
        md_bytes_printf(&text, "models: [{pattern: p, config: %s}]", rows[i].yaml);
        md_bytes_printf(&told, "models@1:1 <p %s>@1:10 ", rows[i].json);
        md_bytes_append_char(&told, '\0');
        assert_string_equal(read_text(md_bytes_view(&text), &ok), told.data);
        md_bytes_deinit(&text);
        md_bytes_deinit(&told);
    }
}

static void test_yaml_problems_have_their_place_and_the_rest_is_read(void **state)
{
    static const struct {
        const char *text, *told;
    } rows[] = {
        {"x", "| f:1:1: error: the file must hold 'option: value' lines "},
        {"[a]", "| f:1:1: error: the file must hold 'option: value' lines "},
        {"a: [1]\nb: 2",
         "a@1:1 b@2:1 '2'@2:4 | f:1:4: error: this option takes one value, not a list "},
        {"a: {b: [c]}\nd: 2",
         "a@1:1 d@2:1 '2'@2:4 | f:1:4: error: an option's value is plain, or a "
         "list of plain values "},
        {"list: [a, [b], c]", "list@1:1 'a'@1:8 'c'@1:16 | f:1:11: error: an option's value is "
                              "plain, or a list of plain values "},
        {"? [a]\n: {b: c}\nd: 2", "d@3:1 '2'@3:4 | f:1:3: error: an option's name was expected "},
        {"models: 3\na: 1", "models@1:1 a@2:1 '1'@2:4 | f:1:9: error: 'models' is a list: - "
                            "pattern: ... "},
        {"models: [3, {pattern: p, config: {}}]",
         "models@1:1 <p {}>@1:13 | f:1:10: error: an entry of 'models' is a mapping of 'pattern' "
         "and 'config' "},
        {"models: [{pattern: p}]\na: 1",
         "models@1:1 a@2:1 '1'@2:4 | f:1:10: error: an entry of 'models' needs both 'pattern' and "
         "'config' "},
        {"models: [{pattern: p, config: {}, config: {}}]",
         "models@1:1 | f:1:43: error: given twice in this entry of 'models' "},
        {"models: [{pattern: [p], config: 3, more: {a: b}}]",
         "models@1:1 | f:1:20: error: 'pattern' must be a name, in which * and ? stand for others "
         "| f:1:33: error: 'config' must be a mapping of model settings "
         "| f:1:36: error: an entry of 'models' has the keys 'pattern' and 'config' "},
        {"models: [{pattern: '', config: {}}]",
         "models@1:1 | f:1:20: error: 'pattern' must be a name, in which * and ? stand for others "},
        {"models: [{pattern: p, config: {[a]: b}}]",
         "models@1:1 | f:1:32: error: a key must be a plain name "},
        {"a: 1\n---\nb: 2",
         "a@1:1 '1'@1:4 | f:2:1: error: the file must hold one document: nothing is read from here "
         "on "},
        {"a: &x 1\nb: *x\n",
         "a@1:1 '1'@1:4 b@2:1 | f:2:4: error: aliases are not accepted: write the value out "},
        {"models: [{pattern: p, config: {a: &x [1], b: *x}}]",
         "models@1:1 | f:1:46: error: aliases are not accepted: write the value out "},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        bool ok;
        assert_string_equal(read_text(md_str_of(rows[i].text), &ok), rows[i].told);
        assert_false(ok);
    }
}

static void test_yaml_broken_texts_are_refused(void **state)
{
    static const struct {
        struct md_str text;
        const char *place;
    } rows[] = {
        {MD_STR("a: [1"), "f:1:"},     {MD_STR("a: 1\n b: 2\n"), "f:2:"},
        {MD_STR("a: 'x\n"), "f:"},     {MD_STR("\na: \xff\n"), "f:"},
        {MD_STR("a: \x01\n"), "f:"},   {MD_STR("%YAML 9.9\n---\na: 1"), "f:1:"},
        {MD_STR("\ta: 1"), "f:1:"},    {MD_STR("a: !!\n"), "f:1:"},
        {MD_STR("a: 1\n}\n"), "f:2:"}, {MD_STR("a: 1\n...\nb"), "f:3:"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        bool ok;
        const char *told = read_text(rows[i].text, &ok);
        print_message("[  row   ] %s\n", told);
        assert_false(ok);
        assert_non_null(strstr(told, rows[i].place));
        assert_non_null(strstr(told, "error: "));
    }
}

static void append_times(struct md_bytes *text, const char *piece, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        md_bytes_append_c(text, piece);
    }
}

static void test_yaml_is_bounded(void **state)
{
    static const struct {
        const char *begin, *piece;
        size_t times;
        const char *told;
    } rows[] = {
        {"# ", "x", 1 << 20, "the file is larger than 1 MiB"},
        {"models: [{pattern: p, config: {a: ", "[", 32, "too many nested levels"},
        {"models: [{pattern: ", "p", 4097, "the pattern is too long"},
        {"skip: ", "[", 100000, "too many nested levels"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        struct md_bytes text = {0};
        bool ok;
        md_bytes_append_c(&text, rows[i].begin);
        append_times(&text, rows[i].piece, rows[i].times);
        md_bytes_append_c(&text, ", config: {}}]");
        assert_non_null(strstr(read_text(md_bytes_view(&text), &ok), rows[i].told));
        assert_false(ok);
        md_bytes_deinit(&text);
    }
}

static void test_yaml_deepest_accepted_nesting(void **state)
{
    struct md_bytes text = {0};
    bool ok;

    (void)state;
    md_bytes_append_c(&text, "models: [{pattern: p, config: {a: ");
    append_times(&text, "[", 31);
    append_times(&text, "]", 31);
    md_bytes_append_c(&text, "}}]");
    (void)read_text(md_bytes_view(&text), &ok);
    assert_true(ok);
    md_bytes_deinit(&text);
}

static void count_overlay(void *arg, struct md_str pattern, struct md_str config_json,
                          struct md_yaml_place place)
{
    (void)pattern;
    (void)place;
    *(size_t *)arg += config_json.len;
}

static enum md_yaml_shape expect_overlays(void *arg, struct md_str name, struct md_yaml_place place)
{
    (void)arg;
    (void)name;
    (void)place;
    return MD_YAML_OVERLAYS;
}

/* The empty lines before overlays far down in the file add up; there is a bound. */
static void test_yaml_overlays_are_bounded_together(void **state)
{
    static struct md_diagnostics diagnostics;
    struct md_arena arena = {0};
    struct md_bytes text = {0};
    size_t json_bytes = 0;
    const struct md_yaml_handler handler = {
        .arg = &json_bytes, .key = expect_overlays, .overlay = count_overlay};

    (void)state;
    append_times(&text, "\n", 400000);
    md_bytes_append_c(&text, "models:\n");
    append_times(&text, "- {pattern: p, config: {}}\n", 60);
    md_diagnostics_init(&diagnostics, &arena);
    assert_false(md_yaml_read(md_bytes_view(&text), "f", &handler, &diagnostics));
    assert_int_equal(diagnostics.count, 1);
    assert_non_null(strstr(diagnostics.items[0].text, "too much memory"));
    assert_in_range(json_bytes, 15 << 20, 16 << 20);
    md_bytes_deinit(&text);
    md_arena_deinit(&arena);
}

static void test_yaml_survives_any_failed_allocation(void **state)
{
    static const char text[] = "a: [1]\nmodels: [{pattern: p, config: {a: [1, 2, x]}}, 3]";
    static struct md_diagnostics diagnostics;

    (void)state;
    for (long i = 0;; i++) {
        struct md_arena arena = {0};
        struct md_bytes out = {0};
        const struct md_yaml_handler handler = {
            .arg = &out, .key = on_key, .value = on_value, .overlay = on_overlay};
        md_diagnostics_init(&diagnostics, &arena);
        md_fault_arm(MD_FAULT_ALLOC, i);
        assert_false(md_yaml_read(md_str_of(text), "f", &handler, &diagnostics));
        bool delivered = md_fault_disarm(MD_FAULT_ALLOC);
        md_bytes_deinit(&out);
        md_arena_deinit(&arena);
        if (!delivered) {
            assert_true(i > 2);
            break;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml_tells_what_stands_there),
        cmocka_unit_test(test_yaml_becomes_json),
        cmocka_unit_test(test_yaml_problems_have_their_place_and_the_rest_is_read),
        cmocka_unit_test(test_yaml_broken_texts_are_refused),
        cmocka_unit_test(test_yaml_is_bounded),
        cmocka_unit_test(test_yaml_deepest_accepted_nesting),
        cmocka_unit_test(test_yaml_overlays_are_bounded_together),
        cmocka_unit_test(test_yaml_survives_any_failed_allocation),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
