#include "engine/check.h"
#include "engine/shard.h"
#include "tests/sim/io_sim.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define TOTAL_BYTES 200000u

struct bench {
    struct sim_world *world;
    struct slot_pool slots;
    struct io *io;
};

static void bench_init(struct bench *bench, const struct sim_options *options) {
    bench->world = sim_world_create(options);
    cr_assert_eq(slot_pool_init(&bench->slots, 1000, 4), 0);
    cr_assert_eq(io_sim_create(&bench->slots, bench->world, &bench->io), 0);
}

static void bench_deinit(struct bench *bench) {
    io_destroy(bench->io);
    slot_pool_deinit(&bench->slots);
    sim_world_destroy(bench->world);
}

static uint8_t pattern(uint64_t position) {
    return (uint8_t)(position * 131 + (position >> 8));
}

/* ---- a stream from one op to another ---- */

struct stream_end {
    struct io_op op;
    struct bench *bench;
    int fd;
    uint64_t bytes;
    uint8_t buffer[3000];
    struct iovec iov[2];
    bool ended, slots;
    int32_t error;
};

static void sender_go(struct stream_end *end) {
    uint32_t len = 1 + (uint32_t)sim_random(end->bench->world, sizeof end->buffer);
    if (len > TOTAL_BYTES - end->bytes)
        len = (uint32_t)(TOTAL_BYTES - end->bytes);
    if (len == 0) {
        io_shutdown(end->bench->io, end->fd, SHUT_WR);
        end->ended = true;
        return;
    }
    for (uint32_t i = 0; i < len; i++)
        end->buffer[i] = pattern(end->bytes + i);
    end->iov[0] = (struct iovec){.iov_base = end->buffer, .iov_len = len / 2};
    end->iov[1] = (struct iovec){.iov_base = end->buffer + len / 2, .iov_len = len - len / 2};
    bool all = sim_random(end->bench->world, 2) == 0;
    io_send(end->bench->io, &end->op, end->fd, end->iov, 2, all ? IO_SEND_ALL : IO_SEND_NOW);
}

static void sender_done(struct io_op *op, int32_t res) {
    struct stream_end *end = list_entry(op, struct stream_end, op);
    if (op->kind == IO_KIND_SEND && res == -EAGAIN) {
        io_poll(end->bench->io, op, end->fd, POLLOUT);
        return;
    }
    if (res < 0) {
        end->error = res;
        return;
    }
    if (op->kind == IO_KIND_SEND)
        end->bytes += (uint64_t)res;
    sender_go(end);
}

static void receiver_go(struct stream_end *end) {
    if (end->slots) {
        io_recv_slot(end->bench->io, &end->op, end->fd, 1000);
        return;
    }
    end->iov[0] = (struct iovec){.iov_base = end->buffer, .iov_len = 10};
    end->iov[1] = (struct iovec){.iov_base = end->buffer + 10, .iov_len = sizeof end->buffer - 10};
    io_recv(end->bench->io, &end->op, end->fd, end->iov, 2);
}

static void receiver_done(struct io_op *op, int32_t res) {
    struct stream_end *end = list_entry(op, struct stream_end, op);
    const uint8_t *data = op->slot ? op->slot->data : end->buffer;
    for (int32_t i = 0; i < res; i++)
        cr_assert_eq(data[i], pattern(end->bytes + (uint64_t)i));
    if (res > 0)
        end->bytes += (uint64_t)res;
    if (op->slot)
        slot_put(&end->bench->slots, op->slot);
    end->ended = res == 0;
    end->error = res < 0 ? res : 0;
    if (res > 0) {
        end->slots = sim_random(end->bench->world, 2) == 0;
        receiver_go(end);
    }
}

static void stream_init(struct stream_end *end, struct bench *bench, int fd, io_done_fn *done) {
    *end = (struct stream_end){.bench = bench, .fd = fd};
    io_op_init(&end->op, done);
}

