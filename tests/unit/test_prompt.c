/* Questions on a terminal: a child with a pseudo-terminal of its own asks, the test types and looks at the echo. */
#include "ssh/prompt.h"
#include "ssh/secrets.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define CAP 8

struct person {
    int tty;
    pid_t child;
    char seen[4096];
    size_t len;
};

/* What the child does with its answer: it shows "[err:answer]" and ends. Signals that prompt_ask raises again end it
 * before. */
static _Noreturn void child_run(enum prompt_echo echo, bool ignore_hup) {
    char answer[CAP];
    unsetenv("SSH_ASKPASS_REQUIRE");
    unsetenv("DISPLAY");
    if (ignore_hup)
        signal(SIGHUP, SIG_IGN);
    int err = prompt_ask("Question? ", echo, answer, sizeof answer);
    dprintf(STDOUT_FILENO, "[%d:%s]", err, answer);
    _exit(0);
}

static void person_begin_with(struct person *person, enum prompt_echo echo, bool ignore_hup) {
    *person = (struct person){0};
    person->child = forkpty(&person->tty, NULL, NULL, NULL);
    cr_assert_geq(person->child, 0);
    if (person->child == 0)
        child_run(echo, ignore_hup);
}

static void person_begin(struct person *person, enum prompt_echo echo) {
    person_begin_with(person, echo, false);
}

static void person_type(struct person *person, const char *text) {
    cr_assert_eq(write(person->tty, text, strlen(text)), (ssize_t)strlen(text));
}

/* Reads until `text` has been seen; false: the terminal was closed before. */
static bool person_sees(struct person *person, const char *text) {
    while (!strstr(person->seen, text)) {
        ssize_t n = read(person->tty, person->seen + person->len, sizeof person->seen - 1 - person->len);
        if (n <= 0)
            return false;
        person->len += (size_t)n;
        person->seen[person->len] = '\0';
    }
    return true;
}

static bool echo_is_on(const struct person *person) {
    struct termios termios;
    cr_assert_eq(tcgetattr(person->tty, &termios), 0);
    return termios.c_lflag & ECHO;
}

static int person_end(struct person *person) {
    int status;
    cr_assert_eq(waitpid(person->child, &status, 0), person->child);
    close(person->tty);
    return status;
}

TestSuite(prompt, .timeout = 30);

Test(prompt, hidden_answer_is_not_echoed) {
    struct person person;
    person_begin(&person, PROMPT_HIDDEN);
    cr_assert(person_sees(&person, "Question? "));
    cr_assert_not(echo_is_on(&person));
    person_type(&person, "secret\n");
    cr_assert(person_sees(&person, "[0:secret]"));
    cr_assert(echo_is_on(&person));
    *strchr(person.seen, '[') = '\0';
    cr_assert_null(strstr(person.seen, "secret"));
    cr_assert_not_null(strstr(person.seen, "Question? \r\n"), "the line is ended for the person");
    cr_assert_eq(person_end(&person), 0);
}

Test(prompt, shown_answer_is_echoed) {
    struct person person;
    person_begin(&person, PROMPT_SHOWN);
    cr_assert(person_sees(&person, "Question? "));
    cr_assert(echo_is_on(&person));
    person_type(&person, "yes\n");
    cr_assert(person_sees(&person, "[0:yes]"));
    cr_assert_not_null(strstr(person.seen, "Question? yes\r\n"));
    cr_assert_eq(person_end(&person), 0);
}

