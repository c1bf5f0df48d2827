/*
 * codec/utf8.h: the edges of each row of the table of well-formed sequences.
 */
#include "codec/utf8.h"

#include <stdarg.h>
#include <stdlib.h>

#include <setjmp.h>
#include <cmocka.h>

static const struct {
    const char *text;
    size_t width;
} cases[] = {
    {"", 0},
    {"a", 1},
    {"\x7f", 1},
    {"\x80", 0},
    {"\xbf", 0},
    {"\xc0\x80", 0},
    {"\xc1\xbf", 0},
    {"\xc2\x80", 2},
    {"\xdf\xbf", 2},
    {"\xc2", 0},
    {"\xc2\x7f", 0},
    {"\xc2\xc0", 0},
    {"\xe0\x9f\xbf", 0},
    {"\xe0\xa0\x80", 3},
    {"\xe1\x80\x80", 3},
    {"\xec\xbf\xbf", 3},
    {"\xed\x9f\xbf", 3},
    {"\xed\xa0\x80", 0},
    {"\xee\x80\x80", 3},
    {"\xef\xbf\xbf", 3},
    {"\xe1\x80", 0},
    {"\xe1\x80\x7f", 0},
    {"\xf0\x8f\xbf\xbf", 0},
    {"\xf0\x90\x80\x80", 4},
    {"\xf1\x80\x80\x80", 4},
    {"\xf3\xbf\xbf\xbf", 4},
    {"\xf4\x8f\xbf\xbf", 4},
    {"\xf4\x90\x80\x80", 0},
    {"\xf5\x80\x80\x80", 0},
    {"\xf1\x80\x80", 0},
    {"\xf1\x80\x80\x7f", 0},
    {"\xf1\x80\x7f\x80", 0},
    {"\xff", 0},
};

static void test_utf8_width(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        size_t len = strlen(cases[i].text);
        char *copy = malloc(len + 1);
        assert_non_null(copy);
        memcpy(copy, cases[i].text, len);
        if (md_utf8_width(md_str_make(copy, len)) != cases[i].width) {
            fail_msg("case %zu", i);
        }
        free(copy);
    }
}

static void test_utf8_validity_of_texts(void **state)
{
    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(cases); i++) {
        char text[16] = "before";
        strcat(text, cases[i].text);
        strcat(text, "x");
        bool valid = cases[i].width == strlen(cases[i].text);
        assert_int_equal(md_utf8_is_valid(md_str_of(text)), valid);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_width),
        cmocka_unit_test(test_utf8_validity_of_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
