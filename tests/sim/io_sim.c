#include "engine/check.h"
#include "tests/sim/sim_world.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct sim_io {
    struct io io;
    struct sim_world *world;
    struct list ops;
    unsigned ops_count;
};

static struct sim_io *sim_of(struct io *io) {
    return (struct sim_io *)(void *)io;
}

static bool fd_is_real(int fd) {
    return fd < SIM_FD_BASE;
}

static void op_submit(struct io *io, struct io_op *op, enum io_kind kind, int fd) {
    struct sim_io *sim = sim_of(io);
    op->kind = (uint8_t)kind;
    op->fd = fd;
    op->res = 0;
    list_push_back(&sim->ops, &op->node);
    sim->ops_count++;
    sim->world->activity++;
    if (!fd_is_real(fd))
        end_of(sim->world, fd)->ops++;
}

static void op_over(struct sim_io *sim, struct io_op *op, int32_t res) {
    op->in_flight = op->more = false;
    list_remove(&op->node);
    sim->ops_count--;
    sim->world->activity++;
    if (!fd_is_real(op->fd)) {
        struct sim_end *end = end_of(sim->world, op->fd);
        end->ops--;
        end->receiving &= op->kind != IO_KIND_RECV && op->kind != IO_KIND_RECV_SLOT;
        end->sending &= op->kind != IO_KIND_SEND;
    }
    op->done(op, res);
}

static void sim_accept(struct io *io, struct io_op *op, int fd) {
    CHECK(end_of(sim_of(io)->world, fd)->listening);
    op_submit(io, op, IO_KIND_ACCEPT, fd);
}

/* Only the port counts. */
static void sim_connect(struct io *io, struct io_op *op, int fd, const struct sockaddr *addr, socklen_t addr_len) {
    struct sim_world *world = sim_of(io)->world;
    struct sim_end *end = end_of(world, fd);
    CHECK(!end->peer && !end->listening && addr->sa_family == AF_INET && addr_len >= sizeof(struct sockaddr_in));
    op_submit(io, op, IO_KIND_CONNECT, fd);
    end_connect(world, end, ntohs(((const struct sockaddr_in *)(const void *)addr)->sin_port));
}

static void receive_begin(struct io *io, int fd) {
    struct sim_end *end = end_of(sim_of(io)->world, fd);
    CHECK(!end->receiving && end->peer);
    end->receiving = true;
}

static void sim_recv(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n) {
    receive_begin(io, fd);
    op_submit(io, op, IO_KIND_RECV, fd);
    io_op_set_iov(op, iov, n);
}

static void sim_recv_slot(struct io *io, struct io_op *op, int fd, uint32_t max) {
    receive_begin(io, fd);
    op_submit(io, op, IO_KIND_RECV_SLOT, fd);
    op->slot_max = max;
}

static void sim_send(struct io *io, struct io_op *op, int fd, struct iovec *iov, unsigned n, enum io_send_mode mode) {
    struct sim_end *end = end_of(sim_of(io)->world, fd);
    CHECK(!end->sending);
    end->sending = true;
    op_submit(io, op, IO_KIND_SEND, fd);
    io_op_set_iov(op, iov, n);
    op->nowait = mode == IO_SEND_NOW;
}

static void sim_poll(struct io *io, struct io_op *op, int fd, uint32_t events) {
    op_submit(io, op, IO_KIND_POLL, fd);
    op->poll_events = events | POLLERR | POLLHUP;
}

static void sim_cancel(struct io *io, struct io_op *op) {
    op->res = -ECANCELED;
    sim_of(io)->world->activity++;
}

/* Each try_… says whether the op is over, and with what. */

static bool try_connect(struct sim_world *world, struct io_op *op, int32_t *res) {
    const struct sim_end *end = end_of(world, op->fd);
    *res = end->peer ? 0 : -end->connect_error;
    return end->connect_ns <= world->now_ns;
}

static bool try_recv(struct sim_world *world, struct io_op *op, int32_t *res) {
    struct sim_end *end = end_of(world, op->fd);
    *res = end_receivable(world, end);
    end->eof_taken |= *res == 0;
    if (*res <= 0)
        return *res != -EAGAIN;
    uint64_t most = op->total_bytes;
    if (most > (uint64_t)*res)
        most = (uint64_t)*res;
    uint64_t left = world_some(world, world->options.short_percent, most);
    *res = (int32_t)left;
    for (const struct iovec *iov = op->iov; left > 0; iov++) {
        uint64_t len = iov->iov_len < left ? iov->iov_len : left;
        end_take(world, end, iov->iov_base, len);
        left -= len;
    }
    return true;
}

static bool try_recv_slot(struct sim_io *sim, struct io_op *op, int32_t *res) {
    struct sim_world *world = sim->world;
    struct sim_end *end = end_of(world, op->fd);
    *res = end_receivable(world, end);
    end->eof_taken |= *res == 0;
    if (*res <= 0)
        return *res != -EAGAIN;
    struct slot *slot = slot_take(sim->io.slots);
    if (!slot) {
        *res = -ENOBUFS;
        return true;
    }
    uint64_t most = (uint64_t)*res < op->slot_max ? (uint64_t)*res : op->slot_max;
    slot->len = (uint32_t)world_some(world, world->options.short_percent, most);
    end_take(world, end, slot->data, slot->len);
    op->slot = slot;
    *res = (int32_t)slot->len;
    return true;
}

