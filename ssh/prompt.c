#include "ssh/prompt.h"
#include "ssh/program.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define ASKPASS_DEFAULT "/usr/bin/ssh-askpass"

extern char **environ;

static const int caught[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU};
#define CAUGHT_COUNT (sizeof caught / sizeof caught[0])

/* The handler may run on any thread, so it wakes the one that asks through a pipe. */
static volatile int signal_pipe = -1;

struct guard {
    int pipe[2];
    struct sigaction before[CAUGHT_COUNT];
    sigset_t mask_before;
};

static void on_signal(int number) {
    int saved_errno = errno;
    uint8_t byte = (uint8_t)number;
    (void)!write(signal_pipe, &byte, 1);
    errno = saved_errno;
}

static int guard_set(struct guard *guard) {
    if (pipe2(guard->pipe, O_CLOEXEC | O_NONBLOCK) < 0)
        return err_from_errno(errno);
    signal_pipe = guard->pipe[1];
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t open;
    (void)sigemptyset(&open);
    for (size_t i = 0; i < CAUGHT_COUNT; i++) {
        (void)sigaction(caught[i], NULL, &guard->before[i]);
        if (guard->before[i].sa_handler == SIG_IGN)
            continue; /* nohup's wish stands */
        (void)sigaction(caught[i], &action, NULL);
        (void)sigaddset(&open, caught[i]);
    }
    (void)pthread_sigmask(SIG_UNBLOCK, &open, &guard->mask_before);
    return 0;
}

static void guard_reset(struct guard *guard) {
    (void)pthread_sigmask(SIG_SETMASK, &guard->mask_before, NULL);
    for (size_t i = 0; i < CAUGHT_COUNT; i++)
        (void)sigaction(caught[i], &guard->before[i], NULL);
    signal_pipe = -1;
    (void)close(guard->pipe[0]);
    (void)close(guard->pipe[1]);
}

static int guard_signal(const struct guard *guard) {
    uint8_t byte;
    return read(guard->pipe[0], &byte, 1) == 1 ? byte : 0;
}

/* Waits for input; false: a signal came. */
static bool wait_input(int tty, const struct guard *guard) {
    struct pollfd fds[] = {{.fd = tty, .events = POLLIN}, {.fd = guard->pipe[0], .events = POLLIN}};
    while (poll(fds, 2, -1) < 0 && errno == EINTR)
        continue;
    return !(fds[1].revents & POLLIN);
}

static int read_line(int tty, const struct guard *guard, char *answer, size_t cap) {
    size_t len = 0;
    for (;;) {
        char c;
        if (!wait_input(tty, guard))
            return ERR_CANCELED;
        ssize_t n = read(tty, &c, 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0 && len == 0)
            return ERR_CLOSED;
        if (n <= 0 || c == '\n' || c == '\r')
            break;
        if (len + 1 < cap)
            answer[len++] = c;
    }
    answer[len] = '\0';
    return 0;
}

static void say(int tty, const char *text) {
    (void)!write(tty, text, strlen(text));
}

/* One try. *number: the signal that ended it, 0 when none. */
static int ask_once(int tty, const char *text, enum prompt_echo echo, char *answer, size_t cap, int *number) {
    struct guard guard;
    int err = guard_set(&guard);
    if (err)
        return err;
    struct termios before, now;
    bool terminal = tcgetattr(tty, &before) == 0;
    if (terminal && echo == PROMPT_HIDDEN) {
        now = before;
        now.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
        terminal = tcsetattr(tty, TCSAFLUSH, &now) == 0;
    }
    /* In the background SIGTTOU has come instead of the change; without a terminal nothing hidden may be typed. */
    *number = guard_signal(&guard);
    if (*number == 0 && !terminal && echo == PROMPT_HIDDEN) {
        err = ERR_UNSUPPORTED;
    } else if (*number == 0) {
        say(tty, text);
        err = read_line(tty, &guard, answer, cap);
        *number = guard_signal(&guard);
        if (echo == PROMPT_HIDDEN) {
            say(tty, "\n");
            while (tcsetattr(tty, TCSAFLUSH, &before) < 0 && errno == EINTR && guard_signal(&guard) == 0)
                continue;
        }
    }
    guard_reset(&guard);
    return *number ? ERR_CANCELED : err;
}

static bool stops(int number) {
    return number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
}

static int ask_terminal(int tty, const char *text, enum prompt_echo echo, char *answer, size_t cap) {
    for (;;) {
        int number;
        int err = ask_once(tty, text, echo, answer, cap, &number);
        if (number == 0)
            return err;
        (void)kill(getpid(), number);
        if (!stops(number))
            return ERR_CANCELED;
        /* stopped, and continued: the question comes again */
    }
}

static int run_askpass(const char *program, const char *text, int out, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, defaults;
    (void)sigemptyset(&none);
    (void)sigemptyset(&defaults);
    (void)sigaddset(&defaults, SIGPIPE);
    if (posix_spawn_file_actions_init(&actions) != 0)
        return ERR_NOMEM;
    if (posix_spawnattr_init(&attributes) != 0) {
        (void)posix_spawn_file_actions_destroy(&actions);
        return ERR_NOMEM;
    }
    char *arguments[] = {(char *)(uintptr_t)program, (char *)(uintptr_t)text, NULL};
    int failed = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    failed = failed ? failed : posix_spawnattr_setsigmask(&attributes, &none);
    failed = failed ? failed : posix_spawnattr_setsigdefault(&attributes, &defaults);
    failed = failed ? failed : posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    failed = failed ? failed : posix_spawnp(pid, program, &actions, &attributes, arguments, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (!failed)
        program_reset_limits(*pid);
    return failed ? ERR_UNSUPPORTED : 0;
}

static size_t read_answer(int fd, char *answer, size_t cap) {
    size_t len = 0;
    for (;;) {
        char overflow;
        bool room = len + 1 < cap;
        ssize_t n = read(fd, room ? answer + len : &overflow, room ? cap - 1 - len : 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        len += room ? (size_t)n : 0;
    }
    answer[len] = '\0';
    return strcspn(answer, "\r\n");
}

static int ask_program(const char *text, char *answer, size_t cap) {
    const char *program = getenv("SSH_ASKPASS");
    int out[2], status = 0;
    pid_t pid = -1;
    if (pipe2(out, O_CLOEXEC) < 0)
        return err_from_errno(errno);
    int err = run_askpass(program && *program ? program : ASKPASS_DEFAULT, text, out[1], &pid);
    (void)close(out[1]);
    if (err) {
        (void)close(out[0]);
        return err;
    }
    size_t len = read_answer(out[0], answer, cap);
    (void)close(out[0]);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        return ERR_CLOSED;
    answer[len] = '\0';
    return 0;
}

static bool set(const char *name) {
    const char *value = getenv(name);
    return value && *value;
}

int prompt_ask(const char *text, enum prompt_echo echo, char *answer, size_t cap) {
    const char *require = getenv("SSH_ASKPASS_REQUIRE");
    bool force = require && strcmp(require, "force") == 0;
    bool never = require && strcmp(require, "never") == 0;
    bool prefer = require && strcmp(require, "prefer") == 0;
    bool allowed = force || (!never && (set("DISPLAY") || set("WAYLAND_DISPLAY")));
    int tty = force || (prefer && allowed) ? -1 : open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    int err = ERR_UNSUPPORTED;
    if (tty >= 0) {
        err = ask_terminal(tty, text, echo, answer, cap);
        (void)close(tty);
    } else if (allowed) {
        err = ask_program(text, answer, cap);
    }
    if (err)
        explicit_bzero(answer, cap);
    return err;
}
