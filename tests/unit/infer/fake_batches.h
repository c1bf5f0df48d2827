/*
 * One target of fake_rows.h on a device with two executors, and requests for it.
 */
#ifndef TESTS_UNIT_INFER_FAKE_BATCHES_H
#define TESTS_UNIT_INFER_FAKE_BATCHES_H

#include "unit/infer/fake_rows.h"

enum { MANY = 64 };

static struct fake_target one;
static struct row_call calls[MANY];

static inline void open_world(struct rows_mode mode, size_t instances, uint32_t max_rows)
{
    world_open(2, 0);
    rows_reset(mode);
    rows_init(&one, instances, max_rows);
}

static inline void close_world(void)
{
    rows_remove(&one);
    world_close();
}

/* The instance is busy with a request of its own, so that what comes then waits. */
static inline void occupy(struct row_call *call)
{
    unsigned before = rows_count();

    row_submit(call, &one, 1, 1000);
    wait_until(rows_count() == before + 1);
}

#endif
