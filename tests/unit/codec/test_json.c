/*
 * codec/json.h: the reader token by token, and what is printed.
 */
#include "base/fault.h"
#include "codec/json.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

/* One letter a token; the texts of keys, strings and numbers follow in brackets. */
static void spell(struct md_str text, uint32_t max_depth, struct md_bytes *out,
                  struct md_error *error)
{
    static const char letters[] = ".!{}[]ksntf0";
    struct md_arena arena = {0};
    struct md_json json;
    enum md_json_token token;

    md_bytes_clear(out);
    md_json_init(&json, text, &arena, max_depth);
    do {
        enum md_json_token seen = md_json_peek(&json);
        token = md_json_next(&json);
        if (token != seen && token != MD_JSON_ERROR) {
            fail_msg("peeked %d, got %d", (int)seen, (int)token);
        }
        md_bytes_append_char(out, letters[token]);
        if (token == MD_JSON_KEY || token == MD_JSON_STRING || token == MD_JSON_NUMBER) {
            md_bytes_append_char(out, '(');
            md_bytes_append_str(out, json.text);
            md_bytes_append_char(out, ')');
        }
    } while (token != MD_JSON_END && token != MD_JSON_ERROR);
    assert_int_equal(md_json_next(&json), token); /* for ever */
    if (token == MD_JSON_ERROR) {
        *error = json.error;
        assert_int_equal(md_json_peek(&json), MD_JSON_ERROR);
    }
    md_bytes_append_char(out, '\0');
    md_arena_deinit(&arena);
}

/* From a copy of exact size, so that a sanitizer sees a read beyond it. */
static void check(const char *text, const char *expected)
{
    size_t len = strlen(text);
    char *copy = malloc(len + (len == 0));
    struct md_bytes out = {0};
    struct md_error error;

    assert_non_null(copy);
    memcpy(copy, text, len);
    spell(md_str_make(copy, len), 4, &out, &error);
    if (strcmp(out.data, expected) != 0) {
        fail_msg("%s: %s, expected %s", text, out.data, expected);
    }
    md_bytes_deinit(&out);
    free(copy);
}

static void test_json_tokens(void **state)
{
    static const struct {
        const char *text, *tokens;
    } cases[] = {
        {"{}", "{}."},
        {" [ ] ", "[]."},
        {"null", "0."},
        {"[true,false,null]", "[tf0]."},
        {"{\"a\":1,\"b\":[{\"c\":\"d\"}],\"\":{}}", "{k(a)n(1)k(b)[{k(c)s(d)}]k(){}}."},
        {" \t\r\n{ \"a\" \n:\t[ 1 , 2 ] \r} ", "{k(a)[n(1)n(2)]}."},
        {"[0,-0,0.5,1e5,1E+5,-1.25e-3,10]", "[n(0)n(-0)n(0.5)n(1e5)n(1E+5)n(-1.25e-3)n(10)]."},
        {"[NaN,Infinity,-Infinity,Inf,-Inf,-NaN]",
         "[n(NaN)n(Infinity)n(-Infinity)n(Inf)n(-Inf)n(-NaN)]."},
        {"[[[[]]]]", "[[[[]]]]."},
        {"\"plain text of more than eight bytes\"", "s(plain text of more than eight bytes)."},
        {"\"1234567\\n\"", "s(1234567\n)."},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "s(\"\\/\b\f\n\r\t)."},
        {"\"\\u0041\\u00e9\\u20AC\\ud83d\\uDE00x\"", "s(A\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80x)."},
        {"\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf\"",
         "s(\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbf)."},
        {"{\"\\u006b\":\"\\n\"}", "{k(k)s(\n)}."},
        {"\"\x7f\"", "s(\x7f)."},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        check(cases[i].text, cases[i].tokens);
    }
}

