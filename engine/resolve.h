#pragma once
/* Name resolution off the shards: getaddrinfo(3) is called on the threads of offload.h, which must be started. Numeric
 * addresses are answered without a thread. */
#include "engine/shard.h"
#include <netdb.h>

struct address {
    struct sockaddr_storage addr;
    socklen_t len;
};
struct resolve_result {
    int err;                   /* 0, ERR_RESOLVE, ERR_LIMIT (queue full), ERR_NOMEM */
    const char *reason;        /* gai_strerror's words when err; static */
    struct address *addresses; /* at most LIMIT_ADDRESSES_PER_NAME, in getaddrinfo's order; owned by the result */
    unsigned count;
};
struct resolve; /* one request */

/* Asks for TCP addresses of host:port (AF_UNSPEC, AF_INET, AF_INET6). done runs once on the shard's thread, never from
 * within this call; the result is valid during done only. Returns the request, for resolve_cancel, or NULL: no memory.
 */
struct resolve *resolve_start(struct shard *shard, const char *host, uint16_t port, int family,
                              void (*done)(void *arg, const struct resolve_result *result), void *arg);
/* done will not be called. Shard's thread, before done. */
void resolve_cancel(struct resolve *resolve);

/* The same, blocking, for start-up code. Free with free(result->addresses). */
void resolve_now(const char *host, uint16_t port, int family, bool passive, struct resolve_result *result);
/* "1.2.3.4" / "::1" without port, into out. */
const char *address_host(const struct sockaddr *addr, char *out, size_t cap);
uint16_t address_port(const struct sockaddr *addr);
