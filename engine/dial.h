#pragma once
/* Connects to host:port: resolves off the shard, then tries every address in turn until one answers or the deadline is
 * over. One attempt of a forward's target; the winner's descriptor goes to the caller. */
#include "engine/resolve.h"

struct dial {
    struct shard *shard;
    void (*done)(struct dial *dial, int err, int fd);
    void *owner;
    char reason[160]; /* for the log when err: "connect to host port 80: connection refused" */
    /* private */
    struct resolve *resolve;
    struct address *addresses;
    unsigned count, next;
    int fd, err, last_errno;
    struct io_op connect;
    struct timer deadline; /* of the whole, while a name is resolved; then of one attempt */
    struct task end;
    uint64_t deadline_ns;
    bool ended;
    char *host;
    uint16_t port;
};
/* done(dial, 0, fd) or done(dial, err, -1), once, never from within this call; after it the dial may be freed or
 * reused. fd: connected, non-blocking, owned by the callee. err: ERR_REFUSED, ERR_UNREACHABLE, ERR_TIMEOUT,
 * ERR_RESOLVE, ERR_CANCELED … timeout_ns: for everything together, UINT64_MAX for none but the kernel's; each attempt
 * may take an equal share of what is left, so that a silent first address does not hide a living second one. */
void dial_start(struct dial *dial, struct shard *shard, const char *host, uint16_t port, int family,
                uint64_t timeout_ns, void (*done)(struct dial *, int, int), void *owner);
/* Asks for an early end; done still comes, with ERR_CANCELED. */
void dial_cancel(struct dial *dial);
