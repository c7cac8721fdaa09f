#include "engine/tcp.h"
#include "engine/limits.h"
#include <limits.h>
#include <linux/socket.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SO_BUF_LOCK /* glibc's headers before 2.35 */
#define SO_BUF_LOCK 72
#endif

#ifndef IP_LOCAL_PORT_RANGE /* glibc's headers before 2.38 */
#define IP_LOCAL_PORT_RANGE 51
#endif

/* Bytes; 0: autotuning gives as much. */
static struct { int send_asked, receive_asked; } limits;

/* What autotuning ends with: the last of the three. */
static bool read_tuned(const char *path, int *bytes) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    bool there = fscanf(file, "%*d %*d %d", bytes) == 1;
    fclose(file);
    return there;
}

/* What the kernel gives to whoever asks for all: namespaces do not show its limit before Linux 6.12. It gives twice of
 * what it is asked for. 0: it does not say. */
static int most_asked(int option) {
    const int all = INT_MAX / 2;
    int given = 0, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof given;
    if (fd < 0)
        return 0;
    if (setsockopt(fd, SOL_SOCKET, option, &all, sizeof all) != 0 ||
        getsockopt(fd, SOL_SOCKET, option, &given, &len) != 0)
        given = 0;
    close(fd);
    return given / 2;
}

static int worth_asking(const char *tuned_path, int option) {
    int tuned, asked = most_asked(option);
    if (asked > LIMIT_PATH_BUFFER_BYTES / 2)
        asked = LIMIT_PATH_BUFFER_BYTES / 2;
    return read_tuned(tuned_path, &tuned) && 2 * asked > tuned ? asked : 0;
}

void tcp_read_limits(void) {
    limits.send_asked = worth_asking("/proc/sys/net/ipv4/tcp_wmem", SO_SNDBUF);
    limits.receive_asked = worth_asking("/proc/sys/net/ipv4/tcp_rmem", SO_RCVBUF);
}

static bool peer_is_loopback(int fd) {
    struct sockaddr_storage addr;
    socklen_t len = sizeof addr;
    if (getpeername(fd, (struct sockaddr *)&addr, &len) != 0)
        return false;
    if (addr.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&addr)->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
    return addr.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&addr)->sin6_addr);
}

/* The least: bulk and busy processors do not make a path longer. */
bool tcp_path_is_short(int fd) {
    struct tcp_info info = {.tcpi_min_rtt = UINT32_MAX};
    socklen_t len = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 && info.tcpi_min_rtt < LIMIT_SHORT_PATH_US;
}

/* The kernel makes the buffer twice what it is to wait for, whatever net.core.rmem_max says; then autotuning is told to
 * leave it (Linux 5.14; before, it stays as it is and grows). */
void tcp_keep_receive_buffer(int fd) {
    const int bytes = LIMIT_SHORT_PATH_BYTES / 2, any = 1;
    int lock = 0;
    socklen_t len = sizeof lock;
    if (!tcp_path_is_short(fd) || getsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, &len) != 0 ||
        (lock & SOCK_RCVBUF_LOCK) != 0 || setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes) != 0)
        return;
    lock |= SOCK_RCVBUF_LOCK; /* the option sets both buffers' */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &any, sizeof any);
    (void)setsockopt(fd, SOL_SOCKET, SO_BUF_LOCK, &lock, sizeof lock);
}

static bool path_is_long(int fd, struct tcp_info *info) {
    socklen_t len = sizeof *info;
    *info = (struct tcp_info){.tcpi_min_rtt = 0};
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, &len) == 0 && info->tcpi_min_rtt >= LIMIT_LONG_PATH_US;
}

uint64_t tcp_long_path_bytes(int fd) {
    struct tcp_info info;
    return path_is_long(fd, &info) ? (uint64_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss : 0;
}

/* The handshake has offered a scale for windows as large as either limit allows: no need to ask before it. The window's
 * clamp stays at the buffer's first size (tcp_init_buffer_space), and that may be what older kernels go by. */
void tcp_raise_buffers(int fd) {
    struct tcp_info info;
    if (!path_is_long(fd, &info))
        return;
    int bytes;
    socklen_t len = sizeof bytes;
    if (limits.send_asked > 0)
        (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &limits.send_asked, sizeof limits.send_asked);
    if (limits.receive_asked > 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &limits.receive_asked, sizeof limits.receive_asked) == 0 &&
        getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, &len) == 0)
        (void)setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &bytes, sizeof bytes);
}

void tcp_tune(int fd) {
    static const char reno[] = "reno"; /* in every kernel, and for everybody */
    const int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (peer_is_loopback(fd))
        (void)setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, reno, sizeof reno - 1);
}

/* A range of the socket's own has no ports kept for bind(2); a bound of 0 is the system's. */
void tcp_take_any_port(int fd) {
    const uint32_t range = UINT32_C(65535) << 16;
    (void)setsockopt(fd, IPPROTO_IP, IP_LOCAL_PORT_RANGE, &range, sizeof range);
}