static void test_json_errors(void **state)
{
    static const struct {
        const char *text, *tokens, *sentence;
    } cases[] = {
        {"", "!", "ends too early at byte 0"},
        {"  ", "!", "ends too early at byte 2"},
        {"[", "[!", "ends too early at byte 1"},
        {"{\"a\"", "{k(a)!", "ends too early at byte 4"},
        {"{\"a\":", "{k(a)!", "ends too early at byte 5"},
        {"{\"a\":1", "{k(a)n(1)!", "ends too early at byte 6"},
        {"[1,", "[n(1)!", "ends too early at byte 3"},
        {"[1,]", "[n(1)!", "an invalid value at byte 3"},
        {"[,1]", "[!", "an invalid value at byte 1"},
        {"[1 2]", "[n(1)!", "closing bracket was expected at byte 3"},
        {"[1}", "[n(1)!", "closing bracket was expected at byte 2"},
        {"{]", "{!", "a name was expected at byte 1"},
        {"{\"a\":1]", "{k(a)n(1)!", "closing bracket was expected at byte 6"},
        {"{\"a\" 1}", "{k(a)!", "':' was expected at byte 5"},
        {"{\"a\":}", "{k(a)!", "an invalid value at byte 5"},
        {"{\"a\":1,}", "{k(a)n(1)!", "a name was expected at byte 7"},
        {"{,}", "{!", "a name was expected at byte 1"},
        {"{1:2}", "{!", "a name was expected at byte 1"},
        {"}", "!", "an invalid value at byte 0"},
        {"]", "!", "an invalid value at byte 0"},
        {"1 2", "n(1)!", "something follows the document at byte 2"},
        {"{},", "{}!", "something follows the document at byte 2"},
        {"[[[[[", "[[[[!", "too many nested levels at byte 4"},
        {"tru", "!", "an invalid value at byte 0"},
        {"truE", "!", "an invalid value at byte 0"},
        {"falsy", "!", "an invalid value at byte 0"},
        {"nul", "!", "an invalid value at byte 0"},
        {"Nan", "!", "an invalid value"},
        {"Infinit", "n(Inf)!", "something follows"},
        {"-", "!", "an invalid value"},
        {"+1", "!", "an invalid value at byte 0"},
        {"01", "!", "an invalid value"},
        {"1.", "!", "without digits behind its point"},
        {"1.e5", "!", "without digits behind its point"},
        {"1e", "!", "without digits in its exponent"},
        {"1e+", "!", "without digits in its exponent"},
        {"'a'", "!", "an invalid value at byte 0"},
        {"\"", "!", "a string without end at byte 1"},
        {"\"abcdefgh", "!", "a string without end at byte 9"},
        {"\"a\\", "!", "a string without end at byte 3"},
        {"\"a\\\"", "!", "a string without end at byte 4"},
        {"\"a\nb\"", "!", "a control character in a string at byte 2"},
        {"\"12345678\x01\"", "!", "a control character in a string at byte 9"},
        {"\"\\x\"", "!", "invalid escape"},
        {"\"\\u12\"", "!", "invalid escape"},
        {"\"\\u12g4\"", "!", "invalid escape"},
        {"\"\\ud800\"", "!", "a high surrogate without a low one"},
        {"\"\\ud800\\n12345\"", "!", "a high surrogate without a low one"},
        {"\"\\ud800\\u0041\"", "!", "a high surrogate without a low one"},
        {"\"\\udc00\"", "!", "a low surrogate without a high one"},
        {"\"\xc3\"", "!", "not valid UTF-8"},
        {"\"\xc0\x80\"", "!", "not valid UTF-8"},
        {"\"\xed\xa0\x80\"", "!", "not valid UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "!", "not valid UTF-8"},
        {"\"\xf5\x80\x80\x80\"", "!", "not valid UTF-8"},
        {"\"\xe0\x80\x80\"", "!", "not valid UTF-8"},
        {"\"\xff\"", "!", "not valid UTF-8"},
    };
    struct md_bytes out = {0};
    struct md_error error;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        check(cases[i].text, cases[i].tokens);
        spell(md_str_of(cases[i].text), 4, &out, &error);
        if (!strstr(error.text, cases[i].sentence) || error.reason != MD_REASON_MALFORMED) {
            fail_msg("%s: %s", cases[i].text, error.text);
        }
    }
    md_bytes_deinit(&out);
}

