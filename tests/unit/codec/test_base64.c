/*
 * codec/base64.h: the vectors of RFC 4648 and what must be refused.
 */
#include "base/fault.h"
#include "codec/base64.h"

#include <stdarg.h>

#include <setjmp.h>
#include <cmocka.h>

static void test_base64_vectors(void **state)
{
    static const struct {
        const char *data, *text;
    } vectors[] = {
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xfb\xff\xbf\xfe", "+/+//g=="},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(vectors); i++) {
        struct md_bytes out = {0};
        struct md_error err;
        md_base64_encode(md_str_of(vectors[i].data), &out);
        assert_true(md_str_eq_c(md_bytes_view(&out), vectors[i].text));
        md_bytes_clear(&out);
        assert_true(md_base64_decode(md_str_of(vectors[i].text), &out, &err));
        assert_true(md_str_eq_c(md_bytes_view(&out), vectors[i].data));
        md_bytes_deinit(&out);
    }
}

static void test_base64_every_byte_comes_back(void **state)
{
    unsigned char data[768];
    struct md_bytes text = {0}, back = {0};
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (unsigned char)(i * 7 + i / 256);
    }
    md_base64_encode(md_str_make((const char *)data, sizeof data), &text);
    assert_true(md_base64_decode(md_bytes_view(&text), &back, &err));
    assert_int_equal(back.len, sizeof data);
    assert_memory_equal(back.data, data, sizeof data);
    md_bytes_deinit(&text);
    md_bytes_deinit(&back);
}

static void test_base64_refusals(void **state)
{
    static const char *const texts[] = {
        "Z",    "Zg",   "Zg=",      "Zm9vYg",     "Z===",      "====", "Zg==Zg==", "Zm=v",
        "Zh==", "Zm9=", "Zm9vZ!==", "Zm9v\nYg==", "Zm9vYg=\n", "Zm-_", " Zg=",     "Zm8=Zm8="};

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(texts); i++) {
        struct md_bytes out = {0};
        struct md_error err;
        if (md_base64_decode(md_str_of(texts[i]), &out, &err)) {
            fail_msg("'%s' was decoded", texts[i]);
        }
        assert_int_equal(err.reason, MD_REASON_MALFORMED);
        md_bytes_deinit(&out);
    }
}

static void test_base64_memory(void **state)
{
    struct md_bytes out = {.max = 5};
    struct md_error err;

    (void)state;
    assert_false(md_base64_decode(MD_STR("Zm9vYmFy"), &out, &err));
    assert_int_equal(err.reason, MD_REASON_TOO_LARGE);
    out = (struct md_bytes){0};
    md_fault_arm(MD_FAULT_ALLOC, 0);
    assert_false(md_base64_decode(MD_STR("Zm9v"), &out, &err));
    assert_true(md_fault_disarm(MD_FAULT_ALLOC));
    assert_int_equal(err.reason, MD_REASON_OUT_OF_MEMORY);
    md_bytes_clear(&out);
    md_fault_arm(MD_FAULT_ALLOC, 0);
    md_base64_encode(MD_STR("foo"), &out);
    assert_true(md_fault_disarm(MD_FAULT_ALLOC) && out.failed);
    md_bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base64_vectors),
        cmocka_unit_test(test_base64_every_byte_comes_back),
        cmocka_unit_test(test_base64_refusals),
        cmocka_unit_test(test_base64_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
