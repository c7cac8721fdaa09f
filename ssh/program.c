#include "ssh/program.h"
#include "engine/tcp.h"
#include "ssh/provider.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static int ready_pipe = -1, log_file = -1;
static struct rlimit files_given; /* rlim_max 0: not changed */

/* Whoever started us without standard descriptors must not find a socket in their place. */
static int fill_standard_descriptors(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    return fd < 0 ? ERR_SYSTEM : close(fd);
}

int program_begin(const char *name) {
    if (fill_standard_descriptors() != 0)
        return ERR_SYSTEM;
    signal(SIGPIPE, SIG_IGN);
    log_init(name, LOG_LEVEL_INFO, STDERR_FILENO);
    return 0;
}

void program_set_limits(void) {
    struct rlimit files;
    tcp_read_limits();
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files_given = files;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        log_verbose("cannot raise the descriptor limit: %s", strerror(errno));
}

void program_reset_limits(pid_t pid) {
    if (files_given.rlim_max != 0)
        (void)prlimit(pid, RLIMIT_NOFILE, &files_given, NULL);
}

void program_check_descriptors(uint64_t wanted, const char *what) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= wanted)
        return;
    log_error("this process may have %" PRIu64 " descriptors: too few for %s, which need %" PRIu64
              " beside one for each forwarded connection; raise the hard limit (ulimit -Hn, LimitNOFILE=)",
              (uint64_t)files.rlim_cur, what, wanted);
}

int program_log_to_file(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_error("cannot open the log file %s: %s", path, strerror(errno));
        return ERR_SYSTEM;
    }
    if (log_file < 0) {
        log_file = fd;
        log_set_fd(fd);
        return 0;
    }
    /* The number stays: a thread may be writing to it right now. */
    (void)dup3(fd, log_file, O_CLOEXEC);
    close(fd);
    return 0;
}

/* The parent: ends with 0 once the child is ready, else with the child's own status. */
_Noreturn static void wait_for_child(pid_t child, int fd) {
    char byte;
    ssize_t n;
    do
        n = read(fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(0);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED);
}

int program_go_background(void) {
    int fds[2];
    pid_t parent = getpid(), child = -1;
    if (pipe2(fds, O_CLOEXEC) == 0)
        child = fork();
    if (child < 0) {
        log_error("cannot go to the background: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    if (child > 0) {
        close(fds[1]);
        wait_for_child(child, fds[0]);
    }
    /* Whoever ends the one in the foreground ends the start. */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(EXIT_FAILED);
    close(fds[0]);
    ready_pipe = fds[1];
    return 0;
}

void program_ready(bool keep_stderr) {
    if (ready_pipe < 0)
        return;
    log_flush(); /* what was said until here is for the terminal */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, 0);
    setsid();
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        if (!keep_stderr)
            dup2(null, STDERR_FILENO);
        close(null);
    }
    (void)!write(ready_pipe, "", 1);
    close(ready_pipe);
    ready_pipe = -1;
}

int program_print_versions(const char *name, enum io_backend backend) {
    struct io *io;
    struct slot_pool slots;
    int err = slot_pool_init(&slots, 4096, 16);
    if (err != 0)
        return EXIT_FAILED;
    err = io_create(backend, &slots, &io);
    fprintf(stderr, "%s %s, %s, liburing %s, I/O backend %s\n", name, LEAT_VERSION, provider_versions(),
            LIBURING_VERSION, err == 0 ? io_name(io) : "none: not to be had here");
    if (err == 0)
        io_destroy(io);
    slot_pool_deinit(&slots);
    return err == 0 ? 0 : EXIT_FAILED;
}
