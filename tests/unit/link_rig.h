#pragma once
/* A link with a server in `far`, and sockets of both its places in this process: a socket belongs to the namespace it
 * was made in, and can be handed over. */
#include "bench/link.h"
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RIG_PATIENCE_S 30

struct link_rig {
    struct link link;
    char why[300];
    int listener;
    struct sockaddr_in to; /* where the near side connects */
};

static inline double rig_now_s(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline void rig_send_fd(int channel, int fd) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec iov = {.iov_base = "", .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    control.header =
        (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
    if (sendmsg(channel, &message, 0) != 1)
        _exit(3);
}

static inline int rig_receive_fd(int channel) {
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    char byte;
    int fd = -1;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    if (recvmsg(channel, &message, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&message) != NULL)
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
    return fd;
}

/* −1: the place could not be entered. */
static inline int rig_socket_in(const struct place *place, int type) {
    int channel[2], fd, status;
    pid_t pid;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, channel) != 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        if (!place_enter(place))
            _exit(2);
        rig_send_fd(channel[1], socket(AF_INET, type, 0));
        _exit(0);
    }
    close(channel[1]);
    fd = rig_receive_fd(channel[0]);
    close(channel[0]);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        return -1;
    return fd;
}

static inline int rig_socket(const struct place *place, int type) {
    struct timeval patience = {.tv_sec = RIG_PATIENCE_S};
    int fd = rig_socket_in(place, type);
    cr_assert_geq(fd, 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

/* Binds a socket of the far side; returns its address as the near side has it. */
static inline struct sockaddr_in rig_bind(const struct link *link, int fd) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = link->far_address};
    socklen_t bytes = sizeof(address);
    cr_assert_eq(bind(fd, (struct sockaddr *)&address, bytes), 0);
    cr_assert_eq(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
    return address;
}

static inline void rig_start(struct link_rig *rig, const struct link_shape *shape, bool with_namespaces) {
    rig->why[0] = '\0';
    cr_assert(link_start(&rig->link, shape, with_namespaces, rig->why, sizeof(rig->why)), "%s", rig->why);
    if (with_namespaces && rig->link.is_proxy) {
        link_stop(&rig->link);
        cr_skip_test("%s", rig->why);
    }
    cr_assert_eq(rig->link.is_proxy, !with_namespaces);
    rig->listener = rig_socket(&rig->link.far, SOCK_STREAM);
    rig->to = rig_bind(&rig->link, rig->listener);
    cr_assert_eq(listen(rig->listener, 1000), 0);
    if (with_namespaces)
        return;
    rig->to.sin_port = htons(link_proxy_port(&rig->link, ntohs(rig->to.sin_port)));
    cr_assert_neq(rig->to.sin_port, 0, "%s", strerror(errno));
}

static inline void rig_stop(struct link_rig *rig) {
    close(rig->listener);
    link_stop(&rig->link);
}

static inline int rig_connect(struct link_rig *rig) {
    int fd = rig_socket(&rig->link.near, SOCK_STREAM);
    cr_assert_eq(connect(fd, (struct sockaddr *)&rig->to, sizeof(rig->to)), 0, "%s", strerror(errno));
    return fd;
}

static inline int rig_accept(struct link_rig *rig) {
    struct timeval patience = {.tv_sec = RIG_PATIENCE_S};
    struct pollfd wait = {.fd = rig->listener, .events = POLLIN};
    int fd;
    cr_assert_eq(poll(&wait, 1, RIG_PATIENCE_S * 1000), 1, "nothing came to the far side");
    fd = accept(rig->listener, NULL, NULL);
    cr_assert_geq(fd, 0);
    cr_assert_eq(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)), 0);
    return fd;
}

/* Waits until two counters of the carrier's have come to at least `count` together. */
static inline void rig_await_sum(_Atomic uint64_t *one, _Atomic uint64_t *other, uint64_t count) {
    double until_s = rig_now_s() + RIG_PATIENCE_S;
    while (*one + *other < count) {
        cr_assert(rig_now_s() < until_s, "%lu and %lu of %lu", (unsigned long)*one, (unsigned long)*other,
                  (unsigned long)count);
        usleep(1000);
    }
}

static inline void rig_await(_Atomic uint64_t *counter, uint64_t count) {
    static _Atomic uint64_t none;
    rig_await_sum(counter, &none, count);
}
