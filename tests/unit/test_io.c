/* The I/O seam over real sockets: every test runs on both backends. One list of tests for one contract (engine/io.h),
 * so the file is long. */
#include "engine/io.h"
#include "engine/limits.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
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

static void probe_done(struct io_op *op, int32_t res) {
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

static void probe_init(struct probe *probe) {
    memset(probe, 0, sizeof *probe);
    io_op_init(&probe->op, probe_done);
}

static void probe_again(struct probe *probe) {
    probe->ended = false;
    probe->calls = 0;
}

static void turn(uint64_t deadline_ns) {
    cr_assert_eq(io_turn(io, deadline_ns), 0);
}

/* Whatever has to happen without new input has happened after so many turns. */
static void settle(void) {
    for (int i = 0; i < 20; i++)
        turn(0);
}

static void wait_for(const bool *flag) {
    const uint64_t end = io_clock_ns() + PATIENCE;
    while (!*flag) {
        turn(end);
        cr_assert_lt(io_now(io), end, "nothing happened");
    }
}

static int32_t result(struct probe *probe) {
    wait_for(&probe->ended);
    return probe->res;
}

static bool start_pool(enum io_backend backend, uint32_t slots) {
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, slots), 0);
    int err = io_create(backend, &pool, &io);
    if (err == 0)
        return true;
    cr_assert_eq(backend, IO_BACKEND_URING);
    cr_assert_eq(err, ERR_UNSUPPORTED);
    slot_pool_deinit(&pool);
    return false;
}

static void stop(void) {
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

static void nonblocking(int fd) {
    cr_assert_neq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK), -1);
}

static void unix_pair(int fds[2]) {
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

static int tcp_socket(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    return fd;
}

static int tcp_listen(struct sockaddr_in *addr) {
    int fd = tcp_socket();
    socklen_t len = sizeof *addr;
    *addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    cr_assert_eq(bind(fd, (struct sockaddr *)addr, sizeof *addr), 0);
    cr_assert_eq(listen(fd, 512), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)addr, &len), 0);
    return fd;
}

/* A blocking client that is in the listener's queue when this returns. */
static int tcp_client(const struct sockaddr_in *addr) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(connect(fd, (const struct sockaddr *)addr, sizeof *addr), 0);
    return fd;
}

static void tcp_pair(int fds[2]) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr);
    fds[0] = tcp_client(&addr);
    fds[1] = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    cr_assert_geq(fds[1], 0);
    nonblocking(fds[0]);
    close(listener);
}

static void close_both(const int fds[2]) {
    io_close(io, fds[0], IO_CLOSE);
    io_close(io, fds[1], IO_CLOSE);
}

/* Plain, outside of io: the descriptor's peer. */
static void peer_write(int fd, const void *data, size_t len) {
    cr_assert_eq(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

static void recv_into(struct probe *probe, int fd, struct iovec *iov, void *data, size_t len) {
    *iov = (struct iovec){.iov_base = data, .iov_len = len};
    io_recv(io, &probe->op, fd, iov, 1);
}

static void send_from(struct probe *probe, int fd, struct iovec *iov, void *data, size_t len, enum io_send_mode mode) {
    *iov = (struct iovec){.iov_base = data, .iov_len = len};
    io_send(io, &probe->op, fd, iov, 1, mode);
}

static void fill_pattern(uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++) {
        const uint64_t at = position + i;
        data[i] = (uint8_t)((at * 2654435761u) >> 13 ^ at);
    }
}

static bool pattern_matches(const uint8_t *data, size_t len, uint64_t position) {
    for (size_t i = 0; i < len; i++) {
        const uint64_t at = position + i;
        if (data[i] != (uint8_t)((at * 2654435761u) >> 13 ^ at))
            return false;
    }
    return true;
}

/* Fills fd's send buffer from outside; how many bytes fitted. */
static size_t stuff(int fd) {
    static uint8_t block[65536];
    size_t total = 0;
    for (ssize_t sent; (sent = send(fd, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0;)
        total += (size_t)sent;
    return total;
}

static size_t drain(int fd, size_t most) {
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

/* ---- accept and connect ---- */

IO_TEST(accepts_many_and_ends_with_cancel) {
    enum { CLIENTS = 150 };
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr), clients[CLIENTS];
    struct probe accepting;
    probe_init(&accepting);
    for (int i = 0; i < CLIENTS / 2; i++)
        clients[i] = tcp_client(&addr);
    io_accept(io, &accepting.op, listener);
    cr_assert_eq(accepting.calls, 0, "done from within submit");
    for (int i = CLIENTS / 2; i < CLIENTS; i++) {
        turn(0);
        clients[i] = tcp_client(&addr);
    }
    const uint64_t end = io_clock_ns() + PATIENCE;
    while (accepting.fds_count < CLIENTS && io_clock_ns() < end)
        turn(end);
    cr_assert_eq(accepting.fds_count, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        cr_assert(fcntl(accepting.fds[i], F_GETFL) & O_NONBLOCK);
        cr_assert(fcntl(accepting.fds[i], F_GETFD) & FD_CLOEXEC);
        io_close(io, accepting.fds[i], IO_CLOSE);
        close(clients[i]);
    }
    settle();
    cr_assert(!accepting.ended);
    io_cancel(io, &accepting.op);
    cr_assert_eq(result(&accepting), -ECANCELED);
    io_close(io, listener, IO_CLOSE);
}

static void cancel_when_accepted(struct io_op *op, int32_t res) {
    probe_done(op, res);
    if (op->more)
        io_cancel(io, op);
}

IO_TEST(accept_cancelled_from_within_done) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr);
    int first = tcp_client(&addr), second = tcp_client(&addr);
    struct probe accepting;
    probe_init(&accepting);
    accepting.op.done = cancel_when_accepted;
    io_accept(io, &accepting.op, listener);
    cr_assert_eq(result(&accepting), -ECANCELED);
    cr_assert_geq(accepting.fds_count, 1);
    for (int i = 0; i < accepting.fds_count; i++)
        io_close(io, accepting.fds[i], IO_CLOSE);
    io_close(io, listener, IO_CLOSE);
    close(first);
    close(second);
}

IO_TEST(accept_out_of_descriptors_ends_the_op_and_works_again_later) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr), client = tcp_client(&addr);
    struct rlimit limit, none;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    none = limit;
    none.rlim_cur = 3;
    struct probe accepting;
    probe_init(&accepting);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
    io_accept(io, &accepting.op, listener);
    cr_assert_eq(result(&accepting), -EMFILE);
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    probe_again(&accepting);
    io_accept(io, &accepting.op, listener);
    const uint64_t end = io_clock_ns() + PATIENCE;
    while (accepting.fds_count == 0 && io_clock_ns() < end)
        turn(end);
    cr_assert_eq(accepting.fds_count, 1);
    io_cancel(io, &accepting.op);
    cr_assert_eq(result(&accepting), -ECANCELED);
    io_close(io, accepting.fds[0], IO_CLOSE);
    io_close(io, listener, IO_CLOSE);
    close(client);
}