Test(prompt, answers_at_the_edge_of_the_buffer) {
    static const struct {
        const char *typed, *expected;
    } cases[] = {{"\n", "[0:]"}, {"1234567\n", "[0:1234567]"}, {"12345678\n", "[0:1234567]"}, {"\004", "[-6:]"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct person person;
        person_begin(&person, PROMPT_HIDDEN);
        cr_assert(person_sees(&person, "Question? "));
        person_type(&person, cases[i].typed);
        cr_assert(person_sees(&person, cases[i].expected), "%s: %s", cases[i].expected, person.seen);
        cr_assert_eq(person_end(&person), 0);
    }
}

Test(prompt, interrupt_restores_the_echo_and_ends) {
    struct person person;
    person_begin(&person, PROMPT_HIDDEN);
    cr_assert(person_sees(&person, "Question? "));
    int keep = open(ptsname(person.tty), O_RDWR | O_NOCTTY); /* the terminal outlives the child */
    person_type(&person, "sec\003");
    int status;
    cr_assert_eq(waitpid(person.child, &status, 0), person.child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGINT);
    cr_assert(echo_is_on(&person));
    close(keep);
    close(person.tty);
}

Test(prompt, signal_from_elsewhere_restores_the_echo_and_ends) {
    struct person person;
    person_begin(&person, PROMPT_HIDDEN);
    cr_assert(person_sees(&person, "Question? "));
    int keep = open(ptsname(person.tty), O_RDWR | O_NOCTTY);
    cr_assert_eq(kill(person.child, SIGTERM), 0);
    int status;
    cr_assert_eq(waitpid(person.child, &status, 0), person.child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    cr_assert(echo_is_on(&person));
    close(keep);
    close(person.tty);
}

Test(prompt, ignored_signal_stays_ignored) {
    struct person person;
    person_begin_with(&person, PROMPT_HIDDEN, true);
    cr_assert(person_sees(&person, "Question? "));
    cr_assert_eq(kill(person.child, SIGHUP), 0);
    person_type(&person, "here\n");
    cr_assert(person_sees(&person, "[0:here]"));
    cr_assert_eq(person_end(&person), 0);
}

Test(prompt, stopped_and_continued_asks_again) {
    struct person person;
    person_begin(&person, PROMPT_HIDDEN);
    cr_assert(person_sees(&person, "Question? "));
    cr_assert_eq(kill(person.child, SIGTSTP), 0);
    int status;
    /* An orphaned process group (this child's session leader has no shell above it) is not stopped by SIGTSTP: then the
     * question comes again at once. */
    person.seen[0] = '\0';
    person.len = 0;
    cr_assert(person_sees(&person, "Question? "));
    cr_assert_eq(waitpid(person.child, &status, WNOHANG), 0);
    person_type(&person, "again\n");
    cr_assert(person_sees(&person, "[0:again]"));
    cr_assert_eq(person_end(&person), 0);
}

/* ---- without a terminal ---- */

static char script[64];

static void make_script(const char *text) {
    snprintf(script, sizeof script, "/tmp/leat-askpass-XXXXXX");
    int fd = mkstemp(script);
    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    cr_assert_eq(fchmod(fd, 0700), 0);
    close(fd);
    setenv("SSH_ASKPASS", script, 1);
}

static void remove_script(void) {
    if (script[0])
        unlink(script);
}

/* In a session without a controlling terminal. Exit status of the child: 0 when prompt_ask gave `err` and `answer`. */
static int ask_without_terminal(int err, const char *expected) {
    int status;
    pid_t child = fork();
    if (child == 0) {
        char answer[CAP];
        setsid();
        int got = prompt_ask("Question? ", PROMPT_HIDDEN, answer, sizeof answer);
        _exit(got == err && strcmp(answer, expected) == 0 ? 0 : 1);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    return status;
}

TestSuite(askpass, .fini = remove_script, .timeout = 30);

Test(askpass, is_used_without_terminal_where_there_is_a_display) {
    make_script("#!/bin/sh\n[ \"$1\" = 'Question? ' ] && echo word && echo more\n");
    unsetenv("SSH_ASKPASS_REQUIRE");
    unsetenv("WAYLAND_DISPLAY");
    setenv("DISPLAY", ":0", 1);
    cr_assert_eq(ask_without_terminal(0, "word"), 0);
    setenv("SSH_ASKPASS_REQUIRE", "never", 1);
    cr_assert_eq(ask_without_terminal(ERR_UNSUPPORTED, ""), 0);
    unsetenv("DISPLAY");
    unsetenv("SSH_ASKPASS_REQUIRE");
    cr_assert_eq(ask_without_terminal(ERR_UNSUPPORTED, ""), 0);
    setenv("SSH_ASKPASS_REQUIRE", "force", 1);
    cr_assert_eq(ask_without_terminal(0, "word"), 0);
}

Test(askpass, answers_at_the_edge_of_the_buffer) {
    setenv("SSH_ASKPASS_REQUIRE", "force", 1);
    make_script("#!/bin/sh\nprintf 1234567\n");
    cr_assert_eq(ask_without_terminal(0, "1234567"), 0);
    remove_script();
    make_script("#!/bin/sh\nprintf '123456789\\n'\n");
    cr_assert_eq(ask_without_terminal(0, "1234567"), 0);
    remove_script();
    make_script("#!/bin/sh\necho\n");
    cr_assert_eq(ask_without_terminal(0, ""), 0);
}

Test(askpass, dismissed_or_missing) {
    setenv("SSH_ASKPASS_REQUIRE", "force", 1);
    make_script("#!/bin/sh\necho word\nexit 1\n");
    cr_assert_eq(ask_without_terminal(ERR_CLOSED, ""), 0);
    setenv("SSH_ASKPASS", "/nonexistent/askpass", 1);
    cr_assert_eq(ask_without_terminal(ERR_UNSUPPORTED, ""), 0);
}

/* ---- what is remembered ---- */

Test(secrets, pages_come_empty_and_go) {
    char *secret = secret_new();
    cr_assert(secret);
    for (unsigned i = 0; i < SECRET_BYTES; i++)
        cr_assert_eq(secret[i], 0);
    memset(secret, 'x', SECRET_BYTES);
    secret_free(secret);
    secret_free(NULL);
}

Test(secrets, answers_are_bounded) {
    struct secrets secrets = {0};
    for (unsigned i = 0; i < SECRETS_ANSWERS_MAX + 3; i++)
        secrets_keep_answer(&secrets, "prompt", secret_new());
    cr_assert_eq(secrets.answers_count, SECRETS_ANSWERS_MAX);
    secrets_forget_answers(&secrets);
    cr_assert_eq(secrets.answers_count, 0);
}
