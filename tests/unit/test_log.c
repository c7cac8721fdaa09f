#include "engine/error.h"
#include "log_pipe.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>

TestSuite(log, .init = setup, .fini = teardown);

Test(log, a_line_has_prefix_and_newline) {
    char out[256];
    log_info("port %d %s", 22, "open");
    cr_assert_str_eq(logged(out, sizeof out), "leat: port 22 open\n");
    log_init("leatd", LOG_LEVEL_INFO, pipe_fds[1]);
    log_info("%s", "");
    cr_assert_str_eq(logged(out, sizeof out), "leatd: \n");
}

Test(log, level_decides_what_is_written) {
    char out[256];
    log_verbose("no");
    cr_assert_str_eq(logged(out, sizeof out), "");
    cr_assert(log_wants(LOG_LEVEL_ERROR) && log_wants(LOG_LEVEL_INFO) && !log_wants(LOG_LEVEL_VERBOSE));
    log_set_level(LOG_LEVEL_DEBUG1);
    log_debug("yes");
    log_line(LOG_LEVEL_DEBUG2, "no");
    cr_assert_str_eq(logged(out, sizeof out), "leat: yes\n");
    log_set_level(LOG_LEVEL_QUIET);
    log_fatal("no");
    log_line(LOG_LEVEL_QUIET, "no");
    cr_assert_str_eq(logged(out, sizeof out), "");
}

static void *say_hushed(void *arg) {
    (void)arg;
    log_hush_thread();
    log_error("unheard");
    log_plain(LOG_LEVEL_INFO, "unheard");
    log_fatal("heard");
    return NULL;
}

Test(log, a_hushed_thread_is_heard_at_verbose_only) {
    char out[256];
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, say_hushed, NULL), 0);
    pthread_join(thread, NULL);
    cr_assert_str_eq(logged(out, sizeof out), "leat: heard\n");
    log_info("others are heard");
    cr_assert_str_eq(logged(out, sizeof out), "leat: others are heard\n");
    log_set_level(LOG_LEVEL_VERBOSE);
    cr_assert_eq(pthread_create(&thread, NULL, say_hushed, NULL), 0);
    pthread_join(thread, NULL);
    cr_assert_str_eq(logged(out, sizeof out), "leat: unheard\nunheard\nleat: heard\n");
}

Test(log, errno_is_kept) {
    log_set_fd(-1);
    errno = ENOTTY;
    log_error("to nowhere");
    cr_assert_eq(errno, ENOTTY);
}

Test(log, a_long_line_is_cut_and_still_one_line) {
    static char text[9000], out[9000];
    memset(text, 'x', sizeof text - 1);
    log_info("%s", text);
    logged(out, sizeof out);
    size_t len = strlen(out);
    cr_assert_eq(len, 4096);
    cr_assert_str_eq(out + len - 5, "x...\n");
    cr_assert_eq(strchr(out, '\n'), out + len - 1);
}

/* A full disk, and room again. */
Test(log, lines_that_are_lost_are_told) {
    char path[] = "/tmp/test_log-XXXXXX", out[256] = "";
    int fd = mkostemp(path, O_APPEND);
    cr_assert_geq(fd, 0);
    unlink(path);
    struct rlimit limit, full;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    full = limit;
    full.rlim_cur = 20;
    signal(SIGXFSZ, SIG_IGN);
    log_set_fd(fd);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &full), 0);
    log_info("first");
    log_info("second");
    log_info("third");
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    log_info("fourth");
    log_info("fifth");
    cr_assert_gt(pread(fd, out, sizeof out - 1, 0), 0);
    cr_assert_str_eq(out, "leat: first\nleat: se\nleat: 2 log lines lost: the log did not take them\n"
                          "leat: fourth\nleat: fifth\n");
    close(fd);
}

