/* A line as a calculation: when a packet that comes now is through, or that it is not. Pure: time is an argument, in
 * nanoseconds, and must not run backwards; the same seed and packets have the same fates.
 *
 *   offered ─► queue (bounded) ─► the line, one packet after the other at its rate ─► lost? ─► distance ─► due
 *
 * A packet departs at max(now, departure of the one before) + size / rate and is due `delay_ns` later, so packets stay
 * in order. There are no tokens and so no bursts above the rate. What is lost is lost behind the queue: it has used the
 * line. One direction of a link, one thread. */
#ifndef BENCH_LINK_SHAPER_H
#define BENCH_LINK_SHAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHAPER_RATE_MIN 1e3 /* bits per second: a slower line has no use, and times would overflow */
#define SHAPER_QUEUE_MAX (1u << 20)
#define SHAPER_NEVER UINT64_MAX

struct shaper_options {
    uint64_t delay_ns;
    double rate;            /* bits per second; 0: unlimited, nothing ever waits */
    double loss;            /* 0–1 */
    uint32_t queue_packets; /* that may wait for the line, the one on it included; 0: any number */
    uint64_t seed;
};

struct shaper {
    struct shaper_options options;
    uint64_t byte_time;        /* of one byte on the line, in 2^-20 ns */
    uint64_t free_at_ns;       /* when the line has sent all it was given… */
    uint32_t free_at_fraction; /* …and so many 2^-20 ns */
    uint64_t random;           /* state of the loss */
    uint64_t *departures;      /* ring of those that wait; NULL without a bound */
    uint32_t waiting_first, waiting;
};

enum shaper_fate { SHAPER_PASSES, SHAPER_IS_LOST, SHAPER_FINDS_NO_ROOM };

/* False with errno. Options within their limits: 0 ≤ loss ≤ 1, rate 0 or ≥ SHAPER_RATE_MIN, queue ≤ SHAPER_QUEUE_MAX.
 */
bool shaper_init(struct shaper *shaper, const struct shaper_options *options);
void shaper_deinit(struct shaper *shaper);
/* A packet comes to the line. *due_ns is set when it passes. */
enum shaper_fate shaper_offer(struct shaper *shaper, uint64_t now_ns, uint32_t bytes, uint64_t *due_ns);

/* Packets under way, in the order of their times: first member of what carries the content. */
struct shaper_packet {
    struct shaper_packet *next;
    uint64_t due_ns;
    uint32_t bytes;
};

struct shaper_flight {
    struct shaper_packet *first, **last_next;
    uint64_t bytes;
};

void shaper_flight_init(struct shaper_flight *flight);
/* Takes the packet over. Its due_ns is not before the last one's. */
void shaper_flight_add(struct shaper_flight *flight, struct shaper_packet *packet);
/* When the next one is due; SHAPER_NEVER: none is there. */
uint64_t shaper_flight_next_ns(const struct shaper_flight *flight);
/* Gives the first one back if it is due at `now_ns`, or NULL. */
struct shaper_packet *shaper_flight_take(struct shaper_flight *flight, uint64_t now_ns);

#endif
