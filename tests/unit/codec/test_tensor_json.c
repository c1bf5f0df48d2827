/*
 * codec/tensor_json.h: arrays into memory and back, at every budget.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "codec/tensor_json.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

enum { ELEMENTS_MAX = 16 };

struct outcome {
    bool done;
    char data[ELEMENTS_MAX * 8 + 1]; /* the byte behind the tensor must stay */
    struct md_bytes strings;
    struct md_error error;
    size_t steps;
};

static void read_text(struct md_str text, enum md_dtype dtype, size_t count, size_t budget,
                      struct outcome *o)
{
    struct md_arena arena = {0};
    struct md_json json;
    struct md_tensor_reader reader;
    enum md_progress progress;
    size_t bytes = count * md_dtype_size(dtype);

    o->steps = 0;
    memset(o->data, 0x5a, sizeof o->data);
    md_bytes_clear(&o->strings);
    md_json_init(&json, text, &arena, 6);
    md_tensor_reader_init(&reader, dtype, count, o->data, &o->strings);
    do {
        progress = md_tensor_reader_step(&reader, &json, budget);
        o->steps++;
    } while (progress == MD_PROGRESS_AGAIN);
    o->done = progress == MD_PROGRESS_DONE;
    if (o->done) {
        assert_int_equal(md_json_next(&json), MD_JSON_END);
    } else {
        assert_true(json.failed);
        o->error = json.error;
        assert_int_equal(md_tensor_reader_step(&reader, &json, budget), MD_PROGRESS_ERROR);
    }
    assert_int_equal(o->data[bytes], 0x5a);
    md_arena_deinit(&arena);
}

/* Reads a copy of exact size with several budgets; all must come to the same. */
static void read_all_ways(const char *text, enum md_dtype dtype, size_t count, struct outcome *o)
{
    static const size_t budgets[] = {SIZE_MAX, 1, 2, 3, 7};
    struct outcome other = {0};
    size_t len = strlen(text);
    char *copy = malloc(len + 1);

    assert_non_null(copy);
    memcpy(copy, text, len);
    char *exact = realloc(copy, len + (len == 0));
    assert_non_null(exact);
    *o = (struct outcome){0};
    for (size_t i = 0; i < MD_COUNT_OF(budgets); i++) {
        read_text(md_str_make(exact, len), dtype, count, budgets[i], i ? &other : o);
        if (i && (other.done != o->done || memcmp(other.data, o->data, sizeof o->data) != 0 ||
                  !md_str_eq(md_bytes_view(&other.strings), md_bytes_view(&o->strings)))) {
            fail_msg("%s: differs with a budget of %zu: %s", text, budgets[i], other.error.text);
        }
    }
    md_bytes_deinit(&other.strings);
    free(exact);
}

static void write_all_ways(enum md_dtype dtype, const char *data, size_t bytes,
                           const char *expected)
{
    static const size_t budgets[] = {SIZE_MAX, 1, 2, 5, 64};

    for (size_t i = 0; i < MD_COUNT_OF(budgets); i++) {
        struct md_bytes out = {0};
        struct md_tensor_writer writer;
        enum md_progress progress;
        md_tensor_writer_init(&writer, dtype, data, bytes);
        do {
            size_t before = out.len;
            progress = md_tensor_writer_step(&writer, &out, budgets[i]);
            assert_true(progress != MD_PROGRESS_ERROR);
            assert_true(out.len - before <=
                        md_size_min(budgets[i], 1 << 20) + MD_TENSOR_WRITER_SPARE);
        } while (progress == MD_PROGRESS_AGAIN);
        if (!md_str_eq_c(md_bytes_view(&out), expected)) {
            fail_msg("%s with a budget of %zu: '%.*s', expected '%s'", md_dtype_name(dtype),
                     budgets[i], MD_STR_ARG(md_bytes_view(&out)), expected);
        }
        assert_int_equal(md_tensor_writer_step(&writer, &out, 10), MD_PROGRESS_DONE);
        md_bytes_deinit(&out);
    }
}

