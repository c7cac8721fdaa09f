/* A load is a process of its own, whatever it does in there. */
#ifndef BENCH_LOAD_PROCESS_H
#define BENCH_LOAD_PROCESS_H

#include "bench/load_job.h"

/* Runs in that process, which ends when it returns: goes to `place`, does the job, completes the shared result.
 * `channel`: a byte to the harness says ready; a byte from it, or the end, says stop. */
typedef void load_main_fn(const void *job, const struct place *place, struct load_shared *shared, int channel);

/* NULL with errno. What `job` points to need not outlive the call. */
struct load *load_begin(load_main_fn *run, const void *job, const struct place *place);

#endif
