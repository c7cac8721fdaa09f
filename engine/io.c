#include "engine/io.h"
#include "engine/check.h"
#include "engine/limits.h"
#include <errno.h>
#include <time.h>
#include <unistd.h>

#define IOV_MAX_PER_OP (LIMIT_SEND_BATCH_PACKETS * 2)

int io_create(enum io_backend backend, struct slot_pool *slots, struct io **io) {
    CHECK(slots != NULL && io != NULL);
    if (backend == IO_BACKEND_EPOLL)
        return io_epoll_create(slots, io);
    int err = io_uring_create(slots, io);
    if (err < 0 && backend == IO_BACKEND_AUTO)
        return io_epoll_create(slots, io);
    return err;
}

void io_destroy(struct io *io) {
    io->ops->destroy(io);
}

const char *io_name(const struct io *io) {
    return io->ops->name;
}

static void op_start(struct io_op *op, int fd) {
    CHECK(!op->in_flight);
    CHECK(op->done != NULL);
    CHECK(fd >= 0);
    op->in_flight = true;
    op->more = false;
    op->slot = NULL;
    op->canceling = false;
    op->answered = false;
    op->settled = false;
}

void io_accept(struct io *io, struct io_op *op, int fd) {
    op_start(op, fd);
    io->ops->accept(io, op, fd);
}

void io_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len) {
    CHECK(addr_len > 0 && addr_len <= sizeof(struct sockaddr_storage));
    op_start(op, fd);
    io->ops->connect(io, op, fd, addr, addr_len);
}

void io_recv(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n) {
    CHECK(n > 0 && n <= IOV_MAX_PER_OP);
    op_start(op, fd);
    io->ops->recv(io, op, fd, iov, n);
}

void io_recv_slot(struct io *io, struct io_op *op, int fd, uint32_t max) {
    CHECK(max > 0 && max <= io->slots->payload_max);
    op_start(op, fd);
    io->ops->recv_slot(io, op, fd, max);
}

void io_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n, enum io_send_mode mode) {
    CHECK(n > 0 && n <= IOV_MAX_PER_OP);
    op_start(op, fd);
    io->ops->send(io, op, fd, iov, n, mode);
}

void io_poll(struct io *io, struct io_op *op, int fd, uint32_t events) {
    op_start(op, fd);
    io->ops->poll(io, op, fd, events);
}

void io_cancel(struct io *io, struct io_op *op) {
    if (op->in_flight)
        io->ops->cancel(io, op);
}

void io_shutdown(struct io *io, int fd, int how) {
    io->ops->shutdown(io, fd, how);
}

void io_close(struct io *io, int fd, enum io_close_mode mode) {
    CHECK(fd >= 0);
    io->ops->close(io, fd, mode);
}

void io_trim(struct io *io) {
    if (io->ops->trim)
        io->ops->trim(io);
}

uint64_t io_now(const struct io *io) {
    return io->now_ns;
}

int io_turn(struct io *io, uint64_t deadline_ns) {
    return io->ops->turn(io, deadline_ns);
}

uint64_t io_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void io_op_set_iov(struct io_op *op, struct iovec *iov, unsigned n) {
    size_t total = 0;
    for (unsigned i = 0; i < n; i++)
        total += iov[i].iov_len;
    /* A receive into nothing would look like end of file; a result is an int32_t. */
    CHECK(total > 0 && total <= INT32_MAX);
    op->iov = iov;
    op->iov_count = (uint16_t)n;
    op->total_bytes = (uint32_t)total;
    op->done_bytes = 0;
}

bool io_op_advance(struct io_op *op, uint32_t bytes) {
    op->done_bytes += bytes;
    CHECK(op->done_bytes <= op->total_bytes);
    if (op->done_bytes == op->total_bytes)
        return true;
    size_t left = bytes;
    while (left >= op->iov->iov_len) {
        left -= op->iov->iov_len;
        op->iov++;
        op->iov_count--;
    }
    op->iov->iov_base = (char *)op->iov->iov_base + left;
    op->iov->iov_len -= left;
    return false;
}

bool io_accept_transient(int error_number) {
    switch (error_number) {
    case EINTR:
    case ECONNABORTED:
    /* accept(2): on Linux, pending network errors of the new socket come out of accept; treat them like EAGAIN. */
    case EPROTO:
    case ENETDOWN:
    case ENOPROTOOPT:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return true;
    default:
        return false;
    }
}

void io_close_now(int fd, enum io_close_mode mode) {
    if (mode == IO_CLOSE_RESET) {
        /* A zero linger time makes TCP throw its queues away and send RST; other sockets don't mind. */
        const struct linger reset = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    close(fd);
}