static bool try_send(struct sim_world *world, struct io_op *op, int32_t *res) {
    uint64_t most = world_some(world, world->options.partial_percent, op->total_bytes - op->done_bytes);
    *res = end_send(world, end_of(world, op->fd), op->iov, most);
    if (op->nowait || (*res < 0 && *res != -EAGAIN))
        return true;
    if (*res < 0)
        return false;
    world->activity++;
    bool all = io_op_advance(op, (uint32_t)*res);
    *res = (int32_t)op->done_bytes;
    return all;
}

static bool try_poll(struct sim_world *world, struct io_op *op, int32_t *res) {
    struct pollfd real = {.fd = op->fd, .events = (short)op->poll_events};
    if (!fd_is_real(op->fd))
        *res = (int32_t)(end_revents(world, end_of(world, op->fd)) & op->poll_events);
    else
        *res = poll(&real, 1, 0) > 0 ? real.revents : 0;
    return *res != 0;
}

/* Hands out what is in the backlog; over only on an error. */
static bool try_accept(struct sim_world *world, struct io_op *op, int32_t *res) {
    struct sim_end *end = end_of(world, op->fd);
    int fd;
    while (op->res == 0 && !end->accept_error && (fd = end_accept(world, end)) >= 0) {
        op->more = true;
        op->done(op, fd);
    }
    *res = -end->accept_error;
    end->accept_error = 0;
    return *res != 0;
}

static bool op_try(struct sim_io *sim, struct io_op *op, int32_t *res) {
    switch ((enum io_kind)op->kind) {
    case IO_KIND_ACCEPT:
        return try_accept(sim->world, op, res);
    case IO_KIND_CONNECT:
        return try_connect(sim->world, op, res);
    case IO_KIND_RECV:
        return try_recv(sim->world, op, res);
    case IO_KIND_RECV_SLOT:
        return try_recv_slot(sim, op, res);
    case IO_KIND_SEND:
        return try_send(sim->world, op, res);
    case IO_KIND_POLL:
        return try_poll(sim->world, op, res);
    }
    return false;
}

static void op_run(struct sim_io *sim, struct io_op *op) {
    struct sim_world *world = sim->world;
    int32_t res;
    if (!world->hurry && world_chance(world, world->options.defer_percent)) {
        world->deferred = true;
        return;
    }
    bool canceled = op->res != 0;
    if (canceled && sim_random(world, 2) == 0) {
        op_over(sim, op, -ECANCELED);
        return;
    }
    if (op_try(sim, op, &res))
        op_over(sim, op, res);
    else if (canceled)
        op_over(sim, op, -ECANCELED);
}

/* Every op that is in flight now gets its chance, in random order. Only this function ends ops, so none of the array
 * can vanish before its turn. */
static void sim_pass(struct sim_io *sim) {
    unsigned count = 0;
    struct io_op **ops = malloc((sim->ops_count + 1) * sizeof *ops);
    CHECK(ops);
    list_for_each (node, &sim->ops)
        ops[count++] = list_entry(node, struct io_op, node);
    for (; count > 0; count--) {
        uint64_t at = sim_random(sim->world, count);
        struct io_op *op = ops[at];
        ops[at] = ops[count - 1];
        op_run(sim, op);
    }
    free(ops);
}

static int sim_turn(struct io *io, uint64_t deadline_ns) {
    struct sim_io *sim = sim_of(io);
    struct sim_world *world = sim->world;
    for (;;) {
        uint64_t before = world->activity;
        io->now_ns = world->now_ns;
        sim_pass(sim);
        if (world->activity != before || world->ios > 1 || deadline_ns <= world->now_ns)
            return 0;
        if (!world_quiet(world))
            continue;
        uint64_t next = sim_world_next_event(world);
        next = next < deadline_ns ? next : deadline_ns;
        if (next == SIM_NEVER)
            return 0;
        world->now_ns = next;
    }
}

static void sim_shutdown(struct io *io, int fd, int how) {
    struct sim_world *world = sim_of(io)->world;
    struct sim_end *end = end_of(world, fd);
    CHECK(how == (end->listening ? SHUT_RDWR : SHUT_WR));
    if (!end->listening)
        return end_finish(world, end);
    end->port = 0;
    end_drop_backlog(world, end);
}

static void sim_close(struct io *io, int fd, enum io_close_mode mode) {
    if (fd_is_real(fd))
        close(fd);
    else
        end_close(sim_of(io)->world, end_of(sim_of(io)->world, fd), mode);
}

static void sim_destroy(struct io *io) {
    CHECK(sim_of(io)->ops_count == 0);
    sim_of(io)->world->ios--;
    free(io);
}

int io_sim_create(struct slot_pool *slots, void *world, struct io **io) {
    static const struct io_ops ops = {.name = "simulator",
                                      .destroy = sim_destroy,
                                      .accept = sim_accept,
                                      .connect = sim_connect,
                                      .recv = sim_recv,
                                      .recv_slot = sim_recv_slot,
                                      .send = sim_send,
                                      .poll = sim_poll,
                                      .cancel = sim_cancel,
                                      .shutdown = sim_shutdown,
                                      .close = sim_close,
                                      .turn = sim_turn};
    struct sim_io *sim = calloc(1, sizeof *sim);
    if (!sim)
        return ERR_NOMEM;
    sim->world = world;
    sim->world->ios++;
    sim->io = (struct io){.ops = &ops, .slots = slots, .now_ns = sim->world->now_ns};
    list_init(&sim->ops);
    *io = &sim->io;
    return 0;
}
