/* The io_uring backend; one backend, one file, hence its length. One io_uring_enter per turn submits everything queued
 * and brings everything that has completed; the user data of a request is its op, with bit 0 set for the request that
 * cancels the op.
 *
 * Slots for io_recv_slot are lent to the kernel through a provided-buffer ring, no more than there are such ops and
 * never more than a part of the pool; the kernel takes one only when data is there. */
#include "engine/check.h"
#include "engine/io.h"
#include "engine/log.h"
#include <errno.h>
#include <liburing.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SQ_ENTRIES 512u
#define CQ_ENTRIES 4096u /* a burst of accepts fits; more than that waits inside the kernel, slower but not lost */
#define LENT_MAX 64u     /* power of two: entries of the provided-buffer ring */
#define LENT_GROUP 0
#define ADDRESSES 32u /* of connects that are queued and not yet submitted */
#define CANCEL_BIT 1u

_Static_assert(_Alignof(struct io_op) > CANCEL_BIT, "bit 0 of an op's address is free");

struct uring {
    struct io io;
    struct io_uring ring;
    struct io_uring_buf_ring *lent_ring;
    uint32_t lent, lent_max;
    bool lent_registered;
    uint32_t slot_ops; /* recv_slot ops that the kernel has */
    uint32_t in_flight;
    uint32_t addresses_used;
    struct sockaddr_storage addresses[ADDRESSES];
    struct msghdr messages[SQ_ENTRIES]; /* of the request in the same place of the submission queue */
};

static struct uring *uring_of(struct io *io) {
    return (struct uring *)(void *)io;
}

/* What was submitted has been read by the kernel (IORING_FEAT_SUBMIT_STABLE), addresses included. */
static void addresses_reuse(struct uring *u) {
    if (io_uring_sq_ready(&u->ring) == 0)
        u->addresses_used = 0;
}

static void queue_flush(struct uring *u) {
    int ret = io_uring_submit(&u->ring);
    /* The kernel refuses a submission for want of memory, and then the next try may do; else we broke the ring's rules.
     */
    CHECK(ret >= 0 || ret == -EAGAIN || ret == -EBUSY || ret == -EINTR);
    addresses_reuse(u);
}

static struct io_uring_sqe *sqe_get(struct uring *u) {
    struct io_uring_sqe *sqe;
    while ((sqe = io_uring_get_sqe(&u->ring)) == NULL)
        queue_flush(u);
    return sqe;
}

/* The op's buffers as the kernel wants them. It has its own copy once the request is submitted
 * (IORING_FEAT_SUBMIT_STABLE), and until then nothing else can be in this place of the queue. */
static struct msghdr *message_of(struct uring *u, const struct io_uring_sqe *sqe, const struct io_op *op) {
    struct msghdr *message = &u->messages[sqe - u->ring.sq.sqes];
    *message = (struct msghdr){.msg_iov = op->iov, .msg_iovlen = op->iov_count};
    return message;
}

