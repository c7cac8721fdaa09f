/* What each flow of a soak does, from first to last byte: drawn from the seed and the flow's number alone, so that a
 * run can be repeated, and both ends know it. Pure; no state. */
#ifndef BENCH_SOAK_SCRIPT_H
#define BENCH_SOAK_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>

/* An end, and the way that begins at it: up from the near one, which connects, down from the far one. */
enum soak_side { SOAK_NEAR, SOAK_FAR, SOAK_SIDES };

#define SOAK_BYTES_MAX (24u << 20) /* of a flow, each way */
#define SOAK_STALL_MS_MAX 2500u
#define SOAK_HOLD_MS_MAX 8000u

/* In the middle of a way: once, by who sends or by who reads. ms 0: none. */
struct soak_stall {
    uint64_t at; /* bytes before it: 1 to all but one */
    uint32_t ms;
    bool is_readers;
};

struct soak_script {
    uint64_t bytes[SOAK_SIDES]; /* that each end sends, and then its end of stream */
    struct soak_stall stalls[SOAK_SIDES];
    bool answers; /* the far end sends once the near one's end has come: half-closed for all of the way down */
    bool resets;
    enum soak_side reset_by;
    uint64_t reset_at; /* once exactly so many have come to that end; fewer than all. The near end has at least one,
                          so that the far one is there to see it */
    uint32_t hold_ms;  /* nothing moves for so long when all bytes are through, before the ends */
};

void soak_script_draw(struct soak_script *script, uint64_t seed, uint32_t number);
/* The time between the beginnings of the flow before this one and this one, for so many a second in the mean; bursts
 * have none. */
uint64_t soak_script_gap_ns(uint64_t seed, uint32_t number, double rate);

#endif
