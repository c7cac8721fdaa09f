/* The connections of a link's proxy: reads what comes in at one end, sends it on its way in pieces, and writes it at
 * the other end when it has arrived. link_proxy.c has the loop. One thread.
 *
 * Everything that crosses is a piece, and all pieces of a direction travel in one order through its line: bytes, and
 * what TCP itself would have sent. So opening costs what it costs on a long link, except that the client's connect
 * returns at once:
 *
 *   near accepts ── SYN ──► far ── SYN-ACK ──► near is read from now on ── ACK ──► far dials the server
 *   end of input ── FIN ──► the other end is shut down        an error ── RESET ──► the other end is reset
 *
 * An end is not read while `half_bytes_max` bytes from it are under way, the stay at the other end included, nor while
 * the line of its direction has `way_bytes_max` on it: senders wait where packets would be dropped. */
#ifndef BENCH_LINK_PROXY_CONNECTION_H
#define BENCH_LINK_PROXY_CONNECTION_H

#include "bench/link_carrier.h"

/* What epoll gives back begins with its kind. */
enum source_kind { SOURCE_CONTROL, SOURCE_LISTENER, SOURCE_END };

struct end {
    enum source_kind kind; /* first */
    struct connection *connection;
    unsigned side; /* 0: near; pieces from here travel in this direction */
    int fd;        /* −1: closed or not yet open */
    bool is_open, is_connected, is_readable, read_ended, write_ended, is_queued;
    struct shaper_flight arrived; /* pieces to write here */
    size_t held;                  /* bytes read here, not yet written at the other end */
    struct end *next_to_read;
};

struct connection {
    struct end ends[2];
    uint16_t port; /* of the server */
    uint32_t uses; /* pieces under way and places in the queues to read */
    bool is_ended;
    struct connection *next, **pprev, *next_ended;
};

struct end_queue {
    struct end *first, **last_next;
};

struct proxy {
    const struct carrier *carrier;
    int epoll;
    bool is_cut;
    size_t half_bytes_max;
    uint64_t way_bytes_max;
    struct shaper shapers[2];
    struct shaper_flight flights[2];
    struct end_queue to_read[2];
    struct connection *connections, *ended;
};

/* Takes over a socket that the near side has accepted. */
void connection_open(struct proxy *proxy, int fd, uint16_t server_port);
void connection_on_event(struct proxy *proxy, struct end *end, uint32_t events);
/* What has arrived in a direction by now. */
void connection_deliver(struct proxy *proxy, unsigned side);
/* Ends whose turn it is to be read again; and whether there are any. */
void connection_read_queued(struct proxy *proxy, unsigned side);
bool connection_can_read(const struct proxy *proxy, unsigned side);
void connection_reset_all(struct proxy *proxy);
/* Frees those that have ended; once a turn, as the turn's events may still point to them. */
void connection_free_ended(struct proxy *proxy);
bool proxy_watch(struct proxy *proxy, int fd, void *source, uint32_t events);

#endif