static void prepare_recv_slot(struct io_uring_sqe *sqe, const struct io_op *op) {
    io_uring_prep_recv(sqe, op->fd, NULL, op->slot_max, 0);
    /* The kernel takes a lent slot when it receives; len stays the cap. */
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = LENT_GROUP;
    /* A cold connection has nothing yet: don't try before it is readable. So -ENOBUFS is never said without data. */
    sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

static void prepare_send(struct uring *u, struct io_uring_sqe *sqe, const struct io_op *op) {
    /* DONTWAIT: -EAGAIN at once instead of waiting for room. WAITALL: the kernel itself goes on after a short send.
     * NOSIGNAL: EPIPE without SIGPIPE. */
    const int flags = MSG_NOSIGNAL | (op->nowait ? MSG_DONTWAIT : MSG_WAITALL);
    /* One buffer spares the kernel the copy of a msghdr. But a send that waits may end up in one of its worker threads,
     * and would block that: only sendmsg minds there that the socket is non-blocking. */
    if (op->nowait && op->iov_count == 1)
        io_uring_prep_send(sqe, op->fd, op->iov->iov_base, op->iov->iov_len, flags);
    else
        io_uring_prep_sendmsg(sqe, op->fd, message_of(u, sqe, op), (unsigned)flags);
}

static void prepare_poll(struct io_uring_sqe *sqe, const struct io_op *op) {
    if (op->edges)
        io_uring_prep_poll_multishot(sqe, op->fd, op->poll_events);
    else
        io_uring_prep_poll_add(sqe, op->fd, op->poll_events);
}

static void prepare_recv(struct uring *u, struct io_uring_sqe *sqe, const struct io_op *op) {
    if (op->iov_count == 1)
        io_uring_prep_recv(sqe, op->fd, op->iov->iov_base, op->iov->iov_len, 0);
    else
        io_uring_prep_recvmsg(sqe, op->fd, message_of(u, sqe, op), 0);
    /* The last receive left nothing behind: another try would find nothing, or a scrap where SO_RCVLOWAT asks for more.
     */
    if (op->drained)
        sqe->ioprio |= IORING_RECVSEND_POLL_FIRST;
}

/* Queues the request that op describes; again, when the kernel has ended it before its time. */
static void op_push(struct uring *u, struct io_op *op) {
    struct io_uring_sqe *sqe = sqe_get(u);
    switch ((enum io_kind)op->kind) {
    case IO_KIND_ACCEPT:
        io_uring_prep_multishot_accept(sqe, op->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        break;
    case IO_KIND_CONNECT:
        io_uring_prep_connect(sqe, op->fd, op->addr, op->total_bytes);
        break;
    case IO_KIND_RECV:
        prepare_recv(u, sqe, op);
        break;
    case IO_KIND_RECV_SLOT:
        prepare_recv_slot(sqe, op);
        break;
    case IO_KIND_SEND:
        if (op->edges)
            prepare_poll(sqe, op);
        else
            prepare_send(u, sqe, op);
        break;
    case IO_KIND_POLL:
        prepare_poll(sqe, op);
        break;
    }
    io_uring_sqe_set_data64(sqe, (uintptr_t)op);
}

static void op_submit(struct io *io, struct io_op *op, enum io_kind kind, int fd) {
    struct uring *u = uring_of(io);
    op->kind = (uint8_t)kind;
    op->fd = fd;
    u->in_flight++;
    op_push(u, op);
}

static void uring_accept(struct io *io, struct io_op *op, int fd) {
    op_submit(io, op, IO_KIND_ACCEPT, fd);
}

static void uring_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len) {
    struct uring *u = uring_of(io);
    while (u->addresses_used == ADDRESSES)
        queue_flush(u);
    struct sockaddr_storage *copy = &u->addresses[u->addresses_used++];
    memcpy(copy, addr, addr_len);
    op->addr = (const struct sockaddr *)copy;
    op->total_bytes = addr_len;
    op_submit(io, op, IO_KIND_CONNECT, fd);
}

static void uring_recv(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n) {
    io_op_set_iov(op, iov, n);
    op_submit(io, op, IO_KIND_RECV, fd);
}

static void uring_recv_slot(struct io *io, struct io_op *op, int fd, uint32_t max) {
    op->slot_max = max;
    uring_of(io)->slot_ops++;
    op_submit(io, op, IO_KIND_RECV_SLOT, fd);
}

static void uring_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n, enum io_send_mode mode) {
    io_op_set_iov(op, iov, n);
    op->nowait = mode == IO_SEND_NOW;
    op->edges = false;
    op_submit(io, op, IO_KIND_SEND, fd);
}

static void uring_poll(struct io *io, struct io_op *op, int fd, uint32_t events) {
    op->poll_events = events | POLLERR | POLLHUP;
    op->edges = false;
    op->res = 0;
    op_submit(io, op, IO_KIND_POLL, fd);
}

static void cancel_push(struct uring *u, struct io_op *op) {
    struct io_uring_sqe *sqe = sqe_get(u);
    io_uring_prep_cancel64(sqe, (uintptr_t)op, 0);
    io_uring_sqe_set_data64(sqe, (uintptr_t)op | CANCEL_BIT);
}

/* The op stays in flight until the cancel request is answered too, so that no answer finds the op freed or reused. */
static void uring_cancel(struct io *io, struct io_op *op) {
    if (op->canceling)
        return;
    op->canceling = true;
    cancel_push(uring_of(io), op);
}

static void op_finish(struct uring *u, struct io_op *op) {
    u->in_flight--;
    op->in_flight = false;
    op->more = false;
    op->done(op, op->res);
}

/* The kernel has done with the op itself. */
static void op_settle(struct uring *u, struct io_op *op, int32_t res) {
    if (op->kind == IO_KIND_RECV_SLOT)
        u->slot_ops--;
    op->res = res;
    op->settled = true;
    if (!op->canceling || op->answered)
        op_finish(u, op);
}

