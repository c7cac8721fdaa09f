/* The log's thread: nobody waits for who reads the log, order is kept, what is lost is told. */
#include "engine/limits.h"
#include "log_pipe.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

TestSuite(log_thread, .init = setup, .fini = teardown, .timeout = 60);

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* So that no write to the pipe can go on before somebody reads. */
static void fill_pipe(void) {
    static char page[4096];
    memset(page, '.', sizeof page - 1);
    page[sizeof page - 1] = '\n';
    fcntl(pipe_fds[1], F_SETFL, O_NONBLOCK);
    while (write(pipe_fds[1], page, sizeof page) > 0)
        ;
    fcntl(pipe_fds[1], F_SETFL, 0);
}

/* Lines of the pipe without what filled it. */
static char *next_line(FILE *in, char *line, int cap) {
    do {
        if (fgets(line, cap, in) == NULL)
            return NULL;
    } while (line[0] == '.');
    return line;
}

static void start_thread(void) {
    int err = log_start_thread();
    cr_assert_eq(err, 0);
}

/* The bug this is for: a stderr that nobody reads stopped the thread that logged, and with it every connection on it.
 * Without the queue this never returns. */
Test(log_thread, a_full_pipe_holds_nobody_up) {
    char line[256];
    start_thread();
    fill_pipe();
    double started = seconds();
    log_info("first");
    log_error("second");
    log_plain(LOG_LEVEL_INFO, "third");
    cr_expect_lt(seconds() - started, 1.0);
    FILE *in = fdopen(dup(pipe_fds[0]), "r");
    cr_expect_str_eq(next_line(in, line, sizeof line), "leat: first\n");
    cr_expect_str_eq(next_line(in, line, sizeof line), "leat: second\n");
    cr_expect_str_eq(next_line(in, line, sizeof line), "third\n");
    log_stop_thread();
    fclose(in);
}

Test(log_thread, stop_writes_what_waits_and_lines_go_on) {
    char out[256];
    for (unsigned round = 0; round < 3; round++) {
        start_thread();
        log_info("one");
        log_info("two");
        log_stop_thread();
        log_info("three");
        cr_expect_str_eq(logged(out, sizeof out), "leat: one\nleat: two\nleat: three\n");
        log_stop_thread();
    }
}

Test(log_thread, a_stuck_pipe_does_not_hold_up_the_end) {
    start_thread();
    fill_pipe();
    log_info("never read");
    double started = seconds();
    log_stop_thread();
    cr_expect_geq(seconds() - started, 0.9);
    cr_expect_lt(seconds() - started, 5.0);
    started = seconds();
    log_info("not written either");
    log_fatal("nor this");
    cr_expect_lt(seconds() - started, 1.0);
    char page[4096];
    for (unsigned i = 0; i < 17; i++) /* the thread's own write, then room */
        cr_assert_eq(read(pipe_fds[0], page, sizeof page), (ssize_t)sizeof page - (i == 16 ? 4096 - 17 : 0));
    cr_expect_eq(memcmp(page, "leat: never read\n", 17), 0);
    char out[256];
    log_info("there is room again");
    cr_expect_str_eq(logged(out, sizeof out), "leat: there is room again\n");
}

Test(log_thread, fatal_waits_for_a_reader_but_a_second_at_most) {
    char out[256];
    start_thread();
    log_info("before");
    log_fatal("the end");
    cr_expect_str_eq(logged(out, sizeof out), "leat: before\nleat: the end\n", "out before log_fatal returns");
    fill_pipe();
    double started = seconds();
    log_fatal("stuck");
    cr_expect(seconds() - started >= 0.9 && seconds() - started < 5.0);
    char line[256];
    FILE *in = fdopen(dup(pipe_fds[0]), "r");
    cr_expect_str_eq(next_line(in, line, sizeof line), "leat: stuck\n");
    log_stop_thread();
    fclose(in);
}

