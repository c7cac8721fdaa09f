/* Runs what the options ask for: scenario by scenario, the rounds of its peers interleaved, and everything written into
 * results. A peer that fails is left out of the rest of its scenario; the run goes on. */
#ifndef BENCH_RUNNER_H
#define BENCH_RUNNER_H

#include "bench/bench_options.h"
#include "bench/results.h"

/* Returns BENCH_FINE, BENCH_FAILED when something did not work, BENCH_USAGE when the options ask for what there is not
 * (said on standard error), or 128 + the signal that ended it early. *results holds what was measured until then (free
 * it), NULL after BENCH_USAGE and where nothing could be begun. argc and argv are recorded. */
int runner_run(const struct bench_options *options, int argc, char **argv, struct results **results);

#endif
