/*
 * api/access/management: who may change the server, by the peer's address and what a browser says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/access/management.h"

static const char *header_name, *header_value;

struct md_str md_exchange_header(const struct md_exchange *x, const char *name)
{
    (void)x;
    bool is_there = header_name && strcmp(name, header_name) == 0;

    return is_there ? md_str_of(header_value) : (struct md_str){NULL, 0};
}

static bool allows(const char *management, const char *peer)
{
    const struct md_options options = {.management = management};
    const struct md_exchange x = {.peer = peer};
    struct md_error err;
    bool allowed = md_management_allows(&options, &x, &err);

    assert_true(allowed || err.reason == MD_REASON_RESTRICTED);
    return allowed;
}

static void test_management_tells_this_machine_from_others(void **state)
{
    static const struct {
        const char *peer;
        bool is_local;
    } rows[] = {
        {"127.0.0.1:4711", true},
        {"127.9.8.7:1", true},
        {"[::1]:4711", true},
        {"[::ffff:127.0.0.1]:5", true},
        {"unix:", true},
        {"10.0.0.1:4711", false},
        {"1.127.0.0:1", false},
        {"[::2]:1", false},
        {"[::1:2]:1", false},
        {"[fe80::1]:1", false},
        {"[::ffff:10.0.0.1]:1", false},
        {"", false},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %s\n", rows[i].peer);
        assert_int_equal(allows("local", rows[i].peer), rows[i].is_local);
        assert_true(allows("open", rows[i].peer));
    }
}

static void test_management_refuses_pages_of_a_browser(void **state)
{
    static const struct {
        const char *name, *value;
        bool allowed;
    } rows[] = {
        {"Origin", "http://example.org", false}, {"Origin", "null", false},
        {"Sec-Fetch-Site", "cross-site", false}, {"Sec-Fetch-Site", "same-origin", false},
        {"Sec-Fetch-Site", "none", true},        {"User-Agent", "curl", true},
    };

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        header_name = rows[i].name;
        header_value = rows[i].value;
        assert_int_equal(allows("local", "127.0.0.1:1"), rows[i].allowed);
        assert_true(allows("open", "127.0.0.1:1"));
    }
    header_name = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_management_tells_this_machine_from_others),
        cmocka_unit_test(test_management_refuses_pages_of_a_browser),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