/* Text, what is in memory, and the text that is printed from there. */
static const struct {
    enum md_dtype dtype;
    const char *text;
    size_t count;
    const char *bytes; /* little-endian */
    const char *printed;
} cases[] = {
    {MD_DTYPE_BOOL, "[true, false,true ]", 3, "\1\0\1", "true,false,true"},
    {MD_DTYPE_UINT8, "[0,255,7]", 3, "\0\xff\7", "0,255,7"},
    {MD_DTYPE_INT8, "[-128,127,-0]", 3, "\x80\x7f\0", "-128,127,0"},
    {MD_DTYPE_UINT16, "[65535,1]", 2, "\xff\xff\1\0", "65535,1"},
    {MD_DTYPE_INT16, "[-32768,32767]", 2, "\0\x80\xff\x7f", "-32768,32767"},
    {MD_DTYPE_UINT32, "[4294967295]", 1, "\xff\xff\xff\xff", "4294967295"},
    {MD_DTYPE_INT32, "[-2147483648,2147483647,-1]", 3, "\0\0\0\x80\xff\xff\xff\x7f\xff\xff\xff\xff",
     "-2147483648,2147483647,-1"},
    {MD_DTYPE_UINT64, "[18446744073709551615,9007199254740993]", 2,
     "\xff\xff\xff\xff\xff\xff\xff\xff\1\0\0\0\0\0\x20\0", "18446744073709551615,9007199254740993"},
    {MD_DTYPE_INT64, "[-9223372036854775808,-1]", 2,
     "\0\0\0\0\0\0\0\x80\xff\xff\xff\xff\xff\xff\xff\xff", "-9223372036854775808,-1"},
    {MD_DTYPE_FP16, "[1,-2.0,0.1,65504,Infinity]", 5, "\0\x3c\0\xc0\x66\x2e\xff\x7b\0\x7c",
     "1.0,-2.0,0.1,65500.0,Infinity"},
    {MD_DTYPE_BF16, "[1,-2.0,0.1,-Infinity]", 4, "\x80\x3f\0\xc0\xcd\x3d\x80\xff",
     "1.0,-2.0,0.1,-Infinity"},
    {MD_DTYPE_FP32, "[1,-0.0,1e-3,16777217,Inf,NaN]", 6,
     "\0\0\x80\x3f\0\0\0\x80\x6f\x12\x83\x3a\0\0\x80\x4b\0\0\x80\x7f\0\0\xc0\x7f",
     "1.0,-0.0,0.001,16777216.0,Infinity,NaN"},
    {MD_DTYPE_FP64, "[0.1,-1e308]", 2,
     "\x9a\x99\x99\x99\x99\x99\xb9\x3f\xa0\xc8\xeb\x85\xf3\xcc\xe1\xff", "0.1,-1e308"},
    {MD_DTYPE_INT32, "[[1,2],[3,4]]", 4, "\1\0\0\0\2\0\0\0\3\0\0\0\4\0\0\0", "1,2,3,4"},
    {MD_DTYPE_UINT8, " [ [ [ 1 , 2 ] ,\t[3]\n] , [ ] , 4,[5 ]\r] ", 5, "\1\2\3\4\5", "1,2,3,4,5"},
    {MD_DTYPE_UINT8, "[]", 0, "", ""},
    {MD_DTYPE_UINT8, "[[],[]]", 0, "", ""},
    {MD_DTYPE_UINT8, "[[[[[[1]]]]]]", 1, "\1", "1"},
};

static void test_tensor_json_reads_and_prints_each_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct outcome o;
        size_t bytes = cases[i].count * md_dtype_size(cases[i].dtype);
        read_all_ways(cases[i].text, cases[i].dtype, cases[i].count, &o);
        if (!o.done || memcmp(o.data, cases[i].bytes, bytes) != 0) {
            fail_msg("%s: %s", cases[i].text, o.done ? "read something else" : o.error.text);
        }
        write_all_ways(cases[i].dtype, cases[i].bytes, bytes, cases[i].printed);
        md_bytes_deinit(&o.strings);
    }
}

