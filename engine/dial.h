#pragma once
/* Connects to host:port, or to a Unix socket: resolves off the shard, then tries every address until one answers or the
 * deadline is over, as RFC 8305 (Happy Eyeballs) has it: families interleaved, the first one's family first; the next
 * attempt begins when the one before has failed or LIMIT_DIAL_STAGGER_NS after it began; the first to answer wins and
 * the others are cancelled. The winner's descriptor goes to the caller. */
#include "engine/resolve.h"

struct dial_attempt;
struct dial {
    struct shard *shard;
    void (*done)(struct dial *dial, int err, int fd);
    void *owner;
    char reason[160]; /* for the log when err: "connect to host port 80: connection refused" */
    char address[64]; /* where the winner is connected to: "192.0.2.1 port 80"; "" for a Unix socket or a failure */
    /* private */
    struct resolve *resolve;
    struct address *addresses;
    unsigned count, next, flying;
    struct dial_attempt *attempts; /* at most LIMIT_ADDRESSES_PER_NAME, made when needed */
    int fd, err, last_errno;
    struct timer deadline, stagger;
    struct task end;
    uint64_t deadline_ns, retry_ns;
    bool ended; /* the answer is known; attempts that are still flying are being joined */
    bool local; /* to a Unix socket */
    char *host; /* or the socket's path */
    uint16_t port;
};
/* done(dial, 0, fd) or done(dial, err, -1), once, never from within this call; after it the dial may be freed or
 * reused. fd: connected, non-blocking, owned by the callee. err: ERR_REFUSED, ERR_UNREACHABLE, ERR_TIMEOUT,
 * ERR_RESOLVE, ERR_CANCELED … timeout_ns: for everything together, UINT64_MAX for none but the kernel's. */
void dial_start(struct dial *dial, struct shard *shard, const char *host, uint16_t port, int family,
                uint64_t timeout_ns, void (*done)(struct dial *, int, int), void *owner);
/* The same to a Unix stream socket. One whose backlog is full is tried again until the deadline. */
void dial_start_path(struct dial *dial, struct shard *shard, const char *path, uint64_t timeout_ns,
                     void (*done)(struct dial *, int, int), void *owner);
/* Takes over what is connected already, for a caller that has one way for all: done brings it at the end of a turn. */
void dial_start_connected(struct dial *dial, struct shard *shard, int fd, void (*done)(struct dial *, int, int),
                          void *owner);
/* Asks for an early end; done still comes, with ERR_CANCELED. */
void dial_cancel(struct dial *dial);
