/*
 * os/poll: which events are reported when.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "os/poll.h"

struct fixture {
    int poller;
    int pair[2];
};

static int set_up(void **state)
{
    static struct fixture fixture;
    struct md_error err;

    *state = &fixture;
    return md_os_poll_create(&fixture.poller, &err) &&
                   socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fixture.pair) == 0
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;

    md_os_close(fixture->pair[0]);
    md_os_close(fixture->pair[1]);
    md_os_close(fixture->poller);
    return 0;
}

static uint32_t look(struct fixture *fixture)
{
    struct md_os_event event;
    int n = md_os_poll_wait(fixture->poller, &event, 1, 0);

    assert_true(n == 0 || event.owner == fixture);
    return n ? event.events : 0;
}

static void add(struct fixture *fixture, uint32_t events)
{
    struct md_error err;

    assert_true(md_os_poll_add(fixture->poller, fixture->pair[0], fixture, events, &err));
}

static void test_poll_reports_what_is_asked_for(void **state)
{
    struct fixture *fixture = *state;

    add(fixture, MD_OS_POLL_READ);
    assert_int_equal(look(fixture), 0);
    md_os_poll_set(fixture->poller, fixture->pair[0], fixture, MD_OS_POLL_READ | MD_OS_POLL_WRITE);
    assert_int_equal(look(fixture), MD_OS_POLL_WRITE);
    assert_int_equal(write(fixture->pair[1], "x", 1), 1);
    assert_int_equal(look(fixture), MD_OS_POLL_READ | MD_OS_POLL_WRITE);
    md_os_poll_set(fixture->poller, fixture->pair[0], fixture, MD_OS_POLL_READ);
    assert_int_equal(look(fixture), MD_OS_POLL_READ);
    assert_int_equal(look(fixture), MD_OS_POLL_READ);
    md_os_poll_set(fixture->poller, fixture->pair[0], fixture, 0);
    assert_int_equal(look(fixture), 0);
    md_os_poll_remove(fixture->poller, fixture->pair[0]);
    assert_int_equal(look(fixture), 0);
}

static void test_poll_half_close_is_reported_once_to_the_uninterested(void **state)
{
    struct fixture *fixture = *state;

    add(fixture, 0);
    assert_int_equal(shutdown(fixture->pair[1], SHUT_WR), 0);
    assert_int_equal(look(fixture), MD_OS_POLL_READ | MD_OS_POLL_HANGUP);
    assert_int_equal(look(fixture), 0);
    md_os_poll_set(fixture->poller, fixture->pair[0], fixture, MD_OS_POLL_READ);
    assert_int_equal(look(fixture), MD_OS_POLL_READ | MD_OS_POLL_HANGUP);
}

/* Else a client that half-closes and reads slowly would make the loop spin. */
static void test_poll_half_close_does_not_disturb_a_writer(void **state)
{
    static const char block[65536];
    struct fixture *fixture = *state;

    while (write(fixture->pair[0], block, sizeof block) > 0) {}
    add(fixture, MD_OS_POLL_WRITE);
    assert_int_equal(shutdown(fixture->pair[1], SHUT_WR), 0);
    assert_int_equal(look(fixture), 0);
    md_os_close(fixture->pair[1]);
    fixture->pair[1] = -1;
    assert_int_equal(look(fixture), MD_OS_POLL_READ | MD_OS_POLL_WRITE | MD_OS_POLL_HANGUP);
}

static void test_poll_wakeup_is_reported_once_a_signal(void **state)
{
    struct fixture *fixture = *state;
    struct md_error err;
    int wakeup;

    assert_true(md_os_wakeup_create(fixture->poller, fixture, &wakeup, &err));
    assert_int_equal(look(fixture), 0);
    for (int i = 0; i < 3; i++) {
        md_os_wakeup_signal(wakeup);
        assert_int_equal(look(fixture), MD_OS_POLL_READ);
        assert_int_equal(look(fixture), 0);
    }
    md_os_wakeup_signal(wakeup);
    md_os_wakeup_signal(wakeup);
    assert_int_equal(look(fixture), MD_OS_POLL_READ);
    assert_int_equal(look(fixture), 0);
    md_os_close(wakeup);
}

static void test_poll_failures(void **state)
{
    struct fixture *fixture = *state;
    struct md_error err;
    struct md_os_event event;
    int fd;

    assert_false(md_os_poll_add(fixture->poller, -1, fixture, MD_OS_POLL_READ, &err));
    assert_int_equal(err.reason, MD_REASON_IO);
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_false(md_os_poll_create(&fd, &err));
    md_fault_arm(MD_FAULT_SYSCALL, 0);
    assert_int_equal(md_os_poll_wait(fixture->poller, &event, 1, -1), 0);
    for (long n = 0; n < 2; n++) {
        md_fault_arm(MD_FAULT_SYSCALL, n);
        assert_false(md_os_wakeup_create(fixture->poller, fixture, &fd, &err));
        md_os_close(fd);
    }
    assert_true(md_fault_disarm(MD_FAULT_SYSCALL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_poll_reports_what_is_asked_for, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_poll_half_close_is_reported_once_to_the_uninterested,
                                        set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_poll_half_close_does_not_disturb_a_writer, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_poll_wakeup_is_reported_once_a_signal, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(test_poll_failures, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