/* Twice as much as fits: what comes out is in order, the count of what is missing stands in its place, and the sum is
 * right. */
Test(log_thread, what_does_not_fit_is_counted) {
    enum { TEXT = 1000, SENT = 2 * LIMIT_LOG_QUEUE_BYTES / TEXT };
    static char line[2048];
    start_thread();
    fill_pipe();
    for (unsigned i = 0; i < SENT; i++)
        log_info("%07u %0*d", i, TEXT - 8, 7);
    FILE *in = fdopen(dup(pipe_fds[0]), "r");
    unsigned next = 0, lost, told = 0;
    while (next < SENT && next_line(in, line, sizeof line) != NULL) {
        if (sscanf(line, "leat: %u log lines lost", &lost) == 1 && strstr(line, "lost") != NULL) {
            next += lost;
            told++;
            continue;
        }
        cr_assert_eq((unsigned)strtoul(line + strlen("leat: "), NULL, 10), next, "%.40s, not %u", line, next);
        next++;
    }
    cr_expect_eq(next, SENT);
    cr_expect_geq(told, 1);
    log_info("after");
    cr_expect_str_eq(next_line(in, line, sizeof line), "leat: after\n");
    log_stop_thread();
    fclose(in);
}

Test(log_thread, each_thread_s_lines_keep_their_order) {
    pthread_t threads[THREADS];
    static char names[THREADS] = {'a', 'b', 'c', 'd'};
    char line[512];
    start_thread();
    for (unsigned i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, &names[i]), 0);
    unsigned lines[THREADS] = {0};
    FILE *in = fdopen(dup(pipe_fds[0]), "r");
    for (unsigned i = 0; i < THREADS * LINES; i++) {
        cr_assert_not_null(fgets(line, sizeof line, in));
        cr_assert_eq(strlen(line), strlen("leat: thread a says \n") + 100);
        lines[line[strlen("leat: thread ")] - 'a']++;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_expect_eq(lines[i], LINES);
    }
    log_stop_thread();
    fclose(in);
}

/* A stderr that somebody else has made non-blocking still gets every line once it is read. */
Test(log_thread, a_non_blocking_descriptor_is_waited_for) {
    char line[256];
    start_thread();
    fill_pipe();
    fcntl(pipe_fds[1], F_SETFL, O_NONBLOCK);
    log_info("patience");
    FILE *in = fdopen(dup(pipe_fds[0]), "r");
    cr_expect_str_eq(next_line(in, line, sizeof line), "leat: patience\n");
    cr_expect(fcntl(pipe_fds[1], F_GETFL) & O_NONBLOCK, "the flags are not ours to change");
    log_stop_thread();
    fclose(in);
}

Test(log_thread, another_descriptor_gets_only_what_comes_later) {
    int other[2];
    char out[256];
    cr_assert_eq(pipe(other), 0);
    start_thread();
    log_info("to the first");
    log_set_fd(other[1]);
    log_info("to the second");
    log_flush();
    cr_expect_str_eq(logged(out, sizeof out), "leat: to the first\n");
    ssize_t n = read(other[0], out, sizeof out);
    cr_expect(n > 0 && memcmp(out, "leat: to the second\n", (size_t)n) == 0);
    log_stop_thread();
    log_set_fd(pipe_fds[1]);
    close(other[0]);
    close(other[1]);
}

static volatile sig_atomic_t signals;
static void on_signal(int number) {
    (void)number;
    signals++;
}

Test(log_thread, takes_no_signals) {
    sigset_t usr1, before;
    struct timespec none = {0};
    start_thread();
    signal(SIGUSR1, on_signal);
    sigemptyset(&usr1);
    sigaddset(&usr1, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &usr1, &before);
    kill(getpid(), SIGUSR1);
    log_info("wakes it");
    log_flush();
    cr_expect_eq(signals, 0);
    cr_expect_eq(sigtimedwait(&usr1, NULL, &none), SIGUSR1);
    log_stop_thread();
}