Test(log, the_longest_line_that_fits_is_whole) {
    static char text[5000], out[5000];
    size_t room = 4096 - strlen("leat: ") - 2; /* newline, and the NUL that vsnprintf wants */
    memset(text, 'x', room);
    log_info("%s", text);
    logged(out, sizeof out);
    cr_assert_eq(strlen(out), 4095);
    cr_assert_str_eq(out + strlen(out) - 3, "xx\n");
}

Test(log, lines_of_threads_are_never_mixed) {
    pthread_t threads[THREADS];
    static char names[THREADS] = {'a', 'b', 'c', 'd'};
    unsigned lines[THREADS] = {0};
    for (unsigned i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, write_lines, &names[i]), 0);
    FILE *in = fdopen(dup(pipe_fds[0]), "r");
    char line[512], expected[512];
    for (unsigned i = 0; i < THREADS * LINES; i++) {
        cr_assert_not_null(fgets(line, sizeof line, in));
        unsigned thread = (unsigned)(line[strlen("leat: thread ")] - 'a');
        cr_assert_lt(thread, THREADS);
        snprintf(expected, sizeof expected, "leat: thread %c says %0100d\n", names[thread], 7);
        cr_assert_str_eq(line, expected);
        lines[thread]++;
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        cr_assert_eq(lines[i], LINES);
    }
    fclose(in);
}

/* ---- syslog and formats ---- */

/* In libc's place; what _FORTIFY_SOURCE makes of syslog too. */
static struct {
    int priority, facility;
    char text[256], ident[32];
    unsigned lines;
} logged_to_syslog;

static void note_syslog(int priority, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
static void note_syslog(int priority, const char *format, va_list args) {
    logged_to_syslog.priority = priority;
    logged_to_syslog.lines++;
    vsnprintf(logged_to_syslog.text, sizeof logged_to_syslog.text, format, args);
}
void syslog(int priority, const char *format, ...) {
    va_list args;
    va_start(args, format);
    note_syslog(priority, format, args);
    va_end(args);
}
void __syslog_chk(int priority, int flag, const char *format, ...) __attribute__((format(printf, 3, 4)));
void __syslog_chk(int priority, int flag, const char *format, ...) {
    va_list args;
    (void)flag;
    va_start(args, format);
    note_syslog(priority, format, args);
    va_end(args);
}
void openlog(const char *ident, int option, int facility) {
    (void)option;
    snprintf(logged_to_syslog.ident, sizeof logged_to_syslog.ident, "%s", ident);
    logged_to_syslog.facility = facility;
}

static void syslog_gets(enum log_level level, int priority) {
    unsigned lines = logged_to_syslog.lines;
    log_line(level, "100%% %d", (int)level);
    log_flush();
    cr_expect_eq(logged_to_syslog.lines, lines + 1);
    cr_expect_eq(logged_to_syslog.priority, priority);
    char expected[32];
    snprintf(expected, sizeof expected, "100%% %d", (int)level);
    cr_expect_str_eq(logged_to_syslog.text, expected, "%s", logged_to_syslog.text);
}

Test(log, syslog_gets_lines_with_their_priority) {
    char out[64];
    log_set_level(LOG_LEVEL_DEBUG3);
    log_to_syslog("leatd", LOG_AUTHPRIV);
    cr_expect_str_eq(logged_to_syslog.ident, "leatd");
    cr_expect_eq(logged_to_syslog.facility, LOG_AUTHPRIV);
    for (int threaded = 0; threaded < 2; threaded++) {
        syslog_gets(LOG_LEVEL_FATAL, LOG_CRIT);
        syslog_gets(LOG_LEVEL_ERROR, LOG_ERR);
        syslog_gets(LOG_LEVEL_INFO, LOG_INFO);
        syslog_gets(LOG_LEVEL_VERBOSE, LOG_INFO);
        syslog_gets(LOG_LEVEL_DEBUG3, LOG_DEBUG);
        if (threaded == 0)
            cr_assert_eq(log_start_thread(), 0);
    }
    log_stop_thread();
    log_set_fd(pipe_fds[1]);
    log_info("a file again");
    cr_expect_str_eq(logged(out, sizeof out), "leat: a file again\n");
}

static void wrap(char *out, unsigned long cap, enum log_level level, const char *text) {
    snprintf(out, cap, "<%d %s>", (int)level, text);
}

Test(log, a_wrap_is_around_every_line_but_raw_ones) {
    char out[256];
    log_set_wrap(wrap);
    log_info("%s", "a");
    log_plain(LOG_LEVEL_ERROR, "b");
    log_raw(LOG_LEVEL_INFO, "%s");
    log_raw(LOG_LEVEL_VERBOSE, "no");
    cr_expect_str_eq(logged(out, sizeof out), "<3 a>\n<2 b>\n%s\n");
    static char text[9000], long_out[9000];
    memset(text, 'x', sizeof text - 1);
    log_info("%s", text);
    logged(long_out, sizeof long_out);
    cr_expect_leq(strlen(long_out), LOG_LINE_BYTES);
    cr_expect_eq(strchr(long_out, '\n'), long_out + strlen(long_out) - 1);
    log_set_wrap(NULL);
    log_info("plain");
    cr_expect_str_eq(logged(out, sizeof out), "leat: plain\n");
}

Test(log_safe, every_byte) {
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t in = (uint8_t)byte;
        char out[8], expected[8];
        if (byte == '\\')
            strcpy(expected, "\\\\");
        else if (byte >= 32 && byte < 127)
            snprintf(expected, sizeof expected, "%c", (char)byte);
        else
            snprintf(expected, sizeof expected, "\\%03o", byte);
        cr_assert_str_eq(log_safe(out, sizeof out, &in, 1), expected);
    }
}

