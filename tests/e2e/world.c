#include "world.h"
#include "tests/port.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pty.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARGS_MAX 64

_Noreturn void world_die(const char *what) {
    fprintf(stderr, "test world: %s: %s\n", what, strerror(errno));
    abort();
}

double now_seconds(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void pause_seconds(double seconds) {
    struct timespec ts = {.tv_sec = (time_t)seconds, .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&ts, NULL);
}

static double slow(void) {
    const char *factor = getenv("LEAT_SLOW");
    return factor != NULL ? atof(factor) : 1;
}

double world_deadline(double seconds) {
    return seconds * slow();
}

bool world_is_slow(void) {
    return slow() > 1;
}

const char *world_format(const char *format, ...) {
    static char buffers[64][4096];
    static unsigned next;
    char *out = buffers[next++ % 64];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(out, sizeof(buffers[0]), format, args);
    va_end(args);
    errno = E2BIG;
    if (len < 0 || (size_t)len >= sizeof(buffers[0]))
        world_die(out);
    return out;
}

const char *world_path(const struct world *world, const char *name) {
    return world_format("%s/%s", world->dir, name);
}

void world_write(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
        world_die(path);
    close(fd);
}

char *world_read(const char *path) {
    FILE *file = fopen(path, "re");
    size_t cap = 0, len = 0, n;
    char *text = NULL;
    do {
        text = realloc(text, cap += 65536);
        n = file == NULL ? 0 : fread(text + len, 1, cap - len - 1, file);
        len += n;
    } while (n > 0);
    text[len] = '\0';
    if (file != NULL)
        fclose(file);
    return text;
}

void world_copy(const char *from, const char *to) {
    char *text = world_read(from);
    world_write(to, text);
    free(text);
}

uint16_t free_port(void) {
    uint16_t port = port_choose();
    if (port == 0)
        world_die("free port");
    return port;
}

/* ---- processes ---- */

struct process *world_adopt(struct world *world, const char *name, pid_t pid) {
    if (world->count == WORLD_PROCESSES_MAX)
        world_die("too many processes");
    struct process *process = &world->processes[world->count];
    *process = (struct process){.pid = pid};
    snprintf(process->name, sizeof(process->name), "%s", name);
    strcpy(process->log, world_format("%s/%s.%u.log", world->dir, name, world->count++));
    return process;
}

static void redirect(const char *path) {
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
}

struct process *world_start(struct world *world, const char *name, char *const argv[]) {
    struct process *process = world_adopt(world, name, -1);
    bool terminal = world->next_on_terminal;
    struct rlimit files = {.rlim_cur = world->next_nofile_max, .rlim_max = world->next_nofile_max};
    world->next_on_terminal = false;
    if (world->next_nofile_now != 0)
        files.rlim_cur = world->next_nofile_now;
    world->next_nofile_max = world->next_nofile_now = 0;
    pid_t parent = getpid();
    process->pid = terminal ? forkpty(&world->terminal_fd, NULL, NULL, NULL) : fork();
    if (process->pid < 0)
        world_die("fork");
    if (process->pid > 0)
        return process;
    /* A test that crashed leaves nothing behind. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127);
    if (!terminal)
        redirect(process->log);
    if (files.rlim_max != 0)
        setrlimit(RLIMIT_NOFILE, &files);
    signal(SIGPIPE, SIG_DFL);
    execvp(argv[0], argv);
    dprintf(STDERR_FILENO, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

static bool reap(struct process *process, int flags) {
    int status;
    if (process->reaped)
        return true;
    if (waitpid(process->pid, &status, flags) != process->pid)
        return false;
    process->reaped = true;
    process->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return true;
}

bool process_running(struct process *process) {
    return !reap(process, WNOHANG);
}

int process_wait(struct process *process, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    while (!reap(process, WNOHANG)) {
        if (now_seconds() > deadline) {
            fprintf(stderr, "test world: %s still runs after %.0f s; its output:\n%s\n", process->name, seconds,
                    process_log(process));
            abort();
        }
        pause_seconds(0.01);
    }
    return process->status;
}

void process_kill(struct process *process, int signal) {
    if (process_running(process))
        kill(process->pid, signal);
}

const char *process_log(const struct process *process) {
    static char *text;
    free(text);
    return text = world_read(process->log);
}

bool process_says(struct process *process, const char *text, double seconds) {
    double deadline = now_seconds() + world_deadline(seconds);
    for (;;) {
        bool running = process_running(process);
        if (strstr(process_log(process), text) != NULL)
            return true;
        if (!running || now_seconds() > deadline) {
            fprintf(stderr, "test world: %s did not say \"%s\"; its output:\n%s\n", process->name, text,
                    process_log(process));
            return false;
        }
        pause_seconds(0.01);
    }
}

unsigned process_lines(const struct process *process, const char *text) {
    unsigned lines = 0;
    for (const char *at = process_log(process); *at != '\0';) {
        const char *end = strchrnul(at, '\n');
        if (memmem(at, (size_t)(end - at), text, strlen(text)) != NULL)
            lines++;
        at = *end == '\0' ? end : end + 1;
    }
    return lines;
}

static long status_field(const struct process *process, const char *field) {
    char *text = world_read(world_format("/proc/%d/status", (int)process->pid));
    char *at = strstr(text, field);
    long value = at != NULL ? atol(at + strlen(field)) : -1;
    free(text);
    return value;
}

long process_rss_kib(const struct process *process) {
    return status_field(process, "VmRSS:");
}

double process_cpu_seconds(const struct process *process) {
    char *text = world_read(world_format("/proc/%d/stat", (int)process->pid));
    unsigned long user = 0, system = 0;
    char *at = strrchr(text, ')');
    if (at != NULL)
        (void)!sscanf(at + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
    free(text);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

unsigned process_descriptors(const struct process *process) {
    unsigned count = 0;
    DIR *dir = opendir(world_format("/proc/%d/fd", (int)process->pid));
    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        closedir(dir);
    return count;
}

static bool is_own(const struct world *world, pid_t pid) {
    for (unsigned i = 0; i < world->count; i++)
        if (world->processes[i].pid == pid)
            return true;
    return false;
}

/* OpenSSH 9.8 and later have programs called sshd-session where there was one sshd. */
static bool runs(pid_t pid, const char *program) {
    char *name = world_read(world_format("/proc/%d/comm", (int)pid));
    size_t len = strlen(program) < 15 ? strlen(program) : 15;
    name[strcspn(name, "\n")] = '\0';
    bool same = strncmp(name, program, len) == 0 && (name[len] == '\0' || name[len] == '-');
    free(name);
    return same;
}

unsigned process_children(const struct world *world, pid_t parent, const char *program, pid_t *children, unsigned max) {
    char *text = world_read(world_format("/proc/%d/task/%d/children", (int)parent, (int)parent));
    unsigned count = 0;
    for (char *at = text, *end; count < max; at = end) {
        pid_t pid = (pid_t)strtol(at, &end, 10);
        if (end == at)
            break;
        if (!is_own(world, pid) && runs(pid, program))
            children[count++] = pid;
    }
    free(text);
    return count;
}

pid_t process_child(const struct world *world, pid_t parent, const char *program) {
    pid_t child;
    return process_children(world, parent, program, &child, 1) == 1 ? child : 0;
}

/* Collects a NULL-terminated list behind what argv holds already. */
static void append_args(char **argv, unsigned *argc, va_list args) {
    char *arg;
    while ((arg = va_arg(args, char *)) != NULL && *argc < ARGS_MAX - 2)
        argv[(*argc)++] = arg;
    argv[*argc] = NULL;
}

int world_run(struct world *world, const char *name, ...) {
    char *argv[ARGS_MAX] = {(char *)(uintptr_t)name};
    unsigned argc = 1;
    va_list args;
    va_start(args, name);
    append_args(argv, &argc, args);
    va_end(args);
    return process_wait(world_start(world, strrchr(name, '/') != NULL ? strrchr(name, '/') + 1 : name, argv), 60);
}

/* ---- leat ---- */

static const char *leat_program(void) {
    const char *program = getenv("LEAT_BIN");
    if (program == NULL)
        world_die("LEAT_BIN is not set");
    return program;
}

const char *world_backend_option(void) {
    const char *backend = getenv("LEAT_BACKEND");
    return world_format("IoBackend=%s", backend != NULL ? backend : "auto");
}

struct process *world_leat_bare(struct world *world, ...) {
    char *argv[ARGS_MAX] = {(char *)leat_program(), "-o", (char *)world_backend_option()};
    unsigned argc = 3;
    va_list args;
    va_start(args, world);
    append_args(argv, &argc, args);
    va_end(args);
    return world_start(world, "leat", argv);
}

/* What leat and stock ssh are both told: the way to the server, whose key is known, and nothing of this machine's own.
 */
static unsigned client_args(const struct world *world, char **argv) {
    char *const args[] = {"-F", "none",
                          "-p", (char *)world_format("%u", world->server_port),
                          "-i", (char *)world->user_key,
                          "-o", "IdentitiesOnly=yes",
                          "-o", "BatchMode=yes",
                          "-o", (char *)world_format("UserKnownHostsFile=%s", world->known_hosts),
                          "-o", "StrictHostKeyChecking=yes",
                          "-o", "GlobalKnownHostsFile=none"};
    memcpy(argv, args, sizeof(args));
    return sizeof(args) / sizeof(args[0]);
}

struct process *world_leat(struct world *world, ...) {
    char *argv[ARGS_MAX] = {(char *)leat_program(), "-o", (char *)world_backend_option(), "-N"};
    unsigned argc = 4;
    argc += client_args(world, argv + argc);
    va_list args;
    va_start(args, world);
    append_args(argv, &argc, args);
    va_end(args);
    argv[argc++] = "127.0.0.1";
    argv[argc] = NULL;
    return world_start(world, "leat", argv);
}

struct process *world_ssh(struct world *world, ...) {
    char *argv[ARGS_MAX] = {"ssh"};
    unsigned argc = 1;
    argc += client_args(world, argv + argc);
    va_list args;
    va_start(args, world);
    append_args(argv, &argc, args);
    va_end(args);
    return world_start(world, "ssh", argv);
}

/* ---- the world ---- */

void world_begin(struct world *world) {
    const char *tmp = getenv("TMPDIR");
    *world = (struct world){.count = 0};
    snprintf(world->dir, sizeof(world->dir), "%s/leat-e2e-XXXXXX", tmp != NULL ? tmp : "/tmp");
    if (mkdtemp(world->dir) == NULL)
        world_die("mkdtemp");
    signal(SIGPIPE, SIG_IGN);
    snprintf(world->known_hosts, sizeof(world->known_hosts), "%s/known_hosts", world->dir);
    snprintf(world->user_key, sizeof(world->user_key), "%s/user_key", world->dir);
    if (world_run(world, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", world->user_key, NULL) != 0 ||
        world_run(world, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", world_path(world, "host_key"), NULL) != 0)
        world_die("ssh-keygen");
    world_copy(world_format("%s.pub", world->user_key), world_path(world, "authorized_keys"));
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *ftw) {
    (void)stat, (void)kind, (void)ftw;
    return remove(path);
}

/* What a sanitizer has found in leat, ctest must see. */
static void pass_on_findings(const struct process *process) {
    const char *log = process_log(process);
    if (strstr(log, "Sanitizer") != NULL || strstr(log, "runtime error:") != NULL)
        fprintf(stderr, "test world: output of %s:\n%s\n", process->name, log);
}

void world_end(struct world *world) {
    for (unsigned i = world->count; i-- > 0;)
        process_kill(&world->processes[i], SIGKILL);
    for (unsigned i = 0; i < world->count; i++) {
        reap(&world->processes[i], 0);
        pass_on_findings(&world->processes[i]);
    }
    nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}