static void test_tensor_json_strings(void **state)
{
#define EUROS "\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac"
    static const struct {
        const char *text;
        size_t count;
        struct md_str data;
        const char *printed;
    } strings[] = {
        {"[\"a\",\"\",\"xyz\"]", 3, {"\1\0\0\0a\0\0\0\0\3\0\0\0xyz", 16}, "\"a\",\"\",\"xyz\""},
        {"[[\"\\u00e9\\n\"], [\"\xc3\xa9\"]]",
         2,
         {"\3\0\0\0\xc3\xa9\n\2\0\0\0\xc3\xa9", 13},
         "\"\xc3\xa9\\n\",\"\xc3\xa9\""},
        {"[\"long enough to be cut \" ,\"" EUROS "\"]",
         2,
         {"\x16\0\0\0long enough to be cut \x0c\0\0\0" EUROS, 42},
         "\"long enough to be cut \",\"" EUROS "\""},
        {"[]", 0, {"", 0}, ""},
    };
#undef EUROS

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(strings); i++) {
        struct outcome o;
        read_all_ways(strings[i].text, MD_DTYPE_BYTES, strings[i].count, &o);
        if (!o.done || !md_str_eq(md_bytes_view(&o.strings), strings[i].data)) {
            fail_msg("%s: %s", strings[i].text, o.done ? "read something else" : o.error.text);
        }
        write_all_ways(MD_DTYPE_BYTES, strings[i].data.ptr, strings[i].data.len,
                       strings[i].printed);
        md_bytes_deinit(&o.strings);
    }
}

