#include "bench/process.h"
#include "bench/usage.h"
#include "bench/world.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TERM_S 2.0
#define KILL_S 10.0 /* a process that is longer inside the kernel stays there */
#define LOOK_MS 5
#define TCP_LISTENING 0x0au /* as /proc/net/tcp has it */

static double now_s(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void pause_look(void) {
    nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
}

/* Behind fork: says why by `report` if it fails. */
_Noreturn static void become(const struct process_spawn *spawn, pid_t parent, int report) {
    int input = open("/dev/null", O_RDONLY);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0);
    bool is_there = spawn->place == NULL || place_enter(spawn->place);
    int error = errno;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* a user namespace entered would forget it */
    if (getppid() != parent)          /* it died before it could be watched */
        _exit(127);
    errno = error;
    if (is_there && input >= 0 && dup2(input, 0) == 0 && dup2(spawn->output, 1) == 1 && dup2(spawn->output, 2) == 2) {
        for (size_t i = 0; spawn->environment != NULL && spawn->environment[i] != NULL; i++)
            putenv(spawn->environment[i]);
        execvp(spawn->argv[0], spawn->argv);
    }
    error = errno;
    if (write(report, &error, sizeof error) != sizeof error)
        _exit(126);
    _exit(127);
}

pid_t process_spawn(const struct process_spawn *spawn) {
    int report[2], error = 0;
    if (pipe2(report, O_CLOEXEC) != 0)
        return -1;
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(spawn, parent, report[1]);
    if (pid < 0)
        error = errno;
    close(report[1]);
    /* The pipe is closed by a successful exec, or has the reason of one that was not. */
    ssize_t got;
    while (pid > 0 && (got = read(report[0], &error, sizeof error)) < 0 && errno == EINTR)
        ;
    close(report[0]);
    if (pid > 0 && error != 0)
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    errno = error;
    return error == 0 ? pid : -1;
}

/* The process stays a zombie, and its number its own, until it is reaped. */
static bool has_exited(pid_t pid) {
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid == pid;
}

struct victim {
    pid_t pid;
    struct usage_process *tree; /* with those that left the group */
    size_t count;
};

static void victim_signal(const struct victim *victim, int signal) {
    kill(-victim->pid, signal);
    for (size_t i = 0; i < victim->count; i++)
        if (usage_runs(&victim->tree[i]) && getpgid(victim->tree[i].pid) != victim->pid)
            kill(victim->tree[i].pid, signal);
}

static bool victim_is_gone(const struct victim *victim) {
    for (size_t i = 0; i < victim->count; i++)
        if (victim->tree[i].pid != victim->pid && usage_runs(&victim->tree[i]))
            return false;
    return has_exited(victim->pid);
}

static void victims_wait(const struct victim *victims, size_t count, double seconds) {
    double deadline = now_s() + seconds;
    for (size_t i = 0; i < count;) {
        if (victim_is_gone(&victims[i]))
            i++;
        else if (now_s() < deadline)
            pause_look();
        else
            return;
    }
}

static void victim_reap(struct victim *victim) {
    /* Those below it are our children only if they were left behind; another's are not ours to wait for. */
    for (size_t i = 0; i < victim->count; i++)
        waitpid(victim->tree[i].pid, NULL, WNOHANG);
    waitpid(victim->pid, NULL, WNOHANG);
    free(victim->tree);
}

void process_stop_all(const pid_t *pids, size_t count) {
    struct victim *victims = calloc(count == 0 ? 1 : count, sizeof *victims);
    size_t n = 0;
    for (size_t i = 0; victims != NULL && i < count; i++)
        if (pids[i] > 0) {
            victims[n].pid = pids[i];
            victims[n].count = usage_tree(pids[i], &victims[n].tree);
            n++;
        }
    for (size_t i = 0; i < n; i++)
        victim_signal(&victims[i], SIGTERM);
    victims_wait(victims, n, TERM_S);
    /* Also where all are gone: a group can have got a member since. */
    for (size_t i = 0; i < n; i++)
        victim_signal(&victims[i], SIGKILL);
    victims_wait(victims, n, KILL_S);
    for (size_t i = 0; i < n; i++)
        victim_reap(&victims[i]);
    free(victims);
}

