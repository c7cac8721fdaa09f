/* Within a link: what the harness' side (link.c) and the carrier's process (link_tun.c or link_proxy.c) share. */
#ifndef BENCH_LINK_CARRIER_H
#define BENCH_LINK_CARRIER_H

#include "bench/link.h"
#include "bench/link_shaper.h"
#include <time.h>

#define CARRIER_WHY_BYTES 200
#define CARRIER_LATE_NS 1000000u

struct carrier {
    int control;
    struct link_shape shape;
    struct link_counters *counters;
};

/* The carrier's first message, with the descriptors of struct tun_namespaces when there are any. */
struct carrier_hello {
    bool ok;
    char why[CARRIER_WHY_BYTES];
    struct link_tcp tcp;
};

/* Then each request has its reply. */
enum carrier_order { CARRIER_CUT, CARRIER_MEND, CARRIER_PORT };

struct carrier_request {
    enum carrier_order order;
    uint16_t port;
};

struct carrier_reply {
    int error; /* errno, or 0 */
    uint16_t port;
};

/* False: the harness has closed its end, or there is nothing yet (`*ended` tells). */
bool carrier_request(const struct carrier *carrier, struct carrier_request *request, bool *ended);
void carrier_reply(const struct carrier *carrier, int error, uint16_t port);
/* The line of one direction, 0 or 1. False with errno. */
bool carrier_shaper(const struct carrier *carrier, unsigned direction, bool may_drop, struct shaper *shaper);
/* The bound of a queue, worked out if need be. */
uint32_t carrier_queue_packets(const struct link_shape *shape);
/* CLOCK_MONOTONIC; how long it is until then, none when it has passed. */
uint64_t carrier_now_ns(void);
struct timespec carrier_time_until(uint64_t time_ns);

/* Two network namespaces with a device in each. */
struct tun_ends {
    int device[2]; /* near, far */
    int netns[2];
    int userns; /* −1: they belong to the harness' own */
};

/* Makes them, and leaves the process in the far one. */
bool tun_make(struct tun_ends *ends, const struct link_shape *shape, char *why, size_t why_bytes);
/* TCP's sysctls of the namespace we are in: sets what the shape asks for; tells what they are. */
bool link_tcp_set(const struct link_shape *shape, char *why, size_t why_bytes);
void link_tcp_get(struct link_tcp *tcp);
struct in_addr tun_address(unsigned end); /* 0: near */
/* Both return when the harness has closed the control, or something they cannot do without fails. */
void tun_carry(const struct carrier *carrier, const struct tun_ends *ends);
void proxy_carry(const struct carrier *carrier);

#endif