static struct sim_options rough(uint64_t seed) {
    return (struct sim_options){.seed = seed,
                                .capacity = 1 + (uint32_t)(seed * 7919 % 20000),
                                .latency_min_ns = 10,
                                .latency_max_ns = 5000,
                                .partial_percent = 30,
                                .short_percent = 30,
                                .defer_percent = 30};
}

/* Returns the virtual time it took. */
static uint64_t stream_once(uint64_t seed, uint64_t *digest) {
    struct bench bench;
    struct stream_end sender, receiver;
    struct sim_options options = rough(seed);
    int fds[2];
    bench_init(&bench, &options);
    io_sim_pair(bench.world, fds);
    stream_init(&sender, &bench, fds[0], sender_done);
    stream_init(&receiver, &bench, fds[1], receiver_done);
    sender_go(&sender);
    receiver_go(&receiver);
    for (uint64_t turns = 0; !receiver.ended; turns++) {
        cr_assert(turns < 2000000 && receiver.error == 0 && sender.error == 0, "seed %lu", (unsigned long)seed);
        cr_assert_eq(io_turn(bench.io, UINT64_MAX), 0);
        *digest = *digest * 31 + receiver.bytes;
    }
    cr_assert_eq(receiver.bytes, TOTAL_BYTES);
    cr_assert(sender.ended);
    io_close(bench.io, fds[0], IO_CLOSE);
    io_close(bench.io, fds[1], IO_CLOSE);
    cr_assert_eq(io_sim_open_count(bench.world), 0);
    uint64_t took = sim_world_now(bench.world);
    bench_deinit(&bench);
    return took;
}

Test(io_sim, every_byte_arrives_in_order) {
    uint64_t digest = 0;
    for (uint64_t seed = 3; seed < 23; seed++)
        stream_once(seed, &digest);
}

Test(io_sim, same_seed_same_run) {
    uint64_t first = 0, second = 0, other = 0;
    uint64_t took = stream_once(17, &first);
    cr_assert_eq(stream_once(17, &second), took);
    cr_assert_eq(first, second);
    stream_once(18, &other);
    cr_assert_neq(first, other);
}

/* ---- single facts ---- */

struct probe {
    struct io_op op;
    int32_t res;
    unsigned count;
    int fds[8];
};

static void probe_done(struct io_op *op, int32_t res) {
    struct probe *probe = list_entry(op, struct probe, op);
    probe->res = res;
    if (op->more)
        probe->fds[probe->count] = res;
    probe->count++;
}

static const struct sim_options calm = {.seed = 1, .capacity = 100, .latency_min_ns = 50, .latency_max_ns = 50};

Test(io_sim, time_moves_only_as_far_as_needed) {
    struct bench bench;
    struct probe probe = {0};
    int fds[2];
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    io_op_init(&probe.op, probe_done);
    uint64_t start = io_now(bench.io);
    io_recv_slot(bench.io, &probe.op, fds[1], 1000);
    cr_assert_eq(io_turn(bench.io, start + 10), 0);
    cr_assert_eq(io_now(bench.io), start + 10);
    cr_assert_eq(io_sim_write(bench.world, fds[0], "abc", 3), 3);
    cr_assert_eq(sim_world_next_event(bench.world), start + 60);
    cr_assert_eq(io_turn(bench.io, 0), 0);
    cr_assert(probe.op.in_flight);
    cr_assert_eq(io_turn(bench.io, UINT64_MAX), 0);
    cr_assert_eq(io_now(bench.io), start + 60);
    cr_assert_eq(probe.res, 3);
    cr_assert(memcmp(probe.op.slot->data, "abc", 3) == 0);
    slot_put(&bench.slots, probe.op.slot);
    bench_deinit(&bench);
}

Test(io_sim, a_full_stream_takes_no_more) {
    struct bench bench;
    int fds[2];
    uint8_t data[150] = {0};
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 150), 100);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 1), -EAGAIN);
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 150), -EAGAIN);
    sim_world_set_now(bench.world, sim_world_next_event(bench.world));
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 30), 30);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 150), 30);
    bench_deinit(&bench);
}

