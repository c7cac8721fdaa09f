/* What the processes of a tunnel hold while it is soaked, and whether it is back to what it was. One thread. */
#ifndef BENCH_SOAK_WATCH_H
#define BENCH_SOAK_WATCH_H

#include "bench/round.h"

struct soak_watch {
    struct round *round;
    struct usage start[2], peak[2], end[2]; /* of client and server */
    bool judges_memory[2];
    double back_max_s;              /* how long to wait for what is to come back */
    uint64_t rekeys, rekeys_before; /* leat's, that it has told: of this client, and of those before */
};

/* Once the tunnel has come to rest after its start: what all later looks are compared with. False: failed and said so.
 */
bool soak_watch_begin(struct soak_watch *watch, struct round *round);
/* While there is load: the peaks. */
void soak_watch_sample(struct soak_watch *watch);
/* Waits until processes, threads, descriptors (exactly) and memory (nearly; leat's and leatd's alone, as OpenSSH keeps
 * what it had) are as at the start. False: they do not come back to it, or a process is gone; said so, with `when`. */
bool soak_watch_settle(struct soak_watch *watch, const char *when);
/* leat says on SIGUSR1 how many connections it forwards and how often it had new keys. Of other clients nothing is
 * asked. False: it forwards some though there are none (`is_empty`), or does not say; said so. */
bool soak_watch_ask(struct soak_watch *watch, bool is_empty);
/* The client is another one from now on. */
void soak_watch_restarted(struct soak_watch *watch);
void soak_watch_values(const struct soak_watch *watch);

#endif
