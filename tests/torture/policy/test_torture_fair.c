/*
 * policy/fair with every allocation failing, once or from one on: a share without room is refused,
 * and the others go on as if it had not come.
 */
#include "torture/torture.h"

#include "policy/fair.h"

enum { SHARES = 150, MS = 1000000 };

static void test_torture_fair(void **state)
{
    (void)state;
    for (struct torture t = {.kind = MD_FAULT_ALLOC}; torture_next(&t);) {
        static struct md_fair_share shares[SHARES];
        struct md_fair fair = {0};
        size_t joined = 0, refused = 0;

        torture_arm(&t);
        for (size_t i = 0; i < SHARES; i++) {
            shares[i] = (struct md_fair_share){.weight = 1, .band = (uint32_t)i % MD_FAIR_BANDS};
            if (!md_fair_reserve(&fair)) {
                refused++;
                continue;
            }
            joined++;
            md_fair_join(&fair, &shares[i]);
            struct md_fair_share *next = md_fair_next(&fair);
            torture_check(&t, next);
            md_fair_charge(&fair, next, MS);
        }
        bool delivered = torture_disarm(&t);
        torture_check(&t, delivered == (refused > 0));
        for (size_t i = 0; i < SHARES; i++) {
            if (shares[i].position) {
                md_fair_unreserve(&fair, &shares[i]);
                joined--;
            }
        }
        torture_check(&t, joined == 0 && fair.reserved == 0 && !md_fair_next(&fair));
        md_fair_deinit(&fair);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_torture_fair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