static void on_cancel_answer(struct uring *u, struct io_op *op, int32_t res) {
    /* A request on its way between two places of the kernel's is not found; it is once that work has run. */
    if (!op->settled && (res == -ENOENT || res == -EALREADY)) {
        cancel_push(u, op);
        return;
    }
    op->answered = true;
    if (op->settled)
        op_finish(u, op);
}

static void on_accept(struct uring *u, struct io_op *op, int32_t res, bool armed) {
    const bool stopping = op->canceling;
    if (res < 0 && (stopping || !io_accept_transient(-res))) {
        op_settle(u, op, res);
        return;
    }
    if (!armed && !stopping)
        op_push(u, op);
    if (res >= 0) {
        op->more = true;
        op->done(op, res);
    }
    if (!armed && stopping)
        op_settle(u, op, -ECANCELED);
}

static void on_recv_slot(struct uring *u, struct io_op *op, int32_t res, uint32_t flags) {
    if (flags & IORING_CQE_F_BUFFER) {
        struct slot *slot = &u->io.slots->slots[flags >> IORING_CQE_BUFFER_SHIFT];
        u->lent--;
        if (res > 0) {
            slot->len = (uint32_t)res;
            op->slot = slot;
        } else {
            slot_put(u->io.slots, slot); /* taken for an end of file or an error */
        }
    }
    /* More data at once than slots were lent: the next turn lends more. */
    if (res == -ENOBUFS && u->io.slots->free_count > 0 && !op->canceling) {
        op_push(u, op);
        return;
    }
    op_settle(u, op, res);
}

static void on_recv(struct uring *u, struct io_op *op, int32_t res) {
    op->drained = res < 0 || (uint32_t)res < op->total_bytes;
    op_settle(u, op, res);
}

/* What a poll's event means for the op: its result, or 0 to go on waiting. */
static int32_t poll_verdict(struct io_op *op, uint32_t events) {
    if (op->kind == IO_KIND_POLL)
        return (int32_t)(events & op->poll_events);
    const struct msghdr message = {.msg_iov = op->iov, .msg_iovlen = op->iov_count};
    const ssize_t sent = sendmsg(op->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -errno;
    return io_op_advance(op, (uint32_t)sent) ? (int32_t)op->total_bytes : 0;
}

/* The kernel adds POLLRDHUP to what is asked for, and it stays up once the peer has half-closed. When it comes alone
 * and unasked, the op goes on with a multishot poll, which reports changes only, until one is what is waited for. */
static void on_poll(struct uring *u, struct io_op *op, int32_t res, bool armed) {
    const int32_t verdict = res > 0 && op->res == 0 ? poll_verdict(op, (uint32_t)res) : 0;
    if (verdict != 0)
        op->res = verdict;
    if (armed) {
        if (verdict != 0)
            uring_cancel(&u->io, op);
    } else if (op->res != 0) {
        op_settle(u, op, op->res);
    } else if (res < 0 || op->canceling) {
        op_settle(u, op, res < 0 ? res : -ECANCELED);
    } else {
        op->edges = true;
        op_push(u, op);
    }
}

static void on_send(struct uring *u, struct io_op *op, int32_t res) {
    const bool gave_up = res == -EAGAIN || res == -EINTR;
    if (op->nowait || (res < 0 && !gave_up)) {
        op_settle(u, op, res);
    } else if (res > 0 && io_op_advance(op, (uint32_t)res)) {
        op_settle(u, op, (int32_t)op->total_bytes);
    } else if (op->canceling) {
        op_settle(u, op, -ECANCELED);
    } else {
        /* The kernel waits for room with that same POLLRDHUP: behind a half-closed peer it tries in vain 128 times,
         * then gives up. Wait by on_poll. */
        op->edges = true;
        op->poll_events = POLLOUT | POLLERR | POLLHUP;
        op->res = 0;
        op_push(u, op);
    }
}

static void on_completion(struct uring *u, uint64_t user_data, int32_t res, uint32_t flags) {
    struct io_op *op = (struct io_op *)(uintptr_t)(user_data & ~(uint64_t)CANCEL_BIT);
    if (user_data & CANCEL_BIT)
        on_cancel_answer(u, op, res);
    else if (op->kind == IO_KIND_ACCEPT)
        on_accept(u, op, res, (flags & IORING_CQE_F_MORE) != 0);
    else if (op->kind == IO_KIND_RECV_SLOT)
        on_recv_slot(u, op, res, flags);
    else if (op->kind == IO_KIND_POLL || (op->kind == IO_KIND_SEND && op->edges))
        on_poll(u, op, res, (flags & IORING_CQE_F_MORE) != 0);
    else if (op->kind == IO_KIND_SEND)
        on_send(u, op, res);
    else if (op->kind == IO_KIND_RECV)
        on_recv(u, op, res);
    else
        op_settle(u, op, res);
}

/* Those that come while these run wait for the next turn: nobody is starved by a chatty few. */
static void completions_run(struct uring *u) {
    const unsigned ready = io_uring_cq_ready(&u->ring);
    unsigned head, seen = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&u->ring, head, cqe) {
        if (seen++ == ready)
            break;
        on_completion(u, cqe->user_data, cqe->res, cqe->flags);
    }
    io_uring_cq_advance(&u->ring, ready);
}

