#pragma once
/* The road between leat and its server: a plain TCP relay in a thread of the test, which can be cut, reset, blocked or
 * made to lie. One connection. */
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
uint16_t proxy_port(const struct proxy *proxy);
void proxy_set(struct proxy *proxy, enum proxy_fault fault);
void proxy_stop(struct proxy *proxy);