IO_TEST(connects_many_at_once_from_a_copied_address) {
    enum { CONNECTS = 80 }; /* more than are kept until the next submission */
    struct sockaddr_in addr, copy;
    int listener = tcp_listen(&addr), fds[CONNECTS];
    static struct probe connecting[CONNECTS];
    for (int i = 0; i < CONNECTS; i++) {
        probe_init(&connecting[i]);
        fds[i] = tcp_socket();
        copy = addr;
        io_connect(io, &connecting[i].op, fds[i], (struct sockaddr *)&copy, sizeof copy);
        memset(&copy, 0xff, sizeof copy);
        cr_assert_eq(connecting[i].calls, 0, "done from within submit");
    }
    for (int i = 0; i < CONNECTS; i++)
        cr_assert_eq(result(&connecting[i]), 0);
    char byte = 'x';
    struct iovec iov;
    int served = accept(listener, NULL, NULL);
    probe_again(&connecting[0]);
    send_from(&connecting[0], fds[0], &iov, &byte, 1, IO_SEND_ALL);
    cr_assert_eq(result(&connecting[0]), 1);
    cr_assert_eq(recv(served, &byte, 1, 0), 1);
    for (int i = 0; i < CONNECTS; i++)
        io_close(io, fds[i], IO_CLOSE);
    close(served);
    close(listener);
}

IO_TEST(connect_refused) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr);
    close(listener);
    struct probe connecting;
    probe_init(&connecting);
    int fd = tcp_socket();
    io_connect(io, &connecting.op, fd, (struct sockaddr *)&addr, sizeof addr);
    cr_assert_eq(result(&connecting), -ECONNREFUSED);
    io_close(io, fd, IO_CLOSE);
}

/* A listener whose queue is full lets a connect wait: something to cancel. */
IO_TEST(connect_cancelled) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr), fillers[8];
    cr_assert_eq(listen(listener, 0), 0);
    for (int i = 0; i < 8; i++) {
        fillers[i] = tcp_socket();
        (void)connect(fillers[i], (struct sockaddr *)&addr, sizeof addr);
    }
    struct probe connecting;
    probe_init(&connecting);
    int fd = tcp_socket();
    io_connect(io, &connecting.op, fd, (struct sockaddr *)&addr, sizeof addr);
    settle();
    cr_assert(!connecting.ended);
    io_cancel(io, &connecting.op);
    io_cancel(io, &connecting.op);
    cr_assert_eq(result(&connecting), -ECANCELED);
    io_close(io, fd, IO_CLOSE);
    for (int i = 0; i < 8; i++)
        close(fillers[i]);
    close(listener);
}

/* ---- receiving ---- */

static void check_recv_vectored(const int fds[2]) {
    uint8_t parts[3][100], data[250];
    struct iovec iov[3] = {{parts[0], 100}, {parts[1], 100}, {parts[2], 100}};
    struct probe receiving;
    probe_init(&receiving);
    io_recv(io, &receiving.op, fds[0], iov, 3);
    settle();
    cr_assert(!receiving.ended);
    fill_pattern(data, sizeof data, 0);
    peer_write(fds[1], data, sizeof data);
    cr_assert_eq(result(&receiving), (int32_t)sizeof data);
    cr_assert_eq(memcmp(parts[0], data, 100), 0);
    cr_assert_eq(memcmp(parts[1], data + 100, 100), 0);
    cr_assert_eq(memcmp(parts[2], data + 200, 50), 0);
    /* More than was asked for stays for the next one, which finds it there. */
    peer_write(fds[1], data, sizeof data);
    for (unsigned left = sizeof data; left > 0; left -= (unsigned)receiving.res) {
        probe_again(&receiving);
        recv_into(&receiving, fds[0], &iov[0], parts[0], 100);
        cr_assert_eq(result(&receiving), left < 100 ? (int32_t)left : 100);
        cr_assert_eq(memcmp(parts[0], data + sizeof data - left, (size_t)receiving.res), 0);
    }
    shutdown(fds[1], SHUT_WR);
    for (int i = 0; i < 2; i++) { /* the end is found as often as it is asked for */
        probe_again(&receiving);
        recv_into(&receiving, fds[0], &iov[0], parts[0], 100);
        cr_assert_eq(result(&receiving), 0);
    }
}

IO_TEST(recv_vectored_unix) {
    int fds[2];
    unix_pair(fds);
    check_recv_vectored(fds);
    close_both(fds);
}

IO_TEST(recv_vectored_tcp) {
    int fds[2];
    tcp_pair(fds);
    check_recv_vectored(fds);
    close_both(fds);
}

/* Urgent data cuts a read short although more is there. */
IO_TEST(recv_goes_on_after_urgent_data) {
    int fds[2];
    uint8_t data[100];
    struct iovec iov;
    struct probe receiving;
    probe_init(&receiving);
    tcp_pair(fds);
    recv_into(&receiving, fds[0], &iov, data, sizeof data);
    turn(0);
    peer_write(fds[1], "before", 6);
    cr_assert_eq(send(fds[1], "!", 1, MSG_OOB), 1);
    peer_write(fds[1], "after", 5);
    cr_assert_eq(result(&receiving), 6);
    probe_again(&receiving);
    recv_into(&receiving, fds[0], &iov, data, sizeof data);
    cr_assert_eq(result(&receiving), 5);
    cr_assert_eq(memcmp(data, "after", 5), 0);
    close_both(fds);
}