/* 0 or -errno. Before Linux 5.19 there is neither this nor multishot accept. */
static int lent_ring_register(struct uring *u) {
    struct io_uring_buf_reg reg = {.ring_addr = (uintptr_t)u->lent_ring, .ring_entries = LENT_MAX, .bgid = LENT_GROUP};
    io_uring_buf_ring_init(u->lent_ring);
    int ret = io_uring_register_buf_ring(&u->ring, &reg, 0);
    u->lent_registered = ret == 0;
    return ret;
}

/* Completions that were not looked at yet have slots too. */
static uint32_t lent_completed(struct uring *u) {
    uint32_t count = 0;
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&u->ring, head, cqe) count += (cqe->flags & IORING_CQE_F_BUFFER) != 0;
    return count;
}

/* The kernel takes lent slots in order, so what is left are the last ones. */
static void lent_take_back(struct uring *u) {
    io_uring_unregister_buf_ring(&u->ring, LENT_GROUP);
    u->lent_registered = false;
    const uint32_t completed = lent_completed(u);
    const uint16_t tail = u->lent_ring->tail;
    for (; u->lent > completed; u->lent--) {
        const uint16_t at = (uint16_t)(tail - (u->lent - completed));
        slot_put(u->io.slots, &u->io.slots->slots[u->lent_ring->bufs[at % LENT_MAX].bid]);
    }
}

/* A receive that finds no ring meanwhile is told -ENOBUFS, and tries again. */
static void uring_trim(struct io *io) {
    struct uring *u = uring_of(io);
    if (u->lent == 0 || io_uring_cq_has_overflow(&u->ring))
        return;
    lent_take_back(u);
    (void)lent_ring_register(u);
}

static void slots_lend(struct uring *u) {
    if (!u->lent_registered && lent_ring_register(u) < 0)
        return;
    const uint32_t wanted = u->slot_ops < u->lent_max ? u->slot_ops : u->lent_max;
    int added = 0;
    struct slot *slot;
    while (u->lent < wanted && (slot = slot_take(u->io.slots)) != NULL) {
        io_uring_buf_ring_add(u->lent_ring, slot->data, u->io.slots->payload_max, (unsigned short)slot->index,
                              io_uring_buf_ring_mask(LENT_MAX), added++);
        u->lent++;
    }
    if (added > 0)
        io_uring_buf_ring_advance(u->lent_ring, added);
}

static int enter(struct uring *u, uint64_t deadline_ns) {
    /* Completions left over from a flush in mid-turn: take them without waiting, and others (GETEVENTS) with them. */
    if (deadline_ns == 0 || io_uring_cq_ready(&u->ring) > 0)
        return io_uring_submit_and_get_events(&u->ring);
    if (deadline_ns == UINT64_MAX)
        return io_uring_submit_and_wait(&u->ring, 1);
    const uint64_t now = io_clock_ns();
    if (deadline_ns <= now)
        return io_uring_submit_and_get_events(&u->ring);
    struct __kernel_timespec wait = {
        .tv_sec = (int64_t)((deadline_ns - now) / 1000000000u),
        .tv_nsec = (long long)((deadline_ns - now) % 1000000000u),
    };
    struct io_uring_cqe *cqe;
    return io_uring_submit_and_wait_timeout(&u->ring, &cqe, 1, &wait, NULL);
}

