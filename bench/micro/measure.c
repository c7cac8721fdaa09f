/* Time of an operation: the thread's processor time, as the machine is rarely ours alone. A sample is as many batches
 * as take a few milliseconds, of which only `run` is timed; the median passes over the samples that caches, clock or
 * hypervisor disturbed all the same. */
#include "bench/micro/micro.h"
#include <stdlib.h>
#include <time.h>

#define SAMPLES 21u
#define SAMPLE_NS 2000000u
#define WARMUP_NS 20000000u

static uint64_t cpu_ns(void) {
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static uint64_t run_batch(const struct micro *micro, void *state) {
    if (micro->prepare)
        micro->prepare(state, micro->batch);
    uint64_t began = cpu_ns();
    micro->run(state, micro->batch);
    return cpu_ns() - began;
}

/* Nanoseconds of an operation over batches that have run for so long together. */
static double run_for(const struct micro *micro, void *state, uint64_t least_ns) {
    uint64_t spent_ns = 0, operations = 0;
    while (spent_ns < least_ns) {
        spent_ns += run_batch(micro, state);
        operations += micro->batch;
    }
    return (double)spent_ns / (double)operations;
}

static int by_value(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

void micro_measure(const struct micro *micro, struct micro_time *time) {
    double samples[SAMPLES];
    void *state = micro->set_up(micro);
    run_for(micro, state, WARMUP_NS);
    for (uint32_t i = 0; i < SAMPLES; i++)
        samples[i] = run_for(micro, state, SAMPLE_NS);
    micro->tear_down(state);
    qsort(samples, SAMPLES, sizeof samples[0], by_value);
    *time = (struct micro_time){
        .ns = samples[SAMPLES / 2],
        .low_ns = samples[SAMPLES / 4],
        .high_ns = samples[SAMPLES - 1 - SAMPLES / 4],
        .samples = SAMPLES,
    };
}

void micro_once(const struct micro *micro, uint32_t operations) {
    void *state = micro->set_up(micro);
    if (micro->prepare)
        micro->prepare(state, micro->batch);
    micro->run(state, operations);
    micro->tear_down(state);
}