IO_TEST(recv_slot_takes_none_until_data_is_there_and_keeps_to_its_cap) {
    int fds[2];
    uint8_t data[300];
    struct probe receiving;
    probe_init(&receiving);
    tcp_pair(fds);
    fill_pattern(data, sizeof data, 7);
    io_recv_slot(io, &receiving.op, fds[0], 100);
    settle();
    cr_assert(!receiving.ended);
    cr_assert_geq(pool.free_count, SLOTS - 1, "at most the one that is lent to the kernel");
    peer_write(fds[1], data, sizeof data);
    for (uint32_t at = 0; at < sizeof data; at += 100) {
        cr_assert_eq(result(&receiving), 100);
        cr_assert_not_null(receiving.op.slot);
        cr_assert_eq(receiving.op.slot->len, 100);
        cr_assert_eq(memcmp(receiving.op.slot->data, data + at, 100), 0);
        slot_put(&pool, receiving.op.slot);
        probe_again(&receiving);
        io_recv_slot(io, &receiving.op, fds[0], 100);
    }
    settle();
    cr_assert(!receiving.ended);
    shutdown(fds[1], SHUT_WR);
    cr_assert_eq(result(&receiving), 0);
    cr_assert_null(receiving.op.slot);
    close_both(fds);
}

IO_TEST(recv_slot_of_the_whole_payload) {
    int fds[2];
    static uint8_t data[PAYLOAD + 1];
    struct probe receiving;
    probe_init(&receiving);
    unix_pair(fds);
    fill_pattern(data, sizeof data, 0);
    peer_write(fds[1], data, sizeof data);
    io_recv_slot(io, &receiving.op, fds[0], PAYLOAD);
    cr_assert_eq(result(&receiving), (int32_t)PAYLOAD);
    cr_assert_eq(memcmp(receiving.op.slot->data, data, PAYLOAD), 0);
    slot_put(&pool, receiving.op.slot);
    probe_again(&receiving);
    io_recv_slot(io, &receiving.op, fds[0], PAYLOAD);
    cr_assert_eq(result(&receiving), 1);
    cr_assert_eq(receiving.op.slot->data[0], data[PAYLOAD]);
    slot_put(&pool, receiving.op.slot);
    close_both(fds);
}

IO_TEST(recv_slot_reset_gives_the_slot_back) {
    int fds[2];
    struct probe receiving;
    probe_init(&receiving);
    tcp_pair(fds);
    io_recv_slot(io, &receiving.op, fds[0], 100);
    turn(0);
    io_close(io, fds[1], IO_CLOSE_RESET);
    cr_assert_eq(result(&receiving), -ECONNRESET);
    cr_assert_null(receiving.op.slot);
    io_close(io, fds[0], IO_CLOSE);
}

/* More connections with data than the kernel was lent slots: each gets one all the same. */
IO_TEST(recv_slot_many_at_once_use_the_whole_pool) {
    int fds[SLOTS][2];
    static struct probe receiving[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++) {
        probe_init(&receiving[i]);
        unix_pair(fds[i]);
        io_recv_slot(io, &receiving[i].op, fds[i][0], 8);
    }
    turn(0);
    for (unsigned i = 0; i < SLOTS; i++)
        peer_write(fds[i][1], &(uint64_t){i}, 8);
    for (unsigned i = 0; i < SLOTS; i++) {
        cr_assert_eq(result(&receiving[i]), 8);
        cr_assert_eq(*(const uint64_t *)(const void *)receiving[i].op.slot->data, i);
    }
    cr_assert_eq(pool.free_count, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        slot_put(&pool, receiving[i].op.slot);
        close_both(fds[i]);
    }
}

IO_TEST_SLOTS(recv_slot_of_an_empty_pool_fails_when_data_comes_and_works_again_later, 2) {
    int fds[2];
    struct probe receiving;
    probe_init(&receiving);
    unix_pair(fds);
    struct slot *held[2] = {slot_take(&pool), slot_take(&pool)};
    io_recv_slot(io, &receiving.op, fds[0], 10);
    settle();
    cr_assert(!receiving.ended, "an idle connection needs no slot");
    peer_write(fds[1], "hello", 5);
    cr_assert_eq(result(&receiving), -ENOBUFS);
    cr_assert_null(receiving.op.slot);
    slot_put(&pool, held[0]);
    probe_again(&receiving);
    io_recv_slot(io, &receiving.op, fds[0], 10);
    cr_assert_eq(result(&receiving), 5);
    slot_put(&pool, receiving.op.slot);
    slot_put(&pool, held[1]);
    close_both(fds);
}

/* Vectored receivers take from the same pool: idle cold connections must not have lent it all away. */
IO_TEST(recv_slot_lends_only_a_part_of_the_pool) {
    int fds[SLOTS][2];
    static struct probe receiving[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++) {
        probe_init(&receiving[i]);
        unix_pair(fds[i]);
        io_recv_slot(io, &receiving[i].op, fds[i][0], 8);
    }
    settle();
    cr_assert_geq(pool.free_count, SLOTS - SLOTS / 4);
    for (unsigned i = 0; i < SLOTS; i++)
        io_cancel(io, &receiving[i].op);
    for (unsigned i = 0; i < SLOTS; i++) {
        cr_assert_eq(result(&receiving[i]), -ECANCELED);
        close_both(fds[i]);
    }
}

/* ---- sending ---- */

static void check_send_all(const int fds[2]) {
    enum { PARTS = 64, PART = 99991 };
    uint8_t *data = malloc((size_t)PARTS * PART), *got = malloc(65536);
    struct iovec iov[PARTS];
    fill_pattern(data, (size_t)PARTS * PART, 0);
    for (int i = 0; i < PARTS; i++)
        iov[i] = (struct iovec){data + (size_t)i * PART, PART};
    struct probe sending;
    probe_init(&sending);
    io_send(io, &sending.op, fds[0], iov, PARTS, IO_SEND_ALL);
    uint64_t position = 0;
    const uint64_t end = io_clock_ns() + PATIENCE;
    /* The reader takes odd amounts, and nothing for some turns in between. */
    for (unsigned round = 0; position < (uint64_t)PARTS * PART && io_clock_ns() < end; round++) {
        turn(0);
        if (round % 5 == 0)
            continue;
        const ssize_t len = recv(fds[1], got, 1 + round * 7919 % 65536, MSG_DONTWAIT);
        cr_assert(len > 0 || errno == EAGAIN);
        if (len <= 0)
            continue;
        cr_assert(pattern_matches(got, (size_t)len, position));
        position += (uint64_t)len;
    }
    cr_assert_eq(position, (uint64_t)PARTS * PART);
    cr_assert_eq(result(&sending), PARTS * PART);
    cr_assert_eq(sending.calls, 1);
    free(data);
    free(got);
}

IO_TEST(send_all_to_a_slow_reader_unix) {
    int fds[2];
    unix_pair(fds);
    check_send_all(fds);
    close_both(fds);
}

