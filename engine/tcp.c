#include "engine/tcp.h"
#include "engine/limits.h"
#include <linux/socket.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#ifndef SO_BUF_LOCK /* glibc's headers before 2.35 */
#define SO_BUF_LOCK 72
#endif

#ifndef IP_LOCAL_PORT_RANGE /* glibc's headers before 2.38 */
#define IP_LOCAL_PORT_RANGE 51
#endif

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

uint64_t tcp_long_path_bytes(int fd) {
    struct tcp_info info = {.tcpi_min_rtt = 0};
    socklen_t len = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) != 0 || info.tcpi_min_rtt < LIMIT_LONG_PATH_US)
        return 0;
    return (uint64_t)info.tcpi_snd_cwnd * info.tcpi_snd_mss;
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
