#include "engine/listener.h"
#include "engine/log.h"
#include "engine/resolve.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RETRY_NS UINT64_C(1000000000)
/* When descriptors run out for long, accepting stops and goes on with every one that is freed: no line for each. */
#define COMPLAIN_NS (10 * UINT64_C(1000000000))

static int bind_error(int error_number) {
    switch (error_number) {
    case EACCES:
    case EPERM:
        return ERR_ACCESS;
    case EADDRINUSE:
        return ERR_INUSE;
    case EADDRNOTAVAIL:
        return ERR_UNREACHABLE;
    default:
        return ERR_SYSTEM;
    }
}

static int set_options(int fd, int family) {
    int on = 1;
    if (family == AF_UNIX)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -1;
    return family == AF_INET6 ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) : 0;
}

static int bind_and_listen(int fd, const struct sockaddr *addr, socklen_t addr_len, int backlog) {
    if (set_options(fd, addr->sa_family) < 0 || bind(fd, addr, addr_len) < 0)
        return -1;
    return listen(fd, backlog);
}

static int bind_failed(int fd) {
    int error_number = errno;
    if (fd >= 0)
        close(fd);
    errno = error_number;
    return bind_error(error_number);
}

int listen_bind(const struct sockaddr *addr, socklen_t addr_len, int backlog, int *fd) {
    int made = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0 || bind_and_listen(made, addr, addr_len, backlog) < 0)
        return bind_failed(made);
    *fd = made;
    return 0;
}

int listen_bind_path(const char *path, mode_t mode, int backlog, int *fd) {
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof addr.sun_path) { /* an empty path would be an abstract socket's */
        errno = *path ? ENAMETOOLONG : ENOENT;
        return ERR_SYSTEM;
    }
    strcpy(addr.sun_path, path);
    int made = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* The file is made with the mode of the unbound socket: umask(2) would be that of all threads. */
    if (made < 0 || fchmod(made, mode) < 0 || bind_and_listen(made, (struct sockaddr *)&addr, sizeof addr, backlog) < 0)
        return bind_failed(made);
    *fd = made;
    return 0;
}

static void listener_arm(struct listener *listener) {
    io_accept(listener->shard->io, &listener->accept, listener->fd);
}

/* "port 8022" or a path, for the log. */
static const char *listener_name(const struct listener *listener, char *out, size_t cap) {
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;
    (void)getsockname(listener->fd, (struct sockaddr *)&addr, &len);
    if (addr.ss_family != AF_UNIX) {
        snprintf(out, cap, "port %u", address_port((const struct sockaddr *)&addr));
        return out;
    }
    const struct sockaddr_un *local = (const struct sockaddr_un *)(const void *)&addr;
    return log_safe(out, cap, local->sun_path, strnlen(local->sun_path, sizeof local->sun_path));
}

static void complain(const struct listener *listener, const char *what, int error_number) {
    char name[160];
    log_error("%s: accepting %s: %s", listener_name(listener, name, sizeof name), what, strerror(error_number));
}

static void listener_pause(struct listener *listener, int error_number) {
    struct shard *shard = listener->shard;
    uint64_t now = shard_now(shard);
    if (listener->complained_ns == 0 || now - listener->complained_ns >= COMPLAIN_NS) {
        listener->complained_ns = now;
        complain(listener, "paused", error_number);
    }
    list_push_back(&shard->accept_paused, &listener->paused_node);
    timer_arm(&shard->timers, &listener->retry, now + RETRY_NS);
}

static void listener_unpause(struct listener *listener) {
    list_remove(&listener->paused_node);
    timer_cancel(&listener->shard->timers, &listener->retry);
}

static void retry_on_timer(struct timer *timer) {
    struct listener *listener = list_entry(timer, struct listener, retry);
    listener_unpause(listener);
    listener_arm(listener);
}

void listener_resume(struct shard *shard) {
    struct list *node;
    while ((node = list_first(&shard->accept_paused)) != NULL) {
        struct listener *listener = list_entry(node, struct listener, paused_node);
        listener_unpause(listener);
        listener_arm(listener);
    }
}

static void accept_failed(struct listener *listener, int error_number) {
    if (io_accept_transient(error_number))
        listener_arm(listener);
    else if (error_number == EBADF || error_number == EINVAL || error_number == ENOTSOCK)
        complain(listener, "stopped", error_number);
    else
        listener_pause(listener, error_number);
}

static void accept_done(struct io_op *op, int32_t res) {
    struct listener *listener = list_entry(op, struct listener, accept);
    if (res >= 0 && listener->closing)
        io_close(listener->shard->io, res, IO_CLOSE);
    else if (res >= 0)
        listener->on_accept(listener, res);
    if (op->in_flight)
        return;
    if (listener->closing)
        shard_defer(listener->shard, &listener->close);
    else if (res >= 0)
        listener_arm(listener);
    else
        accept_failed(listener, -res);
}

static void close_run(struct task *task) {
    struct listener *listener = list_entry(task, struct listener, close);
    io_close(listener->shard->io, listener->fd, IO_CLOSE);
    listener->fd = -1;
    listener->on_closed(listener);
}

void listener_init(struct listener *listener, struct shard *shard, int fd, listener_accept_fn *on_accept, void *owner) {
    *listener = (struct listener){.shard = shard, .on_accept = on_accept, .owner = owner, .fd = fd};
    io_op_init(&listener->accept, accept_done);
    listener->retry.on_timer = retry_on_timer;
    list_init(&listener->paused_node);
    task_init(&listener->close, close_run);
    listener_arm(listener);
}

void listener_close(struct listener *listener, void (*on_closed)(struct listener *listener)) {
    if (listener->closing)
        return;
    listener->closing = true;
    listener->on_closed = on_closed;
    listener_unpause(listener);
    if (listener->accept.in_flight)
        io_cancel(listener->shard->io, &listener->accept);
    else
        shard_defer(listener->shard, &listener->close);
}
