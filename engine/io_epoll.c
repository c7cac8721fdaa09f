/* The epoll backend, for kernels and containers where io_uring is off; one backend, one file, hence its length.
 * Edge-triggered: a descriptor is told to epoll once, and its readiness is remembered from edges and short reads, so an
 * idle connection costs no failing system call.
 *
 *   submit ──► parked in descriptor.ops ──edge──► ready list ──attempt──► done
 *                  ▲     (already ready: at once) ▲   │
 *                  └──────────── EAGAIN ──────────┼───┘
 *   io_cancel, failure to register ── settled ────┘ */
#include "engine/check.h"
#include "engine/io.h"
#include "engine/log.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256
#define ACCEPTS_PER_TURN 32   /* of one listener, so that a flood of connections leaves the others their turn */
#define PAGE_DESCRIPTORS 256u /* of the table, which grows by pages and never moves */

_Static_assert(POLLIN == EPOLLIN && POLLOUT == EPOLLOUT && POLLPRI == EPOLLPRI && POLLERR == EPOLLERR &&
                   POLLHUP == EPOLLHUP && POLLRDHUP == EPOLLRDHUP,
               "poll(2) and epoll(7) speak of the same bits");

#define END_EVENTS ((uint32_t)(EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI))
#define READ_EVENTS (END_EVENTS | (uint32_t)EPOLLIN)
#define WRITE_EVENTS ((uint32_t)(EPOLLOUT | EPOLLHUP | EPOLLERR))

enum side { SIDE_READ, SIDE_WRITE, SIDE_POLL, SIDES };

struct descriptor {
    struct io_op *ops[SIDES];
    uint32_t interest; /* what epoll was told, EPOLLET included; 0: nothing */
    bool readable, writable;
    bool ended; /* an end, an error or urgent data was signalled: a short read does not mean that nothing is left */
};

struct epoll {
    struct io io;
    int fd;
    bool no_pwait2;
    uint32_t in_flight;
    uint32_t pages_size;
    struct descriptor **pages; /* by descriptor number; NULL: none of those was used yet */
    struct list ready;         /* ops to attempt, or settled, in this turn */
    struct list ready_end;     /* how far this turn goes in it */
    struct epoll_event events[EVENTS_PER_TURN];
};

static struct epoll *epoll_of(struct io *io) {
    return (struct epoll *)(void *)io;
}

static enum side side_of(const struct io_op *op) {
    switch ((enum io_kind)op->kind) {
    case IO_KIND_CONNECT:
    case IO_KIND_SEND:
        return SIDE_WRITE;
    case IO_KIND_POLL:
        return op->poll_events & POLLOUT ? SIDE_WRITE : SIDE_POLL;
    default:
        return SIDE_READ;
    }
}

/* NULL: never used here. */
static struct descriptor *descriptor_known(const struct epoll *e, int fd) {
    const uint32_t page = (uint32_t)fd / PAGE_DESCRIPTORS;
    return page < e->pages_size && e->pages[page] ? &e->pages[page][(uint32_t)fd % PAGE_DESCRIPTORS] : NULL;
}

/* NULL: no memory. */
static struct descriptor *descriptor_new(struct epoll *e, int fd) {
    const uint32_t page = (uint32_t)fd / PAGE_DESCRIPTORS;
    if (page >= e->pages_size) {
        struct descriptor **grown = realloc(e->pages, (page + 1) * sizeof(*grown));
        if (grown == NULL)
            return NULL;
        memset(grown + e->pages_size, 0, (page + 1 - e->pages_size) * sizeof(*grown));
        e->pages = grown;
        e->pages_size = page + 1;
    }
    e->pages[page] = calloc(PAGE_DESCRIPTORS, sizeof(struct descriptor));
    return descriptor_known(e, fd);
}

static void op_ready(struct epoll *e, struct io_op *op) {
    if (!list_linked(&op->node))
        list_push_back(&e->ready, &op->node);
}

static void op_settle(struct epoll *e, struct io_op *op, int32_t res) {
    op->res = res;
    op->settled = true;
    op_ready(e, op);
}

/* Tells epoll of the descriptor, or of new interest in it. `again`: also when it knows, for then epoll looks at what is
 * ready now and reports it as a new edge. 0 or -errno. */
static int descriptor_watch(struct epoll *e, struct descriptor *d, int fd, uint32_t interest, bool again) {
    if (!again && (d->interest & interest) == interest)
        return 0;
    struct epoll_event event = {.events = d->interest | interest, .data.fd = fd};
    bool fresh = d->interest == 0;
    if (epoll_ctl(e->fd, fresh ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, fd, &event) < 0) {
        /* The number was closed behind our back and names another file now, or the file is still there under it. */
        if (errno != (fresh ? EEXIST : ENOENT))
            return -errno;
        if (epoll_ctl(e->fd, fresh ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event) < 0)
            return -errno;
        fresh = true;
    }
    if (fresh) {
        /* epoll reports at once what can be read. Sending nearly always works: try. */
        d->readable = d->ended = false;
        d->writable = true;
    }
    d->interest |= interest;
    return 0;
}

