/* -i: one connection on standard input and output. One socket is served as it is. Two pipes (or sockets) become one by
 * a socketpair and a thread that carries bytes between, each direction by itself:
 *
 *   stdin ──► buffer ──► pair ──► the connection            end of stdin ─► shutdown(pair, WR)
 *   stdout ◄── buffer ◄── pair ◄── the connection           end of the connection ─► close(stdout) */
#include "ssh/server_internal.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUMP_BYTES (128u << 10)
/* The connection is gone: what is still to be written to standard output waits so long for its reader. */
#define PUMP_LINGER_MS 2000

struct pump_half {
    int from, to;
    uint8_t *buffer;
    size_t at, len;
    bool ended; /* nothing more comes, nothing is left */
};

struct pump {
    struct pump_half in, out; /* from the client, to the client */
    int pair;
    pthread_t thread;
};

static int standard_fd(int standard) {
    char path[32];
    struct stat stat;
    if (fstat(standard, &stat) != 0)
        return -1;
    /* A description of our own where there can be one: whoever shares the pipe keeps it blocking. */
    snprintf(path, sizeof(path), "/proc/self/fd/%d", standard);
    int mode = standard == STDIN_FILENO ? O_RDONLY : O_WRONLY;
    int fd = S_ISFIFO(stat.st_mode) ? open(path, mode | O_NONBLOCK | O_CLOEXEC) : -1;
    if (fd < 0)
        fd = fcntl(standard, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0 || fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) != 0)
        return -1;
    return fd;
}

/* Nothing of ours may be mixed into what the client reads, nor keep its pipes open. */
static void leave_standard(bool keep_stderr) {
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0)
        return;
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    if (!keep_stderr)
        dup2(null, STDERR_FILENO);
    close(null);
}

/* ---- the pump ---- */

static bool again(void) {
    return errno == EAGAIN || errno == EINTR;
}

static void half_end(struct pump *pump, struct pump_half *half) {
    half->ended = true;
    if (half == &pump->in)
        (void)shutdown(half->to, SHUT_WR);
    else
        close(half->to);
}

static void half_move(struct pump *pump, struct pump_half *half, short from_events, short to_events) {
    if (half->len == 0 && from_events != 0) {
        ssize_t n = read(half->from, half->buffer, PUMP_BYTES);
        if (n == 0 || (n < 0 && !again()))
            return half_end(pump, half);
        half->at = 0;
        half->len = n > 0 ? (size_t)n : 0;
        to_events = POLLOUT;
    }
    if (half->len == 0 || to_events == 0)
        return;
    ssize_t n = write(half->to, half->buffer + half->at, half->len);
    if (n < 0 && !again())
        return half_end(pump, half);
    half->at += n > 0 ? (size_t)n : 0;
    half->len -= n > 0 ? (size_t)n : 0;
}

/* The pair's other end is closed: nobody reads what the client still sends, whether it is silent or not. */
static bool pair_closed(const struct pump *pump) {
    struct pollfd fd = {.fd = pump->pair};
    return poll(&fd, 1, 0) == 1 && (fd.revents & POLLHUP) != 0;
}

static void *pump_run(void *arg) {
    struct pump *pump = arg;
    struct pump_half *in = &pump->in, *out = &pump->out;
    while (!out->ended) {
        bool closed = pair_closed(pump);
        struct pollfd fds[5] = {
            {.fd = !in->ended && in->len == 0 && !closed ? in->from : -1, .events = POLLIN},
            {.fd = !in->ended && in->len > 0 && !closed ? in->to : -1, .events = POLLOUT},
            {.fd = out->len == 0 ? out->from : -1, .events = POLLIN},
            {.fd = out->len > 0 ? out->to : -1, .events = POLLOUT},
            {.fd = !closed ? pump->pair : -1}, /* its end alone */
        };
        int ready = poll(fds, 5, closed ? PUMP_LINGER_MS : -1);
        if (ready == 0)
            break;
        if (ready < 0)
            continue;
        if (!in->ended)
            half_move(pump, in, fds[0].revents, fds[1].revents);
        half_move(pump, out, fds[2].revents, fds[3].revents);
    }
    (void)shutdown(pump->pair, SHUT_RDWR); /* where standard output ended first */
    return NULL;
}

static void pump_free(struct pump *pump) {
    close(pump->in.from);
    if (!pump->out.ended)
        close(pump->out.to);
    close(pump->pair);
    free(pump->in.buffer);
    free(pump->out.buffer);
    free(pump);
}

/* Takes from and to over; *fd is the connection's end. */
static int pump_create(int from, int to, struct pump **result, int *fd) {
    int pair[2];
    struct pump *pump = calloc(1, sizeof(*pump));
    if (pump == NULL)
        return ERR_NOMEM;
    pump->in.buffer = malloc(PUMP_BYTES);
    pump->out.buffer = malloc(PUMP_BYTES);
    if (pump->in.buffer == NULL || pump->out.buffer == NULL ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) != 0) {
        free(pump->in.buffer);
        free(pump->out.buffer);
        free(pump);
        return ERR_SYSTEM;
    }
    pump->pair = pump->in.to = pump->out.from = pair[0];
    pump->in.from = from;
    pump->out.to = to;
    *result = pump;
    *fd = pair[1];
    return 0;
}

/* ---- the connection ---- */

static bool one_socket(void) {
    struct stat in, out;
    return fstat(STDIN_FILENO, &in) == 0 && fstat(STDOUT_FILENO, &out) == 0 && S_ISSOCK(in.st_mode) &&
           in.st_ino == out.st_ino && in.st_dev == out.st_dev;
}

/* pump stays NULL for a socket that needs none. */
static int take_standard(const struct server_command_line *line, struct pump **pump, int *fd) {
    int in = standard_fd(STDIN_FILENO), out = one_socket() ? in : standard_fd(STDOUT_FILENO);
    if (in < 0 || out < 0) {
        log_error("-i: standard input and output cannot be used: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    leave_standard(line->to_stderr || line->debug > 0);
    *fd = in;
    return in == out ? 0 : pump_create(in, out, pump, fd);
}

struct adopted {
    struct server_shard *on;
    struct startup startup;
};

static void run_adopt(void *arg, int64_t fd) {
    struct adopted *adopted = arg;
    server_connection_start(adopted->on, (int)fd, &adopted->startup);
}

static int serve(struct server_main *main, int fd, struct pump *pump) {
    struct adopted adopted = {.on = &main->server.shards[0]};
    if (pump != NULL) {
        int error_number = pthread_create(&pump->thread, NULL, pump_run, pump);
        if (error_number != 0) {
            log_error("cannot start a thread: %s", strerror(error_number));
            close(fd);
            return ERR_LIMIT;
        }
    }
    atomic_fetch_add(&adopted.on->load, 1);
    server_post(main, 0, run_adopt, &adopted, fd);
    server_loop(main);
    if (pump != NULL)
        pthread_join(pump->thread, NULL);
    return 0;
}

int server_run_inetd(const struct server_command_line *line, struct server_config *config) {
    struct server_main main = {.line = line, .inetd = true};
    struct pump *pump = NULL;
    int fd = -1, err = take_standard(line, &pump, &fd);
    if (err != 0)
        return EXIT_FAILED;
    err = server_start(&main, config);
    if (err == 0)
        err = serve(&main, fd, pump);
    else
        close(fd);
    int status = err == 0 ? 0 : EXIT_FAILED;
    server_stop(&main, status);
    if (pump != NULL)
        pump_free(pump);
    return status;
}
