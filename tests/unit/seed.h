#pragma once
/* Seeded runs that say which seed failed, however they fail: an assertion of the test, a CHECK, or a sanitizer.
 * LEAT_SEED=n in the environment runs that one only. */
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

extern void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

static uint64_t seed_running;
static bool seed_is_running;

static inline void seed_report(void) {
    if (seed_is_running)
        fprintf(stderr, "failed with LEAT_SEED=%lu\n", (unsigned long)seed_running);
    seed_is_running = false;
}
static void seed_on_abort(int number) {
    (void)number;
    seed_report();
}

/* xorshift64* */
static inline uint32_t random_u32(uint64_t *state) {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return (uint32_t)((*state * UINT64_C(2685821657736338717)) >> 32);
}
static inline uint32_t random_below(uint64_t *state, uint32_t n) {
    return (uint32_t)(((uint64_t)random_u32(state) * n) >> 32);
}
static inline bool random_chance(uint64_t *state, uint32_t one_in) {
    return random_below(state, one_in) == 0;
}

/* Runs `run` with seeds 0..count). A Criterion test that uses it has .fini = seed_report. */
static inline void seed_each(uint64_t count, void (*run)(uint64_t *state)) {
    const char *given = getenv("LEAT_SEED");
    uint64_t first = given ? strtoull(given, NULL, 0) : 0;
    signal(SIGABRT, seed_on_abort);
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(seed_report);
    seed_is_running = true;
    for (seed_running = first; seed_running < first + (given ? 1 : count); seed_running++) {
        uint64_t state = (seed_running + 1) * UINT64_C(0x9E3779B97F4A7C15);
        run(&state);
    }
    seed_is_running = false;
}