static void test_tensor_json_errors(void **state)
{
    static const struct {
        enum md_dtype dtype;
        size_t count;
        const char *text, *sentence;
    } errors[] = {
        {MD_DTYPE_UINT8, 3, "[1,2]", "has 2 elements, its shape says 3"},
        {MD_DTYPE_UINT8, 1, "[1,2]", "more than the 1 elements"},
        {MD_DTYPE_UINT8, 0, "[1]", "more than the 0 elements"},
        {MD_DTYPE_UINT8, 1, "[]", "has 0 elements"},
        {MD_DTYPE_UINT8, 1, "1", "is not an array"},
        {MD_DTYPE_UINT8, 1, "{}", "is not an array"},
        {MD_DTYPE_UINT8, 1, "", "is not an array"},
        {MD_DTYPE_UINT8, 1, "[256]",
         "element 0 of a UINT8 tensor is out of the type's range: '256'"},
        {MD_DTYPE_UINT8, 2, "[1,-1]",
         "element 1 of a UINT8 tensor is out of the type's range: '-1'"},
        {MD_DTYPE_INT8, 1, "[-129]", "out of the type's range: '-129'"},
        {MD_DTYPE_INT8, 1, "[128]", "out of the type's range"},
        {MD_DTYPE_UINT16, 1, "[65536]", "out of the type's range"},
        {MD_DTYPE_INT32, 1, "[2147483648]", "out of the type's range"},
        {MD_DTYPE_UINT32, 1, "[4294967296]", "out of the type's range"},
        {MD_DTYPE_INT64, 1, "[9223372036854775808]", "out of the type's range"},
        {MD_DTYPE_UINT64, 1, "[18446744073709551616]", "out of the type's range"},
        {MD_DTYPE_INT32, 2, "[1,1.5]", "element 1 of a INT32 tensor is not an integer: '1.5'"},
        {MD_DTYPE_INT32, 1, "[1e3]", "is not an integer"},
        {MD_DTYPE_INT32, 1, "[true]", "is not an integer: 'true'"},
        {MD_DTYPE_INT32, 1, "[01]", "is not an integer"},
        {MD_DTYPE_INT32, 1, "[NaN]", "is not an integer"},
        {MD_DTYPE_FP32, 1, "[1e39]",
         "element 0 of a FP32 tensor is out of the type's range: '1e39'"},
        {MD_DTYPE_FP32, 1, "[-3.4028236e38]", "out of the type's range"},
        {MD_DTYPE_FP64, 1, "[1e309]", "out of the type's range"},
        {MD_DTYPE_FP16, 1, "[65520]", "element 0 of a FP16 tensor is out of the type's range"},
        {MD_DTYPE_BF16, 1, "[3.4e38]", "out of the type's range"},
        {MD_DTYPE_FP32, 1, "[\"1\"]", "is not a number"},
        {MD_DTYPE_FP64, 1, "[null]", "is not a number"},
        {MD_DTYPE_FP16, 1, "[x]", "is not a number: 'x'"},
        {MD_DTYPE_BOOL, 1, "[1]", "is not true or false: '1'"},
        {MD_DTYPE_BOOL, 1, "[tru]", "is not true or false"},
        {MD_DTYPE_BYTES, 1, "[1]", "element 0 of a BYTES tensor is not a string: '1'"},
        {MD_DTYPE_BYTES, 2, "[\"a\",\"\\x\"]", "element 1 of a BYTES tensor"},
        {MD_DTYPE_BYTES, 1, "[\"abc", "element 0 of a BYTES tensor"},
        {MD_DTYPE_UINT8, 2, "[1,]", "is not an integer: ''"},
        {MD_DTYPE_UINT8, 2, "[,1]", "is not an integer"},
        {MD_DTYPE_UINT8, 2, "[1 2]", "',' or ']' was expected"},
        {MD_DTYPE_UINT8, 2, "[1,2", "ends inside the data"},
        {MD_DTYPE_UINT8, 2, "[1,", "ends inside the data"},
        {MD_DTYPE_UINT8, 2, "[", "ends inside the data"},
        {MD_DTYPE_UINT8, 2, "[[1,2]", "ends inside the data"},
        {MD_DTYPE_UINT8, 2, "[[1],2}", "',' or ']' was expected"},
        {MD_DTYPE_UINT8, 2, "[[1][2]]", "',' or ']' was expected"},
        {MD_DTYPE_UINT8, 2, "[1x]", "',' or ']' was expected"},
        {MD_DTYPE_UINT8, 1, "[[[[[[[1]]]]]]]", "too many nested levels"},
        {MD_DTYPE_UINT8, 1, "[{}]", "is not an integer"},
        {MD_DTYPE_FP32, 1, "[1.]", "is not a number"},
        {MD_DTYPE_FP32, 2, "[1,\n", "ends inside the data"},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(errors); i++) {
        struct outcome o;
        read_all_ways(errors[i].text, errors[i].dtype, errors[i].count, &o);
        if (o.done || !strstr(o.error.text, errors[i].sentence) ||
            !strstr(o.error.text, "at byte")) {
            fail_msg("%s: %s", errors[i].text, o.done ? "was read" : o.error.text);
        }
        assert_int_equal(o.error.reason, MD_REASON_MALFORMED);
        md_bytes_deinit(&o.strings);
    }
}

static void test_tensor_json_reads_in_place(void **state)
{
    struct md_arena arena = {0};
    struct md_json json;
    struct md_tensor_reader reader;
    uint16_t data[2];

    (void)state;
    md_json_init(&json, MD_STR("{\"data\" : [1,2], \"x\":3}"), &arena, 4);
    assert_int_equal(md_json_next(&json), MD_JSON_OBJECT_BEGIN);
    assert_int_equal(md_json_next(&json), MD_JSON_KEY);
    md_tensor_reader_init(&reader, MD_DTYPE_UINT16, 2, (char *)data, NULL);
    assert_int_equal(md_tensor_reader_step(&reader, &json, SIZE_MAX), MD_PROGRESS_DONE);
    assert_true(data[0] == 1 && data[1] == 2);
    assert_int_equal(md_json_next(&json), MD_JSON_KEY);
    assert_true(md_str_eq_c(json.text, "x"));
    assert_int_equal(md_json_next(&json), MD_JSON_NUMBER);
    assert_int_equal(md_json_next(&json), MD_JSON_OBJECT_END);
    assert_int_equal(md_json_next(&json), MD_JSON_END);
    md_arena_deinit(&arena);
}

