/*
 * Torture: a scenario is run again and again, each time with a later call failing, until a run
 * gets through without meeting the fault.
 *
 *      for (struct torture t = {.kind = MD_FAULT_ALLOC}; torture_next(&t);) {
 *          ... make things ready ...
 *          torture_arm(&t);
 *          ... work ...
 *          bool delivered = torture_disarm(&t);
 *          ... judge: without a delivered fault all must be well ...
 *      }
 *
 * The fault strikes once in the first round and lasts in the second. Of the calls beyond the first
 * `every`, only some are taken, fewer and fewer; MODELD_TORTURE=full takes all.
 */
#ifndef TESTS_TORTURE_TORTURE_H
#define TESTS_TORTURE_TORTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/fault.h"

#include <stdlib.h>
#include <string.h>

enum { TORTURE_EVERY = 100, TORTURE_CALLS_MAX = 1000000 };

struct torture {
    enum md_fault_kind kind;
    long every;   /* 0: TORTURE_EVERY; less for what takes long */
    bool lasting; /* second round */
    bool begun, delivered;
    long at; /* the call that fails */
};

static inline const char *torture_kind_name(enum md_fault_kind kind)
{
    static const char *const names[] = {"allocation", "system call", "arena or pool request"};

    return names[kind];
}

static inline long torture_step(const struct torture *t)
{
    const char *how = getenv("MODELD_TORTURE");
    long every = t->every ? t->every : TORTURE_EVERY;

    return t->at < every || (how && strcmp(how, "full") == 0) ? 1 : 4 * t->at / every;
}

static inline bool torture_next(struct torture *t)
{
    if (!t->begun) {
        t->begun = true;
    } else if (t->delivered) {
        t->at += torture_step(t);
        assert_true(t->at < TORTURE_CALLS_MAX);
    } else if (!t->lasting) {
        assert_true(t->at > 0); /* a scenario that meets no fault at all proves nothing */
        t->lasting = true;
        t->at = 0;
    } else {
        return false;
    }
    return true;
}

static inline void torture_arm(const struct torture *t)
{
    if (t->lasting) {
        md_fault_arm_lasting(t->kind, t->at);
    } else {
        md_fault_arm(t->kind, t->at);
    }
}

static inline bool torture_disarm(struct torture *t)
{
    t->delivered = md_fault_disarm(t->kind);
    return t->delivered;
}

/* assert_true that says which call failed. */
#define torture_check(t, condition)                                                             \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fail_msg("%s: %s %ld failing%s", #condition, torture_kind_name((t)->kind), (t)->at, \
                     (t)->lasting ? " and all after it" : "");                                  \
        }                                                                                       \
    } while (0)

#endif
