#include "ssh/proxy_command.h"
#include "engine/log.h"
#include "ssh/program.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void become_shell(const char *shell, const char *command, int fd) {
    (void)signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    program_reset_limits(0);
    if (dup2(fd, STDIN_FILENO) >= 0 && dup2(fd, STDOUT_FILENO) >= 0)
        execl(shell, shell, "-c", command, (char *)NULL);
    _exit(127);
}

/* In the child: starts the proxy, tells its number (or -errno), and stays until the parent holds a pidfd of it (the end
 * of `hold`), so that the number cannot become another process's in between. */
static _Noreturn void middle(const char *shell, const char *command, int fd, int tell, int hold) {
    pid_t pid = fork();
    if (pid == 0)
        become_shell(shell, command, fd);
    pid_t told = pid > 0 ? pid : -errno;
    (void)!write(tell, &told, sizeof told);
    if (pid > 0) {
        char byte;
        while (read(hold, &byte, 1) < 0 && errno == EINTR)
            continue;
    }
    _exit(pid > 0 ? 0 : 1);
}

static pid_t read_pid(int fd) {
    pid_t pid;
    ssize_t n;
    while ((n = read(fd, &pid, sizeof pid)) < 0 && errno == EINTR)
        continue;
    return n == (ssize_t)sizeof pid ? pid : -EIO;
}

static int start(const char *shell, const char *command, int pair[2], int pipes[4], struct proxy *proxy) {
    pid_t child = fork();
    if (child < 0)
        return ERR_SYSTEM;
    if (child == 0) {
        (void)close(pipes[3]);
        middle(shell, command, pair[1], pipes[1], pipes[2]);
    }
    (void)close(pipes[1]);
    pipes[1] = -1;
    pid_t pid = read_pid(pipes[0]);
    proxy->pidfd = pid > 0 ? pidfd_open(pid, 0) : -1;
    (void)close(pipes[3]);
    pipes[3] = -1;
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
    if (pid > 0)
        return 0;
    errno = -pid;
    return ERR_SYSTEM;
}

static void close_all(int *fds, unsigned count) {
    for (unsigned i = 0; i < count; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
}

static int open_all(int pair[2], int pipes[4]) {
    bool opened = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0 && pipe2(pipes, O_CLOEXEC) == 0 &&
                  pipe2(pipes + 2, O_CLOEXEC) == 0 && fcntl(pair[0], F_SETFL, O_NONBLOCK) == 0;
    return opened ? 0 : err_from_errno(errno);
}

int proxy_start(const char *command, struct proxy *proxy) {
    *proxy = (struct proxy){.fd = -1, .pidfd = -1};
    const char *shell = getenv("SHELL");
    int pair[2] = {-1, -1}, pipes[4] = {-1, -1, -1, -1};
    char *line = NULL;
    const char *exec = strncmp(command, "exec", 4) == 0 ? "" : "exec "; /* as ssh */
    int err = asprintf(&line, "%s%s", exec, command) < 0 ? ERR_NOMEM : open_all(pair, pipes);
    if (err == 0)
        err = start(shell && *shell ? shell : "/bin/sh", line, pair, pipes, proxy);
    free(line);
    close_all(pipes, 4);
    close_all(pair + 1, 1);
    if (err) {
        log_error("cannot start ProxyCommand %s: %s", command, err == ERR_NOMEM ? err_text(err) : strerror(errno));
        close_all(pair, 1);
        return err;
    }
    proxy->fd = pair[0];
    return 0;
}

void proxy_end(int pidfd) {
    if (pidfd < 0)
        return;
    (void)pidfd_send_signal(pidfd, SIGHUP, NULL, 0);
    (void)close(pidfd);
}