/* True when only epoll can say whether what a poll asks for is there already; false when our own receive or send has
 * found that it is not, for then an edge comes. */
static bool poll_must_ask(const struct descriptor *d, uint32_t events) {
    const uint32_t absent = (d->readable ? 0u : POLLIN) | (d->writable ? 0u : POLLOUT);
    const uint32_t asked = events & ~(uint32_t)(POLLERR | POLLHUP);
    return asked == 0 || (asked & ~absent) != 0;
}

static bool op_can_start(const struct descriptor *d, const struct io_op *op) {
    switch ((enum io_kind)op->kind) {
    case IO_KIND_ACCEPT:
    case IO_KIND_RECV:
    case IO_KIND_RECV_SLOT:
        return d->readable;
    case IO_KIND_SEND:
        return op->nowait || d->writable;
    default: /* only an event says that a connect is over, or what a poll asks for */
        return false;
    }
}

static void op_submit(struct epoll *e, struct io_op *op, enum io_kind kind, int fd, uint32_t interest) {
    op->kind = (uint8_t)kind;
    op->fd = fd;
    e->in_flight++;
    struct descriptor *d = descriptor_known(e, fd);
    if (d == NULL && (d = descriptor_new(e, fd)) == NULL) {
        op_settle(e, op, -ENOMEM);
        return;
    }
    CHECK(d->ops[side_of(op)] == NULL);
    d->ops[side_of(op)] = op;
    int err = descriptor_watch(e, d, fd, interest, kind == IO_KIND_POLL && poll_must_ask(d, op->poll_events));
    if (err < 0)
        op_settle(e, op, err);
    else if (op_can_start(d, op))
        op_ready(e, op);
}

/* Both directions at once, so that a connection is registered with one call. PRI: urgent data cuts reads short. */
#define STREAM_INTEREST ((uint32_t)(EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET))

static void epoll_accept(struct io *io, struct io_op *op, int fd) {
    op_submit(epoll_of(io), op, IO_KIND_ACCEPT, fd, EPOLLIN | EPOLLET);
}

static void epoll_recv(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n) {
    io_op_set_iov(op, iov, n);
    op_submit(epoll_of(io), op, IO_KIND_RECV, fd, STREAM_INTEREST);
}

static void epoll_recv_slot(struct io *io, struct io_op *op, int fd, uint32_t max) {
    op->slot_max = max;
    op_submit(epoll_of(io), op, IO_KIND_RECV_SLOT, fd, STREAM_INTEREST);
}

static void epoll_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n, enum io_send_mode mode) {
    io_op_set_iov(op, iov, n);
    op->nowait = mode == IO_SEND_NOW;
    op_submit(epoll_of(io), op, IO_KIND_SEND, fd, STREAM_INTEREST);
}

static void epoll_poll(struct io *io, struct io_op *op, int fd, uint32_t events) {
    op->poll_events = events | POLLERR | POLLHUP;
    op_submit(epoll_of(io), op, IO_KIND_POLL, fd, events | EPOLLET);
}

/* connect(2) never waits here, so it is called at once and only its result is for later. */
static void epoll_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len) {
    struct epoll *e = epoll_of(io);
    const int err = connect(fd, addr, addr_len) < 0 ? errno : 0;
    struct descriptor *d = descriptor_known(e, fd);
    if (d != NULL)
        d->interest = 0; /* a new socket: what was known of this number is of another */
    op_submit(e, op, IO_KIND_CONNECT, fd, STREAM_INTEREST);
    if (op->settled)
        return;
    if (err == EINPROGRESS || err == EINTR)
        descriptor_known(e, fd)->writable = false;
    else
        op_settle(e, op, -err);
}

static void epoll_cancel(struct io *io, struct io_op *op) {
    if (!op->settled)
        op_settle(epoll_of(io), op, -ECANCELED);
}

static void op_finish(struct epoll *e, struct io_op *op, int32_t res) {
    struct descriptor *d = descriptor_known(e, op->fd);
    if (d != NULL && d->ops[side_of(op)] == op)
        d->ops[side_of(op)] = NULL;
    if (list_linked(&op->node)) /* cancelled by a slot's waiter while it was attempted */
        list_remove(&op->node);
    e->in_flight--;
    op->in_flight = false;
    op->more = false;
    op->done(op, res);
}

