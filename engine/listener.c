#include "engine/listener.h"
#include "engine/log.h"
#include "engine/resolve.h"
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
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

static int bind_and_listen(int fd, const struct sockaddr *addr, socklen_t addr_len, int backlog) {
    int on = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0)
        return -1;
    if (addr->sa_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0)
        return -1;
    if (bind(fd, addr, addr_len) < 0)
        return -1;
    return listen(fd, backlog);
}

int listen_bind(const struct sockaddr *addr, socklen_t addr_len, int backlog, int *fd) {
    int made = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (made < 0)
        return bind_error(errno);
    if (bind_and_listen(made, addr, addr_len, backlog) < 0) {
        int error_number = errno;
        close(made);
        errno = error_number;
        return bind_error(error_number);
    }
    *fd = made;
    return 0;
}

static void listener_arm(struct listener *listener) {
    io_accept(listener->shard->io, &listener->accept, listener->fd);
}

static unsigned listener_port(const struct listener *listener) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getsockname(listener->fd, (struct sockaddr *)&addr, &len) < 0)
        return 0;
    return address_port((const struct sockaddr *)&addr);
}

static void listener_pause(struct listener *listener, int error_number) {
    struct shard *shard = listener->shard;
    uint64_t now = shard_now(shard);
    if (listener->complained_ns == 0 || now - listener->complained_ns >= COMPLAIN_NS) {
        listener->complained_ns = now;
        log_error("port %u: accepting paused: %s", listener_port(listener), strerror(error_number));
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
        log_error("port %u: accepting stopped: %s", listener_port(listener), strerror(error_number));
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