static void test_tensor_json_reading_yields(void **state)
{
    struct outcome o = {0};

    (void)state;
    read_text(MD_STR("[1,2,3,4,5,6,7,8,9,10,11,12,13,14]"), MD_DTYPE_UINT8, 14, 10, &o);
    assert_true(o.done && o.steps >= 3 && o.steps <= 6);
}

static void test_tensor_json_strings_beyond_their_bound_are_too_large(void **state)
{
    struct outcome o = {.strings = {.max = 20}};

    (void)state;
    read_text(MD_STR("[\"0123456789\",\"0123456789\"]"), MD_DTYPE_BYTES, 2, SIZE_MAX, &o);
    assert_false(o.done);
    assert_int_equal(o.error.reason, MD_REASON_TOO_LARGE);
    assert_true(o.strings.len <= 20);
    md_bytes_deinit(&o.strings);
    /* the bound met by the length prefix */
    o = (struct outcome){.strings = {.max = 7}};
    read_text(MD_STR("[\"a\",\"\"]"), MD_DTYPE_BYTES, 2, SIZE_MAX, &o);
    assert_false(o.done);
    assert_int_equal(o.error.reason, MD_REASON_TOO_LARGE);
    md_bytes_deinit(&o.strings);
}

static void test_tensor_json_out_of_memory_is_said(void **state)
{
    bool delivered = true;

    (void)state;
    for (long after = 0; delivered; after++) {
        struct outcome o = {0};
        md_fault_arm(MD_FAULT_ALLOC, after);
        read_text(MD_STR("[\"a\\n\",\"0123456789012345678901234567890123456789\"]"), MD_DTYPE_BYTES,
                  2, SIZE_MAX, &o);
        delivered = md_fault_disarm(MD_FAULT_ALLOC);
        assert_int_equal(o.done, !delivered);
        if (delivered) {
            assert_int_equal(o.error.reason, MD_REASON_OUT_OF_MEMORY);
        }
        md_bytes_deinit(&o.strings);
    }
}

static void test_tensor_json_writing_out_of_memory_is_an_error(void **state)
{
    static const enum md_dtype dtypes[] = {MD_DTYPE_FP32, MD_DTYPE_BYTES};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(dtypes); i++) {
        struct md_bytes out = {0};
        struct md_tensor_writer writer;
        md_tensor_writer_init(&writer, dtypes[i], "\1\0\0\0x\0\0\0",
                              dtypes[i] == MD_DTYPE_BYTES ? 5 : 8);
        md_fault_arm(MD_FAULT_ALLOC, 0);
        assert_int_equal(md_tensor_writer_step(&writer, &out, 100), MD_PROGRESS_ERROR);
        assert_true(md_fault_disarm(MD_FAULT_ALLOC) && out.failed);
        md_bytes_deinit(&out);
    }
}

static void test_tensor_json_cut_data_is_an_error(void **state)
{
    static const struct {
        enum md_dtype dtype;
        const char *data;
        size_t bytes;
    } cut[] = {
        {MD_DTYPE_FP32, "\0\0\0\0\0", 5},
        {MD_DTYPE_UINT64, "\0\0\0", 3},
        {MD_DTYPE_BYTES, "\1\0\0", 3},
        {MD_DTYPE_BYTES, "\2\0\0\0a", 5},
        {MD_DTYPE_BYTES, "\0\0\0\0\xff\xff\xff\xff", 8},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cut); i++) {
        struct md_bytes out = {0};
        struct md_tensor_writer writer;
        enum md_progress progress;
        md_tensor_writer_init(&writer, cut[i].dtype, cut[i].data, cut[i].bytes);
        do {
            progress = md_tensor_writer_step(&writer, &out, 1);
        } while (progress == MD_PROGRESS_AGAIN);
        assert_int_equal(progress, MD_PROGRESS_ERROR);
        assert_false(out.failed);
        md_bytes_deinit(&out);
    }
}