IO_TEST(send_all_to_a_slow_reader_tcp) {
    int fds[2];
    tcp_pair(fds);
    check_send_all(fds);
    close_both(fds);
}

/* Room is to be waited for although the peer's half-close stays up as an event all the while. */
IO_TEST(send_all_to_a_peer_that_has_half_closed) {
    for (int tcp = 0; tcp < 2; tcp++) {
        int fds[2];
        static uint8_t data[1 << 20], got[4096];
        struct iovec iov[2] = {{data, 1000}, {data + 1000, sizeof data - 1000}};
        struct probe sending;
        probe_init(&sending);
        if (tcp)
            tcp_pair(fds);
        else
            unix_pair(fds);
        shutdown(fds[1], SHUT_WR);
        const size_t before = stuff(fds[0]);
        fill_pattern(data, sizeof data, 0);
        io_send(io, &sending.op, fds[0], iov, 2, IO_SEND_ALL);
        settle();
        cr_assert(!sending.ended);
        cr_assert_eq(drain(fds[1], before), before);
        uint64_t position = 0;
        for (const uint64_t end = io_clock_ns() + PATIENCE; position < sizeof data && io_clock_ns() < end; turn(0)) {
            const ssize_t len = recv(fds[1], got, sizeof got, MSG_DONTWAIT);
            cr_assert(len > 0 || errno == EAGAIN);
            cr_assert(len <= 0 || pattern_matches(got, (size_t)len, position));
            position += len > 0 ? (uint64_t)len : 0;
        }
        cr_assert_eq(position, sizeof data);
        cr_assert_eq(result(&sending), (int32_t)sizeof data);
        close_both(fds);
    }
}

IO_TEST(send_all_to_a_half_closed_peer_is_cancelled_or_reset) {
    for (int reset = 0; reset < 2; reset++) {
        int fds[2];
        static uint8_t data[1 << 20];
        struct iovec iov;
        struct probe sending;
        probe_init(&sending);
        tcp_pair(fds);
        shutdown(fds[1], SHUT_WR);
        stuff(fds[0]);
        send_from(&sending, fds[0], &iov, data, sizeof data, IO_SEND_ALL);
        for (int i = 0; i < 50; i++)
            settle();
        cr_assert(!sending.ended);
        if (reset)
            io_close(io, fds[1], IO_CLOSE_RESET);
        else
            io_cancel(io, &sending.op);
        const int32_t res = result(&sending);
        cr_assert(reset ? res == -ECONNRESET || res == -EPIPE : res == -ECANCELED, "%d", res);
        if (!reset)
            io_close(io, fds[1], IO_CLOSE);
        io_close(io, fds[0], IO_CLOSE);
    }
}

IO_TEST(send_now_sends_a_part_then_nothing_then_again) {
    enum { BYTES = 16 << 20 };
    int fds[2];
    uint8_t *data = calloc(1, BYTES);
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    tcp_pair(fds);
    send_from(&sending, fds[0], &iov, data, BYTES, IO_SEND_NOW);
    cr_assert_eq(sending.calls, 0, "done from within submit");
    const int32_t sent = result(&sending);
    cr_assert(sent > 0 && sent < BYTES);
    stuff(fds[0]);
    probe_again(&sending);
    send_from(&sending, fds[0], &iov, data, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), -EAGAIN);
    /* Room is announced to a poll, and then used. */
    probe_again(&sending);
    io_poll(io, &sending.op, fds[0], POLLOUT);
    settle();
    cr_assert(!sending.ended);
    for (const uint64_t end = io_clock_ns() + PATIENCE; !sending.ended && io_clock_ns() < end; turn(0))
        drain(fds[1], 65536);
    cr_assert_eq(result(&sending), POLLOUT);
    probe_again(&sending);
    send_from(&sending, fds[0], &iov, data, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), 1);
    close_both(fds);
    free(data);
}

/* Backends may remember that a socket was full; they must not believe it for ever. */
IO_TEST(send_now_finds_room_that_came_meanwhile) {
    int fds[2];
    char byte = 0;
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    unix_pair(fds);
    stuff(fds[0]);
    send_from(&sending, fds[0], &iov, &byte, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), -EAGAIN);
    drain(fds[1], SIZE_MAX);
    probe_again(&sending);
    send_from(&sending, fds[0], &iov, &byte, 1, IO_SEND_NOW);
    cr_assert_eq(result(&sending), 1);
    close_both(fds);
}

IO_TEST(send_to_a_closed_peer_is_an_error_and_no_signal) {
    int fds[2];
    char byte = 0;
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    unix_pair(fds);
    close(fds[1]);
    send_from(&sending, fds[0], &iov, &byte, 1, IO_SEND_ALL);
    cr_assert_eq(result(&sending), -EPIPE);
    io_close(io, fds[0], IO_CLOSE);
}

IO_TEST(send_all_that_waits_ends_with_a_reset) {
    int fds[2];
    static uint8_t data[1 << 20];
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    tcp_pair(fds);
    stuff(fds[0]);
    send_from(&sending, fds[0], &iov, data, sizeof data, IO_SEND_ALL);
    settle();
    cr_assert(!sending.ended);
    io_close(io, fds[1], IO_CLOSE_RESET);
    cr_assert(result(&sending) == -ECONNRESET || sending.res == -EPIPE);
    io_close(io, fds[0], IO_CLOSE);
}

/* ---- polling, shutting, closing ---- */

IO_TEST(poll_of_an_eventfd_again_and_again) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    uint64_t value = 1;
    struct probe polling;
    probe_init(&polling);
    for (int i = 0; i < 5; i++) {
        probe_again(&polling);
        io_poll(io, &polling.op, fd, POLLIN);
        settle();
        cr_assert(!polling.ended, "what was read before is not to be seen again");
        cr_assert_eq(write(fd, &value, sizeof value), (ssize_t)sizeof value);
        cr_assert_eq(result(&polling), POLLIN);
        probe_again(&polling);
        io_poll(io, &polling.op, fd, POLLIN); /* not read yet: still so */
        cr_assert_eq(result(&polling), POLLIN);
        cr_assert_eq(read(fd, &value, sizeof value), (ssize_t)sizeof value);
    }
    io_close(io, fd, IO_CLOSE);
}

IO_TEST(poll_wakes_a_waiting_turn_from_another_process) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), status;
    struct probe polling;
    probe_init(&polling);
    io_poll(io, &polling.op, fd, POLLIN);
    const pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        const struct timespec pause = {.tv_nsec = 20 * (long)MS}; /* so that the turn is most likely asleep */
        nanosleep(&pause, NULL);
        _exit(write(fd, &(uint64_t){1}, 8) == 8 ? 0 : 1);
    }
    cr_assert_eq(result(&polling), POLLIN);
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    io_close(io, fd, IO_CLOSE);
}