/* After a receive of at most `wanted` bytes: true when it is done, false when it must wait. */
static bool received(struct epoll *e, struct io_op *op, ssize_t got, size_t wanted) {
    struct descriptor *d = descriptor_known(e, op->fd);
    if (got < 0 && errno == EAGAIN) {
        d->readable = false;
        return false;
    }
    if (got > 0 && (size_t)got < wanted)
        d->readable = d->ended;
    return true;
}

static ssize_t recv_once(const struct io_op *op, void *data, size_t len) {
    ssize_t got;
    do
        got = recv(op->fd, data, len, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t recvmsg_once(const struct io_op *op) {
    struct msghdr msg = {.msg_iov = op->iov, .msg_iovlen = op->iov_count};
    ssize_t got;
    do
        got = recvmsg(op->fd, &msg, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got;
}

static void attempt_recv(struct epoll *e, struct io_op *op) {
    ssize_t got = op->iov_count == 1 ? recv_once(op, op->iov->iov_base, op->iov->iov_len) : recvmsg_once(op);
    if (received(e, op, got, op->total_bytes))
        op_finish(e, op, got < 0 ? -errno : (int32_t)got);
}

static void attempt_recv_slot(struct epoll *e, struct io_op *op) {
    struct slot *slot = slot_take(e->io.slots);
    if (slot == NULL) {
        op_finish(e, op, -ENOBUFS);
        return;
    }
    const ssize_t got = recv_once(op, slot->data, op->slot_max);
    const int32_t res = got < 0 ? -errno : (int32_t)got;
    const bool finished = received(e, op, got, op->slot_max);
    if (got > 0) {
        slot->len = (uint32_t)got;
        op->slot = slot;
    } else {
        slot_put(e->io.slots, slot);
    }
    if (finished)
        op_finish(e, op, res);
}

static ssize_t send_once(const struct io_op *op) {
    const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    const struct msghdr msg = {.msg_iov = op->iov, .msg_iovlen = op->iov_count};
    ssize_t sent;
    do
        sent = op->iov_count == 1 ? send(op->fd, op->iov->iov_base, op->iov->iov_len, flags)
                                  : sendmsg(op->fd, &msg, flags);
    while (sent < 0 && errno == EINTR);
    return sent;
}

static void attempt_send(struct epoll *e, struct io_op *op) {
    const ssize_t sent = send_once(op);
    if (sent < 0 && errno != EAGAIN) {
        op_finish(e, op, -errno);
        return;
    }
    const bool all = sent > 0 && io_op_advance(op, (uint32_t)sent);
    if (!all)
        descriptor_known(e, op->fd)->writable = false; /* the kernel reports an edge when there is room again */
    if (all || op->nowait)
        op_finish(e, op, sent < 0 ? -EAGAIN : (int32_t)op->done_bytes);
}

static void attempt_connect(struct epoll *e, struct io_op *op) {
    int err = 0;
    socklen_t len = sizeof err;
    if (getsockopt(op->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
        err = errno;
    op_finish(e, op, -err);
}

static void attempt_accept(struct epoll *e, struct io_op *op) {
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        const int fd = accept4(op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && io_accept_transient(errno))
            continue;
        if (fd < 0 && errno == EAGAIN) {
            descriptor_known(e, op->fd)->readable = false;
            return;
        }
        if (fd < 0) {
            op_finish(e, op, -errno);
            return;
        }
        struct descriptor *d = descriptor_known(e, fd);
        if (d != NULL)
            *d = (struct descriptor){0};
        op->more = true;
        op->done(op, fd);
        if (op->settled) /* cancelled from within done */
            return;
    }
    op_ready(e, op);
}

static void op_attempt(struct epoll *e, struct io_op *op) {
    if (op->settled) {
        op_finish(e, op, op->res);
        return;
    }
    switch ((enum io_kind)op->kind) {
    case IO_KIND_ACCEPT:
        attempt_accept(e, op);
        break;
    case IO_KIND_CONNECT:
        attempt_connect(e, op);
        break;
    case IO_KIND_RECV:
        attempt_recv(e, op);
        break;
    case IO_KIND_RECV_SLOT:
        attempt_recv_slot(e, op);
        break;
    case IO_KIND_SEND:
        attempt_send(e, op);
        break;
    case IO_KIND_POLL: /* is settled by its event */
        break;
    }
}

/* Those that become ready while these run wait for the next turn: nobody is starved by a chatty few. */
static void ready_run(struct epoll *e) {
    list_push_back(&e->ready, &e->ready_end);
    for (struct list *node; (node = list_first(&e->ready)) != &e->ready_end;) {
        list_remove(node);
        op_attempt(e, list_entry(node, struct io_op, node));
    }
    list_remove(&e->ready_end);
}

static void op_on_event(struct epoll *e, struct io_op *op, uint32_t events) {
    const bool polling = op->kind == IO_KIND_POLL;
    if (op->settled)
        return;
    if (polling && (events & op->poll_events))
        op_settle(e, op, (int32_t)(events & op->poll_events));
    else if (!polling && (side_of(op) == SIDE_READ ? events & READ_EVENTS : events & WRITE_EVENTS))
        op_ready(e, op);
}

static void on_event(struct epoll *e, const struct epoll_event *event) {
    struct descriptor *d = descriptor_known(e, event->data.fd);
    if (d == NULL || d->interest == 0)
        return;
    const uint32_t events = event->events;
    if (events & END_EVENTS)
        d->ended = true;
    if (events & READ_EVENTS)
        d->readable = true;
    if (events & WRITE_EVENTS)
        d->writable = true;
    for (int i = 0; i < SIDES; i++) {
        if (d->ops[i] != NULL)
            op_on_event(e, d->ops[i], events);
    }
}

/* Rounds up: early is a turn for nothing, and a timer that is not yet due. */
static int wait_ms(uint64_t wait_ns) {
    const uint64_t ms = wait_ns / 1000000u + (wait_ns % 1000000u != 0);
    return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

/* Number of events, or -1 with errno. */
static int events_wait(struct epoll *e, uint64_t deadline_ns) {
    if (deadline_ns == 0 || !list_empty(&e->ready))
        return epoll_wait(e->fd, e->events, EVENTS_PER_TURN, 0);
    if (deadline_ns == UINT64_MAX)
        return epoll_wait(e->fd, e->events, EVENTS_PER_TURN, -1);
    const uint64_t now = io_clock_ns();
    const uint64_t wait = deadline_ns > now ? deadline_ns - now : 0;
    if (!e->no_pwait2) {
        const struct timespec timeout = {.tv_sec = (time_t)(wait / 1000000000u), .tv_nsec = (long)(wait % 1000000000u)};
        int n = epoll_pwait2(e->fd, e->events, EVENTS_PER_TURN, &timeout, NULL);
        if (n >= 0 || (errno != ENOSYS && errno != EPERM))
            return n;
        e->no_pwait2 = true; /* before Linux 5.11, or a seccomp filter that doesn't know it */
    }
    return epoll_wait(e->fd, e->events, EVENTS_PER_TURN, wait_ms(wait));
}

static int epoll_turn(struct io *io, uint64_t deadline_ns) {
    struct epoll *e = epoll_of(io);
    const int n = events_wait(e, deadline_ns);
    if (n < 0 && errno != EINTR) {
        log_error("epoll_wait: %s", strerror(errno));
        return ERR_SYSTEM;
    }
    io->now_ns = io_clock_ns();
    for (int i = 0; i < n; i++)
        on_event(e, &e->events[i]);
    ready_run(e);
    return 0;
}

static void epoll_shutdown(struct io *io, int fd, int how) {
    (void)io;
    (void)shutdown(fd, how);
}

static void epoll_close(struct io *io, int fd, enum io_close_mode mode) {
    struct epoll *e = epoll_of(io);
    struct descriptor *d = descriptor_known(e, fd);
    if (d != NULL) {
        for (int i = 0; i < SIDES; i++)
            CHECK(d->ops[i] == NULL);
        /* A duplicate of it may live on elsewhere: closing alone would then leave it registered. */
        if (d->interest != 0)
            (void)epoll_ctl(e->fd, EPOLL_CTL_DEL, fd, NULL);
        *d = (struct descriptor){0};
    }
    io_close_now(fd, mode);
}

static void epoll_destroy(struct io *io) {
    struct epoll *e = epoll_of(io);
    CHECK(e->in_flight == 0);
    close(e->fd);
    for (uint32_t i = 0; i < e->pages_size; i++)
        free(e->pages[i]);
    free(e->pages);
    free(e);
}

static const struct io_ops epoll_ops = {
    .name = "epoll",
    .destroy = epoll_destroy,
    .accept = epoll_accept,
    .connect = epoll_connect,
    .recv = epoll_recv,
    .recv_slot = epoll_recv_slot,
    .send = epoll_send,
    .poll = epoll_poll,
    .cancel = epoll_cancel,
    .shutdown = epoll_shutdown,
    .close = epoll_close,
    .turn = epoll_turn,
};

int io_epoll_create(struct slot_pool *slots, struct io **io) {
    struct epoll *e = calloc(1, sizeof *e);
    if (e == NULL)
        return ERR_NOMEM;
    e->fd = epoll_create1(EPOLL_CLOEXEC);
    if (e->fd < 0) {
        const int error_number = errno;
        free(e);
        errno = error_number;
        return ERR_UNSUPPORTED;
    }
    list_init(&e->ready);
    list_init(&e->ready_end);
    e->io = (struct io){.ops = &epoll_ops, .slots = slots, .now_ns = io_clock_ns()};
    *io = &e->io;
    return 0;
}
