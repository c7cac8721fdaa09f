#pragma once
/* The road between leat and its server: a plain TCP relay in a thread of the test, which can be cut, reset, blocked or
 * made to lie. One connection, or a row of them: one proxy for each, in the order in which they come. */
#include <stdint.h>

enum proxy_fault {
    PROXY_WORKS,
    PROXY_CLOSES,     /* both connections, in order */
    PROXY_RESETS,     /* both, with a reset */
    PROXY_BLOCKS,     /* stays connected and carries nothing any more */
    PROXY_FLIPS_BIT,  /* in the next block from the server, then works on */
    PROXY_BLOCKS_DOWN /* carries only what goes to the server */
};

struct proxy;
struct proxy *proxy_start(uint16_t server_port);
/* For the connection to the same port that comes after `before` has got its own. Stopped before that one is. */
struct proxy *proxy_next(struct proxy *before);
uint16_t proxy_port(const struct proxy *proxy);
void proxy_set(struct proxy *proxy, enum proxy_fault fault);
uint64_t proxy_carried(const struct proxy *proxy); /* bytes, both ways; 0: no connection has come */
void proxy_stop(struct proxy *proxy);
