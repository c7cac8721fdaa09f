/* leat: the SSH tunnel client. Reads what the person asked for, proves that the libraries do what they must, goes to
 * the background when told to, and runs the tunnel. */
#include "engine/error.h"
#include "engine/log.h"
#include "ssh/client.h"
#include "ssh/options.h"
#include "ssh/provider.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXIT_FAILED 255

static int ready_pipe = -1;

/* -f: the child is ready: cut loose from the terminal and let the parent go. */
static void on_ready(void) {
    log_debug("ready: every forward listens");
    if (ready_pipe < 0)
        return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    prctl(PR_SET_PDEATHSIG, 0);
    setsid();
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        close(null);
    }
    (void)!write(ready_pipe, "", 1);
    close(ready_pipe);
    ready_pipe = -1;
}

/* The parent of -f: ends with 0 once the child is ready, else with the child's own status. */
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

/* Forks before there are threads; prompts still work, since the child keeps the terminal until it is ready. */
static int go_background(void) {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return ERR_SYSTEM;
    pid_t parent = getpid(), child = fork();
    if (child < 0)
        return ERR_SYSTEM;
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

/* Whoever started us without standard descriptors must not find a socket in their place. */
static int fill_standard_descriptors(void) {
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    return fd < 0 ? ERR_SYSTEM : close(fd);
}

/* Descriptors up to the hard limit; no core that could hold keys. */
static void set_limits(void) {
    struct rlimit files, core = {0, 0};
    setrlimit(RLIMIT_CORE, &core);
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        log_verbose("cannot raise the descriptor limit: %s", strerror(errno));
}

static int print_versions(const struct options *options) {
    struct io *io;
    struct slot_pool slots;
    int err = slot_pool_init(&slots, 4096, 16);
    if (err != 0)
        return EXIT_FAILED;
    err = io_create(options->io_backend, &slots, &io);
    fprintf(stderr, "leat %s, %s, liburing %s, I/O backend %s\n", LEAT_VERSION, provider_versions(), LIBURING_VERSION,
            err == 0 ? io_name(io) : "none: not to be had here");
    if (err == 0)
        io_destroy(io);
    slot_pool_deinit(&slots);
    return err == 0 ? 0 : EXIT_FAILED;
}

static int run(const struct options *options) {
    if (options->background && go_background() != 0) {
        log_error("cannot go to the background: %s", strerror(errno));
        return EXIT_FAILED;
    }
    if (provider_init() != 0 || selfcheck() != 0)
        return EXIT_FAILED;
    int status = client_run(options, on_ready);
    provider_deinit();
    return status;
}

/* -v, -q, LogLevel and -E take effect. */
static int set_log(const struct options *options) {
    log_set_level(options->log_level);
    if (options->log_file == NULL)
        return 0;
    int fd = open(options->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) {
        log_error("cannot open the log file %s: %s", options->log_file, strerror(errno));
        return ERR_SYSTEM;
    }
    log_set_fd(fd);
    return 0;
}

int main(int argc, char **argv) {
    struct options options;
    if (fill_standard_descriptors() != 0)
        return EXIT_FAILED;
    signal(SIGPIPE, SIG_IGN);
    log_init("leat", LOG_LEVEL_INFO, STDERR_FILENO);
    if (options_read(&options, argc, argv) != 0)
        return EXIT_FAILED;
    set_limits();
    int status = 0;
    if (options.version_only)
        status = print_versions(&options);
    else if (options.print_config)
        options_print(&options, stdout);
    else
        status = set_log(&options) == 0 ? run(&options) : EXIT_FAILED;
    options_deinit(&options);
    return status;
}
