/* A long link. With the rights for it (root, or user namespaces): two network namespaces joined by TUN devices whose
 * packets this program carries, late, at a limited rate, and not all of them; so TCP's own windows take part. Without:
 * a TCP proxy that delays both ways, which is weaker (`is_proxy`): each half ends a TCP connection of its own, loss is
 * not possible, and windows never see the distance. */
#ifndef BENCH_LINK_H
#define BENCH_LINK_H

#include "bench/place.h"
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define LINK_TCP_MIN 65536u
#define LINK_TCP_MAX (1u << 30)

struct link_shape {
    double rtt_ms;          /* half of it each way */
    double rate_mbit;       /* each way, of IP packets; 0: unlimited, else at least 0.001 */
    double loss;            /* 0–1 of the packets, each way, seeded */
    uint32_t queue_packets; /* waiting for the rate, beyond which packets are dropped; 0: the rate times the round-trip
                               time, at least 256. The proxy drops nothing: it stops reading */
    uint64_t seed;
    /* Of both namespaces, whatever the machine has: the most that TCP gives a connection's buffers (the last numbers of
     * tcp_rmem and tcp_wmem), and its congestion control. 0 and NULL: as the machine has them. No proxy has these. */
    uint32_t tcp_receive_max, tcp_send_max; /* bytes */
    const char *congestion;
};

/* What TCP has on the link: the sysctls' text. */
struct link_tcp {
    char receive[64], send[64], congestion[32]; /* tcp_rmem, tcp_wmem, tcp_congestion_control */
};

struct link {
    pid_t pid;   /* the carrier; 0: none */
    int control; /* closed, it ends, and namespaces with it; it ends with the thread that made it, too */
    bool is_proxy;
    struct place near, far; /* where clients and servers run; namespace descriptors owned by the link */
    struct in_addr near_address, far_address;
    struct link_tcp tcp; /* empty with a proxy */
    /* Counters in shared memory: */
    struct link_counters *counters;
};

struct link_counters {
    _Atomic uint64_t packets, bytes; /* delivered */
    _Atomic uint64_t lost;           /* drawn, or sent while the link was cut */
    _Atomic uint64_t queue_drops;    /* no room in the queue, in the carrier or in the receiving kernel */
    _Atomic uint64_t late;           /* delivered more than a millisecond after their time */
};

/* Does the shape ask for more than a proxy can be? */
bool link_needs_namespaces(const struct link_shape *shape);
/* Makes the link. `allow_namespaces` false: the proxy at once. False: `why`. True with a proxy though namespaces were
 * allowed: `why` says what they wanted for. */
bool link_start(struct link *link, const struct link_shape *shape, bool allow_namespaces, char *why, size_t why_bytes);
/* Proxy only: a port of loopback through which 127.0.0.1:`port` is reached over the distance, for as long as the link
 * is; 0 with errno. */
uint16_t link_proxy_port(struct link *link, uint16_t port);
/* Cuts the link (nothing passes, and what was under way is gone; with the proxy: connections end by a reset, new ones
 * too) and mends it. Done when it returns. */
void link_cut(struct link *link, bool cut);
/* Ends the link if there is one. */
void link_stop(struct link *link);

#endif