static int uring_turn(struct io *io, uint64_t deadline_ns) {
    struct uring *u = uring_of(io);
    slots_lend(u);
    int ret = enter(u, deadline_ns);
    /* ETIME: the deadline. EINTR: a signal. EAGAIN, EBUSY: the kernel is out of memory or wants completions taken
     * first; what it did not take stays queued. */
    if (ret < 0 && ret != -ETIME && ret != -EINTR && ret != -EAGAIN && ret != -EBUSY) {
        log_error("io_uring_enter: %s", strerror(-ret));
        return ERR_SYSTEM;
    }
    addresses_reuse(u);
    io->now_ns = io_clock_ns();
    completions_run(u);
    return 0;
}

static void uring_shutdown(struct io *io, int fd, int how) {
    (void)io;
    (void)shutdown(fd, how); /* IORING_OP_SHUTDOWN would go to a worker thread */
}

static void uring_close(struct io *io, int fd, enum io_close_mode mode) {
    (void)io;
    io_close_now(fd, mode);
}

static void lent_ring_unmap(struct uring *u) {
    munmap(u->lent_ring, LENT_MAX * sizeof(struct io_uring_buf));
}

static void uring_destroy(struct io *io) {
    struct uring *u = uring_of(io);
    CHECK(u->in_flight == 0);
    lent_take_back(u);
    io_uring_queue_exit(&u->ring);
    lent_ring_unmap(u);
    free(u);
}

static const struct io_ops uring_ops = {
    .name = "io_uring",
    .destroy = uring_destroy,
    .accept = uring_accept,
    .connect = uring_connect,
    .recv = uring_recv,
    .recv_slot = uring_recv_slot,
    .send = uring_send,
    .poll = uring_poll,
    .cancel = uring_cancel,
    .shutdown = uring_shutdown,
    .close = uring_close,
    .turn = uring_turn,
    .trim = uring_trim,
};

/* 0 or -errno. */
static int ring_init(struct uring *u) {
    /* CLAMP: take smaller queues where the kernel's limits are lower. CQSIZE: the completion queue's size is ours.
     * SUBMIT_ALL: one request that is refused at once does not hold back those behind it. */
    const unsigned always = IORING_SETUP_CLAMP | IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL;
    const unsigned tries[] = {
        /* Linux 6.1. SINGLE_ISSUER: only this thread submits, so the kernel takes no lock for it. DEFER_TASKRUN: work
         * for completions runs inside our io_uring_enter and not whenever a packet comes. */
        always | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        /* Linux 5.19. COOP_TASKRUN: the next best, at our next system call, without an interrupt for it. TASKRUN_FLAG:
         * tells liburing when such work waits. */
        always | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    };
    int ret = -EINVAL;
    for (size_t i = 0; i < sizeof tries / sizeof tries[0] && ret == -EINVAL; i++) {
        struct io_uring_params params = {.flags = tries[i], .cq_entries = CQ_ENTRIES};
        ret = io_uring_queue_init_params(SQ_ENTRIES, &u->ring, &params);
    }
    if (ret < 0)
        return ret;
    /* Spares every enter a look-up of the ring's descriptor; without it all works the same. */
    (void)io_uring_register_ring_fd(&u->ring);
    return 0;
}

/* 0 or -errno. */
static int lent_ring_init(struct uring *u) {
    void *memory =
        mmap(NULL, LENT_MAX * sizeof(struct io_uring_buf), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    u->lent_ring = memory;
    int ret = lent_ring_register(u);
    if (ret < 0)
        lent_ring_unmap(u);
    return ret;
}

static int create_failed(struct uring *u, int ret) {
    free(u);
    errno = -ret;
    return ret == -ENOMEM ? ERR_NOMEM : ERR_UNSUPPORTED;
}

int io_uring_create(struct slot_pool *slots, struct io **io) {
    CHECK(slots->count <= 65536); /* a provided buffer's id has 16 bits */
    struct uring *u = calloc(1, sizeof *u);
    if (u == NULL)
        return ERR_NOMEM;
    int ret = ring_init(u);
    if (ret < 0)
        return create_failed(u, ret);
    ret = lent_ring_init(u);
    if (ret < 0) {
        io_uring_queue_exit(&u->ring);
        return create_failed(u, ret);
    }
    /* Lent slots are out of reach for vectored receives: leave them most of the pool. */
    u->lent_max = slots->count / 4 < LENT_MAX ? slots->count / 4 : LENT_MAX;
    if (u->lent_max == 0)
        u->lent_max = 1;
    u->io = (struct io){.ops = &uring_ops, .slots = slots, .now_ns = io_clock_ns()};
    *io = &u->io;
    return 0;
}