Test(log_safe, is_cut_between_escapes_at_any_capacity) {
    static const char in[] = "a\nb\\c\x7f";
    static const char whole[] = "a\\012b\\\\c\\177";
    cr_assert_str_eq(log_safe((char[64]){0}, 64, in, sizeof in - 1), whole);
    cr_assert_str_eq(log_safe((char[64]){0}, 64, in, 0), "");
    static const size_t ends[] = {0, 1, 5, 6, 8, 9, 13};
    for (size_t cap = 1; cap <= sizeof whole; cap++) {
        size_t expected = 0;
        for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
            expected = ends[i] < cap ? ends[i] : expected;
        char *out = malloc(cap); /* exactly: ASan sees the first byte too many */
        log_safe(out, cap, in, sizeof in - 1);
        cr_assert_eq(strlen(out), expected);
        cr_assert_eq(strncmp(out, whole, expected), 0);
        free(out);
    }
}

Test(error, every_error_has_its_own_text) {
    for (int err = ERR_OK; err >= ERR_FILES; err--) {
        cr_assert_str_neq(err_text(err), err_text(12345));
        for (int other = ERR_OK; other > err; other--)
            cr_assert_str_neq(err_text(err), err_text(other));
    }
    cr_assert_str_eq(err_text(ERR_REFUSED), "connection refused");
    cr_assert_str_eq(err_text(ERR_FILES - 1), err_text(12345));
}

Test(error, errno_is_translated) {
    static const struct {
        int error_number, err;
    } cases[] = {{0, ERR_OK},
                 {EAGAIN, ERR_AGAIN},
                 {ENOMEM, ERR_NOMEM},
                 {EMFILE, ERR_FILES},
                 {EPIPE, ERR_CLOSED},
                 {ECONNRESET, ERR_RESET},
                 {ECONNREFUSED, ERR_REFUSED},
                 {ETIMEDOUT, ERR_TIMEOUT},
                 {ENETUNREACH, ERR_UNREACHABLE},
                 {EHOSTUNREACH, ERR_UNREACHABLE},
                 {EACCES, ERR_ACCESS},
                 {EADDRINUSE, ERR_INUSE},
                 {ECANCELED, ERR_CANCELED},
                 {ENOTTY, ERR_SYSTEM}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_assert_eq(err_from_errno(cases[i].error_number), cases[i].err);
}
