#pragma once
/* For tests that drive a shard turn by turn on their own thread, with real sockets and each backend. */
#include "engine/shard.h"
#include "tests/skip.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define RIG_TIMEOUT_NS (20 * UINT64_C(1000000000))
#define RIG_MS UINT64_C(1000000)

static int rig_make_io(struct slot_pool *slots, void *backend, struct io **io) {
    return io_create(*(enum io_backend *)backend, slots, io);
}

static inline bool rig_try_init(struct shard *shard, enum io_backend backend, uint32_t slots_max) {
    const struct shard_options options = {.slots_max = slots_max, .rings_max = 4, .cpu = -1};
    int err = shard_init(shard, &options, rig_make_io, &backend);
    cr_assert(err == 0 || err == ERR_UNSUPPORTED);
    return err == 0;
}

/* Skips the test where the kernel refuses the backend, and before that evaluates clean_up. */
#define rig_init_or(clean_up, shard, backend, slots_max)                                                               \
    do {                                                                                                               \
        if (!rig_try_init(shard, backend, slots_max))                                                                  \
            skip_after(clean_up, "this backend is not to be had here");                                                \
    } while (0)

/* The same for a test that has begun nothing else. */
static inline void rig_init(struct shard *shard, enum io_backend backend, uint32_t slots_max) {
    rig_init_or(0, shard, backend, slots_max);
}

static inline void rig_turn(struct shard *shard, uint64_t wait_ns) {
    cr_assert_eq(shard_turn(shard, wait_ns == 0 ? 0 : io_clock_ns() + wait_ns), 0);
}

/* Turns until the condition holds. */
#define RIG_UNTIL(shard, condition)                                                                                    \
    do {                                                                                                               \
        uint64_t rig_end_ns = io_clock_ns() + RIG_TIMEOUT_NS;                                                          \
        while (!(condition)) {                                                                                         \
            cr_assert(io_clock_ns() < rig_end_ns, "never became true: %s", #condition);                                \
            rig_turn(shard, 5 * RIG_MS);                                                                               \
        }                                                                                                              \
    } while (0)

/* The same test body, once for each backend. */
#define RIG_TEST(suite, body)                                                                                          \
    static void body(enum io_backend backend);                                                                         \
    Test(suite##_io_uring, body) {                                                                                     \
        body(IO_BACKEND_URING);                                                                                        \
    }                                                                                                                  \
    Test(suite##_epoll, body) {                                                                                        \
        body(IO_BACKEND_EPOLL);                                                                                        \
    }                                                                                                                  \
    static void body(enum io_backend backend)

/* A listening socket on a loopback port of the kernel's choice; one that earlier connections of a test still wait on is
 * as good. */
static inline int rig_listen(struct sockaddr_in *addr) {
    socklen_t len = sizeof *addr;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)), 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *)addr, sizeof *addr) == 0 && listen(fd, 16) == 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

static inline void rig_tcp_pair(int fds[2]) {
    struct sockaddr_in addr;
    int listener = rig_listen(&addr);
    fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_eq(connect(fds[1], (struct sockaddr *)&addr, sizeof addr), 0);
    fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert(fds[0] >= 0);
    cr_assert_eq(fcntl(fds[1], F_SETFL, O_NONBLOCK), 0);
    close(listener);
}

static inline void rig_close_with_reset(int fd) {
    const struct linger linger = {.l_onoff = 1, .l_linger = 0};
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
    close(fd);
}

/* From now on no descriptor of this number or above is to be had. */
static inline void rig_limit_descriptors(int count) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)count;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}
/* The leak sanitizer needs some at exit. */
static inline void rig_unlimit_descriptors(void) {
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* Byte number `position` of every test stream. */
static inline uint8_t rig_pattern(uint64_t position) {
    return (uint8_t)((position * UINT64_C(2654435761)) >> 13);
}
static inline void rig_fill(uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++)
        data[i] = rig_pattern(position + i);
}
static inline bool rig_matches(const uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++)
        if (data[i] != rig_pattern(position + i))
            return false;
    return true;
}
