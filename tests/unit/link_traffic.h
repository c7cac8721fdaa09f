#pragma once
/* What the tests of links do over one, whichever kind it is. */
#include "link_rig.h"

enum { PROXY, NAMESPACES };

#define BOTH_KINDS(name)                                                                                               \
    static void name(int kind);                                                                                        \
    Test(LINK_SUITE, name##_namespaces) {                                                                              \
        name(NAMESPACES);                                                                                              \
    }                                                                                                                  \
    Test(LINK_SUITE, name##_proxy) {                                                                                   \
        name(PROXY);                                                                                                   \
    }                                                                                                                  \
    static void name(int kind)

static inline void send_byte(int fd, char byte) {
    cr_assert_eq(send(fd, &byte, 1, MSG_NOSIGNAL), 1, "%s", strerror(errno));
}

static inline void expect_byte(int fd, char byte) {
    char got = 0;
    cr_assert_eq(recv(fd, &got, 1, 0), 1, "%s", strerror(errno));
    cr_assert_eq(got, byte);
}

/* What a socket ends with: 0 the end of the stream, or errno. */
static inline int end_of(int fd) {
    char bytes[1000];
    ssize_t got;
    do
        got = recv(fd, bytes, sizeof(bytes), 0);
    while (got > 0);
    return got == 0 ? 0 : errno;
}

static inline unsigned char link_content(uint64_t at, int direction) {
    uint64_t word = (at / 8 + (uint64_t)direction * 1000003) * UINT64_C(0x9E3779B97F4A7C15);
    return (unsigned char)(word >> (at % 8 * 8));
}

/* One way of a connection: sends and checks `total` bytes, then the end. */
struct way {
    int from, to, direction;
    uint64_t total, sent, received;
    bool ended;
};

static inline void step(struct way *way) {
    static unsigned char bytes[100000];
    ssize_t done;
    if (way->sent < way->total) {
        size_t rest = way->total - way->sent, count = rest < sizeof(bytes) ? rest : sizeof(bytes);
        for (size_t i = 0; i < count; i++)
            bytes[i] = link_content(way->sent + i, way->direction);
        done = send(way->from, bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL);
        cr_assert(done > 0 || errno == EAGAIN, "%s", strerror(errno));
        way->sent += done > 0 ? (uint64_t)done : 0;
        if (way->sent == way->total)
            cr_assert_eq(shutdown(way->from, SHUT_WR), 0);
    }
    done = way->ended ? -1 : recv(way->to, bytes, sizeof(bytes), MSG_DONTWAIT);
    cr_assert(done >= 0 || way->ended || errno == EAGAIN, "%s", strerror(errno));
    for (ssize_t i = 0; i < done; i++)
        cr_assert_eq(bytes[i], link_content(way->received + (uint64_t)i, way->direction));
    way->received += done > 0 ? (uint64_t)done : 0;
    way->ended |= done == 0;
}

static inline void carry_both_ways(struct way ways[2]) {
    double until_s = rig_now_s() + RIG_PATIENCE_S;
    while (!ways[0].ended || !ways[1].ended) {
        struct pollfd polls[2];
        for (unsigned i = 0; i < 2; i++) {
            polls[i] = (struct pollfd){.fd = ways[i].from};
            polls[i].events = (short)((ways[i].sent < ways[i].total ? POLLOUT : 0) | (ways[1 - i].ended ? 0 : POLLIN));
        }
        poll(polls, 2, 1000);
        step(&ways[0]);
        step(&ways[1]);
        cr_assert(rig_now_s() < until_s, "%lu and %lu bytes", (unsigned long)ways[0].received,
                  (unsigned long)ways[1].received);
    }
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(ways[i].received, ways[i].total);
}

static inline double carry(struct link_rig *rig, uint64_t up, uint64_t down) {
    int near = rig_connect(rig), far;
    struct way ways[2];
    double began_s = rig_now_s();
    send_byte(near, 'x');
    far = rig_accept(rig);
    expect_byte(far, 'x');
    ways[0] = (struct way){.from = near, .to = far, .direction = 0, .total = up};
    ways[1] = (struct way){.from = far, .to = near, .direction = 1, .total = down};
    carry_both_ways(ways);
    close(near);
    close(far);
    return rig_now_s() - began_s;
}