static void test_json_a_zero_byte_is_an_error(void **state)
{
    struct md_bytes out = {0};
    struct md_error error;

    (void)state;
    spell(md_str_make("\"\\\0\"", 4), 4, &out, &error);
    assert_string_equal(out.data, "!");
    spell(md_str_make("\0", 1), 4, &out, &error);
    assert_string_equal(out.data, "!");
    md_bytes_deinit(&out);
}

static void test_json_every_cut_of_a_document_is_an_error(void **state)
{
    static const char text[] = "{\"a\":[1.5e3,\"x\\u00e9\xc3\xa9\",true,{\"b\":null}]}";
    struct md_bytes out = {0};
    struct md_error error;

    (void)state;
    for (size_t len = 0; len < sizeof text - 1; len++) {
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, text, len);
        spell(md_str_make(copy, len), 8, &out, &error);
        assert_int_equal(out.data[out.len - 2], '!');
        free(copy);
    }
    md_bytes_deinit(&out);
}

static void test_json_depth_is_capped(void **state)
{
    struct md_bytes text = {0}, out = {0};
    struct md_error error;

    (void)state;
    for (int i = 0; i < 2 * MD_JSON_DEPTH_LIMIT; i++) {
        md_bytes_append_c(&text, i % 2 ? "{\"k\":" : "[");
    }
    spell(md_bytes_view(&text), UINT32_MAX, &out, &error);
    assert_non_null(strstr(error.text, "too many nested levels"));
    size_t levels = 0;
    for (size_t i = 0; i < out.len; i++) {
        levels += out.data[i] == '[' || out.data[i] == '{';
    }
    assert_int_equal(levels, MD_JSON_DEPTH_LIMIT);
    spell(MD_STR("[]"), 0, &out, &error);
    assert_string_equal(out.data, "!");
    md_bytes_deinit(&text);
    md_bytes_deinit(&out);
}

