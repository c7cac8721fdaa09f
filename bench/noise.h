/* Was the machine quiet enough for its figures to mean something? Warnings go to the results. */
#ifndef BENCH_NOISE_H
#define BENCH_NOISE_H

#include "bench/results.h"
#include "bench/usage.h"

/* Looks for half a second at what others do, before anything of ours runs. */
void noise_look_before(struct results *results);

/* Where the rounds of the peer that all are compared with lie far apart, so does every ratio. */
void noise_judge_spread(struct results_scenario *scenario, const char *base_peer);

#endif
