#pragma once
/* The log on a pipe, for the tests of lines. */
#include "engine/log.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <unistd.h>

static int pipe_fds[2];

static inline void setup(void) {
    cr_assert_eq(pipe(pipe_fds), 0);
    log_init("leat", LOG_LEVEL_INFO, pipe_fds[1]);
}

static inline void teardown(void) {
    log_set_fd(STDERR_FILENO);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* What one read(2) brings after a marker was written, so that nothing logged reads as just the marker. */
static inline const char *logged(char *out, size_t cap) {
    cr_assert_eq(write(pipe_fds[1], "$", 1), 1);
    ssize_t n = read(pipe_fds[0], out, cap - 1);
    cr_assert_gt(n, 0);
    cr_assert_eq(out[n - 1], '$');
    out[n - 1] = '\0';
    return out;
}

enum { THREADS = 4, LINES = 300 };

static inline void *write_lines(void *arg) {
    for (unsigned i = 0; i < LINES; i++)
        log_info("thread %c says %0100d", *(const char *)arg, 7);
    return NULL;
}
