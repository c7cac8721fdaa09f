#pragma once
/* Both ends of one connection through a tunnel, in the hands of the test: the application's side (near, which has
 * connected) and the side of the service (far, accepted by a listener of the test). */
#include <stdbool.h>
#include <stdint.h>

struct pair {
    int near, far;
};

/* A listener on 127.0.0.1 for the far sides; its port. */
int pair_listen(uint16_t *port);
/* Connects to `port` of host, where the tunnel listens, and accepts what arrives at the listener. Both sockets do not
 * block; a first byte has gone each way. */
bool pair_open(struct pair *pair, const char *host, uint16_t port, int listener, double seconds);
/* The same with a near side that has connected (or −1: false). Takes it. */
bool pair_join(struct pair *pair, int near, int listener, double seconds);
void pair_close(struct pair *pair);

/* Sends of stream(seed) from offset on until the socket has taken nothing for stall_seconds or `max` bytes are out.
 * Returns how many were taken. */
uint64_t pair_push(int fd, uint64_t seed, uint64_t offset, uint64_t max, double stall_seconds);
/* Receives and checks exactly `bytes` of stream(seed) from offset on. */
bool pair_pull(int fd, uint64_t seed, uint64_t offset, uint64_t bytes, double stall_seconds);
/* How the stream ends, when all that is left in it is read: 0 orderly, else errno; -1: not within so many seconds. */
int pair_end(int fd, double seconds);
/* close(2) that resets. */
void pair_reset(int *fd);
