#pragma once
/* Microbenchmarks of leat's inner parts, for leat-bench-micro. Each is one line in one of the tables: how to set its
 * state up, what an operation is. Whoever measures it (measure.c, instructions.c) knows nothing of what it does. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct micro {
    const char *name, *operation; /* "seal/aes128-gcm/64", "one packet sealed" */
    uint32_t bytes;               /* payload of an operation; 0: none to speak of */
    uint32_t batch;               /* operations in one run, at most */
    uint32_t number;              /* the benchmark's own: flows, a cipher, … */
    void *(*set_up)(const struct micro *micro);
    /* Makes `operations` of them possible; neither timed nor counted. May be NULL. */
    void (*prepare)(void *state, uint32_t operations);
    void (*run)(void *state, uint32_t operations); /* as many as were prepared, or fewer as the last run of all */
    void (*tear_down)(void *state);                /* checks what the operations have left behind */
};

extern const struct micro micro_crypto[], micro_engine[], micro_mux[]; /* each ends with a name of NULL */

struct micro_time {
    double ns, low_ns, high_ns; /* of one operation: median, quartiles */
    uint32_t samples;
};
/* Times the benchmark in this process. */
void micro_measure(const struct micro *micro, struct micro_time *time);
/* A single run of the whole batch, or of fewer after the whole was prepared. */
void micro_once(const struct micro *micro, uint32_t operations);

/* Instructions of an operation, user space alone: of two runs of different length the difference, so that whatever
 * surrounds the operations falls out. */
enum micro_counter {
    MICRO_COUNTER_NONE,
    MICRO_COUNTER_HARDWARE, /* perf_event_open(2) */
    MICRO_COUNTER_CALLGRIND /* this program again, under valgrind: the instructions of the processor that it knows,
                               which may be an older one (no VAES, no AVX-512) */
};
/* What there is on this machine. */
enum micro_counter micro_counter_find(void);
/* "hardware counter", "callgrind", NULL */
const char *micro_counter_name(enum micro_counter counter);
/* False: it could not be counted. */
bool micro_instructions(enum micro_counter counter, const struct micro *micro, double *per_operation);