/* A half-closed peer is no event for who asks for none; a reset is. */
IO_TEST(poll_for_nothing_sees_a_reset_and_not_a_half_close) {
    int fds[2];
    struct probe watching;
    probe_init(&watching);
    tcp_pair(fds);
    io_poll(io, &watching.op, fds[0], 0);
    settle();
    peer_write(fds[1], "x", 1);
    shutdown(fds[1], SHUT_WR);
    settle();
    cr_assert(!watching.ended);
    io_close(io, fds[1], IO_CLOSE_RESET);
    cr_assert(result(&watching) & POLLERR);
    cr_assert_eq(watching.res & ~(POLLERR | POLLHUP), 0);
    io_close(io, fds[0], IO_CLOSE);
}

IO_TEST(poll_for_nothing_is_cancelled_after_a_half_close) {
    int fds[2];
    struct probe watching;
    probe_init(&watching);
    tcp_pair(fds);
    io_poll(io, &watching.op, fds[0], 0);
    shutdown(fds[1], SHUT_WR);
    settle();
    cr_assert(!watching.ended);
    io_cancel(io, &watching.op);
    cr_assert_eq(result(&watching), -ECANCELED);
    probe_again(&watching);
    io_poll(io, &watching.op, fds[0], POLLRDHUP);
    cr_assert_eq(result(&watching), POLLRDHUP);
    close_both(fds);
}

IO_TEST(poll_runs_beside_a_receive_a_send_and_another_poll) {
    int fds[2];
    char byte = 0;
    struct iovec in;
    struct probe receiving, room, watching;
    probe_init(&receiving);
    probe_init(&room);
    probe_init(&watching);
    tcp_pair(fds);
    stuff(fds[0]);
    recv_into(&receiving, fds[0], &in, &byte, 1);
    io_poll(io, &room.op, fds[0], POLLOUT);
    io_poll(io, &watching.op, fds[0], 0);
    settle();
    cr_assert(!receiving.ended && !room.ended && !watching.ended);
    peer_write(fds[1], "x", 1);
    cr_assert_eq(result(&receiving), 1);
    cr_assert(!room.ended && !watching.ended);
    for (const uint64_t end = io_clock_ns() + PATIENCE; !room.ended && io_clock_ns() < end; turn(0))
        drain(fds[1], 65536);
    cr_assert_eq(result(&room), POLLOUT);
    cr_assert(!watching.ended);
    io_cancel(io, &watching.op);
    cr_assert_eq(result(&watching), -ECANCELED);
    close_both(fds);
}

IO_TEST(shutdown_is_an_end_of_file_for_the_other_end_only) {
    int fds[2];
    char byte = 'a';
    struct iovec iov;
    struct probe op;
    probe_init(&op);
    tcp_pair(fds);
    io_shutdown(io, fds[0], SHUT_WR);
    recv_into(&op, fds[1], &iov, &byte, 1);
    cr_assert_eq(result(&op), 0);
    probe_again(&op);
    byte = 'b';
    send_from(&op, fds[1], &iov, &byte, 1, IO_SEND_ALL);
    cr_assert_eq(result(&op), 1);
    probe_again(&op);
    byte = 0;
    recv_into(&op, fds[0], &iov, &byte, 1);
    cr_assert_eq(result(&op), 1);
    cr_assert_eq(byte, 'b');
    close_both(fds);
}

IO_TEST(close_with_reset_and_without) {
    for (int mode = IO_CLOSE; mode <= IO_CLOSE_RESET; mode++) {
        int fds[2];
        char byte;
        struct iovec iov;
        struct probe receiving;
        probe_init(&receiving);
        tcp_pair(fds);
        recv_into(&receiving, fds[0], &iov, &byte, 1);
        settle();
        io_close(io, fds[1], (enum io_close_mode)mode);
        cr_assert_eq(result(&receiving), mode == IO_CLOSE_RESET ? -ECONNRESET : 0);
        io_close(io, fds[0], IO_CLOSE);
    }
}

/* The lowest free number is given out again at once: nothing of the old one may stick to it. */
IO_TEST(descriptor_numbers_are_used_again) {
    for (int i = 0; i < 50; i++) {
        int fds[2];
        char byte = (char)i, got = 0;
        struct iovec in, out;
        struct probe receiving, sending;
        probe_init(&receiving);
        probe_init(&sending);
        if (i % 2)
            unix_pair(fds);
        else
            tcp_pair(fds);
        recv_into(&receiving, fds[0], &in, &got, 1);
        settle();
        cr_assert(!receiving.ended);
        send_from(&sending, fds[1], &out, &byte, 1, IO_SEND_ALL);
        cr_assert_eq(result(&sending), 1);
        cr_assert_eq(result(&receiving), 1);
        cr_assert_eq(got, (char)i);
        close_both(fds);
    }
}

/* ---- cancelling ---- */

IO_TEST(cancel_of_an_idle_op_does_nothing) {
    struct probe op;
    probe_init(&op);
    io_cancel(io, &op.op);
    settle();
    cr_assert_eq(op.calls, 0);
}

IO_TEST(cancel_of_every_waiting_kind) {
    int fds[2], listened;
    struct sockaddr_in addr;
    char byte;
    static uint8_t data[1 << 20];
    struct iovec in, out;
    enum { ACCEPT, RECV, SEND, POLL, KINDS };
    struct probe ops[KINDS];
    tcp_pair(fds);
    listened = tcp_listen(&addr);
    stuff(fds[0]);
    for (int again = 0; again < 3; again++) {
        for (int i = 0; i < KINDS; i++)
            probe_init(&ops[i]);
        io_accept(io, &ops[ACCEPT].op, listened);
        recv_into(&ops[RECV], fds[0], &in, &byte, 1);
        send_from(&ops[SEND], fds[0], &out, data, sizeof data, IO_SEND_ALL);
        io_poll(io, &ops[POLL].op, fds[0], POLLRDHUP);
        if (again > 0) /* the first time before the kernel has seen them */
            settle();
        for (int i = 0; i < KINDS; i++) {
            cr_assert(!ops[i].ended);
            io_cancel(io, &ops[i].op);
            cr_assert_eq(ops[i].calls, 0, "done from within cancel");
        }
        for (int i = 0; i < KINDS; i++)
            cr_assert_eq(result(&ops[i]), -ECANCELED, "op %d: %d", i, ops[i].res);
    }
    close_both(fds);
    io_close(io, listened, IO_CLOSE);
}