static void test_json_skip(void **state)
{
    static const struct {
        const char *text;
        bool whole;
    } cases[] = {
        {"{\"a\":[1,{\"b\":[]},\"x\"],\"z\":1}", true},
        {"{\"a\":1,\"z\":1}", true},
        {"{\"a\":{},\"z\":1}", true},
        {"{\"a\":[1,2", false},
        {"{\"a\":[1 2],\"z\":1}", false},
        {"{\"a\":", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_arena arena = {0};
        struct md_json json;
        md_json_init(&json, md_str_of(cases[i].text), &arena, 8);
        assert_int_equal(md_json_next(&json), MD_JSON_OBJECT_BEGIN);
        assert_int_equal(md_json_next(&json), MD_JSON_KEY);
        assert_int_equal(md_json_skip(&json), cases[i].whole);
        if (cases[i].whole) {
            assert_int_equal(md_json_next(&json), MD_JSON_KEY);
            assert_true(md_str_eq_c(json.text, "z"));
            assert_true(md_json_skip(&json));
            assert_int_equal(md_json_next(&json), MD_JSON_OBJECT_END);
            assert_int_equal(md_json_next(&json), MD_JSON_END);
            assert_false(md_json_skip(&json));
        } else {
            assert_true(json.failed && json.error.text[0]);
        }
        md_arena_deinit(&arena);
    }
}

/* Nobody counts the arena's memory: what is skipped takes none, and is checked all the same. */
static void test_json_skip_takes_no_memory(void **state)
{
    static const struct {
        const char *text;
        bool ok;
    } cases[] = {
        {"[\"\\n\",{\"\\u00e4\":\"\\ud83d\\ude00 \\\\\"}]", true},
        {"\"a\\tb\\\"\"", true},
        {"[\"\\n\",\"\\x\"]", false},
        {"\"\\ud83d\"", false},
        {"\"\\u12", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_arena arena = {0};
        struct md_json json;
        md_json_init(&json, md_str_of(cases[i].text), &arena, 10);
        assert_int_equal(md_json_skip(&json), cases[i].ok);
        assert_null(arena.chunks);
        if (cases[i].ok) {
            assert_int_equal(md_json_next(&json), MD_JSON_END);
        }
        md_arena_deinit(&arena);
    }
}

static void test_json_skip_takes_a_name_with_its_value(void **state)
{
    struct md_arena arena = {0};
    struct md_json json;

    (void)state;
    md_json_init(&json, MD_STR("{\"a\":[{}],\"b\":2}"), &arena, 8);
    assert_int_equal(md_json_next(&json), MD_JSON_OBJECT_BEGIN);
    assert_true(md_json_skip(&json) && md_json_skip(&json));
    assert_int_equal(md_json_next(&json), MD_JSON_OBJECT_END);
    md_arena_deinit(&arena);
}

static void test_json_fail_keeps_the_first_error(void **state)
{
    struct md_arena arena = {0};
    struct md_json json;

    (void)state;
    md_json_init(&json, MD_STR("[1,2]"), &arena, 8);
    assert_int_equal(md_json_next(&json), MD_JSON_ARRAY_BEGIN);
    assert_false(md_json_fail(&json, "no %s please", "arrays"));
    assert_false(md_json_fail(&json, "second"));
    assert_non_null(strstr(json.error.text, "no arrays please at byte 1"));
    assert_int_equal(md_json_next(&json), MD_JSON_ERROR);
    md_arena_deinit(&arena);
}

static void test_json_views_are_into_the_document(void **state)
{
    static const char text[] = "[\"plain\",\"esc\\n\"]";
    struct md_arena arena = {0};
    struct md_json json;

    (void)state;
    md_json_init(&json, MD_STR(text), &arena, 8);
    assert_int_equal(md_json_next(&json), MD_JSON_ARRAY_BEGIN);
    assert_int_equal(md_json_next(&json), MD_JSON_STRING);
    assert_ptr_equal(json.text.ptr, text + 2);
    assert_int_equal(md_json_next(&json), MD_JSON_STRING);
    assert_true(json.text.ptr < text || json.text.ptr > text + sizeof text);
    md_arena_deinit(&arena);
}

static void test_json_out_of_memory_is_said(void **state)
{
    struct md_arena arena = {0};
    struct md_json json;

    (void)state;
    md_json_init(&json, MD_STR("\"\\n\""), &arena, 8);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_int_equal(md_json_next(&json), MD_JSON_ERROR);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(json.error.reason, MD_REASON_OUT_OF_MEMORY);
    assert_int_equal(md_json_next(&json), MD_JSON_ERROR);
    md_arena_deinit(&arena);
}

static void test_json_take_string(void **state)
{
    static const struct {
        const char *text, *expected;
        enum md_reason reason;
    } cases[] = {
        {"\"abc\",", "abc", MD_REASON_NONE},
        {"\"a\\u00e9\\n\"", "a\xc3\xa9\n", MD_REASON_NONE},
        {"\"\"", "", MD_REASON_NONE},
        {"\"abcdefghijk\"", NULL, MD_REASON_TOO_LARGE},
        {"\"a\\q\"", NULL, MD_REASON_MALFORMED},
        {"\"abc", NULL, MD_REASON_MALFORMED},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        struct md_bytes out = {.max = 12};
        struct md_json json;
        md_json_init(&json, md_str_of(cases[i].text), NULL, 8);
        bool taken = md_json_take_string(&json, 2, &out);
        assert_int_equal(taken, cases[i].expected != NULL);
        if (taken) {
            assert_true(md_str_eq_c(md_str_make(out.data + 2, out.len - 2), cases[i].expected));
            assert_true(json.at[-1] == '"');
        } else {
            assert_int_equal(json.error.reason, cases[i].reason);
            assert_true(json.failed);
        }
        md_bytes_deinit(&out);
    }
}

static void test_json_take_string_of_nothing_takes_no_memory(void **state)
{
    struct md_bytes out = {0};
    struct md_json json;

    (void)state;
    md_json_init(&json, MD_STR("\"\""), NULL, 8);
    assert_true(md_json_take_string(&json, 0, &out));
    assert_true(out.len == 0 && !out.data && json.at == json.end);
}

static void test_json_numbers_convert_exactly(void **state)
{
    int64_t i;
    uint64_t u;
    double d;

    (void)state;
    assert_true(md_json_to_i64(MD_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    assert_true(md_json_to_u64(MD_STR("18446744073709551615"), &u) && u == UINT64_MAX);
    assert_false(md_json_to_i64(MD_STR("9223372036854775808"), &i));
    assert_false(md_json_to_u64(MD_STR("18446744073709551616"), &u));
    assert_false(md_json_to_u64(MD_STR("-1"), &u));
    assert_false(md_json_to_i64(MD_STR("1.0"), &i));
    assert_false(md_json_to_i64(MD_STR("1e3"), &i));
    assert_true(md_json_to_f64(MD_STR("1e3"), &d) && d == 1000.0);
    assert_true(md_json_to_f64(MD_STR("-Infinity"), &d) && isinf(d));
    assert_true(md_json_to_f64(MD_STR("NaN"), &d) && isnan(d));
    assert_false(md_json_to_f64(MD_STR("1e309"), &d));
    assert_false(md_json_to_f64(MD_STR("1e3x"), &d));
    assert_false(md_json_to_f64(MD_STR(""), &d));
}

static void test_json_prints_strings(void **state)
{
    static const struct {
        struct md_str text;
        const char *expected;
    } cases[] = {
        {{"", 0}, "\"\""},
        {{"plain text, more than eight", 27}, "\"plain text, more than eight\""},
        {{"a\"b\\c/d", 7}, "\"a\\\"b\\\\c/d\""},
        {{"\n\t\x01\x1f\0", 5}, "\"\\n\\t\\u0001\\u001F\\u0000\""},
        {{"\b\f\r", 3}, "\"\\b\\f\\r\""},
        {{"12345678\"", 9}, "\"12345678\\\"\""},
        {{"\xc3\xa9\xf0\x9f\x98\x80", 6}, "\"\xc3\xa9\xf0\x9f\x98\x80\""},
        {{"a\xff\xc3", 3}, "\"a\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\xed\xa0\x80", 3}, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {{"\x7f", 1}, "\"\x7f\""},
    };
    struct md_bytes out = {0};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        md_bytes_clear(&out);
        md_json_append_string(&out, cases[i].text);
        if (!md_str_eq_c(md_bytes_view(&out), cases[i].expected)) {
            fail_msg("%.*s, expected %s", MD_STR_ARG(md_bytes_view(&out)), cases[i].expected);
        }
    }
    md_bytes_deinit(&out);
}

static void test_json_prints_numbers(void **state)
{
    struct md_bytes out = {0};

    (void)state;
    md_json_append_f64(&out, 1.0);
    md_bytes_append_char(&out, ' ');
    md_json_append_f64(&out, -1e-300);
    md_bytes_append_char(&out, ' ');
    md_json_append_f64(&out, (double)NAN);
    assert_true(md_str_eq_c(md_bytes_view(&out), "1.0 -1e-300 NaN"));
    md_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_tokens),
        cmocka_unit_test(test_json_errors),
        cmocka_unit_test(test_json_a_zero_byte_is_an_error),
        cmocka_unit_test(test_json_every_cut_of_a_document_is_an_error),
        cmocka_unit_test(test_json_depth_is_capped),
        cmocka_unit_test(test_json_skip),
        cmocka_unit_test(test_json_skip_takes_no_memory),
        cmocka_unit_test(test_json_skip_takes_a_name_with_its_value),
        cmocka_unit_test(test_json_fail_keeps_the_first_error),
        cmocka_unit_test(test_json_views_are_into_the_document),
        cmocka_unit_test(test_json_out_of_memory_is_said),
        cmocka_unit_test(test_json_take_string),
        cmocka_unit_test(test_json_take_string_of_nothing_takes_no_memory),
        cmocka_unit_test(test_json_numbers_convert_exactly),
        cmocka_unit_test(test_json_prints_strings),
        cmocka_unit_test(test_json_prints_numbers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