/* Whatever the bytes, pieces say what the whole says, and no step exceeds its bound. */
static void test_tensor_json_bad_utf8_in_pieces(void **state)
{
    static const char *const texts[] = {
        "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
        "abcdefg\xe2\x82\xac\xe2\x82zzzzzz\xf0\x9f\x98\x80\xf0\x9f\x98\xf0\x9f\x98\x80zzzz",
        "\1\2\3\4\5\6\7\x8\x9\xa\xb\xc\xd\xe\xf\1\2\3\4\5\6\7\"\"\"\"\"\"\"\\\\\\\\\\\\\\\\\\",
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(texts); i++) {
        uint32_t len = (uint32_t)strlen(texts[i]);
        struct md_bytes data = {0}, expected = {0};
        md_bytes_append(&data, &len, sizeof len);
        md_bytes_append(&data, texts[i], len);
        md_json_append_string(&expected, md_str_of(texts[i]));
        md_bytes_append_char(&expected, '\0');
        write_all_ways(MD_DTYPE_BYTES, data.data, data.len, expected.data);
        md_bytes_deinit(&data);
        md_bytes_deinit(&expected);
    }
}

static void test_tensor_json_large_round_trip(void **state)
{
    enum { COUNT = 20000 };
    float *values = md_calloc(COUNT, sizeof *values), *back = md_calloc(COUNT, sizeof *back);
    struct md_bytes text = {0};
    struct md_arena arena = {0};
    struct md_tensor_writer writer;
    struct md_tensor_reader reader;
    struct md_json json;
    enum md_progress progress;

    (void)state;
    assert_true(values && back);
    for (uint32_t i = 0, x = 1; i < COUNT; i++, x = x * 1664525 + 1013904223) {
        uint32_t bits = x & 0x80000000 ? x : (x & 0x807fffff) | 0x3f800000;
        bits = (bits & 0x7f800000) == 0x7f800000 ? 0x7f800000 : bits;
        memcpy(&values[i], &bits, sizeof bits);
    }
    md_bytes_append_char(&text, '[');
    md_tensor_writer_init(&writer, MD_DTYPE_FP32, (const char *)values, COUNT * sizeof *values);
    while ((progress = md_tensor_writer_step(&writer, &text, 4096)) == MD_PROGRESS_AGAIN) {}
    assert_int_equal(progress, MD_PROGRESS_DONE);
    md_bytes_append_char(&text, ']');
    md_json_init(&json, md_bytes_view(&text), &arena, 2);
    md_tensor_reader_init(&reader, MD_DTYPE_FP32, COUNT, (char *)back, NULL);
    while ((progress = md_tensor_reader_step(&reader, &json, 4096)) == MD_PROGRESS_AGAIN) {}
    assert_int_equal(progress, MD_PROGRESS_DONE);
    assert_memory_equal(values, back, COUNT * sizeof *values);
    md_free(values);
    md_free(back);
    md_bytes_deinit(&text);
    md_arena_deinit(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensor_json_reads_and_prints_each_type),
        cmocka_unit_test(test_tensor_json_strings),
        cmocka_unit_test(test_tensor_json_errors),
        cmocka_unit_test(test_tensor_json_reads_in_place),
        cmocka_unit_test(test_tensor_json_reading_yields),
        cmocka_unit_test(test_tensor_json_strings_beyond_their_bound_are_too_large),
        cmocka_unit_test(test_tensor_json_out_of_memory_is_said),
        cmocka_unit_test(test_tensor_json_writing_out_of_memory_is_an_error),
        cmocka_unit_test(test_tensor_json_cut_data_is_an_error),
        cmocka_unit_test(test_tensor_json_bad_utf8_in_pieces),
        cmocka_unit_test(test_tensor_json_large_round_trip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