IO_TEST(cancel_of_a_send_that_is_half_out) {
    int fds[2];
    static uint8_t data[8 << 20];
    struct iovec iov;
    struct probe sending;
    probe_init(&sending);
    unix_pair(fds);
    send_from(&sending, fds[0], &iov, data, sizeof data, IO_SEND_ALL);
    settle();
    cr_assert_gt(drain(fds[1], 1000), 0);
    settle();
    cr_assert(!sending.ended);
    io_cancel(io, &sending.op);
    cr_assert_eq(result(&sending), -ECANCELED);
    close_both(fds);
}

/* The cancel and the data race: whatever wins, done comes once, and a byte that was not delivered is still there. */
IO_TEST(cancel_racing_with_data_loses_none) {
    int fds[2];
    uint64_t sent = 0, got = 0;
    struct probe receiving;
    unix_pair(fds);
    for (unsigned i = 0; i < 600; i++) {
        uint8_t byte = (uint8_t)sent, into = 0;
        struct iovec iov;
        probe_init(&receiving);
        if (i % 2)
            recv_into(&receiving, fds[0], &iov, &into, 1);
        else
            io_recv_slot(io, &receiving.op, fds[0], 1);
        if (i % 3)
            turn(0);
        if (i % 5) {
            peer_write(fds[1], &byte, 1);
            sent++;
        }
        if (i % 7 == 0)
            turn(0);
        io_cancel(io, &receiving.op);
        const int32_t res = result(&receiving);
        cr_assert(res == 1 || res == -ECANCELED, "%d", res);
        cr_assert_eq(receiving.calls, 1);
        if (res != 1)
            continue;
        if (receiving.op.slot != NULL) {
            into = receiving.op.slot->data[0];
            slot_put(&pool, receiving.op.slot);
        }
        cr_assert_eq(into, (uint8_t)got);
        got++;
    }
    cr_assert_gt(got, 0);
    got += drain(fds[0], SIZE_MAX);
    cr_assert_eq(got, sent);
    close_both(fds);
}

struct pair_of_ops {
    struct probe first, second;
    int fd; /* second's */
    struct iovec iov;
    char byte;
    int lives;
};
static struct pair_of_ops two;

static void first_done(struct io_op *op, int32_t res) {
    probe_done(op, res);
    io_cancel(io, &two.second.op);
}

static void second_done(struct io_op *op, int32_t res) {
    probe_done(op, res);
    two.lives++;
    if (res == -ECANCELED)
        cr_assert_eq(two.lives, 1, "the cancel of the first life has ended the second");
    if (two.lives > 1)
        return;
    two.second.ended = false;
    recv_into(&two.second, two.fd, &two.iov, &two.byte, 1);
}

/* Both ops have their byte in one turn; the first cancels the second, which submits itself again from within done. A
 * cancel that comes too late must not hit the op's next life. */
IO_TEST(cancel_does_not_reach_the_next_life_of_an_op) {
    int a[2], b[2];
    char byte;
    struct iovec iov;
    unix_pair(a);
    unix_pair(b);
    for (int round = 0; round < 20; round++) {
        memset(&two, 0, sizeof two);
        probe_init(&two.first);
        probe_init(&two.second);
        two.first.op.done = first_done;
        two.second.op.done = second_done;
        two.fd = b[0];
        recv_into(&two.first, a[0], &iov, &byte, 1);
        recv_into(&two.second, b[0], &two.iov, &two.byte, 1);
        if (round % 2)
            turn(0);
        peer_write(a[1], "1", 1);
        peer_write(b[1], "2", 1);
        settle();
        cr_assert_geq(two.lives, 1);
        if (two.second.op.in_flight) {
            peer_write(b[1], "3", 1);
            cr_assert_eq(result(&two.second), 1);
        }
        cr_assert_eq(two.lives, 2);
    }
    close_both(a);
    close_both(b);
}

/* ---- turns and time ---- */

IO_TEST(turn_waits_until_its_deadline_and_not_longer) {
    for (uint64_t wait = MS / 2; wait <= 40 * MS; wait *= 3) {
        const uint64_t deadline = io_clock_ns() + wait;
        turn(deadline);
        cr_assert_geq(io_now(io), deadline, "woken early");
        cr_assert_lt(io_clock_ns(), deadline + 500 * MS);
    }
}

IO_TEST(turn_with_deadline_zero_or_past_does_not_wait) {
    int fds[2];
    char byte;
    struct iovec iov;
    struct probe receiving;
    probe_init(&receiving);
    unix_pair(fds);
    recv_into(&receiving, fds[0], &iov, &byte, 1);
    const uint64_t before = io_clock_ns();
    for (int i = 0; i < 100; i++) {
        turn(0);
        turn(1);
        turn(before);
    }
    cr_assert_lt(io_clock_ns() - before, 2 * SECOND);
    cr_assert_geq(io_now(io), before);
    cr_assert(!receiving.ended);
    io_cancel(io, &receiving.op);
    cr_assert_eq(result(&receiving), -ECANCELED);
    close_both(fds);
}

static int alarms;
static void on_alarm(int number) {
    (void)number;
    alarms++;
}

IO_TEST(turn_survives_a_signal) {
    const struct sigaction action = {.sa_handler = on_alarm};
    const struct itimerspec soon = {.it_value.tv_nsec = 10000000};
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};
    cr_assert_eq(sigaction(SIGUSR2, &action, NULL), 0);
    cr_assert_eq(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    alarms = 0;
    cr_assert_eq(timer_settime(timer, 0, &soon, NULL), 0);
    while (alarms == 0)
        turn(UINT64_MAX);
    timer_delete(timer);
}

/* More ops in one turn than the submission queue holds. */
IO_TEST(submits_more_than_the_queue_holds) {
    enum { OPS = 1500 };
    static struct probe ops[OPS];
    int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), copies[OPS];
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < OPS; i++) {
        probe_init(&ops[i]);
        copies[i] = dup(fd);
        cr_assert_geq(copies[i], 0);
        io_poll(io, &ops[i].op, copies[i], POLLIN);
        cr_assert_eq(ops[i].calls, 0);
    }
    for (int i = 0; i < OPS; i++) {
        cr_assert_eq(result(&ops[i]), POLLIN);
        io_close(io, copies[i], IO_CLOSE);
    }
    close(fd);
}

