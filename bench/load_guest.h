/* A connection at the load's other end: what it wishes is done. Guests live from guest_accept until they end by
 * themselves, or the process does. */
#ifndef BENCH_LOAD_GUEST_H
#define BENCH_LOAD_GUEST_H

#include "bench/load_net.h"

struct guest;

/* What guests share. Their events in `epoll` have the guest as data. */
struct host {
    int epoll, listener;
    struct guest *reporters; /* those that need guest_on_tick */
    struct host *prompt;     /* who serves those that wait for an answer, in a thread of its own; NULL: this one */
    struct load_pace pace;
    bool is_full; /* no descriptors left: not accepting */
    uint8_t buffer[LOAD_BUFFER_BYTES];
};

/* Takes the descriptor, also when it fails. */
void guest_accept(struct host *host, int fd);
void guest_on_event(struct host *host, struct guest *guest, uint32_t events);
/* Every LOAD_TICK_NS while there are reporters. */
void guest_on_tick(struct host *host);

#endif
