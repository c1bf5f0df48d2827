/*
 * Files in a test's own temporary folder, which the test makes of the template with mkdtemp.
 */
#ifndef TESTS_TORTURE_FOLDER_H
#define TESTS_TORTURE_FOLDER_H

#include "torture/torture.h"

#include <stdio.h>

static char folder[] = "/tmp/modeld-torture-XXXXXX";

/* The name's path, until the next call. */
static const char *in_folder(const char *name)
{
    static char path[128];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put(const char *name, const char *text)
{
    FILE *file = fopen(in_folder(name), "w");

    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
}

#endif
