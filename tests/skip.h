#pragma once
/* For a test that finds out late that it cannot be run here: Criterion calls no .fini after a skip. */
#include <criterion/criterion.h>

/* Evaluates clean_up, which undoes what the test has begun, and skips the test; the rest is printf(3)'s. */
#define skip_after(clean_up, ...)                                                                                      \
    do {                                                                                                               \
        (void)(clean_up);                                                                                              \
        cr_skip_test(__VA_ARGS__);                                                                                     \
    } while (0)
