#include "engine/limits.h"
#include "engine/tcp.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* Both ends of a connection over the loopback. */
struct ends {
    int fds[2];
};

static struct ends connect_ends(void) {
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof addr;
    struct ends ends;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    cr_assert(bind(listener, (struct sockaddr *)&addr, len) == 0 && listen(listener, 1) == 0);
    cr_assert_eq(getsockname(listener, (struct sockaddr *)&addr, &len), 0);
    ends.fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    connect(ends.fds[0], (struct sockaddr *)&addr, sizeof addr);
    ends.fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    cr_assert_geq(ends.fds[1], 0);
    close(listener);
    return ends;
}

static void disconnect(struct ends ends) {
    close(ends.fds[0]);
    close(ends.fds[1]);
}

/* Whose handshake was as short as the path: on a loaded machine one may have waited for a processor. */
static struct ends connect_short(void) {
    for (;;) {
        struct ends ends = connect_ends();
        struct tcp_info info;
        socklen_t len = sizeof info;
        cr_assert_eq(getsockopt(ends.fds[1], IPPROTO_TCP, TCP_INFO, &info, &len), 0);
        if (info.tcpi_rtt < LIMIT_SHORT_PATH_US)
            return ends;
        disconnect(ends);
    }
}

static int option(int fd, int level, int name) {
    int value = -1;
    socklen_t len = sizeof value;
    cr_assert_eq(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* Autotuning gives a fast reader more and more: so much comes in that it would. */
static void pour(struct ends ends, size_t bytes) {
    static char data[1 << 18];
    for (size_t done = 0, n; done < bytes; done += n) {
        ssize_t sent = send(ends.fds[0], data, sizeof data, MSG_NOSIGNAL), came;
        n = 0;
        while ((came = recv(ends.fds[1], data, sizeof data, 0)) > 0)
            n += (size_t)came;
        struct pollfd ready[] = {{.fd = ends.fds[0], .events = POLLOUT}, {.fd = ends.fds[1], .events = POLLIN}};
        if (sent <= 0 && n == 0)
            cr_assert_gt(poll(ready, 2, 10000), 0);
    }
}

Test(tcp, loopback) {
    struct ends ends = connect_ends();
    char algorithm[16] = "";
    socklen_t len = sizeof algorithm;
    tcp_tune(ends.fds[1]);
    cr_expect_eq(option(ends.fds[1], IPPROTO_TCP, TCP_NODELAY), 1);
    cr_assert_eq(getsockopt(ends.fds[1], IPPROTO_TCP, TCP_CONGESTION, algorithm, &len), 0);
    cr_expect_str_eq(algorithm, "reno");
    disconnect(ends);
}

/* Bulk does not make the queue longer that everything else stands in; and whoever waits for bytes waits for one. */
Test(tcp, short_path_keeps_its_buffer) {
    struct ends ends = connect_short();
    tcp_keep_receive_buffer(ends.fds[1]);
    int before = option(ends.fds[1], SOL_SOCKET, SO_RCVBUF);
    cr_expect_geq(before, (int)LIMIT_SHORT_PATH_BYTES / 2);
    cr_expect_leq(before, (int)LIMIT_SHORT_PATH_BYTES * 2);
    cr_expect_eq(option(ends.fds[1], SOL_SOCKET, SO_RCVLOWAT), 1);
    pour(ends, 256 << 20);
    cr_expect_eq(option(ends.fds[1], SOL_SOCKET, SO_RCVBUF), before);
    disconnect(ends);
}

/* What somebody has set by hand stays, the other buffer's too. */
Test(tcp, buffers_set_by_hand) {
    struct ends ends = connect_ends();
    const int size = 65536;
    cr_assert_eq(setsockopt(ends.fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
    tcp_keep_receive_buffer(ends.fds[1]);
    pour((struct ends){{ends.fds[1], ends.fds[0]}}, 64 << 20);
    cr_expect_eq(option(ends.fds[1], SOL_SOCKET, SO_SNDBUF), 2 * size);
    cr_assert_eq(setsockopt(ends.fds[0], SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
    tcp_keep_receive_buffer(ends.fds[0]);
    cr_expect_eq(option(ends.fds[0], SOL_SOCKET, SO_RCVBUF), 2 * size);
    disconnect(ends);
}

/* Sockets of other kinds stay as they are. */
Test(tcp, other_sockets) {
    int pair[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    int before = option(pair[0], SOL_SOCKET, SO_RCVBUF);
    tcp_tune(pair[0]);
    tcp_keep_receive_buffer(pair[0]);
    tcp_take_any_port(pair[0]);
    cr_expect_eq(option(pair[0], SOL_SOCKET, SO_RCVBUF), before);
    close(pair[0]);
    close(pair[1]);
}
