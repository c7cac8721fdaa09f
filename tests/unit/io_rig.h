#pragma once
/* What the tests of the I/O seam share: one io and its slot pool, ops that remember how they ended, real sockets, and
 * the macro that runs a test on both backends. */
#include "engine/io.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define SECOND (1000 * MS)
#define PATIENCE (20 * SECOND) /* a test that waits longer has failed */
#define PAYLOAD 4096u
#define SLOTS 16u

static struct slot_pool pool;
static struct io *io;

/* An op that remembers how it ended. */
struct probe {
    struct io_op op;
    int calls; /* of done, the last one included */
    bool ended;
    int32_t res;
    int fds[256]; /* accepted */
    int fds_count;
};

static inline void probe_done(struct io_op *op, int32_t res) {
    struct probe *probe = (struct probe *)(void *)((char *)op - offsetof(struct probe, op));
    cr_assert(!probe->ended, "done after the last done");
    probe->calls++;
    if (op->more) {
        cr_assert(op->in_flight);
        cr_assert_geq(res, 0);
        probe->fds[probe->fds_count++] = res;
        return;
    }
    cr_assert(!op->in_flight);
    probe->ended = true;
    probe->res = res;
}

static inline void probe_init(struct probe *probe) {
    memset(probe, 0, sizeof *probe);
    io_op_init(&probe->op, probe_done);
}

static inline void probe_again(struct probe *probe) {
    probe->ended = false;
    probe->calls = 0;
}

static inline void turn(uint64_t deadline_ns) {
    cr_assert_eq(io_turn(io, deadline_ns), 0);
}

/* Whatever has to happen without new input has happened after so many turns. */
static inline void settle(void) {
    for (int i = 0; i < 20; i++)
        turn(0);
}

/* Nothing is going on, so turns sleep until their deadline instead of spinning. */
static inline void check_quiet(void) {
    settle();
    const uint64_t end = io_clock_ns() + 20 * MS;
    for (int turns = 0; io_clock_ns() < end; turns++) {
        cr_assert_lt(turns, 5, "turns that find nothing to do");
        turn(end);
    }
}

static inline void wait_for(const bool *flag) {
    const uint64_t end = io_clock_ns() + PATIENCE;
    while (!*flag) {
        turn(end);
        cr_assert_lt(io_now(io), end, "nothing happened");
    }
}

static inline int32_t result(struct probe *probe) {
    wait_for(&probe->ended);
    return probe->res;
}

static inline bool start_pool(enum io_backend backend, uint32_t slots) {
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, slots), 0);
    int err = io_create(backend, &pool, &io);
    if (err == 0)
        return true;
    cr_assert_eq(backend, IO_BACKEND_URING);
    cr_assert_eq(err, ERR_UNSUPPORTED);
    slot_pool_deinit(&pool);
    return false;
}

static inline void stop(void) {
    io_destroy(io);
    cr_assert_eq(pool.free_count, pool.count, "a slot is lost");
    slot_pool_deinit(&pool);
}

/* Where the kernel has no io_uring its tests are skipped, and say so. */
#define IO_TEST_SLOTS(name, slots)                                                                                     \
    static void name(void);                                                                                            \
    static void name##_on(enum io_backend backend) {                                                                   \
        if (!start_pool(backend, slots))                                                                               \
            cr_skip_test("the kernel has no io_uring for us: %s", strerror(errno));                                    \
        name();                                                                                                        \
        stop();                                                                                                        \
    }                                                                                                                  \
    Test(io_uring, name) {                                                                                             \
        name##_on(IO_BACKEND_URING);                                                                                   \
    }                                                                                                                  \
    Test(io_epoll, name) {                                                                                             \
        name##_on(IO_BACKEND_EPOLL);                                                                                   \
    }                                                                                                                  \
    static void name(void)
#define IO_TEST(name) IO_TEST_SLOTS(name, SLOTS)

static inline void nonblocking(int fd) {
    cr_assert_neq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), -1);
}

static inline void unix_pair(int fds[2]) {
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static inline int tcp_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    return fd;
}

static inline int tcp_listen(struct sockaddr_in *addr) {
    int fd = tcp_socket();
    socklen_t len = sizeof *addr;
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
    cr_assert_eq(listen(fd, 512), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

/* A blocking client that is in the listener's queue when this returns. */
static inline int tcp_client(const struct sockaddr_in *addr) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)addr, sizeof *addr), 0);
    return fd;
}

static inline void tcp_pair(int fds[2]) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr);
    fds[0] = tcp_client(&addr);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert_geq(fds[1], 0);
    nonblocking(fds[0]);
    close(listener);
}

static inline void close_both(const int fds[2]) {
    io_close(io, fds[0], IO_CLOSE);
    io_close(io, fds[1], IO_CLOSE);
}

/* Plain, outside of io: the descriptor's peer. */
static inline void peer_write(int fd, const void *data, size_t len) {
    cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static inline void recv_into(struct probe *probe, int fd, struct iovec *iov, void *data, size_t len) {
    *iov = (struct iovec){.iov_base = data, .iov_len = len};
    io_recv(io, &probe->op, fd, iov, 1);
}

static inline void send_from(struct probe *probe, int fd, struct iovec *iov, void *data, size_t len,
                             enum io_send_mode mode) {
    *iov = (struct iovec){.iov_base = data, .iov_len = len};
    io_send(io, &probe->op, fd, iov, 1, mode);
}

static inline void fill_pattern(uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++) {
        const uint64_t at = position + i;
        data[i] = (uint8_t)((at * 2654435761u) >> 13 ^ at);
    }
}

static inline bool pattern_matches(const uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++) {
        const uint64_t at = position + i;
        if (data[i] != (uint8_t)((at * 2654435761u) >> 13 ^ at))
            return false;
    }
    return true;
}

/* Fills fd's send buffer from outside; how many bytes fitted. */
static inline size_t stuff(int fd) {
    static uint8_t block[65536];
    size_t total = 0;
    for (ssize_t sent; (sent = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;)
        total += (size_t)sent;
    return total;
}

static inline size_t drain(int fd, size_t most) {
    static uint8_t block[65536];
    size_t total = 0;
    while (total < most) {
        const size_t want = most - total < sizeof block ? most - total : sizeof block;
        const ssize_t got = recv(fd, block, want, MSG_DONTWAIT);
        if (got <= 0)
            break;
        total += (size_t)got;
    }
    return total;
}
