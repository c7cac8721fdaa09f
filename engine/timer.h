#pragma once
/* Deadlines of one shard: an intrusive binary heap, O(log n) to arm and cancel, O(1) to ask for the next. One thread.
 * Times are absolute nanoseconds of io_now(). */
#include "engine/error.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct timer {
    uint64_t deadline_ns;
    void (*on_timer)(struct timer *timer);
    size_t index; /* place in the heap + 1; 0 when not armed */
};
struct timers {
    struct timer **heap;
    size_t count, size;
};

void timers_init(struct timers *timers);
void timers_deinit(struct timers *timers); /* CHECKs that none is armed */
static inline bool timer_armed(const struct timer *timer) {
    return timer->index != 0;
}
/* Arms or moves. The heap grows by doubling; it aborts on no memory (its size is bounded by the flows and sessions). */
void timer_arm(struct timers *timers, struct timer *timer, uint64_t deadline_ns);
void timer_cancel(struct timers *timers, struct timer *timer); /* no-op when not armed */
uint64_t timers_next(const struct timers *timers);             /* UINT64_MAX when none */
/* Runs every timer with deadline ≤ now_ns, in order of deadline; each is disarmed before its callback, which may arm
 * again. */
void timers_run(struct timers *timers, uint64_t now_ns);
