/* What a shard's thread gives back of its memory while nearly nothing happens. */
#include "engine/limits.h"
#include "engine/shard.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <semaphore.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define WAITING 8u /* connections that wait for data */
#define TICK_NS UINT64_C(200000000)

struct scene {
    struct shard *shard;
    sem_t done;
    int fds[WAITING][2];
    struct io_op ops[WAITING];
    unsigned in_flight;
    struct timer tick;
    uint64_t turn;
    size_t received;
};
static struct scene scene;

static void receive(struct io_op *op) {
    io_recv_slot(scene.shard->io, op, scene.fds[op - scene.ops][0], LIMIT_CHANNEL_PACKET_BYTES);
}

static void on_received(struct io_op *op, int32_t res) {
    if (res == -ECANCELED) {
        if (--scene.in_flight == 0)
            sem_post(&scene.done);
        return;
    }
    cr_assert_gt(res, 0);
    scene.received += (size_t)res;
    slot_put(&scene.shard->slots, op->slot);
    receive(op);
}

static void run_begin(void *arg, int64_t value) {
    (void)arg;
    (void)value;
    for (unsigned i = 0; i < WAITING; i++) {
        io_op_init(&scene.ops[i], on_received);
        receive(&scene.ops[i]);
    }
    scene.in_flight = WAITING;
    sem_post(&scene.done);
}

static void run_end(void *arg, int64_t value) {
    (void)arg;
    (void)value;
    timer_cancel(&scene.shard->timers, &scene.tick);
    for (unsigned i = 0; i < WAITING; i++)
        io_cancel(scene.shard->io, &scene.ops[i]);
}

static void on_tick(struct timer *timer) {
    timer_arm(&scene.shard->timers, timer, shard_now(scene.shard) + TICK_NS);
}

static void run_tick(void *arg, int64_t value) {
    (void)arg;
    (void)value;
    scene.tick.on_timer = on_tick;
    on_tick(&scene.tick);
    sem_post(&scene.done);
}

static void run_look(void *arg, int64_t value) {
    (void)value;
    *(size_t *)arg = scene.received;
    scene.turn = scene.shard->turn;
    sem_post(&scene.done);
}

static void on_shard(void (*run)(void *, int64_t), void *arg) {
    cr_assert_eq(shard_post(scene.shard, run, arg, 0), ERR_OK);
    sem_wait(&scene.done);
}

static void pause_ns(uint64_t ns) {
    struct timespec pause = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    nanosleep(&pause, NULL);
}

static void begin(enum io_backend backend) {
    struct shard_options options = {.backend = backend, .cpu = -1, .slots_max = 64};
    int err = shard_start(&options, &scene.shard);
    if (err == ERR_UNSUPPORTED && backend == IO_BACKEND_URING)
        cr_skip_test("no io_uring here");
    cr_assert_eq(err, ERR_OK);
    sem_init(&scene.done, 0, 0);
    for (unsigned i = 0; i < WAITING; i++)
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, scene.fds[i]), 0);
    on_shard(run_begin, NULL);
}

static void end(void) {
    on_shard(run_end, NULL);
    shard_stop(scene.shard);
    shard_join(scene.shard);
    for (unsigned i = 0; i < WAITING; i++) {
        close(scene.fds[i][0]);
        close(scene.fds[i][1]);
    }
    sem_destroy(&scene.done);
}

/* Each slot that waits for data has had some. */
static void fill(void) {
    static const char bytes[LIMIT_CHANNEL_PACKET_BYTES];
    size_t sent = 0, received = 0;
    for (unsigned i = 0; i < 4 * WAITING; i++) {
        cr_assert_eq(write(scene.fds[i % WAITING][1], bytes, sizeof bytes), (ssize_t)sizeof bytes);
        for (sent += sizeof bytes; received < sent;)
            on_shard(run_look, &received);
    }
}

/* In pages. The pool's place and size do not change; which of its pages are there only the kernel knows. */
static size_t resident(void) {
    static unsigned char pages[1024];
    const struct slot_pool *pool = &scene.shard->slots;
    size_t page = (size_t)sysconf(_SC_PAGESIZE), count = (pool->memory_bytes + page - 1) / page, in = 0;
    cr_assert(count <= sizeof pages && mincore(pool->memory, pool->memory_bytes, pages) == 0);
    for (size_t i = 0; i < count; i++)
        in += pages[i] & 1;
    return in;
}

static void expect_all_back(void) {
    for (unsigned i = 0; resident() > 0 && i < 200; i++)
        pause_ns(LIMIT_TRIM_NS / 10);
    cr_expect_eq(resident(), 0);
}

/* Connections that wait for data keep no memory for it once nothing comes, and nobody is woken to find that out again.
 */
static void goes_back_and_sleeps(enum io_backend backend) {
    size_t received;
    begin(backend);
    fill();
    cr_assert_gt(resident(), 0);
    expect_all_back();
    on_shard(run_look, &received);
    uint64_t turn = scene.turn;
    pause_ns(6 * LIMIT_TRIM_NS);
    on_shard(run_look, &received);
    cr_expect_leq(scene.turn - turn, 4, "%ju turns", (uintmax_t)(scene.turn - turn));
    end();
}

Test(shard_trim, gives_all_back_and_sleeps_on_io_uring, .timeout = 60) {
    goes_back_and_sleeps(IO_BACKEND_URING);
}

Test(shard_trim, gives_all_back_and_sleeps_on_epoll, .timeout = 60) {
    goes_back_and_sleeps(IO_BACKEND_EPOLL);
}

/* A shard that looks after something now and then is idle all the same. */
static void goes_back_beside_a_timer(enum io_backend backend) {
    begin(backend);
    on_shard(run_tick, NULL);
    fill();
    expect_all_back();
    end();
}

Test(shard_trim, gives_all_back_beside_a_timer_on_io_uring, .timeout = 60) {
    goes_back_beside_a_timer(IO_BACKEND_URING);
}

Test(shard_trim, gives_all_back_beside_a_timer_on_epoll, .timeout = 60) {
    goes_back_beside_a_timer(IO_BACKEND_EPOLL);
}
