/* The I/O seam on both backends: accepting, connecting, polling, shutting and closing. */
#include "tests/unit/io_rig.h"
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

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
    enum { CONNECTS = 100, LISTENERS = 3 }; /* more than are kept until the next submission */
    struct sockaddr_in addrs[LISTENERS], copy;
    int listeners[LISTENERS], fds[CONNECTS];
    static struct probe connecting[CONNECTS];
    for (int i = 0; i < LISTENERS; i++)
        listeners[i] = tcp_listen(&addrs[i]);
    for (int i = 0; i < CONNECTS; i++) {
        probe_init(&connecting[i]);
        fds[i] = tcp_socket();
        copy = addrs[i % LISTENERS];
        io_connect(io, &connecting[i].op, fds[i], (struct sockaddr *)&copy, sizeof copy);
        memset(&copy, 0xff, sizeof copy);
        cr_assert_eq(connecting[i].calls, 0, "done from within submit");
    }
    for (int i = 0; i < CONNECTS; i++) {
        socklen_t len = sizeof copy;
        cr_assert_eq(result(&connecting[i]), 0);
        cr_assert_eq(getpeername(fds[i], (struct sockaddr *)&copy, &len), 0);
        cr_assert_eq(copy.sin_port, addrs[i % LISTENERS].sin_port);
        io_close(io, fds[i], IO_CLOSE);
    }
    for (int i = 0; i < LISTENERS; i++)
        close(listeners[i]);
}

IO_TEST(connected_socket_sends_and_receives) {
    struct sockaddr_in addr;
    int listener = tcp_listen(&addr), fd = tcp_socket();
    char byte = 'x';
    struct iovec iov;
    struct probe op;
    probe_init(&op);
    io_connect(io, &op.op, fd, (struct sockaddr *)&addr, sizeof addr);
    cr_assert_eq(result(&op), 0);
    int served = accept(listener, NULL, NULL);
    probe_again(&op);
    send_from(&op, fd, &iov, &byte, 1, IO_SEND_ALL);
    cr_assert_eq(result(&op), 1);
    cr_assert_eq(recv(served, &byte, 1, 0), 1);
    peer_write(served, "y", 1);
    probe_again(&op);
    recv_into(&op, fd, &iov, &byte, 1);
    cr_assert_eq(result(&op), 1);
    cr_assert_eq(byte, 'y');
    io_close(io, fd, IO_CLOSE);
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
    check_quiet();
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
    check_quiet();
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
