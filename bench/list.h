/* `leat-bench list`: what can be measured here. */
#ifndef BENCH_LIST_H
#define BENCH_LIST_H

#include "bench/bench_options.h"

/* Scenarios with their times in a run of the options' size, and peers with what is missing. Returns the exit status. */
int list_all(const struct bench_options *options, FILE *out);

#endif
