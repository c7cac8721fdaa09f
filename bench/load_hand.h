/* A connection that the target hands to another process of the harness, which then has both ends of it in one hand. The
 * wish (LOAD_HANDED) names the taker in `up_key` and the connection in `down_key`; every byte behind the wish is still
 * to be read. Takers have abstract sockets, so they must be in the target's network namespace. */
#ifndef BENCH_LOAD_HAND_H
#define BENCH_LOAD_HAND_H

#include "bench/load_wire.h"
#include <stdbool.h>

/* Gives the connection to whom the wish names; the caller still has its own descriptor to close. False: nobody is
 * there. */
bool load_hand_over(int fd, const struct load_wish *wish);
/* A socket that takes for `key`; non-blocking. −1 with errno. */
int load_hand_listen(uint64_t key);
/* The next connection and its number, the caller's to close; −1: none is there. */
int load_hand_take(int socket, uint64_t *number);

#endif