Test(io_sim, a_reset_is_told_once_after_what_arrived) {
    struct bench bench;
    int fds[2];
    uint8_t data[10] = {0};
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 4), 4);
    sim_world_set_now(bench.world, sim_world_next_event(bench.world));
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 5), 5);
    io_sim_reset(bench.world, fds[0]);
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 10), 4);
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 10), -ECONNRESET);
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 10), 0);
    cr_assert_eq(io_sim_write(bench.world, fds[1], data, 1), -EPIPE);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 1), -ECONNRESET);
    bench_deinit(&bench);
}

Test(io_sim, closing_with_bytes_unread_resets_the_peer) {
    struct bench bench;
    int fds[2];
    uint8_t data[10] = {0};
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 4), 4);
    io_sim_close(bench.world, fds[1], IO_CLOSE);
    sim_world_set_now(bench.world, sim_world_next_event(bench.world));
    cr_assert_eq(io_sim_read(bench.world, fds[0], data, 10), -ECONNRESET);
    bench_deinit(&bench);
}

Test(io_sim, writing_to_a_closed_end_resets_later) {
    struct bench bench;
    int fds[2];
    uint8_t data[10] = {0};
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    io_sim_close(bench.world, fds[1], IO_CLOSE);
    sim_world_set_now(bench.world, sim_world_now(bench.world) + 50);
    cr_assert_eq(io_sim_read(bench.world, fds[0], data, 10), 0);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 4), 4);
    sim_world_set_now(bench.world, sim_world_now(bench.world) + 50);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 4), -ECONNRESET);
    bench_deinit(&bench);
}

Test(io_sim, a_stalled_end_neither_receives_nor_sends) {
    struct bench bench;
    int fds[2];
    uint8_t data[10] = {0};
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    cr_assert_eq(io_sim_write(bench.world, fds[0], data, 4), 4);
    uint64_t until = sim_world_now(bench.world) + 1000;
    io_sim_stall(bench.world, fds[1], until);
    sim_world_set_now(bench.world, until - 1);
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 10), -EAGAIN);
    cr_assert_eq(io_sim_write(bench.world, fds[1], data, 10), -EAGAIN);
    cr_assert_eq(sim_world_next_event(bench.world), until);
    sim_world_set_now(bench.world, until);
    cr_assert_eq(io_sim_read(bench.world, fds[1], data, 10), 4);
    bench_deinit(&bench);
}

Test(io_sim, an_empty_pool_gives_enobufs_and_loses_nothing) {
    struct bench bench;
    struct probe probe = {0};
    struct slot *slots[4];
    int fds[2];
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    io_op_init(&probe.op, probe_done);
    for (unsigned i = 0; i < 4; i++)
        slots[i] = slot_take(&bench.slots);
    cr_assert_eq(io_sim_write(bench.world, fds[0], "abc", 3), 3);
    io_recv_slot(bench.io, &probe.op, fds[1], 1000);
    cr_assert_eq(io_turn(bench.io, UINT64_MAX), 0);
    cr_assert_eq(probe.res, -ENOBUFS);
    for (unsigned i = 0; i < 4; i++)
        slot_put(&bench.slots, slots[i]);
    io_recv_slot(bench.io, &probe.op, fds[1], 2);
    cr_assert_eq(io_turn(bench.io, UINT64_MAX), 0);
    cr_assert_eq(probe.res, 2);
    slot_put(&bench.slots, probe.op.slot);
    bench_deinit(&bench);
}

