#include "engine/timer.h"
#include "engine/check.h"
#include <stdlib.h>

#define HEAP_SIZE_FIRST 64u

void timers_init(struct timers *timers) {
    *timers = (struct timers){0};
}

void timers_deinit(struct timers *timers) {
    CHECK(timers->count == 0);
    free(timers->heap);
    *timers = (struct timers){0};
}

static void place(struct timers *timers, struct timer *timer, size_t at) {
    timers->heap[at] = timer;
    timer->index = at + 1;
}

static void sift_up(struct timers *timers, struct timer *timer, size_t at) {
    while (at > 0) {
        size_t parent = (at - 1) / 2;
        if (timers->heap[parent]->deadline_ns <= timer->deadline_ns)
            break;
        place(timers, timers->heap[parent], at);
        at = parent;
    }
    place(timers, timer, at);
}

static void sift_down(struct timers *timers, struct timer *timer, size_t at) {
    for (;;) {
        size_t child = at * 2 + 1;
        if (child >= timers->count)
            break;
        if (child + 1 < timers->count && timers->heap[child + 1]->deadline_ns < timers->heap[child]->deadline_ns)
            child++;
        if (timer->deadline_ns <= timers->heap[child]->deadline_ns)
            break;
        place(timers, timers->heap[child], at);
        at = child;
    }
    place(timers, timer, at);
}

/* Puts timer where its deadline belongs, starting from a place that is free to be overwritten. */
static void settle(struct timers *timers, struct timer *timer, size_t at) {
    if (at > 0 && timer->deadline_ns < timers->heap[(at - 1) / 2]->deadline_ns)
        sift_up(timers, timer, at);
    else
        sift_down(timers, timer, at);
}

static void grow(struct timers *timers) {
    size_t size = timers->size ? timers->size * 2 : HEAP_SIZE_FIRST;
    struct timer **heap = reallocarray(timers->heap, size, sizeof *heap);
    CHECK(heap);
    timers->heap = heap;
    timers->size = size;
}

void timer_arm(struct timers *timers, struct timer *timer, uint64_t deadline_ns) {
    timer->deadline_ns = deadline_ns;
    if (timer_armed(timer)) {
        CHECK(timer->index <= timers->count && timers->heap[timer->index - 1] == timer);
        settle(timers, timer, timer->index - 1);
        return;
    }
    if (timers->count == timers->size)
        grow(timers);
    timers->count++;
    sift_up(timers, timer, timers->count - 1);
}

void timer_cancel(struct timers *timers, struct timer *timer) {
    if (!timer_armed(timer))
        return;
    size_t at = timer->index - 1;
    CHECK(at < timers->count && timers->heap[at] == timer);
    timer->index = 0;
    struct timer *last = timers->heap[--timers->count];
    if (last != timer)
        settle(timers, last, at);
}

uint64_t timers_next(const struct timers *timers) {
    return timers->count ? timers->heap[0]->deadline_ns : UINT64_MAX;
}

void timers_run(struct timers *timers, uint64_t now_ns) {
    /* At most as many as were armed at the start: a callback that arms for a moment already past gets its turn in the
     * next call, so this one ends. */
    for (size_t left = timers->count; left > 0 && timers->count > 0 && timers_next(timers) <= now_ns; left--) {
        struct timer *timer = timers->heap[0];
        timer_cancel(timers, timer);
        timer->on_timer(timer);
    }
}