/* One look at them; true when there were none. */
static bool kill_orphans(void) {
    struct usage_process *tree;
    size_t count = usage_tree(getpid(), &tree), found = 0;
    for (size_t i = 1; i < count; i++) {
        if (getsid(tree[i].pid) == getsid(0) || waitpid(tree[i].pid, NULL, WNOHANG) == tree[i].pid)
            continue;
        kill(tree[i].pid, SIGKILL);
        found++;
    }
    free(tree);
    return found == 0;
}

void process_stop_orphans(void) {
    double deadline = now_s() + KILL_S;
    while (!kill_orphans() && now_s() < deadline)
        pause_look();
}

bool process_alive(const struct process *process) {
    return process->pid > 0 && !has_exited(process->pid);
}

struct text {
    char *at;
    size_t len, room;
};

static bool text_add(struct text *text, const char *data, size_t len) {
    if (text->room - text->len <= len) {
        size_t room = (text->room + len) * 2 + 1;
        char *at = realloc(text->at, room);
        if (at == NULL)
            return false;
        text->at = at;
        text->room = room;
    }
    memcpy(text->at + text->len, data, len);
    text->len += len;
    text->at[text->len] = '\0';
    return true;
}

/* Until the other side has closed it; a request to end cuts it short. */
static bool read_output(int fd, struct text *text) {
    char buffer[4096];
    while (!world_interrupted()) {
        struct pollfd waited = {.fd = fd, .events = POLLIN};
        if (poll(&waited, 1, 100) <= 0)
            continue;
        ssize_t got = read(fd, buffer, sizeof buffer);
        if (got == 0)
            return true;
        if (got > 0 && !text_add(text, buffer, (size_t)got))
            return false;
        if (got < 0 && errno != EINTR)
            return false;
    }
    return false;
}

int world_run(const char *const *argv, char **output) {
    int out[2], status = 0;
    struct text text = {0};
    if (output != NULL)
        *output = NULL;
    if (!text_add(&text, "", 0))
        return -1;
    if (pipe2(out, O_CLOEXEC) != 0) {
        free(text.at);
        return -1;
    }
    /* exec promises not to change them, and cannot say so in its type. */
    const struct process_spawn spawn = {.argv = (char *const *)(uintptr_t)argv, .output = out[1]};
    pid_t pid = process_spawn(&spawn);
    int error = errno;
    close(out[1]);
    if (pid > 0) {
        if (!read_output(out[0], &text))
            kill(-pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close(out[0]);
    if (pid > 0 && output != NULL)
        *output = text.at;
    else
        free(text.at);
    errno = error;
    if (pid < 0)
        return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* A process' own view of the network is its namespace's. */
static bool listens(pid_t pid, const char *table, uint16_t port) {
    char path[64], line[512];
    unsigned local, state;
    bool found = false;
    snprintf(path, sizeof path, "/proc/%d/net/%s", (int)pid, table);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    while (!found && fgets(line, sizeof line, file) != NULL)
        found = sscanf(line, " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local, &state) == 2 && local == port &&
                state == TCP_LISTENING;
    fclose(file);
    return found;
}

bool world_wait_listening(const struct process *process, uint16_t port, double timeout_s) {
    double deadline = now_s() + timeout_s;
    for (;;) {
        bool is_alive = process_alive(process);
        if (is_alive && (listens(process->pid, "tcp", port) || listens(process->pid, "tcp6", port)))
            return true;
        if (!is_alive || world_interrupted() || now_s() >= deadline)
            return false;
        pause_look();
    }
}

char *process_tail(const struct process *process, unsigned lines) {
    char text[8192];
    ssize_t len = 0;
    int fd = open(process->log, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        off_t end = lseek(fd, 0, SEEK_END);
        len = pread(fd, text, sizeof text, end > (off_t)sizeof text ? end - (off_t)sizeof text : 0);
        close(fd);
    }
    size_t last = len > 0 ? (size_t)len : 0;
    while (last > 0 && text[last - 1] == '\n')
        last--;
    size_t first = last;
    while (first > 0 && (text[first - 1] != '\n' || --lines > 0))
        first--;
    return strndup(text + first, last - first);
}
