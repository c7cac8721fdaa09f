/* The I/O seam on both backends: cancelling, waiting, full queues, fairness; and the choice of a backend. */
#include "tests/unit/io_rig.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>

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

/* More ops in one turn than the submission queue holds, and more completions than the completion queue. */
IO_TEST(submits_more_than_the_queues_hold) {
    enum { OPS = 6000 };
    static struct probe ops[OPS];
    static int copies[OPS];
    int fd = eventfd(1, EFD_NONBLOCK | EFD_CLOEXEC), count = 0;
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < OPS + 100 ? limit.rlim_max : OPS + 100;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (count < OPS && (copies[count] = dup(fd)) >= 0)
        count++;
    cr_assert_gt(count, 600);
    for (int i = 0; i < count; i++) {
        probe_init(&ops[i]);
        io_poll(io, &ops[i].op, copies[i], POLLIN);
        cr_assert_eq(ops[i].calls, 0);
    }
    for (int i = 0; i < count; i++)
        cr_assert_eq(result(&ops[i]), POLLIN);
    for (int i = 0; i < count; i++)
        io_close(io, copies[i], IO_CLOSE);
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
