/*
 * config/api_restriction: reading restrictions of groups.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/api_restriction.h"

#include <stdio.h>

static bool read_one(const char *text, struct md_api_restriction out[MD_API_GROUP_COUNT],
                     struct md_error *err)
{
    const struct md_string_list list = {.items = &text, .count = 1};

    memset(out, 0, MD_API_GROUP_COUNT * sizeof *out);
    return md_api_restrictions_read(&list, out, err);
}

static void test_api_restriction_reads_groups_key_and_value(void **state)
{
    static const struct {
        const char *text;
        unsigned groups; /* a bit each */
        const char *key, *value;
    } rows[] = {
        {"health:k=v", 1U << MD_API_HEALTH, "k", "v"},
        {"shared-memory,model-config:admin-key=v",
         1U << MD_API_SHARED_MEMORY | 1U << MD_API_MODEL_CONFIG, "admin-key", "v"},
        {"metadata, inference,statistics : key = a=b:c ",
         1U << MD_API_METADATA | 1U << MD_API_INFERENCE | 1U << MD_API_STATISTICS, "key", "a=b:c"},
        {"model-repository,trace,logging:k=v",
         1U << MD_API_MODEL_REPOSITORY | 1U << MD_API_TRACE | 1U << MD_API_LOGGING, "k", "v"},
    };
    struct md_api_restriction out[MD_API_GROUP_COUNT];
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %s\n", rows[i].text);
        assert_true(read_one(rows[i].text, out, &err));
        for (unsigned group = 0; group < MD_API_GROUP_COUNT; group++) {
            const bool restricted = rows[i].groups >> group & 1;
            assert_true(md_str_eq_c(out[group].key, restricted ? rows[i].key : ""));
            assert_true(md_str_eq_c(out[group].value, restricted ? rows[i].value : ""));
        }
    }
}

static void test_api_restriction_says_what_is_wrong_without_the_secret(void **state)
{
    static const struct {
        const char *text, *says;
    } rows[] = {
        {"", "must be GROUP"},
        {"health", "must be GROUP"},
        {"health:", "must be GROUP"},
        {":key=hush", "must be GROUP"},
        {"health:key", "must be GROUP"},
        {"health:key=", "must be GROUP"},
        {"health:=hush", "must be GROUP"},
        {"health:a key=hush", "must be GROUP"},
        {"health:k\xc3\xa4y=hush", "must be GROUP"},
        {"helth:key=hush", "unknown group 'helth', did you mean 'health'?"},
        {"shared_memory:key=hush", "did you mean 'shared-memory'?"},
        {"health,,trace:key=hush", "unknown group ''"},
        {"health,trace,health:key=hush", "the group 'health' twice"},
    };
    struct md_api_restriction out[MD_API_GROUP_COUNT];
    struct md_error err;

    (void)state;
    for (size_t i = 0; i < MD_COUNT_OF(rows); i++) {
        print_message("[  row   ] %s\n", rows[i].text);
        assert_false(read_one(rows[i].text, out, &err));
        assert_int_equal(err.reason, MD_REASON_INVALID_ARGUMENT);
        assert_non_null(strstr(err.text, rows[i].says));
        assert_null(strstr(err.text, "hush"));
    }
}

static void test_api_restriction_names_every_group(void **state)
{
    struct md_api_restriction out[MD_API_GROUP_COUNT];
    struct md_error err;

    (void)state;
    for (unsigned group = 0; group < MD_API_GROUP_COUNT; group++) {
        char text[64];
        (void)snprintf(text, sizeof text, "%s:k=v", md_api_group_name((enum md_api_group)group));
        assert_true(read_one(text, out, &err));
        assert_true(md_str_eq_c(out[group].key, "k"));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_api_restriction_reads_groups_key_and_value),
        cmocka_unit_test(test_api_restriction_says_what_is_wrong_without_the_secret),
        cmocka_unit_test(test_api_restriction_names_every_group),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
