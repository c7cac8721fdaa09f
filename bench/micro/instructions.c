/* Instructions of an operation, by the processor's counter or by this program run again under callgrind. */
#include "bench/micro/micro.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* −1: the machine has no counters for us (a guest without them, perf_event_paranoid above 2). */
static int counter_open(void) {
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof attr,
        .config = PERF_COUNT_HW_INSTRUCTIONS,
        .disabled = 1,
        .exclude_kernel = 1,
        .exclude_hv = 1,
    };
    return (int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

static bool count_run(int counter, const struct micro *micro, void *state, uint32_t operations, uint64_t *counted) {
    if (micro->prepare)
        micro->prepare(state, operations);
    if (ioctl(counter, PERF_EVENT_IOC_RESET, 0) != 0 || ioctl(counter, PERF_EVENT_IOC_ENABLE, 0) != 0)
        return false;
    micro->run(state, operations);
    return ioctl(counter, PERF_EVENT_IOC_DISABLE, 0) == 0 &&
           read(counter, counted, sizeof *counted) == (ssize_t)sizeof *counted;
}

static bool by_hardware(const struct micro *micro, uint32_t fewer, uint64_t *short_run, uint64_t *long_run) {
    int counter = counter_open();
    if (counter < 0)
        return false;
    void *state = micro->set_up(micro);
    if (micro->prepare)
        micro->prepare(state, micro->batch);
    micro->run(state, micro->batch);
    bool ok =
        count_run(counter, micro, state, fewer, short_run) && count_run(counter, micro, state, micro->batch, long_run);
    micro->tear_down(state);
    close(counter);
    return ok;
}

/* Starts this program under callgrind for a single run, its error output at *errors. */
static pid_t callgrind_start(const struct micro *micro, uint32_t operations, int *errors) {
    char self[4096], count[16];
    int pipe_fds[2];
    pid_t pid = -1;
    ssize_t len = readlink("/proc/self/exe", self, sizeof self - 1);
    if (len < 0 || pipe2(pipe_fds, O_CLOEXEC) != 0)
        return -1;
    self[len] = '\0';
    snprintf(count, sizeof count, "%u", operations);
    char *argv[] = {"valgrind",
                    "--tool=callgrind",
                    "--callgrind-out-file=/dev/null",
                    "--error-exitcode=9",
                    self,
                    "--once",
                    (char *)micro->name,
                    count,
                    NULL};
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) == 0) {
        if (posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDERR_FILENO) != 0 ||
            posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ) != 0)
            pid = -1;
        posix_spawn_file_actions_destroy(&actions);
    }
    close(pipe_fds[1]);
    *errors = pipe_fds[0];
    if (pid < 0)
        close(pipe_fds[0]);
    return pid;
}

/* Callgrind ends with a line "==PID== Collected : NUMBER". */
static bool find_collected(FILE *errors, uint64_t *counted) {
    char line[512];
    bool found = false;
    while (fgets(line, sizeof line, errors)) {
        const char *at = strstr(line, "Collected : ");
        if (at)
            found = sscanf(at, "Collected : %lu", counted) == 1;
    }
    return found;
}

static bool callgrind_run(const struct micro *micro, uint32_t operations, uint64_t *counted) {
    int errors_fd, status;
    pid_t pid = callgrind_start(micro, operations, &errors_fd);
    if (pid < 0)
        return false;
    FILE *errors = fdopen(errors_fd, "r");
    bool found = errors && find_collected(errors, counted);
    if (errors)
        fclose(errors);
    else
        close(errors_fd);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return found && status == 0;
}

bool micro_instructions(enum micro_counter counter, const struct micro *micro, double *per_operation) {
    uint64_t short_run = 0, long_run = 0;
    uint32_t fewer = micro->batch / 2;
    bool ok = false;
    if (counter == MICRO_COUNTER_HARDWARE)
        ok = by_hardware(micro, fewer, &short_run, &long_run);
    else if (counter == MICRO_COUNTER_CALLGRIND)
        ok = callgrind_run(micro, fewer, &short_run) && callgrind_run(micro, micro->batch, &long_run);
    if (!ok || long_run <= short_run)
        return false;
    *per_operation = (double)(long_run - short_run) / (micro->batch - fewer);
    return true;
}

static bool has_valgrind(void) {
    static const char *const argv[] = {"valgrind", "--version", NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status = -1;
    if (posix_spawn_file_actions_init(&actions) != 0)
        return false;
    if (posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0) == 0 &&
        posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ) == 0)
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    posix_spawn_file_actions_destroy(&actions);
    return status == 0;
}

/* Some guests have a counter that can be opened and stays at nothing. */
static bool has_counter(void) {
    uint64_t counted = 0;
    int counter = counter_open();
    if (counter < 0)
        return false;
    bool counts = ioctl(counter, PERF_EVENT_IOC_ENABLE, 0) == 0 && ioctl(counter, PERF_EVENT_IOC_DISABLE, 0) == 0 &&
                  read(counter, &counted, sizeof counted) == (ssize_t)sizeof counted && counted > 0;
    close(counter);
    return counts;
}

enum micro_counter micro_counter_find(void) {
    if (has_counter())
        return MICRO_COUNTER_HARDWARE;
    return has_valgrind() ? MICRO_COUNTER_CALLGRIND : MICRO_COUNTER_NONE;
}

const char *micro_counter_name(enum micro_counter counter) {
    static const char *const names[] = {
        [MICRO_COUNTER_NONE] = NULL,
        [MICRO_COUNTER_HARDWARE] = "hardware counter",
        [MICRO_COUNTER_CALLGRIND] = "callgrind",
    };
    return names[counter];
}
