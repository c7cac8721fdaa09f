/* What a run writes into its results about itself. */
#ifndef BENCH_RUNNER_RECORD_H
#define BENCH_RUNNER_RECORD_H

#include "bench/bench_options.h"
#include "bench/plan.h"
#include "bench/results.h"

/* Machine, settings, command line, start; every parameter. */
void record_beginning(struct results *results, const struct plan *plan, const struct bench_options *options, int argc,
                      char **argv);
/* Versions of the peers, and what they negotiate. */
void record_peers(struct results *results, const struct plan *plan, const struct bench_options *options,
                  struct world *world, const struct peers *peers);
/* A new object. */
json_t *record_parameters(const struct plan_step *step, const struct bench_options *options);
void record_end(struct results *results, bool interrupted);

#endif
