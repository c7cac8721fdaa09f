#pragma once
/* A moment on the monotonic clock, in nanoseconds; 0: never. For the handshake's blocking waits. */
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

static inline uint64_t deadline_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
/* seconds 0: never */
static inline uint64_t deadline_after_s(uint32_t seconds) {
    return seconds ? deadline_now_ns() + (uint64_t)seconds * 1000000000u : 0;
}
/* For poll(2): -1 without a deadline, 0 when it has passed. Rounded up, so that it never wakes too early. */
static inline int deadline_poll_ms(uint64_t deadline_ns) {
    if (!deadline_ns)
        return -1;
    uint64_t now = deadline_now_ns();
    uint64_t left_ms = now >= deadline_ns ? 0 : (deadline_ns - now + 999999u) / 1000000u;
    return left_ms > 60000 ? 60000 : (int)left_ms;
}
static inline bool deadline_passed(uint64_t deadline_ns) {
    return deadline_ns && deadline_now_ns() >= deadline_ns;
}