/* Connections that always have something to do don't keep another from its turn. */
struct chatter {
    struct io_op op;
    struct iovec iov;
    int fd;
    uint8_t bytes[16];
    bool sending, quit;
    unsigned rounds;
};

static void chatter_go(struct chatter *c) {
    c->iov = (struct iovec){c->bytes, sizeof c->bytes};
    c->sending = !c->sending;
    if (c->sending)
        io_send(io, &c->op, c->fd, &c->iov, 1, IO_SEND_ALL);
    else
        io_recv(io, &c->op, c->fd, &c->iov, 1);
}

static void chatter_done(struct io_op *op, int32_t res) {
    struct chatter *c = (struct chatter *)(void *)((char *)op - offsetof(struct chatter, op));
    if (c->quit)
        return;
    cr_assert_gt(res, 0);
    c->rounds++;
    chatter_go(c);
}

IO_TEST(busy_connections_do_not_starve_a_quiet_one) {
    enum { CHATTERS = 40 };
    static struct chatter chatters[CHATTERS];
    int fds[CHATTERS / 2][2], quiet[2];
    unix_pair(quiet);
    for (int i = 0; i < CHATTERS; i++) {
        if (i % 2 == 0)
            unix_pair(fds[i / 2]);
        chatters[i] = (struct chatter){.fd = fds[i / 2][i % 2]};
        io_op_init(&chatters[i].op, chatter_done);
        chatter_go(&chatters[i]);
    }
    for (int i = 0; i < 20; i++) {
        char byte;
        struct iovec iov;
        struct probe receiving;
        probe_init(&receiving);
        recv_into(&receiving, quiet[0], &iov, &byte, 1);
        turn(0);
        peer_write(quiet[1], "x", 1);
        for (int turns = 0; !receiving.ended; turns++) {
            cr_assert_lt(turns, 5);
            turn(0);
        }
    }
    for (int i = 0; i < CHATTERS; i++) {
        cr_assert_gt(chatters[i].rounds, 20);
        chatters[i].quit = true;
        io_shutdown(io, chatters[i].fd, SHUT_RDWR);
    }
    settle();
    for (int i = 0; i < CHATTERS / 2; i++)
        close_both(fds[i]);
    close_both(quiet);
}

/* ---- backends that the kernel refuses ---- */

static void forbid(long number, int error_number) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error_number),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog program = {.len = sizeof code / sizeof code[0], .filter = code};
    cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

Test(io, auto_takes_epoll_where_io_uring_is_forbidden) {
    forbid(SYS_io_uring_setup, EPERM);
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, SLOTS), 0);
    cr_assert_eq(io_create(IO_BACKEND_URING, &pool, &io), ERR_UNSUPPORTED);
    cr_assert_eq(errno, EPERM);
    cr_assert_eq(io_create(IO_BACKEND_AUTO, &pool, &io), 0);
    cr_assert_str_eq(io_name(io), "epoll");
    stop();
}

/* Linux before 5.19 has io_uring, but not what the backend is built on. */
Test(io, auto_takes_epoll_where_io_uring_is_too_old) {
    forbid(SYS_io_uring_register, EINVAL);
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, SLOTS), 0);
    cr_assert_eq(io_create(IO_BACKEND_AUTO, &pool, &io), 0);
    cr_assert_str_eq(io_name(io), "epoll");
    stop();
}

Test(io, auto_takes_io_uring_where_it_is_to_be_had) {
    cr_assert_eq(slot_pool_init(&pool, PAYLOAD, SLOTS), 0);
    const bool there = io_create(IO_BACKEND_URING, &pool, &io) == 0;
    if (there)
        io_destroy(io);
    cr_assert_eq(io_create(IO_BACKEND_AUTO, &pool, &io), 0);
    cr_assert_str_eq(io_name(io), there ? "io_uring" : "epoll");
    stop();
}

/* Linux before 5.11 waits in milliseconds: rounded up, never early. */
Test(io, epoll_waits_without_epoll_pwait2) {
    forbid(SYS_epoll_pwait2, ENOSYS);
    cr_assert(start_pool(IO_BACKEND_EPOLL, SLOTS));
    turn_waits_until_its_deadline_and_not_longer();
    stop();
}

/* ---- random operations against a model of byte streams ---- */

#define PAIRS 5
#define IN_BYTES 50000u
#define OUT_BYTES 300000u
#define HELD_MAX 6u

/* One end of a connection. Its outgoing stream is the pattern from 0 on; of it, [0, sent) is surely sent and
 * [sent, perhaps) may be: a cancelled send of all does not tell. */
struct end {
    struct end *peer;
    int fd;
    struct io_op recv, send, poll;
    uint64_t sent, perhaps, received;
    uint32_t asked, sending;
    bool finished, ended, send_all;
    struct iovec in_iov[4], out_iov[4];
    unsigned in_n;
    uint8_t in[IN_BYTES], out[OUT_BYTES];
};
static struct end ends[PAIRS * 2];
static struct slot *held[HELD_MAX];
static uint32_t random_state;
static uint64_t model_bytes;
static unsigned model_pairs, model_cancels;