Test(io_sim, connect_finds_listener_or_is_refused) {
    struct bench bench;
    struct probe accept = {0}, connect[3] = {0};
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(80)};
    bench_init(&bench, &calm);
    int listener = io_sim_listen(bench.world, 80);
    io_op_init(&accept.op, probe_done);
    io_accept(bench.io, &accept.op, listener);
    for (unsigned i = 0; i < 3; i++) {
        addr.sin_port = htons(i == 2 ? 81 : 80);
        io_op_init(&connect[i].op, probe_done);
        io_connect(bench.io, &connect[i].op, io_sim_socket(bench.world), (struct sockaddr *)&addr, sizeof addr);
    }
    while (connect[0].op.in_flight || connect[1].op.in_flight || connect[2].op.in_flight || accept.count < 2)
        cr_assert_eq(io_turn(bench.io, UINT64_MAX), 0);
    cr_assert_eq(connect[0].res, 0);
    cr_assert_eq(connect[1].res, 0);
    cr_assert_eq(connect[2].res, -ECONNREFUSED);
    cr_assert(accept.op.in_flight && accept.fds[0] != accept.fds[1]);
    io_sim_fail_accept(bench.world, listener, EMFILE);
    cr_assert_eq(io_turn(bench.io, UINT64_MAX), 0);
    cr_assert(!accept.op.in_flight);
    cr_assert_eq(accept.res, -EMFILE);
    bench_deinit(&bench);
}

Test(io_sim, cancel_ends_every_kind) {
    struct bench bench;
    struct probe probes[3] = {0};
    struct iovec iov = {.iov_base = &probes, .iov_len = 8};
    int fds[2];
    bench_init(&bench, &calm);
    io_sim_pair(bench.world, fds);
    for (unsigned i = 0; i < 3; i++)
        io_op_init(&probes[i].op, probe_done);
    io_recv(bench.io, &probes[0].op, fds[0], &iov, 1);
    io_poll(bench.io, &probes[1].op, fds[0], POLLIN);
    io_accept(bench.io, &probes[2].op, io_sim_listen(bench.world, 1));
    for (unsigned i = 0; i < 3; i++)
        io_cancel(bench.io, &probes[i].op);
    cr_assert_eq(io_turn(bench.io, 0), 0);
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(probes[i].count, 1);
        cr_assert_eq(probes[i].res, -ECANCELED);
    }
    bench_deinit(&bench);
}

/* ---- misuse ends the program ---- */

static void silence(void) {
    fclose(stderr);
}

static struct bench misuse_bench;
static int misuse_fds[2];
static struct probe misuse_probes[2];
static struct iovec misuse_iov;

static void misuse_begin(void) {
    silence();
    bench_init(&misuse_bench, &calm);
    io_sim_pair(misuse_bench.world, misuse_fds);
    misuse_iov = (struct iovec){.iov_base = misuse_bench.slots.memory, .iov_len = 1};
    for (unsigned i = 0; i < 2; i++)
        io_op_init(&misuse_probes[i].op, probe_done);
    io_recv(misuse_bench.io, &misuse_probes[0].op, misuse_fds[0], &misuse_iov, 1);
}

Test(io_sim_misuse, op_twice, .signal = SIGABRT) {
    misuse_begin();
    io_recv(misuse_bench.io, &misuse_probes[0].op, misuse_fds[1], &misuse_iov, 1);
}

Test(io_sim_misuse, two_receives, .signal = SIGABRT) {
    misuse_begin();
    io_recv(misuse_bench.io, &misuse_probes[1].op, misuse_fds[0], &misuse_iov, 1);
}

Test(io_sim_misuse, close_with_op_in_flight, .signal = SIGABRT) {
    misuse_begin();
    io_close(misuse_bench.io, misuse_fds[0], IO_CLOSE);
}

Test(io_sim_misuse, use_after_close, .signal = SIGABRT) {
    misuse_begin();
    io_close(misuse_bench.io, misuse_fds[1], IO_CLOSE);
    io_recv(misuse_bench.io, &misuse_probes[1].op, misuse_fds[1], &misuse_iov, 1);
}

Test(io_sim_misuse, destroy_with_op_in_flight, .signal = SIGABRT) {
    misuse_begin();
    io_destroy(misuse_bench.io);
}