static uint32_t random_below(uint32_t limit) {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

/* Cuts data into up to 4 pieces of random size. */
static unsigned cut(struct iovec iov[4], uint8_t *data, uint32_t len) {
    unsigned n = 0;
    while (len > 0) {
        const uint32_t piece = n == 3 ? len : 1 + random_below(len);
        iov[n++] = (struct iovec){data, piece};
        data += piece;
        len -= piece;
    }
    return n;
}

static void end_finish(struct end *end) {
    end->finished = true;
    io_shutdown(io, end->fd, SHUT_WR);
}

static void model_sent(struct io_op *op, int32_t res) {
    struct end *end = (struct end *)(void *)((char *)op - offsetof(struct end, send));
    const uint32_t sending = end->sending;
    end->sending = 0;
    if (res == -ECANCELED) {
        model_cancels++;
        if (end->send_all) {
            end->perhaps += sending;
            end_finish(end);
        }
        return;
    }
    if (res == -EAGAIN && !end->send_all)
        return;
    cr_assert_gt(res, 0, "send: %s", strerror(-res));
    cr_assert(end->send_all ? (uint32_t)res == sending : (uint32_t)res <= sending);
    end->sent += (uint32_t)res;
    end->perhaps = end->sent;
}

static void slot_hold(struct slot *slot) {
    struct slot **place = &held[random_below(HELD_MAX)];
    if (*place != NULL)
        slot_put(&pool, *place);
    *place = slot;
}

static void take_in(struct end *end, const uint8_t *data, size_t len) {
    cr_assert(pattern_matches(data, len, end->received), "wrong bytes");
    end->received += len;
    cr_assert_leq(end->received, end->peer->perhaps + end->peer->sending);
    model_bytes += len;
}

static void model_received(struct io_op *op, int32_t res) {
    struct end *end = (struct end *)(void *)((char *)op - offsetof(struct end, recv));
    cr_assert_leq(res, (int32_t)end->asked);
    if (res == 0) {
        cr_assert(end->peer->finished);
        cr_assert_geq(end->received, end->peer->sent);
        cr_assert_leq(end->received, end->peer->perhaps);
        end->ended = true;
    } else if (res < 0) {
        cr_assert(res == -ECANCELED || (res == -ENOBUFS && end->in_n == 0), "receive: %s", strerror(-res));
        model_cancels += res == -ECANCELED;
    } else if (end->in_n == 0) {
        cr_assert_eq((uint32_t)res, op->slot->len);
        take_in(end, op->slot->data, (size_t)res);
        slot_hold(op->slot);
    } else {
        size_t left = (size_t)res;
        for (unsigned i = 0; left > 0; i++) {
            const size_t piece = left < end->in_iov[i].iov_len ? left : end->in_iov[i].iov_len;
            take_in(end, end->in_iov[i].iov_base, piece);
            left -= piece;
        }
    }
}

static void model_polled(struct io_op *op, int32_t res) {
    struct end *end = (struct end *)(void *)((char *)op - offsetof(struct end, poll));
    cr_assert(res == -ECANCELED || res > 0, "%d", res);
    if (res > 0 && res & POLLRDHUP)
        cr_assert(end->peer->finished);
}

static void start_recv(struct end *end) {
    if (random_below(2)) {
        end->in_n = 0;
        end->asked = 1 + random_below(PAYLOAD);
        io_recv_slot(io, &end->recv, end->fd, end->asked);
    } else {
        end->asked = 1 + random_below(random_below(2) ? 100 : IN_BYTES);
        end->in_n = cut(end->in_iov, end->in, end->asked);
        io_recv(io, &end->recv, end->fd, end->in_iov, end->in_n);
    }
}

static void start_send(struct end *end) {
    end->sending = 1 + random_below(random_below(3) ? 3000 : OUT_BYTES);
    fill_pattern(end->out, end->sending, end->sent);
    end->send_all = random_below(2);
    const unsigned n = cut(end->out_iov, end->out, end->sending);
    io_send(io, &end->send, end->fd, end->out_iov, n, end->send_all ? IO_SEND_ALL : IO_SEND_NOW);
}

static void pair_open(struct end *a, struct end *b) {
    int fds[2];
    if (random_below(2))
        unix_pair(fds);
    else
        tcp_pair(fds);
    for (int i = 0; i < 2; i++) {
        struct end *end = i == 0 ? a : b;
        memset(end, 0, offsetof(struct end, in));
        end->peer = i == 0 ? b : a;
        end->fd = fds[i];
        io_op_init(&end->recv, model_received);
        io_op_init(&end->send, model_sent);
        io_op_init(&end->poll, model_polled);
    }
}

/* Both streams are over: closes, once everything is joined. */
static bool pair_over(struct end *a, struct end *b) {
    if (!a->ended || !b->ended)
        return false;
    io_cancel(io, &a->poll);
    io_cancel(io, &b->poll);
    if (a->poll.in_flight || b->poll.in_flight)
        return false;
    io_close(io, a->fd, IO_CLOSE);
    io_close(io, b->fd, random_below(2) ? IO_CLOSE : IO_CLOSE_RESET);
    model_pairs++;
    return true;
}

static void model_step(struct end *end) {
    switch (random_below(12)) {
    case 0:
    case 1:
    case 2:
    case 3:
        if (!end->recv.in_flight && !end->ended)
            start_recv(end);
        break;
    case 4:
    case 5:
    case 6:
        if (!end->send.in_flight && !end->finished)
            start_send(end);
        break;
    case 7:
        if (!end->poll.in_flight)
            io_poll(io, &end->poll, end->fd, random_below(2) ? POLLRDHUP : POLLIN);
        break;
    case 8:
        io_cancel(io, random_below(8) ? &end->recv : random_below(4) ? &end->poll : &end->send);
        break;
    case 9:
        if (!end->send.in_flight && !end->finished && random_below(20) == 0)
            end_finish(end);
        break;
    default:
        turn(0);
    }
}

static void model_finish(struct end *end, struct end *peer) {
    const uint64_t limit = io_clock_ns() + PATIENCE;
    while (!pair_over(end, peer)) {
        cr_assert_lt(io_clock_ns(), limit);
        for (int i = 0; i < 2; i++) {
            struct end *one = i == 0 ? end : peer;
            if (!one->send.in_flight && !one->finished)
                end_finish(one);
            if (!one->recv.in_flight && !one->ended)
                start_recv(one);
        }
        for (unsigned i = 0; i < HELD_MAX; i++) {
            if (held[i] != NULL)
                slot_put(&pool, held[i]);
            held[i] = NULL;
        }
        turn(0);
    }
}

static void model_run(uint32_t seed, int steps) {
    random_state = seed * 2654435761u;
    for (int i = 0; i < PAIRS; i++)
        pair_open(&ends[2 * i], &ends[2 * i + 1]);
    for (int step = 0; step < steps; step++) {
        const uint32_t i = random_below(PAIRS * 2);
        model_step(&ends[i]);
        if (pair_over(&ends[i & ~1u], &ends[i | 1u]))
            pair_open(&ends[i & ~1u], &ends[i | 1u]);
    }
    for (int i = 0; i < PAIRS; i++)
        model_finish(&ends[2 * i], &ends[2 * i + 1]);
}

IO_TEST_SLOTS(random_operations_against_byte_streams, 8) {
    const char *chosen = getenv("LEAT_TEST_SEED");
    for (uint32_t seed = 1; seed <= 20; seed++) {
        if (chosen != NULL && seed != (uint32_t)atoi(chosen))
            continue;
        fprintf(stderr, "seed %u\n", seed); /* the last one is the one that failed (LEAT_TEST_SEED runs it alone) */
        model_run(seed, 3000);
    }
    cr_assert_gt(model_bytes, 1000000u);
    cr_assert_gt(model_pairs, 20 * PAIRS);
    cr_assert_gt(model_cancels, 100);
}
